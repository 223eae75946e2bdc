//! What comes of a certification: trials with their slices, as JSON and as text.

use super::criteria::{CRITERIA, verdict};
use super::flags::{Certify, Mode, Plan};
use super::medium::Medium;
use super::trial::Length;
use crate::load::recorder::LIMITS;
use crate::load::series::{ALL, Figures, Row, Series, us};
use crate::page::{number, time};
use crate::table::table;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Counts up when the JSON changes so that older readers would misread it.
const FORMAT: u32 = 1;

/// One kind of request in one slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Requests.
    pub count: u64,
    /// That failed.
    pub failed: u64,
    /// That had no answer.
    pub unanswered: u64,
    /// How many took longer than 1, 2, 4 ... 64 ms, exactly.
    pub over_ms: [u64; LIMITS],
    /// The longest, in microseconds.
    pub max_us: f64,
}

impl Counts {
    /// How many took longer than 2^`exponent` milliseconds, in percent.
    pub fn share_pct(&self, exponent: usize) -> f64 {
        if self.count == 0 { 0.0 } else { self.over_ms[exponent] as f64 / self.count as f64 * 100.0 }
    }
}

/// A slice of time, by intended starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Slice {
    /// Which, from 0.
    pub slice: u64,
    /// By kind of request.
    pub kinds: BTreeMap<String, Counts>,
    /// Due, and never sent.
    pub unsent: u64,
}

/// One multiple, run.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Of the nominal load.
    pub multiple: u64,
    /// Seconds that were recorded.
    pub seconds: u64,
    /// Seconds of a slice.
    pub slice_seconds: u64,
    /// Whether all criteria were met in every slice.
    pub passed: bool,
    /// Why not.
    pub why: Vec<String>,
    /// The slices.
    pub slices: Vec<Slice>,
    /// By kind of request, over the whole trial.
    pub totals: BTreeMap<String, Figures>,
    /// How much later than intended requests were sent, at the 99th percentile and at most, in microseconds.
    pub lag_us: (f64, f64),
    /// The part of it for which there was room in flight: this program's own lateness.
    pub own_lag_us: (f64, f64),
    /// What the criteria hold for.
    pub judged: Vec<String>,
    /// Second by second; none of a trial longer than two hours.
    pub rows: Vec<Row>,
}

/// Own lateness above this spoils a verdict that begins at a millisecond, in microseconds.
const LATE_US: f64 = 200.0;
/// The seconds of longer trials are not kept, in seconds: a day of them would be 100 MB of JSON.
const MOST_ROWS: u64 = 7200;

/// A certification.
#[derive(Debug, Serialize)]
pub struct Report {
    /// See `FORMAT`.
    pub format: u32,
    /// `aerolith certify`, with its version.
    pub tool: String,
    /// When it began, UTC.
    pub began: String,
    /// What was certified.
    pub device: String,
    /// Bytes of it that were used.
    pub size: u64,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Whether transfers went past the page cache.
    pub direct: bool,
    /// What decides what the figures mean.
    pub options: BTreeMap<String, String>,
    /// What a reader must know to read the figures rightly.
    pub notes: Vec<String>,
    /// In the order that they were run.
    pub trials: Vec<Trial>,
    /// The multiple that passed for the whole duration; `None`: none did.
    pub certified: Option<u64>,
}

/// What a person sees each second.
pub fn live_line(multiple: u64, row: &Row, judged: &[&str]) -> String {
    let mut line = format!("{multiple:>5}x {:>5} s", row.second + 1);
    for (name, figures) in row.kinds.iter().filter(|(name, _)| *name != ALL) {
        let _ = write!(line, "  {name} {}/s", number(figures.count as f64));
        if judged.contains(&name.as_str()) && figures.count > 0 {
            let over = |exponent: usize| figures.over_ms[exponent] as f64 / figures.count as f64 * 100.0;
            let _ = write!(line, " ({:.2} {:.2} {:.2} % over 1 8 64 ms)", over(0), over(3), over(6));
        }
        let _ = write!(line, " max {}", time(figures.max_us));
    }
    if row.unsent > 0 {
        let _ = write!(line, "  UNSENT {}", row.unsent);
    }
    line
}

