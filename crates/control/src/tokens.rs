//! API tokens: made, checked, revoked. A secret is shown once; the ledger keeps its SHA-256.

use std::time::Duration;

use domain::{
    actor::Actor,
    commit::{Guard, SubjectKind},
    decision::Decision,
    ids::{PersonId, TokenId},
    person::{Person, PersonKind},
    token::{Scope, Token, TokenEvent},
};

use crate::{Cause, Control, error::CommandError, ledger::Rendered, people::OWNER};

/// 43 base62 characters carry 256 bits.
const SECRET_LENGTH: usize = 43;
const ID_LENGTH: usize = 12;

/// A token to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub name: String,
    pub person: PersonId,
    pub scopes: Vec<Scope>,
    /// `None` never ends.
    pub expires_in: Option<Duration>,
}

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub token: Token,
    pub person: Person,
}

/// A secret for a token that does not exist yet: `ph_pat_<id>_<256 bits>`.
pub fn draw_secret() -> String {
    format!("ph_pat_{}_{}", host::random::base62(ID_LENGTH), host::random::base62(SECRET_LENGTH))
}

impl Control {
    /// Makes a token; the second value is its secret, never to be seen again.
    pub async fn create_token(&self, new: &NewToken, cause: &Cause) -> Result<(Token, String), CommandError> {
        let secret = draw_secret();
        Ok((self.create_guarded_token(new, &secret, cause, None).await?, secret))
    }

    async fn create_guarded_token(
        &self,
        new: &NewToken,
        secret: &str,
        cause: &Cause,
        guard: Option<Guard>,
    ) -> Result<Token, CommandError> {
        let person = self.get_person(&new.person).await?;
        if person.kind != PersonKind::Human && new.scopes.iter().any(|s| matches!(s, Scope::GatesDecide | Scope::Admin))
        {
            return Err(CommandError::Invalid {
                code: "scope_not_allowed",
                problems: vec![format!("{} is not a person; only people may hold gates:decide or admin", person.name)],
            });
        }
        let id: String = secret.trim_start_matches("ph_pat_").chars().take(ID_LENGTH).collect();
        let secret_hash = host::hash::sha256_hex(secret.as_bytes());
        let changed = self
            .create(
                cause,
                |context| {
                    let token = Token {
                        id: TokenId(id.clone()),
                        name: new.name.clone(),
                        person: new.person.clone(),
                        secret_hash: secret_hash.clone(),
                        scopes: new.scopes.clone(),
                        created_at: context.now,
                        expires_at: new.expires_in.map(|span| context.now.after(span)),
                        revoked_at: None,
                    };
                    let mut decision = Decision::of([TokenEvent::Created { token }]);
                    decision.guards.extend(guard.clone());
                    // The hash stays out of the recorded command; the row and the event have it.
                    (serde_json::json!({ "type": "create_token", "name": new.name, "scopes": new.scopes }), decision)
                },
                |_: &Token| Rendered::default(),
            )
            .await?;
        Ok(changed.subject)
    }

    /// Who holds this secret; `None` for a secret that is unknown, expired, revoked, or of somebody disabled.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<Session>, CommandError> {
        if !secret.starts_with("ph_") || secret.len() > 200 {
            return Ok(None);
        }
        // The lookup is by hash, so that comparing takes no longer for a secret that is nearly right.
        let hash = host::hash::sha256_hex(secret.as_bytes());
        let Some(token) = self.store().known_token_by_hash(&hash).await? else { return Ok(None) };
        if !token.is_valid(self.clock().now()) {
            return Ok(None);
        }
        let known = self.store().known_person(&token.person).await?;
        let person =
            known.ok_or_else(|| CommandError::NotFound { kind: SubjectKind::Person, id: token.person.to_string() })?;
        Ok(person.active.then_some(Session { token, person }))
    }

    pub async fn revoke_token(&self, id: &TokenId, cause: &Cause) -> Result<Token, CommandError> {
        let revoke = |token: &Token, context: &domain::decision::Context| {
            Ok::<_, CommandError>(match token.revoked_at {
                Some(_) => Decision::nothing(),
                None => Decision::of([TokenEvent::Revoked { at: context.now }]),
            })
        };
        Ok(self.command(id.as_str(), &"revoke_token", cause, revoke, |_| Rendered::default()).await?.subject)
    }

    /// The owner and the first admin token, once for each ledger: `None` when somebody was first.
    pub async fn bootstrap(&self) -> Result<Option<String>, CommandError> {
        let secret = draw_secret();
        Ok(self.bootstrap_with(&secret).await?.then_some(secret))
    }

    /// The same with a secret that [`draw_secret`] drew and that is safe on disk already, so that a crash cannot leave a
    /// ledger whose only secret nobody has.
    pub async fn bootstrap_with(&self, secret: &str) -> Result<bool, CommandError> {
        let owner = self.ensure_person(OWNER, PersonKind::Human, &[]).await?;
        let guard = Guard::Unique { key: "bootstrap:admin-token".to_owned(), holder: owner.id.to_string() };
        let new = self.admin_token(&owner);
        match self.create_guarded_token(&new, secret, &Cause::of(Actor::System), Some(guard)).await {
            Ok(_) => Ok(true),
            Err(CommandError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A new admin token for the owner; every earlier admin token of the owner stops working.
    pub async fn reset_admin_token(&self) -> Result<String, CommandError> {
        let owner = self.ensure_person(OWNER, PersonKind::Human, &[]).await?;
        let cause = Cause::of(Actor::System);
        for token in self.store().list_tokens(500).await? {
            if token.person == owner.id && token.scopes.contains(&Scope::Admin) {
                self.revoke_token(&token.id, &cause).await?;
            }
        }
        Ok(self.create_token(&self.admin_token(&owner), &cause).await?.1)
    }

    fn admin_token(&self, owner: &Person) -> NewToken {
        NewToken { name: "admin".to_owned(), person: owner.id.clone(), scopes: vec![Scope::Admin], expires_in: None }
    }
}
