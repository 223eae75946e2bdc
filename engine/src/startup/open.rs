//! Opening one namespace: from a configuration to a `Core` that serves.

use super::sweep::{BlockSweep, Recovery, Swept};
use crate::clock::Clock;
use crate::config::{DeviceConfig, NamespaceConfig};
use crate::device::{
    AlignedBuffer, Device, DeviceOptions, Driver, FileDevice, MemoryDevice, OpenError, Request, SharedRing,
    context,
};
use crate::error::{Error, Result};
use crate::format::{BlockSalt, RecordView};
use crate::index::{Entry, Flags, Index, PartitionId, RecoverySlot};
use crate::namespace::core::{Core, Life, StreamPlan, Wanted, life};
use crate::namespace::{Counters, ReadCache, Record, RecordBytes, Sets, is_tombstone, threshold_of};
use crate::progress::{OpenPhase, OpenProgress};
use crate::signal::{Gate, Signal};
use crate::volume::{AppendClock, DeviceSet, FormatOptions, FoundBlock, Volume, claim_devices, write_header};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the engine is given from outside.
#[derive(Clone)]
pub(crate) struct Environment {
    pub clock: Arc<dyn Clock>,
    pub driver: Driver,
    pub shared_ring: Option<Arc<SharedRing>>,
    /// Where new device sets get their UUIDs from.
    pub seed: u64,
    pub recovery_threads: usize,
    pub progress: Arc<OpenProgress>,
}

/// Opens a namespace. Blocks until its index is whole.
pub(crate) fn open_namespace(
    config: NamespaceConfig,
    environment: &Environment,
) -> Result<(Arc<Core>, Recovery)> {
    config.check()?;
    context::blocking(|| open(config, environment))
}

fn open(config: NamespaceConfig, environment: &Environment) -> Result<(Arc<Core>, Recovery)> {
    let start_ms = environment.clock.mono_ms();
    environment.progress.check()?;
    environment.progress.enter(OpenPhase::Claiming);
    let devices = config.devices.iter().map(|d| open_device(d, environment)).collect::<Result<Vec<_>>>()?;
    let set_uuid = new_uuid(environment.seed, &config.name);
    let mut set = claim_devices(
        devices,
        &FormatOptions {
            namespace: &config.name,
            block_size: config.block_size,
            minimum_blocks: StreamPlan::MINIMUM_BLOCKS,
            set_uuid,
            now_ms: environment.clock.now().0,
        },
    )?;
    let sets = Sets::new(&config.name);
    let swept = if set.formatted {
        let found = set.headers.iter().map(|h| vec![FoundBlock::Blank; h.block_count as usize]).collect();
        Swept { index: Index::new(), found, max_sequence: 0, recovery: Recovery::default() }
    } else {
        // What the last run wrote may still be in a volatile cache: what is served from now on must not vanish.
        for device in &set.devices {
            device.submit(Request::Flush).wait().result?;
        }
        BlockSweep::new(&set.devices, &set.headers, &sets)
            .run(environment.recovery_threads, &environment.progress)
    };
    environment.progress.check()?;
    environment.progress.enter(OpenPhase::Settling);
    begin_incarnation(&mut set, &swept.found)?;
    finish(config, environment, set, sets, swept, start_ms)
}

fn open_device(config: &DeviceConfig, environment: &Environment) -> Result<Arc<dyn Device>> {
    let refused = |error: OpenError| Error::Config(error.to_string());
    match config {
        DeviceConfig::Handed(device) => Ok(device.clone()),
        DeviceConfig::Memory { size } => Ok(Arc::new(MemoryDevice::new("memory", *size))),
        DeviceConfig::Path { path, size } => {
            // A file that holds something keeps its size: one that was cut off must not be filled up again.
            let is_new = std::fs::metadata(path).map_or(true, |found| found.is_file() && found.len() == 0);
            let options = DeviceOptions {
                create: is_new,
                size: is_new.then_some(*size),
                driver: environment.driver,
                shared_ring: environment.shared_ring.clone(),
                ..DeviceOptions::new(path)
            };
            Ok(Arc::new(FileDevice::open(options).map_err(refused)?))
        }
    }
}

fn new_uuid(seed: u64, name: &str) -> [u8; 16] {
    let hash = |salt: u64| xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed ^ salt).to_le_bytes();
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&hash(0));
    uuid[8..].copy_from_slice(&hash(0x9E37_79B9_7F4A_7C15));
    uuid
}

