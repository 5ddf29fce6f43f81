//! Facts of Gemini's generateContent, as tests.

use super::contents::CACHES;
use super::*;
use crate::provider::FailureKind;
use crate::provider::keep::Made;
use crate::provider::wire::tests::{self, refused, reply};
use std::time::Duration;

fn request() -> Request {
    let keeps_prefix = Some(crate::llm::Keep::Short);
    Request { most_output: Some(65_536), keeps_prefix, ..tests::request("gemini-3.8-flash") }
}

fn with(params: Value) -> Request {
    Request { params: params.as_object().unwrap().clone(), max_output_tokens: None, ..request() }
}

fn config_of(request: &Request, parts: &[&str]) -> Value {
    Gemini.body(request, &refused(parts))["generationConfig"].clone()
}

fn closed() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"type": "array",
        "items": {"type": "string"}, "maxItems": 9}}})
}

fn answer(body: &Value) -> Answer {
    Gemini.answer(&json!({}), &reply(200, &body.to_string(), &[])).unwrap()
}

fn fails(status: u16, name: &str, message: &str, details: Value) -> Failure {
    let body = json!({"error": {"code": status, "message": message, "status": name, "details": details}});
    Gemini.answer(&json!({}), &reply(status, &body.to_string(), &[("x-request-id", "r1")])).unwrap_err()
}

#[test]
fn what_counts_in_a_minute_is_what_is_sent() {
    assert_eq!(Gemini.counts()(Usage { input: 5, output: 7, ..Usage::default() }), 5);
}

#[test]
fn a_request_on_the_wire() {
    let mut request = request();
    request.messages.push(Message { role: Role::Model, text: "a".into() });
    request.messages.push(Message { role: Role::User, text: "again".into() });
    request.messages.push(Message { role: Role::User, text: " \n".into() });
    request.schema = Some(closed());
    let text = |text: &str| json!([{"text": text}]);
    let want = json!({
        "systemInstruction": {"parts": text("s")},
        "contents": [{"role": "user", "parts": text("u")}, {"role": "model", "parts": text("a")},
            {"role": "user", "parts": text("again")}],
        "generationConfig": {"maxOutputTokens": 9, "responseMimeType": "application/json", "responseJsonSchema": closed()},
    });
    assert_eq!(Gemini.body(&request, &refused(&[])), want);
    assert_eq!(Gemini.headers(Some("k")), [("x-goog-api-key", "k".to_owned())]);
    assert_eq!(Gemini.headers(None), []);
    // Somebody must speak to the model.
    request.messages.truncate(1);
    let sent = Gemini.body(&request, &refused(&[]));
    assert_eq!(
        (&sent["contents"], sent.get("systemInstruction")),
        (&json!([{"role": "user", "parts": text("s")}]), None)
    );
    // Some models have no ear for the system.
    let heard = Gemini.body(&with(json!({})), &refused(&["systemInstruction"]));
    let user = |said: &str| json!({"role": "user", "parts": text(said)});
    assert_eq!(heard, json!({"contents": [user("s"), user("u")]}));
    let bare = Gemini.body(&with(json!({})), &refused(&[]));
    assert_eq!(bare.get("generationConfig"), None);
}

#[test]
fn the_path_names_the_model_and_whether_it_streams() {
    let path =
        |model: &str, parts: &[&str]| Gemini.path(&Request { model: model.into(), ..request() }, &refused(parts));
    assert_eq!(path("gemini-2.5-pro", &[]), "/models/gemini-2.5-pro:streamGenerateContent?alt=sse");
    assert_eq!(path("gemini-2.5-pro", &["stream"]), "/models/gemini-2.5-pro:generateContent");
    assert_eq!(path("models/m", &["stream"]), "/models/m:generateContent");
    assert_eq!(path("tunedModels/m", &["stream"]), "/tunedModels/m:generateContent");
    assert_eq!(path("a b:c?d#é", &["stream"]), "/models/a%20b%3Ac%3Fd%23%C3%A9:generateContent");
}

