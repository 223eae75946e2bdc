//! Everything that the server can tell of itself at one moment: the document that `/stats` sends, and what `/metrics` is
//! made of. What a field means is told in `docs/OPERATIONS.md`, which a test holds to this file.
//!
//! A value is computed in one place: the engine's `Stats`, the workers' counters, or here; INFO shows the same ones in
//! Redis's names. Figures of the data are zeros until it is there.

use crate::latency::kinds;
use crate::opening::HowFar;
use crate::process::{cpu_seconds, resident_size};
use crate::shared::Shared;
use crate::store::stats::{BlockPicture, BlockState, DeviceStats, Latencies, TTL_BOUNDS_S};
use crate::store::{Store, StoreStats};
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;

/// How many slow commands are shown.
const SLOW_SHOWN: usize = 20;

/// Durations in short, in microseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Summary {
    pub(crate) fn of(latencies: &Latencies) -> Summary {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let count = latencies.count();
        Summary {
            count,
            mean_us: if count == 0 { 0.0 } else { us(latencies.nanoseconds()) / count as f64 },
            p50_us: us(latencies.quantile_ns(0.5)),
            p90_us: us(latencies.quantile_ns(0.9)),
            p99_us: us(latencies.quantile_ns(0.99)),
            p999_us: us(latencies.quantile_ns(0.999)),
            max_us: us(latencies.longest_ns()),
        }
    }
}

/// What only goes up and is compared with itself some seconds later.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When, in seconds since the start.
    pub(crate) at_s: f64,
    /// One sum for each of [`kinds`].
    pub(crate) operations: Vec<Latencies>,
    pub(crate) commits: Latencies,
}

/// What happened between two samples.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Recent {
    #[serde(rename = "recent_s")]
    pub(crate) seconds: f64,
    #[serde(skip)]
    pub(crate) operations: Vec<Latencies>,
    #[serde(skip)]
    pub(crate) commits: Latencies,
}

impl Recent {
    pub(crate) fn between(earlier: &Sample, later: &Sample) -> Recent {
        let pairs = later.operations.iter().zip(&earlier.operations);
        Recent {
            seconds: later.at_s - earlier.at_s,
            operations: pairs.map(|(now, before)| now.since(before)).collect(),
            commits: later.commits.since(&earlier.commits),
        }
    }
}

/// See the head of this file.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) version: &'static str,
    pub(crate) state: &'static str,
    pub(crate) time_ms: u64,
    pub(crate) uptime_s: f64,
    #[serde(flatten)]
    pub(crate) recent: Recent,
    pub(crate) process: Process,
    pub(crate) connections: Connections,
    pub(crate) operations: Vec<Operation>,
    pub(crate) commits: Commits,
    pub(crate) records: Records,
    pub(crate) ttl: TimesToLive,
    pub(crate) reads: Reads,
    pub(crate) memory: Memory,
    pub(crate) space: Space,
    pub(crate) queues: Queues,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) scrub: Scrub,
    pub(crate) errors: Errors,
    pub(crate) devices: Vec<Device>,
    pub(crate) loading: Loading,
    pub(crate) slow: SlowCommands,
}

#[derive(Debug, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) workers: usize,
    pub(crate) cpu_user_s: f64,
    pub(crate) cpu_system_s: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) redis: u64,
    pub(crate) max: u64,
    pub(crate) blocked: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) closed_slow: u64,
    pub(crate) panics: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) protocol: &'static str,
    pub(crate) class: &'static str,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) recent: Summary,
    pub(crate) total: Summary,
    #[serde(skip)]
    pub(crate) latencies: Latencies,
}

#[derive(Debug, Serialize)]
pub(crate) struct Commits {
    pub(crate) recent: Summary,
    pub(crate) total: Summary,
    #[serde(skip)]
    pub(crate) latencies: Latencies,
}

