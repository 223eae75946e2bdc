//! Every verb with every policy: what it does, what it refuses, and what is counted right after it.

use aerolith_engine::{
    Clock, Draft, Error, Exists, Generation, Key, Outcome, Record, ScanPoint, Timestamp, Ttl, Updated, Value,
    WritePolicy, block_on,
};
use aerolith_tests::World;
use std::collections::HashMap;
use std::time::Duration;

const ANY: WritePolicy = WritePolicy {
    exists: Exists::Any,
    generation: Generation::Any,
    ttl: Ttl::Default,
    durability: None,
    send_key: true,
};

fn world() -> World {
    let mut world = World::new(2, 40, 64 << 10);
    world.open();
    world
}

fn key(id: i64) -> Key<'static> {
    Key::new("keys", id).expect("a number is a key")
}

fn put(world: &mut World, id: i64, value: i64, policy: &WritePolicy) -> Result<u16, Error> {
    let store = world.namespace();
    let put = world.run(store.put(&key(id), &[("n", value.into())], policy));
    world.verify("after a put");
    put.map(|metadata| metadata.generation)
}

fn get(world: &mut World, id: i64) -> Option<Record> {
    let store = world.namespace();
    world.run(store.get(&key(id))).expect("a get")
}

fn value(world: &mut World, id: i64) -> Option<i64> {
    get(world, id)?.bin("n")?.as_i64()
}

fn delete(world: &mut World, id: i64) -> bool {
    let store = world.namespace();
    let there = world.run(store.delete(&key(id), &ANY)).expect("a delete");
    world.verify("after a delete");
    there
}

fn counts(world: &World) -> (u64, u64, u64) {
    let stats = world.namespace().stats();
    (stats.objects, stats.expiring, stats.tombstones)
}

fn expiring(ms: u64) -> WritePolicy {
    WritePolicy::with_ttl(Ttl::For(Duration::from_millis(ms)))
}

#[test]
fn existence_decides_as_the_policy_says() {
    let mut world = world();
    let create = WritePolicy { exists: Exists::CreateOnly, ..ANY };
    let update = WritePolicy { exists: Exists::UpdateOnly, ..ANY };
    assert!(matches!(put(&mut world, 1, 1, &update), Err(Error::NotFound)));
    assert_eq!(put(&mut world, 1, 1, &create).unwrap(), 1);
    assert!(matches!(put(&mut world, 1, 2, &create), Err(Error::Exists)));
    assert_eq!(put(&mut world, 1, 3, &update).unwrap(), 2);
    assert_eq!(value(&mut world, 1), Some(3));
    assert!(delete(&mut world, 1) && !delete(&mut world, 1));
    assert!(matches!(put(&mut world, 1, 4, &update), Err(Error::NotFound)));
    assert_eq!(put(&mut world, 1, 5, &create).unwrap(), 1, "a new record begins at generation 1");
}

#[test]
fn generations_decide_and_wrap_to_1() {
    let mut world = world();
    let equal = |generation| WritePolicy { generation: Generation::Equal(generation), ..ANY };
    let greater = |generation| WritePolicy { generation: Generation::Greater(generation), ..ANY };
    assert!(matches!(put(&mut world, 1, 1, &equal(1)), Err(Error::Generation { found: 0 })));
    assert_eq!(put(&mut world, 1, 1, &equal(0)).unwrap(), 1);
    assert_eq!(put(&mut world, 1, 1, &equal(1)).unwrap(), 2);
    assert!(matches!(put(&mut world, 1, 1, &greater(2)), Err(Error::Generation { found: 2 })));
    assert_eq!(put(&mut world, 1, 1, &greater(3)).unwrap(), 3);
    let store = world.namespace();
    for _ in 3..65_535 {
        world.run(store.put(&key(1), &[("n", 1.into())], &ANY)).unwrap();
    }
    assert_eq!(get(&mut world, 1).unwrap().generation(), 65_535);
    assert_eq!(put(&mut world, 1, 2, &equal(65_535)).unwrap(), 1);
    let refused = world.run(store.delete(&key(1), &equal(65_535)));
    assert!(matches!(refused, Err(Error::Generation { found: 1 })));
    assert!(world.run(store.delete(&key(1), &equal(1))).unwrap());
}

