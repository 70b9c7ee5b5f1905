//! How much memory grows while a program writes as fast as it can: that of its supervisor and that of whoever follows.

use std::time::Duration;

use engines::{
    engine::{Engine, Transcript},
    spec::{Limits, Stream},
    spool, supervisor,
};
use testkit::bench::machine::resident_mib;

use crate::place::{EXE, Place};

const LOOK: Duration = Duration::from_millis(100);
const PIECE: usize = 256 * 1024;
/// As a worker gives it.
const SPOOL: u64 = 64 << 20;

/// MiB that both hold more at most in the second half than they did after the first quarter.
pub(crate) async fn measure(span: Duration) -> Result<f64, String> {
    let place = Place::new()?;
    let mut launch = place.launch(vec!["/usr/bin/yes".into()], None);
    launch.merge_stderr = false;
    launch.limits = Limits::default().spool(SPOOL).wall(span * 4).kill_grace(Duration::ZERO);
    launch.limits.output_bytes = u64::MAX;
    let supervised = supervisor::start(EXE.as_ref(), launch).await.map_err(|error| error.to_string())?;
    let report = supervised.report().await.map_err(|error| error.to_string())?;
    let held = || resident_mib(report.supervisor_pid) + resident_mib(std::process::id());
    let mut transcript = Transcript::new(Engine::Codex);
    let (mut offset, mut early, mut late) = (0, 0.0_f64, 0.0_f64);
    let begun = host::clock::monotonic();
    while begun.elapsed() < span {
        let piece = spool::read(&place.attempt(), Stream::Stdout, offset, PIECE).map_err(|error| error.to_string())?;
        offset = piece.next_offset;
        drop(transcript.feed(&piece.bytes));
        match begun.elapsed() {
            now if now < span / 4 => early = early.max(held()),
            now if now >= span / 2 => late = late.max(held()),
            _ => {}
        }
        if piece.bytes.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
    supervised.stop("enough", Some(Duration::ZERO)).await.map_err(|error| error.to_string())?;
    let exit = supervised.wait().await.map_err(|error| error.to_string())?;
    let written = exit.outputs.iter().map(|output| output.bytes).max().unwrap_or(0);
    match written > SPOOL && exit.all_gone {
        true => Ok((late - early).max(0.0)),
        false => Err(format!("it wrote {written} bytes only, or outlived its end: {:?}", exit.outcome)),
    }
}
