//! The faults that are injected, and what the engine must do about each.
//!
//! | fault | strikes | the engine must |
//! |---|---|---|
//! | EIO on a write, nothing, half or all of it done | the load | latch, or stand on a file system that took it |
//! | EIO on a flush, the cache kept or dropped | the load | latch, as above |
//! | ENOSPC on a write into allocated space | the load | latch: it is no answer a healthy disk gives |
//! | short write | the load | latch: the kernel's FUSE hands it on as EIO |
//! | short read, a stall | the load | go on as if nothing had happened |
//! | EIO on a read | the load | fail that read alone |
//! | EIO on a flush | the start | refuse, with a reason; the next start succeeds |
//! | ENOSPC on an allocation | the load | fail writes or make them wait, then go on by itself |
//! | a file system without room | the load | fail writes, read on, go on when there is room |
//!
//! In all of them: no acknowledgement of what a restart cannot show, no wrong bytes, and no write that begins
//! after a latch is acknowledged.

use crate::fault::{Applied, Fault};
use crate::host::Stack;
use std::time::Duration;

/// What the engine must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// Take no more writes, and read on.
    Latch,
    /// Acknowledge writes as before.
    GoOn,
    /// Not open, and open the next time.
    Refuse,
    /// Fail writes for want of room, and acknowledge them again when there is some.
    Wait,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The disk has a fault.
    Disk(Fault),
    /// The file system is filled by somebody else, but for so many bytes.
    Full(u64),
}

/// One kind of case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What goes wrong.
    pub trouble: Trouble,
    /// What lies between engine and disk.
    pub stack: Stack,
    /// What is expected.
    pub must: Must,
}

const STALL: Duration = Duration::from_millis(400);

/// All kinds, those of one fault together.
pub fn all() -> Vec<Case> {
    use Stack::{Direct, Ext4, Raw, Xfs};
    const ALL: &[Stack] = &[Direct, Raw, Ext4, Xfs];
    // Where a flush of the disk stands behind each durable write. The file system of the rig sees the bit itself.
    const FLUSHING: &[Stack] = &[Raw, Ext4, Xfs];
    let table: [(&'static str, Fault, &[Stack], Must); 13] = [
        ("EIO on a write, nothing done", Fault::WriteError(Applied::Nothing), ALL, Must::Latch),
        ("EIO on a write, half of it done", Fault::WriteError(Applied::Half), ALL, Must::Latch),
        ("EIO on a write, all of it done", Fault::WriteError(Applied::Whole), ALL, Must::Latch),
        ("EIO on a flush", Fault::FlushError(false), FLUSHING, Must::Latch),
        ("EIO on a flush, the cache dropped", Fault::FlushError(true), FLUSHING, Must::Latch),
        ("ENOSPC on a write", Fault::WriteFull, &[Direct, Raw], Must::Latch),
        // The kernel makes EIO of it: an asynchronous write to FUSE is never short. (A synchronous one it continues with
        // the rest at the first offset, 6.18; a loop device takes it for whole. Neither can be used.)
        ("short write", Fault::ShortWrite, &[Direct], Must::Latch),
        ("short read", Fault::ShortRead, &[Direct, Raw], Must::GoOn),
        ("stalled write", Fault::SlowWrite(STALL), ALL, Must::GoOn),
        ("stalled read", Fault::SlowRead(STALL), &[Direct, Raw], Must::GoOn),
        ("EIO on a read", Fault::ReadError, &[Direct, Raw], Must::GoOn),
        ("EIO on a flush at the start", Fault::FlushError(false), ALL, Must::Refuse),
        ("ENOSPC on an allocation", Fault::AllocationFull, &[Direct], Must::GoOn),
    ];
    let disk = table.into_iter().flat_map(|(name, fault, stacks, must)| {
        stacks.iter().map(move |&stack| Case { name, trouble: Trouble::Disk(fault), stack, must })
    });
    let full = [Ext4, Xfs].into_iter().map(|stack| Case {
        name: "a full file system",
        trouble: Trouble::Full(3 << 20),
        stack,
        must: Must::Wait,
    });
    disk.chain(full).collect()
}

/// The kind of the `i`-th case of a run: every fault once on some stack before any fault again.
pub fn nth(kinds: &[Case], i: usize) -> Case {
    let mut names: Vec<&str> = kinds.iter().map(|case| case.name).collect();
    names.dedup();
    let of_fault: Vec<&Case> = kinds.iter().filter(|case| case.name == names[i % names.len()]).collect();
    *of_fault[i / names.len() % of_fault.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn forty_cases_have_every_fault_on_two_stacks_where_there_are_two() {
        let kinds = all();
        let first: Vec<Case> = (0..40).map(|i| nth(&kinds, i)).collect();
        for kind in &kinds {
            let on = |cases: &[Case]| -> HashSet<&str> {
                cases.iter().filter(|case| case.name == kind.name).map(|case| case.stack.name()).collect()
            };
            assert!(on(&first).len() >= on(&kinds).len().min(2), "{}", kind.name);
        }
    }

    #[test]
    fn a_long_run_meets_every_kind() {
        let kinds = all();
        let met: HashSet<(&str, &str)> =
            (0..14 * 12).map(|i| nth(&kinds, i)).map(|case| (case.name, case.stack.name())).collect();
        assert_eq!(met.len(), kinds.len());
    }
}
