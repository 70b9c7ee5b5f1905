//! Names in git, of branches, refs, protocols and objects, and paths of repositories.
#![no_main]

use promises::names;

libfuzzer_sys::fuzz_target!(|text: &str| {
    names::name(text);
    names::object(text);
});