#[test]
fn merge_keeps_the_other_bins_and_touch_keeps_all() {
    let mut world = world();
    let store = world.namespace();
    world.run(store.merge(&key(1), &[("a", 1.into()), ("b", "x".into())], &ANY)).unwrap();
    world.run(store.merge(&key(1), &[("b", 2.into()), ("c", 3.into())], &ANY)).unwrap();
    world.flush();
    assert!(world.run(store.touch(&key(2), &ANY)).unwrap().is_none());
    let touched = world.run(store.touch(&key(1), &expiring(5000))).unwrap().unwrap();
    assert_eq!(touched.generation, 3);
    let record = get(&mut world, 1).unwrap();
    let bins: Vec<_> = record.bins().collect();
    assert_eq!(bins, [("a", 1.into()), ("b", 2.into()), ("c", 3.into())]);
    assert_eq!(record.expires_at(), Some(world.clock.now().plus(Duration::from_secs(5))));
    assert_eq!((record.set(), record.user_key().is_some()), ("keys", true));
    assert_eq!(counts(&world), (1, 1, 0));
    let anonymous = WritePolicy { send_key: false, ..ANY };
    put(&mut world, 3, 3, &anonymous).unwrap();
    assert!(get(&mut world, 3).unwrap().user_key().is_none());
}

#[test]
fn an_update_puts_deletes_keeps_or_fails() {
    let mut world = world();
    let store = world.namespace();
    let seen = |old: Option<&Record>| old.and_then(|record| record.bin("n")?.as_i64());
    let add = |old: Option<&Record>| {
        Ok::<_, Error>(Outcome::Put(Draft::new().bin("n", seen(old).unwrap_or(0) + 1)?))
    };
    for _ in 0..3 {
        world.run(store.update(&key(1), &ANY, add)).unwrap();
        world.flush();
    }
    assert_eq!((value(&mut world, 1), get(&mut world, 1).unwrap().generation()), (Some(3), 3));
    let kept = world.run(store.update(&key(1), &ANY, |_| Ok::<_, Error>(Outcome::Keep))).unwrap();
    assert_eq!((kept, get(&mut world, 1).unwrap().generation()), (Updated::Unchanged, 3));
    let failed = world.run(store.update(&key(1), &ANY, |_| Err::<Outcome, _>(Error::Config("mine".into()))));
    assert!(matches!(failed, Err(Error::Config(why)) if why == "mine"));
    assert_eq!((value(&mut world, 1), get(&mut world, 1).unwrap().generation()), (Some(3), 3));
    let remove = |_: Option<&Record>| Ok::<_, Error>(Outcome::Delete);
    assert_eq!(world.run(store.update(&key(1), &ANY, remove)).unwrap(), Updated::Deleted);
    assert_eq!(world.run(store.update(&key(1), &ANY, remove)).unwrap(), Updated::Unchanged);
    assert_eq!(counts(&world), (0, 0, 1));
    world.verify("after updates");
}

#[test]
fn a_group_takes_one_outcome_for_each_key_or_none_at_all() {
    let mut world = world();
    let store = world.namespace();
    (1..=3).for_each(|id| assert_eq!(put(&mut world, id, id * 10, &ANY).unwrap(), 1));
    world.flush();
    let keys = [key(1), key(2), key(3), key(4)];
    let change = |old: &[Option<Record>]| {
        let there: Vec<bool> = old.iter().map(Option::is_some).collect();
        assert_eq!(there, [true, true, true, false]);
        Ok::<_, Error>(vec![
            Outcome::Put(Draft::new().bin("n", 11)?),
            Outcome::Delete,
            Outcome::Keep,
            Outcome::Put(Draft::new().bin("n", 44)?),
        ])
    };
    let updated = world.run(store.update_many(&keys, &ANY, change)).unwrap();
    assert!(matches!(updated[0], Updated::Put(metadata) if metadata.generation == 2));
    assert_eq!((updated[1], updated[2]), (Updated::Deleted, Updated::Unchanged));
    let values: Vec<_> = (1..=4).map(|id| value(&mut world, id)).collect();
    assert_eq!(values, [Some(11), None, Some(30), Some(44)]);
    assert_eq!(counts(&world), (3, 0, 1));

    let too_large = "x".repeat(60_000);
    let refused = world.run(store.update_many(&keys[..2], &ANY, |_| {
        let large = Draft::new().bin("n", Value::String(too_large.as_bytes()))?;
        Ok::<_, Error>(vec![Outcome::Put(Draft::new().bin("n", 12)?), Outcome::Put(large)])
    }));
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    let twice = world
        .run(store.update_many(&[key(1), key(1)], &ANY, |_| {
            Ok::<_, Error>(vec![Outcome::Delete, Outcome::Delete])
        }));
    assert!(matches!(twice, Err(Error::Config(_))));
    assert_eq!(value(&mut world, 1), Some(11));
    world.verify("after groups");
}

