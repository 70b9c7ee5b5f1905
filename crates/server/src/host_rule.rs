//! Which names a request may be addressed to. A page of a foreign site whose name was pointed at this machine sends
//! its own name, and gets nothing.

use std::net::{IpAddr, SocketAddr};

use api::problem::{BAD_HOST, MISDIRECTED};
use axum::http::{Request, header::HOST};

use crate::{problem::Problem, written::split};

/// The names that are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostRule {
    /// Lower case; without a port, any port will do. `None`: whatever a request calls us.
    allowed: Option<Vec<(String, Option<u16>)>>,
}

impl HostRule {
    /// The names of loopback and the address itself with the port that is listened on, and what is configured.
    pub(crate) fn new(bound: SocketAddr, configured: &[String]) -> Self {
        let port = Some(bound.port());
        let mut allowed: Vec<_> =
            ["localhost", "127.0.0.1", "[::1]"].map(|name| (name.to_owned(), port)).into_iter().collect();
        if !bound.ip().is_unspecified() {
            allowed.push((shown(bound.ip()), port));
        }
        allowed.extend(configured.iter().filter_map(|entry| split(entry)));
        Self { allowed: Some(allowed) }
    }

    /// For a listener that tells nobody anything of worth, and is found by whatever address a machine has today.
    pub(crate) fn whatever() -> Self {
        Self { allowed: None }
    }

    /// Refuses a request that is not addressed to this server, or not clearly.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::new(BAD_HOST, "a request carries exactly one Host header"));
        };
        let host = host.to_str().map_err(|_| Problem::new(BAD_HOST, "the Host header is not plain text"))?;
        self.check_name(host)?;
        // The absolute form names a host too, and that one counts for some.
        match request.uri().authority() {
            Some(authority) => self.check_name(authority.as_str()),
            None => Ok(()),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), Problem> {
        let Some((name, port)) = split(name) else {
            return Err(Problem::new(BAD_HOST, "the Host header names no host"));
        };
        // Without a port it is the default port of plain HTTP.
        let port = port.unwrap_or(80);
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let known = allowed.iter().any(|(allowed, only)| *allowed == name && only.is_none_or(|only| only == port));
        if known { Ok(()) } else { Err(Problem::new(MISDIRECTED, "this server does not answer to that name")) }
    }
}

fn shown(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> HostRule {
        HostRule::new("127.0.0.1:8010".parse().unwrap(), &["ops.example".to_owned(), "pilot.example:443".to_owned()])
    }

    fn check(uri: &str, hosts: &[&str]) -> Option<u16> {
        let request = hosts.iter().fold(Request::get(uri), |request, host| request.header(HOST, *host));
        rule().check(&request.body(()).unwrap()).err().map(|problem| problem.status().as_u16())
    }

    #[test]
    fn names_of_loopback_and_configured_ones_are_answered() {
        for host in ["localhost:8010", "LOCALHOST:8010", "127.0.0.1:8010", "[::1]:8010", "ops.example", "ops.example:9"]
        {
            assert_eq!(check("/", &[host]), None, "{host}");
        }
        assert_eq!(check("/", &["pilot.example:443"]), None);
        assert_eq!(check("http://localhost:8010/", &["localhost:8010"]), None);
    }

    #[test]
    fn foreign_names_and_ports_are_misdirected() {
        for host in ["evil.test", "evil.test:8010", "localhost", "localhost:8011", "127.0.0.2:8010", "pilot.example:80"]
        {
            assert_eq!(check("/", &[host]), Some(421), "{host}");
        }
        assert_eq!(check("http://evil.test/", &["localhost:8010"]), Some(421));
        assert_eq!(check("http://localhost:8010/", &["evil.test"]), Some(421));
    }

    #[test]
    fn none_or_two_or_broken_host_headers_are_bad() {
        assert_eq!(check("/", &[]), Some(400));
        assert_eq!(check("/", &["localhost:8010", "localhost:8010"]), Some(400));
        for host in ["", ".", "localhost..:8010", ":8010", "localhost:99999", "local host:8010", "a/b"] {
            assert_eq!(check("/", &[host]), Some(400), "{host}");
        }
    }

    #[test]
    fn a_host_is_answered_only_when_it_is_one_of_ours_whatever_it_is() {
        let ours = ["localhost:8010", "127.0.0.1:8010", "[::1]:8010", "ops.example", "pilot.example:443"];
        let words = ["evil.test", ".", ":", "@", "[", "]", "%", "::", "8010", "0", " ", "\t", "LOCALHOST", "\u{130}"];
        let samples = testkit::fuzz::text::Samples::new(ours, &words);
        testkit::fuzz::Fuzz::new("hosts", 100_000).run(|random, input| {
            samples.draw(random, input);
            let text = String::from_utf8_lossy(input);
            crate::fuzzed::host(&text);
            if rule().check_name(&text).is_err() {
                return;
            }
            let name = text.to_ascii_lowercase();
            let name = name.rsplit_once(':').map_or(name.as_str(), |(name, _)| name).trim_end_matches('.');
            assert!(["localhost", "127.0.0.1", "[::1]", "ops.example", "pilot.example"].contains(&name), "{text:?}");
        });
    }
}
