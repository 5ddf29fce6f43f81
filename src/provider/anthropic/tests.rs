//! Facts of Anthropic's messages, as tests.

use super::*;
use crate::provider::wire::tests::{self, refused, reply};
use std::time::Duration;

fn request() -> Request {
    Request { most_output: Some(64_000), ..tests::request("m") }
}

fn closed() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"type": "string"}}})
}

fn body(request: &Request, parts: &[&str]) -> Value {
    Anthropic.body(request, &refused(parts))
}

fn answer(body: &Value) -> Answer {
    Anthropic.answer(&json!({}), &reply(200, &body.to_string(), &[])).unwrap()
}

fn fails(status: u16, kind: &str, message: &str, headers: &[(&'static str, &'static str)]) -> Failure {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"});
    Anthropic.answer(&json!({}), &reply(status, &body.to_string(), headers)).unwrap_err()
}

#[test]
fn a_request_on_the_wire() {
    let mut request = request();
    request.messages.push(Message { role: Role::Model, text: "a".into() });
    request.messages.push(Message { role: Role::User, text: "again".into() });
    request.messages.push(Message { role: Role::User, text: " \n".into() });
    request.schema = Some(closed());
    let want = json!({
        "model": "m", "max_tokens": 9,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "again"},
        ],
        "output_config": {"format": {"type": "json_schema", "schema": closed()}},
        "stream": true,
    });
    assert_eq!(body(&request, &[]), want);
    assert_eq!(Anthropic.path(&request, &refused(&[])), "/messages");
    let version = ("anthropic-version", "2023-06-01".to_owned());
    assert_eq!(Anthropic.headers(Some("k")), [("x-api-key", "k".to_owned()), version.clone()]);
    assert_eq!(Anthropic.headers(None), [version]);
    // Somebody must speak to the model.
    request.messages.truncate(1);
    assert_eq!(body(&request, &[])["messages"], json!([{"role": "user", "content": "s"}]));
    assert_eq!(body(&request, &[]).get("system"), None);
    assert_eq!(body(&request, &["stream"]).get("stream"), None);
}

#[test]
fn a_limit_of_output_is_always_said() {
    let mut request = request();
    request.max_output_tokens = None;
    assert_eq!(body(&request, &[])["max_tokens"], 64_000);
    let mut known = Refused::default();
    known.note(Refusal::Output(8000));
    assert_eq!(Anthropic.body(&request, &known)["max_tokens"], 8000);
    request.most_output = None;
    assert_eq!(body(&request, &[])["max_tokens"], MOST_OUTPUT);
    request.max_output_tokens = Some(100);
    assert_eq!(Anthropic.body(&request, &known)["max_tokens"], 100);
}

#[test]
fn parameters_by_its_own_names() {
    let mut request = request();
    let params = json!({"temperature": 0, "top_p": 0.5, "top_k": 3, "stop": "x", "seed": 1, "frequency_penalty": 1,
        "presence_penalty": 1, "reasoning_effort": "low"});
    request.params = params.as_object().unwrap().clone();
    let sent = body(&request, &[]);
    assert_eq!((&sent["temperature"], &sent["top_p"], &sent["top_k"]), (&json!(0), &json!(0.5), &json!(3)));
    assert_eq!((&sent["stop_sequences"], &sent["output_config"]), (&json!(["x"]), &json!({"effort": "low"})));
    // Of the last, newer models refuse the budgets that it has.
    assert!(
        ["seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "stop", "thinking"]
            .iter()
            .all(|n| sent.get(n).is_none())
    );
    let bare = body(&request, &["temperature", "top_p", "top_k", "stop_sequences", "effort"]);
    let keys: Vec<&String> = bare.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "max_tokens", "system", "messages", "stream"]);
    request.params = json!({"stop": ["x", "y"]}).as_object().unwrap().clone();
    assert_eq!(body(&request, &[])["stop_sequences"], json!(["x", "y"]));
}

#[test]
fn a_count_is_of_what_is_sent() {
    let request = Request { params: json!({"temperature": 0}).as_object().unwrap().clone(), ..request() };
    let request = Request { schema: Some(closed()), ..request };
    let (path, counted) = Anthropic.count(&request, &Refused::default()).unwrap();
    assert_eq!(path, "/messages/count_tokens");
    let keys: Vec<&String> = counted.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "system", "messages", "output_config"]);
    let sent = body(&request, &[]);
    assert!(keys.iter().all(|key| counted[*key] == sent[*key]));
}

