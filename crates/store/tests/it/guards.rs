//! What crosses subjects: unique keys, held places, budgets.

use domain::commit::{Commit, Committed, Entry, Guard, Table};
use futures_util::future::join_all;

use crate::support::{Build, Db, child, commit, new_run, on_both};

on_both!(
    a_unique_key_is_held_for_ever_by_the_first,
    a_taken_key_is_named_although_a_row_is_taken_with_it,
    a_lock_has_as_many_places_as_it_says,
    places_are_never_given_twice,
    a_budget_refuses_what_goes_beyond_its_limit,
    a_budget_nobody_limited_is_unlimited,
    settling_gives_back_what_was_reserved,
    a_use_is_charged_once_to_each_budget,
    reservations_at_once_stay_within_the_limit,
    the_first_guard_that_refuses_is_named,
);

fn unique(key: &str, holder: &str) -> Guard {
    Guard::Unique { key: key.to_owned(), holder: holder.to_owned() }
}

fn hold(lock: &str, holder: &str, slots: u32) -> Guard {
    Guard::Hold { lock: lock.to_owned(), holder: holder.to_owned(), slots }
}

fn reserve(budget: &str, holder: &str, amount: i64) -> Guard {
    Guard::Reserve { budget: budget.to_owned(), holder: holder.to_owned(), amount }
}

fn release(lock: &str, holder: &str) -> Entry {
    Entry::Release { lock: lock.to_owned(), holder: holder.to_owned() }
}

fn limit(budget: &str, limit: Option<i64>) -> Entry {
    Entry::Limit { budget: budget.to_owned(), limit }
}

fn charge(budget: &str, session: &str, ordinal: i64, amount: i64) -> Entry {
    Entry::Charge { budget: budget.to_owned(), session: session.to_owned(), ordinal, amount }
}

fn settle(budget: &str, holder: &str) -> Entry {
    Entry::Settle { budget: budget.to_owned(), holder: holder.to_owned() }
}

async fn refused(db: &Db, commit: Commit) -> (Guard, String) {
    match db.store.commit(commit).await.unwrap() {
        Committed::Refused { guard, current } => (guard, current),
        other => panic!("not refused: {other:?}"),
    }
}

async fn a_unique_key_is_held_for_ever_by_the_first(db: &mut Db) {
    db.applied(new_run("R1").guard(unique("slot 9", "run:R1"))).await;

    for holder in ["run:R2", "run:R1"] {
        let guard = unique("slot 9", holder);
        assert_eq!(refused(db, new_run("R2").guard(guard.clone())).await, (guard, "run:R1".to_owned()));
    }
    db.applied(new_run("R2").guard(unique("slot 10", "run:R2"))).await;
}

async fn a_taken_key_is_named_although_a_row_is_taken_with_it(db: &mut Db) {
    let claim = |n: usize| {
        let id = format!("R{n}");
        let parent = format!("run:{id}");
        new_run(&id).row(child(Table::Gates, "G1", "open", &parent, 1)).guard(unique("account", &parent))
    };

    let outcomes = join_all((0..8).map(|n| db.store.commit(claim(n)))).await;

    let applied = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Committed::Applied { .. }))).count();
    let refused_ones = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Committed::Refused { .. }))).count();
    assert_eq!((applied, refused_ones), (1, 7), "{outcomes:?}");
    assert_eq!(refused(db, claim(9)).await.0, unique("account", "run:R9"));
}

async fn a_lock_has_as_many_places_as_it_says(db: &mut Db) {
    db.applied(commit().guard(hold("env:prod", "b", 2))).await;
    db.applied(commit().guard(hold("env:prod", "a", 2))).await;
    db.applied(commit().guard(hold("env:prod", "a", 1))).await;
    db.applied(commit().guard(hold("env:test", "c", 1))).await;

    let (guard, current) = refused(db, commit().guard(hold("env:prod", "c", 2))).await;
    assert_eq!((guard, current.as_str()), (hold("env:prod", "c", 2), "a, b"));
    db.applied(commit().entry(release("env:prod", "b")).entry(release("env:prod", "nobody"))).await;
    db.applied(commit().guard(hold("env:prod", "c", 2))).await;
    assert_eq!(
        db.rows("SELECT lock_name, holder FROM holds ORDER BY lock_name, holder").await,
        ["env:prod|a", "env:prod|c", "env:test|c"]
    );
}

async fn places_are_never_given_twice(db: &mut Db) {
    for round in 0..5 {
        let lock = format!("lock {round}");
        let outcomes =
            join_all((0..20).map(|n| db.store.commit(commit().guard(hold(&lock, &format!("holder {n}"), 3))))).await;

        let applied = outcomes.iter().filter(|o| matches!(o, Ok(Committed::Applied { .. }))).count();
        assert_eq!(applied, 3, "{outcomes:?}");
    }
    assert_eq!(db.rows("SELECT count(*) FROM holds").await, ["15"]);
}

