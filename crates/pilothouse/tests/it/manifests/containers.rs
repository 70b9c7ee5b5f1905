//! A container of ours, however it is described: what it is started with, and how long it is given to end.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    files::{self, COMPOSE},
    image::Image,
};
use crate::{
    house::{House, Ran},
    node::Node,
};

/// What stands for the address of a pod.
pub(super) const POD_IP: &str = "10.1.2.3";

/// One container.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    /// The image's with the container's own on top.
    pub(super) environment: BTreeMap<String, String>,
    /// Between the word to stop and the kill.
    pub(super) grace_seconds: u64,
    /// How long it goes on serving before it is told to stop.
    pub(super) pause_seconds: u64,
}

impl Container {
    /// Those of compose and of Kubernetes, API nodes and workers.
    pub(super) fn all() -> Vec<Self> {
        let all = [Self::of_compose(), Self::of_kubernetes(&files::objects())].concat();
        assert_eq!(all.len(), 6, "four of compose, two of Kubernetes");
        all
    }

    /// The services that are ours, by name.
    pub(super) fn of_compose() -> Vec<Self> {
        let compose = files::document(COMPOSE);
        let services = compose["services"].as_object().unwrap();
        let ours = services.iter().filter(|(_, service)| service["image"] == "pilothouse:local");
        ours.map(|(name, service)| {
            let mut environment = Image::read().environment;
            for (variable, value) in service["environment"].as_object().unwrap() {
                environment.insert(variable.clone(), value.as_str().expect("a text, not a number").to_owned());
            }
            let grace = service["stop_grace_period"].as_str().unwrap();
            Self {
                name: name.clone(),
                args: texts(&service["command"]),
                environment,
                grace_seconds: seconds(grace),
                pause_seconds: 0,
            }
        })
        .collect()
    }

    /// Those of Deployments and StatefulSets.
    pub(super) fn of_kubernetes(objects: &[Value]) -> Vec<Self> {
        pods(objects)
            .into_iter()
            .map(|(name, pod)| {
                let container = &pod["containers"][0];
                let mut environment = Image::read().environment;
                for variable in container["env"].as_array().unwrap() {
                    let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                        Some("status.podIP") => POD_IP,
                        Some(other) => panic!("{other} stands for nothing here"),
                        None => variable["value"].as_str().unwrap(),
                    };
                    // Kubernetes replaces what is defined further up.
                    let known =
                        |text: String, (name, value): (&String, &String)| text.replace(&format!("$({name})"), value);
                    let value = environment.iter().fold(value.to_owned(), known);
                    environment.insert(variable["name"].as_str().unwrap().to_owned(), value);
                }
                Self {
                    name,
                    args: texts(&container["args"]),
                    environment,
                    grace_seconds: pod["terminationGracePeriodSeconds"].as_u64().unwrap(),
                    pause_seconds: container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0),
                }
            })
            .collect()
    }

    /// One that takes requests; else it works.
    pub(super) fn serves(&self) -> bool {
        self.args[0] == "serve"
    }

    /// Runs a command of ours as in the container, to its end.
    pub(super) fn run(&self, house: &House, args: &[&str]) -> Ran {
        let (_, environment) = self.moved(house);
        Ran::of(house.command(args).envs(environment).output().unwrap())
    }

    /// What is set in it, by key.
    pub(super) fn settings(&self, house: &House) -> BTreeMap<String, Value> {
        let shown = self.run(house, &["config", "show", "--json"]);
        assert_eq!(shown.code, 0, "{}: {shown:?}", self.name);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let rows = shown["items"].as_array().unwrap();
        rows.iter().map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].clone())).collect()
    }

    /// Starts it in a house: with its paths there, on a free port of loopback, otherwise word for word.
    pub(super) fn start(&self, house: &House) -> Node {
        let (args, environment) = self.moved(house);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Node::start(house, &self.name, &args, &environment)
    }

    fn moved(&self, house: &House) -> (Vec<String>, BTreeMap<String, String>) {
        let root = house.path().to_str().unwrap();
        let moved = |text: &String| {
            text.replace("/var/lib/pilothouse", &format!("{root}/{}", self.name))
                .replace("/etc/pilothouse", &format!("{root}/etc/pilothouse"))
        };
        let mut environment: BTreeMap<_, _> =
            self.environment.iter().map(|(name, value)| (name.clone(), moved(value))).collect();
        environment.insert("PILOTHOUSE_SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
        // The file of the machine is beyond reach; the user's is read in the same way.
        environment.insert("XDG_CONFIG_HOME".to_owned(), format!("{root}/etc"));
        (self.args.iter().map(moved).collect(), environment)
    }
}

/// Pods by the names of what makes them.
pub(super) fn pods(objects: &[Value]) -> Vec<(String, Value)> {
    let makers = objects.iter().filter(|object| object["spec"]["template"].is_object());
    makers
        .map(|maker| {
            let pod = maker["spec"]["template"]["spec"].clone();
            assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
            (maker["metadata"]["name"].as_str().unwrap().to_owned(), pod)
        })
        .collect()
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// A span such as `30s`, `10m` or `1h`.
pub(super) fn seconds(span: &str) -> u64 {
    let (number, unit) = span.split_at(span.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => panic!("{other} is no unit here"),
    };
    number.parse::<u64>().unwrap() * unit
}
