use domain::{
    commit::{At, Cause, Commit, Committed, NewEvent, Row, Subject, SubjectKind, Table},
    ids::CommitId,
    time::Timestamp,
};
use futures_util::future::join_all;

use super::*;
use crate::sqlite::SqliteStore;

fn new_run(id: &str, bytes: usize) -> Commit {
    Commit {
        id: CommitId(format!("commit of {id}")),
        subject: Some((Subject::new(SubjectKind::Run, id), At::New)),
        cause: Cause {
            actor: "system".to_owned(),
            command: "{}".to_owned(),
            now: Timestamp::from_micros(1),
            ids: "{}".to_owned(),
            dedup: None,
        },
        ack: None,
        expects: Vec::new(),
        guards: Vec::new(),
        entries: Vec::new(),
        rows: vec![Row {
            table: Table::Runs,
            id: id.to_owned(),
            status: "Running".to_owned(),
            parent: None,
            ordinal: 0,
            name: None,
            body: format!("\"{}\"", "x".repeat(bytes)),
        }],
        events: vec![NewEvent { kind: "made".to_owned(), schema: 1, data: "{}".to_owned(), project: None, step: None }],
        tasks: Vec::new(),
        withdraw: Vec::new(),
    }
}

async fn limit_pages(store: &SqliteStore, more: u32) {
    let limited = store.inner.writer.call(move |ledger| {
        let pages: u32 = ledger.conn.query_row("PRAGMA page_count", (), |row| row.get(0))?;
        ledger.conn.query_row(&format!("PRAGMA max_page_count = {}", pages + more), (), |row| row.get::<_, i64>(0))?;
        Ok(Done::keep(()))
    });
    limited.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_answered_and_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    limit_pages(&store, 20).await;

    // Side by side, so that groups hold members that fit and members that do not.
    let names: Vec<String> = (0..60).map(|n| format!("R{n:02}")).collect();
    let outcomes = join_all(names.iter().map(|name| store.commit(new_run(name, 3000)))).await;

    let mut full = 0;
    for (name, outcome) in names.iter().zip(&outcomes) {
        let stored = store.find_row(Table::Runs, name).await.unwrap().is_some();
        match outcome {
            Ok(Committed::Applied { .. }) => assert!(stored, "{name} was answered and is gone"),
            Err(StoreError::DiskFull) => {
                assert!(!stored, "{name} was refused and is there");
                full += 1;
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(full > 0, "the disk was never full");
    limit_pages(&store, 1_000_000).await;
    assert_eq!(store.commit(new_run("afterwards", 3000)).await.unwrap(), Committed::Applied { version: 1 });
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_index_has_no_space_is_a_full_disk_and_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    let no_space =
        || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMSIZE), None);

    let log = || std::fs::read(dir.path().join("ledger.db-wal")).unwrap();
    let before = log();
    // As SQLite does it: the transaction is rolled back before the error is told.
    let failing = move |ledger: &mut Ledger| ledger.conn.execute_batch("ROLLBACK").and_then(|()| Err(no_space()));
    let full = store.inner.writer.call::<(), _>(failing).await;

    assert!(matches!(full, Err(StoreError::DiskFull)), "{full:?}");
    assert!(log() != before, "what the log may have kept is still there");
    assert_eq!(store.commit(new_run("afterwards", 1)).await.unwrap(), Committed::Applied { version: 1 });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_file_accepts_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    let failing = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);

    let failed = store.inner.writer.call::<(), _>(move |_| Err(failing(rusqlite::ffi::SQLITE_IOERR_FSYNC))).await;
    assert!(failed.is_err());
    let refused = store.commit(new_run("R1", 1)).await;

    let Err(StoreError::Unavailable { reason }) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("next start"), "{reason}");
    store.close().await;
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    assert_eq!(store.commit(new_run("R1", 1)).await.unwrap(), Committed::Applied { version: 1 });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_its_size_before_the_first_commit_and_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let log = dir.path().join("ledger.db-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    assert!(before >= 8 * 1024 * 1024, "{before}");

    // Several times the log's size, one after another, without a pause in which a checkpoint would find the writer idle.
    for n in 0..3000 {
        store.commit(new_run(&format!("R{n}"), 2000)).await.unwrap();
    }

    // The thread moves most of it and the writer the rest; on a busy machine that is a little later.
    assert!(size() < 48 * 1024 * 1024, "{}", size());
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
    store.close().await;
}

