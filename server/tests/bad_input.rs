//! What the world may hand to a server: damaged and foreign data files, directories and disks that do not take
//! data, a second server, and clients that send what they like and read when they like.
//!
//! Each gets a clear error, none brings the server down, and nothing that was durable is lost.

mod process;

use process::{Aerolithd, Refused, Reply, Socket, command, number_of, value};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SIZE: &str = "128MiB";
const BLOCK_SIZE: u64 = 8 << 20;
const KEYS: u64 = 5000;
/// A value is this many bytes: 5000 of them fill four blocks.
const VALUE_SIZE: usize = 6000;

fn data_file(dir: &Path) -> PathBuf {
    dir.join("test.data")
}

fn key(number: u64) -> String {
    format!("key:{number}")
}

fn set(number: u64) -> Vec<u8> {
    let key = key(number);
    command(&[b"SET", key.as_bytes(), &value(&key, number, VALUE_SIZE)])
}

/// A stopped server's data: `KEYS` keys, each with the value of its number.
fn loaded() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let sets: Vec<_> = (0..KEYS).map(set).collect();
    assert!(server.connect().ask_all(&sets).iter().all(|reply| *reply == Reply::ok()));
    assert_eq!(server.stop().code(), Some(0));
    dir
}

fn change(dir: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(data_file(dir)).unwrap().write_all_at(bytes, offset).unwrap();
}

