//! What attempts wrote, read by offset or followed.
//!
//! The spool of an attempt lies in a directory under its id. What is in it came from outside: it is read beneath the
//! root only, cut where a character ends, and cleaned of control sequences.

use std::time::Duration;

use api::{
    ProblemBody,
    attempts::LogView,
    problem::{INVALID_QUERY, LOG_UNAVAILABLE},
};
use axum::{Json, extract::State, http::HeaderMap, response::Response};
use domain::attempt::Attempt;
use engines::spec::Stream;
use host::{
    fs::{Beneath, FsError},
    path::RelPath,
    text::Cleaner,
};
use serde::Deserialize;

use crate::{
    app::App,
    asked::{Id, Queried},
    attempts::find_attempt,
    auth::Reader,
    problem::{Problem, typed},
    sight::ProjectKey,
    stream::{Feed, Gone, respond},
};

const DEFAULT_LIMIT: usize = 64 * 1024;
const MAX_LIMIT: usize = 1024 * 1024;
/// How often a follower looks for more.
const LOOK: Duration = Duration::from_millis(150);
/// The streams there may be; without a choice it is the first that exists.
const STREAMS: [&str; 3] = ["output", "stdout", "stderr"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    offset: Option<u64>,
    limit: Option<u64>,
    tail: Option<u64>,
    stream: Option<String>,
}

/// Read an attempt's output
///
/// From `offset` on, or with `tail` the last bytes of it.
#[utoipa::path(get, path = "/attempts/{id}/log", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = String, Path), ("offset" = Option<u64>, Query, description = "In bytes, 0 when missing"),
        ("limit" = Option<u64>, Query, description = "In bytes, 65536 when missing, at most 1048576"),
        ("tail" = Option<u64>, Query, description = "This many bytes of the end, instead of an offset"),
        ("stream" = Option<String>, Query, description = "output, stdout or stderr")),
    responses((status = 200, body = LogView), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn get_log(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    Queried(query): Queried<LogQuery>,
) -> Result<Json<LogView>, Problem> {
    let stream = parse_stream(query.stream.as_deref())?;
    let attempt = find_attempt(&app, &reader, key, &id).await?;
    let limit = query.tail.or(query.limit).map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
    let limit = limit.min(MAX_LIMIT);
    let spool = Spool::of(&app, &attempt, stream);
    let offset = match query.tail {
        Some(_) => spool.clone().read(0, 0).await?.total.saturating_sub(limit as u64),
        None => query.offset.unwrap_or(0),
    };
    let piece = spool.read(offset, limit).await?;
    if piece.is_missing && !attempt.is_running() {
        let detail = format!("the output of attempt {} is not on this machine, or is no longer kept", attempt.id);
        return Err(Problem::new(LOG_UNAVAILABLE, detail));
    }
    Ok(Json(LogView {
        text: host::text::clean(&piece.bytes),
        offset,
        next_offset: piece.next_offset,
        total: piece.total,
        ended: !attempt.is_running() && piece.next_offset >= piece.total,
    }))
}

/// Follow an attempt's output
///
/// Server-sent events with pieces as in the log; the event id is the next offset. The last event is named `end`.
#[utoipa::path(get, path = "/attempts/{id}/log/stream", tag = "attempts", security(("bearer" = ["read"])),
    params(("id" = String, Path), ("offset" = Option<u64>, Query), ("stream" = Option<String>, Query),
        ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, body = LogView, content_type = "text/event-stream"), (status = "4XX", body = ProblemBody)))]
pub(crate) async fn stream_log(
    State(app): State<App>,
    reader: Reader,
    key: ProjectKey,
    id: Id,
    headers: HeaderMap,
    Queried(query): Queried<LogQuery>,
) -> Result<Response, Problem> {
    let stream = parse_stream(query.stream.as_deref())?;
    let attempt = find_attempt(&app, &reader, key, &id).await?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let offset = resumed.or(query.offset).unwrap_or(0);
    let spool = Spool::of(&app, &attempt, stream);
    let followed = app.clone();
    respond(&app, &reader.0, move |feed| follow(followed, attempt, spool, offset, feed))
}