fn epoch_of(block: &FoundBlock) -> u64 {
    match block {
        FoundBlock::Life { epoch, .. } => *epoch,
        FoundBlock::Blank | FoundBlock::Damaged => 0,
    }
}

/// Gives the set a number of this run, higher than any that a header or a block has seen.
fn begin_incarnation(set: &mut DeviceSet, found: &[Vec<FoundBlock>]) -> Result<()> {
    let in_headers = set.headers.iter().map(|header| header.incarnation);
    let in_blocks = found.iter().flatten().map(|block| epoch_of(block) >> 40);
    let incarnation = in_headers.chain(in_blocks).max().unwrap_or(0) + 1;
    for (device, header) in set.devices.iter().zip(&mut set.headers) {
        header.incarnation = incarnation;
        write_header(device.as_ref(), header)?;
    }
    Ok(())
}

/// The truncation thresholds: by set name, and (`None`) for all sets.
type Thresholds = HashMap<Option<String>, u64>;

fn read_thresholds(set: &DeviceSet, swept: &Swept) -> Result<Thresholds> {
    let mut thresholds = Thresholds::new();
    let mut found = Vec::new();
    for id in PartitionId::all() {
        let partition = swept.index.lock(id);
        let slots = partition.iter_from(None).filter(|slot| slot.entry.flags().contains(Flags::SYSTEM));
        found.extend(slots.map(|slot| (id, slot)));
    }
    for (partition, slot) in found {
        let wanted = Wanted { partition, tag: slot.entry.tag(), digest: None };
        if let Some((name, below)) = threshold_of(&read_record(set, swept, &wanted, &slot)?) {
            let threshold = thresholds.entry(name).or_default();
            *threshold = below.max(*threshold);
        }
    }
    Ok(thresholds)
}

/// Reads the record that a slot stands for.
fn read_record(set: &DeviceSet, swept: &Swept, wanted: &Wanted, slot: &RecoverySlot) -> Result<Record> {
    let location = slot.entry.location();
    let member = usize::from(location.device);
    let (device, header) = (&set.devices[member], &set.headers[member]);
    let sector = u64::from(device.geometry().sector_size);
    let (start, size) = (location.offset(), u64::from(slot.entry.size_class().bytes()));
    let from = start - start % sector;
    let buffer = AlignedBuffer::zeroed(((start + size).next_multiple_of(sector) - from) as usize);
    let buffer = device.submit(Request::Read { offset: from, buffer }).wait().into_buffer()?;
    let block_size = u64::from(header.block_size);
    let (block, pos) = ((start / block_size) as u32, (start % block_size) as u32);
    let epoch = epoch_of(&swept.found[member][block as usize]);
    let salt = BlockSalt::new(&header.set_uuid, header.member_index, block, epoch);
    let bytes = &buffer[(start - from) as usize..][..size as usize];
    let corrupt = |fault| Error::Corrupt {
        digest: wanted.name(),
        device: device.geometry().name.to_string(),
        block,
        offset: start,
        fault,
    };
    RecordView::parse(bytes, salt, pos).map_err(corrupt)?;
    Record::new(RecordBytes::Owned(bytes.to_vec())).map_err(corrupt)
}

