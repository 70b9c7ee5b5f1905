//! A review of a result by an engine, behind commands that have all passed: it can only make the verdict stricter.
//!
//! The engine reads in a fresh checkout of exactly the commit that is judged. What it is to look for comes from the commit
//! that the work began on, so that no work changes its own judge. Whatever keeps it from a sound answer is no verdict.

use control::{
    patches::{self, Patch},
    spec_check::{check_review, review_schema},
};
use domain::{
    attempt::Ending,
    project::{NamedEngine, Reviewer},
    protocol::{Finding, QaVerdict},
    review::ReviewAnswer,
    step::Failure as Why,
};
use engines::engine::{Finished, Phase};
use forge::git::{types::ObjectId, types::RepoPath};

use crate::{
    Worker,
    engine_answer::{Begun, answer_of},
    engine_run::{EngineEnd, Ran, Task, failed, unavailable},
    execute_step::{MAX_PROMPT, prompt_of},
    failure::Failure,
    project_setup::full,
    review_prompt::{self, INLINE, Material, PATCH_FILE},
    run_quality::{Judged, Judging, of_nothing},
};

/// How much of what a reviewer says is kept with its finding.
const MAX_DETAIL: usize = 16 * 1024;

impl Worker {
    /// Has an engine review a result that passed its commands, and puts both together.
    pub(crate) async fn review(
        &self,
        judging: &Judging<'_>,
        choice: NamedEngine,
        begun: Begun,
        mut findings: Vec<Finding>,
    ) -> Result<Judged, Failure> {
        let reviewer = choice.id.clone();
        let problems = |finished: &Finished| answer_of(finished, check_review).err();
        let ran = match self.review_task(judging, choice, &findings).await {
            Ok(task) => self.answer(judging.lease, judging.attempt, &task, begun, problems).await?,
            Err(ran) => ran,
        };
        let ended = match ran {
            Ran::Ended(ended) => *ended,
            Ran::Stopped => return Ok(Judged::Stopped),
            Ran::CutOff { why } => return Ok(Judged::CutOff { why }),
        };
        let fall_back = self.falls_back(judging.lease, judging.attempt, &ended).await?;
        let EngineEnd { end, finished, failure, .. } = ended;
        if end.ending == Ending::Canceled {
            let mut report = of_nothing(findings, end.summary);
            report.end.ending = Ending::Canceled;
            report.end.usage = end.usage;
            return Ok(Judged::Report(Box::new(report)));
        }
        let said = match failure {
            None => answer_of(&finished, check_review).map_err(|why| format!("its answer cannot be used: {why}")),
            Some(why) => Err(why.to_string()),
        };
        findings.push(self.finding_of(judging, &reviewer, &findings, &said));
        let mut report = self.conclude(judging, findings).await?;
        report.end.usage = end.usage;
        report.fall_back = fall_back;
        Ok(Judged::Report(Box::new(report)))
    }

    async fn review_task(&self, judging: &Judging<'_>, choice: NamedEngine, findings: &[Finding]) -> Result<Task, Ran> {
        let engine = self.config.engines.require(&choice.id).map_err(|error| unavailable(full(&error)))?.clone();
        if !engine.engine.answers() {
            let why = format!("engine {} gives no structured answer, so that it cannot review", choice.id);
            return Err(unavailable(why));
        }
        let prompt = self.review_prompt(judging, findings).await.map_err(|why| failed(&why.code, why.why))?;
        let step = judging.step;
        let qa = step.spec.qa.as_ref();
        let configured = judging.bench.project.default_models.get("qa").and_then(|model| model.as_str());
        let model = qa.and_then(|qa| qa.model.clone()).or_else(|| configured.map(str::to_owned));
        let model = match judging.bench.project.engines.reviewer(&step.spec) {
            Reviewer::Engines(line) => line.model_for(&choice.id, model),
            Reviewer::Nobody | Reviewer::Unnamed => model,
        };
        Ok(Task {
            project: judging.bench.project.name.clone(),
            engine,
            choice,
            phase: Phase::Qa,
            step: step.name().to_owned(),
            prompt,
            model,
            output_schema: Some(review_schema()),
            argv: Vec::new(),
        })
    }

    async fn review_prompt(&self, judging: &Judging<'_>, findings: &[Finding]) -> Result<String, Why> {
        let Judging { bench, protocol, step, candidate, .. } = *judging;
        let mirror = &bench.repository.mirror;
        let failed = |error: forge::git::GitError| Why::new(error.kind(), full(&error));
        let base = ObjectId::parse(&candidate.base).map_err(|error| Why::new("invalid_commit", full(&error)))?;
        let instructions = match step.spec.qa.as_ref().and_then(|qa| qa.prompt.as_ref()) {
            None => None,
            Some(file) => {
                let path = RepoPath::parse(file).map_err(|error| Why::new("prompt_missing", full(&error)))?;
                let found = mirror.read_file(&base, &path, MAX_PROMPT).await.map_err(failed)?;
                let missing = || {
                    let why = format!("{file}, which says what to look for, is not in commit {base}");
                    Why::new("prompt_missing", why)
                };
                Some(String::from_utf8_lossy(&found.ok_or_else(missing)?).into_owned())
            }
        };
        let contract = prompt_of(&bench.repository, &base, protocol, step).await.map_err(failed)?;
        let diff = mirror.diff(&base, &judging.commit, patches::MAX_BYTES).await.map_err(failed)?;
        let patch = Patch::of_git(&diff.patch, diff.truncated).text;
        if patch.len() > INLINE {
            let file = self.worktree_dir(judging.attempt);
            let name = host::path::RelPath::parse(PATCH_FILE).map_err(|error| Why::new("patch", full(&error)))?;
            host::fs::Beneath::open(&file)
                .and_then(|worktree| worktree.write(&name, patch.as_bytes()))
                .map_err(|error| Why::new("patch", full(&error)))?;
        }
        Ok(review_prompt::render(&Material {
            protocol,
            step,
            candidate,
            instructions: instructions.as_deref(),
            contract: &contract,
            findings,
            patch: &patch,
        }))
    }

    /// What a reviewer said, or why it said nothing, as one more check.
    fn finding_of(
        &self,
        judging: &Judging<'_>,
        reviewer: &str,
        checks: &[Finding],
        said: &Result<ReviewAnswer, String>,
    ) -> Finding {
        // However often it was taken over: all of the attempt's time that no command took.
        let all = self.control.clock().now().since(judging.attempt.started_at);
        let commands: u64 = checks.iter().map(|check| check.duration_ms).sum();
        let (verdict, detail) = match said {
            Ok(answer) => (answer.verdict, answer.detail()),
            Err(why) => (
                QaVerdict::Inconclusive,
                format!("{why}; put that right and have the result checked again, or approve it yourself"),
            ),
        };
        Finding {
            check: format!("review by {}", host::text::one_line(reviewer, 100)),
            verdict,
            exit_code: None,
            detail: host::text::cut(&host::text::clean(&detail), MAX_DETAIL),
            duration_ms: u64::try_from(all.as_millis()).unwrap_or(u64::MAX).saturating_sub(commands),
        }
    }
}