/// The server must not start on this directory, with exit code 1, and must leave the data file as it is.
fn refused(dir: &Path) -> String {
    let before = std::fs::read(data_file(dir)).ok();
    let Err(Refused { code, log }) = Aerolithd::try_start(dir, &["--size", SIZE]) else {
        panic!("it starts");
    };
    assert_eq!(code, Some(1), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(std::fs::read(data_file(dir)).ok() == before, "the refused file was changed");
    log
}

/// Reads all keys: how many have their value, and the numbers of those that give an error or are not there.
struct Reading {
    right: u64,
    errors: Vec<u64>,
    missing: Vec<u64>,
}

fn read_all(server: &Aerolithd) -> Reading {
    let gets: Vec<_> = (0..KEYS).map(|n| command(&[b"GET", key(n).as_bytes()])).collect();
    // One connection for all: an error reply must not end it.
    let replies = server.connect().ask_all(&gets);
    let mut reading = Reading { right: 0, errors: Vec::new(), missing: Vec::new() };
    for (n, reply) in replies.iter().enumerate() {
        let n = n as u64;
        match reply {
            Reply::Bulk(Some(bytes)) => {
                assert_eq!(
                    number_of(&key(n), bytes),
                    Some(n),
                    "GET {} is {}",
                    key(n),
                    bytes[..40].escape_ascii()
                );
                reading.right += 1;
            }
            Reply::Bulk(None) => reading.missing.push(n),
            Reply::Error(text) => {
                assert!(text.contains("damaged"), "{text}");
                reading.errors.push(n);
            }
            _ => panic!("{reply:?}"),
        }
    }
    reading
}

#[test]
fn a_truncated_data_file_is_refused_and_left_as_it_is() {
    let dir = loaded();
    let whole = 128 << 20;
    for size in [whole - 1, whole / 2, BLOCK_SIZE, 100_000, 8192] {
        let file = OpenOptions::new().write(true).open(data_file(dir.path())).unwrap();
        file.set_len(size).unwrap();
        let log = refused(dir.path());
        assert!(log.contains("it was cut off"), "{size}: {log}");
    }
    // Less than the header: whatever it is called, it is refused.
    for size in [8191, 4096, 100, 1] {
        let file = OpenOptions::new().write(true).open(data_file(dir.path())).unwrap();
        file.set_len(size).unwrap();
        let log = refused(dir.path());
        assert!(log.contains("test.data"), "{size}: {log}");
    }
}

#[test]
fn one_damaged_header_copy_is_told_and_two_are_refused() {
    let dir = loaded();
    change(dir.path(), 16, &[0x5a; 8]);
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    assert!(server.log().contains("one of two header copies is damaged"), "{}", server.log());
    assert_eq!(read_all(&server).right, KEYS);
    assert_eq!(server.stop().code(), Some(0));
    change(dir.path(), 20, &[0x5a; 8]);
    change(dir.path(), 4096 + 20, &[0x5a; 8]);
    let log = refused(dir.path());
    assert!(log.contains("both copies of the device header are damaged"), "{log}");
    // Wiped altogether, it holds something and is still not taken for new.
    change(dir.path(), 0, &[0; 8192]);
    let log = refused(dir.path());
    assert!(log.contains("both copies of the device header are damaged"), "{log}");
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let noise: Vec<u8> = (0..2 << 20).map(|_| rng.random()).collect();
    let text = b"Dear diary, ".repeat(1000);
    let late = [vec![0; 1 << 19], b"something".to_vec(), vec![0; 1 << 19]].concat();
    for contents in [&noise[..], &text, &late, b"x"] {
        std::fs::write(data_file(dir.path()), contents).unwrap();
        let log = refused(dir.path());
        assert!(log.contains("test.data"), "{log}");
    }
    std::fs::write(data_file(dir.path()), &noise).unwrap();
    assert!(refused(dir.path()).contains("something that is not Aerolith's"));
    std::fs::remove_file(data_file(dir.path())).unwrap();
    std::fs::create_dir(data_file(dir.path())).unwrap();
    assert!(refused(dir.path()).contains("is a directory"));
}

#[test]
fn damaged_records_are_errors_of_their_own_keys_only() {
    let dir = loaded();
    let seed = std::env::var("AEROLITH_SEED").ok().map_or(1, |text| text.parse().unwrap());
    println!("replay: AEROLITH_SEED={seed} cargo test --test bad_input damaged_records");
    let mut rng = StdRng::seed_from_u64(seed);
    // Blocks 1 to 4 are full of records; their first and last pages are not touched here.
    for _ in 0..40 {
        let block = rng.random_range(1..4);
        let offset = block * BLOCK_SIZE + rng.random_range(4096..BLOCK_SIZE - (512 << 10));
        let size = rng.random_range(1..9000);
        change(dir.path(), offset, &(0..size).map(|_| rng.random()).collect::<Vec<u8>>());
    }
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let reading = read_all(&server);
    println!("{} right, {} damaged, {} missing", reading.right, reading.errors.len(), reading.missing.len());
    assert!(reading.missing.is_empty(), "rolled back without a word: {:?}", reading.missing);
    assert!((1..=200).contains(&reading.errors.len()), "{}", reading.errors.len());
    assert!(server.log().contains("is damaged: device"), "{}", server.log());
    // Every command that needs the bytes says so and the connection goes on; those that do not, work.
    let mut socket = server.connect();
    let damaged: Vec<String> = reading.errors.iter().map(|&n| key(n)).collect();
    let first = damaged[0].as_bytes();
    for words in [
        &[b"GET", first][..],
        &[b"INCR", first],
        &[b"APPEND", first, b"x"],
        &[b"GETRANGE", first, b"0", b"1"],
    ] {
        assert!(socket.ask(words).is_error("MISCONF"), "{}", words[0].escape_ascii());
    }
    assert_eq!(socket.ask(&[b"EXISTS", first]), Reply::Integer(1));
    assert_eq!(socket.ask(&[b"TTL", first]), Reply::Integer(-1));
    // A new value heals a key, a delete removes it.
    for (i, &n) in reading.errors.iter().enumerate() {
        if i % 2 == 0 {
            assert_eq!(socket.ask_all(&[set(n)]), [Reply::ok()]);
        } else {
            assert_eq!(socket.ask(&[b"DEL", key(n).as_bytes()]), Reply::Integer(1));
        }
    }
    let after = read_all(&server);
    assert!(after.errors.is_empty());
    assert_eq!(after.missing.len(), reading.errors.len() / 2);
    server.assert_well();
    assert_eq!(server.stop().code(), Some(0));
    let server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let again = read_all(&server);
    assert!(again.errors.is_empty() && again.missing == after.missing);
}

#[test]
fn damaged_block_headers_and_footers_are_told_and_cost_no_other_block() {
    let dir = loaded();
    // Block 1 loses its footer, block 2 its header, block 3 both.
    change(dir.path(), 2 * BLOCK_SIZE - 64, &[0x5a; 32]);
    change(dir.path(), 2 * BLOCK_SIZE, &[0x5a; 64]);
    change(dir.path(), 3 * BLOCK_SIZE, &[0x5a; 64]);
    change(dir.path(), 4 * BLOCK_SIZE - 4096, &[0x5a; 4096]);
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let reading = read_all(&server);
    let log = server.log();
    println!("{} right, {} errors, {} missing", reading.right, reading.errors.len(), reading.missing.len());
    assert!(
        log.contains("block 3 is left alone, what it held may be missing: its header is damaged"),
        "{log}"
    );
    assert!(log.contains("1 blocks could not be read, what they held may be missing"), "{log}");
    let in_block = BLOCK_SIZE / VALUE_SIZE as u64;
    assert!(reading.errors.is_empty());
    assert!(reading.missing.len() as u64 <= in_block, "{} keys are missing", reading.missing.len());
    assert!(reading.right >= KEYS - in_block);
    server.assert_well();
}

#[test]
fn random_damage_anywhere_never_brings_a_wrong_value_or_a_panic() {
    let dir = loaded();
    let whole = std::fs::read(data_file(dir.path())).unwrap();
    let seed: u64 = std::env::var("AEROLITH_SEED").ok().map_or(1, |text| text.parse().unwrap());
    for seed in seed..seed + 5 {
        println!("replay: AEROLITH_SEED={seed} cargo test --test bad_input random_damage");
        let mut rng = StdRng::seed_from_u64(seed);
        let file = File::create(data_file(dir.path())).unwrap();
        file.write_all_at(&whole, 0).unwrap();
        for _ in 0..rng.random_range(1..300) {
            let offset = rng.random_range(BLOCK_SIZE..6 * BLOCK_SIZE);
            let byte: u8 = rng.random();
            file.write_all_at(&vec![byte; rng.random_range(1..20_000)], offset).unwrap();
        }
        drop(file);
        let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
        let reading = read_all(&server);
        println!(
            "{} right, {} errors, {} missing",
            reading.right,
            reading.errors.len(),
            reading.missing.len()
        );
        // What is damaged is said: nothing goes missing in silence.
        assert!(reading.missing.is_empty() || server.log().contains("damaged"), "{}", server.log());
        let mut socket = server.connect();
        assert_eq!(socket.ask_all(&[set(KEYS)]), [Reply::ok()]);
        assert!(matches!(socket.ask(&[b"SCAN", b"0", b"COUNT", b"1000"]), Reply::Array(_) | Reply::Error(_)));
        server.assert_well();
        assert_eq!(server.stop().code(), Some(0));
    }
}

#[test]
fn a_data_directory_that_takes_nothing_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"I am no directory").unwrap();
    let log = refused(&file.join("data"));
    assert!(log.contains("cannot be made"), "{log}");
    assert!(log.contains(file.to_str().unwrap()), "{log}");

    let Some(mount) = Mount::tmpfs("1m") else { return };
    assert!(mount.remount("ro"));
    let log = refused(&mount.path().join("data"));
    assert!(log.contains("Read-only file system"), "{log}");
    // The directory is there, but nothing can be made in it.
    let log = refused(mount.path());
    assert!(log.contains("Read-only file system") && log.contains("test.data"), "{log}");
}

