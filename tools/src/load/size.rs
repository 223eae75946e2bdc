//! Sizes of values: one, a range, or a histogram.

use super::flag;
use rand::RngExt;
use rand::rngs::SmallRng;
use std::fmt;
use std::str::FromStr;

/// How large values are, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// Any size from the first to the second, all alike.
    Range(u64, u64),
    /// Sizes with their weights, and the sum of all weights.
    Weighted(Vec<(u64, f64)>, f64),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains(':') {
            let (low, high) = flag::range(text, flag::size)?;
            return if low == 0 {
                Err("a value has at least one byte".into())
            } else {
                Ok(Sizes::Range(low, high))
            };
        }
        let mut sizes = Vec::new();
        for part in text.split(',') {
            let (size, weight) = part.split_once(':').ok_or_else(|| {
                format!("'{part}' has no weight; a histogram is written SIZE:WEIGHT,SIZE:WEIGHT")
            })?;
            let size = flag::size(size)?;
            let weight: f64 =
                weight.trim().parse().map_err(|_| format!("the weight '{weight}' is not a number"))?;
            if size == 0 || !(weight > 0.0 && weight.is_finite()) {
                return Err(format!("'{part}': sizes and weights are above 0"));
            }
            sizes.push((size, weight));
        }
        let sum = sizes.iter().map(|(_, weight)| weight).sum();
        Ok(Sizes::Weighted(sizes, sum))
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Range(low, high) if low == high => write!(f, "{low}"),
            Sizes::Range(low, high) => write!(f, "{low}..{high}"),
            Sizes::Weighted(sizes, _) => {
                let parts: Vec<String> =
                    sizes.iter().map(|(size, weight)| format!("{size}:{weight}")).collect();
                write!(f, "{}", parts.join(","))
            }
        }
    }
}

impl Sizes {
    /// The size of the next value.
    pub fn draw(&self, rng: &mut SmallRng) -> u64 {
        match self {
            Sizes::Range(low, high) if low == high => *low,
            Sizes::Range(low, high) => rng.random_range(*low..=*high),
            Sizes::Weighted(sizes, sum) => {
                let mut at = rng.random::<f64>() * sum;
                for (size, weight) in sizes {
                    at -= weight;
                    if at < 0.0 {
                        return *size;
                    }
                }
                sizes.last().map_or(1, |(size, _)| *size)
            }
        }
    }

    /// The smallest and the largest.
    pub fn bounds(&self) -> (u64, u64) {
        match self {
            Sizes::Range(low, high) => (*low, *high),
            Sizes::Weighted(sizes, _) => {
                sizes.iter().fold((u64::MAX, 0), |(low, high), (size, _)| (low.min(*size), high.max(*size)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn sizes_come_as_often_as_their_weights_say() {
        let sizes: Sizes = "100:50,1KiB:30,4000:20".parse().unwrap();
        assert_eq!(sizes.bounds(), (100, 4000));
        let mut rng = SmallRng::seed_from_u64(3);
        let drawn: Vec<u64> = (0..100_000).map(|_| sizes.draw(&mut rng)).collect();
        for (size, share) in [(100, 0.5), (1024, 0.3), (4000, 0.2)] {
            let found = drawn.iter().filter(|&&drawn| drawn == size).count() as f64 / 100_000.0;
            assert!((found - share).abs() < 0.01, "{size}: {found}");
        }
        let range: Sizes = "10..12".parse().unwrap();
        let drawn: Vec<u64> = (0..1000).map(|_| range.draw(&mut rng)).collect();
        assert!(
            (10..=12).all(|size| drawn.contains(&size)) && drawn.iter().all(|size| (10..=12).contains(size))
        );
        assert_eq!("1000".parse::<Sizes>().unwrap().bounds(), (1000, 1000));
    }

    #[test]
    fn what_is_no_size_is_told() {
        for wrong in ["0", "", "9..3", "100:0", "100:x", "100:1,200", "0:5"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
        for right in ["1000", "10..12", "100:50,4000:20.5"] {
            assert_eq!(right.parse::<Sizes>().unwrap().to_string(), right);
        }
    }
}
