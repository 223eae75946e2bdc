//! How the workers' seconds come together: a row of figures for each second, and totals.
//!
//! A second is whole when every worker has handed it over; workers hand over theirs in order, so rows come in order.

use super::recorder::{KindSlice, LIMITS, Slice, histogram};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of all kinds together.
pub const ALL: &str = "all";

/// The figures of one kind of request, in a second or in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that ended, or were given up.
    pub count: u64,
    /// Found no record.
    pub missed: u64,
    /// Refused, failed, or answered with a wrong value.
    pub failed: u64,
    /// Had no answer when the run was over.
    pub unanswered: u64,
    /// Latencies, in microseconds.
    pub mean_us: f64,
    #[allow(missing_docs)]
    pub min_us: f64,
    #[allow(missing_docs)]
    pub p50_us: f64,
    #[allow(missing_docs)]
    pub p90_us: f64,
    #[allow(missing_docs)]
    pub p99_us: f64,
    #[allow(missing_docs)]
    pub p999_us: f64,
    #[allow(missing_docs)]
    pub p9999_us: f64,
    #[allow(missing_docs)]
    pub max_us: f64,
    /// How many took longer than 1, 2, 4 ... 64 ms, exactly.
    pub over_ms: [u64; LIMITS],
}

/// A second in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which, from 0, by intended start.
    pub second: u64,
    /// By kind; those that had requests, and all together.
    pub kinds: BTreeMap<String, Figures>,
    /// Due, and never sent.
    pub unsent: u64,
    /// Of those, how many were overdue by more than 1, 2, 4 ... 64 ms.
    pub unsent_over_ms: [u64; LIMITS],
    /// How much later than intended requests were sent, at the 99th percentile, in microseconds; open loop only.
    pub lag_p99_us: Option<f64>,
}

/// A histogram's percentile in microseconds.
pub fn us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

impl Figures {
    /// Of a kind's requests.
    pub fn of(slice: &KindSlice) -> Figures {
        let latency = &slice.latency;
        Figures {
            count: latency.len(),
            missed: slice.missed,
            failed: slice.failed,
            unanswered: slice.unanswered,
            mean_us: latency.mean() / 1e3,
            min_us: latency.min() as f64 / 1e3,
            p50_us: us(latency, 0.5),
            p90_us: us(latency, 0.9),
            p99_us: us(latency, 0.99),
            p999_us: us(latency, 0.999),
            p9999_us: us(latency, 0.9999),
            max_us: latency.max() as f64 / 1e3,
            over_ms: slice.over,
        }
    }
}

/// The seconds of a load.
pub struct Series {
    names: Vec<&'static str>,
    workers: usize,
    /// Seconds that not all workers have handed over, and how many have.
    partial: BTreeMap<u64, (usize, Slice)>,
    /// The rows so far.
    pub rows: Vec<Row>,
    /// By kind, over all seconds.
    pub totals: Vec<KindSlice>,
    /// Over all seconds and kinds.
    pub all: KindSlice,
    /// How much later than intended requests were sent, in nanoseconds. Empty in a closed loop.
    pub lag: Histogram<u64>,
    /// The part of it for which a slot was free.
    pub own_lag: Histogram<u64>,
    /// Due, and never sent.
    pub unsent: u64,
}

impl Series {
    /// For workers whose requests are of these kinds.
    pub fn new(names: &[&'static str], workers: usize) -> Series {
        Series {
            names: names.to_vec(),
            workers,
            partial: BTreeMap::new(),
            rows: Vec::new(),
            totals: vec![KindSlice::empty(); names.len()],
            all: KindSlice::empty(),
            lag: histogram(),
            own_lag: histogram(),
            unsent: 0,
        }
    }

    /// Takes a worker's second in. If that makes it whole, `see` gets it with its row.
    pub fn take(&mut self, slice: Slice, see: &mut dyn FnMut(&Row, &Slice)) {
        let second = slice.second;
        let (count, merged) =
            self.partial.entry(second).or_insert_with(|| (0, Slice::empty(second, self.names.len())));
        merged.add(slice);
        *count += 1;
        if *count == self.workers {
            self.settle(second, see);
        }
    }

    /// What not all workers have handed over, because they have ended.
    pub fn finish(&mut self, see: &mut dyn FnMut(&Row, &Slice)) {
        while let Some((&second, _)) = self.partial.first_key_value() {
            self.settle(second, see);
        }
    }

    fn settle(&mut self, second: u64, see: &mut dyn FnMut(&Row, &Slice)) {
        let Some((_, slice)) = self.partial.remove(&second) else { return };
        let mut row = Row {
            second,
            kinds: BTreeMap::new(),
            unsent: slice.unsent,
            unsent_over_ms: slice.unsent_over,
            lag_p99_us: slice.lag.as_ref().map(|lag| us(lag, 0.99)),
        };
        let mut all = KindSlice::empty();
        for ((name, total), kind) in self.names.iter().zip(&mut self.totals).zip(&slice.kinds) {
            let Some(kind) = kind else { continue };
            row.kinds.insert((*name).to_owned(), Figures::of(kind));
            total.add(kind);
            all.add(kind);
        }
        row.kinds.insert(ALL.to_owned(), Figures::of(&all));
        self.all.add(&all);
        for (all, lag) in [(&mut self.lag, &slice.lag), (&mut self.own_lag, &slice.own_lag)] {
            if let Some(lag) = lag {
                all.add(&**lag).expect("histograms of one kind");
            }
        }
        self.unsent += slice.unsent;
        see(&row, &slice);
        self.rows.push(row);
    }

    /// Kinds that had requests, with their totals.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &KindSlice)> {
        self.names.iter().copied().zip(&self.totals).filter(|(_, total)| !total.latency.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::recorder::{Ended, Recorder};

    #[test]
    fn a_second_is_whole_when_every_worker_has_handed_it_over() {
        let mut series = Series::new(&["read", "update"], 2);
        let mut workers = [Recorder::new(2), Recorder::new(2)];
        workers[0].record(0, 0, 2_000_000, Ended::Well);
        workers[1].record(0, 1, 4_000_001, Ended::Failed);
        workers[1].unsent(1, 9_000_000);
        let mut seen = Vec::new();
        let mut see = |row: &Row, _: &Slice| seen.push(row.clone());
        workers[0].close_before(2, |slice| series.take(slice, &mut see));
        assert_eq!(series.rows.len(), 0);
        workers[1].close_before(2, |slice| series.take(slice, &mut see));
        assert_eq!(seen, series.rows);
        assert_eq!(seen.len(), 2);
        let all = &seen[0].kinds[ALL];
        assert_eq!((all.count, all.failed, all.over_ms), (2, 1, [2, 1, 1, 0, 0, 0, 0]));
        assert_eq!((seen[1].unsent, seen[1].unsent_over_ms), (1, [1, 1, 1, 1, 0, 0, 0]));
        assert_eq!((series.all.latency.len(), series.unsent), (2, 1));
        assert_eq!(series.kinds().map(|(name, _)| name).collect::<Vec<_>>(), ["read", "update"]);
    }
}
