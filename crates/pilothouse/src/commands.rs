//! What each command does. One file for each noun; this one only decides which.

mod attempts;
mod configuration;
mod database;
mod diffs;
mod engines;
mod events;
mod gates;
mod health;
mod jobs;
mod nodes;
mod projects;
mod protocols;
mod queue;
mod runs;
mod status;
mod steps;
mod tokens;

use std::{ffi::OsString, future::Future, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};
use client::Client;

use crate::{
    cli::{Cli, Command},
    config::{Settings, layers::Layer},
    failure::{self, Exit, Failure, Result},
    output::{Output, READER_GONE, print_clean, print_line, print_raw},
    session::{self, Wanted},
};

/// What every command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) settings: Settings,
    wanted: Wanted,
}

impl Context {
    /// A client for the server that is meant.
    pub(crate) fn client(&self) -> Result<Client> {
        session::connect(&self.settings, &self.wanted)
    }

    /// The same without a token, for what everybody may ask.
    pub(crate) fn nobodys_client(&self) -> Result<Client> {
        session::connect_as_nobody(&self.settings, &self.wanted)
    }
}

/// Runs the command line and says how it ended.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let named = std::iter::once(OsString::from("pilothouse")).chain(args);
    let cli = match Cli::try_parse_from(named) {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    let json = cli.json;
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(failure) if failure.message == READER_GONE => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(json);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and the version are answers; everything else is a usage error.
fn refused(error: &clap::Error) -> ExitCode {
    let shown = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match print_raw(shown.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) if failure.message == READER_GONE => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => {
            crate::output::say(shown.trim_end());
            ExitCode::from(Exit::Usage as u8)
        }
    }
}

fn dispatch(cli: Cli) -> Result {
    let output = Output { json: cli.json };
    // These say something about the program itself and read no configuration.
    match &cli.command {
        Command::Version => return version(output),
        Command::Completion { shell } => return completion(*shell),
        Command::Help { topic } => return help(topic),
        Command::Job(crate::cli::JobCommand::Check { file }) => return jobs::check(output, file),
        Command::Demo(args) => return crate::demo::main(args, output),
        _ => {}
    }
    let flags = Layer::default().flag("--data-dir", "data_dir", cli.data_dir.as_deref())?;
    let flags = match &cli.command {
        Command::Up(args) | Command::Serve(args) => nodes::flags(flags, args)?,
        Command::Work(args) => flags.flag("--database-url", "database_url", args.database_url.as_deref())?,
        Command::Token(command) => tokens::flags(flags, command)?,
        Command::Db(command) => database::flags(flags, command)?,
        _ => flags,
    };
    let settings = Settings::load(flags)?;
    let context = Context { output, settings, wanted: Wanted { server: cli.server } };
    match cli.command {
        Command::Up(_) => nodes::up(&context.settings),
        Command::Serve(_) => nodes::serve(&context.settings),
        Command::Work(_) => nodes::work(&context.settings),
        Command::Doctor { fix } => wait(crate::doctor::run(&context.settings, &context.wanted, context.output, fix)),
        Command::Config(command) => configuration::run(&context, &command),
        Command::Job(command) => wait(jobs::run(&context, command)),
        Command::Engine(command) => wait(engines::run(&context, command)),
        Command::Run(args) => wait(runs::request(&context, args)),
        Command::Runs(args) => wait(runs::run(&context, args)),
        Command::Yes(args) => wait(gates::answer(&context, args, true)),
        Command::No(args) => wait(gates::answer(&context, args, false)),
        Command::Health => wait(health::run(&context)),
        Command::Status { reference } => wait(status::run(&context, reference)),
        Command::Gate(command) => wait(gates::run(&context, command)),
        Command::Events(args) => wait(events::run(&context, args)),
        Command::Attempt(command) => wait(attempts::run(&context, command)),
        Command::Queue(args) => wait(queue::run(&context, args)),
        Command::Token(command) => wait(tokens::run(&context, command)),
        Command::Db(command) => wait(database::run(&context, command)),
        Command::Project(command) => wait(projects::run(&context, command)),
        Command::Protocol(command) => wait(protocols::run(&context, command)),
        Command::Step(command) => wait(steps::run(&context, command)),
        Command::Demo(_) | Command::Version | Command::Completion { .. } | Command::Help { .. } => Ok(()),
    }
}

/// Runs a command to its end, or until somebody interrupts it.
fn wait(command: impl Future<Output = Result>) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            done = Box::pin(command) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        }
    })
}

fn version(output: Output) -> Result {
    let version = serde_json::json!({ "name": "pilothouse", "version": env!("CARGO_PKG_VERSION") });
    output.one("version", &version, || format!("pilothouse {}", env!("CARGO_PKG_VERSION")))
}

fn completion(shell: clap_complete::Shell) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilothouse", &mut script);
    print_raw(&script)
}

fn help(topic: &[String]) -> Result {
    if topic.first().is_some_and(|topic| topic == "exit-codes") {
        return print_clean(&failure::exit_codes());
    }
    let mut command = Cli::command();
    for word in topic {
        let Some(inner) = command.find_subcommand(word) else {
            return Err(Failure::usage(format!("there is no command or topic {word}"))
                .remedy("`pilothouse help` lists the commands; the one topic is exit-codes."));
        };
        command = inner.clone();
    }
    print_line(&command.render_long_help().to_string())
}

/// Waits for the end of a run, for at most this long.
pub(crate) async fn wait_for_run(
    client: &Client,
    run: api::runs::RunView,
    limit: Duration,
) -> Result<api::runs::RunView> {
    runs::wait_for(client, run, limit).await
}

/// Prints one event, as `events` does.
pub(crate) fn show_event(output: Output, event: &api::events::EventView) -> Result {
    events::show(output, event)
}

/// What an event is about, as `events` names it.
pub(crate) fn event_subject(event: &api::events::EventView) -> String {
    events::subject_of(event)
}
