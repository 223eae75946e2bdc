//! Medians of the rounds, and the tables.

use crate::measure::Latency;
use crate::phase::{Phase, Row};
use comfy_table::{Table, presets::ASCII_MARKDOWN};

/// One row for each phase, number of clients and engine, each figure the median of its rounds.
pub fn medians(rows: &[Row]) -> Vec<Row> {
    let mut names: Vec<(Phase, usize, &str)> = Vec::new();
    for row in rows {
        let name = (row.phase, row.threads, row.engine.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Stable: engines stay in the order in which they were asked for.
    names.sort_by_key(|&(phase, threads, _)| (phase, threads));
    let of = |name: &(Phase, usize, &str)| {
        let same: Vec<&Row> =
            rows.iter().filter(|row| (row.phase, row.threads, row.engine.as_str()) == *name).collect();
        let figure = |of: fn(&Row) -> Option<f64>| median(same.iter().filter_map(|row| of(row)).collect());
        let reads = latency(same.iter().filter_map(|row| row.reads).collect());
        let writes = latency(same.iter().filter_map(|row| row.writes).collect());
        Row {
            engine: name.2.to_owned(),
            phase: name.0,
            threads: name.1,
            per_second: figure(|row| row.per_second),
            seconds: figure(|row| Some(row.seconds)).unwrap_or_default(),
            reads,
            writes,
            cpu_us: figure(|row| row.cpu_us),
            rss_mib: figure(|row| row.rss_mib),
            group_peak_mib: figure(|row| row.group_peak_mib),
            disk_mib: figure(|row| row.disk_mib),
            read_bytes: figure(|row| row.read_bytes),
            write_amplification: figure(|row| row.write_amplification),
            overwritten: figure(|row| row.overwritten),
        }
    };
    names.iter().map(of).collect()
}

/// Of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// The longest of all rounds is the longest.
fn latency(rounds: Vec<Latency>) -> Option<Latency> {
    let figure = |of: fn(&Latency) -> f64| median(rounds.iter().map(of).collect());
    Some(Latency {
        p50: figure(|latency| latency.p50)?,
        p99: figure(|latency| latency.p99)?,
        p999: figure(|latency| latency.p999)?,
        max: rounds.iter().map(|latency| latency.max).fold(0.0, f64::max),
    })
}

fn title(row: &Row) -> String {
    match row.phase {
        Phase::Load => "load".into(),
        Phase::Read => format!("read, {} clients", row.threads),
        Phase::Half => format!("half reads, half overwrites, {} clients", row.threads),
        Phase::Durable => format!("durable put, {} clients", row.threads),
        Phase::ReopenKilled => "reopen after kill -9".into(),
        Phase::Reopen => "clean reopen".into(),
        Phase::Victim | Phase::Close => String::new(),
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn cell(value: Option<f64>) -> String {
    value.map(digits).unwrap_or_default()
}

/// Everything, a line for each engine and phase; the 50/50 load has one for its reads and one for its writes.
pub fn table(medians: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "what",
        "engine",
        "a second",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "longest ms",
        "CPU us",
        "RSS MiB",
        "disk MiB",
        "device bytes a read",
        "write ampl.",
    ]);
    for row in medians {
        let both = row.reads.is_some() && row.writes.is_some();
        let lines = [(row.reads, "reads"), (row.writes, "writes")];
        let lines: Vec<_> = lines.into_iter().filter(|(latency, _)| latency.is_some()).collect();
        for (i, (latency, which)) in
            lines.iter().copied().chain(lines.is_empty().then_some((None, ""))).enumerate()
        {
            let what = if both { format!("{}: {which}", title(row)) } else { title(row) };
            let speed = row.per_second.map_or_else(|| format!("{:.3} s", row.seconds), |n| format!("{n:.0}"));
            let once = |text: String| if i == 0 { text } else { String::new() };
            table.add_row([
                what,
                row.engine.clone(),
                once(speed),
                cell(latency.map(|l| l.p50)),
                cell(latency.map(|l| l.p99)),
                cell(latency.map(|l| l.p999)),
                cell(latency.map(|l| l.max / 1e3)),
                once(if row.per_second.is_some() { cell(row.cpu_us) } else { String::new() }),
                once(cell(row.rss_mib)),
                once(cell(row.disk_mib)),
                once(if row.phase == Phase::Read { cell(row.read_bytes) } else { String::new() }),
                once(cell(row.write_amplification)),
            ]);
        }
    }
    table.to_string()
}

/// How Aerolith's rows stand beside the best peer of each figure. Below 1.00 in the last three columns is better.
pub fn beside(medians: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "what",
        "engine",
        "speed / best peer's",
        "best peer",
        "CPU / that peer's",
        "p99.9 / lowest of peers",
        "longest / shortest of peers",
    ]);
    for row in medians.iter().filter(|row| row.engine.starts_with("aerolith")) {
        let peers = || {
            medians.iter().filter(|peer| {
                (peer.phase, peer.threads) == (row.phase, row.threads)
                    && !peer.engine.starts_with("aerolith")
                    && !peer.engine.starts_with("fio")
            })
        };
        let speed = |row: &Row| row.per_second.unwrap_or(1.0 / row.seconds);
        let Some(best) = peers().max_by(|a, b| speed(a).total_cmp(&speed(b))) else { continue };
        let lowest = |of: fn(&Latency) -> f64| {
            let worst = |row: &Row| {
                let latencies = [row.reads, row.writes].into_iter().flatten();
                latencies.map(|latency| of(&latency)).reduce(f64::max)
            };
            let peer = peers().filter_map(worst).reduce(f64::min)?;
            Some(worst(row)? / peer)
        };
        let cpu = row.cpu_us.zip(best.cpu_us).filter(|_| row.per_second.is_some());
        table.add_row([
            title(row),
            row.engine.clone(),
            digits(speed(row) / speed(best)),
            best.engine.clone(),
            cell(cpu.map(|(ours, theirs)| ours / theirs)),
            cell(lowest(|latency| latency.p999)),
            cell(lowest(|latency| latency.max)),
        ]);
    }
    table.to_string()
}
