//! The `exec` table: what is started and within which limits.

use std::{collections::BTreeMap, time::Duration};

use toml::de::DeValue;

use super::{
    job::{Cwd, Exec, Retry, millis},
    load::{Uses, missing},
    nearest::nearest,
    problem::Report,
    section::{Item, Keys, Section, expected},
    template::Template,
    units::{parse_duration, parse_size, render_duration},
};

pub(super) const EXEC_KEYS: Keys = Keys {
    known: &["argv", "cwd", "env", "inherit_env", "timeout", "kill_grace", "output_limit", "retry", "idempotent"],
    later: &["runner", "user", "sandbox", "plan_argv", "heartbeat", "success", "no_change", "rollback", "on_failure"],
};
const RETRY_KEYS: Keys = Keys { known: &["max", "backoff", "on"], later: &[] };

const MAX_ARGUMENTS: usize = 256;
const MAX_ARGUMENT: usize = 32 * 1024;
const MAX_RETRIES: i64 = 10;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Programs that run what follows `-c`, `-e` or `-r` as a script.
const INTERPRETERS: [&str; 18] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "python", "perl", "ruby", "node", "php",
    "lua", "pwsh", "tclsh", "su",
];

/// Variables that make a program load or run something else than it was told to, and our own, which hold secrets.
const DANGEROUS_PREFIXES: [&str; 8] = ["LD_", "DYLD_", "PYTHON", "GIT_", "PERL5", "RUBY", "BASH_", "PILOTHOUSE_"];
const DANGEROUS_NAMES: [&str; 13] = [
    "ENV",
    "IFS",
    "PS4",
    "SHELLOPTS",
    "BASHOPTS",
    "PROMPT_COMMAND",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERLLIB",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
];

pub(super) fn load_exec(section: &Section<'_>, uses: &mut Uses, report: &mut Report<'_>) -> Option<Exec> {
    section.check_keys(&EXEC_KEYS, super::load::home_of_job_key, report);
    let argv = load_argv(section, uses, report);
    let cwd = load_cwd(section, report);
    let env = load_env(section, uses, report);
    let inherit_env = load_inherited(section, &env, report);
    let range = |min, max| DurationRange { min, max };
    let second = Duration::from_secs(1);
    let timeout = duration(section, "timeout", Duration::from_secs(15 * 60), range(second, 7 * DAY), report);
    let kill_grace =
        duration(section, "kill_grace", Duration::from_secs(10), range(Duration::ZERO, 300 * second), report);
    let output_limit = load_output_limit(section, report);
    let retry = match section.section("retry", report) {
        Some(retry) => load_retry(&retry, report),
        None => Retry::default(),
    };
    let idempotent = section.boolean("idempotent", report).unwrap_or(false);
    Some(Exec { argv: argv?, cwd, env, inherit_env, timeout, kill_grace, output_limit, retry, idempotent })
}

fn load_argv(section: &Section<'_>, uses: &mut Uses, report: &mut Report<'_>) -> Option<Vec<Template>> {
    if !section.has("argv") {
        return missing(section, "argv", report);
    }
    let items = section.texts("argv", report)?;
    if items.is_empty() {
        return missing(section, "argv", report);
    }
    if items.len() > MAX_ARGUMENTS || items.iter().any(|item| item.value.len() > MAX_ARGUMENT) {
        let message = format!("expected at most {MAX_ARGUMENTS} elements of at most {MAX_ARGUMENT} bytes");
        report.problem(&section.place, &section.path_of("argv"), message);
        return None;
    }
    let argv: Option<Vec<Template>> = items.iter().map(|item| uses.argument(item, report)).collect();
    let argv = argv?;
    let (program, first) = (&argv[0], &items[0]);
    if program.parameters().next().is_some() {
        report.problem(&first.place, &first.path, "the program itself cannot be a parameter");
    } else if program.as_str().trim().is_empty() || program.as_str().starts_with('-') {
        report.problem(&first.place, &first.path, "the first element is the program to start");
    }
    for (place, item) in items.iter().enumerate().skip(2) {
        if argv[place].parameters().next().is_some() && is_script(&items[..place]) {
            let message = "a parameter must not become part of a script: pass it as an argument after the script, \
                           as in [\"sh\", \"-c\", \"echo \\\"$1\\\"\", \"sh\", \"{{name}}\"]";
            report.problem(&item.place, &item.path, message);
        }
    }
    Some(argv)
}

