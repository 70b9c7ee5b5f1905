//! The loop between the rules and the store: load, decide, commit, and decide again when somebody else was first.

use std::{fmt, sync::Arc, time::Duration};

use domain::{
    actor::Actor,
    commit::{self, Ack, At, Commit, Committed, Dedup, Expect, NewEvent, Row, Subject},
    decision::{Context, Decision},
    ids::{CommitId, MessageId, TaskId},
    message::{Message, NewMessage},
    task::{Effect, NewTask, TaskKind},
    time::Timestamp,
};
use serde::Serialize;
use store::{StoreError, Stored, Versioned};

use crate::{Control, error::CommandError};

/// A command is decided again for this long while others keep changing its subject.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who gives a command, and for what.
#[derive(Clone, Debug)]
pub struct Cause {
    pub actor: Actor,
    /// The task the command is given for; its fence guards the commit.
    pub ack: Option<Ack>,
    /// Makes a repeat of the command find what was answered.
    pub dedup: Option<DedupKey>,
    /// Rows of other subjects that the caller relied on.
    pub expects: Vec<Expect>,
    /// Completes the answer that is kept.
    pub complete: Option<Complete>,
}

/// Makes the answer that is kept with a commit from more than its subject: from what else is in the commit, and from
/// ids that are drawn after the answer was rendered.
#[derive(Clone)]
pub struct Complete(Arc<dyn Fn(&Draft<'_>) -> String + Send + Sync>);

/// A commit that is about to be made.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// As it was rendered from the subject.
    pub answer: &'a str,
    /// Whose commit it is; `None` when it changes nothing and only answers.
    pub subject: Option<Subject>,
    /// The names of its events.
    pub events: Vec<&'a str>,
    pub messages: &'a [NewMessage],
    pub tasks: &'a [NewTask],
    pub now: Timestamp,
}

impl Complete {
    pub fn new(complete: impl Fn(&Draft<'_>) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(complete))
    }
}

impl fmt::Debug for Complete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Complete")
    }
}

/// The key that a repeat of the command would carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupKey {
    pub scope: String,
    pub key: String,
    pub request_hash: String,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed<S, E> {
    pub subject: S,
    pub version: i64,
    /// Empty when the command was a repeat that changed nothing.
    pub events: Vec<E>,
    pub messages: Vec<NewMessage>,
    pub tasks: Vec<NewTask>,
}

/// What is kept with a commit besides the decision: the answer for repeats, and messages that only the caller knows of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub answer: String,
    pub messages: Vec<NewMessage>,
}

impl Cause {
    pub fn of(actor: Actor) -> Self {
        Self { actor, ack: None, dedup: None, expects: Vec::new(), complete: None }
    }

    #[must_use]
    pub fn acknowledging(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }

    #[must_use]
    pub fn once(mut self, dedup: Option<DedupKey>) -> Self {
        self.dedup = dedup;
        self
    }

    /// The answer that is kept with a commit.
    fn answer(&self, draft: &Draft<'_>) -> String {
        match &self.complete {
            Some(Complete(complete)) => complete(draft),
            None => draft.answer.to_owned(),
        }
    }
}

type Outcome<S> = Result<Changed<S, <S as domain::aggregate::Aggregate>::Event>, CommandError>;

impl Control {
    /// Creates a subject. `decide` is called again with fresh ids when the ones it drew are taken.
    pub async fn create<S: Stored, C: Serialize>(
        &self,
        cause: &Cause,
        decide: impl Fn(&Context) -> (C, Decision<S::Event>),
        render: impl Fn(&S) -> Rendered,
    ) -> Outcome<S> {
        for left in (0..8).rev() {
            let context = self.clock().context();
            let (command, decision) = decide(&context);
            let Some(subject) = domain::aggregate::fold::<S>(&decision.events) else {
                return Err(CommandError::Invalid {
                    code: "empty_decision",
                    problems: vec!["the command creates nothing".to_owned()],
                });
            };
            let written = Written::new(None, subject, decision, &context, &render);
            host::failpoint!("control.create.decided");
            let committed = match self.commit(written.commit(cause, &command, &context)).await {
                // So are ids of rows that are made with it, a gate's for one, refused when they are taken.
                Err(StoreError::Rejected { .. }) if left > 0 => Committed::Stale,
                committed => committed?,
            };
            match committed {
                Committed::Applied { version } => {
                    host::failpoint!("control.create.committed");
                    return Ok(written.changed(version));
                }
                // The id is taken: draw another.
                Committed::Stale => {}
                Committed::Duplicate(answer) => return Err(CommandError::Repeated(answer)),
                Committed::Fenced => return Err(CommandError::Fenced),
                Committed::Refused { guard, current } => return Err(CommandError::Refused { guard, current }),
            }
        }
        Err(CommandError::Contended)
    }

