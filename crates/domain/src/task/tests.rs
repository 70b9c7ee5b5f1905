//! The rules of one task, and a model checker that shows why only the fence is enough.

use stateright::{Checker, Model, Property};

use super::*;
use crate::commit::SubjectKind;

fn ready() -> Task {
    Task::from_new(
        Effect::new(TaskKind::Noop, Subject::new(SubjectKind::Run, "R")).into_task(TaskId::from("t")),
        Timestamp::from_micros(0),
    )
}

#[test]
fn a_failed_effect_waits_longer_each_time_and_is_then_given_up() {
    let failure = || TaskFailure::Retry { after: None, error: "away".into() };
    let now = Timestamp::from_micros(0);

    assert_eq!(
        failure().then(0, 3, now),
        Then::Again { due_at: now.after(Duration::from_secs(2)), failed: Some("away".into()) }
    );
    assert_eq!(
        failure().then(1, 3, now),
        Then::Again { due_at: now.after(Duration::from_secs(4)), failed: Some("away".into()) }
    );
    assert_eq!(failure().then(2, 3, now), Then::Dead { error: "away".into() });
    assert_eq!(backoff(40), Duration::from_secs(60));
}

#[test]
fn a_lease_that_ends_makes_the_task_ready_again_and_spends_its_fence() {
    let mut task = ready();
    assert!(task.claim(Fence(1), "a", Timestamp::from_micros(10)));

    assert!(!task.reap(Timestamp::from_micros(10)));
    assert!(task.reap(Timestamp::from_micros(11)));

    assert!(!task.is_held(Fence(1)));
    assert_eq!(task.heartbeat(Fence(1), Timestamp::from_micros(99)), None);
    assert_eq!((task.state.name(), task.crashes), ("ready", 1));
}

#[test]
fn what_waits_is_taken_back_unless_it_has_begun() {
    let (now, later) = (Timestamp::from_micros(50), Timestamp::from_micros(90));
    let again = |due_at| Then::Again { due_at, failed: None };
    let retried = || {
        let mut task = ready();
        task.claim(Fence(1), "a", now);
        task.acknowledge(&again(later), now);
        task
    };

    let (mut untouched, mut begun) = (retried(), retried());
    untouched.withdraw(false, now);
    begun.withdraw(true, now);

    assert_eq!((untouched.state, untouched.stop), (TaskState::Withdrawn { at: now }, false));
    assert_eq!((&begun.state, begun.stop, begun.due_at), (&TaskState::Ready, true, now));
    // Told twice is told once, whoever asks the second time.
    let told = begun.clone();
    begun.withdraw(false, later);
    assert_eq!(begun, told);
}

#[test]
fn a_task_that_was_told_to_stop_stays_told_through_every_lease_until_it_is_finished() {
    let now = Timestamp::from_micros(50);
    let mut task = ready();
    task.claim(Fence(1), "a", now);
    task.withdraw(false, now);

    assert!(task.reap(now.after(Duration::from_micros(1))));
    assert!(task.stop && task.claim(Fence(2), "b", now));
    assert_eq!(task.heartbeat(Fence(2), now), Some(true));
    task.acknowledge(&Then::Again { due_at: now.after(backoff(0)), failed: Some("away".into()) }, now);
    assert!(task.stop && task.promote(now.after(backoff(0))) && task.claim(Fence(3), "c", now));
    assert_eq!(task.heartbeat(Fence(3), now), Some(true));
    task.acknowledge(&Then::Done, now);

    assert_eq!((&task.state, task.stop), (&TaskState::Done { at: now }, false));
}

#[test]
fn no_operation_changes_a_finished_task() {
    let now = Timestamp::from_micros(50);
    for finished in [TaskState::Done { at: now }, TaskState::Dead { at: now }, TaskState::Withdrawn { at: now }] {
        let mut task = ready();
        task.state = finished;
        let before = task.clone();

        task.promote(now);
        task.claim(Fence(9), "b", now);
        task.heartbeat(Fence(9), now);
        task.reap(now);
        task.withdraw(false, now);
        task.withdraw(true, now);

        assert_eq!(task, before);
        assert!(!task.is_held(Fence(9)));
    }
}

