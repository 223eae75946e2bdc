//! The faulty file system: one directory, one file, `disk.img`, whose bytes are a [`Disk`].
//!
//! The file is opened past the kernel's page cache (`FOPEN_DIRECT_IO`), so what the kernel sends is what was asked
//! of it, in that order, and nothing of an earlier life of the disk is left in the kernel. Durability arrives in two
//! ways: `O_DSYNC` as a bit in the flags of a WRITE, which makes just those bytes durable, and FSYNC, which makes
//! durable what was completed before. FLUSH is what a `close` sends; it makes nothing durable, as `close` does not.
//!
//! A cut has two steps. For a moment requests are held without an answer: those are in flight. Then the file
//! system is frozen: they and all later ones get EIO, so nobody can have learned of the cut before its time. An
//! answer that was given before the cut is in the disk; one that comes after it can rest only on such answers.
//! So everything the engine acknowledges, whenever that is reported, must be in the image that survives.
//!
//! Every opening of the file belongs to one life of the disk. After [`Control::insert`] the file handles of
//! earlier lives go on getting EIO, so a loop device that the kernel is slow to let go of cannot write into the
//! next life.
//!
//! The process that serves this must do no file I/O on the mount, or it may wait for itself.

use crate::disk::Disk;
use crate::fault::{Applied, Fault, Faults, Step};
use crate::image::Image;
use crate::survival::Shape;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file's name.
pub const FILE: &str = "disk.img";

const FILE_INODE: INodeNo = INodeNo(2);
/// Nothing is cached by the kernel for long: a life of the disk may have another size.
const TTL: Duration = Duration::ZERO;
/// Threads that serve requests: as many can be in flight at a cut.
const THREADS: usize = 4;
/// How long requests are held at a cut.
const HOLD: Duration = Duration::from_millis(1);

/// Where the disk is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// A cut is under way: requests are held.
    Cutting,
    Frozen,
}

/// What a disk was asked since the file system was mounted.
#[derive(Debug, Default, Clone, Copy)]
pub struct Asked {
    /// Reads.
    pub reads: u64,
    /// Writes that were not durable by themselves.
    pub writes: u64,
    /// Writes with `O_DSYNC` or `O_SYNC`.
    pub durable_writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Writes and flushes in flight at a cut.
    pub in_flight: u64,
    /// Writes in the cache at a cut.
    pub cached: u64,
}

struct State {
    disk: Disk,
    phase: Phase,
    life: u64,
    faults: Faults,
    asked: Asked,
    held: usize,
}

struct Shared {
    state: Mutex<State>,
    thawed: Condvar,
}

/// The in-process handle: cuts the power, changes the disk, arms faults.
#[derive(Clone)]
pub struct Control(Arc<Shared>);

impl Control {
    /// A disk that holds nothing yet.
    pub fn new(size: u64) -> Self {
        let state = State {
            disk: Disk::new(Image::new(size), 512),
            phase: Phase::Running,
            life: 1,
            faults: Faults::default(),
            asked: Asked::default(),
            held: 0,
        };
        Control(Arc::new(Shared { state: Mutex::new(state), thawed: Condvar::new() }))
    }

    /// Cuts the power, and returns what is on the medium, and when it was cut (monotonic, in ns). From now on every
    /// request gets EIO.
    pub fn cut(&self, shape: Shape, seed: u64) -> (Image, u64) {
        let mut state = self.0.state.lock();
        state.phase = Phase::Cutting;
        let at_ns = crate::wire::mono_ns();
        let deadline = std::time::Instant::now() + HOLD;
        while state.held < THREADS && !self.0.thawed.wait_until(&mut state, deadline).timed_out() {}
        self.freeze(&mut state);
        state.asked.in_flight += state.held as u64;
        state.asked.cached += state.disk.cached_count() as u64;
        (state.disk.after_cut(shape, seed), at_ns)
    }

    /// Freezes the disk and returns what reads saw: for a process that is killed while the power stays on.
    pub fn pull(&self) -> Image {
        let mut state = self.0.state.lock();
        self.freeze(&mut state);
        state.disk.view()
    }

