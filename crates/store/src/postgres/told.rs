//! What a commit tells, kept as few rows as its events allow.
//!
//! A row and its index entries cost the server more than an event's text, so consecutive events of one commit that belong
//! to the same project and step lie in one row, as a JSON array. Ids are drawn for rows, [`SPAN`] apart: an event's id is
//! its row's plus its place in it.

use std::borrow::Cow;

use domain::commit::NewEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::rules;

/// The most events in one row; the sequence of the migrations steps by it.
pub(super) const SPAN: usize = 32;

/// One event in its row.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Fact<'a> {
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) schema: i16,
    /// As it was given, to the byte.
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

/// The rows of a commit's events, each with the place of its first.
pub(super) fn rows(events: &[NewEvent]) -> impl Iterator<Item = (usize, &[NewEvent])> {
    let mut place = 0;
    events.chunk_by(|a, b| (a.project, a.step) == (b.project, b.step)).flat_map(|alike| alike.chunks(SPAN)).map(
        move |row| {
            let first = place;
            place += row.len();
            (first, row)
        },
    )
}

/// One row's text, into a string that is used again. The data of events is JSON, which `rules::validate` has seen to.
pub(super) fn write(events: &[NewEvent], text: &mut String) {
    text.clear();
    for event in events {
        text.push_str(if text.is_empty() { "[{\"kind\":" } else { ",{\"kind\":" });
        rules::quote(&event.kind, text);
        text.push_str(",\"schema\":");
        text.push_str(&event.schema.to_string());
        text.push_str(",\"data\":");
        text.push_str(&event.data);
        text.push('}');
    }
    text.push(']');
}

/// The events of a row.
pub(super) fn read(text: &str) -> Result<Vec<Fact<'_>>, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, step: Option<i64>, data: &str) -> NewEvent {
        NewEvent { kind: kind.to_owned(), schema: 2, data: data.to_owned(), project: Some(1), step }
    }

    #[test]
    fn what_is_written_is_read_to_the_byte() {
        let events = [event("a \"b\"", None, "{\"z\":1.50, \"a\":\"\\u00e9\"}"), event("c", None, "[]")];

        let mut text = "what was there".to_owned();
        write(&events, &mut text);

        let facts = read(&text).unwrap();
        let read: Vec<_> = facts.iter().map(|fact| (fact.kind.as_ref(), fact.schema, fact.data.get())).collect();
        assert_eq!(read, [("a \"b\"", 2, "{\"z\":1.50, \"a\":\"\\u00e9\"}"), ("c", 2, "[]")]);
    }

    #[test]
    fn a_row_holds_neighbours_of_one_step_and_no_more_than_its_span() {
        let mut events = vec![event("a", None, "{}"), event("b", Some(1), "{}"), event("c", Some(1), "{}")];
        events.push(event("d", None, "{}"));
        events.extend((0..SPAN + 1).map(|_| event("e", Some(2), "{}")));

        let places: Vec<_> = rows(&events).map(|(place, row)| (place, row.len())).collect();

        assert_eq!(places, [(0, 1), (1, 2), (3, 1), (4, SPAN), (4 + SPAN, 1)]);
    }
}
