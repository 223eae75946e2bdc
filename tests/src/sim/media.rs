//! What one simulated device holds: the medium, the volatile cache before it, and what is wrong with it.
//!
//! The rules are the strictest that a drive which honours FLUSH and FUA may follow (RELIABILITY.md, 3.3). A write is
//! visible when it is answered. It is durable then only if it asked for that, and only its own sectors are: older
//! cached writes to other sectors stay volatile until a flush that was submitted after they were answered, or until
//! the drive writes them back by itself, in any order. When the power goes each sector is what the medium has, or any
//! version that was in the cache, or any that was on its way.
//!
//! Nothing here knows requests or tickets: `device.rs` decides when something happens, this file what it does.

use super::faults::Fault;
use super::survival::{Survival, Uncertain};
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a power cut takes or leaves as one, in bytes.
pub const SECTOR: usize = 512;

/// What is wrong with a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// It cannot be read until it is written again.
    Unreadable,
}

/// A version of a sector in the cache.
#[derive(Clone, Debug)]
struct Cached {
    /// The write that brought it: they are numbered as they are answered.
    write: u64,
    content: Arc<[u8]>,
    at: usize,
}

/// A write that a power cut finds on its way.
#[derive(Clone, Debug)]
pub struct Loose {
    /// In bytes from the start of the device.
    pub offset: usize,
    /// Its bytes.
    pub content: Arc<[u8]>,
    /// Whether it asked to be durable.
    pub durable: bool,
}

/// What a cut broke.
#[derive(Clone, Copy, Debug, Default)]
pub struct Torn {
    /// Writes of which a part was kept.
    pub writes: usize,
    /// Sectors that are garbage or unreadable.
    pub sectors: usize,
}

/// The state of one device.
#[derive(Clone)]
pub struct Media {
    bytes: Vec<u8>,
    /// Versions that are newer than the medium's, oldest first.
    cache: BTreeMap<usize, Vec<Cached>>,
    poison: BTreeMap<usize, Poison>,
    /// Which sectors a file system has converted from unwritten; none: a raw device, where all are.
    converted: Option<Vec<bool>>,
    answered: u64,
}

impl Media {
    /// A device of `size` zeros. `is_file`: space is allocated but unwritten until something durable covers it.
    pub fn blank(size: usize, is_file: bool) -> Self {
        Media { converted: is_file.then(|| vec![false; size / SECTOR]), ..Self::holding(vec![0; size]) }
    }

    /// A device that holds these bytes for certain.
    pub fn holding(bytes: Vec<u8>) -> Self {
        assert!(bytes.len().is_multiple_of(SECTOR), "a device has whole sectors");
        Media { bytes, cache: BTreeMap::new(), poison: BTreeMap::new(), converted: None, answered: 0 }
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What is on the medium.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The medium, to be damaged.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Sectors of which the cache holds a version that a power cut could take.
    pub fn volatile_count(&self) -> usize {
        self.cache.len()
    }

    /// Makes a sector unreadable until it is written.
    pub fn poison(&mut self, sector: usize, poison: Poison) {
        self.poison.insert(sector, poison);
    }

    /// Whether the range holds an unreadable sector.
    pub fn is_poisoned(&self, offset: usize, len: usize) -> bool {
        self.poison.range(offset / SECTOR..(offset + len).div_ceil(SECTOR)).next().is_some()
    }

    /// Reads what was written last, wherever it is.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.bytes[offset..offset + into.len()]);
        for (&sector, versions) in self.cache.range(offset / SECTOR..(offset + into.len()) / SECTOR) {
            if let Some(newest) = versions.last() {
                let to = sector * SECTOR - offset;
                into[to..to + SECTOR].copy_from_slice(&newest.content[newest.at..][..SECTOR]);
            }
        }
    }

