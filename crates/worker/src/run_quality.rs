//! Judging a step's result: every check is run for real, in a fresh checkout of exactly the commit that is judged, and
//! what passes them all is reviewed where a reviewer is named.
//!
//! The cheap comes first: a command that failed has decided, and no engine is asked. No command and no reviewer, or one
//! that cannot be started, is no verdict.

use std::time::Duration;

use control::Cause;
use domain::{
    attempt::{Attempt, Duty, Ending},
    ids::ProtocolId,
    project::{NamedEngine, Reviewer},
    protocol::{Ended, Finding, Protocol, QaReport, QaVerdict},
    spec::{QaPolicy, StepType},
    step::{Candidate, Step},
    task::TaskKind,
};
use forge::git::types::ObjectId;

use crate::{
    Worker,
    check::Checked,
    engine_answer::Begun,
    engine_takeover::Takeover,
    execute_step::{Bench, held_attempt},
    failure::Failure,
    lease::Lease,
    papers::{self, Integrating},
    passed_checks,
    project_setup::full,
    run_job::FENCED,
    workspace::kept_under,
};

/// What an attempt's engine is called where commands judge alone.
const COMMANDS: &str = "checks";

/// A result that is judged, by whom, and with what.
pub(crate) struct Judging<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) bench: &'a Bench,
    pub(crate) protocol: &'a Protocol,
    pub(crate) step: &'a Step,
    pub(crate) attempt: &'a Attempt,
    pub(crate) candidate: &'a Candidate,
    /// The candidate's.
    pub(crate) commit: ObjectId,
}

/// How judging ended for the work as a whole.
pub(crate) enum Judged {
    Report(Box<QaReport>),
    Stopped,
    CutOff { why: String },
}

