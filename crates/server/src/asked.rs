//! What a request asks: path, query and body, read within limits and refused with a problem when they do not fit.

use std::borrow::Cow;

use api::problem::{self as codes, Code};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, Method, header, request::Parts},
};
use domain::{ids::GateId, ids::RunId, reference::Ref};
use http_body_util::BodyExt;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    app::App,
    problem::{Problem, typed},
    text_rule::{find_unacceptable, is_acceptable, json_depth},
};

const MAX_PAGE: i64 = 500;
const DEFAULT_PAGE: i64 = 50;
/// Read and thrown away beyond a body's limit, so that the refusal reaches a sender who writes first.
const MAX_DISCARD: usize = 8 * 1024 * 1024;

/// The one parameter of a path, as it was typed.
#[derive(Clone, Debug)]
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::new(codes::NO_SUCH_ROUTE, "the path is not readable text")),
        }
    }
}

impl Id {
    /// A run's reference as people type it.
    pub(crate) fn run(&self) -> Result<RunId, Problem> {
        match Ref::parse(&self.0) {
            Ok(reference) => Ok(RunId(reference.to_string())),
            Err(error) => Err(self.unknown(codes::UNKNOWN_RUN, &format!("run: {error}"))),
        }
    }

    /// A gate's reference, or its run's.
    pub(crate) fn gate(&self) -> Result<GateId, Problem> {
        match Ref::parse(&self.0) {
            Ok(reference) => Ok(GateId(reference.to_string())),
            Err(error) => Err(self.unknown(codes::UNKNOWN_GATE, &format!("gate: {error}"))),
        }
    }

    /// An id that is a whole number from 1 on.
    pub(crate) fn number(&self, code: Code, noun: &str) -> Result<i64, Problem> {
        let number = self.0.parse::<i64>().ok().filter(|number| (1..1 << 53).contains(number));
        number.ok_or_else(|| self.unknown(code, noun))
    }

    pub(crate) fn unknown(&self, code: Code, noun: &str) -> Problem {
        Problem::new(code, format!("\"{}\" is no {noun}", typed(&self.0)))
    }
}

/// The query, without members that nobody reads.
#[derive(Clone, Debug)]
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Queried<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(codes::INVALID_QUERY, rejection.body_text())),
        }
    }
}

/// How long a page is, and where it begins.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    pub(crate) limit: Option<i64>,
    pub(crate) after: Option<String>,
}

/// Between 1 and 500; all that fits when nothing is said: inherited lists had no pages.
pub(crate) fn plain_limit(limit: Option<i64>) -> u32 {
    page_limit(limit.or(Some(MAX_PAGE)))
}

/// Between 1 and 500; 50 when nothing is said.
pub(crate) fn page_limit(limit: Option<i64>) -> u32 {
    u32::try_from(limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE)).unwrap_or(1)
}

/// The states that a list is narrowed to, in whatever case they were typed; none when nothing is said.
pub(crate) fn parse_statuses(
    text: Option<&str>,
    noun: &str,
    names: &[&'static str],
) -> Result<Vec<&'static str>, Problem> {
    let known = |name: &str| names.iter().copied().find(|known| known.eq_ignore_ascii_case(name));
    let parse = |name: &str| {
        known(name.trim()).ok_or_else(|| {
            let detail = format!("{} is no status of a {noun}; there are {}", typed(name), names.join(", "));
            Problem::new(codes::INVALID_QUERY, detail)
        })
    };
    text.map_or(Ok(Vec::new()), |text| text.split(',').map(parse).collect())
}

/// A row cursor as (ordinal, id).
pub(crate) fn row_cursor(after: Option<&str>) -> Result<Option<(i64, String)>, Problem> {
    let Some(after) = after else { return Ok(None) };
    match api::RowCursor::parse(after) {
        Some(cursor) => Ok(Some((cursor.ordinal, cursor.id))),
        None => Err(Problem::new(codes::INVALID_CURSOR, "that is not a cursor of this list")),
    }
}

/// What makes a repeat of a request harmless.
#[derive(Clone, Debug)]
pub(crate) struct Once {
    pub(crate) key: Option<String>,
    /// SHA-256 over method, path and body.
    pub(crate) request_hash: String,
}

/// A request that creates something: a JSON body is required.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    pub(crate) body: T,
    pub(crate) once: Once,
}

/// A request that acts: no body, an empty one of whatever type, or a JSON one.
#[derive(Clone, Debug)]
pub(crate) struct Act<T> {
    pub(crate) body: T,
    pub(crate) once: Once,
}

