//! A task's columns, and the one place where they become a task.

use domain::{
    commit::{Subject, SubjectKind},
    ids::{Fence, TaskId},
    task::{Task, TaskKind, TaskState},
    time::Timestamp,
};

use crate::StoreError;

/// The columns of [`TaskRow`] in its order.
pub(crate) const TASK_COLUMNS: &str = "id, kind, subject_kind, subject, project, engine, payload, priority, state, \
     due_at, fence, incarnation, lease_until, stop, failures, max_failures, crashes, error, created_at, finished_at";

/// A row of `tasks` as it was read.
#[derive(Clone, Debug)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) subject_kind: String,
    pub(crate) subject: String,
    pub(crate) project: Option<i64>,
    pub(crate) engine: Option<String>,
    pub(crate) payload: String,
    pub(crate) priority: i64,
    pub(crate) state: String,
    pub(crate) due_at: i64,
    pub(crate) fence: Option<i64>,
    pub(crate) incarnation: Option<String>,
    pub(crate) lease_until: Option<i64>,
    pub(crate) stop: bool,
    pub(crate) failures: i64,
    pub(crate) max_failures: i64,
    pub(crate) crashes: i64,
    pub(crate) error: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
}

impl TryFrom<TaskRow> for Task {
    type Error = StoreError;

    fn try_from(row: TaskRow) -> Result<Self, StoreError> {
        let id = row.id;
        let corrupt = |column: &str, value: String| StoreError::Corrupt {
            table: "tasks",
            id: id.clone(),
            reason: format!("column {column} holds {value}"),
        };
        let at = Timestamp::from_micros;
        let count = |column: &str, value: i64| u16::try_from(value).map_err(|_| corrupt(column, value.to_string()));
        let state = match (row.state.as_str(), row.fence, &row.incarnation, row.lease_until, row.stop, row.finished_at)
        {
            ("scheduled", None, None, None, _, None) => TaskState::Scheduled,
            ("ready", None, None, None, _, None) => TaskState::Ready,
            ("leased", Some(fence), Some(incarnation), Some(until), _, None) => {
                TaskState::Leased { fence: Fence(fence), incarnation: incarnation.clone(), until: at(until) }
            }
            ("done", None, None, None, false, Some(finished)) => TaskState::Done { at: at(finished) },
            ("dead", None, None, None, false, Some(finished)) if row.error.is_some() => {
                TaskState::Dead { at: at(finished) }
            }
            ("withdrawn", None, None, None, false, Some(finished)) => TaskState::Withdrawn { at: at(finished) },
            (state, ..) => {
                let columns = format!(
                    "{state} with fence {:?}, incarnation {:?}, lease_until {:?}, stop {}, finished_at {:?}",
                    row.fence, row.incarnation, row.lease_until, row.stop, row.finished_at
                );
                return Err(corrupt("state", columns));
            }
        };
        Ok(Self {
            kind: TaskKind::parse(&row.kind).ok_or_else(|| corrupt("kind", row.kind.clone()))?,
            subject: Subject {
                kind: SubjectKind::parse(&row.subject_kind)
                    .ok_or_else(|| corrupt("subject_kind", row.subject_kind.clone()))?,
                id: row.subject,
            },
            payload: row.payload,
            project: row.project,
            engine: row.engine,
            priority: i16::try_from(row.priority).map_err(|_| corrupt("priority", row.priority.to_string()))?,
            due_at: at(row.due_at),
            state,
            stop: row.stop,
            failures: count("failures", row.failures)?,
            max_failures: count("max_failures", row.max_failures)?,
            crashes: count("crashes", row.crashes)?,
            error: row.error,
            created_at: at(row.created_at),
            id: TaskId(id),
        })
    }
}
