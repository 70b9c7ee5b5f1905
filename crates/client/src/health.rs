//! Whether the server is well, and the copy it makes of its ledger.

use api::health::{BackupView, HealthView, NoBody};

use crate::{Client, ClientError};

impl Client {
    /// How a server is, also one that is not well.
    pub async fn get_health(&self) -> Result<HealthView, ClientError> {
        self.get_statement(&["health"]).await
    }

    /// Has the server write a copy of its ledger on its own machine.
    pub async fn back_up(&self) -> Result<BackupView, ClientError> {
        self.post(&["db", "actions", "backup"], &NoBody {}).await
    }
}
