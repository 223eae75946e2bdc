//! The few system calls that neither std nor a crate offers, each as a safe function.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;

/// An eventfd: a counter that a read waits for and takes. Reads block, because io_uring treats a descriptor that
/// does not as one that wants no waiting.
pub(super) fn eventfd() -> io::Result<File> {
    // SAFETY: takes no pointer.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) })?;
    // SAFETY: the descriptor was made above, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// What alignment `O_DIRECT` wants of this file, in bytes: (memory, offset), both 0 where there is no direct I/O.
/// None when the kernel does not tell (before Linux 6.1, or a file system that does not say).
pub(super) fn direct_alignment(file: &File) -> Option<(u32, u32)> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, the status has room for what the kernel writes.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            status.as_mut_ptr(),
        )
    };
    // SAFETY: all zeros is a valid status, and the kernel writes only numbers over it.
    let status = unsafe { status.assume_init() };
    let told = result == 0 && status.stx_mask & libc::STATX_DIOALIGN != 0;
    told.then_some((status.stx_dio_mem_align, status.stx_dio_offset_align))
}

/// A block device's logical and physical sector sizes, in bytes.
pub(super) fn sector_sizes(file: &File) -> io::Result<(u32, u32)> {
    let (mut logical, mut physical): (libc::c_int, libc::c_uint) = (0, 0);
    // SAFETY: BLKSSZGET writes one int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET as _, &raw mut logical) })?;
    // SAFETY: BLKPBSZGET writes one unsigned int.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKPBSZGET as _, &raw mut physical) })?;
    Ok((logical as u32, physical))
}

/// Sends the file's transfers through the page cache from now on.
pub(super) fn clear_direct(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags & !libc::O_DIRECT) }).map(drop)
}

/// Gives the file blocks for a range, which then reads as zeros. Fails where the file system cannot.
pub(super) fn allocate(file: &File, offset: u64, size: u64) -> io::Result<()> {
    let overflow = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, size) = (offset.try_into().map_err(overflow)?, size.try_into().map_err(overflow)?);
    loop {
        // SAFETY: takes no pointer.
        match check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, size) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => return result.map(drop),
        }
    }
}

/// Writes at an offset; with `durable`, returns only when these bytes are on the medium.
pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64, durable: bool) -> io::Result<usize> {
    if !durable {
        return file.write_at(bytes, offset);
    }
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let offset = offset.try_into().map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: one part, whose bytes are borrowed until the call returns; a write only reads them.
    let moved = unsafe { libc::pwritev2(file.as_raw_fd(), &part, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Whether a descriptor becomes readable within `timeout_ms`, as an outside event loop would see it.
#[cfg(test)]
pub(super) fn becomes_readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 && poll.revents & libc::POLLIN != 0 }
}

fn check(result: libc::c_int) -> io::Result<RawFd> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
