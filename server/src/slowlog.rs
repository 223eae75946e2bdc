//! Commands that took longer than a threshold: the last of them, newest first.
//!
//! A command's time is its own: from when its turn came until its reply is queued, what it waited for included. A worker
//! compares two numbers; only a slow command takes the lock.
//!
//! What always holds: at most `slowlog-max-len` entries, of at most 32 words of at most 128 bytes each (I9).

use crate::latency::{Protocol, nanoseconds};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Words of a command that are kept; the last of these says how many more there were.
const MAX_WORDS: usize = 32;
/// Bytes of a word that are kept.
const MAX_WORD_SIZE: usize = 128;

/// One slow command.
#[derive(Debug, Clone)]
pub(crate) struct Slow {
    pub(crate) id: u64,
    /// When it ended, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) us: u64,
    pub(crate) protocol: Protocol,
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) client: String,
    pub(crate) client_name: String,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// In microseconds; negative: nothing is slow.
    pub(crate) threshold_us: AtomicI64,
    max_len: AtomicU64,
    next_id: AtomicU64,
    entries: Mutex<VecDeque<Slow>>,
}

impl SlowLog {
    pub(crate) fn new(threshold_us: i64, max_len: u64) -> SlowLog {
        SlowLog {
            threshold_us: AtomicI64::new(threshold_us),
            max_len: AtomicU64::new(max_len),
            next_id: AtomicU64::new(0),
            entries: Mutex::default(),
        }
    }

    /// Whether a command that took so long belongs here.
    #[inline]
    pub(crate) fn is_slow(&self, time: Duration) -> bool {
        // As unsigned a negative threshold is beyond all times.
        let threshold_us = self.threshold_us.load(Relaxed).cast_unsigned();
        nanoseconds(time) >= threshold_us.saturating_mul(1000)
    }

    /// Takes a slow command in.
    pub(crate) fn note<'a>(
        &self,
        protocol: Protocol,
        time: Duration,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
        client: &crate::clients::Client,
    ) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let slow = Slow {
            id: self.next_id.fetch_add(1, Relaxed),
            at_ms: crate::clock::unix_ms(),
            us,
            protocol,
            words: kept(words),
            client: client.address.to_string(),
            client_name: client.names().name.clone(),
        };
        let words = slow.words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        tracing::debug!(
            protocol = protocol.name(),
            us,
            client = slow.client,
            command = words,
            "slow command"
        );
        let mut entries = self.entries();
        entries.push_front(slow);
        entries.truncate(usize::try_from(self.max_len()).unwrap_or(usize::MAX));
    }

    /// The newest `count`, newest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<Slow> {
        self.entries().iter().take(count).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(crate) fn max_len(&self) -> u64 {
        self.max_len.load(Relaxed)
    }

    /// Keeps at most so many from now on.
    pub(crate) fn set_max_len(&self, max_len: u64) {
        self.max_len.store(max_len, Relaxed);
        self.entries().truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    /// How many there ever were.
    pub(crate) fn total(&self) -> u64 {
        self.next_id.load(Relaxed)
    }

    pub(crate) fn clear(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Slow>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a command's words.
fn kept<'a>(words: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let count = words.len();
    let whole = if count > MAX_WORDS { MAX_WORDS - 1 } else { count };
    let mut kept: Vec<Vec<u8>> = words
        .take(whole)
        .map(|word| match word.get(..MAX_WORD_SIZE) {
            Some(start) if word.len() > MAX_WORD_SIZE => {
                let more = word.len() - MAX_WORD_SIZE;
                [start, format!("... ({more} more bytes)").as_bytes()].concat()
            }
            _ => word.to_vec(),
        })
        .collect();
    if whole < count {
        kept.push(format!("... ({} more arguments)", count - whole).into_bytes());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::Client;

    #[test]
    fn the_newest_are_kept_newest_first_and_shortened() {
        let log = SlowLog::new(10, 2);
        assert!(log.is_slow(Duration::from_micros(10)) && !log.is_slow(Duration::from_micros(9)));
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 7));
        let client = Client::new(1, address, address);
        let long = [b'x'; 200];
        for count in [1_usize, 32, 33] {
            let words = std::iter::repeat_n(&long[..], count).collect::<Vec<_>>();
            log.note(Protocol::Redis, Duration::from_millis(1), words.into_iter(), &client);
        }
        assert_eq!((log.len(), log.total()), (2, 3));
        let [newest, older] = &log.newest(10)[..] else { panic!("two are kept") };
        assert_eq!((newest.id, older.id, newest.us, newest.words.len()), (2, 1, 1000, 32));
        assert_eq!(newest.words[31], b"... (2 more arguments)");
        assert_eq!(older.words.len(), 32);
        assert_eq!(older.words[0], [&long[..128], b"... (72 more bytes)"].concat());
        log.set_max_len(1);
        assert_eq!((log.len(), log.newest(1)[0].id), (1, 2));
        log.clear();
        assert_eq!((log.len(), log.total()), (0, 3));
        log.threshold_us.store(-1, Relaxed);
        assert!(!log.is_slow(Duration::from_secs(100)));
    }
}
