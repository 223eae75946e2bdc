//! The engine: its namespaces and its threads.

use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::device::{Driver, SharedRing, context};
use crate::error::{Error, Result};
use crate::jobs::{Checkpoint, Defrag, Evict, Flush, Job, JobThread, Next, Scrub, Sweep};
use crate::namespace::Namespace;
use crate::namespace::core::Core;
use crate::startup::{Environment, Recovery, open_namespace};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An open engine. Dropping it closes it: what was acknowledged is flushed.
///
/// ```
/// use aerolith_engine::{Config, Engine, NamespaceConfig};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// assert!(engine.namespace("test").is_ok());
/// assert!(engine.namespace("missing").is_err());
/// engine.close()?;
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
pub struct Engine {
    cores: Vec<Arc<Core>>,
    recoveries: Vec<Recovery>,
    jobs: Jobs,
    is_closed: bool,
}

/// Who steps the jobs.
enum Jobs {
    Threads { flush: JobThread<Flush>, upkeep: JobThread<Box<dyn Job>> },
    ByHand { flush: Vec<Flush>, upkeep: Vec<Box<dyn Job>> },
}

impl Engine {
    /// Opens all namespaces of a configuration. Blocks until their indexes are whole.
    ///
    /// # Errors
    /// `Config` for what cannot work; `Header` where a device holds something else, is damaged, or does not
    /// belong to the others. Nothing is written to a device that is refused.
    pub fn open(config: Config) -> Result<Self> {
        let with_rings = config.driver != Driver::Blocking;
        let mut engine =
            Self::open_by_hand(config, Arc::new(SystemClock::new()), RandomState::new().hash_one(0))?;
        engine.start_threads(with_rings)?;
        Ok(engine)
    }

    /// Opens an engine that has no threads: `step` does their work, when it is called. For tests and
    /// simulations. `seed` takes the place of chance.
    pub fn open_by_hand(config: Config, clock: Arc<dyn Clock>, seed: u64) -> Result<Self> {
        let mut engine = Self::prepare(config, clock, seed)?;
        let mut flush: Vec<Flush> = engine.cores.iter().map(|core| Flush::new(core.clone())).collect();
        let mut upkeep: Vec<Box<dyn Job>> = Vec::new();
        for core in &engine.cores {
            upkeep.push(Box::new(Defrag::new(core.clone())));
            upkeep.push(Box::new(Sweep::new(core.clone())));
            upkeep.push(Box::new(Scrub::new(core.clone())));
            upkeep.push(Box::new(Checkpoint::new(core.clone())));
            if core.config.evict_above > 0 {
                upkeep.push(Box::new(Evict::new(core.clone())));
            }
        }
        // The first step makes blocks ready to be written.
        flush.iter_mut().for_each(|job| {
            job.step();
        });
        engine.jobs = Jobs::ByHand { flush, upkeep };
        Ok(engine)
    }

    fn prepare(config: Config, clock: Arc<dyn Clock>, seed: u64) -> Result<Self> {
        if config.namespaces.is_empty() {
            return Err(Error::Config("no namespace is configured".into()));
        }
        for (i, namespace) in config.namespaces.iter().enumerate() {
            if config.namespaces[..i].iter().any(|other| other.name == namespace.name) {
                return Err(Error::Config(format!("namespace '{}' is configured twice", namespace.name)));
            }
        }
        let on_files = config
            .namespaces
            .iter()
            .flat_map(|namespace| &namespace.devices)
            .any(|device| matches!(device, crate::config::DeviceConfig::Path { .. }));
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let environment = Environment {
            clock,
            driver: config.driver,
            shared_ring: (on_files && config.driver != Driver::Blocking).then(SharedRing::start),
            seed,
            recovery_threads: if config.recovery_threads == 0 {
                cores.min(8)
            } else {
                config.recovery_threads
            },
            progress: config.progress.unwrap_or_default(),
        };
        let mut engine = Engine {
            cores: Vec::new(),
            recoveries: Vec::new(),
            jobs: Jobs::ByHand { flush: Vec::new(), upkeep: Vec::new() },
            is_closed: false,
        };
        for namespace in config.namespaces {
            let (core, recovery) = open_namespace(namespace, &environment)?;
            engine.cores.push(core);
            engine.recoveries.push(recovery);
        }
        Ok(engine)
    }

