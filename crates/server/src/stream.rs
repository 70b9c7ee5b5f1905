//! Server-sent events: bounded buffers, heartbeats, an end when the server stops or the reader does not read.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Write as _,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::problem::TOO_MANY_STREAMS;
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use control::{Control, tokens::Session};
use domain::{person::Person, token::Token};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{app::App, problem::Problem};

const BUFFER: usize = 64;

/// How many streams each person holds.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    max: usize,
    held: Arc<Mutex<HashMap<String, usize>>>,
}

#[derive(Debug)]
struct Place {
    streams: Streams,
    person: String,
}

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: Arc::default() }
    }

    fn enter(&self, person: &str) -> Result<Place, Problem> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(person.to_owned()).or_default();
        if *count >= self.max {
            let detail = format!("{} streams are open for this person", self.max);
            return Err(Problem::new(TOO_MANY_STREAMS, detail).retry_after(5));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), person: person.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.streams.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.person) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.person);
            }
        }
    }
}

/// The writing end of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    sender: mpsc::Sender<Bytes>,
    patience: Duration,
}

/// The reader is gone or too slow.
#[derive(Debug)]
pub(crate) struct Gone;

impl Feed {
    /// Sends one event. `kind` is none for the usual one.
    pub(crate) async fn send(&self, id: &str, kind: Option<&str>, data: &impl Serialize) -> Result<(), Gone> {
        let data = serde_json::to_string(data).map_err(|_| Gone)?;
        let mut text = String::with_capacity(data.len() + id.len() + 32);
        if let Some(kind) = kind {
            let _ = writeln!(text, "event: {kind}");
        }
        // Neither ids nor JSON on one line hold line breaks.
        let _ = write!(text, "id: {id}\ndata: {data}\n\n");
        self.write(text).await
    }

    async fn write(&self, text: String) -> Result<(), Gone> {
        self.sender.send_timeout(text.into(), self.patience).await.map_err(|_| Gone)
    }
}

/// Answers with a stream that `feed` writes until it returns, the reader leaves or the server stops.
pub(crate) fn respond<F>(app: &App, session: &Session, feed: impl FnOnce(Feed) -> F) -> Result<Response, Problem>
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let place = app.streams.enter(session.person.id.as_str())?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    let writer = Feed { sender: sender.clone(), patience: app.limits.stream_idle };
    let heart = writer.clone();
    let every = app.limits.stream_heartbeat;
    let feeding = feed(writer);
    let stopping = app.stopping.clone();
    let (control, session) = (app.control.clone(), session.clone());
    host::task::spawn("stream", async move {
        let beating = async {
            // Tells proxies and readers at once that the stream stands, and how soon to come back.
            let mut beat = heart.write("retry: 1000\n\n".to_owned()).await;
            while beat.is_ok() && is_welcome(&control, &session).await {
                tokio::time::sleep(every).await;
                beat = heart.write(": still here\n\n".to_owned()).await;
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = sender.closed() => {}
            () = beating => {}
            _ = feeding => {}
        }
        drop(place);
    });
    let body = unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(bytes), receiver))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether the token that opened a stream still opens one. A database that cannot tell ends no stream.
async fn is_welcome(control: &Control, session: &Session) -> bool {
    let token = control.store().find::<Token>(session.token.id.as_str()).await;
    let person = control.store().find::<Person>(session.person.id.as_str()).await;
    let now = control.clock().now();
    let valid = token.map_or(true, |token| token.is_some_and(|token| token.subject.is_valid(now)));
    valid && person.map_or(true, |person| person.is_some_and(|person| person.subject.active))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_holds_so_many_streams_and_no_more() {
        let streams = Streams::new(2);
        let first = streams.enter("ada").unwrap();
        let _second = streams.enter("ada").unwrap();

        assert_eq!(streams.enter("ada").unwrap_err().code(), "too_many_streams");
        assert!(streams.enter("bob").is_ok());
        drop(first);
        assert!(streams.enter("ada").is_ok());
    }
}
