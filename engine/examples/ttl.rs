//! Records that leave by themselves: a time to live, keeping it over an update, taking it away.
//!
//! `cargo run --release -p aerolith-engine --example ttl`

use aerolith_engine::{Config, Engine, Key, Namespace, NamespaceConfig, Result, Ttl, WritePolicy};
use std::thread::sleep;
use std::time::Duration;

fn main() -> Result<()> {
    let dir = tempfile::tempdir().expect("a directory for the example");
    let mut namespace = NamespaceConfig::in_file("test", dir.path().join("ttl.data"), 256 << 20);
    // What `Ttl::Default` means here. Without this, records stay until they are deleted.
    namespace.default_ttl = Some(Duration::from_secs(3600));
    // Nobody is ever given an expired record. This is only how often the space of those is taken back.
    namespace.expiry_period = Some(Duration::from_secs(1));
    let engine = Engine::open(Config::of(namespace))?;
    let test = engine.namespace("test")?;

    let session = Key::new("sessions", "4711")?;
    let soon = WritePolicy::with_ttl(Ttl::For(Duration::from_millis(1500)));
    test.put(&session, &[("user", "ada".into())], &soon)?;
    tell(&test, "written with 1.5 s to live", &session)?;

    // An update starts the time anew, unless it asks to keep what is left.
    test.merge(&session, &[("page", "/home".into())], &WritePolicy::with_ttl(Ttl::Keep))?;
    tell(&test, "updated, keeping its time", &session)?;

    let config = Key::new("settings", "theme")?;
    test.put(&config, &[("dark", 1.into())], &WritePolicy::default())?;
    tell(&test, "written with the default", &config)?;
    // `touch` changes when a record expires, and nothing else.
    test.touch(&config, &WritePolicy::with_ttl(Ttl::Never))?;
    tell(&test, "touched: never", &config)?;

    println!("waiting 2 s");
    sleep(Duration::from_secs(2));
    tell(&test, "afterwards", &session)?;
    tell(&test, "afterwards", &config)?;
    assert!(test.get(&session)?.is_none() && test.get(&config)?.is_some());
    engine.close()
}

/// What the index knows of a record, without a device read.
fn tell(test: &Namespace, what: &str, key: &Key<'_>) -> Result<()> {
    let life = match test.exists(key)? {
        None => "is not there".to_owned(),
        Some(found) => match found.expires_at {
            None => "never expires".to_owned(),
            Some(at) => format!("expires at {} ms since 1970, rounded up to the second", at.0),
        },
    };
    println!("{}, {what}: {life}", key.set());
    Ok(())
}
