//! Who is connected, and whether each of them keeps the pace.
//!
//! A [`Client`] is a connection as others see it: CLIENT LIST reads it from any thread, and its worker's janitor
//! looks at it every second. The connection only stores into it, so that watching costs a command next to
//! nothing: no timer is armed for a read or a write that is about to succeed.
//!
//! ```text
//! phase     the janitor closes the connection when
//! Idle      it has sent nothing for `idle-timeout-s` (0: never)
//! Request   a request has begun, `request-timeout-s` has passed and its bytes come too slowly
//! Running   never: a command ends by itself
//! Writing   the client has not taken its replies within `write-timeout-s`
//! ```

use crate::limits::Limits;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Idle,
    Request,
    Running,
    Writing,
}

const PHASES: [Phase; 4] = [Phase::Idle, Phase::Request, Phase::Running, Phase::Writing];

/// The words a client has told about itself.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    pub(crate) name: String,
    pub(crate) lib_name: String,
    pub(crate) lib_ver: String,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) connected_at_ms: u64,
    pub(crate) names: Mutex<Names>,
    pub(crate) resp3: AtomicBool,
    pub(crate) no_evict: AtomicBool,
    pub(crate) no_touch: AtomicBool,
    phase: AtomicU8,
    /// When the phase began, in ms; kept by the janitor's clock.
    since_ms: AtomicU64,
    /// Bytes of the request that has begun.
    received: AtomicU64,
    last_command: AtomicUsize,
    last_active_ms: AtomicU64,
}

impl Client {
    pub(crate) fn new(id: u64, address: SocketAddr, local: SocketAddr) -> Client {
        let now = crate::clock::unix_ms();
        Client {
            id,
            address,
            local,
            connected_at_ms: now,
            names: Mutex::default(),
            resp3: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Idle as u8),
            since_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            last_command: AtomicUsize::new(usize::MAX),
            last_active_ms: AtomicU64::new(now),
        }
    }

    /// Says what the connection is doing now. The phase's time starts anew.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since_ms.store(0, Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Relaxed))]
    }

    /// A request has begun, or goes on, and has this many bytes so far.
    pub(crate) fn note_request(&self, received: usize) {
        if self.phase() != Phase::Request {
            self.enter(Phase::Request);
        }
        self.received.store(received as u64, Relaxed);
    }

    pub(crate) fn note_active(&self, now_ms: u64) {
        self.last_active_ms.store(now_ms, Relaxed);
    }

    pub(crate) fn note_command(&self, index: usize) {
        self.last_command.store(index, Relaxed);
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection should be closed, if it should. Called about once a second by its janitor.
    pub(crate) fn overdue(&self, now_ms: u64, limits: &Limits, idle_timeout_ms: u64) -> Option<&'static str> {
        let since_ms = match self.since_ms.load(Relaxed) {
            0 => {
                // First look at this phase. A phase that ends meanwhile only makes the next look a little late.
                self.since_ms.store(now_ms, Relaxed);
                return None;
            }
            since => now_ms.saturating_sub(since),
        };
        match self.phase() {
            Phase::Idle if idle_timeout_ms > 0 && since_ms > idle_timeout_ms => Some("idle"),
            Phase::Request if limits.is_too_slow(since_ms, self.received.load(Relaxed)) => {
                Some("request came too slowly")
            }
            Phase::Writing if since_ms > limits.write_timeout_ms => Some("replies were not read"),
            Phase::Idle | Phase::Request | Phase::Running | Phase::Writing => None,
        }
    }

    /// The client's line in CLIENT LIST.
    pub(crate) fn line(&self, now_ms: u64) -> String {
        let names = self.names().clone();
        let command = crate::redis::command_table::COMMANDS.get(self.last_command.load(Relaxed));
        let mut flags = String::new();
        for (set, flag) in [(&self.no_evict, 'e'), (&self.no_touch, 'T')] {
            if set.load(Relaxed) {
                flags.push(flag);
            }
        }
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.address,
            self.local,
            names.name,
            now_ms.saturating_sub(self.connected_at_ms) / 1000,
            now_ms.saturating_sub(self.last_active_ms.load(Relaxed)) / 1000,
            if flags.is_empty() { "N" } else { &flags },
            command.map_or("NULL", |command| command.name),
            if self.resp3.load(Relaxed) { 3 } else { 2 },
            names.lib_name,
            names.lib_ver,
        )
    }
}

/// All connections of the server.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// A number that no other connection has had.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed) + 1
    }

    /// Takes a client in, unless `max` are connected already.
    pub(crate) fn admit(&self, client: &Arc<Client>, max: usize) -> bool {
        let mut connected = self.all();
        let room = connected.len() < max;
        if room {
            connected.insert(client.id, client.clone());
        }
        room
    }

    pub(crate) fn remove(&self, id: u64) {
        self.all().remove(&id);
    }

    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    /// The connected clients by id.
    pub(crate) fn list(&self) -> Vec<Arc<Client>> {
        self.all().values().cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
