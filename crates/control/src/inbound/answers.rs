//! What people are told: looks at runs, and refusals in words.

use domain::{
    catalog::Job,
    commit::SubjectKind,
    gate::{Answer, Gate, GateError},
    grammar::{IntentKind, TypedRef},
    ids::{GateId, RunId},
    run::{Run, RunError, RunState},
    text,
};

use super::{InboundReply, Letter};
use crate::{Control, error::CommandError, ledger::Rendered};

/// An overview and a catalog end here: they are read on a phone.
const MAX_LINES: usize = 20;
const DEFAULT_LOG_LINES: u32 = 20;
const MAX_LOG_LINES: u32 = 100;

impl Control {
    /// Keeps a reply that changes nothing else, and the mark that the message was seen.
    pub(super) async fn say(
        &self,
        letter: &Letter,
        run: Option<&RunId>,
        body: String,
    ) -> Result<InboundReply, CommandError> {
        let reply = letter.replies.reply(run, body);
        let rendered = Rendered { answer: String::new(), messages: vec![reply.clone()] };
        self.record(&letter.cause, &"answer", rendered).await?;
        Ok(InboundReply {
            intent: IntentKind::Unknown,
            job_key: None,
            run_id: run.cloned(),
            dispatched_execution: false,
            outbound: vec![reply],
        })
    }

    pub(super) async fn unknown_run(&self, letter: &Letter, typed: &TypedRef) -> Result<InboundReply, CommandError> {
        self.say(letter, None, text::unknown_run(typed.as_str())).await
    }

    /// The run somebody typed, and the gate if they typed that.
    pub(super) async fn find_asked(&self, typed: &TypedRef) -> Result<Option<(Run, Option<GateId>)>, CommandError> {
        let Ok(reference) = typed.reference() else { return Ok(None) };
        let reference = reference.to_string();
        let Some(run) = self.find_run(&reference).await? else { return Ok(None) };
        let gate = (run.id.as_str() != reference).then_some(GateId(reference));
        Ok(Some((run, gate)))
    }

    /// A gate that belongs to something other than a run.
    pub(super) async fn decide_elsewhere(
        &self,
        letter: &Letter,
        typed: &TypedRef,
        answer: Answer,
    ) -> Result<InboundReply, CommandError> {
        let Ok(reference) = typed.reference() else { return self.unknown_run(letter, typed).await };
        let id = GateId(reference.to_string());
        match self.store().find_gate(id.as_str()).await? {
            Some(gate) if gate.owner.kind == SubjectKind::Protocol => {}
            _ => return self.unknown_run(letter, typed).await,
        }
        let render = |gate: &Gate| Rendered {
            answer: String::new(),
            messages: vec![letter.replies.reply(None, format!("Gate {} is {}.", gate.id, gate.state.name()))],
        };
        match self.answer_gate(&id, answer, &letter.cause, render).await {
            Ok(gate) => Ok(InboundReply {
                intent: IntentKind::Unknown,
                job_key: None,
                run_id: None,
                dispatched_execution: false,
                outbound: vec![letter.replies.reply(None, format!("Gate {} is {}.", gate.id, gate.state.name()))],
            }),
            Err(error @ (CommandError::Repeated(_) | CommandError::Store(_) | CommandError::Contended)) => Err(error),
            Err(refusal) => self.say(letter, None, super::sentence(&refusal.to_string())).await,
        }
    }

    pub(super) async fn tell_status(&self, letter: &Letter, typed: &TypedRef) -> Result<InboundReply, CommandError> {
        let Some((run, _)) = self.find_asked(typed).await? else { return self.unknown_run(letter, typed).await };
        let body = text::status(run.id.as_str(), &run.job.job, run.state.name(), run.created_at);
        self.say(letter, Some(&run.id), body).await
    }

    pub(super) async fn tell_overview(&self, letter: &Letter) -> Result<InboundReply, CommandError> {
        let unfinished: Vec<String> =
            ["AwaitingApproval", "Dispatching", "Running", "Blocked"].map(str::to_owned).to_vec();
        let runs = self.store().list_runs(&unfinished, None, 50).await?;
        let lines: Vec<String> =
            runs.iter().take(MAX_LINES).map(|run| format!("{} {} {}", run.id, run.job.job, run.state.name())).collect();
        let body = match (lines.len(), runs.len()) {
            (0, _) => "Nothing is waiting and nothing is running.".to_owned(),
            (shown, all) if shown < all => format!("{}\nand {} more", lines.join("\n"), all - shown),
            _ => lines.join("\n"),
        };
        self.say(letter, None, body).await
    }

