//! OpenAI's chat completions, as OpenAI and the many servers that speak it really behave. Pure: values in, values out.
//!
//! Facts from OpenAI's API reference and from recorded traffic: a refusal comes with `finish_reason: "stop"` and no content;
//! `length` may come with empty content when thinking used the budget; some 429s never pass, however long one waits.

use serde_json::{Value, json};

use super::chunks::Chunks;
use super::http::{self, Reply};
use super::wire::{self, Pieces, Refusal, Refused, Wire, garbled, unsaid};
use super::{Failure, FailureKind, strict};
use crate::llm::{Answer, Request, Stop, Usage};
use crate::prompt::Role;

/// 429s that waiting does not cure.
const OUT_OF_MONEY: &[&str] = &["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"];

/// OpenAI's chat completions.
pub(super) struct OpenAi {
    /// Whether this is OpenAI itself, where `max_tokens` has another name, and not one of the many that speak its language.
    is_official: bool,
}

impl OpenAi {
    pub fn new(base_url: &str) -> OpenAi {
        OpenAi { is_official: http::host(base_url) == "api.openai.com" }
    }
}

impl Wire for OpenAi {
    fn path(&self, _: &Request) -> String {
        "/chat/completions".to_owned()
    }

    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)> {
        key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
    }

    fn body(&self, request: &Request, refused: &Refused) -> Value {
        let messages = request.messages.iter().map(|message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Model => "assistant",
            };
            json!({"role": role, "content": message.text})
        });
        let mut body = json!({"model": request.model, "messages": messages.collect::<Vec<_>>()});
        for (name, value) in &request.params {
            body[name] = value.clone();
        }
        if let Some(limit) = request.max_output_tokens {
            body[if self.is_official { "max_completion_tokens" } else { "max_tokens" }] = limit.into();
        }
        if let Some(schema) = &request.schema {
            let schema = json!({"name": "result", "strict": strict::takes(schema), "schema": schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        if !refused.has("stream") {
            body["stream"] = true.into();
            if !refused.has("stream_options") {
                body["stream_options"] = json!({"include_usage": true});
            }
        }
        body
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        if !matches!(reply.status, 400 | 422 | 501) || sent.get("stream").is_none() {
            return None;
        }
        let body = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
        if sent.get("stream_options").is_some() && body.contains("stream_options") {
            return Some(Refusal::Part("stream_options".to_owned()));
        }
        // By whole words: what an upstream server says is another matter.
        let mut words = body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.any(|word| word.starts_with("stream")).then(|| Refusal::Part("stream".to_owned()))
    }

    fn answer(&self, _: &Value, reply: &Reply) -> Result<Answer, Failure> {
        answer(reply)
    }

    fn pieces(&self, _: &Value) -> Box<dyn Pieces> {
        Box::<Chunks>::default()
    }
}

/// The provider's name for a request.
pub(super) fn request_id(reply: &Reply) -> Option<String> {
    reply.header("x-request-id").map(str::to_owned)
}

/// Why an answer ended.
pub(super) fn stop(refusal: Option<&str>, reason: Option<&str>) -> Stop {
    match (refusal, reason) {
        (Some(refusal), _) => Stop::Refused(refusal.to_owned()),
        (_, Some("length")) => Stop::Length,
        (_, Some("content_filter")) => Stop::Refused("the provider's content filter stopped the answer".to_owned()),
        _ => Stop::End,
    }
}

fn answer(reply: &Reply) -> Result<Answer, Failure> {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let request_id = request_id(reply);
    // Some gateways send an error with status 200.
    let error = body.as_ref().and_then(|body| body.get("error")).filter(|error| !error.is_null());
    if !(200..300).contains(&reply.status) || error.is_some() {
        return Err(failure(reply, error, request_id));
    }
    let usage = body.as_ref().map(usage).unwrap_or_default();
    let message = body.as_ref().and_then(|body| body.pointer("/choices/0/message"));
    let Some(message) = message else {
        let stop = Stop::Garbled(garbled(reply));
        return Ok(Answer { text: String::new(), stop, usage, request_id });
    };
    let text = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let refusal = message.get("refusal").and_then(Value::as_str);
    let reason = body.as_ref().and_then(|body| body.pointer("/choices/0/finish_reason")).and_then(Value::as_str);
    Ok(Answer { text, stop: stop(refusal, reason), usage, request_id })
}

/// The tokens that a body, or a piece of one, says.
pub(super) fn usage(body: &Value) -> Usage {
    let count = |pointer: &str| wire::tokens(body.pointer(pointer)).unwrap_or(0);
    let input = count("/usage/prompt_tokens");
    let cached = count("/usage/prompt_tokens_details/cached_tokens").min(input);
    let cache_write = count("/usage/prompt_tokens_details/cache_write_tokens").min(input - cached);
    let output = count("/usage/completion_tokens");
    let reasoning = count("/usage/completion_tokens_details/reasoning_tokens").min(output);
    Usage { input, cached, cache_write, output, reasoning, ..Usage::default() }
}

/// What is wrong, from the status and the provider's words.
pub(super) fn failure(reply: &Reply, error: Option<&Value>, request_id: Option<String>) -> Failure {
    let text = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let code = text("code").or_else(|| text("type")).unwrap_or_default();
    let out_of_money = OUT_OF_MONEY.contains(&code) || text("type").is_some_and(|kind| OUT_OF_MONEY.contains(&kind));
    // Where the status is a good one, the error may name the true one.
    let named = error.and_then(|error| error.get("code")).and_then(Value::as_u64).and_then(|code| code.try_into().ok());
    let status = match reply.status {
        200..300 => named.filter(|code| (400..600).contains(code)).unwrap_or(reply.status),
        status => status,
    };
    let kind = match status {
        _ if out_of_money => FailureKind::Refused,
        status => wire::kind(status),
    };
    let said = text("message").or_else(|| error.and_then(Value::as_str)).map(str::to_owned);
    let message = said.unwrap_or_else(|| unsaid(reply));
    Failure { kind, status: Some(reply.status), message, request_id, retry_after: wire::retry_after(reply) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Message;
    use crate::provider::wire::tests::{refused, reply};
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
            keeps_prefix: false,
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
    }

    #[test]
    fn the_key_goes_into_its_header() {
        let wire = OpenAi::new("https://api.openai.com/v1");
        assert!(wire.is_official && !OpenAi::new("http://127.0.0.1/v1").is_official);
        assert_eq!(wire.headers(Some("k")), [("authorization", "Bearer k".to_owned())]);
        assert_eq!(wire.headers(None), []);
    }

    #[test]
    fn what_a_server_refuses_is_left_out() {
        let says = |parts: &[&str], status, text: &str| {
            let wire = OpenAi { is_official: false };
            let sent: Value = parts.iter().map(|part| ((*part).to_owned(), json!(true))).collect();
            wire.refusal(&sent, &reply(status, text, &[])).map(|refusal| match refusal {
                Refusal::Part(part) => part,
                other => panic!("{other:?}"),
            })
        };
        let (options, stream) = (Some("stream_options".to_owned()), Some("stream".to_owned()));
        let text = r#"{"error": {"message": "Unknown parameter: 'stream_options'."}}"#;
        let both = &["stream", "stream_options"];
        assert_eq!(says(both, 400, text), options);
        assert_eq!(says(&["stream"], 400, text), stream);
        assert_eq!(says(both, 422, r#"{"detail": [{"loc": ["body", "stream"]}]}"#), stream);
        assert_eq!(says(&["stream"], 501, "Streaming is not supported."), stream);
        assert_eq!(says(both, 400, "the upstream server refused the request"), None);
        assert_eq!(says(&[], 400, text), None);
        assert_eq!(says(both, 400, "too long"), None);
        assert_eq!(says(both, 500, "stream"), None);
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
        let garbled = |body: &str| match answer(&reply(200, body, &[("content-type", "text/html")])).unwrap().stop {
            Stop::Garbled(what) => what,
            other => panic!("{other:?}"),
        };
        assert!(garbled("<html>").contains("text/html"));
        assert!(garbled(r#"{"choices": [{"mess"#).contains("choices"));
        assert!(garbled("").contains("empty"));
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
        let quota = r#"{"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}}"#;
        assert_eq!(fails(429, quota, &[("retry-after", "1")]).kind, FailureKind::Refused);
        assert_eq!(fails(200, body, &[]).kind, FailureKind::Server);
        assert!(fails(502, "<html>bad gateway", &[("content-type", "text/html")]).message.contains("bad gateway"));
        assert!(fails(301, "", &[("location", "http://x")]).message.contains("http://x"));
    }

    #[test]
    fn patience_as_asked() {
        assert_eq!(fails(429, "{}", &[("retry-after", "2")]).retry_after, Some(Duration::from_secs(2)));
    }
}
