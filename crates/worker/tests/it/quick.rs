//! Quick tasks: acknowledged together, and none later than it is done.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    commit::Committed,
    ids::TaskId,
    task::{Task, TaskState},
};
use testkit::bench::operation;

use crate::{PATIENCE, TestApp};

const MANY: usize = 600;
/// Longer than any test: nothing but the work itself makes the worker look.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

on_both! {
    async fn many_tasks_are_each_done_once_in_far_fewer_commits(app: &TestApp) {
        let ids = app.enqueue(MANY).await;
        let worker = app.worker().await;

        let tasks = app.until_all(&ids, |state| matches!(state, TaskState::Done { .. })).await;

        assert!(tasks.iter().all(|task| (task.failures, task.crashes) == (0, 0)));
        // Whatever is acknowledged together carries the time of that commit.
        let commits: BTreeSet<_> = tasks.iter().map(|task| match &task.state {
            TaskState::Done { at } => *at,
            state => panic!("{state:?}"),
        }).collect();
        assert!(commits.len() < MANY / 4, "{} commits for {MANY} tasks", commits.len());
        worker.drain().await;
    }

    async fn the_last_task_is_acknowledged_although_nothing_is_claimed_after_it(app: &TestApp) {
        let worker = app.worker_with(|config| config.poll = NEVER).await;
        let ids = app.enqueue(1).await;

        app.until_all(&ids, |state| matches!(state, TaskState::Done { .. })).await;

        worker.drain().await;
    }

    async fn one_place_is_enough_for_all(app: &TestApp) {
        let ids = app.enqueue(20).await;
        let worker = app.worker_with(|config| (config.fast_slots, config.poll) = (1, NEVER)).await;

        app.until_all(&ids, |state| matches!(state, TaskState::Done { .. })).await;

        worker.drain().await;
    }

    async fn a_drain_leaves_nothing_leased_that_was_carried_out(app: &TestApp) {
        let ids = app.enqueue(MANY * 5).await;
        let worker = app.worker_with(|config| config.drain = PATIENCE).await;
        app.until_all(&ids[..1], |state| matches!(state, TaskState::Done { .. })).await;

        worker.drain().await;

        app.until_all(&ids, |state| matches!(state, TaskState::Done { .. } | TaskState::Ready)).await;
    }
}

impl TestApp {
    async fn enqueue(&self, tasks: usize) -> Vec<TaskId> {
        let commit = operation::enqueue(tasks);
        let ids = commit.tasks.iter().map(|task| task.id.clone()).collect();
        assert!(matches!(self.control.store().commit(commit).await.unwrap(), Committed::Applied { .. }));
        ids
    }

    /// Waits until each of them has come as far.
    async fn until_all(&self, ids: &[TaskId], has_come: impl Fn(&TaskState) -> bool) -> Vec<Task> {
        let started = host::clock::monotonic();
        let mut tasks = Vec::new();
        while let Some(id) = ids.get(tasks.len()) {
            let task = self.control.store().find_task(id).await.unwrap().unwrap();
            if has_come(&task.state) {
                tasks.push(task);
                continue;
            }
            assert!(started.elapsed() < PATIENCE, "task {id} is still {:?}", task.state);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tasks
    }
}
