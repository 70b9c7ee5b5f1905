//! The job catalog: which operations people may ask for, with which parameters, under which policy.
//!
//! A TOML file becomes a [`Catalog`] or a list of everything that is wrong with it; a key that is unknown, or whose
//! machinery does not exist yet, is never ignored. [`Job::bind`] turns a job and arguments into a [`BoundJob`],
//! which is what people approve and what a worker starts. Nothing here runs anything or knows who anybody is.

mod alias;
mod bind;
mod exec;
mod job;
mod load;
mod nearest;
mod param;
mod params;
mod policy;
mod principal;
mod problem;
mod section;
mod template;
mod units;

use std::collections::BTreeMap;

pub use alias::Alias;
pub use bind::{BindError, BindProblem, BoundJob, BoundPolicy};
pub use job::{Approval, Cwd, Exec, Job, Policy, Requesters, Retry, Risk};
pub use nearest::nearest;
pub use param::{Param, ParamKind, Pattern};
pub use principal::{Principal, PrincipalError};
pub use problem::{CatalogError, Problem, Warning, WarningKind};
pub use template::{Template, TemplateError};
pub use units::{parse_duration, parse_size, render_duration};

use crate::digest::Digest;

const DIGEST_TAG: &str = "catalog";

/// A loaded catalog. Cheap to share, never changed: an edited file is another catalog with another digest.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// By key in lower case.
    jobs: BTreeMap<String, Job>,
    warnings: Vec<Warning>,
    digest: Digest,
}

/// What a message asks for in the words of an alias.
#[derive(Clone, PartialEq, Debug)]
pub struct AliasMatch<'c> {
    pub job: &'c Job,
    pub args: BTreeMap<String, String>,
    pub reason: Option<String>,
}

impl Catalog {
    /// Reads a catalog; `file` is only named in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, CatalogError> {
        let loaded = load::load(text, file)?;
        Ok(Self::of(loaded.jobs, loaded.warnings))
    }

    /// A catalog without jobs.
    pub fn empty() -> Self {
        Self::of(BTreeMap::new(), Vec::new())
    }

    fn of(mut jobs: BTreeMap<String, Job>, warnings: Vec<Warning>) -> Self {
        let content = serde_json::to_value(&jobs).expect("a catalog has only texts, whole numbers and booleans");
        let digest = Digest::of(DIGEST_TAG, &content).expect("a catalog is a few levels deep and has no fractions");
        // Each job knows its catalog, so that what is bound to it says where it comes from.
        jobs.values_mut().for_each(|job| job.catalog = digest);
        Self { jobs, warnings, digest }
    }

    /// The digest of what the catalog says, whatever its layout and comments.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The jobs by key.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// The job of that key; case makes no difference.
    pub fn find(&self, key: &str) -> Option<&Job> {
        self.jobs.get(&key.to_ascii_lowercase())
    }

    /// The key that was probably meant.
    pub fn nearest(&self, key: &str) -> Option<&str> {
        nearest(key, self.jobs().map(|job| job.key.as_str()))
    }

    /// The job a message means by one of its aliases. At most one can match.
    pub fn match_alias(&self, message: &str) -> Option<AliasMatch<'_>> {
        self.jobs().find_map(|job| {
            let (args, reason) = job.aliases.iter().find_map(|alias| alias.read(message))?;
            Some(AliasMatch { job, args, reason })
        })
    }

    /// What loads but may not do what was meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests;
