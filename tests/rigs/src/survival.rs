//! What of a disk's volatile cache is still there after a power cut.
//!
//! A disk may write its cache back in any order and at any time, one sector at a time, so after a cut each sector
//! holds its durable contents or those of any write that the cache had for it. A rig draws one shape a cut,
//! because different bugs hide from different shapes: a lost record shows when everything un-synced is gone, a
//! commit record without its data when only the newest writes are there, a missing checksum when a single sector
//! is gone. A fate is drawn for each sector of each cached write; applied in the order of the writes, the last one
//! that is kept wins.
//!
//! Writes that had not been answered at the cut are in flight. Their sectors may also be torn: a beginning of the
//! new bytes before an end of the old.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What becomes of the cache, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing of it survives.
    Nothing,
    /// All of it does.
    All,
    /// Each sector by itself, with so many percent.
    Percent(u8),
    /// All but one write.
    LoseOneWrite,
    /// All but one sector of one write.
    LoseOneSector,
    /// The first writes in the order of their completion, and a beginning of the next.
    Prefix,
    /// The last writes, and none before them.
    Newest,
    /// Each MiB of the disk as a whole, or not.
    Regions,
}

/// What becomes of one sector of one cached write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It has not reached the medium.
    Lost,
    /// It has.
    Kept,
    /// So many of its first bytes have; only in writes that were in flight.
    Torn(u32),
}

/// A write in the cache.
#[derive(Debug, Clone, Copy)]
pub struct CachedWrite {
    /// In bytes.
    pub offset: u64,
    /// How many.
    pub sectors: usize,
    /// It had not been answered.
    pub in_flight: bool,
}

const SHAPES: &[Shape] = &[
    Shape::Nothing,
    Shape::Nothing,
    Shape::All,
    Shape::Percent(10),
    Shape::Percent(50),
    Shape::Percent(90),
    Shape::LoseOneWrite,
    Shape::LoseOneSector,
    Shape::Prefix,
    Shape::Newest,
    Shape::Regions,
];

/// Bytes of a region of `Shape::Regions`.
const REGION: u64 = 1 << 20;

impl Shape {
    /// One of them, by chance.
    pub fn draw(rng: &mut StdRng) -> Shape {
        SHAPES[rng.random_range(0..SHAPES.len())]
    }

