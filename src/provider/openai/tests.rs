//! Facts of OpenAI's chat completions, as tests.

use super::*;
use crate::prompt::Message;
use crate::provider::wire::tests::{self, refused, reply};
use std::time::Duration;

fn fails(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Failure {
    answer(&reply(status, body, headers)).unwrap_err()
}

#[test]
fn a_request_on_the_wire() {
    let request = Request {
        model: "m".into(),
        params: json!({"temperature": 0, "seed": 1}).as_object().unwrap().clone(),
        max_output_tokens: Some(9),
        most_output: None,
        keeps_prefix: None,
        is_gone_on_from: false,
        pays_to_keep: false,
        messages: vec![
            Message { role: Role::System, text: "s".into() },
            Message { role: Role::User, text: "u".into() },
            Message { role: Role::Model, text: "a".into() },
        ],
        schema: Some(json!({"type": "object", "additionalProperties": false})),
        paths: vec![],
    };
    let want = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"},
        ],
        "temperature": 0, "seed": 1, "max_tokens": 9,
        "response_format": {"type": "json_schema", "json_schema":
            {"name": "result", "strict": true, "schema": {"type": "object", "additionalProperties": false}}},
    });
    let (others, official) = (OpenAi { is_official: false }, OpenAi { is_official: true });
    let whole = refused(&["stream"]);
    assert_eq!(others.body(&request, &whole), want);
    let open = Request { schema: Some(json!({"type": "object"})), ..request.clone() };
    assert_eq!(others.body(&open, &whole)["response_format"]["json_schema"]["strict"], false);
    let streamed = others.body(&request, &refused(&[]));
    assert_eq!((&streamed["stream"], &streamed["stream_options"]), (&json!(true), &json!({"include_usage": true})));
    let bare = others.body(&request, &refused(&["stream_options"]));
    assert_eq!((bare.get("stream"), bare.get("stream_options")), (Some(&json!(true)), None));
    let body = official.body(&request, &whole);
    assert_eq!((body.get("max_tokens"), &body["max_completion_tokens"]), (None, &json!(9)));
    assert_eq!(
        (body.get("prompt_cache_key"), others.body(&request, &whole).get("prompt_cache_key")),
        (cache_key(&request).map(Value::from).as_ref(), None)
    );
    let mut with_k = request.clone();
    with_k.params.insert("top_k".into(), json!(3));
    assert_eq!(
        (official.body(&with_k, &whole).get("top_k"), &others.body(&with_k, &whole)["top_k"]),
        (None, &json!(3))
    );
    // The other name, then none.
    let limits = |wire: &OpenAi, parts: &[&str]| {
        let body = wire.body(&request, &refused(parts));
        (body.get("max_tokens").is_some(), body.get("max_completion_tokens").is_some())
    };
    assert_eq!([limits(&others, &[]), limits(&others, &["max_tokens"])], [(true, false), (false, true)]);
    assert_eq!(
        [limits(&official, &["max_completion_tokens"]), limits(&others, &["max_tokens", "max_completion_tokens"])],
        [(true, false), (false, false)]
    );
}

