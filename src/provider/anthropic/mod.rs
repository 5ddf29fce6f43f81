//! Anthropic's Messages API as it really behaves. Pure: values in, values out.
//!
//! From Anthropic's API reference and from recorded traffic: a limit of output tokens is required; what was written to the cache
//! and read from it is not in `input_tokens`; a block of thinking may come before the text, and its tokens are in `output_tokens`;
//! newer models refuse `temperature` and the like, older ones `output_config`, and a model that is made to use a tool gives its input
//! the form that is asked for as well.

mod blocks;
mod grammar;

use serde_json::{Map, Value, json};

use super::http::Reply;
use super::limits::{Counted, Counts, Reading};
use super::readings::{Names, readings};
use super::wire::{self, Pieces, Refusal, Refused, Wire};
use super::{Failure, FailureKind};
use crate::llm::{Answer, Keep, Request, Stop, Usage};
use crate::prompt::{Message, Role};
use blocks::Blocks;

/// The version of the API that is spoken.
const VERSION: &str = "2023-06-01";

/// The limit of output tokens where neither the request has one nor the model is known.
const MOST_OUTPUT: u64 = 16_384;

/// The tool that takes a result whose schema cannot be asked for otherwise.
const TOOL: &str = "result";

/// Our sampling parameters that the API knows, and its names for them. Of two that exclude each other the first is given up.
const PARAMS: &[(&str, &str)] =
    &[("top_k", "top_k"), ("top_p", "top_p"), ("temperature", "temperature"), ("stop", "stop_sequences")];

/// What an error of a kind has for a status, where it comes with a good one.
const STATUSES: &[(&str, u16)] = &[
    ("invalid_request_error", 400),
    ("authentication_error", 401),
    ("billing_error", 402),
    ("permission_error", 403),
    ("not_found_error", 404),
    ("request_too_large", 413),
    ("rate_limit_error", 429),
    ("api_error", 500),
    ("timeout_error", 504),
    ("overloaded_error", 529),
];

/// What is said with status 400 when no request can succeed.
const OUT_OF_MONEY: &[&str] = &["credit balance is too low", "reached your specified api usage limits"];

/// Anthropic's Messages API.
pub(super) struct Anthropic;

