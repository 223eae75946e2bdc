//! `aerolith bench` as a process, against the engine, a real server, and servers that misbehave in known ways.

mod bench_server;
mod image;

use aerolith_server::{Config, Server};
use bench_server::{FakeServer, Faults};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use image::aerolith;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Runs the load: exit code, what it wrote as JSON (null if nothing), standard output and error.
fn bench(dir: &Path, args: &[&str]) -> (Option<i32>, Value, String, String) {
    let json = dir.join("run.json");
    let _ = std::fs::remove_file(&json);
    let outputs = ["bench", "--quiet", "--json", json.to_str().unwrap()];
    let (code, out, err) = aerolith(&[&outputs, args].concat());
    let json = std::fs::read_to_string(&json).ok().and_then(|text| serde_json::from_str(&text).ok());
    (code, json.unwrap_or(Value::Null), out, err)
}

fn count(json: &Value, operation: &str, figure: &str) -> u64 {
    json["operations"][operation][figure].as_u64().unwrap_or(0)
}

fn histogram(json: &Value, operation: &str) -> Histogram<u64> {
    let text = json["operations"][operation]["histogram"].as_str().unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

const SHORT: [&str; 4] = ["--warm-up", "0s", "--duration", "500ms"];

#[test]
fn a_stall_of_the_server_shows_in_an_open_loop() {
    let dir = tempfile::tempdir().unwrap();
    let stall = Some((500, Duration::from_millis(200)));
    let server = FakeServer::redis(Faults { stall, ..Faults::default() });
    // 2000 a second: the 500th is due after 250 ms, and 400 more while nothing is answered. The k-th of those waits
    // for 200 ms less k half milliseconds at the least, however slow this machine is.
    let open =
        ["--redis", &server.address, "--load", "--records", "1000", "--mix", "read=100", "--rate", "2000"];
    let more =
        ["--threads", "1", "--connections", "4", "--depth", "4", "--warm-up", "0s", "--duration", "1s"];
    let (code, json, out, err) = bench(dir.path(), &[&open[..], &more].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(count(&json, "read", "count"), 2000, "nothing is skipped");
    let slow = histogram(&json, "read").count_between(150_000_000, u64::MAX / 4);
    assert!(slow >= 80, "{slow} of the requests due in the stall took 150 ms or more");
    assert!(json["operations"]["read"]["p99_us"].as_f64().unwrap() >= 150_000.0, "{out}");
    assert_eq!(json["lag"]["unsent"], 0);
    assert_eq!(json["options"]["loop"], "open");
}

#[test]
fn the_engine_is_loaded_and_run_and_runs_go_on_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.data");
    let engine = ["--engine", file.to_str().unwrap(), "--engine-size", "512MiB", "--threads", "2"];
    let load = ["--load", "--records", "2000", "--value-size", "100..2000", "--compressible", "50"];
    let mix = ["--mix", "read=40,update=20,insert=10,rmw=10,delete=5,batch=10,scan=5", "--check", "history"];
    let (code, json, out, err) =
        bench(dir.path(), &[&engine[..], &load, &mix, &["--operations", "6000"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(count(&json, "all", "count"), 6000);
    for operation in ["read", "update", "insert", "rmw", "delete", "batch", "scan"] {
        assert!(count(&json, operation, "count") > 100, "{operation}: {out}");
        assert_eq!(count(&json, operation, "failed"), 0, "{operation}: {out}");
    }
    assert!(json["check"]["verified"].as_u64().unwrap() > 4000 && json["check"]["wrong"] == 0, "{out}");
    assert!(json["check"]["scanned"].as_u64().unwrap() > 0, "{out}");
    assert!(json["notes"][0].as_str().unwrap().contains("GET") || out.contains("order of digests"), "{out}");

    // The next run begins with what the inserts of the first have made, at depth on a ring.
    let records = 2000 + count(&json, "insert", "count");
    let deep = ["--mix", "read=100", "--operations", "3000", "--depth", "8"];
    let (code, json, out, err) = bench(dir.path(), &[&engine[..], &deep].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(json["options"]["records"], records.to_string());
    assert!(count(&json, "read", "missed") > 0, "the first run has deleted some: {out}");
    let wrong = [&engine[..], &["--records", "5"], &SHORT].concat();
    assert!(bench(dir.path(), &wrong).3.contains("it holds"), "another count is refused");
}

#[test]
fn a_real_server_answers_all_operations_rightly() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { data_dir: dir.path().to_owned(), threads: 2, ..Config::default() };
    let server = Server::start_at(config, Some("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = server.redis_addr().unwrap().to_string();
    let load = ["--redis", &address, "--load", "--records", "3000", "--check", "history", "--threads", "2"];
    let pid = std::process::id().to_string();
    let run =
        ["--ycsb", "f", "--operations", "6000", "--connections", "4", "--depth", "4", "--server-pid", &pid];
    // The port is open before the data is there: until then it is refused with a message.
    let mut ran = bench(dir.path(), &[&load[..], &run].concat());
    for _ in 0..100 {
        if !ran.3.contains("LOADING") {
            break;
        }
        ran = bench(dir.path(), &[&load[..], &run].concat());
    }
    let (code, json, out, err) = ran;
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(json["load"]["records"], 3000);
    assert_eq!(count(&json, "read", "count") + count(&json, "rmw", "count"), 6000);
    assert_eq!((json["check"]["wrong"].as_u64(), count(&json, "all", "missed")), (Some(0), 0), "{out}");
    assert!(json["cpu"]["server_s"].is_number() && json["cpu"]["server_memory"].is_number());

    let mix = "read=20,update=20,insert=20,delete=10,expire=10,batch=20";
    let run =
        ["--redis", &address, "--mix", mix, "--ttl", "1h..2h", "--keys", "zipf", "--operations", "5000"];
    let (code, json, out, err) = bench(dir.path(), &run);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!((count(&json, "all", "count"), json["check"]["wrong"].as_u64()), (5000, Some(0)), "{out}");
    server.stop().unwrap();
}

#[test]
fn memcached_s_protocol_answers_all_operations_rightly() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::memcache();
    let mix = "read=30,update=20,insert=10,delete=10,expire=10,rmw=10,batch=10";
    let run = ["--memcache", &server.address, "--load", "--records", "500", "--mix", mix, "--ttl", "60s"];
    let (code, json, out, err) =
        bench(dir.path(), &[&run[..], &["--operations", "2000", "--depth", "4"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!((count(&json, "all", "count"), json["check"]["wrong"].as_u64()), (2000, Some(0)), "{out}");
    assert!(server.record_count() > 500, "records, those inserted, and their count");
}

#[test]
fn a_wrong_value_is_counted_and_shown_and_makes_the_exit_code_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::redis(Faults { flip_every: Some(100), ..Faults::default() });
    let run = [
        "--redis",
        &server.address,
        "--load",
        "--records",
        "200",
        "--mix",
        "read=100",
        "--operations",
        "1000",
    ];
    let (code, json, out, _) = bench(dir.path(), &run);
    assert_eq!((code, json["check"]["wrong"].as_u64()), (Some(1), Some(10)), "{out}");
    assert!(out.contains("WRONG: 10 answers") && out.contains("checksum does not fit"), "{out}");
    let (code, json, ..) = bench(dir.path(), &[&run[..], &["--check", "off"]].concat());
    assert_eq!((code, json["check"]["verified"].as_u64()), (Some(0), Some(0)), "unchecked, nothing is seen");
}

#[test]
fn a_write_that_was_acknowledged_and_forgotten_is_found_by_the_history_alone() {
    let dir = tempfile::tempdir().unwrap();
    // The load's 200 are kept.
    let forget = Some((201, 10));
    let run = |check: &str| {
        let server = FakeServer::redis(Faults { forget, ..Faults::default() });
        let load = ["--redis", &server.address, "--load", "--records", "200", "--operations", "3000"];
        let mix = ["--mix", "read=50,update=50", "--check", check, "--connections", "1", "--threads", "1"];
        bench(dir.path(), &[&load[..], &mix].concat())
    };
    let (code, json, out, _) = run("history");
    assert_eq!(code, Some(1), "{out}");
    assert!(json["check"]["wrong"].as_u64().unwrap() > 10 && out.contains("a lost update"), "{out}");
    assert_eq!(run("value").0, Some(0), "each value by itself is right");
}

#[test]
fn the_same_seed_asks_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::redis(Faults::default());
    let asked = |seed: &str| {
        let run = ["--redis", &server.address, "--records", "500", "--mix", "read=50,update=30,delete=20"];
        let more =
            ["--keys", "zipf", "--threads", "1", "--connections", "1", "--operations", "400", "--seed", seed];
        assert_eq!(bench(dir.path(), &[&run[..], &more].concat()).0, Some(0));
        server.take_log()
    };
    let first = asked("7");
    assert!(first.len() >= 400);
    assert_eq!(first, asked("7"));
    assert_ne!(first, asked("8"));
}

#[test]
fn a_record_that_was_never_loaded_is_a_miss_and_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::redis(Faults::default());
    let run = ["--redis", &server.address, "--mix", "read=100", "--operations", "300", "--check", "history"];
    let (code, _, _, err) = bench(dir.path(), &run);
    assert!(code == Some(2) && err.contains("--load them, or tell it with --records"), "{err}");
    let (code, json, out, _) = bench(dir.path(), &[&run[..], &["--records", "100"]].concat());
    assert_eq!((code, count(&json, "read", "missed")), (Some(0), 300), "{out}");
}

#[test]
fn a_connection_that_is_closed_ends_the_run_and_what_there_is_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::redis(Faults { close_at: Some(500), ..Faults::default() });
    let run = [
        "--redis",
        &server.address,
        "--load",
        "--records",
        "100",
        "--mix",
        "read=100",
        "--operations",
        "1000",
    ];
    let (code, json, out, _) = bench(dir.path(), &run);
    assert_eq!(code, Some(1), "{out}");
    assert!(json["broke_off"].as_str().unwrap().contains("closed the connection"), "{out}");
    assert!(out.contains("BROKE OFF"), "{out}");
    let full = FakeServer::redis(Faults { full_at: Some(51), ..Faults::default() });
    let run = ["--redis", &full.address, "--load-only", "--records", "100", "--threads", "1"];
    let (code, out, err) = aerolith(&[&["bench", "--quiet"], &run[..]].concat());
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("loading ended after 50 of 100 records") && err.contains("OOM"), "{err}");
}

#[test]
fn all_outputs_tell_the_same_and_two_runs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let server = FakeServer::redis(Faults::default());
    let run = |name: &str, more: &[&str]| {
        let (json, csv, html) =
            (path(&format!("{name}.json")), path(&format!("{name}.csv")), path(&format!("{name}.html")));
        let (hgrm, hlog) = (path(name), path(&format!("{name}.hlog")));
        let load = [
            "--redis",
            &server.address,
            "--load",
            "--records",
            "100",
            "--operations",
            "500",
            "--title",
            name,
        ];
        let files = ["--json", &json, "--csv", &csv, "--html", &html, "--hgrm", &hgrm, "--hlog", &hlog];
        let (code, out, err) = aerolith(&[&["bench", "--quiet"], &load[..], &files, more].concat());
        assert_eq!(code, Some(0), "{out}{err}");
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        let read = |name: &str| std::fs::read_to_string(name).unwrap();
        (json, read(&csv), read(&html), read(&format!("{hgrm}.read.hgrm")), read(&hlog))
    };
    let (json, csv, html, hgrm, hlog) = run("first", &[]);
    let reads = count(&json, "read", "count");
    let of_csv: u64 = csv
        .lines()
        .filter_map(|line| line.split_once(",read,")?.1.split(',').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(of_csv, reads, "{csv}");
    assert!(hgrm.contains(&format!("Total count    = {reads:>12}")), "{hgrm}");
    assert!(hlog.lines().any(|line| line.starts_with("Tag=read,0.000,1.000,")), "{hlog}");
    assert!(html.contains(&format!("<td>{reads}</td>")) && html.contains("first") && html.contains("<svg"));
    assert!(!html.contains("http"), "nothing from elsewhere");

    run("second", &["--depth", "4"]);
    let (code, out, err) = aerolith(&["bench", "--compare", &path("first.json"), &path("second.json")]);
    assert_eq!(code, Some(0), "{err}");
    for part in ["'first'", "'second'", "depth", "requests/s", "p99.9", "B against A"] {
        assert!(out.contains(part), "{part} in {out}");
    }
}

#[test]
fn flags_that_cannot_work_are_told_with_what_would() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("none.data");
    let redis = ["--redis", "127.0.0.1:1"];
    let engine = ["--engine", missing.to_str().unwrap()];
    let cases: &[(&[&str], &[&str], &str)] = &[
        (&[], &[], "say what to load"),
        (&redis, &["--mix", "read=50,update=40"], "sum to 90 percent"),
        (&redis, &["--value-size", "16"], "cannot verify itself"),
        (&redis, &["--keys", "normal"], "no distribution"),
        (&redis, &["--ycsb", "e", "--records", "9"], "no scan by key range"),
        (&redis, &["--mix", "expire=100"], "needs --ttl"),
        (&redis, &["--ttl", "2h..1h"], "backwards"),
        (&redis, &["--connections", "2", "--threads", "4"], "fewer than the 4 threads"),
        (&redis, &["--load"], "needs --records"),
        (&redis, &["--load-only", "--records", "9", "--html", "/nowhere/x"], "makes no figures"),
        (&redis, &["--rate", "fast"], "not a rate"),
        (&redis, &["--arrivals", "poisson"], "--rate"),
        (&redis, &["--duration", "0s"], "above 0"),
        (&redis, &["--json", "/nowhere/x.json"], "/nowhere/x.json"),
        (&redis, &["--threads", "0"], "1 to 1024"),
        (&redis, &["--connections", "90000", "--depth", "60000"], "in flight"),
        (&redis, &["--records", "999999999999", "--check", "history"], "8 bytes of RAM a record"),
        (&["--redis", "nonsense"], &[], "HOST:PORT"),
        (&engine, &[], "no such file"),
        (&engine, &["--connections", "4"], "the engine has none"),
        (&engine, &["--load", "--records", "9", "--value-size", "9MiB"], "do not fit a record"),
        (&engine, &["--durability", "sure"], "relaxed and group"),
    ];
    for (target, more, told) in cases {
        let (code, _, err) = aerolith(&[&["bench", "--quiet"], *target, more].concat());
        assert_eq!(code, Some(2), "{more:?}: {err}");
        assert!(err.contains(told), "{more:?}: {err}");
    }
    let (code, _, err) = aerolith(&["bench", "--quiet", "--redis", "127.0.0.1:1", "--records", "9"]);
    assert!(code == Some(1) && err.contains("cannot connect to 127.0.0.1:1"), "{err}");
}
