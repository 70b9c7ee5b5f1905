//! Which sandbox an engine or a check gets, by the configuration and by what this machine can do.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use engines::{
    Launch, Network, Profile, Sandbox,
    engine::{Configured, Engine, McpServer, Transport},
    survey::Survey,
};

use crate::{Worker, config::SandboxPolicy, failure::Failure};

/// What is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boxed {
    /// An engine that is part of Pilothouse, or a plain command.
    Command,
    /// A coding agent, and how far its tools are to reach.
    Agent(Profile),
    /// A program that starts coding agents of its own, from places that only people know.
    Launcher,
    Check,
}

/// What is shown to it besides its worktree, and whom it reaches.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) readable: Vec<PathBuf>,
    pub(crate) writable: Vec<PathBuf>,
    /// These addresses and nobody else; `None`: whatever the configuration allows.
    pub(crate) only: Option<Vec<SocketAddr>>,
    /// It takes a directory in the place of a file for an error.
    pub(crate) trips_over_masks: bool,
}

impl Boxed {
    pub(crate) fn of(engine: Engine, access: Profile) -> Self {
        match engine {
            Engine::Shell | Engine::Scripted => Self::Command,
            Engine::CodeMachine => Self::Launcher,
            Engine::Codex | Engine::Claude | Engine::Opencode | Engine::Gemini | Engine::Acp => Self::Agent(access),
        }
    }
}

impl Needs {
    /// What an engine needs by its command and by those of the servers of tools that it starts.
    pub(crate) fn of(configured: &Configured, command: &[String], servers: &[McpServer]) -> Self {
        let mut readable = configured.readable.clone();
        show_programs(&mut readable, command.iter());
        for server in servers {
            if let Transport::Stdio { command, args, .. } = &server.transport {
                show_programs(&mut readable, std::iter::once(command).chain(args));
            }
        }
        // opencode does, and what is behind ACP nobody knows.
        let trips_over_masks = matches!(configured.engine, Engine::Opencode | Engine::Acp);
        Self { readable, writable: configured.writable.clone(), only: None, trips_over_masks }
    }
}

/// Adds where the programs of a command lie: what is beside them belongs to them, and packages of Node lie in one
/// directory with all that they need.
fn show_programs<'a>(readable: &mut Vec<PathBuf>, command: impl Iterator<Item = &'a String>) {
    let home = host::env::var("HOME").map(PathBuf::from);
    let mut show = |path: &Path| {
        // A directory with nothing but programs, never somebody's home or all there is.
        if path.parent().is_some() && home.as_deref().is_none_or(|home| !home.starts_with(path)) {
            readable.push(path.to_owned());
        }
    };
    let canonical = |path: &Path| host::fs::canonicalize(path).ok();
    let paths = command.map(Path::new).filter(|path| path.is_absolute());
    for (n, path) in paths.enumerate() {
        for path in [Some(path.to_owned()), canonical(path)].into_iter().flatten() {
            let packages = path.ancestors().filter(|above| above.ends_with("node_modules")).last();
            match (packages, path.parent()) {
                (Some(packages), _) => show(packages),
                (None, Some(dir)) if n == 0 => show(dir),
                (None, _) => {}
            }
        }
    }
}

impl Worker {
    /// Puts a launch into its sandbox and gives it its limits.
    pub(crate) async fn confine(
        &self,
        launch: &mut Launch,
        what: Boxed,
        home: &Path,
        needs: Needs,
    ) -> Result<(), Failure> {
        let config = &self.config.sandbox;
        launch.limits.memory_bytes = config.memory;
        launch.limits.processes = config.processes;
        let Some(profile) = self.profile(what).await? else { return Ok(()) };
        let mut sandbox = Sandbox::new(profile, home);
        if what == Boxed::Check {
            sandbox = sandbox.for_check();
        }
        if needs.trips_over_masks {
            sandbox = sandbox.sparing_missing_files(&launch.cwd);
        }
        sandbox.network = match needs.only {
            Some(only) if !only.is_empty() => Network::Endpoints(only),
            _ if config.network => Network::Open,
            _ => Network::Off,
        };
        sandbox.hidden = vec![self.config.data_dir.clone()];
        sandbox.readable = config.readable.iter().cloned().chain(needs.readable).collect();
        sandbox.writable = needs.writable;
        sandbox.bubblewrap = self.survey().await?.bubblewrap_for(profile);
        launch.sandbox = Some(sandbox);
        Ok(())
    }

    /// Finds out what this machine can do, unless nobody wants to know.
    pub(crate) async fn look_at_machine(&self) -> Result<(), Failure> {
        let config = &self.config.sandbox;
        if (config.engines, config.checks) != (SandboxPolicy::Off, SandboxPolicy::Off) {
            self.survey().await?;
        }
        Ok(())
    }

    /// Whether this runs in a sandbox of ours, so that it needs none of its own.
    pub(crate) async fn is_confined(&self, what: Boxed) -> Result<bool, Failure> {
        Ok(self.profile(what).await?.is_some())
    }

    async fn profile(&self, what: Boxed) -> Result<Option<Profile>, Failure> {
        let config = &self.config.sandbox;
        let policy = if what == Boxed::Check { config.checks } else { config.engines };
        let wanted = match (policy, what) {
            (SandboxPolicy::Off, _) | (SandboxPolicy::Auto, Boxed::Launcher) => return Ok(None),
            // What cannot be had here is refused by the supervisor, which says why.
            (SandboxPolicy::Always(profile), _) => return Ok(Some(profile)),
            (SandboxPolicy::Auto, Boxed::Agent(access)) => access,
            (SandboxPolicy::Auto, Boxed::Command | Boxed::Check) => Profile::Workspace,
        };
        let available = self.survey().await?.means(wanted).is_ok();
        Ok(available.then_some(wanted))
    }

    /// What this machine can do, found out once.
    async fn survey(&self) -> Result<&Survey, Failure> {
        let take = || async {
            let dir = self.config.survey_dir(&self.incarnation);
            // What was left of one that failed says nothing to this one.
            host::fs::remove_foreign_dir(&dir).map_err(Failure::retry)?;
            let taken = Survey::take(&self.config.exe, &dir, self.config.sandbox.bubblewrap);
            let survey = taken.await.map_err(Failure::retry)?;
            for (profile, means) in &survey.profiles {
                match means {
                    Ok(means) => tracing::info!("Sandbox {profile} by {}", means.as_str()),
                    Err(why) => tracing::warn!("No sandbox {profile} on this machine: {why}"),
                }
            }
            Ok(survey)
        };
        self.survey.get_or_try_init(take).await
    }
}
