//! The operation that is measured, as the commits of one caller on one run.

use std::sync::atomic::{AtomicI64, Ordering};

use domain::{
    commit::{At, Cause, Commit, Dedup, NewEvent, Row, Subject, SubjectKind, Table},
    ids::{CommitId, TaskId},
    task::{NewTask, TaskKind},
    time::Timestamp,
};

static NUMBER: AtomicI64 = AtomicI64::new(0);

/// A fresh id in the shape of a UUIDv7: ascending, like real ones. Written digit by digit, because what makes the load
/// shares the cores with what is measured.
pub fn draw_id() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).cast_unsigned();
    let micros = host::clock::now_micros().cast_unsigned();
    let bits = (u128::from(micros / 1000) << 80)
        | (0x7 << 76)
        | (u128::from(micros % 1000) << 64)
        | (0x8 << 60)
        | (u128::from(number & 0xfff) << 48)
        | u128::from(number & 0xffff_ffff_ffff);
    let mut id = String::with_capacity(36);
    for place in (0..32u32).rev() {
        if matches!(place, 23 | 19 | 15 | 11) {
            id.push('-');
        }
        id.push(char::from(b"0123456789abcdef"[usize::try_from((bits >> (4 * place)) & 0xf).unwrap_or(0)]));
    }
    id
}

/// About 220 bytes of JSON.
pub fn payload(run: &str, version: i64) -> String {
    let mut payload = String::with_capacity(256);
    for part in [
        "{\"run\":\"",
        run,
        "\",\"version\":",
        &version.to_string(),
        ",\"job\":\"deploy\",\"parameters\":{\"env\":\"prod\",\"region\":\"eu-1\"},\"requested_by\":\"person-0192f0c1\",\
         \"digest\":\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\",\"reason\":\"release\"}",
    ] {
        payload.push_str(part);
    }
    payload
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

fn empty(run: &str, at: At, status: &str, body: String) -> Commit {
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
            body,
        }],
        events: Vec::new(),
        tasks: Vec::new(),
        withdraw: Vec::new(),
    }
}

/// Creates a run.
pub fn create(run: &str) -> Commit {
    empty(run, At::New, "AwaitingApproval", payload(run, 1))
}

/// A whole decision on a run that is at this version.
pub fn decide(run: &str, version: i64) -> Commit {
    let body = payload(run, version + 1);
    let mut commit = empty(run, At::Version(version), "Dispatching", body.clone());
    for kind in ["RunApproved", "ExecutionDispatched"] {
        commit.events.push(NewEvent {
            kind: kind.to_owned(),
            schema: 1,
            data: body.clone(),
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
        body,
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
