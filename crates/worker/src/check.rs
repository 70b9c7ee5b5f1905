//! One command that judges a result: run under supervision in the checkout, for real.

use std::{path::Path, time::Duration};

use domain::{
    attempt::Attempt,
    protocol::{Finding, QaVerdict},
    text::command_line,
};
use engines::{
    Launch, Outcome,
    exit::{Exit, LaunchFailure, LaunchFailureKind},
    spec::{Limits, Stream},
    spool,
    supervisor::{self, CANCELED, LaunchError},
};

use crate::{
    Worker,
    engine_run::plain_environment,
    failure::Failure,
    lease::Lease,
    project_setup::full,
    sandboxes::{Boxed, Needs},
};

const WALL: Duration = Duration::from_secs(15 * 60);
/// How much of what a check printed is kept with its finding.
const MAX_DETAIL: usize = 4000;
const OUTPUT: u64 = 16 << 20;

/// How one check ended for the work as a whole.
pub(crate) enum Checked {
    Finding(Finding),
    Stopped,
    /// By a person, who is named.
    ByHand {
        said: String,
    },
    CutOff {
        why: String,
    },
}

impl Worker {
    pub(crate) async fn run_check(
        &self,
        lease: &Lease,
        attempt: &Attempt,
        worktree: &Path,
        number: u32,
        argv: &[String],
    ) -> Result<Checked, Failure> {
        let dir = self.attempt_dir(attempt).join(format!("check-{number}"));
        let home = self.attempt_dir(attempt).join("home");
        host::fs::create_private_dir(&self.attempt_dir(attempt)).map_err(Failure::retry)?;
        host::fs::create_private_dir(&home).map_err(Failure::retry)?;
        let mut launch = Launch::new(&dir, argv.to_vec(), worktree);
        launch.env = plain_environment(&home);
        launch.nonce.clone_from(&attempt.nonce);
        launch.limits = Limits::default().wall(WALL).output(OUTPUT).spool(OUTPUT);
        launch.merge_stderr = true;
        self.bound(lease, &mut launch);
        self.confine(&mut launch, Boxed::Check, &home, Needs::default()).await?;
        let started = host::clock::monotonic();
        let (verdict, exit_code, ending) = match supervisor::start(&self.config.exe, launch).await {
            Ok(supervised) => {
                // All checks of an attempt are held alike.
                let held = (number == 1).then(|| supervised.held());
                let (exit, ()) = tokio::join!(self.watch(lease, &supervised), self.tell_held(lease, attempt, held));
                let exit = exit?;
                match verdict_of(&exit) {
                    Ok(judged) => judged,
                    Err(checked) => return Ok(checked),
                }
            }
            Err(LaunchError::Program(failure)) => (QaVerdict::Inconclusive, None, launch_failed(&failure)),
            Err(error @ (LaunchError::NotReady(_) | LaunchError::Unreachable(_))) => {
                return Err(Failure::retry(full(&error)));
            }
            // Killed, perhaps, and whatever it had begun with it.
            Err(error @ LaunchError::Died { .. }) => return Ok(Checked::CutOff { why: full(&error) }),
            Err(error) => (QaVerdict::Inconclusive, None, full(&error)),
        };
        host::failpoint!("worker.check.ended");
        let printed = spool::tail(&dir, Stream::Output, MAX_DETAIL).map_err(Failure::retry)?;
        let printed = host::text::clean(&printed.bytes);
        self.keep_output(attempt, argv, &ending, &printed)?;
        let detail = if printed.trim().is_empty() { ending } else { format!("{ending}\n{printed}") };
        Ok(Checked::Finding(Finding {
            check: host::text::one_line(command_line(argv), 300),
            verdict,
            exit_code,
            detail: host::text::cut(&detail, MAX_DETAIL),
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    /// One log for all checks of an attempt, where logs of attempts are looked for.
    fn keep_output(&self, attempt: &Attempt, argv: &[String], ending: &str, printed: &str) -> Result<(), Failure> {
        use std::io::Write as _;
        let path = self.attempt_dir(attempt).join(Stream::Output.file_name());
        let mut file = host::fs::open_append(&path).map_err(Failure::retry)?;
        let text = format!("$ {}\n{}\n# {ending}\n", command_line(argv), printed.trim_end());
        file.write_all(text.as_bytes()).map_err(Failure::retry)
    }
}

fn verdict_of(exit: &Exit) -> Result<(QaVerdict, Option<i32>, String), Checked> {
    let ending = exit.outcome.to_string();
    match &exit.outcome {
        Outcome::Exited { code: 0 } => Ok((QaVerdict::Pass, Some(0), ending)),
        Outcome::Exited { code } => Ok((QaVerdict::Fail, Some(*code), ending)),
        Outcome::Signaled { .. } | Outcome::TimedOut { .. } | Outcome::OutputLimit => {
            Ok((QaVerdict::Fail, None, ending))
        }
        Outcome::LaunchFailed(failure) => Ok((QaVerdict::Inconclusive, None, launch_failed(failure))),
        Outcome::Stopped { reason } if reason == CANCELED => Err(Checked::Stopped),
        Outcome::Stopped { reason } if let Some(said) = supervisor::said_by_hand(reason) => {
            Err(Checked::ByHand { said: said.to_owned() })
        }
        Outcome::Stopped { .. } | Outcome::DeadlinePassed | Outcome::ControllerLost => {
            Err(Checked::CutOff { why: ending })
        }
    }
}

fn launch_failed(failure: &LaunchFailure) -> String {
    match failure.kind {
        LaunchFailureKind::ProgramNotFound => format!("the command is missing: {failure}"),
        LaunchFailureKind::ProgramRefused | LaunchFailureKind::DirectoryNotFound | LaunchFailureKind::Other => {
            format!("the command could not be started: {failure}")
        }
        LaunchFailureKind::SandboxUnavailable => format!("the sandbox for checks cannot be had here: {failure}"),
    }
}
