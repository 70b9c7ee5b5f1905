//! API tokens. A secret is in one answer only, the one that made it.

use domain::token::Token;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token to make.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    /// What it is for.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// `admin`, `read`, `runs:write`, `gates:decide`, `protocols:write`, `dev:inbound`, `metrics`
    pub scopes: Vec<String>,
    /// Whose it is, by name or id; the caller when missing.
    #[serde(default)]
    pub person: Option<String>,
    /// 90 days when missing, at most 365.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 365)]
    pub expires_in_days: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    pub id: String,
    pub name: String,
    /// Whose it is.
    pub person: String,
    pub scopes: Vec<String>,
    /// `active`, `expired` or `revoked`
    pub status: String,
    pub created_at: String,
    pub expires_at: Option<String>,
    pub revoked_at: Option<String>,
}

/// A token that was just made. Its secret is shown here and never again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    #[serde(flatten)]
    pub token: TokenView,
    pub secret: String,
}

impl TokenView {
    pub fn of(token: &Token, now: domain::time::Timestamp) -> Self {
        let expired = token.revoked_at.is_none() && !token.is_valid(now);
        Self {
            id: token.id.to_string(),
            name: token.name.clone(),
            person: token.person.to_string(),
            scopes: token.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            status: if expired { "expired" } else { token.status() }.to_owned(),
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            revoked_at: token.revoked_at.map(|at| at.to_string()),
        }
    }
}
