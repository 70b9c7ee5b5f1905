//! Who asks, and what they may do.
//!
//! A right is an extractor whose value the handler needs, so that it cannot be forgotten. Whatever is wrong with a
//! token, the answer is the same.

use api::problem::{MISSING_SCOPE, NOT_A_PERSON, UNAUTHENTICATED};
use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, header, request::Parts},
};
use control::tokens::Session;
use domain::{actor::Actor, person::PersonKind, token::Scope};

use crate::{app::App, problem::Problem, written};

/// The session of a request that carries a valid token.
async fn authenticate(parts: &Parts, app: &App) -> Result<Session, Problem> {
    let secret = bearer(parts).ok_or_else(refusal)?;
    let session = app.control.authenticate(secret).await?.ok_or_else(refusal)?;
    app.rate.take(session.token.id.as_str())?;
    Ok(session)
}

fn bearer(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    written::bearer(value.to_str().ok()?)
}

fn refusal() -> Problem {
    Problem::new(UNAUTHENTICATED, "a valid token is needed")
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pilothouse\""))
}

pub(crate) fn require(session: Session, scope: Scope) -> Result<Session, Problem> {
    if session.token.allows(scope) {
        return Ok(session);
    }
    let detail = format!("the token {} lacks the scope {}", session.token.id, scope.as_str());
    Err(Problem::new(MISSING_SCOPE, detail))
}

/// The person as the ledger shows who acted.
pub(crate) fn actor(session: &Session) -> Actor {
    Actor::Person { id: session.person.id.clone(), account: session.person.name.clone() }
}

/// A right, which carries the session of whoever has it.
pub(crate) trait Right: FromRequestParts<App, Rejection = Problem> {
    fn session(&self) -> &Session;
}

macro_rules! is_right {
    ($($name:ident)*) => { $(
        impl Right for $name {
            fn session(&self) -> &Session {
                &self.0
            }
        }
    )* };
}

is_right!(Reader Steerer Approver);

macro_rules! right {
    ($(#[$doc:meta])* $name:ident, $scope:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name(pub(crate) Session);

        impl FromRequestParts<App> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
                Ok(Self(require(authenticate(parts, app).await?, $scope)?))
            }
        }
    };
}

right!(
    /// May read everything.
    Reader,
    Scope::Read
);
right!(
    /// May start, cancel and retry runs.
    Runner,
    Scope::RunsWrite
);
right!(
    /// May create projects and protocols and steer them.
    Steerer,
    Scope::ProtocolsWrite
);
right!(
    /// May do everything.
    Admin,
    Scope::Admin
);

/// May read metrics.
#[derive(Clone, Debug)]
pub(crate) struct MetricsReader;

impl FromRequestParts<App> for MetricsReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        require(authenticate(parts, app).await?, Scope::Metrics).map(|_| Self)
    }
}

/// May decide gates: a person, never an agent or a worker, whatever the token's scopes say.
#[derive(Clone, Debug)]
pub(crate) struct Approver(pub(crate) Session);

impl FromRequestParts<App> for Approver {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let session = require(authenticate(parts, app).await?, Scope::GatesDecide)?;
        match session.person.kind {
            PersonKind::Human => Ok(Self(session)),
            PersonKind::Agent | PersonKind::Worker => {
                Err(Problem::new(NOT_A_PERSON, format!("{} is not a person", session.person.name)))
            }
        }
    }
}

/// May speak for any sender of the development channel, which has to be on, from this machine.
#[derive(Clone, Debug)]
pub(crate) struct DevSender(pub(crate) Session);

impl FromRequestParts<App> for DevSender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let from_here = parts.extensions.get::<crate::edge::Peer>().is_some_and(|peer| peer.0.ip().is_loopback());
        if !app.dev_channel || !from_here {
            return Err(Problem::new(api::problem::DEV_CHANNEL_OFF, "the development channel is off"));
        }
        require(authenticate(parts, app).await?, Scope::DevInbound).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_secret_is_what_a_header_holds_whatever_that_is() {
        let ours = ["Bearer ph_pat_0123456789ab_secret", "bearer x", "Basic b3duZXI6eA=="];
        let words = ["Bearer ", "BEARER\t", "ph_", ", ", " ", "\t", "\u{a0}", "=", "\u{130}", "ph_pat_"];
        let samples = testkit::fuzz::text::Samples::new(ours, &words);
        testkit::fuzz::Fuzz::new("secrets", 100_000).run(|random, input| {
            samples.draw(random, input);
            crate::fuzzed::secret(&String::from_utf8_lossy(input));
        });
    }
}
