//! What the system says of this process.

/// Resident memory in bytes; 0 where the system does not tell.
pub(crate) fn resident_size() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// User and system time so far, in seconds.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return (0.0, 0.0) };
    // The name in parentheses may hold blanks: fields are counted behind it. Ticks are 1/100 s on Linux.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let seconds = |at: usize| fields.get(at).and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0) / 100.0;
    (seconds(11), seconds(12))
}
