//! What only Anthropic's format has: its limit of output, its cache, its structured outputs and what stands in for them, and what
//! it says when it says no. What all formats have in common is in `providers`, `streams` and `metrics`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{asked_after, is_built, pages, shop_of};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The shop with `pages` pages, a request at a time.
fn shop(server: &Server, pages: usize, rule: &str) -> Project {
    shop_of("anthropic", server, pages, "in_flight: 1", rule)
}

fn llm(p: &Project) -> Value {
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    report["llm"].clone()
}

/// The values at this place of each request.
fn sent(server: &Server, pointer: &str) -> Vec<Value> {
    server.requests().iter().map(|request| request.body.pointer(pointer).cloned().unwrap_or_default()).collect()
}

fn refuses(server: &Server, pointer: &'static str, message: &str) {
    let error = Act::error(400, "invalid_request_error", "", message);
    server.on(move |request| request.body.pointer(pointer).is_some(), error);
}

// ---- what is sent ----

#[test]
fn a_request_is_a_message() {
    let server = Server::start();
    let p = shop(&server, 2, "params: {max_output_tokens: 100, temperature: 0, stop: END}");
    p.run([]).exits(0);
    let request = &server.requests()[0];
    assert_eq!(request.header("anthropic-version"), Some("2023-06-01"));
    let body = &request.body;
    assert_eq!(body["system"], json!([{"type": "text", "text": "You write a handbook."}]));
    assert_eq!((&body["stop_sequences"], &body["temperature"]), (&json!(["END"]), &json!(0)));
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
    assert_eq!((body["max_tokens"].as_u64(), &body["stream"]), (Some(282), &json!(true)));
    is_built(&p, 2, &[]);
}

#[test]
fn a_limit_of_output_is_the_models_where_nobody_sets_one() {
    let limit = |provider: &str| {
        let server = Server::start();
        shop_of("anthropic", &server, 1, provider, "").run([]).exits(0);
        sent(&server, "/max_tokens")[0].clone()
    };
    assert_eq!(limit("limits: {max_output: 7000}"), 7000);
    assert_eq!(limit("limits: {context: 100000}"), 16_384);
}

/// No wait makes room for more than an account may have in a minute.
#[test]
fn a_limit_of_output_that_is_refused_is_lowered() {
    let limits = [
        Act::error(400, "invalid_request_error", "", "max_tokens: 16384 > 4096, which is the maximum for m"),
        Act::rate_limited(600).header("anthropic-ratelimit-output-tokens-limit", "4096"),
    ];
    for act in limits {
        let server = Server::start();
        server.script([act]);
        shop(&server, 10, "").run([]).exits(0);
        assert_eq!(sent(&server, "/max_tokens"), [16_384, 4096, 4096]);
    }
}

#[test]
fn parameters_that_a_model_refuses_are_left_out_from_then_on() {
    let server = Server::start();
    refuses(&server, "/top_k", "`top_k` is deprecated for this model.");
    refuses(&server, "/temperature", "`temperature` is deprecated for this model.");
    let p = shop(&server, 10, "params: {temperature: 0.5, top_k: 3}");
    p.run(["--report", "report.json"]).exits(0);
    assert_eq!(sent(&server, "/top_k"), [json!(3), Value::Null, Value::Null, Value::Null]);
    assert_eq!(sent(&server, "/temperature"), [json!(0.5), json!(0.5), Value::Null, Value::Null]);
    is_built(&p, 10, &[]);
}

// ---- structured outputs, and the tool ----

#[test]
fn a_model_without_structured_outputs_is_given_a_tool() {
    for is_streamed in [true, false] {
        let server = Server::start();
        if !is_streamed {
            server.without_streams();
        }
        refuses(&server, "/output_config", "output_config: Extra inputs are not permitted");
        let p = shop(&server, 10, "");
        p.run([]).exits(0);
        assert_eq!(asked_after(&server, 0)[..2], [ALL, ALL]);
        let by_tool: Vec<bool> = server.requests().iter().map(|request| request.is_by_tool()).collect();
        assert_eq!(by_tool, [false, true, true]);
        assert_eq!(sent(&server, "/tool_choice/name")[1], "result");
        is_built(&p, 10, &[]);
    }
}

