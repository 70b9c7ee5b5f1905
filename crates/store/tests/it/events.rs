//! The timeline: pages behind a cursor that never skips, filters, causes.

use std::collections::{BTreeMap, BTreeSet};

use domain::commit::{At, NewEvent, Subject, SubjectKind};
use futures_util::future::{join, join_all};
use store::{EventQuery, Order, StoreError};

use crate::support::{Build, Db, NOON, at, change_run, commit, event, eventually, everything, new_run, on, on_both};

on_both!(
    an_event_is_told_as_it_was_stored,
    pages_continue_behind_their_cursor,
    a_page_may_begin_and_end_within_a_commit,
    an_empty_page_has_a_cursor_to_wait_behind,
    events_are_filtered_by_what_they_are_about,
    the_newest_events_come_first_when_asked,
    a_cursor_of_another_database_is_refused,
    the_cause_of_a_version_is_kept,
    a_reader_behind_many_writers_misses_nothing,
);

async fn an_event_is_told_as_it_was_stored(db: &mut Db) {
    let mut first = new_run("R1").at(at(3));
    first.cause.actor = "user:dev:alice".to_owned();
    first.events = vec![
        NewEvent { kind: "a".to_owned(), schema: 4, data: "{\"x\":1}".to_owned(), project: Some(7), step: Some(8) },
        NewEvent { kind: "b".to_owned(), schema: 5, data: "[]".to_owned(), project: None, step: None },
    ];
    db.applied(first).await;

    let events = db.events(everything(), 2).await;
    let first = &events[0];
    assert_eq!(first.subject, Subject::new(SubjectKind::Run, "R1"));
    assert_eq!((first.version, first.place, first.kind.as_str(), first.schema), (1, 0, "a", 4));
    assert_eq!(
        (first.at, first.actor.as_str(), first.project, first.step),
        (at(3), "user:dev:alice", Some(7), Some(8))
    );
    assert_eq!(first.data, "{\"x\":1}");
    let second = &events[1];
    assert_eq!((second.place, second.kind.as_str(), second.schema, second.project), (1, "b", 5, None));
    assert!(second.id > first.id);
}

async fn pages_continue_behind_their_cursor(db: &mut Db) {
    for n in 0..11 {
        db.applied(new_run(&format!("R{n:02}")).event("more")).await;
    }
    assert_eq!(db.events(everything(), 22).await.len(), 22);

    let mut seen = Vec::new();
    let mut query = EventQuery { limit: 5, ..everything() };
    loop {
        let page = db.store.list_events(&query).await.unwrap();
        assert!(page.events.len() <= 5);
        seen.extend(page.events.iter().map(|event| format!("{}.{}", event.subject.id, event.place)));
        query.after = Some(page.next);
        if !page.more {
            break;
        }
    }
    let expected: Vec<_> = (0..11).flat_map(|n| [format!("R{n:02}.0"), format!("R{n:02}.1")]).collect();
    assert_eq!(seen, expected);
    // Behind an event's own cursor the next one follows.
    let page = db.store.list_events(&EventQuery { limit: 3, ..everything() }).await.unwrap();
    let behind = EventQuery { after: Some(page.events[1].cursor.clone()), limit: 1, ..everything() };
    assert_eq!(db.store.list_events(&behind).await.unwrap().events, page.events[2..]);
    let too_many = db.store.list_events(&EventQuery { limit: 501, ..everything() }).await;
    assert!(matches!(too_many, Err(StoreError::Rejected { .. })), "{too_many:?}");
}

