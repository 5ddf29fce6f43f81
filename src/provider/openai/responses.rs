//! OpenAI's responses, as OpenAI and the servers that speak them really behave. Pure: values in, values out.
//!
//! From OpenAI's API reference and from recorded traffic: what is sent is kept by the provider unless that is declined; a limit of
//! output tokens below 16 is refused; of what comes out, items of thinking stand beside the messages, and a message may be a remark
//! on the way and not the answer; an answer that was cut is *incomplete*, one that failed is an error with a good status. llama.cpp
//! takes the schema in the chat's place only, and says of an answer that it cut that it is complete.

use serde_json::{Value, json};

use super::outputs::Outputs;
use super::strict;
use super::unsupported::{self, Parts};
use crate::llm::{Answer, Request, Stop, Usage};
use crate::prompt::Role;
use crate::provider::Failure;
use crate::provider::http::Reply;
use crate::provider::limits::Reading;
use crate::provider::openai;
use crate::provider::readings::readings;
use crate::provider::wire::{self, Pieces, Refusal, Refused, Wire};

/// The lowest limit of output tokens that is taken.
const LEAST_OUTPUT: u64 = 16;

/// What its requests can go without.
const PARTS: Parts<'_> = Parts {
    fields: &[
        "temperature",
        "top_p",
        "reasoning",
        "prompt_cache_key",
        openai::CACHE_OPTIONS,
        "store",
        "max_output_tokens",
        "response_format",
    ],
    schema: ("/text/format", &["text.format", "json_schema", "format"]),
    limits: &["max_output_tokens"],
};

/// OpenAI's responses.
pub(in crate::provider) struct Responses {
    /// Whether this is OpenAI itself, which knows its own format alone.
    is_official: bool,
}

impl Responses {
    pub fn new(base_url: &str) -> Responses {
        Responses { is_official: openai::is_official(base_url) }
    }
}

impl Wire for Responses {
    fn path(&self, _: &Request, _: &Refused) -> String {
        "/responses".to_owned()
    }

    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)> {
        openai::headers(key)
    }

    fn body(&self, request: &Request, refused: &Refused) -> Value {
        let schema = request.schema.as_ref().and_then(|schema| openai::format(schema, &request.model, refused));
        let speaks = request.messages.iter().any(|message| message.role != Role::System);
        let is_marked = speaks && openai::marks(request, refused);
        let (mut instructions, mut input) = (Vec::new(), Vec::new());
        let last = request.messages.len().saturating_sub(1);
        for (at, message) in openai::said(request, schema.is_some()).enumerate() {
            match message.role {
                Role::User if is_marked && request.is_gone_on_from && at == last => {
                    input.push(json!({"role": "user", "content": [openai::part("input_text", request, message.text)]}));
                }
                // Instructions cannot be marked.
                Role::System if is_marked => {
                    input.push(
                        json!({"role": "developer", "content": [openai::part("input_text", request, message.text)]}),
                    );
                }
                Role::System => instructions.push(message.text),
                Role::User => input.push(json!({"role": "user", "content": message.text})),
                // A message of its own kind: some servers take what the model said in parts only.
                Role::Model => input.push(json!({"type": "message", "role": "assistant", "content":
                    [{"type": "output_text", "text": message.text, "annotations": []}]})),
            }
        }
        // There is no request in which nobody else speaks.
        if input.is_empty() {
            input = instructions.drain(..).map(|text| json!({"role": "user", "content": text})).collect();
        }
        let mut body = json!({"model": request.model});
        if !instructions.is_empty() {
            body["instructions"] = instructions.join("\n\n").into();
        }
        body["input"] = input.into();
        let mut field = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|_| !refused.has(name)) {
                body[name] = value;
            }
        };
        field("temperature", request.params.get("temperature").cloned());
        field("top_p", request.params.get("top_p").cloned());
        field("reasoning", request.params.get("reasoning_effort").map(|effort| json!({"effort": effort})));
        let limit = request.max_output_tokens.map(|limit| refused.most_output(limit).max(LEAST_OUTPUT));
        field("max_output_tokens", limit.map(Value::from));
        field("prompt_cache_key", openai::cache_key(request).map(Value::from));
        field(openai::CACHE_OPTIONS, is_marked.then(|| json!({"mode": "explicit"})));
        field("store", Some(false.into()));
        field("stream", Some(true.into()));
        if let Some(mut schema) = schema {
            if !self.is_official && !refused.has("response_format") {
                body["response_format"] = openai::response_format(&schema);
            }
            schema["type"] = "json_schema".into();
            body["text"] = json!({"format": schema});
        }
        body
    }

    fn most_results(&self, model: &str, schema: &Value) -> Option<usize> {
        strict::most_results(schema, model)
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        unsupported::refusal(&PARTS, sent, reply)
    }

    fn answer(&self, sent: &Value, reply: &Reply) -> Result<Answer, Failure> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let request_id = openai::request_id(reply);
        let error = body.as_ref().and_then(|body| body.get("error")).filter(|error| !error.is_null());
        if !(200..300).contains(&reply.status) || error.is_some() {
            return Err(openai::failure(reply, error.or(body.as_ref()), request_id));
        }
        match body.filter(|body| body.get("output").is_some_and(Value::is_array)) {
            Some(body) => {
                let Said { text, refusal } = said(&body);
                Ok(Answer { text, stop: stop(limit(sent), &refusal, &body), usage: usage(&body), request_id })
            }
            None => {
                let stop = Stop::Garbled(wire::garbled(reply));
                Ok(Answer { text: String::new(), stop, usage: Usage::default(), request_id })
            }
        }
    }

    fn pieces(&self, sent: &Value) -> Box<dyn Pieces> {
        Box::new(Outputs::new(sent))
    }

    fn limits(&self, reply: &Reply) -> Vec<Reading> {
        readings(reply, openai::LIMITS)
    }
}

