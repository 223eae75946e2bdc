//! The simulated devices of one set: requests wait until the simulation answers them, in any order.
//!
//! A [`Rack`] holds all devices of a set behind one lock, so that a cut or a kill takes them at the same moment. It
//! has two modes. *At once*: a request is carried out and answered when it is submitted; an engine that opens or
//! closes needs that, since it waits in place. *Held*: it waits for `complete`. Every request is counted, and
//! `watch` keeps a picture of the whole set as it was when request number n was submitted: that is how an opening is
//! cut in its middle.
//!
//! What the types make impossible is not simulated: a request is answered once (`Completer::complete` takes the
//! completer), and nothing is discarded (the engine has no such request). A buffer that changes while it is being
//! written is not possible without `unsafe` either, but that exists: its hash is compared.

use super::faults::{Fault, Faults};
use super::media::{Loose, Media, SECTOR, Torn};
use super::survival::Survival;
use super::target::{Target, Targets};
use aerolith_engine::device::{
    AlignedBuffer, Answer, Cause, Completer, Counters, Device, Geometry, Request, Ticket,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all devices of a set are like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many devices.
    pub count: usize,
    /// Bytes of one.
    pub size: usize,
    /// Bytes of a block.
    pub block_size: usize,
    /// 512, or 4096 for drives that refuse less.
    pub sector_size: u32,
    /// Whether space is allocated but unwritten at first, as in a file.
    pub is_file: bool,
}

/// A request that waits for its answer.
struct Waiting {
    member: usize,
    number: u64,
    target: Target,
    due_ms: u64,
    /// Of a write: the hash of its bytes when it was submitted. Of a flush: what it covers.
    mark: u64,
    request: Request,
    completer: Completer,
}

/// What is known of a waiting request.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Which device.
    pub member: usize,
    /// What it is for.
    pub target: Target,
    /// When it should be answered, in milliseconds of the rack's time.
    pub due_ms: u64,
}

/// The set at one moment: what a cut or a kill begins with.
#[derive(Clone)]
pub struct Moment {
    /// What each device holds.
    pub media: Vec<Media>,
    /// What each device was just writing.
    pub in_flight: Vec<Vec<Loose>>,
    /// What those writes were for.
    pub targets: Vec<Target>,
}

/// A set whose media have been damaged.
pub struct Damaged {
    /// What the devices should hold.
    pub right: Vec<Media>,
    /// What they do hold.
    pub media: Vec<Media>,
    /// What has struck which sector of which device last.
    pub struck: BTreeMap<(usize, usize), Fault>,
}

struct State {
    shape: Shape,
    media: Vec<Media>,
    targets: Vec<Targets>,
    waiting: Vec<Waiting>,
    faults: Faults,
    rng: StdRng,
    is_held: bool,
    is_dead: bool,
    now_ms: u64,
    submitted: u64,
    /// Writes and flushes since the rack was made.
    changes: u64,
    watched: Option<(u64, Option<Moment>)>,
    /// A running hash over everything that happened.
    events: u64,
    /// What each device would hold if it carried every write out and nothing rotted; only where media are damaged.
    right: Option<Vec<Media>>,
    /// Which fault has struck a sector last.
    struck: BTreeMap<(usize, usize), Fault>,
    /// By device and sector, what was there before its last write; only where media are damaged, for stale reads.
    before: Vec<BTreeMap<usize, Vec<u8>>>,
}

/// A set of simulated devices.
#[derive(Clone)]
pub struct Rack {
    state: Arc<Mutex<State>>,
    geometries: Arc<Vec<Geometry>>,
    counters: Arc<Vec<Counters>>,
}

/// One device of a rack.
struct SimDevice {
    rack: Rack,
    member: usize,
}

