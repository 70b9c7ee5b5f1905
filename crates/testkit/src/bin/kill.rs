//! `kill [--backend sqlite|postgres|both] [--cycles N] …`: kills the real process under load and checks its ledger. Exit
//! code 1 when a promise was broken or a control was not caught.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use testkit::kill::{drill, options::Options, run};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "drill" => Box::pin(drill::main(rest)).await,
        _ => Box::pin(harness(arguments)).await,
    };
    outcome.unwrap_or_else(|error| {
        tell(&format!("kill: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn harness(arguments: Vec<String>) -> Result<ExitCode> {
    let options = match Options::parse(arguments, host::env::var("SEED")) {
        Ok(options) => options,
        Err(error) => {
            tell(&format!("{error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    let exe = host::process::current_exe()?;
    if options.product {
        build(&exe).await?;
    }
    run::run(&options, &exe, &tell).await
}

/// Builds the product beside this program, so that what is tested is what the sources say.
async fn build(exe: &Path) -> Result<()> {
    let Some(cargo) = host::env::var("CARGO") else {
        if exe.with_file_name("pilothouse").exists() {
            return Ok(());
        }
        bail!("there is no pilothouse beside {}; start this with `cargo run`", exe.display());
    };
    let profile = exe.parent().and_then(|dir| dir.file_name()).and_then(|name| name.to_str());
    let profile = match profile {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => bail!("{} lies in no profile's directory", exe.display()),
    };
    #[expect(clippy::disallowed_methods, reason = "cargo needs the whole environment, which host never passes on")]
    let mut command = tokio::process::Command::new(cargo);
    let status = command
        .args(["build", "--quiet", "--locked", "--profile", profile, "--package", "pilothouse", "--bin", "pilothouse"])
        .status()
        .await
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the product does not build");
    }
    Ok(())
}

fn tell(line: &str) {
    // Talk: whoever closed stderr does not want it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
