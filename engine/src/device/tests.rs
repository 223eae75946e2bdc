//! One body for every driver: what a device promises does not depend on how it keeps it.

use std::fs::{self, File};
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::context::{block_on, blocking};
use super::setup::Level;
use super::*;

const MIB: u64 = 1 << 20;

/// A directory on a real file system: /tmp may be a tmpfs, which may have no direct I/O.
fn scratch() -> TempDir {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    let parent = if target.is_dir() { target } else { ".".into() };
    TempDir::new_in(parent).expect("a directory for the test")
}

fn options(directory: &TempDir, size: u64) -> DeviceOptions {
    let path = directory.path().join("device");
    DeviceOptions { size: Some(size), create: true, ..DeviceOptions::new(path) }
}

/// A ring for this thread; says so and gives none where there is no io_uring.
fn local_ring(entries: u32) -> Option<LocalRing> {
    LocalRing::install(entries).map_err(|error| eprintln!("skipped: {error}")).ok()
}

/// Runs one test body against every driver, each on its own fresh device.
fn with_every_driver(size: u64, body: impl Fn(&str, Arc<dyn Device>)) {
    body("memory", Arc::new(MemoryDevice::new("memory", size)));
    let file = |driver, shared_ring| -> (TempDir, Arc<dyn Device>) {
        let directory = scratch();
        let options = DeviceOptions { driver, shared_ring, ..options(&directory, size) };
        (directory, Arc::new(FileDevice::open(options).unwrap()))
    };
    let (_directory, device) = file(Driver::Blocking, None);
    body("blocking", device);
    let (_directory, device) = file(Driver::Auto, None);
    blocking(|| body("blocking scope", device));
    let (_directory, device) = file(Driver::Auto, Some(SharedRing::start()));
    body("shared ring", device);
    if let Some(_ring) = local_ring(8) {
        let (_directory, device) = file(Driver::Ring, None);
        body("local ring", device);
    }
}

fn read(device: &dyn Device, offset: u64, len: usize) -> Ticket {
    device.submit(Request::Read { offset, buffer: AlignedBuffer::for_read(len) })
}

fn write(device: &dyn Device, offset: u64, data: &[u8], durable: bool) -> Ticket {
    let data = Arc::new(AlignedBuffer::copy_of(data));
    let range = 0..data.len();
    device.submit(Request::Write { offset, data, range, durable })
}

/// Bytes that say where they belong.
fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| ((offset + i) / 512).wrapping_mul(0x9E37_79B9) as u8 ^ (i % 251) as u8).collect()
}

#[test]
fn what_is_written_is_read_back() {
    with_every_driver(4 * MIB, |driver, device| {
        let mut rng = StdRng::seed_from_u64(41);
        let sector = device.geometry().sector_size as usize;
        let mut model = vec![0u8; 4 << 20];
        for round in 0..300 {
            let sectors = rng.random_range(1..=if round % 50 == 0 { 1024 } else { 40 });
            let (len, last) = (sectors * sector, model.len() / sector - sectors);
            let offset = rng.random_range(0..=last) * sector;
            let data = pattern(round, len);
            write(&*device, offset as u64, &data, round % 7 == 0).wait().result.unwrap();
            model[offset..offset + len].copy_from_slice(&data);
            let offset = rng.random_range(0..=last) * sector;
            let got = read(&*device, offset as u64, len).wait().into_buffer().unwrap();
            assert!(got[..] == model[offset..offset + len], "{driver}: round {round}, offset {offset}");
        }
        let all = read(&*device, 0, model.len()).wait().into_buffer().unwrap();
        assert!(all[..] == model[..], "{driver}");
    });
}

#[test]
fn a_write_may_take_part_of_its_buffer() {
    with_every_driver(MIB, |driver, device| {
        let data = Arc::new(AlignedBuffer::copy_of(&pattern(0, 65_536)));
        let request = Request::Write { offset: 8192, data: data.clone(), range: 4096..12_288, durable: true };
        device.submit(request).wait().result.unwrap();
        let got = read(&*device, 4096, 16_384).wait().into_buffer().unwrap();
        assert!(got[..4096].iter().all(|&byte| byte == 0), "{driver}");
        assert!(got[4096..12_288] == data[4096..12_288], "{driver}");
        assert!(got[12_288..].iter().all(|&byte| byte == 0), "{driver}");
    });
}

