//! What people ask of a protocol, and what follows whenever work may go on.
//!
//! Deciding works on a copy: every event is applied to it as it is decided, so that what follows sees what went before.
//! What people hold up or end is in `steering`, what workers report in `work`, what gates do in `gates`.

use super::{Advance, NewStep, PlanState, Protocol, ProtocolCommand, ProtocolError, ProtocolEvent, ProtocolState};
use crate::{
    aggregate::Aggregate,
    commit::Withdraw,
    decision::{Context, Decision},
    ids::{GateId, StepId},
    person::Person,
    step::{BlockedOn, Candidate, Failure, Integration, Review, Step, StepState, Work},
    task::{Effect, TaskKind},
    time::Timestamp,
};

/// A decision in the making.
pub(super) struct Deciding {
    pub(super) state: Protocol,
    pub(super) now: Timestamp,
    pub(super) decision: Decision<ProtocolEvent>,
}

type Decided = Result<(), ProtocolError>;

impl Protocol {
    /// Decides what a command does to this protocol, without doing it.
    pub fn decide(
        &self,
        command: &ProtocolCommand,
        context: &Context,
    ) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        if self.state.is_finished() {
            return self.decide_finished(command);
        }
        let mut deciding = Deciding { state: self.clone(), now: context.now, decision: Decision::nothing() };
        deciding.decide(command)?;
        deciding.drop_questions_of_the_dead();
        Ok(deciding.decision)
    }

    /// Nothing changes a finished protocol. What workers still report about it is heard and dropped.
    fn decide_finished(&self, command: &ProtocolCommand) -> Result<Decision<ProtocolEvent>, ProtocolError> {
        let wanted = match command {
            ProtocolCommand::Cancel { .. } if matches!(self.state, ProtocolState::Cancelled { .. }) => {
                return Ok(Decision::nothing());
            }
            ProtocolCommand::BeginPlan { .. }
            | ProtocolCommand::AdoptPlan { .. }
            | ProtocolCommand::PlanReady { .. }
            | ProtocolCommand::PlanFailed { .. }
            | ProtocolCommand::PlanInterrupted { .. }
            | ProtocolCommand::StartStep { .. }
            | ProtocolCommand::AdoptStep { .. }
            | ProtocolCommand::TellAttempt { .. }
            | ProtocolCommand::StepExecuted { .. }
            | ProtocolCommand::StepInterrupted { .. }
            | ProtocolCommand::StepStopped { .. }
            | ProtocolCommand::AskPermission { .. }
            | ProtocolCommand::DropQuestions { .. }
            | ProtocolCommand::QaStarted { .. }
            | ProtocolCommand::QaFinished { .. }
            | ProtocolCommand::ExpireGate { .. }
            | ProtocolCommand::BranchAdvanced { .. }
            | ProtocolCommand::BranchMoved { .. }
            | ProtocolCommand::TaskDead { .. } => return Ok(Decision::nothing()),
            ProtocolCommand::AnswerGate { gate, .. } => return Err(self.no_open_gate(gate.as_ref())),
            ProtocolCommand::AddStep { .. } => "given another step",
            ProtocolCommand::Start { .. } => "started",
            ProtocolCommand::RunNextStep { .. } | ProtocolCommand::RunStep { .. } => "run",
            ProtocolCommand::RetryLatest { .. } => "retried",
            ProtocolCommand::RunQa { .. } => "checked",
            ProtocolCommand::ApproveStep { .. } => "approved",
            ProtocolCommand::Pause { .. } => "paused",
            ProtocolCommand::Resume { .. } => "resumed",
            ProtocolCommand::Cancel { .. } => "cancelled",
        };
        Err(self.wrong_state(wanted))
    }

    pub(super) fn wrong_state(&self, wanted: &'static str) -> ProtocolError {
        ProtocolError::WrongState { protocol: self.id, state: self.state.name(), wanted }
    }

    /// What keeps a protocol from going on: the first step, by index, that is in trouble.
    pub(super) fn trouble(&self) -> Option<BlockedOn> {
        self.steps.iter().find_map(|step| match &step.state {
            StepState::Blocked { on, .. } => Some(on.clone()),
            StepState::Failed { failure, .. } => Some(BlockedOn::Failure { failure: failure.clone() }),
            StepState::TimedOut { summary, .. } => {
                Some(BlockedOn::Failure { failure: Failure::new("timed_out", summary.clone()) })
            }
            StepState::Pending
            | StepState::Running { .. }
            | StepState::NeedsQa { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::Cancelled { .. } => None,
        })
    }
}