impl Wire for Anthropic {
    fn path(&self, _: &Request, _: &Refused) -> String {
        "/messages".to_owned()
    }

    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let key = key.map(|key| ("x-api-key", key.to_owned()));
        key.into_iter().chain([("anthropic-version", VERSION.to_owned())]).collect()
    }

    fn marks_prefix(&self) -> bool {
        true
    }

    fn body(&self, request: &Request, refused: &Refused) -> Value {
        let limit = request.max_output_tokens.or(request.most_output).unwrap_or(MOST_OUTPUT);
        let mut body = json!({"model": request.model, "max_tokens": refused.most_output(limit)});
        let (system, messages) = said(request, refused);
        if !system.is_empty() {
            body["system"] = system.into();
        }
        body["messages"] = messages.into();
        for (ours, theirs) in PARAMS {
            if let Some(value) = request.params.get(*ours).filter(|_| !refused.has(theirs)) {
                body[*theirs] = match value {
                    Value::String(one) if *ours == "stop" => json!([one]),
                    value => value.clone(),
                };
            }
        }
        let has_config = !refused.has("output_config");
        if let Some(effort) = request.params.get("reasoning_effort").filter(|_| has_config && !refused.has("effort")) {
            body["output_config"]["effort"] = effort.clone();
        }
        if let Some(schema) = &request.schema {
            if has_config && !refused.has(&schema.to_string()) && grammar::takes(schema) {
                body["output_config"]["format"] = json!({"type": "json_schema", "schema": schema});
            } else if !refused.has("tools") {
                body["tools"] =
                    json!([{"name": TOOL, "description": "Takes the result.", "input_schema": input(schema)}]);
                body["tool_choice"] = json!({"type": "tool", "name": TOOL, "disable_parallel_tool_use": true});
            }
        }
        if !refused.has("stream") {
            body["stream"] = true.into();
        }
        body
    }

    fn count(&self, request: &Request, refused: &Refused) -> Option<(String, Value)> {
        let mut body = self.body(request, refused);
        let counted = ["model", "system", "messages", "tools", "tool_choice", "output_config"];
        if let Some(body) = body.as_object_mut() {
            body.retain(|key, _| counted.contains(&key.as_str()));
        }
        Some((format!("{}/count_tokens", self.path(request, refused)), body))
    }

    fn most_results(&self, _: &str, schema: &Value) -> Option<usize> {
        grammar::most_results(schema)
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let message = body.as_ref().and_then(|body| body.pointer("/error/message")).and_then(Value::as_str);
        let message = message.unwrap_or_default().to_ascii_lowercase();
        if let Some(most) = most_output(sent, reply, &message) {
            return Some(Refusal::Output(most));
        }
        if let Some(room) = room(sent, &message) {
            return Some(Refusal::Room(room));
        }
        if !matches!(reply.status, 400 | 422 | 501) {
            return None;
        }
        let has_word = |name: &str| message.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == name);
        let part = |name: &str| Some(Refusal::Part(name.to_owned()));
        let param = PARAMS.iter().find(|(_, theirs)| sent.get(*theirs).is_some() && has_word(theirs));
        if let Some((_, theirs)) = param {
            return part(theirs);
        }
        if sent.pointer("/output_config/effort").is_some() && has_word("effort") {
            return part("effort");
        }
        if let Some(schema) = sent.pointer("/output_config/format/schema") {
            // What one schema is refused for, another may not be.
            let of_schema = message.replace("json_schema", "");
            if ["schema", "grammar", "compil"].iter().any(|word| of_schema.contains(word)) {
                return Some(Refusal::Part(schema.to_string()));
            }
            if ["output format", "structured output", "output_format"].iter().any(|words| message.contains(words)) {
                return part("output_config");
            }
        }
        if sent.get("output_config").is_some() && (has_word("output_config") || has_word("json_schema")) {
            return part("output_config");
        }
        let mark = sent.get("system").and_then(Value::as_array).and_then(|system| system.last()?.get("cache_control"));
        if mark.is_some_and(|mark| mark.get("ttl").is_some()) && has_word("ttl") {
            return part("ttl");
        }
        if mark.is_some() && has_word("cache_control") {
            return part("cache_control");
        }
        if sent.get("tools").is_some() && ["tools", "tool_choice", "input_schema"].iter().any(|name| has_word(name)) {
            return part("tools");
        }
        let is_stream = sent.get("stream").is_some() && (has_word("stream") || has_word("streaming"));
        if is_stream { part("stream") } else { None }
    }

    fn answer(&self, sent: &Value, reply: &Reply) -> Result<Answer, Failure> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let request_id = request_id(reply, body.as_ref());
        // A body with a good status can be an error, too.
        let error = body.as_ref().and_then(|body| body.get("error")).filter(|error| !error.is_null());
        if !(200..300).contains(&reply.status) || error.is_some() {
            return Err(failure(reply, error, request_id));
        }
        let mut usage = Usage::default();
        count(&mut usage, body.as_ref().and_then(|body| body.get("usage")));
        let Some(blocks) = body.as_ref().and_then(|body| body.get("content")).and_then(Value::as_array) else {
            return Ok(Answer { text: String::new(), stop: Stop::Garbled(wire::garbled(reply)), usage, request_id });
        };
        let field = |name: &str| body.as_ref().and_then(|body| body.get(name));
        let stop = stop(field("stop_reason").and_then(Value::as_str), field("stop_details"));
        let of_kind = |kind: &'static str| blocks.iter().filter(move |block| block["type"] == kind);
        let input = is_by_tool(sent).then(|| of_kind("tool_use").find_map(|block| block.get("input"))).flatten();
        let text = match input {
            // What was cut was closed on the way: which of it is whole cannot be told.
            Some(_) if stop == Stop::Length => String::new(),
            Some(input) => input.to_string(),
            None => of_kind("text").filter_map(|block| block["text"].as_str()).collect(),
        };
        Ok(Answer { text, stop, usage, request_id })
    }

    fn pieces(&self, sent: &Value) -> Box<dyn Pieces> {
        Box::new(Blocks::new(is_by_tool(sent)))
    }

    fn limits(&self, reply: &Reply) -> Vec<Reading> {
        readings(reply, LIMITS)
    }

    /// What comes back has a limit of its own, and what is read from the cache has none.
    fn counts(&self) -> Counts {
        |usage| usage.input.saturating_sub(usage.cached)
    }
}

