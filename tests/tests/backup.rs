//! A backup holds what its snapshot held, is whole or refused, and gives back every record as it was.

use aerolith_engine::backup::{
    BackupError, BackupOptions, BackupReader, RestoreCounts, restore_chunk, write_backup,
};
use aerolith_engine::device::{AlignedBuffer, Request};
use aerolith_engine::format::{BACKUP_HEADER_SIZE, BackupHeader, CHUNK_HEADER_SIZE};
use aerolith_engine::record::{Digest, Key, Value};
use aerolith_engine::{
    Clock, Config, Engine, Error, ManualClock, Namespace, NamespaceConfig, RestoreMode, Ttl, WritePolicy,
};
use aerolith_tests::START;
use aerolith_tests::model::{bytes_of, value_of};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An engine in RAM whose clock stands still.
fn engine(clock: &Arc<ManualClock>) -> Engine {
    let config = NamespaceConfig::in_memory("test", 16 << 20);
    Engine::open_by_hand(Config::of(config), clock.clone(), 1).expect("an engine")
}

fn open() -> (Arc<ManualClock>, Engine) {
    let clock = Arc::new(ManualClock::at(START));
    let engine = engine(&clock);
    (clock, engine)
}

fn store(engine: &Engine) -> Namespace {
    engine.namespace("test").expect("it is configured")
}

fn put(store: &Namespace, key: &Key<'_>, number: u32, value: u64, ttl: Ttl) {
    let bytes = bytes_of(number, value);
    let bins = [("v", Value::Bytes(&bytes)), ("n", Value::Integer(i64::from(number)))];
    store.put(key, &bins, &WritePolicy::with_ttl(ttl)).expect("a put");
}

/// Records of all kinds: with and without user key, with and without time to live, of several generations.
fn fill(store: &Namespace, count: u32) {
    for number in 0..count {
        let key = match number % 3 {
            0 => Key::new("numbers", number).expect("a key"),
            1 => Key::from_digest("", Digest::of(b"x", 3, &number.to_le_bytes())).expect("a key"),
            _ => Key::new("", "a key of text").expect("a key"),
        };
        let ttl =
            if number % 2 == 0 { Ttl::Never } else { Ttl::At(START.plus(Duration::from_millis(7_777))) };
        for value in 0..=u64::from(number % 5) {
            put(store, &key, number, value, ttl);
        }
    }
}

fn backup(store: &Namespace, chunk_size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = BackupOptions { chunk_size, ..BackupOptions::default() };
    let snapshot = store.snapshot().expect("a snapshot");
    let progress = write_backup(snapshot, &mut bytes, options, |_| {}).expect("a backup");
    assert_eq!(progress.written, bytes.len() as u64);
    bytes
}

fn restore(store: &Namespace, bytes: &[u8], mode: RestoreMode) -> Result<RestoreCounts, BackupError> {
    let mut reader = BackupReader::new(bytes)?;
    let mut counts = RestoreCounts::default();
    while let Some(chunk) = reader.next_chunk()? {
        counts += restore_chunk(store, &chunk, mode)?;
    }
    Ok(counts)
}

/// All that there is, by digest: set, user key, generation, expiry, last update, bins.
fn picture(store: &Namespace) -> HashMap<Digest, String> {
    let records = store.snapshot().expect("a snapshot").map(|record| record.expect("a record"));
    let told = |record: aerolith_engine::Record| {
        let bins: Vec<_> = record.bins().map(|(name, value)| format!("{name}={value:?}")).collect();
        let (set, key, last) =
            (record.set().to_owned(), format!("{:?}", record.user_key()), record.last_update());
        let text = format!("{set} {key} {} {:?} {last:?} {bins:?}", record.generation(), record.expires_at());
        (record.digest(), text)
    };
    records.map(told).collect()
}

#[test]
fn what_is_restored_is_what_was_there() {
    let (clock, from) = open();
    fill(&store(&from), 400);
    clock.advance(Duration::from_millis(1234));
    let before = picture(&store(&from));
    let bytes = backup(&store(&from), 4000);
    let to = engine(&clock);
    let counts = restore(&store(&to), &bytes, RestoreMode::Replace).expect("a restore");
    assert_eq!(counts, RestoreCounts { written: before.len() as u64, ..RestoreCounts::default() });
    assert_eq!(picture(&store(&to)), before);
    // Once more changes nothing; and what has expired on the way is not brought back.
    restore(&store(&to), &bytes, RestoreMode::Replace).expect("a restore");
    assert_eq!(picture(&store(&to)), before);
    let later = Arc::new(ManualClock::at(START.plus(Duration::from_secs(60))));
    let to = engine(&later);
    let counts = restore(&store(&to), &bytes, RestoreMode::Replace).expect("a restore");
    let living = before.values().filter(|text| text.contains(" None Timestamp")).count() as u64;
    assert!(living > 0 && living < before.len() as u64);
    assert_eq!((counts.written, counts.expired), (living, before.len() as u64 - living));
}

