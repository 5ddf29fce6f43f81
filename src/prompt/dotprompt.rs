//! A prompt file by itself, with the format's own semantics: <https://google.github.io/dotprompt/>.
//!
//! Unknown variables are empty, front matter keeps what it does not understand, `input.default` stands under the data, and
//! messages are split, and the history is put in, as the format says. Knows no rule.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::front::{Reader, split};
use crate::error::{Code, Error, Source};
use crate::expr::{MARK, Mark, Piece, Template, pieces};

/// A prompt file, parsed.
#[derive(Debug, Clone)]
pub struct Dotprompt {
    /// The front matter, with the keys that the format has, extensions below `ext`, schemas as JSON Schema, and all of it as it
    /// was written below `raw`.
    pub metadata: Map<String, Value>,
    /// The Handlebars text.
    body: String,
    lines_before: usize,
    source: Arc<Source>,
}

/// What a prompt is rendered with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// The variables.
    pub input: Map<String, Value>,
    /// The conversation before: maps with `role` and `content`.
    pub messages: Vec<Value>,
    /// What `@name` stands for.
    pub context: Map<String, Value>,
    /// Documents, as `@metadata.docs`.
    pub docs: Vec<Value>,
}

/// The keys of the front matter that the format has.
const KEYS: &[&str] =
    &["config", "description", "input", "model", "name", "output", "toolDefs", "tools", "variant", "version"];

impl Data {
    /// Takes a value apart. A map whose keys are all among `input`, `messages`, `context` and `docs`, with values of the right
    /// type, is the format's data argument; any other map is the `input`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(value: Value) -> Result<Data, String> {
        let Value::Object(mut map) = value else { return Err("the data is a map".to_owned()) };
        let is_argument = !map.is_empty()
            && map.iter().all(|(name, value)| match name.as_str() {
                "input" | "context" => value.is_object(),
                "messages" | "docs" => value.is_array(),
                _ => false,
            });
        if !is_argument {
            return Ok(Data { input: map, ..Data::default() });
        }
        let mut take = |name: &str| map.remove(name).unwrap_or_default();
        let list = |value: Value| match value {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let names = |value: Value| match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        let messages = list(take("messages"));
        if let Some(at) = messages.iter().position(|m| m.get("role").is_none_or(|role| !role.is_string())) {
            return Err(format!("message {} of the history has no `role`", at + 1));
        }
        Ok(Data { input: names(take("input")), messages, context: names(take("context")), docs: list(take("docs")) })
    }
}

/// Whether a value could speak as somebody else.
fn holds_mark(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(MARK),
        Value::Array(items) => items.iter().any(holds_mark),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains(MARK) || holds_mark(value)),
        _ => false,
    }
}

impl Dotprompt {
    /// Parses a file; front matter is looked for if `name` ends in `.prompt`. `schemas` are those that the front matter may use
    /// by name.
    ///
    /// # Errors
    /// All that is wrong with the front matter, with its places.
    pub fn parse(name: &str, text: &str, schemas: &Map<String, Value>) -> Result<Dotprompt, Vec<Error>> {
        let source = Source::new(name, text);
        let mut metadata =
            Map::from_iter(["ext", "metadata", "config"].map(|key| (key.to_owned(), Value::Object(Map::new()))));
        let ext = if name.ends_with(".prompt") { "prompt" } else { "" };
        let Some(parts) = split(ext, text) else {
            return Ok(Dotprompt { metadata, body: text.to_owned(), lines_before: 0, source });
        };
        let mut reader = Reader { source: Arc::clone(&source), start: parts.start, found: Vec::new() };
        let front = reader.front(parts.front).map_err(|error| vec![error])?;
        let raw: Map<String, Value> = front.iter().map(|(key, node)| (key.name.clone(), node.to_value())).collect();
        for (key, node) in &front {
            let mut value = node.to_value();
            if let ("input" | "output", crate::yaml::Kind::Map(entries)) = (key.name.as_str(), &node.kind) {
                let schema = entries.iter().find(|(key, _)| key.name == "schema").map(|(_, node)| node);
                if let Some(schema) = schema.and_then(|node| reader.schema(node, schemas)) {
                    value["schema"] = schema;
                }
            }
            match key.name.rsplit_once('.') {
                _ if KEYS.contains(&key.name.as_str()) => drop(metadata.insert(key.name.clone(), value)),
                Some((namespace, field)) => metadata["ext"][namespace][field] = value,
                None => {}
            }
        }
        metadata.insert("raw".to_owned(), raw.into());
        if !reader.found.is_empty() {
            return Err(reader.found);
        }
        let before = parts.body.len() - parts.body.trim_start().len();
        let lines_before = text[..text.len() - parts.body.len() + before].matches('\n').count();
        Ok(Dotprompt { metadata, body: parts.body.trim().to_owned(), lines_before, source })
    }

