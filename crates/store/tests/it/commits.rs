//! What becomes of a commit: applied as a whole, or refused for one reason and as if it had never been.

use domain::{
    commit::{Ack, At, Committed, Entry, Guard, Subject, SubjectKind, Table, Then},
    ids::{Fence, TaskId},
    task::TaskKind,
};
use futures_util::future::{join, join_all};
use store::{Order, RowQuery, StoreError};

use crate::support::{
    Build, Db, NOON, ack, at, change_run, child, commit, everything, is_rejected, new_run, noop, on, on_both, row, task,
};

on_both!(
    a_commit_stores_everything_it_brings,
    a_commit_raises_the_version_and_keeps_what_it_does_not_mention,
    a_repeated_key_is_answered_as_the_first_time,
    a_commit_on_anything_but_the_current_version_is_stale,
    what_was_believed_of_others_must_still_hold,
    a_commit_for_a_task_that_is_not_held_is_fenced,
    reasons_are_found_in_a_fixed_order,
    a_refused_commit_leaves_nothing_behind,
    what_must_be_new_and_is_taken_is_rejected,
    a_row_of_another_subject_is_not_taken_over,
    a_malformed_commit_is_rejected,
    a_nul_in_any_text_is_rejected,
    a_commit_without_a_subject_has_no_version,
    a_message_may_be_asked_for_without_a_subject,
    of_many_commits_on_one_version_one_is_applied,
    keys_taken_in_opposite_order_are_each_taken_once,
    a_poisoned_commit_harms_no_other,
    repeats_among_many_harm_no_other,
    charges_of_many_commits_to_one_budget_add_up,
);

async fn a_commit_stores_everything_it_brings(db: &mut Db) {
    let version = db
        .applied(
            new_run("R1")
                .row(child(Table::Gates, "G1", "open", "run:R1", 7))
                .row(child(Table::Attempts, "run-R1-1", "running", "run:R1", 1))
                .row(child(Table::Messages, "M1", "queued", "dev:alice", 9))
                .event("second")
                .task(noop("T1"))
                .once("inbox:dev", "K1"),
        )
        .await;

    assert_eq!(version, 1);
    let loaded = db.store.load(&Subject::new(SubjectKind::Run, "R1")).await.unwrap().unwrap();
    assert_eq!((loaded.head.version, loaded.head.status.as_str()), (1, "Running"));
    assert_eq!(loaded.head.created_at, NOON);
    assert_eq!(loaded.children.len(), 1);
    assert_eq!((loaded.children[0].id.as_str(), loaded.children[0].version), ("G1", 1));
    assert!(db.store.find_row(Table::Attempts, "run-R1-1").await.unwrap().is_some());
    assert!(db.store.find_row(Table::Messages, "M1").await.unwrap().is_some());
    assert_eq!(db.state("T1").await, "ready");
    assert_eq!(db.store.find_answer("inbox:dev", "K1").await.unwrap().unwrap().request_hash, "hash of K1");
    let events = db.events(everything(), 2).await;
    let told: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.version, event.place)).collect();
    assert_eq!(told, [("something_happened", 1, 0), ("second", 1, 1)]);
}