#[test]
fn a_mode_says_what_becomes_of_a_record_that_is_there() {
    let (clock, from) = open();
    let key = |number: u32| Key::new("modes", number).expect("a key");
    // Generation 3 in the backup.
    for value in 0..3 {
        (0..3).for_each(|number| put(&store(&from), &key(number), number, value, Ttl::Never));
    }
    let bytes = backup(&store(&from), 1 << 20);
    for (mode, expected) in [
        (RestoreMode::Replace, [(3, 2), (3, 2), (3, 2)]),
        (RestoreMode::KeepExisting, [(1, 9), (4, 9), (3, 2)]),
        (RestoreMode::NewerGeneration, [(3, 2), (4, 9), (3, 2)]),
    ] {
        let to = engine(&clock);
        // Key 0 has an older generation there, key 1 a newer one, key 2 is not there, key 3 is only there.
        put(&store(&to), &key(0), 0, 9, Ttl::Never);
        (0..4).for_each(|_| put(&store(&to), &key(1), 1, 9, Ttl::Never));
        put(&store(&to), &key(3), 3, 9, Ttl::Never);
        let counts = restore(&store(&to), &bytes, mode).expect("a restore");
        let kept = expected.iter().filter(|(_, value)| *value == 9).count() as u64;
        assert_eq!((counts.kept, counts.written), (kept, 3 - kept), "{mode:?}");
        for (number, (generation, value)) in (0..).zip(expected) {
            let record = store(&to).get(&key(number)).expect("a read").expect("it is there");
            let found = value_of(number, record.bin("v").and_then(|v| v.as_bytes()).expect("the bin"));
            assert_eq!((record.generation(), found), (generation, value), "{mode:?} of key {number}");
        }
        assert!(store(&to).get(&key(3)).expect("a read").is_some(), "{mode:?}");
        // A generation goes on from where it was.
        put(&store(&to), &key(2), 2, 1, Ttl::Never);
        let record = store(&to).get(&key(2)).expect("a read").expect("it is there");
        assert_eq!(record.generation(), 4, "{mode:?}");
    }
}

/// Reads a backup to its end, unpacking all.
fn read_through(bytes: &[u8]) -> Result<u32, BackupError> {
    let mut reader = BackupReader::new(bytes)?;
    let mut count = 0;
    while let Some(chunk) = reader.next_chunk()? {
        count += chunk.for_each(|_| Ok::<_, BackupError>(()))?;
    }
    assert!(reader.trailer().is_some());
    Ok(count)
}