#[test]
fn a_second_server_is_told_who_has_the_data_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let mut socket = first.connect();
    assert_eq!(socket.ask_all(&[set(1)]), [Reply::ok()]);
    let Err(Refused { code, log }) = Aerolithd::try_start(dir.path(), &["--size", SIZE]) else {
        panic!("two servers on the same data");
    };
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(&format!("already in use by process {}", first.pid())), "{log}");
    assert_eq!(socket.ask_all(&[set(2), command(&[b"GET", b"key:1"])])[0], Reply::ok());
    first.assert_well();
    first.kill();
    // What a killed server held is free again.
    Aerolithd::start(dir.path(), &["--size", SIZE]).assert_well();
}

#[test]
fn a_full_tmpfs_refuses_writes_and_nothing_else() {
    let Some(mount) = Mount::tmpfs("100m") else { return };
    fill_and_free(&mount, "relaxed");
}

#[test]
fn a_full_ext4_refuses_group_writes_and_nothing_else() {
    let Some(mount) = Mount::ext4("130M") else { return };
    fill_and_free(&mount, "group");
}

fn fill_and_free(mount: &Mount, durability: &str) {
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![1; 30 << 20]).unwrap();
    let data = mount.path().join("data");
    // The file may grow to four times what the file system has.
    let args = ["--size", "400MiB", "--write-cache", "32MiB", "--durability", durability];
    let mut server = Aerolithd::start(&data, &args);
    let mut socket = server.connect();
    let mut stored = 0;
    let refusal = loop {
        match socket.ask_all(&[set(stored)]).remove(0) {
            Reply::Simple(_) => stored += 1,
            other => break other,
        }
        assert!(stored < 20_000, "it never gets full");
    };
    assert!(refusal.is_error("OOM"), "{refusal:?} after {stored}");
    println!("full after {stored} records of {VALUE_SIZE} bytes: {refusal:?}");
    assert!(server.log().contains("the file system has no room for another block"), "{}", server.log());
    assert!(socket.ask_all(&[set(stored)])[0].is_error("OOM"));
    // Reads and deletes go on.
    let has = |socket: &mut Socket, n: u64| match socket.ask(&[b"GET", key(n).as_bytes()]) {
        Reply::Bulk(Some(bytes)) => number_of(&key(n), &bytes) == Some(n),
        _ => false,
    };
    for n in (0..stored).step_by(7) {
        assert!(has(&mut socket, n), "{}", key(n));
    }
    for n in 0..10 {
        assert_eq!(socket.ask(&[b"DEL", key(n).as_bytes()]), Reply::Integer(1));
    }
    // Space on the file system comes back: writes go on by themselves.
    std::fs::remove_file(&ballast).unwrap();
    let start = Instant::now();
    while socket.ask_all(&[set(stored)])[0] != Reply::ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "writes do not go on: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(socket.ask_all(&[set(stored + 1)]), [Reply::ok()]);
    // Full again; this time it is the server's own deletes that make room.
    let mut more = stored + 2;
    while socket.ask_all(&[set(more)])[0] == Reply::ok() {
        more += 1;
        assert!(more < 20_000, "it never gets full again");
    }
    for n in 10..more / 2 {
        assert_eq!(socket.ask(&[b"DEL", key(n).as_bytes()]), Reply::Integer(1), "{n}");
    }
    let start = Instant::now();
    while socket.ask_all(&[set(more)])[0] != Reply::ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "deletes make no room: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // What was acknowledged as durable needs no clean stop.
    match durability {
        "group" => server.kill(),
        _ => assert_eq!(server.stop().code(), Some(0)),
    }
    let mut server = Aerolithd::start(&data, &args);
    let mut socket = server.connect();
    for n in 0..=more {
        assert_eq!(has(&mut socket, n), n >= more / 2, "{} of {more} after the restart", key(n));
    }
    server.assert_well();
}