    /// Renders it with the partials that stand beside it, as (name, text): the metadata, and under `messages` what is said.
    ///
    /// # Errors
    /// The first expression that cannot be rendered, with its place; data that holds a NUL.
    pub fn render(&self, partials: &[(String, String)], data: &Data) -> Result<Map<String, Value>, Error> {
        let mut input = self.metadata.get("input").and_then(|input| input.get("default")).cloned();
        if let Some(Value::Object(defaults)) = &mut input {
            defaults.extend(data.input.clone());
        }
        let input = input.filter(Value::is_object).unwrap_or_else(|| data.input.clone().into());
        let mut context = Map::new();
        context.insert(
            "metadata".to_owned(),
            json!({"prompt": self.metadata, "docs": data.docs, "messages": data.messages}),
        );
        context.extend(data.context.clone());
        let context = Value::from(context);
        if holds_mark(&input) || holds_mark(&context) {
            return Err(Error::new(Code::BadValue, "the data holds a NUL, so it is no text"));
        }
        let sources: HashMap<String, Arc<Source>> =
            partials.iter().map(|(name, text)| (name.clone(), Source::new(name.as_str(), text.as_str()))).collect();
        let rendered = Template::lenient(&self.body, partials)
            .and_then(|template| template.render_lenient(&input, &context))
            .map_err(|e| e.located(&self.source, self.lines_before, &sources))?;
        let mut result = self.metadata.clone();
        result.insert("messages".to_owned(), messages(&rendered, &data.messages).into());
        Ok(result)
    }
}

/// A message while it is put together.
struct Turn {
    role: String,
    metadata: Map<String, Value>,
    content: Vec<Value>,
}

impl Turn {
    fn new(role: &str) -> Turn {
        Turn { role: role.to_owned(), metadata: Map::new(), content: Vec::new() }
    }

    fn finish(self) -> Option<Value> {
        if self.content.is_empty() {
            return None;
        }
        let mut message = json!({"role": self.role, "content": self.content});
        if !self.metadata.is_empty() {
            message["metadata"] = self.metadata.into();
        }
        Some(message)
    }
}

/// Splits a rendered body. Texts of nothing but white space are left out; after the history the model speaks.
fn messages(rendered: &str, history: &[Value]) -> Vec<Value> {
    let mut done: Vec<Value> = Vec::new();
    let mut turn = Turn::new("user");
    let mut placed = false;
    for piece in pieces(rendered) {
        match piece {
            Piece::Text(text) if text.trim().is_empty() => {}
            Piece::Text(text) => turn.content.push(json!({"text": text})),
            Piece::Mark(Mark::Section(name)) => {
                turn.content.push(json!({"metadata": {"purpose": name, "pending": true}}));
            }
            Piece::Mark(Mark::Media { url, content_type }) => {
                let mut media = json!({"url": url});
                if let Some(content_type) = content_type {
                    media["contentType"] = content_type.into();
                }
                turn.content.push(json!({"media": media}));
            }
            Piece::Mark(Mark::Role { name, metadata }) => {
                let next = Turn { role: name, metadata, content: Vec::new() };
                done.extend(std::mem::replace(&mut turn, next).finish());
            }
            Piece::Mark(Mark::History) => {
                done.extend(std::mem::replace(&mut turn, Turn::new("model")).finish());
                done.extend(history.iter().map(as_history));
                placed = !history.is_empty();
            }
        }
    }
    done.extend(turn.finish());
    if placed {
        return done;
    }
    // Where the prompt does not say it: before what the user says last, else at the end.
    let ends_with_user = done.last().is_some_and(|last| last["role"] == "user");
    let at = if ends_with_user { done.len() - 1 } else { done.len() };
    done.splice(at..at, history.iter().cloned());
    done
}

