//! One part of what the model says.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One part of a reply. What asks for a tool is translated to the tool that the agent really offers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    Text(String),
    Reasoning(String),
    /// The structured answer: through the tool that the agent has for it, otherwise as text.
    Json(Value),
    /// The model will not do it.
    Refusal(String),
    /// A command for the agent's own shell tool.
    Shell(String),
    /// A file, by the agent's own tool for it; by its shell where it has none.
    Write {
        path: String,
        text: String,
    },
    /// A tool of an MCP server, under whatever name this agent gives it.
    Mcp {
        server: String,
        tool: String,
        #[serde(default)]
        input: Map<String, Value>,
    },
    /// Any tool by the name it is offered under.
    Tool {
        name: String,
        #[serde(default)]
        input: Value,
    },
}

impl Reply {
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub fn reasoning(text: &str) -> Self {
        Self::Reasoning(text.to_owned())
    }

    pub fn json(value: Value) -> Self {
        Self::Json(value)
    }

    pub fn refusal(text: &str) -> Self {
        Self::Refusal(text.to_owned())
    }

    pub fn shell(command: &str) -> Self {
        Self::Shell(command.to_owned())
    }

    pub fn write(path: &str, text: &str) -> Self {
        Self::Write { path: path.to_owned(), text: text.to_owned() }
    }

    pub fn mcp(server: &str, tool: &str, input: Map<String, Value>) -> Self {
        Self::Mcp { server: server.to_owned(), tool: tool.to_owned(), input }
    }

    pub fn tool(name: &str, input: Value) -> Self {
        Self::Tool { name: name.to_owned(), input }
    }

    /// The same with `{{0}}`, `{{1}}` … replaced by the prompt's match and its groups.
    pub(super) fn filled(&self, groups: &[String]) -> Self {
        let fill = |text: &String| fill(text, groups);
        let fill_map = |map: &Map<String, Value>| match fill_value(&Value::Object(map.clone()), groups) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        match self {
            Self::Text(text) => Self::Text(fill(text)),
            Self::Reasoning(text) => Self::Reasoning(fill(text)),
            Self::Json(value) => Self::Json(fill_value(value, groups)),
            Self::Refusal(text) => Self::Refusal(fill(text)),
            Self::Shell(command) => Self::Shell(fill(command)),
            Self::Write { path, text } => Self::Write { path: fill(path), text: fill(text) },
            Self::Mcp { server, tool, input } => {
                Self::Mcp { server: server.clone(), tool: tool.clone(), input: fill_map(input) }
            }
            Self::Tool { name, input } => Self::Tool { name: name.clone(), input: fill_value(input, groups) },
        }
    }
}

fn fill(text: &str, groups: &[String]) -> String {
    let numbered = groups.iter().enumerate();
    numbered.fold(text.to_owned(), |text, (number, group)| text.replace(&format!("{{{{{number}}}}}"), group))
}

fn fill_value(value: &Value, groups: &[String]) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, groups)),
        Value::Array(items) => items.iter().map(|item| fill_value(item, groups)).collect(),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, value)| (name.clone(), fill_value(value, groups)));
            Value::Object(filled.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}
