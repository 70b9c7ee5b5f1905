//! Which handler carries out which kind of task, and who is told when one is given up.

use std::time::Duration;

use control::{Cause, CommandError, ledger::Rendered};
use domain::{
    commit::Then,
    ids::{ProtocolId, RunId, StepId},
    project::ProjectCommand,
    protocol::Protocol,
    run::RunCommand,
    task::TaskKind,
};

use crate::{
    Worker, failure::Failure, lease::Lease, plan_protocol::protocol_id, project_setup::project_id, run_job::GIVEN_UP,
};

/// How often it is tried to report that a task is given up, while the ledger cannot be written.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Worker {
    pub(crate) async fn handle(&self, lease: &Lease) -> Result<(), Failure> {
        // A task that took its workers with it is only reported, never carried out again.
        if lease.task.is_quarantined() {
            let why = format!("{} workers died while they carried it out", lease.task.crashes);
            Box::pin(self.report_death(lease, &why)).await;
            return Ok(());
        }
        // Each on its own on the heap, so that no task has to be moved with room for the largest.
        match lease.task.kind {
            TaskKind::RunJob => Box::pin(self.run_job(lease)).await,
            TaskKind::ExpireGate => Box::pin(self.expire_gate(lease)).await,
            TaskKind::DeliverMessage => Box::pin(self.deliver_message(lease)).await,
            TaskKind::Noop => {
                self.acknowledge(lease, lease.done()).await;
                Ok(())
            }
            TaskKind::ProjectSetup => {
                let _room = self.git_slots.acquire().await;
                Box::pin(self.set_project_up(lease)).await
            }
            TaskKind::PlanProtocol => Box::pin(self.plan_protocol(lease)).await,
            TaskKind::ExecuteStep => Box::pin(self.execute_step(lease)).await,
            TaskKind::RunQuality => Box::pin(self.run_quality(lease)).await,
            TaskKind::AdvanceBranch => {
                let _room = self.git_slots.acquire().await;
                Box::pin(self.advance_branch(lease)).await
            }
        }
    }

    /// Tells the subject that its task is given up, in the commit that ends the task: for as long as the lease holds.
    pub(crate) async fn report_death(&self, lease: &Lease, why: &str) {
        let task = &lease.task;
        loop {
            match self.tell_of_death(lease, why).await {
                Ok(()) | Err(CommandError::Fenced) => return,
                Err(CommandError::Store(error)) if error.0.is_transient() => tokio::select! {
                    () = tokio::time::sleep(REPORT_EVERY) => {}
                    () = lease.lost.cancelled() => return,
                },
                Err(CommandError::Store(error)) => {
                    tracing::error!(task.id = %task.id, %error, "Could not report that task {} was given up", task.id);
                    return;
                }
                // The subject is past caring: only the task is left to end.
                Err(_) => return self.acknowledge(lease, lease.ack(dead_of(why))).await,
            }
        }
    }

    async fn tell_of_death(&self, lease: &Lease, why: &str) -> Result<(), CommandError> {
        let task = &lease.task;
        let cause = Cause::of(self.actor()).acknowledging(lease.ack(dead_of(why)));
        match task.kind {
            TaskKind::RunJob => {
                let command = RunCommand::GiveUp { worker: self.incarnation.clone(), why: why.to_owned() };
                let run = RunId(task.subject.id.clone());
                if let Err(error) = self.end_run(&run).await {
                    tracing::error!(run.id = %run, ?error, "What runs of run {run} could not be ended");
                }
                self.control.command_run(&run, command, &cause, |_| Rendered::default()).await.map(drop)
            }
            TaskKind::DeliverMessage => self.give_message_up(lease, why).await,
            TaskKind::ProjectSetup => self.give_setup_up(lease, why, &cause).await,
            TaskKind::PlanProtocol | TaskKind::ExecuteStep | TaskKind::RunQuality | TaskKind::AdvanceBranch => {
                self.give_protocol_task_up(lease, why, &cause).await
            }
            // Whoever died over it, the gate's time is up: nobody would close it later.
            TaskKind::ExpireGate => self.expire(lease, dead_of(why)).await,
            TaskKind::Noop => {
                self.acknowledge(lease, lease.ack(dead_of(why))).await;
                Ok(())
            }
        }
    }
}

/// What the tasks of a protocol name besides it.
#[derive(serde::Deserialize)]
struct OfStep {
    #[serde(default)]
    step: Option<StepId>,
}

impl Worker {
    async fn give_setup_up(&self, lease: &Lease, why: &str, cause: &Cause) -> Result<(), CommandError> {
        let Ok(id) = project_id(lease) else { return Ok(()) };
        let command = ProjectCommand::SetupFailed { reason: why.to_owned() };
        self.control.command_project(id, command, cause, |_| Rendered::default()).await.map(drop)
    }

    async fn give_protocol_task_up(&self, lease: &Lease, why: &str, cause: &Cause) -> Result<(), CommandError> {
        let Ok(id) = protocol_id(lease) else { return Ok(()) };
        let step = serde_json::from_str::<OfStep>(&lease.task.payload).ok().and_then(|of| of.step);
        let stop = lease.is_told_to_stop();
        if let Err(error) = self.end_own_attempt(lease, id, step).await {
            tracing::error!(protocol.id = %id, ?error, "What runs of protocol {id} could not be ended");
        }
        self.control.report_dead_task(id, &lease.task, stop, step, why, cause).await.map(drop)
    }
}

impl Worker {
    /// Ends what still runs of the attempt that a task of a protocol carries.
    async fn end_own_attempt(&self, lease: &Lease, id: ProtocolId, step: Option<StepId>) -> Result<(), Failure> {
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        let attempt = match step {
            Some(step) => protocol.step(step).and_then(|step| step.attempt.as_ref()),
            None => protocol.attempt.as_ref(),
        };
        match attempt.filter(|attempt| attempt.task == lease.task.id) {
            Some(attempt) => self.end_attempt(attempt, GIVEN_UP, Some(Duration::ZERO)).await,
            None => Ok(()),
        }
    }
}

fn dead_of(why: &str) -> Then {
    Then::Dead { error: why.to_owned() }
}
