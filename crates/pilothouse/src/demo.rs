//! The product at work, from beginning to end, in a directory that is thrown away.
//!
//! Everything is real but the engine: the ledger, the API, the worker, the supervised processes, git and the
//! repository's own test. The engine is the `scripted` one, and it says so. Start at [`main`].

mod repository;
mod protocol;
mod job;
mod watch;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use client::Client;

use crate::{
    cli::DemoArgs,
    config::{Settings, layers::Layer},
    failure::{Exit, Failure, Result},
    log,
    node::{self, Node, Roles},
    output::{Output, print_clean, say},
};

/// Everything is over long before; a demo that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the scenes of the demo share.
#[derive(Debug)]
struct Stage {
    dir: PathBuf,
    client: Client,
    asks: bool,
    output: Output,
}

pub(crate) fn main(args: &DemoArgs, output: Output) -> Result {
    let asks = !args.yes;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage("the demo asks for an approval, and there is no terminal to ask on")
            .remedy("`pilothouse demo --yes` approves by itself."));
    }
    log::start("warn", false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let dir = host::fs::create_temporary_dir(&host::fs::temporary_root(), "pilothouse-demo-")?;
    let ended = runtime.block_on(play(&dir, asks, output));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if args.keep {
        say(&format!("kept {}", dir.display()));
    } else {
        match host::fs::remove_foreign_dir(&dir) {
            Ok(()) => say("removed all of it; --keep keeps it"),
            Err(error) => say(&format!("could not remove {}: {error}", dir.display())),
        }
    }
    ended
}

/// Starts a node of its own, plays both scenes and stops it, however they end.
async fn play(dir: &Path, asks: bool, output: Output) -> Result {
    let settings = settings(dir)?;
    job::prepare(dir)?;
    let node = node::start(&settings, Roles { serves: true, works: true }).await?;
    let ended = tokio::select! {
        ended = scenes(dir, &node, asks, output) => ended,
        () = tokio::time::sleep(PATIENCE) => {
            Err(Failure::new(Exit::TimedOut, format!("the demo was not over after {PATIENCE:?}")))
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    node.stop().await;
    ended
}

/// The user's own configuration has no part in this.
fn settings(dir: &Path) -> Result<Settings> {
    let data = dir.join("data");
    let jobs = dir.join(job::FILE);
    let flags = Layer::default()
        .flag("demo", "server.listen", Some("127.0.0.1:0"))?
        .flag("demo", "dev_channel", Some("true"))?
        .flag("demo", "worker.outlive", Some("1s"))?
        .flag("demo", "data_dir", data.to_str())?
        .flag("demo", "jobs", jobs.to_str())?;
    Ok(Settings::merge([flags]))
}

async fn scenes(dir: &Path, node: &Node, asks: bool, output: Output) -> Result {
    let url = node.url().unwrap_or_default();
    let token = host::fs::read_text(&dir.join("data").join(node::bootstrap::TOKEN_FILE), 4096)?;
    let client = Client::new(url, Some(token.trim().to_owned()))?;
    let stage = Stage { dir: dir.to_owned(), client, asks, output };
    say(&format!("pilothouse {} at {url}, everything in {}", env!("CARGO_PKG_VERSION"), dir.display()));
    say("the engine is `scripted`: it plays a file, no model is asked; everything else is real");
    say("self-approval is switched on for this demo: you ask, and you approve");
    let watch = watch::start(&stage).await?;
    let played = async {
        protocol::play(&stage).await?;
        job::play(&stage).await
    };
    let played = played.await;
    watch.finish().await;
    played?;
    stage.show(&format!(
        "\neverything lies in {}: the repository in repository, the ledger in data/pilothouse.db, what was printed in \
         data/attempts",
        dir.display()
    ))?;
    stage.show("the protocol completed and the job succeeded")
}

impl Stage {
    /// Asks on the terminal, or says that it approves by itself.
    async fn ask(&self, question: &str) -> Result<bool> {
        if !self.asks {
            say(&format!("{question} yes (--yes)"));
            return Ok(true);
        }
        say(&format!("{question} [y/N]"));
        let answer = host::task::spawn_blocking("read an answer", || {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let line = answer.await.ok().and_then(std::result::Result::ok).unwrap_or_default();
        Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Lets the events that led here be told first.
    async fn quiet(&self) {
        tokio::time::sleep(Duration::from_millis(60)).await;
    }

    /// What the demo shows goes to stdout, unless stdout is for programs.
    fn show(&self, text: &str) -> Result {
        if self.output.json {
            say(text.trim_end());
            return Ok(());
        }
        print_clean(&format!("{}\n", text.trim_end()))
    }
}
