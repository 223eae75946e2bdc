//! A regular file or a raw block device as a [`Device`].
//!
//! Opening settles everything that a request would otherwise stumble on later: what the thing is, whether anybody
//! else has it, its size, whether it does direct I/O and in what alignment. What the bytes mean is not looked at.
//! A file that is created has its size at once, as a hole, and is on the medium, its name included, when `open`
//! returns.
//!
//! Two engines on one device would destroy each other's data, so a device is locked (flock; raw ones are claimed
//! with `O_EXCL` too, which also keeps mounted file systems safe). Readers share the lock with readers.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::handle::Handle;
use super::transfer::Transfer;
use super::{
    AlignedBuffer, Cause, Counters, Device, Geometry, OpenError, Request, SharedRing, Ticket, blocking,
    context, setup, sys,
};

/// What media write at once, as far as we can know: 512-byte sectors are emulated on most of them.
const PHYSICAL_SIZE: u32 = 4096;

/// The kernel and our rings let go of a raw device within this after it was closed here: a close writes back what
/// is in the way first, which took more than 500 ms on a busy disk.
const RELEASE_PATIENCE: Duration = Duration::from_secs(3);

/// A killed process leaves its lock behind until the kernel has taken its rings apart and the last write in
/// flight has ended: some milliseconds, more on a busy disk. A start right after `kill -9` waits for that. Where
/// /proc does not name the holder (a dead one within a container, or somebody outside of it), so does every start.
const DEAD_HOLDER_PATIENCE: Duration = Duration::from_secs(10);

/// How to open a file or block device.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// The file or block device.
    pub path: PathBuf,
    /// In bytes. A new file gets it, rounded up to a multiple of 4096; an existing smaller one is extended, an
    /// existing larger one keeps its own. A raw device has its own and must have at least this.
    pub size: Option<u64>,
    /// How requests are carried out.
    pub driver: Driver,
    /// Whether to create a file that does not exist.
    pub create: bool,
    /// Refuse writes, and share the device with other readers.
    pub read_only: bool,
    /// Where requests go from threads that have no ring of their own.
    pub shared_ring: Option<Arc<SharedRing>>,
}

/// How a file carries out requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// By io_uring where the thread's context offers it, else in place.
    #[default]
    Auto,
    /// As `Auto`, but opening fails where the system has no io_uring.
    Ring,
    /// Always in place, on the thread that asks.
    Blocking,
}

/// An open file or block device.
#[derive(Debug)]
pub struct FileDevice {
    // Before the ring, so that an idle ring still hears of the file's closing.
    handle: Arc<Handle>,
    shared_ring: Option<Arc<SharedRing>>,
    driver: Driver,
    kind: Kind,
    read_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Block,
}

impl DeviceOptions {
    /// An existing device at `path`, of its own size, for reading and writing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            size: None,
            driver: Driver::Auto,
            create: false,
            read_only: false,
            shared_ring: None,
        }
    }
}

impl FileDevice {
    /// Opens, and creates if asked. Blocks.
    pub fn open(options: DeviceOptions) -> Result<Self, OpenError> {
        let path = &options.path;
        if options.driver == Driver::Ring {
            setup::probe().map_err(|source| OpenError::NoRing { path: path.clone(), source })?;
        }
        let created = create(&options)?;
        let opened = Self::open_existing(&options);
        if created && !matches!(opened, Ok(_) | Err(OpenError::InUse { .. })) {
            // What is there is our own empty file, unless somebody was quick and has it in use.
            let _ = fs::remove_file(path);
        }
        let device = opened?;
        if created {
            let synced = device.handle.file.sync_all().and_then(|()| File::open(directory(path))?.sync_all());
            synced.map_err(|source| os(path, "sync the new file and its directory", source))?;
        }
        Ok(device)
    }

    /// Whether it is a raw block device, which has its room and its size by nature.
    pub fn is_block_device(&self) -> bool {
        self.kind == Kind::Block
    }

