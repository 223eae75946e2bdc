//! A device for tests: bytes in RAM that can be looked at, damaged, held back, and cut off at any moment.
//!
//! What a power cut leaves is an image. Writes that were answered are on the medium if they were durable, or a
//! flush came after them; of all others each sector of 512 bytes has been lost or kept, by the seeded choice of a
//! [`Survival`]. A write that is in flight can survive in part, which is what tears records, footers and headers.

use aerolith_engine::device::{Answer, Cause, Completer, Counters, Device, Geometry, Request, Ticket};
use rand::RngExt;
use rand::rngs::StdRng;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What a power cut takes or leaves as one.
pub const SECTOR: usize = 512;

/// What becomes of sectors that are not certain when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None is kept.
    None,
    /// All are kept.
    All,
    /// Each is kept with this chance, in percent.
    Some(u8),
    /// All but one are kept.
    AllButOne,
    /// All but the first of each write are kept.
    AllButFirst,
    /// Of each write a beginning is kept.
    Prefix,
    /// Each write is kept or lost as a whole.
    Writes,
}

impl Survival {
    /// Any of them.
    pub fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..9) {
            0 => Survival::None,
            1 => Survival::All,
            2 => Survival::Some(10),
            3 => Survival::Some(50),
            4 => Survival::Some(90),
            5 => Survival::AllButOne,
            6 => Survival::AllButFirst,
            7 => Survival::Prefix,
            _ => Survival::Writes,
        }
    }

    /// Which sectors of a write of `count` are kept.
    fn of(self, count: usize, rng: &mut StdRng) -> Vec<bool> {
        let chosen = rng.random_range(0..count.max(1));
        let whole = rng.random_bool(0.5);
        (0..count)
            .map(|i| match self {
                Survival::None => false,
                Survival::All => true,
                Survival::Some(percent) => rng.random_range(0..100) < u32::from(percent),
                Survival::AllButOne => i != chosen,
                Survival::AllButFirst => i != 0,
                Survival::Prefix => i < chosen,
                Survival::Writes => whole,
            })
            .collect()
    }
}

/// A write that a power cut could undo.
struct Loose {
    offset: usize,
    old: Vec<u8>,
    new: Vec<u8>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Answered, but not on the medium, oldest first.
    volatile: Vec<Loose>,
    /// Submitted and not answered.
    held: Vec<(Request, Completer)>,
    /// Since `record`: every write that was carried out.
    journal: Option<Vec<Loose>>,
    reads: Vec<Range<u64>>,
    writes: Vec<Range<u64>>,
    is_holding: bool,
    write_errno: Option<i32>,
    bad_reads: Vec<Range<u64>>,
    is_full: bool,
}

/// Blocks of tests that do not say otherwise.
pub const BLOCK_SIZE: u32 = 16 << 10;

/// `count` devices of `blocks` blocks each, all zeros.
pub fn devices(count: usize, blocks: u64) -> Vec<Arc<TestDevice>> {
    let device = |i| TestDevice::new(&format!("test-{i}"), blocks * u64::from(BLOCK_SIZE));
    (0..count).map(|i| Arc::new(device(i))).collect()
}

/// Devices with the names of these, and what `bytes` makes of each.
pub fn images(
    devices: &[Arc<TestDevice>],
    mut bytes: impl FnMut(&TestDevice) -> Vec<u8>,
) -> Vec<Arc<TestDevice>> {
    devices.iter().map(|d| Arc::new(TestDevice::with_bytes(&d.geometry.name, bytes(d)))).collect()
}

/// Devices with the bytes of these.
pub fn copies(devices: &[Arc<TestDevice>]) -> Vec<Arc<TestDevice>> {
    images(devices, |device| device.with_state(|bytes| bytes.to_vec()))
}

/// The device.
pub struct TestDevice {
    geometry: Geometry,
    counters: Counters,
    state: Mutex<State>,
}

impl TestDevice {
    /// A device of `size` zeros.
    pub fn new(name: &str, size: u64) -> Self {
        Self::with_bytes(name, vec![0; size as usize])
    }

    /// A device that holds these bytes.
    pub fn with_bytes(name: &str, bytes: Vec<u8>) -> Self {
        let geometry = Geometry {
            name: name.into(),
            size: bytes.len() as u64,
            sector_size: SECTOR as u32,
            physical_size: 4096,
            direct: true,
        };
        let state = State { bytes, ..State::default() };
        TestDevice { geometry, counters: Counters::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside the device")
    }

    /// The bytes, for looking at and for damaging.
    pub fn with_state<T>(&self, look: impl FnOnce(&mut [u8]) -> T) -> T {
        look(&mut self.state().bytes)
    }

    /// From now on, or no longer, writes wait for `release`.
    pub fn hold(&self, hold: bool) {
        self.state().is_holding = hold;
        if !hold {
            while self.release(0) {}
        }
    }

    /// Writes that wait.
    pub fn held_count(&self) -> usize {
        self.state().held.len()
    }

    /// Carries out the waiting write number `at` and answers it. False if there is none.
    pub fn release(&self, at: usize) -> bool {
        let mut state = self.state();
        if at >= state.held.len() {
            return false;
        }
        let (request, completer) = state.held.remove(at);
        let answer = self.carry_out(&mut state, request);
        drop(state);
        completer.complete(answer);
        true
    }

    /// The writes that wait, oldest first: where each goes, and its bytes as they are now.
    pub fn held_writes(&self) -> Vec<(u64, Vec<u8>)> {
        let write = |(request, _): &(Request, Completer)| match request {
            Request::Write { offset, data, range, .. } => Some((*offset, data[range.clone()].to_vec())),
            Request::Read { .. } | Request::Flush => None,
        };
        self.state().held.iter().filter_map(write).collect()
    }

    /// Answers the waiting write number `at` with this error number; it is not carried out. False if there is none.
    pub fn fail(&self, at: usize, errno: i32) -> bool {
        let mut state = self.state();
        if at >= state.held.len() {
            return false;
        }
        let (request, completer) = state.held.remove(at);
        drop(state);
        let error = self.geometry.error(&request, Cause::Os(errno));
        completer.complete(request.answer(Err(error)));
        true
    }

    /// The process has died: what it had submitted comes into the device's cache, which a power cut takes, and
    /// nobody is answered. Nothing is held any more.
    pub fn kill(&self) {
        let mut state = self.state();
        state.is_holding = false;
        for (mut request, completer) in std::mem::take(&mut state.held) {
            if let Request::Write { durable, .. } = &mut request {
                *durable = false;
            }
            self.apply(&mut state, &mut request).expect("writes have been checked, and none is to fail");
            // Whoever waited is forgotten with the process.
            std::mem::forget(completer);
        }
    }

    /// Every write from now on fails with this error number; or none does.
    pub fn fail_writes(&self, errno: Option<i32>) {
        self.state().write_errno = errno;
    }

    /// Every read that touches one of these ranges fails.
    pub fn fail_reads(&self, ranges: Vec<Range<u64>>) {
        self.state().bad_reads = ranges;
    }

    /// Whether room is refused to `reserve`.
    pub fn fill_up(&self, full: bool) {
        self.state().is_full = full;
    }

    /// The ranges read since the last call.
    pub fn take_reads(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.state().reads)
    }

