//! `aerolith check` as a process: on sound files, and on files damaged in a named place.

mod image;

use aerolith_engine::format::{
    BLOCK_HEADER_SIZE, CheckpointRoot, FOOTER_TRAILER_SIZE, GROUP_HEADER_SIZE, HEADER_PAGE, PART_PAYLOAD,
    ROOT_OFFSET, RecordFlags,
};
use aerolith_engine::{Config, DeviceConfig, Engine, Error, Key, NamespaceConfig, Value, WritePolicy};
use image::{BLOCK_SIZE, RECORDS, aerolith, damage, data_file, flip, header, listed, log_of, versions_of};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY: Option<Duration> = Some(Duration::from_secs(86_400));

/// Runs the check: exit code and what it says as JSON.
fn check(paths: &[&Path]) -> (i32, Json) {
    let mut args = vec!["check", "--json"];
    args.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let (code, out, err) = aerolith(&args);
    assert_eq!(err, "", "{out}");
    let object: Json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!(object["exit_code"], code.unwrap());
    (code.unwrap(), object)
}

fn text(path: &Path) -> String {
    aerolith(&["check", path.to_str().unwrap()]).1
}

/// The only fault, of this kind.
fn the_fault(found: &Json, kind: &str) -> Json {
    let faults = found["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{found:#}");
    assert_eq!(faults[0]["kind"], kind, "{found:#}");
    faults[0].clone()
}

fn kinds<'a>(found: &'a Json, which: &str) -> Vec<&'a str> {
    found[which].as_array().unwrap().iter().map(|fault| fault["kind"].as_str().unwrap()).collect()
}

fn order(id: i64) -> Key<'static> {
    Key::new("orders", id).unwrap()
}

#[test]
fn a_sound_file_is_clean_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, DAY);
    let before = std::fs::read(&path).unwrap();
    let (code, found) = check(&[&path]);
    assert_eq!(code, 0, "{found:#}");
    assert!(found["notes"].as_array().unwrap().is_empty(), "{found:#}");
    let totals = &found["totals"];
    assert_eq!((&totals["records"], &totals["tombstones"]), (&Json::from(RECORDS + 1), &Json::from(1)));
    assert!(totals["sealed_blocks"].as_u64() >= Some(5) && totals["checkpoint_blocks"].as_u64() >= Some(2));
    let blocks = ["sealed_blocks", "open_blocks", "checkpoint_blocks", "blank_blocks", "damaged_blocks"];
    assert_eq!(blocks.iter().map(|name| totals[name].as_u64().unwrap()).sum::<u64>(), 63, "{found:#}");
    assert_eq!(found["checkpoints"][0]["entries"], RECORDS + 1);
    assert!(found["checkpoints"][0]["state"].as_str().unwrap().starts_with("whole"), "{found:#}");
    let out = text(&path);
    for part in
        ["namespace shop, member 1 of 1, 64 blocks of 65536 bytes", "301 of records", "MiB/s", "clean"]
    {
        assert!(out.contains(part), "'{part}' is missing in:\n{out}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "the check has changed the file");
}

#[test]
fn a_bit_in_a_record_is_told_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, DAY);
    let at = versions_of(&path, &order(7)).pop().unwrap();
    flip(&path, at.at() + 500);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    let fault = the_fault(&found, "record");
    assert_eq!((&fault["block"], &fault["position"]), (&at.block.into(), &at.pos.into()));
    assert_eq!((&fault["offset"], &fault["digest"]), (&at.at().into(), &at.digest.into()));
    assert_eq!((&fault["set"], &fault["sequence"]), (&"orders".into(), &at.sequence.into()));
    assert_eq!(fault["why"], "checksum mismatch");
    assert_eq!(found["faults_by_kind"]["record"], 1);
    let out = text(&path);
    assert!(
        out.contains("FAULT record of")
            && out.contains("set 'orders'")
            && out.contains("faults      1: 1 record"),
        "{out}"
    );
}

