//! The owner, and who a secret belongs to.

use std::time::Duration;

use control::{Cause, tokens::NewToken};
use domain::{actor::Actor, token::Scope};

use crate::TestApp;

#[tokio::test]
async fn the_first_start_makes_one_owner_and_one_admin_token() {
    let app = TestApp::start("").await;

    let (one, other) = tokio::join!(app.control.bootstrap(), app.control.bootstrap());
    let secrets: Vec<String> = [one.unwrap(), other.unwrap()].into_iter().flatten().collect();

    assert_eq!(secrets.len(), 1);
    let session = app.control.authenticate(&secrets[0]).await.unwrap().unwrap();
    assert_eq!(session.person.name, "owner");
    assert!(session.token.allows(Scope::GatesDecide));
}

#[tokio::test]
async fn a_secret_counts_until_it_expires_or_is_revoked() {
    let app = TestApp::start("").await;
    let owner = app.control.ensure_account("dev:alice").await.unwrap();
    let cause = Cause::of(Actor::System);
    let new = NewToken {
        name: "ci".into(),
        person: owner.id,
        scopes: vec![Scope::Read],
        expires_in: Some(Duration::from_secs(7200)),
    };
    let (token, secret) = app.control.create_token(&new, &cause).await.unwrap();
    let (_, short_lived) = app.control.create_token(&new, &cause).await.unwrap();

    assert!(app.control.authenticate(&secret).await.unwrap().is_some());
    app.control.revoke_token(&token.id, &cause).await.unwrap();
    assert!(app.control.authenticate(&secret).await.unwrap().is_none());
    assert!(app.control.authenticate(&short_lived).await.unwrap().is_some());
    app.advance(3);
    assert!(app.control.authenticate(&short_lived).await.unwrap().is_none());
    assert!(app.control.authenticate("ph_pat_nonsense").await.unwrap().is_none());
}

#[tokio::test]
async fn a_reset_makes_earlier_admin_tokens_worthless() {
    let app = TestApp::start("").await;
    let first = app.control.bootstrap().await.unwrap().unwrap();

    let second = app.control.reset_admin_token().await.unwrap();

    assert!(app.control.authenticate(&first).await.unwrap().is_none());
    assert!(app.control.authenticate(&second).await.unwrap().is_some());
}
