//! The engines of this machine as the API shows them.

use std::{sync::Arc, time::Duration};

use api::engines::{EngineCapabilities, EngineView};
use engines::{
    engine::{Configured, EngineTable},
    registry::{self, Found, Login, Program},
};
use server::engines::EngineRegistry;
use tokio::sync::Mutex;

/// How long what was found is believed: some programs need seconds to say their version.
const FRESH: Duration = Duration::from_secs(60);

/// What was found, and when.
type Known = Option<(std::time::Instant, Vec<EngineView>)>;

/// The registry that a server asks.
pub(crate) fn for_server(table: EngineTable, path: String) -> EngineRegistry {
    let known: Arc<Mutex<Known>> = Arc::default();
    EngineRegistry::new(&table.clone(), move || {
        let (table, path, known) = (table.clone(), path.clone(), known.clone());
        async move {
            // Whoever asks at the same time waits for the same look.
            let mut known = known.lock().await;
            if let Some((at, found)) = known.as_ref()
                && at.elapsed() < FRESH
            {
                return found.clone();
            }
            let found = look(&table, &path).await;
            *known = Some((host::clock::monotonic(), found.clone()));
            found
        }
    })
}

pub(crate) async fn look(table: &EngineTable, path: &str) -> Vec<EngineView> {
    registry::look(table, path).await.into_iter().map(view).collect()
}

pub(crate) async fn look_at(configured: &Configured, path: &str) -> EngineView {
    view(registry::look_at(configured, path).await)
}

fn view(found: Found) -> EngineView {
    let can = found.capabilities;
    let (login, key_variable) = match &found.login {
        Login::NotNeeded => ("not_needed", None),
        Login::Key { variable } => ("key", Some(variable.clone())),
        Login::Missing { variable } => ("missing", variable.clone()),
        Login::Own => ("own", None),
    };
    EngineView {
        adapter: found.engine.id().to_owned(),
        status: if found.is_usable() { "ready" } else { "unusable" }.to_owned(),
        found_at: match &found.program {
            Program::At(path) => Some(path.display().to_string()),
            Program::BuiltIn | Program::Missing { .. } => None,
        },
        version: found.version,
        minimum_version: found.versions.map(|known| known.minimum.to_owned()),
        tested_version: found.versions.map(|known| known.tested.to_owned()),
        login: login.to_owned(),
        key_variable,
        capabilities: EngineCapabilities {
            schema: can.schema,
            resume: can.resume,
            preset_session: can.preset_session,
            cost: can.cost,
            usage: can.usage,
            permissions: can.permissions,
            asks: can.asks,
            mcp: can.mcp,
            own_sandbox: can.own_sandbox,
        },
        mcp_servers: found.servers,
        problems: found.problems,
        id: found.id,
    }
}
