//! Drawing of short references.

use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
};

use domain::{ids::GateId, reference::Ref, time::Timestamp};
use store::StoreError;

use crate::{CommandError, error::StoreFailure};

/// What was drawn in the window of the last reference: a process that makes thousands a second would otherwise meet its
/// own, because a window has 23 random bits.
static DRAWN: LazyLock<Mutex<Drawn>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Drawn {
    window: u64,
    references: HashSet<Ref>,
}

/// A reference that this process did not draw in the same moment.
pub(crate) fn new_ref() -> String {
    loop {
        let now = Timestamp::from_micros(host::clock::now_micros());
        let reference = Ref::drawn(now, host::random::id_bytes());
        let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
        if drawn.window != Ref::window(now) {
            *drawn = Drawn { window: Ref::window(now), references: HashSet::new() };
        }
        if drawn.references.insert(reference) {
            return reference.to_string();
        }
    }
}

pub(crate) fn new_gate_id() -> GateId {
    GateId(new_ref())
}

/// Whether a command was refused because a reference that was drawn for it is taken, or something else it brings.
pub(crate) fn is_taken<T>(outcome: &Result<T, CommandError>) -> bool {
    matches!(outcome, Err(CommandError::Store(StoreFailure(StoreError::Rejected { .. }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_one_moment_differ() {
        let drawn: HashSet<String> = (0..20_000).map(|_| new_ref()).collect();
        assert_eq!(drawn.len(), 20_000);
    }
}
