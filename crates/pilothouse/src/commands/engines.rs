//! Engines: asked of the server, or looked for on this machine.

use api::engines::EngineView;

use super::Context;
use crate::{
    cli::EngineCommand,
    config::search_path,
    failure::{Failure, Result},
    node::registry,
    output::fields,
};

pub(super) async fn run(context: &Context, command: EngineCommand) -> Result {
    match command {
        EngineCommand::List => {
            let engines = context.client()?.list_engines().await?;
            list(context, &engines.items)
        }
        EngineCommand::Get { engine } => {
            let engine = context.client()?.get_engine(&engine).await?;
            context.output.one("engine", &engine, || describe(&engine))
        }
        EngineCommand::Doctor { engine: None } => {
            let found = registry::look(&context.settings.engines_with_keys(), &search_path()).await;
            list(context, &found)
        }
        EngineCommand::Doctor { engine: Some(id) } => doctor(context, &id).await,
    }
}

async fn doctor(context: &Context, id: &str) -> Result {
    let table = context.settings.engines_with_keys();
    let configured = table.require(id).map_err(|error| Failure::usage(error.to_string()))?;
    let found = registry::look_at(configured, &search_path()).await;
    context.output.one("engine", &found, || describe(&found))?;
    match found.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Failure::failed(format!("engine {id} cannot be used: {problem}"))),
    }
}

fn list(context: &Context, engines: &[EngineView]) -> Result {
    let head = ["engine", "status", "version", "login", "found at", "problems"];
    context.output.list("engines", engines, None, &head, |engine| {
        vec![
            engine.id.clone(),
            engine.status.clone(),
            engine.version.clone().unwrap_or_default(),
            engine.login.clone(),
            engine.found_at.clone().unwrap_or_default(),
            engine.problems.join("; "),
        ]
    })
}

fn describe(engine: &EngineView) -> String {
    let can = &engine.capabilities;
    let abilities = [
        ("schema", can.schema),
        ("resume", can.resume),
        ("preset session", can.preset_session),
        ("cost", can.cost),
        ("usage", can.usage),
        ("permissions", can.permissions),
        ("asks", can.asks),
        ("MCP", can.mcp),
        ("own sandbox", can.own_sandbox),
    ];
    let abilities: Vec<&str> = abilities.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect();
    let mut text = fields([
        ("engine", Some(engine.id.clone())),
        ("adapter", Some(engine.adapter.clone())),
        ("status", Some(engine.status.clone())),
        ("found at", engine.found_at.clone()),
        ("version", engine.version.clone()),
        ("needs at least", engine.minimum_version.clone()),
        ("tested with", engine.tested_version.clone()),
        ("login", Some(engine.login.clone())),
        ("key in", engine.key_variable.clone()),
        ("can", Some(abilities.join(", ")).filter(|abilities| !abilities.is_empty())),
        ("MCP servers", Some(engine.mcp_servers.join(", ")).filter(|servers| !servers.is_empty())),
    ]);
    for problem in &engine.problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    text
}
