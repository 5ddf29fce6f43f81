//! What only OpenAI's responses have: what is sent, what is said of an answer that did not come to its end, and servers that know
//! half of the format. What all formats have in common is in `providers`, `streams` and `metrics`.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Server};
use crate::shop::{asked_after, is_built, page, pages, shop_of};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The shop with `pages` pages, a request at a time.
fn shop(server: &Server, pages: usize, rule: &str) -> Project {
    shop_of("openai-responses", server, pages, "in_flight: 1", rule)
}

/// The values at this place of each request.
fn sent(server: &Server, pointer: &str) -> Vec<Value> {
    server.requests().iter().map(|request| request.body.pointer(pointer).cloned().unwrap_or_default()).collect()
}

fn refuses(server: &Server, pointer: &'static str, message: &str) {
    let error = Act::error(400, "invalid_request_error", "unsupported_parameter", message);
    server.on(move |request| request.body.pointer(pointer).is_some(), error);
}

/// A whole answer with a good status.
fn answers(body: &Value) -> Act {
    Act::Status { code: 200, headers: Vec::new(), body: body.to_string() }
}

// ---- what is sent ----

#[test]
fn a_request_is_a_response_to_be_made() {
    let server = Server::start();
    let p = shop(&server, 2, "params: {max_output_tokens: 100, temperature: 0, reasoning_effort: low, seed: 3}");
    p.run([]).exits(0);
    let body = &server.requests()[0].body;
    assert_eq!((&body["instructions"], &body["store"]), (&json!("You write a handbook."), &json!(false)));
    assert_eq!((&body["input"][0]["role"], body["input"].as_array().map(Vec::len)), (&json!("user"), Some(1)));
    assert_eq!((&body["reasoning"]["effort"], &body["temperature"]), (&json!("low"), &json!(0)));
    assert_eq!((&body["max_output_tokens"], body.get("seed"), body.get("messages")), (&json!(282), None, None));
    assert_eq!(
        (&body["text"]["format"]["type"], &body["text"]["format"]["strict"]),
        (&json!("json_schema"), &json!(true))
    );
    is_built(&p, 2, &[]);
}

#[test]
fn a_limit_below_what_is_taken_is_raised_to_it() {
    let server = Server::start();
    shop(&server, 1, "params: {max_output_tokens: 3}").run([]).exits(0);
    assert_eq!(sent(&server, "/max_output_tokens"), [16]);
}

/// The same for all requests of a shape, another for another, and nothing of what is said.
#[test]
fn what_begins_alike_goes_where_it_is_kept() {
    let server = Server::start();
    let p = shop(&server, 10, "");
    p.run([]).exits(0);
    p.edit("prompts/page.prompt", &p.read("prompts/page.prompt").replace("a handbook", "a long handbook"));
    p.run([]).exits(0);
    let keys = sent(&server, "/prompt_cache_key");
    assert_eq!((keys.len(), keys[0] == keys[1], keys[2] == keys[3], keys[0] == keys[2]), (4, true, true, false));
    for key in keys {
        let key = key.as_str().expect("a string").to_owned();
        assert!(key.len() == 12 && key.chars().all(|c| c.is_ascii_hexdigit()), "{key}");
    }
}

#[test]
fn a_correction_holds_what_the_model_said() {
    let server = Server::start();
    let p = shop(&server, 1, "check: json");
    server.reply(|request, _| match request.user_text().contains("does not pass") {
        true => "{}".to_owned(),
        false => "no".to_owned(),
    });
    p.run([]).exits(0);
    let input = &server.requests()[1].body["input"];
    assert_eq!(
        (&input[1]["role"], &input[1]["content"][0]),
        (&json!("assistant"), &json!({"type": "output_text", "text": "no", "annotations": []}))
    );
}

// ---- servers that know half of it ----

#[test]
fn what_a_server_refuses_is_left_out_from_then_on() {
    let server = Server::start();
    refuses(&server, "/response_format", "Unsupported parameter: 'response_format'.");
    refuses(&server, "/prompt_cache_key", "Unknown parameter: 'prompt_cache_key'.");
    refuses(&server, "/temperature", "Unsupported parameter: 'temperature' is not supported with this model.");
    let p = shop(&server, 10, "params: {temperature: 0.5}");
    p.run([]).exits(0);
    assert_eq!(server.count(), 5);
    let last = &server.requests()[4].body;
    assert!(["response_format", "prompt_cache_key", "temperature"].iter().all(|name| last.get(*name).is_none()));
    assert!(last["text"]["format"].is_object());
    is_built(&p, 10, &[]);
}

