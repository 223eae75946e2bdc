//! Reading: one lookup, then RAM or one device read; no lock held, nothing pinned.
//!
//! A `Get` starts at once: when it is made the entry has been looked up and, if need be, the device read is
//! in flight. Many can be in flight before the first is awaited. Bytes from the device prove themselves
//! (checksum, place, digest). If they do not, the entry is looked up again: if it has changed the read
//! starts over, if it is the same the record is damaged, and that is an error for this record alone.

use super::core::{Core, Found, Wanted};
use super::record::{Record, RecordBytes};
use super::stats::RamSource;
use crate::device::Answer;
use crate::error::Result;
use crate::format::RecordFlags;
use crate::volume::DeviceRead;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A read in progress: a future that owns all it needs.
pub struct Get {
    core: Arc<Core>,
    wanted: Wanted,
    state: State,
}

enum State {
    Done(Option<Result<Option<Record>>>),
    Reading(Found, DeviceRead),
}

impl Get {
    /// The result, if no device read was needed or it has been answered already.
    pub fn try_take(&mut self) -> Option<Result<Option<Record>>> {
        match &mut self.state {
            State::Done(result) => result.take(),
            State::Reading(..) => None,
        }
    }
}

impl Get {
    /// Bytes of RAM that the read holds, now or when it is answered.
    pub fn size(&self) -> usize {
        match &self.state {
            State::Done(Some(Ok(Some(record)))) => record.size() as usize,
            State::Done(_) => 0,
            State::Reading(found, _) => found.entry.size_class().bytes() as usize,
        }
    }
}

impl Future for Get {
    type Output = Result<Option<Record>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let (found, answer, skip, size) = match &mut self.state {
                State::Done(result) => {
                    return Poll::Ready(result.take().expect("a Get is not polled again after its result"));
                }
                State::Reading(found, read) => {
                    (*found, ready!(Pin::new(&mut read.ticket).poll(cx)), read.skip, read.size)
                }
            };
            self.state = self.core.received(&self.wanted, found, answer, skip, size);
        }
    }
}

impl Core {
    /// Starts reading a record.
    pub fn begin_get(self: &Arc<Self>, wanted: Wanted) -> Get {
        let state = self.start(&wanted);
        Get { core: self.clone(), wanted, state }
    }

    fn start(&self, wanted: &Wanted) -> State {
        let now = self.now();
        let Some(found) = self.find(wanted, now) else {
            self.counters.misses.add(1);
            return State::Done(Some(Ok(None)));
        };
        let mut source = RamSource::default();
        match self.read_ram_from(&found, wanted, &mut source) {
            Some(record) => {
                self.counters.read_from(source);
                State::Done(Some(Ok(self.unless_expired(record))))
            }
            None => State::Reading(found, self.read_device(&found)),
        }
    }

    fn unless_expired(&self, record: Record) -> Option<Record> {
        // The record may have been deleted in place between the lookup and the copy out of the open block.
        let is_deleted = record.header().flags().has(RecordFlags::TOMBSTONE);
        let alive = !is_deleted && !record.is_expired(self.now());
        if alive {
            self.counters.hits.add(1)
        } else {
            self.counters.misses.add(1)
        }
        alive.then_some(record)
    }

    /// Starts the device read for `found`.
    pub fn read_device(&self, found: &Found) -> DeviceRead {
        self.counters.device_reads.add(1);
        let location = found.entry.location();
        self.volume(location.device).read(location, found.entry.size_class().bytes())
    }

    fn received(&self, wanted: &Wanted, found: Found, answer: Answer, skip: usize, size: usize) -> State {
        match self.check(wanted, &found, answer, skip, size) {
            Ok(Some(record)) => State::Done(Some(Ok(self.unless_expired(record)))),
            Ok(None) => self.start(wanted),
            Err(error) => State::Done(Some(Err(error))),
        }
    }

    /// The record in a device's answer; `None` if the entry has changed meanwhile.
    fn check(
        &self,
        wanted: &Wanted,
        found: &Found,
        answer: Answer,
        skip: usize,
        size: usize,
    ) -> Result<Option<Record>> {
        let buffer = match answer.into_buffer() {
            Ok(buffer) => buffer,
            Err(error) if self.is_unchanged(wanted, found) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let bytes = &buffer[skip..skip + size];
        match self.prove(found, wanted, bytes) {
            Ok(()) => {
                self.cache.insert(found.entry.location(), found.epoch, bytes);
                Ok(Record::new(RecordBytes::Device(buffer, skip)).ok().map(|record| record.at(*found)))
            }
            Err(fault) if self.is_unchanged(wanted, found) => Err(self.corrupt(found, wanted, fault)),
            Err(_) => Ok(None),
        }
    }

    fn is_unchanged(&self, wanted: &Wanted, found: &Found) -> bool {
        self.find(wanted, self.now()).is_some_and(|now| now.is_same_place(found))
    }

    /// Reads the version that `found` stands for; `None` if it is no longer the current one.
    pub async fn fetch(&self, wanted: &Wanted, found: &Found) -> Result<Option<Record>> {
        self.receive(wanted, found, self.read_device(found)).await
    }

    /// Waits for a read that `read_device` started for `found`.
    pub async fn receive(&self, wanted: &Wanted, found: &Found, read: DeviceRead) -> Result<Option<Record>> {
        self.check(wanted, found, read.ticket.await, read.skip, read.size)
    }
}
