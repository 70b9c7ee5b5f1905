//! One connection of an engine to the broker: one call, and its answer.

use super::Desk;
use super::meter::Meter;
use super::wire::{Body, Head, Length, odd};
use host::outgoing::{self, Outgoing, Patience};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// How much of a request is held: prompts with pictures are long.
const MAX_REQUEST: usize = 64 << 20;
const PATIENCE: Patience = Patience { connect: Duration::from_secs(30), silence: Duration::from_secs(15 * 60) };
/// How long an engine may take to say what it wants.
const ENGINE_PATIENCE: Duration = Duration::from_secs(60);
/// Names by which engines show what opens the model.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
/// What concerns one connection and not the call.
const OF_THE_CONNECTION: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "content-length",
];
/// What may be asked of a model besides an answer.
const ABOUT: [&str; 3] = ["/models", "/messages/count_tokens", "/responses/compact"];

/// The ways in which models speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// An answer of the model, which is metered.
    Answer,
    /// Something about the model, which costs nothing.
    About,
}

/// Why a call is not carried out.
struct Refusal {
    status: u16,
    why: String,
}

fn refuse(status: u16, why: impl Into<String>) -> Refusal {
    Refusal { status, why: why.into() }
}

impl Desk {
    /// Answers one connection. What goes wrong is the engine's to see.
    pub(crate) fn serve(&self, engine: &TcpStream) -> io::Result<()> {
        engine.set_nodelay(true)?;
        engine.set_read_timeout(Some(ENGINE_PATIENCE))?;
        engine.set_write_timeout(Some(PATIENCE.silence))?;
        let Some((head, behind)) = Head::read(&mut &*engine)? else { return Ok(()) };
        let dialect = dialect_of(&head);
        let refused = match self.call(engine, head, &behind)? {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let body = dialect.error(refused.status, &refused.why).to_string();
        let answer = format!(
            "HTTP/1.1 {} Refused\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            refused.status,
            body.len()
        );
        (&*engine).write_all(answer.as_bytes())?;
        engine.shutdown(Shutdown::Write)?;
        // Whoever still sends would lose the answer to a connection that is reset.
        let _ = io::copy(&mut engine.take(MAX_REQUEST as u64), &mut io::sink());
        Ok(())
    }

    fn call(&self, engine: &TcpStream, mut head: Head, behind: &[u8]) -> io::Result<Result<(), Refusal>> {
        let mut words = head.line.splitn(3, ' ').map(str::to_owned);
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Ok(Err(refuse(400, "this is no request")));
        };
        if !version.starts_with("HTTP/1.") {
            return Ok(Err(refuse(505, "only HTTP/1.1 is spoken here")));
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let shown = query.split('&').filter_map(|pair| pair.strip_prefix("key="));
        if !shown.chain(credentials(&head)).any(|shown| self.is_token(shown)) {
            return Ok(Err(refuse(401, "this needs the token that the attempt's engine was given")));
        }
        let asked = match self.asked(&method, path) {
            Ok(asked) => asked,
            Err(refused) => return Ok(Err(refused)),
        };
        if head.get("upgrade").is_some() {
            return Ok(Err(refuse(426, "only plain HTTP is spoken here")));
        }
        let body = read_body(engine, &head, behind)?;
        let turn = self.take_turn();
        let reached = self.books().limit_reached(&self.broker.limits);
        if let (Asked::Answer, Some(used)) = (asked, reached) {
            self.books().refuse()?;
            return Ok(Err(refuse(400, format!("the budget of this attempt is used up: {used}"))));
        }
        let body = ask_for_usage(path, body);
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("key=")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let is_bearer = head.get("authorization").is_some();
        let own = ["x-api-key", "api-key"].into_iter().find(|name| head.get(name).is_some());
        head.line = format!("{method} {path}{query} HTTP/1.1");
        head.remove(&OF_THE_CONNECTION);
        head.remove(&CREDENTIALS);
        head.remove(&["accept-encoding"]);
        head.put("host", self.upstream.authority());
        match (is_bearer, own) {
            // A model of one's own may need none.
            _ if self.broker.key.is_empty() => {}
            (true, _) => head.put("authorization", format!("Bearer {}", self.broker.key)),
            (false, Some(name)) => head.put(name, self.broker.key.clone()),
            (false, None) => head.put("x-goog-api-key", self.broker.key.clone()),
        }
        // What is compressed could not be read off.
        head.put("accept-encoding", "identity");
        head.put("connection", "close");
        if method != "GET" {
            head.put("content-length", body.len().to_string());
        }
        let call = match asked {
            Asked::Answer => Some(self.books().begin()?),
            Asked::About => None,
        };
        let answered = self.pass(engine, &head, &body);
        let (status, usage, n_answered) = match &answered {
            Ok(answered) => (answered.status, answered.usage, answered.n_bytes),
            // Nothing was answered, so nothing is owed: a model that was never reached used nothing.
            Err(NotAnswered::Unreached(_)) => (502, None, 0),
            // It may have answered all the same.
            Err(NotAnswered::Broken(_)) => (200, None, 0),
        };
        if let Some(call) = call {
            // Four bytes a token: only so that what does not say what it used is not free.
            let weight = (body.len() as u64 + n_answered) / 4 + 1;
            self.books().end(call, status, usage, weight)?;
        }
        drop(turn);
        Ok(match answered {
            Ok(_) => Ok(()),
            Err(NotAnswered::Unreached(error)) => Err(refuse(502, format!("the model cannot be reached: {error}"))),
            Err(NotAnswered::Broken(error)) => Err(refuse(502, format!("the model broke off: {error}"))),
        })
    }

    fn is_token(&self, shown: &str) -> bool {
        host::hash::constant_time_eq(shown.as_bytes(), self.broker.token.as_bytes())
    }

    /// What a path means; everything that is not known is refused, since it may cost what cannot be read off.
    fn asked(&self, method: &str, path: &str) -> Result<Asked, Refusal> {
        let elsewhere = || refuse(404, "this is not a path of the model");
        let rest = path.strip_prefix(self.upstream.path.as_str()).filter(|rest| rest.starts_with('/'));
        let rest = rest.ok_or_else(elsewhere)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._:".contains(c);
        if !rest.chars().all(plain) || rest.split('/').any(|part| part == ".." || part == ".") {
            return Err(elsewhere());
        }
        let answers = rest.ends_with("/responses")
            || rest.ends_with("/chat/completions")
            || rest.ends_with("/messages")
            || rest.ends_with(":generateContent")
            || rest.ends_with(":streamGenerateContent")
            || rest.ends_with("/responses/compact");
        let about = ABOUT.iter().any(|known| rest.ends_with(known)) || rest.ends_with(":countTokens");
        match method {
            "POST" if answers => Ok(Asked::Answer),
            "POST" if about => Ok(Asked::About),
            "GET" if rest.contains("/models") => Ok(Asked::About),
            _ => Err(elsewhere()),
        }
    }

    /// Sends a call and passes its answer on as it comes.
    fn pass(&self, engine: &TcpStream, head: &Head, body: &[u8]) -> Result<Answered, NotAnswered> {
        let upstream = &self.upstream;
        let mut model =
            outgoing::connect(&upstream.host, upstream.port, upstream.tls, PATIENCE).map_err(NotAnswered::Unreached)?;
        model.write_all(&head.bytes()).map_err(NotAnswered::Unreached)?;
        // A model that refuses may do so, and hang up, before it has read all of it.
        let sent = model.write_all(body).and_then(|()| model.flush());
        let (mut answer, behind) = loop {
            match Head::read(&mut model) {
                // On the way to an answer.
                Ok(Some((head, _))) if status_of(&head) < 200 => {}
                Ok(Some(read)) => break read,
                Ok(None) => {
                    sent.map_err(NotAnswered::Unreached)?;
                    return Err(NotAnswered::Broken(odd("it closed the connection")));
                }
                Err(error) => return Err(NotAnswered::Broken(error)),
            }
        };
        let status = status_of(&answer);
        let length = match answer.length().map_err(NotAnswered::Broken)? {
            _ if status == 204 || status == 304 => Length::Known(0),
            length => length.unwrap_or(Length::UntilClosed),
        };
        let is_stream = answer.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let is_plain = answer.get("content-encoding").is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        answer.remove(&["connection", "keep-alive", "upgrade", "alt-svc", "set-cookie"]);
        answer.put("connection", "close");
        let mut passing =
            Passing { engine: Some(engine), meter: Meter::new(is_stream), body: Body::new(length), n_bytes: 0 };
        passing.say(&answer.bytes());
        passing.carry(&mut model, &behind);
        let usage = if is_plain { passing.meter.finish() } else { None };
        let _ = engine.shutdown(Shutdown::Both);
        Ok(Answered { status, usage, n_bytes: passing.n_bytes })
    }
}

struct Answered {
    status: u16,
    usage: Option<crate::engine::Usage>,
    n_bytes: u64,
}

enum NotAnswered {
    Unreached(io::Error),
    Broken(io::Error),
}

/// An answer on its way to the engine. An engine that hangs up is not rid of what it asked for: the answer is read to
/// its end, where it says what it used.
struct Passing<'call> {
    engine: Option<&'call TcpStream>,
    meter: Meter,
    body: Body,
    n_bytes: u64,
}