#[test]
fn of_equal_keys_in_a_put_many_the_last_counts_and_the_policy_holds_for_all() {
    let mut world = world();
    let store = world.namespace();
    let [one, two, three] = [1, 2, 3].map(|n| [("n", Value::Integer(n))]);
    world.run(store.put_many(&[(key(1), &one), (key(2), &two), (key(1), &three)], &ANY)).unwrap();
    assert_eq!((value(&mut world, 1), value(&mut world, 2)), (Some(3), Some(2)));
    let create = WritePolicy { exists: Exists::CreateOnly, ..ANY };
    let refused = world.run(store.put_many(&[(key(9), &one), (key(2), &one)], &create));
    assert!(matches!(refused, Err(Error::Exists)));
    assert_eq!((value(&mut world, 9), value(&mut world, 2)), (None, Some(2)));
    put(&mut world, 1, 1, &expiring(12_345)).unwrap();
    let end = get(&mut world, 1).unwrap().expires_at();
    world.run(store.put_many(&[(key(1), &two)], &WritePolicy::with_ttl(Ttl::Keep))).unwrap();
    assert_eq!((value(&mut world, 1), get(&mut world, 1).unwrap().expires_at()), (Some(2), end));
    let keys = [key(2), key(7), key(1), key(2)];
    let records = world.run(store.get_many(&keys)).unwrap();
    let values: Vec<_> = records.iter().map(|r| r.as_ref().and_then(|r| r.bin("n")?.as_i64())).collect();
    assert_eq!(values, [Some(2), None, Some(2), Some(2)]);
    world.verify("after groups");
}

#[test]
fn a_scan_gives_each_lasting_record_once_while_others_come_and_go() {
    let mut world = world();
    let store = world.namespace();
    for id in 0..3000 {
        world.run(store.put(&key(id), &[("n", id.into())], &ANY)).unwrap();
    }
    let other = Key::new("others", 1).unwrap();
    world.run(store.put(&other, &[], &ANY)).unwrap();
    let (mut from, mut seen, mut round) = (Some(ScanPoint::START), HashMap::new(), 0);
    while let Some(point) = from {
        let point = ScanPoint::from_cursor(point.to_cursor());
        let page = world.run(store.scan(point, Some("keys"), 50)).unwrap();
        assert!(page.records.len() <= 50 && page.errors.is_empty());
        for record in &page.records {
            assert_eq!(record.set(), "keys");
            *seen.entry(record.bin("n").unwrap().as_i64().unwrap()).or_insert(0) += 1;
        }
        // Ids from 1000 on come and go; the others last.
        for id in 0..100 {
            let id = 1000 + (round * 100 + id) * 7 % 5000;
            let (key, insert) = (key(id), id % 2 == 0);
            if insert {
                world.run(store.put(&key, &[("n", id.into())], &ANY)).unwrap();
            } else {
                world.run(store.delete(&key, &ANY)).unwrap();
            }
        }
        (from, round) = (page.next, round + 1);
    }
    assert!(round > 20, "the walk takes many pages");
    assert!(seen.values().all(|&times| times == 1), "a record came twice");
    (0..1000).for_each(|id| assert!(seen.contains_key(&id), "record {id} was left out"));
    assert!(world.run(store.scan(ScanPoint::START, Some("nobody"), 5)).unwrap().next.is_none());
    world.verify("after a scan");
}

