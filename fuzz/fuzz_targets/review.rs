//! Reviews that engines answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| promises::written::review(text));
