//! Google's Gemini API as it really behaves. Pure: values in, values out.
//!
//! From Google's API reference and from recorded traffic: the model stands in the path; tokens that were cached are in those of
//! the prompt, tokens of thinking beside those of the text; an answer that used its limit for thinking has no content; a prompt
//! that is blocked has no candidate; a bad key is a status 400. How long to wait is in the body of a 429, and where a quota for the
//! day is used up a short time stands there all the same. A schema with too many bounds is refused in words that name nothing.

mod contents;
mod embeddings;
mod errors;
mod looser;
mod parts;

use serde_json::{Map, Value, json};

use super::Failure;
use super::http::Reply;
use super::keep::Keeper;
use super::limits::Counts;
use super::wire::{self, Pieces, Refusal, Refused, Wire};
use crate::llm::{Answer, Request, Stop, Usage};
use crate::prompt::{Message, Role};
use errors::{error, failure};
use parts::Parts;

/// Our sampling parameters, and the API's names for them. Of several that a message may mean the first is given up.
const PARAMS: &[(&str, &str)] = &[
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
    ("top_k", "topK"),
    ("top_p", "topP"),
    ("temperature", "temperature"),
    ("seed", "seed"),
    ("stop", "stopSequences"),
];

/// How many tokens of thinking an effort is, for models that know no levels of it, as Google's own compatible API has it.
const BUDGETS: &[(&str, u64)] = &[
    ("none", 0),
    ("minimal", 1024),
    ("low", 1024),
    ("medium", 8192),
    ("high", 24_576),
    ("xhigh", 24_576),
    ("max", 24_576),
];

/// What is said of a request whose schema has too many bounds, and of others.
const BARE: &str = "request contains an invalid argument";

/// Google's Gemini API.
pub(super) struct Gemini;

impl Wire for Gemini {
    fn path(&self, request: &Request, refused: &Refused) -> String {
        let method = if refused.has("stream") { "generateContent" } else { "streamGenerateContent?alt=sse" };
        format!("/{}:{method}", in_path(&in_folder(&request.model)))
    }