#[test]
fn the_input_of_a_tool_is_kept_as_far_as_it_is_whole() {
    let by_tool = |act: Act, then: &[&str]| {
        let server = Server::start();
        refuses(&server, "/output_config", "output_config: Extra inputs are not permitted");
        // Of this one only, and it is the first by tool.
        server.each(move |number, _| (number == 2).then(|| act.clone()));
        let p = shop(&server, 5, "");
        p.run([]).exits(0);
        assert_eq!(asked_after(&server, 2), then);
        assert_eq!(server.asked_twice(), [""; 0]);
        is_built(&p, 5, &[]);
    };
    by_tool(Act::CutAfter { keep: 2 }, &["e3 e4 e5"]);
    by_tool(Act::Truncate { keep: 2 }, &["e3 e4", "e5"]);
    by_tool(Act::MissingSlot("f4"), &["e4"]);
    by_tool(Act::Prose, &[ALL]);
}

#[test]
fn a_schema_that_structured_outputs_do_not_take_goes_to_the_tool_at_once() {
    let server = Server::start();
    let schema = r#"{"type": "object", "required": ["title"], "additionalProperties": false,
        "properties": {"title": {"type": "string", "minLength": 1}}}"#;
    let p = shop(&server, 2, "check: {schema: s.json}").file("s.json", schema);
    let prompt = "---\noutput:\n  schema: {type: object, required: [title], additionalProperties: false, properties: {title: {type: string, minLength: 1}}}\n---\nWrite about {{item.key}}: x\n";
    p.edit("prompts/page.prompt", prompt);
    server.reply(|_, _| "{\"title\": \"t\"}".to_owned());
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    assert!(server.requests()[0].is_by_tool());
    assert!(p.read("docs/e1.md").contains("\"t\""));
}

/// More of them in one schema would be refused, and the tool is not held to it.
#[test]
fn a_request_carries_as_many_results_as_structured_outputs_take() {
    for (optional, sizes, is_by_tool) in [(5, vec![4, 4, 2], false), (0, vec![10], false), (25, vec![10], true)] {
        let server = Server::start();
        let p = shop(&server, 10, "batching: {max_batch_size: 10}");
        let optional: Vec<String> = (0..optional).map(|n| format!("o{n}: {{type: string}}")).collect();
        let prompt = format!(
            "---\noutput:\n  schema: {{type: object, required: [title], additionalProperties: false, properties: {{title: {{type: \
             string}}, {}}}}}\n---\nWrite about {{{{item.key}}}}: x\n",
            optional.join(", ")
        );
        p.edit("prompts/page.prompt", &prompt);
        server.reply(|request, slot| json!({"title": slot.and_then(|slot| request.slot_path(slot))}).to_string());
        let plan: Value = serde_json::from_str(&p.run(["plan", "--format", "json"]).stdout).expect("a plan");
        let batches = plan["batches"].as_array().expect("a list");
        let planned: Vec<usize> = batches.iter().map(|b| b["outputs"].as_array().map_or(0, Vec::len)).collect();
        assert_eq!(planned, sizes);
        p.run([]).exits(0);
        let mut sent: Vec<usize> = server.requests().iter().map(|request| request.slots().len()).collect();
        sent.sort_by_key(|slots| std::cmp::Reverse(*slots));
        assert_eq!(sent, sizes);
        assert!(server.requests().iter().all(|request| request.is_by_tool() == is_by_tool));
    }
}

// ---- the cache ----

/// Tasks with a prefix that is long enough to be kept, in requests of these sizes.
fn with_a_long_prefix(server: &Server, tasks: usize, batching: &str) -> Project {
    server.with_cache();
    with_a_prefix(server, tasks, 2800, "", &format!("batching: {{max_batch_size: 2, {batching}}}"), "")
}

/// Tasks with a prefix of so many tokens, and further keys of the provider, the Genfile and the rule.
fn with_a_prefix(server: &Server, tasks: usize, tokens: usize, provider: &str, top: &str, rule: &str) -> Project {
    let head = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: anthropic, model: claude-sonnet-4.5, base_url: \"{{base_url}}\", \
         prices: {{input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6}}{provider}}}}}\n"
    );
    let items: Vec<String> = (1..=tasks).map(|task| task.to_string()).collect();
    let items = items.join(", ");
    let rule = format!("  r: {{foreach: [{items}], prompt: x.prompt, output: \"{{{{item}}}}\"{rule}}}\n");
    let system = "Say nothing that is not so. ".repeat(tokens / 7) + "Or else.";
    Project::new()
        .genfile_for(server, &format!("{head}{top}\nrules:\n{rule}"))
        .file("x.prompt", &format!("{{{{role \"system\"}}}}{system}{{{{role \"user\"}}}}{{{{item}}}}\n"))
}

/// How many requests have a mark.
fn marks(server: &Server) -> usize {
    sent(server, "/system/0/cache_control").iter().filter(|mark| mark["type"] == "ephemeral").count()
}

