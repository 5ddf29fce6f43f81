//! OpenAI's chat completions, as OpenAI and the many servers that speak it really behave. Pure: values in, values out.
//!
//! Facts from OpenAI's API reference and from recorded traffic: a refusal comes with `finish_reason: "stop"` and no content;
//! `length` may come with empty content when thinking used the budget; some 429s never pass, however long one waits: those of an
//! account without money, and those of a request that is larger than what may go in a minute.

mod chunks;
mod outputs;
pub(super) mod responses;
mod strict;
mod unsupported;

use serde_json::{Value, json};

use super::http::{self, Reply};
use super::limits::{Counted, Reading};
use super::readings::{Names, readings};
use super::wire::{self, Pieces, Refusal, Refused, Wire, garbled, unsaid};
use super::{Failure, FailureKind};
use crate::digest::Framed;
use crate::llm::{Answer, Request, Stop, Usage};
use crate::prompt::{Message, Role};
use chunks::Chunks;
use unsupported::{Parts, SCHEMA};

/// 429s that waiting does not cure.
const OUT_OF_MONEY: &[&str] = &["insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"];

/// What is said with status 429 of a request that alone is more than may go in a minute.
const TOO_LARGE: &str = "request too large";

/// What its requests can go without.
const PARTS: Parts = Parts {
    fields: &[
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "reasoning_effort",
        "prompt_cache_key",
        CACHE_OPTIONS,
        "max_tokens",
        "max_completion_tokens",
    ],
    schema: ("/response_format/json_schema", &["response_format", "json_schema"]),
    limits: &["max_tokens", "max_completion_tokens"],
};

/// What an error of a name has for a status, where it comes with a good one.
const STATUSES: &[(&str, u16)] = &[
    ("invalid_api_key", 401),
    ("model_not_found", 404),
    ("context_length_exceeded", 400),
    ("invalid_prompt", 400),
    ("invalid_request_error", 400),
    ("rate_limit_exceeded", 429),
    ("server_error", 500),
];

/// OpenAI's chat completions.
pub(super) struct OpenAi {
    /// Whether this is OpenAI itself, where `max_tokens` has another name, and not one of the many that speak its language.
    is_official: bool,
}

impl OpenAi {
    pub fn new(base_url: &str) -> OpenAi {
        OpenAi { is_official: is_official(base_url) }
    }
}

impl Wire for OpenAi {
    fn path(&self, _: &Request, _: &Refused) -> String {
        "/chat/completions".to_owned()
    }

    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)> {
        headers(key)
    }

    fn body(&self, request: &Request, refused: &Refused) -> Value {
        let schema = request.schema.as_ref().and_then(|schema| format(schema, &request.model, refused));
        let is_marked = marks(request, refused);
        let messages = said(request, schema.is_some()).map(|message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Model => "assistant",
            };
            match is_marked && message.role == Role::System {
                true => json!({"role": role, "content": [part("text", request, message.text)]}),
                false => json!({"role": role, "content": message.text}),
            }
        });
        let mut body = json!({"model": request.model, "messages": messages.collect::<Vec<_>>()});
        for (name, value) in request.params.iter().filter(|(name, _)| !refused.has(name)) {
            // What OpenAI never knew is not worth a request that it refuses.
            if !(self.is_official && name == "top_k") {
                body[name] = value.clone();
            }
        }
        let mut names = ["max_tokens", "max_completion_tokens"];
        if self.is_official {
            names.reverse();
        }
        let name = names.into_iter().find(|name| !refused.has(name));
        if let (Some(limit), Some(name)) = (request.max_output_tokens, name) {
            body[name] = refused.most_output(limit).into();
        }
        if let Some(schema) = schema {
            body["response_format"] = response_format(&schema);
        }
        // Others do without: some refuse what they do not know, and none is known to need it.
        if let Some(key) = cache_key(request).filter(|_| self.is_official && !refused.has("prompt_cache_key")) {
            body["prompt_cache_key"] = key.into();
        }
        if is_marked {
            body[CACHE_OPTIONS] = json!({"mode": "explicit"});
        }
        if !refused.has("stream") {
            body["stream"] = true.into();
            if !refused.has("stream_options") {
                body["stream_options"] = json!({"include_usage": true});
            }
        }
        body
    }

    fn most_results(&self, model: &str, schema: &Value) -> Option<usize> {
        strict::most_results(schema, model)
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        unsupported::refusal(&PARTS, sent, reply)
    }

    fn answer(&self, _: &Value, reply: &Reply) -> Result<Answer, Failure> {
        answer(reply)
    }

    fn pieces(&self, _: &Value) -> Box<dyn Pieces> {
        Box::<Chunks>::default()
    }

    fn limits(&self, reply: &Reply) -> Vec<Reading> {
        readings(reply, LIMITS)
    }
}

