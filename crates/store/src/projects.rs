//! Projects as rows.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    project::Project,
};

use crate::{
    Store, StoreError,
    query::{Loaded, Order, RowQuery, StoredRow},
    stored::{Stored, Versioned, decode, encode, row, unexpected_child},
};

/// A project with what only its row knows.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedProject {
    pub project: Project,
    pub version: i64,
    pub updated_at: domain::time::Timestamp,
}

impl Stored for Project {
    fn rows(&self, _before: Option<&Self>) -> Vec<Row> {
        let mut head = row(Table::Projects, self.id(), self.state.name(), self.id.0, encode(self));
        head.name = Some(self.name.clone());
        vec![head]
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        match loaded.children.first() {
            Some(child) => Err(unexpected_child(child)),
            None => read_project(&loaded.head),
        }
    }
}

fn read_project(row: &StoredRow) -> Result<Project, StoreError> {
    decode(row, |project: &Project| (project.id.to_string(), project.state.name()))
}

impl Store {
    /// Newest first.
    pub async fn list_projects(
        &self,
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<ListedProject>, StoreError> {
        let query = RowQuery {
            table: Table::Projects,
            parent: None,
            statuses: Vec::new(),
            order: Order::Descending,
            after,
            limit,
        };
        self.known_rows(query).await?.iter().map(listed).collect()
    }

    pub async fn find_listed_project(&self, id: i64) -> Result<Option<ListedProject>, StoreError> {
        self.find_row(Table::Projects, &id.to_string()).await?.as_ref().map(listed).transpose()
    }

    pub async fn find_project(&self, id: i64) -> Result<Option<Versioned<Project>>, StoreError> {
        self.find::<Project>(&id.to_string()).await
    }
}

fn listed(row: &StoredRow) -> Result<ListedProject, StoreError> {
    Ok(ListedProject { project: read_project(row)?, version: row.version, updated_at: row.updated_at })
}
