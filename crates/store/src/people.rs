//! People as rows, with a row for each of their accounts, so that somebody is found by any of them.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    ids::PersonId,
    person::Person,
};

use crate::{
    Store, StoreError,
    query::{Loaded, StoredRow},
    stored::{Stored, Versioned, decode, encode, row},
};

impl Stored for Person {
    fn rows(&self, before: Option<&Self>) -> Vec<Row> {
        let mut head = row(Table::People, self.id(), self.status(), 0, encode(self));
        head.name = Some(self.name.clone());
        let known = before.map_or(&[][..], |before| &before.accounts);
        let accounts = self.accounts.iter().filter(|account| !known.contains(account)).map(|account| Row {
            table: Table::Identities,
            id: account.clone(),
            status: "linked".to_owned(),
            parent: Some(self.subject_text()),
            ordinal: 0,
            name: None,
            body: encode(&self.id),
        });
        std::iter::once(head).chain(accounts).collect()
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        read_person(&loaded.head)
    }
}

trait SubjectText: Aggregate {
    fn subject_text(&self) -> String {
        format!("{}:{}", Self::KIND.as_str(), self.id())
    }
}

impl SubjectText for Person {}

impl Store {
    /// Whoever this account (`dev:alice`) was proven to belong to. For every message: on PostgreSQL what another process
    /// changed of them is seen a second later.
    pub async fn known_person_by_account(&self, account: &str) -> Result<Option<Person>, StoreError> {
        match self.known_row(Table::Identities, account).await? {
            Some(identity) => self.known_person(&person_of(&identity)?).await,
            None => Ok(None),
        }
    }

    /// Somebody who gives a command, found for every request as [`Store::known_person_by_account`] finds them.
    pub async fn known_person(&self, id: &PersonId) -> Result<Option<Person>, StoreError> {
        self.known_row(Table::People, id.as_str()).await?.as_ref().map(read_person).transpose()
    }

    pub async fn find_person_by_name(&self, name: &str) -> Result<Option<Versioned<Person>>, StoreError> {
        match self.find_by_name(Table::People, None, name).await? {
            Some(row) => self.find(&row.id).await,
            None => Ok(None),
        }
    }
}

fn read_person(row: &StoredRow) -> Result<Person, StoreError> {
    decode(row, |person: &Person| (person.id.to_string(), person.status()))
}

/// Whom an account belongs to.
fn person_of(identity: &StoredRow) -> Result<PersonId, StoreError> {
    serde_json::from_str(&identity.body).map_err(|error| StoreError::Corrupt {
        table: Table::Identities.name(),
        id: identity.id.clone(),
        reason: format!("column body: {error}"),
    })
}
