//! Steps of protocols.

use api::{
    health::NoBody,
    protocols::{ActionView, StepDiffView},
    steps::{ApproveStepBody, StepView},
};

use crate::{Client, ClientError};

impl Client {
    /// By index.
    pub async fn list_steps(&self, protocol: i64) -> Result<Vec<StepView>, ClientError> {
        self.get(&["protocols", &protocol.to_string(), "steps"], &[("limit", "500".to_owned())]).await
    }

    pub async fn get_step(&self, id: i64) -> Result<StepView, ClientError> {
        self.get(&["steps", &id.to_string()], &[]).await
    }

    pub async fn run_step(&self, id: i64) -> Result<ActionView, ClientError> {
        self.post(&["steps", &id.to_string(), "actions", "run"], &NoBody {}).await
    }

    pub async fn check_step(&self, id: i64) -> Result<ActionView, ClientError> {
        self.post(&["steps", &id.to_string(), "actions", "run_qa"], &NoBody {}).await
    }

    pub async fn approve_step(&self, id: i64, body: &ApproveStepBody) -> Result<StepView, ClientError> {
        self.post(&["steps", &id.to_string(), "actions", "approve"], body).await
    }

    /// What a step's result changes, with or without the text of it.
    pub async fn get_step_diff(&self, id: i64, patch: bool) -> Result<StepDiffView, ClientError> {
        self.get(&["steps", &id.to_string(), "diff"], &[("patch", patch.to_string())]).await
    }
}
