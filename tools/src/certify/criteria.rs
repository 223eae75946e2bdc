//! Pass or fail: the shares of requests that took longer than the limits, in every slice of time.

use super::report::Slice;
use crate::load::recorder::LIMITS;

/// A limit: as a power of two of milliseconds, and fewer than so many in a thousand may take longer.
pub struct Criterion {
    /// The limit is 2 to this power milliseconds.
    pub exponent: usize,
    /// In a thousand.
    pub permille: u64,
}

/// ACT's.
pub const CRITERIA: [Criterion; 3] = [
    Criterion { exponent: 0, permille: 50 },
    Criterion { exponent: 3, permille: 10 },
    Criterion { exponent: 6, permille: 1 },
];

/// Whether so many of `count` over each limit are few enough; for each criterion that is not met, why.
pub fn failures(what: &str, slice: u64, count: u64, over: &[u64; LIMITS]) -> Vec<String> {
    let failed = CRITERIA.iter().filter(|criterion| {
        // "Fewer than": exactly the share is too many. In whole numbers, so that borders are exact.
        count > 0 && over[criterion.exponent] * 1000 >= criterion.permille * count
    });
    let told = failed.map(|criterion| {
        let share = over[criterion.exponent] as f64 / count as f64 * 100.0;
        format!(
            "slice {}: {share:.2} % of {what} took longer than {} ms, less than {} % may",
            slice + 1,
            1 << criterion.exponent,
            criterion.permille as f64 / 10.0
        )
    });
    told.collect()
}

/// Why a trial failed; empty: it passed. `judged` are the kinds that the criteria hold for.
pub fn verdict(slices: &[Slice], judged: &[&str]) -> Vec<String> {
    let mut why = Vec::new();
    for slice in slices {
        if slice.unsent > 0 {
            why.push(format!(
                "slice {}: {} requests were due and never sent: the load cannot be done",
                slice.slice + 1,
                slice.unsent
            ));
        }
        for (name, kind) in &slice.kinds {
            let troubled = kind.failed + kind.unanswered;
            if troubled > 0 {
                why.push(format!("slice {}: {troubled} {name}s failed or had no answer", slice.slice + 1));
            }
            if judged.contains(&name.as_str()) {
                why.extend(failures(&format!("{name}s"), slice.slice, kind.count, &kind.over_ms));
            }
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(count: u64, over_1: u64, over_8: u64, over_64: u64) -> bool {
        failures("reads", 0, count, &[over_1, over_1, over_1, over_8, over_8, over_8, over_64]).is_empty()
    }

    #[test]
    fn each_border_is_exact() {
        assert!(passes(10_000, 499, 99, 9));
        assert!(!passes(10_000, 500, 99, 9), "exactly 5 % over 1 ms");
        assert!(!passes(10_000, 499, 100, 9), "exactly 1 % over 8 ms");
        assert!(!passes(10_000, 499, 99, 10), "exactly 0.1 % over 64 ms");
        assert!(passes(1000, 49, 9, 0) && !passes(1000, 49, 9, 1));
        assert!(passes(0, 0, 0, 0), "nothing was asked");
    }

    #[test]
    fn what_failed_is_told_with_slice_and_share() {
        let why = failures("reads", 2, 1000, &[60, 0, 0, 10, 0, 0, 0]);
        assert_eq!(
            why,
            [
                "slice 3: 6.00 % of reads took longer than 1 ms, less than 5 % may",
                "slice 3: 1.00 % of reads took longer than 8 ms, less than 1 % may"
            ]
        );
    }

    #[test]
    fn one_bad_slice_or_one_request_that_failed_is_enough() {
        use super::super::report::Counts;
        let figures =
            |over_1: u64| Counts { count: 1000, over_ms: [over_1, 0, 0, 0, 0, 0, 0], ..Counts::default() };
        let slice = |slice, over_1| Slice {
            slice,
            kinds: [("read", figures(over_1)), ("large write", figures(900))]
                .map(|(n, f)| (n.to_owned(), f))
                .into(),
            unsent: 0,
        };
        assert!(
            verdict(&[slice(0, 10), slice(1, 49)], &["read"]).is_empty(),
            "large writes are not judged by time"
        );
        assert_eq!(verdict(&[slice(0, 10), slice(1, 50)], &["read"]).len(), 1);
        let mut failed = slice(0, 0);
        failed.kinds.get_mut("large write").unwrap().unanswered = 1;
        assert_eq!(verdict(&[failed], &["read"]).len(), 1);
        let behind = Slice { unsent: 5, ..slice(0, 0) };
        assert!(verdict(&[behind], &["read"])[0].contains("never sent"));
    }
}
