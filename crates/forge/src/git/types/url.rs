//! Addresses of remote repositories: https and ssh, nothing else.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const MAX_URL: usize = 2048;

/// An address that git can only read as a host and a path on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitUrl {
    text: String,
    scheme: Scheme,
    host: String,
    port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    Https,
    Ssh,
}

/// Why an address was refused. No variant repeats the address: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("the address is empty")]
    Empty,
    #[error("the address is longer than {MAX_URL} characters")]
    TooLong,
    #[error("the address has a control character, a blank, a backslash or a character outside ASCII")]
    Character,
    #[error("the address starts with `-`")]
    Start,
    #[error("the address is neither https, ssh nor user@host:path")]
    Scheme,
    #[error("the address holds a user name or a password")]
    UserInfo,
    #[error("the host is not a plain name or address")]
    Host,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("the address has no path, or one that git would not take literally")]
    Path,
}

impl UrlError {
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "url_empty",
            Self::TooLong => "url_too_long",
            Self::Character => "url_character",
            Self::Start => "url_start",
            Self::Scheme => "url_scheme",
            Self::UserInfo => "url_user_info",
            Self::Host => "url_host",
            Self::Port => "url_port",
            Self::Path => "url_path",
        }
    }
}

impl GitUrl {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return Err(UrlError::Character);
        }
        if text.starts_with('-') {
            return Err(UrlError::Start);
        }
        if text.contains("://") {
            let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
            let scheme = match scheme.to_ascii_lowercase().as_str() {
                "https" => Scheme::Https,
                "ssh" => Scheme::Ssh,
                _ => return Err(UrlError::Scheme),
            };
            let (authority, path) = rest.split_once('/').ok_or(UrlError::Path)?;
            return Self::build(scheme, authority, &format!("/{path}"));
        }
        Self::parse_scp(text)
    }

    /// `user@host:path`, which every forge offers to copy, means `ssh://user@host/path`.
    fn parse_scp(text: &str) -> Result<Self, UrlError> {
        let (authority, path) = text.split_once(':').ok_or(UrlError::Scheme)?;
        // `ext::sh -c …` and `fd::17` name a helper program; a slash before the colon is a local path.
        if path.starts_with(':') || authority.contains('/') || !authority.contains('@') {
            return Err(UrlError::Scheme);
        }
        Self::build(Scheme::Ssh, authority, &format!("/{}", path.strip_prefix('/').unwrap_or(path)))
    }

    fn build(scheme: Scheme, authority: &str, path: &str) -> Result<Self, UrlError> {
        let (user, host_port) = match (scheme, authority.rsplit_once('@')) {
            (Scheme::Https, Some(_)) => return Err(UrlError::UserInfo),
            // Over ssh the name selects an account on the forge and is no secret; a password would be one.
            (Scheme::Ssh, Some((user, rest))) if is_user(user) => (Some(user), rest),
            (Scheme::Ssh, Some(_)) => return Err(UrlError::UserInfo),
            (_, None) => (None, authority),
        };
        let (host, port) = split_port(host_port)?;
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(UrlError::Host);
        }
        check_path(path)?;
        let name = match scheme {
            Scheme::Https => "https",
            Scheme::Ssh => "ssh",
        };
        let user_at = user.map(|user| format!("{user}@")).unwrap_or_default();
        let colon_port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let text = format!("{name}://{user_at}{host}{colon_port}{path}");
        // `user@host:path` grows by its scheme, and what is kept has to be read again.
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        Ok(Self { text, scheme, host, port })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

fn is_user(user: &str) -> bool {
    (1..=64).contains(&user.len())
        && !user.starts_with(['-', '.'])
        && user.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn split_port(host_port: &str) -> Result<(&str, Option<u16>), UrlError> {
    // Only a colon after the closing bracket of an IPv6 address separates a port.
    let from = host_port.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = host_port[from..].find(':').map(|at| at + from) else { return Ok((host_port, None)) };
    let digits = &host_port[colon + 1..];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err(UrlError::Port),
        Ok(port) => Ok((&host_port[..colon], Some(port))),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inside) = host.strip_prefix('[') {
        return inside.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

/// A path is taken literally: no query, no fragment, nothing that decodes to a control character or leaves the root.
fn check_path(path: &str) -> Result<(), UrlError> {
    let names: Vec<&str> = path.split('/').skip(1).collect();
    let trailing = names.last().is_some_and(|last| last.is_empty());
    let names = if trailing { &names[..names.len() - 1] } else { &names[..] };
    if names.is_empty() || names.iter().any(|name| matches!(*name, "" | "." | "..")) {
        return Err(UrlError::Path);
    }
    // The first name is what an ssh server's command sees first.
    if names.iter().any(|name| name.starts_with('-')) || path.contains(['?', '#', '%', '"', '\'', '`', '$', ';', '|']) {
        return Err(UrlError::Path);
    }
    Ok(())
}

impl fmt::Display for GitUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for GitUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for GitUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<GitUrl> for String {
    fn from(url: GitUrl) -> Self {
        url.text
    }
}
