//! Which sandbox an engine or a check gets, by the configuration and by what this machine can do.

use std::path::{Path, PathBuf};

use engines::{Launch, Network, Profile, Sandbox, engine::Engine, survey::Survey};

use crate::{Worker, config::SandboxPolicy, failure::Failure};

/// What is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boxed {
    /// An engine that is part of Pilothouse, or a plain command.
    Command,
    /// A coding agent, which is installed somewhere, talks to its model and may have a sandbox of its own.
    Agent,
    Check,
}

impl Boxed {
    pub(crate) fn of(engine: Engine) -> Self {
        match engine {
            Engine::Shell | Engine::Scripted => Self::Command,
            _ => Self::Agent,
        }
    }
}

impl Worker {
    /// Puts a launch into its sandbox and gives it its limits. `readable` is what it needs besides its worktree.
    pub(crate) async fn confine(
        &self,
        launch: &mut Launch,
        what: Boxed,
        home: &Path,
        readable: &[PathBuf],
    ) -> Result<(), Failure> {
        let config = &self.config.sandbox;
        launch.limits.memory_bytes = config.memory;
        launch.limits.processes = config.processes;
        let Some(profile) = self.profile(what).await? else { return Ok(()) };
        let mut sandbox = Sandbox::new(profile, home);
        if what == Boxed::Check {
            sandbox = sandbox.for_check();
        }
        sandbox.network = if config.network { Network::Open } else { Network::Off };
        sandbox.hidden = vec![self.config.data_dir.clone()];
        sandbox.readable = config.readable.iter().chain(readable).cloned().collect();
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
        match policy {
            SandboxPolicy::Off => Ok(None),
            // Where an agent and all it needs are installed is for people to say: see `readable`.
            SandboxPolicy::Auto if what == Boxed::Agent => Ok(None),
            // What cannot be had here is refused by the supervisor, which says why.
            SandboxPolicy::Always(profile) => Ok(Some(profile)),
            SandboxPolicy::Auto => {
                let available = self.survey().await?.means(Profile::Workspace).is_ok();
                Ok(available.then_some(Profile::Workspace))
            }
        }
    }

    /// What this machine can do, found out once.
    async fn survey(&self) -> Result<&Survey, Failure> {
        let take = || async {
            let taken = Survey::take(&self.config.exe, &self.config.data_dir, self.config.sandbox.bubblewrap);
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
