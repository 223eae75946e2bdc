//! What may be read of a key, from what this run has written: a lost update, a lost record and one that came back show.
//!
//! Each version of a key that this run writes or deletes has a number. A version that was acknowledged, and during which no
//! other write of its key was in flight, replaces all before it: its number is the key's floor. A read that begins after
//! that must find the floor's version or a later one. Writes of one key that overlap may end in either order, so they
//! leave the floor as it is; a write whose outcome is not known leaves it as it is for the rest of the run.
//! So nothing is reported that a correct store could answer.
//!
//! A key's state is one word, changed by compare-and-swap:
//! ```text
//! 63        38        12        4    3          2         1         0
//! | issued 26 | floor 26 | flying 8 | overlapped | unknown | absent | present |
//! ```

use super::value::Stamp;
use std::sync::atomic::{AtomicU64, Ordering};

const PRESENT: u64 = 1;
const ABSENT: u64 = 1 << 1;
const UNKNOWN: u64 = 1 << 2;
const OVERLAPPED: u64 = 1 << 3;
const FLYING: Field = Field { shift: 4, bits: 8 };
const FLOOR: Field = Field { shift: 12, bits: 26 };
const ISSUED: Field = Field { shift: 38, bits: 26 };

#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn limit(self) -> u64 {
        (1 << self.bits) - 1
    }

    fn get(self, word: u64) -> u64 {
        word >> self.shift & self.limit()
    }

    fn set(self, word: u64, value: u64) -> u64 {
        word & !(self.limit() << self.shift) | value << self.shift
    }
}

/// The states of all keys.
pub struct History {
    run: u32,
    /// Whether records may leave by themselves.
    may_expire: bool,
    keys: Vec<AtomicU64>,
}

/// What was known of a key when a read began.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    version: u64,
    /// The floor is a write, and nothing has been deleted since.
    is_present: bool,
    /// The floor is a delete.
    is_absent: bool,
}

/// What a read found that it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Breach {
    #[error(
        "version {found} of run {run}, although version {floor} of this run was acknowledged before: a lost update"
    )]
    Stale { found: u32, run: u32, floor: u64 },
    #[error("version {found}, of which only {issued} have been written")]
    Unborn { found: u32, issued: u64 },
    #[error("no record, although version {floor} was acknowledged and nothing has deleted it: a lost record")]
    Lost { floor: u64 },
}

impl History {
    /// For keys `0..count` of this run.
    pub fn new(count: u64, run: u32, may_expire: bool) -> History {
        let keys = (0..count).map(|_| AtomicU64::new(0)).collect();
        History { run, may_expire, keys }
    }

