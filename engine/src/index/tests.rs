//! The index against a model: a `BTreeMap` a partition, and tags that crowd so that clusters collide.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::*};

const SEED: u64 = 0xae10;

fn entry(tag: Tag, unit: u64) -> Entry {
    Entry::new(tag, Location { device: 0, unit }, SizeClass::new(0))
}

/// A digest with this partition and tag.
fn digest(id: PartitionId, tag: Tag) -> [u8; 20] {
    let mut digest = [0; 20];
    digest[..2].copy_from_slice(&(id.get() | (tag.low() as u16) << 12).to_le_bytes());
    digest[2..10].copy_from_slice(&tag.high().to_be_bytes());
    digest
}

fn random_tag(rng: &mut StdRng) -> Tag {
    Tag::from_parts(rng.random(), rng.random_range(0..16))
}

/// A way to draw tags.
type Draw = fn(&mut StdRng) -> Tag;

/// Ways to draw tags, from even to hostile.
const DRAWS: [(&str, Draw); 6] = [
    ("even", random_tag),
    ("a few hundred", |rng| {
        Tag::from_parts(rng.random_range(0..40u64) << 58 | rng.random_range(0..3), rng.random_range(0..3))
    }),
    ("one home at the start", |rng| Tag::from_parts(rng.random_range(0..2000), rng.random_range(0..16))),
    ("one home at the end", |rng| {
        Tag::from_parts(u64::MAX - rng.random_range(0..2000u64), rng.random_range(0..16))
    }),
    ("both ends", |rng| Tag::from_parts(rng.random_range(0..9u64).wrapping_sub(4), rng.random_range(0..16))),
    ("one home in the middle, others even", |rng| match rng.random() {
        true => random_tag(rng),
        false => Tag::from_parts(1 << 63 | rng.random_range(0..1000), 0),
    }),
];

/// What must be true of a partition, given what is in it.
fn check<S: Slot>(index: &Index<S>, id: PartitionId, model: &BTreeMap<Tag, S>, rng: &mut StdRng, draw: Draw) {
    let partition = index.lock(id);
    assert_eq!(partition.len(), model.len());
    assert!(partition.iter_from(None).eq(model.values().copied()), "order, or what is there");
    for tag in model.keys().step_by(model.len() / 50 + 1).copied().chain((0..50).map(|_| draw(rng))) {
        assert_eq!(partition.get(tag), model.get(&tag).copied());
        let after =
            model.range((std::ops::Bound::Excluded(tag), std::ops::Bound::Unbounded)).map(|(_, e)| *e);
        assert!(partition.iter_from(Some(tag)).take(20).eq(after.take(20)), "resumed after {tag:?}");
    }
    drop(partition);
    for tag in model.keys().step_by(model.len() / 50 + 1) {
        assert_eq!(index.get(&digest(id, *tag)), model.get(tag).copied(), "without the lock");
    }
}

/// Runs random operations, more inserts than removes at first and the other way round later.
fn live<S: Slot>(name: &str, draw: Draw, make: fn(Tag, u64) -> S, rounds: u64) {
    println!("draw {name:?}, seed {SEED}");
    let rng = &mut StdRng::seed_from_u64(SEED);
    let index = Index::<S>::new();
    let id = PartitionId::new(77);
    let mut model = BTreeMap::new();
    for round in 0..rounds {
        let inserts = if round < rounds * 6 / 10 { 0.7 } else { 0.3 };
        let mut partition = index.lock(id);
        for step in 0..250 {
            let tag = draw(rng);
            if rng.random_bool(inserts) {
                let new = make(tag, round * 1000 + step);
                assert_eq!(partition.insert(new), model.insert(tag, new));
            } else {
                // Half of the time a tag that is there.
                let there = model.range(tag..).next().map(|(tag, _)| *tag).filter(|_| rng.random());
                let tag = there.unwrap_or(tag);
                assert_eq!(partition.remove(tag), model.remove(&tag));
            }
            let tag = draw(rng);
            let updated = partition.update(tag, |e| *e = make(tag, 5));
            assert_eq!(updated, model.get_mut(&tag).map(|e| *e = make(tag, 5)).is_some());
        }
        drop(partition);
        check(&index, id, &model, rng, draw);
        if round % 40 == 39 {
            let seven = |e: &S| e.tag().high() % 7 != round % 7;
            let gone = index.lock(id).retain(seven);
            let before = model.len();
            model.retain(|_, e| seven(e));
            assert_eq!(gone, before - model.len());
            check(&index, id, &model, rng, draw);
        }
    }
    for tag in model.keys() {
        assert!(index.lock(id).remove(*tag).is_some());
    }
    assert!(index.is_empty());
    assert_eq!(index.load_factor(), 0.0, "an empty index keeps no chunk");
}

