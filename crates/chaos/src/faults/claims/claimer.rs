//! One of many who take tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use domain::{
    commit::{Ack, Then},
    ids::TaskId,
    task::{Lane, Task},
    time::Timestamp,
};
use store::{Claim, Store, StoreError, Worked, queue::Caps};
use testkit::random::Random;

use super::{
    Queue,
    register::{Register, fence_of},
};

/// Far longer than anybody holds a task.
const LEASE: Duration = Duration::from_secs(60);
/// For what is let go on purpose.
const SHORT: Duration = Duration::from_millis(100);
/// Of a hundred claims, those that are let go.
const LET_GO: u64 = 3;
/// On SQLite leases belong to a process: claimers are threads of one.
const PROCESS: &str = "node-1";

pub(super) struct Claimer {
    n: u64,
    queue: Queue,
    store: Store,
    register: Arc<Register>,
    random: Random,
    /// Tasks of its own that were let go, to come back to.
    gone: Vec<Task>,
    is_sqlite: bool,
}

impl Claimer {
    pub(super) fn new(n: u64, queue: Queue, store: Store, register: Arc<Register>, random: Random) -> Self {
        let is_sqlite = store.backend_name() == "sqlite";
        Self { n, queue, store, register, random, gone: Vec::new(), is_sqlite }
    }

    /// Until told to stop; then what is held is given back.
    pub(super) async fn work(mut self, closing: &AtomicBool) -> Result<()> {
        let mut held: Vec<Task> = Vec::new();
        while !closing.load(Ordering::Acquire) {
            let lets_go = self.random.chance(LET_GO);
            let lease = if lets_go { SHORT } else { LEASE };
            let acks = self.ends(&held);
            let sent_at = host::clock::monotonic();
            let limit = u32::try_from(1 + self.random.below(32)).unwrap_or(1);
            let worked = match self.call(acks.clone(), limit, lease).await {
                Ok(worked) => worked,
                Err(error) if error.is_transient() => continue,
                Err(error) => return Err(error.into()),
            };
            self.settle(&acks, &worked);
            for task in &worked.tasks {
                self.register.claimed(task, sent_at, lets_go.then_some(SHORT));
            }
            held = worked.tasks;
            if lets_go {
                self.gone.append(&mut held);
            }
            if self.gone.len() > 8 || (self.random.chance(5) && !self.gone.is_empty()) {
                self.come_back().await?;
            }
            if held.is_empty() {
                tokio::time::sleep(self.random.millis(1, 4)).await;
            }
        }
        let acks = held.iter().filter_map(|task| ack(task, Then::Done)).collect::<Vec<_>>();
        let worked = self.call(acks.clone(), 0, LEASE).await?;
        self.settle(&acks, &worked);
        Ok(())
    }

    /// Most are done, a few go back to the queue.
    fn ends(&mut self, held: &[Task]) -> Vec<Ack> {
        let now = Timestamp::from_micros(host::clock::now_micros());
        let mut acks = Vec::with_capacity(held.len());
        for task in held {
            let then = match self.random.chance(4) {
                true => {
                    self.register.giving_back(task);
                    Then::Again { due_at: now, failed: None }
                }
                false => Then::Done,
            };
            acks.extend(ack(task, then));
        }
        acks
    }

    fn settle(&self, acks: &[Ack], worked: &Worked) {
        for sent in acks {
            match worked.fenced.iter().any(|fenced| fenced.task == sent.task && fenced.fence == sent.fence) {
                true => self.register.refused(&sent.task, sent.fence),
                false if sent.then == Then::Done => self.register.finished(&sent.task, sent.fence),
                false => {}
            }
        }
    }

    /// Somebody takes over what was let go; then whoever held it tries to finish it all the same.
    async fn come_back(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.gone);
        let incarnation = if self.is_sqlite { PROCESS.to_owned() } else { format!("heir-{}", self.n) };
        // Heirs that are given exactly these, or whoever comes after a reaper.
        if self.is_sqlite || self.random.chance(50) {
            for task in &gone {
                let Some(fence) = fence_of(task) else { continue };
                self.register.let_go(task);
                let sent_at = host::clock::monotonic();
                let taken = match &self.queue {
                    Queue::Flawed(flawed) if self.is_sqlite => host::task::block_here(|| flawed.adopt(task, PROCESS))?,
                    Queue::Product(_) | Queue::Flawed(_) => {
                        self.store.adopt(&task.id, fence, &incarnation, LEASE).await?
                    }
                };
                if let Some(taken) = taken {
                    self.register.claimed(&taken, sent_at, None);
                    let ended = ack(&taken, Then::Done).into_iter().collect::<Vec<_>>();
                    let late = ack(task, Then::Done).into_iter().collect::<Vec<_>>();
                    // The late end first: that is the moment in which it could do harm.
                    for acks in [late, ended] {
                        let worked = self.call(acks.clone(), 0, LEASE).await?;
                        self.settle(&acks, &worked);
                    }
                }
            }
            return Ok(());
        }
        tokio::time::sleep(SHORT).await;
        let _: Vec<TaskId> = self.store.reap(&incarnation, 100).await?.tasks;
        // Whoever claims next may be anybody.
        tokio::time::sleep(self.random.millis(0, 20)).await;
        let late: Vec<Ack> = gone.iter().filter_map(|task| ack(task, Then::Done)).collect();
        match self.call(late.clone(), 0, LEASE).await {
            Ok(worked) => self.settle(&late, &worked),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn call(&self, done: Vec<Ack>, limit: u32, lease: Duration) -> std::result::Result<Worked, StoreError> {
        let claim = Claim {
            lane: Lane::Fast,
            incarnation: if self.is_sqlite { PROCESS.to_owned() } else { format!("claimer-{}", self.n) },
            limit,
            lease,
            caps: Caps::default(),
            now: Timestamp::from_micros(host::clock::now_micros()),
        };
        match &self.queue {
            Queue::Product(store) => store.work(done, claim).await,
            Queue::Flawed(flawed) => flawed.work(done, claim).await,
        }
    }
}

fn ack(task: &Task, then: Then) -> Option<Ack> {
    Some(Ack { task: task.id.clone(), fence: fence_of(task)?, then })
}
