//! The work queue, in the inherited shapes.

use std::collections::BTreeMap;

use domain::task::{Task, TaskState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// `sqlite` or `postgres`
    pub backend: String,
    pub default: QueueStats,
    /// By the queue's own states.
    pub states: BTreeMap<String, i64>,
    pub oldest_ready_at: Option<String>,
}

/// How many, by inherited status.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct QueueStats {
    pub queued: i64,
    pub started: i64,
    pub finished: i64,
    pub failed: i64,
}

/// A task under its inherited name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct QueueJobView {
    pub job_id: String,
    /// `execute_step_job`, `plan_protocol_job`, `run_job` …
    pub job_type: String,
    #[schema(value_type = Object)]
    pub payload: Value,
    /// `queued`, `started`, `finished` or `failed`
    pub status: String,
    pub queue: String,
    /// Seconds since 1970.
    pub created_at: f64,
    pub attempts: u32,
    pub max_attempts: u32,
    pub next_run_at: Option<f64>,
    pub started_at: Option<f64>,
    pub ended_at: Option<f64>,
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    pub error: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub meta: Option<Value>,
}

/// The inherited statuses and the queue's own states that they stand for.
pub const STATUSES: [(&str, &[&str]); 4] = [
    ("queued", &["scheduled", "ready"]),
    ("started", &["leased"]),
    ("finished", &["done", "withdrawn"]),
    ("failed", &["dead"]),
];

/// The inherited status of a task's state.
pub fn status_of(state: &str) -> &'static str {
    STATUSES.iter().find(|(_, states)| states.contains(&state)).map_or("queued", |(status, _)| status)
}

impl QueueStats {
    pub fn of(states: &BTreeMap<String, i64>) -> Self {
        let mut stats = Self::default();
        for (state, count) in states {
            match status_of(state) {
                "started" => stats.started += count,
                "finished" => stats.finished += count,
                "failed" => stats.failed += count,
                _ => stats.queued += count,
            }
        }
        stats
    }
}

impl From<&Task> for QueueJobView {
    fn from(task: &Task) -> Self {
        let name = task.kind.as_str();
        let state = task.state.name();
        let mut payload = serde_json::from_str(&task.payload).unwrap_or(Value::Null);
        if !payload.is_object() {
            payload = json!({});
        }
        payload["job_id"] = json!(task.id.to_string());
        payload["subject"] = json!(task.subject.to_string());
        let (next_run_at, ended_at) = match &task.state {
            TaskState::Scheduled | TaskState::Ready => (Some(seconds(task.due_at.as_micros())), None),
            TaskState::Leased { .. } => (None, None),
            TaskState::Done { at } | TaskState::Dead { at } | TaskState::Withdrawn { at } => {
                (None, Some(seconds(at.as_micros())))
            }
        };
        Self {
            job_id: task.id.to_string(),
            job_type: if name.ends_with("_job") { name.to_owned() } else { format!("{name}_job") },
            payload,
            status: status_of(state).to_owned(),
            queue: "default".to_owned(),
            created_at: seconds(task.created_at.as_micros()),
            attempts: u32::from(task.failures) + u32::from(task.crashes),
            max_attempts: u32::from(task.max_failures),
            next_run_at,
            started_at: None,
            ended_at,
            result: None,
            error: task.error.clone(),
            meta: Some(json!({
                "state": state,
                "effect_class": task.kind.effect_class(),
                "failures": task.failures,
                "crashes": task.crashes,
                "project_id": task.project,
                "engine": task.engine,
            })),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of this millennium fit a double to the microsecond")]
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use domain::{
        commit::{Subject, SubjectKind},
        ids::TaskId,
        task::{Effect, TaskKind},
        time::Timestamp,
    };

    use super::*;

    #[test]
    fn every_state_has_an_inherited_status() {
        let of = |state| status_of(state);
        assert_eq!(["scheduled", "ready", "leased"].map(of), ["queued", "queued", "started"]);
        assert_eq!(["done", "withdrawn", "dead"].map(of), ["finished", "finished", "failed"]);
    }

    #[test]
    fn job_types_keep_their_ending() {
        let view = |kind| {
            let task = Effect::new(kind, Subject::new(SubjectKind::Run, "7Q4K2MA")).into_task(TaskId("t".to_owned()));
            QueueJobView::from(&Task::from_new(task, Timestamp::from_micros(1_500_000)))
        };

        assert_eq!(view(TaskKind::ExecuteStep).job_type, "execute_step_job");
        assert_eq!(view(TaskKind::RunJob).job_type, "run_job");
        assert_eq!(view(TaskKind::RunJob).payload, json!({"job_id": "t", "subject": "run:7Q4K2MA"}));
        assert!((view(TaskKind::RunJob).created_at - 1.5).abs() < f64::EPSILON);
    }
}
