//! A disk with a volatile cache, as far as a power cut can tell.
//!
//! ```text
//!   write ----------> view (what reads see) + cache (in the order of completion)
//!   durable write --> view + media, those sectors only
//!   flush ----------> media takes everything that is in the cache
//!   cut ------------> media + of the cache what the survival says
//! ```
//!
//! A durable write says nothing about older cached writes to other sectors: they stay volatile. To its own
//! sectors it puts an end to older cached versions, which can no longer reach the medium over it.

use crate::image::Image;
use crate::survival::{CachedWrite, Fate, Shape};
use std::collections::HashMap;
use std::sync::Arc;

struct Cached {
    offset: u64,
    data: Arc<[u8]>,
    in_flight: bool,
}

/// The disk.
pub struct Disk {
    media: Image,
    view: Image,
    cache: Vec<Cached>,
    sector_size: u32,
    /// Sectors that became durable by themselves: cached writes before this place in the cache are over for them.
    hardened: HashMap<u64, usize>,
    /// A disk that lies: it answers flushes and durable writes and does nothing about them.
    lies: bool,
}

impl Disk {
    /// A disk that holds `image`, durably. `sector_size` is what it writes at once, in bytes.
    pub fn new(image: Image, sector_size: u32) -> Self {
        let view = image.clone();
        Disk { media: image, view, cache: Vec::new(), sector_size, hardened: HashMap::new(), lies: false }
    }

    /// Makes the disk one that lies about durability.
    pub fn set_lies(&mut self, lies: bool) {
        self.lies = lies;
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.view.size()
    }

