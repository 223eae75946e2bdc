//! Keys, expiry, walks, connections, the server, and the order of replies.

use super::{NOT_AN_INTEGER, Rig, SYNTAX};
use crate::config::{ByteSize, Config};

#[test]
fn expire_with_its_conditions() {
    let at = "-ERR NX and XX, GT or LT options at the same time are not compatible|";
    Rig::new().expect(&[
        ("EXPIRE a 10", ":0|"),
        ("SET a 1", "+OK|"),
        ("EXPIRE a 100 XX", ":0|"),
        ("EXPIRE a 100 GT", ":0|"),
        ("EXPIRE a 100 LT", ":1|"),
        ("EXPIRE a 100 NX", ":0|"),
        ("EXPIRE a 50 GT", ":0|"),
        ("EXPIRE a 200 GT", ":1|"),
        ("EXPIRE a 300 LT", ":0|"),
        ("EXPIRE a 150 XX LT", ":1|"),
        ("TTL a", ":150|"),
        ("PERSIST a", ":1|"),
        ("PERSIST a", ":0|"),
        ("EXPIRE a 10 NX", ":1|"),
        ("EXPIRE a 10 NX XX", at),
        ("EXPIRE a 10 NX GT", at),
        ("EXPIRE a 10 GT LT", "-ERR GT and LT options at the same time are not compatible|"),
        ("EXPIRE a 10 AB", "-ERR Unsupported option AB|"),
        ("EXPIRE a x", NOT_AN_INTEGER),
        ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command|"),
        ("PEXPIRE a 9223372036854775807", "-ERR invalid expire time in 'pexpire' command|"),
        ("PEXPIREAT a 33177117420000", ":1|"),
        ("EXPIRETIME a", ":33177117420|"),
        ("EXPIREAT a 33177117421", ":1|"),
        ("PEXPIRETIME a", ":33177117421000|"),
        ("EXPIRE a -1", ":1|"),
        ("EXISTS a", ":0|"),
        ("SET a 1", "+OK|"),
        ("EXPIREAT a 1", ":1|"),
        ("GET a", "$-1|"),
        ("TTL a", ":-2|"),
        ("PTTL a", ":-2|"),
        ("EXPIRETIME a", ":-2|"),
        ("PERSIST a", ":0|"),
        ("SET a 1", "+OK|"),
        ("PTTL a", ":-1|"),
        ("PEXPIRETIME a", ":-1|"),
    ]);
}

#[test]
fn walks_find_every_key() {
    let mut rig = Rig::new();
    rig.expect(&[("RANDOMKEY", "$-1|"), ("DBSIZE", ":0|"), ("KEYS *", "*0|")]);
    let pairs: String = (0..500).map(|n| format!(" key:{n} {n}")).collect();
    rig.run(&format!("MSET{pairs}"));
    let (mut cursor, mut found) = ("0".to_owned(), std::collections::BTreeSet::new());
    loop {
        let reply = rig.run(&format!("SCAN {cursor} COUNT 20"));
        let parts: Vec<&str> = reply.split('|').collect();
        found.extend(parts.iter().filter(|part| part.starts_with("key:")).map(|key| key.to_string()));
        cursor = parts[2].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 500);
    assert!(rig.run("RANDOMKEY").contains("key:"));
    assert_eq!(rig.run("KEYS key:49?").matches("key:49").count(), 10);
    rig.expect(&[
        ("SCAN 0 MATCH key:7 COUNT 10000", "*2|$1|0|*1|$5|key:7|"),
        ("SCAN x", "-ERR invalid cursor|"),
        ("SCAN 18446744073709551616", "-ERR invalid cursor|"),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT x", NOT_AN_INTEGER),
        ("SCAN 0 MATCH", SYNTAX),
        ("FLUSHALL NOW", SYNTAX),
        ("FLUSHALL ASYNC", "+OK|"),
        ("DBSIZE", ":0|"),
        ("SET a 1", "+OK|"),
        ("FLUSHDB SYNC", "+OK|"),
        ("EXISTS a", ":0|"),
    ]);
}

#[test]
fn keys_has_a_budget() {
    let mut rig = Rig::with(Config { threads: 1, max_keys_reply: ByteSize(100), ..Config::default() });
    for n in 0..20 {
        rig.run(&format!("SET key:{n} x"));
    }
    assert!(rig.run("KEYS *").starts_with("-ERR too many keys match"));
    assert_eq!(rig.run("KEYS key:1"), "*1|$5|key:1|");
}

