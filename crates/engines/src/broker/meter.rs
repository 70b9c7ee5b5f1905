//! What a model's answer says was used up, read from the wire in the four dialects that models speak.
//!
//! Memory is bounded: a line or a document that is too long is passed on unread, and its call counts as unmetered.

use crate::engine::Usage;
use serde_json::Value;

const MAX_LINE: usize = 8 << 20;
const MAX_WHOLE: usize = 32 << 20;

/// Reads one answer as it comes, without any transfer coding.
#[derive(Debug)]
pub(super) struct Meter {
    is_stream: bool,
    held: Vec<u8>,
    skipping: bool,
    usage: Usage,
}

impl Meter {
    /// `is_stream`: it comes as server-sent events, else as one document.
    pub(super) fn new(is_stream: bool) -> Self {
        Self { is_stream, held: Vec::new(), skipping: false, usage: Usage::default() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if !self.is_stream {
            self.hold(bytes, MAX_WHOLE);
            return;
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.hold(piece, MAX_LINE);
            if piece.ends_with(b"\n") {
                if !std::mem::take(&mut self.skipping) {
                    let line = std::mem::take(&mut self.held);
                    self.line(&line);
                }
                self.held.clear();
            }
        }
    }

    fn hold(&mut self, bytes: &[u8], most: usize) {
        if self.skipping || self.held.len() + bytes.len() > most {
            self.skipping = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        if let Ok(event) = serde_json::from_slice(data) {
            self.take(&event);
        }
    }

    /// What was used, once all of the answer was fed; `None` when it did not say.
    pub(super) fn finish(mut self) -> Option<Usage> {
        if !self.skipping && !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            match (self.is_stream, serde_json::from_slice::<Value>(&held)) {
                (true, _) => self.line(&held),
                (false, Ok(Value::Array(parts))) => parts.iter().for_each(|part| self.take(part)),
                (false, Ok(whole)) => self.take(&whole),
                (false, Err(_)) => {}
            }
        }
        // One that was cut off has said what it was asked, and not what it answered.
        (self.usage.input_tokens.is_some() && self.usage.output_tokens.is_some()).then_some(self.usage)
    }

    /// Later words replace earlier ones: every dialect counts up within one answer.
    fn take(&mut self, said: &Value) {
        let kind = said.get("type").and_then(Value::as_str).unwrap_or_default();
        if let Some(usage) = said.get("usageMetadata") {
            return self.gemini(usage);
        }
        match kind {
            "response.completed" | "response.incomplete" | "response.failed" => {
                if let Some(usage) = said.pointer("/response/usage") {
                    self.openai(usage, "input", "output");
                }
            }
            "message_start" => {
                if let Some(usage) = said.pointer("/message/usage") {
                    self.anthropic(usage);
                    // A first guess, which is 1: the end is told with the last delta.
                    self.usage.output_tokens = None;
                }
            }
            "message_delta" | "message" => {
                if let Some(usage) = said.get("usage") {
                    self.anthropic(usage);
                }
            }
            _ => match said.get("usage") {
                Some(usage) if usage.get("prompt_tokens").is_some() => self.openai(usage, "prompt", "completion"),
                Some(usage) if usage.get("input_tokens").is_some() => self.openai(usage, "input", "output"),
                Some(_) | None => {}
            },
        }
    }

    fn openai(&mut self, usage: &Value, input: &str, output: &str) {
        let count = |path: String| usage.pointer(&path).and_then(Value::as_u64);
        self.usage = Usage {
            input_tokens: count(format!("/{input}_tokens")),
            cached_tokens: count(format!("/{input}_tokens_details/cached_tokens")),
            cache_write_tokens: None,
            output_tokens: count(format!("/{output}_tokens")),
            reasoning_tokens: count(format!("/{output}_tokens_details/reasoning_tokens")),
            cost_micro_usd: None,
        };
    }

    /// Its input leaves out what came from a cache or went into one; ours has all of it.
    fn anthropic(&mut self, usage: &Value) {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        if let Some(input) = count("input_tokens") {
            let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
            let all = input.saturating_add(read.unwrap_or(0)).saturating_add(written.unwrap_or(0));
            // A delta may repeat less than the beginning said.
            if self.usage.input_tokens.is_none_or(|known| all >= known) {
                self.usage.input_tokens = Some(all);
                self.usage.cached_tokens = read;
                self.usage.cache_write_tokens = written;
            }
        }
        self.usage.output_tokens = count("output_tokens").or(self.usage.output_tokens);
    }

    fn gemini(&mut self, usage: &Value) {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let thoughts = count("thoughtsTokenCount");
        let written = count("candidatesTokenCount");
        self.usage = Usage {
            input_tokens: count("promptTokenCount").or(self.usage.input_tokens),
            cached_tokens: count("cachedContentTokenCount").or(self.usage.cached_tokens),
            cache_write_tokens: None,
            output_tokens: match (written, thoughts) {
                (None, None) => self.usage.output_tokens,
                (written, thoughts) => Some(written.unwrap_or(0).saturating_add(thoughts.unwrap_or(0))),
            },
            reasoning_tokens: thoughts.or(self.usage.reasoning_tokens),
            cost_micro_usd: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(is_stream: bool, text: &str, cut: usize) -> Option<Usage> {
        let mut meter = Meter::new(is_stream);
        text.as_bytes().chunks(cut).for_each(|piece| meter.feed(piece));
        meter.finish()
    }

    fn used(input: u64, cached: u64, output: u64) -> Usage {
        Usage {
            input_tokens: Some(input),
            cached_tokens: Some(cached),
            output_tokens: Some(output),
            ..Usage::default()
        }
    }

    const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
        data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1200,\"input_tokens_details\":{\"cached_tokens\":1000},\
        \"output_tokens\":34,\"output_tokens_details\":{\"reasoning_tokens\":5}}}}\n\n";
    const MESSAGES: &str = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":200,\"cache_read_input_tokens\":1000,\
        \"cache_creation_input_tokens\":7,\"output_tokens\":1}}}\r\n\r\n\
        data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":34}}\n\n";
    const CHAT: &str = "data: {\"choices\":[],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1200,\
        \"prompt_tokens_details\":{\"cached_tokens\":1000},\"completion_tokens\":34}}\n\ndata: [DONE]\n\n";
    const GEMINI: &str = "data: {\"usageMetadata\":{\"promptTokenCount\":1200}}\n\ndata: {\"usageMetadata\":{\"promptTokenCount\":1200,\
        \"cachedContentTokenCount\":1000,\"candidatesTokenCount\":30,\"thoughtsTokenCount\":4}}\n\n";

    #[test]
    fn every_dialect_says_what_it_used_wherever_it_is_cut() {
        for cut in [1, 7, 64, 10_000] {
            let thought = |n| Usage { reasoning_tokens: Some(n), ..used(1200, 1000, 34) };
            assert_eq!(read(true, RESPONSES, cut), Some(thought(5)));
            let written = Usage { cache_write_tokens: Some(7), ..used(1207, 1000, 34) };
            assert_eq!(read(true, MESSAGES, cut), Some(written));
            assert_eq!(read(true, CHAT, cut), Some(used(1200, 1000, 34)));
            assert_eq!(read(true, GEMINI, cut), Some(thought(4)));
        }
        let whole = r#"{"type":"message","usage":{"input_tokens":3,"output_tokens":2}}"#;
        assert_eq!(read(false, whole, 5).unwrap().output_tokens, Some(2));
        let whole = r#"{"object":"response","usage":{"input_tokens":3,"output_tokens":2}}"#;
        assert_eq!(read(false, whole, 5).unwrap().input_tokens, Some(3));
    }

    #[test]
    fn an_answer_that_was_cut_off_or_says_nothing_is_unmetered() {
        assert_eq!(read(true, &MESSAGES[..MESSAGES.find("data: {\"type\":\"message_delta").unwrap()], 9), None);
        assert_eq!(read(true, &RESPONSES[..100], 9), None);
        assert_eq!(read(true, "data: {\"choices\":[]}\n\n", 9), None);
        assert_eq!((read(false, "", 1), read(false, "[1, {}]", 3), read(false, "{", 3)), (None, None, None));
        let endless = format!("data: \"{}\"\n{CHAT}", "x".repeat(MAX_LINE));
        assert_eq!(read(true, &endless, 65_536), Some(used(1200, 1000, 34)));
    }
}
