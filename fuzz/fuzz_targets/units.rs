//! Spans, sizes, instants and templates.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::names::units(text));
