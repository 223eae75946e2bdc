//! The settings of the server: command line beats file beats default.
//!
//! One struct of optional settings is both what the command line parses into and what the TOML file does, so a
//! setting has one name, one type and one description. `aerolithd.toml` beside this crate shows them all, and a
//! test holds it to this file. A name that does not exist is an error that says what does.

use clap::Parser;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A size in bytes, written as `64MiB`, `4GiB`, `1g` or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(format!("{text:?} is not a size; write for example 64MiB or 4GiB")),
        };
        let number: u64 = text[..digits].parse().map_err(|_| format!("{text:?} is not a size"))?;
        number.checked_mul(1 << shift).map(ByteSize).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size such as \"64MiB\" or a number of bytes")]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Number(number) => Ok(ByteSize(number)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// What an acknowledged write has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// RAM; the device follows within a second.
    Relaxed,
    /// The device: acknowledged together with all that wait.
    Group,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $(#[arg($($arg:tt)*)])? $name:ident: $type:ty = $default:expr;)+) => {
        /// Aerolith: a hybrid-memory key-value store that speaks Redis's protocol.
        #[derive(Debug, Default, Parser, Deserialize)]
        #[command(name = "aerolithd", version)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct Settings {
            /// Read settings from this TOML file; the command line beats it.
            #[arg(long)]
            #[serde(skip)]
            config: Option<PathBuf>,
            $($(#[doc = $doc])+ #[arg(long, $($($arg)*)?)] $name: Option<$type>,)+
        }

        /// The settings a server runs with.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($name: $default,)+ }
            }
        }

        impl Config {
            fn overlay(self, settings: Settings) -> Config {
                Config { $($name: settings.$name.unwrap_or(self.$name),)+ }
            }

            /// Names and present values of all settings.
            pub fn shown(&self) -> Vec<(String, String)> {
                vec![$((stringify!($name).replace('_', "-"), format!("{:?}", self.$name)),)+]
            }
        }
    };
}

/// Where the engine refuses writes, in percent of the space: its default.
const STOP_WRITES_PCT: u8 = 90;

settings! {
    /// Directory of the data file; made if it is not there.
    data_dir: PathBuf = PathBuf::from("./aerolith-data");
    /// Size of the data file, for instance 4GiB; it takes no space until used.
    size: ByteSize = ByteSize(4 << 30);
    /// RAM for records read from the device.
    cache: ByteSize = ByteSize(64 << 20);
    /// RAM for records on their way to the device and just written.
    write_cache: ByteSize = ByteSize(64 << 20);
    /// When a write is acknowledged: relaxed (in RAM, on the device within a second) or group (on the device).
    durability: Durability = Durability::Relaxed;
    /// How long a relaxed write may wait in RAM before it is written to the device, in milliseconds.
    flush_max_ms: u64 = 1000;
    /// How often the index is written to the device so that the next start is short, in milliseconds; 0 is only when asked for.
    checkpoint_period_ms: u64 = 60_000;
    /// How much the scrub reads a second to find damage and to let tombstones go; 0 is off.
    scrub_rate: ByteSize = ByteSize(16 << 20);
    /// Evict keys with a time to live, those that end soonest first, when live records take more than this share of the
    /// space, in percent; 0 is never.
    evict_above: u8 = 0;
    /// Port for Redis clients; 0 is off.
    redis_port: u16 = 6379;
    /// The set in which Redis keys live.
    redis_set: String = "redis".to_owned();
    /// Address to listen on. Beyond loopback it needs --insecure, because there is no authentication yet.
    bind: IpAddr = IpAddr::from([127, 0, 0, 1]);
    /// Allow to listen beyond loopback although every client can then read and change everything.
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    insecure: bool = false;
    /// Port of the page to watch, /metrics, /stats, /health and /ready; 0 is off.
    admin_port: u16 = 8080;
    /// Address of the admin port. Beyond loopback it needs --insecure: whoever reaches it sees keys in slow commands.
    admin_bind: IpAddr = IpAddr::from([127, 0, 0, 1]);
    /// Worker threads; as many as there are cores if not given.
    threads: usize = std::thread::available_parallelism().map_or(1, usize::from);
    /// What to log: error, warn, info, debug, trace, or a filter such as aerolith_server=debug.
    log: String = "info".to_owned();
    /// How the log is written: text, or json for one object a line.
    log_format: LogFormat = LogFormat::Text;
    /// Commands that take at least so many microseconds go to the slow log; 0 is all, -1 none.
    #[arg(allow_hyphen_values = true)]
    slowlog_log_slower_than: i64 = 10_000;
    /// Entries that the slow log keeps.
    slowlog_max_len: u64 = 128;
    /// Commands that take at least so many milliseconds are events of LATENCY; 0 is none.
    latency_monitor_threshold: u64 = 0;
    /// Connections at a time; further ones are refused.
    max_connections: usize = 10_000;
    /// Largest argument of any command; a value must also fit into a write block of the data file with its key.
    max_record: ByteSize = ByteSize(8 << 20);
    /// Largest command, all its arguments together.
    max_request: ByteSize = ByteSize(64 << 20);
    /// Most arguments of one command.
    max_arguments: usize = 1 << 20;
    /// Largest reply of KEYS; beyond it the answer is an error that points to SCAN.
    max_keys_reply: ByteSize = ByteSize(64 << 20);
    /// Unsent replies of one connection above which it is not read from.
    output_mark: ByteSize = ByteSize(256 << 10);
    /// Device reads of one connection in flight at a time.
    reads_in_flight: usize = 128;
    /// Seconds after which a silent connection is closed; 0 is never.
    idle_timeout_s: u64 = 0;
    /// Seconds a begun request may take before it must come at 4 KiB a second or be dropped.
    request_timeout_s: u64 = 30;
    /// Seconds a client may take to accept the replies of one turn.
    write_timeout_s: u64 = 60;
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong, or asked for help or the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file cannot be read.
    #[error("config file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file says something that is not understood.
    #[error("config file {}: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column and what is allowed there.
        error: toml::de::Error,
    },
    /// A setting has a value that cannot work.
    #[error("{0}")]
    Impossible(String),
}

