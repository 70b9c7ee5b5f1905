//! The name that a request is addressed to. It is built of the server's own files, without the server.
#![no_main]

#[expect(dead_code, reason = "there is a target for each")]
#[path = "../../crates/server/src/fuzzed.rs"]
mod fuzzed;
#[path = "../../crates/server/src/written.rs"]
mod written;

libfuzzer_sys::fuzz_target!(|text: &str| fuzzed::host(text));
