//! Messages of people.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::written::message(text));
