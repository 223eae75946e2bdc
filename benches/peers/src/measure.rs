//! What this process has used, as the kernel counts it: processor time, memory, bytes to and from the device, files.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// Of a hundred, the worst but one.
    pub p99: f64,
    /// Of a thousand, the worst but one.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// Of a histogram in nanoseconds; `None` if nothing was recorded.
    pub fn of(nanoseconds: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        (!nanoseconds.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: nanoseconds.max() as f64 / 1e3,
        })
    }
}

/// Counters of this process, all threads that it has or had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// User and system time, in seconds, in steps of the kernel's tick.
    pub cpu_s: f64,
    /// Bytes that were fetched from the device.
    pub read: u64,
    /// Bytes that were sent to the device, or made dirty in the page cache, which counts a page once until it is written.
    pub written: u64,
}

impl Used {
    /// Until now.
    pub fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may hold spaces; utime and stime are the 12th and 13th fields behind it.
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        let ticks: u64 =
            behind.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let io = fs::read_to_string("/proc/self/io")?;
        Ok(Used {
            cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            read: field(&io, "read_bytes:"),
            written: field(&io, "write_bytes:").saturating_sub(field(&io, "cancelled_write_bytes:")),
        })
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Used) -> Used {
        Used {
            cpu_s: self.cpu_s - earlier.cpu_s,
            read: self.read - earlier.read,
            written: self.written.saturating_sub(earlier.written),
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Resident memory of this process in bytes, mapped files included.
pub fn resident() -> io::Result<u64> {
    Ok(field(&fs::read_to_string("/proc/self/status")?, "VmRSS:") << 10)
}

/// Calls `each` with every file in a folder and in those below it.
pub fn each_file(dir: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { each_file(&path, each)? } else { each(&path)? }
    }
    Ok(())
}

/// Bytes that the files of a folder take on the disk, holes not counted. Files that vanish meanwhile are passed over.
pub fn disk(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    each_file(dir, &mut |path| {
        match fs::metadata(path) {
            Ok(metadata) => sum += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(sum)
}

/// Puts the files of a folder on the disk and out of the page cache, so that the next process finds none of them in RAM.
pub fn evict(dir: &Path) -> io::Result<()> {
    each_file(dir, &mut |path| {
        let file = File::open(path)?;
        file.sync_all()?;
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    })
}
