//! How far a backup or a restore is, on standard error: a bar where that is a terminal, else nothing until the end.

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// See the head of this file.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// A bar for about so many records.
    pub fn of(records: u64, is_quiet: bool) -> Progress {
        let target =
            if is_quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(4) };
        let bar = ProgressBar::with_draw_target(Some(records), target);
        let template = "{bar:30} {percent:>3}% {human_pos}/{human_len} records, {msg}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is right"));
        Progress { bar, begun: Instant::now() }
    }

    /// So many records, and so many bytes of the backup, are done.
    pub fn set(&self, records: u64, bytes: u64) {
        // What was there about when it began may be less than there is.
        if self.bar.length().is_some_and(|length| length < records) {
            self.bar.set_length(records);
        }
        self.bar.set_position(records);
        self.bar.set_message(format!("{}, {}/s", HumanBytes(bytes), HumanBytes(self.per_second(bytes))));
    }

    fn per_second(&self, bytes: u64) -> u64 {
        (bytes as f64 / self.begun.elapsed().as_secs_f64().max(0.001)) as u64
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Takes the bar away. Returns what there is to say of `bytes` of the backup.
    pub fn end(&self, records: u64, bytes: u64) -> String {
        self.bar.finish_and_clear();
        let (seconds, rate) = (self.elapsed().as_secs_f64(), self.per_second(bytes));
        format!(
            "{} records, {} in {seconds:.1} s ({}/s)",
            HumanCount(records),
            HumanBytes(bytes),
            HumanBytes(rate)
        )
    }
}
