//! Histories whose verdict is known.

use super::checker::{Reads, after_crash};
use super::history::{Action, Answer, Operation, State};

fn text(text: &str) -> State {
    Some(text.as_bytes().to_vec())
}

/// An operation that was called and answered then; answered 0 is never.
fn op(action: Action, called: u64, answered: u64, answer: Answer) -> Operation {
    Operation { client: 0, action, called, answered: (answered > 0).then_some((answered, answer)) }
}

fn get(called: u64, answered: u64, value: State) -> Operation {
    op(Action::Get, called, answered, Answer::Value(value))
}

fn set(called: u64, answered: u64, value: &str) -> Operation {
    op(Action::Set(value.into()), called, answered, Answer::Done)
}

fn delete(called: u64, answered: u64, count: i64) -> Operation {
    op(Action::Delete, called, answered, Answer::Number(count))
}

fn incr(called: u64, answered: u64, number: i64) -> Operation {
    op(Action::Increment, called, answered, Answer::Number(number))
}

fn append(called: u64, answered: u64, tail: &str, length: i64) -> Operation {
    op(Action::Append(tail.into()), called, answered, Answer::Number(length))
}

/// What may be found afterwards, sorted; `-` is no key.
fn found(start: State, operations: &[Operation], reads: Reads) -> String {
    let states = after_crash(&start, operations, reads).unwrap();
    let mut names: Vec<String> =
        states.into_iter().map(|s| s.map_or("-".into(), |b| String::from_utf8(b).unwrap())).collect();
    names.sort();
    names.join(" ")
}

#[track_caller]
fn both(start: State, operations: &[Operation], expected: &str) {
    assert_eq!(found(start.clone(), operations, Reads::OfDurable), expected, "of durable");
    assert_eq!(found(start, operations, Reads::OfAnything), expected, "of anything");
}

#[test]
fn what_happened_one_after_the_other_has_one_end() {
    both(None, &[], "-");
    both(text("a"), &[], "a");
    both(None, &[set(1, 2, "a"), get(3, 4, text("a")), delete(5, 6, 1), get(7, 8, None)], "-");
    both(None, &[incr(1, 2, 1), incr(3, 4, 2), append(5, 6, "0", 2), incr(7, 8, 21)], "21");
    both(text("x"), &[op(Action::Increment, 1, 2, Answer::NotAnInteger), append(3, 4, "y", 2)], "xy");
    // The order of the slice does not count.
    both(None, &[get(3, 4, text("a")), set(1, 2, "a")], "a");
}

#[test]
fn what_overlaps_may_be_in_either_order_and_answers_decide() {
    both(None, &[set(1, 10, "a"), set(2, 9, "b")], "a b");
    both(None, &[set(1, 10, "a"), set(2, 9, "b"), get(11, 12, text("a"))], "a");
    both(None, &[set(1, 10, "a"), set(2, 9, "b"), get(3, 4, text("b")), get(5, 6, text("a"))], "a");
    both(None, &[incr(1, 10, 2), incr(2, 9, 1)], "2");
    both(None, &[delete(1, 10, 1), set(2, 9, "a")], "-");
    both(None, &[delete(1, 10, 0), set(2, 9, "a")], "a");
}

#[test]
fn what_cannot_be_is_refused() {
    for (start, operations) in [
        // A read of what was overwritten before it.
        (None, vec![set(1, 2, "a"), set(3, 4, "b"), get(5, 6, text("a"))]),
        // A read of what nobody wrote, and of nothing where there is something.
        (None, vec![get(1, 2, text("a"))]),
        (None, vec![set(1, 2, "a"), get(3, 4, None)]),
        // A write that is seen, then not, then seen.
        (text("a"), vec![set(1, 20, "b"), get(2, 3, text("b")), get(4, 5, text("a"))]),
        // Two clients who saw two writes in different orders.
        (
            None,
            vec![
                set(1, 20, "a"),
                set(2, 19, "b"),
                get(3, 4, text("a")),
                get(5, 6, text("b")),
                get(7, 8, text("a")),
            ],
        ),
        // An increment that was counted twice, and two that counted as one.
        (None, vec![incr(1, 2, 1), incr(3, 4, 3)]),
        (None, vec![incr(1, 10, 1), incr(2, 9, 1)]),
        // A deleted key that was deleted again, an append to what was not there.
        (text("a"), vec![delete(1, 2, 1), delete(3, 4, 1)]),
        (text("a"), vec![append(1, 2, "b", 1)]),
    ] {
        both(start, &operations, "");
    }
}

#[test]
fn what_was_not_answered_has_happened_or_not() {
    both(text("a"), &[set(1, 0, "b")], "a b");
    both(text("a"), &[set(1, 0, "b"), delete(2, 0, 0)], "- a b");
    both(text("1"), &[incr(1, 0, 0), incr(2, 0, 0)], "1 2 3");
    // Never before its call.
    both(text("a"), &[get(1, 2, text("b")), set(3, 0, "b")], "");
    // Something answered comes after it or before it.
    both(None, &[set(1, 0, "a"), set(2, 3, "b")], "a b");
    both(None, &[append(1, 0, "a", 0), append(2, 3, "b", 1)], "b ba");
}

#[test]
fn a_crash_undoes_nothing_that_was_acknowledged() {
    // Seen before it was durable: whether that may be lost is the question of `Reads`.
    let seen = [set(1, 0, "b"), get(2, 3, text("b"))];
    assert_eq!(found(text("a"), &seen, Reads::OfDurable), "b");
    assert_eq!(found(text("a"), &seen, Reads::OfAnything), "a b");
    // An acknowledged write keeps what it was built on, seen or not.
    both(text("1"), &[incr(1, 0, 0), incr(2, 4, 3)], "3");
    // A delete that found nothing has written nothing; one that did has.
    let gone = [delete(1, 0, 0), delete(2, 3, 0)];
    assert_eq!(found(text("a"), &gone, Reads::OfDurable), "-");
    assert_eq!(found(text("a"), &gone, Reads::OfAnything), "- a");
    both(text("a"), &[delete(1, 2, 1)], "-");
    // A read still has to be of something.
    both(text("a"), &[set(1, 0, "b"), get(2, 3, text("c"))], "");
}

#[test]
fn many_operations_are_judged() {
    // Four clients at a time, seventy rounds: more than one word of bits.
    let mut operations = Vec::new();
    for round in 0..70 {
        for client in 0..4_i64 {
            let base = round * 100 + 1;
            operations.push(incr(
                base + client as u64,
                base + 50 - client as u64,
                round as i64 * 4 + 4 - client,
            ));
        }
    }
    both(None, &operations, "280");
    operations[277].answered = Some((6950, Answer::Number(278)));
    both(None, &operations, "");
}
