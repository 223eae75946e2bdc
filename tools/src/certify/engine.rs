//! The same nominal load on the real engine: reads and updates of records, from the call to its answer.
//!
//! What the device sees is then the engine's own doing: one read a record, large writes, and whatever defrag, checkpoints and
//! commits cost. The read cache is off, so that reads are of the device, but for what was just written.

use super::flags::{Certify, Plan};
use super::medium::{Failed, Medium};
use super::report::{Trial, live_line};
use super::trial::{DRAIN_NS, Length};
use crate::load::LoadError;
use crate::load::clock::{Clock, MonoClock, SECOND, ns};
use crate::load::crew::{self, Event, Span, Station};
use crate::load::embedded::Embedded;
use crate::load::keys::Distribution;
use crate::load::mix::Operation;
use crate::load::schedule::{Arrivals, Rate, Schedule};
use crate::load::size::Sizes;
use crate::load::target::{LaneSize, Target};
use crate::load::value::{HEAD, Maker};
use crate::load::workload::{Inserts, Loading, Shared, Workload};
use aerolith_engine::{Config, DeviceConfig, Engine, NamespaceConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The namespace that is made.
const NAMESPACE: &str = "certify";
/// Its set, and what keys begin with.
const SET: &str = "certify";
const PREFIX: &str = "c:";
/// Devices smaller than this get smaller blocks, so that there are enough of them, in bytes.
const LARGE: u64 = 2 << 30;
/// What the criteria hold for.
const JUDGED: [&str; 2] = ["read", "update"];

/// The engine, filled.
pub struct EngineTarget {
    target: Embedded,
    records: u64,
    stored_size: u32,
    value_size: u64,
    run: u32,
}

/// Opens the engine and fills it.
pub fn open(
    certify: &Certify,
    plan: &Plan,
    medium: &Medium,
    clock: &Arc<MonoClock>,
) -> Result<EngineTarget, Failed> {
    let namespace = NamespaceConfig {
        name: NAMESPACE.into(),
        devices: vec![DeviceConfig::Path { path: medium.path.clone(), size: medium.size }],
        block_size: if medium.size < LARGE { 1 << 20 } else { 8 << 20 },
        read_cache_size: 0,
        ..NamespaceConfig::default()
    };
    let engine = Engine::open(Config::of(namespace)).map_err(|error| LoadError(error.to_string()))?;
    let name = format!("engine {}", medium.path.display());
    let shared_clock: Arc<dyn Clock> = clock.clone();
    let target = Embedded::new(engine, NAMESPACE, SET, PREFIX, name, shared_clock)?;
    // The record's size is that on the device: what the engine adds is found by trying.
    let added = target.stored_size(HEAD as u64)?.saturating_sub(HEAD as u64);
    let value_size = plan.model.record_size.saturating_sub(added);
    if value_size < HEAD as u64 {
        return Err(Failed {
            code: super::USAGE,
            why: LoadError(format!(
                "--record-size: {} bytes leave no room for a value; with --mode engine at least {} are needed",
                plan.model.record_size,
                added + HEAD as u64
            )),
        });
    }
    let stored_size = target.stored_size(value_size)? as u32;
    let records = target.used_limit() * certify.fill / 100 / u64::from(stored_size);
    if records < 1000 {
        return Err(Failed {
            code: super::USAGE,
            why: LoadError(format!(
                "{}: room for only {records} records; use a larger one",
                medium.path.display()
            )),
        });
    }
    let run = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u32);
    let target = EngineTarget { target, records, stored_size, value_size, run };
    target.fill(certify, plan, clock)?;
    Ok(target)
}

impl EngineTarget {
    /// What it is, for the report.
    pub fn told(&self) -> String {
        format!(
            "the engine holds {} records of {} bytes, values of {}; read cache off, relaxed durability",
            self.records, self.stored_size, self.value_size
        )
    }

