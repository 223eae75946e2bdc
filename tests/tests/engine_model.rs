//! Random lives of an engine, compared with a map after every restart.
//!
//! Small devices, so that blocks are reused within hundreds of operations; puts with and without a time to live,
//! deletes, groups, truncations, clock moves, job steps in between; clean restarts and crashes. A failure names
//! its seed: `AEROLITH_SEED=n cargo test -p aerolith-tests --test engine_model`.

use aerolith_engine::{Bin, Clock, Value, WritePolicy};
use aerolith_tests::model::{Model, Version, bytes_of, key_of};
use aerolith_tests::{World, seeds};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

fn life(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(rng.random_range(1..3), rng.random_range(20..40), 32 << 10);
    let mut model = Model::default();
    let mut number = seed << 32;
    let keys = rng.random_range(20..150);
    for chapter in 0..12 {
        world.open();
        let context = format!("AEROLITH_SEED={seed} chapter {chapter}");
        model.check_after_crash(&mut world, &context);
        for _ in 0..rng.random_range(50..1500) {
            number += 1;
            let key = rng.random_range(0..keys);
            let store = world.namespace();
            match rng.random_range(0..100) {
                0..50 => {
                    let ttl = rng.random_bool(0.4).then(|| rng.random_range(1..20_000));
                    model.put(&mut world, key, number, ttl);
                }
                50..65 => model.delete(&mut world, key),
                65..70 => {
                    let other = (key + 1) % keys;
                    let values = [bytes_of(key, number), bytes_of(other, number)];
                    let bins: Vec<[Bin<'_>; 1]> = values.iter().map(|v| [("v", Value::Bytes(v))]).collect();
                    let records = [(key_of(key), &bins[0][..]), (key_of(other), &bins[1][..])];
                    world.run(store.put_many(&records, &WritePolicy::default())).expect("a group");
                    for key in [key, other] {
                        model.note(key, Version { value: Some(number), expires_ms: 0 });
                    }
                }
                70..71 if rng.random_bool(0.1) => {
                    world.run(store.truncate(Some("keys"))).expect("a truncation");
                    model.truncate();
                }
                71..80 => world.clock.advance(Duration::from_millis(rng.random_range(1..900))),
                80..82 => {
                    world.flush();
                    model.all_durable();
                }
                _ => {
                    world.engine().step();
                }
            }
            let read = aerolith_tests::model::read(&mut world, key);
            assert_eq!(read, model.current(key, world.clock.now().0), "{context}: key {key}");
        }
        model.check(&mut world, &context);
        world.verify(&context);
        if rng.random_bool(0.3) {
            world.close();
            model.all_durable();
        } else {
            world.crash();
        }
    }
}

#[test]
fn a_random_life_loses_nothing_durable_and_brings_nothing_back() {
    for seed in seeds(60) {
        life(seed);
    }
}
