//! `kill -9` of the real server under load, restart, and a reckoning.
//!
//! Several clients write to keys of their own through pipelines, so each knows the order of its writes. For each
//! key the oracle keeps every state it went through and when that was acknowledged. The server is killed at a
//! moment drawn from a seed, sometimes once more while it recovers, and started on the same data. Then, for each
//! key, take the newest state that was acknowledged longer before the kill than a relaxed write may wait in RAM
//! (`group`: that was acknowledged at all): the key must be in that state or in one that came after it. So no
//! write that had to be durable is missing, no deleted or expired key returns, no counter runs backwards, and
//! no value is anything but what a client once wrote. Keys of one MSET come back all from the same one.
//!
//! `AEROLITH_KILLS=60` runs 60 cycles instead of 3; `AEROLITH_SEED=7` begins with another seed. A failure prints
//! the line that replays its cycle; the moment of the kill is the seed's, what the threads had done by then is
//! the scheduler's, so a replay may take a few attempts.

mod process;

use process::{Aerolithd, Reply, Socket, command, number_of, value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a relaxed write may wait in RAM (`flush_max_ms`), and what the test machine may add to that: the load
/// leaves neither the server nor the clients a core of their own.
const RELAXED_WINDOW: Duration = Duration::from_millis(1000 + 1000);
const CLIENTS: usize = 4;
const TEXTS: usize = 300;
const COUNTERS: usize = 20;
const GROUPS: usize = 8;
const MEMBERS: usize = 4;
/// The server rounds a void-time up to a second where only the index is asked.
const TTL_SLACK_MS: u64 = 2000;

/// What a key can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    /// The value with this number; expires then (milliseconds since the Unix epoch), or never.
    Text(u64, Option<u64>),
    Count(i64),
}

