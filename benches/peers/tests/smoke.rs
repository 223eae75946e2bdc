//! The whole comparison on a few records: every phase, a kill and a restart among them, on Aerolith and two peers.

use std::process::Command;

#[test]
fn every_phase_gives_a_row_for_every_engine() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("rows.json");
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args([
            "run",
            "--records",
            "2000",
            "--seconds",
            "0.2",
            "--half-seconds",
            "0.5",
            "--kill-after",
            "0.3",
        ])
        .args(["--rounds", "1", "--threads", "1,4", "--memory", "0", "--no-fio"])
        .args(["aerolith", "aerolith-ring", "fjall-blobs", "redb", "lmdb"])
        .arg("--dir")
        .arg(dir.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let of = |engine: &str| rows.iter().filter(|row| row["engine"] == engine).count();
    // Load, two of reads, half, two of durable puts, two openings; the ring works on what aerolith has loaded.
    for (engine, expected) in
        [("aerolith", 8), ("aerolith-ring", 5), ("fjall-blobs", 8), ("redb", 8), ("lmdb", 8)]
    {
        assert_eq!(of(engine), expected, "rows of {engine}");
        assert!(text.contains(&format!("| {engine} ")), "no line of {engine} in the table");
    }
    for row in &rows {
        let name = format!("{} {}", row["engine"], row["phase"]);
        assert!(row["seconds"].as_f64().unwrap() > 0.0, "{name}");
        assert!(row["rss_mib"].as_f64().unwrap() > 0.0 && row["disk_mib"].as_f64().unwrap() > 0.0, "{name}");
        let is_opening = row["phase"].as_str().unwrap().starts_with("reopen");
        assert_eq!(row["per_second"].is_null(), is_opening, "{name}");
    }
    let again = Command::new(env!("CARGO_BIN_EXE_peers")).arg("tables").arg(&json).output().unwrap();
    assert!(again.status.success() && again.stdout == output.stdout, "the same rows give another table");
    // Only the JSON file and no data is left.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_engine_that_is_not_built_and_one_without_data_are_refused() {
    let run = |engine: &str| {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_peers"))
            .args(["run", engine, "--memory", "0", "--dir"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run("aerolith-ring").contains("aerolith-ring works on the data of aerolith: name both"));
    if !cfg!(feature = "rocksdb") {
        assert!(run("rocksdb").contains("rocksdb is not in this build: build with --features rocksdb"));
    }
}
