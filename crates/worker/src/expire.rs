//! Gates whose deadline passed.

use control::{Cause, CommandError};
use domain::{actor::Actor, commit::Then, ids::GateId};
use serde::Deserialize;

use crate::{Worker, failure::Failure, lease::Lease};

#[derive(Deserialize)]
struct Payload {
    gate: GateId,
}

impl Worker {
    pub(crate) async fn expire_gate(&self, lease: &Lease) -> Result<(), Failure> {
        match self.expire(lease, Then::Done).await {
            // Decided, or gone: there is nothing left to expire.
            Err(error) if control::runs::is_settled(&error) => self.acknowledge(lease, lease.done()).await,
            outcome => outcome?,
        }
        host::failpoint!("worker.gate.expired");
        Ok(())
    }

    /// Closes the gate that a task names, in the commit that ends the task.
    pub(crate) async fn expire(&self, lease: &Lease, then: Then) -> Result<(), CommandError> {
        let payload: Payload = serde_json::from_str(&lease.task.payload).map_err(|error| CommandError::Invalid {
            code: "invalid_task",
            problems: vec![format!("the task names no gate: {error}")],
        })?;
        let cause = Cause::of(Actor::System).acknowledging(lease.ack(then));
        self.control.expire_gate(&lease.task.subject, &payload.gate, &cause).await
    }
}