/// A fast hash for comparing runs; nothing is protected by it.
pub fn mix(seed: u64, bytes: &[u8]) -> u64 {
    let fold = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash =
        words.iter().fold(fold(seed, bytes.len() as u64), |hash, word| fold(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, &byte| fold(hash, u64::from(byte)))
}

impl Rack {
    /// Blank devices.
    pub fn new(shape: &Shape, seed: u64) -> Self {
        let media = (0..shape.count).map(|_| Media::blank(shape.size, shape.is_file)).collect();
        Self::holding(shape, media, seed)
    }

    /// Devices that hold something.
    pub fn holding(shape: &Shape, media: Vec<Media>, seed: u64) -> Self {
        let geometry = |(member, media): (usize, &Media)| Geometry {
            name: format!("sim-{member}").into(),
            size: media.size() as u64,
            sector_size: shape.sector_size,
            physical_size: 4096,
            direct: true,
        };
        let count = media.len();
        let geometries: Vec<Geometry> = media.iter().enumerate().map(geometry).collect();
        let state = State {
            shape: shape.clone(),
            targets: vec![Targets::new((shape.size / shape.block_size) as u64); count],
            before: vec![BTreeMap::new(); count],
            right: None,
            struck: BTreeMap::new(),
            media,
            waiting: Vec::new(),
            faults: Faults::default(),
            rng: StdRng::seed_from_u64(seed ^ 0xD15C),
            is_held: false,
            is_dead: false,
            now_ms: 0,
            submitted: 0,
            changes: 0,
            watched: None,
            events: seed,
        };
        Rack {
            state: Arc::new(Mutex::new(state)),
            geometries: Arc::new(geometries),
            counters: Arc::new((0..count).map(|_| Counters::default()).collect()),
        }
    }

    /// The devices, for an engine.
    pub fn devices(&self) -> Vec<Arc<dyn Device>> {
        (0..self.geometries.len())
            .map(|member| Arc::new(SimDevice { rack: self.clone(), member }) as Arc<dyn Device>)
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not keep the engine from being dropped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on requests wait for `complete`; or they are answered at once, those that wait too.
    pub fn hold(&self, is_held: bool) {
        self.state().is_held = is_held;
        while !is_held && self.complete(0) {}
    }

    /// Sets the time, in milliseconds.
    pub fn set_time(&self, now_ms: u64) {
        self.state().now_ms = now_ms;
    }

    /// Changes what can go wrong, and looks at what has.
    pub fn with_faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.state().faults)
    }

    /// What waits, oldest first.
    pub fn pending(&self) -> Vec<Pending> {
        let pending = |w: &Waiting| Pending { member: w.member, target: w.target, due_ms: w.due_ms };
        self.state().waiting.iter().map(pending).collect()
    }

    /// How many requests wait.
    pub fn pending_count(&self) -> usize {
        self.state().waiting.len()
    }

    /// Whether a request for this waits.
    pub fn is_pending(&self, target: Target) -> bool {
        self.state().waiting.iter().any(|waiting| waiting.target == target)
    }

    /// Carries out and answers the waiting request number `at`. False if there is none.
    pub fn complete(&self, at: usize) -> bool {
        let mut state = self.state();
        if at >= state.waiting.len() {
            return false;
        }
        let waiting = state.waiting.remove(at);
        if let Request::Write { data, range, .. } = &waiting.request {
            let now = mix(0, &data[range.clone()]);
            assert_eq!(
                now, waiting.mark,
                "the buffer of write {} changed while it was in flight",
                waiting.number
            );
        }
        let answer =
            self.carry_out(&mut state, waiting.member, waiting.target, waiting.mark, waiting.request);
        state.events = mix(state.events, &waiting.number.to_le_bytes());
        drop(state);
        waiting.completer.complete(answer);
        true
    }

    /// Answers all requests that are due, in the order in which they became due. Returns how many.
    pub fn complete_due(&self) -> usize {
        let mut count = 0;
        loop {
            let state = self.state();
            let due = state.waiting.iter().enumerate().filter(|(_, waiting)| waiting.due_ms <= state.now_ms);
            let Some((at, _)) = due.min_by_key(|(_, waiting)| (waiting.due_ms, waiting.number)) else {
                break;
            };
            drop(state);
            self.complete(at);
            count += 1;
        }
        count
    }

    /// The drives write some of what they cache back by themselves.
    pub fn write_back(&self, percent: u32) {
        let state = &mut *self.state();
        for media in &mut state.media {
            media.write_back(percent, &mut state.rng);
        }
    }

    /// From now on remembers what the devices should hold, beside what they do.
    pub fn remember_right(&self) {
        let state = &mut *self.state();
        state.right = Some(state.media.clone());
    }

    /// What the devices should hold, everything written back; what they do hold; and what has struck which sector.
    pub fn damaged(&self) -> Damaged {
        let state = self.state();
        let settled = |media: &[Media]| {
            let mut media = media.to_vec();
            media.iter_mut().for_each(Media::settle_all);
            media
        };
        let right = settled(state.right.as_deref().unwrap_or(&state.media));
        Damaged { right, media: settled(&state.media), struck: state.struck.clone() }
    }

    /// A sector that holds something is damaged where it lies.
    pub fn strike(&self, fault: Fault) {
        let state = &mut *self.state();
        let member = state.rng.random_range(0..state.media.len());
        let sectors = state.shape.size / SECTOR;
        let is_blank =
            |media: &Media, sector: usize| media.bytes()[sector * SECTOR..][..SECTOR].iter().all(|&b| b == 0);
        let mut sector = state.rng.random_range(0..sectors);
        for _ in 0..20 {
            if !is_blank(&state.media[member], sector) {
                break;
            }
            sector = state.rng.random_range(0..sectors);
        }
        state.media[member].strike(sector, fault, &mut state.rng);
        state.struck.insert((member, sector), fault);
        state.faults.note(fault);
    }

    /// The set as it is now.
    pub fn moment(&self) -> Moment {
        self.state().moment()
    }

    /// Keeps the moment in which the change (a write or flush) number `at` from now, counted from 0, is submitted.
    pub fn watch(&self, at: u64) {
        let mut state = self.state();
        state.watched = Some((state.changes + at, None));
    }

    /// The moment that `watch` asked for, if it came.
    pub fn take_watched(&self) -> Option<Moment> {
        self.state().watched.take().and_then(|(_, moment)| moment)
    }

    /// Writes and flushes that were submitted since the rack was made.
    pub fn change_count(&self) -> u64 {
        self.state().changes
    }

    /// From now on nothing works and nothing changes: what waits is answered with an error.
    pub fn die(&self) {
        let mut state = self.state();
        state.is_dead = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waiting in waiting {
            let error = self.geometries[waiting.member].error(&waiting.request, Cause::Os(libc::ENODEV));
            waiting.completer.complete(waiting.request.answer(Err(error)));
        }
    }

    /// A hash over all requests, their order and their contents, and over all that the devices hold.
    pub fn event_hash(&self) -> u64 {
        let state = self.state();
        state.media.iter().fold(state.events, |hash, media| mix(hash, media.bytes()))
    }

    fn submit(&self, member: usize, request: Request) -> Ticket {
        let geometry = &self.geometries[member];
        let mut state = self.state();
        if state.is_dead {
            let error = geometry.error(&request, Cause::Os(libc::ENODEV));
            return Ticket::answered(request.answer(Err(error)));
        }
        if let Err(error) = geometry.check(&request) {
            self.counters[member].count(&request, false);
            return Ticket::answered(request.answer(Err(error)));
        }
        let (target, mark) = state.classify(member, &request);
        state.note(member, target, &request, mark);
        if !state.is_held {
            let answer = self.carry_out(&mut state, member, target, mark, request);
            return Ticket::answered(answer);
        }
        let (completer, ticket) = Ticket::pair();
        let due_ms = state.now_ms + state.latency(target);
        let number = state.submitted;
        state.waiting.push(Waiting { member, number, target, due_ms, mark, request, completer });
        ticket
    }

    fn carry_out(
        &self,
        state: &mut State,
        member: usize,
        target: Target,
        mark: u64,
        mut request: Request,
    ) -> Answer {
        let result = state.apply(member, target, mark, &mut request);
        let result = result.map_err(|cause| self.geometries[member].error(&request, cause));
        self.counters[member].count(&request, result.is_ok());
        state.events = mix(state.events, &[u8::from(result.is_ok())]);
        request.answer(result)
    }
}

