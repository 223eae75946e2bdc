//! SLOWLOG, LATENCY, MEMORY, and what CONFIG SET changes.

use super::{NOT_AN_INTEGER, Rig, SYNTAX};
use crate::config::{ByteSize, Config};

fn rig(slower_than_us: i64) -> Rig {
    Rig::with(Config {
        threads: 1,
        size: ByteSize(256 << 20),
        slowlog_log_slower_than: slower_than_us,
        ..Config::default()
    })
}

#[test]
fn slow_commands_are_told_newest_first() {
    let mut rig = rig(0);
    rig.expect(&[("SLOWLOG LEN", ":0|"), ("SET a 1", "+OK|"), ("GET a", "$1|1|"), ("SLOWLOG LEN", ":3|")]);
    let reply = rig.run("SLOWLOG GET 2");
    assert!(reply.starts_with("*2|*6|:3|:"), "{reply}");
    assert!(reply.contains("|*2|$7|SLOWLOG|$3|LEN|$11|127.0.0.1:1|$0||*6|:2|:"), "{reply}");
    assert!(reply.contains("|*2|$3|GET|$1|a|") && !reply.contains("SET"), "{reply}");
    assert!(rig.run("SLOWLOG GET -1").starts_with("*5|"));
    rig.expect(&[
        ("CONFIG SET slowlog-max-len 2", "+OK|"),
        ("SLOWLOG LEN", ":2|"),
        ("CONFIG SET slowlog-log-slower-than -1", "+OK|"),
        ("SLOWLOG RESET", "+OK|"),
        ("SLOWLOG LEN", ":0|"),
        ("SLOWLOG GET", "*0|"),
        ("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1|"),
        ("SLOWLOG GET x", NOT_AN_INTEGER),
        ("SLOWLOG GET 1 2", "-ERR wrong number of arguments for 'slowlog|get' command|"),
        ("SLOWLOG FOO", "-ERR unknown subcommand 'FOO'. Try SLOWLOG HELP.|"),
    ]);
    assert!(rig.run("SLOWLOG HELP").starts_with("*12|+SLOWLOG <subcommand>"));
}

#[test]
fn latency_has_a_histogram_for_each_command_that_was_run() {
    let mut rig = rig(-1);
    rig.expect(&[
        ("SET a 1", "+OK|"),
        ("GET a", "$1|1|"),
        ("GET b", "$-1|"),
        ("LATENCY HISTOGRAM nosuch", "*0|"),
    ]);
    let reply = rig.run("LATENCY HISTOGRAM get set keys");
    assert!(reply.starts_with("*4|$3|get|*4|$5|calls|:2|$14|histogram_usec|*"), "{reply}");
    assert!(reply.contains("|$3|set|*4|$5|calls|:1|$14|histogram_usec|*2|:"), "{reply}");
    assert!(!reply.contains("keys"), "{reply}");
    assert!(rig.run("LATENCY HISTOGRAM").contains("|$7|latency|"));
    rig.expect(&[("CONFIG RESETSTAT", "+OK|"), ("LATENCY HISTOGRAM get", "*0|")]);
}

#[test]
fn latency_tells_spikes_above_its_threshold() {
    let mut rig = rig(-1);
    rig.expect(&[
        ("LATENCY LATEST", "*0|"),
        ("LATENCY HISTORY command", "*0|"),
        ("LATENCY RESET", ":0|"),
        ("CONFIG SET latency-monitor-threshold -1", "-ERR CONFIG SET failed (possibly related to argument 'latency-monitor-threshold') - argument must be between 0 and 9223372036854775807 inclusive|"),
        ("CONFIG SET latency-monitor-threshold 1", "+OK|"),
        // A command that may wait for as long as it is told to.
        ("WAIT 1 20", ":0|"),
    ]);
    let latest = rig.run("LATENCY LATEST");
    assert!(latest.starts_with("*1|*4|$7|command|:"), "{latest}");
    assert!(rig.run("LATENCY HISTORY command").starts_with("*1|*2|:"));
    let doctor = rig.run("LATENCY DOCTOR");
    assert!(doctor.contains("* wait: 1 calls") && doctor.contains("Spikes of command"), "{doctor}");
    rig.expect(&[
        ("LATENCY RESET other", ":0|"),
        ("LATENCY RESET command", ":1|"),
        ("LATENCY LATEST", "*0|"),
        ("LATENCY FOO", "-ERR unknown subcommand 'FOO'. Try LATENCY HELP.|"),
    ]);
}

