//! What is printed: data on stdout, talk on stderr.
//!
//! With `--json` an object says its schema (`pilothouse.run/v1`), a list is `{schema, items, next_cursor}`. Whatever came
//! from elsewhere is cleaned before a terminal sees it. A reader that went away ends the program quietly.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, Result};

/// Says something to people. Nobody listening is fine.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", host::text::clean(line));
}

/// Whether a reader of stdout went away; then there is nothing left to do.
pub(crate) const READER_GONE: &str = "reader gone";

/// Prints data as it is, with an end of line.
pub(crate) fn print_line(text: &str) -> Result {
    print_raw(format!("{text}\n").as_bytes())
}

/// Prints text of others without what would steer a terminal.
pub(crate) fn print_clean(text: &str) -> Result {
    print_raw(host::text::clean(text).as_bytes())
}

pub(crate) fn print_raw(bytes: &[u8]) -> Result {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::new(Exit::Failed, READER_GONE)),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Whether stdout is a terminal whose user wants colours.
pub(crate) fn has_colours() -> bool {
    std::io::stdout().is_terminal() && wants_colours()
}

/// What the environment says about colours, wherever they would go.
pub(crate) fn wants_colours() -> bool {
    host::env::var("NO_COLOR").is_none_or(|value| value.is_empty())
        && host::env::var("TERM").is_none_or(|term| term != "dumb")
}

/// How results are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Shows one thing: as JSON, or in the words of `text`.
    pub(crate) fn one<T: Serialize>(self, noun: &str, value: &T, text: impl FnOnce() -> String) -> Result {
        if !self.json {
            return print_clean(&with_end(text()));
        }
        print_line(&with_schema(noun, to_json(value)?).to_string())
    }

    /// Shows a list: as JSON, or as a table.
    pub(crate) fn list<T: Serialize>(
        self,
        nouns: &str,
        items: &[T],
        next_cursor: Option<&str>,
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result {
        if self.json {
            let list = json!({
                "schema": format!("pilothouse.{nouns}/v1"),
                "items": to_json(&items)?,
                "next_cursor": next_cursor,
            });
            return print_line(&list.to_string());
        }
        if items.is_empty() {
            say(&format!("no {nouns}"));
            return Ok(());
        }
        print_raw(table(head, items.iter().map(row)).as_bytes())?;
        if let Some(cursor) = next_cursor {
            say(&format!("more: --after {cursor}"));
        }
        Ok(())
    }
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Failure::failed(format!("cannot show the answer: {error}")))
}

/// An object whose first member says what it is.
pub(crate) fn with_schema(noun: &str, value: Value) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("schema".to_owned(), format!("pilothouse.{noun}/v1").into());
    match value {
        Value::Object(members) => object.extend(members),
        other => {
            object.insert("value".to_owned(), other);
        }
    }
    Value::Object(object)
}

/// Columns as wide as their widest cell; the last one as wide as it is.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let clean = |cell: &String| host::text::one_line(cell, 200);
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(clean).collect()).collect();
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of `name: value`, for those that have one.
pub(crate) fn fields<'n>(pairs: impl IntoIterator<Item = (&'n str, Option<String>)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    pairs.iter().map(|(name, value)| format!("{:<width$} {value}\n", format!("{name}:"))).collect()
}

fn with_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_carries_no_escapes() {
        let rows = [vec!["a\u{1b}[31m".to_owned(), "x".to_owned()], vec!["long".to_owned(), String::new()]];

        assert_eq!(table(&["id", "name"], rows.into_iter()), "id    name\na     x\nlong\n");
    }

    #[test]
    fn an_object_names_its_schema_first() {
        let shown = with_schema("run", json!({"id": "A", "status": "Running"})).to_string();

        assert_eq!(shown, r#"{"schema":"pilothouse.run/v1","id":"A","status":"Running"}"#);
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        assert_eq!(
            fields([("id", Some("A".to_owned())), ("no", None), ("status", Some("B".to_owned()))]),
            "id:     A\nstatus: B\n"
        );
    }
}