    fn start_threads(&mut self, with_rings: bool) -> Result<()> {
        let Jobs::ByHand { flush, upkeep } = &mut self.jobs else { return Ok(()) };
        // Without threads a namespace has this job only if it was opened with eviction.
        for core in self.cores.iter().filter(|core| core.config.evict_above == 0) {
            upkeep.push(Box::new(Evict::new(core.clone())));
        }
        let (flush, upkeep) = (std::mem::take(flush), std::mem::take(upkeep));
        let flush_signals = self.cores.iter().map(|core| core.flush_work.clone()).collect();
        let upkeep_signals = self.cores.iter().map(|core| core.upkeep_work.clone()).collect();
        let refused = |error: std::io::Error| Error::Config(format!("a thread cannot be started: {error}"));
        let upkeep =
            JobThread::start("aerolith-upkeep", upkeep, upkeep_signals, with_rings).map_err(refused)?;
        let flush = JobThread::start("aerolith-flush", flush, flush_signals, with_rings).map_err(refused)?;
        self.jobs = Jobs::Threads { flush, upkeep };
        Ok(())
    }

    /// A namespace, by its name.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let core = self.cores.iter().find(|core| core.config.name == name);
        core.map(|core| Namespace::new(core.clone())).ok_or_else(|| Error::NoNamespace(name.to_owned()))
    }

    /// The names of all namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.cores.iter().map(|core| core.config.name.as_str())
    }

    /// What the start of a namespace found.
    pub fn recovery(&self, name: &str) -> Option<&Recovery> {
        let at = self.cores.iter().position(|core| core.config.name == name)?;
        self.recoveries.get(at)
    }

    /// Without threads: one step of every job. True if any has more to do at once.
    pub fn step(&mut self) -> bool {
        let Jobs::ByHand { flush, upkeep } = &mut self.jobs else { return false };
        let flush = flush.iter_mut().map(|job| job.step());
        let next = flush.fold(Next::Within(u64::MAX), Next::min);
        upkeep.iter_mut().map(|job| job.step()).fold(next, Next::min) == Next::Now
    }

    /// Without threads: how many jobs there are for `step_job`.
    pub fn job_count(&self) -> usize {
        match &self.jobs {
            Jobs::ByHand { flush, upkeep } => flush.len() + upkeep.len(),
            Jobs::Threads { .. } => 0,
        }
    }

    /// Without threads: one step of job number `at` alone, so that a simulation chooses who comes next. True if it has
    /// more to do at once; false also if there is no such job.
    pub fn step_job(&mut self, at: usize) -> bool {
        let Jobs::ByHand { flush, upkeep } = &mut self.jobs else { return false };
        let next = match at.checked_sub(flush.len()) {
            None => flush[at].step(),
            Some(at) => upkeep.get_mut(at).map_or(Next::Within(u64::MAX), |job| job.step()),
        };
        next == Next::Now
    }

    /// Flushes everything acknowledged, closes the open blocks with their footers, writes a last checkpoint if the namespace
    /// is configured to have them, and stops the threads.
    /// Reads through handles that are still held go on; writes get `Error::Closed`.
    pub fn close(mut self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        for core in &self.cores {
            core.is_closed.store(true, Ordering::Release);
            core.gate.open();
            core.checkpoints.wake();
        }
        let jobs = std::mem::replace(&mut self.jobs, Jobs::ByHand { flush: Vec::new(), upkeep: Vec::new() });
        let (mut flush, mut upkeep) = match jobs {
            Jobs::Threads { flush, upkeep } => {
                let upkeep = upkeep.stop();
                (flush.stop(), upkeep)
            }
            Jobs::ByHand { flush, upkeep } => (flush, upkeep),
        };
        for core in &self.cores {
            // Whoever was in the middle of a write has finished it; whoever comes now is refused.
            drop(core.index.lock_all());
            let sequence = core.next_sequence.load(Ordering::Relaxed);
            for volume in core.volumes.iter().filter(|volume| volume.latch_reason().is_none()) {
                for stream in volume.streams() {
                    volume.seal_open(&mut stream.lock(), sequence);
                }
            }
        }
        context::blocking(|| {
            while !flush.iter().all(Flush::is_idle) || !upkeep.iter_mut().all(|job| job.wind_up()) {
                flush.iter_mut().for_each(|job| {
                    job.step();
                });
            }
        });
        let mut result = Ok(());
        for core in &self.cores {
            if let Some(volume) = core.volumes.iter().find(|volume| volume.latch_reason().is_some()) {
                result = Err(core.device_failed(volume));
            }
        }
        result
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::error!("closing the engine: {error}");
        }
    }
}
