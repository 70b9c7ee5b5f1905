//! The queue: claims, fences, heartbeats, dead workers, retries, caps and fair shares.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    commit::{Ack, Committed, Subject, SubjectKind, Then},
    ids::{Fence, TaskId},
    task::{Lane, MAX_CRASHES, NewTask, TaskKind, TaskState},
    time::Timestamp,
};
use futures_util::future::join_all;
use store::{Beat, Claim, TaskQuery, queue::Caps};

use crate::support::{
    Build, Db, HOUR, NOON, ack, at, claim, commit, eventually, fence, ids, new_run, noop, on_both, task,
};

on_both!(
    tasks_are_claimed_by_priority_then_age_then_id,
    a_lane_is_claimed_by_itself,
    every_claim_has_a_fence_of_its_own_and_fences_grow,
    claims_at_once_never_take_one_task_twice,
    completing_and_claiming_is_one_step,
    acknowledgements_that_no_longer_count_are_named,
    an_acknowledgement_says_what_becomes_of_the_task,
    failures_are_counted_and_the_last_reason_kept,
    a_heartbeat_tells_held_from_fenced_and_unwanted,
    a_dead_workers_tasks_are_ready_again_under_new_fences,
    reaping_leaves_the_living_alone,
    a_task_that_kills_its_workers_is_marked,
    tasks_of_the_future_wait_until_they_are_promoted,
    waiting_tasks_are_withdrawn_and_leased_ones_told,
    withdrawing_spares_other_kinds_the_own_task_and_new_ones,
    what_has_begun_and_waits_is_told_to_stop_and_due_at_once,
    the_word_to_stop_outlives_every_lease_until_the_task_is_finished,
    whoever_waits_for_tasks_is_woken_by_one_that_is_told_to_stop,
    an_acknowledgement_that_does_not_count_spares_its_task_nothing,
    an_attempt_is_adopted_under_a_new_fence,
    leases_of_other_processes_are_listed,
    caps_hold_over_all_claims,
    projects_take_turns,
    claims_at_once_stay_within_the_caps,
    tasks_are_listed_newest_first_and_counted,
    whoever_waits_is_woken,
    a_task_that_contradicts_itself_is_corrupt,
);

fn urgent(id: &str, priority: i16, due_at: Timestamp) -> NewTask {
    NewTask { priority, due_at: Some(due_at), ..noop(id) }
}

fn engine(id: &str, project: Option<i64>, engine: &str) -> NewTask {
    NewTask { project, engine: Some(engine.to_owned()), ..task(id, TaskKind::ExecuteStep) }
}

async fn tasks_are_claimed_by_priority_then_age_then_id(db: &mut Db) {
    db.applied(
        commit()
            .task(urgent("d", 0, at(-5)))
            .task(urgent("c", 0, at(-9)))
            .task(urgent("b", 0, at(-5)))
            .task(urgent("a", 5, at(-99)))
            .task(urgent("e", -5, at(-1))),
    )
    .await;

    assert_eq!(ids(&db.claim(2).await), ["e", "c"]);
    let rest = db.claim(10).await;
    assert_eq!(ids(&rest), ["b", "d", "a"]);
    let TaskState::Leased { incarnation, until, .. } = &rest[0].state else { panic!("{:?}", rest[0].state) };
    assert_eq!((incarnation.as_str(), rest[0].stop), ("worker", false));
    assert!(*until > Timestamp::from_micros(0));
    assert!(db.claim(10).await.is_empty());
}

async fn a_lane_is_claimed_by_itself(db: &mut Db) {
    db.applied(commit().task(noop("fast")).task(engine("slow", None, "codex"))).await;

    assert_eq!(ids(&db.claim_as("w", Lane::Engine, 9).await), ["slow"]);
    assert_eq!(ids(&db.claim_as("w", Lane::Fast, 9).await), ["fast"]);
}

