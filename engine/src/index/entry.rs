//! What the index keeps of one record: 24 bytes, every bit of them spoken for.
//!
//! The partition (12 bits, known from where the entry lies) and the tag (68 bits, stored) are together the
//! first ten bytes of the digest, so an entry names its record without a read: among a billion keys the
//! chance that any two share these 80 bits is below one in two million.
//!
//! What always holds: a field never spills into another (the setters assert their ranges, in release too),
//! and an entry's tag never changes once made. A tag orders like its bytes: high 64 bits first.

use bytemuck::{Pod, Zeroable};
use std::fmt;

/// How many partitions a namespace has. Aerospike's clients compute with this number: it is not ours to choose.
pub const PARTITION_COUNT: usize = 4096;

/// One of the 4096 partitions: the low 12 bits of the digest's first little-endian word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(u16);

impl PartitionId {
    /// The partition with this number. Panics from 4096 on.
    pub const fn new(id: u16) -> PartitionId {
        assert!((id as usize) < PARTITION_COUNT, "partition out of range");
        PartitionId(id)
    }

    /// The partition a digest belongs to.
    #[inline]
    pub const fn of(digest: &[u8; 20]) -> PartitionId {
        PartitionId(u16::from_le_bytes([digest[0], digest[1]]) & (PARTITION_COUNT as u16 - 1))
    }

    /// All partitions in ascending order, which is the order of their locks.
    pub fn all() -> impl ExactSizeIterator<Item = PartitionId> {
        (0..PARTITION_COUNT as u16).map(PartitionId)
    }

    /// The number, 0..4096.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// 68 bits of the digest, disjoint from the partition's 12: bytes 2..10, then the upper half of byte 1.
///
/// Tags order by their high 64 bits, then by the low 4. The order is what tables and scan cursors go by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag {
    high: u64,
    low: u8,
}

impl Tag {
    /// The greatest tag there is.
    pub const MAX: Tag = Tag { high: u64::MAX, low: 15 };

    /// The tag of a digest.
    #[inline]
    pub const fn of(digest: &[u8; 20]) -> Tag {
        let d = digest;
        Tag { high: u64::from_be_bytes([d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9]]), low: d[1] >> 4 }
    }

    /// A tag from its parts: 64 high bits, and 4 low bits (0..16; panics beyond).
    pub const fn from_parts(high: u64, low: u8) -> Tag {
        assert!(low < 16, "a tag's low part has 4 bits");
        Tag { high, low }
    }

    /// The high 64 bits: what decides where in a table an entry lies.
    #[inline]
    pub const fn high(self) -> u64 {
        self.high
    }

    /// The low 4 bits.
    #[inline]
    pub const fn low(self) -> u8 {
        self.low
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:016x}.{:x})", self.high, self.low)
    }
}

/// Where a record lies: a device, and an offset on it in units of 16 bytes (so 32 TiB a device).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Location {
    /// Which device of the namespace: 0..64.
    pub device: u8,
    /// Offset on that device in 16-byte units: 41 bits.
    pub unit: u64,
}

impl Location {
    /// Bytes in one unit.
    pub const UNIT_SIZE: u64 = 16;

    /// The offset on the device, in bytes.
    pub const fn offset(self) -> u64 {
        self.unit * Self::UNIT_SIZE
    }
}

/// The stored size of a record, rounded up to one of 1024 classes.
///
/// Classes 0..128 are 16, 32, .. 2048 bytes. From there each octave has 64 steps, so that at most 1/64
/// is read in vain; class 959 is 16 MiB and the last, 1023, is 32 MiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SizeClass(u16);

impl SizeClass {
    /// How many classes there are.
    pub const COUNT: u16 = 1024;
    /// The largest size a class holds, in bytes.
    pub const MAX_SIZE: u32 = 32 << 20;

    /// The class with this number. Panics from 1024 on.
    pub const fn new(class: u16) -> SizeClass {
        assert!(class < Self::COUNT, "size class out of range");
        SizeClass(class)
    }

    /// The smallest class that holds `bytes` (0 counts as 1). Panics above 32 MiB.
    pub const fn for_size(bytes: u32) -> SizeClass {
        assert!(bytes <= Self::MAX_SIZE, "no size class is this large");
        if bytes <= 2048 {
            return SizeClass((bytes.saturating_sub(1) / 16) as u16);
        }
        let last = bytes - 1;
        let octave = last.ilog2() - 11;
        let step = (last >> (5 + octave)) - 64;
        SizeClass((128 + octave * 64 + step) as u16)
    }

