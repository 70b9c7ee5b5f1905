//! The power goes at the moment that decides whether an attempt may be repeated unasked: its program has just begun.
//!
//! That a launch was begun is told from its document, which the supervisor removes, and from nothing else when neither
//! the supervisor nor its result is left. A document that comes back with the power would say that nothing ever ran. Under
//! a load this moment is seldom met, because each commit of the ledger flushes the filesystem's journal too.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use engines::supervisor::{self, Adopted, Launch};
use futures_util::{FutureExt, future::BoxFuture};

use super::Machine;
use crate::{
    fault::{Outcome, Setting},
    mount::call,
    violation::{Kind, Violation},
};

/// How long a program may take to begin on a busy machine.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// What is launched: says that it began, on a disk that keeps its power, and stays.
const PROGRAM: &str = r#": > "$1"; exec sleep 600"#;

/// A supervisor that has the document and starts the program, and flushes nothing.
const FORGETFUL: &str = "#!/bin/sh\nrm \"$2\"\n: > \"$0.begun\"\nwhile :; do sleep 0.1; done\n";

/// Launches a program on the machine's disk, cuts the power as soon as it has begun, and asks what the next worker asks.
pub(super) async fn cut_when_begun(exe: &Path, dir: &Path, machine: &mut Machine) -> Result<Option<Violation>> {
    let begun = dir.join("begun");
    let attempt = machine.data.join("launch");
    let argv = ["/bin/sh", "-c", PROGRAM, "sh", &begun.display().to_string()].map(str::to_owned);
    let mut launch = Launch::new(&attempt, argv.to_vec(), dir);
    // By which it is found when everything is killed.
    launch.env = vec![("HOME".to_owned(), attempt.join("home").display().to_string())];
    cut_when(&begun, exe, launch, machine).await
}

async fn cut_when(begun: &Path, exe: &Path, launch: Launch, machine: &mut Machine) -> Result<Option<Violation>> {
    let (attempt, nonce, program) = (launch.dir.clone(), launch.nonce.clone(), exe.to_owned());
    let mut starting = Some(host::task::spawn("launch", async move { supervisor::start(&program, launch).await }));
    let asked_at = host::clock::monotonic();
    while !begun.exists() {
        ensure!(asked_at.elapsed() < BEGINS_WITHIN, "the program did not begin within {BEGINS_WITHIN:?}");
        if let Some(started) = starting.take_if(|starting| starting.is_finished())
            && let Err(error) = started.await?
        {
            bail!("the program did not begin: {error}");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    machine.cut()?;
    // Whether it was told of the start depends on who was faster, and is forgotten with the power.
    if let Some(starting) = starting {
        starting.abort();
    }
    machine.come_back(Some((&attempt, exe))).await?;
    std::fs::remove_file(begun)?;
    let adopted = supervisor::adopt(&attempt, &nonce).await?;
    ensure!(matches!(adopted, Adopted::Gone), "what was killed was found as {adopted:?}");
    let is_repeated = supervisor::revoke(&attempt)?;
    // The next launch finds an empty place.
    if attempt.exists() {
        std::fs::remove_dir_all(&attempt)?;
    }
    Ok(is_repeated.then(|| {
        let what = "an attempt had begun, and after the power cut it counts as one that never did".to_owned();
        Violation::of(Kind::Repeated, what)
    }))
}

/// The control: a supervisor that does not wait for the disk before its program begins.
pub(super) fn forgetful(setting: Setting) -> BoxFuture<'static, Result<Outcome>> {
    async move {
        let mut machine = Machine::of(&setting).await?;
        let exe = script(&setting.dir)?;
        // The making of the filesystem is not what this is about.
        call("sync", &["-f", &machine.at.display().to_string()]).await?;
        let launch = Launch::new(machine.data.join("launch"), vec!["sh".to_owned()], &setting.dir);
        let found = cut_when(&exe.with_extension("begun"), &exe, launch, &mut machine).await?;
        machine.remove().await?;
        Ok(Outcome { done: 1, violations: found.into_iter().collect(), ..Outcome::default() })
    }
    .boxed()
}

fn script(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("forgetful");
    std::fs::write(&path, FORGETFUL)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
    Ok(path)
}
