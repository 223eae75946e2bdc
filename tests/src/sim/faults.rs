//! What goes wrong while the engine runs: rates for each kind of fault, one theme a seed.
//!
//! Most seeds have no fault at all or those of one theme, so that faults do not hide each other. Class C themes are
//! crash faults and refusals: nothing that was acknowledged may be lost whatever happens. Class M themes damage the
//! medium itself, which one node cannot repair: there the promise is that damage is seen (`damage.rs`).

use super::target::Target;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read fails once.
    ReadOnce,
    /// A write fails, and its data is there, or in part, or not.
    WriteError,
    /// A durable write or a flush fails, and what was cached is dropped without another word.
    FlushError,
    /// There is no room to reserve.
    NoRoom,
    /// A request takes up to two seconds.
    Slow,
    /// A request takes half a minute.
    Stuck,
    /// A write is answered and never carried out.
    LostWrite,
    /// A write is carried out at another place.
    Misdirected,
    /// One to eight bits of a sector change.
    BitRot,
    /// A whole sector changes.
    SectorRot,
    /// A sector cannot be read until it is written.
    Unreadable,
    /// A read gives what was there before, once.
    StaleRead,
}

impl Fault {
    /// Those that a life of class C meets.
    pub const OF_CRASHES: [Fault; 6] =
        [Fault::ReadOnce, Fault::WriteError, Fault::FlushError, Fault::NoRoom, Fault::Slow, Fault::Stuck];

    /// Those of the medium: a life of class M meets them.
    pub const OF_MEDIA: [Fault; 6] = [
        Fault::LostWrite,
        Fault::Misdirected,
        Fault::BitRot,
        Fault::SectorRot,
        Fault::Unreadable,
        Fault::StaleRead,
    ];
}

/// What may go wrong in one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Nothing but crashes.
    Healthy,
    /// Reads fail once.
    Reads,
    /// A write fails in the end.
    Writes,
    /// A flush fails in the end.
    Flushes,
    /// The file system fills up now and then.
    Room,
    /// Requests are slow or stuck.
    Latency,
    /// The medium damages what it holds; class M alone.
    Media,
}

impl Theme {
    /// One for a seed: five of twelve are healthy.
    pub fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..12) {
            0 => Theme::Reads,
            1 | 2 => Theme::Writes,
            3 | 4 => Theme::Flushes,
            5 => Theme::Room,
            6 => Theme::Latency,
            _ => Theme::Healthy,
        }
    }

    /// Its faults and how often they happen, in a thousand requests that could have them.
    pub fn rates(self) -> &'static [(Fault, u32)] {
        match self {
            Theme::Healthy => &[],
            Theme::Reads => &[(Fault::ReadOnce, 30)],
            Theme::Writes => &[(Fault::WriteError, 6)],
            Theme::Flushes => &[(Fault::FlushError, 6)],
            Theme::Room => &[(Fault::NoRoom, 300)],
            Theme::Latency => &[(Fault::Slow, 60), (Fault::Stuck, 5)],
            // What rots, rots by itself (`Rack::strike`).
            Theme::Media => &[(Fault::LostWrite, 4), (Fault::Misdirected, 4), (Fault::StaleRead, 20)],
        }
    }
}

/// Faults that can happen now, and how often each has happened.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rates: Vec<(Fault, u32)>,
    /// Writes for this, if any, often take long, so that others overtake them.
    pub lagging: Option<Target>,
    /// How often each was injected.
    pub injected: BTreeMap<Fault, u64>,
}

impl Faults {
    /// Sets what can happen from now on, in a thousand requests.
    pub fn set(&mut self, rates: &[(Fault, u32)]) {
        self.rates = rates.to_vec();
    }

    /// Whether this kind happens now.
    pub fn strikes(&mut self, fault: Fault, rng: &mut StdRng) -> bool {
        let Some((_, rate)) = self.rates.iter().find(|(kind, _)| *kind == fault) else { return false };
        let strikes = rng.random_range(0..1000) < *rate;
        if strikes {
            self.note(fault);
        }
        strikes
    }

    /// Counts a fault that somebody else injected.
    pub fn note(&mut self, fault: Fault) {
        *self.injected.entry(fault).or_default() += 1;
    }
}
