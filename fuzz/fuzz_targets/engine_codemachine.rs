//! What `codemachine` prints.
#![no_main]

use engines::Engine;
use pilothouse_fuzz::read_stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| read_stream(Engine::CodeMachine, data));
