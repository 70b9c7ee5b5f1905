//! Tasks: entries of the work queue, and the rules of claim, lease and fence.
//!
//! This is the reference model that both databases are compared with, operation by operation, and that a model checker
//! explores. A claim gives a task a new fence; every later write names the fence, and only [`Guard::Fence`] is enough:
//! guarding on the state or the owner alone lets a worker that lost its lease finish another's attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    commit::{Subject, Then},
    ids::{Fence, TaskId},
    time::Timestamp,
};

/// How long a lease lasts on PostgreSQL unless configured otherwise.
pub const LEASE: Duration = Duration::from_secs(30);
/// Crashes of a worker while it held a task before the task is only reported, never carried out again.
pub const MAX_CRASHES: u16 = 3;
/// Failures of our own effects before they are given up.
pub const MAX_FAILURES: u16 = 3;

/// What a task asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    RunJob,
    ExpireGate,
    DeliverMessage,
    ProjectSetup,
    PlanProtocol,
    ExecuteStep,
    RunQuality,
    AdvanceBranch,
    /// Nothing: for benchmarks and for drills of the queue itself.
    Noop,
}

impl TaskKind {
    pub const ALL: [Self; 9] = [
        Self::RunJob,
        Self::ExpireGate,
        Self::DeliverMessage,
        Self::ProjectSetup,
        Self::PlanProtocol,
        Self::ExecuteStep,
        Self::RunQuality,
        Self::AdvanceBranch,
        Self::Noop,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunJob => "run_job",
            Self::ExpireGate => "expire_gate",
            Self::DeliverMessage => "deliver_message",
            Self::ProjectSetup => "project_setup",
            Self::PlanProtocol => "plan_protocol",
            Self::ExecuteStep => "execute_step",
            Self::RunQuality => "run_quality",
            Self::AdvanceBranch => "advance_branch",
            Self::Noop => "noop",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Kinds that hold an engine are capped; the others go through the fast lane.
    pub fn lane(self) -> Lane {
        match self {
            Self::RunJob | Self::PlanProtocol | Self::ExecuteStep | Self::RunQuality => Lane::Engine,
            Self::ExpireGate | Self::DeliverMessage | Self::ProjectSetup | Self::AdvanceBranch | Self::Noop => {
                Lane::Fast
            }
        }
    }

    /// What is promised when a worker dies in the middle.
    pub fn effect_class(self) -> EffectClass {
        match self {
            Self::ExpireGate | Self::Noop => EffectClass::InDatabase,
            Self::AdvanceBranch | Self::ProjectSetup => EffectClass::Converging,
            Self::DeliverMessage => EffectClass::AtLeastOnce,
            Self::RunJob | Self::PlanProtocol | Self::ExecuteStep | Self::RunQuality => EffectClass::Attempt,
        }
    }
}

/// Which claim takes a task.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    Fast,
    Engine,
}

impl Lane {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Engine => "engine",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Fast, Self::Engine].into_iter().find(|lane| lane.as_str() == text)
    }
}

/// What is promised of an effect, as shown in the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// In our database: exactly once.
    InDatabase,
    /// Remote with compare-and-swap or a natural key: repeats converge.
    Converging,
    /// Remote without a key: at least once, repeats labelled.
    AtLeastOnce,
    /// An agent or shell run: at most one unfenced execution at a time.
    Attempt,
}

/// An effect asked for by a decision; becomes a [`NewTask`] once an id is drawn.
#[derive(Clone, PartialEq, Debug)]
pub struct Effect {
    pub kind: TaskKind,
    pub subject: Subject,
    /// JSON; what the worker needs besides the subject.
    pub payload: serde_json::Value,
    /// `None`: at once.
    pub due_at: Option<Timestamp>,
    /// Whose fair share it counts against.
    pub project: Option<i64>,
    /// The engine it holds, for kinds of the engine lane.
    pub engine: Option<String>,
}

impl Effect {
    pub fn new(kind: TaskKind, subject: Subject) -> Self {
        Self { kind, subject, payload: serde_json::Value::Null, due_at: None, project: None, engine: None }
    }

    #[must_use]
    pub fn with(mut self, payload: serde_json::Value) -> Self {
        self.payload = payload;
        self
    }

    #[must_use]
    pub fn due(mut self, at: Timestamp) -> Self {
        self.due_at = Some(at);
        self
    }

