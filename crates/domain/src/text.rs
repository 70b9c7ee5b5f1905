//! What people read: the texts of replies and messages, and the idempotency keys that go with them.
//!
//! The inherited sentences are exact to the character, because other people's scripts read them. Everything that came
//! from outside passes [`printable`] or [`note`] before it is shown. Who is told what is decided elsewhere.

use crate::{
    catalog::{Approval, BoundJob, Cwd},
    digest::Digest,
    time::Timestamp,
};

/// A note is cut here: it is read on a phone.
const MAX_NOTE: usize = 500;

/// What an approver has to see before deciding.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalRequest<'a> {
    pub run: &'a str,
    pub work: &'a BoundJob,
    pub digest: Digest,
    pub requested_by: &'a str,
    pub reason: Option<&'a str>,
    /// Who has approved so far, by name.
    pub approved_by: &'a [String],
    pub deadline: Timestamp,
}

pub fn run_created(job: &str, run: &str) -> String {
    format!("Job \"{job}\" is ready. Reply YES {run} to approve or NO {run} to deny.")
}

pub fn approved_starting(job: &str, run: &str) -> String {
    format!("Approved. Starting run {run} for job \"{job}\"\u{2026}")
}

/// A run that needs no approval starts at once.
pub fn starting(job: &str, run: &str) -> String {
    format!("Starting run {run} for job \"{job}\"\u{2026}")
}

pub fn run_succeeded(run: &str, summary: &str) -> String {
    format!("Run {run} succeeded: {summary}")
}

pub fn run_failed(run: &str, summary: &str) -> String {
    format!("Run {run} failed: {summary}")
}

pub fn run_timed_out(run: &str, summary: &str) -> String {
    format!("Run {run} timed out: {summary}")
}

pub fn run_canceled(run: &str) -> String {
    format!("Run {run} was canceled.")
}

pub fn run_blocked(run: &str, reason: &str) -> String {
    format!("Run {run} is blocked: {reason}")
}

pub fn run_expired(job: &str, run: &str) -> String {
    format!("Run {run} for job \"{job}\" expired without enough approvals and counts as denied.")
}

pub fn denied(job: &str, run: &str) -> String {
    format!("Denied run {run} for job \"{job}\".")
}

/// The four inherited lines.
pub fn status(run: &str, job: &str, state: &str, created_at: Timestamp) -> String {
    format!("Run {run}\nJob: {job}\nState: {state}\nCreated: {}", created_at.to_offset_string())
}

/// `verb` is `approve`, `deny`, `start` or `complete`.
pub fn wrong_state(verb: &str, run: &str, state: &str) -> String {
    format!("Cannot {verb} run {run} in state {state}.")
}

/// `operation` is `start` or `complete`; there is nobody to answer, so this goes to channel and conversation `system`.
pub fn execution_for_unknown_run(operation: &str, run: &str) -> String {
    format!("Error: Cannot {operation} execution for unknown run {run}.")
}

pub fn unknown_run(typed: &str) -> String {
    format!("Unknown run id: {typed}")
}

pub fn unknown_job(typed: &str) -> String {
    format!("Unknown job: {typed}")
}

pub fn missing_job_key() -> String {
    "Missing job key. Usage: run <jobKey>".to_owned()
}

pub fn missing_run_id(verb: &str) -> String {
    format!("Missing run id. Usage: {verb} <runId>")
}

pub fn repeated_parameter(key: &str) -> String {
    format!("Parameter \"{key}\" is given twice.")
}

/// The six inherited lines.
pub fn unknown_command() -> String {
    "Unknown command.\nTry:\n- run <jobKey>\n- yes <runId>\n- no <runId>\n- status <runId>".to_owned()
}

pub fn not_available(verb: &str) -> String {
    format!("The command \"{verb}\" is not available yet.")
}

pub fn help() -> String {
    [
        "Commands:",
        "- run <jobKey> [name=value ...] [-- reason]",
        "- yes <runId> [note]",
        "- no <runId> [reason]",
        "- status [runId]",
        "- jobs [filter]",
        "- log <runId> [lines]",
        "- cancel <runId>",
        "- retry <runId>",
        "- help",
    ]
    .join("\n")
}

/// The inherited sentence, and on further lines what will run, who asked, who may decide and until when.
pub fn approval_request(request: &ApprovalRequest<'_>) -> String {
    let ApprovalRequest { run, work, digest, requested_by, reason, approved_by, deadline } = *request;
    let mut lines = vec![run_created(&work.job, run), printable(&work.title)];
    lines.push(match reason {
        Some(reason) => format!("asked by {} (reason: {})", printable(requested_by), note(reason)),
        None => format!("asked by {}", printable(requested_by)),
    });
    lines.push(format!("$ {}", command_line(&work.argv)));
    if let Cwd::Path(path) = &work.cwd {
        lines.push(format!("in {}", printable(path)));
    }
    if let Approval::Approvers { of, quorum, distinct_from_requester } = &work.policy.approve {
        let of: Vec<String> = of.iter().map(ToString::to_string).collect();
        let so_far = if approved_by.is_empty() { String::new() } else { format!(" ({})", approved_by.join(", ")) };
        let requester = if *distinct_from_requester { "; whoever asked does not count" } else { "" };
        lines.push(format!("approvals {} of {quorum}{so_far} from {}{requester}", approved_by.len(), of.join(", ")));
    }
    lines.push(format!("digest {}", digest.short()));
    lines.push(format!("expires {} UTC, then DENIED", deadline.to_plain_string()));
    lines.join("\n")
}

/// Arguments as one would type them in a shell: for people to read, never to be run.
pub fn command_line(argv: &[String]) -> String {
    let quoted: Vec<String> = argv.iter().map(|argument| quote(argument)).collect();
    quoted.join(" ")
}

fn quote(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        return argument.to_owned();
    }
    format!("'{}'", printable(argument).replace('\'', "'\\''"))
}

/// Whether a character is a control, or steers or hides the characters around it.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line, with every hidden character shown as its escape.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What somebody gave as a note or a reason: one line, no hidden characters, not too long.
pub fn note(text: &str) -> String {
    let spaced: String =
        text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| !is_hidden(*c)).collect();
    let words: Vec<&str> = spaced.split(' ').filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(MAX_NOTE).collect();
    line.trim_end().to_owned()
}

pub fn approval_request_key(run: &str) -> String {
    format!("approval-request:{run}")
}

pub fn approved_starting_key(run: &str) -> String {
    format!("approved-starting:{run}")
}

pub fn execution_completed_key(run: &str) -> String {
    format!("execution-completed:{run}")
}

pub fn execution_started_error_key(run: &str) -> String {
    format!("execution-started-error:{run}")
}

pub fn execution_started_error_state_key(run: &str) -> String {
    format!("execution-started-error-state:{run}")
}

pub fn execution_completed_error_key(run: &str) -> String {
    format!("execution-completed-error:{run}")
}

pub fn execution_completed_error_state_key(run: &str) -> String {
    format!("execution-completed-error-state:{run}")
}

/// The key of the direct reply to one inbound message.
pub fn reply_key(channel: &str, provider_message_id: &str) -> String {
    format!("reply:{channel}:{provider_message_id}")
}

#[cfg(test)]
mod tests;