impl Deciding {
    fn decide(&mut self, command: &ProtocolCommand) -> Decided {
        match command {
            ProtocolCommand::AddStep { step } => self.add_step(step),
            ProtocolCommand::Start { gate } => self.start(gate),
            ProtocolCommand::RunNextStep { gate } => self.run_next(gate),
            ProtocolCommand::RetryLatest { gate } => self.retry_latest(gate),
            ProtocolCommand::RunStep { step, gate } => self.run_step(*step, gate),
            ProtocolCommand::RunQa { step } => self.run_qa(*step),
            ProtocolCommand::ApproveStep { step, by, account, reason, gate } => {
                self.approve_step(*step, by, account, reason.as_ref(), gate)
            }
            ProtocolCommand::Pause { by } => self.pause(by),
            ProtocolCommand::Resume { gate } => self.resume(gate),
            ProtocolCommand::Cancel { by } => {
                self.cancel(by);
                Ok(())
            }
            ProtocolCommand::AnswerGate { gate, answer, next } => self.answer_gate(gate.as_ref(), answer, next),
            ProtocolCommand::ExpireGate { gate } => {
                self.expire_gate(gate);
                Ok(())
            }
            ProtocolCommand::AskPermission { step, fence, question, gate } => {
                self.ask_permission(*step, *fence, question, gate)
            }
            ProtocolCommand::DropQuestions { step, fence } => {
                let attempt = self.attempt_under(*step, *fence)?.id;
                self.drop_questions(&attempt);
                Ok(())
            }
            ProtocolCommand::BeginPlan { .. }
            | ProtocolCommand::AdoptPlan { .. }
            | ProtocolCommand::PlanReady { .. }
            | ProtocolCommand::PlanFailed { .. }
            | ProtocolCommand::PlanInterrupted { .. } => self.decide_planning(command),
            ProtocolCommand::StartStep { .. }
            | ProtocolCommand::AdoptStep { .. }
            | ProtocolCommand::TellAttempt { .. }
            | ProtocolCommand::StepExecuted { .. }
            | ProtocolCommand::StepInterrupted { .. }
            | ProtocolCommand::StepStopped { .. }
            | ProtocolCommand::QaStarted { .. }
            | ProtocolCommand::QaFinished { .. } => self.decide_work(command),
            ProtocolCommand::BranchAdvanced { .. }
            | ProtocolCommand::BranchMoved { .. }
            | ProtocolCommand::TaskDead { .. } => {
                self.decide_effect(command);
                Ok(())
            }
        }
    }

    pub(super) fn emit(&mut self, event: ProtocolEvent) {
        self.state.apply(&event);
        self.decision.events.push(event);
    }

    pub(super) fn effect(&mut self, kind: TaskKind, payload: serde_json::Value, engine: Option<String>) {
        let mut effect = Effect::new(kind, self.state.subject()).with(payload);
        effect.project = Some(self.state.project.0);
        effect.engine = engine;
        self.decision.effects.push(effect);
    }

    pub(super) fn withdraw(&mut self, kinds: &[TaskKind]) {
        let (subject, kinds) = (self.state.subject(), kinds.to_vec());
        self.decision.withdraw.push(Withdraw { subject, kinds, begun: self.state.begun() });
    }

