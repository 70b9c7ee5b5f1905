//! The engines of the server's node.

use api::engines::{EngineListView, EngineView};

use crate::{Client, ClientError};

impl Client {
    pub async fn list_engines(&self) -> Result<EngineListView, ClientError> {
        self.get(&["engines"], &[]).await
    }

    pub async fn get_engine(&self, id: &str) -> Result<EngineView, ClientError> {
        self.get(&["engines", id], &[]).await
    }
}
