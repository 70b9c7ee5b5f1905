//! Questions of an engine at work: each becomes a gate of its protocol, and the answer goes back to the engine.
//!
//! The question is in what the engine printed, the gate in the ledger, the answer in a sealed file: whoever holds the
//! attempt's fence finds where it stands from these three, and does what is missing. Only a gate that is approved, over
//! exactly what was asked, becomes a yes.

use control::{Cause, CommandError};
use domain::{
    attempt::Attempt,
    catalog::Principal,
    gate::{Approvers, Gate, GateState},
    ids::StepId,
    protocol::{PermissionQuestion, Protocol, ProtocolError},
};
use engines::{
    Supervised,
    engine::{Answer, Asking, Configured, Wanted},
};

use crate::{Worker, failure::Failure, lease::Lease, plan_protocol::protocol_id};

/// Carries questions of one running tree to people, and answers back.
pub(crate) struct Asker<'a> {
    worker: &'a Worker,
    lease: &'a Lease,
    attempt: &'a Attempt,
    pub(crate) configured: &'a Configured,
    pub(crate) supervised: &'a Supervised,
    /// Whether the tree's own time stands still, as far as its supervisor was told.
    held: Option<bool>,
    /// The question that was looked at last, and whether it was answered.
    at: Option<(String, bool)>,
}

/// What stands of a question.
enum Stands {
    Waits,
    Answered { allowed: bool, by: String },
}

impl<'a> Asker<'a> {
    pub(crate) fn new(
        worker: &'a Worker,
        lease: &'a Lease,
        attempt: &'a Attempt,
        configured: &'a Configured,
        supervised: &'a Supervised,
    ) -> Self {
        Self { worker, lease, attempt, configured, supervised, held: Some(false), at: None }
    }

    /// For a tree of an earlier worker, of which nobody knows what its supervisor was told.
    pub(crate) fn adopting(self) -> Self {
        Self { held: None, ..self }
    }

    /// Does what is to be done about what the engine asks now. What goes wrong is tried again at the next look.
    pub(crate) async fn look(&mut self, wanted: Option<&Wanted>) {
        let waits = wanted.is_some();
        if self.held != Some(waits) {
            match self.supervised.hold(waits).await {
                Ok(()) => self.held = Some(waits),
                Err(error) => tracing::debug!(%error, "A supervisor was not told that its engine waits"),
            }
        }
        let Some(wanted) = wanted else {
            // It gave up before anybody had answered.
            if let Some((_, false)) = self.at.take()
                && let Err(error) = self.worker.drop_questions(self.lease, self.attempt).await
            {
                tracing::warn!(attempt = %self.attempt.id, ?error, "A question could not be taken back");
            }
            return;
        };
        if self.at.as_ref().is_some_and(|(question, answered)| *question == wanted.question && *answered) {
            return;
        }
        self.at = Some((wanted.question.clone(), false));
        match self.stands(wanted).await {
            Ok(Stands::Waits) => {}
            Ok(Stands::Answered { allowed, by }) => match self.carry_back(wanted, allowed, by) {
                Ok(()) => self.at = Some((wanted.question.clone(), true)),
                Err(error) => tracing::warn!(attempt = %self.attempt.id, error, "An answer could not be carried back"),
            },
            Err(error) => {
                tracing::warn!(attempt = %self.attempt.id, %error, "A question of attempt {} waits", self.attempt.id);
            }
        }
    }

