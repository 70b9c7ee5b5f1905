//! Specs of protocols.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| promises::written::spec(text));