#[test]
fn a_partition_behaves_like_an_ordered_map() {
    for (name, draw) in DRAWS {
        live::<Entry>(name, draw, entry, 200);
    }
    let make = |tag, unit| RecoverySlot { entry: entry(tag, unit), sequence: unit };
    live::<RecoverySlot>("even, recovery", DRAWS[0].1, make, 200);
}

#[test]
fn a_partition_splits_and_merges_its_tables() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let (index, id) = (Index::<Entry>::new(), PartitionId::new(4095));
    let mut model = BTreeMap::new();
    for round in 0..12 {
        for i in 0..5000 {
            let tag = random_tag(rng);
            assert_eq!(index.lock(id).insert(entry(tag, i)), model.insert(tag, entry(tag, i)));
        }
        assert!(index.load_factor() > 0.84, "round {round}: {}", index.load_factor());
        check(&index, id, &model, rng, random_tag);
    }
    while let Some(tag) =
        model.range(random_tag(rng)..).next().map(|(tag, _)| *tag).or(model.keys().next().copied())
    {
        assert_eq!(index.lock(id).remove(tag), model.remove(&tag));
        if model.len() % 2500 == 0 {
            check(&index, id, &model, rng, random_tag);
            assert!(
                model.len() < 100 || index.load_factor() > 0.6,
                "{}: {}",
                model.len(),
                index.load_factor()
            );
        }
    }
}

#[test]
fn tags_that_share_one_home_are_kept_and_the_memory_stays_in_proportion() {
    for base in [0, 1 << 63, u64::MAX - 3999] {
        let (index, id) = (Index::<Entry>::new(), PartitionId::new(0));
        // Inserted from the greatest: every one pushes all the others.
        for high in (base..=base + 3999).rev() {
            assert_eq!(index.lock(id).insert(entry(Tag::from_parts(high, 3), 0)), None);
        }
        assert!(index.load_factor() > 0.4, "{}", index.load_factor());
        let partition = index.lock(id);
        assert!(partition.iter_from(None).map(|e| e.tag().high()).eq(base..=base + 3999));
        for high in base..=base + 3999 {
            assert!(partition.get(Tag::from_parts(high, 3)).is_some());
            assert!(partition.get(Tag::from_parts(high, 4)).is_none());
        }
    }
}

#[test]
fn a_walk_that_resumes_sees_what_stays_exactly_once_while_the_rest_comes_and_goes() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let (index, id) = (Index::<Entry>::new(), PartitionId::new(9));
    let mut stays: Vec<Tag> = (0..6000).map(|_| random_tag(rng)).collect();
    stays.iter().for_each(|tag| assert!(index.lock(id).insert(entry(*tag, 1)).is_none()));
    stays.sort_unstable();
    let mut others = Vec::new();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page: Vec<Entry> = index.lock(id).iter_from(after).take(10).collect();
        let Some(last) = page.last() else { break };
        after = Some(last.tag());
        seen.extend(page.iter().filter(|e| e.location().unit == 1).map(Entry::tag));
        // The table grows through several splits while the walk is in its first half, then shrinks.
        let grows = seen.len() < stays.len() / 2;
        for _ in 0..if grows { 40 } else { 60 } {
            if grows {
                others.push(random_tag(rng));
                index.lock(id).insert(entry(others[others.len() - 1], 2));
            } else if let Some(tag) = others.pop() {
                index.lock(id).remove(tag);
            }
        }
    }
    assert_eq!(seen, stays);
}

