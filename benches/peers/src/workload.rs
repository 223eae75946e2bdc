//! What clients do to a store: reads, reads and overwrites in equal parts, or durable puts, of records drawn evenly.
//!
//! A [`Client`] draws what comes next and keeps the latencies; who calls the engine, a thread or a future, asks it in
//! a loop. Each read must find its record, and the right one.

use crate::store::{Key, Result, Store, Values, key_of};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// Which operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Gets.
    Reads,
    /// Gets and relaxed overwrites, half each.
    Half,
    /// Durable overwrites.
    Durable,
}

/// A load of so many clients until a moment.
pub struct Load<'a> {
    /// What they do.
    pub mix: Mix,
    /// How many there are.
    pub clients: usize,
    /// How many records there are.
    pub records: u64,
    /// Makes and checks values.
    pub values: &'a Values,
    /// When they stop.
    pub end: Instant,
    /// Gives each run its own order.
    pub seed: u64,
}

impl<'a> Load<'a> {
    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = Client<'a>> + use<'a> {
        let (mix, records, values, end, seed) = (self.mix, self.records, self.values, self.end, self.seed);
        (0..self.clients as u64).map(move |i| Client {
            mix,
            records,
            values,
            end,
            rng: SmallRng::seed_from_u64(seed << 16 | i),
            id: 0,
            key: [0; 16],
            value: Vec::new(),
            is_right: false,
            start: end,
            tally: Tally::default(),
        })
    }

    /// Runs it: as futures where the store does that, else with one thread a client.
    pub fn run(&self, store: &dyn Store) -> Result<Tally> {
        if let Some(done) = store.run_as_futures(self) {
            return done;
        }
        let done: Result<Vec<Tally>> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.clients().map(|client| scope.spawn(move || in_thread(store, client))).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked")?).collect()
        });
        Ok(Tally::sum(done?))
    }
}

fn in_thread(store: &dyn Store, mut client: Client<'_>) -> Result<Tally> {
    while let Some(step) = client.next() {
        let key = client.key;
        match step {
            Step::Get => {
                let found = store.get(&key, &mut |value| client.see(value))?;
                client.got(found)?;
            }
            Step::Put { durable: true } => {
                store.put_durable(&key, client.value())?;
                client.has_put();
            }
            Step::Put { durable: false } => {
                store.put(&key, client.value())?;
                client.has_put();
            }
        }
    }
    Ok(client.finish())
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads its key: then `see` the value, and say `got`.
    Get,
    /// Writes its value to its key: then say `has_put`.
    Put {
        /// Whether to wait until it is on the device.
        durable: bool,
    },
}

/// One client.
pub struct Client<'a> {
    mix: Mix,
    records: u64,
    values: &'a Values,
    end: Instant,
    rng: SmallRng,
    id: u64,
    key: Key,
    value: Vec<u8>,
    is_right: bool,
    start: Instant,
    tally: Tally,
}

impl Client<'_> {
    /// Draws the next operation; `None` when it is time to stop.
    pub fn next(&mut self) -> Option<Step> {
        self.id = self.rng.random_range(0..self.records);
        self.key = key_of(self.id);
        let step = match self.mix {
            Mix::Reads => Step::Get,
            Mix::Durable => Step::Put { durable: true },
            Mix::Half if self.rng.random_bool(0.5) => Step::Get,
            Mix::Half => Step::Put { durable: false },
        };
        if step != Step::Get {
            self.values.fill(self.id, &mut self.rng, &mut self.value);
        }
        self.is_right = false;
        self.start = Instant::now();
        (self.start < self.end).then_some(step)
    }

    /// The key of this operation.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value to put.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Looks at a value that was read.
    pub fn see(&mut self, value: &[u8]) {
        self.is_right = self.values.is_of(self.id, value);
    }

    /// A get has ended.
    pub fn got(&mut self, found: bool) -> Result<()> {
        self.tally.reads.saturating_record(self.start.elapsed().as_nanos() as u64);
        match (found, self.is_right) {
            (true, true) => Ok(()),
            (true, false) => Err(format!("record {} was read with another's value", self.id).into()),
            (false, _) => Err(format!("record {} is not there, though it was loaded", self.id).into()),
        }
    }

    /// A put has ended.
    pub fn has_put(&mut self) {
        self.tally.writes.saturating_record(self.start.elapsed().as_nanos() as u64);
    }

    /// What it has seen.
    pub fn finish(self) -> Tally {
        self.tally
    }
}

/// Latencies of what was done, in nanoseconds.
pub struct Tally {
    /// Of the gets.
    pub reads: Histogram<u64>,
    /// Of the puts.
    pub writes: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let longest = Duration::from_secs(600).as_nanos() as u64;
        let histogram =
            || Histogram::new_with_bounds(1, longest, 3).expect("three digits of up to ten minutes");
        Tally { reads: histogram(), writes: histogram() }
    }
}

impl Tally {
    /// All of them together.
    pub fn sum(tallies: impl IntoIterator<Item = Tally>) -> Tally {
        tallies.into_iter().fold(Tally::default(), |mut sum, tally| {
            sum.reads += tally.reads;
            sum.writes += tally.writes;
            sum
        })
    }

    /// How many operations.
    pub fn count(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }
}