async fn follow(app: App, attempt: Attempt, spool: Spool, mut offset: u64, feed: Feed) -> Result<(), Gone> {
    let mut cleaner = Cleaner::new();
    let mut ended = !attempt.is_running();
    loop {
        let Ok(piece) = spool.clone().read(offset, DEFAULT_LIMIT).await else { return Ok(()) };
        let complete = ended && piece.next_offset >= piece.total;
        let mut text = cleaner.feed(&piece.bytes);
        if complete {
            text.push_str(&cleaner.finish());
        }
        let moved = piece.next_offset > offset;
        if moved || complete {
            let view = LogView { text, offset, next_offset: piece.next_offset, total: piece.total, ended: complete };
            offset = piece.next_offset;
            feed.send(&offset.to_string(), complete.then_some("end"), &view).await?;
        }
        if complete {
            return Ok(());
        }
        if !moved {
            tokio::time::sleep(LOOK).await;
        }
        if !ended {
            // Asked before reading again: what was written before the end is then read after it.
            match app.control.store().find_attempt(attempt.id.as_str()).await {
                Ok(now) => ended = now.is_none_or(|now| !now.is_running()),
                Err(error) if error.is_transient() => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

fn parse_stream(text: Option<&str>) -> Result<Option<&'static str>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match STREAMS.into_iter().find(|stream| *stream == text) {
        Some(stream) => Ok(Some(stream)),
        None => Err(Problem::new(INVALID_QUERY, format!("{} is none of {}", typed(text), STREAMS.join(", ")))),
    }
}

/// Where an attempt's output is.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    root: std::path::PathBuf,
    /// The directory of the attempt or of one of its runs, beneath the root.
    place: String,
    stream: Option<&'static str>,
    /// Nothing more will be written.
    ended: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) next_offset: u64,
    pub(crate) total: u64,
    is_missing: bool,
}

impl Spool {
    fn of(app: &App, attempt: &Attempt, stream: Option<&'static str>) -> Self {
        Self { root: app.attempts_dir.clone(), place: attempt.id.to_string(), stream, ended: !attempt.is_running() }
    }

    /// The stream that its engine talks on. Beside that of a reviewer lies what the checks before it printed.
    pub(crate) fn of_engine(app: &App, attempt: &Attempt) -> Self {
        let stream = match app.engines.reading(&attempt.engine).stream() {
            Stream::Output => None,
            own @ (Stream::Stdout | Stream::Stderr) => Some(own.file_name()),
        };
        Self::of(app, attempt, stream)
    }

    /// The same of a run that is over, by the name of its directory.
    pub(crate) fn of_run(self, name: &str) -> Self {
        Self { place: format!("{}/{name}", self.place), ended: true, ..self }
    }

    pub(crate) async fn read(self, offset: u64, limit: usize) -> Result<Piece, Problem> {
        host::task::spawn_blocking("log reader", move || self.read_now(offset, limit))
            .await
            .map_err(|error| Problem::internal(&error))?
            .map_err(|error| Problem::internal(&error))
    }

    /// A spool that was not opened yet is empty.
    fn read_now(&self, offset: u64, limit: usize) -> Result<Piece, FsError> {
        let missing = Piece { next_offset: offset, is_missing: true, ..Piece::default() };
        let root = match Beneath::open(&self.root) {
            Ok(root) => root,
            Err(error) if error.is_not_found() => return Ok(missing),
            Err(error) => return Err(error),
        };
        let choices = match &self.stream {
            Some(stream) => std::slice::from_ref(stream),
            None => &STREAMS[..2],
        };
        for stream in choices {
            // Ids of attempts have only letters, digits and dashes.
            let Ok(path) = RelPath::parse(&format!("{}/{stream}", self.place)) else { return Ok(missing) };
            match root.read_at(&path, offset, limit) {
                Ok((bytes, total)) => return Ok(whole(bytes, offset, total, self.ended)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }
}

/// A piece that ends where a character ends, unless nothing more will come.
fn whole(mut bytes: Vec<u8>, offset: u64, total: u64, ended: bool) -> Piece {
    let reaches_end = offset + bytes.len() as u64 >= total;
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
        && error.valid_up_to() > 0
        && !(ended && reaches_end)
    {
        bytes.truncate(error.valid_up_to());
    }
    Piece { next_offset: offset + bytes.len() as u64, bytes, total, is_missing: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_where_a_character_ends() {
        let text = "aé".as_bytes();

        let cut = whole(text[..2].to_vec(), 0, 3, true);
        let last = whole(text.to_vec(), 0, 3, true);
        let broken = whole(text[..2].to_vec(), 0, 2, true);

        assert_eq!((cut.bytes.as_slice(), cut.next_offset), (&b"a"[..], 1));
        assert_eq!(last.next_offset, 3);
        assert_eq!(broken.next_offset, 2);
    }
}
