//! One phase on one engine, in a process of its own: what the child does, and the row it reports.

use crate::cgroup::Cgroup;
use crate::measure::{self, Latency, Used};
use crate::store::{Kind, Result, Settings, Store, Values, key_of};
use crate::workload::{Load, Mix, Tally};
use clap::{Args, ValueEnum};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is done in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Writes all records, from one thread, until they are durable.
    Load,
    /// Random reads.
    Read,
    /// Random reads and overwrites, half each.
    Half,
    /// Durable overwrites.
    Durable,
    /// Opens after a kill.
    ReopenKilled,
    /// Opens after a clean end.
    Reopen,
    /// The load of `half` until it is killed; says "up" when it begins. No row.
    Victim,
    /// Opens, and ends cleanly. No row.
    Close,
}

/// Sizes that all phases of a run share.
#[derive(Args, Clone)]
pub struct Sizes {
    /// How many records.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub size: u32,
    /// MiB of each engine's cache of blocks or records, where it has one.
    #[arg(long, default_value_t = 64)]
    pub cache: u64,
    /// Seconds of each measurement of reads or durable puts; a quarter of it before that does not count.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Seconds of the measurement of reads and overwrites.
    #[arg(long, default_value_t = 20.0)]
    pub half_seconds: f64,
}

/// One child's task.
#[derive(Args)]
pub struct Task {
    /// Which engine.
    #[arg(long)]
    pub engine: Kind,
    /// What to do.
    #[arg(long)]
    pub phase: Phase,
    /// How many clients.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// The folder of its data.
    #[arg(long)]
    pub dir: PathBuf,
    /// The memory cgroup to join.
    #[arg(long)]
    pub group: Option<PathBuf>,
    /// Gives each round its own order.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub sizes: Sizes,
}

/// What a phase has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Which engine, or fio.
    pub engine: String,
    /// What it did.
    pub phase: Phase,
    /// How many clients it had.
    pub threads: usize,
    /// Operations a second; of an opening nothing.
    pub per_second: Option<f64>,
    /// Seconds that were measured; of an opening, until the first get was answered.
    pub seconds: f64,
    /// Of the gets.
    pub reads: Option<Latency>,
    /// Of the puts.
    pub writes: Option<Latency>,
    /// User and system time of the whole process an operation, in microseconds.
    pub cpu_us: Option<f64>,
    /// Resident memory at the end, in MiB.
    pub rss_mib: Option<f64>,
    /// The most that its cgroup held, page cache included, in MiB.
    pub group_peak_mib: Option<f64>,
    /// What its files take at the end, in MiB.
    pub disk_mib: Option<f64>,
    /// Bytes from the device an operation.
    pub read_bytes: Option<f64>,
    /// Bytes to the device, until background work had settled, over the bytes of keys and values put.
    pub write_amplification: Option<f64>,
    /// Puts over records.
    pub overwritten: Option<f64>,
}