    fn open_existing(options: &DeviceOptions) -> Result<Self, OpenError> {
        let path = &options.path;
        let kind = kind_of(path)?;
        let (mut file, direct) = open_and_claim(options, kind)?;
        lock(&file, options)?;
        let size = settle_size(&mut file, options, kind)?;
        let (file, sector_size, direct) = settle_alignment(file, direct, options, kind)?;
        let reported = match kind {
            Kind::Block => sys::sector_sizes(&file).map_or(0, |(_, physical)| physical),
            Kind::File => 0,
        };
        let physical_size = PHYSICAL_SIZE.max(sector_size).max(reported);
        let size = size - size % u64::from(physical_size);
        if size == 0 {
            return Err(OpenError::TooSmall { path: path.clone(), size, minimum: physical_size.into() });
        }
        let name = path.to_string_lossy().into();
        let handle = Handle::new(file, Geometry { name, size, sector_size, physical_size, direct });
        Ok(Self {
            handle,
            shared_ring: options.shared_ring.clone(),
            driver: options.driver,
            kind,
            read_only: options.read_only,
        })
    }

    fn check(&self, request: &Request) -> Result<(), super::DeviceError> {
        if self.read_only && matches!(request, Request::Write { .. }) {
            return Err(self.handle.geometry.error(request, Cause::ReadOnly));
        }
        self.handle.geometry.check(request)
    }
}

impl Device for FileDevice {
    fn geometry(&self) -> Geometry {
        self.handle.geometry.clone()
    }

    fn submit(&self, request: Request) -> Ticket {
        if let Err(error) = self.check(&request) {
            self.handle.counters.count(&request, false);
            return Ticket::answered(request.answer(Err(error)));
        }
        let transfer = Transfer::new(self.handle.clone(), request);
        match self.driver {
            Driver::Blocking => Ticket::answered(blocking::run(transfer)),
            Driver::Auto | Driver::Ring => context::submit(transfer, self.shared_ring.as_deref()),
        }
    }

    /// Files get their blocks (`fallocate`), where the file system can; they read as zeros. That is no promise
    /// about writes surviving a power cut: blocks are unwritten until a durable write or a flush.
    fn reserve(&self, offset: u64, size: u64) -> io::Result<()> {
        if offset.checked_add(size).is_none_or(|end| end > self.handle.geometry.size) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "reserves beyond the device's end"));
        }
        if self.kind == Kind::Block || size == 0 {
            return Ok(());
        }
        match sys::allocate(&self.handle.file, offset, size) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
            result => result,
        }
    }

    fn counters(&self) -> &Counters {
        &self.handle.counters
    }
}

/// Creates the file if it is asked for and not there: empty, its size comes under the lock.
fn create(options: &DeviceOptions) -> Result<bool, OpenError> {
    let path = &options.path;
    if !options.create || options.read_only || path.exists() {
        return Ok(false);
    }
    if options.size.is_none() {
        return Err(OpenError::SizeNeeded { path: path.clone() });
    }
    // The records are nobody else's business.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(OpenError::MissingDirectory { path: path.clone(), directory: directory(path).into() })
        }
        Err(error) => Err(os(path, "create", error)),
    }
}

fn kind_of(path: &Path) -> Result<Kind, OpenError> {
    let file_type = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(match directory(path) {
                directory if !directory.exists() => {
                    OpenError::MissingDirectory { path: path.into(), directory: directory.into() }
                }
                _ => OpenError::Missing { path: path.into() },
            });
        }
        Err(error) => return Err(os(path, "look at", error)),
    };
    let kind = match file_type {
        _ if file_type.is_file() => return Ok(Kind::File),
        _ if file_type.is_block_device() => return Ok(Kind::Block),
        _ if file_type.is_dir() => "directory",
        _ if file_type.is_char_device() => "character device",
        _ if file_type.is_fifo() => "pipe",
        _ if file_type.is_socket() => "socket",
        _ => "thing of unknown kind",
    };
    Err(OpenError::NotADevice { path: path.into(), kind })
}

