//! Cursors of lists.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::names::cursor(text));
