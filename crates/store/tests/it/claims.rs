//! What PostgreSQL keeps of claims and of what waits, where nobody sees it through the store.

use std::time::Duration;

use domain::{
    commit::{Committed, Subject, SubjectKind, Then},
    task::{Lane, NewTask},
};

use crate::support::{
    Build, Db, NOON, ack, at, change_run, claim, commit, connect, eventually, fence, new_run, noop, run,
};

const MADE: &str = "SELECT (SELECT count(*) FROM tasks_ready), (SELECT count(*) FROM tasks_scheduled),
    (SELECT count(*) FROM claims), (SELECT count(*) FROM claim_ends)";

#[tokio::test]
async fn a_claim_goes_with_the_last_of_its_tasks_and_not_before() {
    run(Db::postgres().await, async |db| {
        db.applied(commit().task(noop("T1")).task(noop("T2")).task(noop("T3"))).await;
        let held = db.claim(3).await;
        assert_eq!(db.rows(MADE).await, ["0|0|1|0"]);

        db.applied(commit().ack(ack(&held[0], Then::Done))).await;
        let again = Then::Again { due_at: at(60), failed: None };
        let worked = db.store.work(vec![ack(&held[1], again)], claim("worker", Lane::Fast, 0)).await.unwrap();
        assert_eq!(worked.fenced, []);
        db.store.reap("worker", 10).await.unwrap();
        assert_eq!(db.rows(MADE).await, ["0|1|1|2"], "the third is still held");

        db.applied(commit().ack(ack(&held[2], Then::Done))).await;
        assert!(db.store.reap("worker", 10).await.unwrap().tasks.is_empty());
        assert_eq!(db.rows(MADE).await, ["0|1|0|0"]);
    })
    .await;
}

#[tokio::test]
async fn ends_of_a_claim_that_was_reaped_are_not_kept() {
    run(Db::postgres().await, async |db| {
        db.applied(commit().task(noop("T1")).task(noop("T2"))).await;
        let held = db.claim(2).await;
        db.applied(commit().ack(ack(&held[0], Then::Done))).await;

        assert_eq!(db.reap("another", 10).await, [held[1].id.clone()]);
        assert_eq!(db.rows(MADE).await, ["1|0|0|0"]);
    })
    .await;
}

const WAITS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// The lease of a task ends, in somebody's transaction, while another commit takes the tasks of its subject back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_comes_back_to_the_queue_while_it_is_withdrawn_is_withdrawn() {
    run(Db::postgres().await, async |db| {
        db.applied(commit().task(noop("T1"))).await;
        let held = db.claim(1).await;
        let other = connect(db.url()).await;
        let later = at(3600).as_micros();
        other
            .batch_execute(&format!(
                "BEGIN; UPDATE task_rows SET past_fence = {}, due_at = {later} WHERE id = 'T1';
                 INSERT INTO tasks_scheduled (due_at, id) VALUES ({later}, 'T1')",
                fence(&held[0]).0
            ))
            .await
            .unwrap();

        let store = db.store.clone();
        let withdraw = new_run("R").withdrawing(Subject::new(SubjectKind::Run, "R"), &[]).at(NOON);
        let committing = host::task::spawn("withdraw", async move { store.commit(withdraw).await });
        eventually("the withdrawal waits for the row", async || db.rows(WAITS).await == ["1"]).await;
        other.batch_execute("COMMIT").await.unwrap();

        let committed = committing.await.unwrap().unwrap();
        assert!(matches!(committed, Committed::Applied { .. }), "{committed:?}");
        assert_eq!(db.state("T1").await, "withdrawn");
        assert_eq!(db.rows("SELECT count(*) FROM tasks_scheduled").await, ["0"]);
        assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
    })
    .await;
}

const LONG: usize = 20_000;
/// Rows that were read of the queue's tables so far, whole tables or by an index.
const READ: &str = "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = ANY (names))
      + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = ANY (names))
    FROM (SELECT ARRAY['task_rows', 'tasks_ready', 'tasks_scheduled', 'claims'] AS names) AS queue";

/// Statements of these sessions have no nested loops to choose from, so that a join would read all that waits.
#[tokio::test]
async fn what_a_command_reads_of_the_queue_does_not_depend_on_its_length() {
    run(Db::postgres().await, async |db| {
        for start in (0..LONG).step_by(500) {
            let tasks = (start..start + 500).map(|n| noop(&format!("behind-{n:05}")));
            db.applied(tasks.fold(commit(), Build::task)).await;
        }
        db.execute("ANALYZE").await;
        let read = async || db.rows(READ).await[0].parse::<usize>().unwrap();
        let before = read().await;

        // A session tells what it read once a second at most, with the command that comes next.
        const ROUNDS: usize = 15;
        for n in 0..ROUNDS {
            let name = format!("R{n}");
            let subject = Subject::new(SubjectKind::Run, &name);
            let theirs = NewTask { subject: subject.clone(), ..noop(&format!("of-{name}")) };
            db.applied(new_run(&name).task(theirs)).await;
            db.applied(change_run(&name, 1).withdrawing(subject, &[])).await;
            assert_eq!(db.state(&format!("of-{name}")).await, "withdrawn");
            let held = db.claim(1).await;
            db.applied(commit().ack(ack(&held[0], Then::Done))).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }

        let rows = read().await - before;
        assert!(rows > 0 && rows < LONG / 2, "{ROUNDS} rounds read {rows} rows of the queue");
    })
    .await;
}
