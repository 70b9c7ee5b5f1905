//! People who hold a protocol up, let it go on, or end it.

use super::{PlanState, ProtocolError, ProtocolEvent, ProtocolState, decide::Deciding};
use crate::{
    gate::GateEvent,
    ids::{GateId, StepId},
    step::{BlockedOn, Failure, Review, StepState},
    task::TaskKind,
};

type Decided = Result<(), ProtocolError>;

impl Deciding {
    pub(super) fn pause(&mut self, by: &str) -> Decided {
        if matches!(self.state.state, ProtocolState::Paused { .. }) {
            return Err(self.state.wrong_state("paused"));
        }
        self.emit(ProtocolEvent::Paused { by: by.to_owned() });
        // What already was accepted still reaches the branch; nothing new starts.
        self.withdraw(&[TaskKind::PlanProtocol, TaskKind::ExecuteStep, TaskKind::RunQuality]);
        Ok(())
    }

    pub(super) fn resume(&mut self, gate: &GateId) -> Decided {
        let ProtocolState::Paused { from } = self.state.state.clone() else {
            return Err(self.state.wrong_state("resumed"));
        };
        match *from {
            ProtocolState::Planning if self.state.plan == PlanState::Ready => {
                self.resume_to(ProtocolState::Planned);
                self.begin(gate);
            }
            ProtocolState::Planning => {
                self.resume_to(ProtocolState::Planning);
                match self.state.plan {
                    PlanState::Queued => self.effect(TaskKind::PlanProtocol, serde_json::json!({}), None),
                    // It failed while nobody was looking.
                    PlanState::None => {
                        let failure = Failure::new("planning_failed", "planning failed while the protocol was paused");
                        self.block_on(BlockedOn::Failure { failure });
                    }
                    PlanState::Working | PlanState::Integrating { .. } | PlanState::Ready => {}
                }
            }
            from @ (ProtocolState::Running | ProtocolState::Blocked { .. }) => self.resume_work(from, gate),
            from @ (ProtocolState::Pending | ProtocolState::Planned) => self.resume_to(from),
            from @ (ProtocolState::Paused { .. }
            | ProtocolState::Failed { .. }
            | ProtocolState::Cancelled { .. }
            | ProtocolState::Completed { .. }) => self.resume_to(from),
        }
        Ok(())
    }

    fn resume_to(&mut self, to: ProtocolState) {
        self.emit(ProtocolEvent::Resumed { to: Box::new(to) });
    }

    /// Much may have ended while the protocol was paused: what holds now is read from its steps.
    fn resume_work(&mut self, from: ProtocolState, gate: &GateId) {
        if let Some(on) = self.state.trouble() {
            return self.resume_to(ProtocolState::Blocked { on });
        }
        if self.state.counts.total == 0 {
            return self.resume_to(from);
        }
        self.resume_to(ProtocolState::Running);
        let waiting = self
            .state
            .steps
            .iter()
            .find(|step| matches!(step.state, StepState::NeedsQa { review: Review::Waiting, .. }));
        match waiting.map(|step| step.id) {
            Some(step) => self.enqueue_qa(step),
            None => self.go_on(gate),
        }
    }

    pub(super) fn cancel(&mut self, by: &str) {
        let open: Vec<_> = self.state.gates.iter().filter(|gate| gate.is_open()).cloned().collect();
        for gate in open {
            let change = GateEvent::Withdrawn { gate: gate.id, at: self.now };
            self.emit(ProtocolEvent::GateChanged { step: gate.step.map(StepId), change });
        }
        // Before the attempts end in the ledger: what has begun is told to stop.
        self.withdraw(&[]);
        self.emit(ProtocolEvent::Cancelled { by: by.to_owned(), at: self.now });
    }
}
