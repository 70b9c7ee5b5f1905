//! Judging a step's result: every check is run for real, in a fresh checkout of exactly the commit that is judged.
//!
//! What passes is what the commands say, nothing else. No command to run, or one that cannot be started, is no verdict.

use std::{path::Path, time::Duration};

use control::Cause;
use domain::{
    attempt::{Attempt, Duty, Ending},
    protocol::{Ended, Finding, Protocol, QaReport, QaVerdict},
    spec::{QaPolicy, StepType},
    step::{Candidate, Step},
    task::TaskKind,
    text::command_line,
};
use engines::{
    Launch, Outcome,
    exit::{Exit, LaunchFailureKind},
    spec::{Limits, Stream},
    spool,
    supervisor::{self, CANCELED, LaunchError},
};
use forge::git::types::ObjectId;

use crate::{
    Worker,
    engine_run::plain_environment,
    execute_step::{Bench, held_attempt},
    failure::Failure,
    lease::Lease,
    papers::{self, Integrating},
    project_setup::full,
    run_job::FENCED,
    sandboxes::{Boxed, Needs},
    workspace::kept_under,
};

const WALL: Duration = Duration::from_secs(15 * 60);
/// How much of what a check printed is kept with its finding.
const MAX_DETAIL: usize = 4000;
const OUTPUT: u64 = 16 << 20;

/// How one check ended for the work as a whole.
enum Checked {
    Finding(Finding),
    Stopped,
    /// By a person, who is named.
    ByHand {
        said: String,
    },
    CutOff {
        why: String,
    },
}

impl Worker {
    pub(crate) async fn run_quality(&self, lease: &Lease) -> Result<(), Failure> {
        let (protocol, step) = self.step_of(lease).await?;
        match (step.duty(TaskKind::RunQuality, &lease.task.id, lease.is_told_to_stop()), step.candidate()) {
            (Duty::Begin, Some(candidate)) => Box::pin(self.begin_quality(lease, &protocol, &step, candidate)).await,
            // Checks run on a checkout of their own: whatever an earlier worker began is simply begun again.
            (Duty::TakeOver(attempt), _) => {
                let done = Cause::of(self.actor()).acknowledging(lease.done());
                self.end_attempt(&attempt, FENCED, Some(Duration::ZERO)).await?;
                if lease.is_told_to_stop() {
                    self.control.stop_step(protocol.id, step.id, attempt.fence, &done).await?;
                } else {
                    let why = "its worker is gone";
                    self.control.interrupt_step(protocol.id, step.id, attempt.fence, why, &done).await?;
                }
                self.forget_worktree(&attempt);
                Ok(())
            }
            (Duty::CleanUp(attempt), _) => self.clean_up(lease, &attempt).await,
            (Duty::Begin | Duty::Nothing, _) => {
                self.acknowledge(lease.done()).await;
                Ok(())
            }
        }
    }

    async fn begin_quality(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        step: &Step,
        candidate: &Candidate,
    ) -> Result<(), Failure> {
        let bench = self.bench(protocol).await?;
        if lease.is_told_to_stop() {
            // Taken back while it was prepared; whoever asked for it again has stored another task.
            self.acknowledge(lease.done()).await;
            return Ok(());
        }
        let begin = lease.begin(&self.incarnation);
        let keep = Cause::of(self.actor()).acknowledging(lease.keep());
        let protocol = self.control.start_qa(protocol.id, step.id, begin, &keep).await?;
        let Some((step, attempt)) = held_attempt(&protocol, step.id, lease) else {
            self.acknowledge(lease.done()).await;
            return Ok(());
        };
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        let report = match &bench {
            Err(error) => report(Vec::new(), QaVerdict::Inconclusive, full(error)),
            Ok(bench) => match self.judge(lease, bench, &protocol, &step, &attempt, candidate).await? {
                Judged::Report(report) => report,
                Judged::Stopped => {
                    self.control.stop_step(protocol.id, step.id, attempt.fence, &done).await?;
                    self.forget_worktree(&attempt);
                    return Ok(());
                }
                Judged::CutOff { why } => {
                    self.control.interrupt_step(protocol.id, step.id, attempt.fence, &why, &done).await?;
                    self.forget_worktree(&attempt);
                    return Ok(());
                }
            },
        };
        let tell = || self.control.finish_qa(protocol.id, step.id, attempt.fence, report.clone(), &done);
        self.persist(lease, tell).await?;
        self.forget_worktree(&attempt);
        Ok(())
    }

