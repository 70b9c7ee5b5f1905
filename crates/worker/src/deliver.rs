//! Messages on their way out.
//!
//! `sending` is on disk before the channel is called. A worker that finds a message in `sending` knows that it may have
//! arrived: the channel's kind decides whether it is repeated, labelled as a repeat, or left as `unknown`.

use control::{Cause, CommandError};
use domain::message::{Message, MessageEvent, MessageState};

use crate::{Worker, failure::Failure, lease::Lease};

/// The channel of development: its messages are read from the ledger, so showing them is delivering them.
const DEV: &str = "dev";

impl Worker {
    pub(crate) async fn deliver_message(&self, lease: &Lease) -> Result<(), Failure> {
        let id = lease.task.subject.id.as_str();
        let Some((found, _)) = self.control.store().find_message(id).await.map_err(Failure::retry)? else {
            return Err(Failure::give_up("the message does not exist"));
        };
        let message = found.subject;
        if message.state.is_terminal() {
            self.acknowledge(lease, lease.done()).await;
            return Ok(());
        }
        let repeated = message.may_have_arrived();
        let sending = Cause::of(self.actor()).acknowledging(lease.keep());
        self.control.advance_message(id, &MessageEvent::Sending { fence: lease.fence.0 }, &sending).await?;
        host::failpoint!("worker.message.sending");
        let outcome = self.send(&message, repeated);
        host::failpoint!("worker.message.sent");
        let done = Cause::of(self.actor()).acknowledging(lease.done());
        self.control.advance_message(id, &outcome, &done).await?;
        Ok(())
    }

    fn send(&self, message: &Message, repeated: bool) -> MessageEvent {
        if message.channel != DEV {
            return MessageEvent::Failed { reason: format!("there is no channel {}", message.channel) };
        }
        let body = host::text::clean(&message.body);
        tracing::info!(channel = DEV, conversation = %message.conversation, "OUTBOUND ({DEV}): {body}");
        // The ledger is this channel's mailbox: a repeat shows nobody the same message twice.
        MessageEvent::Sent { vendor_ref: None, repeated }
    }

    /// The queue gave the delivery up: whether the message arrived is unknown once it was being sent.
    pub(crate) async fn give_message_up(&self, lease: &Lease, why: &str) -> Result<(), CommandError> {
        let id = lease.task.subject.id.as_str();
        let reason = why.to_owned();
        let event = match self.control.store().find_message(id).await? {
            Some((found, _)) if matches!(found.subject.state, MessageState::Sending { .. }) => {
                MessageEvent::Unknown { reason }
            }
            Some(_) | None => MessageEvent::Failed { reason },
        };
        let dead = domain::commit::Then::Dead { error: why.to_owned() };
        let cause = Cause::of(self.actor()).acknowledging(lease.ack(dead));
        self.control.advance_message(id, &event, &cause).await.map(drop)
    }
}
