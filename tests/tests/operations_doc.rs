//! `docs/OPERATIONS.md` lists what there is: settings, fields, figures and errors, none missing and none invented.

mod redis_rig;

use aerolith_engine::Stats;
use redis_rig::{Running, command};

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

#[test]
fn every_error_is_there() {
    assert_eq!(table("`Error`"), declared(ENGINE_ERROR, "pub enum Error {", variant));
    assert_eq!(table("`HeaderError`"), declared(VOLUME_HEADER, "pub enum HeaderError {", variant));
}