async fn a_page_may_begin_and_end_within_a_commit(db: &mut Db) {
    let told = |n: i64| NewEvent { step: (n > 70).then_some(n / 10), data: n.to_string(), ..event("told") };
    let mut long = new_run("R1");
    long.events = (0..100).map(told).collect();
    db.applied(long).await;
    db.applied(new_run("R2")).await;
    let all = db.events(everything(), 101).await;
    let numbers: Vec<String> = all[..100].iter().map(|event| event.data.clone()).collect();
    assert_eq!(numbers, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));

    for limit in [1, 2, 7, 31, 32, 33, 99, 100, 101] {
        let mut query = EventQuery { limit, ..everything() };
        let mut seen = Vec::new();
        loop {
            let page = db.store.list_events(&query).await.unwrap();
            let length = u32::try_from(page.events.len()).unwrap();
            assert!(length == limit || !page.more, "{limit}: {length}");
            seen.extend(page.events);
            query.after = Some(page.next);
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, all, "{limit}");
        let newest = EventQuery { limit, order: Order::Descending, ..everything() };
        let newest = db.store.list_events(&newest).await.unwrap().events;
        assert!(newest.iter().eq(all.iter().rev().take(usize::try_from(limit).unwrap())), "{limit}");
    }
    // Each event's cursor leads to the next.
    for pair in all.windows(2) {
        let behind = EventQuery { after: Some(pair[0].cursor.clone()), limit: 1, ..everything() };
        assert_eq!(db.store.list_events(&behind).await.unwrap().events, pair[1..]);
    }
    let of_a_step = EventQuery { step: Some(8), ..everything() };
    assert_eq!(db.store.list_events(&of_a_step).await.unwrap().events, all[80..90]);
}

async fn an_empty_page_has_a_cursor_to_wait_behind(db: &mut Db) {
    let page = db.store.list_events(&everything()).await.unwrap();
    assert_eq!((page.events.len(), page.more), (0, false));

    db.applied(new_run("R1")).await;
    let behind = EventQuery { after: Some(page.next), ..everything() };
    assert_eq!(db.events(behind, 1).await.len(), 1);
    // What a filter leaves out is not read again, and what follows is found.
    let about = EventQuery { subject: Some(Subject::new(SubjectKind::Run, "R2")), ..everything() };
    let page = db.store.list_events(&about).await.unwrap();
    assert_eq!(page.events.len(), 0);
    db.applied(new_run("R2")).await;
    assert_eq!(db.events(EventQuery { after: Some(page.next), ..about }, 1).await.len(), 1);
}

async fn events_are_filtered_by_what_they_are_about(db: &mut Db) {
    let told = |mut commit: domain::commit::Commit, kind: &str, project, step| {
        commit.events = vec![NewEvent { project, step, ..event(kind) }];
        commit
    };
    db.applied(told(new_run("7"), "run", None, None)).await;
    db.applied(told(on(SubjectKind::Project, "7", At::New), "project", Some(7), None)).await;
    db.applied(told(on(SubjectKind::Protocol, "7", At::New), "protocol", Some(7), None)).await;
    db.applied(told(on(SubjectKind::Protocol, "7", At::Version(1)), "step", Some(7), Some(9))).await;
    db.applied(told(change_run("7", 1), "run again", Some(8), None)).await;
    db.events(everything(), 5).await;
    let kinds = async |query: EventQuery| {
        let events = db.store.list_events(&query).await.unwrap().events;
        events.into_iter().map(|event| event.kind).collect::<Vec<_>>()
    };

    let about = |kind| EventQuery { subject: Some(Subject::new(kind, "7")), ..everything() };
    assert_eq!(kinds(about(SubjectKind::Run)).await, ["run", "run again"]);
    assert_eq!(kinds(about(SubjectKind::Protocol)).await, ["protocol", "step"]);
    assert_eq!(kinds(EventQuery { project: Some(7), ..everything() }).await, ["project", "protocol", "step"]);
    assert_eq!(kinds(EventQuery { step: Some(9), ..everything() }).await, ["step"]);
    assert_eq!(kinds(EventQuery { project: Some(7), step: Some(8), ..everything() }).await, Vec::<String>::new());
    let two = EventQuery { kinds: vec![SubjectKind::Project, SubjectKind::Run], ..everything() };
    assert_eq!(kinds(two).await, ["run", "project", "run again"]);
    let narrow = EventQuery { project: Some(8), kinds: vec![SubjectKind::Run], ..about(SubjectKind::Run) };
    assert_eq!(kinds(narrow).await, ["run again"]);
}

