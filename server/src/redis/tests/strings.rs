//! String commands.

use super::{NOT_AN_INTEGER, Rig, SYNTAX, WRONG_TYPE};

#[test]
fn set_and_get_in_all_spellings() {
    Rig::new().expect(&[
        ("GET a", "$-1|"),
        ("SET a hello", "+OK|"),
        ("get a", "$5|hello|"),
        ("SET a 1 NX", "$-1|"),
        ("SET b 1 NX", "+OK|"),
        ("SET c 1 XX", "$-1|"),
        ("SET b 2 XX", "+OK|"),
        ("SET b 3 GET", "$1|2|"),
        ("SET c 3 GET", "$-1|"),
        ("SET c 4 NX GET", "$1|3|"),
        ("GET c", "$1|3|"),
        ("SET d 4 XX GET", "$-1|"),
        ("EXISTS d", ":0|"),
        ("SET a 1 NX XX", SYNTAX),
        ("SET a 1 EX ten HELLO", SYNTAX),
        ("SET a 1 NX NX", "$-1|"),
        ("SET a 1 EX", SYNTAX),
        ("SET a 1 EX 10 PX 10", SYNTAX),
        ("SET a 1 EX 10 KEEPTTL", SYNTAX),
        ("SET a 1 HELLO", SYNTAX),
        ("SET a 1 EX ten", NOT_AN_INTEGER),
        ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command|"),
        ("SET a 1 PX -5", "-ERR invalid expire time in 'set' command|"),
        ("SET a 1 EX 9223372036854775807", "-ERR invalid expire time in 'set' command|"),
        ("SET a 1 PXAT 1000", "+OK|"),
        ("GET a", "$-1|"),
        ("SET a 1 EX 5 EX 10", "+OK|"),
        ("TTL a", ":10|"),
        ("GETEX nope EX abc", "$-1|"),
        ("GETEX a EX abc", NOT_AN_INTEGER),
        ("DEL a", ":1|"),
        ("SETNX a x", ":1|"),
        ("SETNX a y", ":0|"),
        ("GETSET a z", "$1|x|"),
        ("GETDEL a", "$1|z|"),
        ("GETDEL a", "$-1|"),
        ("SETEX a 10 v", "+OK|"),
        ("PSETEX a 10000 v", "+OK|"),
        ("SETEX a 0 v", "-ERR invalid expire time in 'setex' command|"),
        ("PSETEX a x v", NOT_AN_INTEGER),
        ("SET a", "-ERR wrong number of arguments for 'set' command|"),
        ("GET", "-ERR wrong number of arguments for 'get' command|"),
    ]);
}

#[test]
fn expiry_options_of_set_are_kept_and_dropped() {
    let mut rig = Rig::new();
    rig.run("SET a 1 EX 100");
    assert_eq!(rig.integer("TTL a"), 100);
    rig.run("SET a 2 KEEPTTL");
    assert!((99_000..=100_000).contains(&rig.integer("PTTL a")));
    rig.run("SET a 3");
    rig.expect(&[("TTL a", ":-1|"), ("SET a 1 EXAT 33177117420", "+OK|"), ("EXPIRETIME a", ":33177117420|")]);
    rig.expect(&[("SET a 1 PXAT 33177117420123", "+OK|"), ("PEXPIRETIME a", ":33177117420123|")]);
    rig.run("SET a 1 PX 100000");
    assert_eq!(rig.integer("TTL a"), 100);
    rig.expect(&[
        ("GETEX a", "$1|1|"),
        ("GETEX a PERSIST", "$1|1|"),
        ("TTL a", ":-1|"),
        ("GETEX a EX 50", "$1|1|"),
        ("TTL a", ":50|"),
        ("GETEX a PX 0", "-ERR invalid expire time in 'getex' command|"),
        ("GETEX a KEEPTTL", SYNTAX),
        ("GETEX a EX 1 PERSIST", SYNTAX),
        ("GETEX a PXAT 1", "$1|1|"),
        ("GETEX a", "$-1|"),
    ]);
}

#[test]
fn many_keys_at_once() {
    Rig::new().expect(&[
        ("MSET a 1 b 2 a 3", "+OK|"),
        ("MGET a b c", "*3|$1|3|$1|2|$-1|"),
        ("MSETNX c 1 a 9", ":0|"),
        ("MSETNX c 1 d 9 c 2", ":1|"),
        ("MGET c d", "*2|$1|2|$1|9|"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command|"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command|"),
        ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command|"),
        ("EXISTS a b a nope", ":3|"),
        ("TOUCH a b nope", ":2|"),
        ("DEL a b a nope", ":2|"),
        ("UNLINK c", ":1|"),
        ("DBSIZE", ":1|"),
    ]);
}

