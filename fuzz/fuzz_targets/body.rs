//! Bodies of requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| promises::bodies::body(text));
