//! Moves what was committed from the write-ahead log into the database file, beside the writer.
//!
//! A thread of its own does most of it in passing (PASSIVE), so that no commit waits for it, and again while much was
//! written meanwhile. What little is left keeps the log from starting over; the writer moves it itself, so that the log
//! is overwritten in place: a log that grows changes its file's length with every flush, which costs a flush as much
//! again. Where a long read is in the way, the log grows and the writer tries again later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;

use crate::StoreError;

/// Pages in the log before the thread is woken: 4 MB.
const WORTH_IT: u32 = 1000;
/// What is so little that the writer moves it without keeping its callers waiting: 256 KB.
const LITTLE: u32 = 64;
/// How often in a row the thread moves what came meanwhile. Where the writer is faster, nothing would ever be little.
const PASSES: usize = 3;
/// Pages that are added before the writer tries again, when a long read was in its way.
const TRY_AGAIN: u32 = 2_048;

#[derive(Debug, Default)]
struct Shared {
    /// Pages in the log, as SQLite tells after each commit.
    pages: AtomicU32,
    /// The thread has moved what there was; what came since is little.
    moved: AtomicBool,
    stop: AtomicBool,
}

/// The writer's side.
#[derive(Debug)]
pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    next_try: u32,
}

impl Checkpoints {
    /// Watches the writer's connection and starts the thread with a connection of its own.
    pub(super) fn start(writer: &mut Connection, own: Connection) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let watch = Arc::clone(&shared);
        writer
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                watch.pages.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(super::fault::of)?;
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ledger-checkpoint".to_owned())
            .spawn(move || {
                while !work.stop.load(Ordering::Acquire) {
                    std::thread::park_timeout(Duration::from_secs(1));
                    if work.pages.load(Ordering::Relaxed) >= WORTH_IT && !work.moved.load(Ordering::Acquire) {
                        for _ in 0..PASSES {
                            let moved = checkpoint(&own, "PASSIVE").map_or(u32::MAX, |moved| moved.pages);
                            if work.pages.load(Ordering::Relaxed).saturating_sub(moved) <= LITTLE {
                                break;
                            }
                        }
                        work.moved.store(true, Ordering::Release);
                    }
                }
            })
            .map_err(|error| StoreError::Unavailable { reason: format!("no thread for checkpoints: {error}") })?;
        Ok(Self { shared, thread: Some(thread), next_try: WORTH_IT })
    }

    /// Whether the writer itself may have to move something after its next commit.
    pub(super) fn is_due(&self) -> bool {
        self.shared.pages.load(Ordering::Relaxed) >= WORTH_IT
    }

    /// Called by the writer once the callers have their answers.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = self.shared.pages.load(Ordering::Relaxed);
        if pages < WORTH_IT {
            self.next_try = WORTH_IT;
            self.shared.moved.store(false, Ordering::Release);
            return;
        }
        if pages < self.next_try {
            return;
        }
        if !self.shared.moved.load(Ordering::Acquire) {
            if let Some(thread) = &self.thread {
                thread.thread().unpark();
            }
            return;
        }
        // A reader with an old snapshot must not hold the writer up: try, and try again later.
        let waited = writer.busy_timeout(Duration::from_millis(20));
        let emptied = checkpoint(writer, "RESTART").is_some_and(|moved| moved.is_all);
        if let Err(error) = waited.and_then(|()| writer.busy_timeout(super::open::BUSY)) {
            tracing::warn!(%error, "The busy timeout could not be set");
        }
        self.shared.moved.store(false, Ordering::Release);
        self.next_try = if emptied { WORTH_IT } else { pages.saturating_add(TRY_AGAIN) };
    }

    /// Ends the thread and its connection.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What a checkpoint came to.
#[derive(Clone, Copy, Debug)]
struct Moved {
    /// Of the log's pages, how many lie in the database now.
    pages: u32,
    is_all: bool,
}

/// `None` when it failed, which is no loss: the log keeps what was not moved.
fn checkpoint(conn: &Connection, mode: &str) -> Option<Moved> {
    host::failpoint!("sqlite.checkpoint.before");
    let moved = conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| {
        let (busy, log, pages) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
        Ok(Moved { pages: u32::try_from(pages).unwrap_or(0), is_all: busy == 0 && log == pages })
    });
    host::failpoint!("sqlite.checkpoint.after");
    moved.inspect_err(|error| tracing::warn!(%error, "A checkpoint failed")).ok()
}
