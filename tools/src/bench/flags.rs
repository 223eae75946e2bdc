//! What `aerolith bench` is told on its command line, checked and with every default filled in.

use crate::load::flag;
use crate::load::keys::Distribution;
use crate::load::mix::{Mix, Operation, Ycsb};
use crate::load::schedule::{Arrivals, Rate};
use crate::load::size::Sizes;
use crate::load::target::KEY_LIMIT;
use crate::load::value::HEAD;
use crate::load::{LoadError, memcache};
use clap::{Args, ValueEnum};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// Puts a store under load and tells how it does: the embedded engine, or a server.
///
/// Closed loop by default; with --rate an open loop, in which latency counts from the intended start of each request.
/// Values verify themselves: a wrong one makes the exit code 1.
#[derive(Args)]
pub struct Bench {
    /// The engine in this process, on this data file or device; made with --load if it is missing.
    #[arg(long, value_name = "FILE", group = "target")]
    pub engine: Option<PathBuf>,
    /// A server that speaks Redis's protocol.
    #[arg(long, value_name = "HOST:PORT", group = "target")]
    pub redis: Option<String>,
    /// A server that speaks memcached's text protocol.
    #[arg(long, value_name = "HOST:PORT", group = "target")]
    pub memcache: Option<String>,
    /// Compare two runs that were written with --json, instead of running.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], group = "target")]
    pub compare: Option<Vec<PathBuf>>,

    /// Write all records first.
    #[arg(long)]
    pub load: bool,
    /// Write all records, and nothing else.
    #[arg(long)]
    pub load_only: bool,
    /// How many records there are. After a load the store itself knows.
    #[arg(long)]
    pub records: Option<u64>,
    /// What every key begins with.
    #[arg(long, default_value = "bench:")]
    pub prefix: String,
    /// Makes the sequence of operations repeatable.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Operations by share in percent: read, update, insert, delete, rmw, expire, batch, scan [default: read=95,update=5].
    #[arg(long, conflicts_with = "ycsb")]
    pub mix: Option<String>,
    /// A core workload of YCSB: its shares and its distribution.
    #[arg(long, value_enum, ignore_case = true)]
    pub ycsb: Option<Ycsb>,
    /// Which keys: uniform, zipf or zipf:EXPONENT, latest or latest:EXPONENT, hot:KEYS_PCT:REQUESTS_PCT [default: uniform].
    #[arg(long)]
    pub keys: Option<String>,
    /// Bytes of a value: one size, a range 100..2000, or a histogram 100:50,1KiB:30,4KiB:20.
    #[arg(long, default_value = "1000")]
    pub value_size: String,
    /// How much of a value compresses to nothing, in percent.
    #[arg(long, default_value = "0")]
    pub compressible: String,
    /// How long records live: one span or a range 60s..120s [default: for good].
    #[arg(long)]
    pub ttl: Option<String>,
    /// Keys of a batch.
    #[arg(long, default_value_t = 10)]
    pub batch_size: usize,
    /// The most records of a scan; each asks for 1 to so many.
    #[arg(long, default_value_t = 100)]
    pub scan_length: usize,
    /// What is checked of values that come back.
    #[arg(long, value_enum, default_value_t = Check::Value)]
    pub check: Check,

    /// How long to run [default: 10s; with --operations no end but them].
    #[arg(long)]
    pub duration: Option<String>,
    /// How long to run before anything is recorded [default: 2s; 0s with --operations].
    #[arg(long)]
    pub warm_up: Option<String>,
    /// End after so many operations.
    #[arg(long)]
    pub operations: Option<u64>,
    /// How long requests may take that have no answer when the time is over.
    #[arg(long, default_value = "10s")]
    pub drain: String,
    /// Threads of the load [default: one a core].
    #[arg(long)]
    pub threads: Option<usize>,
    /// Connections to the server, shared out to the threads [default: 16, or one a thread].
    #[arg(long)]
    pub connections: Option<usize>,
    /// Requests in flight on each connection; with --engine of each thread [default: 1, and 16 while loading].
    #[arg(long)]
    pub depth: Option<usize>,
    /// Open loop: so many requests a second, all threads together; 20k is 20000.
    #[arg(long)]
    pub rate: Option<String>,
    /// How the intended starts of an open loop are spread [default: uniform].
    #[arg(long, value_enum, requires = "rate")]
    pub arrivals: Option<Arrivals>,