async fn every_claim_has_a_fence_of_its_own_and_fences_grow(db: &mut Db) {
    let mut last = 0;
    for round in 0..4 {
        let tasks = (0..5).fold(commit(), |commit, n| commit.task(noop(&format!("T{round}{n}"))));
        db.applied(tasks).await;
        let claimed = db.claim(5).await;
        for task in &claimed {
            assert!(fence(task).0 > last, "{} after {last}", fence(task));
            last = fence(task).0;
        }
        let reaped = db.reap("another", 2).await;
        assert_eq!(reaped.len(), 2);
        let again = db.claim(5).await;
        for task in &again {
            assert!(fence(task).0 > last, "{} after {last}", fence(task));
            last = fence(task).0;
        }
        let all: Vec<_> = claimed.iter().filter(|task| !reaped.contains(&task.id)).chain(&again).collect();
        assert_eq!(all.len(), 5);
        let done = all.iter().map(|task| ack(task, Then::Done)).collect();
        let worked = db.store.work(done, claim("worker", Lane::Fast, 0)).await.unwrap();
        assert_eq!((worked.fenced, worked.tasks), (vec![], vec![]));
    }
}

async fn claims_at_once_never_take_one_task_twice(db: &mut Db) {
    for batch in 0..4 {
        db.applied((0..100).fold(commit(), |commit, n| commit.task(noop(&format!("T{batch}-{n:03}"))))).await;
    }

    let store = &db.store;
    let claimers = (0..8).map(|who| async move {
        let mut mine = Vec::new();
        loop {
            let claim = claim(&format!("worker {who}"), Lane::Fast, 7);
            let tasks = store.work(Vec::new(), claim).await.unwrap().tasks;
            if tasks.is_empty() {
                return mine;
            }
            mine.extend(tasks);
        }
    });
    let claimed: Vec<_> = join_all(claimers).await.into_iter().flatten().collect();

    assert_eq!(claimed.len(), 400);
    assert_eq!(claimed.iter().map(|task| task.id.clone()).collect::<BTreeSet<_>>().len(), 400);
    assert_eq!(claimed.iter().map(fence).collect::<BTreeSet<_>>().len(), 400);
}

async fn completing_and_claiming_is_one_step(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2")).task(noop("T3"))).await;
    let first = db.claim(2).await;

    let done = first.iter().map(|task| ack(task, Then::Done)).collect();
    let worked = db.store.work(done, claim("worker", Lane::Fast, 2)).await.unwrap();

    assert_eq!((worked.fenced, ids(&worked.tasks)), (vec![], vec!["T3"]));
    assert_eq!((db.state("T1").await, db.state("T2").await), ("done", "done"));
}

async fn acknowledgements_that_no_longer_count_are_named(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2")).task(noop("T3"))).await;
    let held = db.claim(2).await;
    let wrong = Ack { fence: Fence(fence(&held[1]).0 + 1000), ..ack(&held[1], Then::Done) };
    let unknown = Ack { task: TaskId::from("T9"), ..ack(&held[0], Then::Done) };

    let done = vec![wrong.clone(), ack(&held[0], Then::Done), unknown.clone()];
    let worked = db.store.work(done, claim("worker", Lane::Fast, 0)).await.unwrap();

    assert_eq!(worked.fenced, [wrong, unknown]);
    assert_eq!((db.state("T1").await, db.state("T2").await, db.state("T3").await), ("done", "leased", "ready"));
}

async fn an_acknowledgement_says_what_becomes_of_the_task(db: &mut Db) {
    let names = ["T1", "T2", "T3", "T4", "T5"];
    db.applied(names.iter().fold(commit(), |commit, name| commit.task(noop(name)))).await;
    let held = db.claim(5).await;
    let thens = [
        Then::Done,
        Then::Dead { error: "broken".to_owned() },
        Then::Keep,
        Then::Again { due_at: at(-1), failed: None },
        Then::Again { due_at: at(600), failed: Some("later".to_owned()) },
    ];

    // Through a commit and through a batch, the same.
    for (task, then) in held.iter().zip(thens.clone()).take(2) {
        db.applied(commit().ack(ack(task, then)).at(at(30))).await;
    }
    let done = held.iter().zip(thens).skip(2).map(|(task, then)| ack(task, then)).collect();
    let worked = db.store.work(done, Claim { now: at(40), ..claim("worker", Lane::Fast, 0) }).await.unwrap();
    assert_eq!(worked.fenced, vec![]);

    let mut tasks = Vec::new();
    for name in names {
        let task = db.task(name).await;
        tasks.push((task.state.name(), task.due_at, task.failures, task.error));
    }
    assert_eq!(
        tasks,
        [
            ("done", NOON, 0, None),
            ("dead", NOON, 0, Some("broken".to_owned())),
            ("leased", NOON, 0, None),
            ("ready", at(-1), 0, None),
            ("scheduled", at(600), 1, Some("later".to_owned())),
        ]
    );
    assert_eq!(db.task("T1").await.state, TaskState::Done { at: at(30) });
    assert_eq!(fence(&db.task("T3").await), fence(&held[2]));
}