fn as_history(message: &Value) -> Value {
    let mut message = message.clone();
    let is_map = message.get("metadata").is_some_and(Value::is_object);
    if !is_map {
        message["metadata"] = json!({});
    }
    message["metadata"]["purpose"] = "history".into();
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, data: Value) -> Result<Map<String, Value>, Error> {
        Dotprompt::parse("a.prompt", text, &Map::new()).unwrap().render(&[], &Data::new(data).unwrap())
    }

    #[test]
    fn data_is_the_argument_or_the_input() {
        let data = |value| Data::new(value).unwrap();
        assert_eq!(data(json!({"name": "Ada"})).input["name"], "Ada");
        assert_eq!(data(json!({"input": {"name": "Ada"}})).input["name"], "Ada");
        assert_eq!(data(json!({"input": "text"})).input["input"], "text");
        assert_eq!(data(json!({"context": {"state": 1}, "name": 1})).input.len(), 2);
        assert!(Data::new(json!([1])).is_err());
        assert!(Data::new(json!({"messages": [1]})).unwrap_err().contains("message 1"));
    }

    #[test]
    fn what_is_not_there_is_empty_and_what_is_no_helper_is_an_error() {
        let text = |body: &str| {
            render(body, json!({"upper": "U", "n": 5})).unwrap()["messages"][0]["content"][0]["text"].clone()
        };
        assert_eq!(text("<{{nope}}{{a.b.c}}{{@state.x}}{{upper}}>"), "<U>");
        assert_eq!(text("{{upper nope}}{{#if nope}}x{{else}}y{{/if}}{{#each nope}}z{{/each}}"), "y");
        assert_eq!(text("{{#each (lookup this \"n\")}}{{/each}}{{@root.n}}{{#with n}}{{@root.upper}}{{/with}}"), "5U");
        assert_eq!(text("{{#if this.upper.length}}{{upper.length}}{{/if}}{{n.length}}{{upper.[0]}}{{upper.x.y}}"), "1");
        let error = render("---\nmodel: m\n---\n\nx {{nope 1}}", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "a.prompt:5:3: unknown helper `nope`");
        assert!(render("{{x}}", json!({"x": "\u{0}"})).unwrap_err().message.contains("NUL"));
    }

    proptest::proptest! {
        /// Whatever is written, there is a result or an error, and the roles are those of the prompt.
        #[test]
        fn nothing_that_is_written_panics(parts in proptest::collection::vec(0usize..PARTS.len(), 0..12)) {
            let text: String = parts.iter().map(|part| PARTS[*part]).collect();
            let data = Data::new(json!({"input": {"a": {"b": [1, "x"]}, "list": [{"a": "\u{1F426}"}], "n": null}})).unwrap();
            if let Ok(prompt) = Dotprompt::parse("a.prompt", &text, &Map::new())
                && let Ok(rendered) = prompt.render(&[("p".to_owned(), "{{a.b}}{{@i.x}}".to_owned())], &data)
            {
                for message in rendered["messages"].as_array().unwrap() {
                    proptest::prop_assert!(["user", "model"].contains(&message["role"].as_str().unwrap()));
                }
            }
        }
    }

    const PARTS: &[&str] = &[
        "text\n",
        "---\n",
        "model: m\n",
        "input: {schema: {a: string}, default: {a: 1}}\n",
        "{{a}}",
        "{{a.b}}",
        "{{@x.y}}",
        "{{@root.a}}",
        "{{../a}}",
        "{{this}}",
        "{{#each list}}",
        "{{/each}}",
        "{{#if a.b.length}}",
        "{{else}}",
        "{{/if}}",
        "{{#list}}",
        "{{/list}}",
        "{{role \"model\"}}",
        "{{history}}",
        "{{> p}}",
        "{{> p a.b}}",
        "{{json a.b.[0]}}",
        "{{#with a}}",
        "{{/with}}",
        "{{#ifEquals a.b @root.n}}",
        "{{/ifEquals}}",
        "{{{a}}}",
        "{{&a.b}}",
        "\\{{a}}",
        "{{section a}}",
        "{{upper (lookup a \"b\")}}",
        "{{@root}}",
        "{{@index}}",
        "{{#each list as |x|}}{{x.a}}{{/each}}",
        "{{! c }}",
    ];

    #[test]
    fn metadata_of_the_context_wins_over_the_prompts() {
        let text = "---\nmodel: m\n---\n{{@metadata.prompt.model}} {{@metadata.messages.[0].role}}";
        let messages = json!([{"role": "model", "content": [{"text": "a"}]}]);
        let rendered = render(text, json!({"messages": messages})).unwrap();
        assert_eq!(rendered["messages"][1]["content"][0]["text"], "m model");
    }
}
