//! Power cuts at every write, in every way that sectors can be lost.
//!
//! A life on small devices whose writes are held back and answered in any order. At every cut an image of the devices
//! is taken: what is in flight has each of its sectors of 512 bytes kept or lost. A fresh engine opens the image and
//! is compared with the model: what was acknowledged as durable is there, nothing is garbage, what was deleted or
//! has expired stays gone, a group is there whole or not at all, the books are right. Some images go on: the engine
//! works on them, or is still opening, when the next cut comes.
//!
//! A failure names its seed: `AEROLITH_SEED=n cargo test -p aerolith-tests --test crash_points`.

use aerolith_engine::device::Device;
use aerolith_engine::{Bin, Clock, Durability, Error, Ttl, Value, WritePolicy};
use aerolith_tests::device::{Survival, TestDevice, devices, images};
use aerolith_tests::model::{Model, Version, bytes_of, key_of};
use aerolith_tests::{World, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Promised = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// A write that waits to be acknowledged as durable, and what that will make durable.
struct Promise {
    future: Promised,
    versions: Vec<(u32, usize)>,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    images: u64,
    in_opening: u64,
    in_work_after: u64,
    with_writes_in_flight: u64,
    acknowledged: u64,
    groups: u64,
    defragged: u64,
    truncations: u64,
}

/// A world whose devices hold their writes back.
struct Life {
    world: World,
    devices: Vec<Arc<TestDevice>>,
    model: Model,
    promises: Vec<Promise>,
    rng: StdRng,
    number: u64,
    keys: u32,
}

impl Drop for Life {
    /// An engine that closes waits for its devices.
    fn drop(&mut self) {
        self.devices.iter().for_each(|device| device.hold(false));
    }
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let (count, blocks) = (rng.random_range(1..3), rng.random_range(14..30));
        let devices = devices(count, blocks);
        let mut world = World::of(&devices);
        if rng.random_bool(0.3) {
            world.config.durability = Durability::Group;
        }
        let keys = rng.random_range(10..60);
        Life { world, devices, model: Model::default(), promises: Vec::new(), rng, number: seed << 32, keys }
    }

    /// Steps the engine and lets the devices answer some of what they hold.
    fn pump(&mut self) {
        self.world.engine().step();
        let device = &self.devices[self.rng.random_range(0..self.devices.len())];
        for _ in 0..self.rng.random_range(0..3) {
            device.release(self.rng.random_range(0..device.held_count().max(1)));
        }
        if self.rng.random_bool(0.2) {
            self.world.clock.advance(Duration::from_millis(self.rng.random_range(1..400)));
        }
    }

    /// Asks the promises; what they keep is durable.
    fn collect(&mut self, tally: &mut Tally) {
        let mut context = Context::from_waker(Waker::noop());
        let mut i = 0;
        while i < self.promises.len() {
            match self.promises[i].future.as_mut().poll(&mut context) {
                Poll::Pending => i += 1,
                Poll::Ready(result) => {
                    result.expect("a write");
                    tally.acknowledged += 1;
                    for (key, count) in self.promises.swap_remove(i).versions {
                        self.model.durable(key, count);
                    }
                }
            }
        }
    }

    /// Starts a write and pumps until it is applied. What waits for durability then is a promise.
    fn write(
        &mut self,
        mut future: Promised,
        by: u64,
        tally: &mut Tally,
        note: impl FnOnce(&mut Model, u64) -> Vec<(u32, usize)>,
        is_group: bool,
    ) {
        let applied = |life: &Life| {
            let counters = life.world.namespace().stats().counters;
            counters.writes + counters.deletes
        };
        let before = applied(self);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100_000 {
            let done = future.as_mut().poll(&mut context);
            if let Poll::Ready(result) = done {
                if applied(self) == before {
                    assert!(matches!(result, Err(Error::NoSpace { .. }) | Ok(())), "{result:?}");
                    return;
                }
                let versions = note(&mut self.model, self.world.clock.now().0);
                if is_group {
                    versions.iter().for_each(|&(key, count)| self.model.durable(key, count));
                    tally.acknowledged += 1;
                }
                return;
            }
            if applied(self) >= before + by {
                let versions = note(&mut self.model, self.world.clock.now().0);
                self.promises.push(Promise { future, versions });
                return;
            }
            self.pump();
        }
        panic!("a write is stuck");
    }

    fn policy(&mut self) -> (WritePolicy, bool) {
        let durability = match self.rng.random_range(0..3) {
            0 => Some(Durability::Group),
            1 => Some(Durability::Relaxed),
            _ => None,
        };
        let durable = durability.unwrap_or(self.world.config.durability) == Durability::Group;
        (WritePolicy { durability, ..WritePolicy::default() }, durable)
    }

    fn act(&mut self, tally: &mut Tally) {
        self.number += 1;
        let (number, key, store) = (self.number, self.rng.random_range(0..self.keys), self.world.namespace());
        let (mut policy, is_durable) = self.policy();
        match self.rng.random_range(0..100) {
            0..45 => {
                let ttl_ms = self.rng.random_bool(0.3).then(|| self.rng.random_range(1..8_000));
                policy.ttl = ttl_ms.map_or(Ttl::Never, |ms| Ttl::For(Duration::from_millis(ms)));
                let put = async move {
                    let bytes = bytes_of(key, number);
                    store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy).await.map(drop)
                };
                let note = move |model: &mut Model, now_ms: u64| {
                    let expires_ms = ttl_ms.map_or(0, |ttl| now_ms + ttl);
                    vec![(key, model.note(key, Version { value: Some(number), expires_ms }))]
                };
                self.write(Box::pin(put), 1, tally, note, is_durable);
            }
            45..57 => {
                let delete = async move { store.delete(&key_of(key), &policy).await.map(drop) };
                let note = move |model: &mut Model, _: u64| {
                    vec![(key, model.note(key, Version { value: None, expires_ms: 0 }))]
                };
                self.write(Box::pin(delete), 1, tally, note, is_durable);
            }
            57..67 => {
                tally.groups += 1;
                let count = self.rng.random_range(2..6u32);
                let keys: Vec<u32> = (0..count).map(|i| (key + i * 3) % (self.keys + 15)).collect();
                let group = keys.clone();
                let put = async move {
                    let values: Vec<_> = group.iter().map(|&key| bytes_of(key, number)).collect();
                    let bins: Vec<[Bin<'_>; 1]> = values.iter().map(|v| [("v", Value::Bytes(v))]).collect();
                    let records: Vec<_> =
                        group.iter().zip(&bins).map(|(&key, bins)| (key_of(key), &bins[..])).collect();
                    store.put_many(&records, &policy).await
                };
                let note = move |model: &mut Model, _: u64| model.note_group(&keys, number);
                self.write(Box::pin(put), u64::from(count), tally, note, is_durable);
            }
            67..68 if self.rng.random_bool(0.2) => {
                tally.truncations += 1;
                self.quiet(tally);
                self.world.run(store.truncate(Some("keys"))).expect("a truncation");
                self.model.truncate();
                self.devices.iter().for_each(|device| device.hold(true));
            }
            68..70 => {
                self.quiet(tally);
                self.devices.iter().for_each(|device| device.hold(true));
            }
            70..80 => self.world.clock.advance(Duration::from_millis(self.rng.random_range(1..900))),
            _ => self.pump(),
        }
        self.collect(tally);
    }

    /// Lets everything come to the devices.
    fn quiet(&mut self, tally: &mut Tally) {
        self.devices.iter().for_each(|device| device.hold(false));
        self.world.flush();
        self.collect(tally);
        assert!(self.promises.is_empty(), "everything is on the devices, and somebody still waits for it");
        self.model.all_durable();
    }

    /// What is on the devices if the power goes now.
    fn images(&mut self) -> Vec<Arc<TestDevice>> {
        let survival = Survival::draw(&mut self.rng);
        images(&self.devices, |device| device.image(survival, &mut self.rng))
    }
}

