//! Pages of lists, continued by an opaque cursor.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Part of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Continues behind the last item as `?after=`. For events it is always there, so that a follower can wait; for
    /// other lists it is null at the end.
    pub next_cursor: Option<String>,
}

/// The place of a row in a list that is ordered by (ordinal, id).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowCursor {
    pub ordinal: i64,
    pub id: String,
}

impl RowCursor {
    /// Reads a cursor that [`RowCursor::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (ordinal, id) = text.split_once('.')?;
        let is_id = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        is_id.then_some(())?;
        Some(Self { ordinal: ordinal.parse().ok()?, id: id.to_owned() })
    }

    pub fn to_text(&self) -> String {
        format!("{}.{}", self.ordinal, self.id)
    }
}

impl<T> Page<T> {
    /// A page of at most `limit` rows out of `rows`, which were read with one more to see whether there are more.
    pub fn of_rows<R>(mut rows: Vec<R>, limit: usize, place: impl Fn(&R) -> RowCursor, view: impl Fn(&R) -> T) -> Self {
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| place(last).to_text());
        Self { items: rows.iter().map(view).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = RowCursor { ordinal: -5, id: "7Q4K2MA".to_owned() };

        assert_eq!(RowCursor::parse(&cursor.to_text()), Some(cursor));
    }

    #[test]
    fn whatever_is_no_cursor_is_refused() {
        for text in ["", ".", "1.", ".a", "x.a", "1", "1.a'b", "1.\u{202e}", "99999999999999999999.a"] {
            assert_eq!(RowCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_page_ends_with_a_cursor_only_when_more_follows() {
        let place = |n: &i64| RowCursor { ordinal: *n, id: "x".to_owned() };

        let first = Page::of_rows(vec![1, 2, 3], 2, place, |n| *n);
        let last = Page::of_rows(vec![3], 2, place, |n| *n);

        assert_eq!(first, Page { items: vec![1, 2], next_cursor: Some("2.x".to_owned()) });
        assert_eq!(last, Page { items: vec![3], next_cursor: None });
    }
}