#[test]
fn what_is_kept_is_marked() {
    let mut request = request();
    request.messages.insert(1, Message { role: Role::System, text: "more".into() });
    let marks = |body: &Value| body.to_string().matches("cache_control").count();
    assert_eq!(marks(&body(&request, &[])), 0);
    request.keeps_prefix = Some(Keep::Short);
    let sent = body(&request, &[]);
    assert_eq!((&sent["system"][1]["cache_control"], marks(&sent)), (&json!({"type": "ephemeral"}), 1));
    assert_eq!(marks(&body(&request, &["cache_control"])), 0);
    request.keeps_prefix = Some(Keep::Long);
    let sent = body(&request, &[]);
    assert_eq!((&sent["system"][1]["cache_control"], marks(&sent)), (&json!({"type": "ephemeral", "ttl": "1h"}), 1));
    assert_eq!(body(&request, &["ttl"])["system"][1]["cache_control"], json!({"type": "ephemeral"}));
}

#[test]
fn what_structured_outputs_do_not_take_is_the_input_of_a_tool() {
    let mut request = request();
    let by_tool = |request: &Request, parts: &[&str]| {
        let sent = body(request, parts);
        assert_eq!(sent.get("tools").is_some(), sent.pointer("/output_config/format").is_none());
        sent.get("tools").is_some()
    };
    request.schema = Some(closed());
    assert!(!by_tool(&request, &[]));
    assert!(by_tool(&request, &["output_config"]));
    // Another schema may be taken.
    assert!(by_tool(&request, &[&closed().to_string()]) && !by_tool(&request, &["{}"]));
    let mut bounded = closed();
    bounded["properties"]["a"]["minLength"] = 1.into();
    bounded["anyOf"] = json!([{"required": ["a"]}, {}]);
    request.schema = Some(bounded.clone());
    assert!(by_tool(&request, &[]));
    let sent = body(&request, &[]);
    assert_eq!(sent["tool_choice"], json!({"type": "tool", "name": "result", "disable_parallel_tool_use": true}));
    let tools = sent["tools"].as_array().unwrap();
    assert_eq!((tools.len(), &tools[0]["name"], tools[0].get("strict")), (1, &json!("result"), None));
    // A root that is a choice is refused in tools.
    bounded.as_object_mut().unwrap().remove("anyOf");
    assert_eq!(sent["tools"][0]["input_schema"], bounded);
    let plain = body(&request, &["tools"]);
    assert_eq!((plain.get("tools"), plain.get("tool_choice"), plain.get("output_config")), (None, None, None));
}

#[test]
fn what_a_server_refuses_is_left_out() {
    let mut request = request();
    let params = json!({"temperature": 0, "top_p": 0.5, "stop": "x", "reasoning_effort": "minimal"});
    request.params = params.as_object().unwrap().clone();
    request.schema = Some(closed());
    request.keeps_prefix = Some(Keep::Long);
    let says = |sent: &Value, status, message: &str| {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        Anthropic.refusal(sent, &reply(status, &body.to_string(), &[]))
    };
    let part = |name: &str| Some(Refusal::Part(name.to_owned()));
    let sent = body(&request, &[]);
    let schema = closed().to_string();
    for (message, want) in [
        ("`temperature` is deprecated for this model.", part("temperature")),
        ("`temperature` and `top_p` cannot both be specified for this model.", part("top_p")),
        ("output_config.effort: Input should be 'low', 'medium' or 'high'", part("effort")),
        ("output_config.format.schema: For 'object' type, 'additionalProperties' must be false", part(&schema)),
        ("Schema is too complex for compilation.", part(&schema)),
        ("The compiled grammar is too large", part(&schema)),
        ("output_config: Extra inputs are not permitted", part("output_config")),
        ("'claude-old' does not support output format.", part("output_config")),
        ("output_config.format.type: json_schema is not supported", part("output_config")),
        ("system.0.cache_control: Extra inputs are not permitted", part("cache_control")),
        ("system.0.cache_control.ttl: Extra inputs are not permitted", part("ttl")),
        ("Streaming is not supported.", part("stream")),
        ("max_tokens: 9 > 8, which is the maximum allowed number of output tokens for m", Some(Refusal::Output(8))),
        ("prompt is too long: 200001 tokens > 200000 maximum", None),
        ("input length and `max_tokens` exceed context limit: 199995 + 9 > 200000", None),
        ("This model does not support assistant message prefill. The conversation must end with a user message.", None),
        ("tools: Too many strict tools (21). The maximum number of strict tools supported is 20.", None),
        ("top_k: Input should be at least 0", None),
    ] {
        assert_eq!(says(&sent, 400, message), want, "{message}");
    }
    assert_eq!(says(&sent, 500, "temperature"), None);
    let by_tool = body(&request, &["output_config"]);
    assert_eq!(says(&by_tool, 400, "tools.0.input_schema: JSON schema is invalid"), part("tools"));
    assert_eq!(says(&json!({"max_tokens": 9}), 400, "`temperature` is deprecated"), None);
    // Beside this prompt there is room for less.
    let long = json!({"max_tokens": 64_000});
    let room = |prompt: u64| {
        let said = "decrease input length or `max_tokens` and try again";
        says(
            &long,
            400,
            &format!("input length and `max_tokens` exceed context limit: {prompt} + 64000 > 200000, {said}"),
        )
    };
    assert_eq!((room(190_000), room(199_999), room(200_001)), (Some(Refusal::Room(10_000)), None, None));
    // No wait makes room for more than the account may have in a minute.
    let limited = |limit: &'static str| {
        Anthropic.refusal(&sent, &reply(429, "{}", &[("anthropic-ratelimit-output-tokens-limit", limit)]))
    };
    assert_eq!((limited("4"), limited("9"), limited("0")), (Some(Refusal::Output(4)), None, None));
}

