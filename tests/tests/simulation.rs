//! Simulated lives: crashes lose nothing that was acknowledged, and bring nothing back; damage of the medium is seen; and
//! the same seed lives the same life.
//!
//! Each seed is a life of runs, cuts, kills and recoveries, or of media that damage what they hold (`aerolith_tests::sim`).
//! `AEROLITH_IMAGES` sets how many images are checked, `AEROLITH_SEEDS` how many lives are lived twice. A failure names its
//! seed, and that alone brings it back: `AEROLITH_SEED=n cargo test -p aerolith-tests --release --test simulation NAME`.

use aerolith_tests::seeds;
use aerolith_tests::sim::life::{Class, live};
use aerolith_tests::sim::run::{Order, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// Lives lives of a class until so many images have been checked.
fn check(class: Class, test: &str, images: u64) {
    let replayed = number("AEROLITH_SEED");
    let order = Order {
        class,
        first_seed: replayed.unwrap_or(0),
        images: if replayed.is_some() { u64::MAX } else { number("AEROLITH_IMAGES").unwrap_or(images) },
        most_seeds: if replayed.is_some() { 1 } else { u64::MAX },
        threads: std::thread::available_parallelism().map_or(2, usize::from),
    };
    let begin = std::time::Instant::now();
    let totals = run(order, |seed, violation| {
        eprintln!(
            "seed {seed}: {violation}\n  replay: AEROLITH_SEED={seed} cargo test -p aerolith-tests --release --test \
             simulation {test}"
        );
    });
    for (name, count) in totals.coverage.rows() {
        println!("{count:>10}  {name}");
    }
    println!("{} seeds in {:?}", totals.seeds, begin.elapsed());
    let seeds: Vec<u64> = totals.violations.iter().map(|(seed, _)| *seed).collect();
    assert!(seeds.is_empty(), "violations in seeds {seeds:?}");
    if replayed.is_none() {
        assert_eq!(totals.coverage.missing(class), [""; 0], "never happened in {} seeds", totals.seeds);
    }
}

#[test]
fn crashes_lose_nothing_and_bring_nothing_back() {
    check(Class::Crashes, "crashes", 4_000);
}

#[test]
fn damage_of_the_medium_is_seen_and_spares_the_other_keys() {
    check(Class::Media, "damage", 500);
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in seeds(20) {
        let class = if seed % 4 == 3 { Class::Media } else { Class::Crashes };
        let hashes = [live(class, seed).hash, live(class, seed).hash];
        assert_eq!(hashes[0], hashes[1], "AEROLITH_SEED={seed}");
    }
}