    /// The namespace that the data file is of.
    #[arg(long, default_value = "test", requires = "engine")]
    pub namespace: String,
    /// Size of the data file when it is made.
    #[arg(long, default_value = "4GiB", requires = "engine")]
    pub engine_size: String,
    /// When a write is acknowledged: relaxed or group.
    #[arg(long, default_value = "relaxed", requires = "engine")]
    pub durability: String,
    /// RAM for records read from the device.
    #[arg(long, default_value = "64MiB", requires = "engine")]
    pub cache: String,
    /// RAM for blocks being written or just written.
    #[arg(long, default_value = "64MiB", requires = "engine")]
    pub write_cache: String,

    /// The server's process, for its processor time and memory.
    #[arg(long, value_name = "PID", conflicts_with = "engine")]
    pub server_pid: Option<u32>,
    /// A name for this run, for the outputs.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub title: String,
    /// Write all figures and histograms as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a row for each second and operation as CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write percentile distributions, one file for each operation: PREFIX.read.hgrm and so on.
    #[arg(long, value_name = "PREFIX")]
    pub hgrm: Option<String>,
    /// Write an interval log of HdrHistogram: a histogram for each second and operation.
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write a report for the browser, one file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// No live line and no progress bar.
    #[arg(long)]
    pub quiet: bool,
}

/// What is checked of values that come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// Nothing; values are bytes without meaning.
    Off,
    /// That each is whole and its key's.
    Value,
    /// Also that it is no older than what this run was acknowledged, and that no record is missing: 8 bytes of RAM a record.
    History,
}

/// Where the load goes.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or device.
    Engine(PathBuf),
    /// A server with Redis's protocol.
    Redis(SocketAddr),
    /// A server with memcached's.
    Memcache(SocketAddr),
}

/// The flags, checked.
pub struct Plan {
    pub place: Place,
    pub mix: Mix,
    pub keys: Distribution,
    pub sizes: Sizes,
    pub compressible_pct: f64,
    pub ttl: Option<(Duration, Duration)>,
    /// `None`: no end but the operations.
    pub duration: Option<Duration>,
    pub warm_up: Duration,
    pub drain: Duration,
    pub threads: usize,
    /// 0 with an engine.
    pub connections: usize,
    pub depth: usize,
    pub rate: Option<Rate>,
    pub arrivals: Arrivals,
    pub engine_size: u64,
    pub cache: u64,
    pub write_cache: u64,
    pub durability: aerolith_engine::Durability,
}

/// Requests in flight of all threads together.
const MOST_IN_FLIGHT: usize = 1 << 20;
/// Records that a history can watch: 8 GB of RAM.
pub const MOST_WATCHED: u64 = 1_000_000_000;

/// What is wrong with a flag, and with which.
fn flag<T>(name: &str, value: Result<T, String>) -> Result<T, LoadError> {
    value.map_err(|why| LoadError(format!("--{name}: {why}")))
}

fn refuse<T>(why: impl Into<String>) -> Result<T, LoadError> {
    Err(LoadError(why.into()))
}

fn address(name: &str, text: &str) -> Result<SocketAddr, LoadError> {
    let mut found = text.to_socket_addrs().map_err(|error| {
        LoadError(format!("--{name} {text}: {error}; write HOST:PORT, for example 127.0.0.1:6379"))
    })?;
    found.next().ok_or_else(|| LoadError(format!("--{name} {text}: the name has no address")))
}

/// Requests a second: `20000`, `20k`, `1.5m`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (digits, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1e3),
        Some(b'm') => (&lower[..lower.len() - 1], 1e6),
        _ => (&lower[..], 1.0),
    };
    let number = digits.parse::<f64>().ok().and_then(|number| Rate::per_second(number * factor));
    number.ok_or_else(|| format!("'{text}' is not a rate; write for example 20000 or 20k, from 0.001 to 1e9"))
}