/// What the messages of a response say.
#[derive(Default)]
pub(super) struct Said {
    pub text: String,
    pub refusal: String,
}

/// Whether an item of what came out is a message, and not a remark on the way to it.
pub(super) fn is_answer(item: &Value) -> bool {
    item["type"] == "message" && item.get("phase").is_none_or(|phase| phase != "commentary")
}

/// What a response says.
pub(super) fn said(response: &Value) -> Said {
    let items = response.get("output").and_then(Value::as_array).into_iter().flatten();
    let parts = items.filter(|item| is_answer(item)).filter_map(|item| item.get("content")?.as_array()).flatten();
    let mut said = Said::default();
    for part in parts {
        match part["type"].as_str() {
            Some("output_text") => said.text += part["text"].as_str().unwrap_or_default(),
            Some("refusal") => said.refusal += part["refusal"].as_str().unwrap_or_default(),
            _ => {}
        }
    }
    said
}

/// The limit of output tokens that a body says.
pub(super) fn limit(sent: &Value) -> Option<u64> {
    sent.get("max_output_tokens").and_then(Value::as_u64)
}

/// Why a response ended, of which no more was wanted than so much.
pub(super) fn stop(limit: Option<u64>, refusal: &str, response: &Value) -> Stop {
    let reason = response.pointer("/incomplete_details/reason").and_then(Value::as_str);
    // Where a server knows nothing of incomplete answers, only their length tells.
    let is_full = || limit.is_some_and(|limit| usage(response).output >= limit);
    match (refusal, response["status"].as_str(), reason) {
        (refusal, ..) if !refusal.is_empty() => Stop::Refused(refusal.to_owned()),
        (_, Some("completed"), None) if response.get("incomplete_details").is_none() && is_full() => Stop::Length,
        (_, Some("incomplete"), Some("content_filter")) => {
            Stop::Refused("the provider's content filter stopped the answer".to_owned())
        }
        (_, Some("incomplete"), None | Some("max_output_tokens")) => Stop::Length,
        (_, Some("incomplete"), Some(other)) => Stop::Garbled(format!("the provider left it incomplete: {other}")),
        (_, Some(status @ ("cancelled" | "failed" | "in_progress" | "queued")), _) => {
            Stop::Garbled(format!("the provider did not come to its end: it is {status}"))
        }
        _ => Stop::End,
    }
}

