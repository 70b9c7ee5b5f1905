//! How soon a tree of six processes that try to get away is gone, and that none of them is left.

use std::time::Duration;

use engines::supervisor;
use testkit::bench::series::{milliseconds, quantile};

use crate::place::{EXE, Place};

/// Six: the shell, and five that leave their parent, their group or their session, or will not listen.
const ESCAPE: &str = "
    setsid sleep 1000 &
    (sleep 1000 &)
    sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1000 & wait; done' &
    setsid sh -c 'kill -STOP $$' &
    wait";
const N_PROCESSES: usize = 6;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(trees: usize) -> Result<f64, String> {
    let mut times = Vec::new();
    let mut survivors = 0;
    for _ in 0..trees {
        let place = Place::new()?;
        let launch = place.launch(vec!["/bin/sh".into(), "-c".into(), ESCAPE.into()], None);
        let supervised = supervisor::start(EXE.as_ref(), launch).await.map_err(|error| error.to_string())?;
        let begun = host::clock::monotonic();
        while place.alive() < N_PROCESSES {
            if begun.elapsed() > PATIENCE {
                return Err(format!("there were only {} processes", place.alive()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let begun = host::clock::monotonic();
        supervised.stop("killed", Some(Duration::ZERO)).await.map_err(|error| error.to_string())?;
        let exit = supervised.wait().await.map_err(|error| error.to_string())?;
        times.push(milliseconds(begun.elapsed()));
        survivors += place.alive() + usize::from(!exit.all_gone);
    }
    match survivors {
        0 => quantile(&mut times, 0.99).ok_or_else(|| "nothing was measured".to_owned()),
        left => Err(format!("{left} processes were left of {trees} trees")),
    }
}