#[test]
fn many_futures_at_once_each_get_their_own_bytes() {
    with_every_driver(4 * MIB, |driver, device| {
        block_on(async {
            let writes =
                (0..256u64).map(|i| write(&*device, i * 16_384, &pattern(i * 16_384, 16_384), i % 16 == 0));
            for answer in join_all(writes).await {
                answer.result.unwrap();
            }
            let reads = (0..1024u64).map(|i| (i * 7919 % 1024) * 4096).map(|offset| {
                let ticket = read(&*device, offset, 4096);
                async move { (offset, ticket.await.into_buffer().unwrap()) }
            });
            for (offset, got) in join_all(reads).await {
                let home = offset / 16_384 * 16_384;
                let expected = &pattern(home, 16_384)[(offset - home) as usize..][..4096];
                assert!(got[..] == *expected, "{driver}: offset {offset}");
            }
        });
    });
}

#[test]
fn many_threads_share_a_device() {
    with_every_driver(4 * MIB, |driver, device| {
        thread::scope(|scope| {
            for thread in 0..8u64 {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..50 {
                        let offset = thread * MIB / 2 + round % 16 * 4096;
                        let data = pattern(offset + round, 4096);
                        write(&**device, offset, &data, false).wait().result.unwrap();
                        let got = read(&**device, offset, 4096).wait().into_buffer().unwrap();
                        assert!(got[..] == data[..], "{driver}: thread {thread}, round {round}");
                    }
                });
            }
        });
    });
}

#[test]
fn a_dropped_ticket_is_harmless_and_its_write_goes_on() {
    with_every_driver(4 * MIB, |driver, device| {
        for i in 0..200u64 {
            drop(read(&*device, i % 64 * 4096, 65_536 - 4096));
            drop(write(&*device, 2 * MIB + i % 64 * 4096, &pattern(i % 64, 4096), false));
        }
        // Requests under way together have no order, but on every driver this one is answered, and later.
        device.submit(Request::Flush).wait().result.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        for i in 0..64u64 {
            let written = || {
                let got = read(&*device, 2 * MIB + i * 4096, 4096).wait().into_buffer().unwrap();
                got[..] == pattern(i, 4096)[..]
            };
            while !written() {
                assert!(Instant::now() < deadline, "{driver}: write {i} was lost with its ticket");
            }
        }
    });
}

#[test]
fn wrong_requests_are_errors_and_give_the_buffer_back() {
    with_every_driver(MIB, |driver, device| {
        let cause = |ticket: Ticket| ticket.wait().result.unwrap_err().cause;
        let sector = device.geometry().sector_size;
        assert_eq!(cause(read(&*device, MIB - 4096, 8192)), Cause::OutOfBounds(MIB), "{driver}");
        assert_eq!(cause(read(&*device, MIB, 4096)), Cause::OutOfBounds(MIB), "{driver}");
        let edge = u64::MAX - u64::MAX % 4096;
        assert_eq!(cause(read(&*device, edge, 4096)), Cause::OutOfBounds(MIB), "{driver}");
        assert_eq!(cause(write(&*device, MIB - 4096, &[0; 8192], true)), Cause::OutOfBounds(MIB), "{driver}");
        assert_eq!(cause(read(&*device, 100, 4096)), Cause::Misaligned(sector), "{driver}");
        assert_eq!(cause(read(&*device, 0, 100)), Cause::Misaligned(sector), "{driver}");
        assert_eq!(cause(write(&*device, 0, &[0; 700], false)), Cause::Misaligned(sector), "{driver}");
        for range in [100..4196, 0..8192, 4096..8192, std::ops::Range { start: 4096, end: 0 }] {
            let data = Arc::new(AlignedBuffer::zeroed(4096));
            let answer = device.submit(Request::Write { offset: 0, data, range, durable: false }).wait();
            let cause = answer.result.unwrap_err().cause;
            assert!(matches!(cause, Cause::OutOfBuffer(4096) | Cause::Misaligned(_)), "{driver}: {cause:?}");
        }
        let answer = read(&*device, MIB, 4096).wait();
        assert_eq!(answer.buffer.map(|buffer| buffer.len()), Some(4096), "{driver}");
        read(&*device, 4096, 0).wait().result.unwrap();
        write(&*device, 4096, &[], true).wait().result.unwrap();
    });
}

