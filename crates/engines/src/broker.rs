//! The broker: it stands between an engine and its model, so that the engine never has the model's key.
//!
//! The engine is given a token that opens nothing but this door. The broker puts the key in its place, sends the call to
//! the one address that was configured and nowhere else, passes the answer on as it comes, reads off what was used, and
//! lets no call out once a limit is reached, whatever the engine says of itself. It is part of the supervisor's own
//! process for endpoints ([`crate::supervise`]), so that it lives exactly as long as the engine.

pub mod address;
pub mod books;
mod call;
mod meter;
#[cfg(test)]
mod tests;
mod wire;

pub use address::Address;
pub use books::Wire;

use books::Books;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many calls may be under way at once where there are limits: by so many they can be passed.
const AT_ONCE: u32 = 4;

/// What a broker is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Where the engine finds it, within its sandbox if it has a network of its own, else on this machine.
    pub listen: SocketAddr,
    /// The base URL of the model.
    pub upstream: String,
    /// What the engine shows in the key's place.
    pub token: String,
    pub key: String,
    pub limits: Limits,
}

/// What an attempt may use, over all runs of its engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Read and written together.
    pub tokens: Option<u64>,
}

/// What all connections of one broker share.
pub(crate) struct Desk {
    broker: Broker,
    upstream: Address,
    books: Mutex<Books>,
    under_way: Mutex<u32>,
    left: Condvar,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Broker {
    /// The base URL that the engine is given.
    pub fn base_url(&self) -> String {
        let path = Address::parse(&self.upstream).map(|address| address.path).unwrap_or_default();
        format!("http://{}{path}", self.listen)
    }
}

impl Desk {
    /// Opens for business; its books are in `dir`.
    pub(crate) fn open(broker: Broker, dir: &Path, nonce: &str) -> io::Result<Self> {
        let upstream = Address::parse(&broker.upstream).ok_or_else(|| io::Error::other("the model has no address"))?;
        if broker.key.contains(['\r', '\n', '\0']) {
            return Err(io::Error::other("the key of the model is not one line"));
        }
        let books = Mutex::new(Books::open(dir, nonce)?);
        Ok(Self { broker, upstream, books, under_way: Mutex::new(0), left: Condvar::new() })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn where there are limits.
    fn take_turn(&self) -> Turn<'_> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while self.broker.limits.tokens.is_some() && *under_way >= AT_ONCE {
            under_way = self.left.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        *under_way += 1;
        Turn { desk: self }
    }
}

/// One call's place among those under way.
struct Turn<'desk> {
    desk: &'desk Desk,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut under_way = self.desk.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        *under_way = under_way.saturating_sub(1);
        self.desk.left.notify_one();
    }
}