#[test]
fn connections_talk_about_themselves() {
    Rig::new().expect(&[
        ("PING", "+PONG|"),
        ("ping hi", "$2|hi|"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command|"),
        ("ECHO hi", "$2|hi|"),
        ("SELECT 0", "+OK|"),
        ("SELECT 1", "-ERR DB index is out of range|"),
        ("SELECT x", NOT_AN_INTEGER),
        ("CLIENT ID", ":1|"),
        ("CLIENT GETNAME", "$-1|"),
        ("CLIENT SETNAME me", "+OK|"),
        ("CLIENT GETNAME", "$2|me|"),
        ("CLIENT SETNAME 'a b'", "-ERR Client names cannot contain spaces, newlines or special characters.|"),
        ("client setinfo LIB-NAME redis-py", "+OK|"),
        ("CLIENT SETINFO lib-ver 8.1.0", "+OK|"),
        ("CLIENT SETINFO lib-foo 1", "-ERR Unrecognized option 'lib-foo'|"),
        (
            "CLIENT SETINFO lib-ver 'a b'",
            "-ERR lib-ver cannot contain spaces, newlines or special characters.|",
        ),
        ("CLIENT NO-EVICT ON", "+OK|"),
        ("CLIENT NO-TOUCH maybe", SYNTAX),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.|"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command|"),
        ("CLIENT LIST TYPE nobody", "-ERR Unknown client type 'nobody'|"),
        ("CLIENT LIST TYPE pubsub", "$0||"),
        ("CLIENT LIST ID 0", "$0||"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID|"),
        ("RESET", "+RESET|"),
        ("CLIENT GETNAME", "$-1|"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure \
             your configuration is correct?|",
        ),
        ("AUTH a b c", SYNTAX),
    ]);
    let mut rig = Rig::new();
    rig.run("CLIENT SETNAME me");
    let line = rig.run("CLIENT INFO");
    for part in ["id=1 ", "addr=127.0.0.1:1 ", "name=me ", " cmd=client ", " resp=2 "] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert_eq!(rig.run("CLIENT LIST ID 1"), rig.run("CLIENT LIST"));
}

#[test]
fn hello_switches_the_protocol() {
    Rig::new().expect(&[
        ("HELLO 4", "-NOPROTO unsupported protocol version|"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range|"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'|"),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'|"),
        ("GET nope", "$-1|"),
        (
            "HELLO",
            "*14|$6|server|$5|redis|$7|version|$5|7.2.4|$5|proto|:2|$2|id|:1|$4|mode|$10|standalone|$4|role|\
             $6|master|$7|modules|*0|",
        ),
        (
            "HELLO 3 SETNAME me",
            "%7|$6|server|$5|redis|$7|version|$5|7.2.4|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|\
             $6|master|$7|modules|*0|",
        ),
        ("GET nope", "_|"),
        ("CLIENT GETNAME", "$2|me|"),
        ("CONFIG GET save", "%1|$4|save|$0||"),
        ("COMMAND INFO get nope", "*2|*10|$3|get|:2|~2|+readonly|+fast|:1|:1|:1|~3|+@string|+@read|+@fast|~0|~0|*0|_|"),
        ("HELLO 2", "*14|$6|server|$5|redis|$7|version|$5|7.2.4|$5|proto|:2|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|"),
        ("GET nope", "$-1|"),
        ("HELLO 3", "%7|$6|server|$5|redis|$7|version|$5|7.2.4|$5|proto|:3|$2|id|:1|$4|mode|$10|standalone|$4|role|$6|master|$7|modules|*0|"),
        ("RESET", "+RESET|"),
        ("GET nope", "$-1|"),
    ]);
    assert!(Rig::new().run("HELLO 3 AUTH default x").starts_with("-ERR AUTH <password> called"));
}

#[test]
fn the_server_tells_about_itself() {
    let mut rig = Rig::new();
    rig.expect(&[
        ("CONFIG GET appendonly", "*2|$10|appendonly|$3|yes|"),
        ("CONFIG GET s?ve databases", "*4|$9|databases|$1|1|$4|save|$0||"),
        ("CONFIG GET nope", "*0|"),
        ("CONFIG SET nope 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nope'|"),
        ("CONFIG SET timeout 5 maxclients 77", "+OK|"),
        ("CONFIG GET timeout maxclients", "*4|$10|maxclients|$2|77|$7|timeout|$1|5|"),
        (
            "CONFIG SET timeout 6 maxmemory 1",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - can't set immutable config|",
        ),
        ("CONFIG GET timeout", "*2|$7|timeout|$1|5|"),
        ("CONFIG SET save ''", "+OK|"),
        ("CONFIG SET save", "-ERR wrong number of arguments for 'config|set' command|"),
        ("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.|"),
        ("COMMAND LIST FILTERBY PATTERN mget*", "*1|$4|mget|"),
        ("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.|"),
        ("CLUSTER SLOTS", "-ERR This instance has cluster support disabled|"),
        ("WAIT 0 0", ":0|"),
        ("WAIT 0 x", "-ERR timeout is not an integer or out of range|"),
        ("WAIT 0 -1", "-ERR timeout is negative|"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: |"),
        ("FOO a 'b c'", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b c' |"),
        ("SET a 1 EX 100", "+OK|"),
        ("SET b 1", "+OK|"),
    ]);
    let count = rig.integer("COMMAND COUNT");
    assert_eq!(rig.run("COMMAND").matches("*10|").count() as i64, count);
    assert!(rig.run("COMMAND DOCS get").starts_with("*2|$3|get|*6|$7|summary|"));
    assert!(rig.run("TIME").starts_with("*2|$10|"));
    let info = rig.run("INFO");
    for part in
        ["redis_version:7.2.4|", "redis_mode:standalone|", "loading:0|", "role:master|", "# Aerolith|"]
    {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(info.contains("db0:keys=2,expires=1,avg_ttl=0|"), "{info}");
    assert!(!info.contains("cmdstat_"));
    let keyspace = "# Keyspace|db0:keys=2,expires=1,avg_ttl=0||";
    assert!(rig.run("INFO keyspace").ends_with(keyspace));
    assert!(rig.run("INFO all").contains("# Commandstats|"));
}

#[test]
fn replies_keep_their_order_while_reads_are_in_flight() {
    let mut rig = Rig::new();
    // Keys named slow: answer late, the lower the digit the sooner.
    for n in 1..8 {
        rig.run(&format!("SET slow:{n} {n}"));
    }
    rig.run("SET fast F");
    let commands = [
        ("GET slow:7", "$1|7|"),
        ("PING", "+PONG|"),
        ("GET fast", "$1|F|"),
        ("MGET slow:1 fast nope slow:6", "*4|$1|1|$1|F|$-1|$1|6|"),
        ("EXISTS slow:1 fast", ":2|"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: |"),
        ("GET", "-ERR wrong number of arguments for 'get' command|"),
        ("GETRANGE slow:3 x 1", NOT_AN_INTEGER),
        ("STRLEN slow:3", ":1|"),
        ("SET slow:2 changed", "+OK|"),
        ("GET slow:2", "$7|changed|"),
        ("TTL slow:2", ":-1|"),
        ("INCR slow:5", ":6|"),
        ("GET slow:5", "$1|6|"),
        ("GET slow:2", "$7|changed|"),
        ("DEL slow:2", ":1|"),
        ("GET slow:2", "$-1|"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'|"),
        ("GET slow:4", "$1|4|"),
        ("RESET", "+RESET|"),
    ];
    let batch: Vec<&str> = commands.iter().map(|(command, _)| *command).collect();
    let expected: String = commands.iter().map(|(_, reply)| *reply).collect();
    assert_eq!(rig.run(&batch.join("\n")), expected);
}

#[test]
fn reads_beyond_the_bound_start_later_and_are_told_in_order() {
    let mut rig = Rig::with(Config { threads: 1, reads_in_flight: 3, ..Config::default() });
    for n in 0..40 {
        rig.run(&format!("SET slow:{n} {n}"));
    }
    let keys: Vec<String> = (0..40).map(|n| format!("slow:{n}")).collect();
    let values: String = (0..40).map(|n| format!("${}|{n}|", n.to_string().len())).collect();
    assert_eq!(rig.run(&format!("MGET {}", keys.join(" "))), format!("*40|{values}"));
    let gets: Vec<String> = keys.iter().map(|key| format!("GET {key}")).collect();
    assert_eq!(rig.run(&gets.join("\n")), values);
}

#[test]
fn nothing_runs_behind_quit_or_shutdown() {
    let mut rig = Rig::new();
    assert_eq!(rig.run("SET a 1\nQUIT\nSET a 2"), "+OK|+OK|");
    let mut rig = Rig::new();
    rig.expect(&[("SHUTDOWN SAVE NOSAVE", SYNTAX), ("SHUTDOWN FOO", SYNTAX)]);
    assert_eq!(rig.run("SHUTDOWN NOSAVE\nPING"), "");
}
