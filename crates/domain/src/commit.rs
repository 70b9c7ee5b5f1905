//! A commit: what one command changed, and everything that must become durable with it.
//!
//! A commit is data, not a closure over a transaction, so that it can be batched with others, retried, logged, replayed
//! and tested on both databases by one suite. It changes one subject (an aggregate named by [`SubjectKind`]), whose head
//! row guards the version; the subject's other rows are written with it. Start at [`Commit`].

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CommitId, Fence, TaskId},
    task::{NewTask, TaskKind},
    time::Timestamp,
};

/// All or nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit {
    /// Kept with the commit's first event and with its dedup row: settles an unknown outcome.
    pub id: CommitId,
    /// The subject and what was believed of it; `None` for a commit that only acknowledges or answers.
    pub subject: Option<(Subject, At)>,
    pub cause: Cause,
    /// The task this was done for.
    pub ack: Option<Ack>,
    /// Rows of other subjects that the decision relied on, with the version that was read.
    pub expects: Vec<Expect>,
    /// What crosses subjects and may refuse.
    pub guards: Vec<Guard>,
    /// What crosses subjects and cannot refuse.
    pub entries: Vec<Entry>,
    /// The subject's rows after the change, the head row first when there is a subject.
    pub rows: Vec<Row>,
    pub events: Vec<NewEvent>,
    pub tasks: Vec<NewTask>,
    /// Tasks that are no longer wanted: taken back, or told to stop.
    pub withdraw: Vec<Withdraw>,
}

/// How a commit ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Committed {
    /// Durable. `version` is the subject's new version, 0 when there is no subject.
    Applied { version: i64 },
    /// The dedup key was used before; this is what was answered then.
    Duplicate(StoredAnswer),
    /// The subject, or something in `expects`, is not at the version that was believed.
    Stale,
    /// The task was taken over, finished or withdrawn: nothing of this attempt counts any more.
    Fenced,
    /// A guard refused.
    Refused { guard: Guard, current: String },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    Project,
    Protocol,
    Run,
    Person,
    Token,
    Message,
    Catalog,
}

impl SubjectKind {
    pub const ALL: [Self; 7] =
        [Self::Project, Self::Protocol, Self::Run, Self::Person, Self::Token, Self::Message, Self::Catalog];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Protocol => "protocol",
            Self::Run => "run",
            Self::Person => "person",
            Self::Token => "token",
            Self::Message => "message",
            Self::Catalog => "catalog",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The table of the subject's head row.
    pub fn head(self) -> Table {
        match self {
            Self::Project => Table::Projects,
            Self::Protocol => Table::Protocols,
            Self::Run => Table::Runs,
            Self::Person => Table::People,
            Self::Token => Table::Tokens,
            Self::Message => Table::Messages,
            Self::Catalog => Table::Catalogs,
        }
    }
}

/// One subject, by kind and id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Subject {
    pub kind: SubjectKind,
    pub id: String,
}

impl Subject {
    pub fn new(kind: SubjectKind, id: &(impl ToString + ?Sized)) -> Self {
        Self { kind, id: id.to_string() }
    }
}

impl std::fmt::Display for Subject {
    /// `run:7Q4K2MA`, as used for the `parent` of rows and on the wire.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.id)
    }
}

/// What was believed of the subject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// It does not exist; the commit creates it at version 1.
    New,
    /// It is at this version; the commit raises it by one.
    Version(i64),
}

/// Why the commit happened, kept with its first event so that the decision can be replayed.
#[derive(Clone, PartialEq, Debug)]
pub struct Cause {
    /// As shown: `user:dev:alice`, `worker:…`, `system`.
    pub actor: String,
    /// The command as JSON.
    pub command: String,
    pub now: Timestamp,
    /// The ids that were drawn for the decision, as JSON.
    pub ids: String,
    pub dedup: Option<Dedup>,
}

/// Makes a command idempotent: one row for each scope and key, with what was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dedup {
    /// Whose keys these are, such as `inbox:dev` or `http:<token>`. At most 200 bytes.
    pub scope: String,
    /// At most 500 bytes.
    pub key: String,
    /// SHA-256 of what was asked, hex: the same key with another request is refused by whoever reads the answer.
    pub request_hash: String,
    /// What a repeat is answered with.
    pub answer: String,
}

/// A dedup row found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredAnswer {
    pub request_hash: String,
    pub answer: String,
    pub at: Timestamp,
}

