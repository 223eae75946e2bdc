//! A volume's two promises between writers and the flush job: what is acknowledged as durable lies on the device, and a
//! block is reused only when what emptied it does too (I4).
//!
//! Streams, write buffers and block table are the engine's. The flush job here is what `jobs/flush.rs` does with them:
//! freeze, write without any lock, tell the stream, settle. It has no clock: a tail is frozen when somebody waits for it.

use aerolith_engine::device::{AlignedBuffer, MemoryDevice, Request};
use aerolith_engine::format::{DeviceHeader, EncodedRecord, RecordFlags, RecordView};
use aerolith_engine::index::{Location, SizeClass};
use aerolith_models::explore;
use aerolith_models::planted::{Bug, plant};
use aerolith_models::signal::Signal;
use aerolith_models::volume::{
    AppendClock, AppendContext, Appended, BlockId, BlockState, FoundBlock, Progress, Receipt, StreamId,
    Volume,
};
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};
use shuttle::thread;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};

const BLOCK_SIZE: u32 = 16 << 10;
const BLOCKS: u32 = 8;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Log {
    volume: Volume,
    signal: Arc<Signal>,
    stop: AtomicBool,
}

/// A record that says which version it is.
fn record(version: u64) -> (EncodedRecord, SizeClass) {
    let mut record = EncodedRecord::begin(&[1; 20], b"", 0, b"", 40);
    record.body().extend_from_slice(&[version as u8; 40]);
    record.complete(version, 1, 0, 0, RecordFlags(0), 1);
    let class = SizeClass::for_size(record.length());
    (record, class)
}

impl Log {
    fn new() -> Arc<Self> {
        let size = u64::from(BLOCK_SIZE * BLOCKS);
        let header = DeviceHeader {
            block_size: BLOCK_SIZE,
            block_count: BLOCKS,
            device_size: size,
            member_count: 1,
            incarnation: 1,
            ..DeviceHeader::new("test")
        };
        let mut found = vec![FoundBlock::Life { epoch: 1, stream: 0, first_sequence: 0 }; BLOCKS as usize];
        found[0] = FoundBlock::Blank;
        let signal = Arc::new(Signal::default());
        let clock = Arc::new(AppendClock::starting_at(1));
        let device = Arc::new(MemoryDevice::new("memory", size));
        let volume = Volume::new(device, header, &found, 2, 4, clock, signal.clone());
        volume.blocks.finish_recovery(&found);
        Arc::new(Log { volume, signal, stop: AtomicBool::new(false) })
    }

    fn context(&self, stream: u8, sequence: u64) -> AppendContext {
        AppendContext { stream: StreamId(stream), floor: 0, now_ms: 0, mono_ms: 0, sequence }
    }

    fn append(&self, stream: u8, version: u64) -> Appended {
        let (record, class) = record(version);
        self.volume.append(&record, class, self.context(stream, version)).expect("there are free blocks")
    }

    /// The version that lies on the device at this place of the block's present life.
    fn on_device(&self, location: Location) -> Option<u64> {
        let (block, pos) = self.volume.place(location);
        let (_, class) = record(0);
        let offset = u64::from(block.0) * u64::from(BLOCK_SIZE);
        let buffer = AlignedBuffer::zeroed(BLOCK_SIZE as usize);
        let bytes = self.volume.device.submit(Request::Read { offset, buffer }).wait().into_buffer().unwrap();
        let salt = self.volume.salt(block, self.volume.blocks.epoch(block));
        let bytes = &bytes[pos as usize..][..class.bytes() as usize];
        RecordView::parse(bytes, salt, pos).ok().map(|record| record.header().sequence)
    }

    /// As `Core::wait_durable`.
    fn wait_durable(&self, receipt: Receipt) {
        block_on(poll_fn(|context| {
            if self.volume.stream(receipt.stream).lock().poll_durable(receipt.number, context.waker()) {
                return Poll::Ready(());
            }
            self.signal.raise();
            Poll::Pending
        }));
    }

    fn progressed(progress: Progress) {
        progress.wake.into_iter().for_each(Waker::wake);
    }

    /// One step of the flush job. `all`: also tails that nobody waits for.
    fn step(&self, all: bool) -> bool {
        let mut writes = Vec::new();
        for id in [0, 1].map(StreamId) {
            Self::progressed(self.volume.advance(id));
            let mut state = self.volume.stream(id).lock();
            if all || state.commit_wanted {
                state.commit_tail();
            }
            while let Some(write) = state.next_write() {
                writes.push((id, write));
            }
        }
        let any = !writes.is_empty();
        // The device may answer in any order.
        for (id, write) in writes.into_iter().rev() {
            let offset = u64::from(write.block.0) * u64::from(BLOCK_SIZE) + u64::from(write.pos);
            let request = Request::Write { offset, data: write.data, range: write.range, durable: true };
            self.volume.device.submit(request).wait().result.unwrap();
            Self::progressed(self.volume.written(id, write.id));
        }
        any
    }