    fn freeze(&self, state: &mut MutexGuard<'_, State>) {
        state.phase = Phase::Frozen;
        state.faults.disarm();
        self.0.thawed.notify_all();
    }

    /// Begins another life: the disk holds `image`, durably, and answers those who open the file from now on.
    pub fn insert(&self, image: Image, sector_size: u32, lies: bool) {
        let mut state = self.0.state.lock();
        state.disk = Disk::new(image, sector_size);
        state.disk.set_lies(lies);
        state.phase = Phase::Running;
        state.life += 1;
        state.held = 0;
        state.faults.disarm();
    }

    /// Arms a fault for the `nth` request of its kind from now on.
    pub fn arm(&self, fault: Fault, nth: u32) {
        self.0.state.lock().faults.arm(fault, nth);
    }

    /// Whether the fault that was armed has not struck yet.
    pub fn is_armed(&self) -> bool {
        self.0.state.lock().faults.is_armed()
    }

    /// Takes back the fault that is armed.
    pub fn disarm(&self) {
        self.0.state.lock().faults.disarm();
    }

    /// How many faults have struck.
    pub fn struck(&self) -> u32 {
        self.0.state.lock().faults.struck
    }

    /// What was asked so far.
    pub fn asked(&self) -> Asked {
        self.0.state.lock().asked
    }
}

/// A mounted file system; dropped, it is unmounted, if nobody uses it any more.
pub struct Served {
    _session: fuser::BackgroundSession,
}

impl Served {
    /// Mounts the disk at `directory`, which must exist.
    pub fn mount(control: &Control, directory: &Path) -> io::Result<Self> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("aerolith-rigs".into()),
            MountOption::RW,
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
        ];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let session = fuser::Session::new(FaultyFs(control.0.clone()), directory, &config)?.spawn()?;
        Ok(Served { _session: session })
    }
}

struct FaultyFs(Arc<Shared>);

impl FaultyFs {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0),
            FILE_INODE => (FileType::RegularFile, self.0.state.lock().disk.size()),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory { 0o700 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// The state, if `handle` belongs to this life and the power is on. Writes and flushes that come during a cut
    /// are held until it is over; `in_flight` notes what they would have done.
    fn enter(
        &self,
        handle: FileHandle,
        in_flight: Option<&dyn Fn(&mut Disk)>,
    ) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.0.state.lock();
        if state.life != handle.0 {
            return Err(Errno::EIO);
        }
        match (state.phase, in_flight) {
            (Phase::Running, _) | (Phase::Cutting, None) => Ok(state),
            (Phase::Frozen, _) => Err(Errno::EIO),
            (Phase::Cutting, Some(note)) => {
                note(&mut state.disk);
                state.held += 1;
                self.0.thawed.notify_all();
                let life = state.life;
                while state.phase == Phase::Cutting && state.life == life {
                    self.0.thawed.wait(&mut state);
                }
                Err(Errno::EIO)
            }
        }
    }

    fn write_bytes(&self, handle: FileHandle, offset: u64, data: &[u8], durable: bool) -> Result<u32, Errno> {
        let mut state = self.enter(handle, Some(&|disk: &mut Disk| disk.write_in_flight(offset, data)))?;
        if offset + data.len() as u64 > state.disk.size() {
            return Err(Errno::EFBIG);
        }
        if durable {
            state.asked.durable_writes += 1;
        } else {
            state.asked.writes += 1;
        }
        // Halves are whole pages: a file system above rightly takes a torn page for a broken device.
        let half = data.len() / 2 / 4096 * 4096;
        let fault = state.faults.meet(Step::Write, |fault| fault != Fault::ShortWrite || half > 0);
        let done = match fault {
            None | Some(Fault::SlowWrite(_)) | Some(Fault::WriteError(Applied::Whole)) => data.len(),
            Some(Fault::ShortWrite | Fault::WriteError(Applied::Half)) => half,
            _ => 0,
        };
        if let Some(Fault::SlowWrite(delay)) = fault {
            drop(state);
            std::thread::sleep(delay);
            state = self.enter(handle, Some(&|disk: &mut Disk| disk.write_in_flight(offset, data)))?;
        }
        // A write that failed promises nothing, also of what it did.
        let is_error = matches!(fault, Some(Fault::WriteError(_) | Fault::WriteFull));
        if done > 0 {
            state.disk.write(offset, &data[..done], durable && !is_error);
        }
        match fault {
            Some(Fault::WriteError(_)) => Err(Errno::EIO),
            Some(Fault::WriteFull) => Err(Errno::ENOSPC),
            _ => Ok(done as u32),
        }
    }

    fn read_bytes(&self, handle: FileHandle, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let mut state = self.enter(handle, None)?;
        state.asked.reads += 1;
        let left = state.disk.size().saturating_sub(offset);
        let mut size = u64::from(size).min(left) as usize;
        let half = size / 2 / 4096 * 4096;
        match state.faults.meet(Step::Read, |fault| fault != Fault::ShortRead || half > 0) {
            Some(Fault::ReadError) => return Err(Errno::EIO),
            Some(Fault::ShortRead) => size = half,
            Some(Fault::SlowRead(delay)) => {
                drop(state);
                std::thread::sleep(delay);
                state = self.enter(handle, None)?;
            }
            _ => {}
        }
        let mut bytes = vec![0; size];
        state.disk.read(offset, &mut bytes);
        Ok(bytes)
    }

    fn flush_disk(&self, handle: FileHandle) -> Result<(), Errno> {
        let mut state = self.enter(handle, Some(&|_: &mut Disk| {}))?;
        state.asked.flushes += 1;
        match state.faults.meet(Step::Flush, |_| true) {
            Some(Fault::FlushError(drops)) => {
                if drops {
                    state.disk.drop_cache();
                }
                Err(Errno::EIO)
            }
            _ => {
                state.disk.flush();
                Ok(())
            }
        }
    }
}

