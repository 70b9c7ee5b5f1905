//! Every statement with a different value in each column: a value bound in the wrong place shows in the wrong column.

use domain::{
    commit::{Ack, At, Cause, Commit, Dedup, Entry, Guard, NewEvent, Row, Subject, SubjectKind, Table, Then},
    ids::{CommitId, TaskId},
    task::{Lane, NewTask, TaskKind},
    time::Timestamp,
};
use store::Claim;

use crate::support::{Build, Db, HOUR, claim, commit, fence, on_both};

on_both!(
    each_value_of_a_commit_lands_in_its_column,
    each_value_of_a_change_lands_in_its_column,
    each_value_of_the_queue_lands_in_its_column,
);

fn micros(value: i64) -> Timestamp {
    Timestamp::from_micros(value)
}

fn a_row(table: Table, id: &str, status: &str, n: i64) -> Row {
    Row {
        table,
        id: id.to_owned(),
        status: status.to_owned(),
        parent: Some(format!("parent {n}")),
        ordinal: 1000 + n,
        name: Some(format!("name {n}")),
        body: format!("{{\"body\":{n}}}"),
    }
}

fn a_task(id: &str, n: i64, due: Option<i64>) -> NewTask {
    NewTask {
        id: TaskId::from(id),
        kind: TaskKind::RunJob,
        subject: Subject::new(SubjectKind::Catalog, &format!("about {n}")),
        payload: format!("payload {n}"),
        due_at: due.map(micros),
        project: Some(2000 + n),
        engine: Some(format!("engine {n}")),
        priority: i16::try_from(n).unwrap(),
        max_failures: 60 + u16::try_from(n).unwrap(),
    }
}

fn a_commit() -> Commit {
    Commit {
        id: CommitId::from("commit 1"),
        subject: Some((Subject::new(SubjectKind::Protocol, "31"), At::New)),
        cause: Cause {
            actor: "actor 1".to_owned(),
            command: "[\"command\"]".to_owned(),
            now: micros(41),
            ids: "[\"ids\"]".to_owned(),
            dedup: Some(Dedup {
                scope: "scope 1".to_owned(),
                key: "key 1".to_owned(),
                request_hash: "hash 1".to_owned(),
                answer: "answer 1".to_owned(),
            }),
        },
        ack: None,
        expects: Vec::new(),
        guards: vec![
            Guard::Unique { key: "unique 1".to_owned(), holder: "holder 1".to_owned() },
            Guard::Hold { lock: "lock 2".to_owned(), holder: "holder 2".to_owned(), slots: 3 },
            Guard::Reserve { budget: "budget 3".to_owned(), holder: "holder 3".to_owned(), amount: 303 },
        ],
        entries: vec![
            Entry::Limit { budget: "budget 4".to_owned(), limit: Some(404) },
            Entry::Charge { budget: "budget 5".to_owned(), session: "session 5".to_owned(), ordinal: 505, amount: 515 },
        ],
        rows: vec![
            a_row(Table::Protocols, "31", "planned", 1),
            a_row(Table::Steps, "32", "needs_qa", 2),
            a_row(Table::Identities, "identity", "whatever", 3),
            a_row(Table::Messages, "message", "unknown", 4),
        ],
        events: vec![
            NewEvent {
                kind: "kind 1".to_owned(),
                schema: 11,
                data: "[1]".to_owned(),
                project: Some(21),
                step: Some(22),
            },
            NewEvent { kind: "kind 2".to_owned(), schema: 12, data: "[2]".to_owned(), project: Some(23), step: None },
        ],
        tasks: vec![a_task("task 1", 1, None), a_task("task 2", 2, Some(40)), a_task("task 3", 3, Some(42))],
        withdraw: Vec::new(),
    }
}

async fn dump(db: &Db, what: &[&str]) -> Vec<String> {
    let mut all = db.everything().await;
    all.retain(|row| what.iter().any(|prefix| row.starts_with(prefix)));
    all
}

