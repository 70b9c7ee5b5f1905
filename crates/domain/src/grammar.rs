//! The text grammar: what a chat message asks for.
//!
//! Deterministic and total: every text, however hostile, is one [`Intent`], and no model ever reads one. The whole
//! message must match; verbs are case-insensitive. Nothing is looked up here: whether a job or a run exists, and
//! whether the catalog has an alias for an [`Intent::Unknown`] text, is asked by the caller.
//!
//! A bare `yes` or `no` is `Unknown` and answered with the help text, as it always was: on common SMS providers these
//! single words belong to the carrier. "Missing run id" answers the verbs that are new: `log`, `cancel`, `retry`.

mod scan;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    reference::{Ref, RefError},
    text,
};

pub(crate) use scan::Scanner;

/// A longer message is no command.
const MAX_MESSAGE: usize = 8 * 1024;
pub(crate) const MAX_JOB_KEY: usize = 200;
const MAX_RUN_ID: usize = 50;
const MAX_PARAMETERS: usize = 100;

/// The first words that belong to the grammar, so that no alias may take them.
pub(crate) const VERBS: [&str; 21] = [
    "run", "yes", "approve", "no", "deny", "status", "jobs", "help", "log", "cancel", "retry", "plan", "lock",
    "unlock", "where", "new", "step", "budget", "pause", "resume", "mute",
];

/// Verbs that are understood but whose machinery does not exist yet.
const LATER_VERBS: [&str; 10] = ["plan", "lock", "unlock", "where", "new", "step", "budget", "pause", "resume", "mute"];

/// What one message asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Intent {
    RunJob {
        job: String,
        args: BTreeMap<String, String>,
        reason: Option<String>,
    },
    ApproveRun {
        run: TypedRef,
        note: Option<String>,
    },
    DenyRun {
        run: TypedRef,
        reason: Option<String>,
    },
    /// Without a run: an overview.
    Status {
        run: Option<TypedRef>,
    },
    Help,
    Jobs {
        filter: Option<String>,
    },
    Log {
        run: TypedRef,
        lines: Option<u32>,
    },
    Cancel {
        run: TypedRef,
    },
    Retry {
        run: TypedRef,
    },
    NotAvailable {
        verb: &'static str,
    },
    /// The verb was understood, the rest was not: answered with [`Flaw::text`].
    Incomplete(Flaw),
    /// Answered with [`text::unknown_command`], once no alias of the catalog matches either.
    Unknown,
}

/// Why an understood verb cannot be carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    MissingJob,
    MissingRun { verb: RunVerb },
    RepeatedParameter { job: String, key: String },
}

/// The new verbs that need a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunVerb {
    Log,
    Cancel,
    Retry,
}

/// A reference as somebody typed it. It may name nothing, and then it is answered in the words they used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypedRef(String);

/// The name of an intent on the wire, and its inherited number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum IntentKind {
    Unknown = 0,
    RunJob = 1,
    ApproveRun = 2,
    DenyRun = 3,
    Status = 4,
    Help = 5,
    Jobs = 6,
    Log = 7,
    Cancel = 8,
    Retry = 9,
    NotAvailable = 10,
}

/// Reads one message.
pub fn parse(message: &str) -> Intent {
    if message.len() > MAX_MESSAGE {
        return Intent::Unknown;
    }
    let mut rest = Scanner::new(message);
    let Some(verb) = rest.word().map(str::to_ascii_lowercase) else { return Intent::Unknown };
    if let Some(verb) = LATER_VERBS.into_iter().find(|later| *later == verb) {
        return Intent::NotAvailable { verb };
    }
    let intent = match verb.as_str() {
        "run" => parse_run(rest),
        "yes" | "approve" => parse_decision(rest).map(|(run, note)| Intent::ApproveRun { run, note }),
        "no" | "deny" => parse_decision(rest).map(|(run, reason)| Intent::DenyRun { run, reason }),
        "status" if rest.is_empty() => Some(Intent::Status { run: None }),
        "status" => parse_last_ref(rest).map(|run| Intent::Status { run: Some(run) }),
        "help" => rest.is_empty().then_some(Intent::Help),
        "jobs" => Some(Intent::Jobs { filter: rest.note() }),
        "log" if rest.is_empty() => Some(RunVerb::Log.without_run()),
        "log" => parse_log(rest),
        "cancel" if rest.is_empty() => Some(RunVerb::Cancel.without_run()),
        "cancel" => parse_last_ref(rest).map(|run| Intent::Cancel { run }),
        "retry" if rest.is_empty() => Some(RunVerb::Retry.without_run()),
        "retry" => parse_last_ref(rest).map(|run| Intent::Retry { run }),
        _ => None,
    };
    intent.unwrap_or(Intent::Unknown)
}

