//! The operation that is measured, as the commits of one caller on one run.

use std::sync::atomic::{AtomicI64, Ordering};

use domain::{
    commit::{At, Cause, Commit, Dedup, NewEvent, Row, Subject, SubjectKind, Table},
    ids::{CommitId, TaskId},
    task::{NewTask, TaskKind},
    time::Timestamp,
};

static NUMBER: AtomicI64 = AtomicI64::new(0);

/// A fresh id in the shape of a UUIDv7: ascending, like real ones.
pub fn draw_id() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let micros = host::clock::now_micros();
    let millis = micros / 1000;
    format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
        (millis >> 16) & 0xffff_ffff,
        millis & 0xffff,
        micros % 1000,
        number & 0xfff,
        number
    )
}

/// About 220 bytes of JSON.
pub fn payload(run: &str, version: i64) -> String {
    format!(
        "{{\"run\":\"{run}\",\"version\":{version},\"job\":\"deploy\",\"parameters\":{{\"env\":\"prod\",\"region\":\"eu-1\"}},\
         \"requested_by\":\"person-0192f0c1\",\"digest\":\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\",\
         \"reason\":\"release\"}}"
    )
}

/// A run's reference: seven characters.
pub fn draw_run() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = host::random::u64();
    (0..7).map(|place| char::from(ALPHABET[usize::try_from(bits >> (place * 5) & 31).unwrap_or(0)])).collect()
}

fn cause(scope: &str) -> Cause {
    Cause {
        actor: "user:dev:alice".to_owned(),
        command: "{\"type\":\"approve\",\"by\":\"alice\"}".to_owned(),
        now: Timestamp::from_micros(host::clock::now_micros()),
        ids: "{\"task\":\"0192f0c1\"}".to_owned(),
        dedup: Some(Dedup {
            scope: scope.to_owned(),
            key: draw_id(),
            request_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
            answer: "{\"status\":200,\"body\":\"Approved.\"}".to_owned(),
        }),
    }
}

fn empty(run: &str, at: At, status: &str, version: i64) -> Commit {
    Commit {
        id: CommitId(draw_id()),
        subject: Some((Subject::new(SubjectKind::Run, run), at)),
        cause: cause("inbox:dev"),
        ack: None,
        expects: Vec::new(),
        guards: Vec::new(),
        entries: Vec::new(),
        rows: vec![Row {
            table: Table::Runs,
            id: run.to_owned(),
            status: status.to_owned(),
            parent: None,
            ordinal: 1,
            name: None,
            body: payload(run, version),
        }],
        events: Vec::new(),
        tasks: Vec::new(),
        withdraw: Vec::new(),
    }
}

/// Creates a run.
pub fn create(run: &str) -> Commit {
    empty(run, At::New, "AwaitingApproval", 1)
}

/// A whole decision on a run that is at this version.
pub fn decide(run: &str, version: i64) -> Commit {
    let mut commit = empty(run, At::Version(version), "Dispatching", version + 1);
    for kind in ["RunApproved", "ExecutionDispatched"] {
        commit.events.push(NewEvent {
            kind: kind.to_owned(),
            schema: 1,
            data: payload(run, version + 1),
            project: None,
            step: None,
        });
    }
    let message = draw_id();
    commit.rows.push(Row {
        table: Table::Messages,
        id: message.clone(),
        status: "queued".to_owned(),
        parent: Some("dev:alice".to_owned()),
        ordinal: commit.cause.now.as_micros(),
        name: Some(format!("run:{run}:{version}:approved")),
        body: payload(run, version + 1),
    });
    commit.tasks.push(task(Subject::new(SubjectKind::Message, &message)));
    commit
}

/// A task of the fast lane.
pub fn task(subject: Subject) -> NewTask {
    NewTask {
        id: TaskId(draw_id()),
        kind: TaskKind::Noop,
        subject,
        payload: "{\"attempt\":1}".to_owned(),
        due_at: None,
        project: None,
        engine: None,
        priority: 0,
        max_failures: 3,
    }
}

/// Only tasks, to be drained.
pub fn enqueue(count: usize) -> Commit {
    let run = draw_run();
    let mut commit = create(&run);
    commit.tasks = (0..count).map(|_| task(Subject::new(SubjectKind::Run, &run))).collect();
    commit
}