    /// A step of this protocol, as it is now.
    pub(super) fn step(&self, id: StepId) -> Result<Step, ProtocolError> {
        let found = self.state.step(id).cloned();
        found.ok_or(ProtocolError::NoSuchStep { protocol: self.state.id, step: id })
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.state == ProtocolState::Running
    }

    fn add_step(&mut self, new: &NewStep) -> Decided {
        if self.state.state == ProtocolState::Planning {
            return Err(self.state.wrong_state("given another step"));
        }
        let step = self.state.added(new)?;
        self.emit(ProtocolEvent::StepAdded { step: Box::new(step) });
        Ok(())
    }

    fn start(&mut self, gate: &GateId) -> Decided {
        match &self.state.state {
            ProtocolState::Pending => self.enqueue_planning(),
            // A plan that did not come about may be tried again; a plan that exists is never replaced.
            ProtocolState::Blocked { .. } if self.state.plan == PlanState::None && self.state.branch.tip.is_none() => {
                self.check_may_run("started")?;
                self.enqueue_planning();
            }
            ProtocolState::Planned => {
                self.emit(ProtocolEvent::Running);
                self.go_on(gate);
            }
            ProtocolState::Paused { .. } => self.resume(gate)?,
            ProtocolState::Planning
            | ProtocolState::Running
            | ProtocolState::Blocked { .. }
            | ProtocolState::Failed { .. }
            | ProtocolState::Cancelled { .. }
            | ProtocolState::Completed { .. } => return Err(self.state.wrong_state("started")),
        }
        Ok(())
    }

    fn enqueue_planning(&mut self) {
        self.emit(ProtocolEvent::PlanningEnqueued);
        self.effect(TaskKind::PlanProtocol, serde_json::json!({}), None);
    }

    /// Work on steps is possible in these states, and only for one step at a time.
    fn check_may_run(&self, wanted: &'static str) -> Decided {
        match &self.state.state {
            ProtocolState::Pending
            | ProtocolState::Planned
            | ProtocolState::Running
            | ProtocolState::Blocked { .. } => {}
            ProtocolState::Planning
            | ProtocolState::Paused { .. }
            | ProtocolState::Failed { .. }
            | ProtocolState::Cancelled { .. }
            | ProtocolState::Completed { .. } => return Err(self.state.wrong_state(wanted)),
        }
        if self.state.counts.active > 0
            && let Some(busy) = self.state.steps.iter().find(|step| step.is_active())
        {
            let (protocol, busy, state) = (self.state.id, busy.id, busy.state.name());
            return Err(ProtocolError::Busy { protocol, busy, state });
        }
        Ok(())
    }

