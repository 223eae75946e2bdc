//! WAITAOF, WAIT, SAVE, BGSAVE, LASTSAVE, and what INFO and CONFIG say of them.

use super::{NOT_AN_INTEGER, Rig};
use crate::config::{ByteSize, Config, Durability};
use aerolith_tests::device::TestDevice;
use std::sync::Arc;

fn device() -> Arc<TestDevice> {
    Arc::new(TestDevice::new("test", 128 << 20))
}

/// Writes go out by themselves only after a minute.
fn slow(durability: Durability) -> Config {
    Config { threads: 1, durability, flush_max_ms: 60_000, checkpoint_period_ms: 0, ..Config::default() }
}

#[test]
fn waitaof_answers_when_what_was_written_is_durable() {
    for durability in [Durability::Relaxed, Durability::Group] {
        let mut rig = Rig::with(Config { threads: 1, durability, flush_max_ms: 60_000, ..Config::default() });
        // A minute passes before a relaxed write goes by itself: that it is answered at all is the test.
        rig.expect(&[
            ("WAITAOF 1 0 0", "*2|:1|:0|"),
            ("SET a 1", "+OK|"),
            ("WAITAOF 1 0 0", "*2|:1|:0|"),
            ("DEL a", ":1|"),
            ("WAITAOF 1 0 59000", "*2|:1|:0|"),
            ("WAITAOF 0 0 0", "*2|:1|:0|"),
            ("WAITAOF 0 2 1", "*2|:1|:0|"),
            ("WAITAOF 1 1 1", "*2|:1|:0|"),
        ]);
        assert_eq!(rig.run("SET b 1\nWAITAOF 1 0 0\nINCR b"), "+OK|*2|:1|:0|:2|");
    }
}

#[test]
fn waits_are_refused_in_redis_words() {
    let out_of_range = "-ERR timeout is out of range|";
    Rig::new().expect(&[
        ("WAIT 0 0", ":0|"),
        ("WAIT -3 0", ":0|"),
        ("WAIT 1 1", ":0|"),
        ("WAIT x 0", NOT_AN_INTEGER),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range|"),
        ("WAIT 0 -1", "-ERR timeout is negative|"),
        ("WAIT 0 9223372036854775807", out_of_range),
        ("WAITAOF 0 0", "-ERR wrong number of arguments for 'waitaof' command|"),
        ("WAITAOF x 0 0", NOT_AN_INTEGER),
        ("WAITAOF 2 0 0", "-ERR value is out of range, must be between 0 and 1|"),
        ("WAITAOF -1 0 0", "-ERR value is out of range, must be between 0 and 1|"),
        ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive|"),
        ("WAITAOF 0 x 0", "-ERR value is out of range, must be positive|"),
        ("WAITAOF 0 0 x", "-ERR timeout is not an integer or out of range|"),
        ("WAITAOF 0 0 -1", "-ERR timeout is negative|"),
        ("WAITAOF 0 0 9223372036854775807", out_of_range),
        (
            "COMMAND INFO waitaof",
            "*1|*10|$7|waitaof|:4|*1|+blocking|:0|:0|:0|*3|+@connection|+@blocking|+@slow|*0|*0|*0|",
        ),
    ]);
}

