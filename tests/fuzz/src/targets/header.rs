//! Device headers: any first pages of a device. Nothing is written to a device that is refused.

use crate::bytes::bounded;
use aerolith_engine::device::{Device, Request};
use aerolith_engine::format::{CheckpointRoot, DEVICE_HEADER_SIZE, DeviceHeader, HEADER_PAGE};
use aerolith_engine::volume::{FormatOptions, claim_devices, read_header};
use aerolith_tests::device::TestDevice;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const BLOCK_SIZE: u32 = 16 << 10;
const SIZE: u64 = 12 * BLOCK_SIZE as u64;

fn made_whole(page: &mut [u8]) {
    let checksum = xxh3_64(&page[..DEVICE_HEADER_SIZE - 8]);
    page[DEVICE_HEADER_SIZE - 8..DEVICE_HEADER_SIZE].copy_from_slice(&checksum.to_le_bytes());
}

/// A device whose first pages are those of `bytes`: header A, header B, root 0, root 1.
fn device(name: &str, bytes: &[u8], choice: u8) -> Arc<TestDevice> {
    let mut image = vec![0; SIZE as usize];
    for (page, part) in bytes.chunks(DEVICE_HEADER_SIZE).take(4).enumerate() {
        let page = &mut image[page * HEADER_PAGE as usize..][..HEADER_PAGE as usize];
        page[..part.len()].copy_from_slice(part);
    }
    for (copy, bit) in [(0, 1), (1, 2), (2, 4), (3, 8)] {
        if choice & bit != 0 {
            made_whole(&mut image[copy * HEADER_PAGE as usize..]);
        }
    }
    Arc::new(TestDevice::with_bytes(name, image))
}

pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let _ = bounded("header", 1024, || DeviceHeader::parse(bytes)).map(|header| {
        assert_eq!(header.encode()[..], bytes[..DEVICE_HEADER_SIZE]);
    });
    let _ = CheckpointRoot::parse(bytes);
    let cut = bytes.len() / if choice & 16 == 0 { 1 } else { 2 };
    let (first, second) = bytes.split_at(cut);
    let mut devices = vec![device("first", first, *choice)];
    if choice & 16 != 0 {
        devices.push(device("second", second, *choice));
    }
    for device in &devices {
        let read = bounded("first pages", 4 << 20, || read_header(device.as_ref()));
        if let Ok(Some(header)) = read {
            let is_copy = |page: &[u8]| header.encode()[..] == page[..DEVICE_HEADER_SIZE];
            let is_there = device.with_state(|bytes| bytes.chunks(HEADER_PAGE as usize).take(2).any(is_copy));
            assert!(is_there, "a header was believed that is not there");
        }
        device.take_writes();
    }
    let options = FormatOptions {
        namespace: "test",
        block_size: BLOCK_SIZE,
        minimum_blocks: 8,
        set_uuid: [1; 16],
        now_ms: 1_767_225_600_000,
    };
    let handed = devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect();
    let claimed = bounded("claim", 8 << 20, || claim_devices(handed, &options));
    let written: usize = devices.iter().map(|device| device.take_writes().len()).sum();
    match claimed {
        Err(error) => assert_eq!(written, 0, "a set was refused ({error}) and written to"),
        Ok(set) => {
            assert!(written == 0 || set.formatted);
            for (device, header) in set.devices.iter().zip(&set.headers) {
                assert!(header.device_size <= device.geometry().size);
                let offset = header.device_size - u64::from(header.block_size);
                let buffer = aerolith_engine::device::AlignedBuffer::zeroed(4096);
                let answer = device.submit(Request::Read { offset, buffer }).wait();
                answer.result.expect("the last block of a device that was accepted can be read");
            }
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let header = |copy_sequence, member_index, member_count| {
        let header = DeviceHeader {
            block_size: BLOCK_SIZE,
            block_count: 12,
            device_size: SIZE,
            member_index,
            member_count,
            copy_sequence,
            incarnation: copy_sequence,
            confirmed: copy_sequence / 2,
            set_uuid: [1; 16],
            ..DeviceHeader::new("test")
        };
        header.encode()
    };
    let root = CheckpointRoot { id: 2, set_uuid: [1; 16], ..bytemuck::Zeroable::zeroed() }.encode();
    let other = DeviceHeader { version: 2, ..DeviceHeader::new("other") }.encode();
    vec![
        [&[0], &header(2, 0, 1)[..], &header(1, 0, 1)].concat(),
        [&[3], &header(2, 0, 1)[..], &header(3, 0, 1), &root].concat(),
        [&[16], &header(2, 0, 2)[..], &header(1, 0, 2), &header(2, 1, 2), &header(1, 1, 2)].concat(),
        [&[19], &header(0, 0, 2)[..], &[0; 128], &[0; 256]].concat(),
        [&[1], &other[..]].concat(),
        [&[0], &[0; 300][..]].concat(),
        [&[0], &[0; 256][..], &root].concat(),
    ]
}
