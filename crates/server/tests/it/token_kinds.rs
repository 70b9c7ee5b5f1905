//! Every route of the description with every kind of token there is: whose it is, and whether it still counts.
//!
//! Tokens belong to people and not to projects, so that there is no token of another project to try.

use control::{Cause, CommandError, ledger::Rendered};
use domain::{
    actor::Actor,
    decision::Decision,
    ids::PersonId,
    person::{Person, PersonEvent, PersonKind},
    token::Scope,
};

use crate::{
    access::{concrete, operations},
    app::TestApp,
};

/// The scopes that somebody who is no person may hold.
const OF_ANYBODY: [Scope; 5] =
    [Scope::Read, Scope::RunsWrite, Scope::ProtocolsWrite, Scope::DevInbound, Scope::Metrics];

async fn somebody(app: &TestApp, name: &str, kind: PersonKind) -> PersonId {
    app.control.ensure_person(name, kind, &[]).await.unwrap().id
}

async fn disable(app: &TestApp, person: &PersonId) {
    let disabled = |_: &Person, _: &_| Ok::<_, CommandError>(Decision::of([PersonEvent::Disabled]));
    let cause = Cause::of(Actor::System);
    app.control.command(person.as_str(), &"disable", &cause, disabled, |_| Rendered::default()).await.unwrap();
}

#[tokio::test]
async fn a_token_that_no_longer_counts_opens_no_route_whatever_it_was_for() {
    let app = TestApp::start().await;
    let mut dead = Vec::new();
    for scope in Scope::ALL {
        let revoked = app.token(&[scope]).await;
        let id = revoked.split('_').nth(2).unwrap().to_owned();
        assert_eq!(app.act(&format!("/tokens/{id}/actions/revoke")).send().await.status, 200);
        dead.push(("revoked", scope, revoked));
        let leaving = somebody(&app, &format!("leaving-{}", scope.as_str().replace(':', "-")), PersonKind::Human).await;
        dead.push(("of somebody disabled", scope, app.token_of(&leaving, &[scope]).await));
        disable(&app, &leaving).await;
        dead.push(("expired", scope, app.token(&[scope]).await));
    }
    app.clock.advance(std::time::Duration::from_secs(3601));
    let replaced = app.admin.clone();
    let admin = app.control.reset_admin_token().await.unwrap();
    dead.push(("of the first start, after a reset", Scope::Admin, replaced));
    let before = app.count_events().await;

    for operation in operations().iter().filter(|operation| operation.scope.is_some()) {
        let call = || app.act(&concrete(&operation.path)).method(&operation.method).body("{");
        for (kind, scope, token) in &dead {
            let answer = call().token(token).send().await;
            let what = format!("{} {} with a {} token {kind}", operation.method, operation.path, scope.as_str());
            assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("unauthenticated")), "{what}");
        }
        if !operation.path.ends_with("/stream") {
            let answer = call().token(&admin).send().await;
            assert!(![401, 403].contains(&answer.status), "{} with the new token: {}", operation.path, answer.text());
        }
    }

    assert_eq!(app.count_events().await, before);
}

#[tokio::test]
async fn whose_token_it_is_changes_nothing_but_who_may_decide() {
    let app = TestApp::start().await;
    let account = app.control.ensure_account("dev:ada").await.unwrap().id;
    let mut tokens = Vec::new();
    for scope in Scope::ALL {
        tokens.push(("somebody of the development channel", scope, app.token_of(&account, &[scope]).await));
    }
    for (name, kind) in [("robot", PersonKind::Agent), ("w-1", PersonKind::Worker)] {
        let id = somebody(&app, name, kind).await;
        for scope in OF_ANYBODY {
            tokens.push((name, scope, app.token_of(&id, &[scope]).await));
        }
    }

    for operation in operations() {
        let Some(needed) = operation.scope else { continue };
        for (whose, scope, token) in &tokens {
            let allowed = *scope == needed || *scope == Scope::Admin;
            // A stream that is let in would not end.
            if allowed && operation.path.ends_with("/stream") {
                continue;
            }
            let call = app.act(&concrete(&operation.path)).method(&operation.method).body("{");
            let answer = call.token(token).send().await;
            let what = format!("{} {} of {whose} with {}", operation.method, operation.path, scope.as_str());
            match allowed {
                true => assert!(![401, 403].contains(&answer.status), "{what}: {}", answer.text()),
                false => {
                    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("missing_scope")), "{what}");
                }
            }
        }
    }
}
