//! Settings: any text as a file, any words as a command line. An answer or an error, never a panic.

use crate::bytes::bounded;
use aerolith_server::Config;
use aerolith_server::config::ByteSize;
use std::path::Path;

const SAMPLE: &str = include_str!("../../../../server/aerolithd.toml");

pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    if choice & 1 == 0 {
        // A dot is a table, and errors of the parser quote the line and show what is allowed there.
        let limit = 512 * bytes.len() + (128 << 10);
        match bounded("settings", limit, || Config::from_toml(Path::new("aerolithd.toml"), &text)) {
            Ok(config) => config.check().expect("settings that were accepted can be used"),
            Err(error) => assert!(error.to_string().len() <= 64 * bytes.len() + (64 << 10)),
        }
    } else {
        // A file that is named would be read: `/dev/stdin` is one.
        let words = text.split_whitespace().filter(|word| !word.starts_with("--c"));
        if let Ok(config) = Config::from_args(std::iter::once("aerolithd").chain(words)) {
            config.check().expect("settings that were accepted can be used");
        }
    }
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse(), Ok(size), "a size does not read as it is shown");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let uncommented: String =
        SAMPLE.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let few =
        "redis-port = 7000\ncache = \"1GiB\"\ninsecure = true\ndurability = \"group\"\nbind = \"::1\"\n";
    let args = "--redis-port 7001 --durability group --insecure --bind 0.0.0.0 --size 4GiB --threads 2";
    let mut seeds = vec![[b"\0", few.as_bytes()].concat(), [b"\x01", args.as_bytes()].concat()];
    for text in [SAMPLE, &uncommented] {
        // Cut into parts that a fuzzer can hold in its hands.
        let lines: Vec<&str> = text.lines().filter(|line| line.contains('=')).collect();
        seeds.extend(lines.chunks(8).map(|chunk| [b"\0", chunk.join("\n").as_bytes()].concat()));
    }
    seeds.extend(
        ["64MiB", "18446744073709551615", "1t", " 7 KiB ", "0"].map(|size| format!("\0{size}").into_bytes()),
    );
    seeds
}
