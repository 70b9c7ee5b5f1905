//! Executing a step: an engine works in a worktree of its own, and what it made becomes a commit that no branch has.
//!
//! The commit is recorded in the fenced report that ends the attempt; only then does `advance_branch` move anything. A
//! claim that finds the attempt begun takes it over: adopts what runs, reads what ended, and reports what is gone.

use control::{
    Cause,
    patches::{self, Patch},
    steps::ended,
};
use domain::{
    attempt::{Attempt, Duty, Ending},
    ids::StepId,
    project::{NamedEngine, Project},
    protocol::{Ended, Executed, Protocol},
    spec::{QaPolicy, Retry, StepType},
    step::{Candidate, Failure as Why, Step},
    task::TaskKind,
};
use engines::engine::Phase;
use forge::git::{GitError, types::ObjectId, types::RepoPath};
use serde::Deserialize;

use crate::{
    Worker,
    engine_run::{EngineEnd, Ran, Task, failed, going_on, unavailable},
    engine_takeover::Takeover,
    failure::Failure,
    lease::Lease,
    papers::{self, Integrating},
    plan_protocol::protocol_id,
    project_setup::full,
    workspace::{Repository, commit_info, kept_under, place_of, restore_folder, stat_of},
};

/// How long a file with a prompt may be.
pub(crate) const MAX_PROMPT: usize = 1 << 20;

#[derive(Deserialize)]
pub(crate) struct Payload {
    pub(crate) step: StepId,
}

/// What a step's attempt works with.
pub(crate) struct Bench {
    pub(crate) project: Project,
    pub(crate) repository: Repository,
    /// Where the attempt begins.
    pub(crate) base: ObjectId,
}

impl Worker {
    pub(crate) async fn execute_step(&self, lease: &Lease) -> Result<(), Failure> {
        let (protocol, step) = self.step_of(lease).await?;
        match step.duty(TaskKind::ExecuteStep, &lease.task.id, lease.is_told_to_stop()) {
            Duty::Begin => Box::pin(self.begin_step(lease, &protocol, &step)).await,
            Duty::TakeOver(attempt) => Box::pin(self.take_step_over(lease, &protocol, &step, attempt)).await,
            Duty::CleanUp(attempt) => self.clean_up(lease, &attempt).await,
            // Paused, cancelled or decided otherwise in the meantime.
            Duty::Nothing => {
                self.acknowledge(lease, lease.done()).await;
                Ok(())
            }
        }
    }

    /// The step that a task names, with its protocol.
    pub(crate) async fn step_of(&self, lease: &Lease) -> Result<(Protocol, Step), Failure> {
        let payload: Payload = serde_json::from_str(&lease.task.payload).map_err(Failure::give_up)?;
        let id = protocol_id(lease)?;
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        match protocol.step(payload.step).cloned() {
            Some(step) => Ok((protocol, step)),
            None => Err(Failure::give_up(format!("protocol {id} has no step {}", payload.step))),
        }
    }

    pub(crate) async fn bench(&self, protocol: &Protocol) -> Result<Result<Bench, GitError>, Failure> {
        // Before anything begins: between the beginning of an attempt and its process there is to be as little as possible.
        self.look_at_machine().await?;
        let project = self.control.get::<Project>(&protocol.project.to_string()).await?.subject;
        let prepared = async {
            let repository = self.repository(&project).await?;
            let base = repository.start_of(protocol).await?;
            Ok((repository, base))
        };
        match prepared.await {
            Err(error) if GitError::is_transient(&error) => Err(Failure::retry(full(&error))),
            Err(error) => Ok(Err(error)),
            Ok((repository, base)) => Ok(Ok(Bench { project, repository, base })),
        }
    }

