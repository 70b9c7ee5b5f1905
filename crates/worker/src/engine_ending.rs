//! What an attempt's engine said last, read from what it printed over all of its runs, and what becomes of it.

use std::{path::Path, time::Duration};

use domain::{
    attempt::{Attempt, Ending, Usage},
    protocol::Ended,
    step::Failure as Why,
    task::TaskFailure,
};
use engines::{
    Outcome,
    engine::{Configured, Engine, ErrorClass, Finished, Next, Transcript},
    exit::Exit,
    spec::Stream,
    spool,
    supervisor::{self, CANCELED},
};

use crate::{
    Worker,
    brokers::usage_by,
    engine_note::Note,
    engine_run::{EngineEnd, PIECE, Ran, STALLED, usage_of},
    failure::Failure,
    lease::Lease,
};

/// How much of the end of stderr is looked at for words.
const STDERR: usize = 16 * 1024;

impl Worker {
    pub(crate) async fn read_ending(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        configured: &Configured,
        exit: &Exit,
    ) -> Result<Ran, Failure> {
        match &exit.outcome {
            Outcome::Stopped { reason } if reason == CANCELED => return Ok(Ran::Stopped),
            Outcome::Stopped { reason } if let Some(said) = supervisor::said_by_hand(reason) => {
                let told = self.read_runs(attempt, configured.engine)?.usage().map(usage_of);
                let usage = usage_by(self.wire_of(attempt)?, told);
                return Ok(Ran::Ended(Box::new(self.ended_by_hand(attempt, said, usage)?)));
            }
            Outcome::Stopped { reason } if reason != STALLED => return Ok(Ran::CutOff { why: reason.clone() }),
            Outcome::DeadlinePassed | Outcome::ControllerLost => {
                return Ok(Ran::CutOff { why: "its worker was gone for too long".to_owned() });
            }
            Outcome::Stopped { .. }
            | Outcome::Exited { .. }
            | Outcome::Signaled { .. }
            | Outcome::TimedOut { .. }
            | Outcome::OutputLimit
            | Outcome::LaunchFailed(_) => {}
        }
        let transcript = self.read_runs(attempt, configured.engine)?;
        let stderr = spool::tail(&self.attempt_dir(attempt), Stream::Stderr, STDERR).map_err(Failure::retry)?;
        let finished = transcript.conclude(exit, &String::from_utf8_lossy(&stderr.bytes));
        let wire = self.wire_of(attempt)?;
        let finished = match wire {
            // Whatever it says of itself: it went on asking after it had used what it was given.
            Some(wire) if wire.n_refused > 0 => Finished::of_class(
                ErrorClass::LimitsReached,
                format!("the budget of the attempt is used up; {}", finished.message),
            ),
            _ => finished,
        };
        if let Some(class) = finished.class
            && let Some(after) = self.passes_in(lease, attempt, class).await?
        {
            // What was going to be tried again is no longer wanted.
            if lease.is_told_to_stop() {
                return Ok(Ran::Stopped);
            }
            self.wait_for_another_try(lease, attempt, after, class, &finished)?;
        }
        let limit =
            matches!(exit.outcome, Outcome::TimedOut { .. }) && finished.class == Some(ErrorClass::LimitsReached);
        let (ending, failure) = match (finished.is_completed(), limit) {
            (true, _) => (Ending::Succeeded, None),
            (false, true) => (Ending::TimedOut, Some(Why::new("timed_out", exit.outcome.to_string()))),
            (false, false) => {
                let code = finished.class.map_or("engine_failed", ErrorClass::code);
                (Ending::Failed, Some(Why::new(code, finished.message.clone())))
            }
        };
        let exit_code = match exit.outcome {
            Outcome::Exited { code } => Some(code),
            _ => None,
        };
        let refused = match transcript.n_denied() {
            0 => String::new(),
            n_denied => format!(" ({n_denied} uses of tools were refused)"),
        };
        let summary = format!("{}: {}{refused}", configured.id, host::text::one_line(&finished.message, 500));
        let end = Ended { ending, summary, exit_code, usage: usage_by(wire, transcript.usage().map(usage_of)) };
        let session = transcript.session().map(str::to_owned);
        Ok(Ran::Ended(Box::new(EngineEnd { end, finished, failure, session })))
    }

    /// The end of an attempt that somebody stopped by hand. People decide how to go on, so what it worked in stays.
    fn ended_by_hand(&self, attempt: &Attempt, said: &str, usage: Option<Usage>) -> Result<EngineEnd, Failure> {
        let said = self.keep_worktree(attempt, said)?;
        let end = Ended { ending: Ending::Canceled, summary: said.clone(), exit_code: None, usage };
        let failure = Some(Why::new("canceled", said.clone()));
        Ok(EngineEnd { end, finished: Finished::failed(said), failure, session: None })
    }

    /// In how long what an engine failed of will have passed by itself, when it will and somebody knows. What takes long
    /// is not waited for where another engine can be had.
    async fn passes_in(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        class: ErrorClass,
    ) -> Result<Option<Duration>, Failure> {
        let now = self.control.clock().now().as_micros().div_euclid(1_000_000);
        Ok(match class.next(now, self.config.engine_limits.soon) {
            Next::RetryAfter(span) => Some(span),
            Next::ParkUntil(Some(_)) if self.next_engine(lease, attempt).await?.is_some() => None,
            Next::ParkUntil(Some(reset)) => Some(reset.wait(now)),
            Next::ParkUntil(None) | Next::Ask | Next::GiveUp => None,
        })
    }

    /// Lets the task wait while the attempt stays open: whoever claims it next goes on. Not for ever.
    fn wait_for_another_try(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        after: Duration,
        class: ErrorClass,
        finished: &Finished,
    ) -> Result<(), Failure> {
        let is_last = lease.task.failures.saturating_add(1) >= lease.task.max_failures;
        let dir = self.attempt_dir(attempt);
        let mut note = Note::read(&dir)?;
        if is_last || !note.may_go_on() {
            return Ok(());
        }
        note.waits = true;
        note.write(&dir)?;
        let error = format!("{}: {}", class.code(), host::text::one_line(&finished.message, 300));
        Err(Failure::Task(TaskFailure::Retry { after: Some(after), error }))
    }

    /// Everything that an attempt's engine said, over all of its runs.
    pub(crate) fn read_runs(&self, attempt: &Attempt, engine: Engine) -> Result<Transcript, Failure> {
        let dir = self.attempt_dir(attempt);
        let home = dir.join("home");
        let note = Note::read(&dir)?;
        let mut transcript = Transcript::new(engine).wanting_answer(true);
        for (before, resumed) in note.before(&dir).iter().zip(&note.resumed) {
            read_run(&mut transcript, before, engine)?;
            transcript.untold_usage(&home);
            transcript.next_run(*resumed);
        }
        read_run(&mut transcript, &dir, engine)?;
        transcript.untold_usage(&home);
        Ok(transcript)
    }
}

fn read_run(transcript: &mut Transcript, dir: &Path, engine: Engine) -> Result<(), Failure> {
    let mut offset = 0;
    loop {
        let chunk = spool::read(dir, engine.stream(), offset, PIECE).map_err(Failure::retry)?;
        if chunk.bytes.is_empty() {
            transcript.flush();
            return Ok(());
        }
        offset = chunk.next_offset;
        transcript.feed(&chunk.bytes);
    }
}
