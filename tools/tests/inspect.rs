//! `aerolith inspect` as a process, on data files that the engine made and on damaged ones.

mod image;

use aerolith_engine::{Config, Engine, NamespaceConfig};
use image::{BLOCK_SIZE, RECORDS, aerolith, damage};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Blocks of a checkpoint have no log to look at: most tests go without one.
fn data_file(dir: &TempDir) -> PathBuf {
    image::data_file(dir, None)
}

fn inspect(path: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    aerolith(&[&["inspect", path.to_str().unwrap()], args].concat())
}

/// The rows of the table of blocks: id and the rest.
fn rows(out: &str) -> Vec<(usize, &str)> {
    out.lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter_map(|(id, rest)| Some((id.parse().ok()?, rest)))
        .collect()
}

fn sealed_blocks(out: &str) -> Vec<usize> {
    rows(out).into_iter().filter(|(_, rest)| rest.contains("sealed")).map(|(id, _)| id).collect()
}

#[test]
fn a_sound_file_is_shown_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    let before = std::fs::read(&path).unwrap();
    let (code, out, err) = inspect(&path, &["--blocks"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for part in
        ["header A", "header B", "namespace  shop", "64 blocks of 65536 bytes", " 0 open", " 0 damaged"]
    {
        assert!(out.contains(part), "'{part}' is missing in:\n{out}");
    }
    let sealed = sealed_blocks(&out);
    assert!(sealed.len() >= 5, "{out}");
    let mut records = String::new();
    for block in sealed {
        let (code, out, _) = inspect(&path, &["--records", &block.to_string()]);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("0 of them damaged"), "{out}");
        records += &out;
    }
    for part in ["orders", "sessions", "\"ada\\u{1b}[2J\"", "tombstone", "never", "ok"] {
        assert!(records.contains(part), "'{part}' is missing in:\n{records}");
    }
    assert_eq!(records.lines().filter(|line| line.contains(" orders ")).count() as i64, RECORDS + 1);
    assert!(std::fs::read(&path).unwrap() == before, "inspect has changed the file");
}

#[test]
fn one_damaged_header_copy_is_named_and_the_other_one_serves() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    damage(&path, 40, b"garbage!");
    let (code, out, _) = inspect(&path, &[]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("header A   DAMAGED: checksum mismatch") && out.contains("namespace  shop"),
        "{out}"
    );
}

#[test]
fn two_damaged_header_copies_are_the_engines_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    damage(&path, 40, b"garbage!");
    damage(&path, 4096 + 40, b"garbage!");
    let (code, out, err) = inspect(&path, &["--blocks"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("header B   DAMAGED"), "{out}");
    assert!(err.contains("both copies of the device header are damaged"), "{err}");
}

#[test]
fn damage_in_a_block_is_told_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    let first = sealed_blocks(&inspect(&path, &["--blocks"]).1)[0];
    // The first record, the block header, the footer, one after the other: each makes it worse.
    damage(&path, first * BLOCK_SIZE + 64 + 100, b"garbage!");
    let (code, out, _) = inspect(&path, &["--records", &first.to_string()]);
    assert_eq!(code, Some(1));
    assert!(out.contains("DAMAGED: checksum mismatch") && out.contains("1 of them damaged"), "{out}");
    damage(&path, first * BLOCK_SIZE + 8, b"garbage!");
    let (code, out, _) = inspect(&path, &["--blocks"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("sealed; DAMAGED header") && out.contains(" 1 damaged"), "{out}");
    damage(&path, (first + 1) * BLOCK_SIZE - 64 + 20, b"garbage!");
    let (code, out, _) = inspect(&path, &["--blocks"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("DAMAGED header: checksum mismatch"), "{out}");
    let (code, _, err) = inspect(&path, &["--records", &first.to_string()]);
    assert_eq!(code, Some(1));
    assert!(err.contains("its header and its footer are damaged"), "{err}");
}

#[test]
fn a_damaged_footer_leaves_the_log_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    let first = sealed_blocks(&inspect(&path, &["--blocks"]).1)[0];
    damage(&path, (first + 1) * BLOCK_SIZE - 64 + 20, b"garbage!");
    let (code, out, _) = inspect(&path, &["--blocks"]);
    assert_eq!(code, Some(1));
    assert!(out.contains(" 1 open") && out.contains(" 1 damaged"), "{out}");
    let (_, out, _) = inspect(&path, &["--records", &first.to_string()]);
    assert!(out.contains("found in its log, 0 of them damaged") && out.contains(" orders "), "{out}");
}

#[test]
fn no_cut_and_no_garbage_makes_it_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    let whole = std::fs::read(&path).unwrap();
    for size in [0, 1, 511, 4095, 4096, 4097, 8192, 70_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..size]).unwrap();
        for args in [&["--blocks"][..], &["--records", "1"], &["--records", "63"]] {
            let (code, out, err) = inspect(&path, args);
            assert_eq!(code, Some(1), "{size} bytes, {args:?}:\n{out}{err}");
        }
    }
    // Garbage everywhere but in the device header: it is what says where to look.
    let mut garbage = whole.clone();
    for (at, byte) in garbage.iter_mut().enumerate().skip(BLOCK_SIZE) {
        if at.wrapping_mul(0x9E37_79B9) >> 7 & 63 == 0 {
            *byte ^= 0x55;
        }
    }
    std::fs::write(&path, &garbage).unwrap();
    assert_eq!(inspect(&path, &["--blocks"]).0, Some(1));
    std::fs::write(&path, vec![0; whole.len()]).unwrap();
    assert!(inspect(&path, &[]).2.contains("is blank"));
    std::fs::write(&path, vec![b'x'; whole.len()]).unwrap();
    assert!(inspect(&path, &[]).2.contains("something that is not Aerolith's"));
}