async fn each_value_of_a_commit_lands_in_its_column(db: &mut Db) {
    db.applied(a_commit()).await;

    assert_eq!(
        dump(db, &[""]).await,
        [
            "protocols|31|1|planned|parent 1|1001|name 1|{\"body\":1}|commit 1|41|41",
            "steps|32|1|needs_qa|parent 2|1002|name 2|{\"body\":2}|commit 1|41|41",
            "identities|identity|1|whatever|parent 3|1003|name 3|{\"body\":3}|commit 1|41|41",
            "messages|message|1|unknown|parent 4|1004|name 4|{\"body\":4}|commit 1|41|41",
            "event|protocol|31|1|0|kind 1|11|41|actor 1|21|22|[1]|\
             {\"commit\":\"commit 1\",\"command\":[\"command\"],\"ids\":[\"ids\"]}",
            "event|protocol|31|1|1|kind 2|12|41|actor 1|23|-|[2]|-",
            "task|task 1|run_job|engine|catalog|about 1|2001|engine 1|payload 1|1|ready|41|0|-|0|0|0|61|0|-|41|-",
            "task|task 2|run_job|engine|catalog|about 2|2002|engine 2|payload 2|2|ready|40|0|-|0|0|0|62|0|-|41|-",
            "task|task 3|run_job|engine|catalog|about 3|2003|engine 3|payload 3|3|scheduled|42|0|-|0|0|0|63|0|-|41|-",
            "dedup|scope 1|key 1|hash 1|answer 1|commit 1|41",
            "unique|unique 1|holder 1",
            "hold|lock 2|holder 2",
            "budget|budget 3|-|0|303",
            "budget|budget 4|404|0|0",
            "budget|budget 5|-|515|0",
            "reservation|budget 3|holder 3|303",
            "charge|session 5|505|budget 5|515|41",
        ]
    );
}

async fn each_value_of_a_change_lands_in_its_column(db: &mut Db) {
    db.applied(a_commit()).await;
    let mut change = Commit {
        id: CommitId::from("commit 2"),
        subject: Some((Subject::new(SubjectKind::Protocol, "31"), At::Version(1))),
        cause: Cause { now: micros(61), dedup: None, ..a_commit().cause },
        rows: vec![
            Row {
                status: "blocked".to_owned(),
                body: "{\"body\":51}".to_owned(),
                ..a_row(Table::Protocols, "31", "", 1)
            },
            Row { status: "failed".to_owned(), body: "{\"body\":52}".to_owned(), ..a_row(Table::Steps, "32", "", 2) },
            Row { parent: Some("parent 3".to_owned()), ..a_row(Table::Identities, "identity", "moved", 8) },
        ],
        guards: vec![Guard::Reserve { budget: "budget 3".to_owned(), holder: "holder 3".to_owned(), amount: 10 }],
        entries: vec![
            Entry::Release { lock: "lock 2".to_owned(), holder: "holder 2".to_owned() },
            Entry::Settle { budget: "budget 3".to_owned(), holder: "holder 3".to_owned() },
            Entry::Limit { budget: "budget 5".to_owned(), limit: Some(7) },
        ],
        ..commit()
    }
    .expecting(Table::Steps, "32", 1)
    .expecting(Table::Messages, "message", 1);
    change.expects.truncate(2);
    db.applied(change).await;

    assert_eq!(
        dump(db, &["protocols", "steps", "identities", "hold", "budget", "reservation"]).await,
        [
            "protocols|31|2|blocked|parent 1|1001|name 1|{\"body\":51}|commit 2|41|61",
            "steps|32|2|failed|parent 2|1002|name 2|{\"body\":52}|commit 2|41|61",
            "identities|identity|2|moved|parent 3|1008|name 8|{\"body\":8}|commit 2|41|61",
            "budget|budget 3|-|0|0",
            "budget|budget 4|404|0|0",
            "budget|budget 5|7|515|0",
        ]
    );

    // The head moves within its lists, too.
    db.applied(Commit {
        id: CommitId::from("commit 3"),
        subject: Some((Subject::new(SubjectKind::Protocol, "31"), At::Version(2))),
        cause: Cause { now: micros(71), dedup: None, ..a_commit().cause },
        rows: vec![a_row(Table::Protocols, "31", "completed", 9)],
        ..commit()
    })
    .await;
    assert_eq!(
        dump(db, &["protocols"]).await,
        ["protocols|31|3|completed|parent 9|1009|name 9|{\"body\":9}|commit 3|41|71"]
    );
}