    /// A write is answered: its bytes are visible, and on the medium if it asked for that.
    pub fn write(&mut self, offset: usize, content: &[u8], durable: bool) {
        self.answered += 1;
        let sectors = offset / SECTOR..(offset + content.len()) / SECTOR;
        if durable {
            self.bytes[offset..offset + content.len()].copy_from_slice(content);
            if !self.cache.is_empty() {
                sectors.clone().for_each(|sector| {
                    self.cache.remove(&sector);
                });
            }
            if let Some(converted) = &mut self.converted {
                converted[sectors.clone()].fill(true);
            }
        } else {
            let shared: Arc<[u8]> = content.into();
            for sector in sectors.clone() {
                let at = sector * SECTOR - offset;
                let version = Cached { write: self.answered, content: shared.clone(), at };
                self.cache.entry(sector).or_default().push(version);
            }
        }
        self.poison.retain(|sector, _| !sectors.contains(sector));
    }

    /// The number of the last write that was answered: what a flush submitted now will cover.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// A flush that was submitted when `covered` writes had been answered is done.
    pub fn flush(&mut self, covered: u64) {
        let all: Vec<usize> = self.cache.keys().copied().collect();
        for sector in all {
            let versions = &self.cache[&sector];
            let count = versions.iter().take_while(|version| version.write <= covered).count();
            self.settle(sector, count);
        }
    }

    /// The first `count` cached versions of a sector are on the medium, or older than what is there.
    fn settle(&mut self, sector: usize, count: usize) {
        let Some(versions) = self.cache.get_mut(&sector) else { return };
        let Some(newest) = versions.drain(..count).next_back() else { return };
        self.bytes[sector * SECTOR..][..SECTOR].copy_from_slice(&newest.content[newest.at..][..SECTOR]);
        if versions.is_empty() {
            self.cache.remove(&sector);
        }
        if let Some(converted) = &mut self.converted {
            converted[sector] = true;
        }
    }

    /// The drive writes some cached versions back by itself: each sector with a chance of `percent`.
    pub fn write_back(&mut self, percent: u32, rng: &mut StdRng) {
        let all: Vec<usize> = self.cache.keys().copied().collect();
        for sector in all {
            if rng.random_range(0..100) < percent {
                let count = rng.random_range(1..=self.cache[&sector].len());
                self.settle(sector, count);
            }
        }
    }

    /// A failed flush has dropped what was cached, and nobody will say so again.
    pub fn drop_cache(&mut self) -> usize {
        std::mem::take(&mut self.cache).len()
    }

    /// The power goes while `in_flight` is on its way. `shear`: a sector in flight may be left as garbage or
    /// unreadable.
    pub fn cut(&mut self, in_flight: &[Loose], survival: Survival, shear: bool, rng: &mut StdRng) -> Torn {
        // Cached versions, gathered into the writes that brought them.
        let mut cached: BTreeMap<u64, Vec<(usize, Cached)>> = BTreeMap::new();
        for (sector, versions) in std::mem::take(&mut self.cache) {
            for version in versions {
                cached.entry(version.write).or_default().push((sector, version));
            }
        }
        let of_cache = cached.values().map(|sectors| Uncertain { first: sectors[0].0, count: sectors.len() });
        let of_flight = in_flight
            .iter()
            .map(|loose| Uncertain { first: loose.offset / SECTOR, count: loose.content.len() / SECTOR });
        let uncertain: Vec<Uncertain> = of_cache.chain(of_flight).collect();
        if uncertain.is_empty() {
            return Torn::default();
        }
        let mut torn = Torn::default();
        let mut kept = survival.choose(&uncertain, rng).into_iter();
        for sectors in cached.into_values() {
            for ((sector, version), _) in
                sectors.into_iter().zip(kept.next().unwrap_or_default()).filter(|(_, kept)| *kept)
            {
                // What a file system never converted reads as zeros again.
                if self.converted.as_ref().is_none_or(|converted| converted[sector]) {
                    let to = sector * SECTOR;
                    self.bytes[to..to + SECTOR].copy_from_slice(&version.content[version.at..][..SECTOR]);
                }
            }
        }
        for loose in in_flight {
            let first = loose.offset / SECTOR;
            let kept = kept.next().unwrap_or_default();
            torn.writes += usize::from(kept.contains(&true) && kept.contains(&false));
            for (i, _) in kept.into_iter().enumerate().filter(|(_, kept)| *kept) {
                let is_lasting =
                    loose.durable || self.converted.as_ref().is_none_or(|converted| converted[first + i]);
                if is_lasting {
                    let to = loose.offset + i * SECTOR;
                    self.bytes[to..to + SECTOR].copy_from_slice(&loose.content[i * SECTOR..][..SECTOR]);
                    self.poison.remove(&(first + i));
                }
            }
        }
        torn.sectors = if shear { self.shear(in_flight, rng) } else { 0 };
        torn
    }

