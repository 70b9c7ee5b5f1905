//! Tokens: made, listed, revoked. Only for admins.

use std::time::Duration;

use api::{
    Page, ProblemBody,
    health::NoBody,
    problem::{INVALID_BODY, UNKNOWN_PERSON, UNKNOWN_TOKEN},
    tokens::{NewTokenBody, NewTokenView, TokenView},
};
use axum::{Json, extract::State, response::Response};
use control::tokens::NewToken;
use domain::{ids::PersonId, ids::TokenId, person::Person, token::Scope};

use crate::{
    app::App,
    asked::{Act, Asked, Id, PageQuery, Queried, page_limit},
    auth::Admin,
    problem::{Problem, typed},
};

const DEFAULT_DAYS: u32 = 90;
const MAX_DAYS: u32 = 365;
const MAX_NAME: usize = 100;

/// List tokens
///
/// Newest first, without their secrets, which nobody keeps.
#[utoipa::path(get, path = "/tokens", tag = "tokens", security(("bearer" = ["admin"])),
    params(("limit" = Option<i64>, Query, description = "1 to 500, 50 when missing")),
    responses((status = 200, body = Page<TokenView>), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn list_tokens(
    State(app): State<App>,
    _: Admin,
    Queried(query): Queried<PageQuery>,
) -> Result<Json<Page<TokenView>>, Problem> {
    let now = app.control.clock().now();
    let tokens = app.control.store().list_tokens(page_limit(query.limit)).await?;
    Ok(Json(Page { items: tokens.iter().map(|token| TokenView::of(token, now)).collect(), next_cursor: None }))
}

/// Make a token
///
/// Its secret is in this answer and in no other.
#[utoipa::path(post, path = "/tokens", tag = "tokens", security(("bearer" = ["admin"])), request_body = NewTokenBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat is refused: the secret is not kept")),
    responses((status = 200, body = NewTokenView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn create_token(
    State(app): State<App>,
    admin: Admin,
    Asked { body, once }: Asked<NewTokenBody>,
) -> Result<Response, Problem> {
    let person = match &body.person {
        None => admin.0.person.id.clone(),
        Some(typed) => find_person(&app, typed).await?,
    };
    let new = NewToken {
        name: token_name(&body.name)?,
        person,
        scopes: parse_scopes(&body.scopes)?,
        expires_in: Some(lifetime(body.expires_in_days)?),
    };
    let now = app.control.clock().now();
    app.perform(&admin.0, once, move |control, cause| async move {
        let (token, secret) = control.create_token(&new, &cause).await?;
        Ok(NewTokenView { token: TokenView::of(&token, now), secret })
    })
    .await
}

fn token_name(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    if (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(Problem::new(INVALID_BODY, format!("name: expected one line of 1 to {MAX_NAME} characters")))
}

fn parse_scopes(names: &[String]) -> Result<Vec<Scope>, Problem> {
    let known = || Scope::ALL.map(Scope::as_str).join(", ");
    let mut scopes = Vec::new();
    for name in names {
        let scope = Scope::parse(name)
            .ok_or_else(|| Problem::new(INVALID_BODY, format!("scopes: {} is none of {}", typed(name), known())))?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        return Err(Problem::new(INVALID_BODY, format!("scopes: expected one or more of {}", known())));
    }
    Ok(scopes)
}

fn lifetime(days: Option<u32>) -> Result<Duration, Problem> {
    let days = days.unwrap_or(DEFAULT_DAYS);
    if (1..=MAX_DAYS).contains(&days) {
        return Ok(Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    }
    Err(Problem::new(INVALID_BODY, format!("expires_in_days: expected 1 to {MAX_DAYS}")))
}

async fn find_person(app: &App, name_or_id: &str) -> Result<PersonId, Problem> {
    let store = app.control.store();
    if let Some(found) = store.find_person_by_name(name_or_id).await? {
        return Ok(found.subject.id);
    }
    match store.find::<Person>(name_or_id).await? {
        Some(found) => Ok(found.subject.id),
        None => Err(Problem::new(UNKNOWN_PERSON, format!("{} is nobody's name or id", typed(name_or_id)))),
    }
}

/// Revoke a token
///
/// At once and for good. Revoking twice is not an error.
#[utoipa::path(post, path = "/tokens/{id}/actions/revoke", tag = "tokens", security(("bearer" = ["admin"])),
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)), request_body = Option<NoBody>,
    responses((status = 200, body = TokenView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn revoke_token(
    State(app): State<App>,
    admin: Admin,
    id: Id,
    Act { body: NoBody {}, once }: Act<NoBody>,
) -> Result<Response, Problem> {
    if id.0.len() > 64 || !id.0.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(id.unknown(UNKNOWN_TOKEN, "token"));
    }
    let now = app.control.clock().now();
    app.perform(&admin.0, once, move |control, cause| async move {
        let token = control.revoke_token(&TokenId(id.0), &cause).await?;
        Ok(TokenView::of(&token, now))
    })
    .await
}
