//! Every key there is, with its kind and default.

use super::value::Kind;

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Dotted, as in the file's tables. A `*` stands for any one part.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// Caps by engine are keys that end in the engine's id.
pub(crate) const PER_ENGINE: &str = "worker.caps.per_engine.";

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, kind, default, about }
}

const SANDBOX: Kind = Kind::Choice(&["auto", "read-only", "workspace", "full", "off"]);
const ONE_OR_MORE: Kind = Kind::Count { min: 1 };

pub(crate) const KEYS: &[Key] = &[
    key(
        "data_dir",
        Kind::Path,
        None,
        "where the ledger, tokens and attempts lie; $XDG_DATA_HOME/pilothouse when missing",
    ),
    key("database_url", Kind::Secret, None, "postgres://… shared by several nodes; SQLite in data_dir when missing"),
    key("dev_channel", Kind::Bool, Some("false"), "take messages of the development channel, on loopback only"),
    key(
        "engines.*.acp",
        Kind::List,
        None,
        "the command line of an agent that speaks ACP: makes an engine of this name",
    ),
    key(
        "engines.*.allowed_tools",
        Kind::List,
        None,
        "the tools that the engine may use unasked; what its work needs when missing",
    ),
    key(
        "engines.*.ask_approvers",
        Kind::List,
        None,
        "who may answer what the engine asks, as `user:NAME` and the like; whoever may decide gates when missing",
    ),
    key("engines.*.ask_quorum", ONE_OR_MORE, None, "how many of them have to say yes; 1 when missing"),
    key("engines.*.ask_timeout", Kind::Duration, None, "after which the answer is no; 30m when missing"),
    key("engines.*.base_url", Kind::Text, None, "where the engine finds its model; its own default when missing"),
    key(
        "engines.*.broker",
        Kind::Bool,
        None,
        "whether a broker of ours stands between the engine and its model: it has the key, the engine has not",
    ),
    key(
        "engines.*.command",
        Kind::List,
        None,
        "the program and what stands before our arguments; found in PATH when missing",
    ),
    key("engines.*.effort", Kind::Text, None, "how hard the model thinks, in the engine's own word"),
    key("engines.*.extra_args", Kind::List, None, "arguments behind ours"),
    key("engines.*.key_env", Kind::Text, None, "the variable of the worker's environment that holds the model's key"),
    key("engines.*.max_turns", ONE_OR_MORE, None, "after how many turns the engine stops, where it counts them"),
    key(
        "engines.*.mode",
        Kind::Choice(&["exec", "app-server"]),
        None,
        "codex only: how it is run; exec when missing, app-server wherever it may ask",
    ),
    key("engines.*.model", Kind::Text, None, "the model, where neither step nor project names one"),
    key(
        "engines.*.network",
        Kind::Choice(&["model", "open"]),
        None,
        "whom its sandbox reaches: its model alone, where that is on this machine or behind the broker, or whatever \
         sandbox.network allows; model when missing",
    ),
    key(
        "engines.*.permissions",
        Kind::Choice(&["deny", "ask", "allow"]),
        None,
        "what becomes of tools that are not allowed: denied, put to people as a gate, or allowed; deny when missing",
    ),
    key("engines.*.readable", Kind::List, None, "what else of this machine its sandbox shows"),
    key(
        "engines.*.token_budget",
        ONE_OR_MORE,
        None,
        "how many tokens one attempt may read and write together; needs the broker",
    ),
    key("engines.*.writable", Kind::List, None, "what else its sandbox lets it write, shared by all of its attempts"),
    key("jobs", Kind::Path, None, "the job catalog; jobs.toml in data_dir when it is there"),
    key("log.filter", Kind::Text, Some("info"), "what is logged, such as `info,worker=debug`"),
    key("log.format", Kind::Choice(&["text", "json"]), Some("text"), "how a line of the log looks"),
    key("mcp.*.command", Kind::List, None, "the command line of an MCP server that engines start for themselves"),
    key("mcp.*.engines", Kind::List, None, "the engines that are given it; all that take one when missing"),
    key("mcp.*.env", Kind::List, None, "the variables of the worker's environment that its program is given"),
    key(
        "mcp.*.phases",
        Kind::List,
        None,
        "the work that it is for: planning, execution, qa; execution alone when missing",
    ),
    key("mcp.*.projects", Kind::List, None, "the projects whose work it is for; all when missing"),
    key("mcp.*.token_env", Kind::Text, None, "the variable of the worker's environment that holds its bearer token"),
    key("mcp.*.tools", Kind::List, None, "those of its tools that may be used; all when missing"),
    key("mcp.*.url", Kind::Text, None, "the address of an MCP server that runs already (streamable HTTP)"),
    key(
        "repos.allow_local",
        Kind::List,
        None,
        "directories whose repositories projects may use; on loopback `up` allows the user's own",
    ),
    key(
        "retention.artifacts",
        Kind::Duration,
        Some("30d"),
        "how long what finished attempts printed and left is kept on the machine they ran on",
    ),
    key("retention.dedup", Kind::Duration, Some("30d"), "how long a repeated message is recognised"),
    key("retention.idempotency", Kind::Duration, Some("24h"), "how long an Idempotency-Key replays its answer"),
    key("retention.tasks", Kind::Duration, Some("7d"), "how long finished tasks are kept"),
    key("sandbox.bubblewrap", Kind::Bool, Some("true"), "use bubblewrap where it is; Landlock where it is not"),
    key(
        "sandbox.checks",
        SANDBOX,
        Some("auto"),
        "what checks may see and change; auto is workspace where this machine can do that, else off",
    ),
    key("sandbox.engines", SANDBOX, Some("auto"), "the same for engines"),
    key("sandbox.memory", Kind::Size, None, "how much memory one attempt may hold; no limit when missing"),
    key("sandbox.network", Kind::Bool, Some("true"), "whether engines and checks may reach the network"),
    key("sandbox.processes", ONE_OR_MORE, Some("4096"), "how many processes one attempt may have at once"),
    key("sandbox.readable", Kind::List, Some(""), "what else of this machine a sandbox shows, such as tools in /opt"),
    key(
        "server.allowed_hosts",
        Kind::List,
        Some(""),
        "names besides those of loopback that requests may be addressed to",
    ),
    key("server.limits.body_read", Kind::Duration, Some("30s"), "how long a request body may take"),
    key("server.limits.handler", Kind::Duration, Some("30s"), "how long a request may take"),
    key("server.limits.header_read", Kind::Duration, Some("5s"), "how long a request's headers may take"),
    key("server.limits.max_body_bytes", Kind::Size, Some("1MiB"), "the largest request body"),
    key("server.limits.max_connections", ONE_OR_MORE, Some("1024"), "connections at once"),
    key("server.limits.max_connections_per_peer", ONE_OR_MORE, Some("64"), "connections at once from one address"),
    key("server.limits.max_header_bytes", Kind::Size, Some("32KiB"), "the largest headers of a request"),
    key("server.limits.max_headers", ONE_OR_MORE, Some("64"), "the most headers of a request"),
    key("server.limits.max_json_depth", ONE_OR_MORE, Some("64"), "the most levels of a JSON document"),
    key("server.limits.max_streams_per_person", ONE_OR_MORE, Some("4"), "event streams and followed logs at once"),
    key("server.limits.max_url_bytes", Kind::Size, Some("8KiB"), "the longest path and query"),
    key(
        "server.limits.requests_per_minute_per_token",
        Kind::Count { min: 0 },
        None,
        "0 is off; off on loopback and 600 elsewhere when missing",
    ),
    key("server.limits.shutdown", Kind::Duration, Some("10s"), "how long requests under way may take at the end"),
    key("server.limits.stream_heartbeat", Kind::Duration, Some("15s"), "how often a silent stream says that it lives"),
    key("server.limits.stream_idle", Kind::Duration, Some("60s"), "how long a reader may take nothing"),
    key("server.listen", Kind::Address, Some("127.0.0.1:8010"), "ADDRESS:PORT to listen on"),
    key(
        "server.metrics_listen",
        Kind::Address,
        None,
        "ADDRESS:PORT that answers /metrics and /health without a token, under any name; workers have no other",
    ),
    key(
        "telemetry.otlp_endpoint",
        Kind::Text,
        None,
        "the HTTP address of a collector of OpenTelemetry traces, such as http://127.0.0.1:4318; none are made when missing",
    ),
    key("telemetry.sample_percent", Kind::Count { min: 0 }, Some("100"), "how many of a hundred new traces are kept"),
    key("worker.caps.per_engine.*", ONE_OR_MORE, None, "runs of one engine at once, over all nodes"),
    key("worker.caps.per_project", ONE_OR_MORE, None, "engines of one project at once, over all nodes"),
    key("worker.caps.total", ONE_OR_MORE, None, "engines and jobs at once, over all nodes"),
    key("worker.drain", Kind::Duration, Some("10s"), "how long a stop waits for work under way"),
    key("worker.engine_idle", Kind::Duration, Some("15m"), "how long an engine may be silent"),
    key("worker.engine_slots", ONE_OR_MORE, Some("8"), "engines and jobs at once in this process"),
    key("worker.engine_stall", Kind::Duration, Some("3m"), "how long an engine may only wait for its model"),
    key("worker.engine_wall", Kind::Duration, Some("1h"), "how long one run of an engine may take"),
    key("worker.fast_slots", ONE_OR_MORE, Some("1536"), "other tasks at once in this process"),
    key(
        "worker.lease",
        // Three heartbeats have to fit into it, each with its way to the database and back.
        Kind::DurationFrom { min_ms: 500 },
        Some("30s"),
        "PostgreSQL: how long a claim lasts without a heartbeat; 500ms at least",
    ),
    key("worker.outlive", Kind::Duration, Some("30s"), "SQLite: how long work lives on when its worker is gone"),
];

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let (known, asked) = (key.name.split('.'), name.split('.'));
        known.clone().count() == asked.clone().count()
            && known.zip(asked).all(|(known, asked)| known == asked || known == "*" && !asked.is_empty())
    })
}

/// The key that was probably meant: by its whole name, or by its last part when that is unmistakable.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let typed = name.rsplit('.').next().unwrap_or(name);
    KEYS.iter()
        .map(|key| key.name)
        .find(|known| last(known) == typed)
        .or_else(|| domain::catalog::nearest(name, KEYS.iter().map(|key| key.name)))
}