impl State {
    fn classify(&mut self, member: usize, request: &Request) -> (Target, u64) {
        match request {
            Request::Read { .. } => (Target::Read, 0),
            Request::Flush => (Target::Flush, self.media[member].answered()),
            Request::Write { offset, data, range, .. } => {
                let content = &data[range.clone()];
                let block_size = self.shape.block_size as u64;
                (self.targets[member].of_write(block_size, *offset, content), mix(0, content))
            }
        }
    }

    /// Counts a request in, and keeps the moment if somebody asked for it.
    fn note(&mut self, member: usize, target: Target, request: &Request, mark: u64) {
        self.submitted += 1;
        let words = [member as u64, target as u64, request.offset(), request.length() as u64, mark];
        words.iter().for_each(|word| self.events = mix(self.events, &word.to_le_bytes()));
        if target == Target::Read {
            return;
        }
        let is_watched =
            self.watched.as_ref().is_some_and(|(at, moment)| *at == self.changes && moment.is_none());
        if is_watched {
            let mut moment = self.moment();
            if let Some(loose) = loose_of(request) {
                moment.in_flight[member].push(loose);
            }
            moment.targets.push(target);
            self.watched = Some((self.changes, Some(moment)));
        }
        self.changes += 1;
    }

    fn moment(&self) -> Moment {
        let mut in_flight = vec![Vec::new(); self.media.len()];
        for waiting in &self.waiting {
            in_flight[waiting.member].extend(loose_of(&waiting.request));
        }
        let targets = self.waiting.iter().map(|waiting| waiting.target).collect();
        Moment { media: self.media.clone(), in_flight, targets }
    }

