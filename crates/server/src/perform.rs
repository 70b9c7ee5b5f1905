//! Gives a command on behalf of a request, so that it completes although the caller has gone, and at most once for each
//! `Idempotency-Key`.

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use api::problem::{ALREADY_DONE, IDEMPOTENCY_IN_FLIGHT, IDEMPOTENCY_MISMATCH};
use axum::{
    Json,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use control::{Cause, CommandError, Control, DedupKey, ledger::Rendered, tokens::Session};
use domain::commit::StoredAnswer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::to_raw_value};

use crate::{app::App, asked::Once, auth::actor, problem::Problem};

/// What is kept of an answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: Value,
}

/// The answer to keep with the commit, before anybody knows whether it is made.
pub(crate) fn kept(view: &impl Serialize) -> Rendered {
    let answer = match to_raw_value(view) {
        Ok(body) => format!("{{\"status\":200,\"body\":{body}}}"),
        // An answer that cannot be written is not sent either.
        Err(_) => String::new(),
    };
    Rendered { answer, messages: Vec::new() }
}

impl App {
    /// Gives one command. `command` must hand the cause it gets to the one commit it makes, and keep its answer with
    /// [`kept`]; what it returns is the body of the answer.
    pub(crate) async fn perform<V, F>(
        &self,
        session: &Session,
        once: Once,
        command: impl FnOnce(Control, Cause) -> F + Send,
    ) -> Result<Response, Problem>
    where
        V: Serialize + Send + 'static,
        F: Future<Output = Result<V, CommandError>> + Send + 'static,
    {
        let cause = Cause::of(actor(session));
        let Some(key) = once.key else {
            let view = detached(Box::pin(command(self.control.clone(), cause))).await?;
            host::failpoint!("server.command.done");
            self.metrics.count_command(view.is_ok());
            return Ok(Json(view?).into_response());
        };
        let key = DedupKey { scope: format!("http:{}", session.token.id), key, request_hash: once.request_hash };
        let flight = self.in_flight.enter(&key)?;
        if let Some(stored) = self.control.store().find_answer(&key.scope, &key.key).await? {
            return replay(&stored, &key);
        }
        host::failpoint!("server.keyed.begun");
        let command = Box::pin(command(self.control.clone(), cause.once(Some(key.clone()))));
        let outcome = detached(async move {
            let outcome = command.await;
            drop(flight);
            outcome
        })
        .await?;
        host::failpoint!("server.keyed.stored");
        self.metrics.count_command(outcome.is_ok());
        match outcome {
            // A keyed request is answered with what was kept, so that its repeats are answered with the same bytes.
            Ok(view) => match self.control.store().find_answer(&key.scope, &key.key).await {
                Ok(Some(stored)) if !stored.answer.is_empty() => answer(&stored),
                // It is done, whatever stands in the way of reading what was kept of it.
                Ok(_) | Err(_) => Ok(Json(view).into_response()),
            },
            Err(CommandError::Repeated(stored)) => replay(&stored, &key),
            Err(error) => Err(error.into()),
        }
    }
}

/// Carries a command through whatever becomes of the connection that asked for it.
pub(crate) async fn detached<T: Send + 'static>(
    command: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    host::task::spawn("command", command).await.map_err(|error| Problem::internal(&error))
}

/// Answers a repeat as its first time was answered.
fn replay(stored: &StoredAnswer, key: &DedupKey) -> Result<Response, Problem> {
    if stored.request_hash != key.request_hash {
        return Err(Problem::new(IDEMPOTENCY_MISMATCH, "this Idempotency-Key was used for another request"));
    }
    if stored.answer.is_empty() {
        return Err(Problem::new(ALREADY_DONE, "the first answer held a secret and was not kept"));
    }
    let mut response = answer(stored)?;
    response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

fn answer(stored: &StoredAnswer) -> Result<Response, Problem> {
    let kept: Kept = serde_json::from_str(&stored.answer).map_err(|error| Problem::internal(&error))?;
    let status = StatusCode::from_u16(kept.status).map_err(|error| Problem::internal(&error))?;
    Ok((status, Json(kept.body)).into_response())
}

/// The keys whose first request is still being carried out by this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight {
    keys: Arc<Mutex<HashSet<(String, String)>>>,
}

/// Leaves when it is dropped.
#[derive(Debug)]
struct Flight {
    keys: InFlight,
    key: (String, String),
}

impl InFlight {
    fn enter(&self, key: &DedupKey) -> Result<Flight, Problem> {
        let key = (key.scope.clone(), key.key.clone());
        let entered = self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if entered {
            return Ok(Flight { keys: self.clone(), key });
        }
        Err(Problem::new(IDEMPOTENCY_IN_FLIGHT, "a request with this Idempotency-Key is under way").retry_after(1))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.keys.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_flight_until_its_request_ends() {
        let in_flight = InFlight::default();
        let key = |key: &str| DedupKey { scope: "http:t".to_owned(), key: key.to_owned(), request_hash: String::new() };

        let flight = in_flight.enter(&key("a")).unwrap();

        assert_eq!(in_flight.enter(&key("a")).unwrap_err().code(), "idempotency_in_flight");
        assert!(in_flight.enter(&key("b")).is_ok());
        drop(flight);
        assert!(in_flight.enter(&key("a")).is_ok());
    }
}
