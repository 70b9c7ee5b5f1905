//! The configuration, shown and checked.

use serde_json::json;

use super::Context;
use crate::{
    cli::ConfigCommand,
    config::{Setting, keys, value::Kind},
    failure::Result,
};

pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result {
    match command {
        ConfigCommand::Show { origin } => show(context, *origin),
        // Everything that can be wrong was found while it was loaded.
        ConfigCommand::Check => {
            let checked = json!({ "ok": true });
            context.output.one("config_check", &checked, || "the configuration is valid".to_owned())
        }
    }
}

fn show(context: &Context, origin: bool) -> Result {
    let mut rows = Vec::new();
    for key in keys::KEYS {
        let table = key.name.strip_suffix('*');
        let set: Vec<(&str, &Setting)> = context
            .settings
            .iter()
            .filter(|(name, _)| table.map_or(*name == key.name, |table| name.starts_with(table)))
            .collect();
        for (name, setting) in &set {
            let hidden = key.kind == Kind::Secret;
            let (shown, value) = if hidden {
                ("(hidden)".to_owned(), json!("(hidden)"))
            } else {
                (setting.value.to_string(), setting.value.to_json())
            };
            rows.push(
                json!({ "key": name, "value": value, "shown": shown, "origin": setting.origin, "about": key.about }),
            );
        }
        if set.is_empty() {
            rows.push(json!({ "key": key.name, "value": null, "shown": "", "origin": "not set", "about": key.about }));
        }
    }
    let head: &[&str] = if origin { &["key", "value", "origin"] } else { &["key", "value", "about"] };
    if context.output.json {
        for row in &mut rows {
            if let Some(row) = row.as_object_mut() {
                row.remove("shown");
            }
        }
    }
    context.output.list("settings", &rows, None, head, |row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        vec![text("key"), text("shown"), text(head[2])]
    })
}
