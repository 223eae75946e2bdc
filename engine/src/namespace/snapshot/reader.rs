//! Reads a snapshot: entries in batches, records in the order of the log, in large reads.
//!
//! ```text
//! partitions --> batch of entries, sorted by place --> page: runs of neighbours, one read each --> records
//! ```
//!
//! A batch takes partition after partition, each a few thousand entries at a time under its lock, until it is full; sorted
//! by place it is read from the devices' beginning to their end. Neighbours with a small gap between them are one read. While
//! the caller has one page the reads of the next are in flight. So RAM is bounded by a batch of entries, two pages of records,
//! and what writers left (`mod.rs`).
//!
//! Every record proves itself as in any read: checksum with place and epoch, and its digest. One that does not is an error of
//! its own, and the snapshot goes on behind it.

use super::{Cut, ReadTo};
use crate::clock::Timestamp;
use crate::device::context;
use crate::error::{Error, Result};
use crate::index::{Entry, PARTITION_COUNT, PartitionId, Tag};
use crate::namespace::core::{Core, Found, Wanted};
use crate::namespace::record::{Record, RecordBytes};
use crate::volume::DeviceRead;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of a batch, about: 32 bytes each.
const BATCH: usize = 1 << 20;
/// Entries looked at under one lock.
const STEP: usize = 4096;
/// Bytes of records in a page, about.
const PAGE_SIZE: u64 = 8 << 20;
/// Reads of a page.
const PAGE_RUNS: usize = 256;
/// Bytes of one read, about, and how many between two neighbours may be read in vain.
const RUN_SIZE: u64 = 1 << 20;
const RUN_GAP: u64 = 16 << 10;

/// An entry of the cut.
#[derive(Clone, Copy)]
struct Item {
    partition: PartitionId,
    entry: Entry,
}

/// Neighbours on one device, and the read that has them all.
struct Run {
    items: Vec<Item>,
    read: DeviceRead,
}

/// Reads in flight, and records that were in RAM.
#[derive(Default)]
struct Page {
    ready: Vec<Result<Record>>,
    runs: Vec<Run>,
}

/// All records of a namespace as they were at one moment, read while writes go on.
///
/// An iterator does its device I/O on the calling thread, over its ring if it has one (`LocalRing`); `next_page` is for those who
/// await. A record that is damaged is an error in its place. Blocks that become empty meanwhile are kept until the snapshot is
/// dropped; if writers need them, it is given up (`Error::SnapshotGivenUp`), which is its last word.
///
/// ```
/// use aerolith_engine::{Config, Engine, Key, NamespaceConfig, WritePolicy};
///
/// let engine = Engine::open(Config::of(NamespaceConfig::in_memory("test", 64 << 20)))?;
/// let test = engine.namespace("test")?;
/// let key = Key::new("users", "ada")?;
/// test.put(&key, &[("born", 1815.into())], &WritePolicy::default())?;
///
/// let snapshot = test.snapshot()?;
/// test.put(&key, &[("born", 0.into())], &WritePolicy::default())?;
/// for record in snapshot {
///     let record = record?;
///     assert_eq!((record.set(), record.bin("born")), ("users", Some(1815.into())));
/// }
/// # Ok::<(), aerolith_engine::Error>(())
/// ```
pub struct Snapshot {
    core: Arc<Core>,
    cut: Arc<Cut>,
    /// The partition that comes next, and how far it has been read.
    partition: usize,
    after: Option<Tag>,
    /// By device, in the order of the log.
    batch: Vec<VecDeque<Item>>,
    batch_limit: usize,
    ahead: Option<Page>,
    /// What the iterator has of a page.
    page: VecDeque<Result<Record>>,
    records: u64,
    is_over: bool,
}

impl Snapshot {
    pub(super) fn new(core: Arc<Core>, cut: Arc<Cut>) -> Self {
        let batch = core.volumes.iter().map(|_| VecDeque::new()).collect();
        Snapshot {
            core,
            cut,
            partition: 0,
            after: None,
            batch,
            batch_limit: BATCH,
            ahead: None,
            page: VecDeque::new(),
            records: 0,
            is_over: false,
        }
    }

    /// The last sequence number that was given before the cut: no version with a higher one is in it.
    pub fn sequence(&self) -> u64 {
        self.cut.sequence - 1
    }

