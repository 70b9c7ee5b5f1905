//! What workers report to a protocol: planning, executions, checks, and moves of the branch.
//!
//! Every report carries the fence of its attempt. One that comes too late, because its attempt was taken over, is
//! refused; one that asks for what is done already changes nothing.

use super::{
    Executed, PlanReady, PlanState, ProtocolCommand, ProtocolError, ProtocolEvent, ProtocolState, QaReport, QaVerdict,
    decide::{Deciding, checks, executes},
};
use crate::{
    attempt::{Attempt, AttemptState, Duty, Ending, Fact},
    ids::{AttemptId, Fence, GateId, StepId, TaskId},
    run::Begin,
    spec::{QaPolicy, Retry, StepType},
    step::{BlockedOn, DiffStat, Failure, MAX_INTERRUPTIONS, Review, Step, StepState, Work},
    task::TaskKind,
};

type Decided = Result<(), ProtocolError>;

impl Deciding {
    pub(super) fn decide_planning(&mut self, command: &ProtocolCommand) -> Decided {
        match command {
            ProtocolCommand::BeginPlan { begin, engine } => {
                self.begin_plan(begin, engine);
                Ok(())
            }
            ProtocolCommand::AdoptPlan { old, fence, worker, session } => {
                self.check_plan_fence(*old)?;
                self.drop_questions_of_a_session(None, *old, session.as_ref())?;
                let (worker, session) = (worker.clone(), session.clone());
                self.emit(ProtocolEvent::AttemptAdopted { step: None, fence: *fence, worker, session });
                Ok(())
            }
            ProtocolCommand::PlanReady { fence, plan } => {
                self.check_plan_fence(*fence)?;
                self.plan_ready(plan);
                Ok(())
            }
            ProtocolCommand::PlanFailed { fence, failure, end, fall_back } => {
                self.check_plan_fence(*fence)?;
                if self.plan_falls_back(fall_back.as_ref(), end) {
                    return Ok(());
                }
                let (failure, end, at) = (failure.clone(), Some(end.clone()), self.now);
                self.emit(ProtocolEvent::PlanningFailed { failure: failure.clone(), end, at });
                self.block_on(BlockedOn::Failure { failure });
                Ok(())
            }
            ProtocolCommand::PlanInterrupted { fence, why } => {
                self.check_plan_fence(*fence)?;
                self.emit(ProtocolEvent::PlanningInterrupted { why: why.clone(), at: self.now });
                if self.state.state == ProtocolState::Planning {
                    self.effect(TaskKind::PlanProtocol, serde_json::json!({}), None);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn decide_work(&mut self, command: &ProtocolCommand) -> Decided {
        match command {
            ProtocolCommand::StartStep { step, begin, engine, gate } => self.start_step(*step, begin, engine, gate),
            ProtocolCommand::AdoptStep { step, old, fence, worker, session } => {
                let found = self.step(*step)?;
                if !executes(&found, *old) && !checks(&found, *old) {
                    return Err(self.fenced());
                }
                self.drop_questions_of_a_session(Some(*step), *old, session.as_ref())?;
                let (step, fence, worker, session) = (Some(*step), *fence, worker.clone(), session.clone());
                self.emit(ProtocolEvent::AttemptAdopted { step, fence, worker, session });
                Ok(())
            }
            ProtocolCommand::TellAttempt { step, fence, fact } => self.tell_attempt(*step, *fence, fact),
            ProtocolCommand::StepExecuted { step, fence, result, gate } => {
                self.step_executed(*step, *fence, result, gate)
            }
            ProtocolCommand::StepInterrupted { step, fence, why, gate } => {
                self.step_interrupted(*step, *fence, why, gate)
            }
            ProtocolCommand::StepStopped { step, fence, gate } => self.step_stopped(*step, *fence, gate),
            ProtocolCommand::QaStarted { step, begin, engine } => self.qa_started(*step, begin, engine),
            ProtocolCommand::QaFinished { step, fence, report } => self.qa_finished(*step, *fence, report),
            _ => Ok(()),
        }
    }

    pub(super) fn decide_effect(&mut self, command: &ProtocolCommand) {
        match command {
            ProtocolCommand::BranchAdvanced { step, new, diff, gate } => {
                self.branch_advanced(*step, new, diff, gate);
            }
            ProtocolCommand::BranchMoved { step, new, found } => self.branch_moved(*step, new, found.as_deref()),
            ProtocolCommand::TaskDead { kind, task, stop, step, why } => {
                self.task_dead(*kind, task, *stop, *step, why);
            }
            _ => {}
        }
    }

    pub(super) fn fenced(&self) -> ProtocolError {
        ProtocolError::Fenced { protocol: self.state.id }
    }

    pub(super) fn check_plan_fence(&self, fence: Fence) -> Decided {
        let held = self.state.plan == PlanState::Working
            && self.state.planning().is_some_and(|attempt| attempt.fence == fence);
        if held { Ok(()) } else { Err(self.fenced()) }
    }

    fn tell_attempt(&mut self, id: Option<StepId>, fence: Fence, fact: &Fact) -> Decided {
        let attempt = match id {
            None => {
                self.check_plan_fence(fence)?;
                self.state.planning().cloned()
            }
            Some(id) => {
                let step = self.step(id)?;
                if !executes(&step, fence) && !checks(&step, fence) {
                    return Err(self.fenced());
                }
                step.attempt
            }
        };
        if attempt.is_some_and(|attempt| !attempt.knows(fact)) {
            self.emit(ProtocolEvent::AttemptTold { step: id, fact: fact.clone() });
        }
        Ok(())
    }

    fn begin_plan(&mut self, begin: &Begin, engine: &str) {
        if self.state.state != ProtocolState::Planning || self.state.plan != PlanState::Queued {
            return;
        }
        let number = self.state.attempt.as_ref().map_or(1, |attempt| attempt.number.saturating_add(1));
        let id = AttemptId(format!("protocol-{}-{number}", self.state.id));
        let subject = self.state.subject().to_string();
        let attempt = Box::new(self.attempt(id, subject, number, "plan", engine, begin));
        self.emit(ProtocolEvent::PlanningStarted { attempt });
    }

    fn plan_ready(&mut self, plan: &PlanReady) {
        let first = self.state.steps.last().map_or(0, |step| step.index.saturating_add(1));
        let mut steps: Vec<Step> = Vec::new();
        for (index, planned) in (first..).zip(&plan.steps) {
            let before = steps.last().map(|step| step.id).or_else(|| self.state.steps.last().map(|step| step.id));
            let depends_on = match &planned.spec.depends_on {
                None => before.into_iter().collect(),
                Some(wanted) => {
                    let named = |step: &&Step| wanted.contains(&step.spec.id);
                    steps.iter().filter(named).map(|step| step.id).collect()
                }
            };
            steps.push(self.state.step_of(planned.id, index, planned.spec.clone(), depends_on));
        }
        let old = self.state.branch.tip.clone();
        let payload = serde_json::json!({
            "step": null, "branch": self.state.name, "old": old, "new": plan.commit,
        });
        self.emit(ProtocolEvent::PlanAccepted {
            spec: plan.spec.clone(),
            steps_created: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            steps,
            base: plan.base.clone(),
            old,
            commit: plan.commit.clone(),
            end: plan.end.clone(),
            at: self.now,
        });
        self.effect(TaskKind::AdvanceBranch, payload, None);
    }

    fn start_step(&mut self, id: StepId, begin: &Begin, engine: &str, gate: &GateId) -> Decided {
        let step = self.step(id)?;
        if !self.is_running() || step.state != (StepState::Running { work: Work::Queued }) {
            return Ok(());
        }
        // What was approved is what runs: the digest is compared again at the last moment.
        if step.spec.gate.is_some() && step.approved != self.state.step_digest(&step) {
            self.supersede(&step, gate);
            return Ok(());
        }
        let attempt = Box::new(self.step_attempt(&step, "execute", engine, begin));
        self.emit(ProtocolEvent::StepStarted { step: id, attempt });
        Ok(())
    }

    fn step_attempt(&self, step: &Step, phase: &str, engine: &str, begin: &Begin) -> Attempt {
        let number = step.next_attempt();
        self.attempt(AttemptId::of_step(step.id, number), format!("step:{}", step.id), number, phase, engine, begin)
    }

    fn attempt(
        &self,
        id: AttemptId,
        subject: String,
        number: u32,
        phase: &str,
        engine: &str,
        begin: &Begin,
    ) -> Attempt {
        Attempt {
            id,
            subject,
            number,
            phase: phase.to_owned(),
            engine: engine.to_owned(),
            task: begin.task.clone(),
            fence: begin.fence,
            worker: begin.worker.clone(),
            nonce: begin.nonce.clone(),
            started_at: self.now,
            containment: None,
            metered: None,
            state: AttemptState::Running,
        }
    }

    fn step_executed(&mut self, id: StepId, fence: Fence, result: &Executed, gate: &GateId) -> Decided {
        let step = self.step(id)?;
        if !executes(&step, fence) {
            return Err(self.fenced());
        }
        let end = result.end.clone();
        let at = self.now;
        match (end.ending, &result.candidate) {
            (Ending::Failed, _) if self.step_falls_back(&step, result.fall_back.as_ref(), &end, gate) => {}
            (Ending::TimedOut, _) => {
                let failure = Failure::new("timed_out", end.summary.clone());
                self.emit(ProtocolEvent::StepTimedOut { step: id, end, at });
                self.block_on(BlockedOn::Failure { failure });
            }
            (Ending::Succeeded, Some(candidate)) if step.step_type() == StepType::Work && candidate.diff.files == 0 => {
                let failure = Failure::new("empty_diff", "the engine ended well and changed nothing");
                self.fail(id, failure, Some(end), None);
            }
            (Ending::Succeeded, Some(candidate)) => {
                self.emit(ProtocolEvent::StepExecuted { step: id, candidate: candidate.clone(), end, at });
                if step.spec.qa_policy() == QaPolicy::Skip {
                    self.emit(ProtocolEvent::QaSkippedPolicy { step: id });
                    self.integrate(id, candidate.clone(), candidate.commit.clone(), "system", None);
                } else if self.is_running() {
                    self.enqueue_qa(id);
                }
            }
            (Ending::Succeeded | Ending::Failed | Ending::Canceled | Ending::Interrupted, _) => {
                let failure =
                    result.failure.clone().unwrap_or_else(|| Failure::new("engine_failed", end.summary.clone()));
                self.fail(id, failure, Some(end), None);
            }
        }
        Ok(())
    }

    fn fail(
        &mut self,
        step: StepId,
        failure: Failure,
        end: Option<super::Ended>,
        candidate: Option<crate::step::Candidate>,
    ) {
        let at = self.now;
        self.emit(ProtocolEvent::StepExecutionFailed { step, failure: failure.clone(), end, candidate, at });
        self.block_on(BlockedOn::Failure { failure });
    }

    fn step_interrupted(&mut self, id: StepId, fence: Fence, why: &str, gate: &GateId) -> Decided {
        let step = self.step(id)?;
        let (why, at) = (why.to_owned(), self.now);
        if checks(&step, fence) {
            // Checks and reviews have a checkout of their own: beginning them again is always safe.
            self.emit(ProtocolEvent::QaInterrupted { step: id, why: why.clone(), at });
            if self.interrupted_too_often(id, &why) {
                return Ok(());
            }
            if self.is_running() {
                self.enqueue_qa(id);
            }
            return Ok(());
        }
        if !executes(&step, fence) {
            return Err(self.fenced());
        }
        self.emit(ProtocolEvent::StepInterrupted { step: id, why: why.clone(), at });
        if self.interrupted_too_often(id, &why) {
            return Ok(());
        }
        match step.spec.retry() {
            Retry::Safe if self.is_running() => self.enqueue(id, false, gate),
            Retry::Safe => {}
            Retry::Ask => {
                let step = self.step(id)?;
                self.ask_to_run_again(&step, gate, &why);
            }
        }
        Ok(())
    }

    /// Something about the step kills its workers: it stops being tried by itself.
    fn interrupted_too_often(&mut self, id: StepId, why: &str) -> bool {
        let often = self.state.step(id).map_or(0, |step| step.interruptions);
        if often < MAX_INTERRUPTIONS {
            return false;
        }
        let on = BlockedOn::Interrupted { why: format!("cut off {often} times in a row, last: {why}") };
        self.emit(ProtocolEvent::StepBlocked { step: id, on: on.clone() });
        self.block_on(on);
        true
    }

    fn step_stopped(&mut self, id: StepId, fence: Fence, gate: &GateId) -> Decided {
        let step = self.step(id)?;
        let at = self.now;
        if checks(&step, fence) {
            self.emit(ProtocolEvent::QaInterrupted { step: id, why: "stopped".to_owned(), at });
            // Resumed before the stop was carried out.
            if self.is_running() {
                self.enqueue_qa(id);
            }
            return Ok(());
        }
        if !executes(&step, fence) {
            return Err(self.fenced());
        }
        self.emit(ProtocolEvent::StepStopped { step: id, at });
        if self.is_running() {
            self.enqueue(id, false, gate);
        }
        Ok(())
    }

    fn qa_started(&mut self, id: StepId, begin: &Begin, engine: &str) -> Decided {
        let step = self.step(id)?;
        let queued = matches!(step.state, StepState::NeedsQa { review: Review::Queued, .. });
        if self.is_running() && queued {
            let attempt = Box::new(self.step_attempt(&step, "qa", engine, begin));
            self.emit(ProtocolEvent::QaStarted { step: id, attempt });
        }
        Ok(())
    }

    fn qa_finished(&mut self, id: StepId, fence: Fence, report: &QaReport) -> Decided {
        let step = self.step(id)?;
        if !checks(&step, fence) {
            return Err(self.fenced());
        }
        let (findings, end, at) = (report.findings.clone(), report.end.clone(), self.now);
        let candidate = step.candidate().cloned();
        if self.review_falls_back(&step, report.fall_back.as_ref(), &findings, &end) {
            return Ok(());
        }
        // A verdict without a finding judged nothing, whatever it says.
        let verdict = if findings.is_empty() { QaVerdict::Inconclusive } else { report.verdict };
        match (verdict, candidate) {
            (QaVerdict::Pass, Some(candidate)) => {
                self.emit(ProtocolEvent::QaPassed { step: id, findings, end, at });
                let new = report.commit.clone().unwrap_or_else(|| candidate.commit.clone());
                self.integrate(id, candidate, new, "qa", None);
            }
            (QaVerdict::Fail, _) => {
                let failed = findings.iter().find(|finding| finding.verdict == QaVerdict::Fail);
                let why = failed.map_or("a check failed".to_owned(), |finding| format!("{} failed", finding.check));
                let failure = Failure::new("qa_failed", why);
                self.emit(ProtocolEvent::QaFailed { step: id, failure: failure.clone(), findings, end, at });
                self.block_on(BlockedOn::Failure { failure });
            }
            (QaVerdict::Inconclusive | QaVerdict::Pass, _) => {
                let failure = Failure::new("qa_inconclusive", end.summary.clone());
                self.emit(ProtocolEvent::QaInconclusive { step: id, findings, end, at });
                let on = BlockedOn::Failure { failure };
                self.emit(ProtocolEvent::StepBlocked { step: id, on: on.clone() });
                self.block_on(on);
            }
        }
        Ok(())
    }

    fn branch_advanced(&mut self, step: Option<StepId>, new: &str, diff: &DiffStat, gate: &GateId) {
        let Some(id) = step else { return self.plan_on_branch(new, diff, gate) };
        let Some(step) = self.state.step(id).cloned() else { return };
        let StepState::Running { work: Work::Integrating { integration } } = step.state else { return };
        if integration.new != new {
            return;
        }
        let (new, diff) = (new.to_owned(), diff.clone());
        self.emit(ProtocolEvent::BranchAdvanced { step: Some(id), new: new.clone(), diff });
        self.complete(id, &integration.by, integration.reason.as_ref(), Some(new));
        self.go_on(gate);
    }

    fn plan_on_branch(&mut self, new: &str, diff: &DiffStat, gate: &GateId) {
        if !matches!(&self.state.plan, PlanState::Integrating { new: wanted, .. } if wanted == new) {
            return;
        }
        self.emit(ProtocolEvent::BranchAdvanced { step: None, new: new.to_owned(), diff: diff.clone() });
        if self.state.state == ProtocolState::Planning {
            let steps = self.state.counts.total;
            let spec_hash = self.state.spec.as_ref().map(|spec| spec.hash.clone());
            self.emit(ProtocolEvent::Planned { steps, spec_hash });
            self.begin(gate);
        }
    }

    fn branch_moved(&mut self, step: Option<StepId>, new: &str, found: Option<&str>) {
        let wanted = match step {
            None => matches!(&self.state.plan, PlanState::Integrating { new: wanted, .. } if wanted == new),
            Some(id) => self.state.step(id).is_some_and(|step| {
                matches!(&step.state, StepState::Running { work: Work::Integrating { integration } }
                    if integration.new == new)
            }),
        };
        if !wanted {
            return;
        }
        let why = match found {
            Some(found) => format!("somebody moved branch {} to {found}", self.state.name),
            None => format!("branch {} is gone", self.state.name),
        };
        let found = found.map(str::to_owned);
        self.emit(ProtocolEvent::BranchConflict { step, found, why: why.clone() });
        self.block_on(BlockedOn::Conflict { why });
    }

    fn task_dead(&mut self, kind: TaskKind, task: &TaskId, stop: bool, step: Option<StepId>, why: &str) {
        let failure = Failure::new("task_dead", why);
        let step = step.and_then(|id| self.state.step(id)).cloned();
        // A task that died after its work was over, or that somebody else's has replaced, concerns nobody.
        let had_to = |duty: Duty| matches!(duty, Duty::Begin | Duty::TakeOver(_));
        let concerned = match (kind, &step) {
            (TaskKind::PlanProtocol, None) => had_to(self.state.planning_duty(task, stop)),
            (TaskKind::AdvanceBranch, None) => matches!(self.state.plan, PlanState::Integrating { .. }),
            (TaskKind::ExecuteStep | TaskKind::RunQuality, Some(step)) => had_to(step.duty(kind, task, stop)),
            (TaskKind::AdvanceBranch, Some(step)) => {
                matches!(&step.state, StepState::Running { work: Work::Integrating { .. } })
            }
            _ => false,
        };
        if !concerned {
            return;
        }
        let id = step.as_ref().map(|step| step.id);
        self.emit(ProtocolEvent::JobFailed { kind, step: id, why: why.to_owned() });
        match (kind, step) {
            (TaskKind::ExecuteStep | TaskKind::RunQuality, Some(step)) => {
                let candidate = step.candidate().cloned();
                self.fail(step.id, failure, None, candidate);
            }
            (_, Some(step)) => {
                let on = BlockedOn::Operator { why: why.to_owned() };
                self.emit(ProtocolEvent::StepBlocked { step: step.id, on: on.clone() });
                self.block_on(on);
            }
            (_, None) => {
                self.emit(ProtocolEvent::PlanningFailed { failure: failure.clone(), end: None, at: self.now });
                self.block_on(BlockedOn::Failure { failure });
            }
        }
    }
}