#[test]
fn flush_reserve_and_counters() {
    with_every_driver(4 * MIB, |driver, device| {
        device.reserve(0, 4 * MIB).unwrap();
        write(&*device, 0, &[1; 8192], false).wait().result.unwrap();
        write(&*device, 8192, &[1; 4096], true).wait().result.unwrap();
        device.submit(Request::Flush).wait().result.unwrap();
        read(&*device, 4096, 4096).wait().result.unwrap();
        let _ = read(&*device, 1, 4096).wait();
        let expected = CountersSnapshot {
            reads: 1,
            read_bytes: 4096,
            writes: 2,
            written_bytes: 12_288,
            durable_writes: 1,
            flushes: 1,
            errors: 1,
        };
        assert_eq!(device.counters().snapshot(), expected, "{driver}");
    });
}

#[test]
fn a_file_that_shrinks_under_us_is_an_error_of_each_driver() {
    let directory = scratch();
    let end_of = |driver, shared_ring| {
        let options = DeviceOptions { driver, shared_ring, ..options(&directory, MIB) };
        let device = FileDevice::open(options.clone()).unwrap();
        File::options().write(true).open(&options.path).unwrap().set_len(MIB / 2 + 1000).unwrap();
        let cause = read(&device, MIB / 2 - 4096, 16_384).wait().result.unwrap_err().cause;
        let gone = read(&device, MIB - 4096, 4096).wait().result.unwrap_err().cause;
        (cause, gone)
    };
    let expected = (Cause::End(4096 + 1000), Cause::End(0));
    assert_eq!(end_of(Driver::Blocking, None), expected);
    assert_eq!(end_of(Driver::Auto, Some(SharedRing::start())), expected);
    if let Some(_ring) = local_ring(8) {
        assert_eq!(end_of(Driver::Ring, None), expected);
    }
}

#[test]
fn a_thousand_reads_go_through_a_ring_of_eight() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    let Some(ring) = local_ring(8) else { return };
    let answers = ring.block_on(async {
        let tickets: Vec<_> = (0..1000u64).map(|i| read(&device, i * 4096, 4096)).collect();
        assert_eq!(ring.pending(), 1000);
        join_all(tickets).await
    });
    assert_eq!(answers.len(), 1000);
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
    assert_eq!((ring.pending(), device.counters().snapshot().reads), (0, 1000));
}

#[test]
fn a_ring_works_however_the_kernel_delivers_completions() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    for level in [Level::Deferred, Level::Cooperative, Level::Plain] {
        let Ok(ring) = LocalRing::install_at(level, 8) else {
            eprintln!("skipped: {level:?} is not to be had");
            continue;
        };
        let answers = ring.block_on(join_all((0..300u64).map(|i| read(&device, i * 4096, 4096))));
        assert!(answers.into_iter().all(|answer| answer.result.is_ok()), "{level:?}");
        let mut tickets: Vec<_> = (0..100u64).map(|i| read(&device, i * 4096, 4096)).collect();
        while ring.pending() > 0 {
            ring.submit().unwrap();
            assert!(sys::becomes_readable(ring.as_raw_fd(), 5000), "{level:?}: nothing tells the loop");
            ring.reap();
        }
        assert!(tickets.iter_mut().all(|ticket| ticket.try_take().is_some()), "{level:?}");
        let waker = ring.waker();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        ring.wait(None).unwrap();
        thread.join().unwrap();
    }
}

#[test]
fn dropping_a_ring_answers_everything_that_was_asked() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    let Some(ring) = local_ring(8) else { return };
    let mut tickets: Vec<_> = (0..100u64).map(|i| read(&device, i * 4096, 4096)).collect();
    drop(ring);
    assert!(tickets.iter_mut().all(|ticket| ticket.try_take().unwrap().result.is_ok()));
    assert_eq!(
        read(&device, 0, 4096).try_take().map(|answer| answer.result.is_ok()),
        Some(true),
        "in place now"
    );
}

#[test]
fn an_outside_loop_sees_the_ring_become_readable() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    let Some(ring) = local_ring(8) else { return };
    let announced = Arc::new(AtomicUsize::new(0));
    let count = announced.clone();
    ring.on_queued(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    for round in 1..=20 {
        let mut tickets: Vec<_> = (0..7).map(|i| read(&device, i * 4096, 4096)).collect();
        assert_eq!(announced.load(Ordering::Relaxed), round, "once a turn, not once a request");
        ring.submit().unwrap();
        while ring.pending() > 0 {
            assert!(sys::becomes_readable(ring.as_raw_fd(), 5000), "round {round}: nothing tells the loop");
            ring.reap();
        }
        assert!(
            tickets.iter_mut().all(|ticket| ticket.try_take().is_some_and(|answer| answer.result.is_ok()))
        );
    }
    assert_eq!(ring.reap(), 0);
}

