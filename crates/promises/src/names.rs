//! Short texts with a meaning: references, names, addresses, cursors, units.

use std::fmt::Display;
use std::str::FromStr;

use api::page::RowCursor;
use domain::catalog::{Principal, Template, parse_duration, parse_size, render_duration};
use domain::reference::Ref;
use domain::time::Timestamp;
use domain::token::Scope;
use forge::git::conventions::ProtocolName;
use forge::git::types::{BranchName, GitUrl, ObjectId, RefName, RepoPath};
use host::path::RelPath;

/// What is taken is written back as something that is taken as the same.
fn comes_back<T: FromStr + Display + PartialEq>(text: &str) -> Option<T> {
    let value = T::from_str(text).ok()?;
    let written = value.to_string();
    assert!(T::from_str(&written).is_ok_and(|again| again == value), "{text:?} became {written:?}");
    Some(value)
}

/// An address of a repository is taken only when it can mean nothing else.
pub fn address(text: &str) {
    let Some(url) = comes_back::<GitUrl>(text) else { return };
    let shown = url.as_str();
    assert!(shown.starts_with("https://") || shown.starts_with("ssh://"), "{shown}");
    assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown}");
    assert!(!shown.contains("/../") && !shown.contains('?') && !shown.contains("/-"), "{shown}");
    assert!(!url.host().starts_with('-') && !url.host().is_empty(), "{shown}");
}

/// A name in git never leaves its place, and neither does a path.
pub fn name(text: &str) {
    for name in [
        comes_back::<BranchName>(text).map(|name| name.to_string()),
        comes_back::<RefName>(text).map(|name| name.to_string()),
        comes_back::<ProtocolName>(text).map(|name| name.to_string()),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!name.starts_with('-') && !name.contains("..") && !name.contains("@{"), "{name:?}");
        assert!(!name.chars().any(|c| c.is_control() || c.is_whitespace()), "{name:?}");
    }
    if let Ok(path) = RepoPath::parse(text) {
        assert_inside(&path.to_string());
    }
    if let Some(path) = comes_back::<RelPath>(text) {
        assert_inside(&path.to_string());
    }
}

fn assert_inside(path: &str) {
    assert!(!path.starts_with('/') && !path.is_empty(), "{path:?}");
    for part in path.split('/') {
        assert!(!matches!(part, "" | "." | "..") && !part.contains('\0'), "{path:?}");
    }
}

/// An object of git is named by its whole hash.
pub fn object(text: &str) {
    if let Some(id) = comes_back::<ObjectId>(text) {
        let shown = id.to_string();
        assert!(matches!(shown.len(), 40 | 64) && shown.bytes().all(|byte| byte.is_ascii_hexdigit()), "{shown}");
    }
}

/// A reference is the same however it is typed.
pub fn reference(text: &str) {
    if let Some(reference) = comes_back::<Ref>(text) {
        assert_eq!(Ref::parse(&text.to_ascii_lowercase()).ok(), Some(reference));
        assert_eq!(Ref::parse(&text.to_ascii_uppercase()).ok(), Some(reference));
    }
}

/// A cursor of a list comes back, or is none.
pub fn cursor(text: &str) {
    if let Some(cursor) = RowCursor::parse(text) {
        assert_eq!(RowCursor::parse(&cursor.to_text()), Some(cursor.clone()));
        assert!(cursor.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{cursor:?}");
    }
}

/// Spans, sizes, instants and templates.
pub fn units(text: &str) {
    if let Some(span) = parse_duration(text) {
        assert_eq!(parse_duration(&render_duration(span)), Some(span), "{text:?}");
    }
    let _ = parse_size(text);
    let _ = Template::parse(text);
    comes_back::<Timestamp>(text);
}

/// What a token may do, and whom a policy names.
pub fn scope(text: &str) {
    assert!(Scope::parse(text).is_none_or(|scope| scope.as_str() == text));
    comes_back::<Principal>(text);
}
