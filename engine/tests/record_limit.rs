//! The largest record: what `record_limit` says is stored, and one byte more is an error, never a panic.

use aerolith_engine::{Bin, Config, Engine, Error, Key, NamespaceConfig, WritePolicy};

#[test]
fn a_record_at_the_limit_is_stored_and_one_above_is_refused() {
    for block_size in [16 << 10, 128 << 10, 8 << 20, 64 << 20] {
        let namespace =
            NamespaceConfig { block_size, ..NamespaceConfig::in_memory("test", 12 * u64::from(block_size)) };
        let engine = Engine::open(Config::of(namespace)).unwrap();
        let test = engine.namespace("test").unwrap();
        let key = Key::new("s", "k").unwrap();
        let bytes = vec![1; block_size as usize];
        let put = |size: usize| {
            let bins: [Bin<'_>; 1] = [("v", bytes[..size].into())];
            test.put(&key, &bins, &WritePolicy::default())
        };
        put(1).unwrap();
        let fixed = test.get(&key).unwrap().unwrap().size() - 1;
        let limit = test.record_limit();
        assert!(limit > block_size / 4, "{block_size}: {limit}");
        let largest = (limit - fixed) as usize;
        for size in [largest - largest / 100, largest - 9000.min(largest / 2), largest - 1, largest] {
            put(size).unwrap_or_else(|error| panic!("{block_size}, {size}: {error}"));
        }
        assert_eq!(test.get(&key).unwrap().unwrap().size(), limit);
        for size in [largest + 1, largest + 4096, block_size as usize] {
            assert!(matches!(put(size), Err(Error::TooLarge { .. })), "{block_size}, {size}");
        }
        engine.close().unwrap();
    }
}
