use control::Clock;
use domain::{ids::Fence, task::TaskState};
use store::{Store, StoreConfig};
use testkit::bench::operation;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_spoils_a_commit_spoils_it_for_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("ledger.db") }).await.unwrap();
    store.commit(operation::enqueue(1)).await.unwrap();
    let (worker, waiting) =
        prepared(WorkerConfig::new(dir.path(), "none"), Control::new(store.clone(), Clock::default()));
    let claimed = store.work(Vec::new(), worker.claim_of(Lane::Fast, 1)).await.unwrap().tasks;
    let lease = worker.leases.take(claimed[0].clone(), None).unwrap();
    let looping = host::task::spawn("claim fast", worker.clone().claim_fast(Slots::new(&worker.config), waiting));

    let spoilt = lease.ack(Then::Dead { error: "\0".to_owned() });
    let (first, ()) = tokio::join!(worker.acks.send(spoilt), worker.acknowledge(&lease, lease.done()));

    assert_eq!(first, None, "it is its handler's again");
    let task = store.find_task(&lease.task.id).await.unwrap().unwrap();
    assert!(matches!(task.state, TaskState::Done { .. }), "{task:?}");
    let other = Ack { fence: Fence(lease.fence.0 + 1), ..lease.done() };
    let late = tokio::join!(worker.acks.send(lease.done()), worker.acks.send(other));
    assert_eq!(late, (Some(false), Some(false)), "fenced");
    worker.draining.cancel();
    looping.await.unwrap();
}
