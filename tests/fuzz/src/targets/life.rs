//! A life of the engine, drawn by the input, compared with a map.
//!
//! As `tests/tests/engine_model.rs`, but the steps come from the fuzzer, which keeps those that reach new code, and there
//! are more kinds: conditional writes, touch, increments, groups that also delete, checkpoints, single jobs, crashes with
//! writes in flight. A crash takes an image of the devices and goes on with that; the engine that was left behind is
//! closed on devices that nobody looks at again, so that nothing leaks.

use crate::bytes::recipe;
use aerolith_engine::device::Device;
use aerolith_engine::{
    Clock, Draft, Durability, Error, Exists, Generation, Outcome, ScanPoint, Ttl, Value, WritePolicy,
};
use aerolith_tests::World;
use aerolith_tests::device::{Survival, TestDevice};
use aerolith_tests::model::{Model, Version, bytes_of, key_of, read, value_of};
use arbitrary::Arbitrary;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const BLOCK_SIZE: u32 = 16 << 10;
/// Steps of one life; what an input has beyond is left out.
const STEPS: usize = 400;

#[derive(Arbitrary, Debug)]
enum Step {
    Put { key: u8, ttl_ms: Option<u16> },
    PutIf { key: u8, create: bool, generation: u8 },
    Delete { key: u8 },
    Touch { key: u8, ttl_ms: Option<u16> },
    Increment { key: u8, by: u8 },
    Durable { key: u8 },
    Group { keys: [u8; 3], count: u8, delete_last: bool },
    Many { first: u8, count: u8 },
    Truncate { all: bool },
    Scan,
    Verify,
    Flush,
    Clock { ms: u16 },
    Job { which: u8, times: u8 },
    Settle,
    Checkpoint,
    Crash { held: u8, survival: u8, seed: u8 },
    Close { use_checkpoint: bool },
}

#[derive(Arbitrary, Debug)]
struct Recipe {
    devices: u8,
    blocks: u8,
    keys: u8,
    read_cache: bool,
    checkpoints: bool,
    steps: Vec<Step>,
}

struct Life {
    world: World,
    devices: Vec<Arc<TestDevice>>,
    model: Model,
    keys: u32,
    number: u64,
    /// The generation of each key that has a record, as far as it was told.
    generations: HashMap<u32, u16>,
}

impl Life {
    fn new(recipe: &Recipe) -> Self {
        let size = (20 + u64::from(recipe.blocks % 16)) * u64::from(BLOCK_SIZE);
        let device = |i| Arc::new(TestDevice::new(&format!("memory-{i}"), size));
        let devices: Vec<_> = (0..1 + recipe.devices % 2).map(device).collect();
        let mut world = World::on(handed(&devices), BLOCK_SIZE);
        world.config.read_cache_size = if recipe.read_cache { 64 << 10 } else { 0 };
        world.config.checkpoint_period = recipe.checkpoints.then_some(Duration::from_secs(2));
        world.config.scrub_rate = 4 << 20;
        world.open();
        let keys = 8 + u32::from(recipe.keys % 56);
        Life { world, devices, model: Model::default(), keys, number: 0, generations: HashMap::new() }
    }

    fn now_ms(&self) -> u64 {
        self.world.clock.now().0
    }