    pub fn into_task(self, id: TaskId) -> NewTask {
        NewTask {
            id,
            kind: self.kind,
            subject: self.subject,
            payload: self.payload.to_string(),
            due_at: self.due_at,
            project: self.project,
            engine: self.engine,
            priority: 0,
            max_failures: MAX_FAILURES,
        }
    }
}

/// A task to store.
#[derive(Clone, PartialEq, Debug)]
pub struct NewTask {
    pub id: TaskId,
    pub kind: TaskKind,
    pub subject: Subject,
    pub payload: String,
    /// `None` or the past: ready at once. The future: scheduled, promoted when due.
    pub due_at: Option<Timestamp>,
    pub project: Option<i64>,
    pub engine: Option<String>,
    /// Lower goes first.
    pub priority: i16,
    pub max_failures: u16,
}

/// A task as stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    pub id: TaskId,
    pub kind: TaskKind,
    pub subject: Subject,
    pub payload: String,
    pub project: Option<i64>,
    pub engine: Option<String>,
    pub priority: i16,
    pub due_at: Timestamp,
    pub state: TaskState,
    /// Somebody no longer wants it: whoever holds it, or leases it next, is to end what it began. Never taken back, and
    /// false once the task is finished.
    pub stop: bool,
    /// Failures counted by acknowledgements that say why.
    pub failures: u16,
    pub max_failures: u16,
    /// Leases that ended without an acknowledgement.
    pub crashes: u16,
    pub error: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskState {
    /// Due in the future.
    Scheduled,
    Ready,
    Leased {
        fence: Fence,
        /// The worker process, by the random name it drew at its start.
        incarnation: String,
        until: Timestamp,
    },
    Done {
        at: Timestamp,
    },
    Dead {
        at: Timestamp,
    },
    Withdrawn {
        at: Timestamp,
    },
}

impl TaskState {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Leased { .. } => "leased",
            Self::Done { .. } => "done",
            Self::Dead { .. } => "dead",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }

    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Scheduled | Self::Ready | Self::Leased { .. } => false,
            Self::Done { .. } | Self::Dead { .. } | Self::Withdrawn { .. } => true,
        }
    }
}

/// `(from, what happens, to)` for every transition there is.
pub const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("", "stored", "ready"),
    ("", "stored", "scheduled"),
    ("scheduled", "promoted", "ready"),
    ("scheduled", "withdrawn", "withdrawn"),
    ("scheduled", "told to stop", "ready"),
    ("ready", "claimed", "leased"),
    ("ready", "withdrawn", "withdrawn"),
    ("ready", "told to stop", "ready"),
    ("leased", "told to stop", "leased"),
    ("leased", "done", "done"),
    ("leased", "again", "ready"),
    ("leased", "again", "scheduled"),
    ("leased", "given up", "dead"),
    ("leased", "reaped", "ready"),
];

/// What an acknowledgement is guarded by. Only the fence is enough; the others exist so that the checker can show why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    Fence,
    StateOnly,
    OwnerOnly,
}

impl Task {
    pub fn from_new(new: NewTask, now: Timestamp) -> Self {
        let due_at = new.due_at.unwrap_or(now);
        Self {
            state: if due_at > now { TaskState::Scheduled } else { TaskState::Ready },
            id: new.id,
            kind: new.kind,
            subject: new.subject,
            payload: new.payload,
            project: new.project,
            engine: new.engine,
            priority: new.priority,
            due_at,
            stop: false,
            failures: 0,
            max_failures: new.max_failures,
            crashes: 0,
            error: None,
            created_at: now,
        }
    }

    /// Whether the next claim may only report that the task cannot be carried out.
    pub fn is_quarantined(&self) -> bool {
        self.crashes >= MAX_CRASHES
    }

    /// A scheduled task whose time has come becomes ready.
    pub fn promote(&mut self, now: Timestamp) -> bool {
        let due = self.state == TaskState::Scheduled && self.due_at <= now;
        if due {
            self.state = TaskState::Ready;
        }
        due
    }

    /// Leases a ready task under a fence that was never given before.
    pub fn claim(&mut self, fence: Fence, incarnation: &str, until: Timestamp) -> bool {
        let ready = self.state == TaskState::Ready;
        if ready {
            self.state = TaskState::Leased { fence, incarnation: incarnation.to_owned(), until };
        }
        ready
    }

