//! The course of `aerolith bench`: open the target, load records if asked to, run, and draw up the report.
//!
//! How many records there are is kept in the store itself, under a key of its own, so that runs go on from each other:
//! a load writes it, a run reads it and, if it inserted, writes it anew.

use super::USAGE;
use super::files::Files;
use super::flags::{Bench, Check, MOST_WATCHED, Place, Plan};
use super::live::Live;
use super::report::{Checked, Cpu, FORMAT, Histograms, Loaded, Report, lag, operations};
use crate::load::LoadError;
use crate::load::clock::{Clock, MonoClock, SECOND, ns};
use crate::load::crew::{self, Event, Span, Station};
use crate::load::embedded::Embedded;
use crate::load::history::History;
use crate::load::lane::Outcome;
use crate::load::memcache::Memcache;
use crate::load::mix::Operation;
use crate::load::process;
use crate::load::redis::Redis;
use crate::load::schedule::Schedule;
use crate::load::target::{COUNT_KEY, LaneSize, Request, StoreLane, Target};
use crate::load::value::Maker;
use crate::load::workload::{Inserts, Loading, Shared, Tally, Workload};
use aerolith_engine::{Config, DeviceConfig, Engine, NamespaceConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The set of the engine's namespace in which records lie.
const SET: &str = "bench";
/// How long a store may take to answer a question outside of the load.
const PATIENCE: u64 = 30 * SECOND;

/// Why there is no report.
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// What a person can do about it.
    pub why: LoadError,
}

impl From<LoadError> for Failed {
    fn from(why: LoadError) -> Self {
        Failed { code: 1, why }
    }
}

fn usage<T>(why: String) -> Result<T, Failed> {
    Err(Failed { code: USAGE, why: LoadError(why) })
}

fn open(bench: &Bench, plan: &Plan, clock: &Arc<MonoClock>) -> Result<Box<dyn Target>, Failed> {
    let clock: Arc<dyn Clock> = clock.clone();
    Ok(match &plan.place {
        Place::Redis(address) => Box::new(Redis::new(*address, &bench.prefix, clock)),
        Place::Memcache(address) => Box::new(Memcache::new(*address, &bench.prefix, clock)),
        Place::Engine(path) => {
            if !path.exists() && !bench.load && !bench.load_only {
                return usage(format!(
                    "--engine {}: there is no such file; --load --records N makes and fills it",
                    path.display()
                ));
            }
            let namespace = NamespaceConfig {
                name: bench.namespace.clone(),
                devices: vec![DeviceConfig::Path { path: path.clone(), size: plan.engine_size }],
                durability: plan.durability,
                read_cache_size: plan.cache,
                write_cache_size: plan.write_cache,
                ..NamespaceConfig::default()
            };
            let engine = Engine::open(Config::of(namespace)).map_err(|error| LoadError(error.to_string()))?;
            let name = format!("engine {}", path.display());
            Box::new(Embedded::new(engine, &bench.namespace, SET, &bench.prefix, name, clock)?)
        }
    })
}

