//! What this machine can do for a tree, found out by doing it: a program that does nothing, in each sandbox in turn.

use crate::exit::{Confined, LaunchFailureKind, Limited};
use crate::sandbox::{self, Bubblewrap, BubblewrapError, Means, Network, Profile, Sandbox};
use crate::supervisor::{self, Launch, LaunchError};
use host::contain::Containment;
use host::fs::FsError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was found.
#[derive(Debug)]
pub struct Survey {
    pub bubblewrap: Result<Bubblewrap, BubblewrapError>,
    /// How surely a tree without a sandbox can be ended.
    pub containment: Result<Containment, String>,
    /// What keeps memory and process limits.
    pub limited: Option<Limited>,
    /// The means by which each profile can be had, or why it cannot.
    pub profiles: Vec<(Profile, Result<Means, String>)>,
}

impl Survey {
    /// Tries everything, in `dir`, which is removed in the end with all that is in it.
    pub async fn take(exe: &Path, dir: &Path, use_bubblewrap: bool) -> Result<Self, FsError> {
        let survey = Self::take_in(exe, dir, use_bubblewrap).await;
        host::fs::remove_foreign_dir(dir)?;
        survey
    }

    async fn take_in(exe: &Path, dir: &Path, use_bubblewrap: bool) -> Result<Self, FsError> {
        let (work, home) = (dir.join("work"), dir.join("home"));
        host::fs::create_private_dir(&work)?;
        host::fs::create_private_dir(&home)?;
        let bubblewrap =
            if use_bubblewrap { sandbox::find_bubblewrap().await } else { Err(BubblewrapError::NotWanted) };
        let mut n = 0;
        let mut launch = |sandbox: Option<Sandbox>| {
            n += 1;
            let mut launch = Launch::new(dir.join(format!("try-{n}")), vec!["true".to_owned()], &work);
            launch.limits = launch.limits.wall(Duration::from_secs(30)).memory(1 << 30).processes(100);
            launch.sandbox = sandbox;
            launch
        };
        let plain = try_out(exe, launch(None)).await;
        let mut profiles = Vec::new();
        for profile in Profile::ALL {
            let mut outcome = Err("there is no bubblewrap".to_owned());
            let found = bubblewrap.as_ref().ok().map(|found| found.program.clone());
            for program in found.map(Some).into_iter().chain([None]) {
                let sandbox = Sandbox { bubblewrap: program, ..Sandbox::new(profile, &home) };
                let tried = try_out(exe, launch(Some(sandbox))).await;
                outcome = match (tried, outcome) {
                    (Ok(Tried { confined: Some(confined), .. }), _) => Ok(confined.means),
                    (Ok(_), _) => Err("it ran without a sandbox".to_owned()),
                    (Err(without), Err(with)) if bubblewrap.is_ok() => Err(format!("{with}; {without}")),
                    (Err(without), _) => Err(without),
                };
                if outcome.is_ok() {
                    break;
                }
            }
            profiles.push((profile, outcome));
        }
        let limited = plain.as_ref().ok().and_then(|tried| tried.limited);
        Ok(Self { bubblewrap, containment: plain.map(|tried| tried.containment), limited, profiles })
    }

    /// The means by which a profile can be had.
    pub fn means(&self, profile: Profile) -> Result<Means, &str> {
        match self.profiles.iter().find(|(known, _)| *known == profile) {
            Some((_, Ok(means))) => Ok(*means),
            Some((_, Err(why))) => Err(why),
            None => Err("it was not tried"),
        }
    }

    /// Where bubblewrap is, if it is what makes this profile.
    pub fn bubblewrap_for(&self, profile: Profile) -> Option<PathBuf> {
        let found = self.bubblewrap.as_ref().ok()?;
        (self.means(profile) == Ok(Means::Bubblewrap)).then(|| found.program.clone())
    }
}

struct Tried {
    containment: Containment,
    confined: Option<Confined>,
    limited: Option<Limited>,
}

async fn try_out(exe: &Path, mut launch: Launch) -> Result<Tried, String> {
    launch.env = vec![("PATH".to_owned(), host::process::DEFAULT_PATH.to_owned())];
    if let Some(sandbox) = &mut launch.sandbox {
        sandbox.network = Network::Off;
    }
    let said = |error: &dyn std::error::Error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let supervised = supervisor::start(exe, launch).await.map_err(|error| match error {
        LaunchError::Program(failure) if failure.kind == LaunchFailureKind::SandboxUnavailable => failure.message,
        other => said(&other),
    })?;
    let exit = supervised.wait().await.map_err(|error| said(&error))?;
    if !exit.outcome.success() {
        return Err(exit.outcome.to_string());
    }
    Ok(Tried { containment: exit.containment, confined: exit.sandbox, limited: exit.limited })
}