fn slices(rows: &[Row], length: Length) -> Vec<Slice> {
    let mut slices: Vec<Slice> =
        (0..length.duration_s / length.slice_s).map(|slice| Slice { slice, ..Slice::default() }).collect();
    for row in rows {
        let Some(slice) = slices.get_mut((row.second / length.slice_s) as usize) else { continue };
        slice.unsent += row.unsent;
        for (name, figures) in row.kinds.iter().filter(|(name, _)| *name != ALL) {
            let counts = slice.kinds.entry(name.clone()).or_default();
            counts.count += figures.count;
            counts.failed += figures.failed;
            counts.unanswered += figures.unanswered;
            counts.max_us = counts.max_us.max(figures.max_us);
            counts.over_ms.iter_mut().zip(figures.over_ms).for_each(|(own, more)| *own += more);
        }
    }
    slices
}

impl Trial {
    /// Judges what was seen. `failed` are messages of requests that failed.
    pub fn new(multiple: u64, length: Length, series: Series, failed: Vec<String>, judged: &[&str]) -> Trial {
        let slices = slices(&series.rows, length);
        let mut why = verdict(&slices, judged);
        why.extend(failed);
        let lag = |lag: &Histogram<u64>| (us(lag, 0.99), lag.max() as f64 / 1e3);
        let totals = series.kinds().map(|(name, kind)| (name.to_owned(), Figures::of(kind))).collect();
        Trial {
            multiple,
            seconds: length.duration_s,
            slice_seconds: length.slice_s,
            passed: why.is_empty(),
            why,
            slices,
            totals,
            lag_us: lag(&series.lag),
            own_lag_us: lag(&series.own_lag),
            judged: judged.iter().map(|&name| name.to_owned()).collect(),
            rows: if length.duration_s > MOST_ROWS { Vec::new() } else { series.rows },
        }
    }

    /// How late requests were sent, and what that means for the verdict.
    pub fn lag(&self) -> String {
        let ((p99, max), (own_p99, own_max)) = (self.lag_us, self.own_lag_us);
        let mut text = format!("schedule lag p99 {}, max {}", time(p99), time(max));
        if own_p99 > LATE_US {
            text.push_str(&format!(
                "; of it p99 {}, max {} are this program's own: the machine was too busy to send in time. It counts as \
                 latency: before you blame the device, repeat it on an idle machine",
                time(own_p99),
                time(own_max)
            ));
        }
        text
    }

    /// Multiple and verdict.
    pub fn headline(&self) -> String {
        let verdict = if self.passed { "PASSED" } else { "FAILED" };
        format!("{}x for {} s in slices of {} s: {verdict}", self.multiple, self.seconds, self.slice_seconds)
    }

    /// The shares over each limit, slice by slice, and the worst of each.
    pub fn shares(&self, kind: &str) -> Vec<Vec<String>> {
        let empty = Counts::default();
        let of = |slice: &Slice| slice.kinds.get(kind).cloned().unwrap_or_else(|| empty.clone());
        let row = |name: String, shares: [f64; LIMITS], count: String, max_us: f64| {
            let mut row = vec![name];
            row.extend(shares.map(|share| format!("{share:.2}")));
            row.extend([count, time(max_us)]);
            row
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        let (mut worst, mut longest) = ([0_f64; LIMITS], 0_f64);
        for slice in &self.slices {
            let counts = of(slice);
            let shares = std::array::from_fn(|at| counts.share_pct(at));
            worst = std::array::from_fn(|at| worst[at].max(shares[at]));
            longest = longest.max(counts.max_us);
            rows.push(row((slice.slice + 1).to_string(), shares, number(counts.count as f64), counts.max_us));
        }
        rows.push(row("max".into(), worst, String::new(), longest));
        rows
    }

    /// Figures of each kind over the whole trial.
    pub fn figures(&self) -> Vec<Vec<String>> {
        let row = |(name, figures): (&String, &Figures)| {
            let per_second = figures.count as f64 / self.seconds as f64;
            let mut row = vec![name.clone(), number(figures.count as f64), number(per_second)];
            row.extend(
                [figures.mean_us, figures.p50_us, figures.p99_us, figures.p999_us, figures.max_us].map(time),
            );
            row
        };
        self.totals.iter().map(row).collect()
    }
}

/// The columns of the shares.
pub const SHARE_COLUMNS: [&str; 10] = ["slice", "1", "2", "4", "8", "16", "32", "64", "requests", "longest"];
/// The columns of the figures.
pub const FIGURE_COLUMNS: [&str; 8] = ["request", "count", "a second", "mean", "p50", "p99", "p99.9", "max"];

impl Report {
    /// Before any trial.
    pub fn new(certify: &Certify, plan: &Plan, medium: &Medium) -> Report {
        let mut notes = Vec::new();
        if !medium.direct {
            notes.push(
                "no direct I/O here: these are the page cache's latencies, not the device's; use another file system or a raw \
                 device"
                    .into(),
            );
        }
        if plan.duration_s < 24 * 3600 {
            notes.push(format!(
                "a first look of {} s: drives often pass for hours and fail then; ACT's certification is 24h in slices of 1h",
                plan.duration_s
            ));
        }
        if certify.condition == super::flags::Condition::None && plan.mode == Mode::Device {
            notes.push(
                "the device was not written full first: reads of what was never written cost a drive nothing"
                    .into(),
            );
        }
        Report {
            format: FORMAT,
            tool: format!("aerolith certify {}", env!("CARGO_PKG_VERSION")),
            began: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            device: medium.path.display().to_string(),
            size: medium.size,
            sector_size: medium.sector_size,
            direct: medium.direct,
            options: certify.told(plan).into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            notes,
            trials: Vec::new(),
            certified: None,
        }
    }