impl Worker {
    pub(crate) async fn run_quality(&self, lease: &Lease) -> Result<(), Failure> {
        let (protocol, step) = self.step_of(lease).await?;
        match (step.duty(TaskKind::RunQuality, &lease.task.id, lease.is_told_to_stop()), step.candidate()) {
            (Duty::Begin, Some(candidate)) => Box::pin(self.begin_quality(lease, &protocol, &step, candidate)).await,
            (Duty::TakeOver(attempt), _) => Box::pin(self.take_quality_over(lease, &protocol, &step, attempt)).await,
            (Duty::CleanUp(attempt), _) => self.clean_up(lease, &attempt).await,
            (Duty::Begin | Duty::Nothing, _) => {
                self.acknowledge(lease, lease.done()).await;
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
        let reviewer = bench.as_ref().map_or(Reviewer::Nobody, |bench| bench.project.engines.reviewer(&step.spec));
        let engine = match &reviewer {
            Reviewer::Engines(line) => line.next_or_first(&step.tried).map_or(COMMANDS, |engine| engine.id.as_str()),
            Reviewer::Nobody | Reviewer::Unnamed => COMMANDS,
        };
        if lease.is_told_to_stop() {
            // Taken back while it was prepared; whoever asked for it again has stored another task.
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let begin = lease.begin(&self.incarnation);
        let keep = self.keeping(lease);
        let protocol = self.control.start_qa(protocol.id, step.id, begin, engine, &keep).await?;
        host::failpoint!("worker.quality.begun");
        let Some((step, attempt)) = held_attempt(&protocol, step.id, lease) else {
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        };
        let judged = match (&bench, ObjectId::parse(&candidate.commit)) {
            (Err(error), _) => inconclusive(full(error)),
            (Ok(_), Err(error)) => inconclusive(full(&error)),
            (Ok(bench), Ok(commit)) => {
                let (protocol, step, attempt) = (&protocol, &step, &attempt);
                let judging = Judging { lease, bench, protocol, step, attempt, candidate, commit };
                self.judge(&judging, reviewer).await?
            }
        };
        self.end_quality(lease, protocol.id, &step, &attempt, judged).await
    }

    /// An earlier worker began. A review goes on behind commands that are known to have passed; everything else has a
    /// checkout of its own and changes nothing, so that it is simply begun again.
    async fn take_quality_over(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        step: &Step,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        let dir = self.attempt_dir(&attempt);
        let passed = |candidate: &Candidate| passed_checks::read(&dir, &attempt.nonce, &candidate.commit);
        let Some(findings) = step.candidate().and_then(passed) else {
            return self.begin_quality_again(lease, protocol.id, step, &attempt).await;
        };
        let takeover = self.take_engine_over(lease, &attempt, true).await?;
        let session = match &takeover {
            Takeover::Lost => return self.begin_quality_again(lease, protocol.id, step, &attempt).await,
            Takeover::Again { session } => session.clone(),
            Takeover::Follow(..) => None,
        };
        let keep = self.keeping(lease);
        let (old, new) = (attempt.fence, lease.fence);
        let protocol = self.control.adopt_step(protocol.id, step.id, old, new, session, &keep).await?;
        let Some((step, attempt)) = held_attempt(&protocol, step.id, lease) else {
            // Cancelled at this very moment.
            return self.clean_up(lease, &attempt).await;
        };
        // Before anything that may fail: an engine that is to stop does not wait for a repository.
        let Some(begun) = self.followed(lease, &attempt, takeover).await? else { return Ok(()) };
        let judged = match (self.bench(&protocol).await?, step.candidate()) {
            (Err(error), _) => inconclusive(full(&error)),
            (Ok(_), None) => Judged::CutOff { why: "there is no result any more".to_owned() },
            (Ok(bench), Some(candidate)) => match ObjectId::parse(&candidate.commit) {
                Err(error) => inconclusive(full(&error)),
                Ok(commit) => {
                    let choice = match bench.project.engines.reviewer(&step.spec) {
                        Reviewer::Engines(line) => line.named(&attempt.engine),
                        Reviewer::Nobody | Reviewer::Unnamed => NamedEngine::new(&attempt.engine),
                    };
                    let (bench, protocol, step, attempt) = (&bench, &protocol, &step, &attempt);
                    let judging = Judging { lease, bench, protocol, step, attempt, candidate, commit };
                    self.review(&judging, choice, begun, findings).await?
                }
            },
        };
        self.end_quality(lease, protocol.id, &step, &attempt, judged).await
    }

    async fn begin_quality_again(
        &self,
        lease: &Lease,
        protocol: ProtocolId,
        step: &Step,
        attempt: &Attempt,
    ) -> Result<(), Failure> {
        self.end_attempt(attempt, FENCED, Some(Duration::ZERO)).await?;
        let judged = match lease.is_told_to_stop() {
            true => Judged::Stopped,
            false => Judged::CutOff { why: "its worker is gone".to_owned() },
        };
        self.end_quality(lease, protocol, step, attempt, judged).await
    }

    async fn end_quality(
        &self,
        lease: &Lease,
        protocol: ProtocolId,
        step: &Step,
        attempt: &Attempt,
        judged: Judged,
    ) -> Result<(), Failure> {
        host::failpoint!("worker.quality.judged");
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        match judged {
            Judged::Report(report) => {
                let tell = || self.control.finish_qa(protocol, step.id, attempt.fence, (*report).clone(), &done);
                self.persist(lease, tell).await?;
                host::failpoint!("worker.quality.reported");
            }
            Judged::Stopped => {
                self.control.stop_step(protocol, step.id, attempt.fence, &done).await?;
            }
            Judged::CutOff { why } => {
                self.control.interrupt_step(protocol, step.id, attempt.fence, &why, &done).await?;
            }
        }
        self.forget_worktree(attempt);
        Ok(())
    }

    async fn judge(&self, judging: &Judging<'_>, reviewer: Reviewer) -> Result<Judged, Failure> {
        let Judging { bench, step, attempt, candidate, .. } = *judging;
        let commands = commands_of(bench, step);
        if commands.is_empty() && reviewer == Reviewer::Nobody {
            return Ok(inconclusive(
                "no check is configured: name commands in `checks` of the step or the project, an engine that reviews, or \
                 say qa.policy skip",
            ));
        }
        let mirror = &bench.repository.mirror;
        let worktree = self.worktree_dir(attempt);
        if let Err(error) = mirror.checkout(&judging.commit, &worktree).await {
            return Ok(inconclusive(full(&error)));
        }
        let mut findings: Vec<Finding> = diff_finding(step, candidate).into_iter().collect();
        for (number, argv) in (1..).zip(&commands) {
            match self.run_check(judging.lease, attempt, &worktree, number, argv).await? {
                Checked::Finding(finding) => findings.push(finding),
                Checked::Stopped => return Ok(Judged::Stopped),
                Checked::ByHand { said } => {
                    let said = self.keep_worktree(attempt, &said)?;
                    let mut report = of_nothing(findings, said);
                    report.end.ending = Ending::Canceled;
                    return Ok(Judged::Report(Box::new(report)));
                }
                Checked::CutOff { why } => return Ok(Judged::CutOff { why }),
            }
        }
        let reviewing = match &reviewer {
            Reviewer::Engines(line) => line.next_or_first(&step.tried).cloned(),
            Reviewer::Nobody => None,
            Reviewer::Unnamed => {
                findings.push(unnamed());
                None
            }
        };
        match reviewing {
            Some(choice) if verdict_of(&findings) == QaVerdict::Pass => {
                // What commands left behind is no part of the result, and nothing that a reviewer is configured by.
                let dir = self.attempt_dir(attempt);
                host::fs::remove_foreign_dir(&dir.join("home")).map_err(Failure::retry)?;
                if let Err(error) = mirror.checkout(&judging.commit, &worktree).await {
                    return Ok(inconclusive(full(&error)));
                }
                passed_checks::write(&dir, &attempt.nonce, &candidate.commit, &findings)?;
                self.review(judging, choice, Begun::Not, findings).await
            }
            Some(_) | None => Ok(Judged::Report(Box::new(self.conclude(judging, findings).await?))),
        }
    }

    /// Makes the report of what was found, and the commit that the branch moves to when all of it passed.
    pub(crate) async fn conclude(&self, judging: &Judging<'_>, findings: Vec<Finding>) -> Result<QaReport, Failure> {
        let Judging { bench, protocol, step, attempt, candidate, .. } = *judging;
        let mut report = report_of(findings);
        let text = papers::quality_report(protocol, step, &candidate.commit, report.verdict, &report.findings);
        // Also for a result that does not pass, beside what its checks printed.
        let dir = self.attempt_dir(attempt);
        host::fs::create_private_dir(&dir).map_err(Failure::retry)?;
        host::fs::write_atomic(&dir.join("quality-report.md"), text.as_bytes()).map_err(Failure::retry)?;
        if report.verdict == QaVerdict::Pass {
            let papers = Integrating { step, summary: &report.end.summary, at: attempt.started_at };
            let on = &judging.commit;
            let written = self.write_papers(&bench.repository, protocol, attempt, papers, on, Some(text)).await;
            let kept = match written {
                Ok(commit) => bench.repository.mirror.keep_attempt(kept_under(attempt), &commit).await.map(|()| commit),
                Err(error) => Err(error),
            };
            match kept {
                Ok(commit) => report.commit = Some(commit.to_string()),
                Err(error) => report = of_nothing(Vec::new(), full(&error)),
            }
        }
        Ok(report)
    }
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

/// A review was asked for, and nobody said by whom.
fn unnamed() -> Finding {
    Finding {
        check: "review".to_owned(),
        verdict: QaVerdict::Inconclusive,
        exit_code: None,
        detail:
            "no engine is named that reviews: name one in qa.engine_id of the step, or in engines.qa of the project"
                .to_owned(),
        duration_ms: 0,
    }
}

/// What all of them say together: the strictest.
fn verdict_of(findings: &[Finding]) -> QaVerdict {
    let any = |verdict| findings.iter().any(|finding| finding.verdict == verdict);
    match (any(QaVerdict::Fail), any(QaVerdict::Inconclusive)) {
        (true, _) => QaVerdict::Fail,
        (false, true) => QaVerdict::Inconclusive,
        (false, false) => QaVerdict::Pass,
    }
}

fn report_of(findings: Vec<Finding>) -> QaReport {
    let verdict = verdict_of(&findings);
    let n_passed = findings.iter().filter(|finding| finding.verdict == QaVerdict::Pass).count();
    let bad = findings.iter().find(|finding| finding.verdict == verdict && verdict != QaVerdict::Pass);
    let mut summary = format!("{n_passed} of {} checks passed", findings.len());
    if let Some(bad) = bad {
        let first = bad.detail.lines().next().unwrap_or_default();
        summary = host::text::one_line(format!("{summary}; {}: {first}", bad.check), 500);
    }
    report(findings, verdict, summary)
}

fn inconclusive(why: impl Into<String>) -> Judged {
    Judged::Report(Box::new(of_nothing(Vec::new(), why)))
}

/// The report of a judgement that did not come about.
pub(crate) fn of_nothing(findings: Vec<Finding>, why: impl Into<String>) -> QaReport {
    report(findings, QaVerdict::Inconclusive, why)
}

fn report(findings: Vec<Finding>, verdict: QaVerdict, summary: impl Into<String>) -> QaReport {
    let ending = match verdict {
        QaVerdict::Pass => Ending::Succeeded,
        QaVerdict::Fail | QaVerdict::Inconclusive => Ending::Failed,
    };
    let end = Ended { ending, summary: summary.into(), exit_code: None, usage: None };
    QaReport { verdict, findings, commit: None, end, fall_back: None }
}
