//! `aerolith certify` as a process, on small files. How fast this machine is decides no test: what was asked and what was
//! concluded from what was measured does.

mod image;

use aerolith_engine::device::{DeviceOptions, FileDevice};
use image::aerolith;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

const SMALL: [&str; 8] = ["--size", "64MiB", "--duration", "3s", "--slice", "1s", "--warm-up", "500ms"];

/// Runs it: exit code, what it wrote as JSON (null if nothing), standard output and error.
fn certify(dir: &TempDir, path: &Path, args: &[&str]) -> (Option<i32>, Value, String, String) {
    let json = dir.path().join("certify.json");
    let _ = std::fs::remove_file(&json);
    let first =
        ["certify", path.to_str().unwrap(), "--quiet", "--threads", "1", "--json", json.to_str().unwrap()];
    let (code, out, err) = aerolith(&[&first, args].concat());
    let json = std::fs::read_to_string(&json).ok().and_then(|text| serde_json::from_str(&text).ok());
    (code, json.unwrap_or(Value::Null), out, err)
}

/// Whether the slices of a trial are within the criteria, worked out anew.
fn is_within(trial: &Value) -> bool {
    let judged = trial["judged"].as_array().unwrap();
    trial["slices"].as_array().unwrap().iter().all(|slice| {
        let troubled = slice["kinds"]
            .as_object()
            .unwrap()
            .values()
            .any(|kind| kind["failed"].as_u64().unwrap() + kind["unanswered"].as_u64().unwrap() > 0);
        let kept = judged.iter().all(|kind| {
            let Some(kind) = slice["kinds"].get(kind.as_str().unwrap()) else { return true };
            let over = |at: usize| {
                kind["over_ms"][at].as_u64().unwrap() as f64 / kind["count"].as_u64().unwrap() as f64
            };
            over(0) < 0.05 && over(3) < 0.01 && over(6) < 0.001
        });
        slice["unsent"] == 0 && !troubled && kept
    })
}

fn count(trial: &Value, kind: &str) -> u64 {
    trial["slices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slice| slice["kinds"][kind]["count"].as_u64().unwrap_or(0))
        .sum()
}

#[test]
fn a_file_is_made_loaded_with_exactly_what_was_asked_judged_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scratch");
    let html = dir.path().join("certify.html");
    let more = ["--html", html.to_str().unwrap()];
    let (code, json, out, err) = certify(&dir, &file, &[&SMALL[..], &more].concat());
    assert!(matches!(code, Some(0 | 1)), "{out}{err}");
    let trial = &json["trials"][0];
    assert_eq!((trial["slices"].as_array().unwrap().len(), json["trials"].as_array().unwrap().len()), (3, 1));
    let unsent: u64 = trial["slices"].as_array().unwrap().iter().map(|s| s["unsent"].as_u64().unwrap()).sum();
    assert!(unsent > 0 || count(trial, "read") == 6000, "2000 a second: {out}");
    // 1000 records of 1536 bytes a second are 11.7 blocks of 128 KiB, and reclaim doubles them.
    for kind in ["large read", "large write"] {
        assert!(unsent > 0 || (70..=71).contains(&count(trial, kind)), "{kind}: {out}");
    }
    assert_eq!(trial["passed"], is_within(trial), "{out}");
    assert_eq!(code == Some(0), json["certified"] == 1, "{out}");
    assert!(!file.exists(), "what it made is gone");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(
        page.contains("<svg")
            && page.contains("Latency of reads")
            && page.contains("Share of reads")
            && !page.contains("http")
    );
    for cell in out.lines().find(|line| line.starts_with("max ")).unwrap().split_whitespace().skip(1).take(7)
    {
        assert!(page.contains(&format!("<td>{cell}</td>")), "{cell} is in the page too");
    }
}

#[test]
fn a_file_that_was_kept_is_used_again_and_a_search_tells_every_trial() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scratch");
    let light =
        ["--reads", "50", "--writes", "20", "--layout", "log", "--no-dsync", "--large-block", "64KiB"];
    let kept = ["--keep", "--size", "16MiB", "--duration", "1s", "--slice", "1s", "--warm-up", "0s"];
    let (code, _, out, err) = certify(&dir, &file, &[&light[..], &kept].concat());
    assert!(matches!(code, Some(0 | 1)), "{out}{err}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 16 << 20);
    let search = [
        "--search",
        "--search-limit",
        "2",
        "--trial",
        "1s",
        "--duration",
        "1s",
        "--slice",
        "1s",
        "--warm-up",
        "0s",
    ];
    let (code, json, out, err) =
        certify(&dir, &file, &[&light[..], &search, &["--condition", "none"]].concat());
    assert!(matches!(code, Some(0 | 1)), "{out}{err}");
    assert!(!file.exists(), "it knows its own file, and removes it");
    let trials = json["trials"].as_array().unwrap();
    assert_eq!(trials[0]["multiple"], 1);
    assert!(trials.iter().all(|trial| trial["passed"] == is_within(trial)), "{out}");
    match json["certified"].as_u64() {
        Some(certified) => {
            let last = trials.last().unwrap();
            assert_eq!((last["multiple"].as_u64(), last["passed"].as_bool()), (Some(certified), Some(true)));
        }
        None => assert!(trials.iter().any(|trial| trial["passed"] == false)),
    }
    assert!(out.contains("was not written full first"), "{out}");
}