/// Acknowledges the task a commit was made for. Applies only while the task is leased under this fence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    pub task: TaskId,
    pub fence: Fence,
    pub then: Then,
}

/// What becomes of an acknowledged task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// Finished.
    Done,
    /// Back to the queue, due at this instant; `failed` counts a failure and says why.
    Again { due_at: Timestamp, failed: Option<String> },
    /// Given up, with the reason.
    Dead { error: String },
    /// Still leased: a write in the middle of the work.
    Keep,
}

/// A row of another subject that the decision relied on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expect {
    pub table: Table,
    pub id: String,
    pub version: i64,
}

/// A condition across subjects, checked and taken in the same transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Guard {
    /// Nobody holds this key yet; `holder` holds it from now on, for ever.
    Unique { key: String, holder: String },
    /// One of `slots` places of this lock is free, or `holder` has one already.
    Hold { lock: String, holder: String, slots: u32 },
    /// `spent + reserved + amount` stays within the budget's limit (micro-USD); `holder` reserves the amount.
    Reserve { budget: String, holder: String, amount: i64 },
}

/// A record across subjects that cannot refuse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Gives a held place back. Releasing what is not held is not an error.
    Release { lock: String, holder: String },
    /// Creates the budget or changes its limit (micro-USD); `None` is unlimited.
    Limit { budget: String, limit: Option<i64> },
    /// Adds to what was spent, once for each session and ordinal.
    Charge { budget: String, session: String, ordinal: i64, amount: i64 },
    /// Gives back what `holder` had reserved.
    Settle { budget: String, holder: String },
}

/// The tables that hold rows of subjects. Every one has the same envelope: see [`Row`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    Projects,
    Protocols,
    Steps,
    Runs,
    Gates,
    Attempts,
    People,
    Identities,
    Tokens,
    Messages,
    Catalogs,
}

impl Table {
    pub const ALL: [Self; 11] = [
        Self::Projects,
        Self::Protocols,
        Self::Steps,
        Self::Runs,
        Self::Gates,
        Self::Attempts,
        Self::People,
        Self::Identities,
        Self::Tokens,
        Self::Messages,
        Self::Catalogs,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Protocols => "protocols",
            Self::Steps => "steps",
            Self::Runs => "runs",
            Self::Gates => "gates",
            Self::Attempts => "attempts",
            Self::People => "people",
            Self::Identities => "identities",
            Self::Tokens => "tokens",
            Self::Messages => "messages",
            Self::Catalogs => "catalogs",
        }
    }

    /// Whether ids of this table are integers (`BIGINT`); the others are text.
    pub fn has_integer_ids(self) -> bool {
        matches!(self, Self::Projects | Self::Protocols | Self::Steps)
    }
}

/// One row as it stands after the commit. The store adds the version (the head's new version) and the instants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    pub table: Table,
    /// As on the wire; decimal for tables with integer ids.
    pub id: String,
    /// The name of the state; repeated inside `body`, and compared when the row is read.
    pub status: String,
    /// What the row belongs to and is listed under: a step's protocol id, a gate's subject (`run:7Q4K2MA`).
    pub parent: Option<String>,
    /// What lists are ordered by: a step's index, a project's number, an instant in microseconds.
    pub ordinal: i64,
    /// What the row is called besides its id: a token's hash, a protocol's name, by which they are found; a message's
    /// key, which says what it is for.
    pub name: Option<String>,
    /// The state as JSON.
    pub body: String,
}

/// One fact for the timeline. Actor and instant come from the cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewEvent {
    /// The event's name, such as `RunApproved` or `step_started`.
    pub kind: String,
    /// The version of the event's own shape; `apply` accepts every released one.
    pub schema: i16,
    pub data: String,
    /// For the timelines of projects and steps.
    pub project: Option<i64>,
    pub step: Option<i64>,
}

/// Tasks of a subject that are no longer wanted. One that waits is taken back, one that is leased is told to stop; so is
/// one that waits while its work has begun, because somebody has to end what it began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withdraw {
    pub subject: Subject,
    /// Only these kinds; empty means all.
    pub kinds: Vec<TaskKind>,
    /// The tasks whose work has begun, as the subject's attempts name them. A task that any withdrawal of a commit names
    /// is not taken back by another of the same commit.
    pub begun: Vec<TaskId>,
}
