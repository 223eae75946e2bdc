//! A certification as a page for the browser.

use super::criteria::CRITERIA;
use super::report::{FIGURE_COLUMNS, Report, SHARE_COLUMNS, Trial};
use crate::load::series::Figures;
use crate::page::chart::{Chart, Keep, Line, Scale};
use crate::page::{Page, Tone};

/// The page.
pub fn render(report: &Report) -> String {
    let mut page = Page::new(&report.headline());
    page.text(if report.certified.is_some() { Tone::Good } else { Tone::Bad }, &report.headline());
    page.text(Tone::Plain, &Report::criteria());
    report.notes.iter().for_each(|note| page.text(Tone::Plain, note));
    let size = format!("{} bytes, sectors of {}", report.size, report.sector_size);
    let facts =
        [("device", report.device.as_str()), ("used", size.as_str()), ("began", report.began.as_str())];
    page.facts(
        facts.into_iter().chain(report.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
    );
    for trial in &report.trials {
        page.heading(&format!("{}x", trial.multiple));
        page.text(if trial.passed { Tone::Good } else { Tone::Bad }, &trial.headline());
        trial.why.iter().for_each(|why| page.text(Tone::Bad, why));
        for kind in &trial.judged {
            page.text(Tone::Plain, &format!("{kind}s, % that took longer than so many ms"));
            page.chart(&shares(trial, kind));
            page.table(&SHARE_COLUMNS, &trial.shares(kind));
        }
        page.table(&FIGURE_COLUMNS, &trial.figures());
        page.text(Tone::Plain, &trial.lag());
        for kind in trial.totals.keys() {
            page.chart(&latency(trial, kind));
        }
        page.chart(&throughput(trial));
    }
    page.text(Tone::Plain, &report.tool);
    page.finish()
}

fn empty(title: String, y_label: &str, y: Scale) -> Chart {
    Chart {
        title,
        x_label: "seconds, by intended start".into(),
        y_label: y_label.into(),
        x: Scale::Linear,
        y,
        x_ticks: None,
        lines: Vec::new(),
        marks: Vec::new(),
    }
}

/// How many took too long, slice by slice, and how many may.
fn shares(trial: &Trial, kind: &str) -> Chart {
    let mut chart = empty(format!("Share of {kind}s over the limits"), "percent", Scale::Linear);
    chart.x_label = "slices".into();
    for criterion in &CRITERIA {
        let points = trial.slices.iter().filter_map(|slice| {
            Some((slice.slice as f64 + 1.0, slice.kinds.get(kind)?.share_pct(criterion.exponent)))
        });
        let name = format!("over {} ms", 1 << criterion.exponent);
        chart.lines.push(Line { name, points: points.collect(), keep: Keep::Max });
        let most = criterion.permille as f64 / 10.0;
        chart.marks.push((most, format!("{most} % over {} ms", 1 << criterion.exponent)));
    }
    chart
}

fn latency(trial: &Trial, kind: &str) -> Chart {
    type Value = fn(&Figures) -> f64;
    let lines: [(&str, Value); 4] =
        [("p50", |f| f.p50_us), ("p99", |f| f.p99_us), ("p99.9", |f| f.p999_us), ("max", |f| f.max_us)];
    let mut chart = empty(format!("Latency of {kind}s"), "microseconds", Scale::Log);
    for (name, value) in lines {
        let rows = trial.rows.iter().filter_map(|row| Some((row.second as f64, value(row.kinds.get(kind)?))));
        chart.lines.push(Line { name: name.into(), points: rows.collect(), keep: Keep::Max });
    }
    if trial.judged.iter().any(|judged| judged == kind) {
        chart.marks = [1, 8, 64].map(|ms| (f64::from(ms) * 1e3, format!("{ms} ms"))).into();
    }
    chart
}

fn throughput(trial: &Trial) -> Chart {
    let mut chart = empty("Requests a second".into(), "requests", Scale::Linear);
    for kind in trial.totals.keys() {
        let rows =
            trial.rows.iter().filter_map(|row| Some((row.second as f64, row.kinds.get(kind)?.count as f64)));
        chart.lines.push(Line { name: kind.clone(), points: rows.collect(), keep: Keep::Mean });
    }
    chart
}
