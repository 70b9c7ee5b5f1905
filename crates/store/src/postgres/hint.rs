//! Hints between processes: something may be ready, something may be new.
//!
//! Never inside a transition: a transaction that notifies takes a lock over the whole server at its commit. One
//! connection listens and says what this process has to say, at most every ten milliseconds. A hint that is lost costs a
//! poll's delay and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    StoreError,
    postgres::{
        batch::jitter,
        connect::{Connected, Connector, Role},
        fault,
    },
    queue::Wake,
};
use tokio::sync::Notify;

/// Between two hints of the same process.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a lost connection is made anew.
const RETRY: Duration = Duration::from_secs(2);

/// In an address: this process is not woken by others. For poolers that lend a connection to one after the other.
const OFF: &str = "pilothouse_wakeups=off";

/// The address for the driver, and whether there are hints.
pub(super) fn of_address(url: &str) -> (String, bool) {
    let Some((address, query)) = url.split_once('?') else { return (url.to_owned(), true) };
    let rest: Vec<&str> = query.split('&').filter(|part| *part != OFF).collect();
    let has_hints = rest.len() == query.split('&').count();
    match rest.is_empty() {
        true => (address.to_owned(), has_hints),
        false => (format!("{address}?{}", rest.join("&")), has_hints),
    }
}

/// What this process has to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    pending: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    tasks: AtomicBool,
    events: AtomicBool,
    closed: AtomicBool,
    any: Notify,
}

impl Hints {
    pub(super) fn start(connector: Connector, wake: Wake) -> Self {
        let hints = Self::default();
        let pending = hints.pending.clone();
        drop(host::task::spawn("postgres hints", async move {
            while !pending.closed.load(Ordering::Acquire) {
                if let Err(error) = say_and_hear(&connector, &wake, &pending).await {
                    tracing::debug!(error = %error, "The connection for hints ended; polls go on");
                }
                if !pending.closed.load(Ordering::Acquire) {
                    tokio::time::sleep(jitter(RETRY)).await;
                }
            }
        }));
        hints
    }

    /// Of a process that neither says nor hears anything: polls find what there is.
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn tasks(&self) {
        self.pending.tasks.store(true, Ordering::Release);
        self.pending.any.notify_one();
    }

    pub(super) fn events(&self) {
        self.pending.events.store(true, Ordering::Release);
        self.pending.any.notify_one();
    }

    pub(super) fn close(&self) {
        self.pending.closed.store(true, Ordering::Release);
        self.pending.any.notify_one();
    }
}

async fn say_and_hear(connector: &Connector, wake: &Wake, pending: &Pending) -> Result<(), StoreError> {
    let own_process = Arc::new(std::sync::atomic::AtomicI32::new(0));
    let (heard_by, own) = (wake.clone(), own_process.clone());
    let client = connector
        .listen(Role::General, move |payload, process| {
            // What this process said it has woken up for already.
            if process == own.load(Ordering::Acquire) {
                return;
            }
            match payload {
                "tasks" => heard_by.tasks_ready(),
                "events" => heard_by.events_committed(),
                _ => {}
            }
        })
        .await?;
    let patience = connector.patience.answer();
    let listening = async {
        let row = client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(|error| fault::of(&error))?;
        own_process.store(row.get(0), Ordering::Release);
        client.batch_execute("LISTEN pilothouse").await.map_err(|error| fault::of(&error))
    };
    tokio::time::timeout(patience, listening).await.unwrap_or_else(|_| Err(fault::silent()))?;
    // Whatever was said while nobody listened.
    wake.tasks_ready();
    wake.events_committed();
    while !pending.closed.load(Ordering::Acquire) {
        let quiet = tokio::time::timeout(Duration::from_secs(15), pending.any.notified()).await;
        let said = tokio::time::timeout(patience, say(&client, pending, quiet.is_err())).await;
        said.unwrap_or_else(|_| Err(fault::silent()))?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn say(client: &Connected, pending: &Pending, is_quiet: bool) -> Result<(), StoreError> {
    let texts = match (pending.tasks.swap(false, Ordering::AcqRel), pending.events.swap(false, Ordering::AcqRel)) {
        (true, true) => "NOTIFY pilothouse, 'tasks'; NOTIFY pilothouse, 'events'",
        (true, false) => "NOTIFY pilothouse, 'tasks'",
        (false, true) => "NOTIFY pilothouse, 'events'",
        // A word now and then, so that a connection that died silently is found.
        (false, false) if is_quiet => "SELECT 1",
        (false, false) => return Ok(()),
    };
    client.batch_execute(texts).await.map_err(|error| fault::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_switched_off_in_the_address() {
        let of = of_address;

        assert_eq!(of("postgres://h/db"), ("postgres://h/db".to_owned(), true));
        assert_eq!(of("postgres://h/db?sslmode=disable"), ("postgres://h/db?sslmode=disable".to_owned(), true));
        assert_eq!(of("postgres://h/db?pilothouse_wakeups=off"), ("postgres://h/db".to_owned(), false));
        let both = "postgres://h/db?pilothouse_wakeups=off&sslmode=disable";
        assert_eq!(of(both), ("postgres://h/db?sslmode=disable".to_owned(), false));
    }
}