    /// The moment of the cut.
    pub fn taken_at(&self) -> Timestamp {
        self.cut.now
    }

    /// How many records there are, about: some may have expired without being counted out.
    pub fn estimated_records(&self) -> u64 {
        self.cut.objects
    }

    /// How many entries were left with the snapshot by those who changed them before it had come to them.
    pub fn left_entries(&self) -> u64 {
        self.cut.left_count.load(Ordering::Relaxed)
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.core.config.name
    }

    /// The identity of the namespace's device set, and how many times that has been opened.
    pub fn device_set(&self) -> ([u8; 16], u64) {
        let header = &self.core.volume(0).header;
        (header.set_uuid, header.incarnation)
    }

    /// So many entries are copied from the index at once, about; a test wants few, so that writers come in between.
    pub fn with_batch(mut self, entries: usize) -> Self {
        self.batch_limit = entries.max(1);
        self
    }

    /// The next records, in no order that means anything; `None` at the end. What could not be read is an error in its place.
    ///
    /// # Errors
    /// `SnapshotGivenUp`: then there is no more.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Result<Record>>>> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            let page = match self.ahead.take() {
                Some(page) => Some(page),
                None => self.start_page(),
            };
            let Some(page) = page else {
                self.end();
                return Ok(None);
            };
            self.ahead = self.start_page();
            let found = self.receive(page).await;
            // Bytes come first, then the question whether they can still be those of the cut (`mod.rs`).
            if self.cut.is_given_up.load(Ordering::SeqCst) {
                self.end();
                let namespace = self.core.config.name.clone();
                return Err(Error::SnapshotGivenUp { namespace, records: self.records });
            }
            let (sequence, now) = (self.cut.sequence, self.cut.now);
            let is_there = |record: &Record| {
                let number = record.header().sequence;
                assert!(number < sequence, "version {number} is in a snapshot of those below {sequence}");
                !record.is_expired(now)
            };
            let records: Vec<_> =
                found.into_iter().filter(|found| found.as_ref().map_or(true, is_there)).collect();
            self.records += records.len() as u64;
            if !records.is_empty() {
                return Ok(Some(records));
            }
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        self.ahead = None;
        self.batch.iter_mut().for_each(VecDeque::clear);
        self.core.end_snapshot(&self.cut, false);
    }

    /// Copies entries until the batch is full or no partition is left.
    fn fill_batch(&mut self) {
        let mut count = 0;
        while count < self.batch_limit && self.partition < PARTITION_COUNT {
            let id = PartitionId::new(self.partition as u16);
            count += self.copy_step(id, STEP.min(self.batch_limit));
        }
        for items in &mut self.batch {
            items.make_contiguous().sort_unstable_by_key(|item| item.entry.location().unit);
        }
    }

    /// Copies the next entries of the partition. Returns how many it looked at.
    fn copy_step(&mut self, id: PartitionId, limit: usize) -> usize {
        let (core, cut) = (&self.core, &self.cut);
        let mut items: Vec<Entry> = Vec::new();
        let mut count = 0;
        let mut last = None;
        let partition = core.index.lock(id);
        for entry in partition.iter_from(self.after).take(limit) {
            count += 1;
            last = Some(entry.tag());
            if cut.is_visible(&entry) && cut.is_below(core, &entry) {
                items.push(entry);
            }
        }
        let mut part = cut.parts[usize::from(id.get())].lock();
        if count == limit && last.is_some() {
            part.read_to = last.map_or(ReadTo::End, ReadTo::Tag);
            self.after = last;
        } else {
            part.read_to = ReadTo::End;
            items.append(&mut std::mem::take(&mut part.left));
            self.after = None;
            self.partition += 1;
        }
        drop(part);
        drop(partition);
        for entry in items {
            self.batch[usize::from(entry.location().device)].push_back(Item { partition: id, entry });
        }
        count
    }

    /// Starts the reads of the next page; none at the end.
    fn start_page(&mut self) -> Option<Page> {
        while self.batch.iter().all(VecDeque::is_empty) {
            if self.partition == PARTITION_COUNT {
                return None;
            }
            self.fill_batch();
        }
        let busy = self.batch.iter().filter(|items| !items.is_empty()).count().max(1);
        let (share, runs) = (PAGE_SIZE / busy as u64, PAGE_RUNS.div_ceil(busy));
        let mut page = Page::default();
        for device in 0..self.batch.len() {
            let (mut size, before) = (0, page.runs.len());
            let mut run: Vec<Item> = Vec::new();
            while size < share && page.runs.len() - before < runs {
                let Some(item) = self.batch[device].pop_front() else { break };
                size += u64::from(item.entry.size_class().bytes());
                if let Some(record) = self.read_ram(&item) {
                    page.ready.push(record);
                    continue;
                }
                if !is_neighbour(&run, &item) {
                    page.runs.extend(self.start_run(std::mem::take(&mut run)));
                }
                run.push(item);
            }
            page.runs.extend(self.start_run(run));
        }
        Some(page)
    }

    /// The record, if it is in a write buffer or the post-write cache.
    fn read_ram(&self, item: &Item) -> Option<Result<Record>> {
        let location = item.entry.location();
        let size = item.entry.size_class().bytes();
        let bytes = self.core.volume(location.device).copy_from_ram(location, size, &mut false)?;
        let record = Record::new(RecordBytes::Owned(bytes)).ok()?;
        wanted(item).is(&record.header().digest).then_some(Ok(record))
    }

    fn start_run(&self, items: Vec<Item>) -> Option<Run> {
        let (first, last) = (items.first()?.entry, items.last()?.entry);
        let end = last.location().offset() + u64::from(last.size_class().bytes());
        let size = (end - first.location().offset()) as u32;
        let read = self.core.volume(first.location().device).read(first.location(), size);
        self.core.counters.device_reads.add(1);
        Some(Run { items, read })
    }

    /// Waits for the reads of a page.
    async fn receive(&self, page: Page) -> Vec<Result<Record>> {
        let mut records = page.ready;
        for Run { items, read } in page.runs {
            let DeviceRead { ticket, skip, size } = read;
            let first = items[0].entry.location().offset();
            match ticket.await.into_buffer() {
                Ok(buffer) => {
                    let bytes = &buffer[skip..skip + size];
                    for item in &items {
                        let from = (item.entry.location().offset() - first) as usize;
                        let to = from + item.entry.size_class().bytes() as usize;
                        records.push(self.prove(item, &bytes[from..to]));
                    }
                }
                // One bad sector must not take its neighbours with it.
                Err(_) => {
                    for item in &items {
                        records.push(self.read_alone(item).await);
                    }
                }
            }
        }
        records
    }

    async fn read_alone(&self, item: &Item) -> Result<Record> {
        let location = item.entry.location();
        let size = item.entry.size_class().bytes();
        let DeviceRead { ticket, skip, size } = self.core.volume(location.device).read(location, size);
        let buffer = ticket.await.into_buffer()?;
        self.prove(item, &buffer[skip..skip + size])
    }

    fn prove(&self, item: &Item, bytes: &[u8]) -> Result<Record> {
        // The block stays in the life that it was in at the cut, else the snapshot has been given up.
        let found: Found = self.core.found(item.entry);
        let record = self.core.prove(&found, &wanted(item), bytes);
        let record = record.and_then(|()| Record::new(RecordBytes::Owned(bytes.to_vec())));
        match record {
            Err(_) if self.cut.is_given_up.load(Ordering::SeqCst) => Err(Error::Closed),
            proved => proved.map_err(|fault| self.core.corrupt(&found, &wanted(item), fault)),
        }
    }
}

fn wanted(item: &Item) -> Wanted {
    Wanted { partition: item.partition, tag: item.entry.tag(), digest: None }
}

/// Whether `item` should be in one read with those of `run`.
fn is_neighbour(run: &[Item], item: &Item) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return true };
    let end = last.entry.location().offset() + u64::from(last.entry.size_class().bytes());
    let at = item.entry.location().offset();
    at.saturating_sub(end) <= RUN_GAP && at - first.entry.location().offset() < RUN_SIZE
}

impl Iterator for Snapshot {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.page.is_empty() {
            match context::block_on(self.next_page()) {
                Ok(page) => self.page.extend(page?),
                Err(error) => return Some(Err(error)),
            }
        }
        self.page.pop_front()
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.core.end_snapshot(&self.cut, false);
    }
}