    async fn stands(&self, wanted: &Wanted) -> Result<Stands, CommandError> {
        let control = &self.worker.control;
        let Ok(id) = protocol_id(self.lease) else { return Ok(no("its protocol is not known")) };
        let question = self.question(wanted);
        let protocol = control.get::<Protocol>(&id.to_string()).await?.subject;
        let known = protocol.gates.into_iter().find(|gate| self.is_gate_of(gate, wanted));
        let gate = match known {
            Some(gate) => gate,
            None => {
                let step = step_of(self.attempt);
                let cause = self.worker.keeping(self.lease);
                let asked = control.ask_permission(id, step, self.lease.fence, question.clone(), &cause).await;
                match asked {
                    Ok(protocol) => match protocol.gates.into_iter().find(|gate| self.is_gate_of(gate, wanted)) {
                        Some(gate) => {
                            tracing::info!(gate = %gate.id, attempt = %self.attempt.id, "Gate {} asks: {}", gate.id, gate.asks.title);
                            gate
                        }
                        // Somebody paused or ended the protocol: the engine is about to be stopped.
                        None => return Ok(Stands::Waits),
                    },
                    Err(CommandError::Protocol(error @ ProtocolError::TooManyQuestions { .. })) => {
                        return Ok(no(error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let digest = question.digest(&self.attempt.id);
        Ok(match &gate.state {
            GateState::Open { .. } => Stands::Waits,
            GateState::Approved { .. } if digest.as_ref() != Some(&gate.digest) => {
                no(format!("gate {} was about something else", gate.id))
            }
            GateState::Approved { approvals, .. } => {
                let by: Vec<&str> = approvals.iter().map(|approval| approval.account.as_str()).collect();
                Stands::Answered { allowed: true, by: by.join(", ") }
            }
            GateState::Denied { account, .. } => no(account.clone()),
            GateState::Expired { .. } => no("nobody answered in time"),
            GateState::Superseded { .. } | GateState::Withdrawn { .. } => no("the question was taken back"),
        })
    }

    fn is_gate_of(&self, gate: &Gate, wanted: &Wanted) -> bool {
        gate.is_about(&wanted.question)
            && gate.question.as_ref().is_some_and(|question| question.attempt == self.attempt.id)
    }

    fn question(&self, wanted: &Wanted) -> PermissionQuestion {
        let ask = &self.configured.ask;
        PermissionQuestion {
            id: wanted.question.clone(),
            engine: self.configured.id.clone(),
            tool: wanted.tool.clone(),
            input: wanted.input.clone(),
            paths: wanted.paths.clone(),
            asked: wanted.asked.clone(),
            approvers: match &ask.approvers {
                None => Approvers::Anyone,
                // Names were checked where they were read; one that is none is nobody.
                Some(names) => {
                    Approvers::Listed(names.iter().filter_map(|name| name.parse::<Principal>().ok()).collect())
                }
            },
            quorum: ask.quorum,
            timeout: ask.timeout,
        }
    }

    fn carry_back(&self, wanted: &Wanted, allowed: bool, by: String) -> Result<(), String> {
        let asking = Asking::new(&self.attempt.nonce, self.configured.ask.timeout);
        let home = self.worker.attempt_dir(self.attempt).join("home");
        let answer = Answer { question: wanted.question.clone(), asked: wanted.asked.clone(), allowed, by };
        asking.write(&home, &answer)
    }
}

impl Worker {
    /// What an attempt's engine asked is no longer waited for: its processes are gone, or it gave up.
    pub(crate) async fn drop_questions(&self, lease: &Lease, attempt: &Attempt) -> Result<(), Failure> {
        let id = protocol_id(lease)?;
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        let is_open = |gate: &Gate| {
            gate.is_open() && gate.question.as_ref().is_some_and(|question| question.attempt == attempt.id)
        };
        if protocol.gates.iter().any(is_open) {
            let cause = Cause::of(self.actor()).acknowledging(lease.keep());
            self.control.drop_questions(id, step_of(attempt), lease.fence, &cause).await?;
        }
        Ok(())
    }
}

fn no(by: impl Into<String>) -> Stands {
    Stands::Answered { allowed: false, by: by.into() }
}

/// The step of an attempt; without one it is the planning.
pub(crate) fn step_of(attempt: &Attempt) -> Option<StepId> {
    attempt.subject.strip_prefix("step:").and_then(|id| id.parse().ok()).map(StepId)
}
