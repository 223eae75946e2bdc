//! What a store is asked, by share; and the six workloads of YCSB as presets.

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::SmallRng;
use std::fmt;
use std::str::FromStr;

/// What a store can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// Read a record.
    Read,
    /// Write a record that is there, whole.
    Update,
    /// Write a record that was not there.
    Insert,
    /// Delete a record.
    Delete,
    /// Read a record, then write it: two requests, one latency.
    ReadModifyWrite,
    /// Give a record a new time to live.
    Expire,
    /// Read several records with one request.
    Batch,
    /// Read a run of records.
    Scan,
}

impl Operation {
    /// All of them, by number.
    pub const ALL: [Operation; 8] = [
        Operation::Read,
        Operation::Update,
        Operation::Insert,
        Operation::Delete,
        Operation::ReadModifyWrite,
        Operation::Expire,
        Operation::Batch,
        Operation::Scan,
    ];
    /// Their names, by number.
    pub const NAMES: [&'static str; 8] =
        ["read", "update", "insert", "delete", "rmw", "expire", "batch", "scan"];

    /// As flags and outputs call it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The shares of operations, in percent.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(Operation, f64)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares: Vec<(Operation, f64)> = Vec::new();
        for part in text.split(',') {
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| format!("'{part}' has no share; write for example read=95,update=5"))?;
            let at = Operation::NAMES.iter().position(|known| *known == name.trim()).ok_or_else(|| {
                format!("there is no operation '{}'; there are {}", name.trim(), Operation::NAMES.join(", "))
            })?;
            let share = super::flag::percent(share)?;
            if shares.iter().any(|(operation, _)| *operation as usize == at) {
                return Err(format!("'{}' has two shares", name.trim()));
            }
            if share > 0.0 {
                shares.push((Operation::ALL[at], share));
            }
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if (sum - 100.0).abs() > 1e-6 {
            return Err(format!("the shares sum to {sum} percent; they must sum to 100"));
        }
        Ok(Mix(shares))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(op, share)| format!("{}={share}", op.name())).collect();
        write!(f, "{}", parts.join(","))
    }
}

impl Mix {
    /// The next operation.
    pub fn draw(&self, rng: &mut SmallRng) -> Operation {
        let mut at = rng.random::<f64>() * 100.0;
        for (operation, share) in &self.0 {
            at -= share;
            if at < 0.0 {
                return *operation;
            }
        }
        self.0.last().map_or(Operation::Read, |(operation, _)| *operation)
    }

    /// Whether it has a share.
    pub fn has(&self, wanted: Operation) -> bool {
        self.0.iter().any(|(operation, _)| *operation == wanted)
    }

    /// Those that have a share.
    pub fn operations(&self) -> impl Iterator<Item = Operation> {
        self.0.iter().map(|(operation, _)| *operation)
    }
}

/// The core workloads of YCSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ycsb {
    /// Update heavy: half reads, half updates, Zipf.
    A,
    /// Read mostly: 95 % reads, 5 % updates, Zipf.
    B,
    /// Read only, Zipf.
    C,
    /// Read latest: 95 % reads, 5 % inserts, latest.
    D,
    /// Short ranges: 95 % scans, 5 % inserts, Zipf.
    E,
    /// Half reads, half read-modify-writes, Zipf.
    F,
}

impl Ycsb {
    /// Its shares and its distribution.
    pub fn preset(self) -> (&'static str, &'static str) {
        match self {
            Ycsb::A => ("read=50,update=50", "zipf"),
            Ycsb::B => ("read=95,update=5", "zipf"),
            Ycsb::C => ("read=100", "zipf"),
            Ycsb::D => ("read=95,insert=5", "latest"),
            Ycsb::E => ("scan=95,insert=5", "zipf"),
            Ycsb::F => ("read=50,rmw=50", "zipf"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn operations_come_as_often_as_their_shares_say() {
        let mix: Mix = "read=50,update=30,rmw=19.5,scan=0.5,delete=0".parse().unwrap();
        assert_eq!(mix.to_string(), "read=50,update=30,rmw=19.5,scan=0.5");
        assert!(mix.has(Operation::Scan) && !mix.has(Operation::Delete));
        let mut rng = SmallRng::seed_from_u64(5);
        let mut counts = [0_u32; 8];
        (0..200_000).for_each(|_| counts[mix.draw(&mut rng) as usize] += 1);
        for (operation, share) in [("read", 50.0), ("update", 30.0), ("rmw", 19.5), ("scan", 0.5)] {
            let at = Operation::NAMES.iter().position(|name| *name == operation).unwrap();
            assert!((f64::from(counts[at]) / 2000.0 - share).abs() < 0.5, "{operation}: {}", counts[at]);
        }
    }

    #[test]
    fn shares_that_cannot_work_are_told() {
        let error = |text: &str| text.parse::<Mix>().unwrap_err();
        assert!(error("read=50,update=40").contains("sum to 90 percent"));
        assert!(error("read=50,write=50").contains("there are read, update, insert"));
        assert!(error("read").contains("read=95"));
        assert!(error("read=50,read=50").contains("two shares"));
        assert!(error("read=-1,update=101").contains("0 to 100"));
        assert!(error("read=x").contains("not a number"));
    }

    #[test]
    fn every_preset_is_a_mix_and_a_distribution() {
        for preset in Ycsb::value_variants() {
            let (mix, distribution) = preset.preset();
            assert!(
                mix.parse::<Mix>().is_ok()
                    && distribution.parse::<super::super::keys::Distribution>().is_ok()
            );
        }
    }
}
