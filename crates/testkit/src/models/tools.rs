//! From what a script asks for to the tool that the agent at hand has for it.

use serde_json::{Map, Value, json};

use super::answer::{Block, Call, Input};
use super::asked::Asked;
use super::reply::Reply;

type ShellInput = fn(&str) -> Value;
type WriterInput = fn(&str, &str) -> Value;

/// What an agent calls its shell, and how it wants the command.
const SHELLS: &[(&str, ShellInput)] = &[
    ("exec_command", |command| json!({"cmd": command})),
    ("shell_command", |command| json!({"command": command})),
    ("shell", |command| json!({"command": ["bash", "-lc", command]})),
    ("Bash", |command| json!({"command": command, "description": "scripted"})),
    ("bash", |command| json!({"command": command, "description": "scripted"})),
    ("run_shell_command", |command| json!({"command": command, "description": "scripted"})),
];

/// What an agent calls its tool for writing a file, and how it wants path and text.
const WRITERS: &[(&str, WriterInput)] = &[
    ("Write", |path, text| json!({"file_path": path, "content": text})),
    ("write", |path, text| json!({"filePath": path, "content": text})),
    ("write_file", |path, text| json!({"file_path": path, "content": text})),
];

/// A tool that takes a patch as text.
const PATCHER: &str = "apply_patch";
/// The tools through which an agent asks for a structured answer.
const STRUCTURED: &[&str] = &["StructuredOutput"];

/// What the model says to carry out one part of a reply, or why this agent cannot be asked for it.
pub(super) fn resolve(reply: &Reply, asked: &Asked) -> Result<Block, String> {
    match reply {
        Reply::Text(text) => Ok(Block::Text(text.clone())),
        Reply::Reasoning(text) => Ok(Block::Reasoning(text.clone())),
        Reply::Refusal(text) => Ok(Block::Refusal(text.clone())),
        Reply::Json(value) => Ok(match STRUCTURED.iter().find(|name| asked.offers(name)) {
            Some(name) => call(asked, name, value.clone()),
            None => Block::Text(value.to_string()),
        }),
        Reply::Shell(command) => shell(asked, command),
        Reply::Write { path, text } => write(asked, path, text),
        Reply::Mcp { server, tool, input } => mcp(asked, server, tool, input),
        Reply::Tool { name, input: Value::String(text) } => Ok(Block::Call(Call {
            name: name.clone(),
            namespace: namespace(asked, name),
            input: Input::Text(text.clone()),
        })),
        Reply::Tool { name, input } => Ok(call(asked, name, input.clone())),
    }
}

fn shell(asked: &Asked, command: &str) -> Result<Block, String> {
    let found = SHELLS.iter().find(|(name, _)| asked.offers(name));
    let (name, input) = found.ok_or_else(|| missing(asked, "a shell"))?;
    Ok(call(asked, name, input(command)))
}

fn write(asked: &Asked, path: &str, text: &str) -> Result<Block, String> {
    if let Some((name, input)) = WRITERS.iter().find(|(name, _)| asked.offers(name)) {
        return Ok(call(asked, name, input(path, text)));
    }
    if asked.tools.iter().any(|tool| tool.name == PATCHER && tool.free_form) {
        let lines: String = text.lines().map(|line| format!("+{line}\n")).collect();
        let patch = format!("*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n");
        return Ok(Block::Call(Call { name: PATCHER.to_owned(), namespace: None, input: Input::Text(patch) }));
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    shell(asked, &format!("printf %s {} > {}", quoted(text), quoted(path)))
}

fn mcp(asked: &Asked, server: &str, tool: &str, input: &Map<String, Value>) -> Result<Block, String> {
    let input = Value::Object(input.clone());
    // Some make a plain word of every name.
    let plain = tool.replace('-', "_");
    let names = [
        format!("mcp__{server}__{tool}"),
        format!("mcp_{server}_{tool}"),
        format!("{server}_{tool}"),
        format!("{server}__{tool}"),
        tool.to_owned(),
        plain.clone(),
    ];
    if let Some(name) = names.iter().find(|name| asked.offers(name)) {
        return Ok(call(asked, name, input));
    }
    // Claude Code hides tools behind a search, but takes their full name without one.
    if asked.offers("ToolSearch") {
        return Ok(call(asked, &names[0], input));
    }
    // Codex does the same and groups them by server.
    if asked.offers("tool_search") {
        let namespace = Some(format!("mcp__{server}"));
        return Ok(Block::Call(Call { name: plain, namespace, input: Input::Json(input) }));
    }
    Err(missing(asked, &format!("the tool {tool} of the MCP server {server}")))
}

fn call(asked: &Asked, name: &str, input: Value) -> Block {
    Block::Call(Call { name: name.to_owned(), namespace: namespace(asked, name), input: Input::Json(input) })
}

fn namespace(asked: &Asked, name: &str) -> Option<String> {
    asked.tools.iter().find(|tool| tool.name == name).and_then(|tool| tool.namespace.clone())
}

fn missing(asked: &Asked, what: &str) -> String {
    format!("the script wants {what}, but the agent offers only {}", asked.tool_names().join(", "))
}
