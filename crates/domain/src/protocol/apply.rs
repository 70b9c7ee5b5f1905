//! The only code that changes a protocol: what each event makes of it.

use super::{Ended, PlanState, Protocol, ProtocolEvent, ProtocolState};
use crate::{
    aggregate::Aggregate,
    attempt::{Attempt, AttemptState, Ending, Fact},
    commit::SubjectKind,
    gate,
    ids::{Fence, StepId},
    step::{BlockedOn, DiffStat, Review, Step, StepState, Work},
    time::Timestamp,
};

impl Aggregate for Protocol {
    type Event = ProtocolEvent;

    const KIND: SubjectKind = SubjectKind::Protocol;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn created(event: &ProtocolEvent) -> Option<Self> {
        match event {
            ProtocolEvent::Created { protocol } => Some((**protocol).clone()),
            _ => None,
        }
    }

    /// The only code that changes a protocol, its steps and its gates.
    fn apply(&mut self, event: &ProtocolEvent) {
        match event {
            ProtocolEvent::Created { protocol } => *self = (**protocol).clone(),
            ProtocolEvent::StepAdded { step } => self.add(step),
            ProtocolEvent::PlanningEnqueued => {
                self.tried.clear();
                self.plan = PlanState::Queued;
                self.state = ProtocolState::Planning;
            }
            ProtocolEvent::PlanningStarted { attempt } => {
                self.attempt = Some((**attempt).clone());
                self.plan = PlanState::Working;
            }
            ProtocolEvent::PlanAccepted { spec, steps, base, old, commit, end, at, .. } => {
                end_attempt(&mut self.attempt, end, *at);
                self.tried.clear();
                steps.iter().for_each(|step| self.add(step));
                self.spec = Some(spec.clone());
                self.branch.base = Some(base.clone());
                self.plan = PlanState::Integrating { old: old.clone(), new: commit.clone() };
            }
            ProtocolEvent::PlanningFailed { end, at, failure } => {
                match end {
                    Some(end) => end_attempt(&mut self.attempt, end, *at),
                    None => cut_off(&mut self.attempt, Ending::Failed, &failure.why, *at),
                }
                self.tried.clear();
                self.plan = PlanState::None;
            }
            ProtocolEvent::PlanningFellBack { from, end, at, .. } => {
                end_attempt(&mut self.attempt, end, *at);
                self.tried.push(from.clone());
                self.plan = PlanState::Queued;
            }
            ProtocolEvent::PlanningInterrupted { why, at } => {
                cut_off(&mut self.attempt, Ending::Interrupted, why, *at);
                self.plan = PlanState::Queued;
            }
            ProtocolEvent::Planned { .. } => self.state = ProtocolState::Planned,
            ProtocolEvent::Running => self.state = ProtocolState::Running,
            ProtocolEvent::ProtocolBlocked { on } => self.state = ProtocolState::Blocked { on: on.clone() },
            ProtocolEvent::Paused { .. } => self.pause(),
            ProtocolEvent::Resumed { to } => self.state = (**to).clone(),
            ProtocolEvent::Cancelled { by, at } => self.cancel(by, *at),
            ProtocolEvent::ProtocolCompleted { at } => self.state = ProtocolState::Completed { at: *at },
            ProtocolEvent::GateChanged { change, .. } => gate::apply_to(&mut self.gates, change),
            ProtocolEvent::BranchAdvanced { step, new, diff } => self.move_branch(*step, new, diff),
            ProtocolEvent::BranchConflict { step, found, why } => {
                if let Some(found) = found {
                    self.branch.tip = Some(found.clone());
                }
                match step {
                    None => self.plan = PlanState::None,
                    Some(step) => self.block(*step, &BlockedOn::Conflict { why: why.clone() }),
                }
            }
            ProtocolEvent::AttemptAdopted { step: None, fence, worker, .. } => adopt(&mut self.attempt, *fence, worker),
            ProtocolEvent::AttemptTold { step: None, fact } => learn(&mut self.attempt, fact),
            ProtocolEvent::StepBlocked { step, on } => self.block(*step, on),
            ProtocolEvent::StepCompleted { step, .. } => {
                self.change(*step, |step| step.apply(event));
                self.meet(*step);
            }
            ProtocolEvent::JobFailed { .. } => {}
            ProtocolEvent::StepEnqueued { step }
            | ProtocolEvent::StepRetryEnqueued { step }
            | ProtocolEvent::StepStarted { step, .. }
            | ProtocolEvent::AttemptAdopted { step: Some(step), .. }
            | ProtocolEvent::AttemptTold { step: Some(step), .. }
            | ProtocolEvent::StepExecuted { step, .. }
            | ProtocolEvent::StepExecutionFailed { step, .. }
            | ProtocolEvent::StepTimedOut { step, .. }
            | ProtocolEvent::StepFellBack { step, .. }
            | ProtocolEvent::StepStopped { step, .. }
            | ProtocolEvent::StepInterrupted { step, .. }
            | ProtocolEvent::StepUnblocked { step, .. }
            | ProtocolEvent::QaSkippedPolicy { step }
            | ProtocolEvent::QaEnqueued { step }
            | ProtocolEvent::QaStarted { step, .. }
            | ProtocolEvent::QaPassed { step, .. }
            | ProtocolEvent::QaFailed { step, .. }
            | ProtocolEvent::QaInconclusive { step, .. }
            | ProtocolEvent::QaInterrupted { step, .. }
            | ProtocolEvent::QaFellBack { step, .. }
            | ProtocolEvent::ManualApproval { step, .. }
            | ProtocolEvent::IntegrationEnqueued { step, .. } => self.change(*step, |step| step.apply(event)),
        }
    }

