//! The product at work beside an empty repository.

use std::path::PathBuf;

use client::Client;
use testkit::bench::{
    node::{self, Endpoint, Launch},
    repository,
};

use crate::place::EXE;

/// `pilothouse up` with an empty repository. Killed when it is dropped.
pub(crate) struct Node {
    repository: PathBuf,
    endpoint: Endpoint,
    node: node::Node,
    _dir: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn start() -> Result<Self, String> {
        let dir = testkit::bench::fixture::directory()?;
        let root = dir.path().canonicalize().map_err(|error| error.to_string())?;
        let repository = repository::create(&root)?;
        let launch = Launch::new(EXE.as_ref(), "up", &root)
            .set("WORKER__ENGINE_SLOTS", "32")
            .set("SERVER__LIMITS__MAX_STREAMS_PER_PERSON", "64");
        let mut node = node::Node::start(&launch)?;
        let endpoint = node.ready().await?;
        Ok(Self { repository, endpoint, node, _dir: dir })
    }

    pub(crate) fn repository(&self) -> String {
        self.repository.display().to_string()
    }

    pub(crate) fn client(&self) -> Result<Client, String> {
        let Endpoint { address, token } = self.endpoint.clone();
        Client::new(&format!("http://{address}"), Some(token)).map_err(|error| error.to_string())
    }

    pub(crate) fn log(&self) -> String {
        self.node.log()
    }
}