impl Bench {
    /// Checks the flags against each other and fills in what was left out.
    pub fn plan(&self) -> Result<Plan, LoadError> {
        let place = match (&self.engine, &self.redis, &self.memcache) {
            (Some(path), ..) => Place::Engine(path.clone()),
            (_, Some(text), _) => Place::Redis(address("redis", text)?),
            (.., Some(text)) => Place::Memcache(address("memcache", text)?),
            _ => return refuse("say what to load: --engine FILE, --redis HOST:PORT or --memcache HOST:PORT"),
        };
        let preset = self.ycsb.map(Ycsb::preset);
        let mix = self.mix.as_deref().or(preset.map(|(mix, _)| mix)).unwrap_or("read=95,update=5");
        let mix: Mix = flag("mix", mix.parse())?;
        let keys = self.keys.as_deref().or(preset.map(|(_, keys)| keys)).unwrap_or("uniform");
        let keys = flag("keys", keys.parse())?;
        let sizes: Sizes = flag("value-size", self.value_size.parse())?;
        let (smallest, largest) = sizes.bounds();
        if self.check != Check::Off && smallest < HEAD as u64 {
            return refuse(format!(
                "--value-size: a value of {smallest} bytes cannot verify itself, that takes {HEAD} bytes; larger values, or \
                 --check off"
            ));
        }
        if largest > 512 << 20 {
            return refuse(format!(
                "--value-size: {largest} bytes is more than any target takes; at most 512MiB"
            ));
        }
        let ttl = match &self.ttl {
            None => None,
            Some(text) => {
                let (low, high) = flag("ttl", flag::range(text, flag::span))?;
                if low < Duration::from_millis(1) {
                    return refuse("--ttl: a record lives for a millisecond at least");
                }
                Some((low, high))
            }
        };
        if mix.has(Operation::Expire) && ttl.is_none() {
            return refuse(
                "the mix has a share of expire, which needs --ttl: how long those records are to live",
            );
        }
        if let (Place::Memcache(_), Some((_, high))) = (&place, ttl)
            && high > memcache::LONGEST_TTL
        {
            return refuse("--ttl: memcached's protocol takes more than 30 days for a date; at most 30d");
        }
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        if !(1..=1024).contains(&threads) {
            return refuse(format!("--threads is {threads}; 1 to 1024 are possible"));
        }
        let connections = match (&place, self.connections) {
            (Place::Engine(_), None) => 0,
            (Place::Engine(_), Some(_)) => {
                return refuse("--connections: the engine has none; use --threads and --depth");
            }
            (_, None) => threads.max(16),
            (_, Some(connections)) if connections < threads => {
                return refuse(format!(
                    "--connections is {connections}, fewer than the {threads} threads: some would have none; raise it, or lower \
                     --threads"
                ));
            }
            (_, Some(connections)) => connections,
        };
        let depth = self.depth.unwrap_or(1);
        if !(1..=65_536).contains(&depth) || connections > 100_000 {
            return refuse("--depth is from 1 to 65536, --connections at most 100000");
        }
        let in_flight = connections.max(threads) * depth;
        if in_flight > MOST_IN_FLIGHT {
            return refuse(format!(
                "{in_flight} requests would be in flight, at most {MOST_IN_FLIGHT} can be; lower --depth or --connections"
            ));
        }
        let duration = match (&self.duration, self.operations) {
            (Some(text), _) => Some(flag("duration", flag::span(text))?),
            (None, Some(_)) => None,
            (None, None) => Some(Duration::from_secs(10)),
        };
        if duration.is_some_and(|duration| duration.is_zero()) || self.operations == Some(0) {
            return refuse("a run has a --duration and --operations above 0; --load-only loads without one");
        }
        let warm_up = match &self.warm_up {
            Some(text) => flag("warm-up", flag::span(text))?,
            None if self.operations.is_some() => Duration::ZERO,
            None => Duration::from_secs(2),
        };
        if self.batch_size == 0
            || self.batch_size > 10_000
            || self.scan_length == 0
            || self.scan_length > 100_000
        {
            return refuse("--batch-size is from 1 to 10000, --scan-length from 1 to 100000");
        }
        if self.records.is_some_and(|records| records == 0 || records >= KEY_LIMIT) {
            return refuse(format!("--records: from 1 to {} are possible", KEY_LIMIT - 1));
        }
        if self.check == Check::History && self.records.is_some_and(|records| records > MOST_WATCHED) {
            return refuse(format!(
                "--check history takes 8 bytes of RAM a record, and watches at most {MOST_WATCHED}; use --check value"
            ));
        }
        if (self.load || self.load_only) && self.records.is_none() {
            return refuse("--load needs --records: how many to write");
        }
        let has_outputs =
            self.json.is_some() || self.csv.is_some() || self.hlog.is_some() || self.html.is_some();
        if self.load_only && (has_outputs || self.hgrm.is_some()) {
            return refuse(
                "--load-only makes no figures: leave --json, --csv, --hgrm, --hlog and --html away, or use --load",
            );
        }
        if self.prefix.len() > 128 || self.prefix.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse("--prefix has at most 128 bytes, and no white space");
        }
        Ok(Plan {
            place,
            mix,
            keys,
            sizes,
            compressible_pct: flag("compressible", flag::percent(&self.compressible))?,
            ttl,
            duration,
            warm_up,
            drain: flag("drain", flag::span(&self.drain))?,
            threads,
            connections,
            depth,
            rate: self.rate.as_deref().map(|text| flag("rate", rate(text))).transpose()?,
            arrivals: self.arrivals.unwrap_or_default(),
            engine_size: flag("engine-size", flag::size(&self.engine_size))?,
            cache: flag("cache", flag::size(&self.cache))?,
            write_cache: flag("write-cache", flag::size(&self.write_cache))?,
            durability: flag(
                "durability",
                match self.durability.as_str() {
                    "relaxed" => Ok(aerolith_engine::Durability::Relaxed),
                    "group" => Ok(aerolith_engine::Durability::Group),
                    other => Err(format!("'{other}' is none; there are relaxed and group")),
                },
            )?,
        })
    }

    /// What decides what a run's figures mean, by name: two runs that agree in it can be compared.
    pub fn told(&self, plan: &Plan, records: u64) -> Vec<(&'static str, String)> {
        let span = |span: Duration| humantime::format_duration(span).to_string();
        let ttl =
            plan.ttl.map(
                |(low, high)| {
                    if low == high { span(low) } else { format!("{}..{}", span(low), span(high)) }
                },
            );
        let check =
            self.check.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let mut told = vec![
            ("loop", if plan.rate.is_some() { "open" } else { "closed" }.to_owned()),
            ("mix", plan.mix.to_string()),
            ("keys", plan.keys.to_string()),
            ("records", records.to_string()),
            ("value-size", plan.sizes.to_string()),
            ("compressible", format!("{}", plan.compressible_pct)),
            ("ttl", ttl.unwrap_or_else(|| "none".into())),
            ("check", check),
            ("seed", self.seed.to_string()),
            ("threads", plan.threads.to_string()),
            ("depth", plan.depth.to_string()),
            ("warm-up", span(plan.warm_up)),
        ];
        if let Some(duration) = plan.duration {
            told.push(("duration", span(duration)));
        }
        if let Some(operations) = self.operations {
            told.push(("operations", operations.to_string()));
        }
        if let Some(rate) = plan.rate {
            let arrivals = plan.arrivals.to_possible_value();
            told.push(("rate", rate.get().to_string()));
            told.push(("arrivals", arrivals.map_or_else(String::new, |value| value.get_name().to_owned())));
        }
        if plan.connections > 0 {
            told.push(("connections", plan.connections.to_string()));
        } else {
            told.push(("durability", self.durability.clone()));
            told.push(("cache", plan.cache.to_string()));
            told.push(("write-cache", plan.write_cache.to_string()));
        }
        if plan.mix.has(Operation::Batch) {
            told.push(("batch-size", self.batch_size.to_string()));
        }
        if plan.mix.has(Operation::Scan) {
            told.push(("scan-length", self.scan_length.to_string()));
        }
        told
    }
}
