//! API tokens: credentials of a person, with scopes, an end and a way to revoke them.

use serde::{Deserialize, Serialize};

use crate::{
    aggregate::Aggregate,
    commit::SubjectKind,
    ids::{PersonId, TokenId},
    time::Timestamp,
};

/// What a token allows. Reading everything needs `read`; `admin` includes all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Scope {
    #[serde(rename = "admin")]
    Admin,
    #[serde(rename = "read")]
    Read,
    /// Start, cancel and retry runs.
    #[serde(rename = "runs:write")]
    RunsWrite,
    /// Decide gates. Only for tokens of people.
    #[serde(rename = "gates:decide")]
    GatesDecide,
    /// Create projects and protocols and steer them.
    #[serde(rename = "protocols:write")]
    ProtocolsWrite,
    /// Speak for any sender of the development channel.
    #[serde(rename = "dev:inbound")]
    DevInbound,
    #[serde(rename = "metrics")]
    Metrics,
}

impl Scope {
    pub const ALL: [Self; 7] = [
        Self::Admin,
        Self::Read,
        Self::RunsWrite,
        Self::GatesDecide,
        Self::ProtocolsWrite,
        Self::DevInbound,
        Self::Metrics,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Read => "read",
            Self::RunsWrite => "runs:write",
            Self::GatesDecide => "gates:decide",
            Self::ProtocolsWrite => "protocols:write",
            Self::DevInbound => "dev:inbound",
            Self::Metrics => "metrics",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub id: TokenId,
    /// What it is for, in its maker's words.
    pub name: String,
    pub person: PersonId,
    /// SHA-256 of the secret, hex. The secret itself is shown once and never stored.
    pub secret_hash: String,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TokenEvent {
    Created { token: Token },
    Revoked { at: Timestamp },
}

impl Token {
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }

    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&Scope::Admin) || self.scopes.contains(&scope)
    }

    pub fn status(&self) -> &'static str {
        if self.revoked_at.is_some() { "revoked" } else { "active" }
    }
}

impl Aggregate for Token {
    type Event = TokenEvent;

    const KIND: SubjectKind = SubjectKind::Token;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn created(event: &TokenEvent) -> Option<Self> {
        match event {
            TokenEvent::Created { token } => Some(token.clone()),
            TokenEvent::Revoked { .. } => None,
        }
    }

    fn apply(&mut self, event: &TokenEvent) {
        match event {
            TokenEvent::Created { token } => *self = token.clone(),
            TokenEvent::Revoked { at } => self.revoked_at = Some(*at),
        }
    }

    fn event_name(event: &TokenEvent) -> &'static str {
        match event {
            TokenEvent::Created { .. } => "token_created",
            TokenEvent::Revoked { .. } => "token_revoked",
        }
    }
}
