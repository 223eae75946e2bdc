//! What one worker drives: a lane takes requests into slots and hands back their answers.
//!
//! A slot is a number from 0 below the lane's capacity; it is busy from `submit` until its answer. The worker keeps the
//! slots, the lane decides how requests travel: several connections with pipelines, futures on a ring, or a blocking
//! call that is over when `submit` returns.

use super::LoadError;

/// What came back.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The value of the record that was asked for, or that there is none.
    Value(Option<&'a [u8]>),
    /// Several values, in the order of the keys, or those of a scan.
    Values(Vec<Option<&'a [u8]>>),
    /// Done; whether there was a record to do it to.
    Done(bool),
    /// Refused or failed, and what was said.
    Failed(&'a str),
}

/// An answer.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The slot it answers.
    pub slot: usize,
    /// When it was there, by the load's clock.
    pub at_ns: u64,
    /// What came back.
    pub outcome: Outcome<'a>,
}

/// Requests in flight, for one thread. Not shared, and made on the thread that drives it.
pub trait Lane<R> {
    /// How many slots there are.
    fn capacity(&self) -> usize;

    /// Takes a request into a free slot. It may be sent only at the next `poll`.
    fn submit(&mut self, slot: usize, request: R) -> Result<(), LoadError>;

    /// Sends what is to be sent and hands over answers. If there are none it waits until there are, but no longer than
    /// until `until_ns`. With nothing in flight it just waits.
    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError>;
}

impl<R, L: Lane<R> + ?Sized> Lane<R> for Box<L> {
    fn capacity(&self) -> usize {
        (**self).capacity()
    }

    fn submit(&mut self, slot: usize, request: R) -> Result<(), LoadError> {
        (**self).submit(slot, request)
    }

    fn poll(&mut self, until_ns: u64, answers: &mut dyn FnMut(Answer<'_>)) -> Result<(), LoadError> {
        (**self).poll(until_ns, answers)
    }
}
