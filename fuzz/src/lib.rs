//! What the targets share: how one input becomes a stream that is cut, or one side of a conversation.
//!
//! What has to hold is said in `promises` and in `engines::fuzzed`, where the seeded tests ask the same.

use engines::{Engine, fuzzed};

/// Reads a stream that an engine may have printed, as a whole and in two pieces. Where it is cut and whether an answer
/// is wanted follow from the input, so that a recording is a seed as it is.
pub fn read_stream(engine: Engine, data: &[u8]) {
    let sum = sum(data);
    let cut = sum % (data.len() + 1);
    fuzzed::stream(engine, sum & 1 == 1, data, &[cut]);
}

/// Talks with an agent that says this. In a recording of both directions, what the agent said begins with `< `.
pub fn talk(said: &str) {
    let lines = said.lines().filter(|line| !line.starts_with("> "));
    let said: String = lines.map(|line| format!("{}\n", line.strip_prefix("< ").unwrap_or(line))).collect();
    let mut choices = sum(said.as_bytes());
    let mut choose = || {
        choices = choices.rotate_right(1);
        choices & 1 == 1
    };
    let (resumes, reads_only) = (choose(), choose());
    fuzzed::conversation(&said, resumes, reads_only, choose);
}

fn sum(data: &[u8]) -> usize {
    data.iter().fold(0, |sum: usize, &byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)))
}
