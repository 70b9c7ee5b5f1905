//! Nothing that hostile code tries in a sandbox reaches anything, and everything it tries does without one.

mod table;
mod world;

use crate::machine::binary;
use engines::Profile;
use std::sync::Arc;
use table::{PROBES, Probe};
use world::{Fence, World, means_here};

/// How many probes run at once.
const AT_ONCE: usize = 4;

async fn each(probes: impl Iterator<Item = &'static Probe>, judge: impl AsyncFn(&'static Probe) -> Option<String>) {
    use tokio::task::LocalSet;
    let judge = &judge;
    let mut wrong = Vec::new();
    let probes: Vec<_> = probes.collect();
    LocalSet::new()
        .run_until(async {
            for some in probes.chunks(AT_ONCE) {
                let judged = futures_of(some.iter().map(|probe| judge(probe))).await;
                wrong.extend(judged.into_iter().flatten());
            }
        })
        .await;
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Waits for all of some futures, which make progress together.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

async fn nothing_is_reached(profile: Profile) {
    for means in means_here().await {
        let means = Arc::new(means);
        each(PROBES.iter().filter(|probe| probe.profiles.contains(&profile)), async |probe| {
            let world = World::new().await;
            let seen = world.run(probe.script, &Fence::Profile(profile, (*means).clone())).await;
            seen.reached.then(|| format!("{profile} by {means:?}: {}: {}", probe.name, seen.output))
        })
        .await;
    }
}

#[tokio::test]
async fn there_are_enough_probes_and_each_has_its_name() {
    let mut names: Vec<&str> = PROBES.iter().map(|probe| probe.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PROBES.len());
    assert!(names.len() >= 80);
}

#[tokio::test]
async fn nothing_is_reached_by_who_may_only_read() {
    nothing_is_reached(Profile::ReadOnly).await;
}

#[tokio::test]
async fn nothing_is_reached_by_who_may_write_to_a_worktree() {
    nothing_is_reached(Profile::Workspace).await;
}

#[tokio::test]
async fn nothing_of_ours_is_reached_by_who_may_do_anything_else() {
    nothing_is_reached(Profile::Full).await;
}

#[tokio::test]
async fn everything_is_reached_without_a_sandbox() {
    let root = host::process::effective_uid() == 0;
    let (with_control, without): (Vec<_>, Vec<_>) = PROBES.iter().partition(|probe| root || !probe.root);
    if !without.is_empty() {
        eprintln!("{} probes have no control here, because only root reaches what they try", without.len());
    }
    each(with_control.into_iter(), async |probe| {
        let world = World::new().await;
        let seen = world.run(probe.script, &Fence::None).await;
        (!seen.reached).then(|| format!("{}: {}", probe.name, seen.output))
    })
    .await;
    assert!(binary().exists());
}