#[test]
fn a_truncation_holds_twice_in_a_row_and_over_restarts_and_crashes() {
    let mut world = world();
    for crash in [false, true] {
        for whole in [false, true] {
            let set = if whole { None } else { Some("keys") };
            let store = world.namespace();
            let other = Key::new("others", 1).unwrap();
            for twice in 0..2 {
                for id in 0..50 {
                    put(&mut world, id, id, &expiring(1 << 40)).unwrap();
                }
                world.run(store.put(&other, &[], &ANY)).unwrap();
                world.run(store.truncate(set)).unwrap();
                world.verify("after a truncation");
                assert_eq!((store.count("keys"), store.count_expiring("keys")), (0, 0), "time {twice}");
                assert!((0..50).all(|id| value(&mut world, id).is_none()));
                assert_eq!(store.count("others"), u64::from(!whole));
            }
            put(&mut world, 5, 55, &ANY).unwrap();
            world.flush();
            drop(store);
            if crash {
                world.crash()
            } else {
                world.close()
            }
            world.open();
            assert_eq!(value(&mut world, 5), Some(55), "what came after stays");
            assert!((0..50).filter(|&id| id != 5).all(|id| value(&mut world, id).is_none()));
            assert_eq!(world.namespace().count("keys"), 1);
            assert_eq!(world.namespace().count("others"), u64::from(!whole));
            world.verify("after a restart");
        }
    }
}

#[test]
fn a_record_lives_to_exactly_its_millisecond() {
    let mut world = world();
    world.config.default_ttl = Some(Duration::from_millis(10_500));
    world.crash();
    world.open();
    let start = world.clock.now();
    let at = |ms| start.plus(Duration::from_millis(ms));
    put(&mut world, 1, 1, &ANY).unwrap();
    put(&mut world, 2, 2, &WritePolicy::with_ttl(Ttl::Never)).unwrap();
    put(&mut world, 3, 3, &expiring(2345)).unwrap();
    put(&mut world, 4, 4, &WritePolicy::with_ttl(Ttl::At(at(7777)))).unwrap();
    put(&mut world, 5, 5, &WritePolicy::with_ttl(Ttl::Keep)).unwrap();
    let keep = WritePolicy::with_ttl(Ttl::Keep);
    put(&mut world, 3, 33, &keep).unwrap();
    put(&mut world, 2, 22, &keep).unwrap();
    world.flush();
    put(&mut world, 4, 44, &keep).unwrap();
    assert_eq!(counts(&world), (5, 4, 0));
    let ends = [(1, Some(10_500)), (2, None), (3, Some(2345)), (4, Some(7777)), (5, Some(10_500))];
    for (id, end) in ends {
        assert_eq!(get(&mut world, id).unwrap().expires_at(), end.map(at), "record {id}");
    }
    let store = world.namespace();
    for (id, end) in [(3, 2345), (4, 7777), (1, 10_500)] {
        world.clock.set(Timestamp(at(end).0 - 1));
        let exact = world.run(store.exists(&key(id))).unwrap().expect("one more millisecond");
        assert_eq!(exact.expires_at, Some(at(end)));
        assert!(get(&mut world, id).is_some());
        world.clock.set(at(end));
        assert!(get(&mut world, id).is_none() && world.run(store.exists(&key(id))).unwrap().is_none());
        assert!(!delete(&mut world, id), "there is nothing to delete any more");
        let update = WritePolicy { exists: Exists::UpdateOnly, ..ANY };
        assert!(matches!(put(&mut world, id, 0, &update), Err(Error::NotFound)));
        assert!(world.run(store.touch(&key(id), &ANY)).unwrap().is_none());
    }
    // A pass of the sweep may be halfway through; the next one meets everything.
    for _ in 0..2 {
        world.clock.advance(Duration::from_secs(30));
        world.settle();
    }
    assert_eq!((store.count("keys"), value(&mut world, 2)), (1, Some(22)));
    world.verify("after a sweep");
}

