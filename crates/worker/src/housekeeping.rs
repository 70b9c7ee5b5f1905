//! What nobody waits for: leases that ended, tasks that fall due, rows that retention no longer keeps, processes that
//! nobody holds.

use std::time::Duration;

use store::Retention;

use crate::Worker;

/// Scheduled tasks made ready in one go, and leases returned in one go.
const BATCH: u32 = 500;
/// Rows deleted in one go, small enough to hold nobody up.
const SLICE: u32 = 500;
/// How often at least ended leases are looked for where leases end by time: work of a dead worker is to go on within a
/// second of its lease's end, and being claimed and begun takes a part of that.
const REAP_EVERY: Duration = Duration::from_millis(250);
const PRUNE_EVERY: Duration = Duration::from_secs(60);

impl Worker {
    pub(crate) async fn housekeep(self) {
        // The first time at once, so that a worker that never lives long also prunes.
        let mut pruned_at = None;
        while !self.draining.is_cancelled() {
            let next = self.promote().await;
            self.reap().await;
            host::failpoint!("worker.housekeeping.reaped");
            if pruned_at.is_none_or(|at: std::time::Instant| at.elapsed() > PRUNE_EVERY) {
                self.prune().await;
                end_strays().await;
                pruned_at = Some(host::clock::monotonic());
            }
            // A gate expires when it is due, not a poll later.
            let timed = self.control.store().backend_name() == "postgres";
            let longest = if timed { self.config.poll.min(REAP_EVERY) } else { self.config.poll };
            let pause = next.map_or(longest, |due| due.since(self.control.clock().now()).min(longest));
            tokio::select! {
                () = tokio::time::sleep(pause.max(Duration::from_millis(5))) => {}
                () = self.draining.cancelled() => {}
            }
        }
    }

    /// Makes due tasks ready; when the next one is due.
    async fn promote(&self) -> Option<domain::time::Timestamp> {
        loop {
            match self.control.store().promote(self.control.clock().now(), BATCH).await {
                Ok((promoted, _)) if promoted == BATCH => {}
                Ok((_, next)) => return next,
                Err(error) => {
                    tracing::warn!(%error, "Due tasks could not be made ready");
                    return None;
                }
            }
        }
    }

    async fn reap(&self) {
        match self.control.store().reap(&self.incarnation, BATCH).await {
            Ok(reaped) => {
                for task in &reaped.tasks {
                    tracing::warn!(task.id = %task, "The lease of task {task} ended without an answer");
                }
            }
            Err(error) => tracing::warn!(%error, "Ended leases could not be returned"),
        }
    }

    async fn prune(&self) {
        let now = self.control.clock().now();
        let keep = self.config.retention;
        let retention = Retention {
            dedup_before: now.before(keep.dedup),
            idempotency_before: now.before(keep.idempotency),
            tasks_before: now.before(keep.tasks),
            slice: SLICE,
        };
        loop {
            match self.control.store().prune(&retention).await {
                Ok(0) => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return tracing::warn!(%error, "Old rows could not be deleted"),
            }
        }
    }
}

/// Ends the sandboxes that supervisors were about to make when they were killed.
async fn end_strays() {
    match host::task::spawn_blocking("strays", host::contain::kill_strays).await {
        Ok(0) => {}
        Ok(n) => tracing::warn!("Ended {n} processes whose supervisor was killed while it made their sandbox"),
        Err(error) => tracing::warn!(%error, "Processes without a supervisor could not be looked for"),
    }
}
