//! The device or file that is certified: opened, looked at, and refused if it holds data.
//!
//! A raw device is claimed exclusively, which fails where it is mounted or in use, whatever flags say. What is not blank
//! is left alone without `--destroy`: blank is what the engine takes for blank, and zeros wherever else we look. The first
//! page of what we use carries a mark, so that a file that this tool has filled is known again, and may be used again and
//! removed. On a raw device the mark permits nothing: somebody may have put data behind it since.

use super::USAGE;
use super::flags::{Certify, Mode, Plan};
use crate::load::LoadError;
use aerolith_engine::device::{
    AlignedBuffer, Device, DeviceError, DeviceOptions, Driver, FileDevice, Request,
};
use aerolith_engine::volume::{HeaderError, read_header};
use std::path::PathBuf;
use std::sync::Arc;

/// Begins the first page of what this tool has filled.
const MARK: &[u8; 32] = b"aerolith certify: scratch data\n\0";
const PAGE: u64 = 4096;
/// How many places all over the device must be blank too.
const PROBES: u64 = 256;
/// What a new file has unless told otherwise, in bytes.
const DEFAULT_SIZE: u64 = 4 << 30;
/// The least that can be certified: fewer large blocks than this would all be in some cache.
const LEAST_BLOCKS: u64 = 16;

/// Why it did not come to a verdict.
#[derive(Debug)]
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// What a person can do about it.
    pub why: LoadError,
}

impl From<LoadError> for Failed {
    fn from(why: LoadError) -> Self {
        Failed { code: 1, why }
    }
}

impl From<DeviceError> for Failed {
    fn from(error: DeviceError) -> Self {
        LoadError(error.to_string()).into()
    }
}

fn refuse<T>(why: String) -> Result<T, Failed> {
    Err(Failed { code: USAGE, why: LoadError(why) })
}

/// What is certified.
#[derive(Debug)]
pub struct Medium {
    /// Open while the device itself is under load; the engine opens it by itself.
    pub device: Option<Arc<FileDevice>>,
    /// Where.
    pub path: PathBuf,
    /// Bytes that are used, from the start.
    pub size: u64,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Whether transfers go past the page cache.
    pub direct: bool,
    /// Whether this run has made the file, or an earlier one has.
    is_ours: bool,
}

fn read(device: &FileDevice, offset: u64, size: u64) -> Result<AlignedBuffer, DeviceError> {
    device
        .submit(Request::Read { offset, buffer: AlignedBuffer::for_read(size as usize) })
        .wait()
        .into_buffer()
}

fn write(device: &FileDevice, offset: u64, data: AlignedBuffer) -> Result<(), DeviceError> {
    let range = 0..data.len();
    device.submit(Request::Write { offset, data: Arc::new(data), range, durable: true }).wait().result
}

/// What a device holds, in words; `None`: nothing.
fn holds(device: &FileDevice) -> Result<Option<String>, Failed> {
    match read_header(device) {
        Ok(Some(header)) => {
            return Ok(Some(format!(
                "records of Aerolith's namespace '{}'",
                header.namespace_name().escape_debug()
            )));
        }
        Ok(None) => {}
        Err(HeaderError::Device(error)) => return Err(error.into()),
        Err(HeaderError::Foreign { .. }) => return Ok(Some("data that is not Aerolith's".into())),
        Err(other) => return Ok(Some(format!("what is left of Aerolith's data ({other})"))),
    }
    let pages = device.geometry().size / PAGE;
    for probe in 0..PROBES.min(pages) {
        let offset = pages * probe / PROBES.min(pages) * PAGE;
        if read(device, offset, PAGE)?.iter().any(|&byte| byte != 0) {
            return Ok(Some(format!("data at offset {offset}")));
        }
    }
    Ok(None)
}

/// Opens the device, and makes sure that nothing is lost.
pub fn open(certify: &Certify, plan: &Plan) -> Result<Medium, Failed> {
    let path = &certify.path;
    let is_new = !path.exists();
    let options = DeviceOptions {
        size: is_new.then(|| plan.size.unwrap_or(DEFAULT_SIZE)),
        create: true,
        driver: Driver::Auto,
        ..DeviceOptions::new(path)
    };
    let device = FileDevice::open(options).or_else(|error| refuse(error.to_string()))?;
    let geometry = device.geometry();
    let is_ours = !device.is_block_device() && (is_new || read(&device, 0, PAGE)?.starts_with(MARK));
    if !is_ours
        && !certify.destroy
        && let Some(what) = holds(&device)?
    {
        return refuse(format!(
            "{}: it holds {what}, and certifying it would destroy that; nothing was changed. Give another device, or \
             --destroy if nobody needs it",
            path.display()
        ));
    }
    let size = plan.size.unwrap_or(geometry.size).min(geometry.size);
    let size = size - size % plan.model.large_block.max(PAGE);
    if size < plan.model.large_block * LEAST_BLOCKS {
        drop(device);
        if is_new {
            let _ = std::fs::remove_file(path);
        }
        return refuse(format!(
            "{}: {size} bytes are too few, at least {LEAST_BLOCKS} large blocks of {} are needed; use more, see --size",
            path.display(),
            plan.model.large_block
        ));
    }
    let medium = Medium {
        device: None,
        path: path.clone(),
        size,
        sector_size: geometry.sector_size,
        direct: geometry.direct,
        is_ours,
    };
    Ok(match plan.mode {
        Mode::Device => {
            let mut page = AlignedBuffer::zeroed(PAGE as usize);
            page[..MARK.len()].copy_from_slice(MARK);
            write(&device, 0, page)?;
            Medium { device: Some(Arc::new(device)), ..medium }
        }
        Mode::Engine => {
            if !is_new {
                blank(&device)?;
            }
            medium
        }
    })
}

/// Makes the engine take the device for a blank one: zeros where it looks.
fn blank(device: &FileDevice) -> Result<(), DeviceError> {
    let size = device.geometry().size;
    let piece = 1 << 20;
    // The engine looks for headers at the beginnings of the first eight blocks of any size, up to 64 MiB.
    let pages = (14..=26).flat_map(|shift| (1..=8).map(move |nth| (nth << shift, PAGE)));
    let tail = size.saturating_sub(64 << 10);
    for (offset, length) in [(0, piece), (tail, 64 << 10)].into_iter().chain(pages) {
        let length = length.min(size.saturating_sub(offset));
        if length > 0 {
            write(device, offset, AlignedBuffer::zeroed(length as usize))?;
        }
    }
    device.submit(Request::Flush).wait().result
}

impl Medium {
    /// Lets go of it; a file that this tool has made goes, unless it is to be kept.
    pub fn finish(self, keep: bool) -> Result<(), Failed> {
        drop(self.device);
        if self.is_ours && !keep {
            std::fs::remove_file(&self.path).map_err(|error| {
                LoadError(format!("{}: the file cannot be removed: {error}", self.path.display()))
            })?;
        }
        Ok(())
    }

    /// The device, which is open in this mode.
    pub fn device(&self) -> &Arc<FileDevice> {
        self.device.as_ref().expect("it is open where the device itself is under load")
    }
}
