//! The Dockerfile: read line by line, because all that is asked of it stands in single instructions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::files;
use crate::house::House;

/// What its last stage says.
#[derive(Debug)]
pub(super) struct Image {
    /// Instruction and what follows it, of all stages.
    instructions: Vec<(String, String)>,
    pub(super) environment: BTreeMap<String, String>,
}

impl Image {
    pub(super) fn read() -> Self {
        let text = files::text("deploy/Dockerfile");
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let joined = lines.join("\n").replace("\\\n", " ");
        let instructions: Vec<(String, String)> = joined
            .lines()
            .filter_map(|line| line.trim().split_once(' '))
            .map(|(name, rest)| (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
            .collect();
        let variables = instructions.iter().filter(|(name, _)| name == "ENV").flat_map(|(_, set)| set.split(' '));
        let environment = variables
            .map(|variable| variable.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { instructions, environment }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.instructions.iter().filter(|(known, _)| known == name).map(|(_, rest)| rest.as_str()).collect()
    }

    /// What follows an instruction that stands there once.
    pub(super) fn one(&self, name: &str) -> &str {
        let found = self.all(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    /// The words of an instruction in its form as a list.
    fn words(&self, name: &str) -> Vec<String> {
        let rest = self.one(name);
        let list = rest.find('[').map(|start| &rest[start..]).unwrap_or_else(|| panic!("{name} is no list: {rest}"));
        serde_json::from_str(list).unwrap()
    }
}

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn it_is_built_by_a_rust_that_is_new_enough_in_the_profile_that_is_shipped() {
    let image = Image::read();
    let manifest = files::text("Cargo.toml");
    let required = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');

    let builder = image.all("FROM")[0].strip_prefix("docker.io/library/rust:").unwrap();
    let (rust, rest) = builder.split_once('-').unwrap();

    assert!(version(rust) >= version(required), "{rust} < {required}");
    assert!(rest.starts_with("alpine"), "musl is what makes the binary static");
    let build = image.all("RUN").into_iter().find(|run| run.contains("cargo build")).unwrap();
    assert!(build.contains("--locked --profile dist") && manifest.contains("[profile.dist]"), "{build}");
    assert!(build.contains("cp target/dist/pilothouse"), "{build}");
}

#[test]
fn it_runs_as_somebody_without_rights_and_is_told_to_stop_as_the_product_expects() {
    let image = Image::read();

    assert_eq!(image.one("USER"), "10001:10001", "by number, so that Kubernetes can tell that it is not root");
    assert_eq!(image.one("STOPSIGNAL"), "SIGTERM");
    assert_eq!(image.one("VOLUME"), image.environment["HOME"]);
    assert!(image.environment["PILOTHOUSE_DATA_DIR"].starts_with(&format!("{}/", image.one("VOLUME"))));
    let labels = image.one("LABEL");
    assert!(
        labels.contains(&format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"))),
        "{labels}"
    );
    let program = image.words("ENTRYPOINT").pop().unwrap();
    let copied = image.all("COPY").into_iter().find(|copy| copy.starts_with("--from=build")).unwrap();
    assert!(copied.ends_with(&program), "{copied}");
}

#[test]
fn its_health_check_is_a_command_of_ours_that_tells_a_server_from_none() {
    let image = Image::read();
    let check = image.words("HEALTHCHECK");
    assert_eq!(check[0], image.words("ENTRYPOINT").pop().unwrap());
    let check: Vec<&str> = check[1..].iter().map(String::as_str).collect();
    let started = image.words("CMD");
    assert_eq!(started, ["up"], "the tests start it so");
    let mut house = House::new();

    assert_eq!(house.run(&check).code, 9, "nobody is there yet");
    house.start_with(&[]);
    let healthy = house.json(&check);
    house.kill();
    let gone = house.run(&check);

    assert_eq!((healthy["status"].as_str(), healthy["database"].as_str()), (Some("ok"), Some("sqlite")));
    assert_eq!(gone.code, 9, "{gone:?}");
}

#[test]
fn the_build_sees_what_it_needs_and_no_secrets() {
    let ignored = files::text(".dockerignore");
    let rules: Vec<&str> = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();

    assert_eq!(rules[0], "*", "what is not named does not go in");
    for rule in &rules[1..] {
        files::at(rule.strip_prefix('!').unwrap());
    }
    let sent = |name: &str| rules.contains(&format!("!{name}").as_str());
    assert!(["Cargo.toml", "Cargo.lock", "crates", "xtask", "schemas", ".cargo"].into_iter().all(sent));
    assert!(!rules.iter().any(|rule| rule.contains("deploy")));
    assert!(files::text(".gitignore").lines().any(|line| line == "/deploy/secrets"));
}

#[test]
fn kubernetes_runs_it_as_the_same_user_under_the_same_version() {
    let kustomization = files::document(&format!("{}/kustomization.yaml", files::BASE));
    assert_eq!(kustomization["images"][0]["name"], "pilothouse");
    assert_eq!(kustomization["images"][0]["newTag"], env!("CARGO_PKG_VERSION"));
    let user: Value = Image::read().one("USER").split(':').next().unwrap().parse::<u64>().unwrap().into();
    for (name, pod) in super::containers::pods(&files::objects()) {
        let context = &pod["securityContext"];
        assert_eq!([&context["runAsUser"], &context["runAsGroup"], &context["fsGroup"]], [&user; 3], "{name}");
    }
}