    fn latency(&mut self, target: Target) -> u64 {
        if self.faults.strikes(Fault::Stuck, &mut self.rng) {
            30_000
        } else if self.faults.strikes(Fault::Slow, &mut self.rng) {
            self.rng.random_range(10..2_000)
        } else if self.faults.lagging == Some(target) && self.rng.random_bool(0.5) {
            self.rng.random_range(10..400)
        } else {
            self.rng.random_range(0..8)
        }
    }

    fn apply(
        &mut self,
        member: usize,
        target: Target,
        mark: u64,
        request: &mut Request,
    ) -> Result<(), Cause> {
        let error = Err(Cause::Os(libc::EIO));
        match request {
            Request::Read { offset, buffer } => {
                if self.media[member].is_poisoned(*offset as usize, buffer.len())
                    || self.faults.strikes(Fault::ReadOnce, &mut self.rng)
                {
                    return error;
                }
                self.media[member].read(*offset as usize, buffer);
                self.maybe_stale(member, *offset, buffer);
            }
            Request::Write { offset, data, range, durable } => {
                // The first writes of a set are its headers: a fault there would only keep it from being born.
                let can_fail = target != Target::DeviceHeader;
                if can_fail && *durable && self.faults.strikes(Fault::FlushError, &mut self.rng) {
                    self.media[member].write(*offset as usize, &data[range.clone()], false);
                    self.media[member].drop_cache();
                    return error;
                }
                if can_fail && self.faults.strikes(Fault::WriteError, &mut self.rng) {
                    let part = match self.rng.random_range(0..3) {
                        0 => 0,
                        1 => range.len(),
                        _ => self.rng.random_range(0..=range.len() / SECTOR) * SECTOR,
                    };
                    let durable = self.rng.random_bool(0.5);
                    let content = &data[range.start..range.start + part];
                    self.media[member].write(*offset as usize, content, durable);
                    return error;
                }
                self.write(member, *offset, data, range.clone(), *durable);
            }
            Request::Flush => {
                if self.faults.strikes(Fault::FlushError, &mut self.rng) {
                    self.media[member].drop_cache();
                    return error;
                }
                self.media[member].flush(mark);
                if let Some(right) = &mut self.right {
                    right[member].settle_all();
                }
            }
        }
        Ok(())
    }

