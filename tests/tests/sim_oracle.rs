//! The oracle of the simulation judges histories made by hand: those that break a promise it must reject, by the right
//! name, and those that keep it it must accept. An oracle that accepts everything would find nothing.

use aerolith_tests::sim::oracle::{Oracle, Violation};
use aerolith_tests::sim::version::{Content, Kind, Seen};
use std::collections::BTreeMap;

const NOW: u64 = 10_000;

fn content(number: u64, generation: u16, expires_ms: u64) -> Content {
    Content { number, count: 0, generation, updated_ms: number, expires_ms }
}

/// A history under way: versions of keys, some promised.
#[derive(Default)]
struct History {
    oracle: Oracle,
    contents: BTreeMap<u64, Content>,
}

impl History {
    /// Puts value `number`. Returns the version.
    fn put(&mut self, key: u32, number: u64, generation: u16, expires_ms: u64) -> (u32, u64) {
        let of = content(number, generation, expires_ms);
        self.contents.insert(number, of);
        (key, self.oracle.accept(key, Kind::Put, &[of], 0))
    }

    fn delete(&mut self, key: u32) -> (u32, u64) {
        (key, self.oracle.accept(key, Kind::Delete, &[], 0))
    }

    fn there(&self, number: u64) -> Seen {
        Seen::Present(self.contents[&number])
    }

    /// What the oracle says if a recovery finds this, and nothing of the keys that are not named.
    fn recover(&mut self, found: &[(u32, Seen)], now_ms: u64) -> Result<(), Violation> {
        self.oracle.recover(&found.iter().cloned().collect(), now_ms)
    }

    #[track_caller]
    fn rejects(&self, found: &[(u32, Seen)], rule: u8, name: &str) {
        let judged = self.oracle.clone().recover(&found.iter().cloned().collect(), NOW);
        let violation = judged.expect_err("it must object");
        assert_eq!((violation.rule, violation.name), (rule, name), "{violation}");
    }

    #[track_caller]
    fn accepts(&self, found: &[(u32, Seen)]) {
        let judged = self.oracle.clone().recover(&found.iter().cloned().collect(), NOW);
        judged.unwrap_or_else(|violation| panic!("it must not object: {violation}"));
    }
}

#[test]
fn what_was_promised_may_be_replaced_and_not_lost() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    let second = history.put(1, 2, 2, 0);
    history.put(1, 3, 3, 0);
    history.oracle.promise(&[second]);
    history.accepts(&[(1, history.there(2))]);
    history.accepts(&[(1, history.there(3))]);
    history.rejects(&[(1, history.there(1))], 1, "STALE");
    history.rejects(&[(1, Seen::Absent)], 1, "LOST");
}

#[test]
fn what_was_not_promised_may_be_lost() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    history.accepts(&[(1, Seen::Absent)]);
    history.accepts(&[(1, history.there(1))]);
}

#[test]
fn what_was_deleted_for_certain_stays_deleted() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    let gone = history.delete(1);
    history.accepts(&[(1, history.there(1))]);
    history.oracle.promise(&[gone]);
    history.accepts(&[(1, Seen::Absent)]);
    history.rejects(&[(1, history.there(1))], 3, "ZOMBIE");
}

#[test]
fn what_a_reading_has_excluded_never_comes_back() {
    let mut history = History::default();
    let first = history.put(1, 1, 1, 0);
    history.put(1, 2, 2, 0);
    history.oracle.promise(&[first]);
    // A crash lost the second one, and somebody has seen that.
    let seen = history.there(1);
    history.recover(&[(1, seen)], NOW).expect("it was not promised");
    history.accepts(&[(1, history.there(1))]);
    history.rejects(&[(1, history.there(2))], 4, "GHOST");
}

#[test]
fn what_a_reading_has_shown_is_a_promise() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    let seen = history.there(1);
    history.recover(&[(1, seen)], NOW).expect("it may be there");
    history.rejects(&[(1, Seen::Absent)], 1, "LOST");
}

#[test]
fn bytes_of_nobody_and_errors_without_damage_are_rejected() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    history.rejects(&[(1, Seen::Garbage("other bytes".into()))], 2, "GARBAGE");
    history.rejects(&[(1, Seen::Refused("damaged".into()))], 2, "REFUSED");
}

