//! What `aerolith certify` is told on its command line, checked.

use super::model::Model;
use crate::load::LoadError;
use crate::load::flag;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Certifies a device or file for a multiple of a nominal load, as ACT does: small reads, large-block reads and writes.
///
/// Writes to the device. What holds data is refused without --destroy; what is mounted or in use, always.
#[derive(Args)]
pub struct Certify {
    /// A raw block device, or a file; a file that is not there is made, and removed at the end.
    pub path: PathBuf,
    /// Whether the device itself is under load, or the engine on it.
    #[arg(long, value_enum, default_value_t = Mode::Device)]
    pub mode: Mode,
    /// Overwrite what the device holds.
    #[arg(long)]
    pub destroy: bool,
    /// Bytes of a file that is made; of what is there, use only so many.
    #[arg(long)]
    pub size: Option<String>,
    /// Leave a file that was made here.
    #[arg(long)]
    pub keep: bool,

    /// How many times the nominal load.
    #[arg(long, default_value_t = 1)]
    pub multiple: u64,
    /// Look for the highest multiple that passes, from --multiple upwards.
    #[arg(long)]
    pub search: bool,
    /// The search goes no further.
    #[arg(long, default_value_t = 1024, requires = "search")]
    pub search_limit: u64,
    /// How long each trial of a search is; what it finds is then run for --duration.
    #[arg(long, default_value = "10s", requires = "search")]
    pub trial: String,
    /// How long the load is recorded; ACT's is 24h.
    #[arg(long, default_value = "60s")]
    pub duration: String,
    /// The criteria hold in every slice of this length; ACT's is 1h.
    #[arg(long, default_value = "10s")]
    pub slice: String,
    /// How long the load runs before it is recorded.
    #[arg(long, default_value = "2s")]
    pub warm_up: String,

    /// Reads of records a second at the multiple 1.
    #[arg(long, default_value_t = 2000)]
    pub reads: u64,
    /// Writes of records a second at the multiple 1.
    #[arg(long, default_value_t = 1000)]
    pub writes: u64,
    /// Bytes of a record.
    #[arg(long, default_value = "1536")]
    pub record_size: String,
    /// Bytes of a large block.
    #[arg(long, default_value = "128KiB")]
    pub large_block: String,
    /// Blocks are reclaimed when they are this full, in percent: what is still alive in them is read and written again.
    #[arg(long, default_value_t = 50)]
    pub defrag_lwm: u64,
    /// Where large blocks are written: anywhere, as ACT does, or one behind the other.
    #[arg(long, value_enum, default_value_t = Layout::Random)]
    pub layout: Layout,
    /// Answer large writes before they are on the medium.
    #[arg(long)]
    pub no_dsync: bool,
    /// How the device is written full first.
    #[arg(long, value_enum, default_value_t = Condition::Fast)]
    pub condition: Condition,
    /// How much of what is written compresses to nothing, in percent.
    #[arg(long, default_value = "0")]
    pub compressible: String,
    /// How full the engine is, in percent of its device; with --mode engine.
    #[arg(long, default_value_t = 40)]
    pub fill: u64,

    /// Threads that read records; with --mode engine as many write [default: one a core].
    #[arg(long)]
    pub threads: Option<usize>,
    /// Reads of records in flight, of each thread.
    #[arg(long, default_value_t = 128)]
    pub depth: usize,
    /// Reads and writes of large blocks in flight, of each sort.
    #[arg(long, default_value_t = 16)]
    pub large_depth: usize,
    /// Decides which places are read and written.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a report for the browser, one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No live line and no progress bar.
    #[arg(long)]
    pub quiet: bool,
}

/// What is under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The device, with the reads and writes that a store would make.
    Device,
    /// The engine on the device, with reads and updates of records.
    Engine,
}

/// Where large blocks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Anywhere.
    Random,
    /// One behind the other, around and around.
    Log,
}

/// How the device is written full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// Once, with the data that will be read.
    Fast,
    /// Twice, first with zeros: as ACT does.
    Full,
    /// Not at all: a device that holds nothing answers reads without looking.
    None,
}

