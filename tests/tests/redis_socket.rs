//! The Redis port against clients that send what they like and read when they like.

mod redis_rig;

use redis_rig::{Running, command};
use std::time::{Duration, Instant};

#[test]
fn bytes_may_come_one_by_one() {
    let running = Running::new();
    let mut socket = running.connect();
    for byte in [command(&[b"SET", b"k", b"a\r\nb"]), command(&[b"GET", b"k"]), b"PING\r\n".to_vec()].concat()
    {
        socket.send([byte]);
    }
    socket.expect("+OK\r\n$4\r\na\r\nb\r\n+PONG\r\n");
}

#[test]
fn a_long_pipeline_is_answered_in_order() {
    let running = Running::new();
    let mut socket = running.connect();
    let mut request = Vec::new();
    let mut expected = String::new();
    for n in 0..5000 {
        let key = format!("slow:{}", n % 10);
        request.extend(command(&[b"SET", key.as_bytes(), n.to_string().as_bytes()]));
        request.extend(command(&[b"GET", key.as_bytes()]));
        request.extend(command(&[b"INCR", b"count"]));
        let digits = n.to_string();
        expected += &format!("+OK\r\n${}\r\n{digits}\r\n:{}\r\n", digits.len(), n + 1);
    }
    socket.send(request);
    socket.expect(expected);
}

#[test]
fn the_largest_value_goes_through_and_one_more_byte_does_not() {
    let running = Running::new();
    let mut socket = running.connect();
    // A record's limit in a block of 8 MiB, less header (64), set (5), key (3) and the bin's head (6).
    let largest = 8_323_072 - 78;
    let mut value = vec![0xfe; largest];
    socket.send(command(&[b"SET", b"big", &value]));
    socket.expect("+OK\r\n");
    socket.send(command(&[b"GET", b"big"]));
    socket.expect(format!("${largest}\r\n"));
    socket.expect(&value);
    socket.expect("\r\n");
    value.push(0xfe);
    socket.send(command(&[b"SET", b"big", &value]));
    socket.expect("-ERR the record takes 8323073 bytes, the limit is 8323072");
    let mut socket = running.connect();
    socket.send("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$8388609\r\n");
    assert_eq!(socket.rest(), b"-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn hostile_lengths_are_an_error_and_a_close() {
    let running = Running::new();
    for (request, error) in [
        ("*2\r\n$3\r\nGET\r\n$1099511627776\r\n", "invalid bulk length"),
        ("*1099511627776\r\n", "invalid multibulk length"),
        ("*-99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\n$-2\r\n", "invalid bulk length"),
        ("*1\r\nGET\r\n", "expected '$'"),
        ("SET \"a\r\n", "unbalanced quotes in request"),
    ] {
        let mut socket = running.connect();
        // A command before it is answered, garbage behind it does not turn the close into a reset.
        socket.send(format!("PING\r\n{request}{}", "x".repeat(1000)));
        let expected = format!("+PONG\r\n-ERR Protocol error: {error}\r\n");
        assert_eq!(String::from_utf8(socket.rest()).unwrap(), expected, "{request}");
    }
    let mut socket = running.connect();
    socket.send(vec![b'x'; 70 << 10]);
    assert_eq!(socket.rest(), b"-ERR Protocol error: too big inline request\r\n");
    let mut socket = running.connect();
    socket.send("PING\r\n");
    socket.expect("+PONG\r\n");
}

#[test]
fn declared_lengths_cost_no_memory() {
    let running = Running::new();
    let before = resident_size();
    // 200 clients promise a million arguments, each of 8 MiB, and send the first byte.
    let sockets: Vec<_> = (0..200)
        .map(|_| {
            let mut socket = running.connect();
            socket.send("*1048576\r\n$8388608\r\nx");
            socket
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    let grown = resident_size().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes for {} clients", sockets.len());
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let running = Running::new();
    let mut socket = running.connect();
    socket.send(command(&[b"SET", b"k", &vec![b'v'; 1 << 20]]));
    socket.expect("+OK\r\n");
    let before = resident_size();
    // 2 GiB of replies are asked for and not taken.
    socket.send(command(&[b"GET", b"k"]).repeat(2000));
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident_size().saturating_sub(before);
    // The other tests of this process have engines of their own, with their buffers.
    assert!(grown < 128 << 20, "grew by {grown} bytes");
    // Others are served meanwhile.
    let mut others: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for other in &mut others {
        other.send("PING\r\n");
        other.expect("+PONG\r\n");
    }
    // One MGET of many large values is bounded too.
    let mut greedy = running.connect();
    let keys = vec![&b"k"[..]; 2000];
    let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(keys).collect();
    greedy.send(command(&words));
    greedy.expect("*2000\r\n$1048576\r\n");
    let grown = resident_size().saturating_sub(before);
    assert!(grown < 128 << 20, "grew by {grown} bytes");
}

#[test]
fn slow_clients_are_let_go() {
    let running = Running::with(|config| {
        config.write_timeout_s = 1;
        config.request_timeout_s = 1;
        config.idle_timeout_s = 1;
    });
    let mut deaf = running.connect();
    deaf.send(command(&[b"SET", b"k", &vec![b'v'; 7 << 20]]));
    deaf.expect("+OK\r\n");
    deaf.send(command(&[b"GET", b"k"]).repeat(4));
    let mut dripping = running.connect();
    dripping.send("*1\r\n$4\r\nPI");
    let mut silent = running.connect();
    let start = Instant::now();
    assert_eq!(silent.rest(), b"");
    assert_eq!(dripping.rest(), b"");
    assert!(start.elapsed() < Duration::from_secs(10));
    // It ends although not everything was sent.
    std::thread::sleep(Duration::from_secs(3));
    assert!(deaf.rest().len() < 4 * (7 << 20));
}

#[test]
fn at_the_cap_clients_are_told_so() {
    let running = Running::with(|config| config.max_connections = 3);
    let mut sockets: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for socket in &mut sockets {
        socket.send("PING\r\n");
        socket.expect("+PONG\r\n");
    }
    assert_eq!(running.connect().rest(), b"-ERR max number of clients reached\r\n");
    sockets[0].send("CONFIG SET maxclients 4\r\n");
    sockets[0].expect("+OK\r\n");
    let mut fourth = running.connect();
    fourth.send("PING\r\n");
    fourth.expect("+PONG\r\n");
    drop(sockets);
    // Places come free again.
    for _ in 0..20 {
        let mut socket = running.connect();
        if socket.send(b"PING\r\n") && socket.line() == "+PONG" {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("closed connections still count");
}

#[test]
fn quit_and_shutdown_end_connections() {
    let running = Running::new();
    let mut socket = running.connect();
    socket.send("SET a 1\r\nQUIT\r\nSET a 2\r\n");
    assert_eq!(socket.rest(), b"+OK\r\n+OK\r\n");
    let mut idle = running.connect();
    idle.send("GET a\r\n");
    idle.expect("$1\r\n1\r\n");
    let mut socket = running.connect();
    socket.send("SHUTDOWN NOSAVE\r\n");
    assert_eq!(socket.rest(), b"");
    assert_eq!(idle.rest(), b"");
    let address = running.address;
    running.server.stop().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

fn resident_size() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