/// The name of the thread that writes for this caller.
async fn writing_thread(store: &SqliteStore) -> String {
    let name = |_: &mut Ledger| Ok(Done::keep(std::thread::current().name().unwrap_or_default().to_owned()));
    store.inner.writer.call(name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_alone_writes_where_it_stands_and_several_go_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();

    assert_ne!(writing_thread(&store).await, "ledger-writer");

    // What is written elsewhere is not waited for on this thread.
    let desk = store.inner.writer.desk.clone();
    let busy = desk.lock().unwrap();
    let waiting = host::task::spawn("waiting", {
        let store = store.clone();
        async move { writing_thread(&store).await }
    });
    while store.inner.writer.calls.load(Ordering::Acquire) == 0 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(50));
    drop(busy);
    assert_eq!(waiting.await.unwrap(), "ledger-writer");

    // Behind a group of several the next goes through the thread, and the one after it by itself again.
    desk.lock().unwrap().as_mut().unwrap().together = 2;
    assert_eq!(writing_thread(&store).await, "ledger-writer");
    // The thread answers a moment before it leaves the desk.
    drop(desk.lock().unwrap());
    assert_ne!(writing_thread(&store).await, "ledger-writer");
    store.close().await;
    assert!(desk.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_caller_whose_thread_runs_everything_does_not_block_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();

    assert_eq!(writing_thread(&store).await, "ledger-writer");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_panics_closes_the_ledger_wherever_it_ran() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let faulty = store.clone();
    let panicked = host::task::spawn("faulty", async move {
        let job = |_: &mut Ledger| -> Result<Done<()>, rusqlite::Error> { panic!("on purpose") };
        faulty.inner.writer.call(job).await
    });

    assert!(panicked.await.unwrap_err().is_panic());

    let refused = store.commit(new_run("R1", 10)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    store.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.commit(new_run("R1", 10)).await.unwrap(), Committed::Applied { version: 1 });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_refused_job_wrote_is_taken_back_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    let desk = store.inner.writer.desk.clone();
    for round in 0..3 {
        // Held until all of them wait, so that they share a transaction; every third is refused after it wrote.
        let busy = desk.lock().unwrap();
        let jobs: Vec<_> = (0..30)
            .map(|n| {
                let store = store.clone();
                host::task::spawn("job", async move {
                    let job = move |ledger: &mut Ledger| {
                        let name = format!("budget {round}-{n}");
                        ledger.conn.execute("INSERT INTO budgets (id) VALUES (?1)", [name])?;
                        ledger.ready += 1;
                        Ok(if n % 3 == 0 { Done::undo(n) } else { Done::keep(n) })
                    };
                    store.inner.writer.call(job).await
                })
            })
            .collect();
        while store.inner.writer.calls.load(Ordering::Acquire) < 30 {
            std::thread::yield_now();
        }
        drop(busy);
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap().unwrap(), n);
        }
        let desk = desk.lock().unwrap();
        let desk = desk.as_ref().unwrap();
        assert!(desk.together >= 29, "{}", desk.together);
        // Begun anew in the first round; from then on each job has a savepoint.
        assert!(desk.careful > 0 && desk.careful <= CAREFUL, "{}", desk.careful);
        let kept = "SELECT count(*) FROM budgets WHERE CAST(substr(id, 10) AS INTEGER) % 3 > 0";
        let count = |text: &str| desk.ledger.conn.query_row(text, (), |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((count("SELECT count(*) FROM budgets"), count(kept)), ((round + 1) * 20, (round + 1) * 20));
    }
    // Where nothing is refused, savepoints are given up again.
    for n in 0..CAREFUL {
        store.commit(new_run(&format!("R{n}"), 1)).await.unwrap();
    }
    assert_eq!(desk.lock().unwrap().as_ref().unwrap().careful, 0);
    store.close().await;
}
