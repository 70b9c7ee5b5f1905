//! The `params` table: what a job may be told, and which values it accepts.

use toml::de::DeValue;

use super::{
    load::{missing, one_line},
    nearest::nearest,
    param::{DEFAULT_LENGTH, MAX_LENGTH, Param, ParamKind, Pattern},
    problem::{Report, WarningKind},
    section::{Item, Keys, Section, expected, integer},
};
use crate::{grammar, text};

const PARAM_KEYS: Keys = Keys {
    known: &["type", "values", "min", "max", "pattern", "max_length", "required", "default"],
    later: &["required_if", "from"],
};

pub(super) fn load_params(section: &Section<'_>, report: &mut Report<'_>) -> Vec<Item<Param>> {
    let mut params: Vec<Item<Param>> = Vec::new();
    for (key, value) in section.entries() {
        let is_name = key.value.starts_with(|c: char| c.is_ascii_alphabetic()) && grammar::is_key(key.value);
        if !is_name || key.value.len() > 64 {
            report.problem(&key.place, &key.path, "a parameter's name is a letter, then letters, digits, `_` and `-`");
        }
        if params.iter().any(|other| other.value.name.eq_ignore_ascii_case(key.value)) {
            report.problem(&key.place, &key.path, "there is such a parameter already: case makes no difference");
        }
        match value.get_ref() {
            DeValue::Table(table) => {
                let param = Section::new(key.path.clone(), key.place.clone(), table);
                if let Some(value) = load_param(key.value, &param, report) {
                    params.push(Item { value, place: key.place, path: key.path });
                }
            }
            other => report.problem(&value.span(), &key.path, expected("a table such as { type = \"string\" }", other)),
        }
    }
    params
}

fn load_param(name: &str, section: &Section<'_>, report: &mut Report<'_>) -> Option<Param> {
    section.check_keys(&PARAM_KEYS, |_| None, report);
    let kind = load_kind(section, report);
    let required = section.boolean("required", report);
    let kind = kind?;
    let default = match section.value("default") {
        Some(default) => Some(load_default(&kind, &default, report)?),
        None => None,
    };
    if required == Some(true) && default.is_some() {
        let message = "a required parameter is always given: its default is never used";
        report.warning(WarningKind::UselessDefault, &section.place, &section.path, message);
    }
    let required = required.unwrap_or(default.is_none());
    Some(Param { name: name.to_owned(), kind, required, default })
}

fn load_kind(section: &Section<'_>, report: &mut Report<'_>) -> Option<ParamKind> {
    if !section.has("type") {
        return missing(section, "type", report);
    }
    let name = section.text("type", report)?;
    let allowed: &[&str] = match name.value.as_str() {
        "enum" => &["values"],
        "int" => &["min", "max"],
        "string" => &["pattern", "max_length"],
        "bool" => &[],
        "secret" => {
            report.problem(&name.place, &name.path, "parameters of type `secret` are not available yet");
            return None;
        }
        other => {
            let nearest = nearest(other, ["enum", "int", "string", "bool"]);
            report.nearest_problem(&name.place, &name.path, "expected enum, int, string or bool", nearest);
            return None;
        }
    };
    for key in ["values", "min", "max", "pattern", "max_length"] {
        if section.has(key) && !allowed.contains(&key) {
            let message = format!("a parameter of type {} has no `{key}`", name.value);
            report.problem(&section.place, &section.path_of(key), message);
        }
    }
    match name.value.as_str() {
        "enum" => load_enum(section, report),
        "int" => load_int(section, report),
        "string" => load_string(section, report),
        _ => Some(ParamKind::Bool),
    }
}

fn load_enum(section: &Section<'_>, report: &mut Report<'_>) -> Option<ParamKind> {
    if !section.has("values") {
        return missing(section, "values", report);
    }
    let mut values: Vec<String> = Vec::new();
    for value in section.texts("values", report)? {
        let value = one_line(value, report)?;
        if values.iter().any(|other| other.eq_ignore_ascii_case(&value.value)) {
            let message = format!("`{}` stands there twice: case makes no difference", value.value);
            report.problem(&value.place, &value.path, message);
        }
        values.push(value.value);
    }
    if values.is_empty() {
        report.problem(&section.place, &section.path_of("values"), "needs at least one value");
        return None;
    }
    Some(ParamKind::Enum { values })
}

fn load_int(section: &Section<'_>, report: &mut Report<'_>) -> Option<ParamKind> {
    let min = section.integer("min", report).map(|item| item.value);
    let max = section.integer("max", report);
    if let (Some(min), Some(max)) = (min, &max)
        && min > max.value
    {
        report.problem(&max.place, &max.path, "`max` is less than `min`");
        return None;
    }
    Some(ParamKind::Int { min, max: max.map(|item| item.value) })
}

fn load_string(section: &Section<'_>, report: &mut Report<'_>) -> Option<ParamKind> {
    let pattern = match section.text("pattern", report) {
        None => None,
        Some(source) => match Pattern::compile(&source.value) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                report.problem(&source.place, &source.path, format!("bad pattern: {}", text::printable(&error)));
                return None;
            }
        },
    };
    let max_length = match section.integer("max_length", report) {
        None => DEFAULT_LENGTH,
        Some(item) => match usize::try_from(item.value) {
            Ok(length) if (1..=MAX_LENGTH).contains(&length) => length,
            _ => {
                report.problem(&item.place, &item.path, format!("expected 1 to {MAX_LENGTH}"));
                return None;
            }
        },
    };
    Some(ParamKind::String { pattern, max_length })
}

fn load_default(kind: &ParamKind, item: &Item<&DeValue<'_>>, report: &mut Report<'_>) -> Option<String> {
    let written = match (kind, item.value) {
        (ParamKind::Bool, DeValue::Boolean(boolean)) => Some(boolean.to_string()),
        (ParamKind::Int { .. }, value) => integer(value).map(|number| number.to_string()),
        (ParamKind::Enum { .. } | ParamKind::String { .. }, DeValue::String(text)) => Some(text.clone().into_owned()),
        _ => None,
    };
    let default = written.and_then(|value| kind.canonical(&value));
    if default.is_none() {
        report.problem(&item.place, &item.path, format!("expected {}", kind.expected()));
    }
    default
}
