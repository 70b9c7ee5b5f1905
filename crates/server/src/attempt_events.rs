//! What happens in an attempt, as its engine tells it: all of it so far, then what comes, without a gap between.
//!
//! An attempt may need several runs of its engine, which are followed one after the other. An event's id is the run, the
//! line that it was read from and its place among that line's events. Whoever comes back with an id gets what is behind
//! it: the output is read again from its beginning, because what a line means may depend on lines before it.

use std::time::Duration;

use api::{ProblemBody, attempts::AttemptEventView, problem::INVALID_CURSOR};
use axum::{extract::State, http::HeaderMap, response::Response};
use domain::attempt::Attempt;
use engines::{
    EngineEvent,
    engine::{Engine, Transcript},
    runs::{self, Before},
};

use crate::{
    app::App,
    asked::Id,
    attempts::find_attempt,
    auth::Reader,
    logs::Spool,
    problem::Problem,
    sight::ProjectKey,
    stream::{Feed, Gone, respond},
};

/// How much is read at once.
const PIECE: usize = 256 * 1024;
/// How often a follower looks for more output.
const LOOK: Duration = Duration::from_millis(20);
/// How often it asks the ledger whether the attempt is over: a look at a file is cheap, a query is everybody's.
const ASK: Duration = Duration::from_millis(250);

/// Where an event is: the number of the run and of its line, from 1, and its place in it, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    run: u64,
    line: u64,
    n: u64,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (run, place) = text.split_once('.')?;
        let (line, n) = place.split_once('.')?;
        Some(Self { run: run.parse().ok()?, line: line.parse().ok()?, n: n.parse().ok()? })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.run, self.line, self.n)
    }
}

/// Follow what happens in an attempt
///
/// Server-sent events: everything so far, then everything that comes. The last one is named `end` and says how the
/// attempt ended. `Last-Event-ID` continues behind that event.
#[utoipa::path(get, path = "/attempts/{id}/events", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, body = AttemptEventView, content_type = "text/event-stream"),
        (status = "4XX", body = ProblemBody)))]
pub(crate) async fn stream_attempt_events(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match headers.get("last-event-id") {
        None => None,
        Some(last) => {
            let place = last.to_str().ok().and_then(Place::parse);
            Some(place.ok_or_else(|| Problem::new(INVALID_CURSOR, "Last-Event-ID is none of ours"))?)
        }
    };
    let attempt = find_attempt(&app, &reader, key, &id).await?;
    let followed = app.clone();
    respond(&app, &reader.0, move |feed| follow(followed, attempt, after, feed))
}

/// Lines made of what is read, and events made of lines.
struct Lines {
    transcript: Transcript,
    partial: Vec<u8>,
    run: u64,
    line: u64,
}

/// The longest line whose events are told one by one; of a longer one the transcript says that it was left out.
const MAX_PARTIAL: usize = 2 << 20;

impl Lines {
    fn of(engine: Engine) -> Self {
        Self { transcript: Transcript::new(engine), partial: Vec::new(), run: 1, line: 0 }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<(Place, EngineEvent)> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.partial.len() > MAX_PARTIAL {
                let line = std::mem::take(&mut self.partial);
                let told = self.transcript.feed(&line);
                self.place(told, &mut events);
            }
        }
        events
    }

    fn finish(&mut self) -> Vec<(Place, EngineEvent)> {
        let mut events = Vec::new();
        let line = std::mem::take(&mut self.partial);
        let mut told = self.transcript.feed(&line);
        told.extend(self.transcript.flush());
        self.place(told, &mut events);
        events
    }

    /// Begins the next run, once all of this one was read.
    fn next_run(&mut self, resumed: bool) {
        self.transcript.next_run(resumed);
        self.run += 1;
        self.line = 0;
    }

    fn place(&mut self, told: Vec<EngineEvent>, events: &mut Vec<(Place, EngineEvent)>) {
        self.line += 1;
        events.extend((0..).zip(told).map(|(n, event)| (Place { run: self.run, line: self.line, n }, event)));
    }
}

async fn follow(app: App, attempt: Attempt, after: Option<Place>, feed: Feed) -> Result<(), Gone> {
    let mut lines = Lines::of(app.engines.reading(&attempt.engine));
    let dir = app.attempts_dir.join(attempt.id.as_str());
    let present = Spool::of_engine(&app, &attempt);
    let mut n_before = 0;
    let mut offset = 0;
    let mut last = after.unwrap_or_default();
    let mut now = attempt;
    let mut asked = host::clock::monotonic();
    loop {
        // Asked before reading: what was written before the end is then read after it.
        let ended = !now.is_running();
        let before = before(&dir).await;
        let over = before.get(n_before);
        let spool = match over {
            Some(run) => present.clone().of_run(&run.name),
            None => present.clone(),
        };
        let Ok(piece) = spool.read(offset, PIECE).await else { return Ok(()) };
        // Set aside while it was read: what was found in its place may be the next run's.
        if over.is_none() && self::before(&dir).await.len() > before.len() {
            continue;
        }
        let moved = piece.next_offset > offset;
        offset = piece.next_offset;
        let complete = (ended || over.is_some()) && offset >= piece.total;
        let mut events = lines.feed(&piece.bytes);
        if complete {
            events.extend(lines.finish());
        }
        for (place, event) in events {
            if place > last {
                last = place;
                feed.send(&place.to_string(), None, &view(place, &event)).await?;
            }
        }
        if complete {
            let Some(run) = over else {
                return feed.send(&last.to_string(), Some("end"), &api::attempts::AttemptView::from(&now)).await;
            };
            lines.next_run(run.resumed);
            n_before += 1;
            offset = 0;
            continue;
        }
        if !moved {
            tokio::time::sleep(LOOK).await;
        }
        if !ended && !moved && asked.elapsed() >= ASK {
            asked = host::clock::monotonic();
            match app.control.store().find_attempt(now.id.as_str()).await {
                Ok(Some(found)) => now = found,
                Ok(None) => return Ok(()),
                Err(error) if error.is_transient() => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// The runs of an attempt's engine that were set aside for another.
async fn before(dir: &std::path::Path) -> Vec<Before> {
    let dir = dir.to_owned();
    host::task::spawn_blocking("attempt's runs", move || runs::before(&dir)).await.unwrap_or_default()
}

fn view(place: Place, event: &EngineEvent) -> AttemptEventView {
    let mut data = serde_json::to_value(event).unwrap_or_default();
    let kind = data.as_object_mut().and_then(|object| object.remove("type"));
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or("unknown").to_owned();
    AttemptEventView { id: place.to_string(), kind, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_what_happened() {
        let place = |run, line, n| Place { run, line, n };
        assert!(place(1, 2, 0) > place(1, 1, 9) && place(1, 1, 1) > place(1, 1, 0) && place(2, 0, 0) > place(1, 9, 9));
        assert_eq!(Place::parse(&place(2, 7, 3).to_string()), Some(place(2, 7, 3)));
        assert_eq!((Place::parse("7.1"), Place::parse("a.b.c"), Place::parse("")), (None, None, None));
    }

    #[test]
    fn where_pieces_are_cut_changes_no_place() {
        let text = b"one\ntwo\nthree";
        let read = |cut: usize| {
            let mut lines = Lines::of(Engine::Shell);
            let mut events = lines.feed(&text[..cut]);
            events.extend(lines.feed(&text[cut..]));
            events.extend(lines.finish());
            events
        };
        let whole = read(0);
        assert_eq!(whole.len(), 3);
        assert!((1..text.len()).all(|cut| read(cut) == whole));
    }
}
