//! Where a model is, taken apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The parts of a base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Empty, or beginning with a slash and ending without one.
    pub path: String,
}

impl Address {
    /// `None` for what is no plain `http` or `https` address.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#' | '\\');
        if authority.is_empty() || authority.contains(odd) || path.contains(odd) {
            return None;
        }
        let default = if tls { 443 } else { 80 };
        let (host, port) = match authority.rfind(':').filter(|colon| !authority[*colon..].contains(']')) {
            Some(colon) => (&authority[..colon], authority[colon + 1..].parse().ok()?),
            None => (authority, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty()).then(|| Self { tls, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    /// The address on this machine's loopback that it means, if it is there.
    pub fn loopback(&self) -> Option<SocketAddr> {
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse::<IpAddr>().ok()?,
        };
        ip.is_loopback().then(|| SocketAddr::new(ip, self.port))
    }

    /// What a request's `Host` says.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_parts() {
        let parse = |url| Address::parse(url).unwrap();
        let openai = parse("https://api.openai.com/v1/");
        assert_eq!((openai.tls, openai.port, openai.path.as_str()), (true, 443, "/v1"));
        assert_eq!((openai.authority().as_str(), openai.loopback()), ("api.openai.com", None));
        let own = parse("http://127.0.0.1:18080");
        assert_eq!(own.loopback(), Some("127.0.0.1:18080".parse().unwrap()));
        assert_eq!(parse("http://localhost:9/x").loopback(), Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!(parse("http://[::1]:9").loopback(), Some("[::1]:9".parse().unwrap()));
        for odd in
            ["ftp://x", "http://", "http://a@b", "http://h/p?q", "http://h:x", "h:1", "http://a b", "http://h/\r\nX: y"]
        {
            assert_eq!(Address::parse(odd), None, "{odd}");
        }
    }
}
