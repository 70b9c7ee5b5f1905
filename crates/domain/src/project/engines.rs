//! Which engine does what: what a project names by phase, and what a step names for itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::{MAX_FALLBACKS, QaPolicy, StepSpec};

/// Which engine does what, unless a step names another. `None`: no engine, so that phase fails; without one for QA
/// nothing is reviewed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engines {
    pub planning: Option<EngineChoice>,
    pub execution: Option<EngineChoice>,
    pub qa: Option<EngineChoice>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineChoice {
    /// Such as `scripted` or `shell`.
    pub id: String,
    /// The scenario that the scripted engine plays.
    #[serde(default)]
    pub scenario: Option<String>,
    /// The engines that are tried after it, in this order, when one cannot be had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<NamedEngine>,
}

/// An engine by its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedEngine {
    pub id: String,
    /// The scenario that the scripted engine plays.
    #[serde(default)]
    pub scenario: Option<String>,
}

/// The engines for a piece of work, in the order in which they are tried; each once. Empty: there is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line(Vec<NamedEngine>);

/// Who looks at a result once every command has passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reviewer {
    /// The commands decide alone.
    Nobody,
    /// The step asks for a review, and nobody says by whom.
    Unnamed,
    Engines(Line),
}

impl Engines {
    /// Who plans.
    pub fn for_planning(&self) -> Line {
        Line::of(None, &[], self.planning.as_ref())
    }

    /// Who executes a step.
    pub fn for_execution(&self, step: &StepSpec) -> Line {
        Line::of(step.engine_id.as_deref(), &step.fallback, self.execution.as_ref())
    }

    /// Who reviews a step's result: whom the step names, else the project's reviewer for steps that are checked in full
    /// or ask for a review themselves.
    pub fn reviewer(&self, step: &StepSpec) -> Reviewer {
        let asked = step.asks_for_review();
        let wanted = match step.qa_policy() {
            QaPolicy::Skip => false,
            QaPolicy::Light => asked,
            QaPolicy::Full => true,
        };
        let qa = step.qa.as_ref();
        let fallback = qa.map_or(&[][..], |qa| &qa.fallback);
        let line = Line::of(qa.and_then(|qa| qa.engine_id.as_deref()), fallback, self.qa.as_ref());
        match (wanted, line.first().is_some()) {
            (true, true) => Reviewer::Engines(line),
            (true, false) if asked => Reviewer::Unnamed,
            (true | false, _) => Reviewer::Nobody,
        }
    }
}

impl EngineChoice {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), scenario: None, fallback: Vec::new() }
    }

    /// What is wrong with it: a key beneath it, and a sentence.
    pub(super) fn problem(&self) -> Option<(String, &'static str)> {
        if self.fallback.len() > MAX_FALLBACKS {
            return Some((".fallback".to_owned(), "at most 4 engines to fall back on"));
        }
        let own = (String::new(), &self.id, &self.scenario);
        let others = (0..)
            .zip(&self.fallback)
            .map(|(n, other): (u32, _)| (format!(".fallback[{n}]"), &other.id, &other.scenario));
        let mut known = BTreeSet::new();
        for (key, id, scenario) in std::iter::once(own).chain(others) {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
                return Some((format!("{key}.id"), "an engine's id has letters, digits, `-`, `_` and `.`"));
            }
            let hidden = |c: char| c.is_control() || crate::text::is_hidden(c);
            if scenario.as_deref().is_some_and(|path| !path.starts_with('/') || path.chars().any(hidden)) {
                return Some((format!("{key}.scenario"), "a scenario is an absolute path"));
            }
            if !known.insert(id) {
                return Some((format!("{key}.id"), "named before: an engine is tried once"));
            }
        }
        None
    }
}

impl NamedEngine {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), scenario: None }
    }
}

impl Line {
    /// The engine that is named for a piece of work, else the one that is configured, and those behind it. A name that is
    /// configured has what is configured for it.
    fn of(own: Option<&str>, fallback: &[String], configured: Option<&EngineChoice>) -> Self {
        let known: Vec<NamedEngine> = configured
            .iter()
            .map(|choice| NamedEngine { id: choice.id.clone(), scenario: choice.scenario.clone() })
            .chain(configured.iter().flat_map(|choice| choice.fallback.iter().cloned()))
            .collect();
        let named = |id: &str| known.iter().find(|one| one.id == id).cloned().unwrap_or_else(|| NamedEngine::new(id));
        let first = own.map(named).or_else(|| known.first().cloned());
        let is_configured = first.as_ref().map(|one| &one.id) == known.first().map(|one| &one.id);
        let behind: Vec<NamedEngine> = match fallback.is_empty() {
            false => fallback.iter().map(|id| named(id)).collect(),
            true if is_configured => known.into_iter().skip(1).collect(),
            true => Vec::new(),
        };
        let mut line = Self::default();
        for one in first.into_iter().chain(behind) {
            if line.find(&one.id).is_none() {
                line.0.push(one);
            }
        }
        line
    }

    pub fn first(&self) -> Option<&NamedEngine> {
        self.0.first()
    }

    /// The first that was not tried.
    pub fn next(&self, tried: &[String]) -> Option<&NamedEngine> {
        self.0.iter().find(|one| !tried.contains(&one.id))
    }

