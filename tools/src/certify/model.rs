//! The load that a multiple stands for.
//!
//! Records are written as part of large blocks, so `writes` records a second fill `writes * stored size / large block`
//! blocks. Reclaim empties blocks that are still `defrag_lwm` percent alive: for each block of new records it has to read
//! and write others, until as much space is free as was filled, and all in all `1 / (1 - lwm)` blocks are written for each one
//! that clients fill, and as many read. At 50 % that is 2. So 1000 writes a second of 1536 bytes in blocks of 128 KiB are
//! 11.7 blocks of new records, and 23.4 reads and 23.4 writes of large blocks a second.

use crate::load::LoadError;
use crate::load::schedule::Rate;

/// Stored sizes are multiples of this many bytes.
const GRAIN: u64 = 16;
/// The smallest unit of direct I/O, in bytes.
const SECTOR: u64 = 512;

/// Requests of one sort, a second.
const MOST_A_SECOND: u64 = 50_000_000;

/// What a nominal load is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Bytes of a record.
    pub record_size: u64,
    /// Bytes of a large block.
    pub large_block: u64,
    /// Reads of records a second at the multiple 1.
    pub reads: u64,
    /// Writes of records a second at the multiple 1.
    pub writes: u64,
    /// How full blocks are that reclaim empties, in percent.
    pub defrag_lwm_pct: u64,
}

/// The rates of a multiple; `None`: nothing of that sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Reads of records.
    pub reads: Option<Rate>,
    /// Writes of records, which a device sees only as large blocks.
    pub writes: Option<Rate>,
    /// Reads of large blocks, and as many writes.
    pub large: Option<Rate>,
}

impl Model {
    /// Whether it can be.
    pub fn check(&self) -> Result<(), LoadError> {
        let refuse = |why: String| Err(LoadError(why));
        if !(1..=8 << 20).contains(&self.record_size) {
            return refuse(format!(
                "--record-size is {} bytes; 1 byte to 8MiB are possible",
                self.record_size
            ));
        }
        if !self.large_block.is_power_of_two() || !(4096..=8 << 20).contains(&self.large_block) {
            return refuse(format!(
                "--large-block is {} bytes; a power of two from 4KiB to 8MiB is needed",
                self.large_block
            ));
        }
        if self.record_size > self.large_block {
            return refuse(format!(
                "--record-size: a record of {} bytes does not fit a large block of {}",
                self.record_size, self.large_block
            ));
        }
        if self.defrag_lwm_pct > 90 {
            return refuse(format!("--defrag-lwm is {} percent; 0 to 90 are possible", self.defrag_lwm_pct));
        }
        if self.reads == 0 && self.writes == 0 {
            return refuse("--reads and --writes are both 0: there is nothing to do".into());
        }
        if self.reads > 1_000_000 || self.writes > 1_000_000 {
            return refuse(
                "--reads and --writes are at most 1000000 at the multiple 1; use --multiple".into(),
            );
        }
        Ok(())
    }

    /// Whether the rates of a multiple can be kept at all.
    pub fn check_at(&self, multiple: u64) -> Result<(), LoadError> {
        let most = self.reads.max(self.writes);
        if most.checked_mul(multiple).is_none_or(|rate| rate > MOST_A_SECOND) {
            return Err(LoadError(format!(
                "at the multiple {multiple} more than {MOST_A_SECOND} requests a second would be due; lower it, --search-limit, \
                 --reads or --writes"
            )));
        }
        if self.writes > 0 && self.rates(multiple).large.is_none() {
            return Err(LoadError(
                "so few and small writes fill a large block in a quarter of an hour or more: raise --writes or \
                 --record-size, or lower --large-block"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Bytes that a read of a record moves on a device with such sectors.
    pub fn read_size(&self, sector: u32) -> u64 {
        self.record_size.next_multiple_of(u64::from(sector).max(SECTOR))
    }

    /// Blocks written for each block of new records.
    pub fn amplification(&self) -> f64 {
        100.0 / (100 - self.defrag_lwm_pct) as f64
    }

    /// The rates at a multiple.
    pub fn rates(&self, multiple: u64) -> Rates {
        let stored = self.record_size.next_multiple_of(GRAIN) as f64;
        let (reads, writes) = ((self.reads * multiple) as f64, (self.writes * multiple) as f64);
        Rates {
            reads: Rate::per_second(reads),
            writes: Rate::per_second(writes),
            large: Rate::per_second(writes * stored / self.large_block as f64 * self.amplification()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nominal() -> Model {
        Model { record_size: 1536, large_block: 128 << 10, reads: 2000, writes: 1000, defrag_lwm_pct: 50 }
    }

    #[test]
    fn rates_are_those_of_act_s_documentation() {
        // Its example: 1500 bytes are stored as 1504, 11.4746 blocks a second, 22.949 with reclaim at 50 %.
        let model = Model { record_size: 1500, ..nominal() };
        let rates = model.rates(1);
        assert_eq!((rates.reads.unwrap().get(), rates.writes.unwrap().get()), (2000.0, 1000.0));
        assert!((rates.large.unwrap().get() - 22.949).abs() < 0.001);
        assert_eq!(nominal().rates(30).large.unwrap().get(), 703.125);
        assert_eq!(Model { defrag_lwm_pct: 60, ..nominal() }.amplification(), 2.5);
        let reads_only = Model { writes: 0, ..nominal() }.rates(2);
        assert_eq!((reads_only.large, reads_only.writes), (None, None));
    }

    #[test]
    fn a_read_is_whole_sectors() {
        let read = |record_size, sector| Model { record_size, ..nominal() }.read_size(sector);
        assert_eq!(
            [read(1536, 512), read(1500, 512), read(1, 512), read(1536, 4096)],
            [1536, 1536, 512, 4096]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(nominal().check().is_ok());
        let wrong = [
            Model { record_size: 0, ..nominal() },
            Model { record_size: 9 << 20, ..nominal() },
            Model { record_size: 200_000, ..nominal() },
            Model { large_block: 100_000, ..nominal() },
            Model { large_block: 16 << 20, ..nominal() },
            Model { defrag_lwm_pct: 91, ..nominal() },
            Model { reads: 0, writes: 0, ..nominal() },
            Model { reads: 1_000_001, ..nominal() },
        ];
        wrong.iter().for_each(|model| assert!(model.check().is_err(), "{model:?}"));
        assert!(nominal().check_at(25_000).is_ok());
        assert!(nominal().check_at(25_001).is_err() && nominal().check_at(u64::MAX).is_err());
        let rare = Model { record_size: 1, writes: 1, large_block: 8 << 20, ..nominal() };
        assert!(rare.check_at(1).is_err(), "a rate that is none must not become no load");
    }
}
