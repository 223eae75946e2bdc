//! Which key a request is for: records are numbered, and a distribution draws numbers.
//!
//! `zipf` and `hot` draw a rank first, and spread ranks over the keys by a multiplication that hits every key once: the
//! frequencies are exactly those of the ranks, and neighbours in rank are no neighbours in key. They draw from the records
//! that were there when the run began; `uniform` and `latest` follow what is inserted.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, Zipf};
use std::fmt;
use std::str::FromStr;

/// YCSB's constant.
const THETA: f64 = 0.99;

/// How often which key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Every key alike.
    Uniform,
    /// The key of rank `r` in proportion to `1 / r^theta`.
    Zipf {
        /// The exponent.
        theta: f64,
    },
    /// As Zipf, where the newest key has the first rank.
    Latest {
        /// The exponent.
        theta: f64,
    },
    /// So many percent of the requests go to so many percent of the keys.
    Hot {
        /// Share of the keys, in percent.
        keys_pct: f64,
        /// Share of the requests, in percent.
        requests_pct: f64,
    },
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let number =
            |part: &str| part.parse::<f64>().map_err(|_| format!("'{part}' in '{text}' is not a number"));
        let theta = |part: Option<&&str>| match part.map(|part| number(part)).transpose()? {
            None => Ok(THETA),
            Some(theta) if theta > 0.0 && theta <= 10.0 => Ok(theta),
            Some(theta) => Err(format!("an exponent of {theta} is not possible, above 0 to 10 is")),
        };
        match parts[..] {
            ["uniform"] => Ok(Distribution::Uniform),
            ["zipf"] | ["zipf", _] => Ok(Distribution::Zipf { theta: theta(parts.get(1))? }),
            ["latest"] | ["latest", _] => Ok(Distribution::Latest { theta: theta(parts.get(1))? }),
            ["hot", keys, requests] => {
                let (keys_pct, requests_pct) = (number(keys)?, number(requests)?);
                if !(keys_pct > 0.0 && keys_pct < 100.0 && (0.0..=100.0).contains(&requests_pct)) {
                    return Err(format!(
                        "'{text}': the keys' share must be above 0 and below 100 percent, that of requests 0 to 100"
                    ));
                }
                Ok(Distribution::Hot { keys_pct, requests_pct })
            }
            _ => Err(format!(
                "'{text}' is no distribution; there are uniform, zipf[:EXPONENT], latest[:EXPONENT] and \
                 hot:KEYS_PCT:REQUESTS_PCT"
            )),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distribution::Uniform => write!(f, "uniform"),
            Distribution::Zipf { theta } => write!(f, "zipf:{theta}"),
            Distribution::Latest { theta } => write!(f, "latest:{theta}"),
            Distribution::Hot { keys_pct, requests_pct } => write!(f, "hot:{keys_pct}:{requests_pct}"),
        }
    }
}

/// Draws keys.
pub struct Picker {
    distribution: Distribution,
    /// Records at the start.
    count: u64,
    zipf: Option<Zipf<f64>>,
    spread: Spread,
}

impl Picker {
    /// For a run that begins with `count` records.
    pub fn new(distribution: Distribution, count: u64) -> Picker {
        let zipf = match distribution {
            Distribution::Zipf { theta } | Distribution::Latest { theta } => {
                Some(Zipf::new(count.max(1) as f64, theta).expect("at least one key, a positive exponent"))
            }
            _ => None,
        };
        Picker { distribution, count, zipf, spread: Spread::over(count) }
    }

    /// A key of those that are visible now: `0..visible`, which holds at least one.
    pub fn pick(&self, rng: &mut SmallRng, visible: u64) -> u64 {
        // Ranks are from 1.
        let mut rank = |zipf: &Option<Zipf<f64>>| {
            zipf.as_ref().map_or(1, |zipf| zipf.sample(rng) as u64).clamp(1, self.count.max(1))
        };
        match self.distribution {
            Distribution::Uniform => rng.random_range(0..visible),
            Distribution::Zipf { .. } => self.spread.of(rank(&self.zipf) - 1),
            Distribution::Latest { .. } => visible - 1 - (rank(&self.zipf) - 1) % visible,
            Distribution::Hot { keys_pct, requests_pct } => {
                let hot = ((self.count as f64 * keys_pct / 100.0).round() as u64).clamp(1, self.count);
                let is_hot = hot == self.count || rng.random::<f64>() * 100.0 < requests_pct;
                let rank = if is_hot { rng.random_range(0..hot) } else { rng.random_range(hot..self.count) };
                self.spread.of(rank)
            }
        }
    }
}