async fn failures_are_counted_and_the_last_reason_kept(db: &mut Db) {
    db.applied(commit().task(noop("T1"))).await;
    for (reason, failures) in [(Some("first"), 1), (Some("second"), 2), (None, 2)] {
        let held = db.claim(1).await;
        let then = Then::Again { due_at: at(-1), failed: reason.map(str::to_owned) };
        db.applied(commit().ack(ack(&held[0], then))).await;
        let task = db.task("T1").await;
        assert_eq!((task.failures, task.state.name()), (failures, "ready"));
    }
    let task = db.task("T1").await;
    assert_eq!((task.error.as_deref(), task.crashes, task.max_failures), (Some("second"), 0, 3));
}

async fn a_heartbeat_tells_held_from_fenced_and_unwanted(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2")).task(noop("T3")).task(noop("T4"))).await;
    let held = db.claim(3).await;
    let mut beats: Vec<_> = held.iter().map(|task| Beat { task: task.id.clone(), fence: fence(task) }).collect();
    beats.push(Beat { task: TaskId::from("T4"), fence: fence(&held[0]) });
    db.applied(commit().ack(ack(&held[0], Then::Done))).await;
    db.applied(commit().withdrawing(Subject::new(SubjectKind::Run, "R"), &[])).await;
    db.applied(commit().task(noop("T5"))).await;

    let heard = db.store.heartbeat(&beats, HOUR, at(10)).await.unwrap();

    assert_eq!(heard.fenced, [TaskId::from("T1"), TaskId::from("T4")]);
    assert_eq!(heard.stop, [TaskId::from("T2"), TaskId::from("T3")]);
    assert_eq!(heard.skipped, Vec::<TaskId>::new());
    assert!(heard.now > Timestamp::from_micros(0));
    let held = db.claim(1).await;
    let beat = Beat { task: held[0].id.clone(), fence: fence(&held[0]) };
    let heard = db.store.heartbeat(&[beat], HOUR * 2, at(10)).await.unwrap();
    assert_eq!((heard.fenced, heard.stop), (vec![], vec![]));
    let (TaskState::Leased { until: before, .. }, TaskState::Leased { until: after, .. }) =
        (&held[0].state, &db.task("T5").await.state)
    else {
        panic!("not leased");
    };
    assert!(after > before);
}

async fn a_dead_workers_tasks_are_ready_again_under_new_fences(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2"))).await;
    let dead = db.claim_as("dead", Lane::Fast, 2).await;

    assert_eq!(db.reap("alive", 1).await, [TaskId::from("T1")]);
    assert_eq!(db.reap("alive", 10).await, [TaskId::from("T2")]);
    assert!(db.reap("alive", 10).await.is_empty());

    let task = db.task("T1").await;
    assert_eq!((task.state.clone(), task.crashes, task.failures), (TaskState::Ready, 1, 0));
    let again = db.claim_as("alive", Lane::Fast, 2).await;
    assert_eq!(ids(&again), ["T1", "T2"]);
    let late = db.store.commit(new_run("R1").ack(ack(&dead[0], Then::Done))).await.unwrap();
    assert_eq!(late, Committed::Fenced);
    let late = db.store.work(vec![ack(&dead[1], Then::Done)], claim("dead", Lane::Fast, 0)).await.unwrap();
    assert_eq!(late.fenced.len(), 1);
    let beat = Beat { task: dead[0].id.clone(), fence: fence(&dead[0]) };
    assert_eq!(db.store.heartbeat(&[beat], HOUR, NOON).await.unwrap().fenced, [TaskId::from("T1")]);
    db.applied(new_run("R1").ack(ack(&again[0], Then::Done))).await;
}