fn finish(
    config: NamespaceConfig,
    environment: &Environment,
    set: DeviceSet,
    sets: Sets,
    swept: Swept,
    start_ms: u64,
) -> Result<(Arc<Core>, Recovery)> {
    let thresholds = read_thresholds(&set, &swept)?;
    let for_all = thresholds.get(&None).copied().unwrap_or(0);
    for one in sets.all() {
        let own = thresholds.get(&Some(one.name.to_string())).copied().unwrap_or(0);
        one.recover_threshold(own.max(for_all));
    }
    let blocks = set.headers.iter().map(|header| header.block_count).min().unwrap_or(0);
    let plan = StreamPlan::for_blocks(blocks);
    let append_clock = Arc::new(AppendClock::starting_at(1));
    let flush_work = Arc::new(Signal::default());
    let block_size = set.headers.iter().map(|header| header.block_size).max().unwrap_or(1);
    let ram_limit = ram_blocks(&config, set.devices.len(), block_size, plan);
    let Swept { index, found, max_sequence, mut recovery } = swept;
    let volumes: Box<[Volume]> = set
        .devices
        .into_iter()
        .zip(set.headers)
        .zip(&found)
        .map(|((device, header), found)| {
            let clock = append_clock.clone();
            Volume::new(device, header, found, usize::from(plan.count), ram_limit, clock, flush_work.clone())
        })
        .collect();
    let now = environment.clock.now();
    let mut tombstones = 0;
    let index = index.into_entries(|_, slot| {
        let entry = settle(&sets, slot, now, &mut recovery)?;
        let volume = &volumes[usize::from(entry.location().device)];
        volume.blocks.occupy(volume.place(entry.location()).0, entry.size_class().bytes());
        if is_tombstone(&entry) {
            tombstones += 1;
        } else if !entry.flags().contains(Flags::SYSTEM)
            && let Some(set) = sets.get(entry.set_id())
        {
            set.count(1, entry.void_time() != 0);
            recovery.records += 1;
        }
        Some(entry)
    });
    recovery.tombstones = tombstones;
    for (volume, found) in volumes.iter().zip(&found) {
        volume.blocks.finish_recovery(found);
    }
    recovery.elapsed_ms = environment.clock.mono_ms().saturating_sub(start_ms);
    let counters = Counters::default();
    counters.tombstones.store(tombstones, Ordering::Relaxed);
    let cache = ReadCache::new(config.read_cache_size);
    let core = Core {
        index,
        volumes,
        plan,
        sets,
        cache,
        clock: environment.clock.clone(),
        append_clock,
        next_sequence: AtomicU64::new(max_sequence + 1),
        gate: Gate::default(),
        flush_work,
        upkeep_work: Arc::new(Signal::default()),
        counters,
        short_lifespan: AtomicU64::new(u64::MAX),
        is_closed: AtomicBool::new(false),
        truncations: AtomicU64::new(0),
        swept_truncations: AtomicU64::new(0),
        config,
    };
    core.report(&recovery);
    Ok((Arc::new(core), recovery))
}

/// What becomes of the newest version of a key.
fn settle(
    sets: &Sets,
    slot: &RecoverySlot,
    now: crate::clock::Timestamp,
    recovery: &mut Recovery,
) -> Option<Entry> {
    let entry = slot.entry;
    if entry.flags().contains(Flags::SYSTEM) {
        return Some(entry);
    }
    if sets.get(entry.set_id()).is_some_and(|set| slot.sequence < set.truncated_below()) {
        recovery.truncated += 1;
        return None;
    }
    if life(entry.void_time(), now) != Life::Over {
        return Some(entry);
    }
    recovery.expired += 1;
    // An older version would still be alive: this one must go on hiding it.
    let masks = entry.flags().contains(Flags::OLDER_MAY_OUTLIVE);
    masks.then(|| entry.with_flags(entry.flags().with(Flags::TOMBSTONE)))
}

/// How many sealed blocks of one volume may be in RAM: the write cache's budget less the open blocks.
fn ram_blocks(config: &NamespaceConfig, devices: usize, block_size: u32, plan: StreamPlan) -> u32 {
    let share = config.write_cache_size / devices.max(1) as u64;
    let blocks = (share / u64::from(block_size)) as u32;
    blocks.saturating_sub(u32::from(plan.count)).max(2)
}

impl Core {
    fn report(&self, recovery: &Recovery) {
        let devices: Vec<String> = self.volumes.iter().map(|v| v.geometry().name.to_string()).collect();
        let (name, devices) = (&self.config.name, devices.join(", "));
        if recovery.blocks == 0 {
            tracing::info!("namespace {name} on {devices}: new and empty");
            return;
        }
        tracing::info!(
            "namespace {name} on {devices}: {} records back in {} ms ({} versions in {} blocks, {} of them read \
             whole; {} tombstones, {} expired, {} truncated)",
            recovery.records,
            recovery.elapsed_ms,
            recovery.versions,
            recovery.blocks,
            recovery.scanned_blocks,
            recovery.tombstones,
            recovery.expired,
            recovery.truncated,
        );
        if recovery.damaged_blocks > 0 {
            tracing::error!(
                "namespace {name}: {} blocks could not be read, what they held may be missing",
                recovery.damaged_blocks
            );
        }
    }
}