impl Config {
    /// Settings from command-line arguments (the first is the program) and the file they name.
    pub fn from_args<I>(args: I) -> Result<Config, ConfigError>
    where
        I: IntoIterator,
        I::Item: Into<std::ffi::OsString> + Clone,
    {
        let settings = Settings::try_parse_from(args)?;
        let base = match &settings.config {
            Some(path) => Config::default().overlay(parse(path, &read(path)?)?),
            None => Config::default(),
        };
        let config = base.overlay(settings);
        config.check()?;
        Ok(config)
    }

    /// Settings from the text of a file alone; `path` is what errors call it.
    pub fn from_toml(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let config = Config::default().overlay(parse(path, text)?);
        config.check()?;
        Ok(config)
    }

    /// Says no to settings that cannot work or that nobody should mean.
    pub fn check(&self) -> Result<(), ConfigError> {
        let problem = if !self.bind.is_loopback() && !self.insecure {
            format!(
                "refusing to listen on {}: there is no authentication yet, so anyone who reaches this port can \
                 read and change all data; listen on loopback, or accept that with --insecure",
                self.bind
            )
        } else if self.admin_port != 0 && !self.admin_bind.is_loopback() && !self.insecure {
            format!(
                "refusing to open the admin port on {}: there is no authentication yet, and the slow log shows \
                 keys and values; keep admin-bind on loopback, or accept that with --insecure",
                self.admin_bind
            )
        } else if self.admin_port != 0 && self.admin_port == self.redis_port {
            format!("admin-port and redis-port are both {}: they must differ", self.admin_port)
        } else if self.slowlog_max_len > 1_000_000 {
            format!("slowlog-max-len = {}: at most 1000000 are possible", self.slowlog_max_len)
        } else if self.slowlog_log_slower_than < -1 {
            format!("slowlog-log-slower-than = {}: -1 (nothing) or more", self.slowlog_log_slower_than)
        } else if self.flush_max_ms == 0 || self.flush_max_ms > 60_000 {
            format!("flush-max-ms = {}: between 1 and 60000 are possible", self.flush_max_ms)
        } else if self.checkpoint_period_ms > 86_400_000 {
            let period = self.checkpoint_period_ms;
            format!(
                "checkpoint-period-ms = {period}: at most 86400000 (a day) are possible; 0 is only when asked for"
            )
        } else if self.evict_above >= STOP_WRITES_PCT {
            format!(
                "evict-above = {}: 0 (never) to {} are possible; at {STOP_WRITES_PCT} % writes are refused",
                self.evict_above,
                STOP_WRITES_PCT - 1
            )
        } else if self.threads == 0 || self.threads > 1024 {
            format!("threads = {}: between 1 and 1024 are possible", self.threads)
        } else if self.max_record.0 > 8 << 20 || self.max_record.0 < 1024 {
            format!("max-record = {}: between 1KiB and 8MiB are possible", self.max_record)
        } else if self.max_request < self.max_record || self.max_request.0 > 1 << 30 {
            format!("max-request = {}: at least max-record and at most 1GiB are possible", self.max_request)
        } else if self.reads_in_flight == 0 || self.max_arguments == 0 || self.max_connections == 0 {
            "reads-in-flight, max-arguments and max-connections must not be 0".to_owned()
        } else if self.redis_set.is_empty() || self.redis_set.len() > 63 {
            "redis-set must have between 1 and 63 bytes".to_owned()
        } else {
            return Ok(());
        };
        Err(ConfigError::Impossible(problem))
    }
}

impl PartialOrd for ByteSize {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.0.cmp(&other.0))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })
}

fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Invalid { path: path.to_owned(), error })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