/// One request, and its answer.
fn ask<T>(
    lane: &mut StoreLane,
    clock: &dyn Clock,
    request: Request,
    mut read: impl FnMut(Outcome<'_>) -> Result<T, LoadError>,
) -> Result<T, LoadError> {
    let until = clock.now_ns() + PATIENCE;
    lane.submit(0, request)?;
    let mut answer = None;
    while answer.is_none() {
        lane.poll(until, &mut |found| answer = Some(read(found.outcome)))?;
        if answer.is_none() && clock.now_ns() >= until {
            return Err(LoadError(format!("no answer within {} s", PATIENCE / SECOND)));
        }
    }
    answer.expect("it is there")
}

fn read_count(lane: &mut StoreLane, clock: &dyn Clock) -> Result<Option<u64>, LoadError> {
    ask(lane, clock, Request::Get(COUNT_KEY), |outcome| match outcome {
        Outcome::Value(None) => Ok(None),
        Outcome::Value(Some(value)) => {
            let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            text.map(Some)
                .ok_or_else(|| LoadError("the store's count of records is not one; load anew".into()))
        }
        Outcome::Failed(message) => {
            Err(LoadError(format!("it does not tell how many records there are: {message}")))
        }
        other => Err(LoadError(format!("an answer that does not fit a get: {other:?}"))),
    })
}

fn write_count(lane: &mut StoreLane, clock: &dyn Clock, count: u64) -> Result<(), LoadError> {
    let put = Request::Put { key: COUNT_KEY, value: count.to_string().into_bytes(), ttl: None };
    ask(lane, clock, put, |outcome| match outcome {
        Outcome::Done(_) => Ok(()),
        other => Err(LoadError(format!("it does not take the count of records: {other:?}"))),
    })
}

/// What worker `worker` of `workers` has of the connections.
fn lane_size(plan: &Plan, worker: usize, depth: usize) -> LaneSize {
    let connections = (plan.connections + plan.threads - 1 - worker) / plan.threads;
    LaneSize { connections: connections.max(1), depth }
}

fn capacity(plan: &Plan, worker: usize, depth: usize) -> usize {
    let LaneSize { connections, depth } = lane_size(plan, worker, depth);
    connections * depth
}

/// Loads and runs. `None`: it was only to load.
pub fn run(
    bench: &Bench,
    plan: &Plan,
    files: &mut Files,
    out: &mut String,
) -> Result<Option<(Report, Histograms)>, Failed> {
    let clock = Arc::new(MonoClock::start());
    let target = open(bench, plan, &clock)?;
    let mut notes = Vec::new();
    for operation in plan.mix.operations() {
        match target.stands_for(operation) {
            Ok(note) => notes.extend(note.map(str::to_owned)),
            Err(error) => return usage(error.to_string()),
        }
    }
    let largest = plan.sizes.bounds().1;
    if let Some(limit) = target.largest_value()
        && largest > limit
    {
        return usage(format!(
            "--value-size: values of {largest} bytes do not fit a record, at most {limit} do"
        ));
    }
    let mut lane = target.lane(LaneSize { connections: 1, depth: 1 })?;
    let loads = bench.load || bench.load_only;
    let records = match (loads, bench.records, read_count(&mut lane, &*clock)?) {
        (true, Some(records), _) | (false, None, Some(records)) | (false, Some(records), None) => records,
        (false, Some(said), Some(found)) if said == found => found,
        (false, Some(said), Some(found)) => {
            return usage(format!(
                "--records {said}: the store says that it holds {found} records; leave --records away, or --load anew"
            ));
        }
        (_, None, _) => {
            return usage(
                "the store does not say how many records it holds: --load them, or tell it with --records"
                    .into(),
            );
        }
    };
    if bench.check == Check::History && records > MOST_WATCHED {
        return usage(format!(
            "--check history watches at most {MOST_WATCHED} records, the store holds {records}; use --check value"
        ));
    }
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u32);
    let may_expire = plan.ttl.is_some();
    let shared = Shared {
        mix: plan.mix.clone(),
        distribution: plan.keys,
        sizes: plan.sizes.clone(),
        ttl: plan.ttl,
        batch_size: bench.batch_size,
        scan_length: bench.scan_length,
        maker: Maker::new(largest, plan.compressible_pct, run, bench.check != Check::Off, bench.seed),
        verifies: bench.check != Check::Off,
        history: (bench.check == Check::History).then(|| History::new(records, run, may_expire)),
        inserts: Inserts::new(records, plan.threads),
        seed: bench.seed,
        operations: bench.operations,
    };
    let loaded = match loads {
        false => None,
        true => {
            let loaded = load(bench, plan, target.as_ref(), &shared, records, &clock)?;
            write_count(&mut lane, &*clock, records)?;
            target.settle()?;
            let per_second = loaded.records as f64 / loaded.seconds;
            out.push_str(&format!(
                "loaded {} records in {:.2} s, {}/s\n\n",
                loaded.records,
                loaded.seconds,
                crate::page::number(per_second)
            ));
            Some(loaded)
        }
    };
    if bench.load_only {
        drop(lane);
        target.close()?;
        return Ok(None);
    }
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (given, cpu) = drive(bench, plan, target.as_ref(), &shared, records, &clock, files)?;
    let mut tally = Tally::default();
    given.work.into_iter().for_each(|own| tally.add(own));
    let mut broke_off = given.error.map(|error| error.to_string());
    if shared.inserts.begun() > records && broke_off.is_none() {
        // The figures stand, whatever comes of this.
        broke_off =
            write_count(&mut lane, &*clock, shared.inserts.begun()).err().map(|error| error.to_string());
    }
    drop(lane);
    let name = target.name();
    if let Err(error) = target.close() {
        broke_off.get_or_insert(error.to_string());
    }
    let elapsed = given.elapsed_ns as f64 / 1e9;
    let seconds = plan.duration.map_or(elapsed, |duration| duration.as_secs_f64().min(elapsed));
    let (operations, histograms) = operations(&given.series, seconds);
    let report = Report {
        format: FORMAT,
        tool: format!("aerolith bench {}", env!("CARGO_PKG_VERSION")),
        title: bench.title.clone(),
        began,
        target: name,
        options: bench
            .told(plan, records)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        seconds,
        load: loaded,
        operations,
        check: Checked { verified: tally.verified, wrong: tally.wrong, scanned: tally.scanned },
        lag: plan.rate.is_some().then(|| lag(&given.series)),
        cpu,
        rows: given.series.rows,
        notes,
        messages: tally.messages,
        broke_off,
    };
    Ok(Some((report, histograms)))
}