/// Opens an image and compares it with the model. Some go on, and are cut again.
fn check_image(life: &mut Life, context: &str, tally: &mut Tally) {
    tally.images += 1;
    tally.with_writes_in_flight += u64::from(life.devices.iter().any(|device| device.held_count() > 0));
    let image = life.images();
    image.iter().for_each(|device| device.record());
    let mut world = World::of(&image).like(&life.world);
    world.open();
    // A power cut tears what was on its way. It damages nothing of which the log says that it had arrived.
    let found = world.engine().recovery("test").expect("it is configured");
    assert_eq!((found.damaged_versions, found.damaged_runs), (0, 0), "{context}");
    let mut model = life.model.clone();
    model.check_after_crash(&mut world, context);
    world.verify(context);
    if life.rng.random_bool(0.2) {
        // The power went while this engine was opening.
        let survival = Survival::draw(&mut life.rng);
        for at in 0..image.iter().map(|device| device.recorded_count()).max().unwrap_or(0) {
            tally.images += 1;
            tally.in_opening += 1;
            let again = images(&image, |device| {
                device.image_at(at.min(device.recorded_count()), survival, &mut life.rng)
            });
            let mut world = World::of(&again).like(&life.world);
            world.open();
            let mut model = life.model.clone();
            model.check_after_crash(&mut world, &format!("{context}, cut at write {at} of the opening"));
        }
    }
    if life.rng.random_bool(0.2) {
        tally.images += 1;
        tally.in_work_after += 1;
        image.iter().for_each(|device| device.hold(true));
        let rng = StdRng::seed_from_u64(life.rng.random());
        let (number, keys) = (life.number + (1 << 24), life.keys);
        let devices = image;
        let mut after = Life { world, devices, model, promises: Vec::new(), rng, number, keys };
        for _ in 0..after.rng.random_range(1..120) {
            after.act(tally);
        }
        let again = after.images();
        let mut world = World::of(&again).like(&after.world);
        world.open();
        after.model.check_after_crash(&mut world, &format!("{context}, cut again later"));
        world.verify(context);
    }
}