async fn each_value_of_the_queue_lands_in_its_column(db: &mut Db) {
    let mut tasks = commit().at(micros(41));
    for n in 1..=5 {
        tasks = tasks.task(a_task(&format!("task {n}"), n, None));
    }
    db.applied(tasks).await;
    let first = Claim { now: micros(50), ..claim("incarnation 1", Lane::Engine, 4) };
    let held = db.store.work(Vec::new(), first).await.unwrap().tasks;
    assert_eq!(held.len(), 4);
    let acks: Vec<_> = held
        .iter()
        .zip([
            Then::Done,
            Then::Dead { error: "error 2".to_owned() },
            Then::Again { due_at: micros(777), failed: Some("error 3".to_owned()) },
        ])
        .map(|(task, then)| Ack { task: task.id.clone(), fence: fence(task), then })
        .collect();
    let second = Claim { now: micros(60), ..claim("incarnation 2", Lane::Engine, 1) };
    db.store.work(acks, second).await.unwrap();
    let kept = &held[3];
    let adopted = db.store.adopt(&kept.id, fence(kept), "incarnation 3", HOUR).await.unwrap();
    assert!(adopted.is_some());

    assert_eq!(
        dump(db, &["task"]).await,
        [
            "task|task 1|run_job|engine|catalog|about 1|2001|engine 1|payload 1|1|done|41|0|-|0|0|0|61|0|-|41|60",
            "task|task 2|run_job|engine|catalog|about 2|2002|engine 2|payload 2|2|dead|41|0|-|0|0|0|62|0|error 2|41|60",
            "task|task 3|run_job|engine|catalog|about 3|2003|engine 3|payload 3|3|scheduled|777|0|-|0|0|1|63|0|error 3|41|-",
            "task|task 4|run_job|engine|catalog|about 4|2004|engine 4|payload 4|4|leased|41|1|incarnation 3|1|0|0|64|0|-|41|-",
            "task|task 5|run_job|engine|catalog|about 5|2005|engine 5|payload 5|5|leased|41|1|incarnation 2|1|0|0|65|0|-|41|-",
        ]
    );

    db.applied(commit().task(a_task("task 6", 6, Some(999))).at(micros(41))).await;
    let withdraw = commit().withdrawing(Subject::new(SubjectKind::Catalog, "about 5"), &[TaskKind::RunJob]);
    let withdraw = withdraw.withdrawing(Subject::new(SubjectKind::Catalog, "about 6"), &[]).begun(&["task 6"]);
    db.applied(withdraw.withdrawing(Subject::new(SubjectKind::Catalog, "about 3"), &[]).at(micros(90))).await;
    assert_eq!(
        dump(db, &["task|task 3", "task|task 5", "task|task 6"]).await,
        [
            "task|task 3|run_job|engine|catalog|about 3|2003|engine 3|payload 3|3|withdrawn|777|0|-|0|0|1|63|0|error 3|41|90",
            "task|task 5|run_job|engine|catalog|about 5|2005|engine 5|payload 5|5|leased|41|1|incarnation 2|1|1|0|65|0|-|41|-",
            "task|task 6|run_job|engine|catalog|about 6|2006|engine 6|payload 6|6|ready|90|0|-|0|1|0|66|0|-|41|-",
        ]
    );
}