/// A file in which key 1 was written, and written again into another block.
fn written_twice(dir: &tempfile::TempDir) -> PathBuf {
    let path = data_file(dir, None);
    for round in 0..2 {
        let engine = Engine::open(Config::of(image::namespace(&path, None))).unwrap();
        let shop = engine.namespace("shop").unwrap();
        shop.put(&order(1), &[("v", round.into())], &WritePolicy::default()).unwrap();
        engine.close().unwrap();
    }
    path
}

fn get(path: &Path, key: &Key<'_>) -> Result<Option<i64>, Error> {
    let engine = Engine::open(Config::of(image::namespace(path, None))).unwrap();
    let got = engine.namespace("shop").unwrap().get(key);
    engine.close().unwrap();
    let value = |record: aerolith_engine::Record| match record.bin("v")? {
        Value::Integer(value) => Some(value),
        _ => None,
    };
    Ok(got?.and_then(value))
}

#[test]
fn a_damaged_older_version_is_a_note_because_no_read_comes_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = written_twice(&dir);
    let versions = versions_of(&path, &order(1));
    assert_eq!(versions.len(), 3);
    let [older, newest] = [&versions[1], &versions[2]];
    // An older version that does not prove itself is no read's.
    flip(&path, older.at() + 64);
    let (code, found) = check(&[&path]);
    assert_eq!((code, kinds(&found, "notes")), (0, vec!["stale"]), "{found:#}");
    let meaning = found["notes"][0]["meaning"].as_str().unwrap();
    assert!(meaning.contains(&format!("a newer version is whole in block {}", newest.block)), "{meaning}");
    assert_eq!(get(&path, &order(1)).unwrap(), Some(1));
}

#[test]
fn of_a_damaged_newest_version_the_older_one_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = written_twice(&dir);
    let versions = versions_of(&path, &order(1));
    flip(&path, versions[2].at() + 64);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    let fault = the_fault(&found, "record");
    let meaning = fault["meaning"].as_str().unwrap();
    let older = format!("version {} in block {}", versions[1].sequence, versions[1].block);
    assert!(meaning.starts_with("the newest version listed") && meaning.contains(&older), "{meaning}");
    assert!(matches!(get(&path, &order(1)), Err(Error::Corrupt { .. })));
}

#[test]
fn headers_footers_and_device_headers_are_told_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, None);
    let whole = std::fs::read(&path).unwrap();
    let block = listed(&path)[0].block;
    for (at, kind, why) in [
        (block * BLOCK_SIZE + 20, "block-header", "checksum mismatch; its footer stands in for it"),
        ((block + 1) * BLOCK_SIZE - 20, "footer", "checksum mismatch: damage, or power that failed"),
        ((block + 1) * BLOCK_SIZE - 4096 + 40, "footer", "checksum mismatch: damage, or power that failed"),
        (40, "device-header", "copy A of the device header: checksum mismatch"),
        (HEADER_PAGE as usize, "device-header", "copy B of the device header: no magic number"),
    ] {
        std::fs::write(&path, &whole).unwrap();
        flip(&path, at);
        let (code, found) = check(&[&path]);
        assert_eq!(code, 1, "{found:#}");
        let fault = the_fault(&found, kind);
        assert!(fault["why"].as_str().unwrap().starts_with(why), "{fault:#}");
        let offset = fault["offset"].as_u64().unwrap() as usize;
        let structure =
            if kind == "footer" { (block + 1) * BLOCK_SIZE - FOOTER_TRAILER_SIZE as usize } else { offset };
        assert_eq!(offset, structure);
        assert!(at / 4096 == offset / 4096, "{at} is told as {offset}");
    }
    // With neither header nor footer the block is lost as a whole.
    flip(&path, block * BLOCK_SIZE + 20);
    damage(&path, 0, &whole[..8192]);
    flip(&path, (block + 1) * BLOCK_SIZE - 20);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    let fault = the_fault(&found, "block-header");
    assert!(fault["why"].as_str().unwrap().contains("no footer tells which life it was"), "{fault:#}");
    assert_eq!(found["totals"]["damaged_blocks"], 1);
}