    fn key(&self, key: u8) -> u32 {
        u32::from(key) % self.keys
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn check(&mut self, key: u32, context: &str) {
        let found = read(&mut self.world, key);
        assert_eq!(found, self.model.current(key, self.now_ms()), "{context}: key {key}");
    }

    fn expires_ms(&self, ttl: Ttl) -> u64 {
        match ttl {
            Ttl::For(time) => self.now_ms() + time.as_millis() as u64,
            _ => 0,
        }
    }

    fn step(&mut self, step: Step) {
        let context = format!("{step:?}");
        match step {
            Step::Put { key, ttl_ms } => {
                let (key, number) = (self.key(key), self.next());
                self.model.put(&mut self.world, key, number, ttl_ms.map(|ms| u64::from(ms) + 1));
                self.generations.remove(&key);
                self.check(key, &context);
            }
            Step::PutIf { key, create, generation } => self.put_if(self.key(key), create, generation),
            Step::Delete { key } => {
                let key = self.key(key);
                self.model.delete(&mut self.world, key);
                self.generations.remove(&key);
                self.check(key, &context);
            }
            Step::Touch { key, ttl_ms } => {
                let (key, store) = (self.key(key), self.world.namespace());
                let ttl = ttl_ms.map_or(Ttl::Never, |ms| Ttl::For(Duration::from_millis(u64::from(ms) + 1)));
                let current = self.model.current(key, self.now_ms());
                let touched = self.world.run(store.touch(&key_of(key), &WritePolicy::with_ttl(ttl)));
                let is_there = match touched {
                    Ok(found) => found.is_some(),
                    Err(Error::NotFound) => false,
                    Err(error) => panic!("{context}: {error}"),
                };
                assert_eq!(is_there, current.is_some(), "{context}");
                if is_there {
                    let expires_ms = self.expires_ms(ttl);
                    self.model.note(key, Version { value: current, expires_ms });
                }
                self.generations.remove(&key);
                self.check(key, &context);
            }
            Step::Increment { key, by } => self.increment(self.key(key), u64::from(by)),
            Step::Durable { key } => {
                let (key, number, store) = (self.key(key), self.next(), self.world.namespace());
                let bytes = bytes_of(key, number);
                let policy = WritePolicy {
                    durability: Some(Durability::Group),
                    ttl: Ttl::Never,
                    ..WritePolicy::default()
                };
                self.world
                    .run(store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy))
                    .expect("a put");
                let count = self.model.note(key, Version { value: Some(number), expires_ms: 0 });
                self.model.durable(key, count);
                self.generations.remove(&key);
            }
            Step::Group { keys, count, delete_last } => self.group(&keys, count, delete_last),
            Step::Many { first, count } => {
                for i in 0..count % 64 {
                    let (key, number) = (self.key(first.wrapping_add(i)), self.next());
                    self.model.put(&mut self.world, key, number, None);
                    self.generations.remove(&key);
                }
            }
            Step::Truncate { all } => {
                let store = self.world.namespace();
                self.world.run(store.truncate((!all).then_some("keys"))).expect("a truncation");
                self.model.truncate();
                self.generations.clear();
                (0..self.keys).for_each(|key| self.check(key, &context));
            }
            Step::Scan => self.scan(),
            Step::Verify => _ = self.world.verify(&context),
            Step::Flush => {
                self.world.flush();
                self.model.all_durable();
            }
            Step::Clock { ms } => self.world.clock.advance(Duration::from_millis(ms.into())),
            Step::Job { which, times } => {
                let count = self.world.engine().job_count().max(1);
                for _ in 0..times % 32 {
                    self.world.engine().step_job(usize::from(which) % count);
                }
            }
            Step::Settle => self.world.settle(),
            Step::Checkpoint => {
                let store = self.world.namespace();
                self.world.run(store.checkpoint()).expect("a checkpoint is made or not");
            }
            Step::Crash { held, survival, seed } => self.crash(held, survival, seed),
            Step::Close { use_checkpoint } => {
                self.world.close();
                self.model.all_durable();
                self.world.config.use_checkpoint = use_checkpoint;
                self.open(&context);
            }
        }
    }