async fn a_commit_raises_the_version_and_keeps_what_it_does_not_mention(db: &mut Db) {
    db.applied(new_run("R1").row(child(Table::Gates, "G1", "open", "run:R1", 1)).row(child(
        Table::Gates,
        "G2",
        "open",
        "run:R1",
        2,
    )))
    .await;

    let mut change = change_run("R1", 1).row(child(Table::Gates, "G2", "approved", "run:R1", 3)).at(at(60));
    change.rows[0].ordinal = 44;
    change.rows[0].name = Some("named now".to_owned());
    assert_eq!(db.applied(change).await, 2);

    let loaded = db.store.load(&Subject::new(SubjectKind::Run, "R1")).await.unwrap().unwrap();
    assert_eq!((loaded.head.version, loaded.head.ordinal), (2, 44));
    assert_eq!(loaded.head.name.as_deref(), Some("named now"));
    assert_eq!((loaded.head.created_at, loaded.head.updated_at), (NOON, at(60)));
    let gates: Vec<_> = loaded
        .children
        .iter()
        .map(|gate| {
            (gate.id.as_str(), gate.version, gate.status.as_str(), gate.ordinal, gate.created_at, gate.updated_at)
        })
        .collect();
    assert_eq!(gates, [("G1", 1, "open", 1, NOON, NOON), ("G2", 2, "approved", 3, NOON, at(60))]);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn a_repeated_key_is_answered_as_the_first_time(db: &mut Db) {
    let first = new_run("R1").once("inbox:dev", "K1");
    let answer = first.cause.dedup.clone().unwrap().answer;
    db.applied(first).await;

    let again = db.store.commit(new_run("R2").once("inbox:dev", "K1").at(at(5))).await.unwrap();
    let Committed::Duplicate(stored) = again else { panic!("{again:?}") };
    assert_eq!((stored.answer, stored.at), (answer, NOON));
    assert!(db.store.find_row(Table::Runs, "R2").await.unwrap().is_none());
    // The same key of somebody else is another key.
    db.applied(new_run("R2").once("inbox:sms", "K1")).await;
}

async fn a_commit_on_anything_but_the_current_version_is_stale(db: &mut Db) {
    db.applied(new_run("R1")).await;
    db.applied(change_run("R1", 1)).await;

    let versions = [i64::MIN, -1, 0, 1, 3, i64::MAX].map(|version| change_run("R1", version));
    for stale in versions.into_iter().chain([new_run("R1"), change_run("R2", 1)]) {
        assert_eq!(db.store.commit(stale).await.unwrap(), Committed::Stale);
    }
    assert_eq!(db.store.find_row(Table::Runs, "R1").await.unwrap().unwrap().version, 2);
}

async fn what_was_believed_of_others_must_still_hold(db: &mut Db) {
    db.applied(on(SubjectKind::Person, "P1", At::New)).await;
    db.applied(on(SubjectKind::Project, "7", At::New)).await;

    let believing =
        |person, project| new_run("R1").expecting(Table::People, "P1", person).expecting(Table::Projects, "7", project);
    assert_eq!(db.store.commit(believing(2, 1)).await.unwrap(), Committed::Stale);
    assert_eq!(db.store.commit(believing(1, 2)).await.unwrap(), Committed::Stale);
    let missing = new_run("R1").expecting(Table::People, "P2", 1);
    assert_eq!(db.store.commit(missing).await.unwrap(), Committed::Stale);
    db.applied(believing(1, 1)).await;
}

async fn a_commit_for_a_task_that_is_not_held_is_fenced(db: &mut Db) {
    db.applied(commit().task(noop("T1")).task(noop("T2"))).await;
    let tasks = db.claim(1).await;
    let held = ack(&tasks[0], Then::Keep);

    let nobody = Ack { task: TaskId::from("T2"), ..held.clone() };
    let older = Ack { fence: Fence(held.fence.0 - 1), ..held.clone() };
    let unknown = Ack { task: TaskId::from("T9"), ..held.clone() };
    for ack in [nobody, older, unknown] {
        assert_eq!(db.store.commit(new_run("R1").ack(ack)).await.unwrap(), Committed::Fenced);
    }
    db.applied(new_run("R1").ack(held.clone())).await;
    db.applied(change_run("R1", 1).ack(Ack { then: Then::Done, ..held.clone() })).await;
    assert_eq!(db.state("T1").await, "done");
    assert_eq!(db.store.commit(change_run("R1", 2).ack(held)).await.unwrap(), Committed::Fenced);
}

async fn reasons_are_found_in_a_fixed_order(db: &mut Db) {
    db.applied(commit().once("s", "taken").guard(unique("u", "first"))).await;
    let lost = Ack { task: TaskId::from("T9"), fence: Fence(1), then: Then::Done };

    let wrong = || change_run("R9", 4).expecting(Table::People, "P9", 1).guard(unique("u", "second")).ack(lost.clone());
    let duplicate = db.store.commit(wrong().once("s", "taken")).await.unwrap();
    assert!(matches!(duplicate, Committed::Duplicate(_)));
    assert_eq!(db.store.commit(wrong().once("s", "free")).await.unwrap(), Committed::Fenced);
    let mut stale = wrong();
    stale.ack = None;
    assert_eq!(db.store.commit(stale).await.unwrap(), Committed::Stale);
}

fn unique(key: &str, holder: &str) -> Guard {
    Guard::Unique { key: key.to_owned(), holder: holder.to_owned() }
}

async fn a_refused_commit_leaves_nothing_behind(db: &mut Db) {
    db.applied(
        new_run("R1")
            .row(child(Table::Gates, "G1", "open", "run:R1", 1))
            .task(noop("T1"))
            .task(noop("T2"))
            .once("s", "taken")
            .guard(unique("u", "first"))
            .entry(Entry::Limit { budget: "b".to_owned(), limit: Some(5) }),
    )
    .await;
    let leased = db.claim(1).await;
    let before = db.everything().await;

    // Each would write something of every kind if it were applied, and is refused for one reason.
    let full = || {
        change_run("R1", 1)
            .row(child(Table::Gates, "G1", "approved", "run:R1", 9))
            .row(child(Table::Gates, "G2", "open", "run:R1", 2))
            .row(child(Table::Messages, "M1", "queued", "dev:alice", 1))
            .task(noop("T3"))
            .ack(ack(&leased[0], Then::Done))
            .withdrawing(Subject::new(SubjectKind::Run, "R"), &[])
            .guard(unique("u2", "me"))
            .guard(Guard::Hold { lock: "l".to_owned(), holder: "me".to_owned(), slots: 1 })
            .guard(Guard::Reserve { budget: "b".to_owned(), holder: "me".to_owned(), amount: 3 })
            .entry(Entry::Charge { budget: "b2".to_owned(), session: "x".to_owned(), ordinal: 1, amount: 4 })
    };
    let mut stale = full().once("s", "k1");
    stale.subject.as_mut().unwrap().1 = At::Version(2);
    let fenced = full().once("s", "k2").ack(Ack { fence: Fence(999), ..ack(&leased[0], Then::Done) });
    let refusals = [
        stale,
        fenced,
        full().once("s", "taken"),
        full().once("s", "k3").expecting(Table::Runs, "R1", 7),
        full().once("s", "k4").guard(unique("u", "second")),
        full().once("s", "k5").guard(Guard::Hold { lock: "l".to_owned(), holder: "other".to_owned(), slots: 1 }),
        full().once("s", "k6").guard(Guard::Reserve { budget: "b".to_owned(), holder: "me".to_owned(), amount: 3 }),
    ];
    for refused in refusals {
        let committed = db.store.commit(refused.clone()).await.unwrap();
        assert!(!matches!(committed, Committed::Applied { .. }), "{refused:?}");
        assert_eq!(db.everything().await, before, "{committed:?}");
    }
    for rejected in [
        full().once("s", "k7").task(noop("T2")),
        full().once("s", "k8").row(child(Table::Gates, "G3", "ajar", "run:R1", 1)),
        full().once("s", "k9").row(child(Table::Attempts, "run-R1-1", "running", "run:R1", 1)).row(row(
            Table::Runs,
            "R2",
            "Running",
        )),
    ] {
        let result = db.store.commit(rejected).await;
        assert!(is_rejected(&result), "{result:?}");
        assert_eq!(db.everything().await, before);
    }
    db.applied(full().once("s", "k10")).await;
}

async fn what_must_be_new_and_is_taken_is_rejected(db: &mut Db) {
    let named = |id: &str, name: &str| {
        let mut message = child(Table::Messages, id, "queued", "dev:alice", 1);
        message.name = Some(name.to_owned());
        message
    };
    db.applied(new_run("R1").task(noop("T1")).row(named("M1", "key-1"))).await;
    let mut token = on(SubjectKind::Token, "K1", At::New);
    token.rows[0].name = Some("hash".to_owned());
    db.applied(token.clone()).await;
    token.rows[0].id = "K2".to_owned();
    token.subject = Some((Subject::new(SubjectKind::Token, "K2"), At::New));

    for taken in [
        change_run("R1", 1).task(noop("T1")),
        change_run("R1", 1).task(noop("T2")).task(noop("T2")),
        change_run("R1", 1).row(named("M1", "key-2")),
        token,
    ] {
        let result = db.store.commit(taken).await;
        assert!(is_rejected(&result), "{result:?}");
    }
    db.applied(change_run("R1", 1).task(noop("T2")).row(named("M2", "key-2"))).await;
}

async fn a_row_of_another_subject_is_not_taken_over(db: &mut Db) {
    db.applied(new_run("R1").row(child(Table::Gates, "G1", "open", "run:R1", 1))).await;

    let result = db.store.commit(new_run("R2").row(child(Table::Gates, "G1", "approved", "run:R2", 1))).await;

    assert!(is_rejected(&result), "{result:?}");
    assert_eq!(db.store.find_row(Table::Gates, "G1").await.unwrap().unwrap().status, "open");
    assert!(db.store.find_row(Table::Runs, "R2").await.unwrap().is_none());
}

async fn a_malformed_commit_is_rejected(db: &mut Db) {
    let mut no_head = new_run("R1");
    no_head.rows.clear();
    let mut other_head = new_run("R1");
    other_head.rows[0].id = "R2".to_owned();
    let mut bad_body = new_run("R1");
    bad_body.rows[0].body = "{".to_owned();
    let mut bad_status = new_run("R1");
    bad_status.rows[0].status = "Dancing".to_owned();
    let mut long_key = new_run("R1").once("s", &"k".repeat(501));
    let mut long_scope = new_run("R1").once(&"s".repeat(201), "k");
    long_key.cause.actor = "a".to_owned();
    long_scope.cause.actor = "a".to_owned();
    for malformed in [
        no_head,
        other_head,
        bad_body,
        bad_status,
        long_key,
        long_scope,
        commit().event("nobody's"),
        commit().row(child(Table::Gates, "G1", "open", "run:R1", 1)),
        new_run("R1").row(row(Table::People, "P1", "active")),
        new_run("R1").row(child(Table::Gates, "G", "open", "run:R1", 1)).row(child(
            Table::Gates,
            "G",
            "open",
            "run:R1",
            2,
        )),
        on(SubjectKind::Project, "seven", At::New),
        on(SubjectKind::Project, "07", At::New),
        on(SubjectKind::Project, "-7", At::New),
        new_run("R1").expecting(Table::Projects, "x", 1),
        new_run("R1").guard(Guard::Reserve { budget: "b".to_owned(), holder: "h".to_owned(), amount: -1 }),
        new_run("R1").task(noop("")),
    ] {
        let result = db.store.commit(malformed.clone()).await;
        assert!(is_rejected(&result), "{result:?} for {malformed:?}");
    }
    assert_eq!(db.everything().await, Vec::<String>::new());
}

async fn a_nul_in_any_text_is_rejected(db: &mut Db) {
    const BAD: &str = "a\0b";
    let bad = || BAD.to_owned();
    let mut commits = vec![
        new_run(BAD),
        new_run("R1").row(child(Table::Gates, BAD, "open", "run:R1", 1)),
        new_run("R1").row(child(Table::Gates, "G1", "open", BAD, 1)),
        new_run("R1").event(BAD),
        new_run("R1").task(noop(BAD)),
        new_run("R1").once(BAD, "k"),
        new_run("R1").once("s", BAD),
        new_run("R1").expecting(Table::People, BAD, 1),
        new_run("R1").guard(unique(BAD, "h")),
        new_run("R1").guard(unique("k", BAD)),
        new_run("R1").guard(Guard::Hold { lock: bad(), holder: "h".to_owned(), slots: 1 }),
        new_run("R1").entry(Entry::Release { lock: "l".to_owned(), holder: bad() }),
        new_run("R1").entry(Entry::Limit { budget: bad(), limit: None }),
        new_run("R1").entry(Entry::Charge { budget: "b".to_owned(), session: bad(), ordinal: 1, amount: 1 }),
        new_run("R1").entry(Entry::Settle { budget: "b".to_owned(), holder: bad() }),
        new_run("R1").withdrawing(Subject::new(SubjectKind::Run, BAD), &[]),
        new_run("R1").ack(Ack { task: TaskId::from(BAD), fence: Fence(1), then: Then::Done }),
        new_run("R1").ack(Ack { task: TaskId::from("T"), fence: Fence(1), then: Then::Dead { error: bad() } }),
    ];
    let change: [fn(&mut domain::commit::Commit); 8] = [
        |commit| commit.cause.actor = BAD.to_owned(),
        |commit| commit.cause.command = BAD.to_owned(),
        |commit| commit.cause.ids = BAD.to_owned(),
        |commit| commit.rows[0].body = "\"a\0b\"".to_owned(),
        |commit| commit.rows[0].name = Some(BAD.to_owned()),
        |commit| commit.events[0].data = BAD.to_owned(),
        |commit| commit.tasks[0].payload = BAD.to_owned(),
        |commit| commit.tasks[0].engine = Some(BAD.to_owned()),
    ];
    for change in change {
        let mut commit = new_run("R1").task(noop("T1"));
        change(&mut commit);
        commits.push(commit);
    }
    for commit in commits {
        let result = db.store.commit(commit.clone()).await;
        assert!(is_rejected(&result), "{result:?} for {commit:?}");
    }
    assert_eq!(db.everything().await, Vec::<String>::new());
}

async fn a_commit_without_a_subject_has_no_version(db: &mut Db) {
    assert_eq!(db.applied(commit().once("s", "k").task(noop("T1"))).await, 0);
    let tasks = db.claim(1).await;

    assert_eq!(db.applied(commit().ack(ack(&tasks[0], Then::Done))).await, 0);
    assert_eq!(db.state("T1").await, "done");
}

async fn a_message_may_be_asked_for_without_a_subject(db: &mut Db) {
    db.applied(commit().row(child(Table::Messages, "M1", "queued", "dev:alice", 5))).await;

    let message = db.store.find_row(Table::Messages, "M1").await.unwrap().unwrap();
    assert_eq!(message.version, 1);
    let mut sent = on(SubjectKind::Message, "M1", At::Version(1));
    sent.rows[0] = child(Table::Messages, "M1", "sent", "dev:alice", 5);
    assert_eq!(db.applied(sent).await, 2);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn of_many_commits_on_one_version_one_is_applied(db: &mut Db) {
    db.applied(new_run("R1")).await;
    for version in 1..=8 {
        let outcomes = join_all((0..24).map(|_| db.store.commit(change_run("R1", version)))).await;

        let applied = outcomes.iter().filter(|o| matches!(o, Ok(Committed::Applied { .. }))).count();
        let stale = outcomes.iter().filter(|o| matches!(o, Ok(Committed::Stale))).count();
        assert_eq!((applied, stale), (1, 23));
    }
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn keys_taken_in_opposite_order_are_each_taken_once(db: &mut Db) {
    let applied =
        |outcome: &Result<Committed, StoreError>| usize::from(matches!(outcome, Ok(Committed::Applied { .. })));
    for round in 0..40 {
        let take = |key: &str, who: &str| {
            Box::pin(db.store.commit(new_run(&format!("{key}{round}{who}")).once("s", &format!("{key}{round}"))))
        };
        // Both at once, in opposite order, so that they land in one batch or in two that overlap.
        let ((a1, b1), (b2, a2)) =
            join(join(take("A", "x"), take("B", "x")), join(take("B", "y"), take("A", "y"))).await;

        assert_eq!((applied(&a1) + applied(&a2), applied(&b1) + applied(&b2)), (1, 1), "{a1:?} {a2:?} {b1:?} {b2:?}");
        for outcome in [a1, a2, b1, b2] {
            assert!(matches!(outcome, Ok(Committed::Applied { .. } | Committed::Duplicate(_))), "{outcome:?}");
        }
    }
}

async fn a_poisoned_commit_harms_no_other(db: &mut Db) {
    db.applied(commit().task(noop("taken"))).await;
    let commits = (0..120).map(|n| {
        let mut commit =
            new_run(&format!("R{n}")).once("s", &format!("k{n}")).task(task(&format!("T{n}"), TaskKind::Noop));
        match n % 10 {
            3 => commit.rows[0].status = "Dancing".to_owned(),
            6 => commit.tasks[0].id = TaskId::from("taken"),
            _ => {}
        }
        db.store.commit(commit)
    });
    let outcomes = join_all(commits).await;

    for (n, outcome) in outcomes.iter().enumerate() {
        match n % 10 {
            3 | 6 => assert!(is_rejected(outcome), "{n}: {outcome:?}"),
            _ => assert_eq!(outcome.clone().unwrap(), Committed::Applied { version: 1 }, "{n}"),
        }
    }
    assert_eq!(db.rows("SELECT count(*) FROM runs").await, ["96"]);
    assert_eq!(db.rows("SELECT count(*) FROM dedup").await, ["96"]);
    assert_eq!(db.rows("SELECT count(*) FROM tasks").await, ["97"]);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

/// More than once, because a store may look closer after it has met a repeat.
async fn repeats_among_many_harm_no_other(db: &mut Db) {
    for round in 0..3 {
        db.applied(new_run(&format!("R{round}")).once("first", &format!("K{round}"))).await;
        let commits = (0..80).map(|n| match n % 16 {
            7 => (true, new_run(&format!("A{round}-{n}")).once("first", &format!("K{round}"))),
            _ => (false, new_run(&format!("B{round}-{n}")).once("others", &format!("K{round}-{n}"))),
        });
        let outcomes = join_all(commits.map(async |(is_repeat, commit)| (is_repeat, db.store.commit(commit).await)));
        for (is_repeat, outcome) in outcomes.await {
            match (is_repeat, outcome.unwrap()) {
                (true, Committed::Duplicate(stored)) => assert_eq!(stored.request_hash, format!("hash of K{round}")),
                (false, Committed::Applied { version: 1 }) => {}
                (_, other) => panic!("repeat: {is_repeat}, {other:?}"),
            }
        }
    }
    let all = RowQuery {
        table: Table::Runs,
        parent: None,
        statuses: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 500,
    };
    assert_eq!(db.store.list_rows(&all).await.unwrap().len(), 3 + 3 * 75);
}

async fn charges_of_many_commits_to_one_budget_add_up(db: &mut Db) {
    let charge = |n: i64, session: &str, ordinal: i64| {
        new_run(&format!("R{n}"))
            .entry(Entry::Charge {
                budget: "day".to_owned(),
                session: session.to_owned(),
                ordinal,
                amount: 10 + ordinal,
            })
            .entry(Entry::Charge { budget: "step".to_owned(), session: session.to_owned(), ordinal, amount: 1 })
    };
    // Each use is told twice, from two commits at once.
    let commits = (0..60).map(|n| db.store.commit(charge(n, "session", n / 2)));
    for outcome in join_all(commits).await {
        assert_eq!(outcome.unwrap(), Committed::Applied { version: 1 });
    }

    let expected: i64 = (0..30).map(|ordinal| 10 + ordinal).sum();
    assert_eq!(
        db.rows("SELECT id, spent, reserved FROM budgets ORDER BY id").await,
        [format!("day|{expected}|0"), "step|30|0".to_owned()]
    );
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}
