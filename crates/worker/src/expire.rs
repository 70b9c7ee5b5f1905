//! Gates whose deadline passed.

use control::Cause;
use domain::ids::GateId;
use serde::Deserialize;

use crate::{Worker, failure::Failure, lease::Lease};

#[derive(Deserialize)]
struct Payload {
    gate: GateId,
}

impl Worker {
    pub(crate) async fn expire_gate(&self, lease: &Lease) -> Result<(), Failure> {
        let payload: Payload = serde_json::from_str(&lease.task.payload).map_err(Failure::give_up)?;
        let cause = Cause::of(domain::actor::Actor::System).acknowledging(lease.done());
        match self.control.expire_gate(&lease.task.subject, &payload.gate, &cause).await {
            // Decided, or gone: there is nothing left to expire.
            Err(error) if control::runs::is_settled(&error) => self.acknowledge(lease.done()).await,
            outcome => outcome?,
        }
        host::failpoint!("worker.gate.expired");
        Ok(())
    }
}
