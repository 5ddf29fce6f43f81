//! OpenAI's chat completions, as OpenAI and the many servers that speak it really behave. Pure: values in, values out.
//!
//! Facts from OpenAI's API reference and from recorded traffic: a refusal comes with `finish_reason: "stop"` and no content;
//! `length` may come with empty content when thinking used the budget; some 429s never pass, however long one waits.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::Reply;
use super::{Failure, FailureKind, strict};
use crate::llm::{Answer, Request, Stop, Usage};
use crate::prompt::Role;

/// 429s that waiting does not cure.
const OUT_OF_MONEY: &[&str] = &["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"];

/// How an answer is asked for. Servers that refuse a part of it are asked without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// In pieces, with its tokens at the end.
    Stream,
    /// In pieces.
    BareStream,
    /// In one.
    Whole,
}

impl Way {
    /// How to ask instead, where a server refused a request because of how it asks.
    pub fn after(self, reply: &Reply) -> Option<Way> {
        let body = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
        // By whole words: what an upstream server says is another matter.
        let mut words = body.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        match (reply.status, self) {
            (400 | 422 | 501, Way::Stream) if body.contains("stream_options") => Some(Way::BareStream),
            (400 | 422 | 501, Way::Stream | Way::BareStream) if words.any(|word| word.starts_with("stream")) => {
                Some(Way::Whole)
            }
            _ => None,
        }
    }
}

/// The body of a request. `official` is OpenAI itself, where `max_tokens` has another name.
pub(super) fn body(request: &Request, official: bool, way: Way) -> Value {
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
        body[if official { "max_completion_tokens" } else { "max_tokens" }] = limit.into();
    }
    if let Some(schema) = &request.schema {
        let schema = json!({"name": "result", "strict": strict::takes(schema), "schema": schema});
        body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
    }
    if way != Way::Whole {
        body["stream"] = true.into();
    }
    if way == Way::Stream {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
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

/// The answer in a reply.
///
/// # Errors
/// What the status says, in the provider's own words.
pub(super) fn answer(reply: &Reply) -> Result<Answer, Failure> {
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

/// More tokens than any model takes or writes.
const MOST: u64 = 1 << 32;

/// The tokens that a body, or a piece of one, says.
pub(super) fn usage(body: &Value) -> Usage {
    // What no request can take was not counted.
    let count =
        |pointer: &str| body.pointer(pointer).and_then(Value::as_u64).filter(|tokens| *tokens <= MOST).unwrap_or(0);
    let input = count("/usage/prompt_tokens");
    let cached = count("/usage/prompt_tokens_details/cached_tokens").min(input);
    let cache_write = count("/usage/prompt_tokens_details/cache_write_tokens").min(input - cached);
    Usage { input, cached, cache_write, output: count("/usage/completion_tokens") }
}

/// What a body that is no answer looks like.
fn garbled(reply: &Reply) -> String {
    let kind = reply.header("content-type").unwrap_or("no content type");
    let text = String::from_utf8_lossy(&reply.body);
    let start: String = text.trim().chars().take(60).collect();
    match start.is_empty() {
        true => "the provider sent an empty body".to_owned(),
        false => format!("the provider sent something that is no answer ({kind}): {start:?}"),
    }
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
        401..=404 => FailureKind::Refused,
        408 | 409 | 429 => FailureKind::Limited,
        500.. => FailureKind::Server,
        200..300 => FailureKind::Server,
        _ => FailureKind::Rejected,
    };
    let said = text("message").or_else(|| error.and_then(Value::as_str)).map(str::to_owned);
    let message = said.unwrap_or_else(|| match reply.status {
        300..400 => format!("it redirects to `{}`, which is not followed", reply.header("location").unwrap_or("?")),
        _ => garbled(reply),
    });
    Failure { kind, status: Some(reply.status), message, request_id, retry_after: retry_after(reply) }
}

/// `retry-after-ms`, or `retry-after` in seconds; a date is not understood and left to the backoff.
fn retry_after(reply: &Reply) -> Option<Duration> {
    let number = |name: &str| reply.header(name)?.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let millis = number("retry-after-ms").map(|ms| ms / 1000.0);
    let seconds = number("retry-after");
    let longest = millis.into_iter().chain(seconds).fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
    longest.map(|seconds| Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Message;
    use ureq::http::{HeaderMap, HeaderName, HeaderValue};

    fn reply(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Reply { status, headers: map, body: body.into() }
    }

    fn fails(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Failure {
        answer(&reply(status, body, headers)).unwrap_err()
    }

    #[test]
    fn a_request_on_the_wire() {
        let request = Request {
            model: "m".into(),
            params: json!({"temperature": 0, "seed": 1}).as_object().unwrap().clone(),
            max_output_tokens: Some(9),
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
        assert_eq!(body(&request, false, Way::Whole), want);
        let open = Request { schema: Some(json!({"type": "object"})), ..request.clone() };
        assert_eq!(body(&open, false, Way::Whole)["response_format"]["json_schema"]["strict"], false);
        assert_eq!(body(&request, true, Way::Stream)["max_completion_tokens"], 9);
        assert_eq!(body(&request, true, Way::Stream).get("max_tokens"), None);
        let streamed = body(&request, false, Way::Stream);
        assert_eq!((&streamed["stream"], &streamed["stream_options"]), (&json!(true), &json!({"include_usage": true})));
        assert_eq!(body(&request, false, Way::BareStream).get("stream_options"), None);
    }

    #[test]
    fn what_a_server_refuses_is_left_out() {
        let says = |way: Way, status, text: &str| way.after(&reply(status, text, &[]));
        let options = r#"{"error": {"message": "Unknown parameter: 'stream_options'."}}"#;
        assert_eq!(says(Way::Stream, 400, options), Some(Way::BareStream));
        assert_eq!(says(Way::BareStream, 400, options), Some(Way::Whole));
        assert_eq!(says(Way::Stream, 422, r#"{"detail": [{"loc": ["body", "stream"]}]}"#), Some(Way::Whole));
        assert_eq!(says(Way::BareStream, 501, "Streaming is not supported."), Some(Way::Whole));
        assert_eq!(says(Way::Stream, 400, "the upstream server refused the request"), None);
        assert_eq!(says(Way::Whole, 400, options), None);
        assert_eq!(says(Way::Stream, 400, "too long"), None);
        assert_eq!(says(Way::Stream, 500, "stream"), None);
    }

    #[test]
    fn answers_and_why_they_ended() {
        let ended = |message: &str, reason: &str| {
            let body = format!(
                r#"{{"choices": [{{"message": {message}, "finish_reason": "{reason}"}}], "usage": {{"prompt_tokens": 41,
                "completion_tokens": 7, "prompt_tokens_details": {{"cached_tokens": 40}}}}}}"#
            );
            answer(&reply(200, &body, &[("x-request-id", "req-1")])).unwrap()
        };
        let good = ended(r#"{"content": "hi"}"#, "stop");
        assert_eq!((good.text.as_str(), good.stop, good.request_id.as_deref()), ("hi", Stop::End, Some("req-1")));
        assert_eq!(good.usage, Usage { input: 41, cached: 40, cache_write: 0, output: 7 });
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
        let wait = |headers: &[(&'static str, &'static str)]| fails(429, "{}", headers).retry_after;
        assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "0")]), Some(Duration::from_secs(1)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None);
        assert_eq!(wait(&[("retry-after", "-1")]), None);
    }
}
