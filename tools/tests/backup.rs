//! A backup taken from a server under load, restored elsewhere, and verified record by record; and what happens when
//! something on the way breaks.

#[path = "../../server/tests/process/socket.rs"]
mod socket;

mod image;

use aerolith_engine::backup::{BackupError, BackupReader};
use aerolith_engine::record::Digest;
use aerolith_engine::{Config as EngineConfig, Engine, Key, NamespaceConfig, Record};
use aerolith_server::{Config, Server};
use image::aerolith;
use socket::{Socket, command};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

/// Keys that are written once, before the backup; every third with a time to live.
const STILL: u64 = 1500;
/// Keys that are written all the time.
const BUSY: u64 = 200;

struct Running {
    server: Server,
    data: TempDir,
}

impl Running {
    fn new() -> Running {
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config =
            Config { data_dir: data.path().to_owned(), threads: 1, admin_port: port, ..Config::default() };
        config.size.0 = 256 << 20;
        let server = Server::start_at(config, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        Running { server, data }
    }

    fn admin(&self) -> String {
        self.server.admin_addr().unwrap().to_string()
    }

    fn connect(&self) -> Socket {
        Socket::connect(self.server.redis_addr().unwrap().port())
    }

    /// Sends commands in batches; each must be answered with OK.
    fn send(&self, commands: impl Iterator<Item = Vec<Vec<u8>>>) {
        let mut socket = self.connect();
        let mut waiting = 0;
        for words in commands {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            socket.send(command(&words));
            waiting += 1;
            if waiting == 100 {
                (0..waiting).for_each(|_| assert_eq!(socket.line(), "+OK"));
                waiting = 0;
            }
        }
        (0..waiting).for_each(|_| assert_eq!(socket.line(), "+OK"));
    }

    /// Stops it, and returns what it had.
    fn into_records(self) -> Picture {
        self.server.stop().unwrap();
        records_of(&self.data.path().join("test.data"), "test")
    }
}

/// What makes a value of a key: nobody else's can be taken for it.
fn value(key: &str, version: u64) -> String {
    format!("{key}#{version}#{}", "x".repeat((version % 50) as usize * 20))
}

fn still(id: u64) -> Vec<Vec<u8>> {
    let key = format!("still:{id}");
    let mut words = vec![b"SET".to_vec(), key.clone().into_bytes(), value(&key, id).into_bytes()];
    if id.is_multiple_of(3) {
        words.extend([b"PXAT".to_vec(), expiry(id).to_string().into_bytes()]);
    }
    words
}

/// In the year 2100.
fn expiry(id: u64) -> u64 {
    4_102_444_800_000 + id * 777
}

/// A record without its place: set, user key, generation, expiry, last update, bins.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    key: String,
    generation: u16,
    expires_ms: u64,
    last_update_ms: u64,
    bins: String,
    value: String,
}

type Picture = HashMap<Digest, Told>;

fn told(record: &Record) -> Told {
    let text = record.bins().find_map(|(_, value)| value.as_str().map(str::to_owned));
    Told {
        key: format!("{}/{:?}", record.set(), record.user_key()),
        generation: record.generation(),
        expires_ms: record.expires_at().map_or(0, |at| at.0),
        last_update_ms: record.last_update().0,
        bins: format!("{:?}", record.bins().collect::<Vec<_>>()),
        value: text.unwrap_or_default(),
    }
}

/// All records of a data file.
fn records_of(path: &Path, namespace: &str) -> Picture {
    let config = NamespaceConfig::in_file(namespace, path, 256 << 20);
    let engine = Engine::open(EngineConfig::of(config)).unwrap();
    let snapshot = engine.namespace(namespace).unwrap().snapshot().unwrap();
    snapshot.map(|record| record.unwrap()).map(|record| (record.digest(), told(&record))).collect()
}

