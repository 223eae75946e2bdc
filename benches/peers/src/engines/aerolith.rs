//! Aerolith by its public API: blocking calls, or all clients as futures on one thread and its ring.
//!
//! One file of one and a half times the data, the defaults but for the read cache's size, and one bin a record.

use crate::store::{Failure, Key, Result, Settings, Store};
use crate::workload::{Client, Load, Step, Tally};
use aerolith_engine::{
    AsyncNamespace, Config, Durability, Engine, LocalRing, Namespace, NamespaceConfig, Record, Value,
    WritePolicy,
};
use futures_util::future::join_all;
use std::path::Path;

/// An open engine with its one namespace.
pub struct Aerolith {
    namespace: Namespace,
    engine: Option<Engine>,
    in_ring: bool,
}

const DURABLE: WritePolicy = WritePolicy {
    exists: aerolith_engine::Exists::Any,
    generation: aerolith_engine::Generation::Any,
    ttl: aerolith_engine::Ttl::Default,
    durability: Some(Durability::Group),
    send_key: true,
};

fn name(key: &Key) -> aerolith_engine::Result<aerolith_engine::Key<'_>> {
    Ok(aerolith_engine::Key::new("", key)?)
}

fn bytes(record: &Record) -> &[u8] {
    record.bin("v").and_then(|value| value.as_bytes()).unwrap_or_default()
}

impl Aerolith {
    /// Opens it; `in_ring`: loads of clients run as futures on one thread.
    pub fn open(dir: &Path, settings: &Settings, in_ring: bool) -> Result<Self> {
        // A record has 16 bytes of key and some 50 of its own.
        let data = settings.records * (settings.size as u64 + 80);
        let size = (data * 3 / 2).max(512 << 20).next_multiple_of(8 << 20);
        let namespace = NamespaceConfig {
            read_cache_size: settings.cache,
            ..NamespaceConfig::in_file("bench", dir.join("aerolith.data"), size)
        };
        let engine = Engine::open(Config::of(namespace))?;
        if let Some(found) = engine.recovery("bench").filter(|found| found.records > 0) {
            let way = found.checkpoint.map_or("all blocks".into(), |number| format!("checkpoint {number}"));
            eprintln!(
                "aerolith: {} records from {way}, {} of {} blocks listed, {} ms",
                found.records, found.listed_blocks, found.blocks, found.elapsed_ms
            );
        }
        Ok(Aerolith { namespace: engine.namespace("bench")?, engine: Some(engine), in_ring })
    }

    fn put_with(&self, key: &Key, value: &[u8], policy: &WritePolicy) -> Result<()> {
        self.namespace.put(&name(key)?, &[("v", Value::Bytes(value))], policy)?;
        Ok(())
    }
}

impl Store for Aerolith {
    fn load(&self, batch: &[(Key, Vec<u8>)]) -> Result<()> {
        batch.iter().try_for_each(|(key, value)| self.put(key, value))
    }

    fn put(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.put_with(key, value, &WritePolicy::default())
    }

    fn put_durable(&self, key: &Key, value: &[u8]) -> Result<()> {
        self.put_with(key, value, &DURABLE)
    }

    fn get(&self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let record = self.namespace.get(&name(key)?)?;
        record.iter().for_each(|record| see(bytes(record)));
        Ok(record.is_some())
    }

    fn flush(&self) -> Result<()> {
        Ok(self.namespace.flush()?)
    }

    fn run_as_futures(&self, load: &Load<'_>) -> Option<Result<Tally>> {
        self.in_ring.then(|| {
            let ring = LocalRing::install(512)?;
            let store = self.namespace.to_async();
            let clients = load.clients().map(|client| run(&store, client));
            let done: Result<Vec<Tally>> = ring.block_on(join_all(clients)).into_iter().collect();
            Ok(Tally::sum(done?))
        })
    }
}

async fn run(store: &AsyncNamespace, mut client: Client<'_>) -> Result<Tally> {
    while let Some(step) = client.next() {
        match step {
            Step::Get => {
                let record = store.get(&name(client.key())?).await?;
                record.iter().for_each(|record| client.see(bytes(record)));
                client.got(record.is_some())?;
            }
            Step::Put { durable } => {
                let policy = if durable { DURABLE } else { WritePolicy::default() };
                store.put(&name(client.key())?, &[("v", Value::Bytes(client.value()))], &policy).await?;
                client.has_put();
            }
        }
    }
    Ok::<Tally, Failure>(client.finish())
}

impl Drop for Aerolith {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.engine.take().map(Engine::close) {
            eprintln!("aerolith did not close: {error}");
        }
    }
}
