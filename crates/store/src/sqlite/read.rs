//! Reads, on a few connections that cannot write. Each sees one snapshot of what was committed.
//!
//! Each connection has a thread of its own and not one of the runtime's pool for blocking work: that pool takes another
//! thread for each read that arrives before the last thread it woke has run, which on a busy machine is a hundred threads
//! for three reads at a time, and each of them keeps the memory that it once asked for.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    StoreError,
    sqlite::{blocking, fault, open},
};

const READERS: usize = 3;

/// The connections for reads, opened when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share with those who ask.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: Mutex<Queue>,
    asked: Condvar,
}

#[derive(Default)]
struct Queue {
    reads: VecDeque<Read>,
    /// Threads that wait for a read, with those that were told of one and have not looked yet.
    idle: usize,
    started: usize,
    is_closed: bool,
}

/// One read, on the connection of the thread that carries it out: opened by the first, gone when it is not to be used
/// again.
type Read = Box<dyn FnOnce(&mut Option<Connection>, &Path) + Send>;

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("reads", &self.reads.len())
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Why a read gave nothing.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        let shared = Shared { path: path.to_owned(), queue: Mutex::default(), asked: Condvar::new() };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Reads in one snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Box::new(move |conn, path| {
            // Whoever asked may be gone: there is nobody to read for.
            if !reply.is_closed() {
                let _ = reply.send(read_on(conn, path, work));
            }
        }))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable { reason: "a read panicked".to_owned() }))
    }

    fn ask(&self, read: Read) -> Result<(), StoreError> {
        let mut queue = self.shared.lock();
        if queue.is_closed {
            return Err(StoreError::Unavailable { reason: "the ledger is closed".to_owned() });
        }
        if queue.reads.len() < queue.idle || queue.started == READERS {
            self.shared.asked.notify_one();
        } else {
            match self.start(queue.started) {
                Ok(()) => queue.started += 1,
                Err(error) if queue.started == 0 => {
                    return Err(StoreError::Unavailable { reason: format!("no thread for reads: {error}") });
                }
                // The others come to it.
                Err(error) => tracing::warn!(%error, "No thread for another reader: {error}"),
            }
        }
        queue.reads.push_back(read);
        Ok(())
    }

    fn start(&self, place: usize) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread =
            std::thread::Builder::new().name(format!("ledger-reader-{place}")).spawn(move || shared.serve())?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Lets reads finish, then closes their connections.
    pub(super) async fn close(&self) {
        self.shared.end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = blocking("close the readers", move || {
            for thread in threads {
                // What panicked in it was caught and told.
                let _ = thread.join();
            }
            Ok(())
        });
        let _ = ended.await;
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more reads; the threads end after those that are queued.
    fn end(&self) {
        self.lock().is_closed = true;
        self.asked.notify_all();
    }

    /// A thread's life, with one connection.
    fn serve(&self) {
        let mut conn = None;
        while let Some(read) = self.next() {
            if catch_unwind(AssertUnwindSafe(|| read(&mut conn, &self.path))).is_err() {
                tracing::error!("A read of the ledger panicked");
                conn = None;
            }
        }
    }

    /// Waits for a read; `None` once there will be no more.
    fn next(&self) -> Option<Read> {
        let mut queue = self.lock();
        loop {
            if let Some(read) = queue.reads.pop_front() {
                return Some(read);
            }
            if queue.is_closed {
                return None;
            }
            queue.idle += 1;
            queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

fn read_on<T>(
    conn: &mut Option<Connection>,
    path: &Path,
    work: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, StoreError> {
    let open = match conn.take() {
        Some(open) => open,
        None => open::connect_reader(path)?,
    };
    let open = conn.insert(open);
    let result = snapshot(open, work);
    // A connection whose transaction did not end is not used again.
    if !open.is_autocommit() {
        *conn = None;
    }
    result
}

fn snapshot<T>(conn: &Connection, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, StoreError> {
    let begun = conn.prepare_cached("BEGIN").and_then(|mut begin| begin.execute(()));
    begun.map_err(fault::of)?;
    let result = work(conn).map_err(|failure| match failure {
        Failure::Sqlite(error) => fault::of(error),
        Failure::Store(error) => error,
    });
    let ended = conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute(()));
    match (result, ended) {
        (Ok(_), Err(error)) => Err(fault::of(error)),
        (result, _) => result,
    }
}

#[cfg(test)]
mod tests;