/// Whether this is OpenAI itself, and not one of the many that speak its language.
pub(super) fn is_official(base_url: &str) -> bool {
    http::host(base_url) == "api.openai.com"
}

/// Where the chat has a schema.
pub(super) fn response_format(schema: &Value) -> Value {
    json!({"type": "json_schema", "json_schema": schema})
}

/// What is said beside a body.
pub(super) fn headers(key: Option<&str>) -> Vec<(&'static str, String)> {
    key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect()
}

/// A schema as both formats ask for it, unless the server takes none, or not this one.
pub(super) fn format(schema: &Value, model: &str, refused: &Refused) -> Option<Value> {
    if refused.has(SCHEMA) || refused.has(&schema.to_string()) {
        return None;
    }
    let is_strict = strict::takes(schema, model) && !refused.has(&unsupported::strict(schema));
    Some(json!({"name": "result", "strict": is_strict, "schema": schema}))
}

/// What is said; where the answer is to have a form and the server holds it to none, that form, too.
pub(super) fn said(request: &Request, is_held: bool) -> impl Iterator<Item = Message> {
    let mut messages = request.messages.clone();
    if let (Some(schema), Some(last), false) = (&request.schema, messages.last_mut(), is_held) {
        last.text += &format!("\n\nAnswer with JSON of this schema and nothing else: {schema}\n");
    }
    messages.into_iter()
}

/// How a request says what is to be kept, where that costs. By itself OpenAI keeps such a request up to its end, which no other
/// begins with, and takes a quarter more for all of it.
pub(super) const CACHE_OPTIONS: &str = "prompt_cache_options";

/// Whether a request is to say itself what is kept of it: models of OpenAI that take more for that know how.
fn marks(request: &Request, refused: &Refused) -> bool {
    let model = request.model.rsplit('/').next().unwrap_or_default();
    request.pays_to_keep && model.starts_with("gpt-") && !refused.has(CACHE_OPTIONS)
}

/// A system part, with the mark of its end if it is to be kept.
fn part(kind: &str, request: &Request, text: String) -> Value {
    let mut part = json!({"type": kind, "text": text});
    if request.keeps_prefix.is_some() {
        part["prompt_cache_breakpoint"] = json!({"mode": "explicit"});
    }
    part
}

/// The name under which a provider keeps what requests begin with: the same for all that begin alike, and nothing of their text.
pub(super) fn cache_key(request: &Request) -> Option<String> {
    let system = request.messages.iter().take_while(|message| message.role == Role::System);
    let has_system = request.messages.first().is_some_and(|message| message.role == Role::System);
    let of_model = Framed::new("prompt-cache-1").field(&request.model);
    has_system.then(|| system.fold(of_model, |framed, message| framed.field(&message.text)).finish().short())
}

