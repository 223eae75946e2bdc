//! What comes of a run: everything that the outputs tell, and that `--compare` reads back.

use crate::load::recorder::KindSlice;
use crate::load::series::{Figures, Row, Series, us};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts up when the JSON changes so that older readers would misread it.
pub const FORMAT: u32 = 1;

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// See `FORMAT`.
    pub format: u32,
    /// `aerolith bench`, with its version.
    pub tool: String,
    /// What the person calls it.
    pub title: String,
    /// When it began, UTC.
    pub began: String,
    /// What was under load.
    pub target: String,
    /// What decides what the figures mean.
    pub options: BTreeMap<String, String>,
    /// How long requests were recorded, in seconds.
    pub seconds: f64,
    /// The load phase, if there was one.
    pub load: Option<Loaded>,
    /// By operation, and `all` of them together.
    pub operations: BTreeMap<String, Operation>,
    /// What came back wrong.
    pub check: Checked,
    /// Open loop only: how much later than intended requests were sent.
    pub lag: Option<Lag>,
    /// Processor time.
    pub cpu: Cpu,
    /// Second by second, by intended start.
    pub rows: Vec<Row>,
    /// What a reader must know to read the figures rightly.
    pub notes: Vec<String>,
    /// Messages with how often they came; five different ones at the most.
    pub messages: BTreeMap<String, u64>,
    /// Why it ended before its time.
    pub broke_off: Option<String>,
}

/// The load phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Loaded {
    pub records: u64,
    pub seconds: f64,
}

/// An operation over the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// A second.
    pub per_second: f64,
    /// The rest of its figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Latencies in nanoseconds: an HdrHistogram, V2 with deflate, in base64.
    pub histogram: String,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Values that were verified and right.
    pub verified: u64,
    /// Wrong, stale, or missing although it must be there.
    pub wrong: u64,
    /// Records that scans returned.
    pub scanned: u64,
}

/// How late requests were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Lag {
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// The part of it for which there was room in flight: this program's own lateness.
    pub own_p99_us: f64,
    pub own_max_us: f64,
    /// Due, and not sent before the run was over.
    pub unsent: u64,
}

/// Processor time of the recorded part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// Over how long it was measured, in seconds.
    pub seconds: f64,
    /// Of this process, in seconds; with --engine that is load and engine together.
    pub bench_s: f64,
    /// Of the server, in seconds, if its process is known.
    pub server_s: Option<f64>,
    /// Resident memory of the server at the end, in bytes.
    pub server_memory: Option<u64>,
}

/// Histograms by operation, for outputs that want more than figures.
pub type Histograms = Vec<(String, Histogram<u64>)>;

impl Operation {
    fn of(slice: &KindSlice, seconds: f64) -> Operation {
        let mut bytes = Vec::new();
        // It is written into memory.
        V2DeflateSerializer::new().serialize(&slice.latency, &mut bytes).expect("a histogram can be written");
        Operation {
            per_second: if seconds > 0.0 { slice.latency.len() as f64 / seconds } else { 0.0 },
            figures: Figures::of(slice),
            histogram: STANDARD.encode(bytes),
        }
    }

    /// The histogram that was written.
    #[cfg(test)]
    pub fn read_histogram(&self) -> Option<Histogram<u64>> {
        let bytes = STANDARD.decode(&self.histogram).ok()?;
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).ok()
    }
}

/// The operations of a series, and its histograms.
pub fn operations(series: &Series, seconds: f64) -> (BTreeMap<String, Operation>, Histograms) {
    let all = (crate::load::series::ALL, &series.all);
    let mut operations = BTreeMap::new();
    let mut histograms = Vec::new();
    for (name, slice) in series.kinds().chain([all]) {
        operations.insert(name.to_owned(), Operation::of(slice, seconds));
        histograms.push((name.to_owned(), slice.latency.clone()));
    }
    (operations, histograms)
}