fn parse_run(mut rest: Scanner<'_>) -> Option<Intent> {
    if rest.is_empty() {
        return Some(Intent::Incomplete(Flaw::MissingJob));
    }
    let job = rest.word().filter(|word| is_key(word) && word.len() <= MAX_JOB_KEY)?.to_owned();
    let mut args = BTreeMap::new();
    let mut repeated = None;
    while !rest.is_empty() {
        if rest.separator() {
            break;
        }
        let (key, value) = rest.pair()?;
        if !is_key(key) || args.len() == MAX_PARAMETERS {
            return None;
        }
        if args.insert(key.to_owned(), value).is_some() {
            repeated.get_or_insert_with(|| key.to_owned());
        }
    }
    let reason = rest.note();
    Some(match repeated {
        Some(key) => Intent::Incomplete(Flaw::RepeatedParameter { job, key }),
        None => Intent::RunJob { job, args, reason },
    })
}

/// `<ref> [note]`. Only after what can be a reference may more follow: `no thanks, not now` decides nothing.
fn parse_decision(mut rest: Scanner<'_>) -> Option<(TypedRef, Option<String>)> {
    let run = parse_ref(&mut rest)?;
    if !rest.is_empty() && run.reference().is_err() {
        return None;
    }
    Some((run, rest.note()))
}

fn parse_log(mut rest: Scanner<'_>) -> Option<Intent> {
    let run = parse_ref(&mut rest)?;
    let lines = match rest.word() {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|lines| *lines > 0)?)
        }
        Some(_) => return None,
    };
    rest.is_empty().then_some(Intent::Log { run, lines })
}

fn parse_last_ref(mut rest: Scanner<'_>) -> Option<TypedRef> {
    let run = parse_ref(&mut rest)?;
    rest.is_empty().then_some(run)
}

fn parse_ref(rest: &mut Scanner<'_>) -> Option<TypedRef> {
    rest.word().filter(|word| is_key(word) && word.len() <= MAX_RUN_ID).map(|word| TypedRef(word.to_owned()))
}