fn run(p: &Project, args: &[&str]) -> Value {
    p.run(args.iter().copied().chain(["--report", "report.json"])).exits(0);
    llm(p)
}

#[test]
fn a_prefix_is_written_once_and_read_by_the_others() {
    let server = Server::start();
    let p = with_a_long_prefix(&server, 9, "");
    p.run(["--report", "report.json"]).exits(0);
    // Four of two tasks, and the last has nobody to share with.
    assert_eq!((server.count(), marks(&server)), (5, 4));
    let told = server.told();
    assert_eq!(told.cached, 3 * told.cache_write);
    let llm = llm(&p);
    assert_eq!(
        (&llm["cached_input_tokens"], &llm["cache_write_tokens"]),
        (&json!(told.cached), &json!(told.cache_write))
    );
    assert_eq!(llm["input_tokens"], told.input);
    let plain = (told.input - told.cached - told.cache_write) as f64;
    let input = plain * 3.0 + told.cached as f64 * 0.3 + told.cache_write as f64 * 3.75;
    let cost = (input + told.output as f64 * 15.0) / 1e6;
    let said = llm["cost_usd"].as_f64().expect("a number");
    assert!((said - cost).abs() < 1e-5, "{said} is not {cost}");
}

#[test]
fn what_nobody_reads_is_not_written() {
    for (tasks, batching) in [(2, ""), (3, ""), (1, "")] {
        let server = Server::start();
        with_a_long_prefix(&server, tasks, batching).run([]).exits(0);
        assert_eq!((marks(&server), server.told().cache_write), (0, 0), "{tasks} tasks");
    }
    // Nor what is too short to be kept.
    let server = Server::start();
    shop(&server, 10, "").run([]).exits(0);
    assert_eq!(marks(&server), 0);
}

#[test]
fn a_prefix_is_kept_for_as_long_as_the_rule_says() {
    // Two requests that begin alike, and one that nobody reads.
    let places = [
        ("batching: {max_batch_size: 2, keep_prefix: KEEP}", ""),
        ("batching: {max_batch_size: 2}", ", batching: {keep_prefix: KEEP}"),
        ("batching: {max_batch_size: 2, keep_prefix: 1h}", ", batch: {keep_prefix: KEEP}"),
    ];
    for (top, rule) in places {
        for (keep, marked, ttl) in [("auto", 2, None), ("5m", 3, None), ("1h", 3, Some("1h")), ("never", 0, None)] {
            let server = Server::start();
            server.with_cache();
            let said = |text: &str| text.replace("KEEP", keep);
            let p = with_a_prefix(&server, 5, 2800, "", &said(top), &said(rule));
            let first = run(&p, &[]);
            let marks = sent(&server, "/system/0/cache_control");
            let marks: Vec<&Value> = marks.iter().filter(|mark| !mark.is_null()).collect();
            assert_eq!(marks.len(), marked, "{top} {rule} {keep}");
            assert!(marks.iter().all(|mark| mark.get("ttl").and_then(Value::as_str) == ttl), "{marks:?}");
            let told = server.told();
            assert_eq!(told.kept_long, if ttl.is_some() { told.cache_write } else { 0 });
            assert_eq!(first["cache_write_tokens"], told.cache_write);
            // What is kept for an hour has a price of its own.
            let write = if ttl.is_some() { 6.0 } else { 3.75 };
            let plain = (told.input - told.cached - told.cache_write) as f64;
            let input = plain * 3.0 + told.cached as f64 * 0.3 + told.cache_write as f64 * write;
            let cost = (input + told.output as f64 * 15.0) / 1e6;
            let said = first["cost_usd"].as_f64().expect("a number");
            assert!((said - cost).abs() < 1e-8, "{keep}: {said} is not {cost}");
            // A later run reads what was kept for so long, and writes it else.
            server.age_cache();
            let later = run(&p, &["-B", "--yes"]);
            assert_eq!(later["cache_write_tokens"] == 0, matches!(keep, "1h" | "never"), "{keep}");
            assert_eq!(first["cache_misses"], 0);
        }
    }
}

#[test]
fn an_hour_that_a_server_does_not_know_is_five_minutes() {
    let server = Server::start();
    let p = with_a_long_prefix(&server, 4, "keep_prefix: 1h");
    refuses(
        &server,
        "/system/0/cache_control/ttl",
        "system.0.cache_control.ephemeral.ttl: Extra inputs are not permitted",
    );
    p.run([]).exits(0);
    assert_eq!((server.count(), marks(&server)), (3, 3));
    assert_eq!((server.told().kept_long, server.told().cached > 0), (0, true));
}

