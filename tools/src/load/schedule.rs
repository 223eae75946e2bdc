//! When requests are due. An open loop has an intended start for each request, whatever the target does.
//!
//! Uniform: request `i` of the whole load is due at `i / rate`, computed for each by itself in integers, so nothing
//! drifts; worker `w` of `n` has the requests `w`, `w + n`, `w + 2n` and so on. Poisson: every worker draws exponential
//! gaps of its share of the rate; together they are one Poisson stream of the whole rate.

use super::clock::SECOND;
use clap::ValueEnum;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp};

/// Requests a second, in millionths, so that rates such as 22.949 are exact enough for days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// How intended starts are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Uniform,
    /// At random, as independent clients come.
    Poisson,
}

/// The intended starts of one worker, in nanoseconds from the start of the load.
pub struct Schedule {
    rate: Rate,
    kind: Kind,
    next_ns: u64,
}

enum Kind {
    /// The number of the next request, and the step to the one after it.
    Uniform {
        number: u64,
        step: u64,
    },
    Poisson {
        gap: Exp<f64>,
        rng: Box<SmallRng>,
        at: f64,
    },
}

impl Rate {
    /// So many requests a second; `None` if that is not a rate.
    pub fn per_second(rate: f64) -> Option<Rate> {
        // Beyond these the millionths overflow, or the distance is more than a quarter of an hour.
        (rate.is_finite() && (0.001..=1e9).contains(&rate)).then(|| Rate((rate * 1e6).round() as u64))
    }

    /// Requests a second.
    pub fn get(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// When request `number` is due, in nanoseconds.
    fn due(self, number: u64) -> u64 {
        (u128::from(number) * u128::from(SECOND) * 1_000_000 / u128::from(self.0)) as u64
    }
}

impl Schedule {
    /// The share of worker `worker` of `workers`.
    pub fn new(rate: Rate, arrivals: Arrivals, worker: usize, workers: usize, seed: u64) -> Schedule {
        let (worker, workers) = (worker as u64, workers as u64);
        let kind = match arrivals {
            Arrivals::Uniform => Kind::Uniform { number: worker, step: workers },
            Arrivals::Poisson => {
                let own = rate.get() / workers as f64 / SECOND as f64;
                Kind::Poisson {
                    gap: Exp::new(own).expect("a rate is positive"),
                    rng: Box::new(SmallRng::seed_from_u64(seed ^ worker.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
                    at: 0.0,
                }
            }
        };
        let mut schedule = Schedule { rate, kind, next_ns: 0 };
        schedule.advance();
        schedule
    }

    /// When the next request is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Goes on to the request after it.
    pub fn advance(&mut self) {
        self.next_ns = match &mut self.kind {
            Kind::Uniform { number, step } => {
                let due = self.rate.due(*number);
                *number += *step;
                due
            }
            Kind::Poisson { gap, rng, at } => {
                *at += gap.sample(rng);
                *at as u64
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(schedule: &mut Schedule, until: u64) -> Vec<u64> {
        let mut starts = Vec::new();
        while schedule.next_ns() < until {
            starts.push(schedule.next_ns());
            schedule.advance();
        }
        starts
    }

    #[test]
    fn workers_share_a_uniform_rate_without_drift_and_without_a_gap() {
        let rate = Rate::per_second(22.949).unwrap();
        let mut all: Vec<u64> = (0..3)
            .flat_map(|worker| {
                starts(&mut Schedule::new(rate, Arrivals::Uniform, worker, 3, 1), 1000 * SECOND)
            })
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 22949);
        for (number, start) in (0_u128..).zip(all) {
            assert_eq!(u128::from(start), number * 1_000_000_000_000 / 22949, "request {number}");
        }
    }

    #[test]
    fn a_poisson_stream_has_its_rate_and_a_spread_as_large_as_its_mean() {
        let rate = Rate::per_second(1000.0).unwrap();
        let starts = starts(&mut Schedule::new(rate, Arrivals::Poisson, 1, 2, 7), 200 * SECOND);
        // 500 a second for 200 seconds: 100,000, give or take five times its square root.
        assert!(starts.len().abs_diff(100_000) < 1600, "{}", starts.len());
        let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((deviation / mean - 1.0).abs() < 0.03, "{deviation} {mean}");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 2e9] {
            assert_eq!(Rate::per_second(rate), None);
        }
    }
}
