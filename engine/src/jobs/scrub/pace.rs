//! How fast the scrub may read.
//!
//! A credit grows with time and is spent by reads; a read may begin when the credit is not negative, whatever its
//! size. So what has been read by any moment is at most rate times time and one read more. Credit that was not used
//! is kept for a tenth of a second only: a scrub that was held up does not make up for it in one go.

/// Unused credit is kept for so long, in milliseconds.
const KEPT_MS: u64 = 100;

/// The pace.
pub(super) struct Pace {
    rate: u64,
    /// In thousandths of a byte, so that no fraction is lost. Negative: too much has been read.
    credit: i128,
    last_ms: u64,
}

impl Pace {
    /// `rate` bytes a second, from `now_ms` on.
    pub fn new(rate: u64, now_ms: u64) -> Self {
        Pace { rate, credit: 0, last_ms: now_ms }
    }

    /// It is this rate from now on.
    pub fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// How many milliseconds the next read has to wait; 0: it may begin.
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let rate = i128::from(self.rate);
        let elapsed = now_ms.saturating_sub(self.last_ms);
        self.last_ms = now_ms;
        self.credit = (self.credit + rate * i128::from(elapsed)).min(rate * i128::from(KEPT_MS));
        if self.credit >= 0 {
            0
        } else {
            u64::try_from((-self.credit + rate - 1) / rate.max(1)).unwrap_or(u64::MAX)
        }
    }

    /// `size` bytes are being read.
    pub fn spend(&mut self, size: u32) {
        self.credit -= i128::from(size) * 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_rate_times_time_and_one_read() {
        for (rate, piece, step) in
            [(1000, 700, 1), (16 << 20, 1 << 20, 7), (1, 4096, 1000), (1 << 30, 1 << 26, 1)]
        {
            let mut pace = Pace::new(rate, 0);
            let (mut read, mut now) = (0u128, 0);
            for i in 0..10_000 {
                now += if i % 1000 == 999 { 60_000 } else { step };
                let allowed = u128::from(rate) * now as u128 / 1000;
                while pace.wait_ms(now) == 0 && read <= allowed {
                    pace.spend(piece);
                    read += u128::from(piece);
                }
                assert!(read <= allowed + u128::from(piece), "{rate}: {read} in {now} ms");
            }
        }
    }

    #[test]
    fn it_comes_close_to_its_rate_and_says_how_long_to_wait() {
        let mut pace = Pace::new(1_000_000, 5);
        let (mut read, mut now) = (0u64, 5);
        while now < 10_005 {
            match pace.wait_ms(now) {
                0 => {
                    pace.spend(65_536);
                    read += 65_536;
                }
                ms => now += ms,
            }
        }
        assert!((9_900_000..=10_065_536).contains(&read), "{read}");
    }
}
