//! Moving a protocol's branch: from where the ledger says it is to what the ledger accepted, by compare-and-swap.
//!
//! Anyone may repeat it; it is the same move. The remote compares, so a worker that was overtaken moves nothing, and a
//! branch that somebody else moved is reported and left alone. A commit of our own whose move was given up, although its
//! push had happened, makes way for the one that was accepted since.

use std::time::Duration;

use control::Cause;
use domain::{
    commit::{Subject, SubjectKind, Then},
    ids::{ProtocolId, StepId},
    project::Project,
    protocol::{PlanState, Protocol, ProtocolEvent},
    step::{DiffStat, StepState, Work},
};
use forge::git::{GitError, types::BranchName, types::ObjectId};
use serde::Deserialize;
use store::{EventQuery, Order};

use crate::{
    Worker, failure::Failure, lease::Lease, plan_protocol::protocol_id, project_setup::full, workspace::Repository,
};

/// How long the machine that made a commit may take to claim the task.
const ELSEWHERE: Duration = Duration::from_secs(10 * 60);
/// How many of a protocol's events are looked through for the move that a commit belongs to.
const RECENT: u32 = 500;

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
        let old = payload.old.as_deref().map(ObjectId::parse).transpose().map_err(Failure::give_up)?;
        let moved = match move_branch(&repository, &protocol, &payload, old.as_ref()).await {
            Err(GitError::Moved { found: Some(found), .. }) if self.was_given_up(id, &payload, &found).await? => {
                move_branch(&repository, &protocol, &payload, Some(&found)).await
            }
            moved => moved,
        };
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

impl Worker {
    /// Whether the branch stands where an earlier move from the same place was to bring it: its push happened, whoever
    /// pushed it died before saying so, and the ledger gave it up. What the ledger once knew to be on the branch, and
    /// what it never asked for, is somebody's word and stands.
    async fn was_given_up(&self, id: ProtocolId, payload: &Payload, found: &ObjectId) -> Result<bool, Failure> {
        let protocol = self.control.get::<Protocol>(&id.to_string()).await?.subject;
        // A worker that was overtaken meanwhile finds the commit of whoever overtook it.
        if !is_wanted(&protocol, payload) {
            return Ok(false);
        }
        let query = EventQuery {
            subject: Some(Subject::new(SubjectKind::Protocol, &id)),
            project: None,
            step: None,
            kinds: Vec::new(),
            order: Order::Descending,
            after: None,
            limit: RECENT,
        };
        let newest_first = self.control.store().list_events(&query).await.map_err(Failure::retry)?.events;
        let given_up = newest_first.iter().find_map(|event| {
            let event: ProtocolEvent = serde_json::from_str(&event.data).ok()?;
            let (commit, given_up) = match &event {
                ProtocolEvent::IntegrationEnqueued { integration, .. } => {
                    (&integration.new, integration.old == payload.old)
                }
                ProtocolEvent::PlanAccepted { old, commit, .. } => (commit, *old == payload.old),
                ProtocolEvent::BranchAdvanced { new, .. } => (new, false),
                _ => return None,
            };
            (commit == found.as_str()).then_some(given_up)
        });
        Ok(given_up.unwrap_or(false))
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

async fn move_branch(
    repository: &Repository,
    protocol: &Protocol,
    payload: &Payload,
    old: Option<&ObjectId>,
) -> Result<DiffStat, GitError> {
    let branch = BranchName::parse(&payload.branch)?;
    let new = ObjectId::parse(&payload.new)?;
    host::failpoint!("worker.advance.begun");
    // The remote first: it is what others see, and it compares.
    repository.mirror.push(&repository.remote, &branch, old, &new).await?;
    host::failpoint!("worker.advance.pushed");
    match repository.mirror.advance_branch(&branch, old, &new).await {
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
