//! What a device says when it cannot do what was asked: which device, what, where, why, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A request that failed. No byte of it may be relied upon: a write may have reached the device in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device {device}: {}: {cause}; {}", self.what(), self.cause.remedy())]
pub struct DeviceError {
    /// The device's name, as in its geometry: a path, or what a test called it.
    pub device: Arc<str>,
    /// What was asked for.
    pub operation: Operation,
    /// Where, in bytes from the start of the device; 0 for a flush.
    pub offset: u64,
    /// How much was asked for, in bytes; 0 for a flush.
    pub length: u64,
    /// Why it failed.
    pub cause: Cause,
}

/// What a request asks of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Bytes from the device.
    Read,
    /// Bytes to the device, in its cache or on its medium.
    Write,
    /// Bytes to the device that are on its medium when the answer comes.
    DurableWrite,
    /// Everything answered before is on the medium when the answer comes.
    Flush,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The system said no, with this (positive) error number.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Os(i32),
    /// The device ended after this many bytes of the request.
    #[error("the device ends after {0} of the bytes")]
    End(u64),
    /// The device stopped taking bytes of a write after this many, and gave no reason.
    #[error("the device took only {0} of the bytes")]
    Stalled(u64),
    /// The request reaches beyond the device, which has this many bytes.
    #[error("beyond the device's {0} bytes")]
    OutOfBounds(u64),
    /// Offset, length and place in the buffer must be multiples of this many bytes.
    #[error("not a multiple of the device's {0} byte sectors")]
    Misaligned(u32),
    /// The write names bytes that its buffer, of this many bytes, does not have.
    #[error("beyond the buffer's {0} bytes")]
    OutOfBuffer(u64),
    /// The device was opened for reading only.
    #[error("the device was opened read-only")]
    ReadOnly,
    /// The driver gave the request up without an answer.
    #[error("the driver gave the request up without an answer")]
    Unanswered,
}

impl DeviceError {
    /// The system's (positive) error number, if the system said no.
    pub fn errno(&self) -> Option<i32> {
        match self.cause {
            Cause::Os(errno) => Some(errno),
            _ => None,
        }
    }

    fn what(&self) -> String {
        match self.operation {
            Operation::Flush => "flush".into(),
            _ => format!("{} of {} bytes at offset {}", self.operation, self.length, self.offset),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::DurableWrite => "durable write",
            Self::Flush => "flush",
        })
    }
}

impl Cause {
    fn remedy(self) -> &'static str {
        match self {
            Self::Os(libc::EIO) => {
                "the medium or the way to it failed: see the kernel's log and the drive's health"
            }
            Self::Os(libc::ENOSPC | libc::EDQUOT) => {
                "the file system is full: free space on it, or use a raw device"
            }
            Self::Os(libc::EINVAL) => "likely the device wants larger sectors than it reports",
            Self::Os(libc::EROFS | libc::EPERM | libc::EBADF) => {
                "the device does not let itself be written any more"
            }
            Self::Os(libc::ENODEV | libc::ENXIO) => "the device is gone: was it unplugged or detached?",
            Self::Os(libc::ENOMEM | libc::EAGAIN) => "the system is short of memory for I/O",
            Self::Os(_) => "see the kernel's log",
            Self::End(_) => "the file was made shorter behind the engine's back",
            Self::Stalled(_) => "see the kernel's log",
            Self::ReadOnly => "open it for writing",
            Self::OutOfBounds(_) | Self::Misaligned(_) | Self::OutOfBuffer(_) | Self::Unanswered => {
                "this is a mistake of the program, please report it"
            }
        }
    }
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there, and `create` was not asked for.
    #[error("device {}: does not exist; correct the path, or allow it to be created", path.display())]
    Missing {
        /// The device.
        path: PathBuf,
    },
    /// The directory that the file should lie in does not exist.
    #[error("device {}: its directory does not exist; create {} first", path.display(), directory.display())]
    MissingDirectory {
        /// The device.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The system does not let this user create or open the file.
    #[error("device {}: {action}: {source}; check owner and mode of it and of its directory, and that the file system is \
             not mounted read-only", path.display())]
    Denied {
        /// The device.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a regular file nor a block device.
    #[error("device {}: is a {kind}; a device is a regular file or a block device", path.display())]
    NotADevice {
        /// The device.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A new file was asked for without a size.
    #[error("device {}: a new file needs a size; give one in bytes", path.display())]
    SizeNeeded {
        /// The device.
        path: PathBuf,
    },
    /// The device is smaller than it must be.
    #[error("device {}: has {size} bytes, needs {minimum}; give it more room", path.display())]
    TooSmall {
        /// The device.
        path: PathBuf,
        /// What it has, in bytes.
        size: u64,
        /// What it must have, in bytes.
        minimum: u64,
    },
    /// Somebody else has it open.
    #[error("device {}: already in use by {}; stop it first, two engines on one device destroy each other's data",
            path.display(), holder(*pid))]
    InUse {
        /// The device.
        path: PathBuf,
        /// The process that holds it, where the system tells.
        pid: Option<u32>,
    },
    /// The ring driver was asked for and is not to be had.
    #[error("device {}: {source}", path.display())]
    NoRing {
        /// The device.
        path: PathBuf,
        /// Why.
        source: RingError,
    },
    /// Anything else the system said.
    #[error("device {}: {action}: {source}", path.display())]
    Os {
        /// The device.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a thread could not get a ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The system does not have io_uring, or does not let this process use it.
    #[error("io_uring is not available: {source}; {}", likely_cause(.source))]
    Refused {
        /// What the system said.
        source: io::Error,
    },
    /// The kernel's io_uring lacks what the driver is built on.
    #[error("io_uring is too old here: it lacks {0}; Linux 5.11 or later is needed")]
    TooOld(&'static str),
    /// This thread has one already.
    #[error("this thread has a ring already; one thread has one ring")]
    Installed,
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => "this very process".into(),
        Some(pid) => format!("process {pid}"),
        None => "another process, a mounted file system or an array (lsof, findmnt, lsblk tell)".into(),
    }
}

fn likely_cause(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "likely seccomp (a container), or kernel.io_uring_disabled is 1 or 2"
        }
        Some(libc::ENOSYS) => "the kernel is built without it, or a sandbox hides it",
        Some(libc::ENOMEM) => "likely the limit of locked memory (ulimit -l)",
        Some(libc::EMFILE | libc::ENFILE) => "too many open files (ulimit -n)",
        _ => "see io_uring_setup(2)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_device_place_cause_and_remedy() {
        let error = DeviceError {
            device: "/dev/nvme1n1".into(),
            operation: Operation::DurableWrite,
            offset: 8192,
            length: 512,
            cause: Cause::Os(libc::EIO),
        };
        assert_eq!(
            error.to_string(),
            "device /dev/nvme1n1: durable write of 512 bytes at offset 8192: Input/output error (os error 5); \
             the medium or the way to it failed: see the kernel's log and the drive's health"
        );
        let error = DeviceError { operation: Operation::Flush, cause: Cause::Unanswered, ..error };
        assert!(error.to_string().starts_with("device /dev/nvme1n1: flush: the driver gave"), "{error}");
    }

    #[test]
    fn a_refused_ring_names_the_likely_cause() {
        let error = RingError::Refused { source: io::Error::from_raw_os_error(libc::EPERM) };
        assert!(error.to_string().contains("seccomp"), "{error}");
        assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
    }
}
