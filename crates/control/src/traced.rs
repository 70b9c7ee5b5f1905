//! Commits as parts of traces: a task keeps the trace of the commit that asked for it, beside what its handler needs.

use domain::{
    commit::{Commit, Committed},
    task::NewTask,
};
use host::trace::{self, Span};
use serde_json::Value;
use store::StoreError;

use crate::Control;

impl Control {
    /// Makes a commit durable; while traces are on as a part of the current one, which its tasks go on with.
    pub(crate) async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        // Boxed, so that every command's future does not hold what both backends need.
        match trace::is_on() {
            true => Box::pin(self.commit_traced(commit)).await,
            false => Box::pin(self.store().commit(commit)).await,
        }
    }

    async fn commit_traced(&self, mut commit: Commit) -> Result<Committed, StoreError> {
        let span = Span::part("commit");
        span.set("pilothouse.commit.id", || commit.id.to_string());
        if let Some((subject, _)) = &commit.subject {
            span.set("pilothouse.subject", || subject.to_string());
        }
        if !commit.events.is_empty() {
            let names: Vec<&str> = commit.events.iter().map(|event| event.kind.as_str()).collect();
            span.set("pilothouse.events", || names.join(","));
        }
        let made = async {
            if let Some(carrier) = trace::carry() {
                commit.tasks.iter_mut().for_each(|task| stamp(task, &carrier));
            }
            self.store().commit(commit).await
        };
        let outcome = span.around(made).await;
        match &outcome {
            Ok(committed) => span.set("pilothouse.outcome", || name(committed)),
            Err(error) => span.fail(|| error.to_string()),
        }
        outcome
    }
}

/// What a task goes on with, from its payload.
pub fn carrier(payload: &str) -> Option<String> {
    // Looked for first, because most payloads hold none.
    if !payload.contains(trace::CARRIER) {
        return None;
    }
    let payload: Value = serde_json::from_str(payload).ok()?;
    payload.get(trace::CARRIER)?.as_str().map(str::to_owned)
}

/// Adds the trace to a payload, which is an object or nothing at all.
fn stamp(task: &mut NewTask, carrier: &str) {
    let mut members = match serde_json::from_str(&task.payload) {
        Ok(Value::Object(members)) => members,
        Ok(Value::Null) => serde_json::Map::new(),
        // Anything else is left as it is: a trace is not worth a task.
        Ok(_) | Err(_) => return,
    };
    members.insert(trace::CARRIER.to_owned(), carrier.into());
    task.payload = Value::Object(members).to_string();
}

fn name(committed: &Committed) -> &'static str {
    match committed {
        Committed::Applied { .. } => "applied",
        Committed::Duplicate(_) => "duplicate",
        Committed::Stale => "stale",
        Committed::Fenced => "fenced",
        Committed::Refused { .. } => "refused",
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        commit::{Subject, SubjectKind},
        ids::TaskId,
        task::{Effect, TaskKind},
    };

    use super::*;

    #[test]
    fn a_task_keeps_its_payload_beside_the_trace() {
        let effect =
            |payload| Effect::new(TaskKind::ExecuteStep, Subject::new(SubjectKind::Protocol, "1")).with(payload);
        let stamped = |payload: Value| {
            let mut task = effect(payload).into_task(TaskId::from("T"));
            stamp(&mut task, "00-aa-bb-01");
            task.payload
        };

        assert_eq!(stamped(serde_json::json!({ "step": 7 })), r#"{"step":7,"traceparent":"00-aa-bb-01"}"#);
        assert_eq!(carrier(&stamped(Value::Null)).as_deref(), Some("00-aa-bb-01"));
        assert_eq!(stamped(serde_json::json!([1])), "[1]");
        assert_eq!(carrier(r#"{"step":7}"#), None);
    }
}