#[test]
fn a_backlog_announces_itself_when_it_moves_up() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    let Some(ring) = local_ring(8) else { return };
    let announced = Arc::new(AtomicUsize::new(0));
    let count = announced.clone();
    ring.on_queued(move || {
        count.store(1, Ordering::Relaxed);
    });
    let tickets: Vec<_> = (0..100u64).map(|i| read(&device, i * 4096, 4096)).collect();
    // An outside loop that submits only when it was told to.
    while ring.pending() > 0 {
        if announced.swap(0, Ordering::Relaxed) == 1 {
            ring.submit().unwrap();
        }
        assert!(sys::becomes_readable(ring.as_raw_fd(), 5000), "{} are stuck", ring.pending());
        ring.reap();
    }
    assert!(tickets.into_iter().all(|ticket| ticket.wait().result.is_ok()));
}

#[test]
fn a_wait_ends_by_timeout_by_wake_and_by_a_wake_before_it() {
    let Some(ring) = local_ring(8) else { return };
    let start = Instant::now();
    assert_eq!(ring.wait(Some(Duration::from_millis(30))).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(29), "{:?}", start.elapsed());
    ring.waker().wake();
    assert_eq!(ring.wait(None).unwrap(), 0);
    let waker = ring.waker();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        waker.wake();
    });
    assert_eq!(ring.wait(None).unwrap(), 0);
    thread.join().unwrap();
}

#[test]
fn other_threads_wake_a_future_that_drives_a_ring() {
    let directory = scratch();
    let device = Arc::new(FileDevice::open(options(&directory, 4 * MIB)).unwrap());
    let Some(ring) = local_ring(8) else { return };
    for round in 0..200u64 {
        let (completer, ticket) = Ticket::pair();
        let barrier = Arc::new(Barrier::new(2));
        let other = thread::spawn({
            let barrier = barrier.clone();
            move || {
                barrier.wait();
                if round % 2 == 0 {
                    thread::sleep(Duration::from_micros(round));
                }
                completer.complete(Answer::done());
            }
        });
        barrier.wait();
        let answers = ring.block_on(join_all([ticket, read(&*device, round * 4096, 4096)]));
        assert!(answers.into_iter().all(|answer| answer.result.is_ok()));
        other.join().unwrap();
    }
}

#[test]
fn waits_may_nest_in_every_way() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 4 * MIB)).unwrap();
    let nest = || {
        block_on(async {
            let outer = read(&device, 0, 4096);
            let inner = block_on(async { read(&device, 4096, 4096).await });
            let waited = read(&device, 8192, 4096).wait();
            let scoped = blocking(|| blocking(|| block_on(async { read(&device, 4096, 4096).await })));
            for answer in [outer.await, inner, waited, scoped] {
                answer.result.unwrap();
            }
        });
    };
    nest();
    if let Some(_ring) = local_ring(8) {
        nest();
        assert!(matches!(LocalRing::install(8), Err(RingError::Installed)));
        nest();
    }
    nest();
}

#[test]
fn an_inner_wait_does_not_swallow_the_outer_wake() {
    let Some(ring) = local_ring(8) else { return };
    let (completer, mut outer) = Ticket::pair();
    let mut completer = Some(completer);
    let polls = AtomicUsize::new(0);
    let future = poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        let polled = Pin::new(&mut outer).poll(context);
        if let (Poll::Pending, Some(completer)) = (&polled, completer.take()) {
            // Answered while an inner block_on runs, which spends the thread's notification.
            let inner = Ticket::pair();
            let thread = thread::spawn(move || {
                completer.complete(Answer::done());
                thread::sleep(Duration::from_millis(20));
                inner.0.complete(Answer::done());
            });
            inner.1.wait().result.unwrap();
            thread.join().unwrap();
        }
        polled
    });
    ring.block_on(future).result.unwrap();
    assert_eq!(polls.load(Ordering::Relaxed), 2);
}

#[test]
fn a_ring_may_be_dropped_by_the_future_it_drives() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, MIB)).unwrap();
    let Some(ring) = local_ring(8) else { return };
    let (completer, ticket) = Ticket::pair();
    block_on(async {
        let before = read(&device, 0, 4096);
        drop(ring);
        before.await.result.unwrap();
        read(&device, 0, 4096).await.result.unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            completer.complete(Answer::done());
        });
        ticket.await.result.unwrap();
    });
}

