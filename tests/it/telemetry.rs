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
