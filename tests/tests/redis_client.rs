//! The Redis port through the `redis` crate, in both protocols.

mod redis_rig;

use redis::{Commands, Connection, RedisResult, Value};
use redis_rig::Running;
use std::collections::{BTreeMap, BTreeSet};

fn connections(running: &Running) -> Vec<Connection> {
    let url = |protocol: &str| format!("redis://{}/?protocol={protocol}", running.address);
    ["resp2", "resp3"]
        .map(|protocol| redis::Client::open(url(protocol)).unwrap().get_connection().unwrap())
        .into_iter()
        .collect()
}

#[test]
fn strings_and_counters() {
    let running = Running::new();
    for mut redis in connections(&running) {
        let _: () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        let _: () = redis.set("a", "hello").unwrap();
        assert_eq!(redis.get::<_, String>("a").unwrap(), "hello");
        assert_eq!(redis.get::<_, Option<String>>("nope").unwrap(), None);
        assert_eq!(redis.incr::<_, _, i64>("n", 5).unwrap(), 5);
        assert_eq!(redis.incr::<_, _, f64>("n", 0.5).unwrap(), 5.5);
        assert_eq!(redis.append::<_, _, usize>("a", " world").unwrap(), 11);
        assert_eq!(redis.getrange::<_, String>("a", 0, 4).unwrap(), "hello");
        let _: () = redis.mset(&[("x", "1"), ("y", "2")]).unwrap();
        let values: Vec<Option<i64>> = redis.mget(&["x", "nope", "y"]).unwrap();
        assert_eq!(values, [Some(1), None, Some(2)]);
        let _: () = redis.set_ex("t", "v", 100).unwrap();
        assert_eq!(redis.ttl::<_, i64>("t").unwrap(), 100);
        let wrong: RedisResult<i64> = redis.incr("a", 1);
        assert!(wrong.unwrap_err().to_string().contains("not an integer"));
        assert_eq!(redis.del::<_, i64>(&["a", "n", "nope"]).unwrap(), 2);
    }
}

#[test]
fn a_pipeline_of_reads_and_writes() {
    let running = Running::new();
    for mut redis in connections(&running) {
        let mut pipe = redis::pipe();
        for n in 0..300 {
            pipe.set(format!("slow:{n}"), n).ignore();
        }
        for n in (0..300).rev() {
            pipe.get(format!("slow:{n}"));
        }
        let values: Vec<i64> = pipe.query(&mut redis).unwrap();
        assert_eq!(values, (0..300).rev().collect::<Vec<_>>());
    }
}

#[test]
fn scan_and_config_and_info() {
    let running = Running::new();
    for mut redis in connections(&running) {
        let _: () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
        let expected: BTreeSet<String> = (0..200).map(|n| format!("k:{n}")).collect();
        for key in &expected {
            let _: () = redis.set(key, "v").unwrap();
        }
        let found: BTreeSet<String> =
            redis.scan_match::<_, String>("k:*").unwrap().map(|key| key.unwrap()).collect();
        assert_eq!(found, expected);
        let config: BTreeMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("data*").query(&mut redis).unwrap();
        assert_eq!(config["databases"], "1");
        let info: redis::InfoDict = redis::cmd("INFO").query(&mut redis).unwrap();
        assert_eq!(info.get::<String>("role").as_deref(), Some("master"));
        let time: Vec<Value> = redis::cmd("TIME").query(&mut redis).unwrap();
        assert_eq!(time.len(), 2);
    }
}

#[test]
fn many_connections_share_one_counter() {
    let running = Running::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for mut redis in connections(&running) {
                    for _ in 0..200 {
                        let _: i64 = redis.incr("n", 1).unwrap();
                    }
                }
            });
        }
    });
    let mut redis = connections(&running).remove(0);
    assert_eq!(redis.get::<_, i64>("n").unwrap(), 3200);
}
