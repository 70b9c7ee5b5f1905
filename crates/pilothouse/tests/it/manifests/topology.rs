//! What compose and Kubernetes describe, run without containers: the same arguments and variables, the same first
//! token, one PostgreSQL, every node with a data directory of its own.
#![expect(clippy::disallowed_methods, reason = "these tests drive the product from outside, as its users do")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use serde_json::Value;

use super::{
    containers::{Container, POD_IP, pods, texts},
    files::{self, BASE, COMPOSE},
};
use crate::{
    house::{House, Ran},
    node::{Ledger, Node},
};

/// A house with the settings of the manifests in it, over a database of its own.
struct Site {
    house: House,
    ledger: Ledger,
}

impl Site {
    fn new() -> Self {
        let (house, ledger) = (House::new(), Ledger::new());
        let etc = house.path().join("etc/pilothouse");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("config.toml"), format!("database_url = {:?}\n", ledger.url)).unwrap();
        std::fs::copy(files::at(&format!("{BASE}/jobs.toml")), etc.join("jobs.toml")).unwrap();
        Self { house, ledger }
    }

    /// Where a container listens, once it does.
    fn address(&self, container: &Container, node: &Node) -> String {
        let left = self.house.path().join(&container.name).join("data/endpoint.json");
        self.house.wait_for(&container.name, |_| left.exists() || node.log().contains("error: "));
        assert!(left.exists(), "{} did not start: {}", container.name, node.log());
        let endpoint: Value = serde_json::from_str(&std::fs::read_to_string(left).unwrap()).unwrap();
        endpoint["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned()
    }

    /// A command of somebody with the first token, to the node at this address.
    fn command(&self, address: &str, token: &str, args: &[&str]) -> Value {
        let server = format!("http://{address}");
        let mut command = self.house.command(&[&["--server", &server, "--json"], args].concat());
        let ran = Ran::of(command.env("PILOTHOUSE_TOKEN", token).output().unwrap());
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Asks one node for a job, approves it there, and waits for its end at another.
    fn run_a_job(&self, asked: &str, seen: &str, token: &str) {
        let run = self.command(asked, token, &["run", "hello", "name=Ada"])["id"].as_str().unwrap().to_owned();
        self.command(asked, token, &["yes", &run]);
        self.house.wait_for(&run, |_| self.command(seen, token, &["status", &run])["status"] == "Succeeded");
    }

    fn close(self, nodes: Vec<Node>) {
        for node in &nodes {
            node.tell_to_stop();
        }
        for node in nodes {
            assert_eq!(node.ended(), Some(0));
        }
        self.ledger.check(&self.house);
    }
}

/// One GET: status and body. `host` is what the caller thinks it speaks to.
pub(super) fn ask(address: &str, host: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// The arguments of the recipe in compose.yaml that makes the first token.
fn bootstrap() -> Vec<String> {
    let text = files::text(COMPOSE);
    let recipe = text.lines().find(|line| line.starts_with('#') && line.contains(" run --rm ")).expect("a recipe");
    let (_, args) = recipe.split_once(" api-1 ").unwrap();
    args.split(" > ").next().unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn two_api_nodes_and_two_workers_do_jobs_for_whoever_has_the_first_token() {
    let site = Site::new();
    let containers = Container::of_compose();
    let (apis, workers): (Vec<_>, Vec<_>) = containers.iter().partition(|container| container.serves());
    assert_eq!((apis.len(), workers.len()), (2, 2));
    let recipe = bootstrap();
    let recipe: Vec<&str> = recipe.iter().map(String::as_str).collect();
    let made = apis[0].run(&site.house, &recipe);
    assert_eq!(made.code, 0, "{made:?}");
    let token = made.stdout.trim();
    assert_eq!(apis[1].run(&site.house, &recipe).code, 5, "there is one first token");

    let nodes: Vec<Node> = containers.iter().map(|container| container.start(&site.house)).collect();
    let address = |api: &Container| {
        let node = containers.iter().zip(&nodes).find(|(container, _)| container.name == api.name).unwrap().1;
        site.address(api, node)
    };
    let addresses = [address(apis[0]), address(apis[1])];

    site.run_a_job(&addresses[0], &addresses[1], token);
    site.run_a_job(&addresses[1], &addresses[0], token);
    for api in &apis {
        let healthy = api.run(&site.house, &["health"]);
        assert_eq!(healthy.code, 0, "{healthy:?}");
        // No node has the token, so that a check of health that needed one would fail.
        assert!(!site.house.path().join(&api.name).join("data/admin.token").exists());
        assert_ne!(api.run(&site.house, &["status"]).code, 0);
    }
    assert_eq!(workers[0].run(&site.house, &["health"]).code, 9, "workers listen nowhere");
    site.close(nodes);
}

#[test]
fn callers_are_answered_under_the_names_that_they_use() {
    let site = Site::new();
    let compose = files::document(COMPOSE);
    let mut cases: Vec<(Container, Vec<String>)> = Vec::new();
    for container in Container::of_compose().into_iter().filter(Container::serves) {
        let published = texts(&compose["services"][&container.name]["ports"])[0].clone();
        let (outside, inside) = published.strip_prefix("127.0.0.1:").unwrap().split_once(':').unwrap();
        let mut names = vec![format!("{}:{inside}", container.name)];
        // The port that it listens on is answered without being named; here it listens on another.
        if outside != inside {
            names.extend([format!("127.0.0.1:{outside}"), format!("localhost:{outside}")]);
        }
        cases.push((container, names));
    }
    let api = Container::of_kubernetes(&files::objects()).remove(0);
    let names = [POD_IP, "pilothouse-api", "pilothouse-api.pilothouse", "pilothouse-api.pilothouse.svc"];
    cases.push((api, names.map(|name| format!("{name}:8010")).to_vec()));
    let nodes: Vec<Node> = cases.iter().map(|(container, _)| container.start(&site.house)).collect();

    for ((container, names), node) in cases.iter().zip(&nodes) {
        let address = site.address(container, node);
        for name in names {
            let (status, body) = ask(&address, name, "/health", None);
            assert_eq!(status, 200, "{}: {name}: {body}", container.name);
        }
        assert_eq!(ask(&address, "elsewhere.example:8010", "/health", None).0, 421, "{}", container.name);
    }
    site.close(nodes);
}

#[test]
fn pods_answer_their_probes_and_work() {
    let site = Site::new();
    let objects = files::objects();
    let pods = pods(&objects);
    let containers = Container::of_kubernetes(&objects);
    let nodes: Vec<Node> = containers.iter().map(|container| container.start(&site.house)).collect();
    let address = site.address(&containers[0], &nodes[0]);

    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = pods[0].1["containers"][0][probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(ask(&address, &format!("{POD_IP}:8010"), path, None).0, 200, "{probe}");
    }
    // A node that was first keeps the token; `token reset` replaces it, as docs/operations.md says.
    let reset = containers[0].run(&site.house, &["token", "reset"]);
    assert_eq!(reset.code, 0, "{reset:?}");
    site.run_a_job(&address, &address, reset.stdout.trim());
    site.close(nodes);
}

#[test]
fn a_node_whose_database_is_gone_is_not_well_but_alive() {
    let site = Site::new();
    let api = Container::of_kubernetes(&files::objects()).remove(0);
    let node = api.start(&site.house);
    let address = site.address(&api, &node);
    assert_eq!(ask(&address, &format!("{POD_IP}:8010"), "/health", None).0, 200);

    drop(site.ledger);
    let unwell = api.run(&site.house, &["health", "--json"]);
    let probes = ["/health", "/health/live"].map(|path| ask(&address, &format!("{POD_IP}:8010"), path, None).0);

    assert_eq!(unwell.code, 9, "{unwell:?}");
    assert_eq!(serde_json::from_str::<Value>(&unwell.stdout).unwrap()["status"], "degraded");
    assert_eq!(probes, [503, 200], "no requests, but no restart");
    node.kill();
}

#[test]
fn secrets_are_drawn_once_into_a_private_directory_and_make_a_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let secrets = house.path().join("etc/pilothouse");
    std::fs::create_dir(house.path().join("etc")).unwrap();
    let draw = || Ran::of(Command::new("sh").arg(files::at("deploy/secrets.sh")).arg(&secrets).output().unwrap());
    assert_eq!(draw().code, 0);
    let kept = std::fs::read_to_string(secrets.join("config.toml")).unwrap();

    let again = draw();

    assert_eq!((again.code, std::fs::read_to_string(secrets.join("config.toml")).unwrap()), (1, kept.clone()));
    assert_eq!(secrets.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for secret in files::document(COMPOSE)["secrets"].as_object().unwrap().values() {
        let name = secret["file"].as_str().unwrap().strip_prefix("secrets/").unwrap();
        let file = secrets.join(name);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644, "{name}: other users read it inside");
        assert!(file.metadata().unwrap().len() >= 48, "{name}");
    }
    let password = std::fs::read_to_string(secrets.join("pilothouse-password")).unwrap();
    assert!(kept.contains(&format!("postgres://pilothouse:{password}@postgres:5432/pilothouse")));
    for container in Container::of_compose() {
        assert_eq!(container.settings(&house)["database_url"], "(hidden)", "{}", container.name);
    }
}
