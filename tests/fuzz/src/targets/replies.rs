//! A whole session: the same bytes, sent at once and in pieces, get the same replies.
//!
//! Two servers with data in RAM live as long as the process; each input begins with FLUSHALL on a connection of its
//! own. Commands whose reply depends on the time, on chance or on other inputs are left out (`VARIES`).

use super::requests::{Feed, encode, split};
use aerolith_server::Config;
use aerolith_server::config::ByteSize;
use aerolith_server::offline::{Offline, Request, requests};
use std::cell::RefCell;

/// Commands whose replies two servers need not share, or that end the server, wait, or set what outlives the input. The
/// cursors of SCAN depend on how far the sweep has come with what FLUSHALL left in the index.
const VARIES: &[&str] = &[
    "info",
    "time",
    "client",
    "config",
    "lastsave",
    "bgsave",
    "save",
    "shutdown",
    "debug",
    "randomkey",
    "hello",
    "wait",
    "waitaof",
    "expire",
    "pexpire",
    "expireat",
    "pexpireat",
    "setex",
    "psetex",
    "getex",
    "acl",
    "latency",
    "slowlog",
    "memory",
    "reset",
    "monitor",
    "command",
    "scan",
];

/// Words that give a key a time to live.
const EXPIRES: &[&str] = &["ex", "px", "exat", "pxat"];

thread_local! {
    static SERVERS: RefCell<Option<[Offline; 2]>> = const { RefCell::new(None) };
}

fn servers() -> [Offline; 2] {
    let config = || Config {
        threads: 1,
        size: ByteSize(256 << 20),
        checkpoint_period_ms: 0,
        max_record: ByteSize(64 << 10),
        max_request: ByteSize(128 << 10),
        output_mark: ByteSize(512),
        reads_in_flight: 2,
        ..Config::default()
    };
    [(); 2].map(|()| Offline::new(config()).expect("a server in RAM"))
}

fn is_one_of(word: &[u8], list: &[&str]) -> bool {
    list.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

fn varies(request: &Request) -> bool {
    is_one_of(&request[0], VARIES) || request.iter().skip(3).any(|word| is_one_of(word, EXPIRES))
}

pub fn run(data: &[u8]) {
    let Some(Feed { pieces, bytes, .. }) = split(data) else { return };
    if requests(&Config { threads: 1, ..Config::default() }, [bytes]).0.iter().any(varies) {
        return;
    }
    SERVERS.with_borrow_mut(|servers_here| {
        let servers = servers_here.get_or_insert_with(servers);
        let [mut one, mut other] = [0, 1].map(|i| {
            let mut client = servers[i].reconnect();
            assert_eq!(client.feed(b"FLUSHALL\r\n"), b"+OK\r\n");
            client
        });
        let whole = one.feed(bytes);
        let in_pieces: Vec<u8> = pieces.into_iter().flat_map(|piece| other.feed(piece)).collect();
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert!(whole == in_pieces, "at once:   {}\nin pieces: {}", shown(&whole), shown(&in_pieces));
    });
}

pub fn seeds() -> Vec<Vec<u8>> {
    let script = |lines: &str| {
        let lines: Vec<Request> = lines
            .split('|')
            .map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect())
            .collect();
        [&[3, 1, 4, 1][..], &encode(&lines)].concat()
    };
    vec![
        script("SET a 1|INCR a|INCRBY a 40|GET a|DECRBY a 2|INCRBYFLOAT a 1.5|GET a|TYPE a|STRLEN a"),
        script("MSET a 1 b 2 c 3|MGET a b c d|MSETNX d 1 a 2|DEL a b|EXISTS a b c|UNLINK c|DBSIZE"),
        script("APPEND k hello|APPEND k world|GETRANGE k 2 -3|SETRANGE k 20 end|GET k|SUBSTR k 0 1|STRLEN k"),
        script(
            "SET k v NX|SET k w XX GET|GETSET k x|GETDEL k|SETNX k y|GET k|PERSIST k|TTL k|PTTL k|EXPIRETIME k",
        ),
        script("SET key:1 a|SET key:2 b|KEYS key:*|KEYS k[e-f]y:?|KEYS *|TOUCH key:1"),
        script(
            "PING|ECHO hi|PING there|SELECT 0|SELECT 1|NOSUCH a b|GET|INCR a b|SET k 9223372036854775807|INCR k",
        ),
        script(
            "SET n 10|INCRBYFLOAT n 1e308|INCRBYFLOAT n 1e308|INCR n|DECRBY n -9223372036854775808|GET n|QUIT|GET n",
        ),
        [&[2, 0, 0, 0][..], b"SET a b\r\nGET a\r\n*1\r\n$3\r\nGET\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n$bad"]
            .concat(),
    ]
}