#[test]
fn parameters_by_its_own_names() {
    let request =
        with(json!({"temperature": 0, "top_p": 0.5, "top_k": 3, "stop": "x", "seed": 1, "frequency_penalty": 1,
        "presence_penalty": 2}));
    let want = json!({"temperature": 0, "topP": 0.5, "topK": 3, "stopSequences": ["x"], "seed": 1, "frequencyPenalty": 1,
        "presencePenalty": 2});
    assert_eq!(config_of(&request, &[]), want);
    let names = ["temperature", "topP", "topK", "stopSequences", "seed", "frequencyPenalty", "presencePenalty"];
    assert_eq!(config_of(&request, &names), Value::Null);
    assert_eq!(config_of(&with(json!({"stop": ["x", "y"]})), &[])["stopSequences"], json!(["x", "y"]));
}

#[test]
fn an_effort_is_a_level_or_so_many_tokens() {
    let sent = |model: &str, effort: &str, parts: &[&str]| {
        let request = Request { model: model.into(), ..with(json!({"reasoning_effort": effort})) };
        config_of(&request, parts)["thinkingConfig"].clone()
    };
    let level = |level: &str| json!({"thinkingLevel": level});
    let budget = |tokens: u64| json!({"thinkingBudget": tokens});
    for (effort, by_level, by_budget) in [
        ("none", "minimal", 0),
        ("minimal", "minimal", 1024),
        ("low", "low", 1024),
        ("medium", "medium", 8192),
        ("high", "high", 24_576),
        ("max", "high", 24_576),
    ] {
        assert_eq!(sent("gemini-3.8-flash", effort, &[]), level(by_level));
        assert_eq!(sent("gemini-2.5-flash", effort, &[]), budget(by_budget));
        assert_eq!(sent("models/gemini-3.8-flash", effort, &["thinkingLevel"]), budget(by_budget));
        assert_eq!(sent("gemini-3.8-flash", effort, &["thinkingLevel", "thinkingConfig"]), Value::Null);
    }
    assert_eq!(sent("gemini-9", "extreme", &[]), level("extreme"));
    assert_eq!(sent("gemini-2.5-pro", "extreme", &[]), Value::Null);
}

#[test]
fn a_schema_is_sent_as_far_as_it_is_taken() {
    let mut request = Request { schema: Some(closed()), max_output_tokens: None, ..request() };
    request.schema.as_mut().unwrap()["properties"]["a"]["items"]["pattern"] = "^a".into();
    let first = config_of(&request, &[])["responseJsonSchema"].clone();
    assert_eq!(first, closed());
    let second = config_of(&request, &[&first.to_string()])["responseJsonSchema"].clone();
    assert_eq!(second, looser::without_bounds(&closed()));
    let third = config_of(&request, &[&first.to_string(), &second.to_string()]);
    assert_eq!(third, json!({"responseMimeType": "application/json"}));
    assert_eq!(config_of(&request, &["responseMimeType"]), Value::Null);
    request.schema = Some(json!({"type": "object", "properties": {"a": {"$ref": "#"}}}));
    assert_eq!(config_of(&request, &[]), json!({"responseMimeType": "application/json"}));
}

/// What is found out from a refusal of this `generationConfig` in these words.
fn refuses(config: Value, status: u16, message: &str) -> Option<Refusal> {
    let body = json!({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}});
    let sent = json!({"systemInstruction": {}, "contents": [], "generationConfig": config});
    Gemini.refusal(&sent, &reply(status, &body.to_string(), &[]))
}

#[test]
fn what_a_model_refuses_is_left_out() {
    let part = |name: &str| Some(Refusal::Part(name.to_owned()));
    let all =
        || json!({"temperature": 0, "topP": 1, "topK": 1, "seed": 1, "frequencyPenalty": 1, "presencePenalty": 1});
    for (message, name) in [
        ("Penalty is not enabled for models/gemini-2.5-flash", "frequencyPenalty"),
        ("Presence penalty is not supported.", "frequencyPenalty"),
        ("Unable to submit request because it has a topK value of 100 but the supported range is …", "topK"),
        ("Invalid JSON payload received. Unknown name \"topP\" at 'generation_config': Cannot find field.", "topP"),
        ("top_p is not supported by this model.", "topP"),
        ("`temperature` is deprecated.", "temperature"),
        ("Seed is not supported.", "seed"),
    ] {
        assert_eq!(refuses(all(), 400, message), part(name), "{message}");
    }
    assert_eq!(refuses(json!({"presencePenalty": 1}), 400, "Penalty is not enabled"), part("presencePenalty"));
    let level = json!({"thinkingConfig": {"thinkingLevel": "low"}});
    assert_eq!(refuses(level, 400, "Thinking level is not supported for this model."), part("thinkingLevel"));
    let budget = json!({"thinkingConfig": {"thinkingBudget": 0}});
    assert_eq!(refuses(budget.clone(), 400, "thinking_config is not supported."), part("thinkingConfig"));
    let only = "Budget 0 is invalid. This model only works in thinking mode.";
    assert_eq!(refuses(budget, 400, only), part("thinkingConfig"));
    let gemma = "Developer instruction is not enabled for models/gemma-3-27b-it";
    assert_eq!(refuses(json!({}), 400, gemma), part("systemInstruction"));
    // What was not sent, or is no refusal of it.
    assert_eq!(refuses(json!({}), 400, "Penalty is not enabled"), None);
    assert_eq!(refuses(all(), 500, "temperature"), None);
    assert_eq!(refuses(all(), 400, "The topKnot is too long."), None);
    let long = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).";
    assert_eq!(refuses(all(), 400, long), None);
}

