//! Servers that speak OpenAI's chat completions, each with something left out or otherwise: what they refuse is found out and
//! remembered, and what they do without saying so is met.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Recorded, Server};
use crate::shop::{answer, asked_after, is_built, pages, shop_with};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The shop with `pages` pages, a request at a time.
fn shop(server: &Server, pages: usize, rule: &str) -> Project {
    shop_with(server, pages, "in_flight: 1", rule)
}

fn refuses(server: &Server, pointer: &'static str, message: &str) {
    refuses_with(server, pointer, Act::error(400, "invalid_request_error", "", message));
}

fn refuses_with(server: &Server, pointer: &'static str, act: Act) {
    server.on(move |request| request.body.pointer(pointer).is_some(), act);
}

/// Which of these each request after the first `n` had.
fn had(server: &Server, n: usize, names: &[&str]) -> Vec<String> {
    let of = |request: &Recorded| {
        let has = |name: &&&str| request.body.get(**name).is_some();
        names.iter().filter(has).copied().collect::<Vec<_>>().join(" ")
    };
    server.requests().iter().skip(n).map(|request| of(request)).collect()
}

/// A whole answer with a good status.
fn answers(message: Value, finish_reason: &str, usage: Value) -> Act {
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason});
    let body = json!({"choices": [choice], "usage": usage});
    Act::Status { code: 200, headers: Vec::new(), body: body.to_string() }
}

// ---- what is refused ----

const PARAMS: &str = "params: {temperature: 0.5, top_p: 0.9, top_k: 3, seed: 1, stop: END, frequency_penalty: 0.1, \
                      presence_penalty: 0.1, reasoning_effort: low, max_output_tokens: 400}";

#[test]
fn each_parameter_that_a_server_refuses_is_left_out_from_then_on() {
    let words: [(&str, &str, u16, &str); 9] = [
        (
            "temperature",
            "/temperature",
            400,
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is supported.",
        ),
        ("top_p", "/top_p", 400, "Unsupported parameter: 'top_p' is not supported with this model."),
        ("top_k", "/top_k", 400, "Unrecognized request argument supplied: top_k"),
        ("seed", "/seed", 400, "property 'seed' is unsupported"),
        ("stop", "/stop", 422, "body.stop: Extra inputs are not permitted"),
        (
            "frequency_penalty",
            "/frequency_penalty",
            400,
            "Invalid JSON payload received. Unknown name \"frequency_penalty\": Cannot find field.",
        ),
        ("presence_penalty", "/presence_penalty", 400, "`presence_penalty` is not supported by this backend"),
        ("reasoning_effort", "/reasoning_effort", 400, "Unrecognized request argument supplied: reasoning_effort"),
        (
            "max_tokens",
            "/max_tokens",
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ),
    ];
    for (name, pointer, status, message) in words {
        let server = Server::start();
        refuses_with(&server, pointer, Act::error(status, "invalid_request_error", "", message));
        let p = shop(&server, 10, PARAMS);
        p.run([]).stderr_has(message).exits(0);
        assert_eq!(had(&server, 0, &[name]), [name, "", ""], "{name}");
        is_built(&p, 10, &[]);
    }
}

#[test]
fn the_limit_of_output_goes_by_either_name() {
    let server = Server::start();
    refuses(&server, "/max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.");
    shop(&server, 5, PARAMS).run([]).exits(0);
    assert_eq!(had(&server, 0, &["max_tokens", "max_completion_tokens"]), ["max_tokens", "max_completion_tokens"]);
}

/// Which is for whoever wrote it to mend.
#[test]
fn a_value_that_is_out_of_bounds_is_an_error() {
    let server = Server::start();
    refuses(
        &server,
        "/temperature",
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 5.",
    );
    shop(&server, 1, "params: {temperature: 5}").run([]).stderr_has("Expected a value <= 2").exits(2);
    assert_eq!(server.count(), 1);
}