#[test]
fn counters() {
    Rig::new().expect(&[
        ("INCR n", ":1|"),
        ("INCRBY n 41", ":42|"),
        ("DECR n", ":41|"),
        ("DECRBY n 1", ":40|"),
        ("INCRBY n -50", ":-10|"),
        ("GET n", "$3|-10|"),
        ("SET n 9223372036854775807", "+OK|"),
        ("INCR n", "-ERR increment or decrement would overflow|"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow|"),
        ("INCRBY n 1.5", NOT_AN_INTEGER),
        ("SET s ' 1'", "+OK|"),
        ("INCR s", NOT_AN_INTEGER),
        ("SET s 01", "+OK|"),
        ("INCR s", NOT_AN_INTEGER),
        ("INCRBYFLOAT f 10.50", "$4|10.5|"),
        ("INCRBYFLOAT f 0.1", "$4|10.6|"),
        ("INCRBYFLOAT f -5", "$3|5.6|"),
        ("SET f 5.0e3", "+OK|"),
        ("INCRBYFLOAT f 2.0e2", "$4|5200|"),
        ("INCR f", ":5201|"),
        ("INCRBYFLOAT f abc", "-ERR value is not a valid float|"),
        ("INCRBYFLOAT f +inf", "-ERR increment would produce NaN or Infinity|"),
        ("SET f text", "+OK|"),
        ("INCRBYFLOAT f 1", "-ERR value is not a valid float|"),
    ]);
}

#[test]
fn a_counter_keeps_its_expiry() {
    let mut rig = Rig::new();
    rig.expect(&[("SET n 1 EX 100", "+OK|"), ("INCR n", ":2|"), ("TTL n", ":100|")]);
    rig.expect(&[("APPEND n 3", ":2|"), ("TTL n", ":100|"), ("SETRANGE n 0 9", ":2|"), ("TTL n", ":100|")]);
    rig.expect(&[("GET n", "$2|93|"), ("GETSET n 1", "$2|93|"), ("TTL n", ":-1|")]);
}

#[test]
fn parts_of_strings() {
    Rig::new().expect(&[
        ("APPEND a Hello", ":5|"),
        ("APPEND a ' World'", ":11|"),
        ("STRLEN a", ":11|"),
        ("STRLEN nope", ":0|"),
        ("GETRANGE a 0 4", "$5|Hello|"),
        ("SUBSTR a -5 -1", "$5|World|"),
        ("GETRANGE a 5 2", "$0||"),
        ("GETRANGE nope 0 -1", "$0||"),
        ("GETRANGE a x 1", NOT_AN_INTEGER),
        ("SETRANGE a 6 Redis", ":11|"),
        ("GET a", "$11|Hello Redis|"),
        ("SETRANGE b 3 x", ":4|"),
        ("GET b", "$4|\0\0\0x|"),
        ("SETRANGE c 3 ''", ":0|"),
        ("EXISTS c", ":0|"),
        ("SETRANGE a 99 ''", ":11|"),
        ("SETRANGE a -1 x", "-ERR offset is out of range|"),
        ("SETRANGE a 8388608 x", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|"),
        (
            "SETRANGE a 9223372036854775807 x",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)|",
        ),
        ("SET n 12", "+OK|"),
        ("STRLEN n", ":2|"),
        ("GETRANGE n 1 1", "$1|2|"),
        ("APPEND n 3", ":3|"),
        ("INCR n", ":124|"),
    ]);
}

#[test]
fn other_types_are_refused_where_a_string_is_needed() {
    let mut rig = Rig::new();
    let refused = [
        "GET l",
        "STRLEN l",
        "GETRANGE l 0 1",
        "APPEND l x",
        "SETRANGE l 0 x",
        "INCR l",
        "INCRBYFLOAT l 1",
        "GETSET l x",
        "SET l x GET",
        "GETDEL l",
        "GETEX l",
    ];
    for command in refused {
        rig.put_list(b"l");
        assert_eq!(rig.run(command), WRONG_TYPE, "{command}");
        assert_eq!(rig.run("TYPE l"), "+list|", "{command} must leave the key alone");
    }
    rig.expect(&[
        ("MGET l", "*1|$-1|"),
        ("EXISTS l", ":1|"),
        ("EXPIRE l 100", ":1|"),
        ("TTL l", ":100|"),
        ("SCAN 0 TYPE list COUNT 10000", "*2|$1|0|*1|$1|l|"),
        ("SCAN 0 TYPE string COUNT 10000", "*2|$1|0|*0|"),
        ("SET l x", "+OK|"),
        ("TYPE l", "+string|"),
    ]);
}

#[test]
fn values_come_back_as_they_were() {
    let mut rig = Rig::new();
    for value in [
        &b"\x00\xff\r\n"[..],
        b"007",
        b"-0",
        b"+1",
        b"1e3",
        b"9223372036854775808",
        b"",
        b"-9223372036854775808",
    ] {
        let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len());
        assert_eq!(rig.bytes(&[head.as_bytes(), value, b"\r\n"].concat()), b"+OK\r\n");
        let reply = rig.bytes(b"GET k\r\n");
        let head = format!("${}\r\n", value.len());
        assert_eq!(reply, [head.as_bytes(), value, b"\r\n"].concat());
    }
}
