//! Connections that wait in WAIT and WAITAOF: nobody else waits with them, and nothing of them stays.

mod process;

use process::{Aerolithd, Reply, Socket, command};
use std::time::{Duration, Instant};

fn figure(socket: &mut Socket, name: &str) -> u64 {
    let Reply::Bulk(Some(info)) = socket.ask(&[b"INFO"]) else { panic!("INFO") };
    let info = String::from_utf8(info).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {info}")).parse().unwrap()
}

/// Asks until it is so; how long that takes is nobody's promise.
fn until(socket: &mut Socket, name: &str, value: u64) {
    let start = Instant::now();
    while figure(socket, name) != value {
        assert!(start.elapsed() < Duration::from_secs(60), "{name} does not become {value}");
        std::thread::yield_now();
    }
}

#[test]
fn who_waits_holds_up_nobody_and_goes_with_its_client() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Aerolithd::start(data.path(), &["--size", "128MiB", "--threads", "1"]);
    let mut other = server.connect();
    // The replies before it come although the wait has no end; so does nothing of what comes after it.
    let mut waiters: Vec<Socket> = (0..20).map(|_| server.connect()).collect();
    for waiter in &mut waiters {
        let set = command(&[b"SET", b"a", b"1"]);
        let wait = command(&[b"WAITAOF", b"1", b"1", b"0"]);
        assert!(waiter.send([set, wait, command(&[b"SET", b"a", b"2"])].concat()));
        assert_eq!(waiter.reply(), Some(Reply::ok()));
    }
    until(&mut other, "blocked_clients", 20);
    assert_eq!(other.ask(&[b"GET", b"a"]), Reply::bulk(b"1"));
    assert_eq!(other.ask(&[b"WAITAOF", b"1", b"0", b"0"]), aof(1));
    // One that leaves is noticed, one that only asks on is not taken for it.
    waiters.truncate(10);
    until(&mut other, "blocked_clients", 10);
    assert!(waiters.iter_mut().all(|waiter| waiter.send(command(&[b"PING"]))));
    assert_eq!(other.ask(&[b"WAIT", b"1", b"300"]), Reply::Integer(0));
    assert_eq!(figure(&mut other, "blocked_clients"), 10);
    // A server that stops does not wait for them.
    assert_eq!(server.stop().code(), Some(0));
    assert!(!server.log().contains("still running"), "{}", server.log());
    assert!(waiters.iter_mut().all(|waiter| waiter.reply().is_none()));
}

fn aof(local: i64) -> Reply {
    Reply::Array(vec![Reply::Integer(local), Reply::Integer(0)])
}

#[test]
fn what_waitaof_has_answered_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let args = ["--size", "128MiB", "--flush-max-ms", "60000"];
    let mut server = Aerolithd::start(data.path(), &args);
    for round in 0..5_u8 {
        let mut socket = server.connect();
        let key = [b"key:", [b'0' + round].as_slice()].concat();
        let set = command(&[b"SET", &key, b"kept"]);
        let replies =
            socket.ask_all(&[set, command(&[b"INCR", b"n"]), command(&[b"WAITAOF", b"1", b"0", b"0"])]);
        assert_eq!(replies, [Reply::ok(), Reply::Integer(i64::from(round) + 1), aof(1)]);
        server.kill();
        server = Aerolithd::start(data.path(), &args);
        assert_eq!(server.connect().ask(&[b"GET", &key]), Reply::bulk(b"kept"), "{}", server.log());
    }
    assert_eq!(server.connect().ask(&[b"DBSIZE"]), Reply::Integer(6));
}
