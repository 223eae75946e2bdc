//! Holds `docs/RELIABILITY.md` to the code: each scenario has a test of its own, and every test and every planted bug that it
//! names is there.

use std::path::{Path, PathBuf};

const DOC: &str = include_str!("../../docs/RELIABILITY.md");

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in
        std::fs::read_dir(dir).expect("a folder of the repository").map(|entry| entry.expect("an entry"))
    {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_scenario_names_tests_and_bugs_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    ["engine", "server", "tests", "tools"].iter().for_each(|dir| sources(&root.join(dir), &mut files));
    let code: String =
        files.iter().map(|file| std::fs::read_to_string(file).expect("a source file")).collect();
    let rows: Vec<Vec<&str>> = DOC
        .lines()
        .skip_while(|line| !line.starts_with("## Scenarios"))
        .take_while(|line| !line.starts_with("## Planted"))
        .filter(|line| line.starts_with("| ") && !line.starts_with("| no."))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(numbers, (1..=33).map(|number| number.to_string()).collect::<Vec<_>>());
    for row in rows {
        let number: u32 = row[0].parse().expect("a number");
        let is_its_own = |test: &str| test.starts_with(&format!("scenario_{number:02}_"));
        assert!(
            row[2].split('`').skip(1).step_by(2).any(is_its_own),
            "scenario {number} has no directed test scenario_{number:02}_..."
        );
        for test in row[2].split('`').skip(1).step_by(2) {
            assert!(code.contains(&format!("fn {test}(")), "scenario {}: there is no test {test}", row[0]);
        }
        for bug in row[3].split('`').skip(1).step_by(2) {
            assert!(code.contains(&format!("Bug::{bug}")), "scenario {}: there is no bug {bug}", row[0]);
        }
    }
}
