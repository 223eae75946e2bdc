//! The largest record: whatever the block size, it is stored, and one byte more is refused.

use aerolith_engine::{
    Config, DeviceConfig, Engine, Error, Key, ManualClock, NamespaceConfig, Value, WritePolicy,
};
use aerolith_tests::START;
use std::sync::Arc;

#[test]
fn a_record_of_every_size_around_the_limit_is_stored_or_refused() {
    for power in 14..27 {
        let block_size = 1_u32 << power;
        let config = NamespaceConfig {
            devices: vec![DeviceConfig::Memory { size: u64::from(block_size) * 24 }],
            block_size,
            read_cache_size: 0,
            ..NamespaceConfig::default()
        };
        let clock = Arc::new(ManualClock::at(START));
        let mut engine = Engine::open_by_hand(Config::of(config), clock, 1).expect("the engine opens");
        let store = engine.namespace("test").expect("it is configured");
        let key = Key::new("", 1).expect("a good key");
        let limit = store.record_limit() as usize;
        let overhead = 64 + 8 + 6 + 1;
        for size in [limit - 4096, limit - 17, limit - 1, limit, limit + 1, limit + 4096] {
            let value = vec![7_u8; size - overhead];
            let put = store.put(&key, &[("b", Value::Bytes(&value))], &WritePolicy::default());
            match put {
                Ok(_) => {
                    assert!(size <= limit, "{size} bytes in blocks of {block_size}, limit {limit}");
                    let record = store.get(&key).expect("it reads").expect("it was just written");
                    assert_eq!(record.size() as usize, size);
                }
                Err(Error::TooLarge { .. }) => assert!(size > limit, "{size} bytes, limit {limit}"),
                Err(error) => panic!("{size} bytes in blocks of {block_size}: {error}"),
            }
            while engine.step() {}
        }
    }
}