/// Two workers, one task. A worker may claim, be forgotten (its lease ends while it still believes in it) and
/// acknowledge at any time. Broken: an acknowledgement that counts although the attempt it was for was taken over.
#[derive(Clone)]
struct Queue {
    guard: Guard,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct QueueState {
    /// Fence and owner of the current lease.
    lease: Option<(i64, usize)>,
    done: bool,
    next_fence: i64,
    /// The fences each worker believes it holds.
    believed: [Vec<i64>; 2],
    /// An acknowledgement of a spent fence was accepted.
    stolen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Claim(usize),
    Expire,
    Acknowledge(usize, i64),
}

const NAMES: [&str; 2] = ["a", "b"];

/// Rebuilds the production task from the model's state, so that the rules under test are the real ones.
fn task_of(state: &QueueState) -> Task {
    let mut task = ready();
    if let Some((fence, owner)) = state.lease {
        task.claim(Fence(fence), NAMES[owner], Timestamp::from_micros(10));
    }
    if state.done {
        task.acknowledge(&Then::Done, Timestamp::from_micros(1));
    }
    task
}

impl Model for Queue {
    type State = QueueState;
    type Action = Step;

    fn init_states(&self) -> Vec<QueueState> {
        vec![QueueState { lease: None, done: false, next_fence: 1, believed: [vec![], vec![]], stolen: false }]
    }

    fn actions(&self, state: &QueueState, actions: &mut Vec<Step>) {
        if state.next_fence <= 4 {
            actions.extend([Step::Claim(0), Step::Claim(1)]);
        }
        actions.push(Step::Expire);
        for (worker, fences) in state.believed.iter().enumerate() {
            actions.extend(fences.iter().map(|fence| Step::Acknowledge(worker, *fence)));
        }
    }

    fn next_state(&self, last: &QueueState, action: Step) -> Option<QueueState> {
        let mut state = last.clone();
        let mut task = task_of(last);
        match action {
            Step::Claim(worker) => {
                if !task.claim(Fence(state.next_fence), NAMES[worker], Timestamp::from_micros(10)) {
                    return None;
                }
                state.lease = Some((state.next_fence, worker));
                state.believed[worker].push(state.next_fence);
                state.next_fence += 1;
            }
            Step::Expire => {
                if !task.reap(Timestamp::from_micros(11)) {
                    return None;
                }
                state.lease = None;
            }
            Step::Acknowledge(worker, fence) => {
                if !task.is_held_by(Fence(fence), NAMES[worker], self.guard) {
                    return None;
                }
                state.stolen = state.lease != Some((fence, worker));
                state.lease = None;
                state.done = true;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("an attempt that was taken over changes nothing", |_, state: &QueueState| !state.stolen),
            Property::sometimes("a task gets done", |_, state: &QueueState| state.done && !state.stolen),
        ]
    }
}

#[test]
fn the_fence_alone_keeps_a_lost_worker_from_finishing() {
    let checker = Queue { guard: Guard::Fence }.checker().spawn_bfs().join();

    checker.assert_properties();
    assert!(checker.unique_state_count() > 50, "{}", checker.unique_state_count());
}

#[test]
fn guarding_on_the_state_only_is_broken() {
    let checker = Queue { guard: Guard::StateOnly }.checker().spawn_bfs().join();

    assert!(checker.discovery("an attempt that was taken over changes nothing").is_some());
}

#[test]
fn guarding_on_the_owner_only_is_broken() {
    let checker = Queue { guard: Guard::OwnerOnly }.checker().spawn_bfs().join();

    assert!(checker.discovery("an attempt that was taken over changes nothing").is_some());
}
