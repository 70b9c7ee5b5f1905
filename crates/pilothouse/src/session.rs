//! Which server a command talks to, and as whom.
//!
//! By flag, by `PILOTHOUSE_SERVER_URL`, or by the `endpoint.json` that a running server keeps in its data directory. A
//! token file is only read for the server that named it: no other server ever gets to see it.

use std::path::{Path, PathBuf};

use client::Client;

use crate::{
    config::Settings,
    failure::{Exit, Failure, Result},
    node::endpoint::{self, Endpoint},
};

/// What a command line says about the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) server: Option<String>,
}

/// A client for the server that is meant.
pub(crate) fn connect(settings: &Settings, wanted: &Wanted) -> Result<Client> {
    let (url, known) = find(settings, wanted)?;
    let token = host::env::var("PILOTHOUSE_TOKEN").filter(|token| !token.is_empty());
    let token = match (token, &known) {
        (Some(token), _) => Some(token),
        (None, Some(endpoint)) => Some(read_token(endpoint)?),
        (None, None) => None,
    };
    Ok(Client::new(&url, token)?)
}

/// A client for the same server that says nothing of who asks: of several servers over one ledger, only one may have
/// the file of the first token.
pub(crate) fn connect_as_nobody(settings: &Settings, wanted: &Wanted) -> Result<Client> {
    let (url, _) = find(settings, wanted)?;
    Ok(Client::new(&url, None)?)
}

/// The address of the server that is meant, and what it left word of itself, if it is one of this data directory.
fn find(settings: &Settings, wanted: &Wanted) -> Result<(String, Option<Endpoint>)> {
    let named = wanted.server.clone().or_else(|| host::env::var("PILOTHOUSE_SERVER_URL").filter(|url| !url.is_empty()));
    let data_dir = settings.data_dir();
    let endpoint = match &data_dir {
        Some(dir) => endpoint::read(dir)?,
        None => None,
    };
    let known = endpoint.filter(|endpoint| named.as_deref().is_none_or(|url| same_server(url, &endpoint.url)));
    match named.or_else(|| known.as_ref().map(|endpoint| endpoint.url.clone())) {
        Some(url) => Ok((url, known)),
        None => Err(nobody(data_dir.as_deref())),
    }
}

fn same_server(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

fn nobody(data_dir: Option<&Path>) -> Failure {
    let missing = match data_dir {
        Some(dir) => format!("no server is running: {} is not there", dir.join(endpoint::FILE).display()),
        None => "no server is known".to_owned(),
    };
    Failure::new(Exit::Unreachable, missing)
        .remedy("Start one with `pilothouse up`, or name one with --server URL and PILOTHOUSE_TOKEN.")
}

fn read_token(endpoint: &Endpoint) -> Result<String> {
    let path: PathBuf = endpoint.token_file.clone();
    let text = host::fs::read_text(&path, 4096).map_err(|error| {
        Failure::new(Exit::Auth, crate::failure::chain(&error))
            .remedy("Give a token in PILOTHOUSE_TOKEN, or make a new one with `pilothouse token reset`.")
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_address() {
        assert!(same_server("http://127.0.0.1:8010/", "http://127.0.0.1:8010"));
        assert!(!same_server("http://127.0.0.1:8011", "http://127.0.0.1:8010"));
        assert!(!same_server("http://127.0.0.1:8010.evil.test", "http://127.0.0.1:8010"));
    }
}