#[test]
fn hostile_requests_cost_an_error_and_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let before = server.resident_size();
    let mut sockets = Vec::new();
    for (request, error) in [
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1099511627776\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$-1\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$9223372036854775808\r\n", "invalid bulk length"),
        ("*2\r\n$3\r\nGET\r\n$99999999999999999999999999\r\n", "invalid bulk length"),
        ("*1099511627776\r\n", "invalid multibulk length"),
        ("*9223372036854775807\r\n", "invalid multibulk length"),
        ("*99999999999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\n*1\r\n*1\r\n", "expected '$'"),
        ("*x\r\n", "invalid multibulk length"),
    ] {
        let mut socket = server.connect();
        socket.send(format!("PING\r\n{request}"));
        let rest = String::from_utf8_lossy(&socket.rest()).into_owned();
        assert!(
            rest.starts_with("+PONG\r\n-ERR Protocol error:") && rest.contains(error),
            "{request:?}: {rest:?}"
        );
    }
    // Arrays in arrays, ten thousand deep.
    let mut socket = server.connect();
    socket.send("*1\r\n".repeat(10_000));
    assert!(socket.rest().starts_with(b"-ERR Protocol error"));
    // Empty and negative arrays are nothing, as in Redis.
    let mut socket = server.connect();
    socket.send("*0\r\n*-1\r\nPING\r\n");
    assert_eq!(socket.reply(), Some(Reply::Simple("PONG".into())));
    // 300 clients promise a million arguments of 8 MiB each and send the first byte.
    for _ in 0..300 {
        let mut socket = server.connect();
        socket.send("*1048576\r\n$8388608\r\nx");
        sockets.push(socket);
    }
    server.assert_well();
    let grown = server.resident_size().saturating_sub(before);
    println!("promises: RSS {} KiB, grown by {} KiB", server.resident_size() >> 10, grown >> 10);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    drop(sockets);
}