    /// One sector on its way is neither what it was nor what it was to be.
    fn shear(&mut self, in_flight: &[Loose], rng: &mut StdRng) -> usize {
        if in_flight.is_empty() {
            return 0;
        }
        let loose = &in_flight[rng.random_range(0..in_flight.len())];
        let sector = loose.offset / SECTOR + rng.random_range(0..loose.content.len() / SECTOR);
        if rng.random_bool(0.5) {
            self.poison(sector, Poison::Unreadable);
        } else {
            rng.fill(&mut self.bytes[sector * SECTOR..][..SECTOR]);
        }
        1
    }

    /// The process was killed: what was in flight happens or not, by chance, and is cached or durable. The cache stays,
    /// and stays volatile.
    pub fn outlive_process(&mut self, in_flight: &[Loose], rng: &mut StdRng) {
        for loose in in_flight {
            match rng.random_range(0..4) {
                0 => {}
                1 => self.write(loose.offset, &loose.content, loose.durable),
                // Executed, but the process died before the flush that a durable write ends with.
                _ => self.write(loose.offset, &loose.content, false),
            }
        }
    }

    /// The sectors that do not hold what they should: `right` is a device that carried every write out.
    pub fn damage(&self, right: &Media) -> BTreeSet<usize> {
        let wrong = self.bytes.chunks(SECTOR).zip(right.bytes.chunks(SECTOR)).enumerate();
        let wrong = wrong.filter(|(_, (is, should))| is != should).map(|(sector, _)| sector);
        wrong.chain(self.poison.keys().copied()).collect()
    }

    /// Damages a sector.
    pub fn strike(&mut self, sector: usize, fault: Fault, rng: &mut StdRng) {
        let bytes = &mut self.bytes[sector * SECTOR..][..SECTOR];
        match fault {
            Fault::BitRot => {
                for _ in 0..rng.random_range(1..=8) {
                    bytes[rng.random_range(0..SECTOR)] ^= 1 << rng.random_range(0..8);
                }
            }
            Fault::SectorRot => rng.fill(bytes),
            Fault::Unreadable => self.poison(sector, Poison::Unreadable),
            _ => unreachable!("{fault:?} is not a fault of a sector that lies there"),
        }
    }

    /// Everything the drive has is on the medium: as after a clean shutdown of the machine.
    pub fn settle_all(&mut self) {
        self.flush(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn sector(media: &Media, at: usize) -> u8 {
        let mut bytes = [0; SECTOR];
        media.read(at * SECTOR, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]), "sector {at} is mixed");
        bytes[0]
    }

    fn cut(media: &Media, in_flight: &[Loose], seed: u64) -> Media {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut after = media.clone();
        let survival = Survival::draw(&mut rng);
        after.cut(in_flight, survival, false, &mut rng);
        after
    }

    #[test]
    fn a_durable_write_survives_every_cut_and_a_plain_one_need_not() {
        let mut media = Media::blank(8 * SECTOR, false);
        media.write(0, &[1; 2 * SECTOR], true);
        media.write(4 * SECTOR, &[2; 2 * SECTOR], false);
        assert_eq!((sector(&media, 0), sector(&media, 4)), (1, 2), "both are visible");
        let outcomes: Vec<_> = (0..200).map(|seed| cut(&media, &[], seed)).collect();
        assert!(outcomes.iter().all(|after| sector(after, 0) == 1 && sector(after, 1) == 1));
        let kept: Vec<bool> = outcomes.iter().map(|after| sector(after, 4) == 2).collect();
        assert!(kept.contains(&true) && kept.contains(&false));
    }