/// The headers that say what is left. `anthropic-ratelimit-tokens-…` is of both kinds of tokens together, and adds nothing.
const LIMITS: &[Names] = &[
    (
        Counted::Requests,
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
    ),
    (
        Counted::Tokens,
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
    ),
    (
        Counted::Output,
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    ),
];

/// What is said: the system's part as blocks of text, of which the last is the end of what the provider is to keep, and the others'
/// messages. Empty texts are refused, and so is a conversation in which nobody else speaks.
fn said(request: &Request, refused: &Refused) -> (Vec<Value>, Vec<Value>) {
    let spoken: Vec<&Message> = request.messages.iter().filter(|message| !message.text.trim().is_empty()).collect();
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    if spoken.iter().all(|message| message.role == Role::System) {
        return (Vec::new(), spoken.iter().map(|spoken| message("user", &spoken.text)).collect());
    }
    let (mut system, mut messages) = (Vec::new(), Vec::new());
    for spoken in spoken {
        match spoken.role {
            Role::System => system.push(json!({"type": "text", "text": spoken.text})),
            Role::User => messages.push(message("user", &spoken.text)),
            Role::Model => messages.push(message("assistant", &spoken.text)),
        }
    }
    let keep = request.keeps_prefix.filter(|_| !refused.has("cache_control"));
    if let (true, Some(_), Some(last)) = (request.is_gone_on_from, keep, messages.last_mut()) {
        // What a mark stands at is kept with all that is before it.
        last["content"] = json!([{"type": "text", "text": last["content"], "cache_control": {"type": "ephemeral"}}]);
    } else if let Some((last, keep)) = system.last_mut().zip(keep) {
        // The one mark of four that there may be.
        last["cache_control"] = json!({"type": "ephemeral"});
        if keep == Keep::Long && !refused.has("ttl") {
            last["cache_control"]["ttl"] = "1h".into();
        }
    }
    (system, messages)
}

/// A schema for a tool: it may not be a choice at its root. The result is held against the whole schema here.
fn input(schema: &Value) -> Value {
    let mut input: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
    input.retain(|key, _| !matches!(key.as_str(), "anyOf" | "oneOf" | "allOf"));
    input.into()
}

fn is_by_tool(sent: &Value) -> bool {
    sent.get("tools").is_some()
}

/// How many tokens an answer may have, where a reply says that those asked for are too many: for the model (`max_tokens: 64000 >
/// 8192, which is …`), or for what the account may have in a minute, however long one waits.
fn most_output(sent: &Value, reply: &Reply, message: &str) -> Option<u64> {
    let asked = sent.get("max_tokens").and_then(Value::as_u64)?;
    let most = match reply.status {
        400 => {
            let (_, rest) = message.split_once(&format!("max_tokens: {asked} > "))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        }
        429 => reply.header("anthropic-ratelimit-output-tokens-limit")?.parse().ok(),
        _ => None,
    };
    most.filter(|most| (1..asked).contains(most))
}