fn load(
    bench: &Bench,
    plan: &Plan,
    target: &dyn Target,
    shared: &Shared,
    records: u64,
    clock: &Arc<MonoClock>,
) -> Result<Loaded, LoadError> {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let depth = bench.depth.unwrap_or_else(|| target.load_depth());
    let bar = crate::load::bar::records(records, bench.quiet);
    // No load takes this long: it ends when all records are there.
    let span = Span { warm_up_ns: 0, run_ns: u64::MAX / 4, drain_ns: 0 };
    let make = |worker| {
        let work = Loading::new(shared, (&next, &done), records, worker, capacity(plan, worker, depth));
        Ok(Station { work, lane: target.lane(lane_size(plan, worker, depth))?, schedule: None })
    };
    let given = crew::run(&**clock, plan.threads, &Operation::NAMES, span, make, &mut |event| {
        if matches!(event, Event::Tick | Event::Second(..)) {
            bar.set_position(done.load(Ordering::Relaxed));
        }
    });
    bar.finish_and_clear();
    if let Some(error) = given.error {
        return Err(error);
    }
    let refused =
        given.work.iter().find(|work| work.refused() > 0).and_then(|work| work.tally.messages.keys().next());
    if let Some(refused) = refused {
        let done = done.load(Ordering::Relaxed);
        return Err(LoadError(format!("loading ended after {done} of {records} records: {refused}")));
    }
    Ok(Loaded { records, seconds: given.elapsed_ns as f64 / 1e9 })
}

/// What the workers of a run have given, with their tallies as work.
type Driven = crew::Given<Tally>;

fn drive(
    bench: &Bench,
    plan: &Plan,
    target: &dyn Target,
    shared: &Shared,
    records: u64,
    clock: &Arc<MonoClock>,
    files: &mut Files,
) -> Result<(Driven, Cpu), Failed> {
    let span = Span {
        warm_up_ns: ns(plan.warm_up),
        run_ns: plan.duration.map_or(u64::MAX / 4, ns),
        drain_ns: ns(plan.drain),
    };
    let make = |worker| {
        let slots = capacity(plan, worker, plan.depth);
        let schedule =
            plan.rate.map(|rate| Schedule::new(rate, plan.arrivals, worker, plan.threads, bench.seed));
        Ok(Station {
            work: Workload::new(shared, worker, plan.threads, records, slots),
            lane: target.lane(lane_size(plan, worker, plan.depth))?,
            schedule,
        })
    };
    let mut live = Live::new(bench.quiet);
    let sample = || {
        let server = bench.server_pid.and_then(process::cpu_of);
        (clock.now_ns(), process::own_cpu(), server)
    };
    let (mut record_ns, mut first, mut written) = (u64::MAX, None, Ok(()));
    let given = crew::run(&**clock, plan.threads, &Operation::NAMES, span, make, &mut |event| {
        live.see(&event, clock.now_ns());
        match &event {
            Event::Begun(course) => record_ns = course.record_ns,
            Event::Second(row, slice) => {
                let result = files.second(row, slice);
                if written.is_ok() {
                    written = result;
                }
            }
            Event::Tick => {}
        }
        if first.is_none() && clock.now_ns() >= record_ns {
            first = Some(sample());
        }
    });
    if let Err(why) = written {
        return Err(Failed { code: USAGE, why });
    }
    let (from, to) = (first.unwrap_or_else(sample), sample());
    let spent = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
    let cpu = Cpu {
        seconds: (to.0 - from.0) as f64 / 1e9,
        bench_s: spent(from.1, to.1),
        server_s: from.2.zip(to.2).map(|(from, to)| spent(from, to)),
        server_memory: bench.server_pid.and_then(process::memory_of),
    };
    let crew::Given { work, series, error, elapsed_ns } = given;
    let work = work.into_iter().map(|work| work.tally).collect();
    Ok((crew::Given { work, series, error, elapsed_ns }, cpu))
}