async fn reaping_leaves_the_living_alone(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2"))).await;
    db.claim_as("alive", Lane::Fast, 1).await;
    db.claim_as("dead", Lane::Fast, 1).await;

    assert_eq!(db.reap("alive", 10).await, [TaskId::from("T2")]);
    assert_eq!(db.state("T1").await, "leased");
}

async fn a_task_that_kills_its_workers_is_marked(db: &mut Db) {
    db.applied(commit().task(noop("T1"))).await;
    for crashes in 0..MAX_CRASHES {
        let held = db.claim_as(&format!("victim {crashes}"), Lane::Fast, 1).await;
        assert_eq!((held[0].crashes, held[0].is_quarantined()), (crashes, false));
        assert_eq!(db.reap("survivor", 1).await.len(), 1);
    }

    let held = db.claim_as("survivor", Lane::Fast, 1).await;

    assert!(held[0].is_quarantined());
    db.applied(commit().ack(ack(&held[0], Then::Dead { error: "it kills its workers".to_owned() }))).await;
    assert_eq!(db.state("T1").await, "dead");
}

async fn tasks_of_the_future_wait_until_they_are_promoted(db: &mut Db) {
    let mut tasks = commit();
    for (id, seconds) in [("T3", 30), ("T1", 10), ("T2", 20), ("T4", 40)] {
        tasks = tasks.task(urgent(id, 0, at(seconds)));
    }
    db.applied(tasks).await;

    assert!(db.claim(9).await.is_empty());
    assert_eq!(db.store.promote(at(9), 10).await.unwrap(), (0, Some(at(10))));
    assert_eq!(db.store.promote(at(30), 2).await.unwrap(), (2, Some(at(30))));
    assert_eq!(ids(&db.claim(9).await), ["T1", "T2"]);
    assert_eq!(db.store.promote(at(30), 10).await.unwrap(), (1, Some(at(40))));
    assert_eq!(db.store.promote(at(40), 10).await.unwrap(), (1, None));
    assert_eq!(ids(&db.claim(9).await), ["T3", "T4"]);
    assert_eq!(db.task("T3").await.due_at, at(30));
}

async fn waiting_tasks_are_withdrawn_and_leased_ones_told(db: &mut Db) {
    db.applied(
        commit()
            .task(noop("leased"))
            .task(urgent("ready", 1, at(-1)))
            .task(urgent("scheduled", 0, at(99)))
            .task(NewTask { subject: Subject::new(SubjectKind::Protocol, "R"), ..noop("other kind") })
            .task(NewTask { subject: Subject::new(SubjectKind::Run, "R2"), ..noop("other run") }),
    )
    .await;
    let held = db.claim(1).await;
    assert_eq!(ids(&held), ["leased"]);

    db.applied(new_run("R").withdrawing(Subject::new(SubjectKind::Run, "R"), &[]).at(at(50))).await;

    assert_eq!(db.task("ready").await.state, TaskState::Withdrawn { at: at(50) });
    assert_eq!(db.task("scheduled").await.state, TaskState::Withdrawn { at: at(50) });
    let leased = db.task("leased").await;
    assert_eq!((leased.state.name(), leased.stop), ("leased", true));
    assert_eq!((db.state("other kind").await, db.state("other run").await), ("ready", "ready"));
    db.applied(commit().ack(ack(&held[0], Then::Done))).await;
    assert_eq!(db.state("leased").await, "done");
}