    async fn judge(
        &self,
        lease: &Lease,
        bench: &Bench,
        protocol: &Protocol,
        step: &Step,
        attempt: &Attempt,
        candidate: &Candidate,
    ) -> Result<Judged, Failure> {
        let commands = commands_of(bench, step);
        if commands.is_empty() {
            let why =
                "no check is configured: name commands in `checks` of the step or the project, or say qa.policy skip";
            return Ok(Judged::Report(report(Vec::new(), QaVerdict::Inconclusive, why)));
        }
        let inconclusive = |why: String| Ok(Judged::Report(report(Vec::new(), QaVerdict::Inconclusive, why)));
        let commit = match ObjectId::parse(&candidate.commit) {
            Ok(commit) => commit,
            Err(error) => return inconclusive(full(&error)),
        };
        let worktree = self.worktree_dir(attempt);
        if let Err(error) = bench.repository.mirror.checkout(&commit, &worktree).await {
            return inconclusive(full(&error));
        }
        let mut findings: Vec<Finding> = diff_finding(step, candidate).into_iter().collect();
        for (number, argv) in (1..).zip(&commands) {
            match self.run_check(lease, attempt, &worktree, number, argv).await? {
                Checked::Finding(finding) => findings.push(finding),
                Checked::Stopped => return Ok(Judged::Stopped),
                Checked::ByHand { said } => {
                    let said = self.keep_worktree(attempt, &said)?;
                    let mut report = report(findings, QaVerdict::Inconclusive, said);
                    report.end.ending = Ending::Canceled;
                    return Ok(Judged::Report(report));
                }
                Checked::CutOff { why } => return Ok(Judged::CutOff { why }),
            }
        }
        let mut judged = report_of(findings);
        let text = papers::quality_report(protocol, step, &candidate.commit, judged.verdict, &judged.findings);
        // Also for a result that does not pass, beside what its checks printed.
        let artifact = self.attempt_dir(attempt).join("quality-report.md");
        host::fs::write_atomic(&artifact, text.as_bytes()).map_err(Failure::retry)?;
        if judged.verdict == QaVerdict::Pass {
            let papers = Integrating { step, summary: &judged.end.summary, at: attempt.started_at };
            let written = self.write_papers(&bench.repository, protocol, attempt, papers, &commit, Some(text)).await;
            let kept = match written {
                Ok(commit) => bench.repository.mirror.keep_attempt(kept_under(attempt), &commit).await.map(|()| commit),
                Err(error) => Err(error),
            };
            match kept {
                Ok(commit) => judged.commit = Some(commit.to_string()),
                Err(error) => return inconclusive(full(&error)),
            }
        }
        Ok(Judged::Report(judged))
    }

