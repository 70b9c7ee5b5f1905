//! Commands to runs.

use std::collections::BTreeMap;

use domain::{
    actor::Actor,
    attempt::{Attempt, Fact},
    commit::{Expect, Table},
    gate::Gate,
    ids::{Fence, GateId, RunId},
    person::Person,
    run::{Begin, Finished, Run, RunCommand, RunError, RunEvent, RunRequest},
};
use store::Versioned;

use crate::{
    Cause, Changed, Control,
    error::CommandError,
    ledger::Rendered,
    refs::{is_taken, new_gate_id, new_ref},
};

/// A request for a run, as it came in.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRun {
    pub job: String,
    pub args: BTreeMap<String, String>,
    pub reason: Option<String>,
    pub by: Person,
    pub account: String,
    pub channel: String,
    pub conversation: String,
}

impl Control {
    /// Asks for a run of a catalogued job. Durable, with its gate or its task, when it returns.
    pub async fn request_run(
        &self,
        request: RequestRun,
        cause: &Cause,
        render: impl Fn(&Run) -> Rendered,
    ) -> Result<Changed<Run, RunEvent>, CommandError> {
        let catalog = self.catalog().await?;
        let job = catalog.find(&request.job).ok_or_else(|| {
            let nearest = catalog.nearest(&request.job).map(|near| format!("; did you mean {near}?"));
            CommandError::Invalid {
                code: "unknown_job",
                problems: vec![format!("there is no job {}{}", request.job, nearest.unwrap_or_default())],
            }
        })?;
        let bound = job.bind(&request.args).map_err(|error| CommandError::Invalid {
            code: "job_parameters",
            problems: error.problems.iter().map(ToString::to_string).collect(),
        })?;
        if !bound.policy.request.allows(&request.by.name, &request.by.accounts) {
            return Err(CommandError::Forbidden {
                code: "not_a_requester",
                message: format!("{} may not ask for {} (policy.request)", request.account, bound.job),
            });
        }
        self.create(
            cause,
            |context| {
                let new = RunRequest {
                    id: RunId(new_ref()),
                    gate: new_gate_id(),
                    job: bound.clone(),
                    requested_by: request.by.id.clone(),
                    requester: request.account.clone(),
                    reason: request.reason.clone(),
                    channel: request.channel.clone(),
                    conversation: request.conversation.clone(),
                };
                (new.requested(), new.decide(context))
            },
            render,
        )
        .await
    }

    /// Puts one command to a run and makes everything that follows from it durable.
    pub async fn command_run(
        &self,
        id: &RunId,
        command: RunCommand,
        cause: &Cause,
        render: impl Fn(&Run) -> Rendered,
    ) -> Result<Changed<Run, RunEvent>, CommandError> {
        self.command(id.as_str(), &command, cause, |run: &Run, context| run.decide(&command, context), render).await
    }

    /// The same for a command that opens a gate, with another reference when the gate's is taken.
    pub(crate) async fn command_run_at_gate(
        &self,
        id: &RunId,
        command: impl Fn(GateId) -> RunCommand,
        cause: &Cause,
        render: impl Fn(&Run) -> Rendered,
    ) -> Result<Changed<Run, RunEvent>, CommandError> {
        let mut outcome = self.command_run(id, command(new_gate_id()), cause, &render).await;
        for _ in 0..3 {
            if !is_taken(&outcome) {
                break;
            }
            outcome = self.command_run(id, command(new_gate_id()), cause, &render).await;
        }
        outcome
    }

    /// Stops a run, or withdraws its question.
    pub async fn cancel_run(
        &self,
        id: &RunId,
        by: &Person,
        account: &str,
        cause: &Cause,
        render: impl Fn(&Run) -> Rendered,
    ) -> Result<Changed<Run, RunEvent>, CommandError> {
        self.check_concerned(id, by, account, "cancel").await?;
        self.command_run(id, RunCommand::Cancel { account: account.to_owned() }, cause, render).await
    }

    /// Asks for a failed run again; it passes its gate again.
    pub async fn retry_run(
        &self,
        id: &RunId,
        by: &Person,
        account: &str,
        cause: &Cause,
        render: impl Fn(&Run) -> Rendered,
    ) -> Result<Changed<Run, RunEvent>, CommandError> {
        self.check_concerned(id, by, account, "retry").await?;
        let retry = |gate| RunCommand::Retry { account: account.to_owned(), gate };
        self.command_run_at_gate(id, retry, cause, render).await
    }

