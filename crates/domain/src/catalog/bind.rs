//! From a job and a person's arguments to exactly what will run.
//!
//! A [`BoundJob`] is what people approve: its digest covers the arguments, the environment, the limits and the policy,
//! and is checked again at dispatch. One parameter is one value inside one element, so no value can add an element; a
//! value can never become an option, because none may start with `-` where an element starts.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    job::{Approval, Cwd, Job, Requesters, Retry, millis},
    nearest::nearest,
};
use crate::{digest::Digest, text};

const DIGEST_TAG: &str = "bound-job";
const MAX_TITLE: usize = 300;

/// Exactly what will run, and under which policy.
///
/// The child's environment is `env`, then what `inherit_env` names in the worker's own, then `HOME` (the run's
/// directory) unless either has set it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundJob {
    pub job: String,
    /// The digest of the catalog it comes from.
    pub catalog: Digest,
    pub title: String,
    pub owner: String,
    /// Every parameter that has a value, in canonical form.
    pub params: BTreeMap<String, String>,
    pub argv: Vec<String>,
    pub cwd: Cwd,
    pub env: BTreeMap<String, String>,
    pub inherit_env: Vec<String>,
    pub timeout_ms: u64,
    pub kill_grace_ms: u64,
    /// In bytes.
    pub output_limit: u64,
    pub retry: Retry,
    pub idempotent: bool,
    pub policy: BoundPolicy,
}

/// Who may ask and who decides, as of the moment of asking.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundPolicy {
    pub request: Requesters,
    pub approve: Approval,
    pub timeout_ms: u64,
}

/// Everything that is wrong with the arguments for a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BindError {
    pub job: String,
    pub problems: Vec<BindProblem>,
}

/// One wrong argument. Values are not repeated: they may be hostile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindProblem {
    Unknown {
        name: String,
        nearest: Option<String>,
    },
    /// Given under two spellings.
    Repeated {
        name: String,
    },
    Missing {
        name: String,
        expected: String,
    },
    Wrong {
        name: String,
        expected: String,
    },
    /// A value that a program would read as an option.
    LeadingDash {
        name: String,
    },
}

impl Job {
    /// Fills in the arguments, or lists everything that is wrong with them.
    pub fn bind(&self, args: &BTreeMap<String, String>) -> Result<BoundJob, BindError> {
        let mut problems = Vec::new();
        let params = self.check_args(args, &mut problems);
        self.check_dashes(&params, &mut problems);
        if !problems.is_empty() {
            return Err(BindError { job: self.key.clone(), problems });
        }
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        env.extend(self.exec.env.iter().map(|(name, value)| (name.clone(), value.render(&params))));
        Ok(BoundJob {
            job: self.key.clone(),
            catalog: self.catalog,
            title: self.title.render(&params).chars().take(MAX_TITLE).collect(),
            owner: self.owner.clone(),
            argv: self.exec.argv.iter().map(|element| element.render(&params)).collect(),
            cwd: self.exec.cwd.clone(),
            env,
            inherit_env: self.exec.inherit_env.clone(),
            timeout_ms: millis(self.exec.timeout),
            kill_grace_ms: millis(self.exec.kill_grace),
            output_limit: self.exec.output_limit,
            retry: self.exec.retry.clone(),
            idempotent: self.exec.idempotent,
            policy: BoundPolicy {
                request: self.policy.request.clone(),
                approve: self.policy.approve.clone(),
                timeout_ms: millis(self.policy.timeout),
            },
            params,
        })
    }

    /// The parameters in canonical form, with defaults filled in. Names match whatever their case.
    fn check_args(&self, args: &BTreeMap<String, String>, problems: &mut Vec<BindProblem>) -> BTreeMap<String, String> {
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for (typed, value) in args {
            let Some(param) = self.params.iter().find(|param| param.name.eq_ignore_ascii_case(typed)) else {
                let nearest = nearest(typed, self.params.iter().map(|param| param.name.as_str())).map(str::to_owned);
                let name = text::printable(typed).chars().take(80).collect();
                problems.push(BindProblem::Unknown { name, nearest });
                continue;
            };
            if given.insert(&param.name, value).is_some() {
                problems.push(BindProblem::Repeated { name: param.name.clone() });
            }
        }
        let mut values = BTreeMap::new();
        for param in &self.params {
            let name = param.name.clone();
            match (given.get(name.as_str()), &param.default) {
                (Some(value), _) => match param.check(value) {
                    Ok(canonical) => drop(values.insert(name, canonical)),
                    Err(expected) => problems.push(BindProblem::Wrong { name, expected }),
                },
                (None, _) if param.required => {
                    problems.push(BindProblem::Missing { name, expected: param.kind.expected() });
                }
                (None, Some(default)) => drop(values.insert(name, default.clone())),
                (None, None) => {}
            }
        }
        values
    }

    /// An element that starts with a parameter must not become an option, not even by an empty value before a dash.
    fn check_dashes(&self, params: &BTreeMap<String, String>, problems: &mut Vec<BindProblem>) {
        for element in &self.exec.argv {
            let Some(name) = element.leading_parameter() else { continue };
            let problem = BindProblem::LeadingDash { name: name.to_owned() };
            if params.contains_key(name) && element.render(params).starts_with('-') && !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
}

impl BoundJob {
    /// What an approval is bound to: everything that will run and the policy it runs under. The catalog's own digest is
    /// left out, so that a change to another job voids no gate of this one.
    pub fn digest(&self) -> Digest {
        let mut value = serde_json::to_value(self).expect("a bound job has only texts, whole numbers and booleans");
        if let Some(fields) = value.as_object_mut() {
            fields.remove("catalog");
        }
        Digest::of(DIGEST_TAG, &value).expect("a bound job is a few levels deep and has no fractions")
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BindProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest: None } => write!(f, "unknown parameter {name}"),
            Self::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "unknown parameter {name}, did you mean {nearest}?")
            }
            Self::Repeated { name } => write!(f, "parameter {name} is given twice"),
            Self::Missing { name, expected } => write!(f, "parameter {name} is missing: expected {expected}"),
            Self::Wrong { name, expected } => write!(f, "parameter {name} is wrong: expected {expected}"),
            Self::LeadingDash { name } => {
                write!(f, "parameter {name} is wrong: it would make an argument start with -")
            }
        }
    }
}

impl BindProblem {
    /// The parameter it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown { name, .. }
            | Self::Repeated { name }
            | Self::Missing { name, .. }
            | Self::Wrong { name, .. }
            | Self::LeadingDash { name } => name,
        }
    }
}