#[test]
fn every_record_count_from_a_million_up_takes_at_most_32_bytes_a_record() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let index = Index::<Entry>::new();
    let mut worst: f64 = 0.0;
    for count in 1..=1_200_000 {
        index.lock(PartitionId::new(rng.random_range(0..4096))).insert(entry(random_tag(rng), count));
        if count >= 1_000_000 && count % 10_000 == 0 {
            let size = index.memory_size() as f64 / index.len() as f64;
            assert!(size <= 32.0, "{size} bytes a record at {count} records");
            worst = worst.max(size);
        }
    }
    println!("worst: {worst:.2} bytes a record");
}

#[test]
fn memory_that_deletes_leave_is_used_again() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let index = Index::<Entry>::new();
    let fill = |rng: &mut StdRng, partitions: std::ops::Range<u16>| {
        for id in partitions {
            for _ in 0..2000 {
                index.lock(PartitionId::new(id)).insert(entry(random_tag(rng), 0));
            }
        }
    };
    fill(rng, 0..200);
    let full = index.memory_size();
    for id in PartitionId::all() {
        let mut partition = index.lock(id);
        partition.retain(|e| e.tag().low() == 0);
    }
    assert!(index.load_factor() > 0.6, "{}", index.load_factor());
    fill(rng, 1000..1180);
    assert!(index.memory_size() <= full + (2 << 20), "{full} then {}", index.memory_size());
}

#[test]
fn a_cold_start_ends_with_exactly_the_entries_kept_in_the_memory_they_need() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let index = Index::<RecoverySlot>::new();
    for i in 0..600_000 {
        let slot = RecoverySlot { entry: entry(random_tag(rng), i), sequence: i };
        // Some partitions with many tables, most with one, some with none.
        let id = if i < 100_000 { 3 } else { rng.random_range(0..200) * 7 };
        index.lock(PartitionId::new(id)).insert(slot);
    }
    let before = index.memory_size();
    let wanted: Vec<(PartitionId, Entry)> = PartitionId::all()
        .flat_map(|id| index.lock(id).iter_from(None).map(|slot| (id, slot)).collect::<Vec<_>>())
        .filter(|(_, slot)| slot.sequence % 10 != 0)
        .map(|(id, slot)| (id, slot.entry))
        .collect();
    let index = index.into_entries(|_, slot| (slot.sequence % 10 != 0).then_some(slot.entry));
    assert_eq!(index.len(), wanted.len() as u64);
    let got = PartitionId::all()
        .flat_map(|id| index.lock(id).iter_from(None).map(|entry| (id, entry)).collect::<Vec<_>>());
    assert!(got.eq(wanted.iter().copied()));
    assert!(wanted.iter().all(|(id, entry)| index.get(&digest(*id, entry.tag())) == Some(*entry)));
    assert!(index.load_factor() > 0.82, "{}", index.load_factor());
    assert!(index.memory_size() < before * 3 / 4, "{before} before, {} after", index.memory_size());
    for i in 0..100_000 {
        index.lock(PartitionId::new(rng.random_range(0..4096))).insert(entry(random_tag(rng), i));
    }
    assert!(wanted.iter().all(|(id, entry)| index.get(&digest(*id, entry.tag())) == Some(*entry)));
}