    /// Whether a write under this fence counts.
    pub fn is_held(&self, fence: Fence) -> bool {
        self.is_held_by(fence, "", Guard::Fence)
    }

    pub fn is_held_by(&self, fence: Fence, incarnation: &str, guard: Guard) -> bool {
        match &self.state {
            TaskState::Leased { fence: held, incarnation: owner, .. } => match guard {
                Guard::Fence => *held == fence,
                Guard::StateOnly => true,
                Guard::OwnerOnly => owner == incarnation,
            },
            TaskState::Scheduled
            | TaskState::Ready
            | TaskState::Done { .. }
            | TaskState::Dead { .. }
            | TaskState::Withdrawn { .. } => false,
        }
    }

    /// Moves the end of the lease. `None`: fenced. `Some(stop)`: still held, and whether to stop.
    pub fn heartbeat(&mut self, fence: Fence, new_until: Timestamp) -> Option<bool> {
        match &mut self.state {
            TaskState::Leased { fence: held, until, .. } if *held == fence => {
                *until = new_until;
                Some(self.stop)
            }
            _ => None,
        }
    }

    /// Applies an acknowledgement whose guard was already found to hold.
    pub fn acknowledge(&mut self, then: &Then, now: Timestamp) {
        match then {
            Then::Keep => {}
            Then::Done => self.finish(TaskState::Done { at: now }),
            Then::Dead { error } => {
                self.finish(TaskState::Dead { at: now });
                self.error = Some(error.clone());
            }
            Then::Again { due_at, failed } => {
                self.state = if *due_at > now { TaskState::Scheduled } else { TaskState::Ready };
                self.due_at = *due_at;
                if let Some(error) = failed {
                    self.failures = self.failures.saturating_add(1);
                    self.error = Some(error.clone());
                }
            }
        }
    }

    fn finish(&mut self, state: TaskState) {
        self.state = state;
        self.stop = false;
    }

    /// A lease that ended without an acknowledgement: the task is ready again, one crash richer, its fence spent. What
    /// its holder was told is told to the next.
    pub fn reap(&mut self, now: Timestamp) -> bool {
        let expired = matches!(&self.state, TaskState::Leased { until, .. } if *until < now);
        if expired {
            self.crashes = self.crashes.saturating_add(1);
            self.state = TaskState::Ready;
            self.due_at = now;
        }
        expired
    }

    /// Nobody wants the task any more. It is taken back while it waits, unless its work has `begun`, or its holder was
    /// told before: then it is due at once, and whoever leases it next is told. While it is leased its holder is told.
    pub fn withdraw(&mut self, begun: bool, now: Timestamp) {
        match &self.state {
            TaskState::Scheduled | TaskState::Ready if begun || self.stop => {
                self.stop = true;
                self.state = TaskState::Ready;
                self.due_at = self.due_at.min(now);
            }
            TaskState::Scheduled | TaskState::Ready => self.finish(TaskState::Withdrawn { at: now }),
            TaskState::Leased { .. } => self.stop = true,
            TaskState::Done { .. } | TaskState::Dead { .. } | TaskState::Withdrawn { .. } => {}
        }
    }
}

/// What a failed effect asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskFailure {
    /// Worth another try, not before this span has passed; `None` leaves the span to [`backoff`].
    Retry {
        after: Option<Duration>,
        error: String,
    },
    GiveUp {
        error: String,
    },
}

impl TaskFailure {
    /// What becomes of the task after this failure.
    pub fn then(self, failures_before: u16, max_failures: u16, now: Timestamp) -> Then {
        match self {
            Self::Retry { after, error } if failures_before.saturating_add(1) < max_failures => {
                let span = after.unwrap_or_else(|| backoff(failures_before));
                Then::Again { due_at: now.after(span), failed: Some(error) }
            }
            Self::Retry { error, .. } | Self::GiveUp { error } => Then::Dead { error },
        }
    }
}

/// 2, 4, 8 … seconds, never more than 60.
pub fn backoff(failures_before: u16) -> Duration {
    Duration::from_secs(2u64.saturating_pow(u32::from(failures_before).saturating_add(1)).min(60))
}

#[cfg(test)]
mod tests;
