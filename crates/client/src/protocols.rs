//! Protocols, and what may be asked of them.

use api::{
    health::NoBody,
    protocols::{ActionView, NewProtocolBody, ProtocolView},
};

use crate::{Client, ClientError};

impl Client {
    pub async fn create_protocol(&self, project: i64, new: &NewProtocolBody) -> Result<ProtocolView, ClientError> {
        self.post(&["projects", &project.to_string(), "protocols"], new).await
    }

    /// Newest first.
    pub async fn list_protocols(&self, project: i64) -> Result<Vec<ProtocolView>, ClientError> {
        self.get(&["projects", &project.to_string(), "protocols"], &[("limit", "500".to_owned())]).await
    }

    pub async fn get_protocol(&self, id: i64) -> Result<ProtocolView, ClientError> {
        self.get(&["protocols", &id.to_string()], &[]).await
    }

    pub async fn start_protocol(&self, id: i64) -> Result<ActionView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "start"], &NoBody {}).await
    }

    pub async fn pause_protocol(&self, id: i64) -> Result<ProtocolView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "pause"], &NoBody {}).await
    }

    pub async fn resume_protocol(&self, id: i64) -> Result<ProtocolView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "resume"], &NoBody {}).await
    }

    pub async fn cancel_protocol(&self, id: i64) -> Result<ProtocolView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "cancel"], &NoBody {}).await
    }

    pub async fn run_next_step(&self, id: i64) -> Result<ActionView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "run_next_step"], &NoBody {}).await
    }

    pub async fn retry_latest_step(&self, id: i64) -> Result<ActionView, ClientError> {
        self.post(&["protocols", &id.to_string(), "actions", "retry_latest"], &NoBody {}).await
    }
}
