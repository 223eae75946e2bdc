//! `kill -9` of the real server under load from many connections to the same keys, and linearizability as the judge.
//!
//! Clients send GET, SET, DEL, INCR and APPEND, some of them in small pipelines, to a few hot keys and many cold ones,
//! and note when each was sent and when its answer came. The server (durability `group`, checkpoints every few
//! hundred milliseconds) is killed at a moment drawn from a seed, often again while it loads, and started on the
//! same data. Then every key is read, and for each one the checker says which states the history of this life can
//! have led to (see `linear/checker.rs`): what is read must be one of them. That state is where the key begins its
//! next life, so what one recovery has ruled out may never come back. Hot keys rotate: histories stay short.
//!
//! `AEROLITH_KILLS=500` runs 500 cycles instead of 3; `AEROLITH_SEED=7` begins with another seed; `AEROLITH_RESULT=FILE`
//! writes the result there. A failure prints the history, and the line that replays its cycle; the moments are the
//! seed's, what the threads do between them is the scheduler's, so a replay may take a few attempts.

#[path = "linear/checker.rs"]
mod checker;
#[path = "linear/checker_tests.rs"]
mod checker_tests;
#[path = "linear/history.rs"]
mod history;
mod process;

use checker::{Reads, TooHard, after_crash};
use history::{Action, Answer, Operation, State};
use process::{Aerolithd, Reply, Seen, Socket, command};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const CLIENTS: usize = 6;
/// Hot keys at a time, and how many names each goes through.
const HOT: usize = 5;
const ROTATION: usize = 40;
/// Operations on a hot key before it rotates.
const HISTORY: usize = 120;
const COLD: usize = 1200;
const SERVER: [&str; 8] = [
    "--size",
    "192MiB",
    "--durability",
    "group",
    "--write-cache",
    "32MiB",
    // It is due when ten of these have passed.
    "--checkpoint-period-ms",
    "20",
];

/// A key: where it began this life, and what was done to it since.
struct Key {
    name: String,
    start: State,
    operations: Mutex<Vec<Operation>>,
}

/// What all clients of a life share.
struct World {
    keys: Vec<Key>,
    /// Hands out the moments.
    clock: AtomicU64,
    /// Operations on each hot key, over all its names.
    visits: [AtomicU64; HOT],
    over: AtomicBool,
}

impl World {
    fn new() -> World {
        let hot = (0..HOT * ROTATION).map(|n| format!("hot:{}:{}", n / ROTATION, n % ROTATION));
        let names = hot.chain((0..COLD).map(|n| format!("cold:{n}")));
        World {
            keys: names.map(|name| Key { name, start: None, operations: Mutex::default() }).collect(),
            clock: AtomicU64::new(1),
            visits: Default::default(),
            over: AtomicBool::new(false),
        }
    }

    fn pick(&self, rng: &mut StdRng) -> usize {
        if rng.random_range(0..10) < 6 {
            let slot = rng.random_range(0..HOT);
            let visit = self.visits[slot].fetch_add(1, SeqCst) as usize;
            slot * ROTATION + visit / HISTORY % ROTATION
        } else {
            HOT * ROTATION + rng.random_range(0..COLD)
        }
    }

    /// Sends one operation after the other until the server is gone.
    fn load(&self, client: usize, port: u16, mut rng: StdRng) {
        // The server may be dead before its first client has come.
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let mut socket = Socket::over(stream);
        while !self.over.load(SeqCst) {
            let depth = if rng.random_range(0..4) == 0 { rng.random_range(2..5) } else { 1 };
            let mut request = Vec::new();
            let mut sent = Vec::new();
            for _ in 0..depth {
                let key = self.pick(&mut rng);
                let action = any_action(&mut rng, client, self.clock.load(SeqCst), key < HOT * ROTATION);
                request.extend(words(&self.keys[key].name, &action));
                let mut operations = self.keys[key].operations.lock().unwrap();
                sent.push((key, operations.len()));
                let called = self.clock.fetch_add(1, SeqCst);
                operations.push(Operation { client, action, called, answered: None });
            }
            if !socket.send(request) {
                return;
            }
            for (key, at) in sent {
                let Some(reply) = socket.reply() else { return };
                let answered = self.clock.fetch_add(1, SeqCst);
                self.keys[key].operations.lock().unwrap()[at].answered = Some((answered, answer(reply)));
            }
        }
    }
}

