//! Claiming devices: reading who they are, formatting blank ones, refusing what holds something else.
//!
//! The devices of a namespace are a set: each header names the set, the member's place in it and how many
//! members there are. A set opens whole or not at all. A blank device is formatted only together with a whole
//! blank set, so a lost, swapped or foreign member is an error and never silently an empty one.

use super::checkpoint::read_roots;
use crate::device::{AlignedBuffer, Device, DeviceError, Request};
use crate::format::{
    BlockHeader, DEVICE_HEADER_COPIES, DeviceHeader, Fault, HEADER_PAGE, ROOT_OFFSET, ROOT_SLOTS,
};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// How much of a device's start must be zero for it to count as blank, in bytes.
const BLANK_HEAD: u64 = 1 << 20;
/// How much of its end (partition tables keep a copy there), in bytes.
const BLANK_TAIL: u64 = 64 << 10;
/// Where blocks of a set whose headers were wiped would begin: sizes of blocks, as powers of two.
const BLOCK_SIZES: RangeInclusive<u32> = 14..=26;
/// How many first blocks of each size are looked at. New blocks are taken from the front, so records that were
/// ever written are in one of them.
const BLOCK_PROBES: u64 = 8;

/// Why a set of devices cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum HeaderError {
    /// Reading or writing failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device holds data that is not Aerolith's.
    #[error(
        "device {name} holds something that is not Aerolith's (first bytes {first:02x?}): it is left as it is. \
         Give another path, or erase it yourself if nobody needs it"
    )]
    Foreign { name: Arc<str>, first: Vec<u8> },
    /// Both header copies are damaged.
    #[error(
        "device {name}: both copies of the device header are damaged ({fault}): it is left as it is. \
         Restore the first 8192 bytes or the whole device from a copy"
    )]
    Damaged { name: Arc<str>, fault: Fault },
    /// The device is smaller than it was.
    #[error(
        "device {name} has {size} bytes, but its header says {expected}: it was cut off. \
         It is left as it is; restore it from a copy"
    )]
    Truncated { name: Arc<str>, size: u64, expected: u64 },
    /// Too few blocks.
    #[error(
        "device {name} has {size} bytes, that is {count} blocks of {block_size}; at least {minimum} are needed. \
         Give it more space or use smaller blocks"
    )]
    TooSmall { name: Arc<str>, size: u64, count: u32, block_size: u32, minimum: u32 },
    /// The device belongs to another namespace.
    #[error("device {name} belongs to namespace '{found}', not to '{expected}'")]
    OtherNamespace { name: Arc<str>, found: String, expected: String },
    /// The devices are not one whole set.
    #[error(
        "device {name} does not fit the others: {why}. A namespace opens with all of its devices or not at all"
    )]
    NotASet { name: Arc<str>, why: String },
}

/// The headers of a namespace's devices, in the order of their member numbers.
pub struct DeviceSet {
    /// The devices, by member number.
    pub devices: Vec<Arc<dyn Device>>,
    /// Their headers.
    pub headers: Vec<DeviceHeader>,
    /// Whether the set was blank and has been formatted now.
    pub formatted: bool,
}

fn read(device: &dyn Device, offset: u64, size: u64) -> Result<AlignedBuffer, DeviceError> {
    let answer = device.submit(Request::Read { offset, buffer: AlignedBuffer::zeroed(size as usize) }).wait();
    answer.result?;
    Ok(answer.buffer.unwrap_or_else(|| AlignedBuffer::zeroed(0)))
}

