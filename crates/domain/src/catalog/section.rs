//! One table of a catalog file, read key by key.
//!
//! Every key of a table is accounted for: known, known but not available yet, or refused with the nearest. Reading a
//! value of the wrong type reports it and answers `None`, so that one pass finds everything that is wrong.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    nearest::nearest,
    problem::{Place, Report},
};

/// The keys that one kind of table may have.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) known: &'static [&'static str],
    /// Keys whose machinery comes later.
    pub(super) later: &'static [&'static str],
}

/// A table and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct Section<'t> {
    pub(super) path: String,
    pub(super) place: Place,
    table: &'t DeTable<'t>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) place: Place,
    pub(super) path: String,
}

impl<'t> Section<'t> {
    pub(super) fn new(path: String, place: Place, table: &'t DeTable<'t>) -> Self {
        Self { path, place, table }
    }

    /// Reports each key that this kind of table does not have. `home` knows where a misplaced key belongs.
    pub(super) fn check_keys(&self, keys: &Keys, home: impl Fn(&str) -> Option<&'static str>, report: &mut Report<'_>) {
        for (key, _) in self.table {
            let (name, place) = (key.get_ref().as_ref(), key.span());
            if keys.known.contains(&name) {
                continue;
            }
            let path = self.path_of(name);
            if keys.later.contains(&name) {
                report.problem(&place, &path, format!("`{name}` is not available yet; remove it"));
            } else if let Some(home) = home(name) {
                report.problem(&place, &path, format!("`{name}` belongs into `{home}`"));
            } else {
                let candidates = keys.known.iter().chain(keys.later).copied();
                report.nearest_problem(&place, &path, "unknown key", nearest(name, candidates));
            }
        }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys in the order of the file, with their values.
    pub(super) fn entries(&self) -> Vec<(Item<&'t str>, &'t Spanned<DeValue<'t>>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let name = key.get_ref().as_ref();
                (Item { value: name, place: key.span(), path: self.path_of(name) }, value)
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.place.start);
        entries
    }

    pub(super) fn value(&self, key: &str) -> Option<Item<&'t DeValue<'t>>> {
        let value = self.table.get(key)?;
        Some(Item { value: value.get_ref(), place: value.span(), path: self.path_of(key) })
    }

    /// The table under a key; absent means `None`.
    pub(super) fn section(&self, key: &str, report: &mut Report<'_>) -> Option<Section<'t>> {
        let (name, value) = self.table.get_key_value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(self.path_of(key), name.span(), table)),
            other => {
                report.problem(&value.span(), &self.path_of(key), expected("a table", other));
                None
            }
        }
    }

    pub(super) fn text(&self, key: &str, report: &mut Report<'_>) -> Option<Item<String>> {
        self.value(key)?.text(report)
    }

    pub(super) fn boolean(&self, key: &str, report: &mut Report<'_>) -> Option<bool> {
        let item = self.value(key)?;
        match item.value {
            DeValue::Boolean(boolean) => Some(*boolean),
            other => {
                report.problem(&item.place, &item.path, expected("true or false", other));
                None
            }
        }
    }

    pub(super) fn integer(&self, key: &str, report: &mut Report<'_>) -> Option<Item<i64>> {
        let item = self.value(key)?;
        match integer(item.value) {
            Some(value) => Some(Item { value, place: item.place, path: item.path }),
            None => {
                report.problem(&item.place, &item.path, expected("a whole number", item.value));
                None
            }
        }
    }

    /// A list of texts; absent means `None`.
    pub(super) fn texts(&self, key: &str, report: &mut Report<'_>) -> Option<Vec<Item<String>>> {
        let item = self.value(key)?;
        let DeValue::Array(elements) = item.value else {
            report.problem(&item.place, &item.path, expected("a list of texts", item.value));
            return None;
        };
        let read = |element: &'t Spanned<DeValue<'t>>| {
            Item { value: element.get_ref(), place: element.span(), path: item.path.clone() }.text(report)
        };
        elements.iter().map(read).collect()
    }
}

impl Item<&DeValue<'_>> {
    pub(super) fn text(self, report: &mut Report<'_>) -> Option<Item<String>> {
        match self.value {
            DeValue::String(text) => {
                Some(Item { value: text.clone().into_owned(), place: self.place, path: self.path })
            }
            other => {
                report.problem(&self.place, &self.path, expected("a text in quotes", other));
                None
            }
        }
    }
}

/// The integer a value holds, if it holds one that fits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

pub(super) fn expected(what: &str, found: &DeValue<'_>) -> String {
    let found = match found {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("expected {what}, found {found}")
}
