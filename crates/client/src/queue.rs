//! The work queue.

use api::queue::{QueueJobView, QueueView};

use crate::{Client, ClientError, http::query};

impl Client {
    pub async fn get_queue(&self) -> Result<QueueView, ClientError> {
        self.get(&["queues"], &[]).await
    }

    pub async fn list_queue_jobs(
        &self,
        status: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Vec<QueueJobView>, ClientError> {
        let query = query([("status", status.map(str::to_owned)), ("limit", limit.map(|limit| limit.to_string()))]);
        self.get(&["queues", "jobs"], &query).await
    }
}
