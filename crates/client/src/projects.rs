//! Projects.

use api::projects::{NewProjectBody, ProjectView};

use crate::{Client, ClientError};

impl Client {
    pub async fn create_project(&self, new: &NewProjectBody) -> Result<ProjectView, ClientError> {
        self.post(&["projects"], new).await
    }

    /// Newest first.
    pub async fn list_projects(&self) -> Result<Vec<ProjectView>, ClientError> {
        self.get(&["projects"], &[("limit", "500".to_owned())]).await
    }

    pub async fn get_project(&self, id: i64) -> Result<ProjectView, ClientError> {
        self.get(&["projects", &id.to_string()], &[]).await
    }
}
