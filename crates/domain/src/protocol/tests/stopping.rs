//! People who pause, resume and cancel, against workers that fail and die at any moment.
//!
//! A model checker explores every order of it with the production rules of protocols, steps and tasks; only what a worker
//! does with its hands is written down here. Taking one rule away shows what it is for.

use std::hash::{Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::*;
use crate::{
    commit::Then,
    ids::AttemptId,
    task::{Task, TaskState},
};

const LATER: Timestamp = Timestamp::from_micros(NOON.as_micros() + 60_000_000);

/// The fence of the plan's attempt, the last before these begin.
const PLANNED: Fence = Fence(1);

/// Which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rules {
    All,
    /// What waits is taken back, even when its work has begun.
    TakesBackWhatBegan,
    /// A lease that ends takes the word to stop with it.
    ForgetsWhoWasTold,
    /// Whatever task comes takes over whatever attempt is under way.
    AnyTaskTakesOver,
}

/// A worker with a lease, and how far it got. When it dies, only this is gone.
#[derive(Clone, PartialEq, Debug)]
struct Hand {
    task: usize,
    fence: Fence,
    told: bool,
    at: Stage,
}

#[derive(Clone, PartialEq, Debug)]
enum Stage {
    Claimed,
    /// Saw that nothing has begun; prepares.
    Begins,
    /// Saw its own attempt, as it was then.
    TakesOver(Box<Attempt>),
    /// Its attempt is in the ledger, and nothing runs yet.
    Launches(AttemptId),
    Watches(AttemptId),
}

#[derive(Clone, PartialEq, Debug)]
struct World {
    protocol: Protocol,
    tasks: Vec<Task>,
    hands: Vec<Hand>,
    /// The attempts of which something runs; supervisors outlive workers.
    engines: Vec<AttemptId>,
    fences: i64,
    /// What may still go wrong, or be asked for.
    deaths: u8,
    failures: u8,
    crashes: u8,
    pauses: u8,
    retried: bool,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { protocol, tasks, hands, engines, fences, deaths, failures, crashes, pauses, retried } = self;
        format!("{:?} {:?} {hands:?} {engines:?}", protocol.state, protocol.steps).hash(state);
        for task in tasks {
            format!("{:?} {} {} {}", task.state, task.stop, task.crashes, task.failures).hash(state);
        }
        (fences, deaths, failures, crashes, pauses, retried).hash(state);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Action {
    Promote(usize),
    Claim(usize),
    Reap(usize),
    /// The branch moves: claimed, done and reported in one.
    Move(usize),
    /// A worker reads where its subject is.
    Look(usize),
    /// It does what it then has to do.
    Act(usize),
    /// It fails for a reason of the moment, after what it was to launch began to run, or before.
    Fail(usize, bool),
    Hear(usize),
    /// Its engine ended well.
    Finish(usize),
    /// It ends its engine, as it was told.
    Stop(usize),
    Die(usize),
    /// An engine vanishes with its supervisor.
    Crash(usize),
    Pause,
    Resume,
    Cancel,
}

impl World {
    fn new() -> Self {
        let told = Told::planned(Advance::Auto, vec![skip("01-fix")]);
        let order = told.effects.last().unwrap().clone();
        let mut world = Self {
            protocol: told.protocol,
            tasks: Vec::new(),
            hands: Vec::new(),
            engines: Vec::new(),
            fences: PLANNED.0,
            deaths: 1,
            failures: 1,
            crashes: 1,
            pauses: 2,
            retried: false,
        };
        world.store(order);
        world
    }

    fn store(&mut self, effect: Effect) {
        let id = TaskId(format!("T{}", self.tasks.len()));
        self.tasks.push(Task::from_new(effect.into_task(id), NOON));
    }

