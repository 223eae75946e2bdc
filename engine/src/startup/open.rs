//! Opening one namespace: from a configuration to a `Core` that serves.

use super::checkpoint;
use super::recovery::{Recovery, Restored};
use super::settle::{Counts, Media, Settlement};
use super::sweep::{BlockSweep, Swept, system_entries};
use crate::clock::{Clock, ForwardClock, Timestamp};
use crate::config::{DeviceConfig, NamespaceConfig};
use crate::device::{
    Device, DeviceOptions, Driver, FileDevice, MemoryDevice, OpenError, Request, SharedRing, context,
};
use crate::error::{Error, Result};
use crate::format::{CheckpointRoot, DeviceHeader};
use crate::index::Index;
use crate::namespace::core::{Core, StreamPlan};
use crate::namespace::{Checkpoints, Counters, Evictions, ReadCache, Sets, Snapshots, Tunables, Watermark};
use crate::planted::{self, Bug};
use crate::progress::{OpenPhase, OpenProgress};
use crate::signal::{Gate, Signal};
use crate::volume::{
    AppendClock, BlockId, DeviceSet, FormatOptions, FoundBlock, HeaderError, Volume, claim_devices,
    write_header,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Openings of a set that its epochs can tell apart: they have the upper 24 bits of each.
const MAX_INCARNATION: u64 = (1 << 24) - 1;

/// Numbers that only ever grow do not come near this in any life of a device. One that says so is a lie, and counting on
/// from it would begin anew at 0, below everything that is there.
const NO_SUCCESSOR: u64 = 1 << 63;

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
    let clock = Arc::new(ForwardClock::new(environment.clock.clone()));
    let media = Media { devices: &set.devices, headers: &set.headers };
    let (restored, last_incarnation, next_checkpoint) = if set.formatted {
        (new_and_empty(&set.headers), 0, 1)
    } else {
        // What the last run wrote may still be in a volatile cache: what is served from now on must not vanish.
        for device in set.devices.iter().filter(|_| !planted::is(Bug::NoFlushAtStart)) {
            device.submit(Request::Flush).wait().result?;
        }
        let (roots, next_checkpoint) = checkpoint::roots(&media);
        let by_roots = roots.iter().map(|root| root.incarnation).max().unwrap_or(0);
        clock.not_before(Timestamp(roots.iter().map(|root| root.written_ms).max().unwrap_or(0)));
        let roots = if config.use_checkpoint { roots } else { Vec::new() };
        (restore(&config.name, environment, &clock, &media, roots, &sets)?, by_roots, next_checkpoint)
    };
    if restored.max_sequence >= NO_SUCCESSOR {
        return Err(Error::Config(format!(
            "namespace '{}': a version with sequence number {} is on its devices; numbers end at \
             {NO_SUCCESSOR}, so nothing could be written after it. Restore the set from a backup",
            config.name, restored.max_sequence
        )));
    }
    begin_incarnation(&mut set, &restored.found, last_incarnation)?;
    finish(config, clock, set, sets, restored, next_checkpoint, start_ms)
}

fn new_and_empty(headers: &[DeviceHeader]) -> Restored {
    Restored {
        index: Index::new(),
        found: headers.iter().map(|h| vec![FoundBlock::Blank; h.block_count as usize]).collect(),
        used: headers.iter().map(|h| vec![0; h.block_count as usize]).collect(),
        max_sequence: 0,
        recovery: Recovery::default(),
        watermark: Watermark::default(),
        parts: Vec::new(),
    }
}

