//! What a planning engine answers, and the files and steps that follow from it.
//!
//! The answer comes from a program that reads hostile repositories: file names are checked before they become paths,
//! and `context.md` and `log.md` are written by Pilothouse alone, so what the answer says for them is only looked at.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::{ProtocolSpec, SpecProblem, StepSpec};

/// The step file that every plan begins with.
pub const SETUP_FILE: &str = "00-setup.md";

const MAX_FILES: usize = 100;
const MAX_BYTES: usize = 1024 * 1024;
const MAX_FILE_NAME: usize = 100;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanningAnswer {
    pub plan_md: String,
    pub context_md: String,
    pub log_md: String,
    pub step_files: Vec<StepFile>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// `NN-name.md`, never a path.
    pub filename: String,
    pub content: String,
}

/// A plan as it will be written: `plan.md` and one file for each step.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    pub plan_md: String,
    pub spec: ProtocolSpec,
    /// One for each step of the spec, in its order.
    pub files: Vec<StepFile>,
}

impl PlanningAnswer {
    /// The plan that an answer means, or everything that is wrong with it.
    pub fn into_plan(mut self) -> Result<Plan, Vec<SpecProblem>> {
        let problems = self.check();
        if !problems.is_empty() {
            return Err(problems);
        }
        self.step_files.sort_by(|a, b| a.filename.cmp(&b.filename));
        let steps = self.step_files.iter().map(step_of_file).collect();
        let spec =
            ProtocolSpec { steps, version: None, plan: None, placeholders: None, template: None, metadata: None };
        let problems = spec.check();
        if problems.is_empty() {
            Ok(Plan { plan_md: self.plan_md, spec, files: self.step_files })
        } else {
            Err(problems)
        }
    }

    fn check(&self) -> Vec<SpecProblem> {
        let mut problems = Vec::new();
        if self.plan_md.trim().is_empty() {
            problems.push(SpecProblem::new("plan_md", "the plan is empty"));
        }
        if self.step_files.len() > MAX_FILES {
            problems.push(SpecProblem::new("step_files", format!("more than {MAX_FILES} step files")));
        }
        let bytes: usize = self.step_files.iter().map(|file| file.content.len()).sum();
        if bytes.saturating_add(self.plan_md.len()) > MAX_BYTES {
            problems.push(SpecProblem::new("step_files", format!("the plan is larger than {MAX_BYTES} bytes")));
        }
        let mut numbers = BTreeSet::new();
        for (index, file) in self.step_files.iter().enumerate() {
            let path = format!("step_files[{index}].filename");
            if !is_step_file_name(&file.filename) {
                let message = format!("{:?} is not of the form NN-name.md", file.filename);
                problems.push(SpecProblem::new(path, message));
            } else if !numbers.insert(&file.filename[..2]) {
                problems.push(SpecProblem::new(path, format!("number {} is used twice", &file.filename[..2])));
            }
        }
        if !self.step_files.iter().any(|file| file.filename == SETUP_FILE) {
            problems.push(SpecProblem::new("step_files", format!("{SETUP_FILE} is missing")));
        }
        problems
    }
}

impl Plan {
    /// The plan that a spec means: step files are written from names and descriptions.
    pub fn of_spec(protocol: &str, spec: ProtocolSpec) -> Self {
        let files = spec.steps.iter().enumerate().map(|(index, step)| file_of_step(index, step)).collect();
        let plan_md = spec.plan.clone().unwrap_or_else(|| plan_of_steps(protocol, &spec));
        Self { plan_md, spec, files }
    }
}

/// Two digits, a dash, lower-case words and `.md`; nothing that could be a path.
pub fn is_step_file_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".md") else { return false };
    let bytes = stem.as_bytes();
    let is_word = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
    name.len() <= MAX_FILE_NAME
        && bytes.len() > 3
        && bytes[0].is_ascii_digit()
        && bytes[1].is_ascii_digit()
        && bytes[2] == b'-'
        && bytes[3].is_ascii_alphanumeric()
        && bytes[3..].iter().all(is_word)
        && !stem.contains("..")
        && !stem.ends_with('.')
}

fn step_of_file(file: &StepFile) -> StepSpec {
    let stem = file.filename.trim_end_matches(".md");
    StepSpec { name: Some(file.filename.clone()), ..StepSpec::new(stem) }
}

/// The name of a step's file: its own name when that is one, else its number and what is plain in its name.
pub fn file_name(index: usize, step_name: &str) -> String {
    if is_step_file_name(step_name) {
        return step_name.to_owned();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let stem: String = step_name.trim_end_matches(".md").chars().map(plain).collect();
    let words: Vec<&str> = stem.split('-').filter(|word| !word.is_empty()).collect();
    let slug = if words.is_empty() { "step".to_owned() } else { words.join("-") };
    format!("{index:02}-{}.md", slug.chars().take(60).collect::<String>())
}

fn file_of_step(index: usize, step: &StepSpec) -> StepFile {
    let mut content = format!("# {}\n\n## Briefing\n\n", step.name().trim_end_matches(".md"));
    content.push_str(step.description.as_deref().unwrap_or("Nothing beyond its name was said about this step."));
    if !step.checks.is_empty() {
        content.push_str("\n\n## Checks\n\nThese commands have to succeed on the result:\n");
        for argv in &step.checks {
            content.push_str(&format!("\n    {}", crate::text::command_line(argv)));
        }
    }
    content.push('\n');
    StepFile { filename: file_name(index, step.name()), content }
}

fn plan_of_steps(protocol: &str, spec: &ProtocolSpec) -> String {
    let mut text = format!("# {protocol}\n\n## Steps\n\n");
    for (index, step) in spec.steps.iter().enumerate() {
        text.push_str(&format!("- [{}]({})\n", step.name(), file_name(index, step.name())));
    }
    text
}

#[cfg(test)]
mod tests;
