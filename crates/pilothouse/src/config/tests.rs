use std::path::Path;

use engines::engine::Phase;

use super::{
    Settings, fuzzed,
    keys::{self, KEYS},
    layers::{self, Layer, of_variables},
    value::Value,
};

fn file(text: &str) -> Result<Layer, String> {
    layers::parse(text, Path::new("/etc/pilothouse/config.toml")).map_err(|error| error.to_string())
}

fn variables(variables: &[(&str, &str)]) -> Result<Layer, String> {
    of_variables(variables.iter().map(|(name, value)| (*name, (*value).to_owned()))).map_err(|error| error.to_string())
}

#[test]
fn a_higher_layer_wins_and_says_where_it_is() {
    let machine = file("[server]\nlisten = \"10.0.0.1:1\"\nallowed_hosts = [\"a\"]\n").unwrap();
    let environment = variables(&[("PILOTHOUSE_SERVER__LISTEN", "10.0.0.1:2")]).unwrap();
    let flags = Layer::default().flag("--listen", "server.listen", Some("10.0.0.1:3")).unwrap();

    let origin = |layers: Vec<Layer>| {
        let settings = Settings::merge(layers);
        let setting = settings.iter().find(|(name, _)| *name == "server.listen").unwrap().1.clone();
        (setting.value.to_string(), setting.origin)
    };

    let case = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin(vec![]), case("127.0.0.1:8010", "default"));
    assert_eq!(origin(vec![machine.clone()]), case("10.0.0.1:1", "/etc/pilothouse/config.toml:2"));
    assert_eq!(origin(vec![machine.clone(), environment.clone()]), case("10.0.0.1:2", "PILOTHOUSE_SERVER__LISTEN"));
    assert_eq!(origin(vec![machine, environment, flags]), case("10.0.0.1:3", "--listen"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
    let refused = file("[server]\nlisten = \"127.0.0.1:1\"\n\n[server.limits]\nmax_bodi_bytes = 7\n").unwrap_err();
    assert_eq!(
        refused,
        "/etc/pilothouse/config.toml:5: server.limits.max_bodi_bytes: unknown key, did you mean \
         `server.limits.max_body_bytes`?"
    );

    let refused = file("listen = \"127.0.0.1:1\"\n").unwrap_err();
    assert_eq!(refused, "/etc/pilothouse/config.toml:1: listen: unknown key, did you mean `server.listen`?");

    let refused = variables(&[("PILOTHOUSE_SERVER__LISTN", "x")]).unwrap_err();
    assert_eq!(refused, "PILOTHOUSE_SERVER__LISTN: unknown variable, did you mean `PILOTHOUSE_SERVER__LISTEN`?");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let refused = file("dev_channel = \"yes\"\nlog.format = \"xml\"\nserver.listen = 8010\n").unwrap_err();

    assert_eq!(refused.lines().count(), 3, "{refused}");
    assert!(refused.contains("dev_channel: not true or false"), "{refused}");
    assert!(refused.contains("log.format: not one of text, json"), "{refused}");
    assert!(refused.contains("server.listen: not ADDRESS:PORT"), "{refused}");
    assert!(file("a = = 1").unwrap_err().starts_with("/etc/pilothouse/config.toml:1: "));
}

#[test]
fn values_have_units() {
    let settings = Settings::merge([file(
        "worker.lease = \"1m\"\nserver.limits.max_body_bytes = \"2MiB\"\nserver.limits.max_url_bytes = 100\n\
         worker.caps.per_engine.codex = 2\nserver.limits.requests_per_minute_per_token = 0\n",
    )
    .unwrap()]);

    let limits = settings.limits();
    assert_eq!((limits.max_body_bytes, limits.max_url_bytes), (2 << 20, 100));
    assert_eq!(limits.requests_per_minute_per_token, Some(0));
    let worker = settings.worker("/d".into(), "/e".into());
    assert_eq!(worker.lease.as_secs(), 60);
    assert_eq!(worker.caps.per_engine.get("codex"), Some(&2));
}

#[test]
fn a_lease_has_room_for_its_heartbeats() {
    let refused = file("worker.lease = \"499ms\"").unwrap_err();
    assert!(refused.contains("worker.lease: not a span such as 30s or 15m, from 500ms on"), "{refused}");

    let least = Settings::merge([file("worker.lease = \"500ms\"").unwrap()]);
    assert_eq!(least.worker("/d".into(), "/e".into()).lease.as_millis(), 500);
}

#[test]
fn nothing_said_is_what_the_crates_say() {
    let settings = Settings::merge([]);

    assert_eq!(settings.limits(), server::Limits::default());
    let (ours, theirs) = (settings.worker("/d".into(), "/e".into()), worker::WorkerConfig::new("/d", "/e"));
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn a_path_in_a_file_is_relative_to_the_file() {
    let settings = Settings::merge([file("jobs = \"jobs.toml\"").unwrap()]);

    assert_eq!(settings.get("jobs"), Some(&Value::Path("/etc/pilothouse/jobs.toml".into())));
}

#[test]
fn every_key_stands_once_in_order_and_is_found_by_its_variable() {
    for pair in KEYS.windows(2) {
        assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
    }
    for key in KEYS {
        let name = key.name.replace('*', "codex");
        let variable = layers::variable_of(&name);
        let read = variable.trim_start_matches("PILOTHOUSE_").to_ascii_lowercase().replace("__", ".");
        assert_eq!(keys::find(&read).map(|found| found.name), Some(key.name));
        assert!(!key.about.is_empty());
    }
}

#[test]
fn variables_of_tests_and_of_the_client_are_no_keys() {
    let layer = variables(&[
        ("PILOTHOUSE_TEST_POSTGRES_URL", "x"),
        ("PILOTHOUSE_TOKEN", "x"),
        ("PILOTHOUSE_SERVER_URL", "x"),
        ("PILOTHOUSE_LOG", "debug"),
    ])
    .unwrap();

    assert_eq!(layer.settings.keys().collect::<Vec<_>>(), ["log.filter"]);
}

#[test]
fn engines_are_configured_by_name_and_agents_by_their_command() {
    let text = "[engines.codex]\ncommand = [\"/opt/codex\"]\nbase_url = \"http://127.0.0.1:1/v1\"\nmax_turns = 5\n\
                [engines.goose]\nacp = [\"goose\", \"acp\"]\nkey_env = \"GOOSE_KEY\"\nallowed_tools = [\"read\"]\n";
    let table = Settings::merge([file(text).unwrap()]).engines();

    let codex = table.find("codex").unwrap();
    assert_eq!((codex.program(), codex.max_turns), (Some("/opt/codex"), Some(5)));
    assert_eq!(codex.endpoint().base_url.as_deref(), Some("http://127.0.0.1:1/v1"));
    let goose = table.find("goose").unwrap();
    assert_eq!((goose.engine, goose.command.join(" ")), (engines::engine::Engine::Acp, "goose acp".to_owned()));
    assert_eq!((goose.key_variable(), goose.allowed_tools.len()), (Some("GOOSE_KEY"), 1));
    // What nothing is said of is there all the same.
    assert_eq!(table.find("claude").unwrap().program(), Some("claude"));
}

#[test]
fn engines_that_cannot_be_meant_are_refused() {
    let problems = |text: &str| Settings::merge([file(text).unwrap()]).engine_problems().join("\n");

    assert_eq!(problems("[engines.claude]\nmodel = \"opus\"\n"), "");
    assert!(problems("[engines.cluade]\nmodel = \"opus\"\n").contains("engines.cluade: there is no such engine"));
    assert!(problems("[engines.codex]\nacp = [\"x\"]\n").contains("an adapter has this name"));
    assert!(problems("[engines.x]\nacp = []\n").contains("there is no command"));
    for engine in ["shell", "scripted", "codemachine"] {
        let problem = problems(&format!("[engines.{engine}]\nallowed_tools = [\"Read\"]\n"));
        assert!(problem.contains(&format!("engines.{engine}.allowed_tools: this engine cannot be held")), "{problem}");
    }
    assert_eq!(problems("[engines.gemini]\nallowed_tools = [\"read_file\"]\n"), "");
    assert!(file("[engines.codex]\nkey = \"sk-1\"\n").unwrap_err().contains("engines.codex.key: unknown key"));
}

#[test]
fn servers_of_tools_are_given_to_the_engines_and_the_work_that_they_are_for() {
    let text = "[engines.goose]\nacp = [\"goose\"]\n\
                [mcp.docs]\ncommand = [\"docs-mcp\", \"--stdio\"]\nenv = [\"DOCS_TOKEN\"]\ntools = [\"find\"]\n\
                engines = [\"codex\", \"claude\"]\nprojects = [\"web\"]\n\
                [mcp.tracker]\nurl = \"http://127.0.0.1:9/mcp\"\ntoken_env = \"TRACKER\"\nphases = [\"planning\"]\n";
    let settings = Settings::merge([file(text).unwrap()]);
    let table = settings.engines();
    assert_eq!(settings.server_problems(&table), Vec::<String>::new());

    let names = |engine: &str| -> Vec<String> {
        table.require(engine).unwrap().servers.iter().map(|offer| offer.server.name.clone()).collect()
    };
    assert_eq!(names("codex"), ["docs", "tracker"]);
    assert_eq!((names("goose"), names("shell")), (vec!["tracker".to_owned()], vec![]));
    let offers = &table.require("codex").unwrap().servers;
    assert!(offers[0].is_for(Phase::Work, "web") && !offers[0].is_for(Phase::Work, "other"));
    assert!(offers[1].is_for(Phase::Plan, "any") && !offers[1].is_for(Phase::Work, "any"));
    assert_eq!(
        (offers[0].env.as_slice(), offers[0].server.tools.as_slice()),
        (&["DOCS_TOKEN".to_owned()][..], &["find".to_owned()][..])
    );
}

#[test]
fn servers_that_cannot_be_meant_are_refused() {
    let problems = |text: &str| {
        let settings = Settings::merge([file(text).unwrap()]);
        settings.server_problems(&settings.engines()).join("\n")
    };
    let server = |rest: &str| problems(&format!("[mcp.docs]\ncommand = [\"x\"]\n{rest}\n"));
    let at =
        |url: &str, rest: &str| problems(&format!("{rest}\n[mcp.docs]\nurl = \"{url}\"\nengines = [\"claude\"]\n"));
    assert_eq!(server(""), "");
    assert!(problems("[mcp.docs]\ntools = [\"a\"]\n").contains("name the server's `command`, or its `url`"));
    assert!(server("url = \"http://x\"").contains("not both"));
    assert!(server("token_env = \"X\"").contains("only an address takes a token"));
    assert!(server("phases = [\"work\"]").contains("there are planning, execution and qa"));
    assert!(server("engines = [\"shell\"]").contains("engine shell takes no servers of tools"));
    assert!(server("engines = [\"codx\"]").contains("there is no engine codx"));
    assert!(server("tools = [\"a b\"]").starts_with("/etc/pilothouse/config.toml:3: mcp.docs.tools: "));
    assert!(problems("[mcp.a__b]\ncommand = [\"x\"]\n").contains("a server's name"));
    assert!(at("ftp://x", "").contains("not a plain http or https address"));
    let kept = "[engines.claude]\nbase_url = \"http://127.0.0.1:1\"";
    assert!(at("https://docs.example", kept).contains("engines.claude.network = \"open\""));
    assert_eq!(at("https://docs.example", &format!("{kept}\nnetwork = \"open\"")), "");
    assert_eq!(at("http://localhost:7/mcp", kept), "");
    let goose = "[engines.goose]\nacp = [\"goose\"]\n[mcp.docs]\ncommand = [\"x\"]\ntools = [\"a\"]\n";
    assert!(problems(goose).contains("engine goose takes all tools"));
    assert!(file("[mcp.docs]\ncomand = [\"x\"]\n").unwrap_err().contains("did you mean"));
}

#[test]
fn a_file_is_read_or_refused_with_its_lines_whatever_is_in_it() {
    let samples = [
        "[server]\nlisten = \"10.0.0.1:1\"\nallowed_hosts = [\"a\", \"b:443\"]\n[server.limits]\nmax_body_bytes = \"2MiB\"\n",
        "worker.lease = \"1m\"\nworker.caps.per_engine.codex = 2\nlog.format = \"json\"\ndev_channel = true\n",
        "[engines.codex]\nmodel = \"m\"\n[mcp.search]\ncommand = [\"npx\", \"-y\", \"s\"]\nenv = { A = \"$B\" }\n",
        "[mcp.web]\nurl = \"https://example.org/mcp\"\nbearer_token_env_var = \"T\"\n",
        "SERVER__LISTEN=127.0.0.1:1",
        "WORKER__CAPS__PER_ENGINE__CODEX=2",
    ];
    let words =
        ["[", "]]", "=", ".", "\"\"\"", "'", "#", "inf", "1e400", "0x", "\u{202e}", "-1", "{", "server.limits."];
    let samples = testkit::fuzz::text::Samples::new(samples, &words);
    testkit::fuzz::Fuzz::new("configuration", 20_000).run(|random, input| {
        samples.draw(random, input);
        let text = String::from_utf8_lossy(input);
        fuzzed::file(&text);
        fuzzed::variable(&text);
        if let Ok(layer) = file(&text) {
            let settings = Settings::merge([layer]);
            drop((settings.engine_problems(), settings.server_problems(&settings.engines())));
        }
    });
}
