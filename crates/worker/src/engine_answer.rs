//! Engines that have to answer in a certain form: begun or taken over, and given an answer back once that cannot be used.

use domain::{attempt::Attempt, spec::SpecProblem};
use engines::engine::Finished;

use crate::{
    Worker,
    engine_note::Note,
    engine_run::{Ran, Task, going_on},
    engine_takeover::Takeover,
    failure::Failure,
    lease::Lease,
};

/// How far an engine that has to answer got in its attempt.
#[derive(Debug)]
pub(crate) enum Begun {
    /// Nothing of it has run.
    Not,
    /// It was followed to the end of a run.
    Ran(Ran),
    /// It runs again: in its session, or without one from the beginning.
    Again { session: Option<String> },
}

impl Worker {
    /// Carries out how an attempt's engine is taken over, up to where it has to be asked something; `None` when nothing
    /// is left of it.
    pub(crate) async fn followed(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        takeover: Takeover,
    ) -> Result<Option<Begun>, Failure> {
        Ok(match takeover {
            Takeover::Follow(found) => {
                let (engine, found) = *found;
                Some(Begun::Ran(self.follow_engine(lease, attempt, &engine, found).await?))
            }
            Takeover::Again { session } => Some(Begun::Again { session }),
            Takeover::Lost => None,
        })
    }

    /// Has an engine answer. An answer that cannot be used is given back once, in the session that it came from, with
    /// what `problems` says is wrong with it; what is still wrong then is for the caller to tell.
    pub(crate) async fn answer(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        task: &Task,
        begun: Begun,
        problems: impl Fn(&Finished) -> Option<String>,
    ) -> Result<Ran, Failure> {
        let ran = match begun {
            Begun::Not => self.run_engine(lease, attempt, task).await?,
            Begun::Ran(ran) => ran,
            Begun::Again { session } => {
                let prompt = if session.is_some() { going_on(&task.prompt) } else { task.prompt.clone() };
                self.run_engine_again(lease, attempt, task, session, &prompt).await?
            }
        };
        let Ran::Ended(ended) = &ran else { return Ok(ran) };
        if ended.failure.is_some() || lease.is_told_to_stop() {
            return Ok(ran);
        }
        let Some(problems) = problems(&ended.finished) else { return Ok(ran) };
        let dir = self.attempt_dir(attempt);
        let mut note = Note::read(&dir)?;
        let session = ended.session.clone().filter(|_| task.engine.engine.capabilities().resume);
        let (Some(session), false, true) = (session, note.corrected, note.may_go_on()) else { return Ok(ran) };
        note.corrected = true;
        note.write(&dir)?;
        tracing::info!(attempt = %attempt.id, "The answer of attempt {} is given back for correction", attempt.id);
        let prompt = format!(
            "Your answer cannot be used: {problems}. Answer again with the whole document, corrected, and nothing else."
        );
        match self.run_engine_again(lease, attempt, task, Some(session), &prompt).await? {
            // The first answer is what there is to be told of.
            Ran::CutOff { .. } => Ok(ran),
            corrected => Ok(corrected),
        }
    }
}

/// What is wrong with an answer, on one line.
pub(crate) fn told(problems: &[SpecProblem]) -> String {
    let lines: Vec<String> = problems.iter().take(10).map(ToString::to_string).collect();
    host::text::one_line(lines.join("; "), 1000)
}

/// What an engine answered, as `read` takes it.
pub(crate) fn answer_of<T>(
    finished: &Finished,
    read: impl FnOnce(&serde_json::Value) -> Result<T, Vec<SpecProblem>>,
) -> Result<T, String> {
    match &finished.structured {
        None => Err(told(&[SpecProblem::new("", "the engine gave no structured answer")])),
        Some(answer) => read(answer).map_err(|problems| told(&problems)),
    }
}