    fn change(&self, key: u64, change: impl Fn(u64) -> u64) -> u64 {
        let Some(state) = self.keys.get(key as usize) else { return 0 };
        let changed = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(change(word)));
        changed.map_or(0, &change)
    }

    /// A write or delete of the key begins; its version. Keys beyond those that are watched have version 1.
    pub fn begin(&self, key: u64, is_delete: bool) -> u32 {
        let begun = self.change(key, |word| {
            let flying = FLYING.get(word);
            // More than the fields hold are not told apart: the key is not judged any more.
            let full = flying == FLYING.limit() || ISSUED.get(word) == ISSUED.limit();
            let mut word = ISSUED.set(word, (ISSUED.get(word) + 1).min(ISSUED.limit()));
            word = FLYING.set(word, (flying + 1).min(FLYING.limit()));
            if is_delete {
                word &= !PRESENT;
            } else {
                word &= !ABSENT;
            }
            word | if flying > 0 { OVERLAPPED } else { 0 } | if full { UNKNOWN } else { 0 }
        });
        ISSUED.get(begun).max(1) as u32
    }

    /// It has been acknowledged.
    pub fn acknowledge(&self, key: u64, version: u32, is_delete: bool) {
        self.change(key, |word| {
            let mut word = Self::landed(word);
            if word & (OVERLAPPED | UNKNOWN) == 0 {
                word = FLOOR.set(word, u64::from(version)) & !(PRESENT | ABSENT);
                word |= if is_delete { ABSENT } else { PRESENT };
            }
            Self::quiet(word)
        });
    }

    /// Whether it happened, or will yet happen, is not known.
    pub fn lose_sight(&self, key: u64) {
        self.change(key, |word| Self::quiet(Self::landed(word)) & !(PRESENT | ABSENT) | UNKNOWN);
    }

    fn landed(word: u64) -> u64 {
        FLYING.set(word, FLYING.get(word).saturating_sub(1))
    }

    /// With nothing in flight the next write is alone again. One whose outcome is not known stays a doubt.
    fn quiet(word: u64) -> u64 {
        if FLYING.get(word) == 0 { word & !OVERLAPPED } else { word }
    }

    /// A read begins.
    pub fn floor(&self, key: u64) -> Floor {
        let word = self.keys.get(key as usize).map_or(0, |state| state.load(Ordering::Acquire));
        let is_known = word & UNKNOWN == 0;
        Floor {
            version: FLOOR.get(word),
            is_present: is_known && word & PRESENT != 0,
            is_absent: is_known && word & ABSENT != 0 && FLYING.get(word) == 0,
        }
    }

    /// What the read that began with `floor` found, or `None` for no record.
    pub fn check(&self, key: u64, floor: Floor, found: Option<Stamp>) -> Result<(), Breach> {
        let Some(found) = found else {
            // A delete that began since then is in the state now.
            let is_present = floor.is_present && self.floor(key).is_present;
            return match is_present && !self.may_expire {
                true => Err(Breach::Lost { floor: floor.version }),
                false => Ok(()),
            };
        };
        if found.run != self.run {
            return match floor.version {
                0 => Ok(()),
                version => Err(Breach::Stale { found: found.version, run: found.run, floor: version }),
            };
        }
        let now =
            self.keys.get(key as usize).map_or(u64::MAX, |state| ISSUED.get(state.load(Ordering::Acquire)));
        // After a delete the record must be from after it.
        let first = floor.version + u64::from(floor.is_absent);
        if u64::from(found.version) < first {
            return Err(Breach::Stale { found: found.version, run: found.run, floor: floor.version });
        }
        if u64::from(found.version) > now && now < ISSUED.limit() {
            return Err(Breach::Unborn { found: found.version, issued: now });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 9;

    fn stamp(version: u32) -> Option<Stamp> {
        Some(Stamp { key: 0, run: RUN, version })
    }

    fn write(history: &History) -> u32 {
        let version = history.begin(0, false);
        history.acknowledge(0, version, false);
        version
    }

    fn read(history: &History, found: Option<Stamp>) -> Result<(), Breach> {
        history.check(0, history.floor(0), found)
    }

    #[test]
    fn an_acknowledged_version_replaces_all_before_it() {
        let history = History::new(1, RUN, false);
        assert_eq!(read(&history, None), Ok(()), "never written: a miss");
        assert_eq!(read(&history, Some(Stamp { key: 0, run: 3, version: 50 })), Ok(()), "of an earlier run");
        assert_eq!((write(&history), write(&history)), (1, 2));
        assert_eq!(read(&history, stamp(2)), Ok(()));
        assert_eq!(read(&history, stamp(1)), Err(Breach::Stale { found: 1, run: RUN, floor: 2 }));
        assert_eq!(read(&history, stamp(3)), Err(Breach::Unborn { found: 3, issued: 2 }));
        assert_eq!(read(&history, None), Err(Breach::Lost { floor: 2 }));
        let earlier = Some(Stamp { key: 0, run: 3, version: 50 });
        assert_eq!(read(&history, earlier), Err(Breach::Stale { found: 50, run: 3, floor: 2 }));
    }

    #[test]
    fn a_read_beside_a_write_may_find_either() {
        let history = History::new(1, RUN, false);
        write(&history);
        let before = history.floor(0);
        let second = history.begin(0, false);
        assert_eq!(history.check(0, before, stamp(1)), Ok(()));
        assert_eq!(history.check(0, before, stamp(2)), Ok(()));
        history.acknowledge(0, second, false);
        assert_eq!(history.check(0, before, stamp(1)), Ok(()), "it began before");
        assert!(read(&history, stamp(1)).is_err());
    }

    #[test]
    fn writes_that_overlap_may_end_in_either_order() {
        let history = History::new(1, RUN, false);
        write(&history);
        let (second, third) = (history.begin(0, false), history.begin(0, false));
        history.acknowledge(0, third, false);
        history.acknowledge(0, second, false);
        for found in [1, 2, 3] {
            assert_eq!(read(&history, stamp(found)), Ok(()), "{found}");
        }
        assert_eq!(write(&history), 4);
        assert!(read(&history, stamp(3)).is_err() && read(&history, stamp(4)).is_ok());
    }

    #[test]
    fn after_a_delete_nothing_older_comes_back_and_absence_is_right() {
        let history = History::new(1, RUN, false);
        write(&history);
        let floor = history.floor(0);
        let delete = history.begin(0, true);
        assert_eq!(history.check(0, floor, None), Ok(()), "a delete began meanwhile");
        history.acknowledge(0, delete, true);
        assert_eq!(read(&history, None), Ok(()));
        assert!(read(&history, stamp(1)).is_err());
        assert_eq!(write(&history), 3);
        assert!(read(&history, None).is_err() && read(&history, stamp(3)).is_ok());
    }

    #[test]
    fn a_write_of_unknown_outcome_forbids_nothing_after_it() {
        let history = History::new(1, RUN, false);
        write(&history);
        history.begin(0, false);
        history.lose_sight(0);
        write(&history);
        for found in [stamp(1), stamp(2), stamp(3), None] {
            assert_eq!(read(&history, found), Ok(()));
        }
    }

    #[test]
    fn what_may_expire_may_be_gone() {
        let history = History::new(1, RUN, true);
        write(&history);
        assert_eq!(read(&history, None), Ok(()));
        assert!(read(&history, stamp(0)).is_err());
    }
}