/// Reads the newer good copy of a device's header. `Ok(None)` if the device is blank.
pub fn read_header(device: &dyn Device) -> Result<Option<DeviceHeader>, HeaderError> {
    let geometry = device.geometry();
    let name = geometry.name.clone();
    let mut best: Option<DeviceHeader> = None;
    let mut fault = None;
    for copy in (0..DEVICE_HEADER_COPIES).map(|copy| copy * HEADER_PAGE) {
        if copy + HEADER_PAGE > geometry.size {
            fault = fault.or(Some(Fault::Short));
            continue;
        }
        // Each copy by itself: a page that cannot be read must not take the other copy with it.
        let page = read(device, copy, HEADER_PAGE).inspect_err(|error| tracing::error!("{error}"));
        match page.map_or(Err(Fault::Short), |page| DeviceHeader::parse(&page)) {
            Ok(header) if best.is_none_or(|best| header.copy_sequence > best.copy_sequence) => {
                best = Some(header);
            }
            Ok(_) => {}
            Err(found) => fault = fault.filter(|&f| f != Fault::Magic).or(Some(found)),
        }
    }
    match (best, fault) {
        (Some(header), None) => Ok(Some(header)),
        (Some(header), Some(fault)) => {
            tracing::warn!(
                "device {name}: one of two header copies is damaged ({fault}); the other one is used"
            );
            Ok(Some(header))
        }
        (None, fault) => {
            let head = read(device, 0, BLANK_HEAD.min(geometry.size))?;
            let tail = BLANK_TAIL.min(geometry.size);
            let tail = read(device, geometry.size - tail, tail)?;
            if head.iter().chain(tail.iter()).all(|&byte| byte == 0) {
                // A wiped header must not turn the records behind it into a blank device.
                return match holds_blocks(device)? {
                    false => Ok(None),
                    true => Err(HeaderError::Damaged { name, fault: Fault::Magic }),
                };
            }
            // A root of a checkpoint may be all that is left of the first pages.
            if !read_roots(device).into_iter().collect::<Result<Vec<_>, _>>()?.is_empty() {
                return Err(HeaderError::Damaged { name, fault: Fault::Magic });
            }
            match fault {
                Some(fault) if fault != Fault::Magic => Err(HeaderError::Damaged { name, fault }),
                _ => Err(HeaderError::Foreign { name, first: head[..16].to_vec() }),
            }
        }
    }
}

