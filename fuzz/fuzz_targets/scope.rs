//! Scopes of tokens and principals of policies.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::names::scope(text));