#[test]
fn a_footer_that_is_wholly_gone_looks_like_one_that_was_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, None);
    let block = listed(&path)[0].block;
    damage(&path, (block + 1) * BLOCK_SIZE - 4096, &[0xA5; 4096]);
    let (code, found) = check(&[&path]);
    // No magic number is no footer: from the block alone that cannot be told from one that was never sealed.
    assert_eq!((code, kinds(&found, "notes")), (0, vec!["open"]), "{found:#}");
    assert!(found["notes"][0]["why"].as_str().unwrap().ends_with("a footer that is gone"), "{found:#}");
    assert_eq!(found["totals"]["records"].as_u64().unwrap() as i64, RECORDS + 1);
}

#[test]
fn roots_and_parts_of_the_checkpoint_are_proved() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, DAY);
    let whole = std::fs::read(&path).unwrap();
    let roots: Vec<(usize, CheckpointRoot)> = [ROOT_OFFSET as usize, ROOT_OFFSET as usize + 4096]
        .into_iter()
        .filter_map(|at| Some((at, CheckpointRoot::parse(&whole[at..]).ok()?)))
        .collect();
    let (at, root) = *roots.iter().max_by_key(|(_, root)| root.id).unwrap();
    flip(&path, at + 50);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    assert_eq!(the_fault(&found, "root")["offset"], at);

    // The summary's part, its header and its payload; the root names where it is.
    let summary = root.summary_block as usize;
    for pos in [BLOCK_HEADER_SIZE as usize + 9, PART_PAYLOAD as usize + 30] {
        std::fs::write(&path, &whole).unwrap();
        flip(&path, summary * BLOCK_SIZE + pos);
        let (code, found) = check(&[&path]);
        assert_eq!(code, 1);
        let fault = the_fault(&found, "checkpoint");
        assert_eq!(fault["block"], summary);
        assert!(
            fault["why"].as_str().unwrap().starts_with(&format!("its part of checkpoint {}", root.id)),
            "{fault:#}"
        );
        assert!(found["checkpoints"][0]["state"].as_str().unwrap().starts_with("damaged"), "{found:#}");
    }
    // A part of the body.
    std::fs::write(&path, &whole).unwrap();
    let body = (1..64)
        .find(|&block| {
            block != summary
                && whole[block * BLOCK_SIZE + 14] == 255
                && whole[block * BLOCK_SIZE..].starts_with(b"AEROBLK1")
        })
        .expect("a block of the body");
    flip(&path, body * BLOCK_SIZE + PART_PAYLOAD as usize + 100);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    assert_eq!(the_fault(&found, "checkpoint")["block"], body);
    // Nothing of that is lost.
    assert_eq!(get(&path, &order(7)).unwrap(), None);
    assert!(Engine::open(Config::of(image::namespace(&path, None))).is_ok());
}

#[test]
fn a_checkpoint_whose_blocks_were_used_again_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.data");
    let namespace = |checkpoint_period| NamespaceConfig {
        block_size: 16 << 10,
        checkpoint_period,
        ..NamespaceConfig::in_file("shop", &path, 32 * (16 << 10))
    };
    // Two checkpoints, and then enough to come round to the blocks of the first one.
    for (round, checkpoint_period) in [DAY, DAY, None].into_iter().enumerate() {
        let engine = Engine::open(Config::of(namespace(checkpoint_period))).unwrap();
        let shop = engine.namespace("shop").unwrap();
        for id in 0..1500 {
            shop.put(&order(id % 30), &[("v", [round as u8; 1024][..].into())], &WritePolicy::default())
                .unwrap();
        }
        engine.close().unwrap();
    }
    let (code, found) = check(&[&path]);
    assert_eq!(code, 0, "{found:#}");
    // Without the newest root the one before is the newest: its blocks have gone on.
    let bytes = std::fs::read(&path).unwrap();
    let id = |at: usize| CheckpointRoot::parse(&bytes[at..]).unwrap().id;
    let newest = if id(8192) > id(12288) { 8192 } else { 12288 };
    damage(&path, newest, &[0; 4096]);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 0, "{found:#}");
    assert!(found["checkpoints"][0]["state"].as_str().unwrap().starts_with("given up"), "{found:#}");
}