/// Opens with direct I/O where there is any, and says whether.
fn open_and_claim(options: &DeviceOptions, kind: Kind) -> Result<(File, bool), OpenError> {
    let claim = if kind == Kind::Block && !options.read_only { libc::O_EXCL } else { 0 };
    let patience = if Handle::closed_count() > 0 { RELEASE_PATIENCE } else { Duration::ZERO };
    let deadline = Instant::now() + patience;
    let mut direct = libc::O_DIRECT;
    loop {
        let mut open = OpenOptions::new();
        open.read(true).write(!options.read_only).custom_flags(claim | direct);
        let error = match open.open(&options.path) {
            Ok(file) => return Ok((file, direct != 0)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINVAL) if direct != 0 => direct = 0,
            Some(libc::EBUSY) if Instant::now() < deadline => {
                context::tidy();
                thread::sleep(Duration::from_millis(20));
            }
            Some(libc::EBUSY) => return Err(OpenError::InUse { path: options.path.clone(), pid: None }),
            _ => return Err(os(&options.path, "open", error)),
        }
    }
}

fn lock(file: &File, options: &DeviceOptions) -> Result<(), OpenError> {
    let deadline = Instant::now() + DEAD_HOLDER_PATIENCE;
    loop {
        let locked = if options.read_only { file.try_lock_shared() } else { file.try_lock() };
        let pid = match locked {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(os(&options.path, "lock", source)),
            Err(TryLockError::WouldBlock) => file.metadata().ok().and_then(|file| lock_holder(&file)),
        };
        if !pid.is_none_or(is_dead) || Instant::now() >= deadline {
            return Err(OpenError::InUse { path: options.path.clone(), pid });
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Whether there is no such process any more, or only its exit code is left.
fn is_dead(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// The process that holds a file's lock, as far as this process may know. A line of /proc/locks is
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131077 0 EOF`.
fn lock_holder(file: &fs::Metadata) -> Option<u32> {
    let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let mut held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = held.find(|words| words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str()))?;
    line[4].parse().ok().filter(|&pid| pid != 0)
}

/// The size in bytes, after a file has been given what was asked for.
fn settle_size(file: &mut File, options: &DeviceOptions, kind: Kind) -> Result<u64, OpenError> {
    let path = &options.path;
    // Works for block devices too, whose metadata say 0.
    let size = file.seek(SeekFrom::End(0)).map_err(|source| os(path, "find the size of", source))?;
    let wanted = options.size.unwrap_or(0).next_multiple_of(PHYSICAL_SIZE.into());
    if size >= wanted {
        return Ok(size);
    }
    if kind == Kind::Block || options.read_only {
        return Err(OpenError::TooSmall { path: path.clone(), size, minimum: wanted });
    }
    let extended = file.set_len(wanted).and_then(|()| file.sync_all());
    extended.map_err(|source| os(path, "extend", source))?;
    Ok(wanted)
}

/// The alignment of transfers, in bytes. A file whose direct I/O turns out to be none is opened again without.
fn settle_alignment(
    file: File,
    direct: bool,
    options: &DeviceOptions,
    kind: Kind,
) -> Result<(File, u32, bool), OpenError> {
    let path = &options.path;
    if kind == Kind::Block {
        let (logical, _) =
            sys::sector_sizes(&file).map_err(|source| os(path, "find the sectors of", source))?;
        return Ok((file, logical.max(512), direct));
    }
    let sector_size = match sys::direct_alignment(&file) {
        _ if !direct => None,
        Some((_, 0)) => None,
        Some((memory, offset)) => Some(memory.max(offset).max(512)),
        None => [512, 4096].into_iter().find(|&size| reads_in(&file, size)),
    };
    if let Some(size) = sector_size.filter(|&size| size <= PHYSICAL_SIZE) {
        return Ok((file, size, true));
    }
    tracing::warn!(device = %path.display(), "no direct I/O here: the page cache will hold its data a second time");
    if direct {
        // Changing the flag keeps the lock, which opening again would give away for a moment.
        sys::clear_direct(&file).map_err(|source| os(path, "turn direct I/O off for", source))?;
    }
    Ok((file, 512, false))
}

/// Whether a direct read of `size` bytes works: the only way to ask a kernel that does not tell.
fn reads_in(file: &File, size: u32) -> bool {
    file.read_at(&mut AlignedBuffer::for_read(size as usize), 0).is_ok()
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn os(path: &Path, action: &'static str, source: io::Error) -> OpenError {
    let path = path.into();
    match source.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            OpenError::Denied { path, action, source }
        }
        _ => OpenError::Os { path, action, source },
    }
}