#[test]
fn a_prefix_that_is_too_short_to_be_kept_is_said() {
    let says = "asks to keep the system part of `1` and its like, which has about 702 tokens, and its model keeps none of fewer";
    for (keep, is_said) in [("1h", true), ("5m", true), ("auto", false), ("never", false)] {
        let server = Server::start();
        server.with_cache();
        let top = format!("batching: {{max_batch_size: 2, keep_prefix: {keep}}}");
        let p = with_a_prefix(&server, 4, 700, "", &top, "");
        let plan = p.run(["plan"]);
        assert_eq!(plan.stdout.matches(says).count(), usize::from(is_said), "{}", plan.stdout);
        let run = p.run([]);
        assert_eq!(run.stderr.matches(says).count(), usize::from(is_said), "{}", run.stderr);
        assert_eq!((server.count(), marks(&server)), (2, 0));
    }
}

/// What the answers say is compared with what was asked for, and nothing else is sent for it.
#[test]
fn what_a_provider_does_not_keep_is_said_and_counted() {
    // It keeps nothing, whatever is marked.
    let server = Server::start();
    let p = with_a_prefix(&server, 6, 2800, "", "batching: {max_batch_size: 2}", "");
    let run = p.run(["--report", "report.json"]);
    assert_eq!(run.stderr.matches("the provider kept nothing of the system part of `1`").count(), 1, "{}", run.stderr);
    assert_eq!((server.count(), marks(&server), &llm(&p)["cache_misses"]), (3, 1, &json!(1)));
    // It does not find what it wrote, twice.
    let server = Server::start();
    server.misses([2, 4]);
    let p = with_a_long_prefix(&server, 10, "");
    let run = p.run(["--report", "report.json"]);
    let again = "was written to the provider's cache again";
    assert_eq!(run.stderr.matches(again).count(), 1, "{}", run.stderr);
    assert_eq!((server.count(), &llm(&p)["cache_misses"]), (5, &json!(2)));
    // All is well.
    let server = Server::start();
    let p = with_a_long_prefix(&server, 10, "");
    let run = p.run(["--report", "report.json"]);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    assert_eq!(llm(&p)["cache_misses"], 0);
}

/// A plan counts what a run will read: of each shape and number of tasks all but the first.
#[test]
fn a_plan_says_what_is_read() {
    for prefer in ["cost", "time"] {
        let server = Server::start();
        server.with_cache();
        let top = format!("batching: {{max_batch_size: 2, prefer: {prefer}}}");
        // One by one: what is under way at the same time depends on who is faster.
        let p = with_a_prefix(&server, 9, 2800, ", in_flight: 1", &top, ", params: {top_k: 1}");
        let genfile = p.read("Genfile");
        let more = "  s: {foreach: [a, b, c, d, e, f, g], prompt: y.prompt, output: \"{{item}}\"}\n  t: {foreach: [u, v, w, x, y], prompt: x.prompt, output: \"{{item}}\", batch: false}\n";
        p.edit("Genfile", &(genfile + more));
        p.edit("y.prompt", &p.read("x.prompt").replace("Say", "Tell"));
        let plan: Value = serde_json::from_str(&p.run(["plan", "--format", "json"]).stdout).expect("a plan");
        let llm = run(&p, &[]);
        assert_eq!(plan["requests"], llm["requests"]);
        assert_eq!(plan["tokens_saved"]["prompt_cache"], llm["cached_input_tokens"], "{prefer}");
        // Three, two and four of 2,800 tokens.
        assert!(llm["cached_input_tokens"].as_u64().expect("a number") >= 9 * 2800);
        let told = server.told();
        assert!(told.cache_write > 0 && told.cache_write <= 3 * 2900, "{told:?}");
    }
}

/// Where nobody goes ahead one writes all the same, and those that are sent meanwhile do not write it, too.
#[test]
fn where_time_is_preferred_one_writes_and_the_later_ones_read() {
    let server = Server::start();
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    server.script(gates.iter().map(|gate| Act::Hold(gate.clone())));
    let p = with_a_long_prefix(&server, 16, "prefer: time");
    let mut child = p.spawn([]);
    server.wait_for(4);
    assert_eq!(marks(&server), 1);
    // The one that writes is answered first: what is sent after it reads.
    let writes = server.requests().iter().position(|request| request.body["system"][0].get("cache_control").is_some());
    gates[writes.expect("one that is marked")].open();
    p.wait_for_line(&mut child, "answer");
    gates.iter().for_each(Gate::open);
    p.finish(child).exits(0);
    let told = server.told();
    assert!(told.cache_write > 0 && told.cached >= told.cache_write, "{told:?}");
    let prefixes: BTreeSet<usize> = [told.cached % told.cache_write].into();
    assert_eq!(prefixes, BTreeSet::from([0]), "it was written once");
}

