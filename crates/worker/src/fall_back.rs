//! Which engine comes after one that could not be had, by the policy of project and step.

use domain::{
    attempt::Attempt,
    project::{Project, Reviewer},
    protocol::{FallBack, Protocol},
};

use crate::{
    Worker, engine_run::EngineEnd, failure::Failure, lease::Lease, permission::step_of, plan_protocol::protocol_id,
};

impl Worker {
    /// The engine that comes after an attempt's, if there is one that was not tried yet.
    pub(crate) async fn next_engine(&self, lease: &Lease, attempt: &Attempt) -> Result<Option<String>, Failure> {
        let protocol = self.control.get::<Protocol>(&protocol_id(lease)?.to_string()).await?.subject;
        let engines = self.control.get::<Project>(&protocol.project.to_string()).await?.subject.engines;
        let step = step_of(attempt).and_then(|step| protocol.step(step));
        let (line, tried) = match (step, attempt.phase.as_str()) {
            (None, _) => (engines.for_planning(), &protocol.tried),
            (Some(step), "qa") => match engines.reviewer(&step.spec) {
                Reviewer::Engines(line) => (line, &step.tried),
                Reviewer::Nobody | Reviewer::Unnamed => return Ok(None),
            },
            (Some(step), _) => (engines.for_execution(&step.spec), &step.tried),
        };
        let tried: Vec<String> = tried.iter().chain([&attempt.engine]).cloned().collect();
        Ok(line.next(&tried).map(|engine| engine.id.clone()))
    }

    /// Who is to go on after an engine's end, when it was of a kind that another engine may not meet with.
    pub(crate) async fn falls_back(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        ended: &EngineEnd,
    ) -> Result<Option<FallBack>, Failure> {
        let Some(failure) = ended.failure.clone() else { return Ok(None) };
        if !ended.finished.class.is_some_and(engines::engine::ErrorClass::falls_back) {
            return Ok(None);
        }
        Ok(self.next_engine(lease, attempt).await?.map(|to| FallBack { to, failure }))
    }
}
