//! What holds of the configuration, whatever a file or a variable holds. The seeded test of every build asks it, and the
//! coverage-guided target of `fuzz/`, which is built of these files.

use std::path::Path;

use super::{
    ConfigError, keys,
    layers::{self, Layer},
    value::Value,
};

const FILE: &str = "/etc/pilothouse/config.toml";

/// A file is read, or refused with lines that say where.
pub(crate) fn file(text: &str) {
    match layers::parse(text, Path::new(FILE)) {
        Ok(layer) => read(&layer),
        Err(refused) => {
            let lines: Vec<String> =
                refused.problems.iter().flat_map(|problem| problem.lines()).map(str::to_owned).collect();
            let is_placed = |line: &String| line.starts_with(' ') || line.starts_with(FILE);
            assert!(!lines.is_empty() && lines.iter().all(is_placed), "{lines:?}");
        }
    }
}

/// A variable, with its value behind the first `=`, is read or refused by its name.
pub(crate) fn variable(text: &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let name = format!("PILOTHOUSE_{name}");
    match layers::of_variables([(name.as_str(), value.to_owned())]) {
        Ok(layer) => read(&layer),
        Err(ConfigError { problems }) => {
            assert!(!problems.is_empty() && problems.iter().all(|problem| problem.starts_with(&name)), "{problems:?}");
        }
    }
}

/// What is shown of a value is taken as the same.
fn read(layer: &Layer) {
    for (name, setting) in &layer.settings {
        let key = keys::find(name).unwrap_or_else(|| panic!("{name:?} is not a key"));
        // The text of a list is for people: its items may hold what stands between them.
        if !matches!(setting.value, Value::List(_)) {
            let written = setting.value.to_string();
            assert_eq!(key.kind.parse(&written).as_ref(), Ok(&setting.value), "{name}: {written:?}");
        }
    }
}