    fn shared(&self, certify: &Certify, plan: &Plan, operation: Operation) -> Result<Shared, LoadError> {
        let value_size = self.value_size;
        Ok(Shared {
            mix: format!("{}=100", operation.name()).parse().map_err(LoadError)?,
            distribution: Distribution::Uniform,
            sizes: Sizes::Range(value_size, value_size),
            ttl: None,
            batch_size: 1,
            scan_length: 1,
            maker: Maker::new(value_size, plan.compressible_pct, self.run, true, certify.seed),
            verifies: true,
            history: None,
            inserts: Inserts::new(self.records, plan.threads),
            seed: certify.seed,
            operations: None,
        })
    }

    fn fill(&self, certify: &Certify, plan: &Plan, clock: &Arc<MonoClock>) -> Result<(), LoadError> {
        let shared = self.shared(certify, plan, Operation::Update)?;
        let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let depth = self.target.load_depth();
        let make = |worker| {
            let work = Loading::new(&shared, (&next, &done), self.records, worker, depth);
            let lane = self.target.lane(LaneSize { connections: 1, depth })?;
            Ok(Station { work, lane, schedule: None })
        };
        let bar = crate::load::bar::records(self.records, certify.quiet);
        // It ends when all records are there.
        let span = Span { warm_up_ns: 0, run_ns: u64::MAX / 4, drain_ns: 0 };
        let given = crew::run(&**clock, plan.threads, &Operation::NAMES, span, make, &mut |event| {
            if matches!(event, Event::Tick | Event::Second(..)) {
                bar.set_position(done.load(Ordering::Relaxed));
            }
        });
        bar.finish_and_clear();
        if let Some(error) = given.error {
            return Err(error);
        }
        let refused = given.work.iter().find(|work| work.refused() > 0);
        if let Some(refused) = refused.and_then(|work| work.tally.messages.keys().next()) {
            return Err(LoadError(format!("filling the engine: {refused}")));
        }
        self.target.settle()
    }

    /// Runs one multiple.
    pub fn run(
        &self,
        certify: &Certify,
        plan: &Plan,
        clock: &Arc<MonoClock>,
        multiple: u64,
        length: Length,
    ) -> Result<Trial, LoadError> {
        let rates = plan.model.rates(multiple);
        let shared =
            [self.shared(certify, plan, Operation::Read)?, self.shared(certify, plan, Operation::Update)?];
        let mut posts: Vec<(usize, Rate, usize)> = Vec::new();
        for (kind, rate) in [rates.reads, rates.writes].into_iter().enumerate() {
            posts.extend((0..plan.threads).filter_map(|worker| Some((kind, rate?, worker))));
        }
        let make = |id: usize| {
            let (kind, rate, worker) = posts[id];
            let depth = certify.depth.max(2);
            Ok(Station {
                work: Workload::new(&shared[kind], worker, plan.threads, self.records, depth),
                lane: self.target.lane(LaneSize { connections: 1, depth })?,
                schedule: Some(Schedule::new(rate, Arrivals::Uniform, worker, plan.threads, certify.seed)),
            })
        };
        let span =
            Span { warm_up_ns: ns(plan.warm_up), run_ns: length.duration_s * SECOND, drain_ns: DRAIN_NS };
        let given = crew::run(&**clock, posts.len(), &Operation::NAMES, span, make, &mut |event| {
            if let (Event::Second(row, _), false) = (&event, certify.quiet) {
                eprintln!("{}", live_line(multiple, row, &JUDGED));
            }
        });
        if let Some(error) = given.error {
            return Err(error);
        }
        let failed =
            given.work.into_iter().flat_map(|work| work.tally.messages.into_keys()).take(5).collect();
        Ok(Trial::new(multiple, length, given.series, failed, &JUDGED))
    }

    /// Lets go of the engine.
    pub fn close(self) -> Result<(), LoadError> {
        Box::new(self.target).close()
    }
}
