//! The manifests say what the product takes: its settings, its paths, its ports, its metrics.

use serde_json::{Value, json};

use super::{
    containers::{Container, pods, seconds, texts},
    files::{self, BASE, COMPOSE},
    image::Image,
};
use crate::house::House;

#[test]
fn every_variable_is_a_setting_with_a_value_that_it_takes() {
    let house = House::new();
    for container in Container::all() {
        let checked = container.run(&house, &["config", "check"]);
        assert_eq!(checked.code, 0, "{}: {checked:?}", container.name);

        let mut misspelt = container.clone();
        misspelt.environment.insert("PILOTHOUSE_SERVER__LISTN".to_owned(), "0.0.0.0:8010".to_owned());
        assert_eq!(misspelt.run(&house, &["config", "check"]).code, 2, "{}", container.name);
    }
}

#[test]
fn variables_that_kubernetes_adds_by_itself_would_be_refused_so_it_is_told_not_to() {
    let house = House::new();
    let objects = files::objects();
    let service = files::of_kind(&objects, "Service")[0]["metadata"]["name"].as_str().unwrap();
    let linked = format!("{}_SERVICE_HOST", service.to_ascii_uppercase().replace('-', "_"));

    for mut container in Container::of_kubernetes(&objects) {
        container.environment.insert(linked.clone(), "10.0.0.1".to_owned());
        let refused = container.run(&house, &["config", "check"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(&linked), "{refused:?}");
    }
    for (name, pod) in pods(&objects) {
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
    }
}

#[test]
fn whoever_is_told_to_stop_has_the_time_that_the_product_takes() {
    let house = House::new();
    for container in Container::all() {
        let settings = container.settings(&house);
        let needed = if container.serves() { "server.limits.shutdown" } else { "worker.drain" };
        let needed = seconds(settings[needed].as_str().unwrap()) + container.pause_seconds;

        assert!(container.grace_seconds > needed, "{}: {} s for {needed} s", container.name, container.grace_seconds);
    }
}

#[test]
fn the_port_is_the_same_wherever_it_stands() {
    let house = House::new();
    let listens = Image::read().environment["PILOTHOUSE_SERVER__LISTEN"].clone();
    let port: u16 = listens.rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(Image::read().one("EXPOSE"), port.to_string());
    for container in Container::all() {
        assert_eq!(container.environment["PILOTHOUSE_SERVER__LISTEN"], listens);
        assert!(container.settings(&house)["dev_channel"] == false, "others can reach it");
    }
    let compose = files::document(COMPOSE);
    for service in ["api-1", "api-2"] {
        let published = texts(&compose["services"][service]["ports"]);
        assert!(published[0].starts_with("127.0.0.1:") && published[0].ends_with(&format!(":{port}")), "{published:?}");
    }
    let objects = files::objects();
    let (_, api) = pods(&objects).remove(0);
    assert_eq!(api["containers"][0]["ports"], json!([{"name": "http", "containerPort": port}]));
    let service = files::of_kind(&objects, "Service")[0];
    assert_eq!(service["spec"]["ports"], json!([{"name": "http", "port": port, "targetPort": "http"}]));
}

#[test]
fn probes_ask_for_what_the_description_of_the_api_has_and_restarts_do_not_hang_on_the_database() {
    let openapi: Value = serde_json::from_str(&files::text("openapi.json")).unwrap();
    let (name, api) = pods(&files::objects()).remove(0);
    assert_eq!(name, "pilothouse-api");
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"].map(|probe| {
        let get = &api["containers"][0][probe]["httpGet"];
        assert_eq!(get["port"], "http", "{probe}");
        get["path"].as_str().unwrap().to_owned()
    });

    assert_eq!(probes, ["/health", "/health", "/health/live"]);
    for path in &probes {
        let operation = &openapi["paths"][path]["get"];
        assert!(operation.is_object() && operation["security"].is_null(), "{path} needs a token or is not there");
    }
    let answers = |path: &str| openapi["paths"][path]["get"]["responses"].as_object().unwrap().contains_key("503");
    assert!(answers("/health") && !answers("/health/live"));
}

