//! The command line: nouns, verbs and flags. What they do is in `commands`.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "pilothouse",
    about = "Steers work that machines do and people answer for.",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "`pilothouse demo` shows it all at work; `pilothouse help exit-codes` explains how commands end."
)]
pub(crate) struct Cli {
    /// Print JSON on stdout.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server to talk to [default: the one whose endpoint.json lies in the data directory]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Where the ledger, tokens and attempts lie [default: $XDG_DATA_HOME/pilothouse]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: API and worker.
    Up(NodeArgs),
    /// Run the API only.
    Serve(NodeArgs),
    /// Run a worker only.
    Work(WorkArgs),
    /// Show a protocol and a job from beginning to end, in a throw-away directory.
    Demo(DemoArgs),
    /// The job catalog.
    #[command(subcommand)]
    Job(JobCommand),
    /// Engines: what does the work.
    #[command(subcommand)]
    Engine(EngineCommand),
    /// Ask for a run of a job.
    Run(RunArgs),
    /// Runs of jobs.
    Runs(RunsArgs),
    /// Approve what waits under this reference.
    Yes(AnswerArgs),
    /// Deny what waits under this reference.
    No(AnswerArgs),
    /// Show what is going on, or how one run stands.
    Status {
        /// The reference of a run or gate.
        reference: Option<String>,
    },
    /// Ask a server whether it can do its work; needs no token.
    Health,
    /// Gates: what waits for people.
    #[command(subcommand)]
    Gate(GateCommand),
    /// The timeline.
    Events(EventsArgs),
    /// Attempts and what they print.
    #[command(subcommand)]
    Attempt(AttemptCommand),
    /// The work queue.
    Queue(QueueArgs),
    /// Projects: repositories and their settings.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Protocols: streams of coding work.
    #[command(subcommand)]
    Protocol(ProtocolCommand),
    /// Steps of protocols.
    #[command(subcommand)]
    Step(StepCommand),
    /// API tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// The ledger's files.
    #[command(subcommand)]
    Db(DbCommand),
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at what Pilothouse rests on here, and say what to do about it.
    Doctor {
        /// Put right what needs no decision: the permissions of our own files.
        #[arg(long)]
        fix: bool,
    },
    /// Print completions for a shell.
    Completion {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the version.
    Version,
    /// Explain a command, or a topic: exit-codes.
    Help {
        /// A command and its verb, or `exit-codes`.
        topic: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Listen here [default: 127.0.0.1:8010]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// Share this PostgreSQL with other nodes instead of using SQLite.
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The job catalog [default: jobs.toml in the data directory, if present]
    #[arg(long, value_name = "FILE")]
    pub(crate) jobs: Option<String>,
    /// Take messages on POST /dev/inbound; on loopback only.
    #[arg(long)]
    pub(crate) dev_channel: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Work for this PostgreSQL.
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Approve without asking; needed without a terminal.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Keep the directory and print where everything lies.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// List the jobs of the catalog in force.
    List,
    /// Show one job.
    Get { job: String },
    /// Check a catalog file; needs no server.
    Check { file: PathBuf },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    /// List the engines of the server's node.
    List,
    /// Show one engine with what it can do.
    Get { engine: String },
    /// Look for engines on this machine as it is configured; needs no server.
    Doctor {
        /// Only this one; exit code 1 when it cannot be used.
        engine: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The job's key.
    pub(crate) job: String,
    /// Parameters.
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) params: Vec<String>,
    /// Shown to whoever approves.
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Wait for the end, at most this long [1h when only --wait is said]; when the time is over, exit code 10 says that
    /// the run still waits for an approval, 6 that it is under way.
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1h")]
    pub(crate) wait: Option<String>,
    /// Makes repeating this command harmless.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RunsCommand>,
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, newest first.
    List(PageArgs),
    /// Show one run with its timeline.
    Get { run: String },
    /// Stop a run.
    Cancel { run: String },
    /// Try a failed run again.
    Retry { run: String },
}

#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Only those in this state.
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// At most this many.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) limit: Option<u32>,
    /// Continue behind this cursor.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The reference of a run, protocol or gate.
    pub(crate) reference: String,
    /// A note, or the reason.
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GateCommand {
    /// List gates; open ones unless --status says otherwise.
    List(PageArgs),
    /// Show one gate.
    Get { gate: String },
    /// Approve.
    Approve(AnswerArgs),
    /// Deny.
    Deny(AnswerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as events happen.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only of this subject, such as run:7Q4K2MA.
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Continue behind this cursor.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// At most this many in one page.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AttemptCommand {
    /// Show one attempt.
    Get { attempt: String },
    /// Print what happened in an attempt, as its engine told it.
    Transcript {
        /// An attempt's id, or a run's reference for its latest attempt.
        attempt: String,
        /// Go on until it ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print what an attempt's result changes.
    Diff {
        attempt: String,
        /// Only how much it changes, in which files.
        #[arg(long)]
        stat: bool,
    },
    /// Show what an attempt used, as far as its engine said.
    Usage { attempt: String },
    /// Ask what runs to end; it is killed after a few seconds.
    Cancel { attempt: String },
    /// End what runs at once, with all it started.
    Kill { attempt: String },
    /// Print what an attempt printed.
    Logs {
        /// An attempt's id, or a run's reference for its latest attempt.
        attempt: String,
        /// Go on until it ends.
        #[arg(long, short)]
        follow: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    pub(crate) command: Option<QueueCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List tasks, newest first.
    Jobs {
        /// queued, started, finished or failed
        #[arg(long)]
        status: Option<String>,
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; its secret is printed this once.
    New {
        /// What it is for.
        name: String,
        /// admin, read, runs:write, gates:decide, protocols:write, dev:inbound or metrics; may be repeated.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
        /// Whose it is; yours when missing.
        #[arg(long)]
        person: Option<String>,
        /// Days until it ends [default: 90]
        #[arg(long, value_name = "DAYS")]
        expires_in: Option<u32>,
    },
    /// List tokens.
    List,
    /// Make a token useless.
    Revoke { id: String },
    /// Make the owner and the first admin token of a ledger, on this machine.
    Bootstrap(DatabaseArgs),
    /// Replace the owner's admin token, on this machine, while no server holds the ledger.
    Reset(DatabaseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// The PostgreSQL that nodes share.
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Check the ledger while no server holds it.
    Check {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Also fold every subject's events and compare with its rows.
        #[arg(long)]
        fold: bool,
    },
    /// Have the server write a copy of the ledger.
    Backup,
    /// Put a copy in the ledger's place while no server holds it.
    Restore {
        /// The copy.
        file: PathBuf,
        /// Replace a ledger that is there.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every value.
    Show {
        /// Also show where it comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration.
    Check,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Add a repository.
    Add {
        /// Its URL, or the path of a local repository.
        repository: String,
        /// Its name; the last part of the URL when missing.
        #[arg(long)]
        name: Option<String>,
        /// The branch work starts from [default: main]
        #[arg(long, value_name = "BRANCH")]
        base: Option<String>,
        /// The engine that plans and works, such as scripted or shell.
        #[arg(long)]
        engine: Option<String>,
        /// The scenario that the scripted engine plays.
        #[arg(long, value_name = "FILE", requires = "engine")]
        scenario: Option<PathBuf>,
        /// An engine that takes its place when it cannot be had; more of them in the order in which they are tried.
        #[arg(long = "fallback", value_name = "ENGINE", requires = "engine")]
        fallback: Vec<String>,
        /// The engine that reviews what has passed its checks.
        #[arg(long, value_name = "ENGINE")]
        reviewer: Option<String>,
        /// A command that judges every step's result, split at spaces; may be repeated.
        #[arg(long = "check", value_name = "COMMAND")]
        checks: Vec<String>,
    },
    /// List projects.
    List,
    /// Show one project.
    Get { project: i64 },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProtocolCommand {
    /// Make a protocol in a project.
    New {
        /// The project's id.
        project: i64,
        /// NNNN-slug
        name: String,
        /// What is to be done.
        #[arg(long)]
        description: Option<String>,
        /// The branch work starts from.
        #[arg(long, value_name = "BRANCH")]
        base: Option<String>,
        /// A ProtocolSpec as JSON; the engine plans when missing.
        #[arg(long, value_name = "FILE")]
        spec: Option<PathBuf>,
        /// Ask for every step instead of letting steps follow each other.
        #[arg(long)]
        manual: bool,
        /// Start it at once.
        #[arg(long)]
        start: bool,
    },
    /// List the protocols of a project.
    List { project: i64 },
    /// Show one protocol with its steps.
    Get { protocol: i64 },
    /// Plan it and begin.
    Start { protocol: i64 },
    /// Let nothing new begin.
    Pause { protocol: i64 },
    /// Go on.
    Resume { protocol: i64 },
    /// Stop it for good.
    Cancel { protocol: i64 },
    /// Run the next step, where steps wait to be run.
    RunNext { protocol: i64 },
    /// Try the latest failed step again.
    Retry { protocol: i64 },
    /// Follow it until it ends.
    Watch { protocol: i64 },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StepCommand {
    /// List the steps of a protocol.
    List { protocol: i64 },
    /// Show one step.
    Get { step: i64 },
    /// Run a step.
    Run { step: i64 },
    /// Check a step.
    RunQa { step: i64 },
    /// Accept a step as it is.
    Approve {
        step: i64,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Print what the step's latest attempt printed.
    Logs {
        step: i64,
        /// Go on until it ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print what the step's result changes.
    Diff {
        step: i64,
        /// Only how much it changes, in which files.
        #[arg(long)]
        stat: bool,
    },
}