/// Maps `0..count` onto itself, neighbours far apart.
struct Spread {
    count: u64,
    factor: u64,
}

impl Spread {
    fn over(count: u64) -> Spread {
        // The golden section of the range, then the next number that shares no divisor with it.
        let mut factor = ((count as f64 * 0.618_033_988_749_895) as u64).max(1);
        while gcd(factor, count.max(1)) != 1 {
            factor += 1;
        }
        Spread { count, factor }
    }

    fn of(&self, rank: u64) -> u64 {
        if self.count < 2 {
            return 0;
        }
        (u128::from(rank) * u128::from(self.factor) % u128::from(self.count)) as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Random bits for whoever draws places or seeds.
pub fn bits(rng: &mut SmallRng) -> u64 {
    rng.next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn counts(distribution: &str, count: u64, visible: u64, draws: u64) -> Vec<u64> {
        let picker = Picker::new(distribution.parse().unwrap(), count);
        let mut rng = SmallRng::seed_from_u64(11);
        let mut counts = vec![0; visible as usize];
        (0..draws).for_each(|_| counts[picker.pick(&mut rng, visible) as usize] += 1);
        counts
    }

    /// Within five deviations of what a binomial draw gives.
    fn assert_near(found: u64, draws: u64, share: f64, what: &str) {
        let expected = draws as f64 * share;
        let bound = 5.0 * (expected * (1.0 - share)).sqrt() + 1.0;
        assert!((found as f64 - expected).abs() < bound, "{what}: {found} instead of {expected} +- {bound}");
    }

    #[test]
    fn ranks_of_zipf_come_as_often_as_theory_says() {
        let (n, draws) = (1000, 400_000);
        for theta in [0.5, 0.99, 1.0, 1.4] {
            let harmonic: f64 = (1..=n).map(|rank| (rank as f64).powf(-theta)).sum();
            let spread = Spread::over(n);
            let found = counts(&format!("zipf:{theta}"), n, n, draws);
            for rank in [1_u64, 2, 3, 10, 100, 1000] {
                let share = (rank as f64).powf(-theta) / harmonic;
                assert_near(found[spread.of(rank - 1) as usize], draws, share, &format!("{theta} {rank}"));
            }
        }
    }

    #[test]
    fn latest_prefers_what_was_inserted_last() {
        let (n, draws) = (1000, 400_000);
        let found = counts("latest", n, 1500, draws);
        let harmonic: f64 = (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum();
        assert_near(found[1499], draws, 1.0 / harmonic, "the newest");
        assert_near(found[1498], draws, 2_f64.powf(-THETA) / harmonic, "the one before");
        assert_eq!(found[..500].iter().sum::<u64>(), 0, "ranks end with the count at the start");
    }

    #[test]
    fn a_hot_set_gets_its_share_and_all_keys_are_reached() {
        let (n, draws) = (1000, 400_000);
        let found = counts("hot:20:80", n, n, draws);
        let spread = Spread::over(n);
        let hot: u64 = (0..200).map(|rank| found[spread.of(rank) as usize]).sum();
        assert_near(hot, draws, 0.8, "the hot keys");
        assert!(found.iter().all(|&count| count > 0));
        let uniform = counts("uniform", n, 50, draws);
        (0..50).for_each(|key| assert_near(uniform[key], draws, 0.02, "a key of fifty"));
    }

    #[test]
    fn a_spread_hits_every_key_once() {
        for count in [1, 2, 3, 8, 97, 1000, 4096] {
            let spread = Spread::over(count);
            let mut hit: Vec<u64> = (0..count).map(|rank| spread.of(rank)).collect();
            hit.sort_unstable();
            assert_eq!(hit, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_distribution_is_told_with_what_is() {
        for wrong in
            ["zip", "zipf:0", "zipf:x", "hot:20", "hot:0:50", "hot:100:50", "hot:10:101", "uniform:1", ""]
        {
            assert!(wrong.parse::<Distribution>().is_err(), "{wrong}");
        }
        for right in ["uniform", "zipf:0.99", "latest:0.8", "hot:20:80"] {
            assert_eq!(right.parse::<Distribution>().unwrap().to_string(), right);
        }
    }
}