#[test]
fn a_batch_answers_in_order() {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let index = Index::<Entry>::new();
    let digests: Vec<[u8; 20]> = (0..5000).map(|_| rng.random()).collect();
    for digest in digests.iter().step_by(2) {
        index.lock(Index::partition_of(digest)).insert(entry(Tag::of(digest), digest[0] as u64));
    }
    let mut out = vec![None; 3];
    for count in [0, 1, 15, 16, 17, 5000] {
        index.get_batch(&digests[..count], &mut out);
        assert!(out.iter().copied().eq(digests[..count].iter().map(|digest| index.get(digest))));
        assert!(out.iter().enumerate().all(|(i, found)| found.is_some() == (i % 2 == 0)));
    }
}

#[test]
fn many_locks_come_in_order_and_once_each() {
    let index = Index::<Entry>::new();
    let ids = [5, 4000, 0, 5, 17, 0].map(PartitionId::new);
    let mut guards = index.lock_many(&ids);
    assert!(guards.as_slice().iter().map(|guard| guard.id().get()).eq([0, 5, 17, 4000]));
    assert!(guards.get(PartitionId::new(6)).is_none());
    guards.get_mut(PartitionId::new(17)).expect("among them").insert(entry(Tag::MAX, 1));
    drop(guards);
    assert_eq!(index.lock_all().as_slice().len(), PARTITION_COUNT);
    assert_eq!(index.get(&digest(PartitionId::new(17), Tag::MAX)), Some(entry(Tag::MAX, 1)));
}

#[test]
fn lookups_beside_writers_never_miss_or_see_half_a_change() {
    let index = Index::<Entry>::new();
    let id = PartitionId::new(1234);
    let rng = &mut StdRng::seed_from_u64(SEED);
    let stays: Vec<Tag> = (0..500).map(|_| random_tag(rng)).collect();
    for tag in &stays {
        index.lock(id).insert(entry(*tag, 0).with_void_time(0));
    }
    // Two more that are never both there, nor both gone, between two guards.
    let (this, that) = (Tag::from_parts(1 << 63, 0), Tag::from_parts(1 << 63, 1));
    index.lock(id).insert(entry(this, 0));
    let stop = AtomicBool::new(false);
    let write = &|seed| {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut mine: Vec<Tag> = Vec::new();
        for round in 0..60_000 {
            let mut partition = index.lock(id);
            // Two words of an entry carry the same number: half a change would show.
            let number = rng.random_range(0..1 << 30);
            let tag = stays[rng.random_range(0..stays.len())];
            partition.update(tag, |e| *e = entry(tag, number).with_void_time(number as u32));
            let swapped =
                partition.remove(this).map(|_| that).or_else(|| partition.remove(that).map(|_| this));
            partition.insert(entry(swapped.expect("one of the two is there"), 0));
            // Through growth, splits, merges and shrinking.
            if round / 6000 % 2 == 0 {
                mine.push(random_tag(rng));
                partition.insert(entry(mine[mine.len() - 1], 7));
            } else if let Some(tag) = mine.pop() {
                assert!(partition.remove(tag).is_some());
            }
        }
    };
    let read = &|seed| {
        let rng = &mut StdRng::seed_from_u64(seed);
        while !stop.load(Relaxed) {
            let tag = stays[rng.random_range(0..stays.len())];
            let found = index.get(&digest(id, tag)).expect("it stays");
            assert_eq!((found.tag(), found.location().unit), (tag, found.void_time() as u64));
            assert_eq!(index.get(&digest(id, Tag::from_parts(1 << 63, 2))), None);
        }
    };
    std::thread::scope(|scope| {
        let readers = [1, 2].map(|seed| scope.spawn(move || read(SEED + seed)));
        let writers = [3, 4].map(|seed| scope.spawn(move || write(SEED + seed)));
        let wrote = writers.map(|writer| writer.join());
        stop.store(true, Relaxed);
        let ended = wrote.into_iter().chain(readers.map(|reader| reader.join()));
        ended.for_each(|result| result.expect("no thread panicked"));
    });
    assert_eq!(index.len(), stays.len() as u64 + 1);
}