async fn a_budget_refuses_what_goes_beyond_its_limit(db: &mut Db) {
    db.applied(commit().entry(limit("day", Some(100)))).await;
    db.applied(commit().entry(charge("day", "s", 1, 30))).await;
    db.applied(commit().guard(reserve("day", "r1", 40))).await;

    let (guard, current) = refused(db, commit().guard(reserve("day", "r2", 31))).await;
    assert_eq!((guard, current.as_str()), (reserve("day", "r2", 31), "spent 30, reserved 40, limit 100"));
    db.applied(commit().guard(reserve("day", "r2", 30))).await;
    let (_, current) = refused(db, commit().guard(reserve("day", "r1", 1))).await;
    assert_eq!(current, "spent 30, reserved 70, limit 100");
    db.applied(commit().entry(limit("day", Some(101)))).await;
    db.applied(commit().guard(reserve("day", "r1", 1))).await;
    assert_eq!(
        db.rows("SELECT budget, holder, amount FROM reservations ORDER BY holder").await,
        ["day|r1|41", "day|r2|30"]
    );
}

async fn a_budget_nobody_limited_is_unlimited(db: &mut Db) {
    db.applied(commit().guard(reserve("new", "r", i64::from(u32::MAX)))).await;
    db.applied(commit().entry(limit("loose", Some(1))).entry(limit("loose", None))).await;
    db.applied(commit().guard(reserve("loose", "r", 1_000_000))).await;

    assert_eq!(
        db.rows("SELECT id, limit_amount, spent, reserved FROM budgets ORDER BY id").await,
        ["loose|-|0|1000000", "new|-|0|4294967295"]
    );
}

async fn settling_gives_back_what_was_reserved(db: &mut Db) {
    db.applied(commit().entry(limit("day", Some(10))).guard(reserve("day", "r1", 0))).await;
    db.applied(commit().guard(reserve("day", "r1", 6)).guard(reserve("day", "r2", 3))).await;

    let done = commit().entry(charge("day", "s", 1, 2)).entry(settle("day", "r1")).entry(settle("day", "nobody"));
    db.applied(done).await;
    assert_eq!(db.rows("SELECT limit_amount, spent, reserved FROM budgets").await, ["10|2|3"]);
    db.applied(commit().entry(settle("day", "r1"))).await;
    assert_eq!(db.rows("SELECT limit_amount, spent, reserved FROM budgets").await, ["10|2|3"]);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn a_use_is_charged_once_to_each_budget(db: &mut Db) {
    for amount in [5, 7] {
        db.applied(commit().entry(charge("step", "s1", 1, amount)).entry(charge("day", "s1", 1, amount))).await;
    }
    db.applied(commit().entry(charge("day", "s1", 2, 1)).entry(charge("day", "s2", 1, 1))).await;

    assert_eq!(db.rows("SELECT id, spent FROM budgets ORDER BY id").await, ["day|7", "step|5"]);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn reservations_at_once_stay_within_the_limit(db: &mut Db) {
    db.applied(commit().entry(limit("day", Some(50)))).await;
    let outcomes =
        join_all((0..30).map(|n| db.store.commit(commit().guard(reserve("day", &format!("r{n}"), 7))))).await;

    let applied = outcomes.iter().filter(|o| matches!(o, Ok(Committed::Applied { .. }))).count();
    assert_eq!(applied, 7, "{outcomes:?}");
    assert_eq!(db.rows("SELECT spent, reserved FROM budgets").await, ["0|49"]);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn the_first_guard_that_refuses_is_named(db: &mut Db) {
    db.applied(commit().guard(unique("u", "me")).guard(hold("l", "me", 1)).entry(limit("b", Some(0)))).await;

    let three = || commit().guard(hold("l", "you", 1)).guard(reserve("b", "you", 1)).guard(unique("u", "you"));
    assert_eq!(refused(db, three()).await.0, hold("l", "you", 1));
    db.applied(commit().entry(release("l", "me"))).await;
    assert_eq!(refused(db, three()).await.0, reserve("b", "you", 1));
    db.applied(commit().entry(limit("b", None))).await;
    assert_eq!(refused(db, three()).await, (unique("u", "you"), "me".to_owned()));
    // The place and the reservation were given back with the refusal.
    assert_eq!(db.rows("SELECT count(*) FROM holds").await, ["0"]);
    assert_eq!(db.rows("SELECT reserved FROM budgets").await, ["0"]);
}
