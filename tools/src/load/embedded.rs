//! The engine in this process, for load.
//!
//! With one request in flight a worker calls the blocking API, as a program with threads does. With more it awaits
//! futures on a ring of its own, as an async program does.

use super::LoadError;
use super::clock::{Clock, gap};
use super::flight::Flight;
use super::lane::{Answer, Lane, Outcome};
use super::mix::Operation;
use super::target::{COUNT_KEY, LaneSize, Request, StoreLane, Target, write_key};
use aerolith_engine::{
    AsyncNamespace, Engine, Error, Exists, Key, LocalRing, Namespace, Record, ScanPoint, Ttl, Value,
    WritePolicy,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// The set of the count of records.
const COUNT_SET: &str = "bench.count";
/// The bin that holds the value.
const BIN: &str = "value";
/// Requests in flight of a worker while records are loaded.
const LOAD_DEPTH: usize = 16;
/// Entries of a worker's ring at the most; more requests wait in it.
const RING_ENTRIES: usize = 1024;
/// Partitions of a namespace: a scan begins at one.
const PARTITIONS: u64 = 4096;

/// An engine with one namespace.
pub struct Embedded {
    engine: Engine,
    store: Store,
    name: String,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Store {
    namespace: Namespace,
    set: Arc<str>,
    prefix: Arc<str>,
}

/// An answer that holds its bytes.
enum Held {
    Record(Option<Record>),
    Records(Vec<Option<Record>>),
    Done(bool),
    Failed(String),
}

impl Embedded {
    /// The namespace's set of records, in an engine that is open.
    pub fn new(
        engine: Engine,
        namespace: &str,
        set: &str,
        prefix: &str,
        name: String,
        clock: Arc<dyn Clock>,
    ) -> Result<Embedded, LoadError> {
        let namespace = engine.namespace(namespace).map_err(|error| LoadError(error.to_string()))?;
        let store = Store { namespace, set: set.into(), prefix: prefix.into() };
        Ok(Embedded { engine, store, name, clock })
    }
}

impl Embedded {
    /// What a record with a value of this size takes on the device, in bytes: record 0 is written with one.
    pub fn stored_size(&self, value_size: u64) -> Result<u64, LoadError> {
        let value = vec![0; value_size as usize];
        let bytes = self.store.key_bytes(0);
        let key = self.store.key(0, &bytes).map_err(|error| LoadError(error.to_string()))?;
        let written = self.store.namespace.put(&key, &[(BIN, Value::Bytes(&value))], &policy(None));
        written.map(|metadata| u64::from(metadata.stored_size)).map_err(|error| LoadError(error.to_string()))
    }

    /// How many bytes of records the namespace takes.
    pub fn used_limit(&self) -> u64 {
        self.store.namespace.stats().used_limit
    }
}

impl Target for Embedded {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn lane(&self, size: LaneSize) -> Result<StoreLane, LoadError> {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        if size.depth == 1 {
            return Ok(Box::new(Blocking { store, clock, done: None }));
        }
        let ring = LocalRing::install(size.depth.min(RING_ENTRIES) as u32 + 1).map_err(|error| {
            LoadError(format!(
                "a depth of {} needs io_uring, which is not to be had here: {error}. Use --depth 1 and more --threads",
                size.depth
            ))
        })?;
        let store = AsyncStore { namespace: store.namespace.to_async(), store };
        Ok(Box::new(Futures { flight: Flight::new(ring, clock), store, depth: size.depth }))
    }

    fn load_depth(&self) -> usize {
        if LocalRing::install(2).is_ok() { LOAD_DEPTH } else { 1 }
    }

    fn stands_for(&self, operation: Operation) -> Result<Option<&'static str>, LoadError> {
        Ok(match operation {
            Operation::Scan => Some(
                "scan: the engine has no order of keys; a scan reads so many records of the set in the order of digests, \
                 from a partition drawn at random",
            ),
            Operation::ReadModifyWrite => Some("rmw is get, then put: two calls, not one step"),
            _ => None,
        })
    }

    fn largest_value(&self) -> Option<u64> {
        // Key, set and names of bins take of it too.
        Some(u64::from(self.store.namespace.record_limit()).saturating_sub(512))
    }

    fn settle(&self) -> Result<(), LoadError> {
        self.store.namespace.flush().map_err(|error| LoadError(error.to_string()))
    }

    fn close(self: Box<Self>) -> Result<(), LoadError> {
        drop(self.store);
        self.engine.close().map_err(|error| LoadError(error.to_string()))
    }
}

impl Store {
    fn key_bytes(&self, key: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.prefix.len() + 16);
        write_key(&mut bytes, &self.prefix, key);
        bytes
    }

    fn carry_out(&self, request: &Request) -> Result<Held, Error> {
        Ok(match request {
            Request::Get(key) => Held::Record(self.namespace.get(&self.key(*key, &self.key_bytes(*key))?)?),
            Request::Put { key, value, ttl } => {
                let bytes = self.key_bytes(*key);
                self.namespace.put(&self.key(*key, &bytes)?, &[(BIN, Value::Bytes(value))], &policy(*ttl))?;
                Held::Done(true)
            }
            Request::Delete(key) => {
                Held::Done(self.namespace.delete(&self.key(*key, &self.key_bytes(*key))?, &policy(None))?)
            }
            Request::Expire { key, ttl } => Held::Done(
                self.namespace.touch(&self.key(*key, &self.key_bytes(*key))?, &policy(Some(*ttl)))?.is_some(),
            ),
            Request::GetMany(keys) => {
                let bytes: Vec<Vec<u8>> = keys.iter().map(|&key| self.key_bytes(key)).collect();
                let keys = keys
                    .iter()
                    .zip(&bytes)
                    .map(|(&key, bytes)| self.key(key, bytes))
                    .collect::<Result<Vec<_>, _>>()?;
                Held::Records(self.namespace.get_many(&keys)?)
            }
            Request::Scan { from, limit } => {
                let from = ScanPoint::partition((from % PARTITIONS) as u16);
                scanned(self.namespace.scan(from, Some(&self.set), *limit)?)?
            }
        })
    }

    /// The count of records is in a set of its own, so that a scan does not come upon it.
    fn key<'a>(&'a self, number: u64, bytes: &'a [u8]) -> Result<Key<'a>, Error> {
        let set = if number == COUNT_KEY { COUNT_SET } else { &self.set };
        // All that `write_key` appends are digits; the prefix came as a string.
        let text = std::str::from_utf8(bytes).expect("a prefix and digits");
        Ok(Key::new(set, text)?)
    }
}