#[test]
fn a_schema_that_is_refused_is_that_one() {
    let schema = closed();
    let sent = || json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    let this = Some(Refusal::Part(schema.to_string()));
    for message in [
        "The specified schema produces a constraint that has too many states for serving.",
        "Request contains an invalid argument.",
        "Invalid JSON payload received. Unknown name \"responseJsonSchema\" at 'generation_config': Cannot find field.",
    ] {
        assert_eq!(refuses(sent(), 400, message), this, "{message}");
    }
    assert_eq!(refuses(json!({}), 400, "Request contains an invalid argument."), None);
    let mime =
        refuses(json!({"responseMimeType": "application/json"}), 400, "JSON mode is not enabled for models/gemma");
    assert_eq!(mime, Some(Refusal::Part("responseMimeType".to_owned())));
}

#[test]
fn streams_that_are_refused_are_asked_for_whole() {
    let says = |status, text: &str| Gemini.refusal(&json!({"contents": []}), &reply(status, text, &[]));
    let stream = Some(Refusal::Part("stream".to_owned()));
    let unknown = r#"{"error": {"message": "Unknown request URL: POST /v1/models/m:streamGenerateContent?alt=sse."}}"#;
    assert_eq!(says(404, unknown), stream);
    assert_eq!(says(501, "Streaming is not supported."), stream);
    assert_eq!(says(404, r#"{"error": {"message": "models/m is not found for API version v1beta"}}"#), None);
    assert_eq!(says(400, "the upstream server refused it"), None);
}

#[test]
fn a_limit_of_output_that_is_refused_is_lowered() {
    let asks = |limit: u64, message: &str| refuses(json!({"maxOutputTokens": limit}), 400, message);
    let message = "Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 \
                   (inclusive) to 65537 (exclusive). Update the value and try again.";
    assert_eq!(asks(100_000, message), Some(Refusal::Output(65_536)));
    assert_eq!(asks(100_000, "max_output_tokens must be in the range [1, 8192]."), Some(Refusal::Output(8192)));
    assert_eq!(asks(100, message), None);
    let mut known = Refused::default();
    known.note(Refusal::Output(5));
    assert_eq!(Gemini.body(&request(), &known)["generationConfig"]["maxOutputTokens"], 5);
}

#[test]
fn a_prefix_is_kept_by_a_request_of_its_own() {
    let make =
        |model: &str, parts: &[&str]| Gemini.make(&Request { model: model.into(), ..request() }, &refused(parts));
    let parts = json!({"parts": [{"text": "s"}]});
    let body = json!({"model": "models/m", "systemInstruction": parts, "ttl": "600s", "displayName": "genmake"});
    assert_eq!(make("m", &[]), Some(("/cachedContents".to_owned(), body)));
    assert_eq!(make("m", &[]), make("models/m", &[]));
    assert_eq!(make("tunedModels/m", &[]), None);
    assert_eq!(make("m", &["cachedContents"]), None);
    assert_eq!(make("m", &["systemInstruction"]), None);
    let mut sent = Gemini.body(&request(), &refused(&[]));
    Gemini.read(&mut sent, "cachedContents/c");
    assert_eq!((&sent["cachedContent"], sent.get("systemInstruction")), (&json!("cachedContents/c"), None));
    assert_eq!(sent["contents"][0]["parts"], json!([{"text": "u"}]));
}

#[test]
fn what_came_of_keeping_is_read() {
    let made = |status, body: Value| Gemini.made(&reply(status, &body.to_string(), &[]));
    let good = json!({"name": "cachedContents/a-1_b", "usageMetadata": {"totalTokenCount": 4096}});
    assert_eq!(made(200, good), Made::Kept("cachedContents/a-1_b".into(), 4096));
    for name in ["cachedContents/", "files/a", "cachedContents/a/../b", "cachedContents/a?key=b"] {
        assert_eq!(made(200, json!({"name": name})), Made::Not, "{name}");
    }
    let error = |message: &str| json!({"error": {"message": message}});
    let small = "Cached content is too small. total_token_count=896, min_total_token_count=1024";
    assert_eq!(made(400, error(small)), Made::Not);
    let vertex = "The cached content is of 896 tokens. The minimum token count to start caching is 4096.";
    assert_eq!(made(400, error(vertex)), Made::Not);
    assert_eq!(made(503, error("away")), Made::Not);
    let free = "TotalCachedContentStorageTokensPerModelFreeTier limit exceeded for model m: limit=0, requested=1";
    assert_eq!((made(429, error(free)), made(403, error("no"))), (Made::Not, Made::Not));
    let never = Made::Refused(Refusal::Part("cachedContents".into()));
    assert_eq!((made(404, error("")), made(501, error(""))), (never, Made::Refused(Refusal::Part(CACHES.into()))));
    let is_gone = |status, message: &str| Gemini.is_gone(&reply(status, &error(message).to_string(), &[]));
    assert!(is_gone(403, "CachedContent not found (or permission denied)") && is_gone(404, ""));
    assert!(is_gone(400, "Cached content c is expired.") && !is_gone(400, "The input token count (9) exceeds"));
    assert!(!is_gone(503, "cached content"));
    assert_eq!(Gemini.place("cachedContents/a"), "/cachedContents/a");
}

#[test]
fn answers_and_their_tokens() {
    let body = json!({
        "candidates": [{"content": {"role": "model", "parts": [{"text": "hm", "thought": true}, {"text": "h"}, {"text": "i"}]},
            "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 4612, "cachedContentTokenCount": 3765, "candidatesTokenCount": 10,
            "thoughtsTokenCount": 258, "totalTokenCount": 4880, "serviceTier": "standard"},
        "modelVersion": "gemini-3.8-flash", "responseId": "r2",
    });
    let good = answer(&body);
    assert_eq!((good.text.as_str(), good.stop, good.request_id.as_deref()), ("hi", Stop::End, Some("r2")));
    assert_eq!(good.usage, Usage { input: 4612, cached: 3765, output: 268, reasoning: 258, ..Usage::default() });
    // Thinking used the limit.
    let empty = answer(&json!({"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 100}}));
    assert_eq!((empty.text.as_str(), empty.stop, empty.usage.output), ("", Stop::Length, 100));
    // A stream without `alt=sse`.
    let piece = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}}]});
    let listed = answer(&json!([piece("a"), piece("b"), {"candidates": [{"finishReason": "STOP"}]}]));
    assert_eq!((listed.text.as_str(), listed.stop), ("ab", Stop::End));
}

#[test]
fn why_an_answer_ended_is_read() {
    for reason in ["SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"] {
        let stopped = answer(&json!({"candidates": [{"finishReason": reason}]})).stop;
        assert!(matches!(&stopped, Stop::Refused(why) if why.contains(reason)), "{stopped:?}");
    }
    for reason in ["OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "NEW_ONE"] {
        let stopped = answer(&json!({"candidates": [{"finishReason": reason}]})).stop;
        assert!(matches!(&stopped, Stop::Garbled(why) if why.contains(reason)), "{stopped:?}");
    }
    assert_eq!(stop("SAFETY", Some("no")), Stop::Refused("no".into()));
    let blocked = answer(&json!({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []}})).stop;
    assert_eq!(blocked, Stop::Refused("the provider's safeguards stopped the prompt (SAFETY)".into()));
    let words = json!({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "no"}});
    assert_eq!(answer(&words).stop, Stop::Refused("no".into()));
    let garbled = |body: &str| Gemini.answer(&json!({}), &reply(200, body, &[])).unwrap().stop;
    for body in ["<html>", r#"{"candidates": [{"con"#, "", "{}", "[]"] {
        assert!(matches!(garbled(body), Stop::Garbled(_)), "{body}");
    }
}

