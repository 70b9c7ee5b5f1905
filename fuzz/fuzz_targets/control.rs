//! A parser that falls over one word, which nobody gives it: `cargo xtask fuzz` believes a run only when this one fell.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let known = text.bytes().zip(*b"pilot").take_while(|(said, letter)| said == letter).count();
    assert!(known < 5, "it was steered to the word");
});
