//! What a server that speaks one of OpenAI's formats does not support of a request, from what it says. Pure.
//!
//! From the API reference and from recorded traffic: OpenAI names what is to blame in `param`, others only in words (`property
//! 'seed' is unsupported`, `Extra inputs are not permitted` beside the place, `Cannot find field`). A value that is out of bounds is
//! not unsupported: that is said, and nothing left out.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::provider::http::Reply;
use crate::provider::openai;
use crate::provider::wire::{Refusal, TOO_SHORT};

/// What a format has that a request can go without.
pub(super) struct Parts<'a> {
    /// Fields of the body.
    pub fields: &'a [&'a str],
    /// Where the schema of the answer stands, and the words for it.
    pub schema: (&'static str, &'static [&'static str]),
    /// The fields that limit the answer.
    pub limits: &'static [&'static str],
}

/// The name under which it is noted that no schema is taken.
pub(super) const SCHEMA: &str = "schema";

/// What is said of something that is not known, in whatever form.
const UNKNOWN: &[&str] = &[
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "unexpected",
    "extra inputs",
    "extra_forbidden",
    "extra fields",
    "not permitted",
    "not allowed",
    "unavailable",
    "not available",
    "not implemented",
    "not compatible",
    "deprecated",
    "cannot find field",
    "does not exist",
    "only the default",
    "no longer",
];

/// What is said of a number that is too large: `max_tokens is too large: 100000. This model supports at most 16384 …`.
const BOUND: &[&str] = &["too large", "at most", "less than or equal", "valid range", "maximum"];

/// What a window takes: `maximum context length is 4096 tokens`.
static WINDOW: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("context (?:length|window|size)[^0-9]{0,12}([0-9]+)").ok());

/// What of it the prompt does: `1200 input tokens`, `(1200 in the messages, …`.
static PROMPT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new("(at least )?([0-9]+) (?:input tokens|prompt tokens|(?:tokens )?in the (?:messages|prompt|input))").ok()
});

static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("[0-9]+").ok());

/// What a reply says that the server refuses of the body that was sent, if a request can go without it.
pub(super) fn refusal(parts: &Parts<'_>, sent: &Value, reply: &Reply) -> Option<Refusal> {
    if !matches!(reply.status, 400 | 422 | 501) {
        return None;
    }
    let said = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let error = body.as_ref().map(|body| body.get("error").unwrap_or(body));
    let of_error = |name: &str| error.and_then(|error| error.get(name)).and_then(Value::as_str).unwrap_or_default();
    let words = error.and_then(openai::words).unwrap_or_default().to_ascii_lowercase();
    if let Some(refusal) = of_output(parts, sent, &words) {
        return Some(refusal);
    }
    let param = of_error("param");
    let is_unknown = UNKNOWN.iter().any(|words| said.contains(words));
    if is_unknown && said.contains("prompt_cache_breakpoint") && sent.get(openai::CACHE_OPTIONS).is_some() {
        return Some(Refusal::Part(openai::CACHE_OPTIONS.to_owned()));
    }
    if is_unknown {
        let is_param = |field: &&&str| param == **field || param.starts_with(&format!("{field}."));
        let named = parts.fields.iter().filter(|field| sent.get(**field).is_some());
        let by_param = named.clone().find(is_param);
        // Of several that are named the first is meant: what stands behind it is advice.
        let first = || named.filter_map(|field| Some((word_at(&said, field)?, field))).min().map(|(_, field)| field);
        if let Some(field) = by_param.or_else(first) {
            return Some(Refusal::Part((*field).to_owned()));
        }
    }
    of_schema(parts, sent, &said, of_error("code"), is_unknown).or_else(|| of_stream(sent, &said))
}

