//! Holds `docs/FORMAT.md` to the code: every table row, every constant, every byte of its examples.
//!
//! A heading that names a struct in backticks is followed by the table of its fields, and that table is
//! compared with the struct. The struct is taken apart without `..`, so a field that is new in the code does not
//! compile here until it is listed, and then fails until the document has it too.

use aerolith_engine::format::*;
use aerolith_engine::index::SizeClass;
use aerolith_engine::record::bins::{BIN_HEAD_SIZE, MAX_BIN_COUNT, MAX_BIN_NAME_SIZE};
use aerolith_engine::record::key::MAX_SET_NAME_SIZE;
use aerolith_engine::record::{Bins, BinsWriter, Digest, Value, particle};
use std::mem::{offset_of, size_of};

const DOC: &str = include_str!("../../docs/FORMAT.md");

type Field = (usize, usize, String);

/// Offset, size and name of each field of a struct, all of them.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {{
        fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize { size_of::<F>() }
        let _all = |$name { $($field: _),* }: $name| ();
        let fields: Vec<Field> = vec![$((
            offset_of!($name, $field),
            size_of_field(|s: &$name| &s.$field),
            stringify!($field).to_owned(),
        )),*];
        (stringify!($name), size_of::<$name>(), fields)
    }};
}

fn structs() -> Vec<(&'static str, usize, Vec<Field>)> {
    vec![
        fields!(DeviceHeader {
            magic,
            version,
            block_size,
            set_uuid,
            member_index,
            member_count,
            block_count,
            device_size,
            incarnation,
            created_ms,
            copy_sequence,
            namespace,
            confirmed,
            reserved,
            checksum
        }),
        fields!(BlockHeader {
            magic,
            block_id,
            member_index,
            stream,
            reserved,
            epoch,
            first_sequence,
            opened_ms,
            set_uuid,
            checksum
        }),
        fields!(RecordHeader {
            magic,
            kind,
            flags,
            length,
            checksum,
            sequence,
            digest,
            generation,
            set_size,
            key_type,
            expires_ms,
            last_update_ms,
            key_size,
            bin_count
        }),
        fields!(GroupHeader { magic, kind, flags, length, checksum, member_count, reserved, first_sequence }),
        fields!(MarkHeader {
            magic,
            kind,
            flags,
            length,
            checksum,
            durable_end,
            entry_count,
            names_size,
            reserved
        }),
        fields!(FooterEntry {
            sequence,
            position,
            void_time,
            digest_prefix,
            generation,
            class_and_flags,
            set_index
        }),
        fields!(FooterTrailer {
            magic,
            epoch,
            entry_count,
            footer_size,
            data_end,
            names_size,
            max_sequence,
            sealed_epoch,
            body_checksum,
            checksum
        }),
        fields!(CheckpointRoot {
            magic,
            id,
            set_uuid,
            incarnation,
            written_ms,
            entry_count,
            summary_size,
            summary_checksum,
            summary_member,
            reserved_a,
            summary_block,
            summary_epoch,
            reserved,
            checksum
        }),
        fields!(PartHeader {
            magic,
            id,
            next,
            payload_size,
            reserved,
            payload_checksum,
            reserved_b,
            checksum
        }),
        fields!(PartPlace { epoch, block, member, reserved }),
        fields!(BackupHeader {
            magic,
            version,
            reserved,
            id,
            set_uuid,
            sequence,
            taken_ms,
            estimated_records,
            namespace,
            reserved_b,
            checksum
        }),
        fields!(ChunkHeader {
            magic,
            number,
            packed_size,
            size,
            record_count,
            reserved,
            payload_checksum,
            checksum
        }),
        fields!(BackupRecord {
            length,
            digest,
            generation,
            set_size,
            key_type,
            expires_ms,
            last_update_ms,
            key_size,
            bin_count,
            reserved
        }),
        fields!(BackupTrailer {
            magic,
            chunk_count,
            record_count,
            size,
            offset,
            damaged_count,
            reserved,
            checksum
        }),
        fields!(FailureHeader { magic, size, reserved, text_checksum, checksum }),
    ]
}

