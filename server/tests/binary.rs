//! `aerolithd` as a process: its exit codes, its errors, and how it stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn aerolithd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aerolithd"));
    command.args(args).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn refused(args: &[&str]) -> String {
    let Output { status, stderr, .. } = aerolithd(args).output().unwrap();
    assert_eq!(status.code(), Some(2), "{args:?}");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn wrong_settings_exit_with_2_and_say_why() {
    assert!(refused(&["--bind", "0.0.0.0"]).contains("--insecure"));
    assert!(refused(&["--admin-bind", "0.0.0.0"]).contains("--insecure"));
    assert!(refused(&["--admin-port", "6379"]).contains("must differ"));
    assert!(refused(&["--slowlog-log-slower-than", "-2"]).contains("-1"));
    assert!(refused(&["--size", "lots"]).contains("64MiB"));
    assert!(refused(&["--config", "/nonexistent.toml"]).contains("/nonexistent.toml"));
    assert!(refused(&["--no-such-flag"]).contains("--no-such-flag"));
    assert!(refused(&["--log", "a=b=c"]).contains("log"));
}

#[test]
fn a_port_in_use_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let output =
        aerolithd(&["--admin-port", "0", "--redis-port", &port, "--data-dir", dir]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("cannot listen on 127.0.0.1:"), "{log}");
}

#[test]
fn an_admin_port_in_use_exits_with_1_and_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("data");
    let args = ["--redis-port", "0", "--admin-port", &port, "--data-dir", dir.to_str().unwrap()];
    let output = aerolithd(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&format!("cannot open the admin port on 127.0.0.1:{port}")), "{log}");
    assert!(log.contains("--admin-port 0"), "{log}");
    assert!(!dir.exists(), "the data is not touched");
}

fn write_is_taken(socket: &mut TcpStream) -> bool {
    socket.write_all(b"SET a 1\r\n").unwrap();
    let mut reply = String::new();
    BufReader::new(socket).read_line(&mut reply).unwrap();
    assert!(reply == "+OK\r\n" || reply == "-LOADING Redis is loading the dataset in memory\r\n", "{reply}");
    reply.starts_with('+')
}

#[test]
fn sigterm_and_shutdown_stop_it_cleanly() {
    for by_signal in [true, false] {
        // A free port: nobody else takes it in between, as far as one can tell.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().to_str().unwrap();
        let mut child =
            aerolithd(&["--admin-port", "0", "--redis-port", &port.to_string(), "--data-dir", dir])
                .spawn()
                .unwrap();
        let start = Instant::now();
        let mut socket = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(socket) => break socket,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not listen");
        };
        // Until its data is there, it says that it is loading.
        while !write_is_taken(&mut socket) {
            assert!(start.elapsed() < Duration::from_secs(20), "it is not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        if by_signal {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        } else {
            socket.write_all(b"SHUTDOWN\r\n").unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let reason = if by_signal { "SIGTERM" } else { "SHUTDOWN" };
        for part in ["redis on 127.0.0.1:", reason, "stopped"] {
            assert!(log.contains(part), "{part} in {log}");
        }
    }
}
