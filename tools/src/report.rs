//! How `inspect` shows what it found: pure functions from parsed structures to text.
//!
//! Each returns how many of the things it showed are damaged.

use crate::inspect::{BlockState, Found, Opened};
use aerolith_engine::device::Device;
use aerolith_engine::format::{DeviceHeader, Fault, RecordFlags, RecordView, VOID_TIME_EPOCH_MS, unit_round};
use aerolith_engine::record::particle;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Columns that hold numbers stand to the right.
fn table(columns: &[(&str, bool)]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|(name, _)| *name));
    for (column, (_, is_number)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *is_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Appends a line.
pub fn put(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn put_table(out: &mut String, table: &Table) {
    table.lines().for_each(|line| put(out, format_args!("{}", line.trim_end())));
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A time in milliseconds since the Unix epoch, as UTC.
fn time(ms: u64) -> String {
    // RFC 3339 ends with the year 9999, and 48 bits of milliseconds do not.
    match SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)) {
        Some(time) if ms < 253_402_300_800_000 => humantime::format_rfc3339_millis(time).to_string(),
        _ => format!("{ms} ms"),
    }
}

/// One copy of the device header.
pub fn header_copy(copy: u64, parsed: &Result<DeviceHeader, Fault>, out: &mut String) {
    let name = ["A", "B"][copy as usize % 2];
    match parsed {
        Ok(header) => put(
            out,
            format_args!(
                "header {name}   copy {}, incarnation {}, formatted {}",
                header.copy_sequence,
                header.incarnation,
                time(header.created_ms)
            ),
        ),
        Err(fault) => put(out, format_args!("header {name}   DAMAGED: {fault}")),
    }
}

/// What the header says of the device, and whether the device is as large as that.
pub fn geometry(opened: &Opened, out: &mut String) -> u64 {
    let Opened { device, header } = opened;
    let geometry = device.geometry();
    put(out, format_args!("namespace  {}", header.namespace_name().escape_debug()));
    put(
        out,
        format_args!(
            "set        {}, member {} of {}",
            hex(&header.set_uuid),
            header.member_index + 1,
            header.member_count
        ),
    );
    put(
        out,
        format_args!(
            "geometry   {} blocks of {} bytes = {} bytes; sectors of {}; {} I/O",
            header.block_count,
            header.block_size,
            header.device_size,
            geometry.sector_size,
            if geometry.direct { "direct" } else { "cached" }
        ),
    );
    if geometry.size < header.device_size {
        put(out, format_args!("CUT OFF    the device has only {} bytes", geometry.size));
        return 1;
    }
    0
}

/// All blocks, one by one if `each`, and in total.
pub fn blocks(
    blocks: impl Iterator<Item = (u32, BlockState)>,
    opened: &Opened,
    each: bool,
    out: &mut String,
) -> u64 {
    let mut rows = table(&[
        ("block", true),
        ("state", false),
        ("epoch", true),
        ("stream", true),
        ("footer", false),
        ("entries", true),
        ("data end", true),
        ("opened", false),
    ]);
    let (mut blank, mut sealed, mut open, mut damaged) = (0u64, 0u64, 0u64, 0u64);
    let (mut entries, mut bytes) = (0u64, 0u64);
    for (id, state) in blocks {
        let none = || "-".to_owned();
        let mut row = [id.to_string(), none(), none(), none(), none(), none(), none(), none()];
        match &state {
            BlockState::Blank => {
                blank += 1;
                continue;
            }
            BlockState::CutOff => row[1] = "CUT OFF".into(),
            BlockState::Unreadable(error) => row[1] = format!("UNREADABLE: {}", error.cause),
            BlockState::Damaged(fault) => row[1] = format!("DAMAGED header: {fault}"),
            BlockState::Open { header, entries: count, data_end, fault } => {
                open += 1;
                entries += u64::from(*count);
                bytes += u64::from(*data_end);
                row[1] = "open".into();
                row[2] = epoch(header.epoch);
                row[3] = header.stream.to_string();
                row[4] = fault.map_or("no".into(), |fault| format!("DAMAGED: {fault}"));
                row[5] = count.to_string();
                row[6] = data_end.to_string();
                row[7] = time(header.opened_ms);
            }
            BlockState::Sealed { epoch: life, header, footer } => {
                sealed += 1;
                entries += u64::from(footer.trailer.entry_count);
                bytes += u64::from(footer.trailer.data_end);
                row[1] = "sealed".into();
                row[2] = epoch(*life);
                row[4] = "yes".into();
                row[5] = footer.trailer.entry_count.to_string();
                row[6] = footer.trailer.data_end.to_string();
                match header {
                    Ok(header) => {
                        row[3] = header.stream.to_string();
                        row[7] = time(header.opened_ms);
                    }
                    Err(fault) => row[1] = format!("sealed; DAMAGED header: {fault}"),
                }
            }
        }
        damaged += u64::from(is_damaged(&state));
        rows.add_row(row);
    }
    if each {
        put(out, format_args!(""));
        put_table(out, &rows);
        put(out, format_args!(""));
    }
    put(
        out,
        format_args!(
            "blocks     {sealed} sealed, {open} open, {blank} never used, {damaged} damaged; block 0 is the header's"
        ),
    );
    // Versions, because an older one stays in its block until that is reused.
    put(
        out,
        format_args!(
            "log        {entries} versions of records in {bytes} bytes, {:.1} % of the device",
            bytes as f64 * 100.0 / opened.header.device_size as f64
        ),
    );
    damaged
}

fn is_damaged(state: &BlockState) -> bool {
    match state {
        BlockState::Blank => false,
        BlockState::CutOff | BlockState::Unreadable(_) | BlockState::Damaged(_) => true,
        BlockState::Open { fault, .. } => fault.is_some(),
        BlockState::Sealed { header, .. } => header.is_err(),
    }
}

/// An epoch as incarnation and count within it.
fn epoch(epoch: u64) -> String {
    format!("{}.{}", epoch >> 40, epoch & ((1 << 40) - 1))
}

/// The records of one block.
pub fn records(block: u32, state: &BlockState, found: &[(u64, Found<'_>)], out: &mut String) -> u64 {
    let mut rows = table(&[
        ("position", true),
        ("digest", false),
        ("set", false),
        ("key", false),
        ("generation", true),
        ("sequence", true),
        ("expires", false),
        ("size", true),
        ("flags", false),
        ("checksum", false),
    ]);
    let mut damaged = 0;
    for (pos, found) in found {
        rows.add_row(match found {
            Found::Sound(record) => sound_row(*pos, record),
            Found::Damaged(fault, entry, set) => {
                damaged += 1;
                let expires = match entry.void_time {
                    0 => "never".into(),
                    seconds => time(VOID_TIME_EPOCH_MS + u64::from(seconds) * 1000),
                };
                [
                    pos.to_string(),
                    format!("{}...", hex(&entry.digest_prefix)),
                    set.escape_debug().to_string(),
                    "?".into(),
                    entry.generation.to_string(),
                    entry.sequence.to_string(),
                    expires,
                    "?".into(),
                    flags(entry.flags()),
                    format!("DAMAGED: {fault}"),
                ]
            }
        });
    }
    let how = match state {
        BlockState::Sealed { .. } => "listed by its footer",
        _ => "found in its log",
    };
    put(out, format_args!(""));
    put_table(out, &rows);
    put(out, format_args!(""));
    put(out, format_args!("block {block}: {} records {how}, {damaged} of them damaged", found.len()));
    damaged + u64::from(is_damaged(state))
}

fn sound_row(pos: u64, record: &RecordView<'_>) -> [String; 10] {
    let header = record.header();
    [
        pos.to_string(),
        hex(&header.digest),
        shortened(&String::from_utf8_lossy(record.set())),
        key(header.key_type, record.user_key()),
        header.generation.to_string(),
        header.sequence.to_string(),
        match header.expires_ms() {
            0 => "never".into(),
            ms => time(ms),
        },
        unit_round(header.length).to_string(),
        flags(header.flags),
        "ok".into(),
    ]
}

/// A user key as a person would write it; bytes that only look like another type are shown as bytes.
fn key(key_type: u8, bytes: &[u8]) -> String {
    match (key_type, <[u8; 8]>::try_from(bytes), std::str::from_utf8(bytes)) {
        (0, ..) => "-".into(),
        (particle::INTEGER, Ok(number), _) => i64::from_be_bytes(number).to_string(),
        (particle::FLOAT, Ok(number), _) => f64::from_be_bytes(number).to_string(),
        (particle::STRING, _, Ok(text)) => format!("\"{}\"", shortened(text)),
        _ => shortened(&format!("0x{}", hex(&bytes[..bytes.len().min(40)]))),
    }
}

/// At most 40 characters, none of which a terminal would act on.
fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { shown + "..." } else { shown }
}

fn flags(flags: u8) -> String {
    let names = [
        (RecordFlags::TOMBSTONE, "tombstone"),
        (RecordFlags::IN_GROUP, "group"),
        (RecordFlags::SYSTEM, "system"),
    ];
    let set: Vec<&str> =
        names.iter().filter(|(flag, _)| RecordFlags(flags).has(*flag)).map(|(_, name)| *name).collect();
    if set.is_empty() { "-".into() } else { set.join(",") }
}
