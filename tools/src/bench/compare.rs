//! Two runs side by side: how rates and latencies differ, and in what the runs themselves do.

use super::report::{FORMAT, Report};
use crate::load::LoadError;
use crate::page::{number, time};
use crate::table::table;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Options that do not change what the figures mean.
const IMMATERIAL: &[&str] = &["seed"];

fn read(path: &Path) -> Result<Report, LoadError> {
    let wrong = |why: String| LoadError(format!("--compare {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| wrong(format!("{error}; it is not the --json output of a run of aerolith bench")))?;
    if report.format != FORMAT {
        return Err(wrong(format!("format {}, this program reads {FORMAT}: run it again", report.format)));
    }
    Ok(report)
}

/// Compares two files.
pub fn compare(a: &Path, b: &Path) -> Result<String, LoadError> {
    Ok(render(&read(a)?, &read(b)?))
}

fn change(a: f64, b: f64) -> String {
    match a {
        0.0 if b == 0.0 => "0.0 %".into(),
        0.0 => "-".into(),
        a => format!("{:+.1} %", (b / a - 1.0) * 100.0),
    }
}

/// As text.
fn render(a: &Report, b: &Report) -> String {
    let mut out = String::new();
    for (name, report) in [("A", a), ("B", b)] {
        let title = if report.title.is_empty() { String::new() } else { format!(" '{}'", report.title) };
        let faults = if report.is_clean() { "" } else { "; NOT CLEAN: see its own output" };
        let _ = writeln!(
            out,
            "{name}{title}: {}, {:.1} s, began {}{faults}",
            report.target, report.seconds, report.began
        );
    }
    let names: BTreeSet<&String> = a.options.keys().chain(b.options.keys()).collect();
    let value =
        |report: &Report, name: &String| report.options.get(name).cloned().unwrap_or_else(|| "-".into());
    let differ: Vec<Vec<String>> = names
        .into_iter()
        .filter(|name| !IMMATERIAL.contains(&name.as_str()) && a.options.get(*name) != b.options.get(*name))
        .map(|name| vec![name.clone(), value(a, name), value(b, name)])
        .collect();
    if differ.is_empty() {
        let _ = writeln!(out, "both were asked for the same\n");
    } else {
        let _ = writeln!(
            out,
            "\nthe runs differ in what they were asked:\n{}",
            table(&["option", "A", "B"], &differ)
        );
    }
    if a.lag.is_some() != b.lag.is_some() {
        let _ = writeln!(
            out,
            "one is an open and one a closed loop: latency counts from the intended start in one, from sending in the other\n"
        );
    }
    let mut rows = Vec::new();
    let operations: BTreeSet<&String> = a.operations.keys().chain(b.operations.keys()).collect();
    for name in operations {
        let (Some(a), Some(b)) = (a.operations.get(name), b.operations.get(name)) else {
            let only = if a.operations.contains_key(name) { "only A has it" } else { "only B has it" };
            rows.push(vec![name.clone(), only.into()]);
            continue;
        };
        let mut row = |figure: &str, a: f64, b: f64, shown: fn(f64) -> String| {
            rows.push(vec![name.clone(), figure.to_owned(), shown(a), shown(b), change(a, b)]);
        };
        row("requests/s", a.per_second, b.per_second, number);
        let (a, b) = (&a.figures, &b.figures);
        row("mean", a.mean_us, b.mean_us, time);
        row("p50", a.p50_us, b.p50_us, time);
        row("p99", a.p99_us, b.p99_us, time);
        row("p99.9", a.p999_us, b.p999_us, time);
        row("max", a.max_us, b.max_us, time);
        row("failed", (a.failed + a.unanswered) as f64, (b.failed + b.unanswered) as f64, number);
    }
    let _ = write!(out, "{}", table(&["operation", "figure", "A", "B", "B against A"], &rows));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn changes_are_told_in_percent_and_what_differs_is_named() {
        let (a, mut b) = (sample(1), sample(2));
        b.options.insert("rate".into(), "2002".into());
        b.options.insert("seed".into(), "9".into());
        let text = render(&a, &b);
        let row = |operation: &str, figure: &str| {
            let is_it = |line: &&str| {
                let mut words = line.split_whitespace();
                words.next() == Some(operation) && words.next() == Some(figure)
            };
            text.lines().find(is_it).unwrap_or_else(|| panic!("{operation} {figure} in\n{text}")).to_owned()
        };
        assert!(row("read", "p50").contains("+100") || row("read", "p50").contains("+99.9"), "{text}");
        assert!(row("read", "requests/s").contains("+0.0 %"), "{text}");
        assert!(text.contains("rate") && text.contains("2002") && !text.contains("seed"), "{text}");
        let same = render(&a, &a);
        assert!(same.contains("both were asked for the same") && !same.contains("closed loop"));
        b.lag = None;
        assert!(render(&a, &b).contains("one is an open and one a closed loop"));
        assert_eq!([change(0.0, 1.0), change(0.0, 0.0), change(4.0, 3.0)], ["-", "0.0 %", "-25.0 %"]);
    }

    #[test]
    fn what_is_no_run_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(compare(&path, &path).unwrap_err().to_string().contains("x.json"));
        std::fs::write(&path, "{}").unwrap();
        assert!(compare(&path, &path).unwrap_err().to_string().contains("not the --json output"));
        let mut other = sample(1);
        other.format = 99;
        std::fs::write(&path, serde_json::to_string(&other).unwrap()).unwrap();
        assert!(compare(&path, &path).unwrap_err().to_string().contains("format 99"));
    }
}