impl State {
    /// Whether this state can look like `seen` at `now_ms`, give or take what a test may be late.
    fn can_be(self, seen: State, now_ms: u64) -> bool {
        match (self, seen) {
            (State::Text(_, Some(at)), State::Absent) => at <= now_ms,
            (State::Text(a, None), State::Text(b, None)) => a == b,
            (State::Text(a, Some(at)), State::Text(b, Some(seen_at))) => {
                a == b && at.abs_diff(seen_at) <= TTL_SLACK_MS
            }
            _ => self == seen,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Event {
    state: State,
    acknowledged: Option<Instant>,
}

/// A key and what has happened to it since it was last known to be durable.
struct Key {
    name: String,
    durable: State,
    events: Vec<Event>,
}

impl Key {
    fn new(name: String) -> Key {
        Key { name, durable: State::Absent, events: Vec::new() }
    }

    fn newest(&self) -> State {
        self.events.last().map_or(self.durable, |event| event.state)
    }

    fn push(&mut self, state: State) -> usize {
        self.events.push(Event { state, acknowledged: None });
        self.events.len() - 1
    }

    /// The states it may be in after a kill at `killed`.
    fn allowed(&self, killed: Instant, window: Duration) -> Vec<State> {
        let is_durable = |event: &Event| event.acknowledged.is_some_and(|at| at + window <= killed);
        match self.events.iter().rposition(is_durable) {
            Some(floor) => self.events[floor..].iter().map(|event| event.state).collect(),
            None => {
                std::iter::once(self.durable).chain(self.events.iter().map(|event| event.state)).collect()
            }
        }
    }
}

/// A client: its keys, its randomness.
struct Client {
    texts: Vec<Key>,
    counters: Vec<Key>,
    groups: Vec<Vec<Key>>,
    rng: StdRng,
    next: u64,
}

/// What a reply acknowledges: keys and their events.
enum Asked {
    Text(usize, usize),
    Counter(usize, usize),
    Group(usize, usize),
    Read(usize, State),
}

impl Client {
    fn new(id: usize, seed: u64) -> Client {
        let keys =
            |count: usize, kind: &str| (0..count).map(|n| Key::new(format!("c{id}:{kind}{n}"))).collect();
        Client {
            texts: keys(TEXTS, "text"),
            counters: keys(COUNTERS, "count"),
            groups: (0..GROUPS).map(|group| keys(MEMBERS, &format!("group{group}:"))).collect(),
            rng: StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(id as u64)),
            next: 1,
        }
    }

    fn keys(&mut self) -> impl Iterator<Item = &mut Key> {
        let groups = self.groups.iter_mut().flatten();
        self.texts.iter_mut().chain(&mut self.counters).chain(groups)
    }

    fn size(&mut self) -> usize {
        match self.rng.random_range(0..100) {
            0 => self.rng.random_range(0..40_000),
            1..20 => self.rng.random_range(0..64),
            _ => self.rng.random_range(64..2500),
        }
    }

    /// A random command and what its reply will mean. The value's bytes follow from key, number and size.
    fn next_command(&mut self) -> (Vec<u8>, Asked) {
        self.next += 1;
        let number = self.next;
        match self.rng.random_range(0..100) {
            0..15 => {
                let at = self.rng.random_range(0..COUNTERS);
                let key = &mut self.counters[at];
                let count = if let State::Count(count) = key.newest() { count + 1 } else { 1 };
                (command(&[b"INCR", key.name.as_bytes()]), Asked::Counter(at, key.push(State::Count(count))))
            }
            15..20 => {
                let at = self.rng.random_range(0..GROUPS);
                let size = self.size() / 4;
                let values: Vec<_> =
                    self.groups[at].iter().map(|key| value(&key.name, number, size)).collect();
                let mut words = vec![&b"MSET"[..]];
                for (key, value) in self.groups[at].iter().zip(&values) {
                    words.extend([key.name.as_bytes(), &value[..]]);
                }
                let request = command(&words);
                let event = self.groups[at].iter_mut().map(|key| key.push(State::Text(number, None))).max();
                (request, Asked::Group(at, event.unwrap()))
            }
            kind => {
                // Few keys are hot, so that some are overwritten within their block and others seldom.
                let at = if kind % 2 == 0 {
                    self.rng.random_range(0..10)
                } else {
                    self.rng.random_range(0..TEXTS)
                };
                let size = self.size();
                let name = self.texts[at].name.clone();
                let name_bytes = name.as_bytes();
                let newest = self.texts[at].newest();
                let (request, state) = match (kind, newest) {
                    (20..35, _) => (command(&[b"DEL", name_bytes]), State::Absent),
                    (35..45, State::Text(old, None | Some(LONG..))) => {
                        let at_ms = far_future(self.rng.random_range(0..1000));
                        let request = command(&[b"PEXPIREAT", name_bytes, at_ms.to_string().as_bytes()]);
                        (request, State::Text(old, Some(at_ms)))
                    }
                    (45..50, State::Text(old, Some(LONG..))) => {
                        (command(&[b"PERSIST", name_bytes]), State::Text(old, None))
                    }
                    (50..56, _) => {
                        let at_ms = unix_ms() + self.rng.random_range(50..1500);
                        let value = value(&name, number, size);
                        let at_text = at_ms.to_string();
                        let words = [b"SET", name_bytes, &value, b"PXAT", at_text.as_bytes()];
                        (command(&words), State::Text(number, Some(at_ms)))
                    }
                    (56..66, State::Absent | State::Text(_, None | Some(LONG..))) => {
                        return (command(&[b"GET", name_bytes]), Asked::Read(at, newest));
                    }
                    _ => (
                        command(&[b"SET", name_bytes, &value(&name, number, size)]),
                        State::Text(number, None),
                    ),
                };
                (request, Asked::Text(at, self.texts[at].push(state)))
            }
        }
    }

    /// Sends pipelines until the server is gone.
    fn load(&mut self, port: u16, over: &AtomicBool, done: &AtomicU64) {
        let mut socket = Socket::connect(port);
        while !over.load(Ordering::Relaxed) {
            let depth = self.rng.random_range(1..64);
            let (requests, asked): (Vec<_>, Vec<_>) = (0..depth).map(|_| self.next_command()).unzip();
            if !socket.send(requests.concat()) {
                return;
            }
            for asked in asked {
                let Some(reply) = socket.reply() else { return };
                let now = Instant::now();
                done.fetch_add(1, Ordering::Relaxed);
                self.note(&asked, &reply, now);
            }
        }
    }

    fn note(&mut self, asked: &Asked, reply: &Reply, now: Instant) {
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        match *asked {
            Asked::Text(at, event) => self.texts[at].events[event].acknowledged = Some(now),
            Asked::Counter(at, event) => {
                let key = &mut self.counters[at];
                let State::Count(count) = key.events[event].state else { unreachable!() };
                assert_eq!(*reply, Reply::Integer(count), "INCR {}", key.name);
                key.events[event].acknowledged = Some(now);
            }
            Asked::Group(at, event) => {
                // Members are written only together, so their events have the same places.
                assert_eq!(*reply, Reply::ok());
                self.groups[at].iter_mut().for_each(|key| key.events[event].acknowledged = Some(now));
            }
            Asked::Read(at, state) => {
                let name = &self.texts[at].name;
                let is_right = match (state, reply) {
                    (State::Absent, Reply::Bulk(None)) => true,
                    (State::Text(number, _), Reply::Bulk(Some(bytes))) => {
                        number_of(name, bytes) == Some(number)
                    }
                    _ => false,
                };
                assert!(is_right, "a live GET {name} gave {reply:?} instead of {state:?}");
            }
        }
    }

    /// Compares every key with what it may be. What is seen now is durable: it came from the device.
    fn check(&mut self, socket: &mut Socket, killed: Instant, window: Duration, found: &mut Found) {
        let mut commands = Vec::new();
        for key in self.keys() {
            commands.push(command(&[b"PTTL", key.name.as_bytes()]));
            commands.push(command(&[b"GET", key.name.as_bytes()]));
        }
        let mut replies = socket.ask_all(&commands).into_iter();
        let now_ms = unix_ms();
        for key in self.keys() {
            let ttl = replies.next().unwrap();
            let bytes = replies.next().unwrap();
            let seen = seen(&key.name, &ttl, &bytes, now_ms);
            let allowed = key.allowed(killed, window);
            found.keys += u64::from(seen != State::Absent);
            found.expiring += u64::from(allowed.iter().any(|state| matches!(state, State::Text(_, Some(_)))));
            assert!(
                allowed.iter().any(|state| state.can_be(seen, now_ms)),
                "{} is {seen:?}, but must be one of the {} states from {:?} on; acknowledged {:?} before the kill; \
                 now {now_ms}; the last ones: {:?}",
                key.name,
                allowed.len(),
                allowed[0],
                key.events
                    .iter()
                    .rev()
                    .find_map(|e| e.acknowledged)
                    .map(|at| killed.saturating_duration_since(at)),
                &allowed[allowed.len().saturating_sub(5)..],
            );
            // An expired key may have been seen just before: whichever it was, it is gone or about to be.
            key.durable = match allowed.iter().rev().find(|state| state.can_be(seen, now_ms)) {
                Some(State::Text(number, at)) if seen != State::Absent => State::Text(*number, *at),
                _ => seen,
            };
            key.events.clear();
        }
        for group in &self.groups {
            let first = group[0].durable;
            let same = group.iter().all(|key| key.durable == first);
            assert!(
                same,
                "an MSET is torn: {:?}",
                group.iter().map(|k| (&k.name, k.durable)).collect::<Vec<_>>()
            );
        }
    }
}

/// Void-times from here on are not reached during a test. 2100-01-01 in milliseconds since the Unix epoch.
const LONG: u64 = 4_102_444_800_000;

fn far_future(step: u64) -> u64 {
    LONG + step * 10_000
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn seen(name: &str, ttl: &Reply, bytes: &Reply, now_ms: u64) -> State {
    let expires_at = match ttl {
        Reply::Integer(ms @ 0..) => Some(now_ms + *ms as u64),
        Reply::Integer(-1 | -2) => None,
        _ => panic!("PTTL {name}: {ttl:?}"),
    };
    let bytes = match bytes {
        Reply::Bulk(None) => return State::Absent,
        Reply::Bulk(Some(bytes)) => bytes,
        _ => panic!("GET {name}: {bytes:?}"),
    };
    if name.contains("count") {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        return State::Count(text.unwrap_or_else(|| panic!("{name} is {}", bytes.escape_ascii())));
    }
    let number = number_of(name, bytes);
    State::Text(number.unwrap_or_else(|| panic!("{name} is garbage: {}", bytes.escape_ascii())), expires_at)
}

#[derive(Default)]
struct Found {
    keys: u64,
    /// Keys that may have been there at the start and gone since.
    expiring: u64,
}

/// What a start says that it found.
struct Told {
    records: u64,
    ms: u64,
    /// The checkpoint's.
    entries: u64,
    /// Those besides the checkpoint.
    versions: u64,
    blocks: u64,
}

fn told(log: &str) -> Told {
    let line = log.lines().find(|line| line.contains("records back in"));
    let line = line.unwrap_or_else(|| panic!("it does not say what it found: {log}"));
    // The word before another one.
    let before = |what: &str| {
        let number = line.split(what).next()?.rsplit([' ', '(']).next()?;
        line.contains(what).then_some(number)?.parse().ok()
    };
    let number = |what: &str| before(what).unwrap_or_else(|| panic!("no number before {what:?} in {line}"));
    Told {
        records: number(" records back in "),
        ms: number(" ms ("),
        entries: before(" entries;").unwrap_or(0),
        versions: number(" versions in "),
        blocks: number(" blocks, "),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

fn kill_and_check(durability: &str, window: Duration, load_ms: std::ops::Range<u64>) {
    let (cycles, seed) = (setting("AEROLITH_KILLS", 3), setting("AEROLITH_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    // A file that the load fills several times over: blocks are reused and records moved.
    let args = ["--size", "192MiB", "--durability", durability, "--write-cache", "32MiB"];
    let mut rng = StdRng::seed_from_u64(seed);
    let mut clients: Vec<_> = (0..CLIENTS).map(|id| Client::new(id, seed)).collect();
    let mut operations = 0;
    for cycle in 0..cycles {
        let replay =
            format!("AEROLITH_SEED={seed} AEROLITH_KILLS={} cargo test --test kill {durability}", cycle + 1);
        let mut server = Aerolithd::start(dir.path(), &args);
        let load_ms = rng.random_range(load_ms.clone());
        let (done, killed) = load_and_kill(&mut server, &mut clients, Duration::from_millis(load_ms));
        operations += done;
        drop(server);
        if rng.random_range(0..3) == 0 {
            let mut interrupted = Aerolithd::spawn(dir.path(), &args);
            std::thread::sleep(Duration::from_millis(rng.random_range(0..60)));
            interrupted.kill();
        }
        let mut server = Aerolithd::start(dir.path(), &args);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(&mut server, &mut clients, killed, window)
        }));
        match outcome {
            Ok(Told { records, ms, entries, versions, blocks }) => println!(
                "{durability} cycle {cycle}: killed after {load_ms} ms and {done} replies; {records} records, \
                 {entries} entries, {versions} versions, {blocks} blocks back in {ms} ms"
            ),
            Err(panic) => {
                eprintln!("cycle {cycle} failed; the server said:\n{}\nreplay: {replay}", server.log());
                std::panic::resume_unwind(panic);
            }
        }
        // The next cycle goes on from a start after a kill or after a clean stop.
        if rng.random_range(0..2) == 0 {
            assert_eq!(server.stop().code(), Some(0));
        }
    }
    println!("{durability}: {cycles} kills, {operations} operations acknowledged");
}

/// Loads for a time and kills. Says how many replies came and when the server was last certainly alive.
fn load_and_kill(server: &mut Aerolithd, clients: &mut [Client], time: Duration) -> (u64, Instant) {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Barrier::new(clients.len() + 1);
    let port = server.port;
    let killed = std::thread::scope(|scope| {
        for client in clients {
            let (over, done, begin) = (&over, &done, &begin);
            scope.spawn(move || {
                begin.wait();
                client.load(port, over, done);
            });
        }
        begin.wait();
        std::thread::sleep(time);
        let killed = Instant::now();
        server.kill();
        over.store(true, Ordering::Relaxed);
        killed
    });
    (done.into_inner(), killed)
}

fn check(server: &mut Aerolithd, clients: &mut [Client], killed: Instant, window: Duration) -> Told {
    let mut found = Found::default();
    let mut socket = server.connect();
    for client in clients {
        client.check(&mut socket, killed, window, &mut found);
    }
    server.assert_well();
    let told = told(&server.log());
    assert!(
        (found.keys..=found.keys + found.expiring).contains(&told.records),
        "it says {} records, but {} are there and {} may have expired since",
        told.records,
        found.keys,
        found.expiring
    );
    assert!(told.entries + told.versions >= told.records && told.blocks > 0, "{}", server.log());
    told
}

#[test]
fn the_oracle_tells_what_may_be_from_what_may_not() {
    let killed = Instant::now() + Duration::from_secs(100);
    let ago = |seconds| Some(killed - Duration::from_secs(seconds));
    let mut key = Key::new("k".into());
    key.durable = State::Text(1, None);
    // Nothing old enough: the state before the load may be back, and any later one.
    for (state, acknowledged) in
        [(State::Absent, ago(1)), (State::Text(2, None), ago(1)), (State::Text(3, Some(5000)), None)]
    {
        key.events.push(Event { state, acknowledged });
    }
    let window = Duration::from_secs(2);
    assert_eq!(key.allowed(killed, window).len(), 4);
    // An old acknowledgement rules out what was before it, an old value and a deleted one alike.
    key.events[1].acknowledged = ago(3);
    assert_eq!(key.allowed(killed, window), [State::Text(2, None), State::Text(3, Some(5000))]);
    assert_eq!(key.allowed(killed, Duration::from_secs(9)).len(), 4);
    // Expired is absent, and not yet expired is not.
    assert!(State::Text(3, Some(5000)).can_be(State::Absent, 5000));
    assert!(!State::Text(3, Some(5000)).can_be(State::Absent, 4999));
    assert!(!State::Text(3, Some(5000)).can_be(State::Text(3, None), 0));
    assert!(!State::Text(3, None).can_be(State::Text(2, None), 0));
    assert!(!State::Count(7).can_be(State::Count(6), 0));
    // A value of another key, or with one byte changed, is none.
    let mut bytes = value("k", 7, 100);
    assert_eq!((number_of("k", &bytes), number_of("j", &bytes)), (Some(7), None));
    bytes[99] ^= 1;
    assert_eq!(number_of("k", &bytes), None);
}

#[test]
fn relaxed_writes_older_than_the_flush_limit_survive_a_kill() {
    kill_and_check("relaxed", RELAXED_WINDOW, 300..4500);
}

#[test]
fn group_writes_survive_a_kill_as_soon_as_they_are_acknowledged() {
    kill_and_check("group", Duration::ZERO, 20..2500);
}

#[test]
fn what_flushall_removed_does_not_return_after_a_kill() {
    for (durability, window) in [("relaxed", RELAXED_WINDOW), ("group", Duration::ZERO)] {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--size", "128MiB", "--durability", durability];
        let mut server = Aerolithd::start(dir.path(), &args);
        let mset = |range: std::ops::Range<u64>| {
            let pairs: Vec<_> =
                range.map(|n| format!("key:{n}")).map(|key| (value(&key, 1, 500), key)).collect();
            let words = pairs.iter().flat_map(|(value, key)| [key.as_bytes(), value]);
            command(&std::iter::once(&b"MSET"[..]).chain(words).collect::<Vec<_>>())
        };
        let flush = command(&[b"FLUSHALL"]);
        let requests = [mset(0..1000), mset(1000..2000), flush, mset(1990..2010)];
        assert!(server.connect().ask_all(&requests).iter().all(|reply| *reply == Reply::ok()));
        std::thread::sleep(window);
        server.kill();
        // A second kill must not bring back what the first did not.
        Aerolithd::start(dir.path(), &args).kill();
        let server = Aerolithd::start(dir.path(), &args);
        assert_eq!(server.connect().ask(&[b"DBSIZE"]), Reply::Integer(20), "{durability}: {}", server.log());
        let gets: Vec<_> = (0..2010).map(|n| command(&[b"GET", format!("key:{n}").as_bytes()])).collect();
        for (n, reply) in server.connect().ask_all(&gets).into_iter().enumerate() {
            let key = format!("key:{n}");
            let expected = if n < 1990 { Reply::Bulk(None) } else { Reply::bulk(&value(&key, 1, 500)) };
            assert!(reply == expected, "{durability}: {key}");
        }
    }
}

#[test]
fn a_restart_says_how_long_the_recovery_of_200_000_records_took() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--size", "1GiB"];
    let mut server = Aerolithd::start(dir.path(), &args);
    let mut socket = server.connect();
    for first in (0..200_000).step_by(1000) {
        let sets = (first..first + 1000).map(|n: u64| {
            let key = format!("key:{n}");
            command(&[b"SET", key.as_bytes(), &value(&key, n, 200)])
        });
        assert!(socket.ask_all(&sets.collect::<Vec<_>>()).iter().all(|reply| *reply == Reply::ok()));
    }
    // Everything was acknowledged longer ago than a relaxed write may wait.
    std::thread::sleep(RELAXED_WINDOW);
    server.kill();
    for stopped in ["kill -9", "clean stop"] {
        let mut server = Aerolithd::start(dir.path(), &args);
        let Told { records, ms, entries, versions, blocks } = told(&server.log());
        println!(
            "after a {stopped}: {records} records, {entries} entries, {versions} versions in {blocks} blocks back in {ms} ms"
        );
        assert_eq!(records, 200_000);
        assert_eq!(server.connect().ask(&[b"DBSIZE"]), Reply::Integer(200_000));
        assert_eq!(server.stop().code(), Some(0));
    }
}
