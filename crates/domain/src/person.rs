//! People and their accounts. A gate counts people, not accounts, and only people may decide.

use serde::{Deserialize, Serialize};

use crate::{aggregate::Aggregate, commit::SubjectKind, ids::PersonId};

/// What somebody is. Agents and workers can never decide a gate, whatever their scopes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonKind {
    Human,
    Agent,
    Worker,
}

/// Somebody who acts, with the accounts that were proven to be theirs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub id: PersonId,
    /// Unique, `[a-z0-9][a-z0-9._-]*`; the account of the dev channel for people created by it, such as `dev:alice`.
    pub name: String,
    pub kind: PersonKind,
    pub active: bool,
    /// Accounts such as `dev:alice`, without repeats, in the order they were linked.
    pub accounts: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PersonEvent {
    Created { person: Person },
    AccountLinked { account: String },
    Disabled,
}

impl Person {
    pub fn status(&self) -> &'static str {
        if self.active { "active" } else { "disabled" }
    }

    /// Whether this person may decide gates at all.
    pub fn may_decide(&self) -> bool {
        self.active && self.kind == PersonKind::Human
    }
}

impl Aggregate for Person {
    type Event = PersonEvent;

    const KIND: SubjectKind = SubjectKind::Person;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn created(event: &PersonEvent) -> Option<Self> {
        match event {
            PersonEvent::Created { person } => Some(person.clone()),
            PersonEvent::AccountLinked { .. } | PersonEvent::Disabled => None,
        }
    }

    /// The only code that changes a person.
    fn apply(&mut self, event: &PersonEvent) {
        match event {
            PersonEvent::Created { person } => *self = person.clone(),
            PersonEvent::AccountLinked { account } => {
                if !self.accounts.contains(account) {
                    self.accounts.push(account.clone());
                }
            }
            PersonEvent::Disabled => self.active = false,
        }
    }

    fn event_name(event: &PersonEvent) -> &'static str {
        match event {
            PersonEvent::Created { .. } => "person_created",
            PersonEvent::AccountLinked { .. } => "account_linked",
            PersonEvent::Disabled => "person_disabled",
        }
    }
}
