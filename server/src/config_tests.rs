//! Settings: who beats whom, what is refused, and the sample file held to the code.

use super::*;

const SAMPLE: &str = include_str!("../aerolithd.toml");

fn with_file(text: &str, args: &[&str]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aerolithd.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    Config::from_args(["aerolithd", "--config", path].iter().chain(args))
}

#[test]
fn command_line_beats_file_beats_default() {
    let file = "redis-port = 7000\ncache = \"1GiB\"\ninsecure = true\n";
    let config = with_file(file, &["--redis-port", "7001", "--durability", "group"]).unwrap();
    assert_eq!((config.redis_port, config.cache), (7001, ByteSize(1 << 30)));
    assert_eq!((config.durability, config.size), (Durability::Group, ByteSize(4 << 30)));
    assert!(config.insecure);
    assert!(!with_file(file, &["--insecure", "false"]).unwrap().insecure);
}

#[test]
fn an_unknown_name_is_named_with_its_line_and_what_is_allowed() {
    let error = with_file("cache = 1\nredis-prot = 1\n", &[]).unwrap_err().to_string();
    for part in ["line 2", "redis-prot", "redis-port", "write-cache"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    let error = with_file("cache = \"many\"\n", &[]).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("64MiB"), "{error}");
}

#[test]
fn beyond_loopback_needs_insecure() {
    let error = Config::from_args(["aerolithd", "--bind", "0.0.0.0"]).unwrap_err().to_string();
    assert!(error.contains("--insecure") && error.contains("no authentication"), "{error}");
    assert!(Config::from_args(["aerolithd", "--bind", "0.0.0.0", "--insecure"]).is_ok());
    assert!(Config::from_args(["aerolithd", "--bind", "::1"]).is_ok());
}

#[test]
fn sizes_read_and_print() {
    for (text, bytes) in [("1", 1), ("4GiB", 4 << 30), ("64 mib", 64 << 20), ("2t", 2 << 40), ("3KB", 3072)] {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)));
    }
    for text in ["", "GiB", "-1", "1.5GiB", "1 x", "99999999999TiB"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
    assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
    assert_eq!(ByteSize(1000).to_string(), "1000");
}

#[test]
fn the_sample_file_shows_every_setting_at_its_default() {
    let settings: Vec<&str> = SAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("#"))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let uncommented = settings.join("\n");
    let mut config = Config::default().overlay(toml::from_str(&uncommented).unwrap());
    let names: Vec<String> =
        settings.iter().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect();
    let expected: Vec<String> = Config::default().shown().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, expected, "aerolithd.toml must list all settings in the order of config.rs");
    // The number of cores is the machine's.
    config.threads = Config::default().threads;
    assert_eq!(config, Config::default());
    assert_eq!(Config::default().overlay(toml::from_str(SAMPLE).unwrap()), Config::default());
}
