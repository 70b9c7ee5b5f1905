//! What every request begins with, as it is written: the name it is addressed to and the secret it carries. It needs
//! nothing of the server, so that the coverage-guided targets of `fuzz/` are built without one.

/// Name in lower case and port; `None` for what is no host.
pub(crate) fn split(text: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match text.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((_, rest)) if rest.contains(']') => (text, None),
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (text, None),
    };
    // One dot at the end stands for the root of all names; then there is a name before it.
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_whole = !name.is_empty() && !name.ends_with('.');
    let is_name = is_whole && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
    is_name.then(|| (name.to_ascii_lowercase(), port))
}

/// The secret in the value of an `Authorization` header.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
