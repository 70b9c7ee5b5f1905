//! Where values come from: files, the environment, flags.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Setting, keys,
    value::{Kind, Value},
};

/// The values that one source sets, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layer {
    pub(crate) settings: BTreeMap<String, Setting>,
}

const PREFIX: &str = "PILOTHOUSE_";
/// Read by the command line's client, by tests and by developers' tools; no keys of the configuration.
const OTHERS: [&str; 2] = ["PILOTHOUSE_TOKEN", "PILOTHOUSE_SERVER_URL"];
const OTHER_PREFIXES: [&str; 2] = ["PILOTHOUSE_TEST_", "PILOTHOUSE_XTASK_"];
const ALIASES: [(&str, &str); 2] = [("PILOTHOUSE_LOG", "log.filter"), ("PILOTHOUSE_LOG_FORMAT", "log.format")];
const MAX_FILE: u64 = 1 << 20;

impl Layer {
    /// Puts a flag's value in, if the flag was given.
    pub(crate) fn flag(mut self, flag: &str, name: &str, value: Option<&str>) -> Result<Self, ConfigError> {
        if let Some(text) = value {
            let problem = |reason| ConfigError { problems: vec![format!("{flag}: {reason}")] };
            let key = keys::find(name).ok_or_else(|| problem(format!("{name} is not a key")))?;
            let value = absolute(key.kind.parse(text).map_err(problem)?, None);
            self.settings.insert(name.to_owned(), Setting { value, origin: flag.to_owned() });
        }
        Ok(self)
    }
}

/// The files that exist, the machine's first.
pub(crate) fn files() -> Result<Vec<Layer>, ConfigError> {
    let user = host::env::var("XDG_CONFIG_HOME")
        .filter(|dir| dir.starts_with('/'))
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".config")));
    let candidates = [
        Some(PathBuf::from("/etc/pilothouse/config.toml")),
        user.map(|dir| dir.join("pilothouse/config.toml")),
        Some(PathBuf::from("pilothouse.toml")),
    ];
    let mut layers = Vec::new();
    let mut problems = Vec::new();
    for path in candidates.into_iter().flatten() {
        match host::fs::read_text(&path, MAX_FILE) {
            Ok(text) => match parse(&text, &path) {
                Ok(layer) => layers.push(layer),
                Err(error) => problems.extend(error.problems),
            },
            Err(error) if error.is_not_found() => {}
            Err(error) => problems.push(crate::causes::chain(&error)),
        }
    }
    if problems.is_empty() { Ok(layers) } else { Err(ConfigError { problems }) }
}

/// Variables such as `PILOTHOUSE_SERVER__LISTEN`.
pub(crate) fn environment() -> Result<Layer, ConfigError> {
    let names = host::env::names_with_prefix(PREFIX);
    of_variables(names.iter().filter_map(|name| host::env::var(name).map(|value| (name.as_str(), value))))
}

pub(super) fn of_variables<'v>(variables: impl IntoIterator<Item = (&'v str, String)>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    let mut problems = Vec::new();
    for (variable, text) in variables {
        if OTHERS.contains(&variable) || OTHER_PREFIXES.iter().any(|prefix| variable.starts_with(prefix)) {
            continue;
        }
        let name = match ALIASES.iter().find(|(alias, _)| *alias == variable) {
            Some((_, name)) => (*name).to_owned(),
            None => variable.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", "."),
        };
        let Some(key) = keys::find(&name) else {
            let nearest = keys::nearest(&name).map(variable_of);
            problems.push(unknown(&format!("{variable}: unknown variable"), nearest.as_deref()));
            continue;
        };
        match key.kind.parse(&text) {
            Ok(value) => {
                let setting = Setting { value: absolute(value, None), origin: variable.to_owned() };
                layer.settings.insert(name, setting);
            }
            Err(reason) => problems.push(format!("{variable}: {reason}")),
        }
    }
    if problems.is_empty() { Ok(layer) } else { Err(ConfigError { problems }) }
}

/// The variable that sets a key.
pub(crate) fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.replace('.', "__").to_ascii_uppercase())
}

/// Reads one file; paths in it are relative to where it lies.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Layer, ConfigError> {
    let file = File { text, path, dir: path.parent().map(Path::to_owned).unwrap_or_default() };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<String> = errors
        .iter()
        .map(|error| {
            format!("{}: {}", file.at(error.span().unwrap_or(0..0).start), error.message().replace('\n', ", "))
        })
        .collect();
    let mut layer = Layer::default();
    if problems.is_empty() {
        file.read_table("", document.get_ref(), &mut layer, &mut problems);
    }
    if problems.is_empty() { Ok(layer) } else { Err(ConfigError { problems }) }
}

struct File<'t> {
    text: &'t str,
    path: &'t Path,
    dir: PathBuf,
}

impl File<'_> {
    fn read_table(&self, prefix: &str, table: &DeTable<'_>, layer: &mut Layer, problems: &mut Vec<String>) {
        for (key, value) in table {
            let part = key.get_ref().as_ref();
            let name = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}.{part}") };
            let at = self.at(key.span().start);
            if let (None, DeValue::Table(inner)) = (keys::find(&name), value.get_ref()) {
                self.read_table(&name, inner, layer, problems);
                continue;
            }
            let Some(known) = keys::find(&name) else {
                let shown = domain::text::printable(&name);
                problems.push(unknown(&format!("{at}: {shown}: unknown key"), keys::nearest(&name)));
                continue;
            };
            match read_value(known.kind, value) {
                Ok(value) => {
                    let setting = Setting { value: absolute(value, Some(&self.dir)), origin: at };
                    layer.settings.insert(name, setting);
                }
                Err(reason) => problems.push(format!("{at}: {name}: {reason}")),
            }
        }
    }

    fn at(&self, place: usize) -> String {
        let before = self.text.as_bytes().get(..place).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }
}

/// A value of the file's own type, where the kind has one, or written as text.
fn read_value(kind: Kind, value: &Spanned<DeValue<'_>>) -> Result<Value, String> {
    match (kind, value.get_ref()) {
        (Kind::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err(format!("not {}", kind.expected())),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Kind::Bool, DeValue::Boolean(truth)) => Ok(Value::Bool(*truth)),
        (Kind::Count { .. } | Kind::Size, DeValue::Integer(number)) => kind.parse(&number.to_string().replace('_', "")),
        (Kind::Bool | Kind::Count { .. } | Kind::List, _) => Err(format!("not {}", kind.expected())),
        (_, DeValue::String(text)) => kind.parse(text),
        _ => Err(format!("not {}", kind.expected())),
    }
}

/// Paths mean the same wherever they are used from.
fn absolute(value: Value, dir: Option<&Path>) -> Value {
    match value {
        Value::Path(path) => {
            let path = match (path.strip_prefix("~"), home()) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => dir.map(|dir| dir.join(&path)).unwrap_or(path),
            };
            Value::Path(std::path::absolute(&path).unwrap_or(path))
        }
        other => other,
    }
}

fn unknown(what: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("{what}, did you mean `{nearest}`?"),
        None => format!("{what}; `pilothouse config show` lists the known ones"),
    }
}

fn home() -> Option<PathBuf> {
    host::env::var("HOME").filter(|home| home.starts_with('/')).map(PathBuf::from)
}

/// `$XDG_DATA_HOME/pilothouse`, or its place in the home directory.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    host::env::var("XDG_DATA_HOME")
        .filter(|dir| dir.starts_with('/'))
        .map(PathBuf::from)
        .or_else(|| home().map(|home| home.join(".local/share")))
        .map(|dir| dir.join("pilothouse"))
}