#[test]
fn a_block_in_the_wrong_place_is_told_with_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, None);
    let blocks: Vec<usize> = listed(&path).iter().map(|version| version.block).collect();
    let (first, last) = (blocks[0], blocks[blocks.len() - 1]);
    let bytes = std::fs::read(&path).unwrap();
    damage(&path, last * BLOCK_SIZE, &bytes[first * BLOCK_SIZE..][..BLOCK_SIZE]);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    let fault = the_fault(&found, "misplaced");
    assert_eq!(fault["block"], last);
    assert!(
        fault["why"].as_str().unwrap().contains(&format!("that of block {first} of member 1")),
        "{fault:#}"
    );
}

#[test]
fn a_damaged_frame_of_whole_records_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, None);
    let engine = Engine::open(Config::of(image::namespace(&path, None))).unwrap();
    let keys = [order(1000), order(1001), order(1002)];
    let bins = [("v", 1.into())];
    let records: Vec<_> = keys.iter().map(|key| (*key, &bins[..])).collect();
    engine.namespace("shop").unwrap().put_many(&records, &WritePolicy::default()).unwrap();
    engine.close().unwrap();
    let members: Vec<_> = listed(&path)
        .into_iter()
        .filter(|version| RecordFlags(version.flags).has(RecordFlags::IN_GROUP))
        .collect();
    assert_eq!(members.len(), 3);
    let frame = members[0].pos - GROUP_HEADER_SIZE as usize;
    flip(&path, members[0].block * BLOCK_SIZE + frame + 24);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    assert_eq!(the_fault(&found, "group")["position"], frame);
    // A member that is damaged takes the frame with it, and is told as what it is.
    flip(&path, members[0].block * BLOCK_SIZE + frame + 24);
    flip(&path, members[1].at() + 30);
    let (_, found) = check(&[&path]);
    assert_eq!(the_fault(&found, "record")["digest"], members[1].digest.as_str());
}

/// A copy of the file of a running engine that has flushed: its blocks are open.
fn open_image(dir: &tempfile::TempDir, has_checkpoint: bool) -> PathBuf {
    let path = dir.path().join("running.data");
    let engine = Engine::open(Config::of(image::namespace(&path, DAY))).unwrap();
    let shop = engine.namespace("shop").unwrap();
    for id in 0..10 {
        shop.put(&order(id), &[("v", [9; 700][..].into())], &WritePolicy::default()).unwrap();
    }
    shop.flush().unwrap();
    assert!(!has_checkpoint || shop.checkpoint().unwrap());
    let copy = dir.path().join("copy.data");
    std::fs::copy(&path, &copy).unwrap();
    engine.close().unwrap();
    copy
}

#[test]
fn an_open_block_is_a_note_and_what_only_the_checkpoint_knows_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = open_image(&dir, false);
    let (code, found) = check(&[&path]);
    assert_eq!((code, kinds(&found, "notes")), (0, vec!["open"]), "{found:#}");
    assert_eq!(found["totals"]["records"], 10);
    let block = found["notes"][0]["block"].as_u64().unwrap() as usize;
    // A record that has rotted looks like one that never arrived, and that is what is said.
    flip(&path, log_of(block) + 2 * 800 + 100);
    let (code, found) = check(&[&path]);
    assert_eq!((code, kinds(&found, "notes")), (0, vec!["hole", "open"]), "{found:#}");
    assert_eq!(found["totals"]["records"], 9);

    // A checkpoint that was written after it tells that it was there.
    let dir = tempfile::tempdir().unwrap();
    let path = open_image(&dir, true);
    assert_eq!(check(&[&path]).0, 0);
    flip(&path, log_of(block) + 2 * 800 + 100);
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1, "{found:#}");
    let fault = the_fault(&found, "record");
    assert_eq!((&fault["block"], &fault["set"]), (&block.into(), &"orders".into()));
    let keys: Vec<String> = (0..10).map(|id| digest_of(&order(id))).collect();
    assert!(keys.contains(&fault["digest"].as_str().unwrap().to_owned()), "{fault:#}");
    let meaning = fault["meaning"].as_str().unwrap();
    assert!(meaning.starts_with("the only version listed"), "{meaning}");
}

