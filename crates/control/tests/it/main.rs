//! Commands from end to end on a real ledger, with a clock that stands still until it is moved.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod catalogs;
mod inbound;
mod tokens;

use std::time::Duration;

use control::{
    Clock, CommandError, Control,
    inbound::{Inbound, InboundReply},
};
use domain::{run::Run, time::Timestamp};
use store::{Store, StoreConfig};

const NOON: Timestamp = Timestamp::from_micros(1_766_836_800_000_000);

/// A ledger of its own in a temporary directory.
struct TestApp {
    control: Control,
    _dir: tempfile::TempDir,
}

impl TestApp {
    async fn start(catalog: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("ledger.db") }).await.unwrap();
        let control = Control::new(store, Clock::manual(NOON));
        control.load_catalog(catalog, "jobs.toml").await.unwrap();
        Self { control, _dir: dir }
    }

    async fn say(&self, from: &str, body: &str) -> InboundReply {
        self.try_say(from, body, None).await.unwrap()
    }

    async fn try_say(&self, from: &str, body: &str, id: Option<&str>) -> Result<InboundReply, CommandError> {
        self.control
            .inbound(Inbound {
                channel: "dev".into(),
                from: format!("dev:{from}"),
                conversation: "dev:ops".into(),
                body: body.into(),
                provider_message_id: id.map(str::to_owned),
            })
            .await
    }

    /// The only reply's text.
    async fn answer(&self, from: &str, body: &str) -> String {
        let reply = self.say(from, body).await;
        assert_eq!(reply.outbound.len(), 1, "{:?}", reply.outbound);
        reply.outbound[0].body.clone()
    }

    async fn run(&self, reply: &InboundReply) -> Run {
        self.control.get::<Run>(reply.run_id.as_ref().unwrap().as_str()).await.unwrap().subject
    }

    fn advance(&self, hours: u64) {
        self.control.clock().advance(Duration::from_secs(hours * 3600));
    }
}