    fn event_name(event: &ProtocolEvent) -> &'static str {
        event.name()
    }

    fn project_of(&self, _event: &ProtocolEvent) -> Option<i64> {
        Some(self.project.0)
    }

    fn step_of(&self, event: &ProtocolEvent) -> Option<i64> {
        event.step().map(|step| step.0)
    }
}

impl Protocol {
    /// Changes one step and keeps the counts of the head right.
    fn change(&mut self, id: StepId, change: impl FnOnce(&mut Step)) {
        let Some(step) = self.steps.iter_mut().find(|step| step.id == id) else { return };
        let before = (step.is_active(), step.state.is_terminal());
        change(step);
        let after = (step.is_active(), step.state.is_terminal());
        adjust(&mut self.counts.active, before.0, after.0);
        adjust(&mut self.counts.done, before.1, after.1);
    }

    fn add(&mut self, step: &Step) {
        for wanted in &step.depends_on {
            if let Some(before) = self.steps.iter_mut().find(|before| before.id == *wanted) {
                before.dependents.push(step.id);
            }
        }
        self.counts.total = self.counts.total.saturating_add(1);
        let place = self.steps.partition_point(|other| other.index < step.index);
        self.steps.insert(place, step.clone());
    }

    /// Tells the steps that wait for this one that they no longer do.
    fn meet(&mut self, id: StepId) {
        let dependents = self.step(id).map(|step| step.dependents.clone()).unwrap_or_default();
        for dependent in dependents {
            self.change(dependent, |step| step.unmet = step.unmet.saturating_sub(1));
        }
    }

    fn block(&mut self, id: StepId, on: &BlockedOn) {
        self.change(id, |step| {
            let candidate = step.candidate().cloned();
            step.tried.clear();
            step.state = StepState::Blocked { on: on.clone(), candidate };
        });
    }