#[derive(Debug, Serialize)]
pub(crate) struct Records {
    pub(crate) objects: u64,
    pub(crate) expiring: u64,
    pub(crate) tombstones: u64,
    pub(crate) tombstones_removed: u64,
    pub(crate) written: u64,
    pub(crate) deleted: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
    pub(crate) evicted_below_ms: u64,
    pub(crate) overwritten_in_place: u64,
    pub(crate) moved: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct TimesToLive {
    pub(crate) bounds_s: Vec<u64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) never: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Reads {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) write_buffer: u64,
    pub(crate) post_write_cache: u64,
    pub(crate) read_cache: u64,
    pub(crate) device: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) index_bytes_per_record: f64,
    pub(crate) write_buffer_bytes: u64,
    pub(crate) post_write_cache_bytes: u64,
    pub(crate) read_cache_bytes: u64,
    pub(crate) other_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Space {
    pub(crate) device_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) used_bytes: u64,
    pub(crate) used_limit_bytes: u64,
    pub(crate) write_amplification: f64,
    pub(crate) space_amplification: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Queues {
    pub(crate) flush_blocks: u64,
    pub(crate) settling_blocks: u64,
    pub(crate) defrag_blocks: u64,
    pub(crate) defragged_blocks: u64,
    pub(crate) oldest_unflushed_ms: u64,
    pub(crate) writer_waits: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Checkpoint {
    pub(crate) id: u64,
    pub(crate) entries: u64,
    pub(crate) blocks: u64,
    pub(crate) written: u64,
    pub(crate) skipped: u64,
    pub(crate) written_ms: u64,
    pub(crate) is_writing: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Scrub {
    pub(crate) passes: u64,
    pub(crate) pass_blocks: u64,
    pub(crate) blocks: u64,
    pub(crate) bytes: u64,
    pub(crate) faults: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Errors {
    pub(crate) device_errors: u64,
    pub(crate) failed_devices: u64,
    pub(crate) corrupt_records: u64,
    pub(crate) writes_refused: u64,
    pub(crate) failed_commands: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Device {
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) free_blocks: u64,
    pub(crate) used_bytes: u64,
    pub(crate) fresh_bytes: u64,
    pub(crate) moved_bytes: u64,
    pub(crate) footer_bytes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) errors: u64,
    pub(crate) latched: Option<String>,
    pub(crate) states: States,
}

/// What a block is, for who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Free,
    Open,
    Flushing,
    Sealed,
    Settling,
    Checkpoint,
    Defrag,
    Damaged,
}

impl Shown {
    pub(crate) fn of(block: &BlockPicture) -> Shown {
        match block.info.state {
            _ if block.info.is_damaged => Shown::Damaged,
            BlockState::Sealed if block.is_victim => Shown::Defrag,
            BlockState::Free => Shown::Free,
            BlockState::Open => Shown::Open,
            BlockState::Flushing => Shown::Flushing,
            BlockState::Sealed => Shown::Sealed,
            BlockState::Settling => Shown::Settling,
            BlockState::Held => Shown::Checkpoint,
        }
    }
}

/// How many blocks are what.
#[derive(Debug, Default, Serialize)]
pub(crate) struct States {
    pub(crate) free: u64,
    pub(crate) open: u64,
    pub(crate) flushing: u64,
    pub(crate) sealed: u64,
    pub(crate) settling: u64,
    pub(crate) checkpoint: u64,
    pub(crate) defrag: u64,
    pub(crate) damaged: u64,
}

impl States {
    pub(crate) fn of(blocks: &[BlockPicture]) -> States {
        let mut states = States::default();
        for block in blocks {
            *match Shown::of(block) {
                Shown::Free => &mut states.free,
                Shown::Open => &mut states.open,
                Shown::Flushing => &mut states.flushing,
                Shown::Sealed => &mut states.sealed,
                Shown::Settling => &mut states.settling,
                Shown::Checkpoint => &mut states.checkpoint,
                Shown::Defrag => &mut states.defrag,
                Shown::Damaged => &mut states.damaged,
            } += 1;
        }
        states
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Loading {
    pub(crate) is_loading: bool,
    pub(crate) phase: &'static str,
    pub(crate) percent: f64,
    pub(crate) blocks: u64,
    pub(crate) blocks_done: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_done: u64,
    pub(crate) versions: u64,
    pub(crate) eta_s: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SlowCommands {
    pub(crate) threshold_us: i64,
    pub(crate) count: u64,
    pub(crate) newest: Vec<SlowCommand>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SlowCommand {
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) us: u64,
    pub(crate) protocol: &'static str,
    pub(crate) command: String,
    pub(crate) client: String,
}

/// What is counted now, to be compared with later.
pub(crate) fn sample(shared: &Shared) -> Sample {
    Sample {
        at_s: shared.started.elapsed().as_secs_f64(),
        operations: shared.latencies(),
        commits: shared.opening.store().map(|store| store.stats().engine.commits).unwrap_or_default(),
    }
}

impl Figures {
    /// The figures now; `recent` is what the last seconds were.
    pub(crate) fn of(shared: &Shared, recent: Recent) -> Figures {
        let store = shared.opening.store();
        let StoreStats { engine: stats, .. } = store.map(Store::stats).unwrap_or_default();
        let counters = &stats.counters;
        let (cpu_user_s, cpu_system_s) = cpu_seconds();
        let resident_bytes = resident_size();
        let known = stats.index_size + stats.write_buffer_size + stats.post_write_size + stats.cache_size;
        let entries = stats.objects + stats.tombstones;
        let per_record = if entries == 0 { 0.0 } else { stats.index_size as f64 / entries as f64 };
        let operations = kinds().zip(shared.latencies()).zip(&recent.operations);
        let operations = operations.map(|(((protocol, class), total), recent_latencies)| Operation {
            protocol: protocol.name(),
            class: class.name(),
            count: total.count(),
            per_second: recent_latencies.count() as f64 / recent.seconds.max(0.001),
            recent: Summary::of(recent_latencies),
            total: Summary::of(&total),
            latencies: total,
        });
        let failed = |counters: &crate::counters::Counters| -> u64 {
            counters.commands.iter().map(|command| command.failed.get()).sum()
        };
        let devices = stats.devices.iter().enumerate();
        let devices = devices
            .map(|(at, device)| Device::of(device, &store.map(|store| store.blocks(at)).unwrap_or_default()));
        Figures {
            version: env!("CARGO_PKG_VERSION"),
            state: shared.opening.state().name(),
            time_ms: crate::clock::unix_ms(),
            uptime_s: shared.started.elapsed().as_secs_f64(),
            process: Process {
                pid: std::process::id(),
                workers: shared.config.threads,
                cpu_user_s,
                cpu_system_s,
            },
            connections: Connections {
                redis: shared.clients.count() as u64,
                max: shared.max_connections.load(Relaxed) as u64,
                blocked: shared.blocked.load(Relaxed) as u64,
                accepted: shared.sum(|c| c.connections.get()),
                rejected: shared.rejected.get(),
                protocol_errors: shared.sum(|c| c.protocol_errors.get()),
                closed_slow: shared.sum(|c| c.closed_slow.get()),
                panics: shared.sum(|c| c.panics.get()),
                received_bytes: shared.sum(|c| c.received.get()),
                sent_bytes: shared.sum(|c| c.sent.get()),
            },
            operations: operations.collect(),
            commits: Commits {
                recent: Summary::of(&recent.commits),
                total: Summary::of(&stats.commits),
                latencies: stats.commits.clone(),
            },
            records: Records {
                objects: stats.objects,
                expiring: stats.expiring,
                tombstones: stats.tombstones,
                tombstones_removed: counters.tombstones_removed,
                written: counters.writes,
                deleted: counters.deletes,
                expired: counters.expired,
                evicted: counters.evicted,
                evicted_below_ms: stats.evicted_below_ms,
                overwritten_in_place: stats.overwritten_in_place,
                moved: counters.moved,
            },
            ttl: TimesToLive {
                bounds_s: TTL_BOUNDS_S.to_vec(),
                counts: store.map(|store| store.ttl_histogram().to_vec()).unwrap_or_default(),
                never: stats.objects.saturating_sub(stats.expiring),
            },
            reads: Reads {
                hits: counters.hits,
                misses: counters.misses,
                write_buffer: counters.write_buffer_reads,
                post_write_cache: counters.post_write_reads,
                read_cache: counters.cache_reads,
                device: counters.device_reads,
            },
            memory: Memory {
                resident_bytes,
                index_bytes: stats.index_size,
                index_bytes_per_record: per_record,
                write_buffer_bytes: stats.write_buffer_size,
                post_write_cache_bytes: stats.post_write_size,
                read_cache_bytes: stats.cache_size,
                other_bytes: resident_bytes.saturating_sub(known),
            },
            space: Space {
                device_bytes: stats.device_size,
                free_bytes: stats.free_size,
                used_bytes: stats.used_size,
                used_limit_bytes: stats.used_limit,
                write_amplification: stats.write_amplification(),
                space_amplification: stats.space_amplification(),
            },
            queues: Queues {
                flush_blocks: stats.unwritten_blocks,
                settling_blocks: stats.settling_blocks,
                defrag_blocks: stats.defrag_shortage_blocks,
                defragged_blocks: counters.defragged_blocks,
                oldest_unflushed_ms: stats.oldest_unflushed_ms,
                writer_waits: counters.waited,
            },
            checkpoint: Checkpoint {
                id: stats.checkpoint_id,
                entries: stats.checkpoint_entries,
                blocks: stats.checkpoint_blocks,
                written: stats.checkpoints_written,
                skipped: stats.checkpoints_skipped,
                written_ms: stats.checkpoint_written_ms,
                is_writing: stats.is_writing_checkpoint,
            },
            scrub: Scrub {
                passes: counters.scrub_passes,
                pass_blocks: stats.scrub_pass_blocks,
                blocks: counters.scrubbed_blocks,
                bytes: counters.scrubbed_size,
                faults: counters.scrub_faults,
            },
            errors: Errors {
                device_errors: stats.device_errors,
                failed_devices: stats.failed_devices,
                corrupt_records: counters.corrupt,
                writes_refused: counters.refused,
                failed_commands: shared.sum(failed),
            },
            devices: devices.collect(),
            loading: Loading::of(shared.opening.how_far(), store.is_none()),
            slow: SlowCommands::of(shared),
            recent,
        }
    }
}

impl Device {
    fn of(stats: &DeviceStats, blocks: &[BlockPicture]) -> Device {
        Device {
            path: stats.name.clone(),
            size_bytes: stats.size,
            block_bytes: stats.block_size,
            blocks: stats.blocks,
            free_blocks: stats.free_blocks,
            used_bytes: stats.used_size,
            fresh_bytes: stats.fresh_size,
            moved_bytes: stats.moved_size,
            footer_bytes: stats.footer_size,
            read_bytes: stats.read_size,
            written_bytes: stats.written_size,
            reads: stats.reads,
            writes: stats.writes,
            errors: stats.errors,
            latched: stats.latched.clone(),
            states: States::of(blocks),
        }
    }
}

impl Loading {
    fn of(far: HowFar, is_loading: bool) -> Loading {
        Loading {
            is_loading,
            phase: far.phase.name(),
            percent: if is_loading { far.percent() } else { 100.0 },
            blocks: far.blocks,
            blocks_done: far.blocks_done,
            bytes: far.total,
            bytes_done: far.done,
            versions: far.versions,
            eta_s: far.eta_s,
        }
    }
}

impl SlowCommands {
    fn of(shared: &Shared) -> SlowCommands {
        let shown = |slow: crate::slowlog::Slow| SlowCommand {
            id: slow.id,
            at_ms: slow.at_ms,
            us: slow.us,
            protocol: slow.protocol.name(),
            command: slow
                .words
                .iter()
                .map(|word| word.escape_ascii().to_string())
                .collect::<Vec<_>>()
                .join(" "),
            client: slow.client,
        };
        SlowCommands {
            threshold_us: shared.slow_log.threshold_us.load(Relaxed),
            count: shared.slow_log.total(),
            newest: shared.slow_log.newest(SLOW_SHOWN).into_iter().map(shown).collect(),
        }
    }
}