    /// One commit: fenced, decided, withdrawn, acknowledged, asked for.
    fn commit(&mut self, rules: Rules, command: &ProtocolCommand, ack: Option<(usize, Fence, Then)>) -> bool {
        if ack.as_ref().is_some_and(|(task, fence, _)| !self.tasks[*task].is_held(*fence)) {
            return false;
        }
        let Ok(decision) = self.protocol.decide(command, &Context { now: NOON }) else { return false };
        decision.events.iter().for_each(|event| self.protocol.apply(event));
        for withdraw in &decision.withdraw {
            for (number, task) in self.tasks.iter_mut().enumerate() {
                let own = ack.as_ref().is_some_and(|(own, ..)| *own == number);
                if !own && (withdraw.kinds.is_empty() || withdraw.kinds.contains(&task.kind)) {
                    let begun = withdraw.begun.contains(&task.id) && rules != Rules::TakesBackWhatBegan;
                    task.withdraw(begun, NOON);
                }
            }
        }
        if let Some((task, _, then)) = ack {
            self.tasks[task].acknowledge(&then, NOON);
        }
        decision.effects.into_iter().for_each(|effect| self.store(effect));
        true
    }

    fn step(&self) -> &Step {
        &self.protocol.steps[0]
    }

    /// Ends a worker's part with a commit that carries its acknowledgement.
    fn report(&mut self, rules: Rules, hand: usize, command: &ProtocolCommand) {
        let hand = self.hands.remove(hand);
        self.commit(rules, command, Some((hand.task, hand.fence, Then::Done)));
    }

    fn done(&mut self, hand: usize) {
        let hand = self.hands.remove(hand);
        if self.tasks[hand.task].is_held(hand.fence) {
            self.tasks[hand.task].acknowledge(&Then::Done, NOON);
        }
    }

    fn end_engine(&mut self, attempt: &AttemptId) -> bool {
        let before = self.engines.len();
        self.engines.retain(|engine| engine != attempt);
        self.engines.len() < before
    }

    fn look(&mut self, rules: Rules, hand: usize) {
        let Hand { task, told, .. } = self.hands[hand];
        let (kind, own) = (self.tasks[task].kind, self.tasks[task].id.clone());
        let id = match self.step().running() {
            Some(attempt) if rules == Rules::AnyTaskTakesOver => attempt.task.clone(),
            _ => own,
        };
        match self.step().duty(kind, &id, told) {
            Duty::Begin => self.hands[hand].at = Stage::Begins,
            Duty::TakeOver(attempt) => self.hands[hand].at = Stage::TakesOver(Box::new(attempt)),
            Duty::CleanUp(attempt) => {
                self.end_engine(&attempt.id);
                self.done(hand);
            }
            Duty::Nothing => self.done(hand),
        }
    }

    /// Goes on with the attempt if it is now this worker's.
    fn hold(&mut self, hand: usize, at: impl FnOnce(AttemptId) -> Stage) -> bool {
        let fence = self.hands[hand].fence;
        let held = self.step().running().filter(|attempt| attempt.fence == fence).map(|attempt| attempt.id.clone());
        let is_held = held.is_some();
        if let Some(id) = held {
            self.hands[hand].at = at(id);
        }
        is_held
    }

    fn act(&mut self, rules: Rules, hand: usize) {
        let Hand { task, fence, at, .. } = self.hands[hand].clone();
        let (step, gate, worker) = (StepId(1), GateId::from("G"), "w".to_owned());
        let keep = Some((task, fence, Then::Keep));
        match at {
            Stage::Begins => {
                let begin = Begin { task: self.tasks[task].id.clone(), fence, worker, nonce: String::new() };
                let start = ProtocolCommand::StartStep { step, begin, engine: String::new(), gate };
                match self.commit(rules, &start, keep) {
                    true if self.hold(hand, Stage::Launches) => {}
                    true => self.done(hand),
                    false => drop(self.hands.remove(hand)),
                }
            }
            Stage::TakesOver(attempt) if self.engines.contains(&attempt.id) => {
                let adopt = ProtocolCommand::AdoptStep { step, old: attempt.fence, fence, worker, session: None };
                match self.commit(rules, &adopt, keep) {
                    true if self.hold(hand, Stage::Watches) => {}
                    true => {
                        self.end_engine(&attempt.id);
                        self.done(hand);
                    }
                    false => drop(self.hands.remove(hand)),
                }
            }
            Stage::TakesOver(attempt) => {
                let fence = attempt.fence;
                self.report(rules, hand, &ProtocolCommand::StepInterrupted { step, fence, why: String::new(), gate });
            }
            Stage::Launches(id) => {
                self.engines.push(id.clone());
                self.hands[hand].at = Stage::Watches(id);
            }
            Stage::Watches(_) => {
                self.report(rules, hand, &ProtocolCommand::StepInterrupted { step, fence, why: String::new(), gate });
            }
            Stage::Claimed => self.look(rules, hand),
        }
    }

