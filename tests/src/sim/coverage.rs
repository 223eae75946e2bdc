//! What a run has really met. A run over many seeds in which one of these stayed at zero has not shown what it says.

use super::faults::Fault;
use super::life::Class;
use super::target::Target;
use std::collections::BTreeMap;

/// Counters by name. Names are those of the report.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Fault, u64>,
}

/// What must have happened in a run of some size.
pub const REQUIRED: &[&str] = &[
    "lives",
    "images",
    "images cut in a recovery",
    "images of chains with two crashes or more",
    "images with reused blocks",
    "kill, restart, then cut",
    "cut moments",
    "cut in a data write",
    "cut in a footer write",
    "cut in a device header write",
    "cut in zeroing ahead",
    "cut in a flush",
    "cut in a checkpoint body",
    "cut in a checkpoint root",
    "cut while moved records were pending",
    "cut after a truncation, not yet durable",
    "cut while a group was pending",
    "torn writes",
    "sectors torn to garbage",
    "versions accepted",
    "versions promised",
    "started from a checkpoint",
    "checkpoints rejected",
    "checkpoint and sweep compared",
    "blocks read by footer",
    "blocks scanned",
    "tombstones recovered",
    "expired at recovery",
    "truncated at recovery",
    "recovered twice, same answer",
    "alive after recovery",
    "wall clock set back",
    "live answers checked",
    "devices latched",
    "clean closes",
    "closed and opened, same accounts",
    "scrub passes",
    "tombstones removed by scrub",
];

/// What must have happened in a run of class M of some size.
pub const REQUIRED_OF_MEDIA: &[&str] = &[
    "images",
    "live answers checked",
    "live reads that told of damage",
    "damaged images opened",
    "damaged images opened without a checkpoint",
    "damaged images refused",
    "keys hit by damage",
    "keys hit: told",
    "keys hit: right all the same",
    "keys hit that nobody can know of",
    "sets with a wrong member refused",
    "member replaced by an older copy",
    "member replaced by a blank one",
    "member replaced by another's copy",
];

impl Coverage {
    /// Counts something.
    pub fn add(&mut self, name: &'static str, by: u64) {
        *self.counts.entry(name).or_default() += by;
    }

    /// How often something was counted.
    pub fn get(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Counts injected faults.
    pub fn add_faults(&mut self, faults: &BTreeMap<Fault, u64>) {
        for (&fault, &count) in faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    /// Counts a cut by what it found on its way.
    pub fn add_cut(&mut self, targets: &[Target]) {
        let mut add = |wanted: Target, name| self.add(name, u64::from(targets.contains(&wanted)));
        add(Target::Data, "cut in a data write");
        add(Target::MovedData, "cut while moved records were pending");
        add(Target::Footer, "cut in a footer write");
        add(Target::DeviceHeader, "cut in a device header write");
        add(Target::Zeroing, "cut in zeroing ahead");
        add(Target::Flush, "cut in a flush");
        add(Target::CheckpointBody, "cut in a checkpoint body");
        add(Target::CheckpointRoot, "cut in a checkpoint root");
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Coverage) {
        for (&name, &count) in &other.counts {
            self.add(name, count);
        }
        self.add_faults(&other.faults);
    }

    /// All counters, faults included.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let counts = self.counts.iter().map(|(name, &count)| ((*name).to_owned(), count));
        let faults = self.faults.iter().map(|(fault, &count)| (format!("fault {fault:?}"), count));
        counts.chain(faults).collect()
    }

    /// How often a kind of fault was injected.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// What never happened, of what must in lives of this class.
    pub fn missing(&self, class: Class) -> Vec<String> {
        let (counts, faults): (_, &[Fault]) = match class {
            Class::Crashes => (REQUIRED, &Fault::OF_CRASHES),
            Class::Media => (REQUIRED_OF_MEDIA, &Fault::OF_MEDIA),
        };
        let counts = counts.iter().filter(|name| self.get(name) == 0).map(|name| (*name).to_owned());
        let faults = faults.iter().filter(|&&fault| self.fault(fault) == 0);
        counts.chain(faults.map(|fault| format!("fault {fault:?}"))).collect()
    }
}
