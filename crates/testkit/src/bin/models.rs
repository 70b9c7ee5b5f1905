//! The scripted model server by itself, for demonstrations: `models SCENARIO.toml [--port PORT]`.
#![expect(clippy::print_stdout, reason = "a program for people says where it listens")]

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use testkit::models::{ModelServer, Scenario};

const USAGE: &str = "usage: models SCENARIO.toml|SCENARIO.json [--port PORT]";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut scenario, mut port) = (None, 0);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--port" => port = arguments.next().context(USAGE)?.parse().context("a port is a number below 65536")?,
            path if scenario.is_none() && !path.starts_with('-') => scenario = Some(PathBuf::from(path)),
            _ => bail!(USAGE),
        }
    }
    let scenario = scenario.context(USAGE)?;
    let scenario = Scenario::load(&scenario).with_context(|| scenario.display().to_string())?;
    let server = ModelServer::start_on(port, scenario).context("cannot listen")?;
    let url = server.url();
    println!("The script is played at {url}. Agents find it with any key and:");
    println!("  codex      model_providers.NAME.base_url = \"{url}/v1\"");
    println!("  claude     ANTHROPIC_BASE_URL={url}");
    println!("  opencode   provider.NAME.options.baseURL = \"{url}/v1\"");
    println!("  gemini     GOOGLE_GEMINI_BASE_URL={url}");
    loop {
        std::thread::park();
    }
}
