//! What protocols and steps are made of when people make them.

use serde::{Deserialize, Serialize};

use super::{Branch, Counts, PlanState, Protocol, ProtocolError, ProtocolEvent, ProtocolState, SpecRef};
use crate::{
    commit::Guard,
    decision::{Context, Decision},
    ids::{PersonId, ProjectId, ProtocolId, StepId},
    project::is_branch_name,
    spec::{self, SpecProblem, StepSpec},
    step::{Step, StepState},
};

/// Whether steps follow each other by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advance {
    Auto,
    /// Every step waits for somebody to ask for it.
    Manual,
}

impl Advance {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Manual => "manual",
        }
    }
}

/// What a protocol is made of. `spec` was validated before.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NewProtocol {
    pub id: ProtocolId,
    pub project: ProjectId,
    pub name: String,
    /// Only `pending` means anything.
    pub status: Option<String>,
    pub base_branch: String,
    pub description: Option<String>,
    pub advance: Advance,
    pub template_config: Option<serde_json::Value>,
    pub template_source: Option<serde_json::Value>,
    pub spec: Option<SpecRef>,
    pub created_by: Option<PersonId>,
    pub requester: String,
}

/// What a step is made of when it is added by hand.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct NewStep {
    pub id: StepId,
    pub index: u32,
    pub summary: Option<String>,
    pub spec: StepSpec,
}

/// `NNNN-slug`.
pub fn is_protocol_name(name: &str) -> bool {
    let Some((number, slug)) = name.split_once('-') else { return false };
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= 100
        && number.len() == 4
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && slug.split('-').all(word)
}

impl Protocol {
    /// What making a protocol decides: it exists, and its name is taken within its project.
    pub fn create(new: NewProtocol, context: &Context) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        let problems = check(&new);
        if !problems.is_empty() {
            return Err(ProtocolError::Invalid { problems });
        }
        let name_taken = Self::name_guard(new.project, &new.name, new.id);
        let protocol = Self {
            id: new.id,
            project: new.project,
            name: new.name,
            base_branch: new.base_branch,
            description: new.description,
            advance: new.advance,
            template_config: new.template_config,
            template_source: new.template_source,
            created_by: new.created_by,
            requester: new.requester,
            created_at: context.now,
            spec: new.spec,
            plan: PlanState::None,
            attempt: None,
            tried: Vec::new(),
            branch: Branch::default(),
            counts: Counts::default(),
            state: ProtocolState::Pending,
            steps: Vec::new(),
            gates: Vec::new(),
        };
        Ok(Decision::of([ProtocolEvent::Created { protocol: Box::new(protocol) }]).guarded(name_taken))
    }

    /// A project has each protocol name once.
    pub fn name_guard(project: ProjectId, name: &str, holder: ProtocolId) -> Guard {
        Guard::Unique { key: format!("protocol-name:{project}:{name}"), holder: format!("protocol:{holder}") }
    }

    /// A step with its place in the graph: it waits for the steps with these ids.
    pub(super) fn step_of(&self, id: StepId, index: u32, spec: StepSpec, depends_on: Vec<StepId>) -> Step {
        let met = |step: &&StepId| self.step(**step).is_some_and(|step| step.state.is_terminal());
        let unmet = depends_on.len() - depends_on.iter().filter(met).count();
        Step {
            id,
            protocol: self.id,
            index,
            spec,
            unmet: u32::try_from(unmet).unwrap_or(u32::MAX),
            depends_on,
            dependents: Vec::new(),
            retries: 0,
            interruptions: 0,
            summary: None,
            attempt: None,
            tried: Vec::new(),
            approved: None,
            state: StepState::Pending,
        }
    }

    /// A step added by hand waits for the one before it.
    pub(super) fn added(&self, new: &NewStep) -> Result<Step, ProtocolError> {
        if self.steps.iter().any(|step| step.index == new.index) {
            return Err(ProtocolError::IndexTaken { protocol: self.id, index: new.index });
        }
        let mut problems = spec::check_step("step", &new.spec);
        if self.steps.iter().any(|step| step.name() == new.spec.name()) {
            let message = format!("{:?} is the name of another step", new.spec.name());
            problems.push(SpecProblem::new("step_name", message));
        }
        if self.steps.len() >= spec::MAX_STEPS {
            problems.push(SpecProblem::new("step_index", format!("a protocol has at most {} steps", spec::MAX_STEPS)));
        }
        if !problems.is_empty() {
            return Err(ProtocolError::Invalid { problems });
        }
        let before = self.steps.iter().filter(|step| step.index < new.index).max_by_key(|step| step.index);
        let depends_on = before.map(|step| step.id).into_iter().collect();
        let mut step = self.step_of(new.id, new.index, new.spec.clone(), depends_on);
        step.summary = new.summary.clone();
        Ok(step)
    }
}

fn check(new: &NewProtocol) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, message: &str| problems.push(SpecProblem::new(key, message));
    if !is_protocol_name(&new.name) {
        refuse("protocol_name", "expected four digits and lower-case words joined by dashes, such as 0001-fix-login");
    }
    if !matches!(new.status.as_deref(), None | Some("pending")) {
        refuse("status", "a new protocol is pending");
    }
    if !is_branch_name(&new.base_branch) {
        refuse("base_branch", "not a name that git accepts for a branch");
    }
    if new.name == new.base_branch {
        refuse("base_branch", "the protocol's own branch cannot be its base");
    }
    let hidden =
        |text: &str| text.chars().any(|c| c != '\n' && c != '\t' && (c.is_control() || crate::text::is_hidden(c)));
    if new.description.as_deref().is_some_and(|text| text.len() > 64 * 1024 || hidden(text)) {
        refuse("description", "longer than 64 KiB, or with characters that cannot be seen");
    }
    problems
}
