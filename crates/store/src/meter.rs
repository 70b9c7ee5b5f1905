//! What this process does to the ledger, counted for whoever watches it.
//!
//! Numbers that all processes share, such as the depth of the queue, are read from the ledger instead. Labels are closed
//! sets: there are as many series tomorrow as today.

use std::time::Duration;

use domain::{
    commit::{Commit, Committed, Table},
    task::TaskKind,
};
use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{Heartbeat, Reaped, StoreError, Worked};

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters of one open ledger. Clones share them.
#[derive(Clone, Debug)]
pub struct Meter {
    commits: Labelled,
    /// One of `commits`, at hand because it is by far the most frequent.
    applied: Counter,
    batches: Histogram,
    flushes: Histogram,
    claimed: Counter,
    reaped: Counter,
    fenced: Counter,
    held: Gauge,
    handled: Family<[(&'static str, &'static str); 2], Counter>,
    handling: Family<[(&'static str, &'static str); 1], Histogram>,
    /// By engine and ending.
    attempts: Family<[(&'static str, String); 2], Counter>,
}

/// How a handler left its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Acknowledged: carried out, or found not to be wanted any more.
    Done,
    /// To be tried again.
    Again,
    /// Given up.
    Dead,
    /// Left to whoever comes next, because this process ends.
    Left,
    /// Lost to another holder.
    Fenced,
}

impl Handled {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Again => "again",
            Self::Dead => "dead",
            Self::Left => "left",
            Self::Fenced => "fenced",
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        let commits = Labelled::default();
        Self {
            applied: commits.get_or_create_owned(&[("outcome", "applied")]),
            commits,
            batches: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            flushes: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
            claimed: Counter::default(),
            reaped: Counter::default(),
            fenced: Counter::default(),
            held: Gauge::default(),
            handled: Family::default(),
            handling: Family::new_with_constructor(
                (|| Histogram::new(exponential_buckets(0.001, 4.0, 12))) as fn() -> Histogram,
            ),
            attempts: Family::default(),
        }
    }
}

impl Meter {
    /// Shows the counters under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("commits", "Commits by how they ended", self.commits.clone());
        registry.register("commit_batch_size", "Commits and queue steps of one flush", self.batches.clone());
        registry.register("commit_flush_seconds", "Time of one flush, until it was durable", self.flushes.clone());
        registry.register("tasks_claimed", "Tasks leased by this process", self.claimed.clone());
        registry.register("leases_reaped", "Leases of others that this process ended", self.reaped.clone());
        registry.register(
            "leases_fenced",
            "Leases that turned out to be somebody else's, at a heartbeat or an acknowledgement",
            self.fenced.clone(),
        );
        registry.register("leases_held", "Tasks that this process is carrying out", self.held.clone());
        registry.register("tasks_handled", "Tasks by kind and how their handler left them", self.handled.clone());
        registry.register("task_duration_seconds", "Time that handlers took", self.handling.clone());
        registry.register("attempts", "Attempts that this process ended, by engine", self.attempts.clone());
    }

    pub(crate) fn count_commit(&self, outcome: &Result<Committed, StoreError>) {
        let name = match outcome {
            Ok(Committed::Applied { .. }) => {
                self.applied.inc();
                return;
            }
            Ok(Committed::Duplicate(_)) => "duplicate",
            Ok(Committed::Stale) => "stale",
            Ok(Committed::Fenced) => {
                self.fenced.inc();
                "fenced"
            }
            Ok(Committed::Refused { .. }) => "refused",
            Err(StoreError::UnknownOutcome { .. }) => "unknown",
            Err(_) => "failed",
        };
        self.commits.get_or_create(&[("outcome", name)]).inc();
    }

    /// A handler began.
    pub fn begin_task(&self) {
        self.held.inc();
    }

    /// A handler ended, after this time.
    pub fn end_task(&self, kind: TaskKind, how: Handled, took: Duration) {
        self.held.dec();
        self.handled.get_or_create(&[("kind", kind.as_str()), ("outcome", how.as_str())]).inc();
        self.handling.get_or_create(&[("kind", kind.as_str())]).observe(took.as_secs_f64());
    }

    /// The attempts that this commit ends, once it is applied.
    pub(crate) fn ended_attempts(commit: &Commit) -> Vec<[(&'static str, String); 2]> {
        #[derive(serde::Deserialize)]
        struct Body {
            engine: String,
        }
        let ended = commit.rows.iter().filter(|row| row.table == Table::Attempts && row.status != "running");
        let labels = ended.filter_map(|row| {
            let body: Body = serde_json::from_str(&row.body).ok()?;
            Some([("engine", body.engine), ("ending", row.status.clone())])
        });
        labels.collect()
    }

    pub(crate) fn count_attempts(&self, ended: &[[(&'static str, String); 2]]) {
        for labels in ended {
            self.attempts.get_or_create(labels).inc();
        }
    }

    pub(crate) fn count_work(&self, worked: &Worked) {
        self.claimed.inc_by(worked.tasks.len() as u64);
        self.fenced.inc_by(worked.fenced.len() as u64);
    }

    pub(crate) fn count_heartbeat(&self, heard: &Heartbeat) {
        self.fenced.inc_by(heard.fenced.len() as u64);
    }

    pub(crate) fn count_reaped(&self, reaped: &Reaped) {
        self.reaped.inc_by(reaped.tasks.len() as u64);
    }

    /// So many jobs were made durable together, or failed together, within this time.
    pub(crate) fn count_flush(&self, jobs: usize, took: Duration) {
        self.batches.observe(f64::from(u32::try_from(jobs).unwrap_or(u32::MAX)));
        self.flushes.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_end_of_a_commit_has_its_own_series() {
        let meter = Meter::default();
        let mut registry = Registry::with_prefix("pilothouse");
        meter.register(&mut registry);
        meter.count_commit(&Ok(Committed::Applied { version: 1 }));
        meter.count_commit(&Ok(Committed::Applied { version: 2 }));
        meter.count_commit(&Ok(Committed::Fenced));
        meter.count_commit(&Err(StoreError::Overloaded));
        meter.count_flush(3, Duration::from_millis(2));

        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "pilothouse_commits_total{outcome=\"applied\"} 2",
            "pilothouse_commits_total{outcome=\"fenced\"} 1",
            "pilothouse_commits_total{outcome=\"failed\"} 1",
            "pilothouse_leases_fenced_total 1",
            "pilothouse_commit_batch_size_sum 3.0",
            "pilothouse_commit_flush_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