    /// Of an answer nothing counts against a minute's tokens: they are tokens sent.
    fn counts(&self) -> Counts {
        |usage| usage.input
    }

    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)> {
        key.map(|key| ("x-goog-api-key", key.to_owned())).into_iter().collect()
    }

    fn body(&self, request: &Request, refused: &Refused) -> Value {
        let mut body = Map::new();
        let (system, contents) = said(request, refused);
        if !system.is_empty() {
            body.insert("systemInstruction".to_owned(), json!({"parts": system}));
        }
        body.insert("contents".to_owned(), contents.into());
        let config = config(request, refused);
        if !config.is_empty() {
            body.insert("generationConfig".to_owned(), config.into());
        }
        body.into()
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        let part = |name: &str| Some(Refusal::Part(name.to_owned()));
        let whole = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
        // A server that has no streams does not know the path.
        if matches!(reply.status, 404 | 405 | 501) && whole.contains("streamgeneratecontent") {
            return part("stream");
        }
        if !matches!(reply.status, 400 | 422 | 501) {
            return None;
        }
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let said = error(body.as_ref()).and_then(|error| error.get("message")).and_then(Value::as_str);
        let message = said.map_or(whole, str::to_ascii_lowercase);
        let config = |name: &str| sent.get("generationConfig").and_then(|config| config.get(name));
        if let Some(most) = config("maxOutputTokens").and_then(|asked| most_output(asked.as_u64()?, &message)) {
            return Some(Refusal::Output(most));
        }
        if let Some(thinking) = config("thinkingConfig").filter(|_| message.contains("thinking")) {
            let is_level = thinking.get("thinkingLevel").is_some();
            return part(if is_level { "thinkingLevel" } else { "thinkingConfig" });
        }
        let names = |theirs: &str| [theirs.to_ascii_lowercase(), snake(theirs), snake(theirs).replace('_', " ")];
        let has_words = |words: &str| {
            let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
            message.match_indices(words).any(|(at, _)| {
                is_edge(message[..at].chars().next_back()) && is_edge(message[at + words.len()..].chars().next())
            })
        };
        // Of the two penalties none is named.
        let is_meant = |theirs: &str| {
            names(theirs).iter().any(|words| has_words(words))
                || (theirs.ends_with("Penalty") && (has_words("penalty") || has_words("penalties")))
        };
        if let Some((_, theirs)) = PARAMS.iter().find(|(_, theirs)| config(theirs).is_some() && is_meant(theirs)) {
            return part(theirs);
        }
        if let Some(schema) = config("responseJsonSchema") {
            let of_schema = ["schema", "too many states", "constraint", BARE];
            if of_schema.iter().any(|words| message.contains(words)) {
                // What one schema is refused for, another may not be.
                return Some(Refusal::Part(schema.to_string()));
            }
        }
        let is_mime = ["responsemimetype", "response_mime_type", "mime type", "json mode"];
        if config("responseMimeType").is_some() && is_mime.iter().any(|words| message.contains(words)) {
            return part("responseMimeType");
        }
        if sent.get("systemInstruction").is_some()
            && ["developer instruction", "system instruction", "system_instruction", "systeminstruction"]
                .iter()
                .any(|words| message.contains(words))
        {
            return part("systemInstruction");
        }
        let is_stream = ["stream", "streaming", "streamgeneratecontent"].iter().any(|words| has_words(words));
        if is_stream { part("stream") } else { None }
    }

    fn answer(&self, _: &Value, reply: &Reply) -> Result<Answer, Failure> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        // A server that does not know `alt=sse` sends the pieces of a stream as a list.
        let pieces = match &body {
            Some(Value::Array(pieces)) => pieces.as_slice(),
            Some(piece) => std::slice::from_ref(piece),
            None => &[],
        };
        let mut parts = Parts::default();
        let text: String = pieces.iter().filter_map(|piece| parts.take(piece)).collect();
        let answer = parts.whole(reply, text);
        // A body with a good status can be an error, too.
        match error(body.as_ref()) {
            None if (200..300).contains(&reply.status) => Ok(answer),
            error => Err(failure(reply, error, answer.request_id)),
        }
    }

    fn pieces(&self, _: &Value) -> Box<dyn Pieces> {
        Box::<Parts>::default()
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }
}

/// How many tokens an answer may have, where a message says that those asked for are too many (`… maxOutputTokens value of 100000
/// but the supported range is from 1 (inclusive) to 65537 (exclusive).`).
fn most_output(asked: u64, message: &str) -> Option<u64> {
    let (_, said) = message.split_once("maxoutputtokens").or_else(|| message.split_once("max_output_tokens"))?;
    let (_, range) = said.split_once("range")?;
    let largest = range.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).max()?;
    let most = largest.saturating_sub(u64::from(range.contains("(exclusive)")));
    Some(most).filter(|most| (1..asked).contains(most))
}

