//! A server whose database says nothing, for longer than it waits for an answer: every request ends in time all the same,
//! none with 2xx, and once the network is whole again it serves as before.

use std::time::Duration;

use anyhow::Result;

use crate::{
    fleet::{ANSWER, Fleet},
    service,
    violation::{Kind, Violation},
    wire::{EVERYTHING, NOTHING},
};

/// Requests one after another while nothing passes. The first finds connections that seem to be there.
const ASKED: usize = 3;
/// What is promised: a commit waits for its turn and its answer, and is then looked for, each as long as an answer is
/// waited for.
const IN_TIME: Duration = Duration::from_secs(3 * ANSWER.as_secs());
/// Beyond that, for a machine that does other work.
const SLACK: Duration = Duration::from_secs(2);
/// From the end of the partition until a command is acknowledged: what was sent last is sent again by a timer that
/// doubled all the while, and a connection that is being made is given up after [`ANSWER`].
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Nobody waits longer to find out.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a silence came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    /// How long each request took, and how it was answered.
    answers: Vec<(Duration, Option<u16>)>,
    /// From the end of the silence until a command was acknowledged.
    back: Option<Duration>,
}

/// Puts the fleet's server through one.
pub(super) async fn bear(fleet: &mut Fleet, name: &str) -> Result<Silence> {
    let mut silence = Silence::default();
    fleet.lines[0].set(NOTHING).await?;
    for n in 0..ASKED {
        let started = host::clock::monotonic();
        let status = service::ask(&fleet.target, &format!("{name}-silent-{n}")).await;
        silence.answers.push((started.elapsed(), status));
    }
    fleet.lines[0].set(EVERYTHING).await?;
    let healed = host::clock::monotonic();
    silence.back = service::until_taken(&fleet.target, &format!("{name}-heard"), healed, PATIENCE).await;
    Ok(silence)
}

impl Silence {
    pub(super) fn violation(&self) -> Option<Violation> {
        for (took, status) in &self.answers {
            match status {
                Some(200..300) => {
                    return Some(Violation::of(Kind::Answer, "a command was acknowledged without a database"));
                }
                Some(_) if *took <= IN_TIME + SLACK => {}
                _ => {
                    let what = format!("a request without a database took {took:?}: {status:?}");
                    return Some(Violation::of(Kind::Late, what));
                }
            }
        }
        match self.back {
            Some(back) if back <= BACK_WITHIN => None,
            back => {
                Some(Violation::of(Kind::Late, format!("service was back {back:?} after the network, not in time")))
            }
        }
    }
}

/// The worst of them.
pub(super) fn text(silences: &[Silence]) -> String {
    let answered = silences.iter().flat_map(|silence| silence.answers.iter().map(|(took, _)| *took)).max();
    let back = silences.iter().filter_map(|silence| silence.back).max();
    match (answered, back) {
        (Some(answered), Some(back)) => {
            format!("; silent database: answered after {answered:.1?} at most, back within {back:.1?}")
        }
        _ => String::new(),
    }
}
