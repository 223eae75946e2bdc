//! WAITAOF, WAIT, SAVE, BGSAVE, LASTSAVE, and what INFO and CONFIG say of them.

use super::{NOT_AN_INTEGER, Rig};
use crate::config::{Config, Durability};

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