/// The tokens that a response says.
pub(super) fn usage(response: &Value) -> Usage {
    let count = |pointer: &str| wire::tokens(response.pointer(pointer)).unwrap_or(0);
    let input = count("/usage/input_tokens");
    let cached = count("/usage/input_tokens_details/cached_tokens").min(input);
    let cache_write = count("/usage/input_tokens_details/cache_write_tokens").min(input - cached);
    let output = count("/usage/output_tokens");
    let reasoning = count("/usage/output_tokens_details/reasoning_tokens").min(output);
    Usage { input, cached, cache_write, output, reasoning, ..Usage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Message;
    use crate::provider::FailureKind;
    use crate::provider::wire::tests::{self, refused, reply};

    fn request() -> Request {
        let mut request = tests::request("m");
        request.params = json!({"temperature": 0, "seed": 1, "reasoning_effort": "low"}).as_object().unwrap().clone();
        request.messages.push(Message { role: Role::Model, text: "a".into() });
        request.schema = Some(json!({"type": "object", "additionalProperties": false}));
        request
    }

    fn body(request: &Request, parts: &[&str]) -> Value {
        Responses { is_official: true }.body(request, &refused(parts))
    }

    fn answers(body: &Value) -> Result<Answer, Failure> {
        Responses { is_official: true }
            .answer(&json!({"max_output_tokens": 7}), &reply(200, &body.to_string(), &[("x-request-id", "req-1")]))
    }

    #[test]
    fn where_keeping_costs_only_what_is_marked_is_kept() {
        let marked = Request { model: "gpt-5.6-terra".into(), pays_to_keep: true, schema: None, ..request() };
        let kept = Request { keeps_prefix: Some(crate::llm::Keep::Short), ..marked.clone() };
        let wire = Responses::new("https://api.openai.com/v1");
        let body = wire.body(&kept, &refused(&[]));
        let part = json!({"type": "input_text", "text": "s", "prompt_cache_breakpoint": {"mode": "explicit"}});
        assert_eq!(body["input"][0], json!({"role": "developer", "content": [part]}));
        assert_eq!((body.get("instructions"), &body["prompt_cache_options"]), (None, &json!({"mode": "explicit"})));
        let body = wire.body(&marked, &refused(&[]));
        assert_eq!(body["input"][0]["content"], json!([{"type": "input_text", "text": "s"}]));
        assert_eq!(body["prompt_cache_options"]["mode"], "explicit");
        let body = wire.body(&kept, &refused(&["prompt_cache_options"]));
        assert_eq!((&body["instructions"], body.get("prompt_cache_options")), (&json!("s"), None));
    }

    #[test]
    fn a_request_on_the_wire() {
        let sent = body(&request(), &[]);
        let key = sent["prompt_cache_key"].as_str().unwrap();
        let want = json!({
            "model": "m",
            "instructions": "s",
            "input": [
                {"role": "user", "content": "u"},
                {"type": "message", "role": "assistant",
                    "content": [{"type": "output_text", "text": "a", "annotations": []}]},
            ],
            "temperature": 0, "reasoning": {"effort": "low"}, "max_output_tokens": 16, "prompt_cache_key": key,
            "store": false, "stream": true,
            "text": {"format": {"type": "json_schema", "name": "result", "strict": true,
                "schema": {"type": "object", "additionalProperties": false}}},
        });
        assert_eq!(sent, want);
        let other = Responses::new("http://127.0.0.1:8080/v1");
        assert_eq!(other.headers(Some("k")), [("authorization", "Bearer k".to_owned())]);
        assert!(Responses::new("https://api.openai.com/v1").is_official);
        // In both places: each is known to some.
        let sent = other.body(&request(), &refused(&[]));
        assert_eq!(sent["text"], want["text"]);
        assert_eq!(sent["response_format"]["json_schema"]["schema"], want["text"]["format"]["schema"]);
        let sent = other.body(&request(), &refused(&["response_format"]));
        assert_eq!((&sent["text"], sent.get("response_format")), (&want["text"], None));
    }

    #[test]
    fn what_is_refused_is_left_out() {
        let bare = ["temperature", "reasoning", "prompt_cache_key", "store", "max_output_tokens", "stream"];
        let sent = body(&request(), &bare);
        assert!(bare.iter().all(|name| sent.get(*name).is_none()) && sent.get("text").is_some());
        let mut request = request();
        request.messages.pop();
        let sent = body(&request, &["schema"]);
        assert_eq!(sent.get("text"), None);
        let said = sent["input"][0]["content"].as_str().unwrap();
        assert!(said.starts_with("u\n") && said.contains(r#"schema and nothing else: {"type":"object""#), "{said}");
        request.schema = None;
        request.messages.truncate(1);
        let sent = body(&request, &[]);
        assert_eq!((sent.get("instructions"), &sent["input"]), (None, &json!([{"role": "user", "content": "s"}])));
    }

    #[test]
    fn answers_and_why_they_ended() {
        let ended = |status: &str, reason: Value, part: Value| {
            let message = |phase: &str, part: Value| json!({"type": "message", "phase": phase, "content": [part]});
            let items = [
                json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}),
                message("commentary", json!({"type": "output_text", "text": "First,"})),
                message("final_answer", part),
            ];
            answers(&json!({"status": status, "error": null, "incomplete_details": {"reason": reason}, "output": items,
                "usage": {"input_tokens": 41, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 30,
                "cache_write_tokens": 10}, "output_tokens_details": {"reasoning_tokens": 5}}}))
            .unwrap()
        };
        let text = || json!({"type": "output_text", "text": "hi"});
        let good = ended("completed", Value::Null, text());
        let usage = Usage { input: 41, cached: 30, cache_write: 10, output: 7, reasoning: 5, ..Usage::default() };
        let id = Some("req-1".to_owned());
        assert_eq!(good, Answer { text: "hi".into(), stop: Stop::End, usage, request_id: id });
        assert_eq!(ended("incomplete", json!("max_output_tokens"), text()).stop, Stop::Length);
        assert!(matches!(ended("incomplete", json!("content_filter"), text()).stop, Stop::Refused(_)));
        let refusal = json!({"type": "refusal", "refusal": "no"});
        assert_eq!(ended("completed", Value::Null, refusal).stop, Stop::Refused("no".into()));
        let cut = json!({"status": "completed", "output": [], "usage": {"output_tokens": 7}});
        assert_eq!(answers(&cut).unwrap().stop, Stop::Length);
        assert!(matches!(ended("incomplete", json!("new_reason"), text()).stop, Stop::Garbled(_)));
        for status in ["cancelled", "failed", "in_progress", "queued"] {
            let stop = ended(status, Value::Null, text()).stop;
            assert!(matches!(&stop, Stop::Garbled(what) if what.contains(status)), "{stop:?}");
        }
        assert!(matches!(answers(&json!({"id": "x"})).unwrap().stop, Stop::Garbled(_)));
    }

    #[test]
    fn failures_with_a_good_status() {
        let fails = |code: &str| {
            let error = json!({"code": code, "message": "words"});
            answers(&json!({"status": "failed", "error": error, "output": []})).unwrap_err().kind
        };
        assert_eq!(fails("server_error"), FailureKind::Server);
        assert_eq!(fails("rate_limit_exceeded"), FailureKind::Limited);
        assert_eq!(fails("insufficient_quota"), FailureKind::Refused);
        assert_eq!(fails("credit_balance_exhausted"), FailureKind::Refused);
        assert_eq!(fails("invalid_prompt"), FailureKind::Rejected);
        assert_eq!(fails("context_length_exceeded"), FailureKind::Rejected);
    }
}
