//! What a person sees while it runs: a line each second. On standard error, so that results can be piped.

use crate::load::clock::SECOND;
use crate::load::crew::Event;
use crate::load::series::{ALL, Row};
use crate::page::{number, time};

/// The lines of a run.
pub struct Live {
    quiet: bool,
    clock_start_ns: u64,
    next_row: u64,
    /// The last second for which it was said that there is nothing to say.
    silent: u64,
}

impl Live {
    /// Lines, or none.
    pub fn new(quiet: bool) -> Live {
        Live { quiet, clock_start_ns: u64::MAX, next_row: 0, silent: 0 }
    }

    /// Something has happened, at this time of the load's clock.
    pub fn see(&mut self, event: &Event<'_>, now_ns: u64) {
        match event {
            Event::Begun(course) => {
                self.clock_start_ns = course.record_ns;
                let warm_up = (course.record_ns - course.start_ns) / SECOND;
                if warm_up > 0 {
                    self.say(&format!("warming up for {warm_up} s"));
                }
            }
            Event::Second(row, _) => {
                self.next_row = row.second + 1;
                self.say(&line(row));
            }
            Event::Tick => {
                // A second's row comes when the last of its requests has its answer.
                let second = now_ns.saturating_sub(self.clock_start_ns) / SECOND;
                if now_ns > self.clock_start_ns && second > self.next_row + 1 && second > self.silent {
                    self.silent = second;
                    let since = second - self.next_row;
                    self.say(&format!("{second:>5} s  requests of {since} s ago have no answer yet"));
                }
            }
        }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }
}

fn line(row: &Row) -> String {
    let Some(all) = row.kinds.get(ALL) else { return String::new() };
    let mut line = format!(
        "{:>5} s  {:>11}/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  max {:>8}",
        row.second + 1,
        number(all.count as f64),
        time(all.p50_us),
        time(all.p99_us),
        time(all.p999_us),
        time(all.max_us)
    );
    let kinds: Vec<String> = row
        .kinds
        .iter()
        .filter(|(name, _)| row.kinds.len() > 2 && *name != ALL)
        .map(|(name, figures)| format!("{name} {}", number(figures.count as f64)))
        .collect();
    if !kinds.is_empty() {
        line.push_str(&format!("  ({})", kinds.join(", ")));
    }
    for (count, what) in [
        (all.failed, "FAILED"),
        (all.unanswered, "UNANSWERED"),
        (row.unsent, "UNSENT"),
        (all.missed, "missed"),
    ] {
        if count > 0 {
            line.push_str(&format!("  {what} {}", number(count as f64)));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    #[test]
    fn a_line_tells_the_second_its_rate_and_what_went_wrong() {
        let mut row = sample(1).rows[3].clone();
        let told = line(&row);
        assert!(told.starts_with("    4 s        1,001/s  p50"), "{told}");
        assert!(told.contains("(read 1,000, update 1)") && !told.contains("FAILED"), "{told}");
        row.kinds.get_mut(ALL).unwrap().failed = 2;
        row.unsent = 3;
        assert!(line(&row).contains("FAILED 2  UNSENT 3"));
    }
}
