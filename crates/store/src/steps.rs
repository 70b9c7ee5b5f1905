//! Steps as rows: children of a protocol, by index.

use domain::{
    commit::{Row, Table},
    step::Step,
    time::Timestamp,
};

use crate::{
    Store, StoreError,
    query::{Order, RowQuery, StoredRow},
    stored::{decode, encode},
};

/// A step with what only its row knows.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedStep {
    pub step: Step,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn step_row(step: &Step) -> Row {
    Row {
        table: Table::Steps,
        id: step.id.to_string(),
        status: step.state.name().to_owned(),
        parent: Some(step.protocol.to_string()),
        ordinal: i64::from(step.index),
        name: Some(step.name().to_owned()),
        body: encode(step),
    }
}

/// The rows of the steps that are new or changed.
pub(crate) fn changed_steps(steps: &[Step], before: &[Step]) -> Vec<Row> {
    steps.iter().filter(|step| before.iter().find(|old| old.id == step.id) != Some(step)).map(step_row).collect()
}

pub(crate) fn read_step(row: &StoredRow) -> Result<Step, StoreError> {
    let step = decode(row, |step: &Step| (step.id.to_string(), step.state.name()))?;
    if row.parent.as_deref() != Some(step.protocol.to_string().as_str()) || row.ordinal != i64::from(step.index) {
        return Err(StoreError::Corrupt {
            table: row.table.name(),
            id: row.id.clone(),
            reason: "columns parent and ordinal contradict column body".to_owned(),
        });
    }
    Ok(step)
}

fn listed(row: &StoredRow) -> Result<ListedStep, StoreError> {
    Ok(ListedStep { step: read_step(row)?, created_at: row.created_at, updated_at: row.updated_at })
}

impl Store {
    pub async fn find_step(&self, id: i64) -> Result<Option<ListedStep>, StoreError> {
        self.find_row(Table::Steps, &id.to_string()).await?.as_ref().map(listed).transpose()
    }

    /// The steps of a protocol, by index.
    pub async fn list_steps(
        &self,
        protocol: i64,
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<ListedStep>, StoreError> {
        let query = RowQuery {
            table: Table::Steps,
            parent: Some(protocol.to_string()),
            statuses: Vec::new(),
            order: Order::Ascending,
            after,
            limit,
        };
        self.list_rows(&query).await?.iter().map(listed).collect()
    }
}