async fn withdrawing_spares_other_kinds_the_own_task_and_new_ones(db: &mut Db) {
    db.applied(
        commit()
            .task(noop("own"))
            .task(urgent("wanted", 1, at(-1)))
            .task(NewTask { priority: 2, ..task("expire", TaskKind::ExpireGate) })
            .task(NewTask { priority: 3, ..task("deliver", TaskKind::DeliverMessage) }),
    )
    .await;
    let held = db.claim(1).await;
    let again = Then::Again { due_at: at(-1), failed: None };

    let kinds = [TaskKind::ExpireGate, TaskKind::Noop];
    db.applied(
        new_run("R")
            .ack(ack(&held[0], again))
            .withdrawing(Subject::new(SubjectKind::Run, "R"), &kinds)
            .task(noop("new")),
    )
    .await;

    let mut states = Vec::new();
    for id in ["own", "wanted", "expire", "deliver", "new"] {
        states.push(db.state(id).await);
    }
    assert_eq!(states, ["ready", "withdrawn", "withdrawn", "ready", "ready"]);
}

async fn what_has_begun_and_waits_is_told_to_stop_and_due_at_once(db: &mut Db) {
    let names = ["leased", "again", "reaped", "untouched", "not begun"];
    let first = NewTask { priority: -1, ..noop("leased") };
    db.applied(names[1..].iter().fold(commit().task(first), |commit, name| commit.task(noop(name)))).await;
    let held = db.claim_as("dead", Lane::Fast, 5).await;
    let again = || Then::Again { due_at: at(600), failed: Some("away".to_owned()) };
    for task in held.iter().filter(|task| !["leased", "reaped"].contains(&task.id.as_str())) {
        db.applied(commit().ack(ack(task, again()))).await;
    }
    assert_eq!(db.reap("alive", 9).await, [TaskId::from("leased"), TaskId::from("reaped")]);
    db.claim_as("alive", Lane::Fast, 1).await;
    let due = [db.task("leased").await.due_at, db.task("reaped").await.due_at];

    let run = Subject::new(SubjectKind::Run, "R");
    let begun = ["leased", "again", "reaped", "another run's"];
    db.applied(
        commit()
            .withdrawing(run.clone(), &[TaskKind::ExpireGate])
            .begun(&["untouched"])
            .withdrawing(Subject::new(SubjectKind::Run, "R2"), &[])
            .at(at(40)),
    )
    .await;
    assert_eq!((db.state("untouched").await, db.state("again").await), ("scheduled", "scheduled"));
    // One withdrawal names what another would take back.
    let withdraw = commit().withdrawing(run.clone(), &[TaskKind::Noop]).withdrawing(run.clone(), &[]).begun(&begun);
    db.applied(withdraw.at(at(50))).await;

    let mut found = Vec::new();
    for name in names {
        let task = db.task(name).await;
        found.push((task.state.name(), task.stop, task.due_at));
    }
    let (taken, told) = (("withdrawn", false, at(600)), ("ready", true, at(50)));
    assert_eq!(found, [("leased", true, due[0]), told, ("ready", true, due[1]), taken, taken]);

    // Twice is once, also when the second time nobody names them.
    db.applied(commit().withdrawing(run, &[]).at(at(60))).await;
    assert_eq!((db.task("again").await.due_at, db.state("again").await), (at(50), "ready"));
    let claimed = db.claim(9).await;
    assert_eq!(claimed.iter().map(|task| task.stop).collect::<Vec<_>>(), [true, true]);
}