#[test]
fn floods_of_arguments_stay_within_the_request_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Aerolithd::start(dir.path(), &["--size", SIZE]);
    let before = server.resident_size();
    let million = |command: &str| {
        let mut request = format!("*1000000\r\n${}\r\n{command}\r\n", command.len()).into_bytes();
        request.extend(b"$1\r\nx\r\n".repeat(999_999));
        request
    };
    let mut peak = 0;
    for name in ["EXISTS", "DEL", "MGET", "NOSUCHCOMMAND", "PING", "SET"] {
        let mut socket = server.connect();
        socket.send(million(name));
        let reply = socket.reply();
        assert!(reply.is_some(), "{name} has no reply");
        assert_eq!(socket.ask(&[b"PING"]), Reply::Simple("PONG".into()), "{name}");
        peak = peak.max(server.resident_size());
    }
    // One request of more bytes than are allowed: refused before its end has come.
    let mut socket = server.connect();
    let argument = [&b"$8388608\r\n"[..], &vec![b'x'; 8 << 20], b"\r\n"].concat();
    socket.send("*100\r\n$6\r\nEXISTS\r\n");
    for _ in 0..99 {
        if !socket.send(&argument) {
            break;
        }
    }
    let rest = socket.rest();
    println!("after too many bytes: {}", rest.escape_ascii());
    peak = peak.max(server.resident_size());
    println!("floods: RSS peak {} KiB, {} KiB before", peak >> 10, before >> 10);
    // It may have shrunk: what the start needed has been given back meanwhile.
    let grown = peak.saturating_sub(before);
    assert!(grown < 256 << 20, "grew by {grown} bytes");
    server.assert_well();
}

