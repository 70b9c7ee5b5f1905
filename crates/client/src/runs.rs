//! Runs: asked for, looked at, stopped, tried again.

use api::{
    Page,
    attempts::AttemptView,
    health::NoBody,
    runs::{NewRunBody, RunView},
    timeline::RunTimeline,
};

use crate::{Client, ClientError, http::query};

impl Client {
    /// Asks for a run; with a key, at most once.
    pub async fn request_run(&self, new: &NewRunBody, key: Option<&str>) -> Result<RunView, ClientError> {
        self.post_once(&["runs"], new, key).await
    }

    pub async fn list_runs(
        &self,
        status: Option<&str>,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<RunView>, ClientError> {
        let query = query([
            ("status", status.map(str::to_owned)),
            ("after", after.map(str::to_owned)),
            ("limit", limit.map(|limit| limit.to_string())),
        ]);
        self.get(&["runs"], &query).await
    }

    /// A run and its inherited timeline.
    pub async fn get_run(&self, id: &str) -> Result<RunTimeline, ClientError> {
        self.get(&["runs", id], &[]).await
    }

    /// Everything about a run.
    pub async fn get_run_details(&self, id: &str) -> Result<RunView, ClientError> {
        self.get(&["runs", id, "details"], &[]).await
    }

    pub async fn list_attempts(&self, run: &str) -> Result<Page<AttemptView>, ClientError> {
        self.get(&["runs", run, "attempts"], &[]).await
    }

    pub async fn cancel_run(&self, id: &str) -> Result<RunView, ClientError> {
        self.post(&["runs", id, "actions", "cancel"], &NoBody {}).await
    }

    pub async fn retry_run(&self, id: &str) -> Result<RunView, ClientError> {
        self.post(&["runs", id, "actions", "retry"], &NoBody {}).await
    }
}