fn digest_of(key: &Key<'_>) -> String {
    key.digest().as_bytes()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_record_cut_off_at_the_end_of_an_open_block_is_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let path = open_image(&dir, false);
    let (_, found) = check(&[&path]);
    let block = found["notes"][0]["block"].as_u64().unwrap() as usize;
    let bytes = std::fs::read(&path).unwrap();
    let last = (0..BLOCK_SIZE).rev().find(|&at| bytes[block * BLOCK_SIZE + at] != 0).unwrap();
    damage(&path, block * BLOCK_SIZE + last - 300, &[0; 301]);
    let (code, found) = check(&[&path]);
    assert_eq!((code, kinds(&found, "notes")), (0, vec!["torn-tail", "open"]), "{found:#}");
}

#[test]
fn a_file_that_was_cut_off_is_checked_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, DAY);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..40 * BLOCK_SIZE + 4096]).unwrap();
    let (code, found) = check(&[&path]);
    assert_eq!(code, 1);
    let cut = found["faults"].as_array().unwrap().iter().find(|fault| fault["kind"] == "cut-off").unwrap();
    assert!(cut["why"].as_str().unwrap().contains("blocks 40 to 63 are not there"), "{cut:#}");
    assert_eq!(found["totals"]["missing_blocks"], 24);
    assert_eq!(found["totals"]["records"], RECORDS + 1);
}

/// A set of two devices, closed; the devices of `paths` in the order of their members.
fn pair(dir: &Path) -> (Vec<PathBuf>, impl Fn() -> Config) {
    let paths = [dir.join("a.data"), dir.join("b.data")];
    let devices: Vec<DeviceConfig> =
        paths.iter().map(|path| DeviceConfig::Path { path: path.clone(), size: 2 << 20 }).collect();
    let config = move || {
        Config::of(NamespaceConfig {
            devices: devices.clone(),
            name: "pair".into(),
            block_size: BLOCK_SIZE as u32,
            ..NamespaceConfig::default()
        })
    };
    write(&config(), 0);
    (paths.to_vec(), config)
}

fn write(config: &Config, value: i64) {
    let engine = Engine::open(config.clone()).unwrap();
    let pair = engine.namespace("pair").unwrap();
    for id in 0..100 {
        pair.put(&order(id), &[("v", value.into())], &WritePolicy::default()).unwrap();
    }
    engine.close().unwrap();
}

