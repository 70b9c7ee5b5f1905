//! What an earlier worker on this machine left behind: attempts that still run, or that ended while nobody looked.
//!
//! A lease is taken over here only when its worker is provably dead and its attempt answers to the nonce of the ledger.
//! Whatever cannot be taken over goes back to the queue, on SQLite at once, on PostgreSQL when the lease ends.

use std::path::Path;

use domain::{
    protocol::Protocol,
    run::Run,
    task::{Task, TaskKind, TaskState},
};
use engines::supervisor::{self, Adopted};
use store::StoreError;

use crate::{Worker, claims::Slots, config::SURVEY, execute_step::Payload};

impl Worker {
    pub(crate) async fn recover(&self, slots: &Slots) -> Result<(), StoreError> {
        let store = self.control.store();
        for task in store.list_leases(&self.incarnation).await? {
            if !self.is_ours_to_adopt(&task).await? {
                continue;
            }
            let TaskState::Leased { fence, .. } = &task.state else { continue };
            let deadline = self.deadline(host::clock::since_boot());
            if let Some(adopted) = store.adopt(&task.id, *fence, &self.incarnation, self.config.lease).await? {
                self.begin(adopted, &deadline, slots);
            }
        }
        while !store.reap(&self.incarnation, 500).await?.tasks.is_empty() {}
        self.forget_dead_workers();
        Ok(())
    }

    /// Whether the attempt of a leased task runs here, or ended here, and its worker is dead.
    async fn is_ours_to_adopt(&self, task: &Task) -> Result<bool, StoreError> {
        let TaskState::Leased { incarnation, .. } = &task.state else { return Ok(false) };
        if !self.is_dead(incarnation) {
            return Ok(false);
        }
        let attempt = match task.kind {
            TaskKind::RunJob => {
                self.control.store().find::<Run>(&task.subject.id).await?.and_then(|run| run.subject.running().cloned())
            }
            TaskKind::PlanProtocol => self.protocol(task).await?.and_then(|protocol| protocol.planning().cloned()),
            // Of checks only the review behind them is found in the attempt's own directory.
            TaskKind::ExecuteStep | TaskKind::RunQuality => self.protocol(task).await?.and_then(|protocol| {
                let payload: Payload = serde_json::from_str(&task.payload).ok()?;
                protocol.step(payload.step)?.running().cloned()
            }),
            TaskKind::ExpireGate
            | TaskKind::DeliverMessage
            | TaskKind::ProjectSetup
            | TaskKind::AdvanceBranch
            | TaskKind::Noop => None,
        };
        let Some(attempt) = attempt.filter(|attempt| attempt.task == task.id) else { return Ok(false) };
        let dir = self.config.attempts_dir().join(attempt.id.as_str());
        Ok(match supervisor::adopt(&dir, &attempt.nonce).await {
            Ok(Adopted::Running(_) | Adopted::Finished(_)) => true,
            Ok(Adopted::Gone) | Err(_) => false,
        })
    }

    async fn protocol(&self, task: &Task) -> Result<Option<Protocol>, StoreError> {
        Ok(self.control.store().find::<Protocol>(&task.subject.id).await?.map(|found| found.subject))
    }

    /// A worker of this machine holds its lock for as long as it lives; one of another machine has none here.
    fn is_dead(&self, incarnation: &str) -> bool {
        let lock = self.config.workers_dir().join(incarnation);
        host::fs::exists(&lock) && host::fs::LockFile::acquire(&lock).is_ok()
    }

    /// Removes what workers left that were killed while they looked at this machine; their locks tell that they are dead.
    fn clear_surveys(&self) {
        for name in host::fs::list_names(&self.config.data_dir).unwrap_or_default() {
            let Some(incarnation) = name.strip_prefix(SURVEY) else { continue };
            // A worker has its lock before it looks at anything.
            let has_lock = host::fs::exists(&self.config.workers_dir().join(incarnation));
            if has_lock && !self.is_dead(incarnation) {
                continue;
            }
            if let Err(error) = host::fs::remove_foreign_dir(&self.config.survey_dir(incarnation)) {
                tracing::warn!(%error, "Could not remove what a dead worker left: {error}");
            }
        }
    }

    fn forget_dead_workers(&self) {
        self.clear_surveys();
        let dir = self.config.workers_dir();
        for name in host::fs::list_names(&dir).unwrap_or_default() {
            if name != self.incarnation && self.is_dead(&name) {
                self.forget(&dir.join(name));
            }
        }
    }

    fn forget(&self, lock: &Path) {
        if let Err(error) = host::fs::remove_file(lock) {
            tracing::debug!(%error, "Could not remove the lock of a dead worker");
        }
    }
}