fn scanned(page: aerolith_engine::ScanPage) -> Result<Held, Error> {
    match page.errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(Held::Records(page.records.into_iter().map(Some).collect())),
    }
}

fn policy(ttl: Option<Duration>) -> WritePolicy {
    WritePolicy { exists: Exists::Any, ..WritePolicy::with_ttl(ttl.map_or(Ttl::Never, Ttl::For)) }
}

fn value(record: &Option<Record>) -> Option<&[u8]> {
    let record = record.as_ref()?;
    // A record without the bin is not ours: an empty value says so when it is verified.
    Some(record.bin(BIN).and_then(|value| value.as_bytes()).unwrap_or(&[]))
}

fn hand_over(slot: usize, at_ns: u64, held: &Held, answers: &mut dyn FnMut(Answer<'_>)) {
    let outcome = match held {
        Held::Record(record) => Outcome::Value(value(record)),
        Held::Records(records) => Outcome::Values(records.iter().map(value).collect()),
        Held::Done(was_there) => Outcome::Done(*was_there),
        Held::Failed(message) => Outcome::Failed(message),
    };
    answers(Answer { slot, at_ns, outcome });
}

/// Blocking calls: each is over when `submit` returns.
struct Blocking {
    store: Store,
    clock: Arc<dyn Clock>,
    done: Option<(usize, u64, Held)>,
}

impl Lane<Request> for Blocking {
    fn capacity(&self) -> usize {
        1
    }

    fn submit(&mut self, slot: usize, request: Request) -> Result<(), LoadError> {
        let held = self.store.carry_out(&request).unwrap_or_else(|error| Held::Failed(error.to_string()));
        self.done = Some((slot, self.clock.now_ns(), held));
        Ok(())
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        match self.done.take() {
            Some((slot, at_ns, held)) => hand_over(slot, at_ns, &held, answers),
            None => std::thread::sleep(gap(self.clock.now_ns(), until_ns)),
        }
        Ok(())
    }
}

#[derive(Clone)]
struct AsyncStore {
    namespace: AsyncNamespace,
    store: Store,
}

type Flying = Pin<Box<dyn Future<Output = (usize, Held)>>>;

/// Futures on this thread's ring.
struct Futures {
    flight: Flight<Flying>,
    store: AsyncStore,
    depth: usize,
}

impl AsyncStore {
    async fn carry_out(&self, request: Request) -> Result<Held, Error> {
        let AsyncStore { namespace, store } = self;
        Ok(match request {
            Request::Get(key) => Held::Record(namespace.get(&store.key(key, &store.key_bytes(key))?).await?),
            Request::Put { key, value, ttl } => {
                let bytes = store.key_bytes(key);
                namespace.put(&store.key(key, &bytes)?, &[(BIN, Value::Bytes(&value))], &policy(ttl)).await?;
                Held::Done(true)
            }
            Request::Delete(key) => {
                Held::Done(namespace.delete(&store.key(key, &store.key_bytes(key))?, &policy(None)).await?)
            }
            Request::Expire { key, ttl } => {
                let bytes = store.key_bytes(key);
                Held::Done(namespace.touch(&store.key(key, &bytes)?, &policy(Some(ttl))).await?.is_some())
            }
            Request::GetMany(keys) => {
                let bytes: Vec<Vec<u8>> = keys.iter().map(|&key| store.key_bytes(key)).collect();
                let keys = keys
                    .iter()
                    .zip(&bytes)
                    .map(|(&key, bytes)| store.key(key, bytes))
                    .collect::<Result<Vec<_>, _>>()?;
                Held::Records(namespace.get_many(&keys).await?)
            }
            Request::Scan { from, limit } => {
                let from = ScanPoint::partition((from % PARTITIONS) as u16);
                scanned(namespace.scan(from, Some(&store.set), limit).await?)?
            }
        })
    }
}

impl Lane<Request> for Futures {
    fn capacity(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, slot: usize, request: Request) -> Result<(), LoadError> {
        let store = self.store.clone();
        self.flight.push(Box::pin(async move {
            let held = store.carry_out(request).await;
            (slot, held.unwrap_or_else(|error| Held::Failed(error.to_string())))
        }));
        Ok(())
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        self.flight.poll(until_ns, |at_ns, (slot, held)| hand_over(slot, at_ns, &held, answers))
    }
}
