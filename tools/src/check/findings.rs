//! What a check has found, and how it is told: lines for people, one JSON object for machines.
//!
//! A fault is something that is certainly not as it was written. A note is what a crash, or a device that was used
//! before, leaves behind in the ordinary course of things, and what cannot be told apart from that.

use crate::report::{hex, put};
use serde::Serialize;
use std::collections::BTreeMap;

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A copy of the device header.
    DeviceHeader,
    /// The device is shorter than its header says.
    CutOff,
    /// The device is an older copy of itself.
    OlderCopy,
    /// A root of a checkpoint.
    Root,
    /// A checkpoint: its summary or a part of it.
    Checkpoint,
    /// A block's header.
    BlockHeader,
    /// A block that was written to the wrong place.
    Misplaced,
    /// A block's footer.
    Footer,
    /// A footer's entry that says something else than its record.
    Entry,
    /// A record.
    Record,
    /// A group frame.
    Group,
    /// Bytes that the device does not give.
    Unreadable,
    /// A note: a block without a footer.
    Open,
    /// A note: bytes in an open block's log that prove nothing.
    Hole,
    /// A note: the beginning of a record at the end of an open block's log.
    TornTail,
    /// A note: a damaged version that no read would be answered with.
    Stale,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::DeviceHeader => "device header",
            Kind::CutOff => "cut off",
            Kind::OlderCopy => "older copy",
            Kind::Root => "root",
            Kind::Checkpoint => "checkpoint",
            Kind::BlockHeader => "block header",
            Kind::Misplaced => "misplaced block",
            Kind::Footer => "footer",
            Kind::Entry => "footer entry",
            Kind::Record => "record",
            Kind::Group => "group",
            Kind::Unreadable => "unreadable",
            Kind::Open => "open block",
            Kind::Hole => "hole",
            Kind::TornTail => "torn tail",
            Kind::Stale => "stale record",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub kind: Kind,
    pub device: String,
    pub block: Option<u32>,
    /// Bytes from the block's start.
    pub position: Option<u32>,
    /// Bytes from the device's start.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
    /// The system's error number, if it gave one.
    pub errno: Option<i32>,
    /// The first ten bytes of the digest: they name the record.
    pub digest: Option<String>,
    pub set: Option<String>,
    pub sequence: Option<u64>,
    /// What it means for reads, as far as that can be known.
    pub meaning: Option<String>,
    /// Versions of the same key with this number or a higher one stand for it.
    #[serde(skip)]
    pub stale_from: u64,
    /// When the version expires, in milliseconds since the Unix epoch; 0: never.
    #[serde(skip)]
    pub expires_ms: u64,
    #[serde(skip)]
    pub is_tombstone: bool,
}

impl Finding {
    /// One on a device, not in a block.
    pub fn on_device(kind: Kind, device: String, offset: u64, why: String) -> Self {
        Finding {
            kind,
            device,
            block: None,
            position: None,
            offset,
            why,
            errno: None,
            digest: None,
            set: None,
            sequence: None,
            meaning: None,
            stale_from: u64::MAX,
            expires_ms: 0,
            is_tombstone: false,
        }
    }

    fn line(&self, is_fault: bool) -> String {
        let mut line =
            format!("{} {} of {}", if is_fault { "FAULT" } else { "note " }, self.kind.name(), self.device);
        if let (Some(block), Some(position)) = (self.block, self.position) {
            line += &format!(", block {block} at {position}");
        }
        line += &format!(" (offset {}): {}", self.offset, self.why);
        if let Some(digest) = &self.digest {
            line += &format!("; key {digest}...");
        }
        if let Some(set) = &self.set {
            line += &format!(", set '{}'", set.escape_debug());
        }
        if let Some(sequence) = self.sequence {
            line += &format!(", version {sequence}");
        }
        if let Some(meaning) = &self.meaning {
            line += &format!(": {meaning}");
        }
        line
    }
}

/// A device that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    pub device: String,
    pub namespace: String,
    pub set: String,
    pub member: u16,
    pub members: u16,
    pub blocks: u32,
    pub block_size: u32,
}

/// What could not be checked, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    pub device: Option<String>,
    pub why: String,
}

/// How a checkpoint was found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointFound {
    pub id: u64,
    pub entries: u64,
    pub state: &'static str,
}

