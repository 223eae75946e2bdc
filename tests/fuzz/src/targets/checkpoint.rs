//! A checkpoint's root, parts and summary: any bytes, bytes with right checksums, and what was encoded.

use crate::bytes::{bounded, recipe};
use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, BlockSalt, CheckpointRoot, MemberSummary, PART_PAYLOAD, PartHeader, PartPlace,
    PartitionSummary, ROOT_SIZE, Summary, hash,
};
use arbitrary::Arbitrary;
use xxhash_rust::xxh3::xxh3_64;

fn salt() -> BlockSalt {
    BlockSalt::new(&[5; 16], 0, 2, 77)
}

fn root(bytes: &[u8]) {
    let read = bounded("root", 1024, || CheckpointRoot::parse(bytes));
    if let Ok(root) = read {
        assert_eq!(xxh3_64(&bytes[..ROOT_SIZE - 8]), root.checksum);
        assert_eq!(root.encode()[..], bytes[..ROOT_SIZE]);
    }
}

fn part(block: &[u8], id: u64) {
    let read = bounded("part", 1024, || PartHeader::parse(block, id, salt()));
    if let Ok((header, payload)) = read {
        assert_eq!(hash(0, payload) ^ salt().at(PART_PAYLOAD), header.payload_checksum);
        assert_eq!(header.id, id);
        assert_eq!(payload.len(), header.payload_size as usize);
    }
}

fn summary(bytes: &[u8]) {
    // A set's name of three bytes takes a string, a member of 16 bytes two vectors; both grow by doubling.
    let read = bounded("summary", 32 * bytes.len() + 1024, || Summary::parse(bytes));
    if let Ok(summary) = read {
        assert_eq!(Summary::parse(&summary.encode()), Ok(summary));
    }
}

#[derive(Arbitrary, Debug)]
struct Member {
    begin_epoch: u64,
    open: Vec<(u32, u32)>,
    epochs: Vec<u64>,
}

#[derive(Arbitrary, Debug)]
struct Recipe {
    next_sequence: u64,
    members: Vec<Member>,
    parts: Vec<(u64, u32, u16)>,
    partitions: Vec<(u16, u32, u64)>,
    sets: Vec<(u16, [char; 3])>,
    system: Vec<(u16, [u64; 3])>,
}

fn encoded(mut recipe: Recipe) {
    recipe.partitions.sort_by_key(|partition| partition.0);
    recipe.partitions.dedup_by_key(|partition| partition.0);
    let member = |Member { begin_epoch, open, epochs }| MemberSummary { begin_epoch, open, epochs };
    let part = |(epoch, block, member)| PartPlace { epoch, block, member, reserved: 0 };
    let partition =
        |(partition, entry_count, sequence)| PartitionSummary { partition, entry_count, sequence };
    let summary = Summary {
        next_sequence: recipe.next_sequence,
        members: recipe.members.into_iter().map(member).collect(),
        parts: recipe.parts.into_iter().map(part).collect(),
        partitions: recipe.partitions.into_iter().map(partition).collect(),
        sets: recipe.sets.into_iter().map(|(number, name)| (number, name.into_iter().collect())).collect(),
        system: recipe.system,
    };
    let bytes = summary.encode();
    assert_eq!(Summary::parse(&bytes).as_ref(), Ok(&summary));
    let mut block = vec![0; PART_PAYLOAD as usize + bytes.len()];
    block[PART_PAYLOAD as usize..].copy_from_slice(&bytes);
    PartHeader::seal(&mut block, 9, PartPlace::default(), bytes.len() as u32, salt());
    let (header, payload) = PartHeader::parse(&block, 9, salt()).expect("what was sealed is whole");
    assert_eq!((header.payload_size as usize, payload), (bytes.len(), &bytes[..]));
    assert!(
        PartHeader::parse(&block, 9, BlockSalt::new(&[5; 16], 0, 2, 78)).is_err(),
        "a part of another life"
    );
}

pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    match choice % 6 {
        0 => root(&bytes),
        1 => {
            bytes.resize(bytes.len().max(ROOT_SIZE), 0);
            let checksum = xxh3_64(&bytes[..ROOT_SIZE - 8]);
            bytes[ROOT_SIZE - 8..ROOT_SIZE].copy_from_slice(&checksum.to_le_bytes());
            root(&bytes);
        }
        2 => part(&bytes, 1),
        3 => {
            // The id that is asked for, and a right checksum over whatever else the header says.
            bytes.resize(bytes.len().max(PART_PAYLOAD as usize), 0);
            let header = &mut bytes[BLOCK_HEADER_SIZE as usize..PART_PAYLOAD as usize];
            header[..8].copy_from_slice(b"AEROPART");
            header[8..16].copy_from_slice(&1_u64.to_le_bytes());
            let checksum = xxh3_64(&header[..56]) ^ salt().at(BLOCK_HEADER_SIZE);
            header[56..].copy_from_slice(&checksum.to_le_bytes());
            part(&bytes, 1);
        }
        4 => summary(&bytes),
        _ => {
            if let Some(recipe) = recipe(&bytes) {
                encoded(recipe);
            }
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let root = CheckpointRoot { id: 7, entry_count: 9, summary_size: 300, ..bytemuck::Zeroable::zeroed() };
    let summary = Summary {
        next_sequence: 99,
        members: vec![
            MemberSummary { begin_epoch: 7, open: vec![(1, 4096)], epochs: vec![0, 5, 6] },
            MemberSummary { begin_epoch: 9, open: vec![], epochs: vec![0, 8] },
        ],
        parts: vec![PartPlace { epoch: 10, block: 2, member: 0, reserved: 0 }],
        partitions: vec![
            PartitionSummary { partition: 3, entry_count: 2, sequence: 90 },
            PartitionSummary { partition: 4095, entry_count: 1, sequence: 95 },
        ],
        sets: vec![(0, String::new()), (4, "users".into())],
        system: vec![(17, [1, 2, 3])],
    };
    let bytes = summary.encode();
    let mut block = vec![0; PART_PAYLOAD as usize + bytes.len()];
    block[PART_PAYLOAD as usize..].copy_from_slice(&bytes);
    PartHeader::seal(&mut block, 1, PartPlace::default(), bytes.len() as u32, salt());
    let root = root.encode();
    vec![
        [&[0], &root[..]].concat(),
        [&[1], &root[..]].concat(),
        [&[2], &block[..]].concat(),
        [&[3], &block[..]].concat(),
        [&[4], &bytes[..]].concat(),
        [&[5], &bytes[..]].concat(),
        [&[5], &[3; 120][..]].concat(),
    ]
}