/// All records of a backup, each proved to be a version of its key.
fn records_in(path: &Path) -> Picture {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = BackupReader::new(&bytes[..]).unwrap();
    let mut records = Picture::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        chunk
            .for_each(|record| {
                let bins: Vec<_> = record.bins.into_iter().map(|bin| bin.unwrap()).collect();
                let told = Told {
                    key: format!("{}/{:?}", record.key.set(), record.key.user_key()),
                    generation: record.generation,
                    expires_ms: record.expires_at.map_or(0, |at| at.0),
                    last_update_ms: record.last_update.0,
                    value: bins.iter().find_map(|(_, v)| v.as_str()).unwrap_or_default().to_owned(),
                    bins: format!("{bins:?}"),
                };
                assert!(records.insert(record.key.digest(), told).is_none(), "a record comes twice");
                Ok::<_, BackupError>(())
            })
            .unwrap();
    }
    assert!(reader.trailer().is_some());
    records
}

/// A TCP connection to `to` that breaks after so many bytes from client and server together.
fn breaking(to: SocketAddr, after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let left = AtomicU64::new(after);
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            if left.load(Ordering::Relaxed) == 0 {
                return;
            }
            let Ok(server) = TcpStream::connect(to) else { return };
            std::thread::scope(|scope| {
                for (mut from, mut to) in [(&client, &server), (&server, &client)] {
                    let (left, client, server) = (&left, &client, &server);
                    scope.spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            let before = left.load(Ordering::Relaxed);
                            left.store(before.saturating_sub(count as u64), Ordering::Relaxed);
                            if before < count as u64 || to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        for socket in [client, server] {
                            let _ = socket.shutdown(std::net::Shutdown::Both);
                        }
                    });
                }
            });
        }
    });
    address
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_backup_under_load_is_restored_elsewhere_record_by_record() {
    let from = Running::new();
    from.send((0..STILL).map(still));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.backup");
    let stop = AtomicBool::new(false);
    let rounds = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                from.send((0..BUSY).map(|id| {
                    let key = format!("busy:{id}");
                    vec![b"SET".to_vec(), key.clone().into_bytes(), value(&key, round).into_bytes()]
                }));
            }
        });
        while rounds.load(Ordering::Relaxed) < 3 {
            std::thread::yield_now();
        }
        let before = rounds.load(Ordering::Relaxed);
        let (code, out, err) = aerolith(&["backup", "--server", &from.admin(), "--to", text(&file)]);
        stop.store(true, Ordering::Relaxed);
        assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
        assert!(err.contains("namespace test: ") && err.contains("records"), "{err}");
        assert!(rounds.load(Ordering::Relaxed) >= before);
    });
    let saved = records_in(&file);
    assert_eq!(saved.len() as u64, STILL + BUSY);
    // One moment: keys are written in order, so behind the first old value all are old.
    let mut versions = Vec::new();
    for (keys, count) in [("still", STILL), ("busy", BUSY)] {
        for id in 0..count {
            let name = format!("{keys}:{id}");
            let digest = Key::new(&Config::default().redis_set, name.as_str()).unwrap().digest();
            let record = &saved[&digest];
            let version: u64 = record.value.split('#').nth(1).unwrap().parse().unwrap();
            assert_eq!(record.value, value(&name, version));
            if keys == "busy" {
                assert_eq!(u64::from(record.generation), version + 1, "{name}");
                versions.push(version);
            } else {
                let expires_ms = if id.is_multiple_of(3) { expiry(id) } else { 0 };
                assert_eq!((record.generation, record.expires_ms), (1, expires_ms), "{name}");
            }
        }
    }
    assert!(
        versions.is_sorted_by(|a, b| a >= b) && versions[0] - versions[versions.len() - 1] <= 1,
        "{versions:?}"
    );

    // Into another server, with records of its own, while it serves.
    let to = Running::new();
    to.send([vec![b"SET".to_vec(), b"own".to_vec(), b"own#0#".to_vec()]].into_iter());
    let (code, _, err) = aerolith(&["restore", "--server", &to.admin(), "--from", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains(&format!("{} written, 0 kept", STILL + BUSY)), "{err}");
    let mut socket = to.connect();
    socket.send(command(&[b"PEXPIRETIME", b"still:3"]));
    assert_eq!(socket.line(), format!(":{}", expiry(3)));
    drop(socket);
    let mut restored = to.into_records();
    restored.retain(|_, told| !told.value.starts_with("own#"));
    assert_eq!(restored, saved);

    // Into a file that is made for it, from standard output to standard input.
    let target = dir.path().join("made.data");
    let (code, _, err) =
        aerolith(&["restore", "--engine", text(&target), "--size", "256MiB", "--from", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(records_of(&target, "test"), saved);

    // And a backup of that file, offline, is the same again.
    let again = dir.path().join("again.backup");
    let (code, _, err) = aerolith(&["backup", "--engine", text(&target), "--to", text(&again)]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(records_in(&again), saved);
    assert!(!Path::new(&format!("{}.part", text(&again))).exists());
}

#[test]
fn a_restore_that_was_interrupted_goes_on_where_it_was() {
    let from = Running::new();
    // Values that do not pack, so that there are several chunks.
    from.send((0..4000u64).map(|id| {
        let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let noise: Vec<u8> = (0..900)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                b'a' + (state % 26) as u8
            })
            .collect();
        vec![b"SET".to_vec(), format!("noise:{id}").into_bytes(), noise]
    }));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.backup");
    let (code, _, err) = aerolith(&["backup", "--server", &from.admin(), "--to", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    let saved = records_in(&file);
    let size = std::fs::metadata(&file).unwrap().len();

    // A connection that breaks in the middle of the backup leaves no file.
    let broken = dir.path().join("broken.backup");
    let server = breaking(from.server.admin_addr().unwrap(), size / 2);
    let (code, _, err) = aerolith(&["backup", "--server", &server, "--to", text(&broken)]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("offset") && !broken.exists(), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");

    // One that breaks in the middle of a restore leaves a note, and the next restore goes on there.
    let to = Running::new();
    let server = breaking(to.server.admin_addr().unwrap(), size * 2 / 3);
    let arguments = ["restore", "--batch", "200KiB", "--from", text(&file), "--server"];
    let restore = |server: &str, more: &[&str]| aerolith(&[&arguments[..], &[server], more].concat());
    let (code, _, err) = restore(&server, &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("chunks are durable, start again to go on behind them"), "{err}");
    let state = PathBuf::from(format!("{}.restore", text(&file)));
    let noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let durable = noted["counts"]["written"].as_u64().unwrap();
    assert!(durable > 0 && durable < saved.len() as u64, "{noted}");

    // Elsewhere, or with another policy, it is not gone on with.
    let other = Running::new();
    let (code, _, err) = restore(&other.admin(), &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another target"), "{err}");
    let (code, _, err) = restore(&to.admin(), &["--policy", "keep"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("another policy"), "{err}");

    let (code, _, err) = restore(&to.admin(), &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("going on behind chunk"), "{err}");
    assert!(!state.exists(), "it is complete");
    assert_eq!(to.into_records(), saved);

    // From standard input, cut off: the note is where it was asked for.
    let (target, state) = (dir.path().join("c.data"), dir.path().join("state"));
    let run = |bytes: &[u8]| {
        let arguments = ["restore", "--batch", "200KiB", "--from", "-", "--size", "256MiB"];
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_aerolith"))
            .args(arguments)
            .args(["--engine", text(&target), "--resume", text(&state)])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It may end before it has taken all.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    let bytes = std::fs::read(&file).unwrap();
    let (code, err) = run(&bytes[..bytes.len() / 2]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cut off") && state.exists(), "{err}");
    let (code, err) = run(&bytes);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("going on behind chunk") && !state.exists(), "{err}");
    assert_eq!(records_of(&target, "test"), saved);
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let data = image::data_file(&dir, None);
    let file = path("shop.backup");
    let failed = |arguments: &[&str], why: &str| {
        let (code, out, err) = aerolith(arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}: {err}");
        assert!(err.contains(why), "{arguments:?}: {err}");
    };
    let (code, _, err) = aerolith(&["backup", "--engine", text(&data), "--to", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    let saved = records_in(&file);
    assert_eq!(saved.len() as i64, image::RECORDS);
    failed(&["backup", "--engine", text(&data), "--to", text(&file)], "is there already: to replace it");
    failed(&["backup", "--engine", text(&path("none")), "--to", text(&path("x"))], "blank");
    failed(&["backup", "--server", "127.0.0.1:1", "--to", text(&path("x"))], "is aerolithd running");
    failed(&["backup", "--engine", text(&data), "--to", "/nowhere/x"], "/nowhere/x.part");
    let restore = |target: &Path, from: &Path, more: &[&str], why: &str| {
        failed(&[&["restore", "--engine", text(target), "--from", text(from)], more].concat(), why);
    };
    restore(&path("new.data"), &file, &[], "say how large with --size");
    restore(&path("new.data"), &data, &["--size", "64MiB"], "this is no backup");
    // A file that was cut off is refused before anything is written.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(path("cut"), &bytes[..bytes.len() - 1]).unwrap();
    restore(&path("new.data"), &path("cut"), &["--size", "64MiB"], "cut off");
    assert!(!path("new.data").exists());
    // A target that is full says so; what was written stays.
    let small = NamespaceConfig {
        block_size: 16 << 10,
        ..NamespaceConfig::in_file("shop", path("small.data"), 400 << 10)
    };
    Engine::open(EngineConfig::of(small)).unwrap().close().unwrap();
    restore(&path("small.data"), &file, &[], "namespace shop is full");
    // Another namespace must be asked for.
    let other = NamespaceConfig {
        name: "other".into(),
        ..NamespaceConfig::in_file("x", path("other.data"), 128 << 20)
    };
    Engine::open(EngineConfig::of(other)).unwrap().close().unwrap();
    restore(&path("other.data"), &file, &[], "the backup is of namespace 'shop', the target has 'other'");
    let (code, _, err) = aerolith(&[
        "restore",
        "--engine",
        text(&path("other.data")),
        "--from",
        text(&file),
        "--namespace",
        "other",
    ]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(records_of(&path("other.data"), "other"), saved);
    // Figures of a server that is there, and of one that is not.
    let server = Running::new();
    server.send((0..10).map(still));
    let (code, out, err) = aerolith(&["info", "--server", &server.admin(), "records."]);
    assert_eq!(code, Some(0), "{err}");
    let objects = out.lines().find(|line| line.starts_with("records.objects ")).unwrap();
    assert!(objects.ends_with(" 10") && out.lines().all(|line| line.starts_with("records.")), "{out}");
    let (code, out, err) = aerolith(&["info", "--server", &server.admin(), "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let figures: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(figures["records"]["objects"], 10);
    let (code, out, err) = aerolith(&["top", "--server", &server.admin(), "--once"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("redis write") && out.contains("records 10") && out.contains("test.data"), "{out}");
    failed(&["info", "--server", &server.admin(), "nothing"], "no figure has 'nothing'");
    failed(&["info", "--server", "127.0.0.1:1"], "is aerolithd running");
    failed(&["top", "--server", "127.0.0.1:1", "--once"], "is aerolithd running");
    failed(&["top", "--server", &server.admin()], "standard output is no terminal");
    server.server.stop().unwrap();
    // A server says that it has no such namespace, and takes no bytes that do not say what they are.
    let server = Running::new();
    failed(&["restore", "--server", &server.admin(), "--from", text(&file)], "there is no namespace 'shop'");
    failed(
        &["backup", "--server", &server.admin(), "--namespace", "x", "--to", text(&path("x"))],
        "namespace 'x'",
    );
    let address = server.server.admin_addr().unwrap();
    let post = |kind: &str, body: &[u8]| {
        let mut socket = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /restore?namespace=test HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(post("text/plain", &bytes).starts_with("HTTP/1.1 415 "));
    let kind = "application/x-aerolith-backup";
    assert!(post(kind, b"nonsense").starts_with("HTTP/1.1 400 "));
    let mut flipped = bytes.clone();
    flipped[200] ^= 1;
    let answer = post(kind, &flipped[..flipped.len() - 64]);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("offset 128"), "{answer}");
    assert!(
        post(kind, &bytes[..bytes.len() - 64]).starts_with("HTTP/1.1 200 "),
        "a piece is a backup without its end"
    );
}
