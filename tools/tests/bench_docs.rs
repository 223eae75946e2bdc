//! `docs/OPERATIONS.md` lists every flag of `aerolith bench` and `aerolith certify`, none missing and none invented.

mod image;

use image::aerolith;

const DOC: &str = include_str!("../../docs/OPERATIONS.md");

/// The names in the first column of the table whose header row begins with `header`.
fn table(header: &str) -> Vec<&'static str> {
    let mut lines = DOC.lines().skip_while(|line| !line.starts_with(&format!("| {header} |")));
    assert!(lines.next().is_some(), "there is no table '{header}'");
    let rows = lines.skip(1).take_while(|line| line.starts_with("| "));
    rows.map(|row| row.split('`').nth(1).expect("a name in the first column")).collect()
}

/// The flags that a subcommand takes, and their defaults, as its help tells them.
fn flags(command: &str) -> Vec<(String, Option<String>)> {
    let (code, help, _) = aerolith(&[command, "--help"]);
    assert_eq!(code, Some(0));
    let mut flags: Vec<(String, Option<String>)> = Vec::new();
    for line in help.lines() {
        let words = line.trim_start();
        if let Some(flag) = words.strip_prefix("--") {
            let name = flag.split([' ', ',']).next().unwrap();
            flags.push((format!("--{name}"), None));
        }
        if let (Some((_, default)), Some(last)) = (line.split_once("[default: "), flags.last_mut()) {
            last.1 = Some(default.trim_end_matches(']').to_owned());
        }
    }
    flags.retain(|(name, _)| name != "--help");
    assert!(flags.len() > 20, "{help}");
    flags
}

#[test]
fn every_flag_is_in_its_table_with_its_default() {
    for command in ["bench", "certify"] {
        let flags = flags(command);
        let names: Vec<&str> = flags.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(table(&format!("flag of `{command}`")), names, "{command}");
        for (name, default) in &flags {
            let Some(default) = default else { continue };
            let is_row = |line: &&str| {
                line.starts_with(&format!("| `{name}")) && line.contains(&format!("| {default} |"))
            };
            assert!(DOC.lines().any(|line| is_row(&line)), "{command} {name} has the default '{default}'");
        }
    }
}
