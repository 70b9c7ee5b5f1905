//! What every subject is: something that a first event makes and later events change.

use serde::{Serialize, de::DeserializeOwned};

use crate::commit::SubjectKind;

/// A subject. `created` and `apply` are the only code that changes one, so that folding its events gives its rows.
pub trait Aggregate: Clone + PartialEq + Send + Sync {
    type Event: Serialize + DeserializeOwned + Clone + Send + Sync;

    const KIND: SubjectKind;

    /// As on the wire.
    fn id(&self) -> String;

    /// The subject that a first event makes; `None` for any other event.
    fn created(event: &Self::Event) -> Option<Self>;

    fn apply(&mut self, event: &Self::Event);

    fn event_name(event: &Self::Event) -> &'static str;

    /// The project whose timeline shows the event.
    fn project_of(&self, _event: &Self::Event) -> Option<i64> {
        None
    }

    /// The step whose timeline shows the event.
    fn step_of(&self, _event: &Self::Event) -> Option<i64> {
        None
    }
}

/// Folds events into the subject they describe; `None` when the first one makes nothing.
pub fn fold<'a, A: Aggregate>(events: impl IntoIterator<Item = &'a A::Event>) -> Option<A>
where
    A::Event: 'a,
{
    let mut events = events.into_iter();
    let mut subject = A::created(events.next()?)?;
    events.for_each(|event| subject.apply(event));
    Some(subject)
}
