//! Engines with a planted bug, to show that a rig can see one.
//!
//! The bug is put between the engine and its device, so the engine itself is the one that ships.

use aerolith_engine::device::{Answer, Counters, Device, FileDevice, Geometry, Request, Ticket};
use std::io;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Nothing.
    None,
    /// Durable writes go out as plain ones.
    NoDsync,
    /// Writes are answered before they are made, some milliseconds later.
    AckFirst,
    /// The disk answers flushes and durable writes at once and does nothing about them.
    LyingDisk,
}

/// The device as `planted` makes it. `LyingDisk` is no matter of the device.
pub fn plant(device: FileDevice, planted: Planted) -> Arc<dyn Device> {
    match planted {
        Planted::None | Planted::LyingDisk => Arc::new(device),
        Planted::NoDsync => Arc::new(NoDsync(device)),
        Planted::AckFirst => Arc::new(AckFirst::new(device)),
    }
}

struct NoDsync(FileDevice);

impl Device for NoDsync {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn submit(&self, request: Request) -> Ticket {
        self.0.submit(match request {
            Request::Write { offset, data, range, .. } => {
                Request::Write { offset, data, range, durable: false }
            }
            other => other,
        })
    }

    fn reserve(&self, offset: u64, size: u64) -> io::Result<()> {
        self.0.reserve(offset, size)
    }

    fn counters(&self) -> &Counters {
        self.0.counters()
    }
}

/// How late the writes of `AckFirst` are made.
const DELAY: Duration = Duration::from_millis(4);

struct AckFirst {
    device: Arc<FileDevice>,
    queue: Mutex<mpsc::Sender<Request>>,
    /// Writes that have been answered and not made.
    owed: Arc<(Mutex<usize>, Condvar)>,
}

impl AckFirst {
    fn new(device: FileDevice) -> Self {
        let device = Arc::new(device);
        let owed = Arc::new((Mutex::new(0), Condvar::new()));
        let (queue, requests) = mpsc::channel::<Request>();
        let (writer, debts) = (device.clone(), owed.clone());
        std::thread::spawn(move || {
            for request in requests {
                std::thread::sleep(DELAY);
                let _ = writer.submit(request).wait();
                *debts.0.lock().expect("nobody panics with it") -= 1;
                debts.1.notify_all();
            }
        });
        AckFirst { device, queue: Mutex::new(queue), owed }
    }
}

impl Device for AckFirst {
    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn submit(&self, request: Request) -> Ticket {
        if matches!(request, Request::Write { .. }) {
            *self.owed.0.lock().expect("nobody panics with it") += 1;
            let sent = self.queue.lock().expect("nobody panics with it").send(request);
            assert!(sent.is_ok(), "the writer lives as long as the device");
            return Ticket::answered(Answer::done());
        }
        // Without a crash nobody may notice: reads see what was answered.
        let owed = self.owed.0.lock().expect("nobody panics with it");
        drop(self.owed.1.wait_while(owed, |owed| *owed > 0).expect("nobody panics with it"));
        self.device.submit(request)
    }

    fn reserve(&self, offset: u64, size: u64) -> io::Result<()> {
        self.device.reserve(offset, size)
    }

    fn counters(&self) -> &Counters {
        self.device.counters()
    }
}