    /// Gives a command to an existing subject.
    pub async fn command<S: Stored, C: Serialize, E: Into<CommandError>>(
        &self,
        id: &str,
        command: &C,
        cause: &Cause,
        decide: impl Fn(&S, &Context) -> Result<Decision<S::Event>, E>,
        render: impl Fn(&S) -> Rendered,
    ) -> Outcome<S> {
        let started = host::clock::monotonic();
        loop {
            let Versioned { version, subject } = self.get::<S>(id).await?;
            let context = self.clock().context();
            let decision = decide(&subject, &context).map_err(Into::into)?;
            let after = decision.events.iter().fold(subject.clone(), |mut after, event| {
                after.apply(event);
                after
            });
            let changes = !decision.events.is_empty();
            let written = Written::new(Some((subject, version)), after, decision, &context, &render);
            if !changes && written.is_nothing() && cause.ack.is_none() && cause.dedup.is_none() {
                return Ok(written.changed(version));
            }
            host::failpoint!("control.command.decided");
            match self.commit(written.commit(cause, command, &context)).await? {
                Committed::Applied { version: after } => {
                    host::failpoint!("control.command.committed");
                    return Ok(written.changed(if changes { after } else { version }));
                }
                Committed::Stale if started.elapsed() < PATIENCE => {}
                Committed::Stale => return Err(CommandError::Contended),
                Committed::Duplicate(answer) => return Err(CommandError::Repeated(answer)),
                Committed::Fenced => return Err(CommandError::Fenced),
                Committed::Refused { guard, current } => return Err(CommandError::Refused { guard, current }),
            }
        }
    }

    /// A subject that must exist.
    pub async fn get<S: Stored>(&self, id: &str) -> Result<Versioned<S>, CommandError> {
        self.store().find(id).await?.ok_or_else(|| CommandError::NotFound { kind: S::KIND, id: id.to_owned() })
    }

    /// Acknowledges a task, or keeps an answer and messages, without changing a subject.
    pub async fn record(
        &self,
        cause: &Cause,
        command: &impl Serialize,
        rendered: Rendered,
    ) -> Result<(), CommandError> {
        let context = self.clock().context();
        let written = Effects::new(Vec::new(), rendered.messages.clone(), context.now);
        let answer = cause.answer(&Draft {
            answer: &rendered.answer,
            subject: None,
            events: Vec::new(),
            messages: &rendered.messages,
            tasks: &written.tasks,
            now: context.now,
        });
        let commit = Commit {
            id: CommitId(new_id()),
            subject: None,
            cause: cause_of(cause, command, &context, answer),
            ack: cause.ack.clone(),
            expects: cause.expects.clone(),
            guards: Vec::new(),
            entries: Vec::new(),
            rows: written.rows,
            events: Vec::new(),
            tasks: written.tasks,
            withdraw: Vec::new(),
        };
        match self.commit(commit).await? {
            Committed::Applied { .. } => {
                host::failpoint!("control.record.committed");
                Ok(())
            }
            Committed::Duplicate(answer) => Err(CommandError::Repeated(answer)),
            Committed::Stale => Err(CommandError::Contended),
            Committed::Fenced => Err(CommandError::Fenced),
            Committed::Refused { guard, current } => Err(CommandError::Refused { guard, current }),
        }
    }
}

/// Rows and tasks of effects and messages, with their ids drawn.
struct Effects {
    rows: Vec<Row>,
    tasks: Vec<NewTask>,
}