async fn the_newest_events_come_first_when_asked(db: &mut Db) {
    for n in 0..5 {
        db.applied(new_run(&format!("R{n}"))).await;
    }
    db.events(everything(), 5).await;

    let newest = EventQuery { order: Order::Descending, limit: 3, ..everything() };
    let page = db.store.list_events(&newest).await.unwrap();
    let seen: Vec<_> = page.events.iter().map(|event| event.subject.id.as_str()).collect();
    assert_eq!((seen, page.more), (vec!["R4", "R3", "R2"], true));
    // Whoever has read the newest goes on from here.
    db.applied(new_run("R5")).await;
    let events = db.events(EventQuery { after: Some(page.next), ..everything() }, 1).await;
    assert_eq!(events.iter().map(|event| event.subject.id.as_str()).collect::<Vec<_>>(), ["R5"]);
    let backwards = EventQuery { after: Some(page.events[0].cursor.clone()), ..newest };
    assert!(matches!(db.store.list_events(&backwards).await, Err(StoreError::BadCursor)));
}

async fn a_cursor_of_another_database_is_refused(db: &mut Db) {
    db.applied(new_run("R1")).await;
    let cursor = db.events(everything(), 1).await[0].cursor.clone();
    let foreign = match cursor.chars().next() {
        Some('x') => format!("y{}", &cursor[1..]),
        _ => format!("x{}", &cursor[1..]),
    };

    for bad in [foreign.as_str(), "", ".", "1", &format!("{cursor}x"), &format!("{cursor}.1"), "' OR 1=1", "é.é"] {
        let result = db.store.list_events(&EventQuery { after: Some(bad.to_owned()), ..everything() }).await;
        assert!(matches!(result, Err(StoreError::BadCursor)), "{bad}: {result:?}");
    }
}

async fn the_cause_of_a_version_is_kept(db: &mut Db) {
    db.applied(new_run("R1").event("second")).await;
    let mut change = change_run("R1", 1);
    change.cause.command = "{\"type\":\"Cancel\"}".to_owned();
    change.cause.ids = "[\"a\"]".to_owned();
    let id = change.id.clone();
    db.applied(change).await;

    let run = Subject::new(SubjectKind::Run, "R1");
    let cause = db.store.find_cause(&run, 2).await.unwrap().unwrap();
    let cause: serde_json::Value = serde_json::from_str(&cause).unwrap();
    let expected = serde_json::json!({"commit": id.as_str(), "command": {"type": "Cancel"}, "ids": ["a"]});
    assert_eq!(cause, expected);
    assert_eq!(db.store.find_cause(&run, 3).await.unwrap(), None);
    assert_eq!(db.store.find_cause(&Subject::new(SubjectKind::Token, "R1"), 1).await.unwrap(), None);
}

async fn a_reader_behind_many_writers_misses_nothing(db: &mut Db) {
    const WRITERS: usize = 12;
    const COMMITS: i64 = 25;
    let store = db.store.clone();
    let finished = std::sync::atomic::AtomicBool::new(false);
    let writers = async {
        join_all((0..WRITERS).map(|writer| {
            let store = store.clone();
            async move {
                let id = format!("R{writer}");
                store.commit(new_run(&id).event("b").at(NOON)).await.unwrap();
                for version in 1..COMMITS {
                    store.commit(change_run(&id, version).event("b")).await.unwrap();
                    if version % 5 == 0 {
                        store.commit(commit()).await.unwrap();
                    }
                }
            }
        }))
        .await;
        finished.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let total = WRITERS * usize::try_from(COMMITS).unwrap() * 2;
    let seen = std::sync::Mutex::new(Vec::new());
    let reader = async {
        let after = std::sync::Mutex::new(None);
        eventually("every event is read", async || {
            let query = EventQuery { after: after.lock().unwrap().clone(), limit: 7, ..everything() };
            let page = store.list_events(&query).await.unwrap();
            *after.lock().unwrap() = Some(page.next);
            let mut seen = seen.lock().unwrap();
            seen.extend(page.events);
            finished.load(std::sync::atomic::Ordering::SeqCst) && seen.len() >= total
        })
        .await;
    };
    join(writers, reader).await;

    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), total);
    assert_eq!(seen.iter().map(|event| event.id).collect::<BTreeSet<_>>().len(), total);
    let mut last: BTreeMap<String, (i64, i16)> = BTreeMap::new();
    for event in &seen {
        let next = (event.version, event.place);
        if let Some(before) = last.insert(event.subject.id.clone(), next) {
            assert!(before < next, "{}: {before:?} before {next:?}", event.subject);
        }
    }
}