#[test]
fn memory_tells_what_a_key_and_the_whole_take() {
    let mut rig = rig(-1);
    rig.expect(&[
        ("SET a 1", "+OK|"),
        ("MEMORY USAGE nope", "$-1|"),
        ("MEMORY USAGE a SAMPLES x", NOT_AN_INTEGER),
    ]);
    let small = rig.integer("MEMORY USAGE a");
    rig.run(&format!("SET b {}", "x".repeat(5000)));
    let large = rig.integer("MEMORY USAGE b SAMPLES 5");
    assert!((80..200).contains(&small), "{small}");
    assert!((5000..5300).contains(&large), "{large}");
    let stats = rig.run("MEMORY STATS");
    assert!(stats.contains("|$10|keys.count|:2|") && stats.contains("|$11|index.bytes|:"), "{stats}");
    assert!(rig.run("MEMORY DOCTOR").contains("The index takes"));
    rig.expect(&[
        ("MEMORY USAGE a FOO 5", SYNTAX),
        ("MEMORY USAGE", "-ERR wrong number of arguments for 'memory|usage' command|"),
        ("MEMORY PURGE", "-ERR unknown subcommand 'PURGE'. Try MEMORY HELP.|"),
    ]);
}

#[test]
fn config_set_changes_what_can_change_all_or_none() {
    let mut rig = rig(-1);
    rig.expect(&[
        ("CONFIG GET durability", "*2|$10|durability|$7|relaxed|"),
        ("CONFIG SET durability group flush-max-ms 50", "+OK|"),
        ("CONFIG GET durability", "*2|$10|durability|$5|group|"),
        ("CONFIG GET appendfsync", "*2|$11|appendfsync|$6|always|"),
        ("SET a 1", "+OK|"),
        ("CONFIG SET flush-max-ms 5000 appendfsync everysec", "+OK|"),
        ("CONFIG GET flush-max-ms", "*2|$12|flush-max-ms|$4|1000|"),
        ("CONFIG GET appendfsync", "*2|$11|appendfsync|$8|everysec|"),
        ("CONFIG SET appendfsync no", "-ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument must be one of the following: everysec, always|"),
        ("CONFIG GET maxmemory-policy", "*2|$16|maxmemory-policy|$10|noeviction|"),
        ("CONFIG SET evict-above 60", "+OK|"),
        ("CONFIG GET maxmemory-policy", "*2|$16|maxmemory-policy|$12|volatile-ttl|"),
        ("CONFIG SET evict-above 90", "-ERR CONFIG SET failed (possibly related to argument 'evict-above') - argument must be between 0 and 89 inclusive|"),
        ("CONFIG SET scrub-rate 2mb", "+OK|"),
        ("CONFIG GET scrub-rate", "*2|$10|scrub-rate|$7|2097152|"),
        ("CONFIG SET scrub-rate lots", "-ERR CONFIG SET failed (possibly related to argument 'scrub-rate') - argument must be a memory value|"),
        ("CONFIG SET checkpoint-period-ms 0 scrub-rate x", "-ERR CONFIG SET failed (possibly related to argument 'scrub-rate') - argument must be a memory value|"),
        ("CONFIG GET checkpoint-period-ms", "*2|$20|checkpoint-period-ms|$5|60000|"),
        ("CONFIG SET checkpoint-period-ms 0", "+OK|"),
        ("CONFIG GET checkpoint-period-ms", "*2|$20|checkpoint-period-ms|$1|0|"),
        ("CONFIG SET port 6379", "-ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config|"),
        ("CONFIG REWRITE", "-ERR The server is running without a config file|"),
    ]);
    assert!(rig.run("CONFIG HELP").starts_with("*9|+CONFIG <subcommand>"));
}