    /// The first that was not tried; once all were, the first of all.
    pub fn next_or_first(&self, tried: &[String]) -> Option<&NamedEngine> {
        self.next(tried).or_else(|| self.first())
    }

    pub fn find(&self, id: &str) -> Option<&NamedEngine> {
        self.0.iter().find(|one| one.id == id)
    }

    /// The model for an engine of the line: what people named was meant for the first, and the others know it by other
    /// names or not at all.
    pub fn model_for(&self, id: &str, named: Option<String>) -> Option<String> {
        named.filter(|_| self.first().is_some_and(|first| first.id == id))
    }

    /// The engine of this name, with what is configured for it here.
    pub fn named(&self, id: &str) -> NamedEngine {
        self.find(id).cloned().unwrap_or_else(|| NamedEngine::new(id))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(qa: &serde_json::Value) -> StepSpec {
        serde_json::from_value(json!({"id": "fix", "name": "01-fix.md", "qa": qa})).unwrap()
    }

    fn ids(line: &Line) -> Vec<&str> {
        line.0.iter().map(|one| one.id.as_str()).collect()
    }

    fn by(reviewer: &Reviewer) -> Option<Vec<&str>> {
        match reviewer {
            Reviewer::Engines(line) => Some(ids(line)),
            Reviewer::Nobody | Reviewer::Unnamed => None,
        }
    }

    #[test]
    fn who_reviews_is_said_by_the_step_else_by_the_project() {
        let engines = Engines { qa: Some(EngineChoice::new("codex")), ..Engines::default() };
        let named = [
            (json!(null), Some("codex")),
            (json!({"policy": "full"}), Some("codex")),
            (json!({"policy": "light"}), None),
            (json!({"policy": "light", "prompt": "p.md"}), Some("codex")),
            (json!({"policy": "light", "engine_id": "claude"}), Some("claude")),
            (json!({"engine_id": "claude"}), Some("claude")),
            (json!({"policy": "skip", "engine_id": "claude"}), None),
        ];
        for (qa, reviewer) in named {
            let found = engines.reviewer(&step(&qa));
            assert_eq!(by(&found), reviewer.map(|id| vec![id]), "{qa}");
            assert!(reviewer.is_some() || found == Reviewer::Nobody, "{qa}");
        }
        let nobody = Engines::default();
        assert_eq!(nobody.reviewer(&step(&json!(null))), Reviewer::Nobody);
        assert_eq!(nobody.reviewer(&step(&json!({"model": "m"}))), Reviewer::Unnamed);
        let behind = engines.reviewer(&step(&json!({"fallback": ["gemini"]})));
        assert_eq!(by(&behind), Some(vec!["codex", "gemini"]));
    }

    #[test]
    fn a_setup_step_is_reviewed_when_it_asks_for_that() {
        let engines = Engines { qa: Some(EngineChoice::new("codex")), ..Engines::default() };
        let setup = |qa| StepSpec { name: Some("00-setup.md".to_owned()), ..step(&qa) };
        assert_eq!(engines.reviewer(&setup(json!(null))), Reviewer::Nobody);
        let asking = setup(json!({"prompt": "p.md"}));
        assert_eq!(asking.qa_policy(), QaPolicy::Light);
        assert_eq!(by(&engines.reviewer(&asking)), Some(vec!["codex"]));
    }

    #[test]
    fn engines_are_tried_in_the_order_of_whoever_names_them() {
        let played = NamedEngine { id: "scripted".to_owned(), scenario: Some("/s".to_owned()) };
        let choice =
            EngineChoice { fallback: vec![played.clone(), NamedEngine::new("gemini")], ..EngineChoice::new("codex") };
        let engines = Engines { planning: Some(choice.clone()), execution: Some(choice), qa: None };
        let line = |step: serde_json::Value| {
            let spec: StepSpec = serde_json::from_value(step).unwrap();
            engines.for_execution(&spec)
        };
        assert_eq!(ids(&engines.for_planning()), ["codex", "scripted", "gemini"]);
        assert_eq!(ids(&line(json!({"id": "a"}))), ["codex", "scripted", "gemini"]);
        assert_eq!(ids(&line(json!({"id": "a", "engine_id": "codex"}))), ["codex", "scripted", "gemini"]);
        // Another engine of the step's has nothing behind it but what the step says.
        assert_eq!(ids(&line(json!({"id": "a", "engine_id": "claude"}))), ["claude"]);
        let own = line(json!({"id": "a", "engine_id": "claude", "fallback": ["scripted", "claude"]}));
        assert_eq!(ids(&own), ["claude", "scripted"]);
        assert_eq!(own.find("scripted"), Some(&played));
        assert_eq!(ids(&line(json!({"id": "a", "fallback": ["claude"]}))), ["codex", "claude"]);
        let tried = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        assert_eq!(own.next(&tried(&["claude"])), Some(&played));
        assert_eq!(own.next(&tried(&["claude", "scripted"])), None);
        assert_eq!(own.next_or_first(&tried(&["claude", "scripted"])), own.first());
        assert_eq!(ids(&Engines::default().for_planning()), Vec::<&str>::new());
        let model = |id| own.model_for(id, Some("opus".to_owned()));
        assert_eq!((model("claude").as_deref(), model("scripted")), (Some("opus"), None));
    }
}
