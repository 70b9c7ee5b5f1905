//! API tokens.

use api::{
    Page,
    health::NoBody,
    tokens::{NewTokenBody, NewTokenView, TokenView},
};

use crate::{Client, ClientError};

impl Client {
    /// The answer holds the secret, this once.
    pub async fn create_token(&self, new: &NewTokenBody) -> Result<NewTokenView, ClientError> {
        self.post(&["tokens"], new).await
    }

    pub async fn list_tokens(&self) -> Result<Page<TokenView>, ClientError> {
        self.get(&["tokens"], &[]).await
    }

    pub async fn revoke_token(&self, id: &str) -> Result<TokenView, ClientError> {
        self.post(&["tokens", id, "actions", "revoke"], &NoBody {}).await
    }
}
