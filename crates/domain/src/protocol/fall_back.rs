//! Falling back: an engine that could not be had is followed by the next one that the policy names, in a new attempt.
//!
//! Which engines were tried is kept until the piece of work has come to a result, whatever happens in between; whoever
//! asks for it again then begins with the first. Workers know the policy and say who is next; that nobody is tried twice,
//! and that it ends, is decided here.

use serde::{Deserialize, Serialize};

use super::{Ended, ProtocolEvent, ProtocolState, decide::Deciding};
use crate::{
    attempt::Attempt,
    ids::GateId,
    protocol::Finding,
    spec::MAX_FALLBACKS,
    step::{Failure, Step},
    task::TaskKind,
};

/// An engine's failure behind which another engine is to try.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FallBack {
    /// The engine that comes next.
    pub to: String,
    pub failure: Failure,
}

impl Deciding {
    /// Whether a planning that failed goes on with another engine; it does when this says so.
    pub(super) fn plan_falls_back(&mut self, fall_back: Option<&FallBack>, end: &Ended) -> bool {
        let attempt = self.state.planning().cloned();
        let Some(FallBack { to, failure }) = allowed(fall_back, attempt.as_ref(), &self.state.tried) else {
            return false;
        };
        let from = attempt.map(|attempt| attempt.engine).unwrap_or_default();
        let (end, at) = (end.clone(), self.now);
        self.emit(ProtocolEvent::PlanningFellBack { from, to, failure, end, at });
        if self.state.state == ProtocolState::Planning {
            self.effect(TaskKind::PlanProtocol, serde_json::json!({}), None);
        }
        true
    }

    /// The same of a step's execution.
    pub(super) fn step_falls_back(
        &mut self,
        step: &Step,
        fall_back: Option<&FallBack>,
        end: &Ended,
        gate: &GateId,
    ) -> bool {
        let Some(FallBack { to, failure }) = allowed(fall_back, step.running(), &step.tried) else { return false };
        let (step, from, end, at) = (step.id, from_of(step), end.clone(), self.now);
        self.emit(ProtocolEvent::StepFellBack { step, from, to, failure, end, at });
        if self.is_running() {
            self.enqueue(step, false, gate);
        }
        true
    }

    /// The same of a review.
    pub(super) fn review_falls_back(
        &mut self,
        step: &Step,
        fall_back: Option<&FallBack>,
        findings: &[Finding],
        end: &Ended,
    ) -> bool {
        let Some(FallBack { to, failure }) = allowed(fall_back, step.running(), &step.tried) else { return false };
        let (step, from, findings, end, at) = (step.id, from_of(step), findings.to_vec(), end.clone(), self.now);
        self.emit(ProtocolEvent::QaFellBack { step, from, to, failure, findings, end, at });
        if self.is_running() {
            self.enqueue_qa(step);
        }
        true
    }
}

impl Step {
    /// The engine that its next execution holds, as far as the step itself says so.
    pub(super) fn wanted_engine(&self) -> Option<String> {
        match self.tried.is_empty() {
            true => self.spec.engine_id.clone(),
            false => untried(&self.spec.fallback, &self.tried),
        }
    }

    /// The engine that its next review holds, as far as the step itself says so.
    pub(super) fn wanted_reviewer(&self) -> Option<String> {
        let qa = self.spec.qa.as_ref()?;
        match self.tried.is_empty() {
            true => qa.engine_id.clone(),
            false => untried(&qa.fallback, &self.tried),
        }
    }
}

fn untried(fallback: &[String], tried: &[String]) -> Option<String> {
    fallback.iter().find(|id| !tried.contains(id)).cloned()
}

/// Nobody is tried twice for the same piece of work.
fn allowed(fall_back: Option<&FallBack>, attempt: Option<&Attempt>, tried: &[String]) -> Option<FallBack> {
    let (fall_back, attempt) = (fall_back?, attempt?);
    let is_new = fall_back.to != attempt.engine && !tried.contains(&fall_back.to);
    (is_new && tried.len() < MAX_FALLBACKS).then(|| fall_back.clone())
}

fn from_of(step: &Step) -> String {
    step.running().map(|attempt| attempt.engine.clone()).unwrap_or_default()
}
