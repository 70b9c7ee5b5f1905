//! Gates of a protocol: before a step, and after an execution that was cut off.

use std::time::Duration;

use super::{Protocol, ProtocolError, ProtocolEvent, decide::Deciding};
use crate::{
    digest::Digest,
    gate::{self, Answer, Answered, Approvers, Asks, Gate, GateEvent, GateKind, GatePolicy, GateState},
    ids::{GateId, StepId},
    step::{BlockedOn, Step},
    task::{Effect, TaskKind},
    time::Timestamp,
};

/// How long people may take to say whether a step is run again.
const RUN_AGAIN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Protocol {
    /// What an approval is bound to: the step's spec, where the branch is, and what is on it.
    pub fn step_digest(&self, step: &Step) -> Option<String> {
        let what = serde_json::json!({
            "protocol": self.id,
            "step": step.id,
            "spec": step.spec,
            "branch": self.name,
            "tip": self.branch.tip,
            "diff": self.branch.diff,
        });
        Digest::of("step", &what).ok().map(|digest| digest.to_string())
    }

    pub(super) fn no_open_gate(&self, id: Option<&GateId>) -> ProtocolError {
        match id.and_then(|id| self.gate(id)) {
            Some(gate) => ProtocolError::Gate(gate.closed()),
            None => ProtocolError::NoSuchGate { protocol: self.id, gate: id.cloned() },
        }
    }
}

impl Deciding {
    pub(super) fn open_step_gate(&mut self, step: &Step, id: &GateId) {
        let Some(wanted) = &step.spec.gate else { return };
        let branch = &self.state.branch;
        let mut lines = vec![format!("branch {} at {}", self.state.name, short(branch.tip.as_deref()))];
        lines.push(branch.diff.to_string());
        lines.extend(branch.diff.lines.iter().cloned());
        let asks = Asks {
            kind: GateKind::Step,
            title: format!("Start step {} of protocol {}", step.name(), self.state.name),
            argv: Vec::new(),
            lines,
        };
        // A value that has no canonical form cannot be approved: an empty digest matches nothing.
        let digest = self.state.step_digest(step).unwrap_or_default();
        let deadline = self.now.after(wanted.timeout);
        self.open_gate(step, id, asks, digest, wanted.policy(), deadline, None);
    }

    pub(super) fn ask_to_run_again(&mut self, step: &Step, id: &GateId, why: &str) {
        let asks = Asks {
            kind: GateKind::RunAgain,
            title: format!("Run step {} of protocol {} again", step.name(), self.state.name),
            argv: Vec::new(),
            lines: vec![format!("attempt {} was cut off: {why}", step.next_attempt().saturating_sub(1))],
        };
        let policy = GatePolicy {
            approvers: Approvers::Anyone,
            quorum: 1,
            distinct_from_requester: false,
            key: "retry".to_owned(),
        };
        let digest = self.state.step_digest(step).unwrap_or_default();
        let deadline = self.now.after(RUN_AGAIN_TIMEOUT);
        self.open_gate(step, id, asks, digest, policy, deadline, Some(why.to_owned()));
    }

    #[expect(clippy::too_many_arguments, reason = "every one is a field of the gate, and both callers differ in all")]
    fn open_gate(
        &mut self,
        step: &Step,
        id: &GateId,
        asks: Asks,
        digest: String,
        policy: GatePolicy,
        deadline: Timestamp,
        reason: Option<String>,
    ) {
        let owner = self.state.subject();
        let gate = Gate {
            id: id.clone(),
            owner,
            step: Some(step.id.0),
            asks,
            question: None,
            digest,
            policy,
            requested_by: self.state.created_by.clone(),
            requester: self.state.requester.clone(),
            reason,
            opened_at: gate::opened_after(&self.state.gates, self.now),
            deadline: Some(deadline),
            state: GateState::Open { approvals: Vec::new() },
        };
        let on = BlockedOn::Gate { gate: id.clone() };
        let change = GateEvent::Opened { gate: Box::new(gate) };
        self.emit(ProtocolEvent::GateChanged { step: Some(step.id), change });
        self.emit(ProtocolEvent::StepBlocked { step: step.id, on: on.clone() });
        self.block_on(on);
        self.expire_at(id, deadline);
    }

