//! Job runs: from the dispatch to the recorded result.
//!
//! The attempt is in the ledger before its process starts, and the process is under a supervisor that outlives us. A
//! claim that finds an attempt already begun takes it over: adopts what runs, reads the result of what ended, and reports
//! what is gone as interrupted.

use std::{future::Future, path::PathBuf, time::Duration};

use control::{Cause, CommandError};
use domain::{
    attempt::{Attempt, Duty, Ending},
    catalog::{BoundJob, Cwd},
    ids::RunId,
    run::{Finished, Run},
};
use engines::{
    exit::{Exit, Outcome},
    spec::Limits,
    supervisor::{self, Adopted, CANCELED, Held, Launch, LaunchError, Supervised},
};
use host::trace::Span;

use crate::{Worker, failure::Failure, lease::Lease, project_setup::full};

pub(crate) const FENCED: &str = "fenced";
pub(crate) const GIVEN_UP: &str = "given up";
/// How often a running job is asked whether it is to be canceled.
const LOOK_FOR_CANCEL: Duration = Duration::from_millis(500);

impl Worker {
    pub(crate) async fn run_job(&self, lease: &Lease) -> Result<(), Failure> {
        let id = RunId(lease.task.subject.id.clone());
        let run = self.control.get::<Run>(id.as_str()).await?.subject;
        match run.duty(&lease.task.id, lease.is_told_to_stop()) {
            Duty::Begin => Box::pin(self.begin_run(lease, &id)).await,
            Duty::TakeOver(attempt) => Box::pin(self.take_run_over(lease, &run, attempt)).await,
            Duty::CleanUp(attempt) => self.clean_up(lease, &attempt).await,
            // Canceled or decided otherwise in the meantime.
            Duty::Nothing => {
                self.acknowledge(lease, lease.done()).await;
                Ok(())
            }
        }
    }

    async fn begin_run(&self, lease: &Lease, id: &RunId) -> Result<(), Failure> {
        let begin = lease.begin(&self.incarnation);
        let cause = Cause::of(self.actor()).acknowledging(lease.keep());
        let run = match self.control.start_run(id, begin, cause).await {
            Err(error) if control::runs::is_settled(&error) => {
                self.acknowledge(lease, lease.done()).await;
                return Ok(());
            }
            started => started?,
        };
        host::failpoint!("worker.run.begun");
        let Some(attempt) = run.running().cloned() else {
            // Refused at the last moment: what was approved is no longer what would run.
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        };
        let finished = match supervisor::start(&self.config.exe, self.launch(lease, &run.job, &attempt)?).await {
            Ok(supervised) => {
                host::failpoint!("worker.run.started");
                let exit = self.watch_run(lease, id, &attempt, &supervised).await?;
                host::failpoint!("worker.run.ended");
                finished_of(&run.job, &exit)
            }
            // The program did not start: a result like any other.
            Err(LaunchError::Program(failure)) => Finished {
                ending: Ending::Failed,
                summary: format!("Job '{}' failed ({failure})", run.job.job),
                exit_code: None,
                usage: None,
            },
            // Whether anything runs is not known; the next try finds the attempt begun and takes it over.
            Err(error) => return Err(Failure::retry(error)),
        };
        self.finish_run(lease, &run, &attempt, finished).await
    }