#[test]
fn what_is_not_there_or_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    for (block, why) in [("0", "records lie in blocks 1 to 63"), ("64", "records lie in blocks 1 to 63")] {
        let (code, _, err) = inspect(&path, &["--records", block]);
        assert!(code == Some(1) && err.contains(why), "{err}");
    }
    assert!(inspect(&dir.path().join("nope"), &[]).2.contains("does not exist"));
    assert!(inspect(dir.path(), &[]).2.contains("a device is a regular file or a block device"));
    let namespace = NamespaceConfig::in_file("shop", &path, 4 << 20);
    let engine = Engine::open(Config::of(namespace)).unwrap();
    assert!(inspect(&path, &[]).2.contains("already in use by"));
    engine.close().unwrap();
    assert_eq!(inspect(&path, &[]).0, Some(0));
}

fn json(path: &Path, args: &[&str]) -> serde_json::Value {
    let (_, out, _) = inspect(path, &[args, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn checkpoints_are_shown_with_their_roots_and_parts() {
    let dir = tempfile::tempdir().unwrap();
    let path = image::data_file(&dir, Some(std::time::Duration::from_secs(86_400)));
    let (code, out, _) = inspect(&path, &["--blocks"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("checkpoint 1, 301 entries, written 20") && out.contains("none"), "{out}");
    let parts = rows(&out).into_iter().filter(|(_, rest)| rest.contains("checkpoint 1")).count();
    assert!(parts >= 2, "{out}");
    let object = json(&path, &["--blocks"]);
    assert_eq!(object["roots"]["1"]["entries"], 301);
    assert_eq!(object["roots"]["0"], serde_json::Value::Null);
    assert_eq!(object["totals"]["checkpoint"], parts);
    let summary = object["roots"]["1"]["summary_block"].as_u64().unwrap();
    let blocks = object["blocks"].as_array().unwrap();
    let block = blocks.iter().find(|block| block["block"] == summary).unwrap();
    assert_eq!((&block["state"], &block["checkpoint"]), (&"checkpoint".into(), &1.into()));
    let (code, _, err) = inspect(&path, &["--records", &summary.to_string()]);
    assert!(code == Some(1) && err.contains("it holds a part of a checkpoint"), "{err}");
    // A root that is damaged is told in its slot.
    damage(&path, 12288 + 40, b"garbage!");
    let (code, out, _) = inspect(&path, &[]);
    assert!(code == Some(1) && out.contains("root 1     DAMAGED: checksum mismatch"), "{out}");
    assert_eq!(json(&path, &[])["roots"]["1"]["damage"], "checksum mismatch");
}

#[test]
fn the_map_has_a_character_for_every_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = image::data_file(&dir, Some(std::time::Duration::from_secs(86_400)));
    let (code, out, _) = inspect(&path, &["--map"]);
    assert_eq!(code, Some(0), "{out}");
    let lines: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("        0 ")).collect();
    let [line] = lines[..] else { panic!("{out}") };
    assert_eq!(line.len(), 64, "no terminal: 64 in a line");
    let object = json(&path, &["--map", "--blocks"]);
    assert_eq!(object["map"], line);
    let cell = |block: usize| line.as_bytes()[block] as char;
    assert_eq!(cell(0), 'H');
    for block in object["blocks"].as_array().unwrap() {
        let found = cell(block["block"].as_u64().unwrap() as usize);
        match block["state"].as_str().unwrap() {
            "sealed" => {
                // What was written: the log and a page of footer at the least.
                let tenths = (block["data_end"].as_u64().unwrap() + 4096) * 10 / BLOCK_SIZE as u64;
                assert_eq!(found, char::from(b'0' + tenths.min(9) as u8), "{block}");
            }
            "checkpoint" => assert_eq!(found, 'C', "{block}"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(line.matches('.').count() as u64, object["totals"]["blank"].as_u64().unwrap());
    let sealed = line.find(|c: char| c.is_ascii_digit()).unwrap();
    damage(&path, sealed * BLOCK_SIZE + 20, b"garbage!");
    let object = json(&path, &["--map"]);
    assert_eq!(object["map"].as_str().unwrap().as_bytes()[sealed], b'X');
    let (_, out, _) = inspect(&path, &["--map"]);
    assert!(out.contains("X damaged 1"), "{out}");
}

#[test]
fn records_as_json_are_those_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = data_file(&dir);
    let block = sealed_blocks(&inspect(&path, &["--blocks"]).1)[0].to_string();
    let (_, out, _) = inspect(&path, &["--records", &block]);
    let object = json(&path, &["--records", &block]);
    let records = object["records"].as_array().unwrap();
    assert!(records.len() > 10);
    for record in records {
        let (digest, checksum) = (record["digest"].as_str().unwrap(), record["checksum"].as_str().unwrap());
        assert!(
            out.lines().any(|line| line.contains(digest) && line.trim_end().ends_with(checksum)),
            "{record}"
        );
    }
}