#[test]
fn a_gateway_that_knows_no_cache_is_asked_without() {
    let server = Server::start();
    let p = with_a_long_prefix(&server, 4, "");
    refuses(&server, "/system/0/cache_control", "system.0.cache_control: Extra inputs are not permitted");
    p.run([]).exits(0);
    assert_eq!((server.count(), marks(&server)), (3, 1));
}

// ---- counts ----

#[test]
fn under_a_budget_the_first_request_to_a_model_is_counted() {
    // A prompt of some 700 tokens, and an answer of 100 at most.
    let asks = |times: Option<usize>, top: &str, tasks: usize| {
        let server = Server::start();
        times.map(|times| server.counting(times));
        let batching = "batching: {max_batch_size: 2}";
        let p =
            with_a_prefix(&server, tasks, 700, "", &format!("{top}\n{batching}"), ", params: {max_output_tokens: 100}");
        p.run(["plan"]).exits(0);
        assert_eq!((server.counted(), server.count()), (0, 0), "a plan sends nothing");
        (server, p)
    };
    let (server, p) = asks(Some(3), "budget: {max_tokens: 1500}", 1);
    p.run([]).stderr_has("genmake::budget").stderr_has("it can take 2206").exits(2);
    assert_eq!((server.counted(), server.count()), (1, 0));
    // It has room for what is estimated, and for what is counted so.
    let (server, p) = asks(Some(1), "budget: {max_tokens: 1500}", 1);
    p.run([]).exits(0);
    assert_eq!((server.counted(), server.count()), (1, 1));
    // From then on it is known how the model counts.
    p.run(["-B", "--yes"]).exits(0);
    assert_eq!((server.counted(), server.count()), (1, 2));
    // All of a model wait for one count.
    let (server, p) = asks(Some(2), "budget: {max_tokens: 1000000}", 20);
    p.run([]).exits(0);
    assert_eq!((server.counted(), server.count()), (1, 10));
    // Without a budget nothing rests on it; a server that does not count is asked all the same.
    for (times, top) in [(Some(3), ""), (None, "budget: {max_tokens: 1500}")] {
        let (server, p) = asks(times, top, 1);
        p.run([]).exits(0);
        assert_eq!((server.counted(), server.count()), (0, 1));
    }
}

// ---- what it says when it says no ----

/// One page is asked for, and this comes: so many requests are sent, and this is said.
#[track_caller]
fn fails(act: Act, requests: usize, says: &str) {
    let server = Server::start();
    server.always(act);
    let p = shop(&server, 1, "");
    p.run([]).stderr_has(says).exits(2);
    assert_eq!(server.count(), requests);
    assert_eq!(pages(&p), [""; 0]);
}

#[test]
fn what_no_wait_ends_is_not_waited_for() {
    fails(Act::unauthorized(), 1, "provider `p`: status 401: Incorrect API key provided. (request req-1)");
    fails(Act::not_found(), 1, "check `base_url`");
    fails(Act::rate_limited(0).header("x-should-retry", "false"), 1, "status 429");
    fails(Act::overloaded().header("x-should-retry", "false"), 1, "status 529");
    let broke = "Your credit balance is too low to access the Anthropic API.";
    fails(Act::error(400, "invalid_request_error", "", broke), 1, "see the provider's console");
    let long = "prompt is too long: 200001 tokens > 200000 maximum";
    fails(Act::error(400, "invalid_request_error", "", long), 1, "prompt is too long: 200001 tokens");
}

#[test]
fn why_an_answer_ended_is_said() {
    fails(Act::Refusal, 1, "the model declined: I'm sorry, I can't help with that.");
    fails(Act::Truncate { keep: 0 }, 1, "was cut at the limit of output tokens");
    fails(Act::LengthEmpty, 1, "was cut at the limit of output tokens");
}

#[test]
fn an_error_that_comes_in_a_stream_is_one() {
    let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "words"}}).to_string();
    let server = Server::start();
    let p = shop(&server, 5, "");
    server.script([Act::ErrorAfter { keep: 3, data: error("overloaded_error") }]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e4 e5"]);
    is_built(&p, 5, &[]);
    fails(Act::ErrorAfter { keep: 0, data: error("billing_error") }, 1, "status 200: words (request req-1)");
}
