//! What a command decides: the events, and the effects that follow from them.

use crate::{
    commit::{Entry, Expect, Guard, Withdraw},
    message::NewMessage,
    task::Effect,
    time::Timestamp,
};

/// What `decide` may know besides the state and the command. Drawn before deciding and kept with the first event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    pub now: Timestamp,
}

/// Events to apply and effects to store with them. `E` is the subject's event type.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<E> {
    pub events: Vec<E>,
    pub effects: Vec<Effect>,
    pub messages: Vec<NewMessage>,
    pub withdraw: Vec<Withdraw>,
    pub guards: Vec<Guard>,
    pub entries: Vec<Entry>,
    pub expects: Vec<Expect>,
}

impl<E> Decision<E> {
    /// Nothing happens: the command was a repeat.
    pub fn nothing() -> Self {
        Self::of([])
    }

    pub fn of(events: impl IntoIterator<Item = E>) -> Self {
        Self {
            events: events.into_iter().collect(),
            effects: Vec::new(),
            messages: Vec::new(),
            withdraw: Vec::new(),
            guards: Vec::new(),
            entries: Vec::new(),
            expects: Vec::new(),
        }
    }

    #[must_use]
    pub fn then(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    #[must_use]
    pub fn say(mut self, message: NewMessage) -> Self {
        self.messages.push(message);
        self
    }

    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    #[must_use]
    pub fn withdrawing(mut self, withdraw: Withdraw) -> Self {
        self.withdraw.push(withdraw);
        self
    }

    pub fn is_nothing(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty() && self.messages.is_empty()
    }
}