#[test]
fn where_no_schema_is_taken_the_prompt_says_it() {
    let server = Server::start();
    refuses(&server, "/text/format", "Unsupported parameter: 'text.format' is not supported with this model.");
    let p = shop(&server, 5, "");
    let page = |key: &str| page(key, &format!("about {key}"));
    let files =
        json!({"files": {"f1": page("e1"), "f2": page("e2"), "f3": page("e3"), "f4": page("e4"), "f5": page("e5")}});
    server.always(Act::Content(format!("Here:\n```json\n{files}\n```\n")));
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    let asked = server.requests()[1].user_text();
    assert!(asked.contains("Answer with JSON of this schema and nothing else: {\"type\":\"object\""), "{asked}");
    is_built(&p, 5, &[]);
}

/// As llama.cpp does, which knows no `incomplete`.
#[test]
fn an_answer_that_is_as_long_as_it_may_be_is_a_cut_one() {
    let server = Server::start();
    let part = json!({"type": "output_text", "text": "# e1\n\nabout"});
    let message = json!({"type": "message", "content": [part]});
    server.always(answers(
        &json!({"status": "completed", "output": [message], "usage": {"input_tokens": 9, "output_tokens": 50}}),
    ));
    let p = shop(&server, 1, "params: {max_output_tokens: 50}");
    p.run([]).stderr_has("was cut at the limit of output tokens (50)").exits(2);
    assert_eq!((server.count(), pages(&p).len()), (1, 0));
}

// ---- how it ends ----

#[test]
fn thinking_that_takes_all_there_is_is_said() {
    let server = Server::start();
    server.always(answers(&json!({
        "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [{"type": "reasoning"}],
        "usage": {"input_tokens": 9, "output_tokens": 16, "output_tokens_details": {"reasoning_tokens": 16}},
    })));
    shop(&server, 1, "params: {max_output_tokens: 16}")
        .run([])
        .stderr_has("was cut at the limit of output tokens (16): 16 of 16 tokens went into thinking")
        .stderr_has("help: raise `params: {max_output_tokens: …}`, or lower `reasoning_effort`")
        .exits(2);
}

#[test]
fn a_quota_that_is_used_up_comes_with_a_good_status_and_ends_it() {
    let server = Server::start();
    let p = shop(&server, 5, "");
    let error = json!({"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota.", "param": null});
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "insufficient_quota", "message": ""}}});
    let data = format!("{}\n\nevent: response.failed\ndata: {failed}", json!({"type": "error", "error": error}));
    server.script([Act::ErrorAfter { keep: 0, data }]);
    p.run(["-k"]).stderr_has("provider `p`: status 200: You exceeded your quota. (request req-1)").exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_was_whole_before_it_failed_is_kept() {
    let server = Server::start();
    let p = shop(&server, 5, "");
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "x"}}});
    server.script([Act::ErrorAfter { keep: 3, data: failed.to_string() }]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0), [ALL, "e4 e5"]);
    is_built(&p, 5, &[]);
}

#[test]
fn what_a_filter_stops_is_refused() {
    let server = Server::start();
    server.always(answers(
        &json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": []}),
    ));
    shop(&server, 1, "").run([]).stderr_has("content filter").exits(2);
    assert_eq!(server.count(), 1);
}

/// Models of OpenAI that take more for what they keep would keep each request up to its end, where no other begins.
#[test]
fn where_keeping_costs_nothing_is_kept_that_nobody_reads() {
    for api in ["openai", "openai-responses"] {
        let server = Server::start();
        server.with_cache();
        let keys = "in_flight: 1, prices: {input: 2, output: 12, cache_read: 0.2, cache_write: 2.5}";
        let p = shop_of(api, &server, 9, keys, "batching: {max_batch_size: 2}");
        p.edit("Genfile", &p.read("Genfile").replace("model: m", "model: gpt-5.6-terra"));
        let prompt = p.read("prompts/page.prompt").replace("handbook.", &"handbook. ".repeat(500));
        p.edit("prompts/page.prompt", &prompt);
        p.run(["--report", "report.json"]).exits(0);
        let told = server.told();
        // Four requests for two begin alike, and the last is for one.
        assert_eq!((told.cache_write, told.cached), (1252, 3 * 1252), "{api}");
        let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
        let counted = (&report["llm"]["cache_write_tokens"], &report["llm"]["cached_input_tokens"]);
        assert_eq!(counted, (&json!(1252), &json!(3756)));
        is_built(&p, 9, &[]);
    }
}
