//! What clients do: an operation drawn from the seed, the future that carries it out, and what it answered.
//!
//! Functions that decide (updates) write down what they saw and chose, so that the oracle learns the very step that
//! was applied, however often the engine ran them.

use super::oracle::Oracle;
use super::version::{SET_BORDER, Seen, bytes_of, key_of, number_of, seen_of};
use aerolith_engine::{
    AsyncNamespace, Bin, Draft, Durability, Error, Exists, Generation, Metadata, Outcome, Record, ScanPoint,
    Timestamp, Ttl, Value, WritePolicy,
};
use rand::RngExt;
use rand::rngs::StdRng;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Writes a record whole.
    Put,
    /// Deletes.
    Delete,
    /// A new generation and time to live.
    Touch,
    /// Counts, deletes or keeps, by what is there.
    Update,
    /// Several puts as one step.
    PutMany,
    /// Several updates as one step.
    UpdateMany,
    /// Reads.
    Get,
    /// Asks the index.
    Exists,
    /// Empties a set.
    Truncate,
    /// Walks over everything.
    Scan,
    /// Waits until everything accepted is durable.
    Flush,
    /// Asks for a checkpoint.
    Checkpoint,
}

/// What an update decided for one key.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it found.
    pub found: Seen,
    /// What is to become of it.
    pub choice: Choice,
}

/// See `Decision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A value, with this counter.
    Put(i64),
    /// Gone.
    Delete,
    /// As it is.
    Keep,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// What.
    pub verb: Verb,
    /// On which keys; of a truncation the first names the set.
    pub keys: Vec<u32>,
    /// Names the value that it writes.
    pub number: u64,
    /// How.
    pub policy: WritePolicy,
    /// What its last run decided.
    pub decisions: Arc<Mutex<Vec<Decision>>>,
}

/// What was answered.
#[derive(Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// Whether there was one.
    Was(bool),
    /// What the index says.
    Known(Option<Metadata>),
    /// What one key has.
    Read(Seen),
    /// What was found of a set or all.
    Walked(Vec<(Option<u32>, Seen)>),
}

/// An operation under way.
pub type Doing = Pin<Box<dyn Future<Output = Result<Answer, Error>>>>;

/// Who draws operations.
#[derive(Clone, Debug)]
pub struct Workload {
    seed: u64,
    /// Keys of each of the two sets.
    pub keys: u32,
    next_number: u64,
    /// Of a hundred operations, so many of each kind.
    weights: Vec<(Verb, u32)>,
    ttl_percent: u32,
}

impl Workload {
    /// A workload whose taste is drawn from the seed.
    pub fn new(seed: u64, rng: &mut StdRng) -> Self {
        let few = |rng: &mut StdRng, most: u32| rng.random_range(0..=most);
        let weights = vec![
            (Verb::Put, 30 + few(rng, 30)),
            (Verb::Delete, few(rng, 20)),
            (Verb::Touch, few(rng, 8)),
            (Verb::Update, few(rng, 20)),
            (Verb::PutMany, few(rng, 10)),
            (Verb::UpdateMany, few(rng, 8)),
            (Verb::Get, 10),
            (Verb::Exists, 3),
            (Verb::Truncate, few(rng, 1)),
            (Verb::Scan, 1),
            (Verb::Flush, few(rng, 3)),
            (Verb::Checkpoint, few(rng, 2)),
        ];
        Workload {
            seed,
            keys: rng.random_range(20..=100),
            next_number: 0,
            weights,
            ttl_percent: [0, 20, 60][rng.random_range(0..3)],
        }
    }

    /// All keys that it uses.
    pub fn all_keys(&self) -> impl Iterator<Item = u32> + use<> {
        (0..self.keys).chain(SET_BORDER..SET_BORDER + self.keys)
    }

    fn key(&self, rng: &mut StdRng) -> u32 {
        // Half of all operations go to an eighth of the keys.
        let below = if rng.random_bool(0.5) { self.keys.div_ceil(8) } else { self.keys };
        rng.random_range(0..below) + if rng.random_bool(0.5) { SET_BORDER } else { 0 }
    }

    /// The next operation.
    pub fn draw(&mut self, oracle: &Oracle, now: Timestamp, rng: &mut StdRng) -> Op {
        let total: u32 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.random_range(0..total);
        let mut verb = Verb::Put;
        for (kind, weight) in &self.weights {
            if at < *weight {
                verb = *kind;
                break;
            }
            at -= weight;
        }
        self.op(verb, oracle, now, rng)
    }

