use control::Clock;
use domain::{
    ids::{Fence, TaskId},
    task::TaskState,
};
use store::{Store, StoreConfig};
use testkit::bench::operation;

use super::*;

struct Looping {
    _dir: tempfile::TempDir,
    store: Store,
    worker: Worker,
    /// Held before anything else was claimed.
    lease: Lease,
    waiting: Waiting,
}

impl Looping {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::Sqlite { path: dir.path().join("ledger.db") }).await.unwrap();
        store.commit(operation::enqueue(1)).await.unwrap();
        let control = Control::new(store.clone(), Clock::default());
        let (worker, waiting) = prepared(WorkerConfig::new(dir.path(), "none"), control);
        let claimed = store.work(Vec::new(), worker.claim_of(Lane::Fast, 1)).await.unwrap().tasks;
        let lease = worker.leases.take(claimed[0].clone(), &worker.deadline(Duration::ZERO)).unwrap();
        Self { _dir: dir, store, worker, lease, waiting }
    }

    async fn during(self, seen: impl AsyncFnOnce(&Store, &Worker, &Lease)) {
        let Self { store, worker, lease, waiting, .. } = self;
        let slots = Slots::new(&worker.config);
        let looping = host::task::spawn("claim fast", worker.clone().claim_fast(slots, waiting));
        seen(&store, &worker, &lease).await;
        worker.draining.cancel();
        looping.await.unwrap();
    }
}

async fn state_of(store: &Store, id: &TaskId) -> TaskState {
    store.find_task(id).await.unwrap().unwrap().state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_spoils_a_commit_spoils_it_for_itself_alone() {
    let looping = Looping::new().await;
    looping
        .during(async |store, worker, lease| {
            let spoilt = lease.ack(Then::Dead { error: "\0".to_owned() });
            let (first, ()) = tokio::join!(worker.acks.send(spoilt), worker.acknowledge(lease, lease.done()));

            assert_eq!(first, None, "it is its handler's again");
            assert!(matches!(state_of(store, &lease.task.id).await, TaskState::Done { .. }));
            let other = Ack { fence: Fence(lease.fence.0 + 1), ..lease.done() };
            let late = tokio::join!(worker.acks.send(lease.done()), worker.acks.send(other));
            assert_eq!(late, (Some(false), Some(false)), "fenced");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_git_takes_all_its_room_nothing_more_is_claimed_and_what_is_done_is_acknowledged() {
    let looping = Looping::new().await;
    let ready = operation::enqueue(1);
    let id = ready.tasks[0].id.clone();
    looping.store.commit(ready).await.unwrap();
    let git_slots = Arc::clone(&looping.worker.git_slots);
    let all = git_slots.acquire_many(u32::try_from(GIT_AT_ONCE).unwrap()).await.unwrap();
    looping
        .during(async |store, worker, lease| {
            assert_eq!(worker.acks.send(lease.done()).await, Some(true));
            assert_eq!(state_of(store, &id).await, TaskState::Ready);

            drop(all);

            let started = host::clock::monotonic();
            while !matches!(state_of(store, &id).await, TaskState::Done { .. }) {
                assert!(started.elapsed() < Duration::from_secs(60));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
}

#[tokio::test]
async fn room_is_promised_to_one_claim_and_made_by_what_it_acknowledges() {
    let worker = Looping::new().await.worker;
    let slots = Slots::new(&WorkerConfig { fast_slots: TOGETHER + 100, ..(*worker.config).clone() });
    let mut ahead = Ahead { is_due: true, is_more: false, promised: 0 };
    assert_eq!(worker.room(&slots, 0, &ahead), TOGETHER);

    let first = ahead.promise(TOGETHER, 0);
    assert_eq!(worker.room(&slots, 0, &ahead), 100);
    assert_eq!(worker.room(&slots, 50, &ahead), 150, "once these are acknowledged");
    let second = ahead.promise(150, 50);
    assert_eq!(worker.room(&slots, 0, &ahead), 0);

    ahead.came(150, second, 149);
    assert!(ahead.is_due && !ahead.is_more, "the queue held no more than these");
    assert_eq!(worker.room(&slots, 0, &ahead), 100);
    ahead.came(TOGETHER, first, TOGETHER);
    assert!(ahead.is_due && ahead.is_more);
    assert_eq!(worker.room(&slots, 0, &ahead), TOGETHER);
}
