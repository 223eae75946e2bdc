//! A real `aerolithd` as a child process: started, loaded, killed, questioned.
//!
//! The child's log goes to a file beside its data directory, so that what it said is there also after `kill -9`.
//! A child never outlives its test: dropping an [`Aerolithd`] kills it.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod socket;

pub use socket::{Reply, Socket, command};

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. No promise of the server's: only an end to waiting.
const PATIENCE: Duration = Duration::from_secs(60);

static LOGS: AtomicU32 = AtomicU32::new(0);

/// A running server.
pub struct Aerolithd {
    child: Child,
    pub port: u16,
    log: PathBuf,
}

/// What a client sees of a server that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No port, or no answer.
    Deaf,
    /// It opens its data.
    Loading,
    Ready,
}

/// How a server ended that did not start.
#[derive(Debug)]
pub struct Refused {
    pub code: Option<i32>,
    pub log: String,
}

impl Aerolithd {
    /// Starts a server on `data` and waits until it has its data.
    pub fn start(data: &Path, args: &[&str]) -> Aerolithd {
        Aerolithd::try_start(data, args).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// The same, for a server that may refuse.
    pub fn try_start(data: &Path, args: &[&str]) -> Result<Aerolithd, Refused> {
        let mut server = Aerolithd::spawn(data, args);
        let start = Instant::now();
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                return Err(Refused { code: status.code(), log: server.log() });
            }
            if server.state() == Seen::Ready {
                return Ok(server);
            }
            assert!(start.elapsed() < PATIENCE, "it is not ready: {}", server.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts a server and does not wait for anything.
    pub fn spawn(data: &Path, args: &[&str]) -> Aerolithd {
        Aerolithd::spawn_as(Command::new(env!("CARGO_BIN_EXE_aerolithd")), data, args)
    }

    /// The same for another program that takes the same arguments.
    pub fn spawn_as(mut program: Command, data: &Path, args: &[&str]) -> Aerolithd {
        // A free port: nobody else takes it in between, as far as one can tell.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("aerolithd-{}-{}.log", std::process::id(), LOGS.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(name);
        let child = program
            .args(if args.contains(&"--threads") { &[][..] } else { &["--threads", "2"] })
            .args(if args.contains(&"--admin-port") { &[][..] } else { &["--admin-port", "0"] })
            .args(["--redis-port", &port.to_string(), "--data-dir"])
            .arg(data)
            .args(args)
            .stderr(File::create(&log).unwrap())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Aerolithd { child, port, log }
    }

    /// What a client that comes now sees.
    pub fn state(&self) -> Seen {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return Seen::Deaf };
        let mut socket = Socket::over(stream);
        if !socket.send(command(&[b"PING"])) {
            return Seen::Deaf;
        }
        match socket.reply() {
            Some(Reply::Simple(_)) => Seen::Ready,
            Some(reply) if reply.is_error("LOADING") => Seen::Loading,
            Some(reply) => panic!("{reply:?} to a PING"),
            None => Seen::Deaf,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn connect(&self) -> Socket {
        Socket::connect(self.port)
    }

    /// `kill -9`; returns when the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until a client sees this.
    pub fn until(&mut self, seen: Seen) {
        self.wait(|server| server.state() == seen);
    }

    /// Waits until the port is there.
    pub fn until_port(&mut self) {
        self.wait(|server| TcpStream::connect(("127.0.0.1", server.port)).is_ok());
    }

    fn wait(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "it does not come: {}", self.log());
            std::thread::yield_now();
        }
    }

    /// SIGTERM, and what it ended with.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM")
    }

    /// A signal that should end it, and what it ended with.
    pub fn signal(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Physical memory it holds, in bytes.
    pub fn resident_size(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Fails unless it is alive, answers, and has not panicked.
    pub fn assert_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.log());
        assert_eq!(self.connect().ask(&[b"PING"]), Reply::Simple("PONG".into()), "{}", self.log());
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Aerolithd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// A value that says whose it is and proves itself: its key, its number, and a filling that follows from both.
pub fn value(key: &str, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{key} {number} {size} ").into_bytes();
    let mut state = number
        ^ key.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push((state >> 56) as u8);
    }
    bytes
}

/// The number of a value of `key`, or none if it is not one.
pub fn number_of(key: &str, bytes: &[u8]) -> Option<u64> {
    let mut words = bytes.splitn(4, |&byte| byte == b' ').map(|word| std::str::from_utf8(word).ok());
    let (found, number, size) = (words.next()??, words.next()??, words.next()??);
    let (number, size) = (number.parse().ok()?, size.parse().ok()?);
    (found == key && value(key, number, size) == bytes).then_some(number)
}