    fn fail(&mut self, hand: usize, launched: bool) {
        let Hand { task, fence, at, .. } = self.hands.remove(hand);
        if let Stage::Launches(id) = at
            && launched
        {
            self.engines.push(id);
        }
        self.failures -= 1;
        self.retried = self.step().running().is_some();
        if self.tasks[task].is_held(fence) {
            self.tasks[task].acknowledge(&Then::Again { due_at: LATER, failed: Some("away".to_owned()) }, NOON);
        }
    }

    fn waits(task: &Task) -> bool {
        matches!(task.state, TaskState::Scheduled | TaskState::Ready)
    }

    /// Whether a task is left that brings the active step on.
    fn is_brought_on(&self) -> bool {
        let left = |task: &&Task| !task.state.is_terminal();
        self.tasks.iter().filter(left).any(|task| match task.kind {
            TaskKind::AdvanceBranch => true,
            kind => matches!(self.step().duty(kind, &task.id, task.stop), Duty::Begin | Duty::TakeOver(_)),
        })
    }
}

struct Workers {
    rules: Rules,
    /// How often a task may be claimed in all.
    claims: i64,
}

impl Model for Workers {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, task) in world.tasks.iter().enumerate() {
            let held = world.hands.iter().any(|hand| hand.task == number);
            match (&task.state, task.kind) {
                (TaskState::Scheduled, _) => actions.push(Action::Promote(number)),
                (TaskState::Ready, TaskKind::AdvanceBranch) => actions.push(Action::Move(number)),
                (TaskState::Ready, _) if world.fences < PLANNED.0 + self.claims => actions.push(Action::Claim(number)),
                (TaskState::Leased { .. }, _) if !held => actions.push(Action::Reap(number)),
                _ => {}
            }
        }
        for (number, hand) in world.hands.iter().enumerate() {
            match &hand.at {
                Stage::Claimed => actions.push(Action::Look(number)),
                Stage::Watches(id) if world.engines.contains(id) => {
                    actions.push(Action::Finish(number));
                    if hand.told {
                        actions.push(Action::Stop(number));
                    }
                }
                Stage::Begins | Stage::TakesOver(_) | Stage::Launches(_) | Stage::Watches(_) => {
                    actions.push(Action::Act(number));
                    if world.failures > 0 {
                        actions.push(Action::Fail(number, false));
                        if matches!(hand.at, Stage::Launches(_)) {
                            actions.push(Action::Fail(number, true));
                        }
                    }
                }
            }
            if world.tasks[hand.task].stop && !hand.told {
                actions.push(Action::Hear(number));
            }
            if world.deaths > 0 {
                actions.push(Action::Die(number));
            }
        }
        if world.crashes > 0 {
            actions.extend((0..world.engines.len()).map(Action::Crash));
        }
        match &world.protocol.state {
            ProtocolState::Paused { .. } => actions.extend([Action::Resume, Action::Cancel]),
            state if state.is_finished() => {}
            _ if world.pauses > 0 => actions.extend([Action::Pause, Action::Cancel]),
            _ => actions.push(Action::Cancel),
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let (step, gate, by) = (StepId(1), GateId::from("G"), "user:alice".to_owned());
        match action {
            Action::Promote(task) => assert!(world.tasks[task].promote(LATER)),
            Action::Claim(task) => {
                world.fences += 1;
                let fence = Fence(world.fences);
                assert!(world.tasks[task].claim(fence, "w", NOON));
                let told = world.tasks[task].stop;
                world.hands.push(Hand { task, fence, told, at: Stage::Claimed });
            }
            Action::Reap(task) => {
                assert!(world.tasks[task].reap(LATER));
                world.tasks[task].stop &= self.rules != Rules::ForgetsWhoWasTold;
            }
            Action::Move(task) => {
                assert!(world.tasks[task].claim(Fence(0), "w", NOON));
                let (new, diff) = (oid(1), DiffStat::default());
                let moved = ProtocolCommand::BranchAdvanced { step: Some(step), new, diff, gate };
                world.commit(self.rules, &moved, Some((task, Fence(0), Then::Done)));
            }
            Action::Look(hand) => world.look(self.rules, hand),
            Action::Act(hand) => world.act(self.rules, hand),
            Action::Fail(hand, launched) => world.fail(hand, launched),
            Action::Hear(hand) => world.hands[hand].told = true,
            Action::Finish(hand) | Action::Stop(hand) => {
                let Hand { fence, at: Stage::Watches(id), .. } = world.hands[hand].clone() else { return None };
                world.end_engine(&id);
                let command = match action {
                    Action::Stop(_) => ProtocolCommand::StepStopped { step, fence, gate },
                    _ => {
                        let result = Box::new(made(candidate(&oid(0), &oid(1), 1)));
                        ProtocolCommand::StepExecuted { step, fence, result, gate: some_gate() }
                    }
                };
                world.report(self.rules, hand, &command);
            }
            Action::Die(hand) => {
                world.deaths -= 1;
                world.hands.remove(hand);
            }
            Action::Crash(engine) => {
                world.crashes -= 1;
                world.engines.remove(engine);
            }
            Action::Pause => {
                world.pauses -= 1;
                world.commit(self.rules, &ProtocolCommand::Pause { by }, None);
            }
            Action::Resume => drop(world.commit(self.rules, &ProtocolCommand::Resume { gate }, None)),
            Action::Cancel => drop(world.commit(self.rules, &ProtocolCommand::Cancel { by }, None)),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(HAS_A_TASK, |_, world: &World| {
                world.step().running().is_none_or(|attempt| {
                    world.tasks.iter().any(|task| task.id == attempt.task && !task.state.is_terminal())
                })
            }),
            Property::always(IS_TOLD, |_, world: &World| {
                let paused = matches!(world.protocol.state, ProtocolState::Paused { .. });
                world.step().running().filter(|_| paused).is_none_or(|attempt| {
                    world.tasks.iter().filter(|task| task.id == attempt.task).all(|task| task.stop)
                })
            }),
            Property::always(IS_BROUGHT_ON, |_, world: &World| {
                world.protocol.state != ProtocolState::Running || world.is_brought_on()
            }),
            Property::always(ONE_AT_A_TIME, |_, world: &World| world.engines.len() <= 1),
            Property::always(NOTHING_IS_LEFT, |_, world: &World| {
                world.engines.is_empty() || world.tasks.iter().any(|task| !task.state.is_terminal())
            }),
            Property::sometimes("a try that waited is ended, and made again after resuming", |_, world: &World| {
                let again = world.step().attempt.as_ref().is_some_and(|attempt| attempt.number == 2);
                world.retried && again && world.pauses == 1 && world.protocol.state.name() == "completed"
            }),
            Property::sometimes("a try that waited is ended after a cancel", |_, world: &World| {
                world.retried && world.protocol.state.name() == "cancelled" && !world.tasks.iter().any(World::waits)
            }),
        ]
    }
}