    /// The verdict as a sentence.
    pub fn headline(&self) -> String {
        match self.certified {
            Some(multiple) => format!("{}: passed {multiple}x", self.device),
            None => format!("{}: DID NOT PASS", self.device),
        }
    }

    /// The criteria as a sentence.
    pub fn criteria() -> String {
        let each = CRITERIA.map(|criterion| {
            format!("{} % over {} ms", criterion.permille as f64 / 10.0, 1 << criterion.exponent)
        });
        format!("criteria: in every slice less than {}", each.join(", "))
    }

    /// For the terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail: the results are let go.
        let _ = writeln!(
            out,
            "{}, {} bytes, sectors of {}, {} I/O, began {}",
            self.device,
            self.size,
            self.sector_size,
            if self.direct { "direct" } else { "cached" },
            self.began
        );
        let options: Vec<String> =
            self.options.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let _ = writeln!(out, "{}\n{}", options.join(", "), Self::criteria());
        self.notes.iter().for_each(|note| {
            let _ = writeln!(out, "note: {note}");
        });
        for trial in &self.trials {
            let _ = writeln!(out, "\n{}", trial.headline());
            trial.why.iter().for_each(|why| {
                let _ = writeln!(out, "  {why}");
            });
            for kind in &trial.judged {
                let _ = writeln!(out, "{kind}s, % that took longer than so many ms:");
                let _ = write!(out, "{}", table(&SHARE_COLUMNS, &trial.shares(kind)));
            }
            let _ = write!(out, "{}", table(&FIGURE_COLUMNS, &trial.figures()));
            let _ = writeln!(out, "{}", trial.lag());
        }
        let _ = writeln!(out, "\n{}", self.headline());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::recorder::{Ended, Recorder};

    #[test]
    fn seconds_become_slices_and_a_bad_slice_fails_the_trial() {
        let mut recorder = Recorder::new(2);
        for second in 0..6 {
            for i in 0..100 {
                // In the fourth second a tenth takes 2 ms.
                let slow = second == 3 && i < 10;
                recorder.record(second, 0, if slow { 2_000_000 } else { 100_000 }, Ended::Well);
            }
            recorder.record(second, 1, 90_000_000, Ended::Well);
        }
        let mut series = Series::new(&["read", "large write"], 1);
        recorder.close_before(6, |slice| series.take(slice, &mut |_, _| {}));
        let trial = Trial::new(4, Length { duration_s: 6, slice_s: 2 }, series, Vec::new(), &["read"]);
        assert_eq!(trial.slices.iter().map(|slice| slice.kinds["read"].count).collect::<Vec<_>>(), [200; 3]);
        assert_eq!(trial.slices[1].kinds["read"].over_ms[0], 10);
        assert!(!trial.passed);
        assert_eq!(trial.why, ["slice 2: 5.00 % of reads took longer than 1 ms, less than 5 % may"]);
        let rows = trial.shares("read");
        assert_eq!((rows.len(), rows[1][1].as_str(), rows[3][1].as_str()), (4, "5.00", "5.00"));
        assert!(trial.headline().contains("4x for 6 s in slices of 2 s: FAILED"));
    }
}