#[test]
fn every_cut_and_every_flipped_bit_of_a_backup_is_refused() {
    let (_, from) = open();
    fill(&store(&from), 12);
    let bytes = backup(&store(&from), 600);
    assert!(read_through(&bytes).expect("it is whole") > 8 && bytes.len() < 8000);
    let mut reader = BackupReader::new(&bytes[..]).expect("a header");
    while reader.next_chunk().expect("a chunk").is_some() {}
    assert!(reader.trailer().expect("a trailer").chunk_count > 2, "there should be several chunks");
    for end in 0..bytes.len() {
        let error = read_through(&bytes[..end]).expect_err("it was cut off");
        let text = error.to_string();
        let is_told = matches!(error, BackupError::CutOff { .. } | BackupError::NoTrailer { .. });
        assert!(is_told && text.contains("offset") && text.contains("cut off"), "cut at {end}: {text}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let error = read_through(&bad).expect_err("a bit is wrong");
        let is_told = matches!(error, BackupError::NotABackup | BackupError::Damaged { .. });
        assert!(is_told, "bit {bit}: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(read_through(&longer), Err(BackupError::Trailing { .. })));
}

#[test]
fn chunks_that_are_missing_or_of_another_backup_are_refused() {
    let (clock, from) = open();
    fill(&store(&from), 40);
    let bytes = backup(&store(&from), 600);
    clock.advance(Duration::from_millis(1));
    let other = backup(&store(&from), 600);
    let chunks = |bytes: &[u8]| -> Vec<(u64, Vec<u8>)> {
        let mut reader = BackupReader::new(bytes).expect("a header");
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next_chunk().expect("a chunk") {
            chunks.push((chunk.offset, chunk.bytes));
        }
        chunks
    };
    let all = chunks(&bytes);
    let without = |missing: usize| -> Vec<u8> {
        let mut made = bytes[..BACKUP_HEADER_SIZE].to_vec();
        let rest = all.iter().enumerate().filter(|(at, _)| *at != missing);
        rest.for_each(|(_, (_, chunk))| made.extend_from_slice(chunk));
        made.extend_from_slice(&bytes[bytes.len() - 64..]);
        made
    };
    for missing in 0..all.len() {
        let error = read_through(&without(missing)).expect_err("a chunk is missing");
        let is_last = missing == all.len() - 1;
        let is_told = if is_last {
            matches!(error, BackupError::Counts { what: "chunks", .. })
        } else {
            matches!(error, BackupError::Disorder { .. })
        };
        assert!(is_told, "without chunk {missing}: {error}");
    }
    let mut mixed = bytes[..BACKUP_HEADER_SIZE].to_vec();
    mixed.extend_from_slice(&chunks(&other)[0].1);
    let error = read_through(&mixed).expect_err("a chunk of another backup");
    assert!(matches!(error, BackupError::Damaged { offset: 128, .. }), "{error}");
    // A version that this program does not know is named as that.
    let mut newer: BackupHeader = bytemuck::pod_read_unaligned(&bytes[..BACKUP_HEADER_SIZE]);
    newer = BackupHeader::parse(&newer.encode()).expect("a header");
    newer.version = 2;
    let mut head = bytemuck::bytes_of(&newer).to_vec();
    let sum = xxhash_rust::xxh3::xxh3_64(&head[..120]);
    head[120..].copy_from_slice(&sum.to_le_bytes());
    let error = BackupReader::new(&head[..]).err().expect("version 2");
    assert!(matches!(error, BackupError::Version(2)), "{error}");
}

#[test]
fn a_piece_is_taken_without_its_neighbours() {
    let (clock, from) = open();
    fill(&store(&from), 60);
    let bytes = backup(&store(&from), 900);
    let mut reader = BackupReader::new(&bytes[..]).expect("a header");
    let to = engine(&clock);
    let mut counts = RestoreCounts::default();
    while let Some(chunk) = reader.next_chunk().expect("a chunk") {
        assert_eq!(chunk.bytes, &bytes[chunk.offset as usize..][..chunk.bytes.len()]);
        let piece = [&bytes[..BACKUP_HEADER_SIZE], &chunk.bytes].concat();
        let mut piece = BackupReader::of_piece(&piece[..]).expect("a piece");
        let same = piece.next_chunk().expect("a chunk").expect("one");
        assert_eq!(same.number, chunk.number);
        counts += restore_chunk(&store(&to), &same, RestoreMode::Replace).expect("a restore");
        assert!(piece.next_chunk().expect("the end").is_none());
        let cut = [&bytes[..BACKUP_HEADER_SIZE], &chunk.bytes[..CHUNK_HEADER_SIZE + 3]].concat();
        let mut cut = BackupReader::of_piece(&cut[..]).expect("a header");
        assert!(matches!(cut.next_chunk(), Err(BackupError::CutOff { .. })));
    }
    assert_eq!(picture(&store(&to)), picture(&store(&from)));
    assert_eq!(counts.written, picture(&store(&from)).len() as u64);
}

#[test]
fn a_record_that_cannot_be_read_ends_the_backup_or_is_counted() {
    let mut world = aerolith_tests::World::new(1, 24, 16 << 10);
    world.config.write_cache_size = 0;
    world.open();
    for number in 0..60 {
        let (key, bytes) = (Key::new("keys", number).expect("a key"), bytes_of(number, 6));
        let (bins, policy) = ([("v", Value::Bytes(&bytes))], WritePolicy::default());
        let store = world.namespace();
        world.run(store.put(&key, &bins, &policy)).expect("a put");
    }
    world.flush();
    world.close();
    let (device, offset) = (world.devices[0].clone(), 16 << 10);
    let read = Request::Read { offset, buffer: AlignedBuffer::zeroed(16 << 10) };
    let mut block = device.submit(read).wait().into_buffer().expect("a block");
    block[1000] ^= 1;
    let (data, range) = (Arc::new(block), 0..16 << 10);
    device.submit(Request::Write { offset, data, range, durable: true }).wait().result.expect("a write");
    world.open();
    let mut bytes = Vec::new();
    let options = BackupOptions::default();
    let snapshot = world.namespace().snapshot().expect("a snapshot");
    let error = write_backup(snapshot, &mut bytes, options, |_| {}).expect_err("a record is damaged");
    assert!(matches!(error, BackupError::Unreadable(Error::Corrupt { .. })), "{error}");
    let read = read_through(&bytes).expect_err("half a backup is none");
    assert!(matches!(&read, BackupError::GivenUp { why, .. } if why.contains("is damaged")), "{read}");
    bytes.clear();
    let options = BackupOptions { skip_damaged: true, ..options };
    let snapshot = world.namespace().snapshot().expect("a snapshot");
    let progress = write_backup(snapshot, &mut bytes, options, |_| {}).expect("a backup without it");
    assert_eq!((progress.records, progress.damaged), (59, 1));
    assert_eq!(read_through(&bytes).expect("it is whole"), 59);
    assert_eq!(START, world.clock.now().min(START));
}
