//! The catalog in force.

use api::jobs::{CatalogView, JobView};

use crate::{Client, ClientError};

impl Client {
    pub async fn list_jobs(&self) -> Result<CatalogView, ClientError> {
        self.get(&["jobs"], &[]).await
    }

    pub async fn get_job(&self, key: &str) -> Result<JobView, ClientError> {
        self.get(&["jobs", key], &[]).await
    }
}
