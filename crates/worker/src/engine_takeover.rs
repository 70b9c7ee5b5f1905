//! An engine that an earlier worker started for an attempt: what is left of it, and how it goes on.

use domain::attempt::Attempt;
use engines::{
    Outcome,
    engine::{Configured, Engine},
    supervisor::{self, Adopted, Held},
};

use crate::{
    Worker, engine_note::Note, engine_run::Ran, failure::Failure, lease::Lease, permission::Asker, project_setup::full,
    run_job::FENCED,
};

/// How an attempt that was begun earlier is taken over.
#[derive(Debug)]
pub(crate) enum Takeover {
    /// What runs is adopted, what ended is read.
    Follow(Box<(Configured, Adopted)>),
    /// Its processes are gone, and it runs again: in its session, or without one from the beginning.
    Again { session: Option<String> },
    /// Nothing is left of it.
    Lost,
}

impl Worker {
    /// Finds what an earlier worker started for this attempt and says how to take it over. `again`: whether it may run
    /// again without anybody being asked.
    pub(crate) async fn take_engine_over(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        again: bool,
    ) -> Result<Takeover, Failure> {
        let Some(configured) = self.config.engines.find(&attempt.engine) else { return Ok(Takeover::Lost) };
        let dir = self.attempt_dir(attempt);
        let found = supervisor::adopt(&dir, &attempt.nonce).await.map_err(|error| Failure::retry(full(&error)))?;
        let note = Note::read(&dir)?;
        let may_go_on = again && !lease.is_told_to_stop() && note.may_go_on();
        let is_cut_off = match &found {
            Adopted::Running(_) => false,
            Adopted::Finished(exit) => is_cut_off(&exit.outcome),
            Adopted::Gone => true,
        };
        if note.waits && may_go_on && matches!(found, Adopted::Finished(_)) {
            return Ok(Takeover::Again { session: self.session_of(attempt, configured.engine, &note)? });
        }
        // Only with the worktree that the session was about: without it the engine would remember what never was.
        if is_cut_off
            && may_go_on
            && host::fs::is_dir(&self.worktree_dir(attempt))
            && let Some(session) = self.session_of(attempt, configured.engine, &note)?
        {
            return Ok(Takeover::Again { session: Some(session) });
        }
        Ok(match found {
            Adopted::Gone => Takeover::Lost,
            found => Takeover::Follow(Box::new((configured.clone(), found))),
        })
    }

    /// The session that an attempt's engine can be gone on with.
    fn session_of(&self, attempt: &Attempt, engine: Engine, note: &Note) -> Result<Option<String>, Failure> {
        if !engine.capabilities().resume {
            return Ok(None);
        }
        let transcript = self.read_runs(attempt, engine)?;
        // A name that was only chosen may belong to a session that was never begun; trying tells.
        Ok(transcript.session().map(str::to_owned).or_else(|| note.session.clone()))
    }

    /// Waits for the end of an adopted engine, or reads it.
    pub(crate) async fn follow_engine(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        configured: &Configured,
        found: Adopted,
    ) -> Result<Ran, Failure> {
        let exit = match found {
            Adopted::Running(supervised) => {
                let asker = Asker::new(self, lease, attempt, configured, &supervised).adopting();
                Box::pin(self.watch_engine(lease, attempt, asker)).await?
            }
            Adopted::Finished(exit) => {
                self.tell_held(lease, attempt, Held::of(&exit)).await;
                exit
            }
            Adopted::Gone => return Ok(Ran::CutOff { why: "nothing is left of it".to_owned() }),
        };
        self.tell_metered(lease, attempt, configured).await?;
        self.read_ending(lease, attempt, configured, &exit).await
    }
}

/// Whether a tree ended because nobody was there for it, rather than by itself.
fn is_cut_off(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::DeadlinePassed | Outcome::ControllerLost => true,
        Outcome::Stopped { reason } => reason == FENCED,
        Outcome::Exited { .. }
        | Outcome::Signaled { .. }
        | Outcome::TimedOut { .. }
        | Outcome::OutputLimit
        | Outcome::LaunchFailed(_) => false,
    }
}
