//! What both databases agree on besides SQL: which commits are well-formed, which rows belong to a subject, what a
//! refusal says.
//!
//! A defect of the caller is found here, before the database is asked, so that both databases answer it alike.

use domain::{
    commit::{Commit, Entry, Guard, Row, Subject, SubjectKind, Table, Then},
    ids::TaskId,
};

use crate::{StoreError, query::RowQuery};

/// The most rows one list may give.
pub(crate) const MAX_PAGE: u32 = 500;
/// The longest dedup scope and key, in bytes.
const MAX_SCOPE: usize = 200;
const MAX_KEY: usize = 500;

/// The tables whose rows are loaded with a subject, and what those rows say in `parent`.
pub(crate) fn children(subject: &Subject) -> Vec<(Table, String)> {
    let qualified = subject.to_string();
    match subject.kind {
        SubjectKind::Protocol => vec![(Table::Steps, subject.id.clone()), (Table::Gates, qualified)],
        SubjectKind::Run => vec![(Table::Gates, qualified)],
        SubjectKind::Person => vec![(Table::Identities, qualified)],
        SubjectKind::Project | SubjectKind::Token | SubjectKind::Message | SubjectKind::Catalog => Vec::new(),
    }
}

/// An id as the key of a table whose ids are integers; `None` when it cannot be one.
pub(crate) fn integer_id(id: &str) -> Option<i64> {
    let number: i64 = id.parse().ok()?;
    // One spelling each: `+7` and `007` name nothing.
    (number > 0 && number.to_string() == id).then_some(number)
}

/// The version that rows written with a commit get.
pub(crate) fn row_version(head: i64) -> i64 {
    // A message kept without a subject is at its first version.
    head.max(1)
}

/// The places of a lock that are taken, as a refusal shows them.
pub(crate) fn held_by(mut holders: Vec<String>) -> String {
    holders.sort();
    holders.join(", ")
}

/// What stands against a reservation, as a refusal shows it.
pub(crate) fn budget_state(spent: i64, reserved: i64, limit: i64) -> String {
    format!("spent {spent}, reserved {reserved}, limit {limit}")
}

/// The cause as kept with the first event: `{"commit":…,"command":…,"ids":…}`.
pub(crate) fn cause_text(commit: &Commit) -> String {
    let mut text = String::with_capacity(80 + commit.cause.command.len() + commit.cause.ids.len());
    text.push_str("{\"commit\":");
    quote(commit.id.as_str(), &mut text);
    for (name, json) in [(",\"command\":", &commit.cause.command), (",\"ids\":", &commit.cause.ids)] {
        text.push_str(name);
        text.push_str(if json.is_empty() { "null" } else { json });
    }
    text.push('}');
    text
}

/// Adds a JSON string.
pub(crate) fn quote(value: &str, text: &mut String) {
    // Names and ids, which are most, stand for themselves.
    if value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&serde_json::Value::from(value).to_string());
    }
}

/// A page's bound, and how many rows to ask for to learn whether there is more.
pub(crate) fn page(limit: u32) -> u32 {
    limit.clamp(1, MAX_PAGE)
}

/// Refuses a list that asks for too much.
pub(crate) fn validate_list(query: &RowQuery) -> Result<u32, StoreError> {
    if query.limit > MAX_PAGE {
        return Err(rejected(format!("a page holds at most {MAX_PAGE} rows")));
    }
    Ok(page(query.limit))
}

/// Whether a page is ordered by id alone. Messages of all conversations are: their ids ascend with time, and an index on
/// their ordinals would cost every message a write for a list that few ask for.
pub(crate) fn is_by_id(query: &RowQuery) -> bool {
    query.table == Table::Messages && query.parent.is_none()
}

