//! A stored record: any bytes, bytes whose checksum was made right, and records that were encoded.

use crate::bytes::{bounded, recipe};
use aerolith_engine::format::{
    BlockSalt, EncodedRecord, RECORD_HEADER_SIZE, RecordFlags, RecordView, hash, unit_round, void_time,
};
use aerolith_engine::record::{Bins, BinsWriter, UserKey, Value};
use arbitrary::Arbitrary;

const POS: u32 = 4096;
const HEADER: usize = RECORD_HEADER_SIZE as usize;

fn salt() -> BlockSalt {
    BlockSalt::new(&[7; 16], 3, 12, 99)
}

/// The checksum by the words of the format's document, not by the code that is under test.
pub fn checksum_of(record: &[u8], salt: BlockSalt, pos: u32) -> u64 {
    let head = u64::from_le_bytes(record[..8].try_into().expect("8 bytes"));
    hash(head, &record[16..]) ^ salt.at(pos)
}

/// Makes the checksum of the record or frame at the start of `bytes` right, if its length allows.
pub fn make_whole(bytes: &mut [u8], salt: BlockSalt, pos: u32) {
    let Some(length) = bytes.get(4..8).map(|b| u32::from_le_bytes(b.try_into().expect("4 bytes")) as usize)
    else {
        return;
    };
    if (16..=bytes.len()).contains(&length) {
        let checksum = checksum_of(&bytes[..length], salt, pos);
        bytes[8..16].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Holds a record that was taken for whole to that, and looks at all it has.
pub fn check(view: &RecordView<'_>, salt: BlockSalt, pos: u32) {
    let (header, bytes) = (view.header(), view.bytes());
    assert_eq!(
        header.checksum,
        checksum_of(bytes, salt, pos),
        "a record was believed whose checksum is wrong"
    );
    assert_eq!(bytes.len(), header.length as usize);
    let parts = view.set().len() + view.user_key().len() + view.bins().len();
    assert_eq!(parts + HEADER, bytes.len());
    let _ = (void_time(header.expires_ms()), header.last_update_ms(), header.flags());
    let _ = Value::decode(header.key_type, view.user_key()).ok().and_then(UserKey::from_value);
    let bins: Result<Vec<_>, _> = Bins::new(view.bins()).iter().collect();
    let Ok(bins) = bins else { return };
    let mut writer = BinsWriter::new();
    if bins.iter().all(|(name, value)| writer.bin(name, *value).is_ok()) {
        assert_eq!(writer.into_bytes(), view.bins(), "bins were written again as others");
    }
}

fn believed(bytes: &[u8]) -> bool {
    let read = bounded("record", 4 * bytes.len() + 1024, || RecordView::parse(bytes, salt(), POS));
    if let Ok(view) = &read {
        check(view, salt(), POS);
    }
    read.is_ok()
}

/// What a record is encoded from.
#[derive(Arbitrary, Debug)]
struct Recipe {
    digest: [u8; 20],
    set: [u8; 9],
    set_size: u8,
    key_type: u8,
    key: Vec<u8>,
    bins: Vec<(u16, u8, Vec<u8>)>,
    numbers: (u64, u16, u64, u64, u8),
    spoilt_bit: u16,
}

fn encode(recipe: Recipe) {
    let set = &recipe.set[..usize::from(recipe.set_size % 10)];
    let mut bins = BinsWriter::new();
    for (name, kind, bytes) in &recipe.bins {
        let number = bytes.iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte));
        let value = match kind % 5 {
            0 => Value::Integer(number),
            1 => Value::Float(f64::from_bits(number as u64)),
            2 => Value::Bool(number & 1 == 1),
            3 => Value::String(bytes),
            _ => Value::Bytes(bytes),
        };
        let _ = bins.bin(&format!("b{name}"), value);
    }
    let (count, bins) = (bins.count() as u16, bins.into_bytes());
    let key = &recipe.key[..recipe.key.len().min(1000)];
    let mut record = EncodedRecord::begin(&recipe.digest, set, recipe.key_type, key, bins.len());
    record.body().extend_from_slice(&bins);
    let (sequence, generation, expires_ms, updated_ms, flags) = recipe.numbers;
    record.complete(sequence, generation, expires_ms, updated_ms, RecordFlags(flags), count);
    let mut place = vec![0xFF; unit_round(record.length()) as usize];
    record.place(&mut place, salt(), POS);

    let view = RecordView::parse(&place, salt(), POS).expect("what was encoded is whole");
    check(&view, salt(), POS);
    let header = view.header();
    assert_eq!((view.set(), view.user_key(), view.bins()), (set, key, &bins[..]));
    assert_eq!((header.sequence, header.generation, header.bin_count), (sequence, generation, count));
    assert_eq!((header.digest, header.key_type, header.flags().0), (recipe.digest, recipe.key_type, flags));
    let in_48_bits = |ms: u64| ms.min((1 << 48) - 1);
    assert_eq!(header.expires_ms(), in_48_bits(expires_ms));
    assert_eq!(header.last_update_ms(), in_48_bits(updated_ms));
    assert!(RecordView::parse(&place, salt(), POS + 16).is_err(), "a record counts in another place");
    let bit = usize::from(recipe.spoilt_bit) % (record.length() as usize * 8);
    place[bit / 8] ^= 1 << (bit % 8);
    assert!(RecordView::parse(&place, salt(), POS).is_err(), "bit {bit} may be flipped");
}

pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    match choice % 3 {
        0 => _ = believed(bytes),
        1 => {
            let mut bytes = bytes.to_vec();
            make_whole(&mut bytes, salt(), POS);
            believed(&bytes);
        }
        _ => {
            if let Some(recipe) = recipe(bytes) {
                encode(recipe);
            }
        }
    }
}

/// A record of the set `users`, in its place.
pub fn sample(sequence: u64, flags: u8, salt: BlockSalt, pos: u32) -> Vec<u8> {
    let mut bins = BinsWriter::new();
    let list = [0x93, 0x01, 0xa2, 0x03, b'x', 0xc0];
    for (name, value) in [("n", Value::Integer(42)), ("s", "text".into()), ("l", Value::List(&list))] {
        bins.bin(name, value).expect("three names");
    }
    let bins = bins.into_bytes();
    let mut record = EncodedRecord::begin(&[sequence as u8; 20], b"users", 3, b"ada", bins.len());
    record.body().extend_from_slice(&bins);
    record.complete(sequence, 1, 1_767_225_700_000, 1_767_225_600_000, RecordFlags(flags), 3);
    let mut bytes = vec![0; unit_round(record.length()) as usize];
    record.place(&mut bytes, salt, pos);
    bytes
}

pub fn seeds() -> Vec<Vec<u8>> {
    let whole = sample(7, 0, salt(), POS);
    let mut long_key = whole.clone();
    long_key[60] = 200;
    let mut no_bins = whole.clone();
    no_bins[4] = HEADER as u8 + 8;
    vec![
        [&[0], &whole[..]].concat(),
        [&[1], &whole[..]].concat(),
        [&[1], &long_key[..]].concat(),
        [&[1], &no_bins[..]].concat(),
        [&[2], &whole[..]].concat(),
        [&[2], &[1; 200][..]].concat(),
    ]
}
