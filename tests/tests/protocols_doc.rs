//! `docs/PROTOCOLS.md` tells every command that the server has, and no other, in the order of its table.

mod redis_rig;

use redis_rig::{Running, command};

const DOC: &str = include_str!("../../docs/PROTOCOLS.md");

#[test]
fn every_command_is_told_and_no_other() {
    let rows = DOC.lines().skip_while(|line| !line.starts_with("| command |")).skip(2);
    let told: Vec<String> = rows
        .take_while(|line| line.starts_with("| "))
        .map(|row| row.split('`').nth(1).expect("a command in the first column").to_ascii_lowercase())
        .collect();
    let running = Running::with(|config| config.size.0 = 256 << 20);
    let mut socket = running.connect();
    socket.send(command(&[b"COMMAND", b"LIST"]));
    let count: usize = socket.line().trim_start_matches('*').parse().unwrap();
    let listed: Vec<String> = (0..count)
        .map(|_| {
            let _size = socket.line();
            socket.line()
        })
        .collect();
    assert!(count > 50, "{listed:?}");
    assert_eq!(told, listed);
}

#[test]
fn what_it_says_is_not_there_is_unknown() {
    let running = Running::with(|config| config.size.0 = 256 << 20);
    let mut socket = running.connect();
    for name in "OBJECT DEBUG MONITOR COPY RENAME SORT DUMP RESTORE LCS MULTI".split(' ') {
        assert!(DOC.contains(name), "{name}");
        socket.send(command(&[name.as_bytes()]));
        let reply = socket.line();
        assert!(reply.starts_with("-ERR unknown command"), "{name}: {reply}");
    }
}