    /// For each write the fates of its sectors. The same shape, seed and writes give the same fates.
    pub fn fates(self, seed: u64, sector_size: u32, writes: &[CachedWrite]) -> Vec<Vec<Fate>> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut all: Vec<Vec<Fate>> = writes.iter().map(|write| vec![Fate::Kept; write.sectors]).collect();
        let last = all.iter().rposition(|fates| !fates.is_empty());
        match self {
            Shape::Nothing => all.iter_mut().for_each(|fates| fates.fill(Fate::Lost)),
            Shape::All => {}
            Shape::Percent(percent) => {
                for fate in all.iter_mut().flatten() {
                    if rng.random_range(0..100) >= percent {
                        *fate = Fate::Lost;
                    }
                }
            }
            Shape::LoseOneWrite if last.is_some() => {
                let at = rng.random_range(0..all.len());
                all[at].fill(Fate::Lost);
            }
            Shape::LoseOneSector if last.is_some() => {
                // Any sector with the same chance.
                let count: usize = all.iter().map(Vec::len).sum();
                let at = rng.random_range(0..count);
                if let Some(fate) = all.iter_mut().flatten().nth(at) {
                    *fate = Fate::Lost;
                }
            }
            Shape::Prefix if last.is_some() => {
                let at = rng.random_range(0..all.len());
                let kept = rng.random_range(0..=all[at].len());
                all[at][kept..].fill(Fate::Lost);
                all[at + 1..].iter_mut().for_each(|fates| fates.fill(Fate::Lost));
            }
            Shape::Newest if last.is_some() => {
                let at = rng.random_range(0..all.len());
                all[..at].iter_mut().for_each(|fates| fates.fill(Fate::Lost));
            }
            Shape::Regions => {
                let salt: u64 = rng.random();
                for (write, fates) in writes.iter().zip(&mut all) {
                    for (i, fate) in fates.iter_mut().enumerate() {
                        let region = (write.offset + i as u64 * u64::from(sector_size)) / REGION;
                        if xxhash_rust::xxh3::xxh3_64_with_seed(&region.to_le_bytes(), salt) & 1 == 0 {
                            *fate = Fate::Lost;
                        }
                    }
                }
            }
            Shape::LoseOneWrite | Shape::LoseOneSector | Shape::Prefix | Shape::Newest => {}
        }
        for (write, fates) in writes.iter().zip(&mut all).filter(|(write, _)| write.in_flight) {
            debug_assert_eq!(write.sectors, fates.len());
            for fate in fates.iter_mut() {
                if rng.random_range(0..100) == 0 {
                    *fate = Fate::Torn(rng.random_range(1..sector_size));
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes() -> Vec<CachedWrite> {
        (0..20).map(|i| CachedWrite { offset: i * 700 * 1024, sectors: 8, in_flight: false }).collect()
    }

    fn count(fates: &[Vec<Fate>], what: Fate) -> usize {
        fates.iter().flatten().filter(|&&fate| fate == what).count()
    }

    #[test]
    fn shapes_do_what_they_say() {
        let writes = writes();
        for seed in 0..50 {
            let fates = |shape: Shape| shape.fates(seed, 512, &writes);
            assert_eq!(count(&fates(Shape::Nothing), Fate::Kept), 0);
            assert_eq!(count(&fates(Shape::All), Fate::Lost), 0);
            assert_eq!(count(&fates(Shape::LoseOneWrite), Fate::Lost), 8);
            assert_eq!(count(&fates(Shape::LoseOneSector), Fate::Lost), 1);
            let prefix: Vec<Fate> = fates(Shape::Prefix).concat();
            let lost_from = prefix.iter().position(|&fate| fate == Fate::Lost).unwrap_or(prefix.len());
            assert!(prefix[lost_from..].iter().all(|&fate| fate == Fate::Lost), "a prefix has an end");
            let newest: Vec<Fate> = fates(Shape::Newest).concat();
            let kept_from = newest.iter().position(|&fate| fate == Fate::Kept).expect("one at least");
            assert!(
                newest[kept_from..].iter().all(|&fate| fate == Fate::Kept),
                "the newest have a beginning"
            );
            for (write, fates) in writes.iter().zip(fates(Shape::Regions)) {
                let one_region = write.offset / REGION == (write.offset + 7 * 512) / REGION;
                assert!(!one_region || fates.iter().all(|&fate| fate == fates[0]), "a region is whole");
            }
        }
    }

    #[test]
    fn percentages_are_about_right_and_a_seed_repeats() {
        let writes = vec![CachedWrite { offset: 0, sectors: 10_000, in_flight: false }];
        for percent in [10, 50, 90] {
            let fates = Shape::Percent(percent).fates(7, 512, &writes);
            let kept = count(&fates, Fate::Kept) / 100;
            assert!(kept.abs_diff(usize::from(percent)) <= 3, "{kept} of {percent} percent are kept");
            assert_eq!(fates, Shape::Percent(percent).fates(7, 512, &writes));
        }
    }

    #[test]
    fn only_what_was_in_flight_is_torn() {
        let mut writes = vec![CachedWrite { offset: 0, sectors: 5_000, in_flight: false }; 2];
        writes[1].in_flight = true;
        let fates = Shape::All.fates(3, 512, &writes);
        let is_torn = |fate: &&Fate| matches!(fate, Fate::Torn(bytes) if (1..512).contains(bytes));
        assert_eq!(fates[0].iter().filter(is_torn).count(), 0);
        assert!((10..150).contains(&fates[1].iter().filter(is_torn).count()));
    }

    #[test]
    fn an_empty_cache_has_no_fates() {
        for shape in SHAPES {
            assert!(shape.fates(1, 512, &[]).is_empty());
        }
    }
}
