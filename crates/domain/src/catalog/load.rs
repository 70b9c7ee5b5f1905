//! From a TOML file to a catalog: finds everything that is wrong in one pass.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::{
    alias::Alias,
    exec::load_exec,
    job::{Job, Risk},
    nearest::nearest,
    param::Param,
    params::load_params,
    policy::load_policy,
    problem::{CatalogError, Problem, Report, Warning, WarningKind},
    section::{Item, Keys, Section, expected},
    template::Template,
};
use crate::{digest::Digest, grammar, text};

const MAX_FILE: usize = 4 << 20;
const MAX_JOBS: usize = 5000;
const MAX_ALIASES: usize = 5000;
const MAX_LINE: usize = 300;
const MAX_DESCRIPTION: usize = 4000;

const FILE_KEYS: Keys = Keys { known: &["job"], later: &[] };
const JOB_KEYS: Keys = Keys {
    known: &["title", "owner", "description", "runbook", "labels", "aliases", "risk", "params", "exec", "policy"],
    later: &["notify", "redact", "schedule"],
};

/// What loading gives: the jobs by lower-case key, and what is worth saying about them.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) warnings: Vec<Warning>,
}

pub(super) fn load(text: &str, file: &str) -> Result<Loaded, CatalogError> {
    let refused = |mut problems: Vec<Problem>| {
        problems.sort_by_key(|problem| problem.line);
        Err(CatalogError { file: file.to_owned(), problems })
    };
    let mut report = Report::new(text);
    if text.len() > MAX_FILE {
        report.problem(&(0..0), "", "the file is larger than 4 MiB");
        return refused(report.problems);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.problem(&error.span().unwrap_or(0..0), "", error.message().replace('\n', ", "));
    }
    if !errors.is_empty() {
        return refused(report.problems);
    }
    let root = Section::new(String::new(), 0..0, document.get_ref());
    root.check_keys(&FILE_KEYS, home_of_job_key, &mut report);
    let mut jobs = BTreeMap::new();
    if let Some(section) = root.section("job", &mut report) {
        load_jobs(&section, &mut jobs, &mut report);
    }
    if report.problems.is_empty() { Ok(Loaded { jobs, warnings: report.warnings }) } else { refused(report.problems) }
}

fn load_jobs(section: &Section<'_>, jobs: &mut BTreeMap<String, Job>, report: &mut Report<'_>) {
    let mut keys: BTreeMap<String, &str> = BTreeMap::new();
    let mut aliases: Vec<(Item<Alias>, String)> = Vec::new();
    for (key, value) in section.entries() {
        if report.is_full() {
            return;
        }
        let DeValue::Table(table) = value.get_ref() else {
            report.problem(&value.span(), &key.path, expected("a table", value.get_ref()));
            continue;
        };
        if !grammar::is_key(key.value) || key.value.len() > grammar::MAX_JOB_KEY {
            report.problem(&key.place, &key.path, "a job's name has letters, digits, `_` and `-` only, at most 200");
        }
        if let Some(other) = keys.insert(key.value.to_ascii_lowercase(), key.value) {
            report.problem(
                &key.place,
                &key.path,
                format!("there is a job `{other}` already: case makes no difference"),
            );
        }
        if keys.len() > MAX_JOBS {
            report.problem(&key.place, &key.path, format!("more than {MAX_JOBS} jobs"));
            return;
        }
        let job = Section::new(key.path.clone(), key.place.clone(), table);
        let loaded = load_job(key.value, &job, &mut aliases, report);
        if let Some(job) = loaded {
            jobs.insert(key.value.to_ascii_lowercase(), job);
        }
    }
    check_collisions(&aliases, report);
}