    /// The size of this class in bytes: always a multiple of 16.
    pub const fn bytes(self) -> u32 {
        if self.0 < 128 {
            return (self.0 as u32 + 1) * 16;
        }
        let (octave, step) = ((self.0 as u32 - 128) / 64, (self.0 as u32 - 128) % 64);
        (64 + step + 1) << (5 + octave)
    }

    /// The largest class of at most `bytes`; the smallest one if none is.
    pub const fn largest_within(bytes: u32) -> SizeClass {
        let bytes = if bytes < Self::MAX_SIZE { bytes } else { Self::MAX_SIZE };
        let class = SizeClass::for_size(bytes);
        if class.bytes() > bytes && class.0 > 0 { SizeClass(class.0 - 1) } else { class }
    }

    /// The number of the class, 0..1024.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Five bits that an entry carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// The record is deleted; the entry stands for the durable fact.
    pub const TOMBSTONE: Flags = Flags(1);
    /// An older version of the record would expire later than this one: its expiry needs a tombstone.
    pub const OLDER_MAY_OUTLIVE: Flags = Flags(2);
    /// The parity that the record's set had when it was written: a truncation flips the set's, and entries
    /// with the other one are gone (`namespace/sets.rs`).
    pub const PARITY: Flags = Flags(4);
    /// A system fact, not a user's record.
    pub const SYSTEM: Flags = Flags(8);
    /// A tombstone that has been there since a scrub pass began, and of which the pass has found no older
    /// version yet (`jobs/scrub`). In the entry of a record: written while a watermark is being applied, and above it
    /// (`namespace/eviction.rs`). In RAM only: whoever replaces the entry makes flags of its own.
    pub const CANDIDATE: Flags = Flags(16);

    /// Flags from their bits, 0..32. Panics beyond.
    pub const fn from_bits(bits: u8) -> Flags {
        assert!(bits < 32, "an entry has 5 flags");
        Flags(bits)
    }

    /// The bits, 0..32.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`.
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// These flags except `other`.
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// One record in the index. Three words, low bits on the right:
///
/// ```text
///         63                                                                             0
/// tag     |                             tag, high 64 bits                                |
///
///         63  62 | 61   57 | 56       47 | 46       41 | 40                              0
/// place   | 0 |P | flags 5 | size cl. 10 | device 6    | unit 41 (offset / 16)           |
///
///         63  60 | 59            48 | 47               32 | 31                           0
/// life    |tag lo| set id 12        | generation 16       | void-time 32                 |
/// ```
/// P: present. An empty slot has it clear, and a tag of all ones so that a search stops there.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    tag: u64,
    place: u64,
    life: u64,
}

const _: () = assert!(size_of::<Entry>() == 24 && align_of::<Entry>() == 8);
const _: () = assert!(std::mem::offset_of!(Entry, tag) == 0);
const _: () = assert!(std::mem::offset_of!(Entry, place) == 8);
const _: () = assert!(std::mem::offset_of!(Entry, life) == 16);

/// A run of bits in a word.
struct Field {
    shift: u32,
    width: u32,
}

const UNIT: Field = Field { shift: 0, width: 41 };
const DEVICE: Field = Field { shift: 41, width: 6 };
const SIZE_CLASS: Field = Field { shift: 47, width: 10 };
const FLAGS: Field = Field { shift: 57, width: 5 };
const PRESENT: u64 = 1 << 62;

const VOID_TIME: Field = Field { shift: 0, width: 32 };
const GENERATION: Field = Field { shift: 32, width: 16 };
const SET_ID: Field = Field { shift: 48, width: 12 };
const TAG_LOW: Field = Field { shift: 60, width: 4 };

impl Field {
    const fn mask(&self) -> u64 {
        (1 << self.width) - 1
    }

    const fn of(&self, word: u64) -> u64 {
        word >> self.shift & self.mask()
    }

    const fn put(&self, word: u64, value: u64) -> u64 {
        assert!(value <= self.mask(), "the value does not fit its bits of an index entry");
        word & !(self.mask() << self.shift) | value << self.shift
    }
}

impl Entry {
    /// What an empty slot holds.
    pub const EMPTY: Entry = Entry { tag: u64::MAX, place: 0, life: 0 };

    /// An entry of generation 0 that never expires, in set 0, without flags. Panics when the location does
    /// not fit (device from 64 on, unit from 2^41 on).
    pub const fn new(tag: Tag, location: Location, size_class: SizeClass) -> Entry {
        let entry = Entry { tag: tag.high, place: PRESENT, life: TAG_LOW.put(0, tag.low as u64) };
        entry.with_location(location).with_size_class(size_class)
    }

    /// The three words, as a checkpoint stores them: another layout is another format version.
    pub const fn words(&self) -> [u64; 3] {
        [self.tag, self.place, self.life]
    }

