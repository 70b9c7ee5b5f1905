//! Messages that ask for a run, one after the other on each of 64 connections, beside what the store does with as many
//! callers.
//!
//! The process serves and does not work: what its answers set in motion would be measured as well. Each message has an
//! id of its own, so that each is looked up, decided, and committed with its answer, events, gate, reply and tasks.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use testkit::bench::{
    fixture::Fixture,
    http::{self, Answered},
    load,
    node::{Launch, Node},
    series::{Sample, Unmeasured},
};

use crate::{
    Plan,
    place::{Database, Place, server},
};

const CONNECTIONS: usize = 64;

/// The job that is asked for: as most are, after somebody's word.
const CATALOG: &str = r#"
[job.deploy]
title = "Deploy"
owner = "bench"
[job.deploy.params]
env = { type = "enum", values = ["prod", "test"], required = true }
[job.deploy.exec]
argv = ["/bin/true", "{{env}}"]
[job.deploy.policy]
approve = { of = ["dev:*"], quorum = 1 }
"#;

/// What one round gave.
#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    answered: Answered,
    /// Operations a second of the store alone.
    store: f64,
}

impl Inbound {
    pub(crate) fn rate(&self) -> Sample {
        Sample::beside(self.answered.per_second, self.store)
    }

    pub(crate) fn p99(&self) -> Sample {
        self.answered.p99_ms.into()
    }
}

pub(crate) async fn measure(database: Database, plan: Plan) -> Result<Inbound, Unmeasured> {
    let ledger = match database {
        Database::Sqlite => Fixture::sqlite().await?,
        Database::Postgres => Fixture::postgres(&server()?).await?,
    };
    let store = load::decide(&ledger.store, CONNECTIONS, plan.span).await;
    ledger.end().await;
    let place = Place::new(database).await?;
    let answered = ask(&place, plan).await;
    place.end().await;
    Ok(Inbound { answered: answered?, store: store.map_err(|error| error.to_string())?.per_second })
}

async fn ask(place: &Place, plan: Plan) -> Result<Answered, String> {
    let launch = with_jobs(place.launch("serve"), place.root())?.set("SERVER__LIMITS__MAX_CONNECTIONS_PER_PEER", "256");
    let mut node = Node::start(&launch)?;
    let endpoint = node.ready().await?;
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    let address = endpoint.address;
    let next = move |caller, n| {
        let body = format!(
            r#"{{"from":"dev:ada{caller}","conversation":"dev:ops{caller}","body":"run deploy env=prod","providerMessageId":"{run}-{caller}-{n}"}}"#
        );
        http::request(&endpoint, "POST", "/dev/inbound", &body)
    };
    let load = move || http::load(address, CONNECTIONS, plan.span, next);
    host::task::spawn_blocking("load", load).await.map_err(|error| error.to_string())?
}

/// With a catalog, and people who may speak by the development channel.
pub(crate) fn with_jobs<'a>(mut launch: Launch<'a>, root: &Path) -> Result<Launch<'a>, String> {
    let jobs = root.join("jobs.toml");
    std::fs::write(&jobs, CATALOG).map_err(|error| error.to_string())?;
    launch.arguments.extend(["--dev-channel".to_owned(), "--jobs".to_owned(), jobs.display().to_string()]);
    Ok(launch)
}
