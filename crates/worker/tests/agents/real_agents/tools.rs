//! Servers of tools: a real one, by its standard input and over HTTP.

use engines::engine::{Key, McpOffer, McpServer, Phase, Transport};
use host::process::{self, Command};
use serde_json::{Map, Value, json};
use testkit::{
    agents::Agents,
    models::{Reply, Rule, Scenario},
};

use super::{
    agent::Agent,
    house::{House, TASK},
};

const SECRET: &str = "key-of-the-docs";

/// Calls a tool of the server `docs`, and goes on with what it answered.
fn calling(tool: &str, input: Value) -> Scenario {
    let Value::Object(input) = input else { panic!("{input}") };
    Scenario::new()
        .rule(Rule::at(TASK, 0).reply([Reply::mcp("docs", tool, input)]))
        .rule(Rule::at(TASK, 1).reply([Reply::write("made.txt", "42\n")]))
        .rule(Rule::on(TASK).reply([Reply::text("The answer is there.")]))
}

fn offer(transport: Transport) -> McpOffer {
    McpOffer {
        server: McpServer::new("docs", transport),
        env: Vec::new(),
        token_env: None,
        phases: vec![Phase::Setup, Phase::Work],
        projects: Vec::new(),
    }
}

fn program() -> McpOffer {
    let command = Agents::installed().mcp_server();
    let args = [&command[1..], &["stdio".to_owned()]].concat();
    let env = vec![Key::new("DOCS_KEY", SECRET)];
    McpOffer { env: vec!["DOCS_KEY".into()], ..offer(Transport::Stdio { command: command[0].clone(), args, env }) }
}

/// The engine starts the server in its own sandbox, with the variables that it was given, and calls it unasked.
pub(crate) async fn its_server_of_tools_answers(agent: Agent) {
    let house = House::new(agent, calling("get-env", json!({}))).await.served(program());
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    // What the server said went to the model, and is nowhere in what is kept of the attempt.
    let told = house.model.asked().iter().any(|asked| asked.tool_output().contains(SECRET));
    assert!(told, "{:#?}", house.model.asked());
    assert!(!house.kept().contains(SECRET), "the server's key is in the transcript");
    worker.drain().await;
    house.empty().await;
}

/// A server of this machine is reached from a sandbox that else reaches the model alone.
pub(crate) async fn its_server_over_http_is_reached_from_its_sandbox(agent: Agent) {
    let port = host::net::free_port().unwrap();
    let command = Agents::installed().mcp_server();
    let server = Command::new(&command[0])
        .args(command[1..].iter().cloned())
        .arg("streamableHttp")
        .env("PORT", port.to_string())
        .timeout(std::time::Duration::from_secs(600));
    let url = format!("http://127.0.0.1:{port}/mcp");
    let used = async {
        let offer = offer(Transport::Http { url, token: None });
        let house = House::new(agent, calling("echo", json!({"message": "through the wall"}))).await.served(offer);
        house.wait("the server to listen", async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        let worker = house.worker().await;

        let id = house.execute().await;

        house.expect(id, "completed").await;
        let answered = |asked: &testkit::models::Asked| asked.tool_output().contains("through the wall");
        assert!(house.model.asked().iter().any(answered), "{:#?}", house.model.asked());
        let held = &house.event(id, "attempt_contained").await["fact"]["contained"]["sandbox"]["network"];
        assert_eq!(held, &json!("endpoints"));
        worker.drain().await;
        house.empty().await;
    };
    tokio::select! {
        ended = process::run(server) => panic!("the server is gone: {ended:?}"),
        () = used => {}
    }
}

/// Only the tools that were named are offered, or else refused when they are called.
pub(crate) async fn it_is_kept_to_the_tools_that_were_named(agent: Agent) {
    // Claude Code offers them all and refuses.
    let other = match agent {
        Agent::Claude => Reply::tool("mcp__docs__get-env", Value::Object(Map::new())),
        _ => Reply::text("It is not there."),
    };
    let input = Map::from_iter([("message".to_owned(), json!("named"))]);
    let scenario = Scenario::new()
        .rule(Rule::at(TASK, 0).reply([Reply::mcp("docs", "echo", input)]))
        .rule(Rule::at(TASK, 1).reply([Reply::write("made.txt", "42\n")]))
        .rule(Rule::at(TASK, 2).reply([other]))
        .rule(Rule::on(TASK).reply([Reply::text("The answer is there.")]));
    let mut offer = program();
    offer.server.tools = vec!["echo".to_owned()];
    let house = House::new(agent, scenario).await.served(offer);
    let worker = house.worker().await;

    let id = house.execute().await;

    house.expect(id, "completed").await;
    let asked = house.model.asked();
    assert!(asked.iter().any(|asked| asked.tool_output().contains("named")), "{asked:#?}");
    assert!(!asked.iter().any(|asked| asked.tool_output().contains(SECRET)), "{asked:#?}");
    let offers = |asked: &testkit::models::Asked| asked.tool_names().iter().any(|name| name.contains("get-env"));
    assert!(agent == Agent::Claude || !asked.iter().any(offers), "{asked:#?}");
    worker.drain().await;
    house.empty().await;
}

/// A server that is not there is a reason to say so, not to work on without.
pub(crate) async fn without_its_server_it_does_not_begin(agent: Agent) {
    let missing = offer(Transport::Stdio { command: "no-such-mcp".into(), args: Vec::new(), env: Vec::new() });
    let house = House::new(agent, Scenario::new()).await.served(missing);
    let worker = house.worker().await;

    let id = house.execute().await;

    let failure = super::house::failure_of(&house.expect(id, "blocked").await);
    assert_eq!(failure.code, "engine_unavailable");
    assert!(failure.why.contains("MCP server docs: there is no program no-such-mcp"), "{failure:?}");
    assert!(house.model.asked().is_empty());
    worker.drain().await;
}