/// The lag of a series; only an open loop has one.
pub fn lag(series: &Series) -> Lag {
    let (lag, own) = (&series.lag, &series.own_lag);
    let max = |lag: &Histogram<u64>| lag.max() as f64 / 1e3;
    Lag {
        p50_us: us(lag, 0.5),
        p99_us: us(lag, 0.99),
        max_us: max(lag),
        own_p99_us: us(own, 0.99),
        own_max_us: max(own),
        unsent: series.unsent,
    }
}

impl Cpu {
    /// Processor time for each of so many requests a second, in microseconds.
    pub fn us_per_request(&self, cpu_s: f64, per_second: f64) -> Option<f64> {
        (self.seconds > 0.0 && per_second > 0.0).then(|| cpu_s / self.seconds / per_second * 1e6)
    }
}

impl Report {
    /// Whether all requests were answered, and rightly.
    pub fn is_clean(&self) -> bool {
        let troubled = |operation: &Operation| operation.figures.failed + operation.figures.unanswered > 0;
        self.check.wrong == 0
            && self.broke_off.is_none()
            && self.lag.as_ref().is_none_or(|lag| lag.unsent == 0)
            && !self.operations.values().any(troubled)
    }

    /// Operations in the order that tables have: each by name, then all together.
    pub fn in_order(&self) -> impl Iterator<Item = (&str, &Operation)> {
        let all = crate::load::series::ALL;
        let own = self.operations.iter().filter(move |(name, _)| *name != all);
        own.chain(self.operations.get_key_value(all)).map(|(name, operation)| (name.as_str(), operation))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::recorder::{Ended, Recorder};

    /// A report of a thousand reads a second and some updates, each taking so many times its usual latency.
    pub fn sample(slower: u64) -> Report {
        let mut recorder = Recorder::new(2);
        for second in 0..10 {
            for i in 0..1000 {
                recorder.record(second, 0, (100_000 + i * 100) * slower, Ended::Well);
            }
            recorder.record(second, 1, 5_000_000 * slower, Ended::Well);
            recorder.lag(second, 2000, true);
        }
        let mut series = Series::new(&["read", "update"], 1);
        recorder.close_before(10, |slice| series.take(slice, &mut |_, _| {}));
        let (operations, _) = operations(&series, 10.0);
        Report {
            format: FORMAT,
            tool: "aerolith bench".into(),
            title: "a sample".into(),
            began: "2026-01-01T00:00:00Z".into(),
            target: "redis 127.0.0.1:1".into(),
            options: [("loop", "open"), ("rate", "1001")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            seconds: 10.0,
            load: Some(Loaded { records: 1000, seconds: 0.5 }),
            operations,
            check: Checked { verified: 10_000, wrong: 0, scanned: 0 },
            lag: Some(lag(&series)),
            cpu: Cpu { seconds: 10.0, bench_s: 0.5, server_s: Some(2.0), server_memory: Some(50 << 20) },
            rows: series.rows,
            notes: vec!["a note".into()],
            messages: BTreeMap::new(),
            broke_off: None,
        }
    }

    #[test]
    fn a_report_survives_json_and_its_histograms_are_whole() {
        let report = sample(1);
        let json = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read, report);
        let histogram = read.operations["read"].read_histogram().unwrap();
        assert_eq!(histogram.len(), 10_000);
        assert!(histogram.max() >= 199_000 && histogram.min() <= 100_100);
        assert_eq!(report.in_order().map(|(name, _)| name).collect::<Vec<_>>(), ["read", "update", "all"]);
    }

    #[test]
    fn whatever_went_wrong_makes_it_unclean() {
        assert!(sample(1).is_clean());
        let spoilt: [fn(&mut Report); 5] = [
            |report| report.check.wrong = 1,
            |report| report.broke_off = Some("gone".into()),
            |report| report.lag.as_mut().unwrap().unsent = 1,
            |report| report.operations.get_mut("read").unwrap().figures.failed = 1,
            |report| report.operations.get_mut("all").unwrap().figures.unanswered = 1,
        ];
        for spoil in spoilt {
            let mut report = sample(1);
            spoil(&mut report);
            assert!(!report.is_clean());
        }
    }
}