/// Run for run: what one found out, the next does not ask; another address does, and so does who forgets.
#[test]
fn what_is_refused_is_remembered_across_runs() {
    let server = Server::start();
    refuses(&server, "/seed", "Unrecognized request argument supplied: seed");
    refuses(&server, "/stream_options", "Unknown parameter: 'stream_options'.");
    let p = shop(&server, 1, "params: {seed: 1}");
    let names = ["seed", "stream_options"];
    p.run([]).exits(0);
    assert_eq!(had(&server, 0, &names), ["seed stream_options", "stream_options", ""]);
    let again = |p: &Project, from: usize| {
        p.edit("prompts/page.prompt", &format!("{}\nAgain {from}.\n", p.read("prompts/page.prompt")));
        p.run([]).exits(0);
        had(&server, from, &names)
    };
    assert_eq!(again(&p, 3), [""]);
    // It changes nothing that is made, and says nothing of where that is.
    let (lock, ledger) = (p.read("Genfile.lock"), p.read(".genmake/ledger"));
    assert!(ledger.contains("\"seed\"") && !ledger.contains("127.0.0.1"), "{ledger}");
    p.run(["check"]).exits(0);
    for damaged in ["", "{\"servers\": {\"x\": 1}}"] {
        p.edit(".genmake/ledger", damaged);
        p.run(["check"]).exits(0);
        let from = server.count();
        assert_eq!(again(&p, from).len(), 3, "{damaged:?}");
    }
    assert_eq!(p.read("Genfile.lock").lines().count(), lock.lines().count());
    // After a week it may be another server.
    let old = p.read(".genmake/ledger");
    let since = old.find("\"since\": ").expect("a day") + "\"since\": ".len();
    let day: u64 = old[since..].split(|c: char| !c.is_ascii_digit()).next().expect("a number").parse().expect("a day");
    p.edit(".genmake/ledger", &old.replace(&format!("\"since\": {day}"), &format!("\"since\": {}", day - 7)));
    let from = server.count();
    assert_eq!(again(&p, from).len(), 3);
    // Another server is another matter, whatever its model is called.
    let other = Server::start();
    other.reply(answer);
    p.edit("Genfile", &p.read("Genfile").replace(&server.base_url(), &other.base_url()));
    p.run(["-B"]).exits(0);
    assert_eq!(had(&other, 0, &names), ["seed stream_options"]);
}

#[test]
fn a_limit_that_is_too_large_for_the_model_is_lowered_and_remembered() {
    let server = Server::start();
    let too_large = "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.";
    server.on(
        |request| request.body["max_tokens"].as_u64() > Some(16_384),
        Act::error(400, "invalid_request_error", "invalid_value", too_large),
    );
    let p = shop(&server, 1, "params: {max_output_tokens: 100000}");
    p.run([]).exits(0);
    p.run(["-B"]).exits(0);
    let limits: Vec<Option<u64>> =
        server.requests().iter().map(|request| request.body["max_tokens"].as_u64()).collect();
    assert_eq!(limits, [Some(100_000), Some(16_384), Some(16_384)]);
}

// ---- schemas ----

#[test]
fn a_server_without_schemas_is_told_the_form_in_words() {
    let server = Server::start();
    refuses(&server, "/response_format", "This response_format type is unavailable now");
    // What stands in for a model that reads what it is told.
    server.on(
        |request| {
            request.user_text().contains("Answer with JSON of this schema and nothing else: {\"type\":\"object\"")
        },
        Act::Content(format!("```json\n{}\n```", files(5))),
    );
    let p = shop(&server, 5, "");
    p.run([]).exits(0);
    assert_eq!(had(&server, 0, &["response_format"]), ["response_format", ""]);
    is_built(&p, 5, &[]);
}

/// The pages as a batch has them.
fn files(n: usize) -> Value {
    let slot = |i: usize| (format!("f{i}"), Value::from(format!("# e{i}\n\nabout e{i}\n")));
    json!({"files": (1..=n).map(slot).collect::<serde_json::Map<String, Value>>()})
}

/// As those of Ollama's cloud do: without a word, prose comes, or JSON in a fence.
#[test]
fn a_schema_that_is_ignored_is_no_loss() {
    let server = Server::start();
    server.always(Act::Fenced);
    let p = shop(&server, 5, "");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0), [ALL]);
    is_built(&p, 5, &[]);

    let server = Server::start();
    server.on(|request| request.schema().is_some(), Act::Prose);
    let p = shop(&server, 12, "");
    p.run([]).exits(0);
    // Two that brought nothing, then the rest of the shape one by one.
    let together = server.requests().iter().filter(|request| request.schema().is_some()).count();
    assert_eq!((together, server.count()), (2, 2 + 12));
    is_built(&p, 12, &[]);
}

// ---- windows ----

