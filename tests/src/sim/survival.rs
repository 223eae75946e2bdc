//! What a power cut leaves of the writes that were not certain: one shape a cut, drawn from a seed.
//!
//! A shape is asked for all uncertain writes of a cut together, in the order in which they were answered (those in
//! flight last), and says for each sector of each write whether it reached the medium. Independent sectors alone
//! would find few bugs: most of those that matter need all but one sector, or all of a later write and nothing of
//! an earlier one.

use rand::RngExt;
use rand::rngs::StdRng;

/// What becomes of sectors that are not certain when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None is kept.
    None,
    /// All are kept.
    All,
    /// Each is kept with this chance, in percent.
    Some(u8),
    /// All but one sector of one write are kept.
    AllButOne,
    /// All but one write are kept.
    AllButWrite,
    /// All but the first sector of each write are kept.
    AllButFirst,
    /// Of each write a beginning is kept.
    Prefix,
    /// Writes up to a moment are kept, the next one in part, those after it are lost.
    InOrder,
    /// Writes from a moment on are kept, those before it are lost.
    NewestFirst,
    /// Each write is kept or lost as a whole.
    Writes,
    /// Each device region of 8 KiB keeps all or nothing, whatever the write.
    Regions,
}

/// One uncertain write, as a shape sees it.
#[derive(Clone, Copy, Debug)]
pub struct Uncertain {
    /// Where it begins, in sectors of the device.
    pub first: usize,
    /// How many sectors it has.
    pub count: usize,
}

/// Sectors of 512 bytes in a region of `Survival::Regions`.
const REGION: usize = 16;

impl Survival {
    /// Every shape, for those who want to see each.
    pub const EACH: [Survival; 13] = [
        Survival::None,
        Survival::All,
        Survival::Some(10),
        Survival::Some(50),
        Survival::Some(90),
        Survival::AllButOne,
        Survival::AllButWrite,
        Survival::AllButFirst,
        Survival::Prefix,
        Survival::InOrder,
        Survival::NewestFirst,
        Survival::Writes,
        Survival::Regions,
    ];

    /// Any of them.
    pub fn draw(rng: &mut StdRng) -> Self {
        Self::EACH[rng.random_range(0..Self::EACH.len())]
    }

    /// Which sectors of each write are kept.
    pub fn choose(self, writes: &[Uncertain], rng: &mut StdRng) -> Vec<Vec<bool>> {
        let chosen = rng.random_range(0..writes.len().max(1));
        let salt: u64 = rng.random();
        let mut kept = Vec::with_capacity(writes.len());
        for (nth, write) in writes.iter().enumerate() {
            let at = rng.random_range(0..write.count.max(1));
            let whole = rng.random_bool(0.5);
            let sectors = (0..write.count).map(|i| match self {
                Survival::None => false,
                Survival::All => true,
                Survival::Some(percent) => rng.random_range(0..100) < u32::from(percent),
                Survival::AllButOne => nth != chosen || i != at,
                Survival::AllButWrite => nth != chosen,
                Survival::AllButFirst => i != 0,
                Survival::Prefix => i < at,
                Survival::InOrder => nth < chosen || (nth == chosen && i < at),
                Survival::NewestFirst => nth >= chosen,
                Survival::Writes => whole,
                Survival::Regions => region_is_kept((write.first + i) / REGION, salt),
            });
            kept.push(sectors.collect());
        }
        kept
    }
}

fn region_is_kept(region: usize, salt: u64) -> bool {
    (region as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn shapes_keep_what_they_say() {
        let writes = [Uncertain { first: 0, count: 8 }, Uncertain { first: 64, count: 8 }];
        let mut rng = StdRng::seed_from_u64(1);
        let mut count = |shape: Survival| {
            let kept = shape.choose(&writes, &mut rng);
            kept.iter().flatten().filter(|&&kept| kept).count()
        };
        for _ in 0..50 {
            assert_eq!(count(Survival::None), 0);
            assert_eq!(count(Survival::All), 16);
            assert_eq!(count(Survival::AllButOne), 15);
            assert_eq!(count(Survival::AllButWrite), 8);
            assert_eq!(count(Survival::AllButFirst), 14);
            assert!(count(Survival::InOrder) < 16);
            assert!([8, 16].contains(&count(Survival::NewestFirst)));
            assert!([0, 8, 16].contains(&count(Survival::Writes)));
            assert!([0, 8, 16].contains(&count(Survival::Regions)));
        }
    }
}
