//! What processes cost: processor time and memory, from /proc.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The kernel tells processor time in hundredths of a second, whatever its own tick.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time of this process, all threads, user and system.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Processor time of another process; `None` if there is none of that id.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state is the first field, utime and stime are the 12th and 13th.
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident memory of a process, in bytes.
pub fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory_and_no_process_has_none() {
        assert!(own_cpu() > Duration::ZERO);
        assert!(cpu_of(std::process::id()).is_some());
        assert!(memory_of(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        // Larger than any process id.
        assert_eq!((cpu_of(u32::MAX), memory_of(u32::MAX)), (None, None));
    }
}
