//! A request and its answer in genmake's own form: what commands are given and say, and what recordings hold. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::embeds;
use crate::llm::{Answer, EmbedRequest, Embedded, Request, Stop, Usage};
use crate::prompt::Role;

/// All of a request that an answer depends on: not who asks whom, for which paths, or what is done to have it cheaply.
pub(super) fn request(request: &Request) -> Value {
    let messages = request.messages.iter().map(|message| json!({"role": role(message.role), "content": message.text}));
    json!({
        "model": request.model,
        // By name: in which order they were said means nothing.
        "params": request.params.iter().collect::<BTreeMap<_, _>>(),
        "max_output_tokens": request.max_output_tokens,
        "messages": messages.collect::<Vec<_>>(),
        "schema": request.schema,
    })
}

/// The same of texts that are to become vectors.
pub(super) fn embed_request(request: &EmbedRequest) -> Value {
    json!({
        "model": request.model,
        "params": request.params.iter().collect::<BTreeMap<_, _>>(),
        "dimensions": request.dimensions,
        "task": request.task,
        "texts": request.texts,
    })
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Model => "assistant",
    }
}

/// A request's texts alone, for programs that take a prompt as it is.
pub(super) fn prompt(request: &Request) -> String {
    let is_conversation = request.messages.iter().any(|message| message.role == Role::Model);
    let said = request.messages.iter().map(|message| match message.role {
        Role::User if is_conversation => format!("User:\n{}", message.text),
        Role::Model => format!("Assistant:\n{}", message.text),
        Role::System | Role::User => message.text.clone(),
    });
    let mut parts: Vec<String> = said.collect();
    if let Some(schema) = &request.schema {
        parts.push(format!(
            "Answer with JSON alone, with nothing before or after it. It follows this JSON Schema:\n{schema}"
        ));
    }
    parts.join("\n\n") + "\n"
}

/// An answer with all that there is to say of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    #[serde(default)]
    text: Text,
    #[serde(default)]
    stop: Ended,
    /// Why it was no answer, where it was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default)]
    usage: Counted,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A text, or its lines: of them a change shows line by line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Whole(String),
    Lines(Vec<String>),
}

impl Default for Text {
    fn default() -> Text {
        Text::Whole(String::new())
    }
}

impl Text {
    pub fn by_line(text: &str) -> Text {
        match text.contains('\n') {
            true => Text::Lines(text.split('\n').map(str::to_owned).collect()),
            false => Text::Whole(text.to_owned()),
        }
    }

