//! What a run tells machines that watch.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::project::Project;
use crate::reports::busy;
use crate::server::{Act, Server};
use crate::shop::{shop_with, spec};

/// The lines of a log, each of them an object with what all have.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(value["event"].is_string() && value["ms"].is_u64(), "{line}");
        value
    };
    text.lines().map(line).collect()
}

#[test]
fn each_decision_is_a_line_of_json() {
    let server = Server::start();
    let p = shop_with(&server, 4, "in_flight: 1, prices: {input: 3, output: 15}", "batching: {max_batch_size: 4}");
    server.script([Act::server_error(), Act::MissingSlot("f3")]);
    let run = p.run(["--log-format", "json"]);
    let log = lines(&run.stderr);
    let of = |event: &str| log.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("verdict").len(), 5, "{run}");
    let verdict = of("verdict").into_iter().find(|line| line["task"] == "docs/e1.md").expect("a verdict");
    assert_eq!(
        (&verdict["status"], &verdict["reasons"][0]["name"], &verdict["batch"]),
        (&json!("stale"), &json!("new"), &json!(1))
    );
    assert_eq!(of("planned")[0]["stale"], 5);
    let (requests, answers) = (of("request"), of("answer"));
    assert_eq!((requests.len(), answers.len(), of("retry").len()), (2, 2, 1), "{run}");
    assert_eq!(
        (&requests[0]["model"], &requests[0]["tasks"], &requests[1]["again"]),
        (&json!("m"), &json!(4), &json!(true))
    );
    assert_eq!((&answers[0]["good"], &answers[0]["tasks"]), (&json!(3), &json!(4)));
    assert!(answers[0]["cost_usd"].as_f64() > Some(0.0));
    assert_eq!((&of("fallback")[0]["missing"], &of("fallback")[0]["again"]), (&json!(["docs/e3.md"]), &json!(true)));
    assert_eq!(of("task").len(), 5);
    assert_eq!(log.last().map(|line| (&line["event"], &line["exit"])), Some((&json!("end"), &json!(0))));
    run.exits(0);
    // Nothing to do is a line; so is each mistake, and what a check refuses.
    let run = p.run(["--log-format", "json"]);
    assert_eq!(lines(&run.stderr).len(), 1, "{run}");
    run.exits(0);
    p.edit("spec.yaml", &spec(4, &[("e1", "another")]))
        .edit("Genfile", &p.read("Genfile").replace("output: \"docs", "check: [json], output: \"docs"));
    let run = p.run(["--log-format", "json"]);
    let log = lines(&run.stderr);
    assert!(log.iter().any(|line| line["event"] == "correct"), "{run}");
    assert!(
        log.iter().any(|line| line["event"] == "task" && line["error"]["code"] == "genmake::check_failed"),
        "{run}"
    );
    run.exits(2);
    p.edit("Genfile", "version: 1\nrulez: {}\n");
    let run = p.run(["--log-format", "json"]);
    assert!(lines(&run.stderr).iter().all(|line| line["event"] == "error"), "{run}");
    run.exits(2);
}

/// Each name of the log is in the reference.
#[test]
fn the_log_is_documented() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs_err::read_to_string(root.join("docs/telemetry.md")).expect("the page");
    let code = fs_err::read_to_string(root.join("src/telemetry/log.rs")).expect("source");
    let quoted: BTreeSet<&str> = code
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(quoted.len() > 40, "{quoted:?}");
    let missing: Vec<&&str> =
        quoted.iter().filter(|name| **name != "ms" && !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/telemetry.md lacks {missing:?}");
}

#[test]
fn figures_for_prometheus_are_those_of_the_report() {
    let server = Server::start();
    let p = busy(&server);
    p.edit("spec.yaml", &spec(12, &[("e9", "a third")]));
    p.run(["-k", "--metrics", "metrics.prom", "--report", "report.json", "--trace", "trace.json"]).exits(2);
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("JSON");
    let text = p.read("metrics.prom");
    let sample = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    };
    for (name, of) in [
        ("genmake_requests_total{provider=\"p\"}", "/llm/providers/p/requests"),
        ("genmake_tokens_total{kind=\"input\",provider=\"p\"}", "/llm/input_tokens"),
        ("genmake_cost_usd_total{provider=\"p\"}", "/llm/cost_usd"),
        ("genmake_tasks_total{status=\"failed\"}", "/targets/failed"),
        ("genmake_tasks_total{status=\"generated\"}", "/targets/generated"),
        ("genmake_fallbacks_total", "/llm/fallbacks"),
        ("genmake_tokens_saved_total{by=\"templates\"}", "/llm/tokens_saved/templates"),
        ("genmake_cache_misses_total{cache=\"store\"}", "/caches/store/misses"),
    ] {
        let said = report.pointer(of).and_then(Value::as_f64).expect("a number");
        assert!((sample(name) - said).abs() < 1e-9, "{name}: {} and {said}", sample(name));
    }
    let requests = report["requests"].as_array().map(Vec::len).expect("requests");
    assert_eq!(sample("genmake_request_duration_seconds_count{provider=\"p\"}"), requests as f64);
    assert_eq!(sample("genmake_run_success"), 0.0);
    let page = fs_err::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/telemetry.md"))
        .expect("the page");
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().expect("a name");
        assert!(page.contains(&format!("`{name}`")), "docs/telemetry.md lacks `{name}`");
    }

    // The trace has each request and task where the report has it.
    let trace: Value = serde_json::from_str(&p.read("trace.json")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |cat: &str, ph: &str| {
        events.iter().filter(|event| event["cat"] == cat && event["ph"] == ph).collect::<Vec<_>>()
    };
    assert_eq!(of("request", "X").len(), requests);
    let tasks = report["tasks"].as_array().expect("tasks");
    let stale: Vec<&Value> = tasks.iter().filter(|task| task["status"] != "fresh").collect();
    assert_eq!(of("task", "X").len(), stale.len());
    for task in stale {
        let event = of("task", "X").into_iter().find(|event| event["name"] == task["outputs"][0]).expect("an event");
        assert_eq!(event["ts"], task["begin_ms"].as_u64().expect("a number") * 1000);
        assert_eq!(event["dur"], task["duration_ms"].as_u64().expect("a number") * 1000);
    }
    assert_eq!((of("wait", "s").len(), of("wait", "f").len()), (1, 1), "{trace:#}");
    assert!(of("__metadata", "M").iter().any(|event| event["args"]["name"] == "pages"));
}

