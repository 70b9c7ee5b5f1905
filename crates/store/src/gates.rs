//! Gates as rows: children of a run or a protocol, listed under it and by state.

use domain::{
    commit::{Row, Table},
    gate::{Gate, GateState},
};

use crate::{
    Store, StoreError,
    query::{Order, RowQuery, StoredRow},
    stored::{decode, encode},
};

pub(crate) fn gate_row(gate: &Gate) -> Row {
    Row {
        table: Table::Gates,
        id: gate.id.to_string(),
        status: gate.state.name().to_owned(),
        parent: Some(gate.owner.to_string()),
        ordinal: gate.opened_at.as_micros(),
        name: None,
        body: encode(gate),
    }
}

pub(crate) fn read_gate(row: &StoredRow) -> Result<Gate, StoreError> {
    decode(row, |gate: &Gate| (gate.id.to_string(), gate.state.name()))
}

/// The rows of the gates that are new or changed.
pub(crate) fn changed_gates(gates: &[Gate], before: &[Gate]) -> Vec<Row> {
    gates.iter().filter(|gate| before.iter().find(|old| old.id == gate.id) != Some(gate)).map(gate_row).collect()
}

impl Store {
    pub async fn find_gate(&self, id: &str) -> Result<Option<Gate>, StoreError> {
        self.find_row(Table::Gates, id).await?.as_ref().map(read_gate).transpose()
    }

    /// Gates newest first; `statuses` empty means all.
    pub async fn list_gates(
        &self,
        statuses: &[&str],
        after: Option<(i64, String)>,
        limit: u32,
    ) -> Result<Vec<Gate>, StoreError> {
        debug_assert!(statuses.iter().all(|status| GateState::NAMES.contains(status)));
        let query = RowQuery {
            table: Table::Gates,
            parent: None,
            statuses: statuses.iter().map(ToString::to_string).collect(),
            order: Order::Descending,
            after,
            limit,
        };
        self.list_rows(&query).await?.iter().map(read_gate).collect()
    }
}