#[test]
fn answers_and_why_they_ended() {
    let text = json!([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "h"},
        {"type": "text", "text": "i"}]);
    let ended = |reason: &str, details: Value| {
        answer(&json!({"type": "message", "content": text, "stop_reason": reason, "stop_details": details})).stop
    };
    let usage = json!({"input_tokens": 10, "cache_creation_input_tokens": 4563, "cache_read_input_tokens": 100,
        "cache_creation": {"ephemeral_5m_input_tokens": 19, "ephemeral_1h_input_tokens": 4544}, "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 5}, "service_tier": "standard", "inference_geo": "us"});
    let body = json!({"content": text, "stop_reason": "end_turn", "usage": usage});
    let good = Anthropic.answer(&json!({}), &reply(200, &body.to_string(), &[("request-id", "req_1")])).unwrap();
    assert_eq!((good.text.as_str(), good.stop, good.request_id.as_deref()), ("hi", Stop::End, Some("req_1")));
    assert_eq!(
        good.usage,
        Usage { input: 4673, cached: 100, cache_write: 4563, kept_long: 4544, output: 7, reasoning: 5 }
    );
    // Where only the parts are said, or only the whole.
    let written = |usage: Value| {
        let Usage { input, cache_write, kept_long, .. } = answer(&json!({"content": text, "usage": usage})).usage;
        (input, cache_write, kept_long)
    };
    let parts = json!({"ephemeral_5m_input_tokens": 19, "ephemeral_1h_input_tokens": 4544});
    assert_eq!(written(json!({"input_tokens": 3, "cache_creation": parts})), (4566, 4563, 4544));
    assert_eq!(
        written(json!({"input_tokens": 3, "cache_creation_input_tokens": 7, "cache_creation": null})),
        (10, 7, 0)
    );
    let absurd = json!({"content": text, "usage": {"input_tokens": u64::MAX, "output_tokens": 7}});
    assert_eq!(answer(&absurd).usage, Usage { output: 7, ..Usage::default() });
    assert_eq!(ended("stop_sequence", Value::Null), Stop::End);
    assert_eq!(ended("max_tokens", Value::Null), Stop::Length);
    assert_eq!(ended("model_context_window_exceeded", Value::Null), Stop::Length);
    assert!(matches!(ended("pause_turn", Value::Null), Stop::Garbled(_)));
    let why = |details: Value| match ended("refusal", details) {
        Stop::Refused(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(json!({"type": "refusal", "category": "cyber", "explanation": "no"})), "no");
    assert!(why(json!({"type": "refusal", "category": "cyber", "explanation": null})).contains("cyber"));
    assert!(why(Value::Null).contains("safeguards"));
    assert_eq!(answer(&json!({"content": [], "stop_reason": "max_tokens"})).text, "");
    let garbled =
        |body: &str| Anthropic.answer(&json!({}), &reply(200, body, &[("content-type", "text/html")])).unwrap().stop;
    assert!(matches!(garbled("<html>"), Stop::Garbled(what) if what.contains("text/html")));
    assert!(matches!(garbled(r#"{"content": [{"ty"#), Stop::Garbled(_)));
}

#[test]
fn the_input_of_a_tool_is_the_answer() {
    let sent = json!({"tools": []});
    let ended = |reason: &str| {
        let body = json!({"content": [{"type": "text", "text": "So:"}, {"type": "tool_use", "name": "result", "input": {"b": 1, "a": 2}}],
            "stop_reason": reason});
        Anthropic.answer(&sent, &reply(200, &body.to_string(), &[])).unwrap()
    };
    let good = ended("tool_use");
    assert_eq!((good.text.as_str(), good.stop), (r#"{"b":1,"a":2}"#, Stop::End));
    assert_eq!(ended("max_tokens").text, "");
    let text = json!({"content": [{"type": "text", "text": "{}"}], "stop_reason": "end_turn"});
    assert_eq!(Anthropic.answer(&sent, &reply(200, &text.to_string(), &[])).unwrap().text, "{}");
}

#[test]
fn failures_by_what_can_be_done() {
    for (status, name, kind) in [
        (400, "invalid_request_error", FailureKind::Rejected),
        (401, "authentication_error", FailureKind::Refused),
        (402, "billing_error", FailureKind::Refused),
        (403, "billing_error", FailureKind::Refused),
        (403, "permission_error", FailureKind::Refused),
        (404, "not_found_error", FailureKind::Refused),
        (413, "request_too_large", FailureKind::Rejected),
        (429, "rate_limit_error", FailureKind::Limited),
        (500, "api_error", FailureKind::Server),
        (504, "timeout_error", FailureKind::Server),
        (529, "overloaded_error", FailureKind::Server),
    ] {
        let failure = fails(status, name, "words", &[]);
        assert_eq!((failure.kind, failure.message.as_str(), failure.status), (kind, "words", Some(status)));
        assert_eq!(failure.request_id.as_deref(), Some("req_1"));
        // With a good status its name says the same.
        let in_body = fails(200, name, "words", &[]);
        assert_eq!((in_body.kind, in_body.status), (kind, Some(200)), "{name}");
    }
    assert_eq!(fails(408, "x", "", &[]).kind, FailureKind::Limited);
    assert_eq!(fails(409, "x", "", &[]).kind, FailureKind::Limited);
    assert_eq!(fails(200, "new_error", "", &[]).kind, FailureKind::Server);
    let broke = "Your credit balance is too low to access the Anthropic API.";
    assert_eq!(fails(400, "invalid_request_error", broke, &[]).kind, FailureKind::Refused);
    // What is too long, or ends with what the model is to have said, no second try makes any better.
    for words in [
        "prompt is too long: 200001 tokens > 200000 maximum",
        "This model does not support assistant message prefill. The conversation must end with a user message.",
    ] {
        let failure = fails(400, "invalid_request_error", words, &[]);
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Rejected, words));
    }
    let page = Anthropic.answer(&json!({}), &reply(502, "<html>bad gateway", &[])).unwrap_err();
    assert!(page.message.contains("bad gateway") && page.kind == FailureKind::Server);
}

#[test]
fn limits_as_the_headers_say() {
    let headers = [
        ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ("anthropic-ratelimit-requests-limit", "50"),
        ("anthropic-ratelimit-requests-remaining", "49"),
        ("anthropic-ratelimit-requests-reset", "2026-11-21T10:00:01Z"),
        ("anthropic-ratelimit-input-tokens-limit", "30000"),
        ("anthropic-ratelimit-input-tokens-remaining", "15000"),
        ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T10:00:30Z"),
        ("anthropic-ratelimit-output-tokens-limit", "8000"),
        ("anthropic-ratelimit-output-tokens-remaining", "8000"),
        ("anthropic-ratelimit-output-tokens-reset", "2026-11-21T10:00:00Z"),
        ("anthropic-ratelimit-tokens-limit", "38000"),
        ("anthropic-ratelimit-tokens-remaining", "23000"),
        ("anthropic-ratelimit-tokens-reset", "2026-11-21T10:00:30Z"),
    ];
    let read = |counted, limit, remaining, seconds| Reading {
        counted,
        limit,
        remaining: Some(remaining),
        reset: Some(Duration::from_secs(seconds)),
    };
    let want = [
        read(Counted::Requests, 50, 49, 1),
        read(Counted::Tokens, 30_000, 15_000, 30),
        read(Counted::Output, 8_000, 8_000, 0),
    ];
    assert_eq!(Anthropic.limits(&reply(200, "", &headers)), want);
    // What was read from the cache counts against no limit of tokens; what was written to it does.
    let usage = Usage { input: 1000, cached: 600, cache_write: 300, output: 50, ..Usage::default() };
    assert_eq!(Anthropic.counts()(usage), 400);
}

#[test]
fn patience_as_asked() {
    let limited = |headers: &[(&'static str, &'static str)]| fails(429, "rate_limit_error", "", headers);
    assert_eq!(limited(&[("retry-after", "2")]).retry_after, Some(Duration::from_secs(2)));
    assert_eq!(
        limited(&[("retry-after-ms", "1500"), ("retry-after", "1")]).retry_after,
        Some(Duration::from_millis(1500))
    );
    let retried = |status, word: &'static str| fails(status, "x", "", &[("x-should-retry", word)]).kind;
    assert_eq!((retried(429, "true"), retried(429, "false")), (FailureKind::Limited, FailureKind::Refused));
    assert_eq!((retried(529, "true"), retried(529, "false")), (FailureKind::Server, FailureKind::Rejected));
    assert_eq!((retried(400, "true"), retried(400, "false")), (FailureKind::Server, FailureKind::Rejected));
    assert_eq!(retried(401, "true"), FailureKind::Refused);
}