/// The cells of the table rows in the section whose heading contains `mark`, without the two head rows.
fn rows(mark: &str) -> Vec<Vec<String>> {
    let mut headed = DOC.lines().skip_while(|line| !(line.starts_with('#') && line.contains(mark)));
    assert!(headed.next().is_some(), "FORMAT.md has no heading with {mark}");
    headed
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

/// The bytes of the example that is fenced as `hex NAME`.
fn example(name: &str) -> Vec<u8> {
    let mut fenced = DOC.lines().skip_while(|line| line.trim() != format!("```hex {name}"));
    assert!(fenced.next().is_some(), "FORMAT.md has no example {name}");
    let digits: String = fenced
        .take_while(|line| !line.starts_with("```"))
        .flat_map(|line| line.split('#').next().unwrap_or("").chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("examples are hex"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

/// A number as the document writes it: `4096`, `0x5EAE`, `1_262_304_000_000`, `"AEROLITH"` as its bytes.
fn number(text: &str) -> u64 {
    let text = text.replace('_', "");
    match (text.strip_prefix("0x"), text.strip_prefix('"')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).expect("a number"),
        (_, Some(word)) => {
            let word = word.trim_end_matches('"').as_bytes();
            u64::from_le_bytes(word.try_into().expect("magic words have 8 letters"))
        }
        _ => text.parse().unwrap_or_else(|_| panic!("{text} is no number")),
    }
}

#[test]
fn every_field_of_every_struct_is_drawn_where_it_lies() {
    for (name, size, fields) in structs() {
        let drawn: Vec<Field> = rows(&format!("`{name}`"))
            .into_iter()
            .map(|row| (number(&row[0]) as usize, number(&row[1]) as usize, row[2].clone()))
            .collect();
        assert_eq!(drawn, fields, "{name}");
        let end = fields.iter().fold(0, |end, (offset, size, field)| {
            assert_eq!(*offset, end, "{name}.{field}: a hole or an overlap");
            end + size
        });
        assert_eq!(end, size, "{name}");
    }
}

#[test]
fn every_constant_has_the_value_that_is_written_down() {
    let word = |magic: [u8; 8]| u64::from_le_bytes(magic);
    let constants: Vec<(&str, u64)> = vec![
        ("FORMAT_VERSION", FORMAT_VERSION.into()),
        ("UNIT", UNIT.into()),
        ("COMMIT_ALIGNMENT", COMMIT_ALIGNMENT.into()),
        ("DEVICE_MAGIC", word(DEVICE_MAGIC)),
        ("DEVICE_HEADER_SIZE", DEVICE_HEADER_SIZE as u64),
        ("DEVICE_HEADER_COPIES", DEVICE_HEADER_COPIES),
        ("HEADER_PAGE", HEADER_PAGE),
        ("BLOCK_MAGIC", word(BLOCK_MAGIC)),
        ("BLOCK_HEADER_SIZE", BLOCK_HEADER_SIZE.into()),
        ("RECORD_MAGIC", RECORD_MAGIC.into()),
        ("KIND_RECORD", KIND_RECORD.into()),
        ("KIND_GROUP", KIND_GROUP.into()),
        ("KIND_MARK", KIND_MARK.into()),
        ("RECORD_HEADER_SIZE", RECORD_HEADER_SIZE.into()),
        ("GROUP_HEADER_SIZE", GROUP_HEADER_SIZE.into()),
        ("MARK_HEADER_SIZE", MARK_HEADER_SIZE.into()),
        ("FOOTER_MAGIC", word(FOOTER_MAGIC)),
        ("FOOTER_ENTRY_SIZE", FOOTER_ENTRY_SIZE.into()),
        ("FOOTER_TRAILER_SIZE", FOOTER_TRAILER_SIZE.into()),
        ("ROOT_MAGIC", word(ROOT_MAGIC)),
        ("ROOT_SIZE", ROOT_SIZE as u64),
        ("ROOT_OFFSET", ROOT_OFFSET),
        ("ROOT_SLOTS", ROOT_SLOTS),
        ("CHECKPOINT_STREAM", CHECKPOINT_STREAM.into()),
        ("PART_MAGIC", word(PART_MAGIC)),
        ("PART_HEADER_SIZE", PART_HEADER_SIZE.into()),
        ("PART_PAYLOAD", PART_PAYLOAD.into()),
        ("CHECKPOINT_ENTRY_SIZE", CHECKPOINT_ENTRY_SIZE.into()),
        ("VOID_TIME_EPOCH_MS", VOID_TIME_EPOCH_MS),
        ("MAX_USER_KEY_SIZE", MAX_USER_KEY_SIZE as u64),
        ("MAX_SET_NAME_SIZE", MAX_SET_NAME_SIZE as u64),
        ("BIN_HEAD_SIZE", BIN_HEAD_SIZE as u64),
        ("MAX_BIN_NAME_SIZE", MAX_BIN_NAME_SIZE as u64),
        ("MAX_BIN_COUNT", MAX_BIN_COUNT as u64),
        ("BACKUP_MAGIC", word(BACKUP_MAGIC)),
        ("BACKUP_VERSION", BACKUP_VERSION.into()),
        ("BACKUP_HEADER_SIZE", BACKUP_HEADER_SIZE as u64),
        ("CHUNK_MAGIC", word(CHUNK_MAGIC)),
        ("CHUNK_HEADER_SIZE", CHUNK_HEADER_SIZE as u64),
        ("BACKUP_RECORD_SIZE", BACKUP_RECORD_SIZE as u64),
        ("BACKUP_TRAILER_MAGIC", word(BACKUP_TRAILER_MAGIC)),
        ("BACKUP_TRAILER_SIZE", BACKUP_TRAILER_SIZE as u64),
        ("FAILURE_MAGIC", word(FAILURE_MAGIC)),
        ("FAILURE_HEADER_SIZE", FAILURE_HEADER_SIZE as u64),
        ("MAX_CHUNK_SIZE", MAX_CHUNK_SIZE.into()),
    ];
    let drawn: Vec<(String, u64)> =
        rows("Constants").into_iter().map(|row| (row[0].clone(), number(&row[1]))).collect();
    let constants: Vec<(String, u64)> = constants.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    assert_eq!(drawn, constants);
}

#[test]
fn flags_and_particle_types_are_those_of_the_code() {
    let drawn = |mark| -> Vec<(u64, String)> {
        rows(mark).into_iter().map(|row| (number(&row[0]), row[1].clone())).collect()
    };
    let named = |list: &[(u8, &str)]| -> Vec<(u64, String)> {
        list.iter().map(|(n, name)| (u64::from(*n), (*name).to_owned())).collect()
    };
    let flags = [
        (RecordFlags::TOMBSTONE, "TOMBSTONE"),
        (RecordFlags::IN_GROUP, "IN_GROUP"),
        (RecordFlags::SYSTEM, "SYSTEM"),
    ];
    assert_eq!(drawn("Record flags"), named(&flags));
    let types = [
        (particle::INTEGER, "integer"),
        (particle::FLOAT, "float"),
        (particle::STRING, "string"),
        (particle::BYTES, "blob"),
        (particle::BOOL, "bool"),
        (particle::HLL, "HLL"),
        (particle::MAP, "map"),
        (particle::LIST, "list"),
        (particle::GEOJSON, "GeoJSON"),
    ];
    assert_eq!(drawn("Values"), named(&types));
}

#[test]
fn size_classes_are_those_of_the_table() {
    for row in rows("Size classes") {
        let (class, size) = (number(&row[0]) as u16, number(&row[1]) as u32);
        assert_eq!(SizeClass::new(class).bytes(), size, "class {class}");
        assert_eq!(SizeClass::for_size(size).get(), class, "{size} bytes");
    }
    assert_eq!((SizeClass::COUNT, SizeClass::MAX_SIZE), (1024, 32 << 20));
}

/// The place of the examples: member 0 of a set, block 3, the first block opened in incarnation 1.
const UUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const EPOCH: u64 = 1 << 40 | 1;
/// 2026-01-01 in milliseconds since the Unix epoch.
const NOW_MS: u64 = 1_767_225_600_000;

fn salt() -> BlockSalt {
    BlockSalt::new(&UUID, 0, 3, EPOCH)
}

#[test]
fn the_salts_are_those_of_the_table() {
    for row in rows("Salts and checksums") {
        assert_eq!(salt().at(number(&row[0]) as u32), number(&row[1]), "position {}", row[0]);
    }
}

#[test]
fn the_block_header_of_the_example_is_read_and_written() {
    let bytes = example("block-header");
    let header = BlockHeader {
        magic: BLOCK_MAGIC,
        block_id: 3,
        member_index: 0,
        stream: 1,
        reserved: 0,
        epoch: EPOCH,
        first_sequence: 42,
        opened_ms: NOW_MS,
        set_uuid: UUID,
        checksum: 0,
    };
    let encoded = header.encode();
    assert_eq!(hex(&bytes), hex(&encoded));
    let parsed = BlockHeader::parse(&bytes).expect("the example is whole");
    assert_eq!((parsed.block_id, parsed.stream, parsed.epoch), (3, 1, EPOCH));
}

fn record() -> EncodedRecord {
    let digest = Digest::of(b"users", particle::STRING, b"ada");
    let mut bins = BinsWriter::new();
    bins.bin("born", Value::Integer(1815)).expect("a good bin");
    let bins = bins.into_bytes();
    let mut record = EncodedRecord::begin(digest.as_bytes(), b"users", particle::STRING, b"ada", bins.len());
    record.body().extend_from_slice(&bins);
    record.complete(42, 1, NOW_MS + 3_600_000, NOW_MS, RecordFlags(0), 1);
    record
}

#[test]
fn the_record_of_the_example_is_read_and_written() {
    let bytes = example("record");
    let record = record();
    let mut placed = vec![0xFF; SizeClass::for_size(record.length()).bytes() as usize];
    record.place(&mut placed, salt(), BLOCK_HEADER_SIZE);
    assert_eq!(hex(&bytes), hex(&placed));
    let view = RecordView::parse(&bytes, salt(), BLOCK_HEADER_SIZE).expect("the example is whole");
    assert_eq!((view.set(), view.user_key()), (&b"users"[..], &b"ada"[..]));
    assert_eq!((view.header().sequence, view.header().generation), (42, 1));
    assert_eq!(Bins::new(view.bins()).find("born"), Ok(Some(Value::Integer(1815))));
    assert_eq!(RecordView::parse(&bytes, salt(), 128).unwrap_err(), Fault::Checksum);
}

/// What footers and marks say of the record of the example.
fn entry() -> FooterEntry {
    let mut digest_prefix = [0; 10];
    digest_prefix.copy_from_slice(&Digest::of(b"users", particle::STRING, b"ada").as_bytes()[..10]);
    FooterEntry {
        sequence: 42,
        position: BLOCK_HEADER_SIZE / UNIT,
        void_time: void_time(NOW_MS + 3_600_000),
        digest_prefix,
        generation: 1,
        class_and_flags: FooterEntry::pack(SizeClass::for_size(record().length()).get(), 0),
        set_index: 0,
    }
}

#[test]
fn the_mark_of_the_example_is_read_and_written() {
    let bytes = example("mark");
    let mut sealed = vec![0xFF; mark_size(1, 6) as usize];
    seal_mark(&mut sealed, 4096, &[entry()], &["users"], salt(), 4096);
    assert_eq!(hex(&bytes), hex(&sealed));
    let mark = DurableMark::parse(&bytes, salt(), 4096).expect("the example is whole");
    assert_eq!((mark.header.durable_end, mark.entries, mark.set_names), (4096, vec![entry()], vec!["users"]));
}

#[test]
fn the_footer_of_the_example_is_read_and_written() {
    let entry = entry();
    let (entry_bytes, trailer_bytes) = (example("footer-entry"), example("footer-trailer"));
    assert_eq!(hex(&entry_bytes), hex(bytemuck::bytes_of(&entry)));
    let mut block = vec![0; 16384];
    let size = Footer::encode_into(&mut block, salt(), EPOCH, 4096, NOW_MS, &[entry], &["users".into()]);
    assert_eq!(size, footer_size(1, 6));
    let start = block.len() - size as usize;
    assert_eq!(hex(&trailer_bytes), hex(&block[block.len() - FOOTER_TRAILER_SIZE as usize..]));
    assert_eq!(&block[start..start + 32], &entry_bytes[..]);
    assert_eq!(&block[start + 32..start + 38], b"\x05users");
    let trailer = FooterTrailer::parse(&block, salt(), EPOCH, 16384).expect("the example is whole");
    let footer = Footer::parse(&block, trailer).expect("the example is whole");
    assert_eq!((footer.entries, footer.set_names), (vec![entry], vec!["users".to_owned()]));
}

#[test]
fn the_summary_of_the_example_is_read_and_written() {
    let summary = Summary {
        next_sequence: 99,
        members: vec![MemberSummary { begin_epoch: 7, open: vec![(1, 4096)], epochs: vec![0, 5, 6] }],
        parts: vec![PartPlace { epoch: 10, block: 2, member: 0, reserved: 0 }],
        partitions: vec![PartitionSummary { partition: 3, entry_count: 2, sequence: 90 }],
        sets: vec![(4, "users".into())],
        system: vec![(17, [1, 2, 3])],
    };
    let bytes = example("summary");
    assert_eq!(hex(&bytes), hex(&summary.encode()));
    assert_eq!(Summary::parse(&bytes).as_ref(), Ok(&summary));
}
