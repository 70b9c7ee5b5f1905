//! The connection to one server: addresses, credentials, answers and problems.

use std::{fmt, time::Duration};

use api::ProblemBody;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::ClientError;

const CONNECT: Duration = Duration::from_secs(5);
/// A little longer than the server gives its own handlers.
const TOTAL: Duration = Duration::from_secs(40);

/// Calls one server with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl fmt::Debug for Client {
    /// The token stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A connection of the same kind to somebody else's address, for whom every call has to end within `patience`.
pub(crate) fn connect(address: &str, patience: Duration) -> Result<reqwest::Client, ClientError> {
    let wrong = |_| ClientError::Address { address: address.to_owned(), reason: "write http://HOST:PORT" };
    builder(&Url::parse(address).map_err(wrong)?).timeout(patience).build().map_err(ClientError::Setup)
}

fn builder(base: &Url) -> reqwest::ClientBuilder {
    // A second caller finds it installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "the one place that makes clients")]
    let builder = reqwest::Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none());
    // What is on this machine is not fetched through another one.
    if is_loopback(base) { builder.no_proxy() } else { builder }
}

impl Client {
    /// Prepares to call the server at `address` (`http://127.0.0.1:8010`); nothing is sent yet.
    pub fn new(address: &str, token: Option<String>) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Address { address: address.to_owned(), reason };
        let base = Url::parse(address).map_err(|_| wrong("write http://HOST:PORT"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong("write http://HOST:PORT or https://HOST"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("credentials do not belong into an address"));
        }
        let http = builder(&base).build().map_err(ClientError::Setup)?;
        Ok(Self { http, base, token })
    }

    /// The server's address without a slash at its end.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        self.call(self.request(Method::GET, path)?.query(query).timeout(TOTAL), path).await
    }

    /// What a server says of itself: there, 503 is an answer and no refusal.
    pub(crate) async fn get_statement<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        let answer =
            self.request(Method::GET, path)?.timeout(TOTAL).send().await.map_err(|error| self.failed(error))?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE => self.read(answer, path).await,
            _ => Err(self.refusal(answer, path).await),
        }
    }

    pub(crate) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(self.request(Method::POST, path)?.json(body).timeout(TOTAL), path).await
    }

    /// A post that is carried out at most once, however often it is sent with the same key.
    pub(crate) async fn post_once<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
        key: Option<&str>,
    ) -> Result<T, ClientError> {
        let mut request = self.request(Method::POST, path)?.json(body).timeout(TOTAL);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        self.call(request, path).await
    }

    /// An answer that does not end: read it piece by piece.
    pub(crate) async fn open(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last_event_id: Option<&str>,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(Method::GET, path)?.query(query).header("Accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await.map_err(|error| self.failed(error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer, path).await) }
    }

    /// Each element of `path` is one segment, escaped, so that no id can leave its place.
    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, ClientError> {
        let mut url = self.base.clone();
        let wrong = ClientError::Address { address: self.base.to_string(), reason: "it cannot have paths" };
        url.path_segments_mut().map_err(|()| wrong)?.pop_if_empty().extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder, path: &[&str]) -> Result<T, ClientError> {
        let answer = request.send().await.map_err(|error| self.failed(error))?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer, path).await);
        }
        self.read(answer, path).await
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response, path: &[&str]) -> Result<T, ClientError> {
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|error| self.failed(error))?;
        // An empty answer is the answer of what has nothing to say.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|_| ClientError::Strange { what: path.join("/"), status })
    }

    async fn refusal(&self, answer: Response, path: &[&str]) -> ClientError {
        let status = answer.status().as_u16();
        let strange = ClientError::Strange { what: path.join("/"), status };
        let Ok(body) = answer.bytes().await else { return strange };
        if let Ok(problem) = serde_json::from_slice::<ProblemBody>(&body) {
            return ClientError::Problem(Box::new(problem));
        }
        match serde_json::from_slice::<api::inbound::InheritedProblem>(&body) {
            Ok(problem) => ClientError::Problem(Box::new(of_inherited(problem))),
            Err(_) => strange,
        }
    }

    pub(crate) fn failed(&self, error: reqwest::Error) -> ClientError {
        let url = self.address().to_owned();
        if error.is_timeout() && !error.is_connect() {
            return ClientError::TimedOut { url };
        }
        if error.is_connect() || error.is_request() {
            return ClientError::Unreachable { url, source: Some(error) };
        }
        ClientError::Broken { url, source: error }
    }
}

fn of_inherited(problem: api::inbound::InheritedProblem) -> ProblemBody {
    ProblemBody {
        kind: format!("urn:pilothouse:problem:{}", problem.code),
        title: problem.title,
        status: problem.status,
        code: problem.code,
        detail: problem.detail,
        hint: problem.hint,
        request_id: String::new(),
        problems: Vec::new(),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Query members that are there.
pub(crate) fn query<'n>(members: impl IntoIterator<Item = (&'n str, Option<String>)>) -> Vec<(&'n str, String)> {
    members.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused() {
        for address in ["", "127.0.0.1:8010", "file:///etc/passwd", "http://", "http://me:secret@localhost:8010"] {
            assert!(matches!(Client::new(address, None), Err(ClientError::Address { .. })), "{address}");
        }
        assert_eq!(Client::new("http://127.0.0.1:8010/", None).unwrap().address(), "http://127.0.0.1:8010");
    }

    #[test]
    fn an_id_stays_in_its_segment() {
        let client = Client::new("http://localhost:8010/base/", None).unwrap();

        let request = client.request(Method::GET, &["runs", "../tokens?x=#y"]).unwrap().build().unwrap();

        assert_eq!(request.url().as_str(), "http://localhost:8010/base/runs/..%2Ftokens%3Fx=%23y");
    }

    #[test]
    fn a_token_is_not_printed() {
        let client = Client::new("http://localhost:8010", Some("ph_pat_secret".to_owned())).unwrap();

        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn loopback_is_recognised() {
        for (address, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("https://example.org", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), loopback, "{address}");
        }
    }
}
