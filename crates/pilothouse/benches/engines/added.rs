//! What it adds to an engine's own run to be started, supervised, read, and recorded.
//!
//! The engine prints a hundred lines and ends. Plain, it is started and its output is read; supervised, it is started by
//! the supervisor, its output is spooled, read and parsed, and the beginning and the end are commits of a ledger. Runs of
//! both take turns; the difference of their medians is the figure.

use std::path::PathBuf;

use engines::{
    EngineRequest, Profile, Sandbox,
    engine::{Engine, Phase, Settings, Subject, Transcript},
    sandbox, spool, supervisor,
};
use host::process::{self, Command};
use testkit::bench::{
    fixture::Fixture,
    operation,
    series::{median, milliseconds},
};

use crate::place::{EXE, Place};

const LINES: usize = 100;

pub(crate) async fn in_bubblewrap(runs: usize) -> Result<f64, String> {
    let found = sandbox::find_bubblewrap().await.map_err(|error| error.to_string())?;
    measure(runs, Some(Some(found.program))).await
}

pub(crate) async fn in_landlock(runs: usize) -> Result<f64, String> {
    measure(runs, Some(None)).await
}

/// `boxed`: in a sandbox, by the bubblewrap that is named or by Landlock.
pub(crate) async fn measure(runs: usize, boxed: Option<Option<PathBuf>>) -> Result<f64, String> {
    let ledger = Fixture::sqlite().await?;
    let (mut plain, mut supervised) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let place = Place::new()?;
        let text: String = (0..LINES).map(|n| format!("line {n} of what an engine says\n")).collect();
        std::fs::write(place.work().join("text"), text).map_err(|error| error.to_string())?;

        let begun = host::clock::monotonic();
        let ran = process::run(Command::new("/bin/cat").arg("text").cwd(place.work())).await;
        let ran = ran.map_err(|error| error.to_string())?;
        plain.push(milliseconds(begun.elapsed()));
        if ran.stdout.iter().filter(|&&byte| byte == b'\n').count() != LINES {
            return Err("the plain engine did not print what it should".to_owned());
        }

        let begun = host::clock::monotonic();
        supervise(&place, &ledger, boxed.as_ref()).await?;
        supervised.push(milliseconds(begun.elapsed()));
    }
    ledger.end().await;
    match (median(&mut supervised), median(&mut plain)) {
        (Some(supervised), Some(plain)) => Ok(supervised - plain),
        (_, _) => Err("nothing was measured".to_owned()),
    }
}

async fn supervise(place: &Place, ledger: &Fixture, boxed: Option<&Option<PathBuf>>) -> Result<(), String> {
    let run = operation::draw_run();
    ledger.store.commit(operation::create(&run)).await.map_err(|error| error.to_string())?;
    let subject = Subject { phase: Phase::Work, step: "bench".into(), attempt: 1 };
    let request = EngineRequest {
        settings: Settings { argv: vec!["/bin/cat".into(), "text".into()], ..Settings::default() },
        env: vec![("PATH".into(), process::DEFAULT_PATH.into())],
        ..EngineRequest::new(subject, "", &place.work(), &place.attempt())
    };
    let mut launch = Engine::Shell.launch(&request).map_err(|error| error.to_string())?;
    launch.sandbox = boxed
        .map(|bubblewrap| Sandbox { bubblewrap: bubblewrap.clone(), ..Sandbox::new(Profile::Workspace, place.home()) });
    let supervised = supervisor::start(EXE.as_ref(), launch).await.map_err(|error| error.to_string())?;
    let exit = supervised.wait().await.map_err(|error| error.to_string())?;
    let mut transcript = Transcript::new(Engine::Shell);
    let output =
        spool::read(&place.attempt(), Engine::Shell.stream(), 0, 1 << 20).map_err(|error| error.to_string())?;
    let events = [transcript.feed(&output.bytes), transcript.flush()].concat();
    let finished = transcript.conclude(&exit, "");
    ledger.store.commit(operation::decide(&run, 1)).await.map_err(|error| error.to_string())?;
    match events.len() >= LINES && finished.class.is_none() {
        true => Ok(()),
        false => Err(format!("the supervised engine told {} events and ended with {finished:?}", events.len())),
    }
}
