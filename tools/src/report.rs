//! How `inspect` shows what it found: pure functions from parsed structures to text, and to the same as JSON.
//!
//! Where something can be damaged they return how many of the things are.

use crate::block::BlockState;
use crate::inspect::{Found, RootSlot};
use crate::source::{HeaderCopy, Source};
use aerolith_engine::format::{
    BlockHeader, PART_PAYLOAD, RecordFlags, RecordView, VOID_TIME_EPOCH_MS, unit_round,
};
use aerolith_engine::record::particle;
use aerolith_engine::volume::BlockLife;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};
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
pub fn header_copy(copy: usize, found: &HeaderCopy, out: &mut String, object: &mut Value) {
    let name = ["A", "B"][copy % 2];
    let fault = match found {
        Ok(Ok(header)) => {
            put(
                out,
                format_args!(
                    "header {name}   copy {}, incarnation {} ({} confirmed), formatted {}",
                    header.copy_sequence,
                    header.incarnation,
                    header.confirmed,
                    time(header.created_ms)
                ),
            );
            object["headers"][name] = json!({"copy": header.copy_sequence, "incarnation": header.incarnation, "confirmed": header.confirmed, "formatted_ms": header.created_ms});
            return;
        }
        Ok(Err(fault)) => fault.to_string(),
        Err(error) => error.cause.to_string(),
    };
    put(out, format_args!("header {name}   DAMAGED: {fault}"));
    object["headers"][name] = json!({"damage": fault});
}