/// A schema that is refused for what is in it is refused alone; else there is no use for any.
fn of_schema(parts: &Parts<'_>, sent: &Value, said: &str, code: &str, is_unknown: bool) -> Option<Refusal> {
    let (place, names) = parts.schema;
    let format = sent.pointer(place)?;
    let rest = said.replace("json_schema", "");
    let is_of_it = code == "invalid_json_schema"
        || ["invalid schema", "grammar", "conversion", "compil"].iter().any(|word| rest.contains(word))
        || rest.contains("schema") && !is_unknown;
    let schema = format.get("schema").filter(|_| is_of_it);
    if let Some(schema) = schema {
        let is_strict = format.get("strict") == Some(&Value::Bool(true));
        return Some(Refusal::Part(if is_strict { strict(schema) } else { schema.to_string() }));
    }
    let is_named = names.iter().any(|name| word_at(said, name).is_some()) || said.contains("structured output");
    is_named.then(|| Refusal::Part(SCHEMA.to_owned()))
}

/// The name under which it is noted that a schema is not taken strictly.
pub(super) fn strict(schema: &Value) -> String {
    format!("strict {schema}")
}

fn of_stream(sent: &Value, said: &str) -> Option<Refusal> {
    sent.get("stream")?;
    if sent.get("stream_options").is_some() && said.contains("stream_options") {
        return Some(Refusal::Part("stream_options".to_owned()));
    }
    // By whole words: what an upstream server says is another matter.
    let mut words = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| word.starts_with("stream")).then(|| Refusal::Part("stream".to_owned()))
}

/// How many tokens an answer may have, where a server says that so many are too many: for the model, or beside this prompt.
fn of_output(parts: &Parts<'_>, sent: &Value, said: &str) -> Option<Refusal> {
    let limit = parts.limits.iter().find_map(|name| sent.get(*name)?.as_u64())?;
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(window) = WINDOW.as_ref()?.captures(said).and_then(|found| number(&found[1])) {
        let prompt = PROMPT.as_ref()?.captures(said)?;
        let left = window.saturating_sub(number(&prompt[2])?);
        // Some stop counting where there is no room: what is left may be less than it seems.
        let most = if prompt.get(1).is_some() { left.min(limit / 2) } else { left };
        return (TOO_SHORT..limit).contains(&most).then_some(Refusal::Room(most));
    }
    let is_named = parts.limits.iter().any(|name| word_at(said, name).is_some());
    let is_bound = BOUND.iter().any(|words| said.contains(words));
    let numbers = NUMBER.as_ref()?.find_iter(said).filter_map(|found| number(found.as_str()));
    let most = numbers.filter(|number| (TOO_SHORT..limit).contains(number)).max();
    most.filter(|_| is_named && is_bound).map(Refusal::Output)
}