    /// What was queued is taken back; what is under way ends or stops by itself.
    fn pause(&mut self) {
        let from = std::mem::replace(&mut self.state, ProtocolState::Pending);
        self.state = ProtocolState::Paused { from: Box::new(from) };
        let active: Vec<StepId> = self.steps.iter().filter(|step| step.is_active()).map(|step| step.id).collect();
        for id in active {
            self.change(id, |step| match &mut step.state {
                StepState::Running { work: Work::Queued } => step.state = StepState::Pending,
                StepState::NeedsQa { review, .. } if *review == Review::Queued => *review = Review::Waiting,
                _ => {}
            });
        }
    }

    fn cancel(&mut self, by: &str, at: Timestamp) {
        cut_off(&mut self.attempt, Ending::Canceled, "cancelled", at);
        let open: Vec<StepId> =
            self.steps.iter().filter(|step| !step.state.is_terminal()).map(|step| step.id).collect();
        for id in open {
            self.change(id, |step| {
                cut_off(&mut step.attempt, Ending::Canceled, "cancelled", at);
                step.state = StepState::Cancelled { at };
            });
        }
        self.state = ProtocolState::Cancelled { by: by.to_owned(), at };
    }

    fn move_branch(&mut self, step: Option<StepId>, new: &str, diff: &DiffStat) {
        match step.and_then(|step| self.step(step)) {
            None => self.plan = PlanState::Ready,
            Some(step) => {
                if self.branch.base.is_none() {
                    self.branch.base = step.candidate().map(|candidate| candidate.base.clone());
                }
            }
        }
        self.branch.tip = Some(new.to_owned());
        self.branch.diff = diff.clone();
    }
}

impl Step {
    /// Events of one step alone; what touches the head or other steps is the protocol's.
    fn apply(&mut self, event: &ProtocolEvent) {
        match event {
            ProtocolEvent::StepEnqueued { .. } => self.state = StepState::Running { work: Work::Queued },
            ProtocolEvent::StepRetryEnqueued { .. } => {
                self.retries = self.retries.saturating_add(1);
                self.state = StepState::Running { work: Work::Queued };
            }
            ProtocolEvent::StepStarted { attempt, .. } => {
                self.attempt = Some((**attempt).clone());
                self.state = StepState::Running { work: Work::Executing };
            }
            ProtocolEvent::AttemptAdopted { fence, worker, .. } => adopt(&mut self.attempt, *fence, worker),
            ProtocolEvent::AttemptTold { fact, .. } => learn(&mut self.attempt, fact),
            ProtocolEvent::StepExecuted { candidate, end, at, .. } => {
                self.end(end, *at);
                self.state = StepState::NeedsQa { candidate: candidate.clone(), review: Review::Waiting };
            }
            ProtocolEvent::StepExecutionFailed { failure, end, candidate, at, .. } => {
                match end {
                    Some(end) => self.end(end, *at),
                    None => cut_off(&mut self.attempt, Ending::Failed, &failure.why, *at),
                }
                self.tried.clear();
                self.summary = Some(failure.to_string());
                self.state = StepState::Failed { failure: failure.clone(), candidate: candidate.clone(), at: *at };
            }
            ProtocolEvent::StepTimedOut { end, at, .. } => {
                self.end(end, *at);
                self.state = StepState::TimedOut { summary: end.summary.clone(), at: *at };
            }
            ProtocolEvent::StepFellBack { from, end, at, .. } => {
                self.gives_way(from, end, *at);
                self.state = StepState::Pending;
            }
            ProtocolEvent::StepStopped { at, .. } => {
                cut_off(&mut self.attempt, Ending::Canceled, "stopped", *at);
                self.state = StepState::Pending;
            }
            ProtocolEvent::StepInterrupted { why, at, .. } => {
                cut_off(&mut self.attempt, Ending::Interrupted, why, *at);
                self.interruptions = self.interruptions.saturating_add(1);
                self.state = StepState::Pending;
            }
            ProtocolEvent::StepUnblocked { approved, .. } => {
                if approved.is_some() {
                    self.approved.clone_from(approved);
                }
                self.state = StepState::Pending;
            }
            ProtocolEvent::QaEnqueued { .. } => {
                if let Some(candidate) = self.candidate().cloned() {
                    self.state = StepState::NeedsQa { candidate, review: Review::Queued };
                }
            }
            ProtocolEvent::QaStarted { attempt, .. } => {
                self.attempt = Some((**attempt).clone());
                self.review(Review::Checking);
            }
            ProtocolEvent::QaPassed { end, at, .. } | ProtocolEvent::QaInconclusive { end, at, .. } => {
                self.end(end, *at);
                self.review(Review::Waiting);
            }
            ProtocolEvent::QaFailed { failure, end, at, .. } => {
                self.end(end, *at);
                self.summary = Some(failure.to_string());
                self.state =
                    StepState::Failed { failure: failure.clone(), candidate: self.candidate().cloned(), at: *at };
            }
            ProtocolEvent::QaInterrupted { why, at, .. } => {
                cut_off(&mut self.attempt, Ending::Interrupted, why, *at);
                self.interruptions = self.interruptions.saturating_add(1);
                self.review(Review::Waiting);
            }
            ProtocolEvent::QaFellBack { from, end, at, .. } => {
                self.gives_way(from, end, *at);
                self.review(Review::Waiting);
            }
            ProtocolEvent::ManualApproval { at, .. } => {
                self.tried.clear();
                cut_off(&mut self.attempt, Ending::Canceled, "approved by a person meanwhile", *at);
            }
            ProtocolEvent::IntegrationEnqueued { integration, .. } => {
                self.state = StepState::Running { work: Work::Integrating { integration: (**integration).clone() } };
            }
            ProtocolEvent::StepCompleted { by, reason, commit, at, .. } => {
                self.state =
                    StepState::Completed { by: by.clone(), reason: reason.clone(), commit: commit.clone(), at: *at };
            }
            _ => {}
        }
    }