/// The headers that say what is left. OpenAI counts an answer as long as it may be.
pub(super) const LIMITS: &[Names] = &[
    (Counted::Requests, ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]),
    (Counted::Tokens, ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]),
];

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
    // Some gateways send an error with status 200, and some beside the choice that it ended.
    let error = body.as_ref().and_then(|body| body.get("error").or_else(|| body.pointer("/choices/0/error")));
    let error = error.filter(|error| !error.is_null());
    if !(200..300).contains(&reply.status) || error.is_some() {
        // Some say what is wrong without a name for it.
        return Err(failure(reply, error.or(body.as_ref()), request_id));
    }
    let mut usage = body.as_ref().map(usage).unwrap_or_default();
    let message = body.as_ref().and_then(|body| body.pointer("/choices/0/message"));
    let Some(message) = message else {
        let stop = Stop::Garbled(garbled(reply));
        return Ok(Answer { text: String::new(), stop, usage, request_id });
    };
    let text = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    only_thought(&mut usage, &text, thought(message).is_some());
    let refusal = message.get("refusal").and_then(Value::as_str);
    let reason = body.as_ref().and_then(|body| body.pointer("/choices/0/finish_reason")).and_then(Value::as_str);
    Ok(Answer { text, stop: stop(refusal, reason), usage, request_id })
}

/// What a model thought, under whichever name: it is no part of the text.
pub(super) fn thought(message: &Value) -> Option<&str> {
    let text = |name: &str| message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text("reasoning_content").or_else(|| text("reasoning"))
}

/// Many servers do not count the tokens of thinking apart; where there is nothing else, all are.
pub(super) fn only_thought(usage: &mut Usage, text: &str, has_thought: bool) {
    if usage.reasoning == 0 && has_thought && text.is_empty() {
        usage.reasoning = usage.output;
    }
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
    let of_name = || STATUSES.iter().find(|(name, _)| *name == code).map(|(_, status)| *status);
    let named = named.or_else(of_name);
    let status = match reply.status {
        200..300 => named.filter(|code| (400..600).contains(code)).unwrap_or(reply.status),
        status => status,
    };
    // What a gateway's own filter stops is this request's trouble.
    let is_filtered = error.is_some_and(|error| error.pointer("/metadata/reasons").is_some());
    let message = error.and_then(words).unwrap_or_else(|| unsaid(reply));
    let kind = match status {
        _ if out_of_money => FailureKind::Refused,
        403 if is_filtered => FailureKind::Rejected,
        429 if message.to_ascii_lowercase().starts_with(TOO_LARGE) => FailureKind::Rejected,
        status => wire::kind(status),
    };
    Failure { kind, status: Some(reply.status), message, request_id, retry_after: wire::retry_after(reply) }
}

/// How much is shown of what stands behind an error.
const MOST_RAW: usize = 400;

/// What an error says: in its message; behind a gateway's, what the provider said; and the numbers that a server has apart.
pub(super) fn words(error: &Value) -> Option<String> {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let mut said = text("message").or_else(|| text("detail")).or(error.as_str())?.to_owned();
    if let Some(raw) = error.pointer("/metadata/raw").and_then(Value::as_str) {
        let inner: Option<Value> = serde_json::from_str(raw).ok();
        let inner = inner.as_ref().map(|inner| inner.get("error").unwrap_or(inner)).and_then(words);
        let raw: String = inner.unwrap_or_else(|| raw.to_owned()).chars().take(MOST_RAW).collect();
        said += &format!(": {raw}");
    }
    let number = |name: &str| error.get(name).and_then(Value::as_u64);
    if let (Some(prompt), Some(window)) = (number("n_prompt_tokens"), number("n_ctx"))
        && !said.contains(&prompt.to_string())
    {
        said += &format!(" (the prompt has {prompt} tokens, the context {window})");
    }
    Some(said)
}

#[cfg(test)]
mod tests {
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
        let busy =
            says(429, of(429, json!({"raw": "glm is temporarily rate-limited upstream.", "provider_name": "X"})));
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
}