const HAS_A_TASK: &str = "an attempt that is under way has a task that will end it";
const IS_TOLD: &str = "whoever carries an attempt of a paused protocol is told to stop";
const IS_BROUGHT_ON: &str = "a running protocol has a task that brings it on";
const ONE_AT_A_TIME: &str = "one engine at most works for a step";
const NOTHING_IS_LEFT: &str = "nothing runs once no task is left";

#[test]
fn whatever_happens_work_that_has_begun_is_ended_once_and_lost_never() {
    let checker = Workers { rules: Rules::All, claims: 3 }.checker().spawn_bfs().join();

    checker.assert_properties();
    assert!(checker.unique_state_count() > 10_000, "{}", checker.unique_state_count());
}

#[test]
fn without_any_one_of_its_rules_it_is_broken() {
    for (rules, broken) in [
        (Rules::TakesBackWhatBegan, HAS_A_TASK),
        (Rules::ForgetsWhoWasTold, IS_TOLD),
        (Rules::AnyTaskTakesOver, ONE_AT_A_TIME),
    ] {
        let found = HasDiscoveries::AnyOf([broken].into());
        let checker = Workers { rules, claims: 3 }.checker().finish_when(found).spawn_bfs().join();

        assert!(checker.discovery(broken).is_some(), "{rules:?} breaks nothing");
    }
}