impl Filesystem for FaultyFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Loop devices send from many workers: without this the kernel lets them in one by one.
        let _ = config.add_capabilities(InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_write(1 << 20);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE_INODE).filter(|_| parent == INodeNo::ROOT && name == FILE) {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // A disk keeps its size; times and modes are nobody's business here.
        match self.attributes(inode) {
            Some(attributes) if size.is_none_or(|size| size == attributes.size) => {
                reply.attr(&TTL, &attributes)
            }
            Some(_) => reply.error(Errno::EPERM),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if inode != FILE_INODE {
            return reply.error(Errno::ENOENT);
        }
        let life = self.0.state.lock().life;
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        reply.opened(FileHandle(life), flags);
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_bytes(handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // O_SYNC contains O_DSYNC's bit.
        match self.write_bytes(handle, offset, data, flags.0 & libc::O_DSYNC != 0) {
            Ok(count) => reply.written(count),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _request: &Request, inode: INodeNo, handle: FileHandle, _data: bool, reply: ReplyEmpty) {
        if inode == INodeNo::ROOT {
            return reply.ok();
        }
        match self.flush_disk(handle) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOTDIR);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (FILE_INODE, FileType::RegularFile, FILE),
        ];
        for (i, (inode, kind, name)) in entries.into_iter().enumerate().skip(offset as usize) {
            if reply.add(inode, i as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let blocks = self.0.state.lock().disk.size() / 4096;
        reply.statfs(blocks, 0, 0, 2, 0, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !(libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0
        {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let zeroes = mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0;
        match self.enter(handle, Some(&|_: &mut Disk| {})) {
            Err(error) => reply.error(error),
            Ok(state) if offset.saturating_add(length) > state.disk.size() => reply.error(Errno::EFBIG),
            Ok(mut state) => {
                if state.faults.meet(Step::Allocate, |_| !zeroes).is_some() {
                    return reply.error(Errno::ENOSPC);
                }
                if zeroes {
                    // As volatile as a write is.
                    state.disk.write(offset, &vec![0; length as usize], false);
                }
                reply.ok();
            }
        }
    }
}