impl<T: DeserializeOwned> FromRequest<App> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let read = read(request, app).await?;
        read.check_type()?;
        Ok(Self { body: parse(&read.bytes, app)?, once: read.once()? })
    }
}

impl<T: DeserializeOwned + Default> FromRequest<App> for Act<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let read = read(request, app).await?;
        let body = if read.bytes.trim_ascii().is_empty() {
            T::default()
        } else {
            read.check_type()?;
            // A null body says as much as none.
            parse::<Option<T>>(&read.bytes, app)?.unwrap_or_default()
        };
        Ok(Self { body, once: read.once()? })
    }
}

struct Read {
    method: Method,
    path: String,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Read {
    fn check_type(&self) -> Result<(), Problem> {
        let value = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = value.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        match essence.as_deref() {
            Some("application/json") => Ok(()),
            Some(other) => Err(Problem::new(
                codes::WRONG_CONTENT_TYPE,
                format!("the body is {}, not application/json", typed(other)),
            )),
            None => Err(Problem::new(codes::WRONG_CONTENT_TYPE, "the body has no Content-Type")),
        }
    }

    fn once(&self) -> Result<Once, Problem> {
        let mut hash = host::hash::Sha256Stream::new();
        for part in [self.method.as_str().as_bytes(), b" ", self.path.as_bytes(), b"\n", &self.bytes] {
            hash.update(part);
        }
        let mut keys = self.headers.get_all("idempotency-key").iter();
        let key = match (keys.next(), keys.next()) {
            (None, _) => None,
            (Some(key), None) => Some(idempotency_key(key.as_bytes())?),
            (Some(_), Some(_)) => {
                return Err(Problem::new(codes::INVALID_IDEMPOTENCY_KEY, "there is more than one Idempotency-Key"));
            }
        };
        Ok(Once { key, request_hash: hash.finish_hex() })
    }
}

fn idempotency_key(key: &[u8]) -> Result<String, Problem> {
    let is_key = (1..=255).contains(&key.len()) && key.iter().all(|b| (0x20..0x7f).contains(b));
    match std::str::from_utf8(key) {
        Ok(text) if is_key => Ok(text.to_owned()),
        _ => {
            Err(Problem::new(codes::INVALID_IDEMPOTENCY_KEY, "the Idempotency-Key is empty, too long or not printable"))
        }
    }
}

async fn read(request: Request, app: &App) -> Result<Read, Problem> {
    let (parts, body) = request.into_parts();
    let limits = &app.limits;
    let bytes = match tokio::time::timeout(limits.body_read, read_body(body, limits.max_body_bytes)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(Problem::new(codes::BODY_TIMEOUT, "the body did not arrive in time")),
    };
    Ok(Read { method: parts.method, path: parts.uri.path().to_owned(), headers: parts.headers, bytes })
}

async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    let mut read = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(codes::MALFORMED_JSON, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        read = read.saturating_add(data.len());
        if read <= limit {
            bytes.extend_from_slice(&data);
        } else if read > limit.saturating_add(MAX_DISCARD) {
            break;
        }
    }
    if read > limit {
        return Err(Problem::new(codes::BODY_TOO_LARGE, format!("the body is larger than {limit} bytes")));
    }
    Ok(bytes.into())
}

/// Reads one JSON document; what is wrong with it is said without repeating much of it.
fn parse<T: DeserializeOwned>(bytes: &[u8], app: &App) -> Result<T, Problem> {
    let deepest = app.limits.max_json_depth;
    if json_depth(bytes) > deepest {
        return Err(Problem::new(codes::JSON_TOO_DEEP, format!("the document has more than {deepest} levels")));
    }
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(codes::MALFORMED_JSON, format!("the body is not JSON: {error}")))?;
    if let Some(place) = find_unacceptable(&value) {
        let place = if place.is_empty() { Cow::Borrowed("the document") } else { Cow::Owned(typed(&place)) };
        return Err(Problem::new(codes::HOSTILE_TEXT, format!("{place} holds a hidden or control character")));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::new(codes::INVALID_BODY, error.to_string()))
}

/// Refuses texts of queries that hold what no text may.
pub(crate) fn check_text(name: &str, text: &str) -> Result<(), Problem> {
    if is_acceptable(text) && text.len() <= 1000 {
        return Ok(());
    }
    Err(Problem::new(codes::HOSTILE_TEXT, format!("{name} is too long or holds a hidden or control character")))
}