async fn the_word_to_stop_outlives_every_lease_until_the_task_is_finished(db: &mut Db) {
    db.applied(commit().task(noop("T1"))).await;
    let held = db.claim_as("dead", Lane::Fast, 1).await;
    db.applied(commit().withdrawing(Subject::new(SubjectKind::Run, "R"), &[])).await;
    assert_eq!(db.reap("alive", 9).await, ids(&held).into_iter().map(TaskId::from).collect::<Vec<_>>());

    // Through a reaped lease, an acknowledgement of its own, one in a batch, and an adoption.
    let again = || Then::Again { due_at: at(-1), failed: None };
    let told = db.claim(1).await;
    assert!(told[0].stop && told[0].crashes == 1);
    db.applied(commit().ack(ack(&told[0], again()))).await;
    let told = db.claim(1).await;
    let worked = db.store.work(vec![ack(&told[0], again())], claim("worker", Lane::Fast, 0)).await.unwrap();
    assert_eq!(worked.fenced, []);
    let told = db.claim(1).await;
    assert!(told[0].stop);
    let adopted = db.store.adopt(&told[0].id, fence(&told[0]), "after", HOUR).await.unwrap().unwrap();
    let beat = Beat { task: adopted.id.clone(), fence: fence(&adopted) };
    assert_eq!(db.store.heartbeat(&[beat], HOUR, at(10)).await.unwrap().stop, [TaskId::from("T1")]);
    let worked = db.store.work(vec![ack(&adopted, Then::Keep)], claim("after", Lane::Fast, 0)).await.unwrap();
    assert!(worked.fenced.is_empty() && db.task("T1").await.stop);

    db.applied(commit().ack(ack(&adopted, Then::Done)).task(noop("T2"))).await;
    let done = db.task("T1").await;
    assert_eq!((done.state.name(), done.stop), ("done", false));
    assert!(!db.claim(1).await[0].stop, "only what was told is told");
    assert!(db.store.check().await.unwrap().is_empty());
}

async fn whoever_waits_for_tasks_is_woken_by_one_that_is_told_to_stop(db: &mut Db) {
    db.applied(commit().task(noop("T1"))).await;
    let held = db.claim(1).await;
    let wake = db.store.wake();
    let far = Then::Again { due_at: at(600), failed: None };
    db.applied(commit().ack(ack(&held[0], far))).await;
    while tokio::time::timeout(std::time::Duration::from_millis(200), wake.tasks()).await.is_ok() {}

    db.applied(commit().withdrawing(Subject::new(SubjectKind::Run, "R"), &[]).begun(&["T1"])).await;

    let woken = tokio::time::timeout(std::time::Duration::from_secs(30), wake.tasks()).await;
    assert!(woken.is_ok(), "nobody was told");
}

async fn an_acknowledgement_that_does_not_count_spares_its_task_nothing(db: &mut Db) {
    for round in 0..20 {
        let id = format!("T{round:02}");
        db.applied(commit().task(noop(&id))).await;
        let held = db.claim(1).await;
        let again = Then::Again { due_at: at(600), failed: None };
        db.applied(commit().ack(ack(&held[0], again))).await;

        // Side by side, so that they may go in one batch, behind others.
        let subject = Subject::new(SubjectKind::Run, "another");
        let other =
            |n| commit().task(NewTask { subject: subject.clone(), ..engine(&format!("{id}-{n}"), None, "codex") });
        let late = commit().ack(ack(&held[0], Then::Done));
        let withdraw = commit().withdrawing(Subject::new(SubjectKind::Run, "R"), &[]).begun(&[&id]);
        let commits = (0..8).map(other).chain([late, withdraw]).map(|commit| db.store.commit(commit));
        let outcomes: Vec<_> = join_all(commits).await.into_iter().map(Result::unwrap).collect();

        assert_eq!(outcomes[8..], [Committed::Fenced, Committed::Applied { version: 0 }]);
        let told = db.claim(1).await;
        assert_eq!((ids(&told), told[0].stop), (vec![id.as_str()], true));
        db.applied(commit().ack(ack(&told[0], Then::Done))).await;
    }
}

async fn an_attempt_is_adopted_under_a_new_fence(db: &mut Db) {
    db.applied(commit().task(noop("T1"))).await;
    let held = db.claim_as("before", Lane::Fast, 1).await;
    let old = fence(&held[0]);
    let id = TaskId::from("T1");

    let adopted = db.store.adopt(&id, old, "after", HOUR).await.unwrap().unwrap();

    let TaskState::Leased { fence: new, incarnation, .. } = &adopted.state else { panic!("{:?}", adopted.state) };
    assert_eq!((incarnation.as_str(), adopted.crashes), ("after", 0));
    assert!(*new > old);
    assert_eq!(db.store.adopt(&id, old, "third", HOUR).await.unwrap(), None);
    assert_eq!(db.store.commit(new_run("R1").ack(ack(&held[0], Then::Done))).await.unwrap(), Committed::Fenced);
    db.applied(new_run("R1").ack(ack(&adopted, Then::Done))).await;
    assert_eq!(db.store.adopt(&id, *new, "third", HOUR).await.unwrap(), None);
}

