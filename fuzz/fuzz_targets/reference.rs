//! References that people type.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::names::reference(text));