    #[test]
    fn a_durable_write_says_nothing_about_other_sectors() {
        let mut media = Media::blank(8 * SECTOR, false);
        media.write(0, &[1; SECTOR], false);
        media.write(SECTOR, &[2; SECTOR], true);
        assert!((0..100).any(|seed| sector(&cut(&media, &[], seed), 0) == 0));
    }

    #[test]
    fn a_flush_covers_what_was_answered_before_it_was_submitted() {
        let mut media = Media::blank(8 * SECTOR, false);
        media.write(0, &[1; SECTOR], false);
        let covered = media.answered();
        media.write(0, &[2; SECTOR], false);
        media.write(SECTOR, &[3; SECTOR], false);
        media.flush(covered);
        let outcomes: Vec<_> = (0..200).map(|seed| cut(&media, &[], seed)).collect();
        assert!(outcomes.iter().all(|after| [1, 2].contains(&sector(after, 0))));
        assert!(outcomes.iter().any(|after| sector(after, 0) == 1));
        assert!(outcomes.iter().any(|after| sector(after, 1) == 0));
    }

    #[test]
    fn a_sector_is_any_version_that_it_had_and_nothing_else() {
        let mut media = Media::blank(SECTOR, false);
        media.write(0, &[1; SECTOR], true);
        media.write(0, &[2; SECTOR], false);
        media.write(0, &[3; SECTOR], false);
        let loose = Loose { offset: 0, content: vec![4; SECTOR].into(), durable: true };
        let mut seen: Vec<u8> =
            (0..400).map(|seed| sector(&cut(&media, std::slice::from_ref(&loose), seed), 0)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 4]);
    }

    #[test]
    fn a_plain_write_into_unwritten_space_reads_as_zeros_after_a_cut() {
        let mut media = Media::blank(2 * SECTOR, true);
        media.write(0, &[1; SECTOR], false);
        for seed in 0..100 {
            assert_eq!(sector(&cut(&media, &[], seed), 0), 0);
        }
        media.flush(media.answered());
        assert_eq!(sector(&cut(&media, &[], 1), 0), 1);
        media.write(0, &[2; SECTOR], false);
        assert!((0..100).any(|seed| sector(&cut(&media, &[], seed), 0) == 2), "now it is converted");
    }

    #[test]
    fn write_back_makes_versions_durable_in_any_order() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut seen = [false; 3];
        for _ in 0..100 {
            let mut media = Media::blank(SECTOR, false);
            media.write(0, &[1; SECTOR], false);
            media.write(0, &[2; SECTOR], false);
            media.write_back(50, &mut rng);
            assert_eq!(sector(&media, 0), 2, "what is visible does not change");
            media.cut(&[], Survival::None, false, &mut rng);
            seen[usize::from(sector(&media, 0))] = true;
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn a_killed_process_leaves_its_writes_done_or_not_and_maybe_volatile() {
        let loose = Loose { offset: 0, content: vec![1; SECTOR].into(), durable: true };
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut media = Media::blank(SECTOR, false);
            media.outlive_process(std::slice::from_ref(&loose), &mut StdRng::seed_from_u64(seed));
            let visible = sector(&media, 0);
            media.cut(&[], Survival::None, false, &mut StdRng::seed_from_u64(seed));
            seen.insert((visible, sector(&media, 0)));
        }
        assert_eq!(seen, [(0, 0), (1, 0), (1, 1)].into());
    }

    #[test]
    fn an_unreadable_sector_is_healed_by_writing_it() {
        let mut media = Media::blank(4 * SECTOR, false);
        media.poison(2, Poison::Unreadable);
        assert!(media.is_poisoned(SECTOR, 2 * SECTOR) && !media.is_poisoned(0, 2 * SECTOR));
        media.write(2 * SECTOR, &[1; SECTOR], true);
        assert!(!media.is_poisoned(0, 4 * SECTOR));
    }
}