#[test]
fn the_largest_record_fits_and_one_more_byte_is_refused_with_numbers() {
    for block_size in [16 << 10, 64 << 10, 1 << 20, 2 << 20, 8 << 20] {
        let mut world = World::new(1, 12, block_size);
        world.open();
        let store = world.namespace();
        let limit = store.record_limit();
        assert!(limit > block_size / 3, "{limit} of {block_size}");
        let overhead = {
            world.run(store.put(&key(1), &[("b", Value::Bytes(&[]))], &ANY)).unwrap();
            get(&mut world, 1).unwrap().size()
        };
        let bytes = vec![7; (limit - overhead) as usize + 1];
        for id in 1..=3 {
            let exact = [("b", Value::Bytes(&bytes[1..]))];
            world.run(store.put(&key(id), &exact, &ANY)).unwrap();
            world.run(store.put_many(&[(key(id), &[])], &ANY)).unwrap();
            world.run(store.put(&key(id), &exact, &ANY)).unwrap();
        }
        world.flush();
        assert_eq!(get(&mut world, 3).unwrap().size(), limit);
        let refused = world.run(store.put(&key(1), &[("b", Value::Bytes(&bytes))], &ANY));
        let expected = (u64::from(limit) + 1, limit);
        assert!(matches!(refused, Err(Error::TooLarge { size, limit }) if (size, limit) == expected));
        world.verify("after large records");
    }
}

#[test]
fn a_group_as_large_as_a_block_in_many_sets_fits_or_is_refused() {
    let mut world = World::new(1, 30, 64 << 10);
    world.open();
    let store = world.namespace();
    let names: Vec<String> = (0..120).map(|i| format!("{i:063}")).collect();
    let (mut fitted, mut refused) = (0, 0);
    for size in (0..500).step_by(4) {
        let bytes = vec![1; size];
        let bins = [("b", Value::Bytes(&bytes))];
        let records: Vec<_> = names.iter().map(|set| (Key::new(set, 1).unwrap(), &bins[..])).collect();
        match world.run(store.put_many(&records, &ANY)) {
            Ok(()) => fitted += 1,
            Err(Error::TooLarge { size, limit }) => {
                refused += 1;
                assert!(size > u64::from(limit) / 2, "{size} {limit}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(fitted > 10 && refused > 10, "{fitted} {refused}");
    world.verify("after groups");
}

#[test]
fn sets_keys_and_bins_beyond_the_limits_are_refused() {
    let mut world = world();
    let store = world.namespace();
    for i in 1..4096 {
        let set = format!("set-{i}");
        world.run(store.put(&Key::new(&set, 1).unwrap(), &[], &ANY)).unwrap();
    }
    let one_more = world.run(store.put(&Key::new("more", 1).unwrap(), &[], &ANY)).unwrap_err();
    assert!(matches!(one_more, Error::TooManySets { limit: 4096, .. }), "{one_more}");
    world.run(store.put(&Key::new("set-7", 2).unwrap(), &[], &ANY)).unwrap();
    assert!(Key::new(&"s".repeat(64), 1).is_err());
    assert!(Key::new("s", "k".repeat(65_536).as_str()).is_err());
    let in_set = Key::new("set-7", 3).unwrap();
    let long = world.run(store.put(&in_set, &[("sixteen-bytes-xx", 1.into())], &ANY));
    assert!(matches!(long, Err(Error::Bin(_))));
    let twice = world.run(store.put(&in_set, &[("a", 1.into()), ("a", 2.into())], &ANY));
    assert!(matches!(twice, Err(Error::Bin(_))));
    assert!(world.run(store.get(&in_set)).unwrap().is_none());
    world.verify("after refusals");
}

#[test]
fn after_close_writes_are_refused_and_reads_go_on() {
    let mut world = world();
    put(&mut world, 1, 1, &ANY).unwrap();
    let store = world.namespace();
    world.close();
    refused_as_closed(store.put(&key(1), &[], &ANY));
    refused_as_closed(store.merge(&key(1), &[], &ANY));
    refused_as_closed(store.delete(&key(1), &ANY));
    refused_as_closed(store.touch(&key(1), &ANY));
    refused_as_closed(store.put_many(&[(key(1), &[])], &ANY));
    refused_as_closed(store.truncate(Some("keys")));
    refused_as_closed(store.truncate(None));
    let record = block_on(store.get(&key(1))).unwrap().expect("it stays");
    assert_eq!(record.bin("n"), Some(Value::Integer(1)));
    assert!(block_on(store.exists(&key(1))).unwrap().is_some());
    block_on(store.flush()).unwrap();
}

fn refused_as_closed<T>(verb: impl Future<Output = Result<T, Error>>) {
    assert!(matches!(block_on(verb), Err(Error::Closed)));
}
