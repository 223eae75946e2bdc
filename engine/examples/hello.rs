//! The whole of it in one page: open a file, write a record, read it back, change it, find it after a restart.
//!
//! `cargo run --release -p aerolith-engine --example hello`

use aerolith_engine::{Config, Engine, Key, NamespaceConfig, Result, WritePolicy};

fn main() -> Result<()> {
    // The file and its directory go when `dir` does.
    let dir = tempfile::tempdir().expect("a directory for the example");
    let file = dir.path().join("hello.data");
    // A sparse file of 256 MiB: it takes no space on the disk until records need it.
    let config = || Config::of(NamespaceConfig::in_file("test", &file, 256 << 20));
    let policy = WritePolicy::default();

    let engine = Engine::open(config())?;
    let test = engine.namespace("test")?;

    // A record is named by its set and its key, and has bins: names with typed values.
    let ada = Key::new("users", "ada")?;
    let written = test.put(&ada, &[("name", "Ada Lovelace".into()), ("born", 1815.into())], &policy)?;
    println!("wrote users/ada: generation {}, {} bytes", written.generation, written.stored_size);

    // `put` replaces a record whole, `merge` only the bins it names.
    let merged = test.merge(&ada, &[("died", 1852.into())], &policy)?;
    println!("added a bin: generation {}", merged.generation);

    // What the index knows costs no read.
    assert!(test.exists(&ada)?.is_some());
    assert!(test.get(&Key::new("users", "charles")?)?.is_none());

    // Closing puts everything on the device, and the next opening finds it there. A handle could still read,
    // so the file is in use until the last one is gone.
    engine.close()?;
    drop(test);
    let engine = Engine::open(config())?;
    let found = engine.recovery("test").expect("it is configured");
    println!("opened again: {} record back in {} ms", found.records, found.elapsed_ms);

    let test = engine.namespace("test")?;
    let record = test.get(&ada)?.expect("it was there before the restart");
    for (name, value) in record.bins() {
        println!("  {name} = {value:?}");
    }

    assert!(test.delete(&ada, &policy)?);
    println!("deleted users/ada: {} records are left", test.stats().objects);
    engine.close()
}