#[test]
fn a_save_is_a_checkpoint() {
    let mut rig = Rig::with(Config { threads: 1, checkpoint_period_ms: 0, ..Config::default() });
    let info = rig.run("INFO persistence");
    for part in ["rdb_bgsave_in_progress:0|", "rdb_last_bgsave_status:ok|", "aof_enabled:1|", "loading:0|"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(info.contains("aerolith_checkpoint_id:0|"), "{info}");
    let started = rig.integer("LASTSAVE");
    assert!(info.contains(&format!("rdb_last_save_time:{started}|")), "{info}");
    rig.expect(&[("SET a 1", "+OK|"), ("SET b 1", "+OK|"), ("DEL b", ":1|"), ("SAVE", "+OK|")]);
    let info = rig.run("INFO persistence");
    // A deleted key is remembered, so it is an entry too.
    assert!(info.contains("aerolith_checkpoint_entries:2|"), "{info}");
    assert!(!info.contains("aerolith_checkpoint_id:0|"), "{info}");
    assert!(rig.integer("LASTSAVE") >= started);
    rig.expect(&[
        ("BGSAVE", "+Background saving started|"),
        ("BGSAVE", "-ERR Background save already in progress|"),
        ("SAVE", "-ERR Background save already in progress|"),
    ]);
    assert!(rig.run("INFO persistence").contains("rdb_bgsave_in_progress:1|"));
    rig.finish_background_save();
    assert!(rig.run("INFO persistence").contains("rdb_last_bgsave_status:ok|"));
    assert!(rig.run("INFO aerolith").contains("checkpoints_written:2|"));
    rig.expect(&[("BGSAVE foo", "-ERR syntax error|"), ("BGSAVE SCHEDULE", "+Background saving started|")]);
}

#[test]
fn config_tells_when_a_write_is_durable() {
    for (durability, flush_max_ms, word) in [
        (Durability::Relaxed, 1000, "everysec"),
        (Durability::Relaxed, 1001, "no"),
        (Durability::Group, 60_000, "always"),
    ] {
        let mut rig = Rig::with(Config { threads: 1, durability, flush_max_ms, ..Config::default() });
        let size = word.len();
        rig.expect(&[
            ("CONFIG GET appendonly", "*2|$10|appendonly|$3|yes|"),
            ("CONFIG GET appendfsync", &format!("*2|$11|appendfsync|${size}|{word}|")),
        ]);
    }
}

#[test]
fn waitaof_of_a_device_that_does_not_answer_ends_with_its_timeout() {
    let device = device();
    let mut rig = Rig::on(&device, slow(Durability::Relaxed));
    device.hold(true);
    rig.expect(&[
        ("SET a 1", "+OK|"),
        ("WAITAOF 1 0 20", "*2|:0|:0|"),
        ("WAITAOF 0 0 0", "*2|:0|:0|"),
        ("WAITAOF 0 1 20", "*2|:0|:0|"),
        ("GET a", "$1|1|"),
        ("SET b 1", "+OK|"),
    ]);
    // Nothing was lost of the wait: what it asked for comes true when the device answers again.
    device.hold(false);
    rig.expect(&[("WAITAOF 1 0 0", "*2|:1|:0|")]);
}

#[test]
fn after_a_failed_write_writes_and_waits_are_misconf_and_reads_go_on() {
    let device = device();
    let mut rig = Rig::on(&device, slow(Durability::Relaxed));
    rig.expect(&[("SET a 1", "+OK|"), ("WAITAOF 1 0 0", "*2|:1|:0|")]);
    assert!(rig.run("INFO persistence").contains("aof_last_write_status:ok|"));
    device.fail_writes(Some(libc::EIO));
    // In RAM only, and nobody knows yet.
    rig.expect(&[("SET b 1", "+OK|")]);
    let mut is_misconf = |command: &str| {
        let reply = rig.run(command);
        assert!(
            reply.starts_with("-MISCONF ") && reply.contains("test") && reply.ends_with('|'),
            "{command}: {reply}"
        );
        assert_eq!(reply.matches("-MISCONF").count(), 1, "{reply}");
    };
    is_misconf("WAITAOF 1 0 0");
    for command in
        ["SET c 1", "DEL a", "INCR a", "MSET x 1 y 2", "EXPIRE a 100", "FLUSHALL", "WAITAOF 1 0 0", "SAVE"]
    {
        is_misconf(command);
    }
    // Who does not ask for the device is told what it has.
    rig.expect(&[("WAITAOF 0 0 0", "*2|:0|:0|"), ("WAITAOF 0 1 20", "*2|:0|:0|")]);
    rig.expect(&[
        ("GET a", "$1|1|"),
        ("GET b", "$1|1|"),
        ("EXISTS a b c", ":2|"),
        ("DBSIZE", ":2|"),
        ("PING", "+PONG|"),
    ]);
    assert!(rig.run("INFO persistence").contains("aof_last_write_status:err|"));
    assert!(rig.run("INFO aerolith").contains("failed_devices:1|"));
}

#[test]
fn with_durability_group_the_write_itself_is_misconf() {
    let device = device();
    let mut rig = Rig::on(&device, slow(Durability::Group));
    rig.expect(&[("SET a 1", "+OK|")]);
    device.fail_writes(Some(libc::EIO));
    let reply = rig.run("SET a 2");
    assert!(reply.starts_with("-MISCONF "), "{reply}");
}

#[test]
fn the_scrub_has_its_setting_and_its_figures() {
    let device = device();
    let mut rig = Rig::on(&device, Config { scrub_rate: ByteSize(3 << 20), ..slow(Durability::Relaxed) });
    rig.expect(&[
        ("CONFIG GET scrub-rate", "*2|$10|scrub-rate|$7|3145728|"),
        ("CONFIG SET scrub-rate 3145728", "+OK|"),
        ("SET a 1", "+OK|"),
    ]);
    rig.expect(&[("CONFIG SET scrub-rate 1", "+OK|"), ("CONFIG GET scrub-rate", "*2|$10|scrub-rate|$1|1|")]);
    let info = rig.run("INFO aerolith");
    for name in
        ["scrub_passes", "scrub_pass_blocks", "scrubbed_blocks", "scrubbed_bytes", "tombstones_removed"]
    {
        assert!(info.contains(&format!("|{name}:")), "{name} in {info}");
    }
    assert!(info.contains("|scrub_faults:0|"), "{info}");
}