    /// An operation of one kind.
    pub fn op(&mut self, verb: Verb, oracle: &Oracle, now: Timestamp, rng: &mut StdRng) -> Op {
        self.next_number += 1;
        let count = match verb {
            Verb::PutMany | Verb::UpdateMany => rng.random_range(2..=6),
            _ => 1,
        };
        let mut keys: Vec<u32> = Vec::new();
        while keys.len() < count {
            let key = self.key(rng);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut policy = WritePolicy {
            durability: match rng.random_range(0..4) {
                0 => Some(Durability::Relaxed),
                1 | 2 => Some(Durability::Group),
                _ => None,
            },
            ..WritePolicy::default()
        };
        if rng.random_range(0..100) < self.ttl_percent {
            let ms =
                if rng.random_bool(0.3) { rng.random_range(1..500) } else { rng.random_range(500..20_000) };
            policy.ttl = match rng.random_range(0..4) {
                0 => Ttl::Keep,
                1 => Ttl::At(now.plus(Duration::from_millis(ms))),
                _ => Ttl::For(Duration::from_millis(ms)),
            };
        } else if rng.random_bool(0.5) {
            policy.ttl = Ttl::Never;
        }
        if matches!(verb, Verb::Put | Verb::Delete | Verb::Update) && rng.random_bool(0.2) {
            let known = oracle.current(keys[0])[0].content.map_or(0, |content| content.generation);
            match rng.random_range(0..3) {
                0 => policy.exists = [Exists::CreateOnly, Exists::UpdateOnly][rng.random_range(0..2)],
                1 => policy.generation = Generation::Equal(known),
                _ => policy.generation = Generation::Greater(known.saturating_add(rng.random_range(0..3))),
            }
        }
        Op { verb, keys, number: self.next_number, policy, decisions: Arc::default() }
    }

    /// Starts an operation. Nothing happens before it is polled.
    pub fn start(&self, op: &Op, store: AsyncNamespace) -> Doing {
        let (op, seed) = (op.clone(), self.seed);
        Box::pin(async move { carry_out(op, seed, store).await })
    }
}

async fn carry_out(op: Op, seed: u64, store: AsyncNamespace) -> Result<Answer, Error> {
    let key = key_of(op.keys[0]);
    let value = |key: u32| bytes_of(seed, key, op.number);
    match op.verb {
        Verb::Put => {
            let bytes = value(op.keys[0]);
            let bins: [Bin<'_>; 2] = [("v", Value::Bytes(&bytes)), ("n", Value::Integer(0))];
            store.put(&key, &bins, &op.policy).await.map(|_| Answer::Done)
        }
        Verb::Delete => store.delete(&key, &op.policy).await.map(Answer::Was),
        Verb::Touch => store.touch(&key, &op.policy).await.map(|found| Answer::Was(found.is_some())),
        Verb::Update => {
            let change = |old: Option<&Record>| {
                let (decision, outcome) = decide(&op, seed, op.keys[0], old)?;
                *op.decisions.lock().expect("one thread") = vec![decision];
                Ok::<_, Error>(outcome)
            };
            store.update(&key, &op.policy, change).await.map(|_| Answer::Done)
        }
        Verb::PutMany => {
            let values: Vec<_> = op.keys.iter().map(|&key| value(key)).collect();
            let bins: Vec<[Bin<'_>; 2]> =
                values.iter().map(|v| [("v", Value::Bytes(v)), ("n", Value::Integer(0))]).collect();
            let records: Vec<_> =
                op.keys.iter().zip(&bins).map(|(&key, bins)| (key_of(key), &bins[..])).collect();
            store.put_many(&records, &op.policy).await.map(|()| Answer::Done)
        }
        Verb::UpdateMany => {
            let keys: Vec<_> = op.keys.iter().map(|&key| key_of(key)).collect();
            let change = |old: &[Option<Record>]| {
                let mut outcomes = Vec::new();
                let mut decisions = Vec::new();
                for (&key, old) in op.keys.iter().zip(old) {
                    let (decision, outcome) = decide(&op, seed, key, old.as_ref())?;
                    decisions.push(decision);
                    outcomes.push(outcome);
                }
                *op.decisions.lock().expect("one thread") = decisions;
                Ok::<_, Error>(outcomes)
            };
            store.update_many(&keys, &op.policy, change).await.map(|_| Answer::Done)
        }
        Verb::Get => read(&store, seed, op.keys[0]).await.map(Answer::Read),
        Verb::Exists => store.exists(&key).await.map(Answer::Known),
        Verb::Truncate => {
            store.truncate(Some(super::version::set_of(op.keys[0]))).await.map(|()| Answer::Done)
        }
        Verb::Scan => walk(&store, seed).await.map(Answer::Walked),
        Verb::Flush => store.flush().await.map(|()| Answer::Done),
        Verb::Checkpoint => store.checkpoint().await.map(|_| Answer::Done),
    }
}

fn decide(op: &Op, seed: u64, key: u32, old: Option<&Record>) -> Result<(Decision, Outcome), Error> {
    let found = old.map_or(Seen::Absent, |record| seen_of(seed, key, record));
    let choice = match (&found, (op.number ^ u64::from(key)) % 8) {
        (Seen::Present(_), 0) => Choice::Delete,
        (_, 1) => Choice::Keep,
        (Seen::Present(content), _) => Choice::Put(content.count + 1),
        _ => Choice::Put(1),
    };
    let outcome = match choice {
        Choice::Delete => Outcome::Delete,
        Choice::Keep => Outcome::Keep,
        Choice::Put(count) => {
            let bytes = bytes_of(seed, key, op.number);
            Outcome::Put(Draft::new().bin("v", Value::Bytes(&bytes))?.bin("n", count)?)
        }
    };
    Ok((Decision { found, choice }, outcome))
}

/// What one key has.
pub async fn read(store: &AsyncNamespace, seed: u64, key: u32) -> Result<Seen, Error> {
    let record = store.get(&key_of(key)).await?;
    Ok(record.map_or(Seen::Absent, |record| seen_of(seed, key, &record)))
}

/// Everything that a scan gives.
pub async fn walk(store: &AsyncNamespace, seed: u64) -> Result<Vec<(Option<u32>, Seen)>, Error> {
    let mut found = Vec::new();
    let mut from = Some(ScanPoint::START);
    while let Some(point) = from {
        let page = store.scan(point, None, 4096).await?;
        for record in &page.records {
            let key = number_of(record);
            found.push((
                key,
                key.map_or(Seen::Garbage("no user key".into()), |key| seen_of(seed, key, record)),
            ));
        }
        found.extend(page.errors.iter().map(|error| (None, Seen::Refused(error.to_string()))));
        from = page.next;
    }
    Ok(found)
}