    /// A write that reports success, which it deserves unless the drive lies.
    fn write(
        &mut self,
        member: usize,
        mut offset: u64,
        data: &Arc<AlignedBuffer>,
        range: Range<usize>,
        durable: bool,
    ) {
        let content = &data[range];
        if let Some(right) = &mut self.right {
            right[member].write(offset as usize, content, durable);
        }
        let count = content.len() / SECTOR;
        if self.faults.strikes(Fault::LostWrite, &mut self.rng) {
            self.note_struck(member, offset as usize / SECTOR, count, Fault::LostWrite);
            return;
        }
        if self.faults.strikes(Fault::Misdirected, &mut self.rng) {
            self.note_struck(member, offset as usize / SECTOR, count, Fault::Misdirected);
            let places = (self.shape.size - content.len()) / SECTOR;
            offset = (self.rng.random_range(0..=places) * SECTOR) as u64;
            self.note_struck(member, offset as usize / SECTOR, count, Fault::Misdirected);
        }
        let media = &mut self.media[member];
        if self.right.is_some() {
            let mut old = vec![0; content.len()];
            media.read(offset as usize, &mut old);
            let first = offset as usize / SECTOR;
            let sectors = old.chunks(SECTOR).enumerate().map(|(i, old)| (first + i, old.to_vec()));
            self.before[member].extend(sectors);
        }
        media.write(offset as usize, content, durable);
    }

    fn note_struck(&mut self, member: usize, first: usize, count: usize, fault: Fault) {
        self.struck.extend((first..first + count).map(|sector| ((member, sector), fault)));
    }

    /// A read gives what was there before the last write.
    fn maybe_stale(&mut self, member: usize, offset: u64, buffer: &mut AlignedBuffer) {
        let first = offset as usize / SECTOR;
        let old: Vec<_> = self.before[member].range(first..first + buffer.len() / SECTOR).collect();
        if old.is_empty() || !self.faults.strikes(Fault::StaleRead, &mut self.rng) {
            return;
        }
        for (sector, old) in old {
            buffer[(sector - first) * SECTOR..][..SECTOR].copy_from_slice(old);
        }
    }

    fn has_room(&mut self) -> bool {
        !self.faults.strikes(Fault::NoRoom, &mut self.rng)
    }
}

/// What a cut would find of a request on its way.
fn loose_of(request: &Request) -> Option<Loose> {
    match request {
        Request::Write { offset, data, range, durable } => {
            let content: Arc<[u8]> = data[range.clone()].into();
            Some(Loose { offset: *offset as usize, content, durable: *durable })
        }
        Request::Read { .. } | Request::Flush => None,
    }
}

impl Moment {
    /// What is left if the power goes at this moment, and what that tore. `shear` also leaves a sector in flight
    /// unreadable or as garbage.
    pub fn cut(&self, survival: Survival, shear: bool, rng: &mut StdRng) -> (Vec<Media>, Torn) {
        let mut media = self.media.clone();
        let mut all = Torn::default();
        for (media, in_flight) in media.iter_mut().zip(&self.in_flight) {
            let torn = media.cut(in_flight, survival, shear && all.sectors == 0, rng);
            all.writes += torn.writes;
            all.sectors += torn.sectors;
        }
        (media, all)
    }

    /// What the next process finds if this one is killed: nothing is lost, and nothing became durable.
    pub fn kill(&self, rng: &mut StdRng) -> Vec<Media> {
        let mut media = self.media.clone();
        for (media, in_flight) in media.iter_mut().zip(&self.in_flight) {
            media.outlive_process(in_flight, rng);
        }
        media
    }
}

impl Device for SimDevice {
    fn geometry(&self) -> Geometry {
        self.rack.geometries[self.member].clone()
    }

    fn submit(&self, request: Request) -> Ticket {
        self.rack.submit(self.member, request)
    }

    fn reserve(&self, _offset: u64, _size: u64) -> io::Result<()> {
        if self.rack.state().has_room() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
    }

    fn counters(&self) -> &Counters {
        &self.rack.counters[self.member]
    }
}
