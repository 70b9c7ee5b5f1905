//! Files of the configuration, and variables that say the same. It is built of the binary's own files, without all that
//! the binary needs besides.
#![no_main]

#[path = "../../crates/pilothouse/src/causes.rs"]
mod causes;

#[expect(dead_code, reason = "the binary uses the rest")]
#[path = "../../crates/pilothouse/src/config"]
mod config {
    pub(crate) mod fuzzed;
    pub(crate) mod keys;
    pub(crate) mod layers;
    mod setting;
    pub(crate) mod value;

    pub(crate) use setting::{ConfigError, Setting};
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    config::fuzzed::file(text);
    config::fuzzed::variable(text);
});
