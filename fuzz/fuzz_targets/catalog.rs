//! Catalogs of jobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| promises::written::catalog(text));
