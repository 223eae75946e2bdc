//! The files that a run writes: JSON, CSV, percentile distributions, an interval log, the page.
//!
//! All are created before the run, so that one that cannot be written is told at once; CSV and the log grow with it.

use super::flags::Bench;
use super::html;
use super::report::{Histograms, Report};
use crate::load::LoadError;
use crate::load::mix::Operation;
use crate::load::recorder::Slice;
use crate::load::series::{Figures, Row};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Percentile steps in each half of the distance to 100 %, as HdrHistogram's own output has them.
const STEPS: u32 = 5;

struct Out {
    path: PathBuf,
    file: BufWriter<File>,
}

/// The files of a run.
pub struct Files {
    json: Option<Out>,
    csv: Option<Out>,
    hlog: Option<Out>,
    html: Option<Out>,
    hgrm: Option<String>,
}

fn wrong(path: &Path, error: &std::io::Error) -> LoadError {
    LoadError(format!("{}: {error}; give another place for this output", path.display()))
}

impl Out {
    fn create(path: &Path) -> Result<Out, LoadError> {
        let file = File::create(path).map_err(|error| wrong(path, &error))?;
        Ok(Out { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn write(&mut self, text: &str) -> Result<(), LoadError> {
        self.file.write_all(text.as_bytes()).map_err(|error| wrong(&self.path, &error))
    }

    fn finish(mut self, text: &str) -> Result<(), LoadError> {
        self.write(text)?;
        self.file.flush().map_err(|error| wrong(&self.path, &error))
    }
}

impl Files {
    /// Creates them.
    pub fn create(bench: &Bench) -> Result<Files, LoadError> {
        let create = |path: &Option<PathBuf>| path.as_deref().map(Out::create).transpose();
        let mut files = Files {
            json: create(&bench.json)?,
            csv: create(&bench.csv)?,
            hlog: create(&bench.hlog)?,
            html: create(&bench.html)?,
            hgrm: bench.hgrm.clone(),
        };
        if let Some(prefix) = &files.hgrm {
            Out::create(&hgrm_path(prefix, crate::load::series::ALL))?;
        }
        if let Some(csv) = &mut files.csv {
            csv.write(CSV_HEAD)?;
        }
        if let Some(hlog) = &mut files.hlog {
            hlog.write(&format!(
                "#[Histogram log format version 1.3]\n#[aerolith bench: latencies in nanoseconds, maxima in milliseconds]\n\
                 #[StartTime: {:.3} (seconds since epoch)]\n\
                 \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
                std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
            ))?;
        }
        Ok(files)
    }

    /// A second is over.
    pub fn second(&mut self, row: &Row, slice: &Slice) -> Result<(), LoadError> {
        if let Some(csv) = &mut self.csv {
            for (name, figures) in &row.kinds {
                csv.write(&csv_row(row, name, figures))?;
            }
        }
        if let Some(hlog) = &mut self.hlog {
            for (name, kind) in Operation::NAMES.iter().zip(&slice.kinds) {
                let Some(kind) = kind else { continue };
                hlog.write(&hlog_row(name, slice.second, &kind.latency))?;
            }
        }
        Ok(())
    }

    /// The run is over.
    pub fn finish(self, report: &Report, histograms: &Histograms) -> Result<(), LoadError> {
        if let Some(json) = self.json {
            let text = serde_json::to_string_pretty(report).map_err(|error| LoadError(error.to_string()))?;
            json.finish(&(text + "\n"))?;
        }
        if let Some(csv) = self.csv {
            csv.finish("")?;
        }
        if let Some(hlog) = self.hlog {
            hlog.finish("")?;
        }
        if let Some(page) = self.html {
            page.finish(&html::render(report, histograms))?;
        }
        if let Some(prefix) = self.hgrm {
            for (name, histogram) in histograms {
                Out::create(&hgrm_path(&prefix, name))?.finish(&hgrm(histogram))?;
            }
        }
        Ok(())
    }
}

fn hgrm_path(prefix: &str, operation: &str) -> PathBuf {
    PathBuf::from(format!("{prefix}.{operation}.hgrm"))
}

const CSV_HEAD: &str = "second,operation,requests,missed,failed,unanswered,mean_us,min_us,p50_us,p90_us,p99_us,p999_us,\
                        p9999_us,max_us,unsent,lag_p99_us\n";

fn csv_row(row: &Row, name: &str, f: &Figures) -> String {
    // What was not sent, and the lag, are of all operations together.
    let is_all = name == crate::load::series::ALL;
    let unsent = if is_all { row.unsent.to_string() } else { String::new() };
    let lag = row.lag_p99_us.filter(|_| is_all).map_or(String::new(), |lag| format!("{lag:.3}"));
    format!(
        "{},{name},{},{},{},{},{:.3},{:.3},{:.3},{:.3},{:.3},{:.3},{:.3},{:.3},{unsent},{lag}\n",
        row.second,
        f.count,
        f.missed,
        f.failed,
        f.unanswered,
        f.mean_us,
        f.min_us,
        f.p50_us,
        f.p90_us,
        f.p99_us,
        f.p999_us,
        f.p9999_us,
        f.max_us
    )
}

fn hlog_row(tag: &str, second: u64, histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // It is written into memory.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("a histogram can be written");
    format!("Tag={tag},{second}.000,1.000,{:.3},{}\n", histogram.max() as f64 / 1e6, STANDARD.encode(bytes))
}

/// A percentile distribution as HdrHistogram's tools print and plot it; values in microseconds.
fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in histogram.iter_quantiles(STEPS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
        let inverse =
            if quantile < 1.0 { format!("{:14.2}", 1.0 / (1.0 - quantile)) } else { "           inf".into() };
        out.push_str(&format!("{value:12.3} {quantile:14.12} {total:10} {inverse}\n"));
    }
    out.push_str(&format!(
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3,
        histogram.max() as f64 / 1e3,
        histogram.len(),
        histogram.buckets(),
        2048
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn a_distribution_ends_with_all_requests_and_its_largest_value() {
        let histogram = sample(1).operations["read"].read_histogram().unwrap();
        let text = hgrm(&histogram);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .skip(2)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(rows.windows(2).all(|pair| {
            let value = |row: &[&str]| row[0].parse::<f64>().unwrap();
            value(&pair[0]) <= value(&pair[1])
        }));
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last[3]), ("1.000000000000", "10000", "inf"), "{text}");
        assert!(text.contains("Total count    =        10000"), "{text}");
    }

    #[test]
    fn a_line_of_the_log_is_read_back_by_the_library() {
        let histogram = sample(1).operations["read"].read_histogram().unwrap();
        let log = format!("#[StartTime: 1.000 (seconds since epoch)]\n{}", hlog_row("read", 3, &histogram));
        let entries: Vec<_> = IntervalLogIterator::new(log.as_bytes()).map(Result::unwrap).collect();
        let LogEntry::Interval(interval) = entries.last().unwrap() else { panic!("{entries:?}") };
        assert_eq!(interval.tag().map(|tag| tag.as_str()), Some("read"));
        assert_eq!(interval.start_timestamp().as_secs(), 3);
        let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read, histogram);
    }

    #[test]
    fn every_row_of_the_csv_has_every_column() {
        let columns = CSV_HEAD.split(',').count();
        for row in &sample(1).rows {
            for (name, figures) in &row.kinds {
                assert_eq!(csv_row(row, name, figures).split(',').count(), columns);
            }
        }
    }
}