impl Passing<'_> {
    fn say(&mut self, bytes: &[u8]) {
        if let Some(mut engine) = self.engine
            && engine.write_all(bytes).is_err()
        {
            self.engine = None;
        }
    }

    fn carry(&mut self, model: &mut Outgoing, behind: &[u8]) {
        if !behind.is_empty() && !self.take(behind) {
            return;
        }
        let mut piece = vec![0; 64 * 1024];
        while !self.body.is_done() {
            match model.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if !self.take(&piece[..n]) {
                        return;
                    }
                }
            }
        }
    }

    /// Whether to go on.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut content = Vec::new();
        let Ok(n) = self.body.feed(bytes, &mut content) else { return false };
        self.n_bytes += content.len() as u64;
        self.meter.feed(&content);
        self.say(&bytes[..n]);
        true
    }
}

fn status_of(head: &Head) -> u16 {
    head.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn credentials(head: &Head) -> impl Iterator<Item = &str> {
    let shown = head.fields.iter().filter(|(name, _)| CREDENTIALS.contains(&name.as_str()));
    shown.map(|(_, value)| value.strip_prefix("Bearer ").unwrap_or(value))
}

fn read_body(mut engine: &TcpStream, head: &Head, behind: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = Body::new(head.length()?.unwrap_or(Length::Known(0)));
    if head.get("expect").is_some() && !body.is_done() {
        engine.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut content = Vec::new();
    body.feed(behind, &mut content)?;
    let mut piece = vec![0; 64 * 1024];
    while !body.is_done() {
        let n = match engine.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        if n == 0 && !body.may_be_closed() {
            return Err(odd("a request that breaks off"));
        }
        body.feed(&piece[..n], &mut content)?;
        if content.len() > MAX_REQUEST {
            return Err(odd("a request that is too long"));
        }
    }
    Ok(content)
}

/// A streamed chat completion says what it used only when it is asked to.
fn ask_for_usage(path: &str, body: Vec<u8>) -> Vec<u8> {
    if !path.ends_with("/chat/completions") {
        return body;
    }
    let Ok(mut request) = serde_json::from_slice::<Value>(&body) else { return body };
    if request.get("stream").and_then(Value::as_bool) != Some(true) {
        return body;
    }
    match request.get_mut("stream_options") {
        Some(Value::Object(options)) => {
            options.insert("include_usage".to_owned(), true.into());
        }
        _ => request["stream_options"] = json!({"include_usage": true}),
    }
    serde_json::to_vec(&request).unwrap_or(body)
}

fn dialect_of(head: &Head) -> Dialect {
    let path = head.line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    if path.contains("/messages") {
        Dialect::Anthropic
    } else if path.contains(":generateContent") || path.contains(":streamGenerateContent") {
        Dialect::Gemini
    } else {
        Dialect::OpenAi
    }
}

impl Dialect {
    fn error(self, status: u16, why: &str) -> Value {
        let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
        match self {
            Self::OpenAi => json!({"error": {"message": why, "type": kind, "param": null, "code": null}}),
            Self::Anthropic => {
                let kind = if status >= 500 { "api_error" } else { kind };
                json!({"type": "error", "error": {"type": kind, "message": why}})
            }
            Self::Gemini => {
                let kind = if status >= 500 { "UNAVAILABLE" } else { "FAILED_PRECONDITION" };
                json!({"error": {"code": status, "message": why, "status": kind}})
            }
        }
    }
}
