//! Attempts and what they print.

use api::attempts::{AttemptView, LogView};

use crate::{Client, ClientError};

impl Client {
    pub async fn get_attempt(&self, id: &str) -> Result<AttemptView, ClientError> {
        self.get(&["attempts", id], &[]).await
    }

    /// The output from `offset` on, as much as the server gives in one piece.
    pub async fn read_log(&self, attempt: &str, offset: u64) -> Result<LogView, ClientError> {
        self.get(&["attempts", attempt, "log"], &[("offset", offset.to_string())]).await
    }
}