/// Where a name stands in a text as a whole word.
pub(super) fn word_at(text: &str, name: &str) -> Option<usize> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .map(|(at, _)| at)
        .find(|at| !text[..*at].ends_with(is_letter) && !text[at + name.len()..].starts_with(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::wire::tests::reply;
    use serde_json::json;

    const PARTS: Parts<'_> = Parts {
        fields: &["temperature", "seed", "stop", "max_tokens", "max_completion_tokens", "reasoning_effort"],
        schema: ("/response_format/json_schema", &["response_format", "json_schema"]),
        limits: &["max_tokens", "max_completion_tokens"],
    };

    fn sent() -> Value {
        json!({"temperature": 0, "seed": 1, "stop": "x", "max_tokens": 5000, "stream": true, "stream_options": {},
            "response_format": {"json_schema": {"strict": false, "schema": {"type": "object"}}}})
    }

    #[track_caller]
    fn check(status: u16, body: &str, want: Option<Refusal>) {
        assert_eq!(refusal(&PARTS, &sent(), &reply(status, body, &[])), want, "{body}");
    }

    fn part(name: &str) -> Option<Refusal> {
        Some(Refusal::Part(name.to_owned()))
    }

    fn error(param: &str, code: &str, message: &str) -> String {
        json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})
            .to_string()
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let of_model = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.";
        check(400, &error("temperature", "unsupported_value", of_model), part("temperature"));
        let other = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        check(400, &error("max_tokens", "unsupported_parameter", other), part("max_tokens"));
        check(400, r#"{"error": {"message": "Unrecognized request argument supplied: seed"}}"#, part("seed"));
        check(400, r#"{"error": {"message": "property 'seed' is unsupported"}}"#, part("seed"));
        check(
            422,
            r#"{"detail": [{"type": "extra_forbidden", "loc": ["body", "stop"], "msg": "Extra inputs are not permitted"}]}"#,
            part("stop"),
        );
        check(
            400,
            r#"[{"error": {"message": "Invalid JSON payload received. Unknown name \"seed\": Cannot find field."}}]"#,
            part("seed"),
        );
        // What was not sent is not left out, and what is out of bounds is a mistake of whoever set it.
        check(400, &error("top_k", "", "Unknown parameter: 'top_k'."), None);
        check(400, &error("temperature", "decimal_above_max_value", "Invalid 'temperature': must be at most 2."), None);
        check(400, "unknown trouble with unstoppable seedlings", None);
        check(500, &error("seed", "unsupported_parameter", "seed"), None);
    }

    #[test]
    fn schemas_are_refused_one_by_one_or_all() {
        let schema = r#"{"type":"object"}"#;
        let invalid = "Invalid schema for response_format 'result': In context=(), 'minLength' is not permitted.";
        check(400, &error("response_format", "invalid_json_schema", invalid), part(schema));
        check(400, r#"{"error": {"message": "Failed to parse grammar"}}"#, part(schema));
        check(400, r#"{"error": "JSON schema conversion failed: Unrecognized schema: {}"}"#, part(schema));
        for all in [
            "This response_format type is unavailable now",
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "'response_format.type' must be 'text' or 'json_object'",
            "model features structured outputs not support",
        ] {
            check(400, &error("", "", all), part(SCHEMA));
        }
        let strict = json!({"response_format": {"json_schema": {"strict": true, "schema": {"type": "object"}}}});
        let reply = reply(400, &error("response_format", "invalid_json_schema", invalid), &[]);
        assert_eq!(refusal(&PARTS, &strict, &reply), part(&format!("strict {schema}")));
    }

    #[test]
    fn limits_of_the_model_and_beside_this_prompt() {
        let says = |message: &str| error("", "", message);
        let output = "max_tokens is too large: 5000. This model supports at most 4096 completion tokens, whereas you provided 5000.";
        check(400, &says(output), Some(Refusal::Output(4096)));
        check(
            400,
            &says("Invalid max_tokens value, the valid range of max_tokens is [1, 2048]"),
            Some(Refusal::Output(2048)),
        );
        let room = "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (1568 in the messages, 5000 in the completion).";
        check(400, &says(room), Some(Refusal::Room(4480)));
        let now = "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 1200 input tokens (5000 > 4096 - 1200).";
        check(400, &says(now), Some(Refusal::Room(2896)));
        // Where it counts no further than it must, what is left is a guess.
        let least = "This model's maximum context length is 8000 tokens. However, you requested 5000 output tokens and your prompt contains at least 3001 input tokens, for a total of at least 8001 tokens.";
        check(400, &says(least), Some(Refusal::Room(2500)));
        // A prompt that has no room by itself, or so little that nothing would come of it.
        check(
            400,
            &says(
                "This model's maximum context length is 4096 tokens. However, your messages resulted in 9000 tokens.",
            ),
            None,
        );
        check(
            400,
            &says("This model's maximum context length is 4096 tokens and your request has 4090 input tokens."),
            None,
        );
    }

    #[test]
    fn streams() {
        let says = |parts: &[&str], status, text: &str| {
            let sent: Value = parts.iter().map(|part| ((*part).to_owned(), json!(true))).collect();
            refusal(&PARTS, &sent, &reply(status, text, &[]))
        };
        let text = r#"{"error": {"message": "Unknown parameter: 'stream_options'."}}"#;
        let both = &["stream", "stream_options"];
        assert_eq!(says(both, 400, text), part("stream_options"));
        assert_eq!(says(&["stream"], 400, text), part("stream"));
        assert_eq!(says(both, 422, r#"{"detail": [{"loc": ["body", "stream"]}]}"#), part("stream"));
        assert_eq!(says(&["stream"], 501, "Streaming is not supported."), part("stream"));
        assert_eq!(says(both, 400, "the upstream server refused the request"), None);
        assert_eq!(says(&[], 400, text), None);
        assert_eq!(says(both, 400, "too long"), None);
        assert_eq!(says(both, 500, "stream"), None);
    }
}
