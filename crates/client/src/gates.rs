//! Gates: what waits for people, and their answers.

use api::{
    Page,
    gates::{ApproveBody, DenyBody, GateView},
};

use crate::{Client, ClientError, http::query};

impl Client {
    pub async fn list_gates(
        &self,
        status: Option<&str>,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<GateView>, ClientError> {
        let query = query([
            ("status", status.map(str::to_owned)),
            ("after", after.map(str::to_owned)),
            ("limit", limit.map(|limit| limit.to_string())),
        ]);
        self.get(&["gates"], &query).await
    }

    pub async fn get_gate(&self, id: &str) -> Result<GateView, ClientError> {
        self.get(&["gates", id], &[]).await
    }

    pub async fn approve_gate(&self, id: &str, body: &ApproveBody) -> Result<GateView, ClientError> {
        self.post(&["gates", id, "actions", "approve"], body).await
    }

    pub async fn deny_gate(&self, id: &str, body: &DenyBody) -> Result<GateView, ClientError> {
        self.post(&["gates", id, "actions", "deny"], body).await
    }
}
