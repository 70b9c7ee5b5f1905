//! What an agent says that speaks ACP.
#![no_main]

libfuzzer_sys::fuzz_target!(|said: &str| pilothouse_fuzz::talk(said));
