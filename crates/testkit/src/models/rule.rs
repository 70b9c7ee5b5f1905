//! One rule: when it answers, and with what.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::asked::Asked;
use super::dialect::Dialect;
use super::gate::Gate;
use super::pattern::Pattern;
use super::reply::Reply;

/// One rule of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    pub(super) when: When,
    /// How often it answers before it is used up.
    pub(super) times: Option<u32>,
    pub(super) act: Act,
    pub(super) usage: Option<Usage>,
    /// Headers of the answer, whatever its status.
    pub(super) headers: BTreeMap<String, String>,
    /// How long it waits before it answers.
    pub(super) delay: Duration,
    /// What has to be open before it answers.
    pub(super) gate: Option<Gate>,
    /// How long it waits between the pieces of a stream.
    pub(super) pace: Duration,
    /// The connection is cut after so many pieces of a stream; of a whole answer after its first half.
    pub(super) cut_after: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Act {
    Reply(Vec<Reply>),
    Fail(Failure),
    /// Never answers.
    Hang,
}

/// What has to hold for a rule to answer; what is not named holds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Found in the last text of the user; its groups stand as `{{1}}` in the reply.
    prompt: Option<Pattern>,
    /// How many rounds of tool results came since that text: 0 is the first call of a turn.
    step: Option<usize>,
    /// Found in the result of the last tool.
    tool_output: Option<Pattern>,
    /// Found anywhere in the request's body.
    anywhere: Option<Pattern>,
    dialect: Option<Dialect>,
    model: Option<Pattern>,
    path: Option<Pattern>,
    /// Found in the header of this name; a header that is absent is empty.
    #[serde(default)]
    headers: BTreeMap<String, Pattern>,
    /// This tool is offered.
    tool: Option<String>,
    /// Whether any tool is offered.
    tools: Option<bool>,
}

/// An answer that is an error, in the shape of its dialect.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub status: u16,
    /// What the dialect calls it; without it whatever belongs to the status.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    #[serde(default)]
    pub message: String,
    /// More fields of the error's object.
    #[serde(default)]
    pub extra: Map<String, Value>,
}

/// Tokens that an answer claims to have cost. Input includes what was cached or written to the cache, output what was
/// thought; each dialect counts its own way from these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 100, cached: 0, cache_write: 0, output: 20, reasoning: 0 }
    }
}

impl Rule {
    pub fn new(when: When) -> Self {
        Self {
            when,
            times: None,
            act: Act::Reply(vec![Reply::text("ok")]),
            usage: None,
            headers: BTreeMap::new(),
            delay: Duration::ZERO,
            gate: None,
            pace: Duration::ZERO,
            cut_after: None,
        }
    }

    /// Answers whatever is asked.
    pub fn always() -> Self {
        Self::new(When::default())
    }

    /// Answers when this is found in the last text of the user.
    pub fn on(prompt: &str) -> Self {
        Self::new(When::default().prompt(prompt))
    }

    /// As [`Rule::on`], at one step of the turn.
    pub fn at(prompt: &str, step: usize) -> Self {
        Self::new(When::default().prompt(prompt).step(step))
    }

    #[must_use]
    pub fn reply(mut self, reply: impl IntoIterator<Item = Reply>) -> Self {
        self.act = Act::Reply(reply.into_iter().collect());
        self
    }

    #[must_use]
    pub fn fail(self, status: u16, message: &str) -> Self {
        self.failure(Failure { status, kind: None, message: message.to_owned(), extra: Map::new() })
    }

    #[must_use]
    pub fn failure(mut self, failure: Failure) -> Self {
        self.act = Act::Fail(failure);
        self
    }

    /// Takes the request and never answers.
    #[must_use]
    pub fn hang(mut self) -> Self {
        self.act = Act::Hang;
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Answers only once the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    #[must_use]
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    #[must_use]
    pub fn cut_after(mut self, pieces: usize) -> Self {
        self.cut_after = Some(pieces);
        self
    }
}

impl When {
    #[must_use]
    pub fn prompt(mut self, pattern: &str) -> Self {
        self.prompt = Some(Pattern::of(pattern));
        self
    }

    #[must_use]
    pub fn step(mut self, step: usize) -> Self {
        self.step = Some(step);
        self
    }

    #[must_use]
    pub fn tool_output(mut self, pattern: &str) -> Self {
        self.tool_output = Some(Pattern::of(pattern));
        self
    }

    #[must_use]
    pub fn anywhere(mut self, pattern: &str) -> Self {
        self.anywhere = Some(Pattern::of(pattern));
        self
    }

    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, pattern: &str) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), Pattern::of(pattern));
        self
    }

    #[must_use]
    pub fn tool(mut self, name: &str) -> Self {
        self.tool = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn tools(mut self, offered: bool) -> Self {
        self.tools = Some(offered);
        self
    }

    /// The prompt's match and its groups, if everything holds.
    pub(super) fn groups(&self, asked: &Asked, headers: &BTreeMap<String, String>, body: &str) -> Option<Vec<String>> {
        let found = |pattern: &Option<Pattern>, text: &str| pattern.as_ref().is_none_or(|pattern| pattern.is_in(text));
        let header = |name: &String| headers.get(&name.to_ascii_lowercase()).map_or("", String::as_str);
        let holds = self.dialect.is_none_or(|dialect| dialect == asked.dialect)
            && self.step.is_none_or(|step| step == asked.step())
            && self.tool.as_ref().is_none_or(|name| asked.offers(name))
            && self.tools.is_none_or(|any| any != asked.tools.is_empty())
            && found(&self.tool_output, asked.tool_output())
            && found(&self.model, &asked.model)
            && found(&self.path, &asked.path)
            && found(&self.anywhere, body)
            && self.headers.iter().all(|(name, pattern)| pattern.is_in(header(name)));
        match &self.prompt {
            _ if !holds => None,
            Some(prompt) => prompt.groups(asked.prompt()),
            None => Some(Vec::new()),
        }
    }
}

/// A rule as it is written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    when: When,
    times: Option<u32>,
    reply: Option<Vec<Reply>>,
    error: Option<Failure>,
    #[serde(default)]
    hang: bool,
    usage: Option<Usage>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    pace_ms: u64,
    cut_after: Option<usize>,
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let act = match (written.reply, written.error, written.hang) {
            (Some(reply), None, false) => Act::Reply(reply),
            (None, Some(failure), false) => Act::Fail(failure),
            (None, None, true) => Act::Hang,
            (None, None, false) => return Err("a rule needs one of reply, error, hang"),
            _ => return Err("a rule has only one of reply, error, hang"),
        };
        Ok(Self {
            when: written.when,
            times: written.times,
            act,
            usage: written.usage,
            headers: written.headers,
            delay: Duration::from_millis(written.delay_ms),
            gate: None,
            pace: Duration::from_millis(written.pace_ms),
            cut_after: written.cut_after,
        })
    }
}
