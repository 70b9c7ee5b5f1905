//! What keeps a ledger small and sound: retention in slices, and the check that finds what cannot be.

use domain::{
    commit::{Row, Subject, SubjectKind, Table, Then},
    task::NewTask,
    time::Timestamp,
};
use store::Retention;

use crate::support::{Build, Db, ack, at, change_run, child, commit, new_run, noop, on_both};

on_both!(
    what_is_old_goes_in_slices,
    keys_of_http_requests_go_earlier,
    unfinished_tasks_are_kept_however_old,
    what_has_ended_goes_from_behind_many_that_wait,
    a_sound_ledger_has_no_findings,
    damage_is_found,
);

fn retention(dedup: Timestamp, idempotency: Timestamp, tasks: Timestamp, slice: u32) -> Retention {
    Retention { dedup_before: dedup, idempotency_before: idempotency, tasks_before: tasks, slice }
}

async fn what_is_old_goes_in_slices(db: &mut Db) {
    for n in 0..10 {
        db.applied(commit().once("inbox:dev", &format!("k{n}")).task(noop(&format!("T{n}"))).at(at(n))).await;
    }
    for (n, task) in (0..).zip(db.claim(9).await) {
        db.applied(commit().ack(ack(&task, Then::Done)).at(at(n))).await;
    }

    let mut gone = Vec::new();
    loop {
        let slice = db.store.prune(&retention(at(4), at(0), at(7), 3)).await.unwrap();
        gone.push(slice);
        if slice == 0 {
            break;
        }
    }
    assert_eq!(gone, [3, 3, 3, 2, 0]);
    assert_eq!(db.rows("SELECT key FROM dedup ORDER BY key").await, ["k4", "k5", "k6", "k7", "k8", "k9"]);
    assert_eq!(db.rows("SELECT id FROM tasks ORDER BY id").await, ["T7", "T8", "T9"]);
}

async fn keys_of_http_requests_go_earlier(db: &mut Db) {
    for scope in ["http:token", "http", "httq:", "inbox:dev"] {
        db.applied(commit().once(scope, "old").at(at(10))).await;
        db.applied(commit().once(scope, "new").at(at(20))).await;
    }

    assert_eq!(db.store.prune(&retention(at(5), at(15), at(0), 100)).await.unwrap(), 1);
    assert_eq!(db.rows("SELECT count(*) FROM dedup").await, ["7"]);
    assert_eq!(db.store.find_answer("http:token", "old").await.unwrap(), None);
    assert_eq!(db.store.prune(&retention(at(15), at(0), at(0), 100)).await.unwrap(), 3);
    assert_eq!(
        db.rows("SELECT scope, key FROM dedup ORDER BY scope").await,
        ["http|new", "http:token|new", "httq:|new", "inbox:dev|new"]
    );
}

async fn unfinished_tasks_are_kept_however_old(db: &mut Db) {
    db.applied(commit().task(noop("leased")).task(noop("ready")).task(noop("dead"))).await;
    let held = db.claim(2).await;
    db.applied(commit().ack(ack(&held[0], Then::Dead { error: "broken".to_owned() }))).await;

    assert_eq!(db.store.prune(&retention(at(9999), at(9999), at(9999), 100)).await.unwrap(), 1);
    assert_eq!(db.rows("SELECT id, state FROM tasks ORDER BY id").await, ["leased|leased", "ready|ready"]);
}

async fn what_has_ended_goes_from_behind_many_that_wait(db: &mut Db) {
    for share in 0..45 {
        let waiting = |n| NewTask { due_at: Some(at(5000)), ..noop(&format!("A{share:02}{n:02}")) };
        db.applied((0..50).fold(commit(), |commit, n| commit.task(waiting(n)))).await;
    }
    for id in ["B", "C"] {
        db.applied(commit().task(noop(id))).await;
        let held = db.claim(1).await;
        db.applied(commit().ack(ack(&held[0], Then::Done)).at(at(1))).await;
    }

    let slice = retention(at(0), at(0), at(60), 1);
    for gone in [1, 1, 0, 0] {
        assert_eq!(db.store.prune(&slice).await.unwrap(), gone);
    }
    assert_eq!(db.rows("SELECT max(id), count(*) FROM tasks").await, ["A4449|2250"]);
}

async fn a_sound_ledger_has_no_findings(db: &mut Db) {
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
    db.applied(new_run("R1").row(child(Table::Gates, "G1", "open", "run:R1", 1)).task(noop("T1")).event("b")).await;
    db.applied(change_run("R1", 1).withdrawing(Subject::new(SubjectKind::Run, "R"), &[]).task(noop("T2"))).await;
    db.claim(1).await;
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn damage_is_found(db: &mut Db) {
    db.applied(new_run("R1").event("b").task(noop("T1")).task(noop("T2"))).await;
    db.applied(change_run("R1", 1)).await;
    let attempt = child(Table::Attempts, "run-R1-1", "running", "run:R1", 1);
    let attempt = Row { body: "{\"task\":\"T3\"}".to_owned(), ..attempt };
    db.applied(change_run("R1", 2).row(attempt).task(noop("T3"))).await;
    db.claim(2).await;
    db.execute("INSERT INTO budgets (id, spent, reserved) VALUES ('b', 0, 0)").await;

    // One event is a row on SQLite and a part of one on PostgreSQL.
    let first_event = match db.is_sqlite() {
        true => "DELETE FROM events WHERE version = 1 AND place = 0",
        false => "UPDATE event_batches SET place = 1, cause = NULL WHERE version = 1",
    };
    // What waits is a column on SQLite and a row on PostgreSQL, and so is what is held.
    let (task_ends, task_is_back, unknown_fence) = match db.is_sqlite() {
        true => (
            "UPDATE tasks SET state = 'withdrawn', finished_at = 1 WHERE id = 'T3'",
            "UPDATE tasks SET state = 'ready', finished_at = NULL WHERE id = 'T3'",
            "UPDATE tasks SET fence = 99999 WHERE fence IS NOT NULL",
        ),
        false => (
            "UPDATE task_rows SET state = 'withdrawn', finished_at = 1 WHERE id = 'T3'",
            "UPDATE task_rows SET state = 'open', finished_at = NULL WHERE id = 'T3'",
            "UPDATE claims SET number = 99999",
        ),
    };
    for (damage, repair) in [
        (first_event, None),
        ("UPDATE budgets SET spent = 5", Some("UPDATE budgets SET spent = 0")),
        ("UPDATE budgets SET reserved = 5", Some("UPDATE budgets SET reserved = 0")),
        (task_ends, Some(task_is_back)),
        (unknown_fence, None),
        ("UPDATE runs SET version = 2", None),
    ] {
        let before = db.store.check().await.unwrap().len();
        db.execute(damage).await;
        let findings = db.store.check().await.unwrap();
        assert!(findings.len() > before, "{damage}: {findings:?}");
        if let Some(repair) = repair {
            db.execute(repair).await;
        }
    }
    // PostgreSQL itself takes no such row.
    if db.is_sqlite() {
        db.execute("UPDATE runs SET body = '{'").await;
        let findings = db.store.check().await.unwrap();
        assert!(findings.contains(&"run R1 holds no JSON".to_owned()), "{findings:?}");
    }
}
