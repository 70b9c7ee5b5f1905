//! An engine at work for an attempt: started under supervision, watched, and its last word read from what it printed.

use std::time::Duration;

use domain::{
    attempt::{Attempt, Ending, Usage},
    project::EngineChoice,
    protocol::Ended,
    step::Failure as Why,
};
use engines::{
    EngineEvent, EngineRequest, Outcome,
    engine::{Engine, EngineOutcome, Finished, Phase, Settings, Subject, Transcript},
    exit::Exit,
    spec::Limits,
    spool,
    supervisor::{self, Adopted, LaunchError},
};

use crate::{Worker, failure::Failure, lease::Lease, project_setup::full, run_job::CANCELED};

const WALL: Duration = Duration::from_secs(60 * 60);
const IDLE: Duration = Duration::from_secs(15 * 60);
const PIECE: usize = 256 * 1024;

/// What an engine is asked to do.
pub(crate) struct Task {
    pub(crate) engine: Engine,
    pub(crate) choice: EngineChoice,
    pub(crate) phase: Phase,
    pub(crate) step: String,
    pub(crate) prompt: String,
    pub(crate) model: Option<String>,
    pub(crate) output_schema: Option<serde_json::Value>,
    /// The command of the shell engine.
    pub(crate) argv: Vec<String>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It ended by itself, or by a limit.
    Ended(Box<EngineEnd>),
    /// Somebody no longer wanted it; nothing of it is left.
    Stopped,
    /// It was cut off; how far it got is not known.
    CutOff { why: String },
}

/// The end of an engine, with its last word.
#[derive(Debug)]
pub(crate) struct EngineEnd {
    pub(crate) end: Ended,
    pub(crate) finished: Finished,
    pub(crate) failure: Option<Why>,
}

impl Worker {
    /// Starts an engine and waits for its end.
    pub(crate) async fn run_engine(&self, lease: &Lease, attempt: &Attempt, task: &Task) -> Result<Ran, Failure> {
        let dir = self.attempt_dir(attempt);
        let home = dir.join("home");
        host::fs::create_private_dir(&dir).map_err(Failure::retry)?;
        host::fs::create_private_dir(&home).map_err(Failure::retry)?;
        let request = EngineRequest {
            subject: Subject { phase: task.phase, step: task.step.clone(), attempt: attempt.number },
            prompt: task.prompt.clone(),
            worktree: self.worktree_dir(attempt),
            attempt_dir: dir,
            model: task.model.clone(),
            resume: None,
            output_schema: task.output_schema.clone(),
            limits: Limits::default().wall(WALL).idle(IDLE),
            env: plain_environment(&home),
            settings: Settings {
                argv: task.argv.clone(),
                scenario: task.choice.scenario.as_ref().map(Into::into),
                exe: self.config.exe.clone(),
            },
        };
        let mut launch = match task.engine.launch(&request) {
            Ok(launch) => launch,
            Err(error) => return Ok(failed("engine_unavailable", full(&error))),
        };
        launch.nonce.clone_from(&attempt.nonce);
        self.bound(lease, &mut launch);
        match supervisor::start(&self.config.exe, launch).await {
            Ok(supervised) => {
                let exit = self.watch(lease, &supervised).await?;
                self.read_ending(attempt, task.engine, &exit)
            }
            Err(LaunchError::Program(failure)) => Ok(failed("engine_unavailable", failure.to_string())),
            // Whether anything runs is not known; the next try finds the attempt begun and takes it over.
            Err(error @ (LaunchError::NotReady(_) | LaunchError::Unreachable(_))) => Err(Failure::retry(full(&error))),
            Err(error) => Ok(failed("supervisor_failed", full(&error))),
        }
    }

    /// Finds what an earlier worker started for this attempt. `None`: nothing is left of it.
    pub(crate) async fn find_engine(&self, attempt: &Attempt) -> Result<Option<Adopted>, Failure> {
        match supervisor::adopt(&self.attempt_dir(attempt), &attempt.nonce).await {
            Ok(Adopted::Gone) => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(error) => Err(Failure::retry(full(&error))),
        }
    }

