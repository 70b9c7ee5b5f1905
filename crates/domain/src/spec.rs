//! Specs: the document that drives a protocol, immutable and known by its hash.
//!
//! The types are closed: a key that nobody knows is refused, not ignored. What a spec may ask for but Pilothouse cannot
//! do yet is refused with a sentence that says so. Whether files that a spec names exist is checked where files are.

mod check;
mod gate;
mod hash;

use serde::{Deserialize, Serialize};

pub(crate) use self::check::argv_problem;
pub use self::{
    check::{SpecProblem, check_step, is_safe_path},
    gate::StepGate,
    hash::{spec_digest, spec_hash},
};

/// The largest number of steps that one protocol may have.
pub const MAX_STEPS: usize = 200;
/// The largest number of engines that one may be followed by.
pub const MAX_FALLBACKS: usize = 4;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSpec {
    pub steps: Vec<StepSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The text of `plan.md`; written from the steps when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholders: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    pub id: String,
    /// What the step is called and found by; its id when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The project's engine for the phase when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// The engines that are tried after it when it cannot be had, in this order; those of the project's choice when
    /// missing and the engine is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A file of the repository that holds the prompt; the step's own file when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// From the name when missing: see [`StepType::of_name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_type: Option<StepType>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<StepPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qa: Option<Qa>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// Ids of the steps that must be completed first; the previous step when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<String>>,
    /// People are asked before the step starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<StepGate>,
    /// Commands that must end with 0 in a checkout of the step's result, each as argv.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// What becomes of a step whose execution was cut off and may have had effects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It starts again from the branch tip. The default, because an attempt works in a worktree of its own that is
    /// thrown away and never moves a branch: what a dead attempt did inside it is gone with it.
    #[default]
    Safe,
    /// People are asked. For steps whose engine reaches beyond its worktree.
    Ask,
}

/// Where a step's outputs are named. They are kept among the attempt's artifacts, never over the step's own file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aux: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepType {
    Setup,
    Work,
    Qa,
}

/// How a step's result is checked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qa {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<QaPolicy>,
    /// A file of the repository that says what a review is to look for, as it was before the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The engine that reviews; the project's when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_id: Option<String>,
    /// The engines that review in its place when it cannot be had, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<String>,
    /// Kept from inherited specs; nothing is done with it, so that it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<serde_json::Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QaPolicy {
    /// The result is accepted as it is.
    Skip,
    /// Only the step's own checks, and a review only when the step itself asks for one.
    Light,
    /// The step's checks and the project's, and a review by the project's engine for QA when it has one.
    Full,
}

/// A loop or trigger rule in its inherited shape. Kept and shown; asking for either behaviour is refused for now.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StepPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<PolicyBehavior>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_back: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_steps: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_agent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_agent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<serde_json::Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyBehavior {
    Loop,
    Trigger,
    Unknown,
}

impl ProtocolSpec {
    /// Reads and checks a spec. Every problem is reported, not only the first.
    pub fn parse(value: &serde_json::Value) -> Result<Self, Vec<SpecProblem>> {
        let spec = Self::deserialize(value).map_err(|error| vec![SpecProblem::new("", error.to_string())])?;
        let problems = spec.check();
        if problems.is_empty() { Ok(spec) } else { Err(problems) }
    }

    /// What is wrong with it; empty means sound.
    pub fn check(&self) -> Vec<SpecProblem> {
        check::check_spec(self)
    }

    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a spec is made of strings, numbers and lists")
    }
}

impl StepSpec {
    /// A step about which nothing but its id is said.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: None,
            description: None,
            engine_id: None,
            fallback: Vec::new(),
            model: None,
            prompt_ref: None,
            inputs: None,
            outputs: None,
            step_type: None,
            policies: Vec::new(),
            qa: None,
            order: None,
            metadata: None,
            depends_on: None,
            gate: None,
            checks: Vec::new(),
            retry: None,
        }
    }

    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }

    pub fn step_type(&self) -> StepType {
        self.step_type.unwrap_or_else(|| StepType::of_name(self.name()))
    }

    /// A setup step is accepted as it is unless it says otherwise: nothing is built yet that a check could judge.
    pub fn qa_policy(&self) -> QaPolicy {
        let said = self.qa.as_ref().and_then(|qa| qa.policy);
        said.unwrap_or(match self.step_type() {
            StepType::Setup if self.asks_for_review() => QaPolicy::Light,
            StepType::Setup => QaPolicy::Skip,
            StepType::Work | StepType::Qa => QaPolicy::Full,
        })
    }

    /// Whether the step itself says something about an engine that is to look at its result.
    pub fn asks_for_review(&self) -> bool {
        self.qa.as_ref().is_some_and(|qa| {
            qa.prompt.is_some() || qa.model.is_some() || qa.engine_id.is_some() || !qa.fallback.is_empty()
        })
    }

    pub fn retry(&self) -> Retry {
        self.retry.unwrap_or_default()
    }
}

impl StepType {
    /// The inherited rule: `00-` or `setup` is setup, `qa` is QA, everything else is work.
    pub fn of_name(name: &str) -> Self {
        if name.starts_with("00-") || name.contains("setup") {
            Self::Setup
        } else if name.contains("qa") {
            Self::Qa
        } else {
            Self::Work
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Work => "work",
            Self::Qa => "qa",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Setup, Self::Work, Self::Qa].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl QaPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Light => "light",
            Self::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests;