/// The longest trial.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The flags, checked.
#[derive(Debug)]
pub struct Plan {
    pub mode: Mode,
    pub size: Option<u64>,
    pub multiple: u64,
    pub search_limit: u64,
    pub duration_s: u64,
    pub slice_s: u64,
    pub trial_s: u64,
    pub warm_up: Duration,
    pub model: Model,
    pub compressible_pct: f64,
    pub threads: usize,
}

fn flag<T>(name: &str, value: Result<T, String>) -> Result<T, LoadError> {
    value.map_err(|why| LoadError(format!("--{name}: {why}")))
}

fn seconds(name: &str, text: &str) -> Result<u64, LoadError> {
    let span = flag(name, flag::span(text))?;
    if span.is_zero() || span.subsec_nanos() != 0 {
        return Err(LoadError(format!("--{name}: '{text}' is not a whole number of seconds, one or more")));
    }
    if span > LONGEST {
        return Err(LoadError(format!(
            "--{name}: '{text}' is more than {} days",
            LONGEST.as_secs() / 86_400
        )));
    }
    Ok(span.as_secs())
}

impl Certify {
    /// Checks the flags against each other.
    pub fn plan(&self) -> Result<Plan, LoadError> {
        let refuse = |why: String| Err(LoadError(why));
        let model = Model {
            record_size: flag("record-size", flag::size(&self.record_size))?,
            large_block: flag("large-block", flag::size(&self.large_block))?,
            reads: self.reads,
            writes: self.writes,
            defrag_lwm_pct: self.defrag_lwm,
        };
        model.check()?;
        let (duration_s, slice_s) = (seconds("duration", &self.duration)?, seconds("slice", &self.slice)?);
        if duration_s % slice_s != 0 {
            return refuse(format!(
                "--slice: {duration_s} s are not a whole number of slices of {slice_s} s; every slice must be whole"
            ));
        }
        let (trial_s, warm_up) =
            (seconds("trial", &self.trial)?, flag("warm-up", flag::span(&self.warm_up))?);
        if self.multiple == 0 || (self.search && self.search_limit < self.multiple) {
            return refuse("--multiple is 1 or more, and --search-limit no less than it".into());
        }
        model.check_at(self.multiple)?;
        if self.search {
            model.check_at(self.search_limit)?;
        }
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if !(1..=1024).contains(&threads)
            || !(1..=4096).contains(&self.depth)
            || !(1..=4096).contains(&self.large_depth)
        {
            return refuse("--threads is from 1 to 1024, --depth and --large-depth from 1 to 4096".into());
        }
        if !(1..=80).contains(&self.fill) {
            return refuse(format!(
                "--fill is {} percent; 1 to 80 leave the engine room to reclaim",
                self.fill
            ));
        }
        Ok(Plan {
            mode: self.mode,
            size: self.size.as_deref().map(|text| flag("size", flag::size(text))).transpose()?,
            multiple: self.multiple,
            search_limit: self.search_limit,
            duration_s,
            slice_s,
            trial_s,
            warm_up,
            model,
            compressible_pct: flag("compressible", flag::percent(&self.compressible))?,
            threads,
        })
    }

    /// What decides what the figures mean, by name.
    pub fn told(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let mut told = vec![
            ("mode", name(self.mode.to_possible_value())),
            ("reads", self.reads.to_string()),
            ("writes", self.writes.to_string()),
            ("record-size", plan.model.record_size.to_string()),
            ("duration", format!("{}s", plan.duration_s)),
            ("slice", format!("{}s", plan.slice_s)),
            ("warm-up", humantime::format_duration(plan.warm_up).to_string()),
            ("threads", plan.threads.to_string()),
            ("depth", self.depth.to_string()),
            ("compressible", plan.compressible_pct.to_string()),
            ("seed", self.seed.to_string()),
        ];
        match plan.mode {
            Mode::Device => told.extend([
                ("large-block", plan.model.large_block.to_string()),
                ("large-depth", self.large_depth.to_string()),
                ("defrag-lwm", self.defrag_lwm.to_string()),
                ("layout", name(self.layout.to_possible_value())),
                ("dsync", (!self.no_dsync).to_string()),
                ("condition", name(self.condition.to_possible_value())),
            ]),
            Mode::Engine => told.push(("fill", self.fill.to_string())),
        }
        told
    }
}