/// Whether the element after these is source code to an interpreter among them.
fn is_script(before: &[Item<String>]) -> bool {
    let Some((flag, earlier)) = before.split_last() else { return false };
    let letters = flag.value.strip_prefix('-').unwrap_or_default();
    let takes_script = matches!(flag.value.as_str(), "--command" | "--eval" | "--run" | "-Command")
        || (letters.ends_with(['c', 'e', 'r']) && letters.bytes().all(|b| b.is_ascii_alphabetic()));
    takes_script
        && earlier.iter().any(|item| {
            let program = item.value.rsplit('/').next().unwrap_or_default();
            // `python3.12` is `python`.
            INTERPRETERS.contains(&program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'))
        })
}

fn load_cwd(section: &Section<'_>, report: &mut Report<'_>) -> Cwd {
    let Some(item) = section.text("cwd", report) else { return Cwd::Tmp };
    let read = if item.value.contains("{{") {
        Err("a parameter cannot be part of the directory")
    } else {
        Cwd::try_from(item.value)
    };
    read.unwrap_or_else(|message| {
        report.problem(&item.place, &item.path, message);
        Cwd::Tmp
    })
}

fn load_env(section: &Section<'_>, uses: &mut Uses, report: &mut Report<'_>) -> BTreeMap<String, Template> {
    let mut env = BTreeMap::new();
    let Some(table) = section.section("env", report) else { return env };
    for (key, value) in table.entries() {
        if key.value == "PATH" {
            report.problem(&key.place, &key.path, "PATH can only be inherited: name it in `inherit_env`");
        }
        check_name(key.value, &key, report);
        let item = Item { value: value.get_ref(), place: value.span(), path: key.path.clone() };
        if let Some(template) = item.text(report).and_then(|item| uses.argument(&item, report)) {
            env.insert(key.value.to_owned(), template);
        }
    }
    env
}

fn load_inherited(section: &Section<'_>, env: &BTreeMap<String, Template>, report: &mut Report<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in section.texts("inherit_env", report).unwrap_or_default() {
        check_name(&item.value, &item, report);
        if env.contains_key(&item.value) || names.contains(&item.value) {
            report.problem(&item.place, &item.path, format!("`{}` is given twice", item.value.escape_debug()));
        }
        names.push(item.value);
    }
    names
}

fn check_name<T>(name: &str, item: &Item<T>, report: &mut Report<'_>) {
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !is_name {
        report.problem(&item.place, &item.path, "expected a variable's name: A to Z, 0 to 9 and `_`");
    } else if DANGEROUS_NAMES.contains(&name) || DANGEROUS_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        let message =
            format!("`{name}` can make a program do something else than it was told to, and is not passed on");
        report.problem(&item.place, &item.path, message);
    }
}

/// The bounds of a duration, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurationRange {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

pub(super) fn duration(
    section: &Section<'_>,
    key: &str,
    default: Duration,
    range: DurationRange,
    report: &mut Report<'_>,
) -> Duration {
    let Some(item) = section.value(key) else { return default };
    let DeValue::String(text) = item.value else {
        report.problem(&item.place, &item.path, expected("a duration such as \"15m\"", item.value));
        return default;
    };
    match parse_duration(text) {
        Some(duration) if (range.min..=range.max).contains(&duration) => duration,
        _ => {
            let (min, max) = (render_duration(range.min), render_duration(range.max));
            report.problem(
                &item.place,
                &item.path,
                format!("expected a duration such as \"15m\", from {min} to {max}"),
            );
            default
        }
    }
}

fn load_output_limit(section: &Section<'_>, report: &mut Report<'_>) -> u64 {
    const DEFAULT: u64 = 2 << 20;
    let Some(item) = section.value("output_limit") else { return DEFAULT };
    let size = match item.value {
        DeValue::String(text) => parse_size(text),
        _ => None,
    };
    match size {
        Some(size) if (1 << 10..=1 << 30).contains(&size) => size,
        _ => {
            report.problem(&item.place, &item.path, "expected a size such as \"2MiB\", from 1KiB to 1GiB");
            DEFAULT
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max: 0, backoff_min_ms: 10_000, backoff_max_ms: 300_000, on_exit: Vec::new() }
    }
}

fn load_retry(section: &Section<'_>, report: &mut Report<'_>) -> Retry {
    section.check_keys(&RETRY_KEYS, |_| None, report);
    let mut retry = Retry::default();
    if let Some(item) = section.integer("max", report) {
        match u32::try_from(item.value) {
            Ok(max) if item.value <= MAX_RETRIES => retry.max = max,
            _ => report.problem(&item.place, &item.path, format!("expected 0 to {MAX_RETRIES}")),
        }
    }
    if let Some(item) = section.text("backoff", report) {
        match parse_backoff(&item.value) {
            Some((min, max)) => (retry.backoff_min_ms, retry.backoff_max_ms) = (millis(min), millis(max)),
            None => {
                let message = "expected a duration such as \"10s\" or a range such as \"10s..5m\", at most 24h";
                report.problem(&item.place, &item.path, message);
            }
        }
    }
    for item in section.texts("on", report).unwrap_or_default() {
        let code = item.value.strip_prefix("exit:").and_then(|code| code.parse::<u8>().ok()).filter(|code| *code > 0);
        match code {
            Some(code) => retry.on_exit.push(code),
            None => {
                let known = nearest(&item.value, ["exit:1"]);
                report.nearest_problem(&item.place, &item.path, "expected `exit:` and a code from 1 to 255", known);
            }
        }
    }
    retry
}

fn parse_backoff(text: &str) -> Option<(Duration, Duration)> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let (min, max) = (parse_duration(min)?, parse_duration(max)?);
    (min <= max && max <= DAY).then_some((min, max))
}
