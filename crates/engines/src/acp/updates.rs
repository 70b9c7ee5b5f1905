//! What an agent says while it works on a prompt.

use crate::engine::{EngineEvent, Fields, FileChange, Meter, Usage, text_of};
use serde_json::Value;
use std::collections::VecDeque;

/// From here on a text is told although it goes on.
const PIECE: usize = 4000;
/// Of the last text, which may be the answer.
const MAX_TEXT: usize = 4 << 20;
const MAX_TOOLS: usize = 256;
/// Of what a tool call is called.
const MAX_ID: usize = 200;

#[derive(Debug)]
pub(super) struct Updates {
    /// What came in chunks and was not told yet, and whether it was thought.
    held: String,
    is_thought: bool,
    message: Option<String>,
    /// What was said since a tool was last used.
    last_text: String,
    tools: VecDeque<String>,
    cost: Meter,
}

impl Updates {
    pub(super) fn new(spent_micro_usd: u64) -> Self {
        let mut cost = Meter::default();
        cost.add(Usage { cost_micro_usd: Some(spent_micro_usd), ..Usage::default() });
        Self {
            held: String::new(),
            is_thought: false,
            message: None,
            last_text: String::new(),
            tools: VecDeque::new(),
            cost,
        }
    }

    pub(super) fn last_text(&self) -> &str {
        &self.last_text
    }

    /// Tells what was held back.
    pub(super) fn flush(&mut self) -> Option<EngineEvent> {
        if self.held.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.held);
        Some(if self.is_thought { EngineEvent::Reasoning { text } } else { EngineEvent::Text { text } })
    }

    pub(super) fn take(&mut self, update: &Value) -> Vec<EngineEvent> {
        match update.text("sessionUpdate") {
            Some("agent_message_chunk") => self.chunk(update, false),
            Some("agent_thought_chunk") => self.chunk(update, true),
            Some("tool_call") => {
                let mut events: Vec<EngineEvent> = self.flush().into_iter().collect();
                self.last_text.clear();
                events.push(self.tool_started(update));
                events.extend(self.tool_ended(update));
                events
            }
            Some("tool_call_update") => {
                let mut events: Vec<EngineEvent> = self.flush().into_iter().collect();
                events.extend(self.tool_ended(update));
                events
            }
            Some("usage_update") => self.cost_told(update).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn chunk(&mut self, update: &Value, is_thought: bool) -> Vec<EngineEvent> {
        let Some(text) = update.get("content").and_then(|content| content.text("text")) else { return Vec::new() };
        let message = update.text("messageId").map(str::to_owned);
        let mut events = Vec::new();
        if self.is_thought != is_thought || self.message != message || self.held.len() > PIECE {
            events.extend(self.flush());
        }
        // Another message is another answer; agents that do not number them say one only.
        if !is_thought && self.message != message {
            self.last_text.clear();
        }
        self.message = message;
        self.is_thought = is_thought;
        self.held.push_str(text);
        if !is_thought && self.last_text.len() + text.len() <= MAX_TEXT {
            self.last_text.push_str(text);
        }
        events
    }

    fn tool_started(&mut self, call: &Value) -> EngineEvent {
        let id = call.text("toolCallId").unwrap_or_default().to_owned();
        if self.tools.len() >= MAX_TOOLS {
            self.tools.pop_front();
        }
        self.tools.push_back(host::text::cut(&id, MAX_ID));
        let name = call.text("name").or_else(|| call.text("kind")).unwrap_or("other").to_owned();
        let input = call.get("rawInput").map(text_of).filter(|input| input != "{}");
        let input = input.or_else(|| call.text("title").map(str::to_owned)).unwrap_or_default();
        EngineEvent::ToolStarted { id, name, input }
    }

    fn tool_ended(&mut self, call: &Value) -> Vec<EngineEvent> {
        let ok = match call.text("status") {
            Some("completed") => true,
            Some("failed") => false,
            _ => return Vec::new(),
        };
        let id = call.text("toolCallId").unwrap_or_default().to_owned();
        let mut events = Vec::new();
        // Some agents ask for permission and then say only that it is done.
        let known = host::text::cut(&id, MAX_ID);
        if !self.tools.contains(&known) {
            events.push(self.tool_started(call));
        }
        self.tools.retain(|tool| *tool != known);
        let content = call.items("content");
        if ok {
            let diffs = content.iter().filter(|part| part.text("type") == Some("diff"));
            events.extend(diffs.filter_map(|diff| {
                let path = diff.text("path")?.to_owned();
                Some(EngineEvent::FileChanged { path, change: FileChange::Written })
            }));
        }
        let texts: Vec<&str> = content.iter().filter_map(|part| part.get("content")?.text("text")).collect();
        let output =
            if texts.is_empty() { call.get("rawOutput").map(text_of).unwrap_or_default() } else { texts.join("\n") };
        // What is said after a tool was used is another text, also where messages have no numbers.
        self.last_text.clear();
        events.push(EngineEvent::ToolFinished { id, ok, output });
        events
    }

    /// The sum for the session, in whichever currency; only one of them is counted.
    fn cost_told(&mut self, update: &Value) -> Option<EngineEvent> {
        let cost = update.get("cost")?;
        if cost.text("currency") != Some("USD") {
            return None;
        }
        let told = Usage { cost_micro_usd: Some(cost.micro_usd("amount")?), ..Usage::default() };
        let new = self.cost.advance(told);
        (!new.is_nothing()).then_some(EngineEvent::Usage(new))
    }
}