/// A server that takes spans, and what it was sent: headers, then JSON.
fn collector(status: u16) -> (String, std::sync::mpsc::Receiver<(String, Value)>) {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            loop {
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    head += &std::mem::take(&mut line);
                }
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
                let Some(length) = length else { break };
                let mut body = vec![0; length];
                reader.read_exact(&mut body).expect("a body");
                let body = serde_json::from_slice(&body).expect("JSON");
                let _ = send.send((head, body)); // the test may have ended
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{{}}");
                if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (address, receive)
}

#[test]
fn spans_go_where_opentelemetry_says() {
    let server = Server::start();
    let (address, received) = collector(200);
    let p = shop_with(&server, 4, "in_flight: 1, prices: {input: 3, output: 15}", "batching: {max_batch_size: 4}")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &address)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret%20word")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    server.script([Act::MissingSlot("f3")]);
    let run = p.run(["--report", "report.json"]);
    assert!(!run.to_string().contains("s3cret"), "{run}");
    run.exits(0);
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("JSON");
    let (head, body) = received.recv_timeout(std::time::Duration::from_secs(30)).expect("spans");
    assert!(head.starts_with("POST /v1/traces ") && head.to_lowercase().contains("\napi-key: s3cret word"), "{head}");
    let of = &body["resourceSpans"][0];
    let value = |attributes: &Value, key: &str| {
        let all = attributes.as_array().expect("attributes").iter();
        all.clone().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("no {key}"))["value"].clone()
    };
    assert_eq!(value(&of["resource"]["attributes"], "service.name"), json!({"stringValue": "genmake"}));
    assert_eq!(value(&of["resource"]["attributes"], "deployment.environment.name"), json!({"stringValue": "test"}));
    let spans = of["scopeSpans"][0]["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), 1 + 2 + 5, "{body:#}");
    let root = &spans[0];
    assert_eq!(
        (&root["traceId"], &root["parentSpanId"]),
        (&json!("4bf92f3577b34da6a3ce929d0e0e4736"), &json!("00f067aa0ba902b7"))
    );
    assert!(spans[1..].iter().all(|span| span["parentSpanId"] == root["spanId"] && span["traceId"] == root["traceId"]));
    let ids: BTreeSet<String> = spans.iter().map(|span| span["spanId"].to_string()).collect();
    assert_eq!(ids.len(), spans.len());
    let requests: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 3).collect();
    for (span, line) in requests.iter().zip(report["requests"].as_array().expect("requests")) {
        assert_eq!(span["name"], "chat m");
        let tokens = value(&span["attributes"], "gen_ai.usage.input_tokens");
        assert_eq!(tokens["intValue"], json!(line["input_tokens"].to_string()));
        let nanos = |key: &str| span[key].as_str().and_then(|text| text.parse::<u64>().ok()).expect("nanoseconds");
        let took = nanos("endTimeUnixNano") - nanos("startTimeUnixNano");
        assert_eq!(json!(took / 1_000_000), line["duration_ms"]);
    }
    // What fails there fails no build, and shows no key; without a network nothing is sent.
    let (refusing, received) = collector(401);
    p.edit("spec.yaml", &spec(4, &[("e1", "another")]));
    let p = p.env("OTEL_EXPORTER_OTLP_ENDPOINT", &refusing);
    let run = p.run([]);
    assert!(
        run.stderr.contains("warning  the run's spans were not sent: `127.0.0.1` answered with status 401"),
        "{run}"
    );
    assert!(!run.to_string().contains("s3cret"), "{run}");
    run.exits(0);
    drop(received.recv_timeout(std::time::Duration::from_secs(30)).expect("spans"));
    let p = p.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@127.0.0.1:1");
    p.edit("spec.yaml", &spec(4, &[("e1", "a third")]));
    let run = p.run([]);
    assert!(run.stderr.contains("spans were not sent") && !run.to_string().contains("s3cret"), "{run}");
    run.exits(0);
    let p = p.env("OTEL_EXPORTER_OTLP_ENDPOINT", &refusing);
    p.remove("docs/index.md");
    for flag in ["--offline", "--frozen"] {
        let run = p.run([flag, "-v"]);
        assert!(!run.stderr.contains("spans"), "{run}");
        run.exits(0);
    }
    assert!(received.try_recv().is_err());
}

#[test]
fn a_cost_that_is_not_known_is_no_figure_and_nothing_to_do_has_figures_too() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {template: a.hbs, output: a.txt}\n")
        .file("a.hbs", "a");
    p.run([]).exits(0);
    p.run(["--metrics", "m.prom", "--trace", "t.json"]).exits(0);
    assert!(p.read("m.prom").contains("genmake_tasks_total{status=\"fresh\"} 1\n"));
    assert!(serde_json::from_str::<Value>(&p.read("t.json")).is_ok());
    assert!(!p.read("m.prom").contains("genmake_cost_usd_total{"));
}