fn load_job(
    key: &str,
    section: &Section<'_>,
    aliases: &mut Vec<(Item<Alias>, String)>,
    report: &mut Report<'_>,
) -> Option<Job> {
    section.check_keys(&JOB_KEYS, home_of_job_key, report);
    let params = match section.section("params", report) {
        Some(params) => load_params(&params, report),
        None => Vec::new(),
    };
    let mut uses = Uses::of(params.iter().map(|param| &param.value));
    let title = required_line(section, "title", report).and_then(|title| uses.template(&title, report));
    let owner = required_line(section, "owner", report);
    let description = limited(section.text("description", report), MAX_DESCRIPTION, report);
    let runbook = load_runbook(section, report);
    let labels = section.texts("labels", report).unwrap_or_default();
    let labels = labels.into_iter().filter_map(|label| one_line(label, report)).map(|label| label.value).collect();
    let own_aliases = load_aliases(key, section, &params, aliases, report);
    let risk = load_risk(section, report);
    let exec = match section.section("exec", report) {
        Some(exec) => load_exec(&exec, &mut uses, report),
        None => missing(section, "exec.argv", report),
    };
    let policy = match section.section("policy", report) {
        Some(policy) => load_policy(&policy, report),
        None => missing(section, "policy.approve", report),
    };
    check_unused(&params, &uses, report);
    Some(Job {
        key: key.to_owned(),
        title: title?,
        owner: owner?.value,
        description: description.map(|item| item.value),
        runbook,
        labels,
        aliases: own_aliases,
        risk,
        params: params.into_iter().map(|param| param.value).collect(),
        exec: exec?,
        policy: policy?,
        // Known only once all jobs are.
        catalog: Digest::of_bytes("catalog", b""),
    })
}

/// Reports a required key that is not there.
pub(super) fn missing<T>(section: &Section<'_>, key: &str, report: &mut Report<'_>) -> Option<T> {
    let why = match key.rsplit('.').next().unwrap_or(key) {
        "approve" => "is required: name who approves with `approve = { of = [...] }`, or write `approve = \"none\"`",
        "argv" => "is required: the program and its arguments, as a list",
        _ => "is required",
    };
    report.problem(&section.place, &section.path_of(key), why);
    None
}

fn required_line(section: &Section<'_>, key: &str, report: &mut Report<'_>) -> Option<Item<String>> {
    if !section.has(key) {
        return missing(section, key, report);
    }
    one_line(section.text(key, report)?, report)
}

/// A text that fits one line of a message and is not blank.
pub(super) fn one_line(item: Item<String>, report: &mut Report<'_>) -> Option<Item<String>> {
    if item.value.trim().is_empty() || item.value.chars().any(text::is_hidden) {
        report.problem(&item.place, &item.path, "expected one line of visible text");
        return None;
    }
    limited(Some(item), MAX_LINE, report)
}

fn limited(item: Option<Item<String>>, max_length: usize, report: &mut Report<'_>) -> Option<Item<String>> {
    let item = item?;
    if item.value.contains('\0') || item.value.chars().count() > max_length {
        report.problem(&item.place, &item.path, format!("expected at most {max_length} characters and no NUL"));
        return None;
    }
    Some(item)
}

fn load_runbook(section: &Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let runbook = one_line(section.text("runbook", report)?, report)?;
    // It becomes a link: `javascript:` must not.
    if !runbook.value.starts_with("https://") && !runbook.value.starts_with("http://") {
        report.problem(&runbook.place, &runbook.path, "expected an address that starts with `https://`");
        return None;
    }
    Some(runbook.value)
}

fn load_risk(section: &Section<'_>, report: &mut Report<'_>) -> Risk {
    let Some(risk) = section.text("risk", report) else { return Risk::default() };
    match Risk::NAMES.iter().find(|(name, _)| *name == risk.value) {
        Some((_, risk)) => *risk,
        None => {
            let nearest = nearest(&risk.value, Risk::NAMES.iter().map(|(name, _)| *name));
            report.nearest_problem(&risk.place, &risk.path, "expected none, low, medium or high", nearest);
            Risk::default()
        }
    }
}

fn load_aliases(
    job: &str,
    section: &Section<'_>,
    params: &[Item<Param>],
    all: &mut Vec<(Item<Alias>, String)>,
    report: &mut Report<'_>,
) -> Vec<Alias> {
    let mut own = Vec::new();
    for item in section.texts("aliases", report).unwrap_or_default() {
        let alias = match limited(Some(item.clone()), MAX_LINE, report).map(|item| Alias::parse(&item.value)) {
            None => continue,
            Some(Ok(alias)) => alias,
            Some(Err(error)) => {
                report.problem(&item.place, &item.path, text::printable(&error.to_string()));
                continue;
            }
        };
        for name in alias.parameters() {
            if !params.iter().any(|param| param.value.name == name) {
                let known = nearest(name, params.iter().map(|param| param.value.name.as_str()));
                report.nearest_problem(&item.place, &item.path, format!("there is no parameter `{name}`"), known);
            }
        }
        for param in params.iter().map(|param| &param.value) {
            if param.required && !alias.parameters().any(|name| name == param.name) {
                let message = format!("the alias does not give the required parameter `{}`", param.name);
                report.problem(&item.place, &item.path, message);
            }
        }
        all.push((Item { value: alias.clone(), place: item.place, path: item.path }, job.to_owned()));
        own.push(alias);
    }
    own
}