#[test]
fn clients_that_drip_or_never_read_are_bounded_and_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("aerolithd.toml");
    std::fs::write(&config, "request-timeout-s = 1\nwrite-timeout-s = 2\n").unwrap();
    let data = dir.path().join("data");
    let mut server = Aerolithd::start(&data, &["--size", SIZE, "--config", config.to_str().unwrap()]);
    let mut socket = server.connect();
    assert_eq!(socket.ask(&[b"SET", b"big", &vec![b'v'; 1 << 20]]), Reply::ok());
    let before = server.resident_size();
    // 40 clients ask for 1 GiB of replies each and take none; 40 begin a request and drip.
    let mut deaf: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for socket in &mut deaf {
        socket.send(command(&[b"GET", b"big"]).repeat(1000));
    }
    let mut dripping: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let mut peak = 0;
    for byte in b"*2\r\n$3\r\nGET\r\n$1000\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" {
        dripping.iter_mut().for_each(|socket| {
            socket.send([*byte]);
        });
        server.assert_well();
        peak = peak.max(server.resident_size());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("deaf and dripping: RSS peak {} KiB, {} KiB before", peak >> 10, before >> 10);
    assert!(peak.saturating_sub(before) < 160 << 20, "grew by {} bytes", peak - before);
    for socket in &mut dripping {
        assert_eq!(socket.rest(), b"", "a client that drips is let go");
    }
    for socket in &mut deaf {
        assert!(socket.rest().len() < 1000 << 20, "a client that does not read is let go");
    }
    server.assert_well();
}

#[test]
fn at_the_connection_limit_further_clients_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("aerolithd.toml");
    std::fs::write(&config, "max-connections = 50\n").unwrap();
    let data = dir.path().join("data");
    let server = Aerolithd::start(&data, &["--size", SIZE, "--config", config.to_str().unwrap()]);
    // The connection that found the server listening may still be counted: the first PING says when it is not.
    let mut inside: Vec<Socket> = Vec::new();
    let start = Instant::now();
    while inside.len() < 50 {
        let mut socket = server.connect();
        socket.send("PING\r\n");
        if socket.reply() == Some(Reply::Simple("PONG".into())) {
            inside.push(socket);
        }
        assert!(start.elapsed() < Duration::from_secs(30), "only {} get in", inside.len());
    }
    for _ in 0..100 {
        assert_eq!(server.connect().rest(), b"-ERR max number of clients reached\r\n");
    }
    for socket in &mut inside {
        assert_eq!(socket.ask(&[b"PING"]), Reply::Simple("PONG".into()));
    }
    inside.clear();
    let start = Instant::now();
    loop {
        let mut socket = server.connect();
        socket.send("PING\r\n");
        if socket.reply() == Some(Reply::Simple("PONG".into())) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "closed connections still count");
    }
    assert!(server.resident_size() < 256 << 20);
}

/// A small file system of the test's own; gone when it is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    /// None, with a word why, where this user cannot mount.
    fn tmpfs(size: &str) -> Option<Mount> {
        let options = format!("size={size}");
        Mount::new(tempfile::tempdir().unwrap(), &["-t", "tmpfs", "-o", &options, "aerolith-test"])
    }

    /// An ext4 in a file: allocation, direct I/O and durable writes as on a disk.
    fn ext4(size: &str) -> Option<Mount> {
        let image = tempfile::NamedTempFile::new().unwrap();
        let path = image.path().to_str().unwrap();
        let is_made = Command::new("truncate").args(["-s", size, path]).status().is_ok_and(|s| s.success())
            && Command::new("mkfs.ext4")
                .args(["-q", "-F", "-m", "0", path])
                .status()
                .is_ok_and(|s| s.success());
        if !is_made {
            eprintln!("skipped: cannot make an ext4 (is mkfs.ext4 there?)");
            return None;
        }
        // The mount keeps the image; its name is not needed any more.
        Mount::new(tempfile::tempdir().unwrap(), &["-o", "loop", path])
    }

    fn new(dir: tempfile::TempDir, args: &[&str]) -> Option<Mount> {
        match Command::new("mount").args(args).arg(dir.path()).output() {
            Ok(output) if output.status.success() => Some(Mount(dir)),
            Ok(output) => {
                eprintln!("skipped: cannot mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped: no mount command: {error}");
                None
            }
        }
    }

    fn remount(&self, how: &str) -> bool {
        let how = format!("remount,{how}");
        Command::new("mount")
            .args(["-o", &how])
            .arg(self.path())
            .status()
            .is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a child that was killed may not have let go of it yet.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
