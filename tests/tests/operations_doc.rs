//! `docs/OPERATIONS.md` lists what there is: settings, fields, figures and errors, none missing and none invented.

mod redis_rig;

use aerolith_engine::Stats;
use redis_rig::{ANY_PORT, Running, command};
use serde_json::Value;

const DOC: &str = include_str!("../../docs/OPERATIONS.md");
const ENGINE_CONFIG: &str = include_str!("../../engine/src/config.rs");
const ENGINE_ERROR: &str = include_str!("../../engine/src/error.rs");
const VOLUME_HEADER: &str = include_str!("../../engine/src/volume/header.rs");

/// The names in the first column of the table whose header row begins with `header`.
fn table(header: &str) -> Vec<&'static str> {
    let mut lines = DOC.lines().skip_while(|line| !line.starts_with(&format!("| {header} |")));
    assert!(lines.next().is_some(), "there is no table '{header}'");
    lines
        .skip(1)
        .take_while(|line| line.starts_with("| "))
        .map(|row| row.split('`').nth(1).expect("a name in the first column"))
        .collect()
}

/// The names that `pick` finds in the lines of the item that begins with `head`.
fn declared(source: &'static str, head: &str, pick: fn(&str) -> Option<&str>) -> Vec<&'static str> {
    let lines = source.lines().skip_while(|line| *line != head).skip(1);
    lines.take_while(|line| *line != "}").filter_map(pick).collect()
}

/// A variant of an enum, as rustfmt writes it.
fn variant(line: &str) -> Option<&str> {
    let name = line.strip_prefix("    ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))?;
    name.split(|c: char| !c.is_ascii_alphanumeric()).next()
}

/// A public field of a struct.
fn field(line: &str) -> Option<&str> {
    line.strip_prefix("    pub ")?.split(':').next()
}

#[test]
fn every_setting_is_there_in_its_order() {
    let shown = aerolith_server::Config::default().shown();
    let expected: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(table("setting"), expected);
}

#[test]
fn every_field_of_a_namespace_is_there() {
    assert_eq!(table("field"), declared(ENGINE_CONFIG, "pub struct NamespaceConfig {", field));
}

#[test]
fn every_figure_of_info_is_there() {
    let running = Running::with(|config| config.size.0 = 256 << 20);
    let mut socket = running.connect();
    socket.send(command(&[b"INFO", b"aerolith"]));
    socket.send(command(&[b"QUIT"]));
    let reply = String::from_utf8(socket.rest()).unwrap();
    let names: Vec<&str> =
        reply.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(names.len() > 20, "{reply}");
    assert_eq!(table("INFO field"), names);
}

#[test]
fn every_field_of_stats_is_there() {
    // Debug output has a line a field; those of the counters stand deeper.
    let shown = format!("{:#?}", Stats::default());
    let fields = shown.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        match (name.strip_prefix("        "), value.ends_with('{')) {
            (_, true) => None,
            (Some(counter), _) => Some(format!("counters.{counter}")),
            (None, _) => Some(name.trim().to_owned()),
        }
    });
    let (mut fields, mut told) = (fields.collect::<Vec<_>>(), table("field of `Stats`"));
    fields.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, fields);
}

/// The paths of all values; durations count as one.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) if fields.contains_key("p50_us") => found.push(path.to_owned()),
        Value::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            fields.iter().for_each(|(name, value)| paths(value, &format!("{path}{dot}{name}"), found));
        }
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            paths(&items[0], &format!("{path}[]"), found);
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_figure_of_the_admin_port_is_there() {
    let running = Running::with(|config| {
        config.size.0 = 256 << 20;
        config.admin_port = ANY_PORT;
        // Every command is slow, so that the list of slow ones is not empty.
        config.slowlog_log_slower_than = 0;
    });
    let mut socket = running.connect();
    socket.send(command(&[b"SET", b"a", b"1"]));
    assert_eq!(socket.line(), "+OK");
    let (status, body) = running.admin("/stats");
    assert_eq!(status, 200, "{body}");
    let mut fields = Vec::new();
    paths(&serde_json::from_str(&body).unwrap(), "", &mut fields);
    let mut told = table("`/stats` field");
    fields.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, fields);

    let (status, body) = running.admin("/metrics");
    assert_eq!(status, 200, "{body}");
    let names: Vec<&str> =
        body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 50, "{body}");
    assert_eq!(table("metric"), names);
    let helped: Vec<&str> =
        body.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert_eq!(helped, names, "each has its help");
    assert!(names.iter().all(|name| name.starts_with("aerolith_")));
}

#[test]
fn every_error_is_there() {
    assert_eq!(table("`Error`"), declared(ENGINE_ERROR, "pub enum Error {", variant));
    assert_eq!(table("`HeaderError`"), declared(VOLUME_HEADER, "pub enum HeaderError {", variant));
}