fn life(seed: u64, tally: &mut Tally) {
    let mut life = Life::new(seed);
    life.world.open();
    life.devices.iter().for_each(|device| device.hold(true));
    let context = |at: u64| format!("AEROLITH_SEED={seed} action {at}");
    // The first part of a life only fills blocks, so that they are reused when it counts.
    let quiet_actions = life.rng.random_range(0..1500);
    for at in 0..quiet_actions + 150 {
        let writes = |life: &Life| life.devices.iter().map(|d| d.counters().snapshot().writes).sum::<u64>();
        let held = |life: &Life| life.devices.iter().map(|d| d.held_count()).sum::<usize>();
        let before = (writes(&life), held(&life));
        life.act(tally);
        if at >= quiet_actions && before != (writes(&life), held(&life)) {
            check_image(&mut life, &context(at), tally);
        }
    }
    tally.defragged += life.world.namespace().stats().counters.defragged_blocks;
    life.world.verify(&context(u64::MAX));
}

#[test]
fn after_a_cut_at_any_write_nothing_durable_is_lost_and_nothing_comes_back() {
    let mut tally = Tally::default();
    let seeds = seeds(60);
    let are_few = seeds.end - seeds.start < 12;
    for seed in seeds {
        life(seed, &mut tally);
    }
    println!("{tally:?}");
    let each = [tally.images, tally.in_opening, tally.in_work_after, tally.with_writes_in_flight];
    let each = each.into_iter().chain([tally.acknowledged, tally.groups, tally.defragged]);
    assert!(are_few || each.into_iter().all(|count| count > 0), "something never happened: {tally:?}");
}

#[test]
fn a_cut_while_a_set_is_formatted_leaves_one_that_opens() {
    let mut rng = StdRng::seed_from_u64(1);
    let devices = devices(2, 20);
    devices.iter().for_each(|device| device.record());
    let mut world = World::of(&devices);
    world.open();
    // Room for the roots and two header copies each, device by device; then each is opened for writing, and that is confirmed.
    let order = [0, 0, 0, 1, 1, 1, 0, 1, 0, 1];
    assert_eq!(devices.iter().map(|device| device.recorded_count()).sum::<usize>(), order.len());
    for done in 0..=order.len() {
        for survival in [Survival::None, Survival::All] {
            let mut written = order[..done].iter();
            let of_first = written.by_ref().filter(|&&device| device == 0).count();
            let at = [of_first, done - of_first];
            let next = order.get(done).copied();
            let mut member = 0;
            let image = images(&devices, |device| {
                let survival = if next == Some(member) { survival } else { Survival::None };
                member += 1;
                device.image_at(at[member - 1], survival, &mut rng)
            });
            let mut world = World::of(&image);
            if let Err(error) = world.try_open() {
                panic!("cut after {done} writes, the next {survival:?}: {error}");
            }
            Model::default().put(&mut world, 1, 1, None);
            world.close();
        }
    }
}

/// In this life a block that defrag emptied is opened again, and of its first write all sectors arrive but the
/// header's: it looks like its old self, whose records have been moved and overwritten.
#[test]
fn a_moved_record_is_found_when_its_old_block_lost_only_its_new_header() {
    life(94, &mut Tally::default());
}