/// A model's name in the folder that it is in: Google's own, unless it says another.
fn in_folder(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

/// A model's name, or another's, as it can stand in a path or a query.
pub(super) fn in_path(model: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    model.bytes().map(byte).collect()
}

/// `topK` as `top_k`, which is how errors write it.
fn snake(name: &str) -> String {
    let letter = |c: char| match c.is_ascii_uppercase() {
        true => format!("_{}", c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    name.chars().map(letter).collect()
}

/// What is said: the system's parts, and the others' contents. A conversation in which nobody else speaks is refused, and some
/// models listen to nobody else.
fn said(request: &Request, refused: &Refused) -> (Vec<Value>, Vec<Value>) {
    let spoken: Vec<&Message> = request.messages.iter().filter(|message| !message.text.trim().is_empty()).collect();
    let part = |message: &Message| json!({"text": message.text});
    let content = |role: &str, message: &Message| json!({"role": role, "parts": [part(message)]});
    let has_system = spoken.iter().any(|message| message.role != Role::System) && !refused.has("systemInstruction");
    let (mut system, mut contents) = (Vec::new(), Vec::new());
    for message in spoken {
        match message.role {
            Role::System if has_system => system.push(part(message)),
            Role::System | Role::User => contents.push(content("user", message)),
            Role::Model => contents.push(content("model", message)),
        }
    }
    (system, contents)
}

/// How the answer is to be made.
fn config(request: &Request, refused: &Refused) -> Map<String, Value> {
    let mut config = Map::new();
    for (ours, theirs) in PARAMS {
        if let Some(value) = request.params.get(*ours).filter(|_| !refused.has(theirs)) {
            let value = match value {
                Value::String(one) if *ours == "stop" => json!([one]),
                value => value.clone(),
            };
            config.insert((*theirs).to_owned(), value);
        }
    }
    if let Some(limit) = request.max_output_tokens {
        config.insert("maxOutputTokens".to_owned(), refused.most_output(limit).into());
    }
    let effort = request.params.get("reasoning_effort").and_then(Value::as_str);
    if let Some(thinking) = effort.and_then(|effort| thinking(&request.model, effort, refused)) {
        config.insert("thinkingConfig".to_owned(), thinking);
    }
    if let Some(schema) = request.schema.as_ref().filter(|_| !refused.has("responseMimeType")) {
        config.insert("responseMimeType".to_owned(), "application/json".into());
        let is_taken = |schema: &Value| !refused.has(&schema.to_string());
        let sent = looser::looser(schema);
        let sent = sent.and_then(|sent| {
            let bare = looser::without_bounds(&sent);
            [sent, bare].into_iter().find(is_taken)
        });
        if let Some(sent) = sent {
            config.insert("responseJsonSchema".to_owned(), sent);
        }
    }
    config
}

/// How much a model is to think: a level, or for models before the third version, and those that refuse one, so many tokens.
fn thinking(model: &str, effort: &str, refused: &Refused) -> Option<Value> {
    let has_levels = !model.contains("gemini-2") && !refused.has("thinkingLevel");
    match effort {
        _ if refused.has("thinkingConfig") => None,
        "none" if has_levels => Some(json!({"thinkingLevel": "minimal"})),
        "xhigh" | "max" if has_levels => Some(json!({"thinkingLevel": "high"})),
        level if has_levels => Some(json!({"thinkingLevel": level})),
        effort => {
            let (_, budget) = BUDGETS.iter().find(|(name, _)| *name == effort)?;
            Some(json!({"thinkingBudget": budget}))
        }
    }
}

/// A gateway's name for a request. The API's own is in its answers, and errors have none.
pub(super) fn request_id(reply: &Reply) -> Option<String> {
    reply.header("x-request-id").map(str::to_owned)
}

/// Why an answer ended.
pub(super) fn stop(reason: &str, message: Option<&str>) -> Stop {
    let said = |what: String| message.map_or(what, str::to_owned);
    match reason {
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Stop::End,
        "MAX_TOKENS" => Stop::Length,
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Stop::Refused(said(format!("the provider's safeguards stopped the answer ({reason})"))),
        // Calls of tools that nobody offered, answers that Google itself could not read, and no reason at all.
        _ => Stop::Garbled(said(format!("the model's answer came to no good end ({reason})"))),
    }
}

/// A prompt that the provider did not show to its model.
pub(super) fn blocked(reason: &str, message: Option<&str>) -> Stop {
    let what = format!("the provider's safeguards stopped the prompt ({reason})");
    Stop::Refused(message.map_or(what, str::to_owned))
}

/// The tokens that a `usageMetadata` says.
pub(super) fn usage(said: &Value) -> Usage {
    let count = |name: &str| wire::tokens(said.get(name)).unwrap_or(0);
    let input = count("promptTokenCount");
    let cached = count("cachedContentTokenCount").min(input);
    let reasoning = count("thoughtsTokenCount");
    let output = count("candidatesTokenCount") + reasoning;
    Usage { input, cached, output, reasoning, ..Usage::default() }
}

#[cfg(test)]
mod tests;
