//! The images that `recovery` damages, and changes to them that keep the checksums right.

use crate::targets::record::make_whole;
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockHeader, BlockSalt, CHECKPOINT_STREAM, CheckpointRoot, DeviceHeader,
    FOOTER_TRAILER_SIZE, FooterTrailer, LogItem, PART_PAYLOAD, PartHeader, ROOT_SIZE, hash, scan_log,
};
use aerolith_engine::{Bin, Clock, Timestamp, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::TestDevice;
use aerolith_tests::model::{Model, Version, bytes_of, key_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a block: the smallest there is.
pub const BLOCK_SIZE: u32 = 16 << 10;
/// How many keys there are.
pub const KEYS: u32 = 60;

/// The devices of a namespace as an engine left them.
pub struct Image {
    pub members: Vec<Vec<u8>>,
    /// When it ended.
    pub ended: Timestamp,
    /// Every value that each key ever had.
    pub written: Vec<Vec<u64>>,
    pub model: Model,
}

impl Image {
    /// The same, with these values written as well.
    pub fn with(&self, put: &[(u32, u64)]) -> Image {
        let mut written = self.written.clone();
        put.iter().for_each(|(key, value)| written[*key as usize].push(*value));
        Image { members: Vec::new(), ended: self.ended, written, model: Model::default() }
    }
}

/// One device that was cut off without a checkpoint; one with a checkpoint and a tail; two that were closed.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| vec![live(1, false, false), live(1, true, false), live(2, true, true)])
}

fn live(count: usize, checkpoint: bool, close: bool) -> Image {
    let mut rng = StdRng::seed_from_u64(count as u64 * 2 + u64::from(checkpoint));
    let devices: Vec<Arc<TestDevice>> = (0..count)
        .map(|i| Arc::new(TestDevice::new(&format!("memory-{i}"), 24 * u64::from(BLOCK_SIZE))))
        .collect();
    let mut world = World::on(devices.iter().map(|device| device.clone() as _).collect(), BLOCK_SIZE);
    world.open();
    let (mut model, mut written) = (Model::default(), vec![Vec::new(); KEYS as usize]);
    for number in 0..1200_u64 {
        let key = rng.random_range(0..KEYS);
        match rng.random_range(0..100) {
            0..60 => {
                let ttl = rng.random_bool(0.3).then(|| rng.random_range(1000..60_000));
                model.put(&mut world, key, number, ttl);
                written[key as usize].push(number);
            }
            60..70 => model.delete(&mut world, key),
            70..76 => {
                let other = (key + 1) % KEYS;
                let values = [bytes_of(key, number), bytes_of(other, number)];
                let bins: Vec<[Bin<'_>; 1]> = values.iter().map(|v| [("v", Value::Bytes(v))]).collect();
                let records = [(key_of(key), &bins[0][..]), (key_of(other), &bins[1][..])];
                let store = world.namespace();
                world.run(store.put_many(&records, &WritePolicy::default())).expect("a group");
                for key in [key, other] {
                    model.note(key, Version { value: Some(number), expires_ms: 0 });
                    written[key as usize].push(number);
                }
            }
            76..90 => world.clock.advance(Duration::from_millis(rng.random_range(1..200))),
            90..92 => {
                world.flush();
                model.all_durable();
            }
            _ => _ = world.engine().step(),
        }
        if number == 500 {
            let store = world.namespace();
            world.run(store.truncate(Some("keys"))).expect("a truncation");
            model.truncate();
        }
        if checkpoint && (number == 700 || number == 1000) {
            let store = world.namespace();
            assert!(world.run(store.checkpoint()).expect("a checkpoint"), "a checkpoint is complete");
        }
    }
    if close {
        world.config.checkpoint_period = Some(Duration::from_secs(60));
        world.close();
        model.all_durable();
    }
    let members = devices.iter().map(|device| device.with_state(|bytes| bytes.to_vec())).collect();
    let ended = world.clock.now();
    Image { members, ended, written, model }
}

/// A number that takes the place of a field, in a structure whose checksums are then made right.
pub struct Forge {
    pub block: u32,
    /// Which of several.
    pub nth: u8,
    /// Where in the structure, in bytes.
    pub at: u8,
    pub value: u64,
    /// How many bytes of it.
    pub size: usize,
}

impl Forge {
    fn store(&self, structure: &mut [u8]) {
        let at = usize::from(self.at) % structure.len();
        let size = self.size.min(structure.len() - at);
        structure[at..at + size].copy_from_slice(&self.value.to_le_bytes()[..size]);
    }

    /// The number of the block, where it starts, and its salt.
    fn place(&self, device: &[u8]) -> Option<(usize, BlockSalt, BlockHeader)> {
        let header = [0, 4096].iter().find_map(|at| DeviceHeader::parse(device.get(*at..)?).ok())?;
        let block = self.block % (device.len() as u32 / BLOCK_SIZE).max(1);
        let start = (block * BLOCK_SIZE) as usize;
        let head = BlockHeader::parse(device.get(start..)?).ok()?;
        let salt = BlockSalt::new(&header.set_uuid, header.member_index, block, head.epoch);
        Some((start, salt, head))
    }

    pub fn device_header(&self, device: &mut [u8]) -> Option<()> {
        let page = device.get_mut(usize::from(self.nth % 2) * 4096..)?.get_mut(..128)?;
        self.store(&mut page[..120]);
        let checksum = xxh3_64(&page[..120]);
        page[120..].copy_from_slice(&checksum.to_le_bytes());
        Some(())
    }

    pub fn block_header(&self, device: &mut [u8]) -> Option<()> {
        let (start, ..) = self.place(device)?;
        let header = &mut device[start..start + BLOCK_HEADER_SIZE as usize];
        self.store(&mut header[..56]);
        let checksum = xxh3_64(&header[..56]);
        header[56..].copy_from_slice(&checksum.to_le_bytes());
        Some(())
    }

    fn trailer_of(&self, device: &[u8]) -> Option<(usize, BlockSalt, FooterTrailer)> {
        let (start, salt, head) = self.place(device)?;
        let block = &device[start..start + BLOCK_SIZE as usize];
        let trailer = FooterTrailer::parse(block, salt, head.epoch, BLOCK_SIZE).ok()?;
        Some((start, salt, trailer))
    }

    fn seal_trailer(device: &mut [u8], start: usize, salt: BlockSalt, footer_size: u32) {
        let end = start + BLOCK_SIZE as usize;
        let trailer_at = end - FOOTER_TRAILER_SIZE as usize;
        let body = hash(0, &device[end - footer_size as usize..trailer_at]);
        let trailer = &mut device[trailer_at..end];
        trailer[48..56].copy_from_slice(&body.to_le_bytes());
        let checksum = xxh3_64(&trailer[..56]) ^ salt.at(BLOCK_SIZE - FOOTER_TRAILER_SIZE);
        trailer[56..].copy_from_slice(&checksum.to_le_bytes());
    }

    pub fn footer_entry(&self, device: &mut [u8]) -> Option<()> {
        let (start, salt, trailer) = self.trailer_of(device)?;
        let nth = u32::from(self.nth) % trailer.entry_count.max(1);
        let at = start + (BLOCK_SIZE - trailer.footer_size + nth * 32) as usize;
        self.store(&mut device[at..at + 32]);
        Self::seal_trailer(device, start, salt, trailer.footer_size);
        Some(())
    }

    pub fn trailer(&self, device: &mut [u8]) -> Option<()> {
        let (start, salt, trailer) = self.trailer_of(device)?;
        let at = start + (BLOCK_SIZE - FOOTER_TRAILER_SIZE) as usize;
        self.store(&mut device[at..at + 48]);
        Self::seal_trailer(device, start, salt, trailer.footer_size);
        Some(())
    }

    pub fn root(&self, device: &mut [u8]) -> Option<()> {
        let page = device.get_mut(8192 + usize::from(self.nth % 2) * 4096..)?.get_mut(..ROOT_SIZE)?;
        self.store(&mut page[8..ROOT_SIZE - 8]);
        let checksum = xxh3_64(&page[..ROOT_SIZE - 8]);
        page[ROOT_SIZE - 8..].copy_from_slice(&checksum.to_le_bytes());
        Some(())
    }

    /// The next block from `block` on that holds a part of a checkpoint, and its number of payload bytes.
    fn part_of(&self, device: &[u8]) -> Option<(usize, BlockSalt, usize)> {
        let count = device.len() as u32 / BLOCK_SIZE;
        (0..count).find_map(|i| {
            let (start, salt, head) = Forge { block: self.block + i, ..*self }.place(device)?;
            let size = u32::from_le_bytes(device[start + 96..start + 100].try_into().ok()?);
            let fits = head.stream == CHECKPOINT_STREAM && size <= BLOCK_SIZE - PART_PAYLOAD;
            fits.then_some((start, salt, size as usize))
        })
    }

    fn seal_part(device: &mut [u8], start: usize, salt: BlockSalt, size: usize) {
        let payload_at = start + PART_PAYLOAD as usize;
        let payload = hash(0, &device[payload_at..payload_at + size]) ^ salt.at(PART_PAYLOAD);
        let header = &mut device[start + BLOCK_HEADER_SIZE as usize..payload_at];
        header[40..48].copy_from_slice(&payload.to_le_bytes());
        let checksum = xxh3_64(&header[..56]) ^ salt.at(BLOCK_HEADER_SIZE);
        header[56..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// The header of a part, or an entry of its body.
    pub fn part(&self, device: &mut [u8]) -> Option<()> {
        let (start, salt, size) = self.part_of(device)?;
        if self.nth & 1 == 0 {
            let header = &mut device[start + BLOCK_HEADER_SIZE as usize..][..48];
            self.store(&mut header[16..40]);
        } else if size > 0 {
            let at = start + PART_PAYLOAD as usize + usize::from(self.nth / 2) * 24 % size;
            self.store(&mut device[at..start + PART_PAYLOAD as usize + size]);
        }
        Self::seal_part(device, start, salt, size);
        Some(())
    }

    /// A field of a summary, and the root's checksum of it.
    pub fn summary(&self, device: &mut [u8]) -> Option<()> {
        let root_at = 8192 + usize::from(self.nth % 2) * 4096;
        let root = CheckpointRoot::parse(device.get(root_at..)?).ok()?;
        let (start, salt, _) = Forge { block: root.summary_block, ..*self }.place(device)?;
        let (header, payload) =
            PartHeader::parse(&device[start..start + BLOCK_SIZE as usize], root.id, salt).ok()?;
        let (size, total) = (header.payload_size as usize, payload.len());
        if size as u64 != root.summary_size || total == 0 {
            return None;
        }
        let payload_at = start + PART_PAYLOAD as usize;
        let at = payload_at + usize::from(self.nth / 2) * 8 % size;
        self.store(&mut device[at..payload_at + size]);
        let checksum = hash(0, &device[payload_at..payload_at + size]);
        Self::seal_part(device, start, salt, size);
        device[root_at..root_at + ROOT_SIZE]
            .copy_from_slice(&CheckpointRoot { summary_checksum: checksum, ..root }.encode());
        Some(())
    }

    /// A summary of 64 MiB whose every part follows itself; says in how many roots.
    pub fn endless_summaries(device: &mut [u8]) -> usize {
        let forge = |nth: usize| {
            let root_at = 8192 + nth * 4096;
            let root = CheckpointRoot::parse(&device[root_at..]).ok()?;
            let whole = Forge { block: root.summary_block, nth: 0, at: 0, value: 0, size: 0 };
            let (start, salt, _) = whole.place(device)?;
            let (part, _) =
                PartHeader::parse(&device[start..start + BLOCK_SIZE as usize], root.id, salt).ok()?;
            let header = &mut device[start + BLOCK_HEADER_SIZE as usize..];
            header[16..24].copy_from_slice(&root.summary_epoch.to_le_bytes());
            header[24..28].copy_from_slice(&root.summary_block.to_le_bytes());
            Self::seal_part(device, start, salt, part.payload_size as usize);
            let root = CheckpointRoot { summary_size: 64 << 20, ..root };
            device[root_at..root_at + ROOT_SIZE].copy_from_slice(&root.encode());
            Some(())
        };
        [0, 1].into_iter().filter_map(forge).count()
    }

    /// A field of a record's header, or some of its content.
    pub fn record(&self, device: &mut [u8]) -> Option<()> {
        let (start, salt, _) = self.place(device)?;
        let mut records = Vec::new();
        scan_log(&device[start..start + BLOCK_SIZE as usize], salt, |item| {
            if let LogItem::Record(pos, record) = item {
                records.push((pos, record.header().length));
            }
        });
        let (pos, length) = *records.get(usize::from(self.nth) % records.len().max(1))?;
        let record = &mut device[start + pos as usize..][..length as usize];
        self.store(record);
        make_whole(&mut device[start + pos as usize..start + BLOCK_SIZE as usize], salt, pos);
        Some(())
    }
}
