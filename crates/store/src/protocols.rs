//! Protocols as rows, with their steps, their gates and the attempts that changed.

use domain::{
    aggregate::Aggregate,
    commit::{Row, Table},
    protocol::Protocol,
    time::Timestamp,
};

use crate::{
    Store, StoreError,
    attempts::attempt_row,
    gates::{changed_gates, read_gate},
    query::{Loaded, Order, RowQuery, StoredRow},
    steps::{changed_steps, read_step},
    stored::{Stored, decode, encode, row, unexpected_child},
};

/// A protocol without its steps and gates, with what only its row knows.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedProtocol {
    pub protocol: Protocol,
    pub version: i64,
    pub updated_at: Timestamp,
}

impl Stored for Protocol {
    fn rows(&self, before: Option<&Self>) -> Vec<Row> {
        let mut head = row(Table::Protocols, self.id(), self.state.name(), self.id.0, encode(self));
        head.parent = Some(self.project.to_string());
        head.name = Some(self.name.clone());
        let mut rows = vec![head];
        rows.extend(changed_steps(&self.steps, before.map_or(&[], |before| &before.steps)));
        rows.extend(changed_gates(&self.gates, before.map_or(&[], |before| &before.gates)));
        if let Some(attempt) = &self.attempt
            && before.and_then(|before| before.attempt.as_ref()) != Some(attempt)
        {
            rows.push(attempt_row(attempt));
        }
        for step in &self.steps {
            let known = before.and_then(|before| before.step(step.id)).and_then(|step| step.attempt.as_ref());
            if let Some(attempt) = &step.attempt
                && known != Some(attempt)
            {
                rows.push(attempt_row(attempt));
            }
        }
        rows
    }

    fn read(loaded: Loaded) -> Result<Self, StoreError> {
        let mut protocol = read_head(&loaded.head)?;
        for child in &loaded.children {
            match child.table {
                Table::Steps => protocol.steps.push(read_step(child)?),
                Table::Gates => protocol.gates.push(read_gate(child)?),
                _ => return Err(unexpected_child(child)),
            }
        }
        let total = u32::try_from(protocol.steps.len()).unwrap_or(u32::MAX);
        if protocol.counts.total != total {
            return Err(StoreError::Corrupt {
                table: Table::Protocols.name(),
                id: loaded.head.id,
                reason: format!("column body counts {} steps, {total} rows belong to it", protocol.counts.total),
            });
        }
        Ok(protocol)
    }
}

fn read_head(row: &StoredRow) -> Result<Protocol, StoreError> {
    let protocol = decode(row, |protocol: &Protocol| (protocol.id.to_string(), protocol.state.name()))?;
    if row.parent.as_deref() != Some(protocol.project.to_string().as_str()) {
        return Err(StoreError::Corrupt {
            table: row.table.name(),
            id: row.id.clone(),
            reason: format!("column parent says {:?}, column body {}", row.parent, protocol.project),
        });
    }
    Ok(protocol)
}

fn listed(row: &StoredRow) -> Result<ListedProtocol, StoreError> {
    Ok(ListedProtocol { protocol: read_head(row)?, version: row.version, updated_at: row.updated_at })
}

impl Store {
    /// Newest first, without steps and gates; of all projects, or of one.
    pub async fn list_protocols(
        &self,
        project: Option<i64>,
        statuses: &[String],
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<ListedProtocol>, StoreError> {
        let query = RowQuery {
            table: Table::Protocols,
            parent: project.map(|project| project.to_string()),
            statuses: statuses.to_vec(),
            order: Order::Descending,
            after,
            limit,
        };
        self.list_rows(&query).await?.iter().map(listed).collect()
    }

    /// Without its steps and gates.
    pub async fn find_listed_protocol(&self, id: i64) -> Result<Option<ListedProtocol>, StoreError> {
        self.find_row(Table::Protocols, &id.to_string()).await?.as_ref().map(listed).transpose()
    }

    /// The protocol of a project with this name.
    pub async fn find_protocol_by_name(&self, project: i64, name: &str) -> Result<Option<ListedProtocol>, StoreError> {
        let found = self.find_by_name(Table::Protocols, Some(&project.to_string()), name).await?;
        found.as_ref().map(listed).transpose()
    }
}
