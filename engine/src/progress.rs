//! How far an open has come, for whoever waits for it; and the way to call it off.
//!
//! The caller makes an [`OpenProgress`], hands it in with the configuration, and looks at it from any thread
//! while `Engine::open` runs on another. The figures are for people: each is right when it was written, two of
//! them read together may be from different moments.
//!
//! If a checkpoint turns out to be damaged after the tail behind it was swept, all blocks are swept again. Then the phases go on
//! to those of the second attempt, and the totals grow by what is looked at again.
//!
//! What always holds: counts only go forward, and a version is counted once, however many attempts it takes; within a
//! namespace phases go forward too, but for a third attempt, which goes through those of the second once more; an open
//! that was cancelled before it had seen every block has written nothing to a device that held data before, and ends
//! with `Error::Cancelled`; nothing grows beyond its total.

use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Where an open is. The phases come in this order; with several namespaces, once for each. Most opens end with
/// `Settling`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OpenPhase {
    /// The devices are being opened, locked and checked.
    #[default]
    Claiming = 0,
    /// Blocks are being read.
    Sweeping = 1,
    /// What was found is being made into the index.
    Settling = 2,
    /// The checkpoint was damaged: blocks are being read without it.
    Resweeping = 3,
    /// What was found without it is being made into the index.
    Resettling = 4,
}

impl OpenPhase {
    /// One word for logs and figures.
    pub fn name(self) -> &'static str {
        match self {
            OpenPhase::Claiming => "claiming",
            OpenPhase::Sweeping => "sweeping",
            OpenPhase::Settling => "settling",
            OpenPhase::Resweeping => "sweeping again without the checkpoint",
            OpenPhase::Resettling => "settling again",
        }
    }
}

/// What an open tells while it runs. See the head of this file.
#[derive(Debug, Default)]
pub struct OpenProgress {
    phase: AtomicU8,
    blocks: AtomicU64,
    blocks_done: AtomicU64,
    size: AtomicU64,
    size_done: AtomicU64,
    versions: AtomicU64,
    /// Versions of the namespaces before this one.
    versions_before: AtomicU64,
    /// Whether the blocks of this namespace have been swept before.
    is_again: AtomicBool,
    is_cancelled: AtomicBool,
    is_held: Mutex<bool>,
    released: Condvar,
}

impl OpenProgress {
    /// A progress whose open waits before its first block until `release` or `cancel` is called: so that a test
    /// decides how long an open takes.
    pub fn held() -> Self {
        OpenProgress { is_held: Mutex::new(true), ..Self::default() }
    }

    /// Lets a held open go on.
    pub fn release(&self) {
        *self.is_held.lock() = false;
        self.released.notify_all();
    }

