//! Attempts and what they print.

use api::{
    attempts::{AttemptEventView, AttemptStopView, AttemptView, LogView},
    health::NoBody,
};

use crate::{Client, ClientError, events::EventStream};

impl Client {
    pub async fn get_attempt(&self, id: &str) -> Result<AttemptView, ClientError> {
        self.get(&["attempts", id], &[]).await
    }

    /// The output from `offset` on, as much as the server gives in one piece.
    pub async fn read_log(&self, attempt: &str, offset: u64) -> Result<LogView, ClientError> {
        self.get(&["attempts", attempt, "log"], &[("offset", offset.to_string())]).await
    }

    /// Asks what runs to end.
    pub async fn cancel_attempt(&self, id: &str) -> Result<AttemptStopView, ClientError> {
        self.post(&["attempts", id, "actions", "cancel"], &NoBody {}).await
    }

    /// Ends what runs at once.
    pub async fn kill_attempt(&self, id: &str) -> Result<AttemptStopView, ClientError> {
        self.post(&["attempts", id, "actions", "kill"], &NoBody {}).await
    }

    /// Follows what happens in an attempt: everything so far, then what comes, to its end.
    pub async fn follow_attempt(&self, id: &str) -> Result<EventStream<AttemptEventView>, ClientError> {
        EventStream::open(self, &["attempts", id, "events"], &[]).await
    }
}