/// Something to do; values that are no numbers name who wrote them and when, so that no two are the same.
fn any_action(rng: &mut StdRng, client: usize, moment: u64, is_hot: bool) -> Action {
    match rng.random_range(0..100) {
        0..30 => Action::Get,
        30..40 => Action::Set(rng.random_range(0..1000_u32).to_string().into_bytes()),
        40..55 => {
            let mut value = format!("{client}@{moment}.").into_bytes();
            let size = if is_hot { 0 } else { rng.random_range(0..3000) };
            value.resize(value.len() + size, b'a' + (moment % 26) as u8);
            Action::Set(value)
        }
        55..70 => Action::Delete,
        70..88 => Action::Increment,
        _ => Action::Append(format!("+{client}@{moment}").into_bytes()),
    }
}

fn words(key: &str, action: &Action) -> Vec<u8> {
    let key = key.as_bytes();
    match action {
        Action::Get => command(&[b"GET", key]),
        Action::Set(value) => command(&[b"SET", key, value]),
        Action::Delete => command(&[b"DEL", key]),
        Action::Increment => command(&[b"INCR", key]),
        Action::Append(tail) => command(&[b"APPEND", key, tail]),
    }
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Bulk(value) => Answer::Value(value),
        Reply::Integer(number) => Answer::Number(number),
        reply if reply == Reply::ok() => Answer::Done,
        reply if reply.is_error("ERR value is not an integer") => Answer::NotAnInteger,
        reply => panic!("{reply:?}"),
    }
}

/// What a run has done, for its last line and its result.
#[derive(Debug, Default)]
struct Counts {
    kills: u64,
    operations: u64,
    acknowledged: u64,
    histories: u64,
    longest: u64,
    /// Histories that were too entangled to be judged.
    undecided: u64,
    /// Histories in which a read saw a write that was not acknowledged and that the kill then took.
    dirty_reads: u64,
    kills_while_loading: u64,
    recoveries: u64,
    recoveries_by_checkpoint: u64,
}

impl Counts {
    fn recovered(&mut self, log: &str) {
        self.recoveries += 1;
        self.recoveries_by_checkpoint += u64::from(log.contains("(checkpoint "));
    }

    fn to_json(&self, violations: u64) -> String {
        format!(
            "[{{\"row\":\"kill -9 cycles of the server\",\"count\":{},\"violations\":{violations},\"details\":{{\
             \"operations\":{},\"acknowledged\":{},\"histories\":{},\"longest_history\":{},\"undecided\":{},\
             \"histories_with_dirty_reads\":{},\"kills_while_loading\":{},\"recoveries\":{},\
             \"recoveries_by_checkpoint\":{}}}}}]\n",
            self.kills,
            self.operations,
            self.acknowledged,
            self.histories,
            self.longest,
            self.undecided,
            self.dirty_reads,
            self.kills_while_loading,
            self.recoveries,
            self.recoveries_by_checkpoint
        )
    }

    fn write(&self, violations: u64) {
        if let Some(file) = std::env::var_os("AEROLITH_RESULT") {
            std::fs::write(&file, self.to_json(violations)).unwrap();
        }
    }
}