async fn leases_of_other_processes_are_listed(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2")).task(noop("T3"))).await;
    db.claim_as("other", Lane::Fast, 1).await;
    db.claim_as("mine", Lane::Fast, 1).await;

    assert_eq!(ids(&db.store.list_leases("mine").await.unwrap()), ["T1"]);
    assert_eq!(ids(&db.store.list_leases("nobody").await.unwrap()), ["T1", "T2"]);
}

async fn caps_hold_over_all_claims(db: &mut Db) {
    let mut tasks = commit();
    for n in 0..4 {
        tasks = tasks
            .task(engine(&format!("a{n}"), Some(1), "codex"))
            .task(engine(&format!("b{n}"), Some(2), "claude"))
            .task(engine(&format!("c{n}"), None, "claude"));
    }
    db.applied(tasks).await;
    let capped = async |total, per_project, claude: Option<u32>| {
        let per_engine = claude.map(|cap| ("claude".to_owned(), cap)).into_iter().collect::<BTreeMap<_, _>>();
        let caps = Caps { total, per_project, per_engine };
        let claim = Claim { caps, ..claim("w", Lane::Engine, 9) };
        db.store.work(Vec::new(), claim).await.unwrap().tasks
    };

    assert_eq!(ids(&capped(Some(2), None, None).await), ["a0", "b0"]);
    assert!(capped(Some(2), None, None).await.is_empty());
    assert_eq!(ids(&capped(None, Some(1), Some(1)).await), Vec::<&str>::new());
    // Two more of claude, and they are of no project, which never had a turn; project 1 may have one more.
    let more = capped(None, Some(2), Some(3)).await;
    assert_eq!(ids(&more), ["c0", "c1", "a1"]);
    // The cap of projects does not concern tasks of no project; the total does.
    assert_eq!(ids(&capped(Some(6), Some(0), None).await), ["c2"]);
}

async fn projects_take_turns(db: &mut Db) {
    let mut tasks = commit();
    for n in 0..6 {
        tasks = tasks.task(engine(&format!("a{n}"), Some(1), "codex"));
    }
    tasks = tasks.task(engine("z1", Some(2), "codex")).task(engine("z2", Some(2), "codex"));
    db.applied(tasks).await;

    // One place at a time, each task finished before the next is claimed.
    let mut order = Vec::new();
    let mut done = Vec::new();
    for _ in 0..8 {
        let worked = db.store.work(done, claim("w", Lane::Engine, 1)).await.unwrap();
        done = worked.tasks.iter().map(|task| ack(task, Then::Done)).collect();
        order.extend(ids(&worked.tasks).iter().map(ToString::to_string));
    }
    assert_eq!(order, ["a0", "z1", "a1", "z2", "a2", "a3", "a4", "a5"]);
}

async fn claims_at_once_stay_within_the_caps(db: &mut Db) {
    db.applied((0..60).fold(commit(), |commit, n| commit.task(engine(&format!("T{n:02}"), Some(n % 5), "codex"))))
        .await;
    let caps = Caps { total: Some(12), per_project: Some(3), per_engine: BTreeMap::new() };

    let claims = (0..10).map(|who| {
        let claim = Claim { caps: caps.clone(), ..claim(&format!("w{who}"), Lane::Engine, 4) };
        db.store.work(Vec::new(), claim)
    });
    let claimed: Vec<_> = join_all(claims).await.into_iter().flat_map(|worked| worked.unwrap().tasks).collect();

    assert_eq!(claimed.len(), 12);
    let mut by_project = BTreeMap::new();
    for task in &claimed {
        *by_project.entry(task.project).or_insert(0) += 1;
    }
    assert!(by_project.values().all(|count| *count <= 3), "{by_project:?}");
}