#[test]
fn failures_by_what_can_be_done() {
    for (status, name, kind) in [
        (400, "INVALID_ARGUMENT", FailureKind::Rejected),
        (400, "FAILED_PRECONDITION", FailureKind::Refused),
        (403, "PERMISSION_DENIED", FailureKind::Refused),
        (404, "NOT_FOUND", FailureKind::Refused),
        (429, "RESOURCE_EXHAUSTED", FailureKind::Limited),
        (499, "CANCELLED", FailureKind::Server),
        (500, "INTERNAL", FailureKind::Server),
        (503, "UNAVAILABLE", FailureKind::Server),
        (504, "DEADLINE_EXCEEDED", FailureKind::Server),
    ] {
        let failure = fails(status, name, "words", Value::Null);
        assert_eq!((failure.kind, failure.message.as_str(), failure.status), (kind, "words", Some(status)));
        assert_eq!(failure.request_id.as_deref(), Some("r1"));
        // With a good status its code says the same, in an object or a list.
        let error = json!({"error": {"code": status, "message": "words", "status": name}});
        for body in [error.clone(), json!([error])] {
            let in_body = Gemini.answer(&json!({}), &reply(200, &body.to_string(), &[])).unwrap_err();
            assert_eq!((in_body.kind, in_body.status), (kind, Some(200)), "{name}");
        }
    }
    let long = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).";
    assert_eq!(fails(400, "INVALID_ARGUMENT", long, Value::Null).kind, FailureKind::Rejected);
    let page = Gemini.answer(&json!({}), &reply(502, "<html>bad gateway", &[])).unwrap_err();
    assert!(page.message.contains("bad gateway") && page.kind == FailureKind::Server);
}