    /// Fills `into` with what a read sees: the newest bytes.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        self.view.read(offset, into);
    }

    /// Completes a write.
    pub fn write(&mut self, offset: u64, data: &[u8], durable: bool) {
        self.view.write(offset, data);
        if durable && !self.lies {
            self.media.write(offset, data);
            let end = self.cache.len();
            if end > 0 {
                self.sectors(offset, data.len()).for_each(|sector| {
                    self.hardened.insert(sector, end);
                });
            }
        } else {
            self.cache.push(Cached { offset, data: data.into(), in_flight: false });
        }
    }

    /// Notes a write that will never be answered. Only a cut may follow.
    pub fn write_in_flight(&mut self, offset: u64, data: &[u8]) {
        if offset + data.len() as u64 > self.size() {
            return;
        }
        self.cache.push(Cached { offset, data: data.into(), in_flight: true });
    }

    /// Makes everything that was completed durable.
    pub fn flush(&mut self) {
        if self.lies {
            return;
        }
        for cached in self.cache.drain(..) {
            self.media.copy_from(&self.view, cached.offset, cached.data.len());
        }
        self.hardened.clear();
    }

    /// The cache is gone, without a word: what a kernel does after a failed flush. Reads see the medium.
    pub fn drop_cache(&mut self) {
        self.cache.clear();
        self.hardened.clear();
        self.view = self.media.clone();
    }

    /// Cached writes that a cut could lose.
    pub fn cached_count(&self) -> usize {
        self.cache.len()
    }

    /// What is on the medium after a power cut now.
    pub fn after_cut(&self, shape: Shape, seed: u64) -> Image {
        let mut image = self.media.clone();
        let size = u64::from(self.sector_size);
        let writes: Vec<CachedWrite> = self
            .cache
            .iter()
            .map(|cached| CachedWrite {
                offset: cached.offset,
                sectors: self.sectors(cached.offset, cached.data.len()).count(),
                in_flight: cached.in_flight,
            })
            .collect();
        let fates = shape.fates(seed, self.sector_size, &writes);
        for (place, (cached, fates)) in self.cache.iter().zip(fates).enumerate() {
            let end = cached.offset + cached.data.len() as u64;
            for (sector, fate) in self.sectors(cached.offset, cached.data.len()).zip(fates) {
                if self.hardened.get(&sector).is_some_and(|&before| place < before) {
                    continue;
                }
                let from = (sector * size).max(cached.offset);
                let to = ((sector + 1) * size).min(end);
                let bytes = &cached.data[(from - cached.offset) as usize..(to - cached.offset) as usize];
                match fate {
                    Fate::Lost => {}
                    Fate::Kept => image.write(from, bytes),
                    Fate::Torn(kept) => image.write(from, &bytes[..bytes.len().min(kept as usize)]),
                }
            }
        }
        image
    }

    /// What reads see now, as an image: what a process that is killed leaves behind.
    pub fn view(&self) -> Image {
        self.view.clone()
    }

    fn sectors(&self, offset: u64, length: usize) -> std::ops::Range<u64> {
        let size = u64::from(self.sector_size);
        offset / size..(offset + length as u64).div_ceil(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk::new(Image::new(1 << 20), 512)
    }

    fn first(image: &Image, sector: u64) -> u8 {
        image.bytes(sector * 512, 1)[0]
    }

    #[test]
    fn a_write_is_seen_at_once_and_durable_after_a_flush() {
        let mut disk = disk();
        disk.write(0, &[1; 1024], false);
        let mut seen = [0; 1024];
        disk.read(0, &mut seen);
        assert_eq!(seen, [1; 1024]);
        assert_eq!(first(&disk.after_cut(Shape::Nothing, 1), 0), 0);
        assert_eq!(first(&disk.after_cut(Shape::All, 1), 1), 1);
        disk.flush();
        assert_eq!(first(&disk.after_cut(Shape::Nothing, 1), 1), 1);
        assert_eq!(disk.cached_count(), 0);
    }

    #[test]
    fn a_durable_write_makes_its_own_sectors_durable_and_no_others() {
        let mut disk = disk();
        disk.write(0, &[1; 512], false);
        disk.write(512, &[2; 512], true);
        let image = disk.after_cut(Shape::Nothing, 1);
        assert_eq!((first(&image, 0), first(&image, 1)), (0, 2));
    }

    #[test]
    fn an_older_cached_version_does_not_return_over_a_durable_one() {
        let mut disk = disk();
        disk.write(0, &[1; 1024], false);
        disk.write(0, &[2; 512], true);
        let image = disk.after_cut(Shape::All, 1);
        assert_eq!((first(&image, 0), first(&image, 1)), (2, 1));
        disk.write(0, &[3; 512], false);
        assert_eq!(first(&disk.after_cut(Shape::All, 1), 0), 3, "a newer cached version may");
        disk.flush();
        let image = disk.after_cut(Shape::Nothing, 1);
        assert_eq!((first(&image, 0), first(&image, 1)), (3, 1));
    }

    #[test]
    fn a_sector_holds_any_of_its_versions_after_a_cut() {
        let mut disk = disk();
        disk.write(0, &[1; 512], true);
        disk.write(0, &[2; 512], false);
        disk.write(0, &[3; 512], false);
        let found: std::collections::BTreeSet<u8> =
            (0..200).map(|seed| first(&disk.after_cut(Shape::Percent(50), seed), 0)).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_write_in_flight_is_there_or_not_or_torn_and_never_seen() {
        let mut disk = disk();
        disk.write(0, &[1; 512], true);
        disk.write_in_flight(0, &[2; 512]);
        let mut seen = [0; 512];
        disk.read(0, &mut seen);
        assert_eq!(seen, [1; 512]);
        let mut kinds = [0; 3];
        for seed in 0..2000 {
            let sector = disk.after_cut(Shape::Percent(50), seed).bytes(0, 512);
            let new = sector.iter().take_while(|&&byte| byte == 2).count();
            assert!(sector[new..].iter().all(|&byte| byte == 1));
            kinds[if new == 0 { 0 } else { 1 + usize::from(new < 512) }] += 1;
        }
        assert!(kinds.iter().all(|&count| count > 0), "{kinds:?}");
    }

    #[test]
    fn a_dropped_cache_leaves_the_medium() {
        let mut disk = disk();
        disk.write(0, &[1; 512], true);
        disk.write(0, &[2; 512], false);
        disk.drop_cache();
        disk.flush();
        assert_eq!((first(&disk.view(), 0), first(&disk.after_cut(Shape::All, 1), 0)), (1, 1));
    }

    #[test]
    fn a_disk_that_lies_loses_what_it_promised() {
        let mut disk = disk();
        disk.set_lies(true);
        disk.write(0, &[1; 512], true);
        disk.write(512, &[1; 512], false);
        disk.flush();
        let image = disk.after_cut(Shape::Nothing, 1);
        assert_eq!((first(&image, 0), first(&image, 1)), (0, 0));
    }
}