#[test]
fn the_shared_ring_ends_after_its_last_request() {
    for _ in 0..20 {
        let directory = scratch();
        let shared_ring = Some(SharedRing::start());
        let device = FileDevice::open(DeviceOptions { shared_ring, ..options(&directory, 4 * MIB) }).unwrap();
        let tickets: Vec<_> = (0..600u64).map(|i| read(&device, i * 4096, 4096)).collect();
        drop(device);
        assert!(tickets.into_iter().all(|ticket| ticket.wait().result.is_ok()));
    }
}

#[test]
fn the_last_handle_may_die_with_the_waker_on_either_thread() {
    struct Last(#[allow(dead_code, reason = "held for its drop")] Arc<FileDevice>);
    impl std::task::Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    for on_ring_thread in [true, false].repeat(10) {
        let directory = scratch();
        let shared_ring = Some(SharedRing::start());
        let device = FileDevice::open(DeviceOptions { shared_ring, ..options(&directory, MIB) }).unwrap();
        let mut ticket = read(&device, 0, 65_536);
        // The ticket holds the waker, the waker the device, the device the ring.
        let waker = Waker::from(Arc::new(Last(Arc::new(device))));
        let polled = Pin::new(&mut ticket).poll(&mut std::task::Context::from_waker(&waker));
        drop(waker);
        if polled.is_ready() {
            continue; // The ring was quicker than this thread.
        }
        if on_ring_thread {
            while ticket.try_take().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
        } else {
            assert!(ticket.wait().result.is_ok());
        }
    }
}

#[test]
fn a_device_has_one_user_at_a_time_and_can_be_opened_again_at_once() {
    let directory = scratch();
    let options = DeviceOptions { shared_ring: Some(SharedRing::start()), ..options(&directory, MIB) };
    let _ring = local_ring(8);
    for _ in 0..20 {
        let device = FileDevice::open(options.clone()).unwrap();
        read(&device, 0, 4096).wait().result.unwrap();
        thread::scope(|scope| {
            scope.spawn(|| read(&device, 0, 4096).wait().result.unwrap());
        });
        let error = FileDevice::open(options.clone()).unwrap_err();
        assert!(
            matches!(error, OpenError::InUse { pid, .. } if pid.is_none_or(|pid| pid == std::process::id()))
        );
        assert!(error.to_string().contains("already in use by"), "{error}");
        let reader = DeviceOptions { read_only: true, ..options.clone() };
        assert!(matches!(FileDevice::open(reader), Err(OpenError::InUse { .. })));
    }
    let reader = DeviceOptions { read_only: true, ..options };
    let (first, second) = (FileDevice::open(reader.clone()).unwrap(), FileDevice::open(reader).unwrap());
    assert_eq!(write(&first, 0, &[0; 4096], false).wait().result.unwrap_err().cause, Cause::ReadOnly);
    read(&second, 0, 4096).wait().result.unwrap();
}

#[test]
fn another_process_that_holds_the_device_is_named() {
    let directory = scratch();
    let options = options(&directory, MIB);
    drop(FileDevice::open(options.clone()).unwrap());
    let script = format!("exec 9<>{} && flock -x 9 && echo locked && exec sleep 60", options.path.display());
    let child = Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn();
    let Ok(mut child) = child else { return eprintln!("skipped: no sh") };
    let mut line = String::new();
    let _ =
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line);
    let opened = FileDevice::open(options);
    let _ = child.kill();
    let _ = child.wait();
    if line.trim() != "locked" {
        return eprintln!("skipped: no flock(1)");
    }
    // flock(1) took the lock for the shell, whose process became the sleep.
    assert!(matches!(opened, Err(OpenError::InUse { .. })), "{opened:?}");
}

#[test]
fn opening_says_what_is_wrong() {
    let directory = scratch();
    let at = |name: &str| DeviceOptions::new(directory.path().join(name));
    let open = |options: DeviceOptions| FileDevice::open(options).unwrap_err();
    assert!(matches!(open(at("missing")), OpenError::Missing { .. }));
    assert!(matches!(open(at("no/such")), OpenError::MissingDirectory { .. }));
    let create = DeviceOptions { create: true, size: Some(MIB), ..at("no/such") };
    assert!(matches!(open(create), OpenError::MissingDirectory { .. }));
    assert!(matches!(open(DeviceOptions { create: true, ..at("new") }), OpenError::SizeNeeded { .. }));
    assert!(matches!(open(at("")), OpenError::NotADevice { kind: "directory", .. }));
    let null = open(DeviceOptions::new("/dev/null"));
    assert!(matches!(null, OpenError::NotADevice { kind: "character device", .. }), "{null}");
    fs::write(directory.path().join("small"), [0; 100]).unwrap();
    assert!(matches!(open(at("small")), OpenError::TooSmall { size: 0, minimum: 4096, .. }));
    let reader = DeviceOptions { read_only: true, size: Some(MIB), ..at("small") };
    assert!(matches!(open(reader), OpenError::TooSmall { size: 100, minimum: MIB, .. }));
    let huge = DeviceOptions { create: true, size: Some(1 << 62), ..at("huge") };
    assert!(matches!(open(huge), OpenError::Os { action: "extend", .. }));
    assert!(!directory.path().join("huge").exists(), "a file that could not be made is not left behind");
}