    pub(super) fn expire_at(&mut self, gate: &GateId, deadline: Timestamp) {
        let effect = Effect::new(TaskKind::ExpireGate, self.state.subject());
        let mut effect = effect.with(serde_json::json!({ "gate": gate })).due(deadline);
        effect.project = Some(self.state.project.0);
        self.decision.effects.push(effect);
    }

    pub(super) fn answer_gate(
        &mut self,
        id: Option<&GateId>,
        answer: &Answer,
        next: &GateId,
    ) -> Result<(), ProtocolError> {
        let gate = match id {
            Some(id) => self.state.gate(id),
            None => self.state.open_gate(),
        };
        let Some(gate) = gate.cloned() else { return Err(self.state.no_open_gate(id)) };
        match gate.decide(answer, self.now)? {
            Answered::Repeat => {}
            Answered::Counted(changes) => self.change_gate(&gate, changes),
            Answered::Approved(changes) => {
                self.change_gate(&gate, changes);
                self.close_gate();
                if gate.asks.kind != GateKind::Permission {
                    self.let_go(&gate, next);
                }
            }
            Answered::Denied(changes) => {
                let why = match changes.first() {
                    Some(GateEvent::Denied { account, reason: Some(reason), .. }) => {
                        format!("denied by {account}: {reason}")
                    }
                    Some(GateEvent::Denied { account, .. }) => format!("denied by {account}"),
                    _ => "denied".to_owned(),
                };
                self.change_gate(&gate, changes);
                self.close_gate();
                if gate.asks.kind != GateKind::Permission {
                    self.refuse(&gate, why);
                }
            }
            Answered::Expired(changes) => self.expired(&gate, changes),
        }
        Ok(())
    }

    pub(super) fn expire_gate(&mut self, id: &GateId) {
        let Some(gate) = self.state.gate(id).filter(|gate| gate.is_open()).cloned() else { return };
        match gate.deadline {
            Some(deadline) if deadline > self.now => self.expire_at(id, deadline),
            _ => self.expired(&gate, vec![GateEvent::Expired { gate: id.clone(), at: self.now }]),
        }
    }

    /// What was approved is no longer what would run: the old gate is void, another asks again.
    pub(super) fn supersede(&mut self, step: &Step, next: &GateId) {
        self.open_step_gate(step, next);
    }

    fn expired(&mut self, gate: &Gate, changes: Vec<GateEvent>) {
        self.change_gate(gate, changes);
        self.close_gate();
        // An engine that asked is told no and goes on; nothing else waits for it.
        if gate.asks.kind != GateKind::Permission {
            self.refuse(gate, "nobody answered in time".to_owned());
        }
    }

    pub(super) fn change_gate(&mut self, gate: &Gate, changes: Vec<GateEvent>) {
        for change in changes {
            self.emit(ProtocolEvent::GateChanged { step: gate.step.map(StepId), change });
        }
    }

    /// A protocol has one open gate at most, so that its timers may all go.
    pub(super) fn close_gate(&mut self) {
        self.withdraw(&[TaskKind::ExpireGate]);
    }

    fn let_go(&mut self, gate: &Gate, next: &GateId) {
        let Some(step) = gate.step.map(StepId) else { return };
        let waits = self.state.state == super::ProtocolState::Blocked { on: BlockedOn::Gate { gate: gate.id.clone() } };
        let approved = (gate.asks.kind == GateKind::Step).then(|| gate.digest.clone());
        self.emit(ProtocolEvent::StepUnblocked { step, approved });
        if waits {
            self.enqueue(step, false, next);
        }
    }

    fn refuse(&mut self, gate: &Gate, why: String) {
        let on = BlockedOn::Refused { gate: gate.id.clone(), why };
        if let Some(step) = gate.step.map(StepId) {
            self.emit(ProtocolEvent::StepBlocked { step, on: on.clone() });
        }
        self.block_on(on);
    }
}

fn short(oid: Option<&str>) -> &str {
    oid.map_or("its base", |oid| oid.get(..12).unwrap_or(oid))
}
