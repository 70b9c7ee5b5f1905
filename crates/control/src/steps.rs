//! Commands to the steps of protocols, from people and from workers.

use domain::{
    attempt::{Ending, Fact},
    commit::Table,
    ids::{Fence, ProtocolId, StepId},
    person::Person,
    protocol::{
        Ended, Executed, FallBack, NewStep, PlanReady, PlannedStep, Protocol, ProtocolCommand, ProtocolError,
        ProtocolEvent, QaReport,
    },
    run::Begin,
    spec::{ProtocolSpec, SpecProblem, StepPolicy, StepSpec, StepType},
    step::{DiffStat, Failure, Step},
    task::Task,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Cause, Changed, Control, error::CommandError, ledger::Rendered, protocols::worker_name, refs::new_gate_id,
    spec_check::spec_ref,
};

/// A request for a step, as it came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddStep {
    pub step_index: u32,
    pub step_name: String,
    /// `setup`, `work` or `qa`.
    pub step_type: String,
    /// Anything but `pending` is refused.
    pub status: Option<String>,
    pub model: Option<String>,
    pub summary: Option<String>,
    pub engine_id: Option<String>,
    /// An object or an array of objects.
    pub policy: Option<Value>,
}

/// What a planner hands in besides its attempt: the plan's spec, and the commit that holds its files.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedPlan {
    pub spec: ProtocolSpec,
    /// As it was given or answered; `spec` written out when it was neither.
    pub document: Option<Value>,
    /// The steps exist already: they were added by hand.
    pub keep_steps: bool,
    pub base: String,
    pub commit: String,
    pub end: Ended,
}

type Outcome = Result<Changed<Protocol, ProtocolEvent>, CommandError>;

impl Control {
    /// A step with the protocol it belongs to.
    pub async fn get_step(&self, id: StepId) -> Result<(Protocol, Step), CommandError> {
        let missing = || CommandError::NoSuchStep { step: id };
        let row = self.store().find_step(id.0).await?.ok_or_else(missing)?;
        let protocol = self.get::<Protocol>(&row.step.protocol.to_string()).await?.subject;
        let step = protocol.step(id).cloned().ok_or_else(missing)?;
        Ok((protocol, step))
    }

    /// Adds a step to a protocol by hand.
    pub async fn add_step(
        &self,
        protocol: ProtocolId,
        request: AddStep,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        let (index, summary) = (request.step_index, request.summary.clone());
        let spec = spec_of(request)?;
        // Known before a number is drawn for it.
        self.get::<Protocol>(&protocol.to_string()).await?;
        let id = StepId(self.store().next_number(Table::Steps).await?);
        let step = Box::new(NewStep { id, index, summary, spec });
        self.command_protocol(protocol, ProtocolCommand::AddStep { step }, cause, render).await
    }

    pub async fn run_step(&self, id: StepId, cause: &Cause, render: impl Fn(&Protocol) -> Rendered) -> Outcome {
        let protocol = self.protocol_of(id).await?;
        let command = ProtocolCommand::RunStep { step: id, gate: new_gate_id() };
        self.command_protocol(protocol, command, cause, render).await
    }

    pub async fn run_qa(&self, id: StepId, cause: &Cause, render: impl Fn(&Protocol) -> Rendered) -> Outcome {
        let protocol = self.protocol_of(id).await?;
        self.command_protocol(protocol, ProtocolCommand::RunQa { step: id }, cause, render).await
    }

    /// Accepts a step's result as it is, or does without one.
    pub async fn approve_step(
        &self,
        id: StepId,
        by: Person,
        account: &str,
        reason: Option<String>,
        cause: &Cause,
        render: impl Fn(&Protocol) -> Rendered,
    ) -> Outcome {
        let protocol = self.protocol_of(id).await?;
        let account = account.to_owned();
        let command = ProtocolCommand::ApproveStep { step: id, by, account, reason, gate: new_gate_id() };
        self.command_protocol(protocol, command, cause, render).await
    }

    async fn protocol_of(&self, id: StepId) -> Result<ProtocolId, CommandError> {
        let row = self.store().find_step(id.0).await?.ok_or(CommandError::NoSuchStep { step: id })?;
        Ok(row.step.protocol)
    }

    /// Begins to plan for a worker. What runs is its attempt only if its fence is in the answer.
    pub async fn begin_plan(
        &self,
        id: ProtocolId,
        begin: Begin,
        engine: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let command = ProtocolCommand::BeginPlan { begin, engine: engine.to_owned() };
        self.report(id, command, cause).await
    }

    pub async fn adopt_plan(
        &self,
        id: ProtocolId,
        old: Fence,
        fence: Fence,
        session: Option<String>,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let command = ProtocolCommand::AdoptPlan { old, fence, worker: worker_name(&cause.actor), session };
        self.report(id, command, cause).await
    }

    /// Hands a finished plan in, with ids for its steps.
    pub async fn finish_plan(
        &self,
        id: ProtocolId,
        fence: Fence,
        plan: FinishedPlan,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let mut steps = Vec::new();
        if !plan.keep_steps {
            for spec in plan.spec.steps.iter().cloned() {
                steps.push(PlannedStep { id: StepId(self.store().next_number(Table::Steps).await?), spec });
            }
        }
        let document = plan.document.unwrap_or_else(|| plan.spec.to_value());
        let spec = spec_ref(document, self.clock().now())?;
        let (base, commit, end) = (plan.base, plan.commit, plan.end);
        let plan = Box::new(PlanReady { spec, steps, base, commit, end });
        self.report(id, ProtocolCommand::PlanReady { fence, plan }, cause).await
    }