    /// The entry that these words are; none if they stand for no entry.
    pub const fn from_words(words: [u64; 3]) -> Option<Entry> {
        let [tag, place, life] = words;
        if place >> 62 == 1 { Some(Entry { tag, place, life }) } else { None }
    }

    /// The tag, which never changes.
    #[inline]
    pub const fn tag(&self) -> Tag {
        Tag { high: self.tag, low: TAG_LOW.of(self.life) as u8 }
    }

    /// Whether this is no entry but an empty slot.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.place & PRESENT == 0
    }

    /// Where the record lies.
    pub const fn location(&self) -> Location {
        Location { device: DEVICE.of(self.place) as u8, unit: UNIT.of(self.place) }
    }

    /// The class of its stored size.
    pub const fn size_class(&self) -> SizeClass {
        SizeClass(SIZE_CLASS.of(self.place) as u16)
    }

    /// The flags.
    pub const fn flags(&self) -> Flags {
        Flags(FLAGS.of(self.place) as u8)
    }

    /// How often the record was written, modulo 2^16 as the namespace counts it.
    pub const fn generation(&self) -> u16 {
        GENERATION.of(self.life) as u16
    }

    /// When it expires, in seconds since 2010-01-01 UTC; 0 is never.
    pub const fn void_time(&self) -> u32 {
        VOID_TIME.of(self.life) as u32
    }

    /// Its set: 0..4096.
    pub const fn set_id(&self) -> u16 {
        SET_ID.of(self.life) as u16
    }

    /// The same entry at another place. Panics when the location does not fit.
    pub const fn with_location(mut self, location: Location) -> Entry {
        self.place = DEVICE.put(UNIT.put(self.place, location.unit), location.device as u64);
        self
    }

    /// The same entry with another size.
    pub const fn with_size_class(mut self, class: SizeClass) -> Entry {
        self.place = SIZE_CLASS.put(self.place, class.0 as u64);
        self
    }

    /// The same entry with these flags and no others.
    pub const fn with_flags(mut self, flags: Flags) -> Entry {
        self.place = FLAGS.put(self.place, flags.0 as u64);
        self
    }

    /// The same entry with another generation.
    pub const fn with_generation(mut self, generation: u16) -> Entry {
        self.life = GENERATION.put(self.life, generation as u64);
        self
    }

    /// The same entry with another void-time (seconds since 2010-01-01 UTC; 0 is never).
    pub const fn with_void_time(mut self, void_time: u32) -> Entry {
        self.life = VOID_TIME.put(self.life, void_time as u64);
        self
    }

    /// The same entry in another set. Panics from 4096 on.
    pub const fn with_set_id(mut self, set_id: u16) -> Entry {
        self.life = SET_ID.put(self.life, set_id as u64);
        self
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Entry(empty)");
        }
        f.debug_struct("Entry")
            .field("tag", &self.tag())
            .field("location", &self.location())
            .field("size", &self.size_class().bytes())
            .field("generation", &self.generation())
            .field("void_time", &self.void_time())
            .field("set_id", &self.set_id())
            .field("flags", &self.flags())
            .finish()
    }
}

/// What a table holds. Two things are: an [`Entry`], and during a cold start a [`RecoverySlot`].
///
/// Plain words: a multiple of 8 bytes that divides 384, whose first eight are the tag's high bits, native
/// endian, all ones when empty. The tables check the sizes when they are compiled.
pub trait Slot: Pod + Send + Sync + PartialEq + fmt::Debug + 'static {
    /// What an empty slot holds.
    const EMPTY: Self;

    /// The tag of the record it stands for.
    fn tag(&self) -> Tag;

    /// Whether it stands for no record.
    fn is_empty(&self) -> bool;
}

impl Slot for Entry {
    const EMPTY: Entry = Entry::EMPTY;

    #[inline]
    fn tag(&self) -> Tag {
        Entry::tag(self)
    }

    #[inline]
    fn is_empty(&self) -> bool {
        Entry::is_empty(self)
    }
}

/// An entry with the sequence number that decides which version is newest, which only a cold start needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct RecoverySlot {
    /// The entry as found so far.
    pub entry: Entry,
    /// The namespace-wide sequence number of the version it came from.
    pub sequence: u64,
}

const _: () = assert!(size_of::<RecoverySlot>() == 32 && std::mem::offset_of!(RecoverySlot, entry) == 0);

impl Slot for RecoverySlot {
    const EMPTY: RecoverySlot = RecoverySlot { entry: Entry::EMPTY, sequence: 0 };

