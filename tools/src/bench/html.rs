//! A run as a page for the browser.

use super::report::{Histograms, Report};
use super::text::{COLUMNS, facts, faults, rows};
use crate::load::series::{ALL, Figures};
use crate::page::chart::{Chart, Keep, Line, Scale};
use crate::page::{Page, Tone, number, time};
use hdrhistogram::Histogram;

/// Percentile steps in each half of the distance to 100 %.
const STEPS: u32 = 8;
/// Rows of the table of seconds at the most; more are in the CSV.
const MOST_ROWS: usize = 600;

/// The page.
pub fn render(report: &Report, histograms: &Histograms) -> String {
    let title =
        if report.title.is_empty() { format!("Load of {}", report.target) } else { report.title.clone() };
    let mut page = Page::new(&title);
    if report.is_clean() {
        page.text(Tone::Good, "All requests were answered, and rightly.");
    }
    faults(report).iter().for_each(|fault| page.text(Tone::Bad, fault));
    let facts = facts(report);
    page.facts(facts.iter().map(|(name, value)| (*name, value.as_str())));
    report.notes.iter().for_each(|note| page.text(Tone::Plain, note));
    page.heading("Operations");
    page.table(&COLUMNS, &rows(report));
    page.heading("Over time");
    page.chart(&throughput(report));
    page.chart(&latency(report));
    if report.lag.is_some() {
        let mut chart =
            empty("How much later than intended requests were sent (p99)", "microseconds", Scale::Log);
        let points = report.rows.iter().filter_map(|row| Some((row.second as f64, row.lag_p99_us?)));
        chart.lines =
            vec![Line { name: "schedule lag p99".into(), points: points.collect(), keep: Keep::Max }];
        page.chart(&chart);
    }
    page.heading("Distribution");
    page.chart(&distribution(histograms));
    page.heading("Every second");
    let head = ["second", "requests", "failed", "missed", "p50", "p99", "p99.9", "max"];
    let all = report.rows.iter().filter_map(|row| Some((row.second, row.kinds.get(ALL)?)));
    let seconds: Vec<Vec<String>> = all
        .take(MOST_ROWS)
        .map(|(second, f)| {
            let counts = [f.count, f.failed + f.unanswered, f.missed].map(|count| number(count as f64));
            let times = [f.p50_us, f.p99_us, f.p999_us, f.max_us].map(time);
            [vec![second.to_string()], counts.to_vec(), times.to_vec()].concat()
        })
        .collect();
    let summary = match report.rows.len() {
        count if count > MOST_ROWS => format!("the first {MOST_ROWS} of {count} seconds; --csv has all"),
        count => format!("{count} seconds, by intended start"),
    };
    page.folded(&summary, &head, &seconds);
    page.heading("Options");
    page.facts(report.options.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    page.text(Tone::Plain, &report.tool);
    page.finish()
}

fn empty(title: &str, y_label: &str, y: Scale) -> Chart {
    Chart {
        title: title.into(),
        x_label: "seconds, by intended start".into(),
        y_label: y_label.into(),
        x: Scale::Linear,
        y,
        x_ticks: None,
        lines: Vec::new(),
        marks: Vec::new(),
    }
}

fn throughput(report: &Report) -> Chart {
    let mut chart = empty("Requests a second", "requests", Scale::Linear);
    let several = report.operations.len() > 2;
    for (name, _) in report.in_order().filter(|(name, _)| several || *name != ALL) {
        let points = report
            .rows
            .iter()
            .map(|row| (row.second as f64, row.kinds.get(name).map_or(0.0, |figures| figures.count as f64)));
        chart.lines.push(Line { name: name.to_owned(), points: points.collect(), keep: Keep::Mean });
    }
    if let Some(rate) = report.options.get("rate").and_then(|rate| rate.parse().ok()) {
        chart.marks.push((rate, "asked for".into()));
    }
    chart
}

fn latency(report: &Report) -> Chart {
    let mut chart = empty("Latency of all operations", "microseconds", Scale::Log);
    type Value = fn(&Figures) -> f64;
    let lines: [(&str, Value); 4] =
        [("p50", |f| f.p50_us), ("p99", |f| f.p99_us), ("p99.9", |f| f.p999_us), ("max", |f| f.max_us)];
    for (name, value) in lines {
        let points = report.rows.iter().filter_map(|row| {
            let figures = row.kinds.get(ALL).filter(|figures| figures.count > 0)?;
            Some((row.second as f64, value(figures)))
        });
        chart.lines.push(Line { name: name.into(), points: points.collect(), keep: Keep::Max });
    }
    chart
}

fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let step = |quantile: f64, value: u64| (1.0 / (1.0 - quantile), value as f64 / 1e3);
    let steps = histogram.iter_quantiles(STEPS);
    steps
        .filter(|s| s.quantile_iterated_to() < 1.0)
        .map(|s| step(s.quantile_iterated_to(), s.value_iterated_to()))
        .collect()
}

/// Latency by percentile, the last nines drawn out.
fn distribution(histograms: &Histograms) -> Chart {
    let nines = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let ticks = nines.iter().enumerate().map(|(power, name)| (10_f64.powi(power as i32), (*name).to_owned()));
    // In the order of the other charts, so that colours agree.
    let mut histograms: Vec<_> = histograms.iter().collect();
    histograms.sort_by_key(|(name, _)| (name == ALL, name.clone()));
    let lines: Vec<Line> = histograms
        .iter()
        .filter(|(name, _)| histograms.len() > 2 || *name != ALL)
        .map(|(name, histogram)| Line { name: name.clone(), points: percentiles(histogram), keep: Keep::Max })
        .collect();
    let last = lines.iter().flat_map(|line| &line.points).map(|(x, _)| *x).fold(1.0, f64::max);
    Chart {
        x: Scale::Log,
        x_label: "percentile".into(),
        x_ticks: Some(ticks.filter(|(at, _)| *at <= last * 10.0).collect()),
        lines,
        ..empty("Latency by percentile", "microseconds", Scale::Log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn the_page_has_the_figures_and_a_chart_of_each_sort() {
        let report = sample(1);
        let histograms: Histograms =
            report.operations.iter().map(|(name, op)| (name.clone(), op.read_histogram().unwrap())).collect();
        let page = render(&report, &histograms);
        for row in rows(&report) {
            for cell in row {
                assert!(page.contains(&format!("<td>{cell}</td>")), "{cell}");
            }
        }
        assert_eq!(page.matches("<svg").count(), 4, "throughput, latency, lag, distribution");
        assert!(
            page.contains("99.9 %")
                && page.contains("asked for")
                && page.contains("All requests were answered")
        );
        let mut bad = sample(1);
        bad.check.wrong = 1;
        let page = render(&bad, &histograms);
        assert!(page.contains("class=\"bad\"") && !page.contains("class=\"good\""));
    }
}