    pub fn whole(self) -> String {
        match self {
            Text::Whole(text) => text,
            Text::Lines(lines) => lines.join("\n"),
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ended {
    #[default]
    End,
    Length,
    Refused,
    Garbled,
    Broken,
}

/// Tokens, by the names that reports have for them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Counted {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    cached_input_tokens: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    cache_write_tokens: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    long_cache_write_tokens: u64,
    #[serde(skip_serializing_if = "is_nothing")]
    reasoning_tokens: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_nothing(tokens: &u64) -> bool {
    *tokens == 0
}

impl From<Usage> for Counted {
    fn from(usage: Usage) -> Counted {
        let Usage { input, cached, cache_write, kept_long, output, reasoning } = usage;
        Counted {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached,
            cache_write_tokens: cache_write,
            long_cache_write_tokens: kept_long,
            reasoning_tokens: reasoning,
        }
    }
}

impl From<Counted> for Usage {
    fn from(usage: Counted) -> Usage {
        Usage {
            input: usage.input_tokens,
            cached: usage.cached_input_tokens,
            cache_write: usage.cache_write_tokens,
            kept_long: usage.long_cache_write_tokens,
            output: usage.output_tokens,
            reasoning: usage.reasoning_tokens,
        }
    }
}

/// Vectors with all that there is to say of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vectors {
    /// Each a list of numbers, or what these are in base64; `null` where there is none.
    vectors: Vec<Value>,
    #[serde(default)]
    usage: Counted,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl From<&Embedded> for Vectors {
    /// Without its id, which is another each time.
    fn from(embedded: &Embedded) -> Vectors {
        let packed = |vector: &Option<Vec<f32>>| vector.as_deref().map(embeds::packed).into();
        Vectors { vectors: embedded.vectors.iter().map(packed).collect(), usage: embedded.usage.into(), id: None }
    }
}

impl Vectors {
    /// The vectors of so many texts.
    ///
    /// # Errors
    /// There are more of them, or fewer.
    pub fn of(self, texts: usize) -> Result<Embedded, String> {
        if self.vectors.len() != texts {
            return Err(format!("`vectors` has {} for {texts} texts", self.vectors.len()));
        }
        let vectors = self.vectors.iter().map(embeds::vector).collect();
        Ok(Embedded { vectors, usage: self.usage.into(), request_id: self.id })
    }
}

impl From<&Answer> for Said {
    /// Without its id, which is another each time.
    fn from(answer: &Answer) -> Said {
        let (stop, message) = match &answer.stop {
            Stop::End => (Ended::End, ""),
            Stop::Length => (Ended::Length, ""),
            Stop::Refused(what) => (Ended::Refused, what.as_str()),
            Stop::Garbled(what) => (Ended::Garbled, what.as_str()),
            Stop::Broken(what) => (Ended::Broken, what.as_str()),
        };
        let (text, message) = (Text::by_line(&answer.text), message.to_owned());
        Said { text, stop, message, usage: answer.usage.into(), id: None }
    }
}

impl From<Said> for Answer {
    fn from(said: Said) -> Answer {
        let Said { text, stop, message, usage, id } = said;
        let stop = match stop {
            Ended::End => Stop::End,
            Ended::Length => Stop::Length,
            Ended::Refused => Stop::Refused(message),
            Ended::Garbled => Stop::Garbled(message),
            Ended::Broken => Stop::Broken(message),
        };
        Answer { text: text.whole(), stop, usage: usage.into(), request_id: id }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::prompt::Message;

    /// A request that says these things in turn.
    pub fn saying(messages: &[(Role, &str)]) -> Request {
        let message = |(role, text): &(Role, &str)| Message { role: *role, text: (*text).to_owned() };
        Request {
            model: "m".to_owned(),
            params: json!({"top_p": 1, "seed": 7}).as_object().unwrap().clone(),
            max_output_tokens: Some(100),
            most_output: Some(1),
            keeps_prefix: Some(crate::llm::Keep::Short),
            is_gone_on_from: false,
            pays_to_keep: false,
            messages: messages.iter().map(message).collect(),
            schema: None,
            paths: vec!["docs/a.md".to_owned()],
        }
    }

    #[test]
    fn a_request_is_what_is_asked_and_not_for_whom() {
        let one = saying(&[(Role::System, "Be brief."), (Role::User, "a"), (Role::Model, "b")]);
        assert_eq!(
            request(&one).to_string(),
            r#"{"model":"m","params":{"seed":7,"top_p":1},"max_output_tokens":100,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"schema":null}"#
        );
        let params = json!({"seed": 7, "top_p": 1}).as_object().unwrap().clone();
        let other = Request { most_output: None, keeps_prefix: None, paths: Vec::new(), params, ..one.clone() };
        assert_eq!(request(&one).to_string(), request(&other).to_string());
    }

    #[test]
    fn texts_alone_are_a_prompt() {
        let mut one = saying(&[(Role::System, "Be brief."), (Role::User, "a")]);
        assert_eq!(prompt(&one), "Be brief.\n\na\n");
        one.schema = Some(json!({"type": "object"}));
        assert_eq!(
            prompt(&one),
            "Be brief.\n\na\n\nAnswer with JSON alone, with nothing before or after it. It follows this JSON Schema:\n{\"type\":\"object\"}\n"
        );
        let turns = saying(&[(Role::System, "S"), (Role::User, "a"), (Role::Model, "b"), (Role::User, "c")]);
        assert_eq!(prompt(&turns), "S\n\nUser:\na\n\nAssistant:\nb\n\nUser:\nc\n");
    }

    #[test]
    fn an_answer_comes_back_as_it_was_said() {
        let usage = Usage { input: 1, cached: 2, cache_write: 3, kept_long: 4, output: 5, reasoning: 6 };
        let stops = [
            Stop::End,
            Stop::Length,
            Stop::Refused("no".into()),
            Stop::Garbled("html".into()),
            Stop::Broken("cut".into()),
        ];
        for (stop, text) in stops.into_iter().zip(["", "one", "two\nlines", "\r\n\n", "ends\n"]) {
            let answer = Answer { text: text.to_owned(), stop, usage, request_id: None };
            let said = serde_json::to_string(&Said::from(&answer)).unwrap();
            assert_eq!(Answer::from(serde_json::from_str::<Said>(&said).unwrap()), answer, "{said}");
        }
    }
}