    pub async fn fail_plan(
        &self,
        id: ProtocolId,
        fence: Fence,
        failure: Failure,
        end: Ended,
        fall_back: Option<FallBack>,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::PlanFailed { fence, failure, end, fall_back }, cause).await
    }

    pub async fn interrupt_plan(
        &self,
        id: ProtocolId,
        fence: Fence,
        why: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::PlanInterrupted { fence, why: why.to_owned() }, cause).await
    }

    /// Begins to execute for a worker. What runs is its attempt only if its fence is in the answer.
    pub async fn start_step(
        &self,
        id: ProtocolId,
        step: StepId,
        begin: Begin,
        engine: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let engine = engine.to_owned();
        self.report(id, ProtocolCommand::StartStep { step, begin, engine, gate: new_gate_id() }, cause).await
    }

    /// Carries a running attempt on under a new fence, whichever phase it is in. `session`: the engine session that is
    /// gone on with, when its processes are gone.
    pub async fn adopt_step(
        &self,
        id: ProtocolId,
        step: StepId,
        old: Fence,
        fence: Fence,
        session: Option<String>,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let worker = worker_name(&cause.actor);
        self.report(id, ProtocolCommand::AdoptStep { step, old, fence, worker, session }, cause).await
    }

    /// Records what was learnt of an attempt under way; without a step it is the planning. Telling it again is nothing.
    pub async fn tell_attempt(
        &self,
        id: ProtocolId,
        step: Option<StepId>,
        fence: Fence,
        fact: Fact,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::TellAttempt { step, fence, fact }, cause).await
    }

    pub async fn finish_step(
        &self,
        id: ProtocolId,
        step: StepId,
        fence: Fence,
        result: Executed,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(
            id,
            ProtocolCommand::StepExecuted { step, fence, result: Box::new(result), gate: new_gate_id() },
            cause,
        )
        .await
    }

    /// Records that nothing is left of an attempt whose end nobody saw.
    pub async fn interrupt_step(
        &self,
        id: ProtocolId,
        step: StepId,
        fence: Fence,
        why: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let why = why.to_owned();
        self.report(id, ProtocolCommand::StepInterrupted { step, fence, why, gate: new_gate_id() }, cause).await
    }

    /// Records that an attempt was stopped because nobody wanted it any more.
    pub async fn stop_step(
        &self,
        id: ProtocolId,
        step: StepId,
        fence: Fence,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::StepStopped { step, fence, gate: new_gate_id() }, cause).await
    }

    /// Begins to check for a worker. What runs is its attempt only if its fence is in the answer. `engine`: who reviews.
    pub async fn start_qa(
        &self,
        id: ProtocolId,
        step: StepId,
        begin: Begin,
        engine: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let engine = engine.to_owned();
        self.report(id, ProtocolCommand::QaStarted { step, begin, engine }, cause).await
    }

    pub async fn finish_qa(
        &self,
        id: ProtocolId,
        step: StepId,
        fence: Fence,
        report: QaReport,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::QaFinished { step, fence, report: Box::new(report) }, cause).await
    }

    pub async fn branch_advanced(
        &self,
        id: ProtocolId,
        step: Option<StepId>,
        new: &str,
        diff: DiffStat,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let (new, gate) = (new.to_owned(), new_gate_id());
        self.report(id, ProtocolCommand::BranchAdvanced { step, new, diff, gate }, cause).await
    }

    pub async fn branch_moved(
        &self,
        id: ProtocolId,
        step: Option<StepId>,
        new: &str,
        found: Option<String>,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        self.report(id, ProtocolCommand::BranchMoved { step, new: new.to_owned(), found }, cause).await
    }

    /// Tells a protocol that the queue gave one of its tasks up; `stop`: one that had been told to stop.
    pub async fn report_dead_task(
        &self,
        id: ProtocolId,
        task: &Task,
        stop: bool,
        step: Option<StepId>,
        why: &str,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        let (kind, task, why) = (task.kind, task.id.clone(), why.to_owned());
        self.report(id, ProtocolCommand::TaskDead { kind, task, stop, step, why }, cause).await
    }

    /// A worker's report: nobody waits for an answer, so none is kept.
    pub(crate) async fn report(
        &self,
        id: ProtocolId,
        command: ProtocolCommand,
        cause: &Cause,
    ) -> Result<Protocol, CommandError> {
        match self.command_protocol(id, command, cause, |_| Rendered::default()).await {
            Ok(changed) => Ok(changed.subject),
            Err(CommandError::Protocol(ProtocolError::Fenced { .. })) => Err(CommandError::Fenced),
            Err(error) => Err(error),
        }
    }
}

/// The end of an attempt that nothing more is known of.
pub fn ended(ending: Ending, summary: impl Into<String>) -> Ended {
    Ended { ending, summary: summary.into(), exit_code: None, usage: None }
}

fn spec_of(request: AddStep) -> Result<StepSpec, CommandError> {
    let mut problems = Vec::new();
    if !matches!(request.status.as_deref(), None | Some("pending")) {
        problems.push(SpecProblem::new("status", "a new step is pending"));
    }
    let step_type = StepType::parse(&request.step_type);
    if step_type.is_none() {
        problems.push(SpecProblem::new("step_type", "expected setup, work or qa"));
    }
    let policies = match request.policy {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(StepPolicy::deserialize).collect(),
        Some(one) => StepPolicy::deserialize(&one).map(|policy| vec![policy]),
    };
    let policies = policies.unwrap_or_else(|error| {
        problems.push(SpecProblem::new("policy", error.to_string()));
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(CommandError::Protocol(ProtocolError::Invalid { problems }));
    }
    Ok(StepSpec {
        step_type,
        model: request.model,
        engine_id: request.engine_id,
        policies,
        ..StepSpec::new(request.step_name)
    })
}
