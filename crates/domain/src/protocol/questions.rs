//! Questions of engines at work: may this tool be used?
//!
//! A question is a gate of the protocol that nothing but the engine waits for: the step goes on running. An engine asks
//! one thing at a time. A question dies with the processes that asked it; its answer concerns no others.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ProtocolError, ProtocolEvent, ProtocolState,
    decide::{Deciding, checks, executes},
};
use crate::{
    attempt::Attempt,
    digest::Digest,
    gate::{self, Approvers, Asks, Gate, GateEvent, GateKind, GatePolicy, GateState, Question},
    ids::{AttemptId, Fence, GateId, StepId},
    step::Step,
};

/// More than this is put to people by no attempt: what is asked further is answered with no.
pub const MAX_QUESTIONS: usize = 100;

/// What an engine asked, with who may answer it and for how long it may wait.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionQuestion {
    pub id: String,
    pub engine: String,
    pub tool: String,
    /// The command, or whatever else the tool is given.
    pub input: String,
    pub paths: Vec<String>,
    /// SHA-256 over the question as the engine put it, hex: what is shown of it may have been cut.
    pub asked: String,
    pub approvers: Approvers,
    pub quorum: u32,
    pub timeout: Duration,
}

/// How much of a question is shown.
const MAX_LINES: usize = 60;
const MAX_LINE: usize = 1000;

type Decided = Result<(), ProtocolError>;

impl PermissionQuestion {
    /// What an answer is bound to: everything that was asked, and which attempt asked.
    pub fn digest(&self, attempt: &AttemptId) -> Option<String> {
        let what = serde_json::json!({
            "attempt": attempt,
            "question": self.id,
            "engine": self.engine,
            "tool": self.tool,
            "input": self.input,
            "paths": self.paths,
            "asked": self.asked,
        });
        Digest::of("permission", &what).ok().map(|digest| digest.to_string())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("tool {}", self.tool)];
        lines.extend(self.input.lines().take(MAX_LINES).map(|line| shown(line, MAX_LINE)));
        let more = self.input.lines().count().saturating_sub(MAX_LINES);
        if more > 0 {
            lines.push(format!("({more} lines more, not shown here)"));
        }
        lines.extend(self.paths.iter().take(MAX_LINES).map(|path| format!("path {}", shown(path, MAX_LINE))));
        lines
    }
}

impl Deciding {
    /// The attempt that is under way under this fence.
    pub(super) fn attempt_under(&self, step: Option<StepId>, fence: Fence) -> Result<Attempt, ProtocolError> {
        let attempt = match step {
            None => {
                self.check_plan_fence(fence)?;
                self.state.planning().cloned()
            }
            Some(id) => {
                let step = self.step(id)?;
                let held = executes(&step, fence) || checks(&step, fence);
                step.running().filter(|_| held).cloned()
            }
        };
        attempt.ok_or_else(|| self.fenced())
    }

    pub(super) fn ask_permission(
        &mut self,
        step: Option<StepId>,
        fence: Fence,
        question: &PermissionQuestion,
        id: &GateId,
    ) -> Decided {
        let attempt = self.attempt_under(step, fence)?;
        let of_attempt = |gate: &&Gate| gate.question.as_ref().is_some_and(|asked| asked.attempt == attempt.id);
        if self.state.gates.iter().filter(of_attempt).any(|gate| gate.is_about(&question.id)) {
            return Ok(());
        }
        // Somebody paused: the engine is about to be stopped, and nobody has to answer it.
        if matches!(self.state.state, ProtocolState::Paused { .. }) {
            return Ok(());
        }
        let asked = self.state.gates.iter().filter(of_attempt).count();
        if asked >= MAX_QUESTIONS {
            return Err(ProtocolError::TooManyQuestions { attempt: attempt.id, asked });
        }
        self.drop_questions(&attempt.id);
        let place = match step.and_then(|id| self.state.step(id)) {
            Some(step) => format!("in step {} of protocol {}", step.name(), self.state.name),
            None => format!("for planning protocol {}", self.state.name),
        };
        let (tool, engine) = (shown(&question.tool, 100), &question.engine);
        let deadline = self.now.after(question.timeout);
        let gate = Gate {
            id: id.clone(),
            owner: self.state.subject(),
            step: step.map(|step| step.0),
            asks: Asks {
                kind: GateKind::Permission,
                title: format!("Let {engine} use {tool} {place}"),
                argv: Vec::new(),
                lines: question.lines(),
            },
            // A question that has no canonical form cannot be approved: an empty digest matches nothing.
            digest: question.digest(&attempt.id).unwrap_or_default(),
            question: Some(Question { attempt: attempt.id, id: question.id.clone() }),
            policy: GatePolicy {
                approvers: question.approvers.clone(),
                quorum: question.quorum.max(1),
                // The engine asks, not the person who wanted the protocol.
                distinct_from_requester: false,
                key: format!("engines.{engine}.permissions"),
            },
            requested_by: self.state.created_by.clone(),
            requester: format!("engine:{engine}"),
            reason: None,
            opened_at: gate::opened_after(&self.state.gates, self.now),
            deadline: Some(deadline),
            state: GateState::Open { approvals: Vec::new() },
        };
        let change = GateEvent::Opened { gate: Box::new(gate) };
        self.emit(ProtocolEvent::GateChanged { step, change });
        self.expire_at(id, deadline);
        Ok(())
    }

    /// What this attempt asked is no longer waited for.
    pub(super) fn drop_questions(&mut self, attempt: &AttemptId) {
        self.drop_questions_where(|question| question.attempt == *attempt);
    }

    /// Whoever goes on with a session has other processes than those that asked.
    pub(super) fn drop_questions_of_a_session(
        &mut self,
        step: Option<StepId>,
        fence: Fence,
        session: Option<&String>,
    ) -> Decided {
        if session.is_some() {
            let attempt = self.attempt_under(step, fence)?.id;
            self.drop_questions(&attempt);
        }
        Ok(())
    }

    /// After whatever was decided: what was asked by an attempt that is over concerns nobody.
    pub(super) fn drop_questions_of_the_dead(&mut self) {
        if !self.state.gates.iter().any(|gate| gate.is_open() && gate.question.is_some()) {
            return;
        }
        let running: Vec<AttemptId> = self
            .state
            .planning()
            .into_iter()
            .chain(self.state.steps.iter().filter_map(Step::running))
            .map(|attempt| attempt.id.clone())
            .collect();
        self.drop_questions_where(|question| !running.contains(&question.attempt));
    }

    fn drop_questions_where(&mut self, dropped: impl Fn(&Question) -> bool) {
        let open: Vec<Gate> = self
            .state
            .gates
            .iter()
            .filter(|gate| gate.is_open() && gate.question.as_ref().is_some_and(&dropped))
            .cloned()
            .collect();
        for gate in open {
            let change = GateEvent::Withdrawn { gate: gate.id.clone(), at: self.now };
            self.change_gate(&gate, vec![change]);
            self.close_gate();
        }
    }
}

/// A text without what cannot be seen; what is left out of it is said.
fn shown(text: &str, max: usize) -> String {
    let printable = crate::text::printable(text);
    let kept: String = printable.chars().take(max).collect();
    match printable.chars().count().saturating_sub(max) {
        0 => kept,
        more => format!("{kept} ({more} characters more, not shown here)"),
    }
}