/// The index, from the newest checkpoint that can be used, or else from all blocks.
fn restore(
    name: &str,
    environment: &Environment,
    clock: &ForwardClock,
    media: &Media<'_>,
    roots: Vec<CheckpointRoot>,
    sets: &Sets,
) -> Result<Restored> {
    let (threads, progress) = (environment.recovery_threads, &*environment.progress);
    let mut rejected = 0;
    for root in roots {
        match checkpoint::restore(media, root, sets, clock, threads, progress)? {
            Ok(mut restored) => {
                restored.recovery.rejected_checkpoints = rejected;
                return Ok(restored);
            }
            Err(unusable) => {
                tracing::warn!("namespace {name}: checkpoint {} is not used: {unusable}", root.id);
                rejected += 1;
            }
        }
    }
    let Swept { index, found, max_sequence, latest, mut recovery } =
        BlockSweep::new(media, sets, None).run(threads, progress);
    progress.check()?;
    clock.not_before(latest);
    progress.enter(OpenPhase::Settling);
    recovery.rejected_checkpoints = rejected;
    let watermark = media.recover_thresholds(&found, &system_entries(&index), sets)?;
    let settlement = Settlement::new(media, sets, watermark, clock.now());
    let mut counts = Counts::default();
    let index = index.into_entries(|_, slot| settlement.judge(&mut counts, slot.entry, slot.sequence));
    settlement.add(&counts, &mut recovery);
    let (used, watermark) = settlement.into_used();
    Ok(Restored { index, found, used, max_sequence, recovery, watermark, parts: Vec::new() })
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

/// Gives the set a number of this run, higher than any that a header, a block or a root has seen.
///
/// First all headers get the number, then all get the word that they have it, and only then is anything written under it.
/// So a member whose header knows a lower number than is confirmed or in use anywhere is an older copy of what it was. Of the two
/// writes one goes to each copy of a header: whichever copy is lost, the other one has the number.
fn begin_incarnation(set: &mut DeviceSet, found: &[Vec<FoundBlock>], in_roots: u64) -> Result<()> {
    let in_blocks = found.iter().flatten().map(|block| block.epoch() >> 40);
    let confirmed = set.headers.iter().map(|header| header.confirmed);
    let in_use = in_blocks.chain(confirmed).chain([in_roots]).max().unwrap_or(0);
    for (device, header) in set.devices.iter().zip(&set.headers) {
        if header.incarnation < in_use && !planted::is(Bug::OldCopyAccepted) {
            let why = format!(
                "its header says that it was opened {} times, but its set was opened in run {in_use}: it is an older \
                 copy of itself. Bring back the newest copy of every device, or restore the set from a backup",
                header.incarnation
            );
            return Err(HeaderError::NotASet { name: device.geometry().name, why }.into());
        }
    }
    let raised = u64::from(!planted::is(Bug::IncarnationStays));
    let last = set.headers.iter().map(|header| header.incarnation).fold(in_use, u64::max);
    let highest_copy = set.headers.iter().map(|header| header.copy_sequence).max().unwrap_or(0);
    if last >= MAX_INCARNATION || highest_copy >= NO_SUCCESSOR {
        let name = set.devices[0].geometry().name;
        let why = format!(
            "its set has been opened {last} times and its headers written {highest_copy} times; no epoch is left for \
             another opening after {MAX_INCARNATION} of them. Copy the records to a new set"
        );
        return Err(HeaderError::NotASet { name, why }.into());
    }
    let incarnation = last + raised;
    for is_confirmed in [false, true] {
        for (device, header) in set.devices.iter().zip(&mut set.headers) {
            header.incarnation = incarnation;
            header.confirmed = if is_confirmed { incarnation } else { header.confirmed };
            write_header(device.as_ref(), header)?;
        }
    }
    Ok(())
}

fn finish(
    config: NamespaceConfig,
    clock: Arc<ForwardClock>,
    set: DeviceSet,
    sets: Sets,
    restored: Restored,
    next_checkpoint: u64,
    start_ms: u64,
) -> Result<(Arc<Core>, Recovery)> {
    let blocks = set.headers.iter().map(|header| header.block_count).min().unwrap_or(0);
    let plan = StreamPlan::for_blocks(blocks);
    let append_clock = Arc::new(AppendClock::starting_at(1));
    let flush_work = Arc::new(Signal::default());
    let block_size = set.headers.iter().map(|header| header.block_size).max().unwrap_or(1);
    let ram_limit = ram_blocks(&config, set.devices.len(), block_size, plan);
    let Restored { index, found, used, max_sequence, mut recovery, watermark, parts } = restored;
    let volumes: Box<[Volume]> = set
        .devices
        .into_iter()
        .zip(set.headers)
        .zip(&found)
        .map(|((device, header), found)| {
            let (clock, work) = (append_clock.clone(), flush_work.clone());
            Volume::new(device, header, found, usize::from(plan.count), ram_limit, clock, work)
        })
        .collect();
    for ((volume, found), used) in volumes.iter().zip(&found).zip(&used) {
        for (block, &size) in used.iter().enumerate().filter(|(_, size)| **size > 0) {
            volume.blocks.occupy(BlockId(block as u32), size);
        }
        volume.blocks.finish_recovery(found);
    }
    recovery.elapsed_ms = clock.mono_ms().saturating_sub(start_ms);
    let counters = Counters::default();
    counters.tombstones.store(recovery.tombstones, Ordering::Relaxed);
    let last_checkpoint = recovery.checkpoint.unwrap_or(0);
    let had_tail = recovery.versions > 0;
    let entries = recovery.checkpoint_entries;
    let checkpoints = Checkpoints::found(last_checkpoint, next_checkpoint, entries, had_tail, parts);
    let cache = ReadCache::new(config.read_cache_size);
    let core = Core {
        index,
        volumes,
        plan,
        sets,
        cache,
        clock,
        append_clock,
        next_sequence: AtomicU64::new(if planted::is(Bug::SequenceRestarts) { 1 } else { max_sequence + 1 }),
        gate: Gate::default(),
        flush_work,
        upkeep_work: Arc::new(Signal::default()),
        counters,
        checkpoints,
        snapshots: Snapshots::default(),
        short_lifespan: AtomicU64::new(u64::MAX),
        ttls: Default::default(),
        tunables: Tunables::of(&config),
        is_closed: AtomicBool::new(false),
        truncations: AtomicU64::new(0),
        swept_truncations: AtomicU64::new(0),
        evictions: Evictions::found(watermark),
        config,
    };
    core.report(&recovery);
    Ok((Arc::new(core), recovery))
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
            "namespace {name} on {devices}: {} records back in {} ms ({}; {} versions in {} blocks, {} of them \
             read whole; {} tombstones, {} expired, {} truncated, {} evicted)",
            recovery.records,
            recovery.elapsed_ms,
            match recovery.checkpoint {
                Some(id) => format!("checkpoint {id} with {} entries", recovery.checkpoint_entries),
                None => "without a checkpoint".to_owned(),
            },
            recovery.versions,
            recovery.blocks,
            recovery.scanned_blocks,
            recovery.tombstones,
            recovery.expired,
            recovery.truncated,
            recovery.evicted,
        );
        if recovery.damaged_blocks > 0 {
            tracing::error!(
                "namespace {name}: {} blocks could not be read, what they held may be missing",
                recovery.damaged_blocks
            );
        }
    }
}