/// Judges the life that has ended by what every key is now, and begins the next one.
fn judge(world: &mut World, server: &Aerolithd, counts: &mut Counts) -> Result<(), String> {
    let gets: Vec<_> = world.keys.iter().map(|key| command(&[b"GET", key.name.as_bytes()])).collect();
    let replies = server.connect().ask_all(&gets);
    for (key, reply) in world.keys.iter_mut().zip(replies) {
        let Reply::Bulk(now) = reply else { return Err(format!("GET {}: {reply:?}", key.name)) };
        let operations = std::mem::take(key.operations.get_mut().unwrap());
        counts.operations += operations.len() as u64;
        counts.acknowledged += operations.iter().filter(|o| o.answered.is_some()).count() as u64;
        counts.histories += u64::from(!operations.is_empty());
        counts.longest = counts.longest.max(operations.len() as u64);
        match after_crash(&key.start, &operations, Reads::OfDurable) {
            Ok(states) if states.contains(&now) => {}
            _ => match after_crash(&key.start, &operations, Reads::OfAnything) {
                Ok(states) if states.contains(&now) => counts.dirty_reads += 1,
                Err(TooHard) => counts.undecided += 1,
                Ok(states) => return Err(explain(key, &operations, &now, states.len())),
            },
        }
        key.start = now;
    }
    Ok(())
}

fn explain(key: &Key, operations: &[Operation], now: &State, states: usize) -> String {
    let shown = |state: &State| {
        state
            .as_ref()
            .map_or("nothing".into(), |value| value[..value.len().min(80)].escape_ascii().to_string())
    };
    let mut text = format!(
        "{} began as {} and is {} now, which is none of the {states} states it can be in after this:\n",
        key.name,
        shown(&key.start),
        shown(now)
    );
    for Operation { client, action, called, answered } in operations {
        let _ = writeln!(text, "  client {client}, called {called}: {action:?} -> {answered:?}");
    }
    text
}

/// Starts the server, killing it on the way as the seed says.
fn restart(dir: &std::path::Path, rng: &mut StdRng, counts: &mut Counts) -> Aerolithd {
    while rng.random_range(0..2) == 0 {
        let mut interrupted = Aerolithd::spawn(dir, &SERVER);
        if rng.random_range(0..3) == 0 {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..80)));
        } else {
            let start = Instant::now();
            while interrupted.state() == Seen::Deaf && start.elapsed() < Duration::from_secs(60) {}
        }
        let is_loading = interrupted.state() == Seen::Loading;
        interrupted.kill();
        // Loading, and dead before it was through.
        counts.kills_while_loading += u64::from(is_loading && !interrupted.log().contains("records back in"));
    }
    let server = Aerolithd::start(dir, &SERVER);
    counts.recovered(&server.log());
    server
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

#[test]
fn every_key_is_linearizable_across_kills() {
    let (cycles, seed) = (setting("AEROLITH_KILLS", 3), setting("AEROLITH_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let mut counts = Counts::default();
    let mut server = Aerolithd::start(dir.path(), &SERVER);
    for cycle in 0..cycles {
        let load_ms = rng.random_range(5..500);
        world.over = AtomicBool::new(false);
        let port = server.port;
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (world, rng) = (&world, StdRng::seed_from_u64(rng.random()));
                scope.spawn(move || world.load(client, port, rng));
            }
            std::thread::sleep(Duration::from_millis(load_ms));
            server.kill();
            world.over.store(true, SeqCst);
        });
        counts.kills += 1;
        server = restart(dir.path(), &mut rng, &mut counts);
        if let Err(why) = judge(&mut world, &server, &mut counts) {
            counts.write(1);
            panic!(
                "cycle {cycle}: {why}\nthe server said:\n{}\nreplay: AEROLITH_SEED={seed} AEROLITH_KILLS={} cargo test \
                 --test linear every_key",
                server.log(),
                cycle + 1
            );
        }
        server.assert_well();
        if (cycle + 1) % 50 == 0 {
            println!("after {} kills: {counts:?}", cycle + 1);
        }
    }
    println!("{counts:?}");
    counts.write(0);
    assert!(counts.acknowledged > 0 && counts.recoveries >= cycles);
    assert!(counts.undecided * 100 <= counts.histories, "too much was not judged: {counts:?}");
}