    /// The engine of its attempt could not be had: another one is tried.
    fn gives_way(&mut self, from: &str, end: &Ended, at: Timestamp) {
        let mut tried = std::mem::take(&mut self.tried);
        tried.push(from.to_owned());
        self.end(end, at);
        self.tried = tried;
    }

    /// What was asked for has come to a result.
    fn end(&mut self, end: &Ended, at: Timestamp) {
        end_attempt(&mut self.attempt, end, at);
        self.tried.clear();
        self.interruptions = 0;
        self.summary = Some(end.summary.clone());
    }

    fn review(&mut self, to: Review) {
        if let StepState::NeedsQa { review, .. } = &mut self.state {
            *review = to;
        }
    }
}

fn adopt(attempt: &mut Option<Attempt>, fence: Fence, worker: &str) {
    if let Some(attempt) = attempt {
        attempt.fence = fence;
        worker.clone_into(&mut attempt.worker);
    }
}

fn learn(attempt: &mut Option<Attempt>, fact: &Fact) {
    if let Some(attempt) = attempt {
        attempt.learn(fact);
    }
}

fn end_attempt(attempt: &mut Option<Attempt>, end: &Ended, at: Timestamp) {
    if let Some(attempt) = attempt.as_mut().filter(|attempt| attempt.is_running()) {
        attempt.state = AttemptState::Ended {
            ending: end.ending,
            at,
            summary: end.summary.clone(),
            exit_code: end.exit_code,
            usage: end.usage.clone(),
        };
    }
}

fn cut_off(attempt: &mut Option<Attempt>, ending: Ending, why: &str, at: Timestamp) {
    end_attempt(attempt, &Ended { ending, summary: why.to_owned(), exit_code: None, usage: None }, at);
}

fn adjust(count: &mut u32, before: bool, after: bool) {
    match (before, after) {
        (false, true) => *count = count.saturating_add(1),
        (true, false) => *count = count.saturating_sub(1),
        (true, true) | (false, false) => {}
    }
}