    /// Waits for the end of an adopted engine, or reads it.
    pub(crate) async fn follow_engine(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        engine: Engine,
        found: Adopted,
    ) -> Result<Ran, Failure> {
        let exit = match found {
            Adopted::Running(supervised) => self.watch(lease, &supervised).await?,
            Adopted::Finished(exit) => exit,
            Adopted::Gone => return Ok(Ran::CutOff { why: "nothing is left of it".to_owned() }),
        };
        self.read_ending(attempt, engine, &exit)
    }

    fn read_ending(&self, attempt: &Attempt, engine: Engine, exit: &Exit) -> Result<Ran, Failure> {
        match &exit.outcome {
            Outcome::Stopped { reason } if reason == CANCELED => return Ok(Ran::Stopped),
            Outcome::Stopped { reason } => return Ok(Ran::CutOff { why: reason.clone() }),
            Outcome::DeadlinePassed | Outcome::ControllerLost => {
                return Ok(Ran::CutOff { why: "its worker was gone for too long".to_owned() });
            }
            Outcome::Exited { .. }
            | Outcome::Signaled { .. }
            | Outcome::TimedOut { .. }
            | Outcome::OutputLimit
            | Outcome::LaunchFailed(_) => {}
        }
        let (transcript, usage) = self.read_transcript(attempt, engine)?;
        let finished = transcript.conclude(exit);
        let completed = finished.outcome == EngineOutcome::Completed;
        let timed_out = matches!(exit.outcome, Outcome::TimedOut { .. });
        let (ending, failure) = match (completed, timed_out) {
            (true, _) => (Ending::Succeeded, None),
            (false, true) => (Ending::TimedOut, Some(Why::new("timed_out", exit.outcome.to_string()))),
            (false, false) => (Ending::Failed, Some(Why::new("engine_failed", finished.message.clone()))),
        };
        let exit_code = match exit.outcome {
            Outcome::Exited { code } => Some(code),
            _ => None,
        };
        let summary = format!("{engine}: {}", host::text::one_line(&finished.message, 500));
        let end = Ended { ending, summary, exit_code, usage };
        Ok(Ran::Ended(Box::new(EngineEnd { end, finished, failure })))
    }

    fn read_transcript(&self, attempt: &Attempt, engine: Engine) -> Result<(Transcript, Option<Usage>), Failure> {
        let dir = self.attempt_dir(attempt);
        let mut transcript = Transcript::new(engine);
        let mut usage = None;
        let mut offset = 0;
        loop {
            let chunk = spool::read(&dir, engine.stream(), offset, PIECE).map_err(Failure::retry)?;
            if chunk.bytes.is_empty() {
                break;
            }
            offset = chunk.next_offset;
            transcript.feed(&chunk.bytes).iter().for_each(|event| count(&mut usage, event));
        }
        transcript.flush().iter().for_each(|event| count(&mut usage, event));
        Ok((transcript, usage))
    }
}

/// All that a program started for a protocol finds in its environment.
pub(crate) fn plain_environment(home: &std::path::Path) -> Vec<(String, String)> {
    [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LANG", "C.UTF-8")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain([("HOME".to_owned(), home.to_string_lossy().into_owned())])
        .collect()
}

/// An attempt that ended before anything of it ran.
pub(crate) fn failed(code: &str, why: impl Into<String>) -> Ran {
    let why = why.into();
    let finished = Finished { outcome: EngineOutcome::Failed, message: why.clone(), structured: None };
    let end = control::steps::ended(Ending::Failed, why.clone());
    Ran::Ended(Box::new(EngineEnd { end, finished, failure: Some(Why::new(code, why)) }))
}

/// What is not said stays unknown: only what was named is added up.
fn count(usage: &mut Option<Usage>, event: &EngineEvent) {
    let EngineEvent::Usage(said) = event else { return };
    let sum = usage.get_or_insert_default();
    let add = |total: &mut Option<u64>, more: Option<u64>| {
        if let Some(more) = more {
            *total = Some(total.unwrap_or(0).saturating_add(more));
        }
    };
    add(&mut sum.input_tokens, said.input_tokens);
    add(&mut sum.cached_tokens, said.cached_tokens);
    add(&mut sum.output_tokens, said.output_tokens);
    if let Some(cost) = said.cost_micro_usd {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        sum.cost_micro_usd = Some(sum.cost_micro_usd.unwrap_or(0).saturating_add(cost));
    }
}
