//! libFuzzer over one target, the one that `AEROLITH_FUZZ_TARGET` names. `tests/fuzz/run` builds and starts it.

#![no_main]

use aerolith_fuzz::{Target, named};
use std::sync::OnceLock;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("AEROLITH_FUZZ_TARGET").unwrap_or_default();
        let target = named(&name).unwrap_or_else(|| panic!("AEROLITH_FUZZ_TARGET={name}: no such target"));
        TARGET.set(target).ok().expect("libFuzzer begins once");
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