/// What the header says of the device, and whether the device is as large as that.
pub fn geometry(source: &Source, out: &mut String, object: &mut Value) -> u64 {
    let Source { device, header } = source;
    let geometry = device.geometry();
    object["device"] = json!(*geometry.name);
    object["namespace"] = json!(header.namespace_name());
    object["set"] = json!(hex(&header.set_uuid));
    object["member"] = json!(header.member_index);
    object["members"] = json!(header.member_count);
    object["blocks_of_device"] = json!(header.block_count);
    object["block_size"] = json!(header.block_size);
    object["size"] = json!(geometry.size);
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

/// The roots of checkpoints. Returns how many are damaged.
pub fn roots(slots: &[RootSlot], out: &mut String, object: &mut Value) -> u64 {
    let mut damage = 0;
    for (slot, root) in slots.iter().enumerate() {
        object["roots"][slot.to_string()] = match root {
            None => {
                put(out, format_args!("root {slot}     none"));
                Value::Null
            }
            Some(Ok(root)) => {
                put(
                    out,
                    format_args!(
                        "root {slot}     checkpoint {}, {} entries, written {} in run {}; summary of {} bytes in block {} of \
                         member {}",
                        root.id,
                        root.entry_count,
                        time(root.written_ms),
                        root.incarnation,
                        root.summary_size,
                        root.summary_block,
                        root.summary_member + 1
                    ),
                );
                json!({
                    "checkpoint": root.id,
                    "entries": root.entry_count,
                    "written_ms": root.written_ms,
                    "incarnation": root.incarnation,
                    "summary_size": root.summary_size,
                    "summary_block": root.summary_block,
                    "summary_member": root.summary_member,
                })
            }
            Some(Err(why)) => {
                damage += 1;
                put(out, format_args!("root {slot}     DAMAGED: {why}"));
                json!({"damage": why})
            }
        };
    }
    damage
}

/// A block as one row.
#[derive(Serialize)]
pub struct BlockRow {
    block: u32,
    state: &'static str,
    damage: Option<String>,
    epoch: Option<u64>,
    stream: Option<u8>,
    is_sealed: bool,
    checkpoint: Option<u64>,
    entries: Option<u32>,
    data_end: Option<u32>,
    opened_ms: Option<u64>,
}

impl BlockRow {
    /// The row of a block.
    pub fn of(block: u32, state: &BlockState) -> Self {
        let mut row = BlockRow {
            block,
            state: "",
            damage: None,
            epoch: None,
            stream: None,
            is_sealed: false,
            checkpoint: None,
            entries: None,
            data_end: None,
            opened_ms: None,
        };
        match state {
            BlockState::Blank => row.state = "never used",
            BlockState::CutOff => row.state = "CUT OFF",
            BlockState::Unreadable(error) => {
                (row.state, row.damage) = ("UNREADABLE", Some(error.cause.to_string()));
            }
            BlockState::Misplaced(header) => {
                let whose =
                    format!("it is that of block {} of member {}", header.block_id, header.member_index + 1);
                (row.state, row.damage) = ("DAMAGED header", Some(whose));
            }
            BlockState::Damaged(fault) => {
                (row.state, row.damage) = ("DAMAGED header", Some(fault.to_string()));
            }
            BlockState::Checkpoint { header, part } => {
                row.state = "checkpoint";
                row.of_header(header);
                match part {
                    Ok((id, size)) => {
                        (row.checkpoint, row.data_end) = (Some(*id), Some(PART_PAYLOAD + size));
                    }
                    Err(fault) => row.damage = Some(format!("part: {fault}")),
                }
            }
            BlockState::Open { life, entries, data_end, fault } => {
                row.state = "open";
                row.of_life(life);
                (row.entries, row.data_end) = (Some(*entries), Some(*data_end));
                row.damage = row.damage.or(fault.map(|fault| format!("footer: {fault}")));
            }
            BlockState::Sealed { life, footer } => {
                row.state = "sealed";
                row.of_life(life);
                row.is_sealed = true;
                let trailer = &footer.trailer;
                (row.entries, row.data_end) = (Some(trailer.entry_count), Some(trailer.data_end));
            }
        }
        row
    }

    fn of_life(&mut self, life: &BlockLife) {
        self.epoch = Some(life.epoch);
        match &life.header {
            Ok(header) => self.of_header(header),
            Err(fault) => self.damage = Some(format!("DAMAGED header: {fault}")),
        }
    }

    fn of_header(&mut self, header: &BlockHeader) {
        self.epoch = Some(header.epoch);
        self.stream = Some(header.stream);
        self.opened_ms = Some(header.opened_ms);
    }

    fn cells(&self) -> [String; 8] {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let state = match (&self.damage, self.checkpoint) {
            (Some(damage), _) if self.state.starts_with(char::is_uppercase) => {
                format!("{}: {damage}", self.state)
            }
            (Some(damage), _) => format!("{}; {damage}", self.state),
            (None, Some(id)) => format!("{} {id}", self.state),
            (None, None) => self.state.to_owned(),
        };
        let footer = match &self.damage {
            Some(damage) if damage.starts_with("footer: ") => Some("DAMAGED".to_owned()),
            _ if self.entries.is_none() => None,
            _ => Some(if self.is_sealed { "yes" } else { "no" }.to_owned()),
        };
        [
            self.block.to_string(),
            state,
            shown(self.epoch.map(epoch)),
            shown(self.stream.map(|stream| stream.to_string())),
            shown(footer),
            shown(self.entries.map(|entries| entries.to_string())),
            shown(self.data_end.map(|end| end.to_string())),
            shown(self.opened_ms.map(time)),
        ]
    }
}

/// The table of blocks.
pub fn blocks(rows: &[BlockRow], out: &mut String, object: &mut Value) {
    object["blocks"] = json!(rows);
    let mut table = table(&[
        ("block", true),
        ("state", false),
        ("epoch", true),
        ("stream", true),
        ("footer", false),
        ("entries", true),
        ("data end", true),
        ("opened", false),
    ]);
    rows.iter().for_each(|row| {
        table.add_row(row.cells());
    });
    put(out, format_args!(""));
    put_table(out, &table);
    put(out, format_args!(""));
}

/// How many blocks there are of each kind, and what is in them.
#[derive(Default, Serialize)]
pub struct Totals {
    sealed: u64,
    open: u64,
    checkpoint: u64,
    blank: u64,
    /// Blocks that are damaged, whatever else they are.
    pub damaged: u64,
    entries: u64,
    log_bytes: u64,
}

impl Totals {
    /// Counts a block.
    pub fn add(&mut self, state: &BlockState) {
        self.damaged += u64::from(state.is_damaged());
        match state {
            BlockState::Blank => self.blank += 1,
            BlockState::Checkpoint { .. } => self.checkpoint += 1,
            BlockState::Open { entries, data_end, .. } => {
                self.open += 1;
                self.entries += u64::from(*entries);
                self.log_bytes += u64::from(*data_end);
            }
            BlockState::Sealed { footer, .. } => {
                self.sealed += 1;
                self.entries += u64::from(footer.trailer.entry_count);
                self.log_bytes += u64::from(footer.trailer.data_end);
            }
            BlockState::CutOff
            | BlockState::Unreadable(_)
            | BlockState::Misplaced(_)
            | BlockState::Damaged(_) => {}
        }
    }
}

/// The totals of a device.
pub fn totals(totals: &Totals, source: &Source, out: &mut String, object: &mut Value) {
    object["totals"] = json!(totals);
    let Totals { sealed, open, checkpoint, blank, damaged, entries, log_bytes } = totals;
    put(
        out,
        format_args!(
            "blocks     {sealed} sealed, {open} open, {checkpoint} of checkpoints, {blank} never used, {damaged} damaged; \
             block 0 is the header's"
        ),
    );
    // Versions, because an older one stays in its block until that is reused.
    put(
        out,
        format_args!(
            "log        {entries} versions of records in {log_bytes} bytes, {:.1} % of the device",
            *log_bytes as f64 * 100.0 / source.header.device_size as f64
        ),
    );
}

/// An epoch as incarnation and count within it.
fn epoch(epoch: u64) -> String {
    format!("{}.{}", epoch >> 40, epoch & ((1 << 40) - 1))
}

/// The records of one block. Returns how many things are damaged.
pub fn records(
    block: u32,
    state: &BlockState,
    found: &[(u32, Found<'_>)],
    out: &mut String,
    object: &mut Value,
) -> u64 {
    const COLUMNS: [(&str, bool); 10] = [
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
    ];
    let rows: Vec<[String; 10]> = found.iter().map(|(pos, found)| record_row(*pos, found)).collect();
    let damaged = found.iter().filter(|(_, found)| matches!(found, Found::Damaged(..))).count();
    let as_object = |row: &[String; 10]| -> Value {
        COLUMNS.iter().zip(row).map(|((name, _), value)| ((*name).to_owned(), json!(value))).collect()
    };
    object["records"] = rows.iter().map(as_object).collect();
    let mut table = table(&COLUMNS);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    let how = match state {
        BlockState::Sealed { .. } => "listed by its footer",
        _ => "found in its log",
    };
    put(out, format_args!(""));
    put_table(out, &table);
    put(out, format_args!(""));
    put(out, format_args!("block {block}: {} records {how}, {damaged} of them damaged", found.len()));
    damaged as u64 + u64::from(state.is_damaged())
}

fn record_row(pos: u32, found: &Found<'_>) -> [String; 10] {
    let (fault, version) = match found {
        Found::Sound(record) => return sound_row(pos, record),
        Found::Damaged(fault, version) => (fault, version),
    };
    let expires = match version.void_time {
        0 => "never".into(),
        seconds => time(VOID_TIME_EPOCH_MS + u64::from(seconds) * 1000),
    };
    [
        pos.to_string(),
        format!("{}...", hex(&version.digest[..10])),
        String::from_utf8_lossy(version.set).escape_debug().to_string(),
        "?".into(),
        version.generation.to_string(),
        version.sequence.to_string(),
        expires,
        "?".into(),
        flags(version.flags.0),
        format!("DAMAGED: {fault}"),
    ]
}

fn sound_row(pos: u32, record: &RecordView<'_>) -> [String; 10] {
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