    fn put_if(&mut self, key: u32, create: bool, generation: u8) {
        let (number, store) = (self.next(), self.world.namespace());
        let bytes = bytes_of(key, number);
        let is_there = self.model.current(key, self.now_ms()).is_some();
        let known = self.generations.get(&key).copied();
        let expected = match generation % 3 {
            0 => Generation::Any,
            1 => known.map_or(Generation::Any, Generation::Equal),
            _ => known.map_or(Generation::Any, |known| Generation::Equal(known.wrapping_add(7))),
        };
        let exists = if create { Exists::CreateOnly } else { Exists::UpdateOnly };
        let policy = WritePolicy { exists, generation: expected, ttl: Ttl::Never, ..WritePolicy::default() };
        let put = self.world.run(store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy));
        let may = is_there != create && !(generation % 3 == 2 && known.is_some() && is_there);
        match put {
            Ok(put) => {
                assert!(may, "key {key}: a conditional put was done");
                if let (Some(known), true) = (known, is_there) {
                    assert_eq!(put.generation, if known == u16::MAX { 1 } else { known + 1 }, "key {key}");
                }
                self.model.note(key, Version { value: Some(number), expires_ms: 0 });
                self.generations.insert(key, put.generation);
            }
            Err(Error::Exists) => assert!(create && is_there, "key {key} does not exist"),
            Err(Error::NotFound) => assert!(!create && !is_there, "key {key} exists"),
            // A key that is not there has generation 0.
            Err(Error::Generation { .. }) => assert!(!may || !is_there, "key {key}: another generation"),
            Err(error) => panic!("key {key}: {error}"),
        }
        self.check(key, "a conditional put");
    }

    fn increment(&mut self, key: u32, by: u64) {
        let store = self.world.namespace();
        let current = self.model.current(key, self.now_ms());
        let mut seen = None;
        let (name, policy) = (key_of(key), WritePolicy { ttl: Ttl::Never, ..WritePolicy::default() });
        let updated = store.update(&name, &policy, |old| {
            seen = old
                .map(|old| value_of(key, old.bin("v").and_then(|v| v.as_bytes()).expect("the bin is there")));
            let Some(value) = seen else { return Ok::<_, Error>(Outcome::Keep) };
            if by == 0 {
                return Ok(Outcome::Delete);
            }
            let bytes = bytes_of(key, value + by);
            Ok(Outcome::Put(Draft::new().bin("v", Value::Bytes(&bytes))?))
        });
        self.world.run(updated).expect("an update");
        assert_eq!(seen, current, "key {key}: an update saw another value");
        if let Some(value) = current {
            let value = (by != 0).then_some(value + by);
            self.number = self.number.max(value.unwrap_or(0));
            self.model.note(key, Version { value, expires_ms: 0 });
        }
        self.generations.remove(&key);
        self.check(key, "an update");
    }

    fn group(&mut self, keys: &[u8; 3], count: u8, delete_last: bool) {
        let mut keys: Vec<u32> =
            keys.iter().map(|key| self.key(*key)).take(1 + usize::from(count % 3)).collect();
        keys.sort_unstable();
        keys.dedup();
        let (number, store) = (self.next(), self.world.namespace());
        let names: Vec<_> = keys.iter().map(|key| key_of(*key)).collect();
        let policy = WritePolicy { ttl: Ttl::Never, ..WritePolicy::default() };
        let there = self.model.current(keys[keys.len() - 1], self.now_ms()).is_some();
        let delete_last = delete_last && keys.len() > 1 && there;
        let done = store.update_many(&names, &policy, |old| {
            assert_eq!(old.len(), keys.len());
            let outcome = |(i, key): (usize, &u32)| {
                if delete_last && i + 1 == keys.len() {
                    return Ok(Outcome::Delete);
                }
                let bytes = bytes_of(*key, number);
                Ok::<_, Error>(Outcome::Put(Draft::new().bin("v", Value::Bytes(&bytes))?))
            };
            keys.iter().enumerate().map(outcome).collect()
        });
        self.world.run(done).expect("a group");
        if delete_last {
            let (last, put) = keys.split_last().expect("two keys at least");
            put.iter()
                .for_each(|key| _ = self.model.note(*key, Version { value: Some(number), expires_ms: 0 }));
            self.model.note(*last, Version { value: None, expires_ms: 0 });
        } else {
            self.model.note_group(&keys, number);
        }
        for key in keys {
            self.generations.remove(&key);
            self.check(key, "a group");
        }
    }

    fn scan(&mut self) {
        let (mut from, mut seen) = (ScanPoint::START, 0);
        let expected = (0..self.keys).filter(|key| self.model.current(*key, self.now_ms()).is_some()).count();
        loop {
            let store = self.world.namespace();
            let page = self.world.run(store.scan(from, Some("keys"), 7)).expect("a scan");
            assert!(page.errors.is_empty(), "a scan: {:?}", page.errors);
            seen += page.records.len();
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(seen, expected, "a scan found another number of records");
    }

    fn crash(&mut self, held: u8, survival: u8, seed: u8) {
        let mut rng = StdRng::seed_from_u64(seed.into());
        if held > 0 {
            self.devices.iter().for_each(|device| device.hold(true));
            for _ in 0..held % 16 {
                self.world.engine().step_job(0);
                self.world.clock.advance(Duration::from_millis(200));
            }
        }
        let survival = match survival % 8 {
            0 => Survival::None,
            1 => Survival::All,
            2 => Survival::Some(10),
            3 => Survival::Some(50),
            4 => Survival::AllButOne,
            5 => Survival::AllButFirst,
            6 => Survival::Prefix,
            _ => Survival::Writes,
        };
        let images: Vec<_> = self.devices.iter().map(|device| device.image(survival, &mut rng)).collect();
        self.devices.iter().for_each(|device| device.hold(false));
        self.world.close();
        let device = |(i, bytes)| Arc::new(TestDevice::with_bytes(&format!("memory-{i}"), bytes));
        self.devices = images.into_iter().enumerate().map(device).collect();
        let config = self.world.config.clone();
        let clock = self.world.clock.clone();
        self.world = World::on(handed(&self.devices), BLOCK_SIZE);
        self.world.config =
            aerolith_engine::NamespaceConfig { devices: self.world.config.devices.clone(), ..config };
        self.world.clock = clock;
        self.open("a crash");
    }

    fn open(&mut self, context: &str) {
        self.world.open();
        self.model.check_after_crash(&mut self.world, context);
        self.generations.clear();
    }
}

fn handed(devices: &[Arc<TestDevice>]) -> Vec<Arc<dyn Device>> {
    devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect()
}

pub fn run(data: &[u8]) {
    let Some(recipe) = recipe::<Recipe>(data) else { return };
    let mut life = Life::new(&recipe);
    recipe.steps.into_iter().take(STEPS).for_each(|step| life.step(step));
    life.model.check(&mut life.world, "at the end");
    life.world.verify("at the end");
    life.step(Step::Crash { held: 0, survival: 1, seed: 0 });
    life.world.verify("after the last crash");
    life.world.close();
}

pub fn seeds() -> Vec<Vec<u8>> {
    use rand::RngExt;
    let mut rng = StdRng::seed_from_u64(3);
    (0..24)
        .map(|i| {
            let mut bytes = vec![0; 100 + 40 * i];
            rng.fill(&mut bytes[..]);
            bytes
        })
        .collect()
}
