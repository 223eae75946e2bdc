//! A server whose data is still being opened: its port is there, it says how far it is, and it can be stopped.
//!
//! The opening is held by the test, so that nothing here depends on how long one takes.

mod process;

use aerolith_engine::OpenProgress;
use aerolith_server::config::ByteSize;
use aerolith_server::{Config, Server};
use process::{Reply, Socket};
use std::path::Path;
use std::sync::Arc;

fn config(data: &Path) -> Config {
    Config {
        data_dir: data.to_owned(),
        size: ByteSize(128 << 20),
        threads: 2,
        admin_port: 0,
        ..Config::default()
    }
}

/// A server that waits in the middle of opening its data, and a connection to it.
fn held(data: &Path) -> (Server, Arc<OpenProgress>, Socket) {
    let progress = Arc::new(OpenProgress::held());
    let server = Server::begin(config(data), Some("127.0.0.1:0".parse().unwrap()), progress.clone()).unwrap();
    let socket = Socket::connect(server.redis_addr().unwrap().port());
    (server, progress, socket)
}

fn opened(server: &Server) -> bool {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(server.opened())
}

fn persistence(socket: &mut Socket) -> String {
    match socket.ask(&[b"INFO", b"persistence"]) {
        Reply::Bulk(Some(text)) => String::from_utf8(text).unwrap(),
        reply => panic!("{reply:?}"),
    }
}

/// A data directory with `count` records.
fn written(count: usize) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_at(config(data.path()), Some("127.0.0.1:0".parse().unwrap())).unwrap();
    let mut socket = Socket::connect(server.redis_addr().unwrap().port());
    for n in 0..count {
        assert_eq!(socket.ask(&[b"SET", format!("key:{n}").as_bytes(), b"x"]), Reply::ok());
    }
    server.stop().unwrap();
    data
}

#[test]
fn while_it_loads_it_answers_what_needs_no_data() {
    let data = written(100);
    let (server, progress, mut socket) = held(data.path());
    let loading = Reply::Error("LOADING Redis is loading the dataset in memory".into());
    // From Redis 7: all commands without the flag `loading`, PING among them.
    for words in
        ["PING", "GET key:1", "SET a 1", "DBSIZE", "KEYS *", "FLUSHALL", "WAIT 0 0", "WAITAOF 1 0 0", "SAVE"]
    {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        assert_eq!(socket.ask(&words), loading, "{}", words[0].escape_ascii());
    }
    assert!(socket.ask(&[b"GET"]).is_error("ERR wrong number"), "a mistake is told as such");
    assert_eq!(socket.ask(&[b"CLIENT", b"SETNAME", b"early"]), Reply::ok());
    assert_eq!(socket.ask(&[b"SELECT", b"0"]), Reply::ok());
    assert_eq!(socket.ask(&[b"ECHO", b"x"]), Reply::bulk(b"x"));
    assert!(matches!(socket.ask(&[b"LASTSAVE"]), Reply::Integer(1..)));
    assert!(matches!(socket.ask(&[b"COMMAND", b"COUNT"]), Reply::Integer(50..)));
    assert!(matches!(socket.ask(&[b"CONFIG", b"GET", b"appendonly"]), Reply::Array(_)));
    assert!(matches!(socket.ask(&[b"HELLO", b"2"]), Reply::Array(_)));
    assert!(matches!(socket.ask(&[b"INFO", b"everything"]), Reply::Bulk(Some(_))));
    let info = persistence(&mut socket);
    for part in
        ["loading:1\r\n", "loading_start_time:", "loading_loaded_bytes:0\r\n", "loading_loaded_perc:0.00\r\n"]
    {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(info.contains("loading_total_bytes:") && info.contains("loading_eta_seconds:-1\r\n"), "{info}");

    progress.release();
    assert!(opened(&server));
    // The same connection goes on with the data, and what was refused has left no trace.
    assert_eq!(socket.ask(&[b"DBSIZE"]), Reply::Integer(100));
    assert_eq!(socket.ask(&[b"GET", b"key:99"]), Reply::bulk(b"x"));
    assert_eq!(socket.ask(&[b"CLIENT", b"GETNAME"]), Reply::bulk(b"early"));
    let info = persistence(&mut socket);
    assert!(info.contains("loading:0\r\n") && !info.contains("loading_total_bytes"), "{info}");
    server.stop().unwrap();
}

#[test]
fn a_pipeline_meets_the_data_at_one_moment_only() {
    let data = written(1);
    let (server, progress, mut socket) = held(data.path());
    let gets = [b"*2\r\n$3\r\nGET\r\n$5\r\nkey:0\r\n".as_slice(); 50].concat();
    assert!(socket.send(&gets));
    assert!((0..50).all(|_| socket.reply().unwrap().is_error("LOADING")));
    progress.release();
    assert!(opened(&server));
    assert!(socket.send(&gets));
    assert!((0..50).all(|_| socket.reply() == Some(Reply::bulk(b"x"))));
    server.stop().unwrap();
}

#[test]
fn a_stop_calls_the_opening_off() {
    let data = written(10);
    for by_command in [false, true] {
        let (server, _progress, mut socket) = held(data.path());
        assert!(socket.ask(&[b"PING"]).is_error("LOADING"));
        if by_command {
            assert!(socket.send(b"SHUTDOWN\r\n"));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(server.shutdown_requested());
        }
        // Nothing releases it: that this returns is the test.
        server.stop().unwrap();
        assert_eq!(socket.reply(), None);
    }
    // The data is given up, and whole.
    let server = Server::start_at(config(data.path()), Some("127.0.0.1:0".parse().unwrap())).unwrap();
    let mut socket = Socket::connect(server.redis_addr().unwrap().port());
    assert_eq!(socket.ask(&[b"DBSIZE"]), Reply::Integer(10));
}

#[test]
fn an_opening_that_fails_ends_the_server_with_its_error() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("test.data"), vec![7; 90 << 20]).unwrap();
    let server =
        Server::begin(config(data.path()), Some("127.0.0.1:0".parse().unwrap()), Arc::default()).unwrap();
    assert!(!opened(&server));
    let error = server.stop().unwrap_err().to_string();
    assert!(error.starts_with("data: ") && error.contains("not Aerolith's"), "{error}");
    // The program ends likewise, by itself.
    let refused = process::Aerolithd::try_start(data.path(), &[]).err().unwrap();
    assert_eq!(refused.code, Some(1), "{}", refused.log);
    assert!(refused.log.trim_end().ends_with(&error), "{}", refused.log);
}