/// A message must never have two meanings.
fn check_collisions(aliases: &[(Item<Alias>, String)], report: &mut Report<'_>) {
    if let Some((alias, _)) = aliases.get(MAX_ALIASES) {
        report.problem(&alias.place, &alias.path, format!("more than {MAX_ALIASES} aliases"));
        return;
    }
    for (place, (alias, _)) in aliases.iter().enumerate() {
        let earlier = aliases[..place].iter().find(|(other, _)| alias.value.collides_with(&other.value));
        if let Some((other, job)) = earlier {
            let message = format!("`{}` is ambiguous: `{}` of job `{job}` can mean the same", alias.value, other.value);
            report.problem(&alias.place, &alias.path, message);
        }
    }
}

fn check_unused(params: &[Item<Param>], uses: &Uses, report: &mut Report<'_>) {
    for param in params {
        if !uses.used.contains(&param.value.name) {
            let message = "no argument and no environment variable uses it: it is only recorded";
            report.warning(WarningKind::UnusedParameter, &param.place, &param.path, message);
        }
    }
}

/// Which of a job's parameters its templates use.
#[derive(Debug)]
pub(super) struct Uses {
    /// Name, and whether it always has a value.
    params: Vec<(String, bool)>,
    used: Vec<String>,
}

impl Uses {
    fn of<'p>(params: impl Iterator<Item = &'p Param>) -> Self {
        let params = params.map(|param| (param.name.clone(), param.required || param.default.is_some())).collect();
        Self { params, used: Vec::new() }
    }

    /// Parses a template whose parameters all exist and always have a value. The title does not count as a use, but
    /// what it names must exist as well.
    pub(super) fn template(&self, item: &Item<String>, report: &mut Report<'_>) -> Option<Template> {
        let template = match Template::parse(&item.value) {
            Ok(template) => template,
            Err(error) => {
                report.problem(&item.place, &item.path, error.to_string());
                return None;
            }
        };
        for name in template.parameters() {
            match self.params.iter().find(|(known, _)| known == name) {
                Some((_, true)) => {}
                Some((_, false)) => {
                    let message =
                        format!("parameter `{name}` may have no value: make it required or give it a default");
                    report.problem(&item.place, &item.path, message);
                }
                None => {
                    let known = nearest(name, self.params.iter().map(|(known, _)| known.as_str()));
                    report.nearest_problem(&item.place, &item.path, format!("there is no parameter `{name}`"), known);
                }
            }
        }
        Some(template)
    }

    /// Parses a template that reaches the program: at most one parameter.
    pub(super) fn argument(&mut self, item: &Item<String>, report: &mut Report<'_>) -> Option<Template> {
        if item.value.contains('\0') {
            report.problem(&item.place, &item.path, "a NUL cannot be passed to a program");
            return None;
        }
        let template = self.template(item, report)?;
        if template.parameters().count() > 1 {
            report.problem(&item.place, &item.path, "only one parameter may stand in one element");
        }
        self.used.extend(template.parameters().map(str::to_owned));
        Some(template)
    }
}

/// Where a key belongs that was written one table too high or too low.
pub(super) fn home_of_job_key(key: &str) -> Option<&'static str> {
    let homes: [(&'static str, &[&Keys]); 3] = [
        ("[job.<name>.exec]", &[&super::exec::EXEC_KEYS]),
        ("[job.<name>.policy]", &[&super::policy::POLICY_KEYS]),
        ("[job.<name>]", &[&JOB_KEYS]),
    ];
    homes.into_iter().find(|(_, keys)| keys.iter().any(|keys| keys.known.contains(&key))).map(|(home, _)| home)
}