#[test]
fn a_record_past_its_end_is_rejected_and_so_is_what_it_hides() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    let ended = history.put(1, 2, 2, NOW - 1);
    history.accepts(&[(1, history.there(1))]);
    history.oracle.promise(&[ended]);
    history.accepts(&[(1, Seen::Absent)]);
    history.rejects(&[(1, history.there(2))], 5, "EXPIRED");
    history.rejects(&[(1, history.there(1))], 5, "UNMASKED");
    let mut alive = History::default();
    let version = alive.put(1, 1, 1, NOW + 1);
    alive.oracle.promise(&[version]);
    alive.accepts(&[(1, alive.there(1))]);
    alive.rejects(&[(1, Seen::Absent)], 1, "LOST");
}

#[test]
fn a_clock_that_was_set_back_may_show_what_had_expired_or_not() {
    let mut history = History::default();
    let version = history.put(1, 1, 1, NOW + 5);
    history.oracle.promise(&[version]);
    history.oracle.lapse(NOW + 10);
    history.accepts(&[(1, history.there(1))]);
    history.accepts(&[(1, Seen::Absent)]);
}

#[test]
fn another_generation_or_time_of_update_is_rejected() {
    let mut history = History::default();
    let version = history.put(1, 1, 4, 0);
    history.oracle.promise(&[version]);
    history.rejects(&[(1, Seen::Present(content(1, 1, 0)))], 6, "GENERATION");
    let moved = Content { updated_ms: 77, ..content(1, 4, 0) };
    history.rejects(&[(1, Seen::Present(moved))], 6, "GENERATION");
    let longer = Content { expires_ms: NOW + 9, ..content(1, 4, 0) };
    history.rejects(&[(1, Seen::Present(longer))], 6, "GENERATION");
}

#[test]
fn what_a_truncation_took_stays_away_as_a_whole() {
    let mut history = History::default();
    let both = [history.put(1, 1, 1, 0), history.put(2, 2, 1, 0)];
    let other = history.put(1_001, 3, 1, 0);
    history.oracle.promise(&both);
    history.oracle.promise(&[other]);
    let members = history.oracle.truncate(Some("a"), 0);
    let (one, two, three) = (history.there(1), history.there(2), history.there(3));
    // Not promised: it happened to all of the set, or to none.
    history.accepts(&[(1, one.clone()), (2, two.clone()), (1_001, three.clone())]);
    history.accepts(&[(1_001, three.clone())]);
    history.rejects(&[(1, one.clone()), (1_001, three.clone())], 4, "TORN GROUP");
    history.oracle.promise(&members);
    history.accepts(&[(1_001, three.clone())]);
    history.rejects(&[(1, one), (1_001, three)], 7, "TRUNCATED");
    history.rejects(&[(2, two)], 7, "TRUNCATED");
    history.rejects(&[], 1, "LOST");
}

#[test]
fn a_group_is_there_whole_or_not_at_all() {
    let mut history = History::default();
    let old = [history.put(1, 1, 1, 0), history.put(2, 2, 1, 0)];
    history.oracle.promise(&old);
    let group = [history.put(1, 3, 2, 0), history.put(2, 4, 2, 0)];
    history.oracle.group(&group);
    history.accepts(&[(1, history.there(1)), (2, history.there(2))]);
    history.accepts(&[(1, history.there(3)), (2, history.there(4))]);
    history.rejects(&[(1, history.there(3)), (2, history.there(2))], 4, "TORN GROUP");
    // A later version of one of them says nothing against the other.
    history.put(1, 5, 3, 0);
    history.accepts(&[(1, history.there(5)), (2, history.there(4))]);
}

#[test]
fn a_live_reading_sees_what_was_there_while_it_was_under_way() {
    let mut history = History::default();
    history.put(1, 1, 1, 0);
    let started = history.oracle.last_id();
    history.put(1, 2, 2, 0);
    let live = |seen: &Seen, started| history.oracle.check_live(1, seen, started, NOW, NOW);
    assert!(live(&history.there(1), started).is_ok(), "it was there when the reading began");
    assert!(live(&history.there(2), started).is_ok());
    let late = live(&history.there(1), history.oracle.last_id()).expect_err("it had been replaced");
    assert!(late.story.contains("key 1"), "{late}");
    assert!(live(&Seen::Absent, started).is_err(), "it was never away");
}

#[test]
fn devices_that_keep_up_owe_what_was_accepted_long_ago() {
    let mut history = History::default();
    let of = content(1, 1, 0);
    history.contents.insert(1, of);
    history.oracle.accept(1, Kind::Put, &[of], 100);
    history.oracle.promise_until(99);
    history.accepts(&[(1, Seen::Absent)]);
    history.oracle.promise_until(100);
    history.rejects(&[(1, Seen::Absent)], 1, "LOST");
}