#[test]
fn a_prompt_that_is_too_long_for_llama_cpp_is_said_with_its_numbers() {
    let server = Server::start();
    let error = json!({"error": {"code": 400, "message": "the request exceeds the available context size.",
        "type": "exceed_context_size_error", "n_prompt_tokens": 9031, "n_ctx": 4096}});
    server.always(Act::Status { code: 400, headers: Vec::new(), body: error.to_string() });
    shop(&server, 1, "")
        .run([])
        .stderr_has("the request exceeds the available context size. (the prompt has 9031 tokens, the context 4096)")
        .exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_prompt_that_ollama_cuts_without_a_word_is_told_of() {
    let run = |prompt_tokens: u64| {
        let server = Server::start();
        let p = shop(&server, 2, "batch: false");
        p.edit("prompts/page.prompt", &format!("{{{{item.key}}}} {}\n", "word by word, ".repeat(2000)));
        server.always(answers(
            json!({"content": "page"}),
            "stop",
            json!({"prompt_tokens": prompt_tokens, "completion_tokens": 3}),
        ));
        let run = p.run([]);
        let said = run.stderr.matches("p counted 4096 tokens of about ").count();
        run.exits(0);
        (said, p.read(".genmake/ledger").contains("\"counted\": 4096"))
    };
    // Once, and what was cut is no measure of how it counts.
    assert_eq!(run(4096), (1, false));
    assert_eq!((run(8200).0, run(0).0), (0, 0));
}

#[test]
fn a_limit_for_which_vllm_has_no_room_is_lowered_for_this_request_alone() {
    let server = Server::start();
    let at_most = |limit: u64, left: &'static str, act: &str| {
        let error = Act::error(400, "BadRequestError", "400", act);
        server.on(
            move |request| request.user_text().contains(left) && request.body["max_tokens"].as_u64() > Some(limit),
            error,
        );
    };
    at_most(
        2896,
        "e1:",
        "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 1200 input tokens (5000 > 4096 - 1200).",
    );
    // Newer ones stop counting where it is too much.
    at_most(
        1500,
        "e2:",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 output tokens and your prompt contains at least 97 input tokens, for a total of at least 4097 tokens.",
    );
    let p = shop(&server, 3, "batch: false, params: {max_output_tokens: 5000}");
    p.run([]).exits(0);
    let mut limits: Vec<(String, u64)> = server
        .requests()
        .iter()
        .zip(asked_after(&server, 0))
        .map(|(request, key)| (key, request.body["max_tokens"].as_u64().unwrap_or(0)))
        .collect();
    limits.sort_by_key(|(key, limit)| (key.clone(), std::cmp::Reverse(*limit)));
    let of = |key: &str| limits.iter().filter(|(of, _)| of == key).map(|(_, limit)| *limit).collect::<Vec<u64>>();
    assert_eq!((of("e1"), of("e2"), of("e3")), (vec![5000, 2896], vec![5000, 2500, 1250], vec![5000]));
    is_built(&p, 3, &[]);
}

// ---- those who pass on ----

#[test]
fn what_stands_behind_an_error_of_openrouter_is_said_without_the_key() {
    let server = Server::start();
    let raw = "glm is temporarily rate-limited upstream for sk-or-canary-1234.";
    let error = json!({"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": raw, "provider_name": "X"}}});
    server.script([Act::Status { code: 429, headers: Vec::new(), body: error.to_string() }]);
    let p = shop_with(&server, 1, "key_env: ROUTER_KEY", "").env("ROUTER_KEY", "sk-or-canary-1234");
    p.run([]).stderr_has("Provider returned error: glm is temporarily rate-limited upstream for ***.").exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn what_a_filter_of_openrouter_stops_fails_alone() {
    let server = Server::start();
    server.on(
        |request| request.user_text().contains("e2:"),
        Act::Status {
            code: 403,
            headers: Vec::new(),
            body: json!({"error": {"message": "flagged", "code": 403, "metadata": {"reasons": ["x"]}}}).to_string(),
        },
    );
    let p = shop(&server, 3, "batch: false");
    p.run(["-k"]).stderr_has("flagged").exits(2);
    assert_eq!((pages(&p).join(" "), server.count()), ("e1 e3".to_owned(), 3));

    let server = Server::start();
    server.always(answers(json!({"content": null}), "content_filter", json!({"cost": 0.1})));
    shop(&server, 1, "").run([]).stderr_has("content filter").exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn thinking_is_no_text_and_is_said_where_it_took_all_there_was() {
    for name in ["reasoning_content", "reasoning"] {
        let server = Server::start();
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 16});
        server.script([
            answers(json!({"content": "# e1\n\nabout e1\n", name: "hm"}), "stop", usage.clone()),
            answers(json!({"content": null, name: "hm, hm"}), "length", usage),
        ]);
        let p = shop(&server, 1, "params: {max_output_tokens: 16}");
        p.run([]).exits(0);
        is_built(&p, 1, &[]);
        p.run(["-B"]).stderr_has("(16): 16 of 16 tokens went into thinking").exits(2);
    }
}
