//! The parts of statements that begin and end leases.
//!
//! A claim is one row, which names its tasks; a task's fence is the claim's number and its place in the claim. A lease
//! counts while its claim is there and names the task, and the task is open and no lease under this fence or a later one
//! has ended (`past_fence`). So a claim changes no task, and the end of a lease changes one row and no index.

use domain::{
    commit::Then,
    ids::{Fence, TaskId},
};

use crate::{postgres::records::Records, task_row::TASK_COLUMNS};

/// The database's clock in microseconds. It moves within a statement; leases only grow by that.
pub(super) const NOW: &str = "(extract(epoch from clock_timestamp()) * 1000000)::bigint";

/// The most tasks of one claim: a fence has room for 512 places.
pub(super) const SLICE: u32 = 500;

/// Whether task `t` may still be held under a fence, which its claim has to confirm.
pub(super) fn is_open(fence: &str) -> String {
    format!("t.state = 'open' AND t.past_fence < {fence}")
}

/// The leases of these claims that still count: `c` the claim, `t` the task, `u.place` its place.
pub(super) fn leases_of(claims: &str) -> String {
    format!(
        "{claims} CROSS JOIN LATERAL unnest(c.tasks) WITH ORDINALITY u (id, place)
         JOIN task_rows t ON t.id = u.id AND {}",
        is_open("fence_of(c.number, u.place)")
    )
}

/// [`TASK_COLUMNS`] of task `t` that is leased under these.
pub(super) fn leased_columns(fence: &str, incarnation: &str, until: &str) -> String {
    let columns = TASK_COLUMNS.split(", ").map(|column| match column {
        "state" => "'leased' AS state".to_owned(),
        "fence" => format!("{fence} AS fence"),
        "incarnation" => format!("{incarnation} AS incarnation"),
        "lease_until" => format!("{until} AS lease_until"),
        own => format!("t.{own}"),
    });
    columns.collect::<Vec<_>>().join(", ")
}

/// What an acknowledgement `x` makes of task `t`. One without a state ends nothing: it holds the row until the end.
pub(super) const ACKED: &str = "state = CASE WHEN x.finished_at IS NULL THEN 'open' ELSE x.state END,
    past_fence = CASE WHEN x.state IS NULL THEN t.past_fence ELSE x.fence END,
    due_at = coalesce(x.due_at, t.due_at), finished_at = x.finished_at,
    failures = least(t.failures + x.failed, 65535), error = coalesce(x.error, t.error),
    stop = t.stop AND x.finished_at IS NULL";

/// What `acked` tells of each: what [`waiting_again`] and [`COUNTED`] work with.
pub(super) const ACKED_TELLS: &str =
    "x.ord, x.fence, x.state AS after, t.lane, t.priority, t.due_at, t.id, t.project, t.engine";

/// The columns of `tasks_ready`.
pub(super) const READY: &str = "lane, priority, due_at, id, project, engine";

/// Puts what is to be done again where it waits.
pub(super) fn waiting_again() -> [String; 2] {
    [
        format!("ready_again AS (INSERT INTO tasks_ready ({READY}) SELECT {READY} FROM acked WHERE after = 'ready')"),
        "scheduled_again AS (INSERT INTO tasks_scheduled (due_at, id)
                             SELECT due_at, id FROM acked WHERE after = 'scheduled')"
            .to_owned(),
    ]
}

/// Counts the ends of leases, so that the reaper knows of which claim nothing is left.
pub(super) const COUNTED: &str = "counted AS (INSERT INTO claim_ends (number, ended)
    SELECT claim_of(fence), count(*) FROM acked WHERE after IS NOT NULL GROUP BY 1)";

/// Puts claims away of which nothing is left.
pub(super) const PUT_AWAY: &str = "
    WITH told AS MATERIALIZED (SELECT number, sum(ended) AS ended FROM claim_ends GROUP BY number),
         over AS (DELETE FROM claims c USING told t WHERE c.number = t.number AND c.size <= t.ended RETURNING c.number)
    DELETE FROM claim_ends e USING told t
    WHERE e.number = t.number
      AND (e.number IN (SELECT number FROM over) OR NOT EXISTS (SELECT FROM claims c WHERE c.number = e.number))";

/// The columns of a task after its acknowledgement, as `domain::task::Task::acknowledge` says.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    state: &'static str,
    due_at: Option<i64>,
    finished_at: Option<i64>,
    failed: i32,
    error: Option<&'a str>,
}

impl<'a> Outcome<'a> {
    /// `None`: still leased.
    pub(super) fn of(then: &'a Then, now: i64) -> Option<Self> {
        match then {
            Then::Keep => None,
            Then::Done => Some(Self { state: "done", due_at: None, finished_at: Some(now), failed: 0, error: None }),
            Then::Dead { error } => {
                Some(Self { state: "dead", due_at: None, finished_at: Some(now), failed: 0, error: Some(error) })
            }
            Then::Again { due_at, failed } => Some(Self {
                state: if due_at.as_micros() > now { "scheduled" } else { "ready" },
                due_at: Some(due_at.as_micros()),
                finished_at: None,
                failed: i32::from(failed.is_some()),
                error: failed.as_deref(),
            }),
        }
    }

    /// Whether nothing more is to be done.
    pub(super) fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }

    pub(super) fn write(&self, records: &mut Records, ord: i32, task: &TaskId, fence: Fence) {
        records
            .record()
            .int(ord)
            .text(task.as_str())
            .big(fence.0)
            .text(self.state)
            .maybe_big(self.due_at)
            .maybe_big(self.finished_at)
            .int(self.failed)
            .maybe_text(self.error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_the_columns_of_a_task_in_their_order() {
        let columns = leased_columns("f", "i", "u");
        let named: Vec<&str> = columns
            .split(", ")
            .map(|column| column.rsplit(' ').next().unwrap_or_default().trim_start_matches("t."))
            .collect();
        assert_eq!(named.join(", "), TASK_COLUMNS);
    }
}
