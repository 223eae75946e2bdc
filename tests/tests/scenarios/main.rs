//! Mistakes that log-structured hybrid engines make at a crash, one directed test each, named after it.
//!
//! The numbers are those of the list in `docs/RELIABILITY.md`. Each test builds the situation by hand, on devices that
//! answer when they are told to, and would fail if the engine made the mistake. `planted.rs` proves that for all that can be
//! planted: it makes the mistake and demands that the test fails.

mod checkpoints;
mod commits;
mod deletions;
mod lives;
mod moves;
#[cfg(feature = "planted-bugs")]
mod planted;
mod starts;

use aerolith_engine::{Durability, Value, WritePolicy};
use aerolith_tests::World;
use aerolith_tests::device::{Survival, TestDevice, images};
use aerolith_tests::model::{Model, bytes_of, key_of};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::pin::Pin;
use std::sync::Arc;

type Write = Pin<Box<dyn Future<Output = Result<(), aerolith_engine::Error>>>>;

/// A world of one key each with its own number as value, all on the device.
fn filled(world: &mut World, keys: u32) -> Model {
    let mut model = Model::default();
    for key in 0..keys {
        model.put(world, key, u64::from(key), None);
    }
    world.flush();
    model
}

/// The `n`th of the values that take most space.
fn large(n: u64) -> u64 {
    n * 7 + 6
}

/// A put that has not been polled yet.
fn put(world: &World, key: u32, value: u64, durability: Durability) -> Write {
    let store = world.namespace();
    let policy = WritePolicy { durability: Some(durability), ..WritePolicy::default() };
    Box::pin(async move {
        let bytes = bytes_of(key, value);
        store.put(&key_of(key), &[("v", Value::Bytes(&bytes))], &policy).await.map(drop)
    })
}

/// What is left if the power goes now and takes all that is not durable.
fn cut(devices: &[Arc<TestDevice>]) -> Vec<Arc<TestDevice>> {
    images(devices, |device| device.image(Survival::None, &mut StdRng::seed_from_u64(0)))
}

/// An engine that has read all blocks of these devices, whatever checkpoint they have.
fn swept(devices: &[Arc<TestDevice>], like: &World) -> World {
    let mut world = World::of(devices).like(like);
    world.config.use_checkpoint = false;
    world.opened()
}
