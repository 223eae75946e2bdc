//! What a command is: a row of facts and one handler of three kinds.
//!
//! * **Now** answers at once from RAM: PING, EXISTS, TTL.
//! * **Read** starts reads through its [`Turn`] and says how each answer is told; it never waits, so a run of
//!   reads has all its device reads in flight together.
//! * **Later** may wait: everything that writes or walks. All reads before it have been answered when it
//!   starts, and no command after it starts before it has ended.
//!
//! A new command is one row in [`command_table`](super::command_table) and one handler.

use super::error::CommandError;
use super::parser::Args;
use super::reply::Reply;
use super::session::Session;
use super::turn::Turn;
use crate::latency::Class;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

/// A handler's answer: nothing more to say, or an error in place of whatever it has written.
pub(crate) type Done = Result<(), CommandError>;

/// A command that is under way, on the worker's own thread.
pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

/// See the head of this file.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Now(fn(&mut Session, Args<'_>, &mut Reply) -> Done),
    Read(for<'a> fn(Args<'a>, &mut Turn<'a>) -> Done),
    Later(for<'a> fn(&'a Session, Args<'a>, &'a mut Reply) -> Running<'a>),
}

/// What a command does, as COMMAND tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    Write,
    Readonly,
    Denyoom,
    Admin,
    Fast,
    Loading,
    Stale,
    NoAuth,
    Noscript,
    /// May wait for long; see `run_blocking` in [`session`](super::session).
    Blocking,
}

impl Flag {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Flag::Write => "write",
            Flag::Readonly => "readonly",
            Flag::Denyoom => "denyoom",
            Flag::Admin => "admin",
            Flag::Fast => "fast",
            Flag::Loading => "loading",
            Flag::Stale => "stale",
            Flag::NoAuth => "no_auth",
            Flag::Noscript => "noscript",
            Flag::Blocking => "blocking",
        }
    }
}

/// Which arguments are keys: first, last (negative from the end), step; all 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) usize, pub(crate) i32, pub(crate) usize);

/// One row of the command table.
pub(crate) struct Command {
    /// In lower case, at most 16 bytes.
    pub(crate) name: &'static str,
    /// How many words it takes, its name included; negative is "at least".
    pub(crate) arity: i32,
    pub(crate) flags: &'static [Flag],
    pub(crate) keys: Keys,
    /// Whether it waits for the replies of earlier reads although it is a Now command: it changes how replies
    /// are written.
    pub(crate) barrier: bool,
    /// Whether it needs the old value of its first key, so that a batch can have it read ahead.
    pub(crate) prefetch: bool,
    /// As what it is measured.
    pub(crate) class: Class,
    pub(crate) group: &'static str,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) handler: Handler,
}

impl Command {
    pub(crate) fn takes(&self, count: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= arity } else { count == arity }
    }
}

/// The names of the table, packed and upper-cased, in a hash table with open addressing.
struct Names {
    slots: Vec<Option<(u128, u8)>>,
}

const SLOTS: usize = 512;

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let mut slots = vec![None; SLOTS];
    for (index, command) in super::command_table::COMMANDS.iter().enumerate() {
        let packed = pack(command.name.as_bytes()).expect("command names have at most 16 bytes");
        let mut at = hash(packed);
        while slots[at].is_some() {
            at = (at + 1) % SLOTS;
        }
        slots[at] = Some((packed, u8::try_from(index).expect("at most 256 commands")));
    }
    Names { slots }
});

/// Finds a command by its name in any case, as an index into the table.
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    let packed = pack(name)?;
    let names = &*NAMES;
    let mut at = hash(packed);
    while let Some((found, index)) = names.slots[at] {
        if found == packed {
            return Some(usize::from(index));
        }
        at = (at + 1) % SLOTS;
    }
    None
}

fn pack(name: &[u8]) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes.get_mut(..name.len())?.copy_from_slice(name);
    bytes.make_ascii_uppercase();
    // Padding is zeros, so a name must not end in one.
    if name.last().is_none_or(|last| *last == 0) {
        return None;
    }
    Some(u128::from_le_bytes(bytes))
}

fn hash(packed: u128) -> usize {
    let folded = (packed as u64) ^ ((packed >> 64) as u64).rotate_left(29);
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::command_table::COMMANDS;

    #[test]
    fn every_command_is_found_in_any_case() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert_eq!(find(command.name.as_bytes()), Some(index));
            assert_eq!(find(command.name.to_ascii_uppercase().as_bytes()), Some(index));
        }
        for name in ["", "GE", "GETT", "averyveryverylongname", "GET\0"] {
            assert_eq!(find(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn rows_agree_with_themselves() {
        for command in COMMANDS {
            assert_ne!(command.arity, 0, "{}", command.name);
            let later = matches!(command.handler, Handler::Later(_));
            assert!(
                !command.flags.contains(&Flag::Write) || later,
                "{}: a write may have to wait",
                command.name
            );
            assert!(!command.prefetch || command.flags.contains(&Flag::Write), "{}", command.name);
            assert!(!command.prefetch || command.keys.0 > 0, "{}", command.name);
        }
    }
}
