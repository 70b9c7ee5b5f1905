//! Moving a protocol's branch: from where the ledger says it is to what the ledger accepted, by compare-and-swap.
//!
//! Anyone may repeat it; it is the same move. The remote compares, so a worker that was overtaken moves nothing, and a
//! branch that somebody else moved is reported and left alone.

use std::time::Duration;

use control::Cause;
use domain::{
    commit::Then,
    ids::StepId,
    project::Project,
    protocol::{PlanState, Protocol},
    step::{DiffStat, StepState, Work},
};
use forge::git::{GitError, types::BranchName, types::ObjectId};
use serde::Deserialize;

use crate::{
    Worker, failure::Failure, lease::Lease, plan_protocol::protocol_id, project_setup::full, workspace::Repository,
};

/// How long the machine that made a commit may take to claim the task.
const ELSEWHERE: Duration = Duration::from_secs(10 * 60);

#[derive(Deserialize)]
struct Payload {
    step: Option<StepId>,
    branch: String,
    old: Option<String>,
    new: String,
}

impl Worker {
    pub(crate) async fn advance_branch(&self, lease: &Lease) -> Result<(), Failure> {
        let payload: Payload = serde_json::from_str(&lease.task.payload).map_err(Failure::give_up)?;
        let id = protocol_id(lease)?;
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        if !is_wanted(&protocol, &payload) {
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let project = self.control.get::<Project>(&protocol.project.to_string()).await?.subject;
        let repository = self.repository(&project).await.map_err(|error| failure_of(&error))?;
        if let Some(again) = self.wait_for_commit(lease, &repository, &payload).await? {
            self.acknowledge(lease, lease.ack(again)).await;
            return Ok(());
        }
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        let moved = move_branch(&repository, &protocol, &payload).await;
        host::failpoint!("worker.advance.moved");
        match moved {
            Ok(diff) => {
                self.control.branch_advanced(id, payload.step, &payload.new, diff, &done).await?;
                host::failpoint!("worker.advance.reported");
                Ok(())
            }
            Err(GitError::Moved { found, .. }) => {
                let found = found.map(|found| found.to_string());
                self.control.branch_moved(id, payload.step, &payload.new, found, &done).await?;
                Ok(())
            }
            Err(error) => Err(failure_of(&error)),
        }
    }
}

impl Worker {
    /// A commit that is not here is on the machine that made it: the task is left for that machine, for a while.
    async fn wait_for_commit(
        &self,
        lease: &Lease,
        repository: &Repository,
        payload: &Payload,
    ) -> Result<Option<Then>, Failure> {
        let new = ObjectId::parse(&payload.new).map_err(Failure::give_up)?;
        if repository.has(&new).await.map_err(|error| failure_of(&error))? {
            return Ok(None);
        }
        let now = self.control.clock().now();
        if now.since(lease.task.created_at) > ELSEWHERE {
            return Err(Failure::give_up(format!("commit {new} is on a machine that does not answer")));
        }
        Ok(Some(Then::Again { due_at: now.after(Duration::from_secs(1)), failed: None }))
    }
}

/// Whether the ledger still asks for this very move.
fn is_wanted(protocol: &Protocol, payload: &Payload) -> bool {
    match payload.step {
        None => matches!(&protocol.plan, PlanState::Integrating { new, .. } if *new == payload.new),
        Some(step) => protocol.step(step).is_some_and(|step| {
            matches!(&step.state, StepState::Running { work: Work::Integrating { integration } }
                if integration.new == payload.new && integration.old == payload.old)
        }),
    }
}

async fn move_branch(repository: &Repository, protocol: &Protocol, payload: &Payload) -> Result<DiffStat, GitError> {
    let branch = BranchName::parse(&payload.branch)?;
    let new = ObjectId::parse(&payload.new)?;
    let old = payload.old.as_deref().map(ObjectId::parse).transpose()?;
    host::failpoint!("worker.advance.begun");
    // The remote first: it is what others see, and it compares.
    repository.mirror.push(&repository.remote, &branch, old.as_ref(), &new).await?;
    host::failpoint!("worker.advance.pushed");
    match repository.mirror.advance_branch(&branch, old.as_ref(), &new).await {
        Ok(_) => {}
        // Our copy of the branch is only a cache, and another machine may have moved the branch before.
        Err(GitError::Moved { found, .. }) => {
            repository.mirror.advance_branch(&branch, found.as_ref(), &new).await?;
        }
        Err(error) => return Err(error),
    }
    let base = match (&protocol.branch.base, payload.step.and_then(|step| protocol.step(step)?.candidate())) {
        (Some(base), _) => ObjectId::parse(base)?,
        (None, Some(candidate)) => ObjectId::parse(&candidate.base)?,
        (None, None) => return Ok(DiffStat::default()),
    };
    repository.stat(&base, &new, &protocol.folder()).await
}

fn failure_of(error: &GitError) -> Failure {
    if error.is_transient() { Failure::retry(full(error)) } else { Failure::give_up(full(error)) }
}
