//! What can be seen from outside: numbers without a token, and one trace over two processes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message;

use crate::{
    house::House,
    node::{Ledger, Node},
};

/// Takes traces by OTLP over HTTP.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = Arc::clone(&spans);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || take(&stream.unwrap(), &kept));
            }
        });
        Self { address, spans }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

/// Answers every request on a connection, and keeps the spans in it.
fn take(stream: &TcpStream, kept: &Mutex<Vec<Span>>) {
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let is_for_traces = line.starts_with("POST /v1/traces ");
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if header == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let status = if is_for_traces { "200 OK" } else { "404 Not Found" };
        write!(writer, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
        if is_for_traces {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            kept.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        }
    }
}

/// One request over a connection of its own; the whole answer.
fn ask(address: &str, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A port that was free a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A server and a worker over one database, told by the environment what is the same for both.
fn two_processes(house: &House, ledger: &Ledger, environment: &[(&str, &str)], metrics: &str) -> [Node; 2] {
    let on = ["--database-url", &ledger.url];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--dev-channel", "--jobs", "jobs.toml"];
    let server = Node::start(house, "server", &[&serve[..], &on].concat(), environment);
    house.wait_for("the server", |house| house.endpoint().is_some());
    let elsewhere = house.path().join("elsewhere");
    let own = [("PILOTHOUSE_DATA_DIR", elsewhere.to_str().unwrap()), ("PILOTHOUSE_SERVER__METRICS_LISTEN", metrics)];
    let worker = Node::start(house, "worker", &[&["work"][..], &on].concat(), &[environment, &own].concat());
    house.wait_for("the worker", |_| worker.log().contains("Started worker"));
    [server, worker]
}

#[test]
fn one_trace_reaches_from_the_request_to_the_attempt_in_another_process() {
    let (house, ledger, collector) = (House::new(), Ledger::new(), Collector::start());
    let environment = [("PILOTHOUSE_TELEMETRY__OTLP_ENDPOINT", collector.address.as_str())];
    let nodes = two_processes(&house, &ledger, &environment, "127.0.0.1:0");

    let run = house.say("alice", "run now", Some("m1")).run_id.unwrap();
    house.wait_for_status(&run, "Succeeded");
    for node in nodes {
        node.tell_to_stop();
        assert_eq!(node.ended(), Some(0));
    }

    // Both have sent their last by now.
    let spans = collector.spans();
    let names = || spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>();
    let find = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span `{name}` among {:?}", names()))
    };
    let (request, task, attempt) = (find("POST /dev/inbound"), find("task run_job"), find("attempt run"));
    assert_eq!((&task.trace_id, &attempt.trace_id), (&request.trace_id, &request.trace_id));
    assert_eq!(attempt.parent_span_id, task.span_id);
    let commit = spans.iter().find(|span| span.span_id == task.parent_span_id).unwrap();
    assert_eq!((commit.name.as_str(), &commit.parent_span_id), ("commit", &request.span_id));
    ledger.check(&house);
}

#[test]
fn a_request_goes_on_with_its_callers_trace() {
    let (mut house, collector) = (House::new(), Collector::start());
    let settings = format!("[telemetry]\notlp_endpoint = \"{}\"\n", collector.address);
    std::fs::write(house.path().join("pilothouse.toml"), settings).unwrap();
    house.start();
    let endpoint = house.endpoint().unwrap();
    let address = endpoint["url"].as_str().unwrap().trim_start_matches("http://").to_owned();

    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let headers = format!("host: {address}\r\ntraceparent: 00-{trace}-{span}-01\r\n");
    assert!(ask(&address, "/health", &headers).starts_with("HTTP/1.1 200"));
    // What makes no sense begins a trace of its own.
    let headers = format!("host: {address}\r\ntraceparent: 00-{trace}-zzz\r\n");
    assert!(ask(&address, "/health", &headers).starts_with("HTTP/1.1 200"));
    assert_eq!(house.stop(), Some(0));

    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.name == "GET /health").collect();
    assert_eq!(spans.len(), 2);
    let followed = spans.iter().filter(|at| hex(&at.trace_id) == trace && hex(&at.parent_span_id) == span).count();
    let own = spans.iter().filter(|at| hex(&at.trace_id) != trace && at.parent_span_id.is_empty()).count();
    assert_eq!((followed, own), (1, 1));
    assert!(house.log().contains(&format!("trace.id=\"{trace}\"")), "{}", house.log());
}

#[test]
fn a_collector_that_is_not_there_costs_a_line_in_the_log_and_nothing_else() {
    let mut house = House::new();
    let settings = format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", free_address());
    std::fs::write(house.path().join("pilothouse.toml"), settings).unwrap();
    house.start();

    let run = house.say("alice", "run now", Some("m1")).run_id.unwrap();
    house.wait_for_status(&run, "Succeeded");
    assert_eq!(house.stop(), Some(0));
    assert!(house.log().contains("Traces cannot be sent, and are dropped"), "{}", house.log());

    for (settings, complaint) in [
        ("otlp_endpoint = \"localhost:4318\"", "telemetry.otlp_endpoint"),
        ("otlp_endpoint = \"http://[::\"", "telemetry.otlp_endpoint"),
        ("otlp_endpoint = \"http://localhost:4318\"\nsample_percent = 101", "telemetry.sample_percent"),
    ] {
        std::fs::write(house.path().join("pilothouse.toml"), format!("[telemetry]\n{settings}\n")).unwrap();
        let refused = house.run(&["up", "--listen", "127.0.0.1:0"]);
        assert_eq!(refused.code, 2, "{settings}: {refused:?}");
        assert!(refused.stderr.contains(complaint), "{settings}: {refused:?}");
    }
}

#[test]
fn a_worker_answers_its_numbers_to_whoever_asks() {
    let (house, ledger, address) = (House::new(), Ledger::new(), free_address());
    let nodes = two_processes(&house, &ledger, &[], &address);

    let run = house.say("alice", "run now", Some("m1")).run_id.unwrap();
    house.wait_for_status(&run, "Succeeded");

    // By whatever name, without a token.
    assert!(ask(&address, "/health", "host: a.pod.somewhere\r\n").starts_with("HTTP/1.1 200"));
    assert!(ask(&address, "/runs", "host: a.pod.somewhere\r\n").starts_with("HTTP/1.1 404"));
    let counted = "pilothouse_tasks_handled_total{kind=\"run_job\",outcome=\"done\"} 1";
    // The result is in the ledger a moment before its handler is through.
    house.wait_for("the handler's end", |_| ask(&address, "/metrics", "host: x\r\n").contains(counted));
    let metrics = ask(&address, "/metrics", "host: x\r\n");
    for line in [
        "pilothouse_attempts_total{engine=\"shell\",ending=\"succeeded\"} 1",
        "pilothouse_commits_total{outcome=\"applied\"}",
        "pilothouse_commit_batch_size_count",
        "pilothouse_tasks_claimed_total",
        "pilothouse_leases_held 0",
        "pilothouse_leases_fenced_total 0",
        "pilothouse_task_duration_seconds_count{kind=\"run_job\"} 1",
        "pilothouse_queue_tasks{state=\"ready\"} 0",
        "pilothouse_build_info{version=",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    for node in nodes {
        node.tell_to_stop();
        assert_eq!(node.ended(), Some(0));
    }
    ledger.check(&house);
}