/// The inherited shape of run ids and job keys: `[A-Za-z0-9_-]+`.
pub fn is_key(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Intent {
    pub fn kind(&self) -> IntentKind {
        match self {
            Self::RunJob { .. } | Self::Incomplete(Flaw::MissingJob | Flaw::RepeatedParameter { .. }) => {
                IntentKind::RunJob
            }
            Self::ApproveRun { .. } => IntentKind::ApproveRun,
            Self::DenyRun { .. } => IntentKind::DenyRun,
            Self::Status { .. } => IntentKind::Status,
            Self::Help => IntentKind::Help,
            Self::Jobs { .. } => IntentKind::Jobs,
            Self::Log { .. } | Self::Incomplete(Flaw::MissingRun { verb: RunVerb::Log }) => IntentKind::Log,
            Self::Cancel { .. } | Self::Incomplete(Flaw::MissingRun { verb: RunVerb::Cancel }) => IntentKind::Cancel,
            Self::Retry { .. } | Self::Incomplete(Flaw::MissingRun { verb: RunVerb::Retry }) => IntentKind::Retry,
            Self::NotAvailable { .. } => IntentKind::NotAvailable,
            Self::Unknown => IntentKind::Unknown,
        }
    }

    /// The job as it was typed.
    pub fn job(&self) -> Option<&str> {
        match self {
            Self::RunJob { job, .. } | Self::Incomplete(Flaw::RepeatedParameter { job, .. }) => Some(job),
            _ => None,
        }
    }

    /// The run as it was typed.
    pub fn run(&self) -> Option<&TypedRef> {
        match self {
            Self::ApproveRun { run, .. }
            | Self::DenyRun { run, .. }
            | Self::Status { run: Some(run) }
            | Self::Log { run, .. }
            | Self::Cancel { run }
            | Self::Retry { run } => Some(run),
            _ => None,
        }
    }
}

/// The message in its plainest form; reading it again gives the same intent. Empty for `Unknown`.
impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunJob { job, args, reason } => {
                write!(f, "run {job}")?;
                for (key, value) in args {
                    write!(f, " {key}={}", scan::quoted(value))?;
                }
                write_rest(f, " --", reason.as_deref())
            }
            Self::ApproveRun { run, note } => {
                write!(f, "yes {run}")?;
                write_rest(f, "", note.as_deref())
            }
            Self::DenyRun { run, reason } => {
                write!(f, "no {run}")?;
                write_rest(f, "", reason.as_deref())
            }
            Self::Status { run: None } => f.write_str("status"),
            Self::Status { run: Some(run) } => write!(f, "status {run}"),
            Self::Help => f.write_str("help"),
            Self::Jobs { filter } => {
                f.write_str("jobs")?;
                write_rest(f, "", filter.as_deref())
            }
            Self::Log { run, lines: None } => write!(f, "log {run}"),
            Self::Log { run, lines: Some(lines) } => write!(f, "log {run} {lines}"),
            Self::Cancel { run } => write!(f, "cancel {run}"),
            Self::Retry { run } => write!(f, "retry {run}"),
            Self::NotAvailable { verb } => f.write_str(verb),
            Self::Incomplete(Flaw::MissingJob) => f.write_str("run"),
            Self::Incomplete(Flaw::MissingRun { verb }) => f.write_str(verb.word()),
            Self::Incomplete(Flaw::RepeatedParameter { job, key }) => write!(f, "run {job} {key}=1 {key}=2"),
            Self::Unknown => Ok(()),
        }
    }
}

fn write_rest(f: &mut fmt::Formatter<'_>, before: &str, rest: Option<&str>) -> fmt::Result {
    match rest {
        Some(rest) => write!(f, "{before} {rest}"),
        None => Ok(()),
    }
}

impl Flaw {
    /// The answer.
    pub fn text(&self) -> String {
        match self {
            Self::MissingJob => text::missing_job_key(),
            Self::MissingRun { verb } => text::missing_run_id(verb.word()),
            Self::RepeatedParameter { key, .. } => text::repeated_parameter(key),
        }
    }
}

impl RunVerb {
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    fn without_run(self) -> Intent {
        Intent::Incomplete(Flaw::MissingRun { verb: self })
    }
}

impl TypedRef {
    /// As typed: `[A-Za-z0-9_-]{1,50}`, safe to repeat.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The reference it names, if it can name one.
    pub fn reference(&self) -> Result<Ref, RefError> {
        Ref::parse(&self.0)
    }
}

impl fmt::Display for TypedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl IntentKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::RunJob => "RunJob",
            Self::ApproveRun => "ApproveRun",
            Self::DenyRun => "DenyRun",
            Self::Status => "Status",
            Self::Help => "Help",
            Self::Jobs => "Jobs",
            Self::Log => "Log",
            Self::Cancel => "Cancel",
            Self::Retry => "Retry",
            Self::NotAvailable => "NotAvailable",
        }
    }

    /// The inherited enum value; the new ones follow.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// A word of an alias: quoted ones may hold spaces.
pub(crate) type Word<'a> = Cow<'a, str>;

#[cfg(test)]
mod tests;