#[test]
fn a_set_is_checked_whole_or_said_not_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let (paths, config) = pair(dir.path());
    let [a, b] = [&*paths[0], &*paths[1]];
    // In any order.
    for devices in [[a, b], [b, a]] {
        let (code, found) = check(&devices);
        assert_eq!(code, 0, "{found:#}");
        assert!(found["checkpoints"][0]["state"].as_str().unwrap().starts_with("whole"), "{found:#}");
    }
    let (code, found) = check(&[b]);
    assert_eq!(code, 2);
    let why = found["not_checked"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("member 1 of 2 of set "), "{why}");
    assert!(found["totals"]["records"].as_u64() > Some(10), "the one that is given is checked: {found:#}");
    assert!(found["faults"].as_array().unwrap().is_empty());
    let (code, found) = check(&[a, b, a]);
    assert_eq!(code, 2);
    assert!(found["not_checked"][0]["why"].as_str().unwrap().contains("it is member 1 like"), "{found:#}");
    let other = tempfile::tempdir().unwrap();
    let (others, _) = pair(other.path());
    let (code, found) = check(&[a, b, &others[0]]);
    assert_eq!(code, 2);
    assert!(found["not_checked"][0]["why"].as_str().unwrap().contains("belongs to another set"), "{found:#}");

    // An older copy of one member looks sound by itself; beside the other it does not.
    let kept = std::fs::read(a).unwrap();
    for value in 1..3 {
        write(&config(), value);
    }
    std::fs::write(a, kept).unwrap();
    let (code, found) = check(&[a, b]);
    assert_eq!(code, 1);
    let fault = the_fault(&found, "older-copy");
    assert!(
        fault["why"].as_str().unwrap().contains("opened 1 times, but its set was opened in run 3"),
        "{fault:#}"
    );
    assert!(Engine::open(config()).is_err());
}

#[test]
fn what_is_not_there_not_ours_or_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, None);
    let whole = std::fs::read(&path).unwrap();
    let other = dir.path().join("other");
    for (content, why) in [
        (Vec::new(), "has 0 bytes, needs 4096"),
        (vec![0; 4 << 20], "is blank: nothing was ever written to it"),
        (vec![b'x'; 4 << 20], "something that is not Aerolith's"),
        (whole[..4096].to_vec(), "it was cut off"),
    ] {
        std::fs::write(&other, &content).unwrap();
        let (code, found) = check(&[&other]);
        let (is_cut_off, refused) = (why.contains("cut off"), &found["not_checked"]);
        assert_eq!(code, if is_cut_off { 1 } else { 2 }, "{found:#}");
        assert!(is_cut_off || refused[0]["why"].as_str().unwrap().contains(why), "{found:#}");
    }
    assert!(
        check(&[&dir.path().join("nope")]).1["not_checked"][0]["why"]
            .as_str()
            .unwrap()
            .contains("does not exist")
    );
    // Both copies of the header gone: that is damage, and nothing behind it could be looked at.
    std::fs::write(&other, &whole).unwrap();
    flip(&other, 40);
    flip(&other, 4096 + 40);
    let (code, found) = check(&[&other]);
    assert_eq!((code, kinds(&found, "faults")), (2, vec!["device-header"; 2]));
    // A format that this program does not know is not damaged.
    let mut newer = header(&whole);
    newer.version += 1;
    std::fs::write(&other, &whole).unwrap();
    damage(&other, 0, &newer.encode());
    damage(&other, 4096, &newer.encode());
    let (code, found) = check(&[&other]);
    assert_eq!((code, kinds(&found, "faults")), (2, vec![]));
    assert!(
        found["not_checked"][0]["why"].as_str().unwrap().contains("format version 2 is not known"),
        "{found:#}"
    );

    let engine = Engine::open(Config::of(image::namespace(&path, None))).unwrap();
    let (code, found) = check(&[&path]);
    assert_eq!(code, 2);
    assert!(found["not_checked"][0]["why"].as_str().unwrap().contains("already in use by"), "{found:#}");
    engine.close().unwrap();
    assert_eq!(check(&[&path]).0, 0);
}

#[test]
fn no_garbage_makes_it_panic_or_say_that_all_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir, DAY);
    let whole = std::fs::read(&path).unwrap();
    for step in [64, 512, 4096, 65_536] {
        let mut garbage = whole.clone();
        let last = listed(&path).last().unwrap().block * BLOCK_SIZE;
        for at in (BLOCK_SIZE..last).step_by(step) {
            garbage[at + at / step % 61] ^= 0x55;
        }
        std::fs::write(&path, &garbage).unwrap();
        let (code, found) = check(&[&path]);
        assert_eq!(code, 1, "{step}: {found:#}");
        std::fs::write(&path, &whole).unwrap();
    }
}