    /// On a chat channel a run may be steered by whoever may ask for it or decide it.
    async fn check_concerned(&self, id: &RunId, by: &Person, account: &str, verb: &str) -> Result<(), CommandError> {
        let Versioned { subject: run, .. } = self.get::<Run>(id.as_str()).await?;
        let policy = &run.job.policy;
        let concerned = run.requested_by == by.id
            || policy.request.allows(&by.name, &by.accounts)
            || policy.approve.may_decide(&by.name, &by.accounts);
        if by.active && concerned {
            return Ok(());
        }
        Err(CommandError::Forbidden {
            code: "not_concerned",
            message: format!("{account} may not {verb} run {id}: neither its requester nor one of its approvers"),
        })
    }

    /// Begins an attempt for a worker: the digest is checked against the stored job and against the catalog of now, and
    /// the commit holds only while that catalog stays in force.
    pub async fn start_run(&self, id: &RunId, begin: Begin, mut cause: Cause) -> Result<Run, CommandError> {
        let Versioned { subject: run, .. } = self.get::<Run>(id.as_str()).await?;
        let now_digest = match self.store().find_catalog().await? {
            Some(current) => {
                cause.expects.push(Expect {
                    table: Table::Catalogs,
                    id: domain::current_catalog::CURRENT.to_owned(),
                    version: current.version,
                });
                let catalog = self.catalog().await?;
                catalog
                    .find(&run.job.job)
                    .and_then(|job| job.bind(&run.job.params).ok())
                    .map(|job| job.digest().to_string())
            }
            None => None,
        };
        let command = RunCommand::Start { begin, now_digest };
        Ok(self.command_run(id, command, &cause, |_| Rendered::default()).await?.subject)
    }

    /// Carries a running attempt on under a new fence; `None` when the attempt that runs is not `old`'s.
    pub async fn adopt_run(&self, id: &RunId, old: Fence, fence: Fence, cause: &Cause) -> Result<Run, CommandError> {
        let command = RunCommand::Adopt { old, fence, worker: worker_of(cause) };
        Ok(self.command_run(id, command, cause, |_| Rendered::default()).await?.subject)
    }

    /// Records what was learnt of an attempt under way. Telling it again is nothing.
    pub async fn tell_run(&self, id: &RunId, fence: Fence, fact: Fact, cause: &Cause) -> Result<Run, CommandError> {
        Ok(self.command_run(id, RunCommand::Tell { fence, fact }, cause, |_| Rendered::default()).await?.subject)
    }

    /// Records how an attempt ended.
    pub async fn finish_run(
        &self,
        id: &RunId,
        attempt: &Attempt,
        result: Finished,
        cause: &Cause,
    ) -> Result<Run, CommandError> {
        let command =
            RunCommand::Finish { fence: attempt.fence, worker: attempt.worker.clone(), result, gate: new_gate_id() };
        Ok(self.command_run(id, command, cause, |_| Rendered::default()).await?.subject)
    }

    /// Records that nothing is left of an attempt whose end nobody saw.
    pub async fn interrupt_run(&self, id: &RunId, began: bool, cause: &Cause) -> Result<Run, CommandError> {
        let command = RunCommand::Interrupt { worker: worker_of(cause), began, gate: new_gate_id() };
        Ok(self.command_run(id, command, cause, |_| Rendered::default()).await?.subject)
    }

    /// Finds a run by its reference or by the reference of one of its gates.
    pub async fn find_run(&self, reference: &str) -> Result<Option<Run>, CommandError> {
        if let Some(found) = self.store().find::<Run>(reference).await? {
            return Ok(Some(found.subject));
        }
        match self.store().find_gate(reference).await? {
            Some(Gate { owner, .. }) if owner.kind == domain::commit::SubjectKind::Run => {
                Ok(self.store().find::<Run>(&owner.id).await?.map(|found| found.subject))
            }
            _ => Ok(None),
        }
    }
}

/// Whether a refusal means that the task has nothing left to do.
pub fn is_settled(error: &CommandError) -> bool {
    matches!(error, CommandError::Run(RunError::WrongState { .. }) | CommandError::NotFound { .. })
}

/// The worker's own name, as events keep it.
fn worker_of(cause: &Cause) -> String {
    match &cause.actor {
        Actor::Worker { id } => id.clone(),
        other @ (Actor::Person { .. } | Actor::System) => other.to_string(),
    }
}
