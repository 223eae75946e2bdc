//! A run as a table for the terminal, and as the facts that other outputs share.

use super::report::Report;
use crate::page::{number, time};
use crate::table::table;
use std::fmt::Write;

/// Own lateness above this makes latencies that are not the target's alone, in microseconds.
const LATE_US: f64 = 1000.0;

/// The columns of the table of operations.
pub const COLUMNS: [&str; 12] = [
    "operation",
    "requests",
    "a second",
    "missed",
    "failed",
    "mean",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "max",
];

/// The rows of the table of operations.
pub fn rows(report: &Report) -> Vec<Vec<String>> {
    let row = |(name, operation): (&str, &super::report::Operation)| {
        let figures = &operation.figures;
        let mut row = vec![
            name.to_owned(),
            number(figures.count as f64),
            number(operation.per_second),
            number(figures.missed as f64),
            number((figures.failed + figures.unanswered) as f64),
        ];
        row.extend(
            [
                figures.mean_us,
                figures.p50_us,
                figures.p90_us,
                figures.p99_us,
                figures.p999_us,
                figures.p9999_us,
                figures.max_us,
            ]
            .map(time),
        );
        row
    };
    // One operation needs no sum.
    let is_single = report.operations.len() <= 2;
    report.in_order().filter(|(name, _)| !is_single || *name != crate::load::series::ALL).map(row).collect()
}

/// What went wrong, a line each; empty if nothing did.
pub fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(why) = &report.broke_off {
        faults.push(format!("BROKE OFF: {why}"));
    }
    if report.check.wrong > 0 {
        faults.push(format!("WRONG: {} answers were not what the store was given", report.check.wrong));
    }
    if let Some(all) = report.operations.get(crate::load::series::ALL) {
        if all.figures.failed > 0 {
            faults.push(format!("FAILED: {} requests", all.figures.failed));
        }
        if all.figures.unanswered > 0 {
            faults.push(format!(
                "UNANSWERED: {} requests when the time was over; their latencies are lower bounds",
                all.figures.unanswered
            ));
        }
    }
    if let Some(lag) = report.lag.as_ref().filter(|lag| lag.unsent > 0) {
        faults.push(format!(
            "NOT KEPT UP: {} requests were due and never sent: the target cannot take this rate, and its latencies are worse \
             than shown",
            lag.unsent
        ));
    }
    faults.extend(report.messages.iter().map(|(message, count)| format!("{message} ({count} times)")));
    faults
}

/// Names and what they stand for.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let option = |name: &str| report.options.get(name).map_or("?", String::as_str);
    let mut facts = vec![
        ("target", report.target.clone()),
        (
            "records",
            format!("{}, keys {}, values {} bytes", option("records"), option("keys"), option("value-size")),
        ),
        ("mix", option("mix").to_owned()),
    ];
    let connections =
        report.options.get("connections").map_or(String::new(), |c| format!("connections {c}, "));
    let how = match report.options.get("rate") {
        Some(rate) => {
            format!(
                "open loop, {rate} requests/s, {} arrivals; latency from the intended start",
                option("arrivals")
            )
        }
        None => "closed loop; latency from sending, which hides how long others would have waited".to_owned(),
    };
    facts.push((
        "load",
        format!("{how}; threads {}, {connections}depth {}", option("threads"), option("depth")),
    ));
    facts.push((
        "time",
        format!("{:.2} s after {} of warm-up, began {}", report.seconds, option("warm-up"), report.began),
    ));
    let all = report.operations.get(crate::load::series::ALL).map_or(0.0, |all| all.per_second);
    let share = |cpu_s: f64| {
        let cores = if report.cpu.seconds > 0.0 { cpu_s / report.cpu.seconds } else { 0.0 };
        let each = report
            .cpu
            .us_per_request(cpu_s, all)
            .map_or(String::new(), |us| format!(", {us:.2} us a request"));
        format!("{cores:.2} cores{each}")
    };
    let with_engine = if report.target.starts_with("engine") { " (load and engine together)" } else { "" };
    let mut cpu = format!("bench {}{with_engine}", share(report.cpu.bench_s));
    if let Some(server) = report.cpu.server_s {
        let _ = write!(cpu, "; server {}", share(server));
    }
    if let Some(memory) = report.cpu.server_memory {
        let _ = write!(cpu, ", {} MiB resident", memory >> 20);
    }
    facts.push(("processor", cpu));
    if let Some(lag) = &report.lag {
        let mut told =
            format!("p50 {}, p99 {}, max {}", time(lag.p50_us), time(lag.p99_us), time(lag.max_us));
        if lag.own_p99_us > LATE_US {
            let (p99, max) = (time(lag.own_p99_us), time(lag.own_max_us));
            told.push_str(&format!(
                "; of it p99 {p99}, max {max} are this program's own: the machine was too busy to send in time"
            ));
        }
        facts.push(("schedule lag", told));
    }
    facts.push((
        "checked",
        match option("check") {
            "off" => "nothing".to_owned(),
            check => format!("{} values ({check}), {} wrong", report.check.verified, report.check.wrong),
        },
    ));
    if report.check.scanned > 0 {
        facts.push(("scanned", format!("{} records", report.check.scanned)));
    }
    facts
}

/// The whole text.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    if !report.title.is_empty() {
        let _ = writeln!(out, "{}", report.title);
    }
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "{name:<13} {fact}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "{:<13} {note}", "note");
    }
    let _ = writeln!(out, "\n{}", table(&COLUMNS, &rows(report)).trim_end());
    let faults = faults(report);
    if !faults.is_empty() {
        let _ = writeln!(out);
        faults.iter().for_each(|fault| {
            let _ = writeln!(out, "{fault}");
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn the_table_tells_the_figures_and_what_went_wrong() {
        let text = render(&sample(1));
        for part in [
            "redis 127.0.0.1:1",
            "open loop, 1001 requests/s",
            "a note",
            "10,000",
            "5.00 ms",
            "server 0.20 cores",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("WRONG") && !text.contains("FAILED"), "{text}");
        let mut bad = sample(1);
        bad.check.wrong = 3;
        bad.messages.insert("WRONG: record 7: torn".into(), 3);
        bad.broke_off = Some("gone".into());
        let text = render(&bad);
        for part in ["BROKE OFF: gone", "WRONG: 3 answers", "WRONG: record 7: torn (3 times)"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
