//! Which engine does what: what a project names by phase, and what a step names for itself.

use serde::{Deserialize, Serialize};

use crate::spec::{QaPolicy, StepSpec};

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
}

/// Who looks at a result once every command has passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reviewer {
    /// The commands decide alone.
    Nobody,
    /// The step asks for a review, and nobody says by whom.
    Unnamed,
    Engine(EngineChoice),
}

impl Engines {
    /// Who executes a step.
    pub fn for_execution(&self, step: &StepSpec) -> Option<EngineChoice> {
        named(step.engine_id.as_deref(), self.execution.as_ref())
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
        let own = step.qa.as_ref().and_then(|qa| qa.engine_id.as_deref());
        match named(own, self.qa.as_ref()).filter(|_| wanted) {
            Some(choice) => Reviewer::Engine(choice),
            None if wanted && asked => Reviewer::Unnamed,
            None => Reviewer::Nobody,
        }
    }
}

impl EngineChoice {
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), scenario: None }
    }
}

/// The engine that a step names, as the project configures it where it is the same; else the project's.
fn named(own: Option<&str>, configured: Option<&EngineChoice>) -> Option<EngineChoice> {
    match own {
        None => configured.cloned(),
        Some(id) => Some(configured.filter(|choice| choice.id == id).cloned().unwrap_or_else(|| EngineChoice::new(id))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(qa: serde_json::Value) -> StepSpec {
        serde_json::from_value(json!({"id": "fix", "name": "01-fix.md", "qa": qa})).unwrap()
    }

    #[test]
    fn who_reviews_is_said_by_the_step_else_by_the_project() {
        let codex = EngineChoice { scenario: Some("/a".to_owned()), ..EngineChoice::new("codex") };
        let engines = Engines { qa: Some(codex.clone()), ..Engines::default() };
        let (by_codex, by_claude) = (Reviewer::Engine(codex), Reviewer::Engine(EngineChoice::new("claude")));
        let named = [
            (json!(null), by_codex.clone()),
            (json!({"policy": "full"}), by_codex.clone()),
            (json!({"policy": "light"}), Reviewer::Nobody),
            (json!({"policy": "light", "prompt": "p.md"}), by_codex.clone()),
            (json!({"policy": "light", "engine_id": "claude"}), by_claude.clone()),
            (json!({"engine_id": "codex"}), by_codex),
            (json!({"engine_id": "claude"}), by_claude),
            (json!({"policy": "skip", "engine_id": "claude"}), Reviewer::Nobody),
        ];
        for (qa, reviewer) in named {
            assert_eq!(engines.reviewer(&step(qa.clone())), reviewer, "{qa}");
        }
        let nobody = Engines::default();
        assert_eq!(nobody.reviewer(&step(json!(null))), Reviewer::Nobody);
        assert_eq!(nobody.reviewer(&step(json!({"model": "m"}))), Reviewer::Unnamed);
    }

    #[test]
    fn a_setup_step_is_reviewed_when_it_asks_for_that() {
        let engines = Engines { qa: Some(EngineChoice::new("codex")), ..Engines::default() };
        let setup = |qa| StepSpec { name: Some("00-setup.md".to_owned()), ..step(qa) };
        assert_eq!(engines.reviewer(&setup(json!(null))), Reviewer::Nobody);
        let asking = setup(json!({"prompt": "p.md"}));
        assert_eq!(asking.qa_policy(), QaPolicy::Light);
        assert_eq!(engines.reviewer(&asking), Reviewer::Engine(EngineChoice::new("codex")));
    }
}