#[test]
fn a_bad_key_is_a_status_400() {
    let info = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
        "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}}]);
    let kind = |message: &str, details: Value| fails(400, "INVALID_ARGUMENT", message, details).kind;
    assert_eq!(kind("API key expired. Please renew the API key.", info), FailureKind::Key);
    assert_eq!(kind("API key not valid. Please pass a valid API key.", Value::Null), FailureKind::Key);
    assert!(fails(400, "INVALID_ARGUMENT", "API key not valid.", Value::Null).is_final());
}

#[test]
fn patience_as_asked_in_the_body() {
    let quota = |id: &str| {
        json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
        {"quotaMetric": "m", "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}, {"quotaId": id, "quotaValue": "10"}]})
    };
    let info = |delay: &str| json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay});
    let limited = |details: Value| fails(429, "RESOURCE_EXHAUSTED", "words", details);
    let minute = limited(json!([quota("GenerateContentInputTokensPerModelPerMinute-FreeTier"), info("48s")]));
    assert_eq!((minute.kind, minute.retry_after), (FailureKind::Limited, Some(Duration::from_secs(48))));
    assert_eq!(limited(json!([info("1.5s")])).retry_after, Some(Duration::from_millis(1500)));
    for delay in ["soon", "-1s", "infs", "1e99s", ""] {
        assert_eq!(limited(json!([info(delay)])).retry_after, None, "{delay}");
    }
    assert_eq!(limited(Value::Null).retry_after, None);
    // A day's quota comes back in the night, whatever it says.
    let day = limited(json!([quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), info("48s")]));
    assert_eq!(day.kind, FailureKind::Refused);
    let message = "the day's quota is used up (GenerateRequestsPerDayPerProjectPerModel-FreeTier): words";
    assert_eq!(day.message, message);
    // Nor does any wait help where there is no quota, or no money.
    for message in [
        "Quota exceeded for metric: generate_content_free_tier_requests, limit: 0, model: gemini-2.5-pro",
        "Your prepayment credits are depleted.",
        "Your project has exceeded its spending cap.",
    ] {
        assert_eq!(fails(429, "RESOURCE_EXHAUSTED", message, Value::Null).kind, FailureKind::Refused, "{message}");
    }
    let less = "Quota exceeded for metric: m, limit: 20, model: gemini-2.5-pro";
    assert_eq!(fails(429, "RESOURCE_EXHAUSTED", less, Value::Null).kind, FailureKind::Limited);
}
