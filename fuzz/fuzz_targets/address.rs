//! Addresses of repositories.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::names::address(text));