    fn run_next(&mut self, gate: &GateId) -> Decided {
        self.check_may_run("run")?;
        let may_run = |step: &&Step| match &step.state {
            StepState::Pending => step.unmet == 0,
            StepState::Blocked { .. } | StepState::Failed { .. } | StepState::TimedOut { .. } => true,
            StepState::Running { .. }
            | StepState::NeedsQa { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::Cancelled { .. } => false,
        };
        let next = self.state.steps.iter().find(may_run).map(|step| step.id);
        let next = next.ok_or(ProtocolError::NoStepToRun { protocol: self.state.id })?;
        self.check_no_open_gate(next)?;
        self.enqueue(next, false, gate);
        Ok(())
    }

    fn retry_latest(&mut self, gate: &GateId) -> Decided {
        self.check_may_run("retried")?;
        let failed = |step: &&Step| {
            matches!(step.state, StepState::Failed { .. } | StepState::Blocked { .. } | StepState::TimedOut { .. })
        };
        let latest = self.state.steps.iter().rev().find(failed).map(|step| step.id);
        let latest = latest.ok_or(ProtocolError::NoStepToRetry { protocol: self.state.id })?;
        self.check_no_open_gate(latest)?;
        self.enqueue(latest, true, gate);
        Ok(())
    }

    fn run_step(&mut self, id: StepId, gate: &GateId) -> Decided {
        let step = self.step(id)?;
        match &step.state {
            StepState::Pending if step.unmet > 0 => {
                return Err(ProtocolError::Unmet { step: id, unmet: step.unmet });
            }
            StepState::Pending | StepState::Blocked { .. } | StepState::Failed { .. } | StepState::TimedOut { .. } => {}
            StepState::Running { .. }
            | StepState::NeedsQa { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::Cancelled { .. } => return Err(step_wrong_state(&step, "run")),
        }
        self.check_may_run("run")?;
        // Steps go one at a time: whatever waits for people is answered before another step begins.
        if let Some(open) = self.state.open_gate() {
            return Err(ProtocolError::WaitsForGate { step: id, gate: open.id.clone() });
        }
        self.enqueue(id, false, gate);
        Ok(())
    }

    fn check_no_open_gate(&self, step: StepId) -> Decided {
        let open = self.state.gates.iter().find(|gate| gate.is_open() && gate.step == Some(step.0));
        match open {
            Some(gate) => Err(ProtocolError::WaitsForGate { step, gate: gate.id.clone() }),
            None => Ok(()),
        }
    }

    fn run_qa(&mut self, id: StepId) -> Decided {
        let step = self.step(id)?;
        match &step.state {
            StepState::NeedsQa { review: Review::Waiting, .. } => {}
            StepState::Failed { candidate: Some(_), .. } | StepState::Blocked { candidate: Some(_), .. } => {}
            StepState::Pending | StepState::Failed { .. } | StepState::Blocked { .. } | StepState::TimedOut { .. } => {
                return Err(ProtocolError::NothingToCheck { step: id });
            }
            StepState::Running { .. }
            | StepState::NeedsQa { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::Cancelled { .. } => return Err(step_wrong_state(&step, "checked")),
        }
        self.check_may_run("checked")?;
        self.check_no_open_gate(id)?;
        self.ensure_running();
        self.enqueue_qa(id);
        Ok(())
    }

    fn approve_step(
        &mut self,
        id: StepId,
        by: &Person,
        account: &str,
        reason: Option<&String>,
        gate: &GateId,
    ) -> Decided {
        if !by.may_decide() {
            return Err(ProtocolError::NotAPerson { person: by.name.clone() });
        }
        let step = self.step(id)?;
        match &step.state {
            StepState::NeedsQa { .. } | StepState::Blocked { .. } | StepState::Failed { .. } => {}
            StepState::Pending
            | StepState::Running { .. }
            | StepState::Completed { .. }
            | StepState::Skipped { .. }
            | StepState::TimedOut { .. }
            | StepState::Cancelled { .. } => return Err(step_wrong_state(&step, "approved")),
        }
        // A gate asks before something runs: completing the step by hand would answer it without saying so.
        self.check_no_open_gate(id)?;
        if step.is_active() {
            self.withdraw(&[TaskKind::RunQuality]);
        }
        let who = format!("user:{account}");
        self.emit(ProtocolEvent::ManualApproval { step: id, by: who.clone(), reason: reason.cloned(), at: self.now });
        if matches!(self.state.state, ProtocolState::Blocked { .. } | ProtocolState::Planned | ProtocolState::Pending) {
            self.ensure_running();
        }
        match step.candidate().cloned() {
            Some(candidate) => {
                let new = candidate.commit.clone();
                self.integrate(id, candidate, new, &who, reason);
            }
            None => {
                self.complete(id, &who, reason, None);
                self.go_on(gate);
            }
        }
        Ok(())
    }

    /// A plan is on its branch: protocols that advance by themselves begin.
    pub(super) fn begin(&mut self, gate: &GateId) {
        if self.state.advance == Advance::Auto {
            self.emit(ProtocolEvent::Running);
            self.go_on(gate);
        }
    }

    /// Completes the protocol, or starts the next step when steps follow each other by themselves.
    pub(super) fn go_on(&mut self, gate: &GateId) {
        let counts = self.state.counts;
        if !self.is_running() || counts.active > 0 {
            return;
        }
        if counts.total > 0 && counts.done == counts.total {
            return self.emit(ProtocolEvent::ProtocolCompleted { at: self.now });
        }
        if let Some(on) = self.state.trouble() {
            return self.block_on(on);
        }
        if self.state.advance == Advance::Auto
            && let Some(next) = self.state.steps.iter().find(|step| step.state == StepState::Pending && step.unmet == 0)
        {
            let next = next.id;
            self.enqueue(next, false, gate);
        }
    }

    /// Asks for a step's execution, or for the gate before it.
    pub(super) fn enqueue(&mut self, id: StepId, retry: bool, gate: &GateId) {
        let Some(step) = self.state.step(id).cloned() else { return };
        self.ensure_running();
        if step.spec.gate.is_some() && step.approved != self.state.step_digest(&step) {
            return self.open_step_gate(&step, gate);
        }
        self.emit(if retry {
            ProtocolEvent::StepRetryEnqueued { step: id }
        } else {
            ProtocolEvent::StepEnqueued { step: id }
        });
        self.effect(TaskKind::ExecuteStep, serde_json::json!({ "step": id }), step.wanted_engine());
    }

    pub(super) fn enqueue_qa(&mut self, id: StepId) {
        let reviewer = self.state.step(id).and_then(Step::wanted_reviewer);
        self.emit(ProtocolEvent::QaEnqueued { step: id });
        self.effect(TaskKind::RunQuality, serde_json::json!({ "step": id }), reviewer);
    }

    pub(super) fn ensure_running(&mut self) {
        if !self.is_running() {
            self.emit(ProtocolEvent::Running);
        }
    }

    /// A paused protocol stays paused: what blocks it is found when it is resumed.
    pub(super) fn block_on(&mut self, on: BlockedOn) {
        if !matches!(self.state.state, ProtocolState::Paused { .. }) {
            self.emit(ProtocolEvent::ProtocolBlocked { on });
        }
    }

    /// A result was accepted: the branch is to move to it, if it still stands where the result began.
    pub(super) fn integrate(
        &mut self,
        id: StepId,
        candidate: Candidate,
        new: String,
        by: &str,
        reason: Option<&String>,
    ) {
        let old = self.state.branch.tip.clone();
        if let Some(tip) = old.as_ref().filter(|tip| **tip != candidate.base) {
            let why =
                format!("the result was made on {}, and the branch is at {tip}: run the step again", candidate.base);
            let on = BlockedOn::Conflict { why };
            self.emit(ProtocolEvent::StepBlocked { step: id, on: on.clone() });
            return self.block_on(on);
        }
        let payload = serde_json::json!({ "step": id, "branch": self.state.name, "old": old, "new": new });
        let integration = Box::new(Integration { old, new, by: by.to_owned(), reason: reason.cloned(), candidate });
        self.emit(ProtocolEvent::IntegrationEnqueued { step: id, integration });
        self.effect(TaskKind::AdvanceBranch, payload, None);
    }

    pub(super) fn complete(&mut self, id: StepId, by: &str, reason: Option<&String>, commit: Option<String>) {
        let (by, reason, at) = (by.to_owned(), reason.cloned(), self.now);
        self.emit(ProtocolEvent::StepCompleted { step: id, by, reason, commit, at });
    }
}

pub(super) fn step_wrong_state(step: &Step, wanted: &'static str) -> ProtocolError {
    ProtocolError::StepWrongState { step: step.id, state: step.state.name(), wanted }
}

/// Whether the attempt that is under way is the one under this fence, executing.
pub(super) fn executes(step: &Step, fence: crate::ids::Fence) -> bool {
    matches!(step.state, StepState::Running { work: Work::Executing })
        && step.running().is_some_and(|attempt| attempt.fence == fence)
}

/// Whether the attempt that is under way is the one under this fence, checking.
pub(super) fn checks(step: &Step, fence: crate::ids::Fence) -> bool {
    matches!(step.state, StepState::NeedsQa { review: Review::Checking, .. })
        && step.running().is_some_and(|attempt| attempt.fence == fence)
}
