//! People: the owner, and whoever an account stands for.

use domain::{
    actor::Actor,
    commit::Guard,
    decision::Decision,
    ids::PersonId,
    person::{Person, PersonEvent, PersonKind},
};

use crate::{
    Cause, Control,
    error::CommandError,
    ledger::{Rendered, new_id},
};

/// The person the first start creates.
pub const OWNER: &str = "owner";

impl Control {
    /// The person called `name`, created with `accounts` when there is none. Safe to call at once from many places.
    pub async fn ensure_person(
        &self,
        name: &str,
        kind: PersonKind,
        accounts: &[String],
    ) -> Result<Person, CommandError> {
        loop {
            if let Some(found) = self.store().find_person_by_name(name).await? {
                return Ok(found.subject);
            }
            let created = self
                .create(
                    &Cause::of(Actor::System),
                    |_| {
                        let person = Person {
                            id: PersonId(new_id()),
                            name: name.to_owned(),
                            kind,
                            active: true,
                            accounts: accounts.to_vec(),
                        };
                        let holder = person.id.to_string();
                        let unique = |key: String| Guard::Unique { key, holder: holder.clone() };
                        let decision = Decision::of([PersonEvent::Created { person }]);
                        let decision = decision.guarded(unique(format!("person:{name}")));
                        let decision = accounts
                            .iter()
                            .fold(decision, |decision, account| decision.guarded(unique(format!("account:{account}"))));
                        ("create_person", decision)
                    },
                    |_: &Person| Rendered::default(),
                )
                .await;
            match created {
                Ok(created) => return Ok(created.subject),
                // Somebody created the same person just now: read them.
                Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whoever an account of the development channel stands for: a person of its own, created at its first message.
    pub async fn ensure_account(&self, account: &str) -> Result<Person, CommandError> {
        if let Some(found) = self.store().known_person_by_account(account).await? {
            return Ok(found);
        }
        self.ensure_person(account, PersonKind::Human, &[account.to_owned()]).await
    }

    pub async fn get_person(&self, id: &PersonId) -> Result<Person, CommandError> {
        Ok(self.get::<Person>(id.as_str()).await?.subject)
    }
}
