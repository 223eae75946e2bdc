//! A lane to a device: reads and writes in flight on a ring of the worker's own.

use crate::load::LoadError;
use crate::load::clock::Clock;
use crate::load::flight::Flight;
use crate::load::lane::{Answer, Lane, Outcome};
use aerolith_engine::device::{self, AlignedBuffer, Device, FileDevice, LocalRing, Request, Ticket};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes of random data that writes are cut from.
const POOL: usize = 16 << 20;
/// Zeros take turns with random bytes in pieces of this size.
const PIECE: usize = 4096;
/// Cuts begin at multiples of this many bytes, which suits every device.
const CUT: u64 = 4096;

/// What a device is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// So many bytes from an offset.
    Read { offset: u64, size: u64 },
    /// Random bytes, or zeros, to an offset.
    Write { offset: u64, size: u64, zeros: bool, durable: bool },
}

/// What is written.
pub struct Data {
    random: Arc<AlignedBuffer>,
    zeros: Arc<AlignedBuffer>,
}

impl Data {
    /// For writes of up to `largest` bytes, so much of which compresses to nothing.
    pub fn new(largest: u64, compressible_pct: f64, seed: u64) -> Data {
        let mut random = AlignedBuffer::zeroed(POOL + largest as usize);
        let mut rng = SmallRng::seed_from_u64(seed);
        for piece in random.chunks_mut(PIECE) {
            let zeros = ((PIECE as f64 * compressible_pct / 100.0) as usize).min(piece.len());
            rng.fill_bytes(&mut piece[zeros..]);
        }
        Data { random: Arc::new(random), zeros: Arc::new(AlignedBuffer::zeroed(largest as usize)) }
    }
}

/// A request on its way.
struct Flying {
    slot: usize,
    ticket: Ticket,
}

impl Future for Flying {
    type Output = (usize, device::Answer);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.ticket).poll(context));
        Poll::Ready((self.slot, answer))
    }
}

/// The lane.
pub struct DeviceLane {
    flight: Flight<Flying>,
    device: Arc<FileDevice>,
    data: Arc<Data>,
    depth: usize,
}

impl DeviceLane {
    /// So many requests in flight, on the thread that calls this.
    pub fn new(
        device: &Arc<FileDevice>,
        data: &Arc<Data>,
        clock: Arc<dyn Clock>,
        depth: usize,
    ) -> Result<DeviceLane, LoadError> {
        let ring = LocalRing::install(depth as u32 + 1).map_err(|error| {
            LoadError(format!("certify needs io_uring, which is not to be had here: {error}"))
        })?;
        let (device, data) = (device.clone(), data.clone());
        Ok(DeviceLane { flight: Flight::new(ring, clock), device, data, depth })
    }
}

impl Lane<Io> for DeviceLane {
    fn capacity(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, slot: usize, io: Io) -> Result<(), LoadError> {
        let request = match io {
            Io::Read { offset, size } => {
                Request::Read { offset, buffer: AlignedBuffer::for_read(size as usize) }
            }
            Io::Write { offset, size, zeros, durable } => {
                // Another cut for each place, so that neighbours are not alike.
                let cut = if zeros {
                    0
                } else {
                    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % (POOL as u64 / CUT) * CUT
                };
                let data = if zeros { &self.data.zeros } else { &self.data.random };
                Request::Write {
                    offset,
                    data: data.clone(),
                    range: cut as usize..(cut + size) as usize,
                    durable,
                }
            }
        };
        self.flight.push(Flying { slot, ticket: self.device.submit(request) });
        Ok(())
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        self.flight.poll(until_ns, |at_ns, (slot, answer)| match answer.result {
            Ok(()) => answers(Answer { slot, at_ns, outcome: Outcome::Done(true) }),
            Err(error) => answers(Answer { slot, at_ns, outcome: Outcome::Failed(&error.to_string()) }),
        })
    }
}
