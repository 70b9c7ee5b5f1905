//! What a worker learns of an attempt while it is under way, told to the ledger at once.
//!
//! Nothing waits for it but the attempt's end: a ledger that is away is asked again for as long as the lease holds, and
//! a word that comes too late, because somebody ended the attempt meanwhile, is dropped.

use control::{Cause, CommandError};
use domain::{
    attempt::{Attempt, Containment, Fact, SandboxUsed},
    commit::SubjectKind,
    ids::{RunId, StepId},
};
use engines::supervisor::Held;

use crate::{Worker, lease::Lease, plan_protocol::protocol_id};

impl Worker {
    /// Tells how an attempt's processes are held, unless the ledger knows.
    pub(crate) async fn tell_held(&self, lease: &Lease, attempt: &Attempt, held: Option<Held>) {
        if let Some(held) = held {
            Box::pin(self.tell(lease, attempt, Fact::Contained(containment_of(held)))).await;
        }
    }

    pub(crate) async fn tell(&self, lease: &Lease, attempt: &Attempt, fact: Fact) {
        if attempt.knows(&fact) {
            return;
        }
        let cause = Cause::of(self.actor()).acknowledging(lease.keep());
        let tell = || self.tell_once(lease, attempt, fact.clone(), &cause);
        tokio::select! {
            told = self.persist(lease, tell) => {
                if let Err(error) = told {
                    tracing::info!(?error, attempt = %attempt.id, "Attempt {} was over before this", attempt.id);
                }
            }
            // The next worker tells it.
            () = self.draining.cancelled() => {}
        }
    }

    async fn tell_once(&self, lease: &Lease, attempt: &Attempt, fact: Fact, cause: &Cause) -> Result<(), CommandError> {
        if lease.task.subject.kind == SubjectKind::Run {
            let run = RunId(lease.task.subject.id.clone());
            return self.control.tell_run(&run, attempt.fence, fact, cause).await.map(drop);
        }
        let Ok(protocol) = protocol_id(lease) else { return Ok(()) };
        let step = attempt.subject.strip_prefix("step:").and_then(|id| id.parse().ok()).map(StepId);
        self.control.tell_attempt(protocol, step, attempt.fence, fact, cause).await.map(drop)
    }
}

fn containment_of(held: Held) -> Containment {
    let sandbox = held.sandbox.map(|used| SandboxUsed {
        profile: used.profile.as_str().to_owned(),
        means: used.means.as_str().to_owned(),
        network: used.reach.as_str().to_owned(),
    });
    Containment { level: held.containment.as_str().to_owned(), sandbox }
}