    fn launch(&self, lease: &Lease, job: &BoundJob, attempt: &Attempt) -> Result<Launch, Failure> {
        let dir = self.attempt_dir(attempt);
        let home = dir.join("home");
        host::fs::create_private_dir(&dir).map_err(Failure::retry)?;
        host::fs::create_private_dir(&home).map_err(Failure::retry)?;
        let cwd = match &job.cwd {
            Cwd::Tmp => home.clone(),
            Cwd::Path(path) => PathBuf::from(path),
        };
        let mut env: Vec<(String, String)> = job.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for name in &job.inherit_env {
            if let Some(value) = host::env::var(name) {
                env.retain(|(known, _)| known != name);
                env.push((name.clone(), value));
            }
        }
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), home.to_string_lossy().into_owned()));
        }
        let mut launch = Launch::new(dir, job.argv.clone(), cwd);
        launch.env = env;
        launch.nonce = attempt.nonce.clone();
        launch.limits = Limits::default()
            .wall(Duration::from_millis(job.timeout_ms))
            .kill_grace(Duration::from_millis(job.kill_grace_ms))
            .output(job.output_limit)
            .spool(job.output_limit);
        self.bound(lease, &mut launch);
        Ok(launch)
    }

    /// Lets a tree live for as long as its lease may: until a deadline, or for a while after this process is gone.
    pub(crate) fn bound(&self, lease: &Lease, launch: &mut Launch) {
        match *lease.deadline.borrow() {
            Some(deadline) => launch.deadline = Some(deadline.saturating_sub(host::clock::since_boot())),
            None => launch.after_disconnect = Some(self.config.outlive),
        }
    }

    pub(crate) fn attempt_dir(&self, attempt: &Attempt) -> PathBuf {
        self.config.attempts_dir().join(attempt.id.as_str())
    }

    async fn take_run_over(&self, lease: &Lease, run: &Run, attempt: Attempt) -> Result<(), Failure> {
        // The run says so itself, whatever became of the word to its task.
        if run.cancel_requested_by.is_some() {
            lease.stop.cancel();
        }
        let dir = self.attempt_dir(&attempt);
        let adopted = supervisor::adopt(&dir, &attempt.nonce).await;
        host::failpoint!("worker.run.found");
        let keep = Cause::of(self.actor()).acknowledging(lease.keep());
        let adopt = || self.control.adopt_run(&run.id, attempt.fence, lease.fence, &keep);
        let (run, exit) = match adopted {
            Ok(Adopted::Running(supervised)) => {
                let run = adopt().await?;
                let exit = match run.running() {
                    Some(attempt) => self.watch_run(lease, &run.id, attempt, &supervised).await?,
                    None => return Err(Failure::Fenced),
                };
                (run, exit)
            }
            Ok(Adopted::Finished(exit)) => {
                let run = adopt().await?;
                if let Some(attempt) = run.running() {
                    self.tell_held(lease, attempt, Held::of(&exit)).await;
                }
                (run, exit)
            }
            Ok(Adopted::Gone) => {
                let began = !matches!(supervisor::revoke(&dir), Ok(true));
                let cause = Cause::of(self.actor()).acknowledging(lease.done());
                self.control.interrupt_run(&run.id, began, &cause).await?;
                return Ok(());
            }
            Err(error) => return Err(Failure::retry(error)),
        };
        let Some(attempt) = run.running().cloned() else { return Err(Failure::Fenced) };
        host::failpoint!("worker.run.taken-over");
        let finished = finished_of(&run.job, &exit);
        self.finish_run(lease, &run, &attempt, finished).await
    }

    /// Watches a run's tree, and looks whether somebody asked to cancel the run. That is part of the run and not of its
    /// task, so that it is not lost with a lease.
    async fn watch_run(
        &self,
        lease: &Lease,
        run: &RunId,
        attempt: &Attempt,
        supervised: &Supervised,
    ) -> Result<Exit, Failure> {
        let canceled = async {
            loop {
                tokio::time::sleep(LOOK_FOR_CANCEL).await;
                match self.control.get::<Run>(run.as_str()).await {
                    Ok(found) if found.subject.cancel_requested_by.is_some() => return lease.stop.cancel(),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(run.id = %run, %error, "Could not look at run {run}"),
                }
            }
        };
        let watched = async {
            let watch = self.watch(lease, supervised);
            tokio::pin!(watch);
            tokio::select! {
                exit = &mut watch => return exit,
                () = canceled => {}
            }
            watch.await
        };
        let told = self.tell_held(lease, attempt, Some(supervised.held()));
        traced(attempt, async { tokio::join!(watched, told).0 }).await
    }

    /// Ends what still runs of an attempt that is given up.
    pub(crate) async fn end_run(&self, run: &RunId) -> Result<(), Failure> {
        let run = self.control.get::<Run>(run.as_str()).await?.subject;
        match run.running() {
            Some(attempt) => self.end_attempt(attempt, GIVEN_UP, Some(Duration::ZERO)).await,
            None => Ok(()),
        }
    }

    /// The attempt of this task is over in the ledger: somebody took it back while nobody held the task. What still runs
    /// of it is ended as if it had been told, and the task with it.
    pub(crate) async fn clean_up(&self, lease: &Lease, attempt: &Attempt) -> Result<(), Failure> {
        self.end_attempt(attempt, CANCELED, None).await?;
        self.forget_worktree(attempt);
        self.acknowledge(lease, lease.done()).await;
        Ok(())
    }

    /// Ends what runs of an attempt on this machine: its program, or its checks.
    pub(crate) async fn end_attempt(
        &self,
        attempt: &Attempt,
        reason: &str,
        grace: Option<Duration>,
    ) -> Result<(), Failure> {
        let dir = self.attempt_dir(attempt);
        let names = host::fs::list_names(&dir).unwrap_or_default();
        let checks = names.iter().filter(|name| name.starts_with("check-")).map(|name| dir.join(name));
        for dir in std::iter::once(dir.clone()).chain(checks) {
            match supervisor::adopt(&dir, &attempt.nonce).await {
                Ok(Adopted::Running(tree)) => {
                    tree.stop(reason, grace).await.map_err(Failure::retry)?;
                    tree.wait().await.map_err(Failure::retry)?;
                }
                Ok(Adopted::Finished(_) | Adopted::Gone) => {}
                Err(error) => return Err(Failure::retry(full(&error))),
            }
        }
        Ok(())
    }

    /// Waits for the end of a tree, moving its deadline with the lease's, and ends it when it is to stop.
    pub(crate) async fn watch(&self, lease: &Lease, supervised: &Supervised) -> Result<Exit, Failure> {
        let mut deadline = lease.deadline.clone();
        let mut asked_to_stop = false;
        let end = supervised.wait();
        tokio::pin!(end);
        loop {
            tokio::select! {
                exit = &mut end => return exit.map_err(Failure::retry),
                Ok(()) = deadline.changed() => {
                    let until = *deadline.borrow_and_update();
                    if let Some(until) = until && let Err(error) = supervised.extend_until(until).await {
                        tracing::warn!(%error, "A supervisor's deadline could not be moved");
                    }
                }
                () = lease.lost.cancelled() => {
                    // At the end of a drain somebody else has taken over and adopts what runs: ending it is up to them.
                    if self.draining.is_cancelled() {
                        return Err(Failure::Left);
                    }
                    // Nobody may write for this attempt any more, so nothing of it may run.
                    if let Err(error) = supervised.stop(FENCED, Some(Duration::ZERO)).await {
                        tracing::warn!(%error, "A fenced tree could not be stopped");
                    }
                    return Err(Failure::Fenced);
                }
                () = lease.stop.cancelled(), if !asked_to_stop => {
                    asked_to_stop = true;
                    supervised.stop(CANCELED, None).await.map_err(Failure::retry)?;
                }
                () = self.drained() => return Err(Failure::Left),
            }
        }
    }

    /// Once the drain is over: what runs is left to its supervisor and to the next worker.
    async fn drained(&self) {
        self.draining.cancelled().await;
        tokio::time::sleep(self.config.drain).await;
    }

    /// Records the result for as long as the lease holds: it is the one thing that must not be lost.
    async fn finish_run(&self, lease: &Lease, run: &Run, attempt: &Attempt, finished: Finished) -> Result<(), Failure> {
        let cause = Cause::of(self.actor()).acknowledging(lease.done());
        loop {
            match self.control.finish_run(&run.id, attempt, finished.clone(), &cause).await {
                Ok(_) => {
                    host::failpoint!("worker.run.reported");
                    return Ok(());
                }
                Err(CommandError::Store(error)) if error.0.is_transient() => {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(500)) => {}
                        () = lease.lost.cancelled() => return Err(Failure::Fenced),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Waits for the end of an attempt's tree as a part of the current trace.
pub(crate) async fn traced(
    attempt: &Attempt,
    watched: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let span = Span::part("attempt");
    span.rename(|| format!("attempt {}", attempt.phase));
    span.set("pilothouse.attempt.id", || attempt.id.to_string());
    span.set("pilothouse.engine", || attempt.engine.clone());
    let exit = span.around(watched).await;
    match &exit {
        Ok(exit) => span.set("pilothouse.attempt.outcome", || format!("{:?}", exit.outcome)),
        Err(failure) => span.fail(|| format!("{failure:?}")),
    }
    exit
}

fn finished_of(job: &BoundJob, exit: &Exit) -> Finished {
    let name = &job.job;
    let (ending, summary, exit_code) = match &exit.outcome {
        Outcome::Exited { code: 0 } => (Ending::Succeeded, format!("Job '{name}' completed successfully"), Some(0)),
        Outcome::Exited { code } => (Ending::Failed, format!("Job '{name}' failed (exit code {code})"), Some(*code)),
        Outcome::Signaled { signal } => (Ending::Failed, format!("Job '{name}' failed (signal {signal})"), None),
        Outcome::TimedOut { limit } => (Ending::TimedOut, format!("Job '{name}' timed out ({limit:?} limit)"), None),
        Outcome::OutputLimit => {
            (Ending::Failed, format!("Job '{name}' failed (more output than {} bytes)", job.output_limit), None)
        }
        Outcome::Stopped { reason } if reason == CANCELED => (Ending::Canceled, CANCELED.to_owned(), None),
        Outcome::Stopped { reason } => (Ending::Interrupted, reason.clone(), None),
        Outcome::DeadlinePassed | Outcome::ControllerLost => {
            (Ending::Interrupted, "its worker was gone for too long".to_owned(), None)
        }
        Outcome::LaunchFailed(failure) => (Ending::Failed, format!("Job '{name}' failed ({failure})"), None),
    };
    Finished { ending, summary, exit_code, usage: None }
}
