//! Every file of every corpus through its target, and a few mutations of each, so that any test run fuzzes a little.
//!
//! `AEROLITH_FUZZ_ROUNDS=n` multiplies the mutations, `AEROLITH_SEED` draws others. What fails is written as bytes that can be
//! put into the corpus, and named with the line that runs it again.

use aerolith_fuzz::bytes::mutate;
use aerolith_fuzz::{TARGETS, Target, forge_fields, named, start_on_endless_summaries};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file of the corpus");
            (path, bytes)
        })
        .collect()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn run(target: &Target, what: &str, input: &[u8]) {
    let done = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    assert!(
        done.is_ok(),
        "{}: {what} fails; as bytes: {}",
        target.name,
        input.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
}

fn replay(name: &str) {
    let target = named(name).expect("a target");
    let seeds = (target.seeds)().into_iter().enumerate().map(|(i, seed)| (format!("seed {i}"), seed));
    let files = corpus(&target).into_iter().map(|(path, bytes)| (path.display().to_string(), bytes));
    let inputs: Vec<(String, Vec<u8>)> = seeds.chain(files).collect();
    let (rounds, first) =
        (number("AEROLITH_FUZZ_ROUNDS", 1) * target.rounds as u64, number("AEROLITH_SEED", 0));
    for (at, (what, input)) in inputs.iter().enumerate() {
        run(&target, what, input);
        for round in 0..rounds {
            let mut rng = StdRng::seed_from_u64(first ^ (at as u64) << 32 ^ round);
            let mut changed = input.clone();
            mutate(&mut rng, &mut changed);
            run(&target, &format!("{what}, round {round} of AEROLITH_SEED={first}"), &changed);
        }
    }
    println!("{name}: {} inputs, {} runs", inputs.len(), inputs.len() as u64 * (rounds + 1));
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test] fn $target() { replay(stringify!($target)); })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), replayed);
        }
    };
}

replays! { requests inline replies config msgpack record block checkpoint header recovery life }

/// A device that lies: each field of each structure in turn, its checksums made right again. Every 97th case, or all of
/// them with `AEROLITH_FUZZ_FORGED=1`.
#[test]
fn no_forged_field_makes_a_start_panic() {
    let stride = number("AEROLITH_FUZZ_FORGED", 97) as usize;
    let (count, failed) = forge_fields(number("AEROLITH_SEED", 0) as usize % stride, stride);
    println!("{count} forged fields");
    assert!(count > 0 && failed.is_empty(), "{} of {count} panicked: {failed:#?}", failed.len());
}

#[test]
fn a_summary_that_comes_back_to_itself_is_rejected() {
    assert_eq!(start_on_endless_summaries(), (2, 2));
}

/// The corpora stay small: they are for reaching code, not for keeping what a fuzzer ever saw.
#[test]
fn the_corpora_are_small() {
    let size: usize = TARGETS.iter().flat_map(corpus).map(|(_, bytes)| bytes.len()).sum();
    assert!(size < 1 << 20, "the corpora have {size} bytes");
}