#[test]
fn a_schema_strictly_loosely_or_in_words() {
    let schema = json!({"type": "object", "additionalProperties": false});
    let wire = OpenAi { is_official: false };
    let request = Request { schema: Some(schema.clone()), ..plain() };
    let place = "/response_format/json_schema/strict";
    assert_eq!(wire.body(&request, &refused(&[])).pointer(place), Some(&json!(true)));
    let name = wire.body(&request, &refused(&[]))["response_format"]["json_schema"]["name"].clone();
    let name = name.as_str().unwrap();
    assert!(name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{name}");
    let loose = unsupported::strict(&schema);
    assert_eq!(wire.body(&request, &refused(&[&loose])).pointer(place), Some(&json!(false)));
    for parts in [&[SCHEMA][..], &[&schema.to_string()]] {
        let body = wire.body(&request, &refused(parts));
        assert_eq!(body.get("response_format"), None);
        let said = body["messages"][1]["content"].as_str().unwrap();
        assert_eq!(said, format!("u\n\nAnswer with JSON of this schema and nothing else: {schema}\n"));
    }
}

#[test]
fn what_begins_alike_has_one_key_that_says_nothing() {
    let key = cache_key(&plain()).unwrap();
    assert!(key.len() == 12 && key.chars().all(|c| c.is_ascii_hexdigit()), "{key}");
    let mut other = plain();
    other.messages[1].text = "another".into();
    assert_eq!(cache_key(&other).as_ref(), Some(&key));
    other.messages[0].text = "t".into();
    assert_ne!(cache_key(&other).as_ref(), Some(&key));
    assert_ne!(cache_key(&Request { model: "n".into(), ..plain() }), Some(key));
    other.messages.remove(0);
    assert_eq!(cache_key(&other), None);
}

#[test]
fn where_keeping_costs_only_what_is_marked_is_kept() {
    let wire = OpenAi { is_official: true };
    let marked = Request { model: "openai/gpt-5.6-terra".into(), pays_to_keep: true, ..plain() };
    let kept = Request { keeps_prefix: Some(crate::llm::Keep::Short), ..marked.clone() };
    let body = wire.body(&kept, &refused(&[]));
    let part = json!({"type": "text", "text": "s", "prompt_cache_breakpoint": {"mode": "explicit"}});
    assert_eq!(body["messages"][0], json!({"role": "system", "content": [part]}));
    assert_eq!(body["messages"][1]["content"], "u");
    assert_eq!(body["prompt_cache_options"], json!({"mode": "explicit"}));
    let body = wire.body(&marked, &refused(&[]));
    assert_eq!(body["messages"][0]["content"], json!([{"type": "text", "text": "s"}]));
    assert_eq!(body["prompt_cache_options"], json!({"mode": "explicit"}));
    // Whoever does not know it is asked without; whoever takes nothing for it, and others' models, are not asked.
    let error = r#"{"error": {"message": "Unknown parameter: 'messages[0].content[0].prompt_cache_breakpoint'."}}"#;
    let refusal = wire.refusal(&wire.body(&kept, &refused(&[])), &reply(400, error, &[]));
    assert_eq!(refusal, Some(Refusal::Part("prompt_cache_options".to_owned())));
    for other in [
        Request { pays_to_keep: false, ..kept.clone() },
        Request { model: "anthropic/claude-sonnet-4.5".into(), ..kept.clone() },
    ] {
        let body = wire.body(&other, &refused(&[]));
        assert_eq!((&body["messages"][0]["content"], body.get("prompt_cache_options")), (&json!("s"), None));
    }
    let body = wire.body(&kept, &refused(&["prompt_cache_options"]));
    assert_eq!((&body["messages"][0]["content"], body.get("prompt_cache_options")), (&json!("s"), None));
}

fn plain() -> Request {
    Request { max_output_tokens: None, ..tests::request("m") }
}

#[test]
fn errors_of_those_who_pass_on_are_said_with_what_is_behind_them() {
    let says = |status, body: Value| fails(status, &body.to_string(), &[]);
    let of = |code: u16, metadata: Value| json!({"error": {"message": "Provider returned error", "code": code, "metadata": metadata}});
    let busy = says(429, of(429, json!({"raw": "glm is temporarily rate-limited upstream.", "provider_name": "X"})));
    assert_eq!(
        (busy.kind, busy.message.as_str()),
        (FailureKind::Limited, "Provider returned error: glm is temporarily rate-limited upstream.")
    );
    let raw = r#"{"error": {"type": "invalid_request_error", "message": "at most 1 image"}}"#;
    assert_eq!(says(400, of(400, json!({"raw": raw}))).message, "Provider returned error: at most 1 image");
    let filtered = of(403, json!({"reasons": ["violence"], "flagged_input": "x"}));
    assert_eq!(
        (says(403, filtered).kind, says(403, of(403, json!({}))).kind),
        (FailureKind::Rejected, FailureKind::Refused)
    );
    let choice = json!({"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "gone"}, "message": {"content": ""}}]});
    assert_eq!((says(200, choice.clone()).kind, says(200, choice).message.as_str()), (FailureKind::Server, "gone"));
    // As llama.cpp, vLLM and FastAPI have them.
    let numbers = |message: &str| {
        says(
            400,
            json!({"error": {"code": 400, "message": message,
        "type": "exceed_context_size_error", "n_prompt_tokens": 9031, "n_ctx": 4096}}),
        )
    };
    let known = "request (9031 tokens) exceeds the available context size (4096 tokens)";
    assert_eq!((numbers(known).message.as_str(), numbers(known).kind), (known, FailureKind::Rejected));
    assert_eq!(numbers("too long").message, "too long (the prompt has 9031 tokens, the context 4096)");
    assert_eq!(says(400, json!({"object": "error", "message": "too long", "code": 400})).message, "too long");
    assert_eq!(says(400, json!({"detail": "no"})).message, "no");
}

#[test]
fn the_key_goes_into_its_header() {
    let wire = OpenAi::new("https://api.openai.com/v1");
    assert!(wire.is_official && !OpenAi::new("http://127.0.0.1/v1").is_official);
    assert_eq!(wire.headers(Some("k")), [("authorization", "Bearer k".to_owned())]);
    assert_eq!(wire.headers(None), []);
}

#[test]
fn answers_and_why_they_ended() {
    let ended = |message: &str, reason: &str| {
        let body = format!(
            r#"{{"choices": [{{"message": {message}, "finish_reason": "{reason}"}}], "usage": {{"prompt_tokens": 41,
            "completion_tokens": 7, "prompt_tokens_details": {{"cached_tokens": 40}},
            "completion_tokens_details": {{"reasoning_tokens": 5}}}}}}"#
        );
        answer(&reply(200, &body, &[("x-request-id", "req-1")])).unwrap()
    };
    let good = ended(r#"{"content": "hi"}"#, "stop");
    assert_eq!((good.text.as_str(), good.stop, good.request_id.as_deref()), ("hi", Stop::End, Some("req-1")));
    assert_eq!(good.usage, Usage { input: 41, cached: 40, output: 7, reasoning: 5, ..Usage::default() });
    assert_eq!(ended(r#"{"content": "ha"}"#, "length").stop, Stop::Length);
    assert_eq!(ended(r#"{"content": null}"#, "length").stop, Stop::Length);
    assert_eq!(ended(r#"{"content": null, "refusal": "no"}"#, "stop").stop, Stop::Refused("no".into()));
    assert!(matches!(ended(r#"{"content": ""}"#, "content_filter").stop, Stop::Refused(_)));
    // What is called though nobody offered it has no content, which is an empty answer.
    for reason in ["tool_calls", "function_call"] {
        let called = ended(r#"{"content": null, "tool_calls": []}"#, reason);
        assert_eq!((called.text.as_str(), called.stop), ("", Stop::End), "{reason}");
    }
    let garbled = |body: &str| match answer(&reply(200, body, &[("content-type", "text/html")])).unwrap().stop {
        Stop::Garbled(what) => what,
        other => panic!("{other:?}"),
    };
    assert!(garbled("<html>").contains("text/html"));
    assert!(garbled(r#"{"choices": [{"mess"#).contains("choices"));
    assert!(garbled("").contains("empty"));
}

#[test]
fn tokens_as_they_are_counted() {
    let of = |message: Value, usage: Value| {
        let body = json!({"choices": [{"message": message, "finish_reason": "length"}], "usage": usage});
        let answer = answer(&reply(200, &body.to_string(), &[])).unwrap();
        (answer.text, answer.stop, answer.usage)
    };
    // What was in the cache and what went into it are in all that was sent.
    let details = json!({"cached_tokens": 4480, "cache_write_tokens": 100});
    let (.., usage) = of(
        json!({"content": "a"}),
        json!({"prompt_tokens": 4597, "completion_tokens": 7, "prompt_tokens_details": details}),
    );
    assert_eq!(usage, Usage { input: 4597, cached: 4480, cache_write: 100, output: 7, ..Usage::default() });
    // Thinking took all that there was: of what came back all is thinking, whether that is said or only seen.
    let usage =
        |details: Value| json!({"prompt_tokens": 9, "completion_tokens": 16, "completion_tokens_details": details});
    let thought = Usage { input: 9, output: 16, reasoning: 16, ..Usage::default() };
    let said = of(json!({"content": ""}), usage(json!({"reasoning_tokens": 16})));
    assert_eq!(said, (String::new(), Stop::Length, thought));
    for name in ["reasoning_content", "reasoning"] {
        let mut message = json!({"content": null});
        message[name] = "hm".into();
        assert_eq!(of(message, usage(Value::Null)), (String::new(), Stop::Length, thought), "{name}");
    }
    let message = json!({"content": "a", "reasoning_content": "hm"});
    assert_eq!(of(message, usage(Value::Null)).2, Usage { reasoning: 0, ..thought }, "who knows how many");
    // What cannot be is not believed, and what is not said is nothing.
    let odd = json!({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}});
    assert_eq!(of(json!({"content": "a"}), odd).2, Usage { input: 5, cached: 5, output: 1, ..Usage::default() });
    assert_eq!(of(json!({"content": "a"}), Value::Null).2, Usage::default());
}

#[test]
fn failures_by_what_can_be_done() {
    let body = r#"{"error": {"message": "words", "type": "t", "code": "c"}}"#;
    for (status, kind) in [
        (400, FailureKind::Rejected),
        (401, FailureKind::Refused),
        (404, FailureKind::Refused),
        (413, FailureKind::Rejected),
        (429, FailureKind::Limited),
        (500, FailureKind::Server),
        (529, FailureKind::Server),
        (302, FailureKind::Rejected),
    ] {
        let failure = fails(status, body, &[]);
        assert_eq!((failure.kind, failure.message.as_str(), failure.status), (kind, "words", Some(status)));
    }
    let says = |status, kind: &str, code: Value, message: &str| {
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        fails(status, &body.to_string(), &[("retry-after", "1")]).kind
    };
    // Of tokens or requests a minute there are more in a minute, of money there is not.
    for kind in ["tokens", "requests"] {
        assert_eq!(says(429, kind, json!("rate_limit_exceeded"), "Rate limit reached"), FailureKind::Limited);
    }
    for name in OUT_OF_MONEY {
        assert_eq!(says(429, name, json!(name), "pay"), FailureKind::Refused, "{name}");
        assert_eq!(says(429, name, Value::Null, "pay"), FailureKind::Refused, "{name}");
        assert_eq!(says(200, "x", json!(name), "pay"), FailureKind::Refused, "{name}");
    }
    let large = "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 36278. The \
                 input or output tokens must be reduced in order to run successfully.";
    assert_eq!(says(429, "tokens", json!("rate_limit_exceeded"), large), FailureKind::Rejected);
    // With a good status a name says the same as its status would.
    for (name, status) in STATUSES {
        assert_eq!(says(200, "x", json!(name), "words"), wire::kind(*status), "{name}");
    }
    for (status, code) in [(401, "invalid_api_key"), (404, "model_not_found"), (400, "context_length_exceeded")] {
        assert_eq!(says(status, "invalid_request_error", json!(code), "words"), wire::kind(status), "{code}");
        assert!(STATUSES.contains(&(code, status)));
    }
    assert_eq!(fails(200, body, &[]).kind, FailureKind::Server);
    assert!(fails(502, "<html>bad gateway", &[("content-type", "text/html")]).message.contains("bad gateway"));
    assert!(fails(301, "", &[("location", "http://x")]).message.contains("http://x"));
}

#[test]
fn limits_as_the_headers_say() {
    let headers = [
        ("x-ratelimit-limit-requests", "500"),
        ("x-ratelimit-remaining-requests", "499"),
        ("x-ratelimit-reset-requests", "120ms"),
        ("x-ratelimit-limit-tokens", "30000"),
        ("x-ratelimit-remaining-tokens", "29000"),
        ("x-ratelimit-reset-tokens", "2s"),
    ];
    let wire = OpenAi { is_official: false };
    let read = |counted, limit, remaining, millis| Reading {
        counted,
        limit,
        remaining: Some(remaining),
        reset: Some(Duration::from_millis(millis)),
    };
    let want = [read(Counted::Requests, 500, 499, 120), read(Counted::Tokens, 30_000, 29_000, 2000)];
    assert_eq!(wire.limits(&reply(200, "", &headers)), want);
    assert_eq!(wire.limits(&reply(200, "", &[])), []);
    assert_eq!(wire.counts()(Usage { input: 10, cached: 8, output: 5, ..Usage::default() }), 15);
}

#[test]
fn patience_as_asked() {
    assert_eq!(fails(429, "{}", &[("retry-after", "2")]).retry_after, Some(Duration::from_secs(2)));
}
