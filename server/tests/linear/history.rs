//! What clients have seen of one key: operations with the moments of their calls and of their answers.
//!
//! A moment is a number that one counter hands out, so the order of two moments is the order in which they
//! happened. An operation whose answer never came (the server was killed) may have happened at any moment from its
//! call on, or not at all.

/// The value of a key; `None` is no key.
pub type State = Option<Vec<u8>>;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Get,
    Set(Vec<u8>),
    Delete,
    Increment,
    Append(Vec<u8>),
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Value(State),
    Done,
    /// The number that INCR, APPEND (a length) or DEL (a count) answers.
    Number(i64),
    /// INCR of what is no integer.
    NotAnInteger,
}

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub action: Action,
    /// When it was sent.
    pub called: u64,
    /// What came back and when; `None`: the connection broke before.
    pub answered: Option<(u64, Answer)>,
}

impl Operation {
    /// What the operation makes of `state`, and what it answers then.
    pub fn apply(&self, state: &State) -> (State, Answer) {
        let present = state.as_deref().unwrap_or_default();
        match &self.action {
            Action::Get => (state.clone(), Answer::Value(state.clone())),
            Action::Set(value) => (Some(value.clone()), Answer::Done),
            Action::Delete => (None, Answer::Number(i64::from(state.is_some()))),
            Action::Append(tail) => {
                let value = [present, tail].concat();
                let length = value.len() as i64;
                (Some(value), Answer::Number(length))
            }
            Action::Increment => {
                let number = match state {
                    None => Some(0),
                    Some(text) => integer(text),
                };
                match number.and_then(|number| number.checked_add(1)) {
                    Some(number) => (Some(number.to_string().into_bytes()), Answer::Number(number)),
                    None => (state.clone(), Answer::NotAnInteger),
                }
            }
        }
    }
}

/// The number that canonical digits stand for.
fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

impl Operation {
    /// Whether its answer acknowledges a change.
    pub fn has_written(&self) -> bool {
        match (&self.action, &self.answered) {
            (_, None) | (Action::Get, _) => false,
            (Action::Delete, Some((_, answer))) => *answer == Answer::Number(1),
            (_, Some((_, answer))) => *answer != Answer::NotAnInteger,
        }
    }
}