#[test]
fn an_existing_file_is_extended_but_never_cut() {
    let directory = scratch();
    let sized = |size| FileDevice::open(DeviceOptions { size, ..options(&directory, 0) }).unwrap();
    let device = sized(Some(MIB + 1));
    assert_eq!(device.geometry().size, MIB + 4096, "rounded up");
    assert!(!device.is_block_device());
    write(&device, 0, &[3; 4096], true).wait().result.unwrap();
    drop(device);
    assert_eq!(sized(Some(4096)).geometry().size, MIB + 4096);
    assert_eq!(sized(None).geometry().size, MIB + 4096);
    let device = sized(Some(2 * MIB));
    assert_eq!(device.geometry().size, 2 * MIB);
    assert_eq!(read(&device, 0, 4096).wait().into_buffer().unwrap()[..], [3; 4096]);
}

#[test]
fn a_read_only_directory_is_named_as_the_cause() {
    use std::os::unix::fs::PermissionsExt;
    let directory = scratch();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if File::create(directory.path().join("probe")).is_ok() {
        return eprintln!("skipped: this user (root?) may write to read-only directories");
    }
    let error = FileDevice::open(options(&directory, MIB)).unwrap_err();
    assert!(matches!(error, OpenError::Denied { action: "create", .. }), "{error}");
}

#[test]
fn reserving_shows_a_full_file_system_before_data_is_accepted() {
    let directory = scratch();
    let device = FileDevice::open(options(&directory, 1 << 43)).unwrap();
    assert!(device.reserve(0, 1 << 44).is_err(), "beyond the device");
    match device.reserve(0, 1 << 43) {
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOSPC)),
        Ok(()) => eprintln!("skipped: 8 TiB fit here, or the file system cannot reserve"),
    }
}

/// A raw device of 8 MiB behind a loop device, where this user may make one.
struct Loop(PathBuf);

impl Loop {
    fn of(directory: &TempDir, sector_size: u32) -> Option<Self> {
        let image = directory.path().join("image");
        File::create(&image).unwrap().set_len(8 * MIB).unwrap();
        let size = sector_size.to_string();
        let output =
            Command::new("losetup").args(["--find", "--show", "--sector-size", &size]).arg(image).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Self(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            _ => {
                eprintln!("skipped: no loop device to be had");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_raw_device_has_its_own_size_and_sectors_and_is_claimed() {
    for sector_size in [512, 4096] {
        let directory = scratch();
        let Some(raw) = Loop::of(&directory, sector_size) else { return };
        let shared_ring = Some(SharedRing::start());
        let options = DeviceOptions { shared_ring, ..DeviceOptions::new(&raw.0) };
        let _ring = local_ring(8);
        for round in 0..5 {
            let device = FileDevice::open(options.clone()).unwrap();
            let geometry = device.geometry();
            assert!(device.is_block_device());
            assert_eq!(
                (geometry.size, geometry.sector_size, geometry.physical_size),
                (8 * MIB, sector_size, 4096)
            );
            assert!(geometry.direct);
            write(&device, 8 * MIB - 4096, &[8; 4096], true).wait().result.unwrap();
            thread::scope(|scope| {
                scope.spawn(|| read(&device, 8 * MIB - 4096, 4096).wait().result.unwrap());
            });
            device.submit(Request::Flush).wait().result.unwrap();
            device.reserve(0, 8 * MIB).unwrap();
            if round == 0 {
                assert!(matches!(FileDevice::open(options.clone()), Err(OpenError::InUse { .. })));
            }
        }
        let larger = DeviceOptions { size: Some(9 * MIB), ..options.clone() };
        assert!(matches!(FileDevice::open(larger), Err(OpenError::TooSmall { .. })));
    }
}
