//! Setting a project up: its repository is fetched, so that everything later is known to be possible.

use control::{Cause, ledger::Rendered};
use domain::{
    ids::ProjectId,
    project::{Project, ProjectCommand, ProjectState},
};
use forge::git::{GitError, types::BranchName};

use crate::{Worker, failure::Failure, lease::Lease};

impl Worker {
    pub(crate) async fn set_project_up(&self, lease: &Lease) -> Result<(), Failure> {
        let project = self.control.get::<Project>(&lease.task.subject.id).await?.subject;
        if project.state != ProjectState::Pending {
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let keep = Cause::of(self.actor()).acknowledging(lease.keep());
        let started = ProjectCommand::SetupStarted { worker: self.incarnation.clone() };
        self.control.command_project(project.id, started, &keep, |_| Rendered::default()).await?;
        host::failpoint!("worker.setup.begun");
        let fetched = self.fetch_base(&project).await;
        host::failpoint!("worker.setup.fetched");
        let command = match fetched {
            Ok(head) => ProjectCommand::SetupCompleted { head: Some(head) },
            Err(error) if error.is_transient() => return Err(Failure::retry(full(&error))),
            Err(error) => ProjectCommand::SetupFailed { reason: full(&error) },
        };
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        self.control.command_project(project.id, command, &done, |_| Rendered::default()).await?;
        Ok(())
    }

    async fn fetch_base(&self, project: &Project) -> Result<String, GitError> {
        let repository = self.repository(project).await?;
        let base = BranchName::parse(&project.base_branch)?;
        Ok(repository.mirror.fetch(&repository.remote, &base).await?.to_string())
    }
}

/// The project of a task's subject, for whoever has to report its end.
pub(crate) fn project_id(lease: &Lease) -> Result<ProjectId, Failure> {
    lease.task.subject.id.parse().map(ProjectId).map_err(Failure::give_up)
}

/// An error with what caused it, in one line.
pub(crate) fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    host::text::one_line(text, 500)
}
