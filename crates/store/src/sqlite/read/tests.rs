use std::sync::{
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use crate::sqlite::SqliteStore;

use super::*;

fn one(conn: &Connection) -> Result<i64, Failure> {
    Ok(conn.query_row("SELECT 1", (), |row| row.get(0))?)
}

/// Threads of this process that are called so.
fn count_threads(name: &str) -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // Others end while we look.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names.filter(|comm| comm.trim_end() == name).count()
}

#[test]
fn a_burst_of_reads_takes_no_more_threads_than_connections() {
    const WORKERS: usize = 2;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("burst-of-reads")
        .enable_all()
        .build()
        .unwrap();

    let (threads, opened) = runtime.block_on(async {
        let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
        let readers = (0..200).map(|_| {
            let store = store.clone();
            host::task::spawn("reader", async move {
                for _ in 0..50 {
                    assert_eq!(store.inner.readers.read(one).await.unwrap(), 1);
                }
            })
        });
        for reader in readers.collect::<Vec<_>>() {
            reader.await.unwrap();
        }
        let found = (count_threads("burst-of-reads"), store.inner.readers.shared.lock().started);
        store.close().await;
        found
    });

    // One more opened the file.
    assert!(threads <= WORKERS + 1, "{threads}");
    assert!(opened <= READERS, "{opened}");
}

#[tokio::test]
async fn a_read_that_panics_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    let readers = &store.inner.readers;

    for _ in 0..2 * READERS {
        let failed = readers.read(|_| -> Result<(), Failure> { panic!("on purpose") }).await;
        assert!(matches!(failed, Err(StoreError::Unavailable { .. })), "{failed:?}");
    }

    assert_eq!(readers.read(one).await.unwrap(), 1);
    store.close().await;
    assert!(matches!(readers.read(one).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_any_more_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("ledger.db")).await.unwrap();
    let (begun, begins) = mpsc::channel();
    let (releases, busy): (Vec<mpsc::Sender<()>>, Vec<_>) = (0..READERS)
        .map(|_| {
            let (release, released) = mpsc::channel();
            let (store, begun) = (store.clone(), begun.clone());
            let busy = host::task::spawn("busy", async move {
                let wait = move |conn: &Connection| {
                    begun.send(()).unwrap();
                    // Ends when the sender is dropped.
                    let _ = released.recv();
                    one(conn)
                };
                store.inner.readers.read(wait).await
            });
            (release, busy)
        })
        .unzip();
    for _ in 0..READERS {
        tokio::task::block_in_place(|| begins.recv()).unwrap();
    }
    let is_read = Arc::new(AtomicBool::new(false));
    let given_up = host::task::spawn("given up", {
        let (store, is_read) = (store.clone(), Arc::clone(&is_read));
        let read = move |conn: &Connection| {
            is_read.store(true, Ordering::Release);
            one(conn)
        };
        async move { store.inner.readers.read(read).await }
    });
    while store.inner.readers.shared.lock().reads.is_empty() {
        tokio::task::yield_now().await;
    }

    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    drop(releases);

    for busy in busy {
        assert_eq!(busy.await.unwrap().unwrap(), 1);
    }
    assert_eq!(store.inner.readers.read(one).await.unwrap(), 1);
    store.close().await;
    assert!(!is_read.load(Ordering::Acquire));
}
