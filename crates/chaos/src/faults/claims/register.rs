//! What claimers were told, held together outside the database.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use domain::{
    ids::{Fence, TaskId},
    task::{Task, TaskKind, TaskState},
};
use store::{Store, TaskQuery};

use crate::{
    fault::Backend,
    violation::{Kind, Violation},
};

/// Violations that are worth keeping.
const KEPT: usize = 20;

#[derive(Debug)]
pub(super) struct Register {
    backend: Backend,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tasks: HashMap<TaskId, Entry>,
    /// Every fence that was given.
    fences: HashSet<i64>,
    n_done: u64,
    n_claims: u64,
    n_taken_over: u64,
    n_fenced: u64,
    violations: Vec<Violation>,
}

#[derive(Debug)]
struct Entry {
    fence: Fence,
    held: Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nobody else may be given it.
    Firmly,
    /// Nobody else may be given it before this instant.
    Until(Instant),
    /// It may be given to anybody: it was given back, or taken over from its holder.
    No,
    Done,
}

impl Register {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn done(&self) -> u64 {
        self.lock().n_done
    }

    pub(super) fn has_found(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    pub(super) fn figures(&self) -> String {
        let inner = self.lock();
        format!(
            "{} done in {} claims, {} taken over, {} late ends refused",
            inner.n_done, inner.n_claims, inner.n_taken_over, inner.n_fenced
        )
    }

    /// A claim that began at `sent_at` brought this task, to be kept firmly or let go after `lease`.
    pub(super) fn claimed(&self, task: &Task, sent_at: Instant, lease: Option<Duration>) {
        let Some(fence) = fence_of(task) else { return };
        let now = host::clock::monotonic();
        let mut inner = self.lock();
        inner.n_claims += 1;
        if !inner.fences.insert(fence.0) {
            inner.find(
                Kind::Repeated,
                format!("fence {} was given twice, the second time for task {}", fence.0, task.id),
            );
        }
        if let Some(before) = inner.tasks.get(&task.id) {
            let (last, held) = (before.fence, before.held);
            // Its answer arrived after its lease had ended and others had told of theirs.
            if fence < last && lease.is_some_and(|lease| now >= sent_at + lease) {
                return;
            }
            match held {
                Held::Firmly => inner.find(Kind::Repeated, format!("task {} is held by two", task.id)),
                Held::Until(until) if now < until => {
                    inner.find(Kind::Repeated, format!("task {} was given away before its lease ended", task.id));
                }
                Held::Done => inner.find(Kind::Repeated, format!("task {} was claimed after it was done", task.id)),
                Held::Until(_) => inner.n_taken_over += 1,
                Held::No => {}
            }
            if fence <= last {
                let what = format!("task {} was given fence {} after {}", task.id, fence.0, last.0);
                inner.find(Kind::StaleWriter, what);
            }
        }
        let held = lease.map_or(Held::Firmly, |lease| Held::Until(sent_at + lease));
        inner.tasks.insert(task.id.clone(), Entry { fence, held });
    }

    /// Its holder lets it go: whoever asks may take it over.
    pub(super) fn let_go(&self, task: &Task) {
        if let (Some(fence), Some(entry)) = (fence_of(task), self.lock().tasks.get_mut(&task.id))
            && entry.fence == fence
        {
            entry.held = Held::Until(host::clock::monotonic());
        }
    }

    /// Its holder is about to give it back: it may be claimed before the answer arrives.
    pub(super) fn giving_back(&self, task: &Task) {
        if let (Some(fence), Some(entry)) = (fence_of(task), self.lock().tasks.get_mut(&task.id))
            && entry.fence == fence
        {
            entry.held = Held::No;
        }
    }

    /// The end under this fence was accepted.
    pub(super) fn finished(&self, task: &TaskId, fence: Fence) {
        let mut inner = self.lock();
        let Some(entry) = inner.tasks.get_mut(task) else { return };
        let (last, held) = (entry.fence, entry.held);
        if last == fence {
            entry.held = Held::Done;
        }
        match held {
            Held::Done if last == fence => inner.find(Kind::Repeated, format!("task {task} was done twice")),
            _ if last != fence => {
                let what = format!("task {task} was done under fence {} although {} was given", fence.0, last.0);
                inner.find(Kind::StaleWriter, what);
            }
            _ => inner.n_done += 1,
        }
    }

    /// The end under this fence was refused, which is true when another fence was given or the task was let go.
    pub(super) fn refused(&self, task: &TaskId, fence: Fence) {
        let mut inner = self.lock();
        inner.n_fenced += 1;
        let Some(entry) = inner.tasks.get(task) else { return };
        if entry.fence == fence && entry.held == Held::Firmly {
            inner.find(Kind::Answer, format!("task {task} was told to be taken over while it was held firmly"));
        }
    }

    /// What is done in the ledger is what claimers were told.
    pub(super) async fn compare(&self, store: &Store, filled: u64) -> Result<Vec<Violation>> {
        let mut query =
            TaskQuery { states: vec!["done".to_owned()], kinds: vec![TaskKind::Noop], after: None, limit: 500 };
        let mut stored = 0;
        let mut violations = Vec::new();
        loop {
            let page = store.list_tasks(&query).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(last.id.clone());
            stored += page.len() as u64;
            let inner = self.lock();
            let unknown =
                page.iter().find(|task| inner.tasks.get(&task.id).is_none_or(|entry| entry.held != Held::Done));
            if let Some(unknown) = unknown {
                violations
                    .push(Violation::of(Kind::Unrecorded, format!("nobody was told that {} is done", unknown.id)));
                break;
            }
        }
        let inner = self.lock();
        if stored != inner.n_done && violations.is_empty() {
            let what = format!("claimers were told of {} ends, {stored} of {filled} are stored", inner.n_done);
            violations.push(Violation::of(Kind::Lost, what));
        }
        if inner.n_taken_over == 0 && inner.n_done > 5_000 {
            let what = format!("nothing was ever taken over on {}: the drill proves nothing", self.backend.name());
            violations.push(Violation::of(Kind::Stuck, what));
        }
        Ok(violations)
    }
}

impl Inner {
    fn find(&mut self, kind: Kind, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation::of(kind, what));
        }
    }
}

pub(super) fn fence_of(task: &Task) -> Option<Fence> {
    match task.state {
        TaskState::Leased { fence, .. } => Some(fence),
        _ => None,
    }
}
