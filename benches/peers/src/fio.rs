//! fio on the part of Aerolith's file that holds data: what the device gives, in the same run.
//!
//! Reads of what a record takes in sectors (1536 bytes for values of 1000), one thread with so many in flight on io_uring,
//! or so many threads with `pread`.

use crate::measure::Latency;
use crate::phase::{Phase, Row, Sizes};
use crate::store::Result;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// How fio reads.
#[derive(Clone, Copy)]
pub enum Way {
    /// One thread, so many in flight.
    Ring,
    /// So many threads.
    Threads,
}

/// Runs fio once.
pub fn run(file: &Path, way: Way, depth: usize, sizes: &Sizes) -> Result<Row> {
    let block = (sizes.size as usize + 600) / 512 * 512;
    let data = sizes.records * u64::from(sizes.size) / 4096 * 4096;
    let mut command = Command::new("fio");
    command
        .args(["--name=r", "--rw=randread", "--direct=1", "--time_based", "--readonly", "--randrepeat=0"])
        .args(["--output-format=json", "--blockalign=512", "--group_reporting", "--thread"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={data}"))
        .arg(format!("--bs={block}"))
        .arg(format!("--ramp_time={}", (sizes.seconds / 4.0).ceil()))
        .arg(format!("--runtime={}", sizes.seconds.ceil()));
    match way {
        Way::Ring => command.args(["--ioengine=io_uring", &format!("--iodepth={depth}")]),
        Way::Threads => command.args(["--ioengine=psync", &format!("--numjobs={depth}")]),
    };
    let output = command.output().map_err(|error| format!("fio: {error}"))?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("fio: {error}: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let job = &report["jobs"][0];
    let number = |value: &Value| value.as_f64().ok_or("fio: a figure is missing from its report");
    let latency = &job["read"]["clat_ns"];
    let at = |percentile: &str| number(&latency["percentile"][percentile]).map(|ns| ns / 1e3);
    let per_second = number(&job["read"]["iops"])?;
    // Percent of one core a thread; all threads together are reported as their mean.
    let threads = if let Way::Threads = way { depth as f64 } else { 1.0 };
    let cores = (number(&job["usr_cpu"])? + number(&job["sys_cpu"])?) / 100.0 * threads;
    Ok(Row {
        engine: if let Way::Ring = way { "fio io_uring" } else { "fio pread" }.into(),
        phase: Phase::Read,
        threads: depth,
        per_second: Some(per_second),
        seconds: sizes.seconds.ceil(),
        reads: Some(Latency {
            p50: at("50.000000")?,
            p99: at("99.000000")?,
            p999: at("99.900000")?,
            max: number(&latency["max"])? / 1e3,
        }),
        writes: None,
        cpu_us: Some(cores * 1e6 / per_second),
        rss_mib: None,
        group_peak_mib: None,
        disk_mib: None,
        read_bytes: Some(block as f64),
        write_amplification: None,
        overwritten: None,
    })
}
