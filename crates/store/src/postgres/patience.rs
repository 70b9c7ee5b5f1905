//! How long a server that says nothing is waited for.
//!
//! Statements and locks time out on the server ([`super::connect`]), and a peer whose machine is gone is noticed by TCP.
//! Neither helps against whatever keeps a connection open and passes nothing on. So every call has an end of its own,
//! after which its connection is as lost as one that was closed.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use deadpool_postgres::{Client, Object, Pool};

use crate::{
    StoreError,
    postgres::{PostgresStore, fault},
};

/// Longer than the server itself lets a statement run, so that its own word comes first.
const ANSWER: Duration = Duration::from_secs(35);
/// The parameter of the address that says otherwise.
const PARAMETER: &str = "answer_timeout_ms=";

/// The bounds of everything that waits for the server, all derived from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    answer: Duration,
}

impl Patience {
    /// Takes `answer_timeout_ms` out of an address, because the driver does not know it.
    pub(super) fn parse(url: &str) -> Result<(Self, String), StoreError> {
        let Some(start) = url.find(PARAMETER) else { return Ok((Self { answer: ANSWER }, url.to_owned())) };
        let (before, rest) = url.split_at(start);
        let value = &rest[PARAMETER.len()..];
        let end = value.find(['&', ' ']).unwrap_or(value.len());
        let (value, after) = value.split_at(end);
        let millis: u64 = value.parse().ok().filter(|millis| *millis > 0).ok_or_else(|| StoreError::Unfit {
            reason: format!("the address is malformed: {PARAMETER}{value} is not a number of milliseconds"),
        })?;
        let url = match after.get(1..) {
            Some(after) => format!("{before}{after}"),
            None => before.trim_end_matches(['?', '&', ' ']).to_owned(),
        };
        Ok((Self { answer: Duration::from_millis(millis) }, url))
    }

    /// For a schema to be brought up to date.
    pub(super) fn open(self) -> Duration {
        8 * self.answer
    }

    /// For the answer to whatever was sent.
    pub(super) fn answer(self) -> Duration {
        self.answer
    }

    /// For a connection to be made, from the first packet to the server's readiness.
    pub(super) fn connect(self) -> Duration {
        self.answer.min(Duration::from_secs(10))
    }

    /// For a place in a pool, and for a new connection in it.
    pub(super) fn pool(self) -> Duration {
        self.answer.min(Duration::from_secs(5))
    }

    /// A connection that was lent for longer may be waiting for what never comes, and is not lent again.
    fn suspicious(self) -> Duration {
        (self.answer / 2).min(Duration::from_secs(5))
    }

    /// For a whole call that is no commit: a connection and its answer.
    pub(super) fn call(self) -> Duration {
        self.answer + 2 * self.pool()
    }

    /// For a commit, which also waits for its turn.
    pub(super) fn commit(self) -> Duration {
        2 * self.answer
    }

    /// For finding out how a commit ended whose answer was lost.
    pub(super) fn settle(self) -> Duration {
        self.answer.min(Duration::from_secs(15))
    }

    /// For a heartbeat, which is of no use any more when the next one is due.
    pub(super) fn beat(self, lease: Duration) -> Duration {
        self.answer.min((lease / 3).max(Duration::from_millis(100)))
    }
}

/// A connection of a pool for as long as a call needs it.
#[derive(Debug)]
pub(super) struct Lent {
    client: Option<Client>,
    lent_at: Instant,
    patience: Patience,
}

impl Lent {
    pub(super) async fn of(pool: &Pool, patience: Patience) -> Result<Self, StoreError> {
        let client = pool.get().await.map_err(|error| fault::of_pool(&error))?;
        Ok(Self { client: Some(client), lent_at: host::clock::monotonic(), patience })
    }
}

impl Deref for Lent {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is taken out only when this is dropped")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is taken out only when this is dropped")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.lent_at.elapsed() > self.patience.suspicious()
            && let Some(client) = self.client.take()
        {
            drop(Object::take(client));
        }
    }
}

impl PostgresStore {
    /// Carries a call out, or says after its time that the database is not available. What it asked for may still happen.
    pub(crate) async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.inner.patience.call(), call).await {
            Ok(answer) => answer,
            Err(_) => Err(fault::silent()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_an_answer_is_taken_out_of_the_address() {
        for (url, left) in [
            ("postgres://u@h/db?answer_timeout_ms=1500", "postgres://u@h/db"),
            ("postgres://u@h/db?answer_timeout_ms=1500&sslmode=disable", "postgres://u@h/db?sslmode=disable"),
            ("postgres://u@h/db?sslmode=disable&answer_timeout_ms=1500", "postgres://u@h/db?sslmode=disable"),
            ("host=h answer_timeout_ms=1500 user=u", "host=h user=u"),
        ] {
            let (patience, rest) = Patience::parse(url).unwrap();

            assert_eq!((patience.answer(), rest.as_str()), (Duration::from_millis(1500), left));
        }
        assert_eq!(
            Patience::parse("postgres://u@h/db").unwrap(),
            (Patience { answer: ANSWER }, "postgres://u@h/db".into())
        );
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        for url in
            ["postgres://u@h/db?answer_timeout_ms=", "postgres://h/?answer_timeout_ms=0", "h?answer_timeout_ms=2s"]
        {
            assert!(matches!(Patience::parse(url), Err(StoreError::Unfit { .. })), "{url}");
        }
    }
}
