//! The script: rules in order, of which the first that fits and is not used up answers.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::asked::Asked;
use super::reply::Reply;
use super::rule::{Rule, Usage};

/// What a server answers.
///
/// As TOML:
///
/// ```toml
/// usage = { input = 1200, output = 34, cached = 1000, reasoning = 5 }
///
/// [[rules]]
/// when = { prompt = 'write file (\S+)', step = 0 }
/// reply = [{ text = "Writing it." }, { write = { path = "{{1}}", text = "hello\n" } }]
///
/// [[rules]]
/// when = { prompt = "slow down" }
/// times = 1
/// error = { status = 429, message = "slow down" }
/// headers = { retry-after = "1" }
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The models that a listing names.
    #[serde(default)]
    pub models: Vec<String>,
    /// What an answer costs unless its rule says otherwise.
    #[serde(default)]
    pub usage: Usage,
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What answers when no rule fits. Without it a call that offers no tools (agents ask for titles on the side) is
    /// told `ok`, and any other is refused, so that a hole in the script is seen.
    #[serde(default)]
    pub otherwise: Option<Rule>,
}

/// Why a script cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("cannot read the scenario")]
    Read(#[source] std::io::Error),
    #[error("the scenario is not understood")]
    Json(#[source] serde_json::Error),
    #[error("the scenario is not understood")]
    Toml(#[source] toml::de::Error),
}

impl Scenario {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind those that are there.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// What an answer costs unless its rule says otherwise.
    #[must_use]
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    pub fn from_json(text: &str) -> Result<Self, ScenarioError> {
        serde_json::from_str(text).map_err(ScenarioError::Json)
    }

    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        toml::from_str(text).map_err(ScenarioError::Toml)
    }

    /// Reads a file; `.json` is JSON, anything else TOML.
    pub fn load(path: &std::path::Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(ScenarioError::Read)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            Self::from_json(&text)
        } else {
            Self::from_toml(&text)
        }
    }
}

/// A scenario being played: it remembers how often each rule has answered.
#[derive(Debug)]
pub(super) struct Play {
    scenario: Scenario,
    used: Vec<u32>,
}

/// The rule that answers a request.
#[derive(Debug)]
pub(super) struct Picked {
    /// Its place among the rules; nothing for what answers when none fits.
    pub(super) index: Option<usize>,
    pub(super) rule: Rule,
    /// The prompt's match and its groups.
    pub(super) groups: Vec<String>,
}

impl Play {
    pub(super) fn new(scenario: Scenario) -> Self {
        let used = vec![0; scenario.rules.len()];
        Self { scenario, used }
    }

    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    pub(super) fn pick(&mut self, asked: &Asked, headers: &BTreeMap<String, String>, body: &str) -> Picked {
        for (index, rule) in self.scenario.rules.iter().enumerate() {
            if rule.times.is_some_and(|times| self.used[index] >= times) {
                continue;
            }
            if let Some(groups) = rule.when.groups(asked, headers, body) {
                self.used[index] += 1;
                return Picked { index: Some(index), rule: rule.clone(), groups };
            }
        }
        let rule = match &self.scenario.otherwise {
            Some(rule) => rule.clone(),
            None if asked.tools.is_empty() => Rule::always().reply([Reply::text("ok")]),
            None => Rule::always().fail(400, "no rule of the scenario fits this request"),
        };
        Picked { index: None, rule, groups: Vec::new() }
    }
}