async fn tasks_are_listed_newest_first_and_counted(db: &mut Db) {
    let mut tasks = commit();
    for n in 1..=6 {
        tasks = tasks.task(noop(&format!("T{n}")));
    }
    db.applied(tasks.task(task("T7", TaskKind::ExpireGate)).task(urgent("T8", 0, at(100)))).await;
    let held = db.claim(2).await;
    db.applied(commit().ack(ack(&held[0], Then::Done))).await;
    let list = async |states: &[&str], kinds: &[TaskKind], after: Option<&str>, limit| {
        let query = TaskQuery {
            states: states.iter().map(ToString::to_string).collect(),
            kinds: kinds.to_vec(),
            after: after.map(TaskId::from),
            limit,
        };
        let tasks = db.store.list_tasks(&query).await.unwrap();
        tasks.iter().map(|task| task.id.0.clone()).collect::<Vec<_>>()
    };

    assert_eq!(list(&[], &[], None, 3).await, ["T8", "T7", "T6"]);
    assert_eq!(list(&[], &[], Some("T6"), 3).await, ["T5", "T4", "T3"]);
    assert_eq!(list(&["done", "leased"], &[], None, 9).await, ["T2", "T1"]);
    assert_eq!(list(&["ready"], &[TaskKind::ExpireGate, TaskKind::RunJob], None, 9).await, ["T7"]);
    assert_eq!(list(&["ready"], &[TaskKind::Noop], Some("T5"), 9).await, ["T4", "T3"]);
    let counts = db.store.count_tasks().await.unwrap();
    let expected = [("done", 1), ("leased", 1), ("ready", 5), ("scheduled", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(counts.by_state.into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), expected);
    assert_eq!(counts.oldest_ready_at, Some(NOON));
}

async fn whoever_waits_is_woken(db: &mut Db) {
    let wake = db.store.wake();
    let (tasks, events) = (wake.clone(), wake);
    let tasks = host::task::spawn("waits for tasks", async move { tasks.tasks().await });
    let events = host::task::spawn("waits for events", async move { events.events().await });

    let number = std::sync::atomic::AtomicUsize::new(0);
    eventually("both are woken", async || {
        let n = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        db.applied(new_run(&format!("R{n}")).task(noop(&format!("T{n}")))).await;
        tasks.is_finished() && events.is_finished()
    })
    .await;
}

async fn a_task_that_contradicts_itself_is_corrupt(db: &mut Db) {
    for id in ["T1", "T2", "T3", "T4"] {
        db.applied(commit().task(noop(id))).await;
    }
    if db.is_sqlite() {
        db.execute("PRAGMA ignore_check_constraints = ON").await;
    } else {
        let checks =
            db.rows("SELECT conname FROM pg_constraint WHERE conrelid = 'task_rows'::regclass AND contype = 'c'").await;
        for check in checks {
            db.execute(&format!("ALTER TABLE task_rows DROP CONSTRAINT \"{check}\"")).await;
        }
        db.execute("ALTER DOMAIN task_state DROP CONSTRAINT task_state_check").await;
    }
    let tasks = db.tasks_table();
    db.execute(&format!("UPDATE {tasks} SET state = 'lost' WHERE id = 'T1'")).await;
    let held_by_nobody = match db.is_sqlite() {
        true => "UPDATE tasks SET state = 'leased' WHERE id = 'T2'",
        false => "DELETE FROM tasks_ready WHERE id = 'T2'",
    };
    db.execute(held_by_nobody).await;
    db.execute(&format!("UPDATE {tasks} SET kind = 'dance' WHERE id = 'T3'")).await;
    db.execute(&format!("UPDATE {tasks} SET finished_at = 5 WHERE id = 'T4'")).await;

    for (id, column) in [("T1", "state"), ("T2", "state"), ("T3", "kind"), ("T4", "state")] {
        let error = db.store.find_task(&TaskId::from(id)).await.unwrap_err();
        let store::StoreError::Corrupt { table: "tasks", id: found, reason } = &error else { panic!("{error:?}") };
        assert_eq!(found, id);
        assert!(reason.contains(column), "{reason}");
    }
}