#[test]
fn the_engine_is_held_to_the_same_criteria_end_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scratch");
    let small = ["--mode", "engine", "--size", "128MiB", "--fill", "20", "--duration", "2s", "--slice", "1s"];
    let (code, json, out, err) =
        certify(&dir, &file, &[&small[..], &["--reads", "500", "--writes", "200"]].concat());
    assert!(matches!(code, Some(0 | 1)), "{out}{err}");
    let trial = &json["trials"][0];
    let unsent: u64 = trial["slices"].as_array().unwrap().iter().map(|s| s["unsent"].as_u64().unwrap()).sum();
    assert!(unsent > 0 || (count(trial, "read"), count(trial, "update")) == (1000, 400), "{out}");
    assert_eq!(trial["passed"], is_within(trial), "{out}");
    assert_eq!(trial["judged"], serde_json::json!(["read", "update"]));
    assert!(out.contains("the engine holds") && !file.exists(), "{out}");
}

#[test]
fn what_holds_data_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = |at: usize| {
        let path = dir.path().join(format!("foreign-{at}"));
        let mut bytes = vec![0; 8 << 20];
        bytes[at] = 1;
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let ours = image::data_file(&dir, None);
    // In the first page, in the middle where the engine does not look, and records.
    let cases = [
        (foreign(0), "not Aerolith's"),
        (foreign(4 << 20), "data at offset 4194304"),
        (ours, "records of Aerolith's namespace 'shop'"),
    ];
    for (path, what) in &cases {
        let before = std::fs::read(path).unwrap();
        for mode in ["device", "engine"] {
            let (code, _, _, err) = certify(&dir, path, &["--mode", mode]);
            assert_eq!(code, Some(2), "{err}");
            assert!(err.contains(what) && err.contains("--destroy"), "{err}");
        }
        assert!(std::fs::read(path).unwrap() == before, "it is left as it is");
    }
    let short = ["--destroy", "--duration", "1s", "--slice", "1s", "--reads", "50", "--writes", "20"];
    let (code, json, out, err) = certify(&dir, &cases[0].0, &short);
    assert!(matches!(code, Some(0 | 1)) && json["trials"].is_array(), "{out}{err}");
    assert!(cases[0].0.exists(), "a file that was there is not removed");

    // What another process has open is refused whatever is said.
    let held = FileDevice::open(DeviceOptions::new(&cases[1].0)).unwrap();
    let (code, _, _, err) = certify(&dir, &cases[1].0, &["--destroy"]);
    assert!(code == Some(2) && err.contains("already in use"), "{err}");
    drop(held);
}

#[test]
fn flags_that_cannot_work_are_told_with_what_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scratch");
    let cases: &[(&[&str], &str)] = &[
        (&["--duration", "10s", "--slice", "3s"], "every slice must be whole"),
        (&["--slice", "500ms"], "whole number of seconds"),
        (&["--multiple", "0"], "1 or more"),
        (&["--search", "--multiple", "5", "--search-limit", "4"], "no less than it"),
        (&["--multiple", "18446744073709551615"], "--search-limit"),
        (&["--multiple", "100000"], "lower it"),
        (&["--duration", "500years", "--slice", "500years"], "365 days"),
        (&["--large-block", "100000"], "power of two"),
        (&["--record-size", "0"], "1 byte to 8MiB"),
        (&["--record-size", "1MiB"], "does not fit a large block"),
        (&["--reads", "0", "--writes", "0"], "nothing to do"),
        (&["--defrag-lwm", "99"], "0 to 90"),
        (&["--threads", "0"], "from 1 to"),
        (&["--trial", "5s"], "--search"),
        (&["--size", "1MiB"], "too few"),
        (&["--mode", "engine", "--fill", "95"], "1 to 80"),
        (&["--html", "/nowhere/x.html"], "/nowhere/x.html"),
        (&["--mode", "engine", "--size", "32MiB", "--record-size", "64"], "leave no room for a value"),
        (&["--mode", "engine", "--size", "32MiB", "--fill", "1"], "room for only"),
        (&["--compressible", "101"], "0 to 100"),
    ];
    for (args, told) in cases {
        let (code, out, err) = aerolith(&[&["certify", file.to_str().unwrap(), "--quiet"], *args].concat());
        assert_eq!(code, Some(2), "{args:?}: {out}{err}");
        assert!(err.contains(told), "{args:?}: {err}");
        assert!(!file.exists(), "{args:?}: nothing is left behind");
    }
    let nowhere = dir.path().join("none/scratch");
    let (code, _, err) = aerolith(&["certify", nowhere.to_str().unwrap()]);
    assert!(code == Some(2) && err.contains("does not exist"), "{err}");
}
