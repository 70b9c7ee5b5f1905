//! The one helper around `tokio::spawn`. A spawned task may be lost at any moment: what must happen is stored first.

use std::future::Future;
use tokio::task::JoinHandle;

/// Runs a future on its own, as a part of the current trace, and logs under `name` when it panics.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(crate::trace::kept(async move {
        let guard = PanicGuard { name };
        let output = future.await;
        drop(guard);
        output
    }))
}

/// Runs blocking work on a thread made for it and logs under `name` when it panics.
pub fn spawn_blocking<F, T>(name: &'static str, work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(move || {
        let guard = PanicGuard { name };
        let output = work();
        drop(guard);
        output
    })
}

/// Whether this thread may wait for a disk without keeping other tasks from running.
pub fn may_block_here() -> bool {
    use tokio::runtime::{Handle, RuntimeFlavor};
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Runs blocking work on this thread, whose other tasks go elsewhere meanwhile. Only where [`may_block_here`].
pub fn block_here<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

struct PanicGuard {
    name: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "Task {} panicked", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_gives_back_its_output() {
        assert_eq!(spawn("adder", async { 2 + 2 }).await.unwrap(), 4);
        assert_eq!(spawn_blocking("adder", || 2 + 2).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_panic_stays_inside_its_task() {
        let joined = spawn("faulty", async { panic!("on purpose") }).await;
        assert!(joined.unwrap_err().is_panic());
    }
}