/// Not a test: the program `aerolithd`, but for its opening, which waits in the middle until it is called off. Run by
/// `a_signal_while_it_loads_ends_the_process_at_once`, with the program's arguments behind `--`.
#[test]
fn the_program_held_while_it_loads() {
    if std::env::var_os("AEROLITH_TEST_HELD").is_none() {
        return;
    }
    let args = std::env::args().skip_while(|arg| arg != "--");
    let config = Config::from_args(args).unwrap();
    let code = aerolith_server::run(&config, Arc::new(OpenProgress::held()));
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 1 });
}

#[test]
fn a_signal_while_it_loads_ends_the_process_at_once() {
    let data = written(50);
    let before = std::fs::read(data.path().join("test.data")).unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut program = std::process::Command::new(std::env::current_exe().unwrap());
        program.env("AEROLITH_TEST_HELD", "1").args(["--exact", "the_program_held_while_it_loads", "--"]);
        let mut server = process::Aerolithd::spawn_as(program, data.path(), &["--size", "128MiB"]);
        server.until(process::Seen::Loading);
        let mut socket = server.connect();
        assert!(socket.ask(&[b"SET", b"a", b"1"]).is_error("LOADING"));
        // Nothing releases the opening: that it ends is the test.
        assert_eq!(server.signal(signal).code(), Some(0), "{signal}: {}", server.log());
        assert_eq!(socket.reply(), None);
    }
    assert!(std::fs::read(data.path().join("test.data")).unwrap() == before, "nothing was written");
    let mut server = process::Aerolithd::start(data.path(), &["--size", "128MiB"]);
    assert_eq!(server.connect().ask(&[b"DBSIZE"]), Reply::Integer(50));
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_signal_at_any_moment_of_a_start_loses_nothing() {
    let data = written(50);
    for round in 0..20_u32 {
        // As soon as the port is there, and a little later each time: before, while and after the data comes.
        let mut server = process::Aerolithd::spawn(data.path(), &["--size", "128MiB"]);
        server.until_port();
        for _ in 0..round * 20 {
            std::thread::yield_now();
        }
        assert_eq!(server.stop().code(), Some(0), "round {round}: {}", server.log());
        assert!(server.log().contains("stopped: everything acknowledged"), "{}", server.log());
    }
    let server = process::Aerolithd::start(data.path(), &["--size", "128MiB"]);
    assert_eq!(server.connect().ask(&[b"DBSIZE"]), Reply::Integer(50));
}
