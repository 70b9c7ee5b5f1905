//! Reads of rows: by id, by name, with children, page by page.

use std::collections::BTreeSet;

use domain::commit::{At, Row, Subject, SubjectKind, Table};
use futures_util::future::join_all;
use store::{Order, RowQuery};

use crate::support::{Build, Db, change_run, child, is_rejected, new_run, on, on_both};

on_both!(
    a_protocol_is_loaded_with_its_steps_and_gates,
    a_person_is_loaded_with_their_identities,
    ids_that_cannot_exist_find_nothing,
    a_list_goes_on_behind_its_last_row,
    a_list_is_narrowed_by_parent_and_status,
    a_name_finds_the_newest_row,
    numbers_are_never_drawn_twice,
    a_page_has_a_bound,
);

fn query(table: Table) -> RowQuery {
    RowQuery { table, parent: None, statuses: Vec::new(), order: Order::Ascending, after: None, limit: 100 }
}

fn ids(rows: &[store::StoredRow]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

async fn a_protocol_is_loaded_with_its_steps_and_gates(db: &mut Db) {
    db.applied(
        on(SubjectKind::Protocol, "12", At::New)
            .row(child(Table::Steps, "104", "pending", "12", 2))
            .row(child(Table::Steps, "99", "pending", "12", 2))
            .row(child(Table::Steps, "101", "pending", "12", 1))
            .row(child(Table::Gates, "G1", "open", "protocol:12", 1)),
    )
    .await;
    db.applied(on(SubjectKind::Protocol, "13", At::New).row(child(Table::Steps, "105", "pending", "13", 1))).await;
    db.applied(new_run("12").row(child(Table::Gates, "G2", "open", "run:12", 1))).await;

    let protocol = db.store.load(&Subject::new(SubjectKind::Protocol, &12)).await.unwrap().unwrap();
    assert_eq!(protocol.head.id, "12");
    assert_eq!(ids(&protocol.children), ["101", "99", "104", "G1"]);
    let run = db.store.load(&Subject::new(SubjectKind::Run, &12)).await.unwrap().unwrap();
    assert_eq!(ids(&run.children), ["G2"]);
    assert_eq!(db.store.load(&Subject::new(SubjectKind::Protocol, &14)).await.unwrap(), None);
}

async fn a_person_is_loaded_with_their_identities(db: &mut Db) {
    db.applied(
        on(SubjectKind::Person, "P1", At::New)
            .row(child(Table::Identities, "dev:alice", "linked", "person:P1", 0))
            .row(child(Table::Identities, "sms:+49", "linked", "person:P1", 0)),
    )
    .await;
    db.applied(on(SubjectKind::Person, "P2", At::New)).await;

    let person = db.store.load(&Subject::new(SubjectKind::Person, "P1")).await.unwrap().unwrap();
    assert_eq!(ids(&person.children), ["dev:alice", "sms:+49"]);
    let person = db.store.load(&Subject::new(SubjectKind::Person, "P2")).await.unwrap().unwrap();
    assert_eq!(person.children, []);
    assert_eq!(db.store.check().await.unwrap(), Vec::<String>::new());
}

async fn ids_that_cannot_exist_find_nothing(db: &mut Db) {
    db.applied(on(SubjectKind::Project, "7", At::New)).await;

    assert!(db.store.find_row(Table::Projects, "7").await.unwrap().is_some());
    for id in ["07", "+7", "7.0", "", "x", "8", "7 ", "99999999999999999999", "' OR 1=1 --"] {
        assert_eq!(db.store.find_row(Table::Projects, id).await.unwrap(), None, "{id}");
        assert_eq!(db.store.find_row(Table::Runs, id).await.unwrap(), None, "{id}");
        assert_eq!(db.store.load(&Subject::new(SubjectKind::Project, id)).await.unwrap(), None, "{id}");
    }
}

async fn a_list_goes_on_behind_its_last_row(db: &mut Db) {
    for (table, kind) in [(Table::Runs, SubjectKind::Run), (Table::Projects, SubjectKind::Project)] {
        // Ids 1 to 12, three on each ordinal: as numbers and as text they sort differently.
        for id in 1..=12_i64 {
            let mut commit = on(kind, &id.to_string(), At::New);
            commit.rows[0].ordinal = (id % 4) * 10;
            db.applied(commit).await;
        }
        for order in [Order::Ascending, Order::Descending] {
            let whole = db.store.list_rows(&RowQuery { order, ..query(table) }).await.unwrap();
            let mut expected: Vec<i64> = (1..=12).collect();
            expected.sort_by(|a, b| {
                let text = |id: &i64| if table == Table::Runs { id.to_string() } else { format!("{id:05}") };
                (a % 4, text(a)).cmp(&(b % 4, text(b)))
            });
            if order == Order::Descending {
                expected.reverse();
            }
            assert_eq!(ids(&whole), expected.iter().map(ToString::to_string).collect::<Vec<_>>());

            let mut paged = Vec::new();
            let mut after = None;
            loop {
                let page = RowQuery { order, after: after.clone(), limit: 5, ..query(table) };
                let page = db.store.list_rows(&page).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some((last.ordinal, last.id.clone()));
                paged.extend(page);
            }
            assert_eq!(paged, whole);
        }
    }
}

async fn a_list_is_narrowed_by_parent_and_status(db: &mut Db) {
    for (id, status, parent, ordinal) in [
        ("A", "Running", Some("job:x"), 1),
        ("B", "Failed", Some("job:x"), 2),
        ("C", "Running", Some("job:y"), 3),
        ("D", "Succeeded", None, 4),
        ("E", "Running", Some("job:x"), 5),
    ] {
        let mut commit = new_run(id);
        let parent = parent.map(str::to_owned);
        commit.rows[0] = Row { status: status.to_owned(), parent, ordinal, ..commit.rows[0].clone() };
        db.applied(commit).await;
    }
    let list = async |parent: Option<&str>, statuses: &[&str], after: Option<(i64, &str)>| {
        let query = RowQuery {
            parent: parent.map(str::to_owned),
            statuses: statuses.iter().map(ToString::to_string).collect(),
            after: after.map(|(ordinal, id)| (ordinal, id.to_owned())),
            ..query(Table::Runs)
        };
        let rows = db.store.list_rows(&query).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };

    assert_eq!(list(None, &[], None).await, ["A", "B", "C", "D", "E"]);
    assert_eq!(list(Some("job:x"), &[], None).await, ["A", "B", "E"]);
    assert_eq!(list(None, &["Failed", "Succeeded"], None).await, ["B", "D"]);
    assert_eq!(list(Some("job:x"), &["Running"], None).await, ["A", "E"]);
    assert_eq!(list(Some("job:x"), &["Running"], Some((1, "A"))).await, ["E"]);
    assert_eq!(list(None, &["Runn"], None).await, Vec::<String>::new());
}

async fn a_name_finds_the_newest_row(db: &mut Db) {
    for (id, parent, ordinal, name) in
        [("1", "1", 1, "0001-fix"), ("2", "1", 5, "0001-fix"), ("3", "2", 9, "0001-fix"), ("4", "1", 7, "0002-fix")]
    {
        let mut commit = on(SubjectKind::Protocol, id, At::New);
        let (parent, name) = (Some(parent.to_owned()), Some(name.to_owned()));
        commit.rows[0] = Row { parent, ordinal, name, ..commit.rows[0].clone() };
        db.applied(commit).await;
    }
    let find = async |parent, name| {
        let row = db.store.find_by_name(Table::Protocols, parent, name).await.unwrap();
        row.map(|row| row.id)
    };

    assert_eq!(find(None, "0001-fix").await.as_deref(), Some("3"));
    assert_eq!(find(Some("1"), "0001-fix").await.as_deref(), Some("2"));
    assert_eq!(find(Some("2"), "0002-fix").await, None);
    assert_eq!(find(None, "0001").await, None);
}

async fn numbers_are_never_drawn_twice(db: &mut Db) {
    let drawn = join_all((0..30).map(|_| db.store.next_number(Table::Protocols))).await;
    let drawn: BTreeSet<i64> = drawn.into_iter().map(Result::unwrap).collect();

    assert_eq!(drawn, (1..=30).collect());
    assert_eq!(db.store.next_number(Table::Steps).await.unwrap(), 1);
    let text = db.store.next_number(Table::Runs).await;
    assert!(is_rejected(&text), "{text:?}");
}

async fn a_page_has_a_bound(db: &mut Db) {
    db.applied(new_run("R1")).await;
    db.applied(change_run("R1", 1)).await;

    let too_many = db.store.list_rows(&RowQuery { limit: 501, ..query(Table::Runs) }).await;
    assert!(is_rejected(&too_many), "{too_many:?}");
    assert_eq!(db.store.list_rows(&RowQuery { limit: 500, ..query(Table::Runs) }).await.unwrap().len(), 1);
}