/// Whether there is a block header at one of the places where the first blocks of a device begin.
fn holds_blocks(device: &dyn Device) -> Result<bool, DeviceError> {
    let size = device.geometry().size;
    let places: BTreeSet<u64> =
        BLOCK_SIZES.flat_map(|shift| (1..=BLOCK_PROBES).map(move |nth| nth << shift)).collect();
    for offset in places.into_iter().filter(|offset| offset + HEADER_PAGE <= size) {
        if BlockHeader::parse(&read(device, offset, HEADER_PAGE)?).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the copy of `header` whose turn it is, durably, with the next copy number.
pub fn write_header(device: &dyn Device, header: &mut DeviceHeader) -> Result<(), DeviceError> {
    header.copy_sequence += 1;
    let mut page = AlignedBuffer::zeroed(HEADER_PAGE as usize);
    let bytes = header.encode();
    page[..bytes.len()].copy_from_slice(&bytes);
    let offset = header.copy_sequence % DEVICE_HEADER_COPIES * HEADER_PAGE;
    let range = 0..page.len();
    device.submit(Request::Write { offset, data: Arc::new(page), range, durable: true }).wait().result
}

/// What a blank set is formatted with.
pub struct FormatOptions<'a> {
    /// The namespace's name.
    pub namespace: &'a str,
    /// Bytes of a block; a power of two.
    pub block_size: u32,
    /// The fewest blocks that a device must have.
    pub minimum_blocks: u32,
    /// Names the new set.
    pub set_uuid: [u8; 16],
    /// The wall clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// Reads the headers of `devices`, which are to be the whole of one set; formats them if all are blank.
///
/// Nothing is written to a device that holds anything: it is blank, or has just been formatted for this namespace.
pub fn claim_devices(
    devices: Vec<Arc<dyn Device>>,
    options: &FormatOptions<'_>,
) -> Result<DeviceSet, HeaderError> {
    let found = devices.iter().map(|d| read_header(d.as_ref())).collect::<Result<Vec<_>, _>>()?;
    // A header says that its device has never been opened for writing: then a crash cut the formatting of the set
    // short, and it begins anew.
    let is_unused =
        |header: &DeviceHeader| header.incarnation == 0 && header.namespace_name() == options.namespace;
    let formatted = found.iter().any(Option::is_none) && found.iter().flatten().all(is_unused);
    let mut members = if formatted { format(devices, options)? } else { check_set(devices, found, options)? };
    members.sort_by_key(|(_, header)| header.member_index);
    let (devices, headers) = members.into_iter().unzip();
    Ok(DeviceSet { devices, headers, formatted })
}

type Member = (Arc<dyn Device>, DeviceHeader);

fn format(devices: Vec<Arc<dyn Device>>, options: &FormatOptions<'_>) -> Result<Vec<Member>, HeaderError> {
    let member_count = devices.len() as u16;
    let mut members = Vec::new();
    for (index, device) in devices.into_iter().enumerate() {
        let geometry = device.geometry();
        let block_size = options.block_size;
        // Units of 16 bytes and 41 bits in the index bound a device at 32 TiB.
        let count = (geometry.size.min(1 << 45) / u64::from(block_size)) as u32;
        if count < options.minimum_blocks {
            return Err(HeaderError::TooSmall {
                name: geometry.name.clone(),
                size: geometry.size,
                count,
                block_size,
                minimum: options.minimum_blocks,
            });
        }
        let header = DeviceHeader {
            block_size,
            set_uuid: options.set_uuid,
            member_index: index as u16,
            member_count,
            block_count: count,
            device_size: u64::from(count) * u64::from(block_size),
            created_ms: options.now_ms,
            ..DeviceHeader::new(options.namespace)
        };
        members.push((device, header));
    }
    for (device, header) in &mut members {
        make_room_for_roots(device.as_ref())?;
        for _ in 0..DEVICE_HEADER_COPIES {
            write_header(device.as_ref(), header)?;
        }
    }
    Ok(members)
}

/// Zeros where a checkpoint's roots will be. A new file has a hole there, and a file system that fills up later would
/// fail the first root: a write into block 0 that fails latches the device.
fn make_room_for_roots(device: &dyn Device) -> Result<(), DeviceError> {
    let size = ROOT_SLOTS * HEADER_PAGE;
    if device.geometry().size < ROOT_OFFSET + size {
        return Ok(());
    }
    let (data, range) = (Arc::new(AlignedBuffer::zeroed(size as usize)), 0..size as usize);
    device.submit(Request::Write { offset: ROOT_OFFSET, data, range, durable: true }).wait().result
}

fn check_set(
    devices: Vec<Arc<dyn Device>>,
    found: Vec<Option<DeviceHeader>>,
    options: &FormatOptions<'_>,
) -> Result<Vec<Member>, HeaderError> {
    let count = devices.len();
    let mut members: Vec<Member> = Vec::new();
    for (device, header) in devices.into_iter().zip(found) {
        let geometry = device.geometry();
        let name = geometry.name.clone();
        let not_a_set = |why: String| HeaderError::NotASet { name: name.clone(), why };
        let header = header.ok_or_else(|| not_a_set("it is blank, the others are not".into()))?;
        if header.namespace_name() != options.namespace {
            let found = header.namespace_name().to_owned();
            return Err(HeaderError::OtherNamespace { name, found, expected: options.namespace.to_owned() });
        }
        if geometry.size < header.device_size {
            let expected = header.device_size;
            return Err(HeaderError::Truncated { name, size: geometry.size, expected });
        }
        if usize::from(header.member_count) != count {
            let why = format!("its set has {} devices, but {count} are given", header.member_count);
            return Err(not_a_set(why));
        }
        if let Some((_, first)) = members.first() {
            if first.set_uuid != header.set_uuid {
                return Err(not_a_set("it belongs to another set".into()));
            }
            if first.block_size != header.block_size {
                return Err(not_a_set("its blocks have another size".into()));
            }
        }
        if members.iter().any(|(_, other)| other.member_index == header.member_index) {
            return Err(not_a_set(format!("member {} is there twice", header.member_index)));
        }
        members.push((device, header));
    }
    Ok(members)
}