/// Does the task. A row, where the phase has one.
pub fn run(task: &Task) -> Result<Option<Row>> {
    if let Some(group) = &task.group {
        Cgroup::join(group)?;
    }
    let (begin, before) = (Instant::now(), Used::now()?);
    let settings = Settings {
        records: task.sizes.records,
        size: task.sizes.size as usize,
        cache: task.sizes.cache << 20,
        durable: task.phase == Phase::Durable,
    };
    let store = task.engine.open(&task.dir, &settings)?;
    let mut row = match task.phase {
        Phase::Load => load(task, &*store, before)?,
        Phase::Read => clients(task, &*store, Mix::Reads)?,
        Phase::Durable => clients(task, &*store, Mix::Durable)?,
        Phase::Half => half(task, &*store)?,
        Phase::ReopenKilled | Phase::Reopen => first_get(task, &*store, begin, before)?,
        Phase::Victim => {
            println!("up");
            std::io::stdout().flush()?;
            a_load(task, Mix::Half, 3600.0, &Values::new(settings.size)).run(&*store)?;
            return Err("nobody has killed the victim".into());
        }
        Phase::Close => return Ok(None),
    };
    row.rss_mib = Some(mib(measure::resident()?));
    row.group_peak_mib = task.group.as_deref().and_then(Cgroup::peak).map(mib);
    drop(store);
    row.disk_mib = Some(mib(measure::disk(&task.dir)?));
    Ok(Some(row))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn row(task: &Task, operations: u64, seconds: f64, used: Used) -> Row {
    let each = |what: f64| (operations > 0).then(|| what / operations as f64);
    Row {
        engine: task.engine.name(),
        phase: task.phase,
        threads: task.threads,
        per_second: Some(operations as f64 / seconds),
        seconds,
        reads: None,
        writes: None,
        cpu_us: each(used.cpu_s * 1e6),
        rss_mib: None,
        group_peak_mib: None,
        disk_mib: None,
        read_bytes: each(used.read as f64),
        write_amplification: None,
        overwritten: None,
    }
}

fn load(task: &Task, store: &dyn Store, before: Used) -> Result<Row> {
    const BATCH: u64 = 10_000;
    let values = Values::new(task.sizes.size as usize);
    let mut rng = SmallRng::seed_from_u64(task.seed);
    let (start, records) = (Instant::now(), task.sizes.records);
    let mut batch = vec![(Default::default(), Vec::new()); BATCH.min(records) as usize];
    for first in (0..records).step_by(BATCH as usize) {
        batch.truncate((records - first) as usize);
        for (id, (key, value)) in (first..).zip(&mut batch) {
            *key = key_of(id);
            values.fill(id, &mut rng, value);
        }
        store.load(&batch)?;
    }
    store.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    settle()?;
    let used = Used::now()?.since(before);
    let mut row = row(task, records, seconds, used);
    row.write_amplification = amplification(task, records, used);
    Ok(row)
}

fn amplification(task: &Task, puts: u64, used: Used) -> Option<f64> {
    let fresh = puts * (size_of::<crate::store::Key>() as u64 + u64::from(task.sizes.size));
    (puts > 0).then(|| used.written as f64 / fresh as f64)
}

/// Waits until background work writes no more than a page now and then: two seconds with less than 256 KiB.
fn settle() -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(120);
    let mut from = (Instant::now(), Used::now()?.written);
    while Instant::now() < limit && from.0.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
        let written = Used::now()?.written;
        if written > from.1 + (256 << 10) {
            from = (Instant::now(), written);
        }
    }
    Ok(())
}

fn a_load<'a>(task: &Task, mix: Mix, seconds: f64, values: &'a Values) -> Load<'a> {
    Load {
        mix,
        clients: task.threads,
        records: task.sizes.records,
        values,
        end: Instant::now() + Duration::from_secs_f64(seconds),
        seed: task.seed,
    }
}

fn measured(task: &Task, tally: &Tally, seconds: f64, used: Used) -> Row {
    Row {
        reads: Latency::of(&tally.reads),
        writes: Latency::of(&tally.writes),
        overwritten: Some(tally.writes.len() as f64 / task.sizes.records as f64),
        ..row(task, tally.count(), seconds, used)
    }
}

fn clients(task: &Task, store: &dyn Store, mix: Mix) -> Result<Row> {
    let values = Values::new(task.sizes.size as usize);
    a_load(task, mix, task.sizes.seconds / 4.0, &values).run(store)?;
    let (start, before) = (Instant::now(), Used::now()?);
    let mut load = a_load(task, mix, task.sizes.seconds, &values);
    load.seed += 1 << 16;
    let tally = load.run(store)?;
    Ok(measured(task, &tally, start.elapsed().as_secs_f64(), Used::now()?.since(before)))
}

fn half(task: &Task, store: &dyn Store) -> Result<Row> {
    let values = Values::new(task.sizes.size as usize);
    let (start, before) = (Instant::now(), Used::now()?);
    let tally = a_load(task, Mix::Half, task.sizes.half_seconds, &values).run(store)?;
    let (seconds, used) = (start.elapsed().as_secs_f64(), Used::now()?.since(before));
    store.flush()?;
    settle()?;
    let mut row = measured(task, &tally, seconds, used);
    let settled = Used::now()?.since(before);
    row.write_amplification = amplification(task, tally.writes.len(), settled);
    Ok(row)
}

/// The time until the first get is answered. All engines open in one piece, so that every record can be read then: a
/// thousand of them are.
fn first_get(task: &Task, store: &dyn Store, begin: Instant, before: Used) -> Result<Row> {
    let values = Values::new(task.sizes.size as usize);
    let mut rng = SmallRng::seed_from_u64(task.seed);
    let mut first = None;
    for _ in 0..1000 {
        let id = rng.random_range(0..task.sizes.records);
        let mut is_right = false;
        let found = store.get(&key_of(id), &mut |value| is_right = values.is_of(id, value))?;
        first.get_or_insert((begin.elapsed().as_secs_f64(), Used::now()?.since(before)));
        if !found || !is_right {
            return Err(format!("record {id} is not there after the restart, or not whole").into());
        }
    }
    let (seconds, used) = first.expect("a thousand gets");
    Ok(Row { per_second: None, ..row(task, 1, seconds, used) })
}