#[test]
fn workers_are_scaled_by_metrics_that_there_are() {
    let objects = files::objects();
    let scaler = files::of_kind(&objects, "HorizontalPodAutoscaler")[0];
    let target = &scaler["spec"]["scaleTargetRef"];
    let is_target = |object: &&Value| object["kind"] == target["kind"] && object["metadata"]["name"] == target["name"];
    assert!(objects.iter().any(|object| is_target(&object)), "{target} is not there");
    let rule = &files::document(&format!("{BASE}/prometheus-adapter.yaml"))["externalRules"][0];
    let mut house = House::new();
    house.start_as("serve", &[]);
    let metrics = metrics(&house);

    for metric in scaler["spec"]["metrics"].as_array().unwrap() {
        let metric = &metric["external"]["metric"];
        let (name, state) = (metric["name"].as_str().unwrap(), &metric["selector"]["matchLabels"]["state"]);
        let series = format!("{name}{{state={state}}} ");
        assert!(metrics.lines().any(|line| line.starts_with(&series)), "{series}: {metrics}");
        assert_eq!(rule["seriesQuery"].as_str().unwrap(), format!("{{__name__=\"{name}\"}}"));
    }
    assert!(!metrics.contains("pilothouse_queue_tasks{state=\"waiting\"}"), "a state that there is not would pass");
}

fn metrics(house: &House) -> String {
    let endpoint = house.endpoint().unwrap();
    let address = endpoint["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let (status, body) = super::topology::ask(&address, &address, "/metrics", Some(&house.token()));
    assert_eq!(status, 200, "{body}");
    body
}

#[test]
fn no_secret_and_no_right_that_is_not_needed_is_in_the_manifests() {
    for (objects, sandboxed) in [(files::objects(), false), (files::sandboxed(), true)] {
        assert!(files::of_kind(&objects, "Secret").is_empty());
        for (name, pod) in pods(&objects) {
            let container = &pod["containers"][0];
            let context = &container["securityContext"];
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
            let loosened = sandboxed && name == "pilothouse-worker";
            assert_eq!(context["seccompProfile"].is_object(), loosened, "{name}");
            assert_eq!(pod["hostUsers"] == false, loosened, "{name}");
            // What is written has to be a volume.
            let mounts: Vec<_> =
                container["volumeMounts"].as_array().unwrap().iter().map(|it| &it["mountPath"]).collect();
            assert!(
                mounts.contains(&&json!(Image::read().one("VOLUME"))) && mounts.contains(&&json!("/tmp")),
                "{name}"
            );
        }
    }
    for container in Container::all() {
        assert!(!container.environment.keys().any(|name| name.contains("DATABASE_URL") || name.contains("TOKEN")));
        if !container.serves() {
            let sandbox =
                ["ENGINES", "CHECKS"].map(|what| container.environment[&format!("PILOTHOUSE_SANDBOX__{what}")].clone());
            assert_eq!(sandbox, ["workspace", "workspace"], "in a container `auto` may mean none");
        }
    }
}

#[test]
fn settings_and_catalog_lie_where_the_product_looks() {
    for (name, pod) in pods(&files::objects()) {
        let volumes = pod["volumes"].as_array().unwrap();
        let settings = volumes.iter().find(|volume| volume["name"] == "settings").unwrap();
        let mount = pod["containers"][0]["volumeMounts"].as_array().unwrap().iter().find(|it| it["name"] == "settings");
        assert_eq!(mount.unwrap()["mountPath"], "/etc/pilothouse", "{name}");
        let sources = settings["projected"]["sources"].as_array().unwrap();
        assert_eq!(sources[0]["secret"]["items"], json!([{"key": "config.toml", "path": "config.toml"}]), "{name}");
        let args = texts(&pod["containers"][0]["args"]);
        let wants_jobs = args.contains(&"/etc/pilothouse/jobs.toml".to_owned());
        assert_eq!(sources.iter().any(|source| source["configMap"]["items"][0]["path"] == "jobs.toml"), wants_jobs);
    }
    let compose = files::document(COMPOSE);
    for container in Container::of_compose() {
        let service = &compose["services"][&container.name];
        assert_eq!(service["secrets"], json!([{"source": "config", "target": "/etc/pilothouse/config.toml"}]));
        let jobs = container.serves().then(|| json!([{"source": "jobs", "target": "/etc/pilothouse/jobs.toml"}]));
        assert_eq!(service.get("configs"), jobs.as_ref(), "{}", container.name);
        assert_eq!(service["volumes"], json!([format!("{}:{}", container.name, Image::read().one("VOLUME"))]));
    }
    let checked = House::new().run(&["job", "check", files::at(&format!("{BASE}/jobs.toml")).to_str().unwrap()]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let generated = &files::document(&format!("{BASE}/kustomization.yaml"))["configMapGenerator"];
    assert_eq!(generated, &json!([{"name": "pilothouse-jobs", "files": ["jobs.toml"]}]));
}