/// How many tokens an answer may have beside this very prompt, where a message says so (`… exceed context limit: 190000 + 64000 >
/// 200000, …`) and there is room for an answer at all.
fn room(sent: &Value, message: &str) -> Option<u64> {
    let asked = sent.get("max_tokens").and_then(Value::as_u64)?;
    let (_, said) = message.split_once("exceed context limit: ")?;
    let (prompt, rest) = said.split_once(&format!(" + {asked} > "))?;
    let window: u64 = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(window.checked_sub(prompt.parse().ok()?)?).filter(|room| (wire::TOO_SHORT..asked).contains(room))
}

/// The provider's name for a request.
pub(super) fn request_id(reply: &Reply, body: Option<&Value>) -> Option<String> {
    let in_body = || body?.get("request_id")?.as_str();
    reply.header("request-id").or_else(in_body).map(str::to_owned)
}

/// Why an answer ended.
pub(super) fn stop(reason: Option<&str>, details: Option<&Value>) -> Stop {
    let detail = |name: &str| details.and_then(|details| details.get(name)).and_then(Value::as_str);
    match reason {
        Some("max_tokens" | "model_context_window_exceeded") => Stop::Length,
        Some("refusal") => Stop::Refused(match (detail("explanation"), detail("category")) {
            (Some(why), _) => why.to_owned(),
            (None, Some(category)) => format!("the provider's safeguards stopped the answer ({category})"),
            (None, None) => "the provider's safeguards stopped the answer".to_owned(),
        }),
        Some("pause_turn") => Stop::Garbled("the model paused before its answer was at its end".to_owned()),
        _ => Stop::End,
    }
}

/// Takes in what a `usage` says, of which several may come: each counts all until then.
pub(super) fn count(tokens: &mut Usage, usage: Option<&Value>) {
    let of = |name: &str| wire::tokens(usage.and_then(|usage| usage.get(name)));
    let plain = tokens.input - tokens.cached - tokens.cache_write;
    let plain = plain.max(of("input_tokens").unwrap_or(0));
    tokens.cached = tokens.cached.max(of("cache_read_input_tokens").unwrap_or(0));
    // Those that are kept for an hour have another price, and one request may write of both.
    let written =
        |name: &str| wire::tokens(usage.and_then(|usage| usage.get("cache_creation")?.get(name))).unwrap_or(0);
    let (short, long) = (written("ephemeral_5m_input_tokens"), written("ephemeral_1h_input_tokens"));
    tokens.kept_long = tokens.kept_long.max(long);
    tokens.cache_write = tokens.cache_write.max(of("cache_creation_input_tokens").unwrap_or(0)).max(short + long);
    tokens.input = plain + tokens.cached + tokens.cache_write;
    tokens.output = of("output_tokens").unwrap_or(tokens.output);
    let thought = wire::tokens(usage.and_then(|usage| usage.pointer("/output_tokens_details/thinking_tokens")));
    tokens.reasoning = thought.unwrap_or(tokens.reasoning).min(tokens.output);
}

/// What is wrong, from the status and the provider's words.
pub(super) fn failure(reply: &Reply, error: Option<&Value>, request_id: Option<String>) -> Failure {
    let text = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str);
    let status = match reply.status {
        status @ 200..300 => {
            let named = STATUSES.iter().find(|(kind, _)| text("type") == Some(kind));
            named.map_or(status, |(_, status)| *status)
        }
        status => status,
    };
    let message = text("message").map_or_else(|| wire::unsaid(reply), str::to_owned);
    let lower = message.to_ascii_lowercase();
    let kind = match (wire::kind(status), reply.header("x-should-retry")) {
        _ if OUT_OF_MONEY.iter().any(|words| lower.contains(words)) => FailureKind::Refused,
        (FailureKind::Limited, Some("false")) => FailureKind::Refused,
        (FailureKind::Server, Some("false")) => FailureKind::Rejected,
        (FailureKind::Rejected, Some("true")) => FailureKind::Server,
        (kind, _) => kind,
    };
    Failure { kind, status: Some(reply.status), message, request_id, retry_after: wire::retry_after(reply) }
}

#[cfg(test)]
mod tests;