    async fn run_check(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        worktree: &Path,
        number: u32,
        argv: &[String],
    ) -> Result<Checked, Failure> {
        let dir = self.attempt_dir(attempt).join(format!("check-{number}"));
        let home = self.attempt_dir(attempt).join("home");
        host::fs::create_private_dir(&self.attempt_dir(attempt)).map_err(Failure::retry)?;
        host::fs::create_private_dir(&home).map_err(Failure::retry)?;
        let mut launch = Launch::new(&dir, argv.to_vec(), worktree);
        launch.env = plain_environment(&home);
        launch.nonce.clone_from(&attempt.nonce);
        launch.limits = Limits::default().wall(WALL).output(OUTPUT).spool(OUTPUT);
        launch.merge_stderr = true;
        self.bound(lease, &mut launch);
        self.confine(&mut launch, Boxed::Check, &home, Needs::default()).await?;
        let started = host::clock::monotonic();
        let (verdict, exit_code, ending) = match supervisor::start(&self.config.exe, launch).await {
            Ok(supervised) => {
                // All checks of an attempt are held alike.
                let held = (number == 1).then(|| supervised.held());
                let (exit, ()) = tokio::join!(self.watch(lease, &supervised), self.tell_held(lease, attempt, held));
                let exit = exit?;
                match verdict_of(&exit) {
                    Ok(judged) => judged,
                    Err(checked) => return Ok(checked),
                }
            }
            Err(LaunchError::Program(failure)) => (QaVerdict::Inconclusive, None, launch_failed(&failure)),
            Err(error @ (LaunchError::NotReady(_) | LaunchError::Unreachable(_))) => {
                return Err(Failure::retry(full(&error)));
            }
            // Killed, perhaps, and whatever it had begun with it.
            Err(error @ LaunchError::Died { .. }) => return Ok(Checked::CutOff { why: full(&error) }),
            Err(error) => (QaVerdict::Inconclusive, None, full(&error)),
        };
        let printed = spool::tail(&dir, Stream::Output, MAX_DETAIL).map_err(Failure::retry)?;
        let printed = host::text::clean(&printed.bytes);
        self.keep_output(attempt, argv, &ending, &printed)?;
        let detail = if printed.trim().is_empty() { ending } else { format!("{ending}\n{printed}") };
        Ok(Checked::Finding(Finding {
            check: host::text::one_line(command_line(argv), 300),
            verdict,
            exit_code,
            detail: host::text::cut(&detail, MAX_DETAIL),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    /// One log for all checks of an attempt, where logs of attempts are looked for.
    fn keep_output(&self, attempt: &Attempt, argv: &[String], ending: &str, printed: &str) -> Result<(), Failure> {
        use std::io::Write as _;
        let path = self.attempt_dir(attempt).join(Stream::Output.file_name());
        let mut file = host::fs::open_append(&path).map_err(Failure::retry)?;
        let text = format!("$ {}\n{}\n# {ending}\n", command_line(argv), printed.trim_end());
        file.write_all(text.as_bytes()).map_err(Failure::retry)
    }
}

enum Judged {
    Report(QaReport),
    Stopped,
    CutOff { why: String },
}

/// The step's own commands, and the project's unless only the step's were asked for.
fn commands_of(bench: &Bench, step: &Step) -> Vec<Vec<String>> {
    let mut commands = step.spec.checks.clone();
    if step.spec.qa_policy() == QaPolicy::Full {
        for command in &bench.project.checks {
            if !commands.contains(command) {
                commands.push(command.clone());
            }
        }
    }
    commands
}

/// Where work was asked for, something has to have changed.
fn diff_finding(step: &Step, candidate: &Candidate) -> Option<Finding> {
    (step.step_type() == StepType::Work).then(|| Finding {
        check: "something changed".to_owned(),
        verdict: if candidate.diff.files > 0 { QaVerdict::Pass } else { QaVerdict::Fail },
        exit_code: None,
        detail: candidate.diff.to_string(),
        duration_ms: 0,
    })
}

fn verdict_of(exit: &Exit) -> Result<(QaVerdict, Option<i32>, String), Checked> {
    let ending = exit.outcome.to_string();
    match &exit.outcome {
        Outcome::Exited { code: 0 } => Ok((QaVerdict::Pass, Some(0), ending)),
        Outcome::Exited { code } => Ok((QaVerdict::Fail, Some(*code), ending)),
        Outcome::Signaled { .. } | Outcome::TimedOut { .. } | Outcome::OutputLimit => {
            Ok((QaVerdict::Fail, None, ending))
        }
        Outcome::LaunchFailed(failure) => Ok((QaVerdict::Inconclusive, None, launch_failed(failure))),
        Outcome::Stopped { reason } if reason == CANCELED => Err(Checked::Stopped),
        Outcome::Stopped { reason } if let Some(said) = supervisor::said_by_hand(reason) => {
            Err(Checked::ByHand { said: said.to_owned() })
        }
        Outcome::Stopped { .. } | Outcome::DeadlinePassed | Outcome::ControllerLost => {
            Err(Checked::CutOff { why: ending })
        }
    }
}

fn launch_failed(failure: &engines::exit::LaunchFailure) -> String {
    match failure.kind {
        LaunchFailureKind::ProgramNotFound => format!("the command is missing: {failure}"),
        LaunchFailureKind::ProgramRefused | LaunchFailureKind::DirectoryNotFound | LaunchFailureKind::Other => {
            format!("the command could not be started: {failure}")
        }
        LaunchFailureKind::SandboxUnavailable => format!("the sandbox for checks cannot be had here: {failure}"),
    }
}

fn report_of(findings: Vec<Finding>) -> QaReport {
    let any = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    let verdict = match (any(QaVerdict::Fail), any(QaVerdict::Inconclusive)) {
        (true, _) => QaVerdict::Fail,
        (false, true) => QaVerdict::Inconclusive,
        (false, false) => QaVerdict::Pass,
    };
    let n_passed = findings.iter().filter(|finding| finding.verdict == QaVerdict::Pass).count();
    let bad = findings.iter().find(|finding| finding.verdict == verdict && verdict != QaVerdict::Pass);
    let mut summary = format!("{n_passed} of {} checks passed", findings.len());
    if let Some(bad) = bad {
        let first = bad.detail.lines().next().unwrap_or_default();
        summary = host::text::one_line(format!("{summary}; {}: {first}", bad.check), 500);
    }
    report(findings, verdict, summary)
}

fn report(findings: Vec<Finding>, verdict: QaVerdict, summary: impl Into<String>) -> QaReport {
    let ending = match verdict {
        QaVerdict::Pass => Ending::Succeeded,
        QaVerdict::Fail | QaVerdict::Inconclusive => Ending::Failed,
    };
    let end = Ended { ending, summary: summary.into(), exit_code: None, usage: None };
    QaReport { verdict, findings, commit: None, end }
}
