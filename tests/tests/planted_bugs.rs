//! Would the simulation find it? Mistakes are planted in the engine, one at a time, and each must be caught.
//!
//! Only with the feature `planted-bugs` (`engine/src/planted.rs`); without it there is nothing to plant, and this file is
//! empty: `cargo test --release -p aerolith-tests --features planted-bugs --test planted_bugs`. Each bug is hunted from several
//! first seeds (`AEROLITH_STARTS`, 1 by default), on all cores; the table tells how many images it took.
//! `AEROLITH_BUG=RootBeforeParts` hunts that one alone, and tells each story. With `AEROLITH_RESULT=FILE` the counts go there too, for the reliability report.
#![cfg(feature = "planted-bugs")]

use aerolith_engine::device::Device;
use aerolith_engine::planted::{Bug, plant};
use aerolith_tests::World;
use aerolith_tests::device::TestDevice;
use aerolith_tests::model::Model;
use aerolith_tests::sim::life::Class;
use aerolith_tests::sim::run::outcome_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Images after which a bug counts as not found.
const PATIENCE: u64 = 60_000;

/// What a hunt from one first seed came to.
struct Hunt {
    images: u64,
    symptom: Option<String>,
    story: Option<String>,
}

/// What no crash shows: a member that was brought back from an older copy.
fn accepts_an_older_copy() -> bool {
    let devices: Vec<_> = (0..2).map(|i| Arc::new(TestDevice::new(&format!("{i}"), 24 << 14))).collect();
    let world_on = |devices: &[Arc<TestDevice>]| {
        World::on(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect(), 16 << 10)
    };
    let mut world = world_on(&devices);
    world.open();
    world.close();
    let old = devices[1].with_state(|bytes| bytes.to_vec());
    let mut world = world_on(&devices);
    world.open();
    (0..50).for_each(|key| Model::default().put(&mut world, key, 1, None));
    world.close();
    world_on(&[devices[0].clone(), Arc::new(TestDevice::with_bytes("old", old))]).try_open().is_ok()
}

fn hunt(bug: Bug, first_seed: u64) -> Hunt {
    let mut images = 0;
    if bug == Bug::OldCopyAccepted {
        plant(Some(bug));
        let is_accepted = accepts_an_older_copy();
        plant(None);
        assert!(!accepts_an_older_copy(), "without the bug it is refused");
        return Hunt {
            images: 1,
            symptom: is_accepted.then(|| "an older copy opens".to_owned()),
            story: None,
        };
    }
    for seed in first_seed.. {
        plant(Some(bug));
        let outcome = outcome_of(Class::Crashes, seed);
        plant(None);
        // A life that ends in a panic has no count of its own.
        images += outcome.coverage.get("images").max(1);
        if let Some(violation) = outcome.violation {
            let symptom = format!("R{} {}", violation.rule, violation.name);
            let story = Some(format!("seed {seed}: {violation}"));
            return Hunt { images, symptom: Some(symptom), story };
        }
        if images > PATIENCE {
            break;
        }
    }
    Hunt { images, symptom: None, story: None }
}

#[test]
fn every_planted_bug_is_caught() {
    let starts: u64 =
        std::env::var("AEROLITH_STARTS").map_or(1, |n| n.parse().expect("AEROLITH_STARTS is a number"));
    let wanted = std::env::var("AEROLITH_BUG").ok();
    let bugs: Vec<Bug> = Bug::ALL
        .iter()
        .copied()
        .filter(|bug| wanted.as_ref().is_none_or(|name| format!("{bug:?}") == *name))
        .collect();
    assert!(!bugs.is_empty(), "AEROLITH_BUG={wanted:?} is none of {:?}", Bug::ALL);
    let jobs: Vec<(Bug, u64)> =
        (0..starts).flat_map(|start| bugs.iter().map(move |&bug| (bug, start * 1_000_000))).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // What the mistakes make the engine say would bury the table.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(bug, first_seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = hunt(bug, first_seed);
                    if let (Some(_), Some(story)) = (&wanted, &hunt.story) {
                        println!("{story}\n");
                    }
                    found.lock().expect("nobody panics here").push((bug, hunt));
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let found = found.into_inner().expect("nobody panics here");
    let mut missed = Vec::new();
    println!("| planted bug | caught | images, median (most) | symptoms |\n|---|---|---|---|");
    for &bug in &bugs {
        let hunts: Vec<&Hunt> = found.iter().filter(|(of, _)| *of == bug).map(|(_, hunt)| hunt).collect();
        let mut images: Vec<u64> = hunts.iter().map(|hunt| hunt.images).collect();
        images.sort_unstable();
        let caught = hunts.iter().filter(|hunt| hunt.symptom.is_some()).count();
        let mut symptoms: Vec<&str> = hunts.iter().filter_map(|hunt| hunt.symptom.as_deref()).collect();
        symptoms.sort_unstable();
        symptoms.dedup();
        let (median, most) = (images[images.len() / 2], images[images.len() - 1]);
        let what = bug.description();
        println!("| {what} | {caught}/{} | {median} ({most}) | {} |", hunts.len(), symptoms.join(", "));
        if caught == 0 {
            missed.push(what);
        }
    }
    if let Ok(file) = std::env::var("AEROLITH_RESULT") {
        let row = format!(
            "[{{\"row\": \"planted bugs caught\", \"count\": {}, \"violations\": {}}}]\n",
            bugs.len() - missed.len(),
            missed.len()
        );
        std::fs::write(&file, row).expect("the result can be written");
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
