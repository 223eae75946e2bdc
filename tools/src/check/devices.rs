//! Which devices are to be checked: each opened, its header read, and all of them held against each other.
//!
//! What cannot be checked is told and leaves the rest to be checked: one member of a set is checked without the
//! others, but for the checkpoint, which lies on all of them.

use super::findings::{Checked, Finding, Findings, Kind, Refused};
use crate::report::hex;
use crate::source::{Source, header_copies, open};
use aerolith_engine::device::Device;
use aerolith_engine::format::Fault;
use aerolith_engine::volume::{HeaderError, read_header};
use std::path::PathBuf;
use std::sync::Arc;

/// Opens what is given. The sources are in the order of their member numbers.
pub fn claim(paths: &[PathBuf], found: &mut Findings) -> Vec<Source> {
    let mut devices: Vec<Arc<dyn Device>> = Vec::new();
    for path in paths {
        match open(path) {
            Ok(device) => devices.push(Arc::new(device)),
            Err(error) => {
                let device = Some(path.display().to_string());
                found.not_checked.push(Refused { device, why: error.to_string() });
            }
        }
    }
    claim_open(devices, found)
}

/// The same for devices that are open already.
pub fn claim_open(devices: Vec<Arc<dyn Device>>, found: &mut Findings) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for device in devices {
        let name = device.geometry().name.to_string();
        if let Some(source) = read_source(device, found) {
            match sources.first().and_then(|first| stranger(first, &sources, &source)) {
                Some(why) => found.not_checked.push(Refused { device: Some(name), why }),
                None => sources.push(source),
            }
        }
    }
    sources.sort_by_key(|source| source.header.member_index);
    if let Some(first) = sources.first() {
        let count = first.header.member_count;
        let is_given = |member| sources.iter().any(|source| source.header.member_index == member);
        for member in (0..count).filter(|&member| !is_given(member)) {
            let set = hex(&first.header.set_uuid);
            let why = format!(
                "member {} of {count} of set {set} is not given: name all devices of the set",
                member + 1
            );
            found.not_checked.push(Refused { device: None, why });
        }
    }
    for source in &sources {
        found.devices.push(Checked {
            device: source.name(),
            namespace: source.header.namespace_name().to_owned(),
            set: hex(&source.header.set_uuid),
            member: source.header.member_index,
            members: source.header.member_count,
            blocks: source.header.block_count,
            block_size: source.header.block_size,
        });
        cut_off(source, found);
    }
    sources
}

/// Why a device cannot be checked together with the others.
fn stranger(first: &Source, sources: &[Source], other: &Source) -> Option<String> {
    if first.header.set_uuid != other.header.set_uuid {
        return Some(format!("it belongs to another set than {}: check one set at a time", first.name()));
    }
    let twin = sources.iter().find(|source| source.header.member_index == other.header.member_index)?;
    Some(format!("it is member {} like {}", other.header.member_index + 1, twin.name()))
}

fn read_source(device: Arc<dyn Device>, found: &mut Findings) -> Option<Source> {
    let name = device.geometry().name.to_string();
    let faults = header_faults(device.as_ref());
    let refused = match read_header(device.as_ref()) {
        Ok(Some(header)) => {
            found.faults.extend(faults);
            return Some(Source { device, header });
        }
        Ok(None) => "it is blank: nothing was ever written to it".to_owned(),
        Err(error) => {
            // What is not ours, or newer than this program, is not damaged.
            if matches!(&error, HeaderError::Damaged { fault, .. } if !matches!(fault, Fault::Version(_))) {
                found.faults.extend(faults);
            }
            error.to_string()
        }
    };
    found.not_checked.push(Refused { device: Some(name), why: refused });
    None
}

fn header_faults(device: &dyn Device) -> Vec<Finding> {
    let name = device.geometry().name.to_string();
    let mut faults = Vec::new();
    for (copy, (offset, parsed)) in header_copies(device).into_iter().enumerate() {
        let which = ["A", "B"][copy];
        let mut fault = |why: String, errno| {
            let why = format!("copy {which} of the device header: {why}");
            let fault = Finding::on_device(Kind::DeviceHeader, name.clone(), offset, why);
            faults.push(Finding { errno, ..fault });
        };
        match parsed {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => fault(why.to_string(), None),
            Err(error) => fault(error.cause.to_string(), error.errno()),
        }
    }
    faults
}

fn cut_off(source: &Source, found: &mut Findings) {
    let (size, expected) = (source.device.geometry().size, source.header.device_size);
    if size < expected {
        let first = size / u64::from(source.header.block_size);
        let why = format!(
            "the device has {size} bytes, its header says {expected}: blocks {first} to {} are not there, or not whole",
            source.header.block_count - 1
        );
        found.faults.push(Finding::on_device(Kind::CutOff, source.name(), size, why));
    }
}
