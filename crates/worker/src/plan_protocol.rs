//! Planning: from a spec, from steps that people added, or from an engine's structured answer, to the plan's commit.
//!
//! Everything that may fail for reasons of the moment happens before the attempt begins; what fails after that is a
//! result. The branch is not touched: the ledger accepts the commit first, then `advance_branch` puts it there.

use control::{
    Cause, CommandError,
    spec_check::{check_planning, planning_schema},
    steps::{FinishedPlan, ended},
};
use domain::{
    attempt::{Attempt, Duty, Ending},
    ids::ProtocolId,
    planning::Plan,
    project::{NamedEngine, Project},
    protocol::{Ended, FallBack, Protocol},
    spec::{ProtocolSpec, SpecProblem, StepSpec},
    step::Failure as Why,
};
use engines::engine::{Configured, Finished, Phase};
use forge::git::{GitError, types::ObjectId, types::RepoPath};

use crate::{
    Worker,
    engine_answer::{Begun, answer_of, told},
    engine_run::{EngineEnd, Ran, Task, unavailable},
    engine_takeover::Takeover,
    execute_step::MAX_PROMPT,
    failure::Failure,
    lease::Lease,
    papers,
    project_setup::full,
    workspace::{Repository, commit_info, kept_under},
};

const PLANNER: &str = "spec";

/// Where a plan comes from.
enum Source {
    Spec(serde_json::Value),
    Steps,
    Engine(NamedEngine),
    Nothing,
}

impl Worker {
    pub(crate) async fn plan_protocol(&self, lease: &Lease) -> Result<(), Failure> {
        let id = protocol_id(lease)?;
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        match protocol.planning_duty(&lease.task.id, lease.is_told_to_stop()) {
            Duty::Begin => Box::pin(self.begin_plan(lease, &protocol)).await,
            Duty::TakeOver(attempt) => Box::pin(self.take_plan_over(lease, &protocol, attempt)).await,
            Duty::CleanUp(attempt) => self.clean_up(lease, &attempt).await,
            Duty::Nothing => {
                self.acknowledge(lease, lease.done()).await;
                Ok(())
            }
        }
    }

