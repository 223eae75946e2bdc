//! The admin port of a running server: what it tells agrees with what was done, and with itself.

mod redis_rig;

use aerolith_engine::OpenProgress;
use aerolith_server::{Config, Server};
use redis_rig::{ANY_PORT, Running, command, get};
use serde_json::Value;
use std::sync::Arc;

fn running() -> Running {
    Running::with(|config| {
        config.size.0 = 256 << 20;
        config.admin_port = ANY_PORT;
    })
}

fn json(running: &Running, path: &str) -> Value {
    let (status, body) = running.admin(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Sends commands one after the other and forgets the replies.
fn run(running: &Running, commands: &[&str]) {
    let mut socket = running.connect();
    for line in commands {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        socket.send(command(&words));
    }
    socket.send(command(&[b"QUIT"]));
    socket.rest();
}

/// The value of a sample of `/metrics`.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

#[test]
fn every_command_counts_once_in_its_class() {
    let running = running();
    run(
        &running,
        &[
            "SET a 1",
            "INCR a",
            "MGET a b c",
            "GET a",
            "GET b",
            "TTL a",
            "DEL a b",
            "KEYS *",
            "PING",
            "NOSUCH",
        ],
    );
    let expected = [("read", 4), ("write", 2), ("delete", 1), ("scan", 1), ("other", 2)];
    let stats = json(&running, "/stats");
    let (_, metrics) = running.admin("/metrics");
    for (class, count) in expected {
        let operations = stats["operations"].as_array().unwrap();
        let found =
            operations.iter().find(|each| each["class"] == class && each["protocol"] == "redis").unwrap();
        assert_eq!(found["count"], count, "{class}");
        let (total, recent) = (&found["total"], &found["recent"]);
        assert_eq!((&total["count"], &recent["count"]), (&count.into(), &count.into()), "{class}");
        let us = |name: &str| total[name].as_f64().unwrap();
        assert!(
            us("p50_us") > 0.0 && us("p50_us") <= us("p99_us") && us("p99_us") <= us("max_us"),
            "{total}"
        );
        let labels = format!("{{protocol=\"redis\",class=\"{class}\"}}");
        assert_eq!(sample(&metrics, &format!("aerolith_operation_seconds_count{labels}")), f64::from(count));
        assert!(sample(&metrics, &format!("aerolith_operation_seconds_sum{labels}")) > 0.0);
        let last = format!(
            "aerolith_operation_seconds_bucket{{protocol=\"redis\",class=\"{class}\",le=\"16.777216\"}}"
        );
        assert_eq!(sample(&metrics, &last), f64::from(count));
    }
    assert_eq!(stats["reads"]["hits"], 2);
    // The engine's own looks count as well.
    assert!(stats["reads"]["misses"].as_u64().unwrap() >= 3, "{stats}");
    run(&running, &["CONFIG RESETSTAT"]);
    let operations = &json(&running, "/stats")["operations"];
    assert_eq!(operations[0]["count"], 0, "{operations}");
}

#[test]
fn the_maps_agree_with_the_figures() {
    let running = running();
    run(&running, &["SET a 1", "SET b 2", "SAVE"]);
    let (stats, map) = (json(&running, "/stats"), json(&running, "/stats/blocks?device=0"));
    let (device, states) = (&stats["devices"][0], map["states"].as_str().unwrap());
    assert_eq!(
        map["blocks"].as_u64().unwrap() + 1,
        device["blocks"].as_u64().unwrap(),
        "the header's is not shown"
    );
    let letters = [
        ('f', "free"),
        ('o', "open"),
        ('w', "flushing"),
        ('s', "sealed"),
        ('t', "settling"),
        ('c', "checkpoint"),
        ('d', "defrag"),
        ('x', "damaged"),
    ];
    for (letter, name) in letters {
        assert_eq!(states.matches(letter).count() as u64, device["states"][name].as_u64().unwrap(), "{name}");
    }
    assert!(states.contains('o') && states.contains('c'), "{states}");
    assert_eq!(map["fill"].as_str().unwrap().len(), states.len());
    assert_eq!(map["age"].as_str().unwrap().len(), states.len());
    assert_eq!(running.admin("/stats/blocks?device=1").0, 404);
    assert_eq!(running.admin("/stats/blocks?device=x").0, 400);

    let index = json(&running, "/stats/index");
    let load = index["load"].as_str().unwrap();
    assert_eq!(load.len(), 4096);
    // Two records, in a partition each, and perhaps what the system keeps for itself.
    let taken = load.chars().filter(|&c| c != '.').count();
    assert!((1..=8).contains(&taken), "{taken}");
}

#[test]
fn health_and_ready_and_an_unknown_path() {
    let running = running();
    assert_eq!(running.admin("/health"), (200, "ok\n".into()));
    assert_eq!(running.admin("/ready"), (200, "ready\n".into()));
    assert_eq!(running.admin("/nothing").0, 404);
    let (status, page) = running.admin("/");
    assert!(status == 200 && page.starts_with("<!doctype html>"), "{page}");
}

#[test]
fn while_the_data_is_opened_it_says_how_far_that_is() {
    let data = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: data.path().to_owned(), threads: 1, ..Config::default() };
    config.size.0 = 256 << 20;
    config.redis_port = 0;
    config.admin_port = 0;
    Server::start_at(config.clone(), None).unwrap().stop().unwrap();

    config.admin_port = redis_rig::free_port();
    let progress = Arc::new(OpenProgress::held());
    let server = Server::begin(config, None, progress.clone()).unwrap();
    let address = server.admin_addr().unwrap();
    let (status, text) = get(address, "/ready");
    assert!(status == 503 && text.starts_with("loading: "), "{status} {text}");
    assert_eq!(get(address, "/health").0, 200);
    let stats: Value = serde_json::from_str(&get(address, "/stats").1).unwrap();
    assert_eq!((&stats["state"], &stats["loading"]["is_loading"]), (&"loading".into(), &true.into()));
    assert_eq!(stats["devices"].as_array().unwrap().len(), 0);
    assert_eq!(sample(&get(address, "/metrics").1, "aerolith_ready"), 0.0);
    assert_eq!(get(address, "/stats/blocks").0, 404);
    progress.release();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(server.opened()));
    assert_eq!(get(address, "/ready"), (200, "ready\n".into()));
    server.stop().unwrap();
}