    /// The flush job on its thread, as `JobThread` runs it; `settle` is called at the end of each step.
    fn start(self: &Arc<Self>, settle: impl Fn(&Log) + Send + 'static) -> thread::JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            log.signal.connect(Waker::from(Arc::new(Unpark(thread::current()))));
            while !log.stop.load(SeqCst) {
                log.signal.take();
                let any = log.step(false);
                settle(&log);
                if !any {
                    thread::park();
                }
            }
        })
    }

    fn stop(&self, job: thread::JoinHandle<()>) {
        self.stop.store(true, SeqCst);
        self.signal.take();
        self.signal.raise();
        job.join().unwrap();
    }
}

/// Writers who append, overwrite what they just wrote, and wait.
fn acknowledgements() {
    let log = Log::new();
    let job = log.start(|_| {});
    let writer = |stream: u8| {
        let log = log.clone();
        thread::spawn(move || {
            let first = u64::from(stream) * 100 + 1;
            let Appended { location, .. } = log.append(stream, first);
            let (newer, class) = record(first + 1);
            let (location, receipt) = match log.volume.overwrite(location, class, &newer, class) {
                Some(receipt) => (location, receipt),
                None => {
                    let appended = log.append(stream, first + 1);
                    (appended.location, appended.receipt)
                }
            };
            log.wait_durable(receipt);
            assert_eq!(log.on_device(location), Some(first + 1), "acknowledged and not there");
            let third = log.append(stream, first + 2);
            log.wait_durable(third.receipt);
            assert_eq!(log.on_device(third.location), Some(first + 2), "acknowledged and not there");
        })
    };
    let writers = [writer(0), writer(1), writer(1)];
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    log.stop(job);
}

#[test]
fn what_is_acknowledged_is_on_the_device() {
    explore(400, acknowledgements);
}

#[test]
#[should_panic(expected = "acknowledged and not there")]
fn an_acknowledgement_that_comes_too_early_is_found() {
    plant(Some(Bug::AckBeforeDurable));
    explore(400, acknowledgements);
}

/// A block with two records that two writers replace, in two streams, while the flush job writes and settles.
///
/// `written_before`: whether the block is on the device when they begin, or is still on its way.
fn reuse(written_before: bool, settle: fn(&Log)) {
    let log = Log::new();
    let old = [log.append(0, 1), log.append(0, 2)].map(|appended| appended.location);
    let (block, _) = log.volume.place(old[0]);
    log.volume.seal_open(&mut log.volume.stream(StreamId(0)).lock(), 3);
    if written_before {
        while log.step(true) {}
        assert_eq!(log.volume.blocks.state(block), BlockState::Sealed);
    }
    let replaced: Arc<Mutex<Vec<(Location, u64)>>> = Arc::default();
    let seen = replaced.clone();
    let job = log.start(move |log| {
        settle(log);
        check_reuse(log, block, &seen);
    });
    let writer = |stream: u8| {
        let (log, replaced) = (log.clone(), replaced.clone());
        let old = old[usize::from(stream)];
        thread::spawn(move || {
            let version = 10 + u64::from(stream);
            let Appended { location, receipt } = log.append(stream, version);
            replaced.lock().unwrap().push((location, version));
            log.volume.release(old, record(0).1);
            log.wait_durable(receipt);
        })
    };
    let writers = [writer(0), writer(1)];
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    log.stop(job);
    while log.step(true) {}
    log.volume.blocks.settle(|| log.volume.undurable_from());
    assert_eq!(log.volume.blocks.state(block), BlockState::Free, "at last it is free");
    check_reuse(&log, block, &replaced);
}

fn check_reuse(log: &Log, block: BlockId, replaced: &Mutex<Vec<(Location, u64)>>) {
    if log.volume.blocks.state(block) == BlockState::Free {
        for &(location, version) in &*replaced.lock().unwrap() {
            assert_eq!(log.on_device(location), Some(version), "I4: reused too early");
        }
    }
}

fn as_it_is(log: &Log) {
    log.volume.blocks.settle(|| log.volume.undurable_from());
}

#[test]
fn i4_a_block_is_reused_when_what_emptied_it_is_on_the_device() {
    explore(400, || reuse(true, as_it_is));
    explore(400, || reuse(false, as_it_is));
}

#[test]
#[should_panic(expected = "I4: reused too early")]
fn i4_a_mark_that_is_read_before_the_lock_is_found() {
    explore(4000, || {
        reuse(true, |log| {
            let early = log.volume.undurable_from();
            log.volume.blocks.settle(|| early);
        });
    });
}

#[test]
#[should_panic(expected = "I4: reused too early")]
fn i4_a_block_that_does_not_settle_is_found() {
    plant(Some(Bug::ReuseBeforeSettled));
    explore(400, || reuse(true, as_it_is));
}