/// Counts.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    pub sealed_blocks: u64,
    pub open_blocks: u64,
    pub checkpoint_blocks: u64,
    pub blank_blocks: u64,
    pub damaged_blocks: u64,
    pub missing_blocks: u64,
    /// Versions of records, the older ones included.
    pub records: u64,
    pub tombstones: u64,
    pub system_records: u64,
    /// Bytes that sound records take.
    pub record_bytes: u64,
    pub read_bytes: u64,
    pub elapsed_ms: u64,
}

/// All that a check has found.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    pub devices: Vec<Checked>,
    pub not_checked: Vec<Refused>,
    pub checkpoints: Vec<CheckpointFound>,
    pub faults: Vec<Finding>,
    pub notes: Vec<Finding>,
    pub totals: Totals,
}

impl Findings {
    /// 0: all is sound; 1: there are faults; 2: not all could be checked, whatever else was found.
    pub fn exit_code(&self) -> u8 {
        match (self.not_checked.is_empty(), self.faults.is_empty()) {
            (false, _) => 2,
            (true, false) => 1,
            (true, true) => 0,
        }
    }

    /// How many faults there are of each kind.
    pub fn by_kind(&self) -> BTreeMap<Kind, u64> {
        let mut kinds = BTreeMap::new();
        self.faults.iter().for_each(|fault| *kinds.entry(fault.kind).or_default() += 1);
        kinds
    }

    /// As one JSON object.
    pub fn json(&self) -> String {
        let mut object = serde_json::json!(self);
        object["faults_by_kind"] = serde_json::json!(
            self.by_kind()
                .iter()
                .map(|(kind, count)| (kind.name().to_owned(), *count))
                .collect::<BTreeMap<_, _>>()
        );
        object["exit_code"] = self.exit_code().into();
        format!("{object:#}\n")
    }

    /// As lines for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for device in &self.devices {
            let Checked { device, namespace, member, members, blocks, block_size, .. } = device;
            let namespace = namespace.escape_debug();
            let place = format!("member {} of {members}", member + 1);
            put(
                &mut out,
                format_args!(
                    "device      {device}: namespace {namespace}, {place}, {blocks} blocks of {block_size} bytes"
                ),
            );
        }
        for CheckpointFound { id, entries, state } in &self.checkpoints {
            put(&mut out, format_args!("checkpoint  {id} with {entries} entries: {state}"));
        }
        self.notes.iter().for_each(|note| put(&mut out, format_args!("{}", note.line(false))));
        self.faults.iter().for_each(|fault| put(&mut out, format_args!("{}", fault.line(true))));
        if !self.devices.is_empty() {
            self.put_totals(&mut out);
        }
        for Refused { device, why } in &self.not_checked {
            match device {
                Some(device) if !why.contains(device.as_str()) => {
                    put(&mut out, format_args!("NOT CHECKED device {device}: {why}"));
                }
                _ => put(&mut out, format_args!("NOT CHECKED {why}")),
            }
        }
        let kinds: Vec<String> =
            self.by_kind().iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        match (self.faults.len(), self.not_checked.len()) {
            (0, 0) => put(&mut out, format_args!("clean")),
            (0, _) if self.devices.is_empty() => put(&mut out, format_args!("nothing was checked")),
            (0, _) => put(&mut out, format_args!("no faults in what could be checked")),
            (count, _) => put(&mut out, format_args!("faults      {count}: {}", kinds.join(", "))),
        }
        out
    }

    fn put_totals(&self, out: &mut String) {
        let Totals {
            sealed_blocks,
            open_blocks,
            checkpoint_blocks,
            blank_blocks,
            damaged_blocks,
            missing_blocks,
            records,
            tombstones,
            system_records,
            record_bytes,
            read_bytes,
            elapsed_ms,
        } = self.totals;
        put(
            out,
            format_args!(
                "blocks      {sealed_blocks} sealed, {open_blocks} open, {checkpoint_blocks} of checkpoints, \
                 {blank_blocks} never used, {damaged_blocks} damaged, {missing_blocks} missing"
            ),
        );
        put(
            out,
            format_args!(
                "versions    {records} of records, {tombstones} tombstones, {system_records} of the system's own, \
                 {record_bytes} bytes"
            ),
        );
        let rate = read_bytes as f64 / (1 << 20) as f64 / (elapsed_ms.max(1) as f64 / 1000.0);
        put(out, format_args!("read        {read_bytes} bytes in {elapsed_ms} ms, {rate:.0} MiB/s"));
    }
}

/// The part of a digest that names a record, as it is printed.
pub fn named(digest: &[u8]) -> String {
    hex(&digest[..digest.len().min(10)])
}