    async fn begin_step(&self, lease: &Lease, protocol: &Protocol, step: &Step) -> Result<(), Failure> {
        // What may fail for reasons of the moment comes before the attempt begins.
        let bench = self.bench(protocol).await?;
        let line = bench.as_ref().map(|bench| bench.project.engines.for_execution(&step.spec)).unwrap_or_default();
        let choice = line.next_or_first(&step.tried).cloned();
        let engine = choice.as_ref().map_or("none".to_owned(), |choice| choice.id.clone());
        if lease.is_told_to_stop() {
            // Taken back while it was prepared; whoever asked for it again has stored another task.
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let begin = lease.begin(&self.incarnation);
        let keep = Cause::of(self.actor()).acknowledging(lease.keep());
        let protocol = self.control.start_step(protocol.id, step.id, begin, &engine, &keep).await?;
        host::failpoint!("worker.step.begun");
        let Some((step, attempt)) = held_attempt(&protocol, step.id, lease) else {
            // A gate asks first, or somebody paused.
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        };
        self.forget_kept(&attempt);
        let bench = match bench {
            Ok(bench) => bench,
            Err(error) => {
                let ran = failed(error.kind(), full(&error));
                return self.end_step(lease, &protocol, &step, &attempt, None, ran).await;
            }
        };
        let ran = match self.task_of(&bench, &protocol, &step, choice).await {
            Err(ran) => ran,
            Ok(task) => match bench.repository.mirror.checkout(&bench.base, &self.worktree_dir(&attempt)).await {
                Ok(_) => self.run_engine(lease, &attempt, &task).await?,
                Err(error) => failed(error.kind(), full(&error)),
            },
        };
        host::failpoint!("worker.step.ended");
        self.end_step(lease, &protocol, &step, &attempt, Some(&bench), ran).await
    }

    async fn take_step_over(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        step: &Step,
        attempt: Attempt,
    ) -> Result<(), Failure> {
        // In the order of the design: what runs is adopted, else its session goes on, else it starts from the tip.
        let again = step.spec.retry() == Retry::Safe;
        let takeover = self.take_engine_over(lease, &attempt, again).await?;
        let session = match &takeover {
            Takeover::Lost => {
                let done = Cause::of(self.actor()).acknowledging(lease.done());
                let why = "its worker and its supervisor are gone";
                self.control.interrupt_step(protocol.id, step.id, attempt.fence, why, &done).await?;
                self.forget_worktree(&attempt);
                return Ok(());
            }
            Takeover::Again { session } => session.clone(),
            Takeover::Follow(..) => None,
        };
        let keep = self.keeping(lease);
        let protocol =
            self.control.adopt_step(protocol.id, step.id, attempt.fence, lease.fence, session, &keep).await?;
        let Some((step, attempt)) = held_attempt(&protocol, step.id, lease) else {
            // Cancelled at this very moment.
            return self.clean_up(lease, &attempt).await;
        };
        let (ran, bench) = match takeover {
            // Before anything that may fail: an engine that is to stop does not wait for a repository.
            Takeover::Follow(followed) => {
                let (engine, found) = *followed;
                let ran = self.follow_engine(lease, &attempt, &engine, found).await?;
                (Some(ran), self.bench(&protocol).await?)
            }
            Takeover::Again { session } => match self.bench(&protocol).await? {
                Ok(bench) => {
                    let ran = self.go_on_with_step(lease, &bench, &protocol, &step, &attempt, session).await?;
                    (Some(ran), Ok(bench))
                }
                Err(error) => (None, Err(error)),
            },
            Takeover::Lost => return Ok(()),
        };
        match (ran, bench) {
            (Some(ran), Ok(bench)) => self.end_step(lease, &protocol, &step, &attempt, Some(&bench), ran).await,
            (_, Err(error)) => {
                let ran = failed(error.kind(), full(&error));
                self.end_step(lease, &protocol, &step, &attempt, None, ran).await
            }
            (None, Ok(_)) => Ok(()),
        }
    }

    /// Runs a step's engine again in the attempt that it was begun in: in its session with what it left in the worktree,
    /// or from the beginning.
    async fn go_on_with_step(
        &self,
        lease: &Lease,
        bench: &Bench,
        protocol: &Protocol,
        step: &Step,
        attempt: &Attempt,
        session: Option<String>,
    ) -> Result<Ran, Failure> {
        let choice = bench.project.engines.for_execution(&step.spec).named(&attempt.engine);
        let task = match self.task_of(bench, protocol, step, Some(choice)).await {
            Ok(task) => task,
            Err(ran) => return Ok(ran),
        };
        let prompt = if session.is_some() { going_on(&task.prompt) } else { task.prompt.clone() };
        if session.is_none() {
            self.forget_worktree(attempt);
            if let Err(error) = bench.repository.mirror.checkout(&bench.base, &self.worktree_dir(attempt)).await {
                return Ok(failed(error.kind(), full(&error)));
            }
        }
        self.run_engine_again(lease, attempt, &task, session, &prompt).await
    }

    async fn task_of(
        &self,
        bench: &Bench,
        protocol: &Protocol,
        step: &Step,
        choice: Option<NamedEngine>,
    ) -> Result<Task, Ran> {
        let choice = choice.ok_or_else(|| unavailable("no engine is configured for execution"))?;
        let engine = self.config.engines.require(&choice.id).map_err(|error| unavailable(full(&error)))?.clone();
        let prompt = prompt_of(&bench.repository, &bench.base, protocol, step)
            .await
            .map_err(|error| failed(error.kind(), full(&error)))?;
        let model =
            step.spec.model.clone().or_else(|| {
                bench.project.default_models.get("exec").and_then(|model| model.as_str()).map(str::to_owned)
            });
        let line = bench.project.engines.for_execution(&step.spec);
        let model = line.model_for(&choice.id, model);
        Ok(Task {
            project: bench.project.name.clone(),
            engine,
            choice,
            phase: match step.step_type() {
                StepType::Setup => Phase::Setup,
                StepType::Work => Phase::Work,
                StepType::Qa => Phase::Qa,
            },
            step: step.name().to_owned(),
            prompt,
            model,
            output_schema: None,
            argv: argv_of(step),
        })
    }

    async fn end_step(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        step: &Step,
        attempt: &Attempt,
        bench: Option<&Bench>,
        ran: Ran,
    ) -> Result<(), Failure> {
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        let fall_back = match &ran {
            Ran::Ended(ended) => self.falls_back(lease, attempt, ended).await?,
            Ran::Stopped | Ran::CutOff { .. } => None,
        };
        let result = match (ran, bench) {
            (Ran::Stopped, _) => {
                self.control.stop_step(protocol.id, step.id, attempt.fence, &done).await?;
                self.forget_worktree(attempt);
                return Ok(());
            }
            (Ran::CutOff { why }, _) => {
                self.control.interrupt_step(protocol.id, step.id, attempt.fence, &why, &done).await?;
                self.forget_worktree(attempt);
                return Ok(());
            }
            (Ran::Ended(ended), bench) => match (*ended, bench) {
                (EngineEnd { end, failure: None, .. }, Some(bench)) => {
                    match self.take_result(bench, protocol, step, attempt, &end).await {
                        Ok(candidate) if candidate.diff.files == 0 && self.is_judged_by_its_diff(attempt) => {
                            let why = format!("{} ended with exit code 0 and changed nothing", attempt.engine);
                            let end = Ended { ending: Ending::Failed, ..end };
                            Executed { end, failure: Some(Why::new("empty_diff", why)), candidate: None, fall_back }
                        }
                        Ok(candidate) => Executed { end, failure: None, candidate: Some(candidate), fall_back },
                        Err(error) => not_taken(&error),
                    }
                }
                (EngineEnd { end, failure, .. }, _) => Executed { end, failure, candidate: None, fall_back },
            },
        };
        host::failpoint!("worker.step.taken");
        let report = || self.control.finish_step(protocol.id, step.id, attempt.fence, result.clone(), &done);
        self.persist(lease, report).await?;
        host::failpoint!("worker.step.reported");
        self.forget_worktree(attempt);
        Ok(())
    }

    /// Whether the exit code of an attempt's engine says nothing.
    fn is_judged_by_its_diff(&self, attempt: &Attempt) -> bool {
        self.config.engines.find(&attempt.engine).is_some_and(|found| found.engine.is_judged_by_its_diff())
    }

    /// Makes a commit of what the engine left in its worktree, and keeps it alive under the attempt's fence.
    async fn take_result(
        &self,
        bench: &Bench,
        protocol: &Protocol,
        step: &Step,
        attempt: &Attempt,
        end: &Ended,
    ) -> Result<Candidate, GitError> {
        let Bench { repository, base, .. } = bench;
        let dir = self.worktree_dir(attempt);
        restore_folder(&dir, protocol, &repository.folder(base, protocol).await?)?;
        let worktree = repository.mirror.worktree(&dir)?;
        let (kind, subject) = (kind_of(step), step.name().trim_end_matches(".md"));
        let info = commit_info(protocol, attempt, kind, "step", subject, &place_of(step))?;
        let snapshot = worktree.snapshot_commit(base, &info).await?;
        let changed = repository.mirror.diff(base, &snapshot.commit, patches::MAX_BYTES).await?;
        let diff = stat_of(&changed.changes, &protocol.folder());
        Patch::of_git(&changed.patch, changed.truncated).write(&self.attempt_dir(attempt))?;
        // Nobody will judge this result, so that it is integrated as it leaves here.
        let commit = if step.spec.qa_policy() == QaPolicy::Skip {
            let papers = Integrating { step, summary: &end.summary, at: attempt.started_at };
            self.write_papers(repository, protocol, attempt, papers, &snapshot.commit, None).await?
        } else {
            snapshot.commit
        };
        repository.mirror.keep_attempt(kept_under(attempt), &commit).await?;
        Ok(Candidate { base: base.to_string(), commit: commit.to_string(), diff })
    }

    /// A commit on top of a result with the files that Pilothouse alone writes.
    pub(crate) async fn write_papers(
        &self,
        repository: &Repository,
        protocol: &Protocol,
        attempt: &Attempt,
        now: Integrating<'_>,
        on: &ObjectId,
        quality_report: Option<String>,
    ) -> Result<ObjectId, GitError> {
        let folder = protocol.folder();
        let path = |name: &str| RepoPath::parse(&format!("{folder}/{name}"));
        let mut files = vec![
            (path("context.md")?, papers::context(protocol, Some(now)).into_bytes()),
            (path("log.md")?, papers::log(protocol, Some(now)).into_bytes()),
        ];
        if let Some(report) = quality_report {
            files.push((path("quality-report.md")?, report.into_bytes()));
        }
        let subject = format!("record {}", now.step.name().trim_end_matches(".md"));
        let info = commit_info(protocol, attempt, "docs", "protocol", &subject, &place_of(now.step))?;
        repository.mirror.write_files(on, &files, &info).await
    }
}

/// The step and its attempt, if the attempt that is under way is this lease's.
pub(crate) fn held_attempt(protocol: &Protocol, step: StepId, lease: &Lease) -> Option<(Step, Attempt)> {
    let step = protocol.step(step)?;
    let attempt = step.running().filter(|attempt| attempt.fence == lease.fence)?;
    Some((step.clone(), attempt.clone()))
}

/// The command of the shell engine: `inputs.argv` of the step.
fn argv_of(step: &Step) -> Vec<String> {
    let argv = step.spec.inputs.as_ref().and_then(|inputs| inputs.get("argv")).and_then(|argv| argv.as_array());
    argv.map(|argv| argv.iter().filter_map(|part| part.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

/// What a step asks for, as a commit has it.
pub(crate) async fn prompt_of(
    repository: &Repository,
    base: &ObjectId,
    protocol: &Protocol,
    step: &Step,
) -> Result<String, GitError> {
    let index = usize::try_from(step.index).unwrap_or(usize::MAX);
    let own = format!("{}/{}", protocol.folder(), domain::planning::file_name(index, step.name()));
    let path = RepoPath::parse(step.spec.prompt_ref.as_deref().unwrap_or(&own))?;
    let file = repository.mirror.read_file(base, &path, MAX_PROMPT).await?;
    Ok(match file {
        Some(content) => String::from_utf8_lossy(&content).into_owned(),
        // Steps that people added without a plan have no file: what is known of them is all there is.
        None => {
            step.spec.description.clone().or_else(|| step.summary.clone()).unwrap_or_else(|| step.name().to_owned())
        }
    })
}

fn kind_of(step: &Step) -> &'static str {
    match step.step_type() {
        StepType::Setup => "chore",
        StepType::Work => "feat",
        StepType::Qa => "test",
    }
}

fn not_taken(error: &GitError) -> Executed {
    let why = Why::new(error.kind(), full(error));
    Executed { end: ended(Ending::Failed, why.to_string()), failure: Some(why), candidate: None, fall_back: None }
}
