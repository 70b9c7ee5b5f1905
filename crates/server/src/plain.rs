//! Inherited lists: plain arrays, whose next page is named by the Link header.

use api::RowCursor;
use axum::{
    Json,
    http::{HeaderMap, HeaderValue, header},
};

use crate::{
    asked::{PageQuery, plain_limit, row_cursor},
    problem::Problem,
};

/// A page of a plain list, as it is answered.
pub(crate) type Plain<V> = (HeaderMap, Json<Vec<V>>);

/// Which page is asked for, of rows that are placed by (ordinal, id).
#[derive(Clone, Debug)]
pub(crate) struct PlainPage {
    pub(crate) limit: u32,
    pub(crate) after: Option<(i64, String)>,
}

impl PlainPage {
    pub(crate) fn of(limit: Option<i64>, after: Option<&str>) -> Result<Self, Problem> {
        Ok(Self { limit: plain_limit(limit), after: row_cursor(after)? })
    }

    /// Answers with the views of `rows`; those of them that the caller does not see may be missing.
    pub(crate) fn answer<T, V>(
        &self,
        path: &str,
        filters: &[(&str, String)],
        rows: &[T],
        place: impl Fn(&T) -> (i64, String),
        views: Vec<V>,
    ) -> Plain<V> {
        let last = rows.last().filter(|_| rows.len() == self.limit as usize);
        let next = last.map(place).map(|(ordinal, id)| RowCursor { ordinal, id }.to_text());
        (next_link(path, filters, self.limit, next.as_deref()), Json(views))
    }
}

impl TryFrom<PageQuery> for PlainPage {
    type Error = Problem;

    fn try_from(query: PageQuery) -> Result<Self, Problem> {
        Self::of(query.limit, query.after.as_deref())
    }
}

/// The Link header of a plain list; it names the next page when there may be one.
pub(crate) fn next_link(path: &str, filters: &[(&str, String)], limit: u32, next: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Filters and cursors were checked: nothing in them needs escaping.
    let filters: String = filters.iter().map(|(name, value)| format!("{name}={value}&")).collect();
    let first = format!("<{path}?{filters}limit={limit}>; rel=\"first\"");
    let link = match next {
        Some(next) => format!("{first}, <{path}?{filters}limit={limit}&after={next}>; rel=\"next\""),
        None => first,
    };
    if let Ok(link) = HeaderValue::from_str(&link) {
        headers.insert(header::LINK, link);
    }
    headers
}