    #[inline]
    fn tag(&self) -> Tag {
        self.entry.tag()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.entry.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of an entry's fields, in the order of the arrays below.
    fn fields(e: &Entry) -> [u64; 9] {
        let Location { device, unit } = e.location();
        [
            e.tag().high(),
            e.tag().low() as u64,
            device as u64,
            unit,
            e.size_class().get() as u64,
            e.flags().bits() as u64,
            e.generation() as u64,
            e.void_time() as u64,
            e.set_id() as u64,
        ]
    }

    fn entry(f: [u64; 9]) -> Entry {
        // Set twice, first to the opposite, so that a setter which only adds bits is found out.
        let location =
            |flip: u64| Location { device: (f[2] ^ flip & 63) as u8, unit: f[3] ^ flip & ((1 << 41) - 1) };
        let set = |e: Entry, flip: u64| {
            e.with_location(location(flip))
                .with_size_class(SizeClass::new((f[4] ^ flip & 1023) as u16))
                .with_flags(Flags::from_bits((f[5] ^ flip & 31) as u8))
                .with_generation((f[6] ^ flip & 0xffff) as u16)
                .with_void_time((f[7] ^ flip & 0xffff_ffff) as u32)
                .with_set_id((f[8] ^ flip & 4095) as u16)
        };
        set(set(Entry::new(Tag::from_parts(f[0], f[1] as u8), location(0), SizeClass::new(0)), u64::MAX), 0)
    }

    #[test]
    fn every_field_holds_its_extremes_and_touches_no_other() {
        let max = [u64::MAX, 15, 63, (1 << 41) - 1, 1023, 31, 0xffff, 0xffff_ffff, 4095];
        for background in [[0; 9], max] {
            for field in 0..9 {
                for value in [0, 1, max[field] / 2, max[field] / 2 + 1, max[field] - 1, max[field]] {
                    let mut wanted = background;
                    wanted[field] = value;
                    let entry = entry(wanted);
                    assert_eq!(fields(&entry), wanted, "field {field}");
                    assert!(!entry.is_empty());
                }
            }
        }
        assert!(Entry::EMPTY.is_empty());
        assert_ne!(Entry::EMPTY, entry(max), "the greatest entry is not taken for an empty slot");
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let entry = entry([0; 9]);
        let refuses = |f: fn(Entry) -> Entry| assert!(std::panic::catch_unwind(|| f(entry)).is_err());
        refuses(|e| e.with_location(Location { device: 64, unit: 0 }));
        refuses(|e| e.with_location(Location { device: 0, unit: 1 << 41 }));
        refuses(|e| e.with_set_id(4096));
    }

    #[test]
    fn tag_and_partition_together_are_the_first_80_bits_of_the_digest() {
        for bit in 0..160 {
            let mut digest = [0; 20];
            digest[bit / 8] = 1 << (bit % 8);
            let of_partition = PartitionId::of(&digest).get().count_ones();
            let of_tag = Tag::of(&digest).high().count_ones() + Tag::of(&digest).low().count_ones();
            let wanted = if bit < 12 { (1, 0) } else { (0, (bit < 80) as u32) };
            assert_eq!((of_partition, of_tag), wanted, "bit {bit}");
        }
        let digest = [0x34, 0xa2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(PartitionId::of(&digest), PartitionId::new(0x234));
        assert_eq!(Tag::of(&digest), Tag::from_parts(0x0102_0304_0506_0708, 0xa));
    }

    #[test]
    fn every_size_up_to_16_mib_has_the_smallest_class_that_holds_it() {
        let mut class = SizeClass::for_size(1);
        for size in 1..=16 << 20 {
            if class.bytes() < size {
                assert_eq!(SizeClass::for_size(size), SizeClass::new(class.get() + 1), "size {size}");
                class = SizeClass::new(class.get() + 1);
            } else {
                assert_eq!(SizeClass::for_size(size), class, "size {size}");
            }
            let waste = class.bytes().checked_sub(size).expect("a class holds its sizes");
            assert!(
                if size <= 2048 { waste < 16 } else { waste <= size / 64 },
                "size {size}: {waste} in vain"
            );
        }
        assert_eq!(class, SizeClass::new(959));
        for class in 0..1024 {
            let class = SizeClass::new(class);
            assert_eq!((class.bytes() % 16, SizeClass::for_size(class.bytes())), (0, class));
        }
        assert_eq!(SizeClass::new(1023).bytes(), SizeClass::MAX_SIZE);
        for class in 1..SizeClass::COUNT {
            let (class, below) = (SizeClass::new(class), SizeClass::new(class - 1));
            assert_eq!(SizeClass::largest_within(class.bytes()), class);
            assert_eq!(SizeClass::largest_within(class.bytes() - 1), below);
        }
        assert_eq!(SizeClass::largest_within(u32::MAX).bytes(), SizeClass::MAX_SIZE);
    }
}