impl Effects {
    fn new(effects: Vec<Effect>, messages: Vec<NewMessage>, now: Timestamp) -> Self {
        let mut tasks: Vec<NewTask> = effects.into_iter().map(|effect| effect.into_task(TaskId(new_id()))).collect();
        let mut rows = Vec::with_capacity(messages.len());
        for message in messages {
            let message = Message::of(MessageId(new_id()), message);
            rows.push(store::messages::message_row(&message, now));
            let deliver =
                Effect::new(TaskKind::DeliverMessage, Subject::new(commit::SubjectKind::Message, &message.id));
            tasks.push(deliver.into_task(TaskId(new_id())));
        }
        Self { rows, tasks }
    }
}

/// A decision with everything drawn that a commit needs.
struct Written<S: Stored> {
    before: Option<(S, i64)>,
    after: S,
    decision: Decision<S::Event>,
    effects: Effects,
    messages: Vec<NewMessage>,
    answer: String,
}

impl<S: Stored> Written<S> {
    fn new(
        before: Option<(S, i64)>,
        after: S,
        mut decision: Decision<S::Event>,
        context: &Context,
        render: &impl Fn(&S) -> Rendered,
    ) -> Self {
        let rendered = render(&after);
        let mut messages = std::mem::take(&mut decision.messages);
        messages.extend(rendered.messages);
        let effects = Effects::new(std::mem::take(&mut decision.effects), messages.clone(), context.now);
        Self { before, after, decision, effects, messages, answer: rendered.answer }
    }

    fn is_nothing(&self) -> bool {
        self.effects.rows.is_empty() && self.effects.tasks.is_empty() && self.decision.withdraw.is_empty()
    }

    fn commit(&self, cause: &Cause, command: &impl Serialize, context: &Context) -> Commit {
        let subject = Subject::new(S::KIND, &self.after.id());
        let changes = !self.decision.events.is_empty();
        let at = self.before.as_ref().map_or(At::New, |(_, version)| At::Version(*version));
        let mut rows =
            if changes { self.after.rows(self.before.as_ref().map(|(before, _)| before)) } else { Vec::new() };
        rows.extend(self.effects.rows.iter().cloned());
        let mut expects = self.decision.expects.clone();
        expects.extend(cause.expects.iter().cloned());
        Commit {
            id: CommitId(new_id()),
            subject: changes.then_some((subject, at)),
            cause: cause_of(cause, command, context, self.answer(cause, context)),
            ack: cause.ack.clone(),
            expects,
            guards: self.decision.guards.clone(),
            entries: self.decision.entries.clone(),
            rows,
            events: self.decision.events.iter().map(|event| self.event(event)).collect(),
            tasks: self.effects.tasks.clone(),
            withdraw: self.decision.withdraw.clone(),
        }
    }

    fn answer(&self, cause: &Cause, context: &Context) -> String {
        cause.answer(&Draft {
            answer: &self.answer,
            subject: Some(Subject::new(S::KIND, &self.after.id())),
            events: self.decision.events.iter().map(S::event_name).collect(),
            messages: &self.messages,
            tasks: &self.effects.tasks,
            now: context.now,
        })
    }

    fn event(&self, event: &S::Event) -> NewEvent {
        NewEvent {
            kind: S::event_name(event).to_owned(),
            schema: 1,
            data: json(event),
            project: self.after.project_of(event),
            step: self.after.step_of(event),
        }
    }

    fn changed(self, version: i64) -> Changed<S, S::Event> {
        Changed {
            subject: self.after,
            version,
            events: self.decision.events,
            messages: self.messages,
            tasks: self.effects.tasks,
        }
    }
}

fn cause_of(cause: &Cause, command: &impl Serialize, context: &Context, answer: String) -> commit::Cause {
    commit::Cause {
        actor: cause.actor.to_string(),
        command: json(command),
        now: context.now,
        // The ids that were drawn are part of the command and of the stored tasks and rows.
        ids: "{}".to_owned(),
        dedup: cause.dedup.clone().map(|dedup| Dedup {
            scope: dedup.scope,
            key: dedup.key,
            request_hash: dedup.request_hash,
            answer,
        }),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("commands and events are plain JSON: {error}"))
}

/// A UUIDv7: grows with time, so that indexes stay compact.
pub(crate) fn new_id() -> String {
    host::random::uuid_v7().to_string()
}