    /// The ranges written since the last call.
    pub fn take_writes(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut self.state().writes)
    }

    /// What is left if the power goes now.
    pub fn image(&self, survival: Survival, rng: &mut StdRng) -> Vec<u8> {
        let state = self.state();
        let mut image = state.bytes.clone();
        for loose in state.volatile.iter().rev() {
            image[loose.offset..][..loose.old.len()].copy_from_slice(&loose.old);
        }
        for loose in &state.volatile {
            tear(&mut image, loose.offset, &loose.new, survival, rng);
        }
        for (request, _) in &state.held {
            if let Request::Write { offset, data, range, .. } = request {
                tear(&mut image, *offset as usize, &data[range.clone()], survival, rng);
            }
        }
        image
    }

    /// Keeps a journal from now on, for `image_at`.
    pub fn record(&self) {
        self.state().journal = Some(Vec::new());
    }

    /// Writes in the journal.
    pub fn recorded_count(&self) -> usize {
        self.state().journal.as_ref().map_or(0, Vec::len)
    }

    /// What is left if the power goes while the recorded write number `at` is in flight, and nothing after it.
    pub fn image_at(&self, at: usize, survival: Survival, rng: &mut StdRng) -> Vec<u8> {
        let state = self.state();
        let mut image = state.bytes.clone();
        let journal = state.journal.as_deref().unwrap_or_default();
        for loose in journal[at..].iter().rev() {
            image[loose.offset..][..loose.old.len()].copy_from_slice(&loose.old);
        }
        if let Some(loose) = journal.get(at) {
            tear(&mut image, loose.offset, &loose.new, survival, rng);
        }
        image
    }

    fn carry_out(&self, state: &mut State, mut request: Request) -> Answer {
        let result = self.geometry.check(&request).and_then(|()| {
            self.apply(state, &mut request).map_err(|cause| self.geometry.error(&request, cause))
        });
        self.counters.count(&request, result.is_ok());
        request.answer(result)
    }

    fn apply(&self, state: &mut State, request: &mut Request) -> Result<(), Cause> {
        match request {
            Request::Read { offset, buffer } => {
                let range = *offset..*offset + buffer.len() as u64;
                let is_bad = state.bad_reads.iter().any(|bad| bad.start < range.end && range.start < bad.end);
                buffer.copy_from_slice(&state.bytes[range.start as usize..range.end as usize]);
                state.reads.push(range);
                if is_bad { Err(Cause::Os(libc::EIO)) } else { Ok(()) }
            }
            Request::Write { offset, data, range, durable } => {
                if let Some(errno) = state.write_errno {
                    return Err(Cause::Os(errno));
                }
                let (at, new) = (*offset as usize, data[range.clone()].to_vec());
                state.writes.push(*offset..*offset + new.len() as u64);
                let old = state.bytes[at..at + new.len()].to_vec();
                state.bytes[at..at + new.len()].copy_from_slice(&new);
                if let Some(journal) = &mut state.journal {
                    journal.push(Loose { offset: at, old: old.clone(), new: new.clone() });
                }
                if !*durable {
                    state.volatile.push(Loose { offset: at, old, new });
                }
                Ok(())
            }
            Request::Flush => {
                state.volatile.clear();
                Ok(())
            }
        }
    }
}

impl Device for TestDevice {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn submit(&self, request: Request) -> Ticket {
        let mut state = self.state();
        if state.is_holding && matches!(request, Request::Write { .. }) {
            let (completer, ticket) = Ticket::pair();
            state.held.push((request, completer));
            return ticket;
        }
        Ticket::answered(self.carry_out(&mut state, request))
    }

    fn reserve(&self, _offset: u64, _size: u64) -> io::Result<()> {
        if self.state().is_full { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn tear(image: &mut [u8], offset: usize, new: &[u8], survival: Survival, rng: &mut StdRng) {
    let kept = survival.of(new.len() / SECTOR, rng);
    for (i, _) in kept.into_iter().enumerate().filter(|(_, kept)| *kept) {
        image[offset + i * SECTOR..][..SECTOR].copy_from_slice(&new[i * SECTOR..][..SECTOR]);
    }
}