    /// Calls the open off: it ends soon, with `Error::Cancelled`, unless it is through already.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.release();
    }

    /// Whether the open was called off.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    /// Where the open is.
    pub fn phase(&self) -> OpenPhase {
        match self.phase.load(Ordering::Relaxed) {
            0 => OpenPhase::Claiming,
            1 => OpenPhase::Sweeping,
            2 => OpenPhase::Settling,
            3 => OpenPhase::Resweeping,
            _ => OpenPhase::Resettling,
        }
    }

    /// Blocks to look at, as far as it is known yet. Those that are looked at again count again.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Blocks that have been looked at.
    pub fn blocks_done(&self) -> u64 {
        self.blocks_done.load(Ordering::Relaxed)
    }

    /// Bytes that the blocks to look at span. Of most of them only a few pages are read.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Bytes that the blocks looked at span.
    pub fn size_done(&self) -> u64 {
        self.size_done.load(Ordering::Relaxed)
    }

    /// Versions of records found. Those that two attempts find count once.
    pub fn versions(&self) -> u64 {
        self.versions.load(Ordering::Relaxed)
    }

    /// `Cancelled`, if the open was called off.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// The open is there now: claiming is where a namespace begins.
    pub(crate) fn enter(&self, phase: OpenPhase) {
        let is_again = self.is_again.load(Ordering::Relaxed);
        let phase = match phase {
            OpenPhase::Claiming => {
                self.versions_before.store(self.versions(), Ordering::Relaxed);
                self.is_again.store(false, Ordering::Relaxed);
                phase
            }
            OpenPhase::Sweeping | OpenPhase::Resweeping if is_again => OpenPhase::Resweeping,
            OpenPhase::Settling | OpenPhase::Resettling if is_again => OpenPhase::Resettling,
            OpenPhase::Sweeping | OpenPhase::Settling | OpenPhase::Resweeping | OpenPhase::Resettling => {
                phase
            }
        };
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// So many blocks more, of so many bytes in all, are going to be looked at. Waits while the open is held.
    pub(crate) fn begin_sweep(&self, blocks: u64, size: u64) {
        self.size.fetch_add(size, Ordering::Relaxed);
        self.blocks.fetch_add(blocks, Ordering::Relaxed);
        // A namespace is swept once more only after it has been settled in vain.
        self.is_again.store(self.phase() >= OpenPhase::Settling, Ordering::Relaxed);
        self.enter(OpenPhase::Sweeping);
        let mut is_held = self.is_held.lock();
        while *is_held {
            self.released.wait(&mut is_held);
        }
    }

    /// A block of so many bytes has been looked at, and so many versions of this namespace were found by now.
    pub(crate) fn block_done(&self, size: u64, versions: u64) {
        self.blocks_done.fetch_add(1, Ordering::Relaxed);
        self.size_done.fetch_add(size, Ordering::Relaxed);
        let versions = self.versions_before.load(Ordering::Relaxed) + versions;
        self.versions.fetch_max(versions, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Config, DeviceConfig, NamespaceConfig};
    use crate::device::{AlignedBuffer, Counters, Device, Geometry, MemoryDevice, Request, Ticket};
    use crate::format::{CHECKPOINT_STREAM, CheckpointRoot, PART_PAYLOAD, ROOT_OFFSET};
    use crate::{Engine, Key, Timestamp, WritePolicy, block_on};
    use std::sync::Arc;
    use std::time::Duration;

    const BLOCK: u64 = 64 << 10;

    fn open(device: &Arc<dyn Device>, progress: &Arc<OpenProgress>) -> Result<Engine> {
        // Behind a checkpoint there would be no versions to find.
        open_with(device, progress, None)
    }

    fn open_with(
        device: &Arc<dyn Device>,
        progress: &Arc<OpenProgress>,
        checkpoint_period: Option<Duration>,
    ) -> Result<Engine> {
        let namespace = NamespaceConfig {
            devices: vec![DeviceConfig::Handed(device.clone())],
            block_size: BLOCK as u32,
            checkpoint_period,
            ..NamespaceConfig::default()
        };
        let config = Config { progress: Some(progress.clone()), ..Config::of(namespace) };
        Engine::open_by_hand(config, Arc::new(ManualClock::at(Timestamp(1_767_225_600_000))), 1)
    }

    /// A device with three records, cleanly closed.
    fn written() -> Arc<dyn Device> {
        let device: Arc<dyn Device> = Arc::new(MemoryDevice::new("memory", 16 * BLOCK));
        let engine = open(&device, &Arc::default()).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        for name in ["a", "b", "c"] {
            let key = Key::new("set", name).unwrap();
            block_on(test.put(&key, &[("n", 1.into())], &WritePolicy::default())).unwrap();
        }
        engine.close().unwrap();
        device
    }

    #[test]
    fn an_open_tells_all_its_blocks_and_versions() {
        let progress = Arc::new(OpenProgress::default());
        open(&written(), &progress).unwrap().close().unwrap();
        assert_eq!(progress.phase(), OpenPhase::Settling);
        assert_eq!((progress.blocks(), progress.blocks_done()), (15, 15), "the header's block is not swept");
        assert_eq!((progress.size(), progress.size_done()), (15 * BLOCK, 15 * BLOCK));
        assert_eq!(progress.versions(), 3);
    }

    #[test]
    fn a_cancelled_open_says_so_and_has_changed_nothing() {
        let device = written();
        let bytes = |device: &Arc<dyn Device>| {
            let buffer = crate::device::AlignedBuffer::zeroed(16 * BLOCK as usize);
            let read = crate::device::Request::Read { offset: 0, buffer };
            device.submit(read).wait().into_buffer().unwrap().to_vec()
        };
        let before = bytes(&device);
        let progress = Arc::new(OpenProgress::default());
        progress.cancel();
        assert!(matches!(open(&device, &progress), Err(Error::Cancelled)));
        assert!(bytes(&device) == before);
        assert_eq!(progress.blocks_done(), 0);
        assert_eq!(open(&device, &Arc::default()).unwrap().recovery("test").unwrap().records, 3);
    }

    #[test]
    fn a_held_open_waits_for_its_release() {
        let device = written();
        let progress = Arc::new(OpenProgress::held());
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| open(&device, &progress).map(|engine| engine.close()));
            while progress.blocks() == 0 {
                std::thread::yield_now();
            }
            assert_eq!((progress.phase(), progress.blocks_done()), (OpenPhase::Sweeping, 0));
            assert!(!opening.is_finished());
            progress.release();
            opening.join().unwrap().unwrap().unwrap();
        });
        assert_eq!(progress.blocks_done(), 15);
    }
    /// A device that looks at the progress whenever it is read.
    struct Watcher {
        device: Arc<dyn Device>,
        progress: Arc<OpenProgress>,
        seen: Mutex<Vec<OpenPhase>>,
        figures: Mutex<[u64; 5]>,
    }

    impl Device for Watcher {
        fn geometry(&self) -> Geometry {
            self.device.geometry()
        }

        fn submit(&self, request: Request) -> Ticket {
            let progress = &self.progress;
            let now = [
                progress.blocks(),
                progress.blocks_done(),
                progress.size(),
                progress.size_done(),
                progress.versions(),
            ];
            let mut before = self.figures.lock();
            assert!(before.iter().zip(&now).all(|(before, now)| before <= now), "{before:?}, {now:?}");
            *before = now;
            let mut seen = self.seen.lock();
            if seen.last() != Some(&progress.phase()) {
                seen.push(progress.phase());
            }
            self.device.submit(request)
        }

        fn counters(&self) -> &Counters {
            self.device.counters()
        }
    }

    fn read(device: &dyn Device, offset: u64, size: u64) -> AlignedBuffer {
        let buffer = AlignedBuffer::zeroed(size as usize);
        device.submit(Request::Read { offset, buffer }).wait().into_buffer().unwrap()
    }

    #[test]
    fn a_checkpoint_that_is_rejected_late_counts_no_version_twice_and_takes_no_phase_back() {
        let device = written();
        // A checkpoint of the three, and a fourth one behind it.
        let engine = open_with(&device, &Arc::default(), Some(Duration::from_secs(3600))).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        block_on(test.put(&Key::new("set", "d").unwrap(), &[("n", 1.into())], &WritePolicy::default()))
            .unwrap();
        engine.close().unwrap();
        let engine = open(&device, &Arc::default()).unwrap();
        let test = engine.namespace("test").unwrap().to_async();
        block_on(test.put(&Key::new("set", "e").unwrap(), &[("n", 1.into())], &WritePolicy::default()))
            .unwrap();
        engine.close().unwrap();
        // The body is read last: by then the tail has been swept.
        let roots =
            [0, 4096].map(|slot| CheckpointRoot::parse(&read(device.as_ref(), ROOT_OFFSET + slot, 4096)));
        let summary = roots.into_iter().flatten().max_by_key(|root| root.id).unwrap().summary_block;
        let is_body = |block: &u64| {
            *block != u64::from(summary)
                && read(device.as_ref(), block * BLOCK, 4096)[14] == CHECKPOINT_STREAM
        };
        let body = (1..16).find(is_body).unwrap() * BLOCK;
        let mut page = read(device.as_ref(), body, 4096);
        page[PART_PAYLOAD as usize + 5] ^= 1;
        let request = Request::Write { offset: body, data: Arc::new(page), range: 0..4096, durable: true };
        device.submit(request).wait().result.unwrap();

        let progress = Arc::new(OpenProgress::default());
        let watcher = Arc::new(Watcher {
            device,
            progress: progress.clone(),
            seen: Mutex::default(),
            figures: Mutex::default(),
        });
        let engine = open(&(watcher.clone() as Arc<dyn Device>), &progress).unwrap();
        let recovery = engine.recovery("test").unwrap();
        assert_eq!((recovery.rejected_checkpoints, recovery.records, recovery.versions), (1, 5, 5));
        // The one in the tail was found by both attempts.
        assert_eq!(progress.versions(), 5);
        assert_eq!((progress.blocks(), progress.blocks_done()), (30, 30));
        assert_eq!(progress.phase(), OpenPhase::Resettling);
        let seen = watcher.seen.lock();
        assert!(seen.is_sorted() && seen.contains(&OpenPhase::Resweeping), "{seen:?}");
    }
}