    pub(super) async fn tell_jobs(&self, letter: &Letter, filter: Option<&str>) -> Result<InboundReply, CommandError> {
        let catalog = self.catalog().await?;
        let wanted = filter.map(str::to_lowercase);
        let fits = |job: &&Job| {
            let line = format!("{} {}", job.key, job.title.as_str()).to_lowercase();
            wanted.as_ref().is_none_or(|wanted| line.contains(wanted))
        };
        let lines: Vec<String> = catalog
            .jobs()
            .filter(fits)
            .take(MAX_LINES)
            .map(|job| format!("{}: {}", job.key, text::printable(job.title.as_str())))
            .collect();
        let body = if lines.is_empty() { "There are no such jobs.".to_owned() } else { lines.join("\n") };
        self.say(letter, None, body).await
    }

    pub(super) async fn tell_log(
        &self,
        letter: &Letter,
        typed: &TypedRef,
        lines: Option<u32>,
    ) -> Result<InboundReply, CommandError> {
        let Some((run, _)) = self.find_asked(typed).await? else { return self.unknown_run(letter, typed).await };
        let Some(attempt) = &run.attempt else {
            return self.say(letter, Some(&run.id), format!("Run {} has not started yet.", run.id)).await;
        };
        let lines = lines.unwrap_or(DEFAULT_LOG_LINES).clamp(1, MAX_LOG_LINES);
        let body = match self.log_tail(&attempt.id, lines as usize) {
            Some(tail) if tail.is_empty() => format!("Run {} has printed nothing.", run.id),
            Some(tail) => tail,
            None => format!("The log of run {} is not on this machine.", run.id),
        };
        self.say(letter, Some(&run.id), body).await
    }
}

/// What the sender of an answer is told directly, when the messages of the run itself do not say it already.
pub(super) fn to_verdict(after: &Run, verb: &str, approvals_before: usize) -> Option<String> {
    match &after.state {
        RunState::AwaitingApproval { gate } | RunState::Blocked { on: domain::run::BlockedOn::Gate { gate }, .. } => {
            let gate = after.gate(gate)?;
            let (given, wanted) = (gate.approvals().len(), gate.policy.quorum);
            Some(if given == approvals_before {
                format!("You have approved run {} already: {given} of {wanted} approvals.", after.id)
            } else {
                format!("Approval {given} of {wanted} for run {}.", after.id)
            })
        }
        RunState::Denied { .. } => Some(text::denied(&after.job.job, after.id.as_str())),
        RunState::Expired { .. } => Some(text::wrong_state(verb, after.id.as_str(), after.state.name())),
        _ => None,
    }
}

/// A refusal of the rules, in words. `now` is the run as it is after the refusal.
pub(super) fn to_refusal(error: &RunError, verb: &str, now: &Run) -> String {
    let run = now.id.as_str();
    match error {
        RunError::Gate(GateError::SelfApproval { policy, .. }) => {
            format!("You asked for run {run} and cannot approve it yourself ({policy}).")
        }
        RunError::Gate(GateError::NotApprover { person, .. }) => {
            format!("{person} is not among the approvers of run {run}.")
        }
        RunError::Gate(GateError::NotAPerson { person, .. }) => {
            format!("Only active people decide, and {person} is none.")
        }
        RunError::Gate(GateError::Closed { .. }) | RunError::WrongState { .. } | RunError::Fenced { .. } => {
            text::wrong_state(verb, run, now.state.name())
        }
        RunError::NoSuchGate { .. } => text::unknown_run(run),
    }
}

pub(super) fn to_cancel(after: &Run) -> String {
    match after.state {
        RunState::Running => format!("Stopping run {}.", after.id),
        _ => text::run_canceled(after.id.as_str()),
    }
}

/// A run that passes its gate again is announced by the gate's own message.
pub(super) fn to_retry(after: &Run) -> Option<String> {
    match after.state {
        RunState::Dispatching { .. } => Some(text::starting(&after.job.job, after.id.as_str())),
        _ => None,
    }
}
