//! What makes a spec unsound: everything that its types cannot say.

use std::collections::{BTreeMap, BTreeSet};

use super::{MAX_FALLBACKS, MAX_STEPS, PolicyBehavior, ProtocolSpec, StepSpec};

const MAX_NAME: usize = 100;
const MAX_TEXT: usize = 64 * 1024;
const MAX_CHECKS: usize = 32;
const MAX_ARGUMENTS: usize = 64;
const MAX_ARGUMENT: usize = 4096;
const MAX_PATH: usize = 1024;

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("schema:{path}: {message}")]
pub struct SpecProblem {
    /// Such as `steps[2].checks`; empty for the whole document.
    pub path: String,
    pub message: String,
}

impl SpecProblem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

pub(super) fn check_spec(spec: &ProtocolSpec) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    if spec.steps.is_empty() {
        problems.push(SpecProblem::new("steps", "a spec has at least one step"));
    }
    if spec.steps.len() > MAX_STEPS {
        problems.push(SpecProblem::new("steps", format!("a spec has at most {MAX_STEPS} steps")));
    }
    if spec.plan.as_ref().is_some_and(|plan| plan.len() > MAX_TEXT) {
        problems.push(SpecProblem::new("plan", format!("longer than {MAX_TEXT} bytes")));
    }
    let mut ids = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (index, step) in spec.steps.iter().enumerate() {
        let path = format!("steps[{index}]");
        if ids.insert(step.id.as_str(), index).is_some() {
            problems
                .push(SpecProblem::new(format!("{path}.id"), format!("{:?} is the id of an earlier step", step.id)));
        }
        if !names.insert(step.name()) {
            let message = format!("{:?} is the name of an earlier step", step.name());
            problems.push(SpecProblem::new(format!("{path}.name"), message));
        }
        problems.extend(check_step(&path, step));
    }
    for (index, step) in spec.steps.iter().enumerate() {
        for wanted in step.depends_on.iter().flatten() {
            let path = format!("steps[{index}].depends_on");
            match ids.get(wanted.as_str()) {
                None => problems.push(SpecProblem::new(path, format!("no step has the id {wanted:?}"))),
                // Listing dependencies first rules out cycles and keeps the order of the list the order of the work.
                Some(place) if *place >= index => {
                    problems.push(SpecProblem::new(path, format!("step {wanted:?} must be listed before this one")));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

/// What is wrong with one step on its own.
pub fn check_step(path: &str, step: &StepSpec) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, message: String| problems.push(SpecProblem::new(format!("{path}.{key}"), message));
    for (key, name) in [("id", Some(&step.id)), ("name", step.name.as_ref())] {
        if let Some(name) = name
            && let Some(message) = name_problem(name)
        {
            refuse(key, message);
        }
    }
    for (key, text) in [("engine_id", &step.engine_id), ("model", &step.model)] {
        if let Some(message) = text.as_deref().and_then(name_problem) {
            refuse(key, message);
        }
    }
    let reviewers = step.qa.as_ref().map(|qa| ("qa.fallback", &qa.engine_id, &qa.fallback));
    for (key, first, fallback) in [("fallback", &step.engine_id, &step.fallback)].into_iter().chain(reviewers) {
        if let Some(message) = fallback_problem(first.as_deref(), fallback) {
            refuse(key, message);
        }
    }
    if step.description.as_ref().is_some_and(|text| text.len() > MAX_TEXT || text.contains('\0')) {
        refuse("description", format!("longer than {MAX_TEXT} bytes, or with a NUL"));
    }
    let outputs = step
        .outputs
        .iter()
        .flat_map(|outputs| outputs.protocol.iter().chain(outputs.aux.iter().flat_map(|aux| aux.values())));
    for file in outputs {
        if !is_safe_path(file) {
            refuse("outputs", format!("{file:?} is not a path inside the repository"));
        }
    }
    if let Some(file) = step.prompt_ref.as_ref().filter(|file| !is_safe_path(file)) {
        refuse("prompt_ref", format!("{file:?} is not a path inside the repository"));
    }
    for policy in &step.policies {
        match policy.behavior {
            Some(PolicyBehavior::Loop) => refuse("policies", not_yet("loop policies")),
            Some(PolicyBehavior::Trigger) => refuse("policies", not_yet("trigger policies")),
            Some(PolicyBehavior::Unknown) | None => {}
        }
    }
    if let Some(qa) = &step.qa {
        for (key, text) in [("qa.engine_id", &qa.engine_id), ("qa.model", &qa.model)] {
            if let Some(message) = text.as_deref().and_then(name_problem) {
                refuse(key, message);
            }
        }
        if let Some(file) = qa.prompt.as_ref().filter(|file| !is_safe_path(file)) {
            refuse("qa.prompt", format!("{file:?} is not a path inside the repository"));
        }
        if qa.inputs.is_some() {
            refuse(
                "qa.inputs",
                format!("{}; say what a review is to look for in `qa.prompt`", not_yet("inputs of QA")),
            );
        }
    }
    if let Some(gate) = &step.gate
        && (gate.quorum == 0 || gate.quorum > 20)
    {
        refuse("gate.quorum", "between 1 and 20 people".to_owned());
    }
    if step.checks.len() > MAX_CHECKS {
        refuse("checks", format!("at most {MAX_CHECKS} commands"));
    }
    for argv in &step.checks {
        if let Some(message) = argv_problem(argv) {
            refuse("checks", message);
        }
    }
    problems
}

/// What is wrong with a command; used for a project's checks as well.
pub(crate) fn argv_problem(argv: &[String]) -> Option<String> {
    match argv.first() {
        None => return Some("a command has at least one element".to_owned()),
        Some(program) if program.is_empty() => return Some("the program of a command is empty".to_owned()),
        Some(_) => {}
    }
    if argv.len() > MAX_ARGUMENTS {
        return Some(format!("a command has at most {MAX_ARGUMENTS} elements"));
    }
    let bad = argv.iter().find(|part| part.len() > MAX_ARGUMENT || part.contains('\0'));
    bad.map(|_| format!("an element of a command is longer than {MAX_ARGUMENT} bytes or has a NUL"))
}

fn fallback_problem(first: Option<&str>, fallback: &[String]) -> Option<String> {
    if fallback.len() > MAX_FALLBACKS {
        return Some(format!("at most {MAX_FALLBACKS} engines to fall back on"));
    }
    let mut known: BTreeSet<&str> = first.into_iter().collect();
    fallback.iter().find_map(|id| match (name_problem(id), known.insert(id)) {
        (Some(message), _) => Some(message),
        (None, false) => Some(format!("{id:?} is named before: an engine is tried once")),
        (None, true) => None,
    })
}

fn not_yet(what: &str) -> String {
    format!("{what} are not available yet")
}

fn name_problem(name: &str) -> Option<String> {
    let hidden = |c: char| c.is_control() || crate::text::is_hidden(c);
    if name.trim().is_empty() || name.trim() != name {
        Some("empty, or with space around it".to_owned())
    } else if name.len() > MAX_NAME {
        Some(format!("longer than {MAX_NAME} bytes"))
    } else if name.chars().any(hidden) {
        Some("has characters that cannot be seen".to_owned())
    } else if name.starts_with('-') || name.contains(['/', '\\']) || name.contains("..") {
        Some(format!("{name:?} begins with `-`, or has `/`, `\\` or `..`"))
    } else {
        None
    }
}

/// Whether a path stays inside the repository and out of git's own directory, whatever the file system folds.
pub fn is_safe_path(path: &str) -> bool {
    let safe = |part: &str| {
        let folded = part.trim_end_matches(['.', ' ']).to_ascii_lowercase();
        !part.is_empty()
            && part.len() <= 255
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && folded != ".git"
            && !folded.starts_with("git~")
    };
    !path.is_empty()
        && path.len() <= MAX_PATH
        && !path.contains(['\\', '\0', ':'])
        && !path.chars().any(|c| c.is_control() || crate::text::is_hidden(c))
        && path.split('/').count() <= 16
        && path.split('/').all(safe)
}
