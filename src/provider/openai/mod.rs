//! OpenAI's chat completions, as OpenAI and the many servers that speak it really behave. Pure: values in, values out.
//!
//! Facts from OpenAI's API reference and from recorded traffic: a refusal comes with `finish_reason: "stop"` and no content;
//! `length` may come with empty content when thinking used the budget; some 429s never pass, however long one waits: those of an
//! account without money, and those of a request that is larger than what may go in a minute.

mod chunks;
pub(super) mod embeddings;
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
const PARTS: Parts<'_> = Parts {
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
        let last = request.messages.len().saturating_sub(1);
        let messages = said(request, schema.is_some()).enumerate().map(|(at, message)| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Model => "assistant",
            };
            match is_marked && (message.role == Role::System || request.is_gone_on_from && at == last) {
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
        // With several marks what is before the last of them is kept.
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
mod tests;