/// Refuses a commit that no rule allows, whatever the database holds.
pub(crate) fn validate(commit: &Commit) -> Result<(), StoreError> {
    match &commit.subject {
        Some((subject, _)) => {
            let Some(head) = commit.rows.first() else { return Err(rejected("a subject without its head row")) };
            if head.table != subject.kind.head() || head.id != subject.id {
                return Err(rejected(format!("the first row is not the head of {subject}")));
            }
        }
        None if !commit.events.is_empty() => return Err(rejected("events without a subject")),
        None => {}
    }
    let own_rows = usize::from(commit.subject.is_some());
    for (place, row) in commit.rows.iter().enumerate() {
        validate_row(row)?;
        // A message is asked for by another subject; everything else with a head of its own changes by itself.
        let may_follow = match row.table {
            Table::Messages => true,
            Table::Steps | Table::Gates | Table::Attempts | Table::Identities => commit.subject.is_some(),
            Table::Projects | Table::Protocols | Table::Runs | Table::People | Table::Tokens | Table::Catalogs => false,
        };
        if place >= own_rows && !may_follow {
            return Err(rejected(format!("a row of {} cannot be written with this commit", row.table.name())));
        }
        if commit.rows[..place].iter().any(|before| before.table == row.table && before.id == row.id) {
            return Err(rejected(format!("row {} of {} is written twice", row.id, row.table.name())));
        }
    }
    if commit.events.len() > usize::from(u16::MAX / 2) {
        return Err(rejected("more events than one commit may hold"));
    }
    for event in &commit.events {
        texts(&[&event.kind])?;
        document(&event.data, &event.kind)?;
    }
    for task in &commit.tasks {
        texts(&[task.id.as_str(), &task.subject.id, &task.payload, task.engine.as_deref().unwrap_or_default()])?;
        if task.id.as_str().is_empty() {
            return Err(rejected("a task without an id"));
        }
    }
    if let Some(ack) = &commit.ack {
        validate_ack(&ack.then)?;
        texts(&[ack.task.as_str()])?;
        if commit.tasks.iter().any(|task| task.id == ack.task) {
            return Err(rejected(format!("task {} is acknowledged and created at once", ack.task)));
        }
    }
    for expect in &commit.expects {
        texts(&[&expect.id])?;
        if expect.table.has_integer_ids() && integer_id(&expect.id).is_none() {
            return Err(rejected(format!("{} is no id of table {}", expect.id, expect.table.name())));
        }
    }
    commit.guards.iter().try_for_each(validate_guard)?;
    commit.entries.iter().try_for_each(validate_entry)?;
    for withdraw in &commit.withdraw {
        texts(&[&withdraw.subject.id])?;
        if withdraw.subject.kind == SubjectKind::Message {
            return Err(rejected("the task of a message cannot be taken back"));
        }
        withdraw.begun.iter().try_for_each(|task| texts(&[task.as_str()]))?;
    }
    let cause = &commit.cause;
    texts(&[commit.id.as_str(), &cause.actor, &cause.command, &cause.ids])?;
    if let Some(dedup) = &cause.dedup {
        texts(&[&dedup.scope, &dedup.key, &dedup.request_hash, &dedup.answer])?;
        if dedup.scope.len() > MAX_SCOPE || dedup.key.len() > MAX_KEY {
            return Err(rejected(format!("a dedup scope has at most {MAX_SCOPE} bytes, a key at most {MAX_KEY}")));
        }
    }
    Ok(())
}

/// The tasks that a commit's withdrawals leave to be ended, because their work has begun.
pub(crate) fn begun(commit: &Commit) -> Vec<&str> {
    commit.withdraw.iter().flat_map(|withdraw| &withdraw.begun).map(TaskId::as_str).collect()
}

/// What an acknowledgement may say.
pub(crate) fn validate_ack(then: &Then) -> Result<(), StoreError> {
    match then {
        Then::Dead { error } | Then::Again { failed: Some(error), .. } => texts(&[error]),
        Then::Done | Then::Keep | Then::Again { failed: None, .. } => Ok(()),
    }
}

fn validate_row(row: &Row) -> Result<(), StoreError> {
    texts(&[&row.id, &row.status, row.parent.as_deref().unwrap_or_default(), row.name.as_deref().unwrap_or_default()])?;
    document(&row.body, row.table.name())?;
    if row.id.is_empty() || row.status.is_empty() {
        return Err(rejected(format!("a row of {} without an id or a status", row.table.name())));
    }
    if row.table.has_integer_ids() && integer_id(&row.id).is_none() {
        return Err(rejected(format!("{} is no id of table {}", row.id, row.table.name())));
    }
    Ok(())
}

/// JSON text without room around it; as such it holds no NUL.
fn document(text: &str, of: &str) -> Result<(), StoreError> {
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(value) if value.get().len() == text.len() => Ok(()),
        Ok(_) => Err(rejected(format!("the document of {of} has room around it"))),
        Err(error) => Err(rejected(format!("the document of {of} is no JSON: {error}"))),
    }
}

fn validate_guard(guard: &Guard) -> Result<(), StoreError> {
    match guard {
        Guard::Unique { key, holder } => texts(&[key, holder]),
        Guard::Hold { lock, holder, .. } => texts(&[lock, holder]),
        Guard::Reserve { budget, holder, amount } => {
            texts(&[budget, holder])?;
            if *amount < 0 {
                return Err(rejected("a reservation of less than nothing"));
            }
            Ok(())
        }
    }
}

fn validate_entry(entry: &Entry) -> Result<(), StoreError> {
    match entry {
        Entry::Release { lock, holder } => texts(&[lock, holder]),
        Entry::Limit { budget, .. } => texts(&[budget]),
        Entry::Settle { budget, holder } => texts(&[budget, holder]),
        Entry::Charge { budget, session, .. } => texts(&[budget, session]),
    }
}

/// PostgreSQL cannot keep a NUL in text; neither database is given one.
fn texts(values: &[&str]) -> Result<(), StoreError> {
    if values.iter().any(|value| value.as_bytes().contains(&0)) {
        return Err(rejected("text with a NUL in it"));
    }
    Ok(())
}

pub(crate) fn rejected(reason: impl Into<String>) -> StoreError {
    StoreError::Rejected { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_id_has_one_spelling() {
        assert_eq!(integer_id("42"), Some(42));
        for text in ["", "0", "-1", "+1", "01", " 1", "1.0", "9223372036854775808", "x"] {
            assert_eq!(integer_id(text), None, "{text}");
        }
    }

    #[test]
    fn children_are_found_by_the_parent_they_name() {
        let protocol = Subject::new(SubjectKind::Protocol, "12");

        assert_eq!(children(&protocol), [(Table::Steps, "12".to_owned()), (Table::Gates, "protocol:12".to_owned())]);
    }
}