    async fn begin_plan(&self, lease: &Lease, protocol: &Protocol) -> Result<(), Failure> {
        let project = self.control.get::<Project>(&protocol.project.to_string()).await?.subject;
        let prepared = match self.prepare_plan(&project, protocol).await {
            Err(error) if error.is_transient() => return Err(Failure::retry(full(&error))),
            prepared => prepared,
        };
        let source = source_of(&project, protocol);
        let engine = match &source {
            Source::Engine(choice) => choice.id.clone(),
            Source::Spec(_) | Source::Steps | Source::Nothing => PLANNER.to_owned(),
        };
        if lease.is_told_to_stop() {
            // Taken back while it was prepared; whoever asked for it again has stored another task.
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let begin = lease.begin(&self.incarnation);
        let keep = Cause::of(self.actor()).acknowledging(lease.keep());
        let protocol = self.control.begin_plan(protocol.id, begin, &engine, &keep).await?;
        host::failpoint!("worker.plan.begun");
        let Some(attempt) = protocol.planning().filter(|attempt| attempt.fence == lease.fence).cloned() else {
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        };
        self.forget_kept(&attempt);
        let (repository, base) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let why = Why::new(error.kind(), full(&error));
                return self.fail_plan(lease, &protocol, &attempt, why, None).await;
            }
        };
        let plan = match source {
            Source::Nothing => {
                let why = "no planning engine is configured, and there is neither a spec nor a step";
                return self.fail_plan(lease, &protocol, &attempt, Why::new("engine_unavailable", why), None).await;
            }
            Source::Spec(document) => ProtocolSpec::parse(&document)
                .map(|spec| (Plan::of_spec(&protocol.name, spec), ended(Ending::Succeeded, "planned from the spec"))),
            Source::Steps => {
                let end = ended(Ending::Succeeded, "planned from the steps that were added");
                Ok((Plan::of_spec(&protocol.name, spec_of_steps(&protocol)), end))
            }
            Source::Engine(choice) => {
                let engine = match self.config.engines.require(&choice.id) {
                    Ok(engine) => engine.clone(),
                    Err(error) => {
                        let ran = unavailable(full(&error));
                        return self.end_planning(lease, &protocol, &attempt, &repository, &base, ran).await;
                    }
                };
                let task = planning_task(engine, choice, &project, &protocol);
                if let Err(error) = repository.mirror.checkout(&base, &self.worktree_dir(&attempt)).await {
                    let why = Why::new(error.kind(), full(&error));
                    return self.fail_plan(lease, &protocol, &attempt, why, None).await;
                }
                let ran = self.answer(lease, &attempt, &task, Begun::Not, |finished| plan_of(finished).err()).await?;
                return self.end_planning(lease, &protocol, &attempt, &repository, &base, ran).await;
            }
        };
        match plan {
            Ok((plan, end)) => self.hand_plan_in(lease, &protocol, &attempt, &repository, &base, plan, end).await,
            Err(problems) => {
                self.fail_plan(lease, &protocol, &attempt, Why::new("invalid_plan", told(&problems)), None).await
            }
        }
    }

    async fn prepare_plan(&self, project: &Project, protocol: &Protocol) -> Result<(Repository, ObjectId), GitError> {
        let repository = self.repository(project).await?;
        let base = repository.start_of(protocol).await?;
        Ok((repository, base))
    }

    /// An earlier worker began: its engine is adopted, or planning starts again.
    async fn take_plan_over(&self, lease: &Lease, protocol: &Protocol, attempt: Attempt) -> Result<(), Failure> {
        // Planning changes nothing outside its worktree, so that it may always go on.
        let takeover = self.take_engine_over(lease, &attempt, true).await?;
        let session = match &takeover {
            Takeover::Lost => {
                let done = Cause::of(self.actor()).acknowledging(lease.done());
                self.control.interrupt_plan(protocol.id, attempt.fence, "its worker is gone", &done).await?;
                return Ok(());
            }
            Takeover::Again { session } => session.clone(),
            Takeover::Follow(..) => None,
        };
        let keep = self.keeping(lease);
        let protocol = self.control.adopt_plan(protocol.id, attempt.fence, lease.fence, session, &keep).await?;
        let Some(attempt) = protocol.planning().cloned() else {
            // Cancelled at this very moment.
            return self.clean_up(lease, &attempt).await;
        };
        // Before anything that may fail: an engine that is to stop does not wait for a repository.
        let Some(begun) = self.followed(lease, &attempt, takeover).await? else { return Ok(()) };
        let project = self.control.get::<Project>(&protocol.project.to_string()).await?.subject;
        let (repository, base) =
            self.prepare_plan(&project, &protocol).await.map_err(|error| Failure::retry(full(&error)))?;
        let task = self.config.engines.find(&attempt.engine).map(|engine| {
            planning_task(engine.clone(), project.engines.for_planning().named(&attempt.engine), &project, &protocol)
        });
        let Some(task) = task else { return Err(Failure::retry("the engine is no longer configured here")) };
        let ran = self.answer(lease, &attempt, &task, begun, |finished| plan_of(finished).err()).await?;
        self.end_planning(lease, &protocol, &attempt, &repository, &base, ran).await
    }

    async fn end_planning(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        attempt: &Attempt,
        repository: &Repository,
        base: &ObjectId,
        ran: Ran,
    ) -> Result<(), Failure> {
        self.forget_worktree(attempt);
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        let (end, finished) = match ran {
            Ran::Ended(ended) => {
                let fall_back = self.falls_back(lease, attempt, &ended).await?;
                match *ended {
                    EngineEnd { end, failure: Some(why), .. } => {
                        return self.report_failed_plan(lease, protocol, attempt, why, end, fall_back).await;
                    }
                    EngineEnd { end, finished, failure: None, .. } => (end, finished),
                }
            }
            Ran::Stopped => {
                self.control.interrupt_plan(protocol.id, attempt.fence, "stopped", &done).await?;
                return Ok(());
            }
            Ran::CutOff { why } => {
                self.control.interrupt_plan(protocol.id, attempt.fence, &why, &done).await?;
                return Ok(());
            }
        };
        match plan_of(&finished) {
            Ok(plan) => self.hand_plan_in(lease, protocol, attempt, repository, base, plan, end).await,
            Err(why) => self.fail_plan(lease, protocol, attempt, Why::new("invalid_plan", why), Some(end)).await,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a plan, whose it is, and where it goes; none belong together")]
    async fn hand_plan_in(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        attempt: &Attempt,
        repository: &Repository,
        base: &ObjectId,
        plan: Plan,
        end: Ended,
    ) -> Result<(), Failure> {
        let written = match missing_prompts(repository, base, &plan).await {
            Ok(missing) if missing.is_empty() => write_plan(repository, protocol, attempt, base, &plan).await,
            Ok(missing) => {
                let why = Why::new("prompt_missing", told(&missing));
                return self.fail_plan(lease, protocol, attempt, why, Some(end)).await;
            }
            Err(error) => Err(error),
        };
        let commit = match written {
            Ok(commit) => commit,
            Err(error) => {
                let why = Why::new(error.kind(), full(&error));
                return self.fail_plan(lease, protocol, attempt, why, Some(end)).await;
            }
        };
        host::failpoint!("worker.plan.written");
        let finished = FinishedPlan {
            keep_steps: !protocol.steps.is_empty(),
            document: protocol.spec.as_ref().map(|spec| spec.document.clone()),
            spec: plan.spec,
            base: base.to_string(),
            commit: commit.to_string(),
            end,
        };
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        self.persist(lease, || self.control.finish_plan(protocol.id, attempt.fence, finished.clone(), &done)).await?;
        host::failpoint!("worker.plan.reported");
        Ok(())
    }

    async fn fail_plan(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        attempt: &Attempt,
        why: Why,
        end: Option<Ended>,
    ) -> Result<(), Failure> {
        let end = end.unwrap_or_else(|| ended(Ending::Failed, why.to_string()));
        self.report_failed_plan(lease, protocol, attempt, why, end, None).await
    }

    async fn report_failed_plan(
        &self,
        lease: &Lease,
        protocol: &Protocol,
        attempt: &Attempt,
        why: Why,
        end: Ended,
        fall_back: Option<FallBack>,
    ) -> Result<(), Failure> {
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        let (id, fence) = (protocol.id, attempt.fence);
        let report = || self.control.fail_plan(id, fence, why.clone(), end.clone(), fall_back.clone(), &done);
        self.persist(lease, report).await?;
        Ok(())
    }

    /// Reports a result for as long as the lease holds: it is the one thing that must not be lost.
    pub(crate) async fn persist<T, F>(&self, lease: &Lease, report: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, CommandError>>,
    {
        loop {
            match report().await {
                Err(CommandError::Store(error)) if error.0.is_transient() => {
                    tokio::select! {
                        () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
                        () = lease.lost.cancelled() => return Err(Failure::Fenced),
                    }
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// The protocol of a task's subject.
pub(crate) fn protocol_id(lease: &Lease) -> Result<ProtocolId, Failure> {
    lease.task.subject.id.parse().map(ProtocolId).map_err(Failure::give_up)
}

/// The plan that an engine answered, checked against the schema and the rules.
fn plan_of(finished: &Finished) -> Result<Plan, String> {
    answer_of(finished, check_planning)
}

fn source_of(project: &Project, protocol: &Protocol) -> Source {
    let line = project.engines.for_planning();
    match (&protocol.spec, protocol.steps.is_empty(), line.next_or_first(&protocol.tried)) {
        (_, false, _) => Source::Steps,
        (Some(spec), true, _) => Source::Spec(spec.document.clone()),
        (None, true, Some(choice)) => Source::Engine(choice.clone()),
        (None, true, None) => Source::Nothing,
    }
}

fn spec_of_steps(protocol: &Protocol) -> ProtocolSpec {
    let steps = protocol.steps.iter().map(|step| StepSpec { depends_on: None, ..step.spec.clone() }).collect();
    ProtocolSpec { steps, version: None, plan: None, placeholders: None, template: None, metadata: None }
}

fn planning_task(engine: Configured, choice: NamedEngine, project: &Project, protocol: &Protocol) -> Task {
    let asked = protocol.description.as_deref().unwrap_or(&protocol.name);
    let prompt = format!(
        "Plan the following work in this repository as steps. Answer only with JSON that meets the given schema: \
         plan_md, context_md, log_md and step_files named NN-name.md, beginning with 00-setup.md.\n\n{asked}\n"
    );
    let model = project.default_models.get("planning").and_then(|model| model.as_str()).map(str::to_owned);
    let model = project.engines.for_planning().model_for(&choice.id, model);
    Task {
        project: project.name.clone(),
        engine,
        choice,
        phase: Phase::Plan,
        step: "plan".to_owned(),
        prompt,
        model,
        output_schema: Some(planning_schema()),
        argv: Vec::new(),
    }
}

async fn missing_prompts(repository: &Repository, base: &ObjectId, plan: &Plan) -> Result<Vec<SpecProblem>, GitError> {
    let mut missing = Vec::new();
    for step in &plan.spec.steps {
        let review = step.qa.as_ref().and_then(|qa| qa.prompt.as_ref());
        for (key, file) in [("prompt_ref", step.prompt_ref.as_ref()), ("qa.prompt", review)] {
            let Some(file) = file else { continue };
            if repository.mirror.read_file(base, &RepoPath::parse(file)?, MAX_PROMPT).await?.is_none() {
                missing.push(SpecProblem::new(step.name(), format!("{key} missing: {file}")));
            }
        }
    }
    Ok(missing)
}

async fn write_plan(
    repository: &Repository,
    protocol: &Protocol,
    attempt: &Attempt,
    base: &ObjectId,
    plan: &Plan,
) -> Result<ObjectId, GitError> {
    let folder = protocol.folder();
    let path = |name: &str| RepoPath::parse(&format!("{folder}/{name}"));
    let mut files = vec![
        (path("plan.md")?, plan.plan_md.clone().into_bytes()),
        (path("context.md")?, papers::context(protocol, None).into_bytes()),
        (path("log.md")?, papers::log(protocol, None).into_bytes()),
    ];
    for file in &plan.files {
        files.push((path(&file.filename)?, file.content.clone().into_bytes()));
    }
    let subject = format!("add plan for {}", protocol.name);
    let info = commit_info(protocol, attempt, "feat", "protocol", &subject, "00")?;
    let commit = repository.mirror.write_files(base, &files, &info).await?;
    repository.mirror.keep_attempt(kept_under(attempt), &commit).await?;
    Ok(commit)
}
