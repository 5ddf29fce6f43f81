//! Prompt files: front matter and a Handlebars body that says who speaks.
//!
//! A `.prompt` file is a Dotprompt file (<https://google.github.io/dotprompt/>): YAML front matter between `---` lines, and a
//! body with `{{role "system"}}`. Any other file is a body alone, spoken by the user. Of the front matter `model` and
//! `config` are understood.

use serde_json::{Map, Value};

use crate::error::{Code, Error, Place, Source};
use crate::params;
use crate::path::RelPath;
use crate::yaml;

/// Who speaks a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The instructions: the stable prefix.
    System,
    /// The task.
    User,
    /// What the model said, in a conversation.
    Model,
}

impl Role {
    /// As written in `{{role "…"}}`.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Model => "model",
        }
    }
}

/// One message to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

/// A prompt file, split.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptFile {
    /// The model that it names.
    pub model: Option<String>,
    /// Its sampling parameters, by our names.
    pub params: Map<String, Value>,
    /// The Handlebars text.
    pub body: String,
    /// How many lines of the file stand before the body.
    pub lines_before: usize,
}

const KNOWN: &[&str] = &["name", "description", "variant", "version", "metadata"];

/// Splits a prompt file.
///
/// # Errors
/// All that is wrong with the front matter, with its places.
pub fn parse(path: &RelPath, text: &str) -> Result<PromptFile, Vec<Error>> {
    let mut prompt = PromptFile { model: None, params: Map::new(), body: text.to_owned(), lines_before: 0 };
    let Some((front, body, start)) = front_matter(path, text) else { return Ok(prompt) };
    let source = Source::new(path.as_str(), text);
    let place =
        |span: &std::ops::Range<usize>| Place { source: source.clone(), span: span.start + start..span.end + start };
    prompt.lines_before = text[..text.len() - body.len()].matches('\n').count();
    prompt.body = body.to_owned();
    let (node, duplicate) = yaml::genfile(front).map_err(|e| {
        vec![Error::new(Code::Yaml, format!("the front matter is not YAML: {}", e.message)).at(place(&e.span))]
    })?;
    let mut found = Vec::new();
    if let Some(e) = duplicate {
        let key = e.duplicate.unwrap_or_default();
        found.push(Error::new(Code::DuplicateKey, format!("`{key}` stands twice in one map")).at(place(&e.span)));
    }
    let entries = match &node.kind {
        yaml::Kind::Map(entries) => &entries[..],
        yaml::Kind::Scalar(Value::Null) => &[],
        _ => {
            found.push(Error::new(Code::WrongType, "the front matter is a map").at(place(&node.span)));
            &[]
        }
    };
    for (key, node) in entries {
        match (key.name.as_str(), &node.kind) {
            ("model", yaml::Kind::Scalar(Value::String(model))) => prompt.model = Some(model.clone()),
            ("config", yaml::Kind::Map(config)) => {
                for (key, node) in config {
                    match params::read(&key.name, &node.to_value()) {
                        Ok((name, value)) => drop(prompt.params.insert(name, value)),
                        Err(e) => found.push(e.at(place(&key.span))),
                    }
                }
            }
            ("model" | "config", _) => {
                let wanted = if key.name == "model" { "a string" } else { "a map" };
                let message = format!("`{}` takes {wanted}, and this is {}", key.name, node.type_name());
                found.push(Error::new(Code::WrongType, message).at(place(&node.span)));
            }
            // Keys with a dot are extensions, which the format lets pass.
            (name, _) if KNOWN.contains(&name) || name.contains('.') => {}
            (name, _) => found.push(
                Error::new(
                    Code::Unsupported,
                    format!("`{name}` in front matter is not supported by this version of genmake"),
                )
                .at(place(&key.span))
                .hint("`model` and `config` are understood"),
            ),
        }
    }
    if found.is_empty() { Ok(prompt) } else { Err(found) }
}

/// The front matter, the body after it, and where the front matter starts.
fn front_matter<'a>(path: &RelPath, text: &'a str) -> Option<(&'a str, &'a str, usize)> {
    if path.ext() != "prompt" {
        return None;
    }
    let first = text.split_inclusive('\n').next().filter(|line| line.trim_end() == "---")?;
    let mut end = first.len();
    for line in text[first.len()..].split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((&text[first.len()..end], &text[end + line.len()..], first.len()));
        }
        end += line.len();
    }
    None
}

/// What the `role` helper writes into the rendered text: a control character that no text input may hold.
pub const ROLE_MARK: char = '\u{0}';

/// Splits a rendered body at its role marks. What stands before the first mark is the user's; empty messages are left out,
/// and neighbours of one role are joined.
pub fn messages(rendered: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    let mut role = Role::User;
    // Marks stand in pairs around a role's name: text, name, text, name, text …
    for (i, part) in rendered.split(ROLE_MARK).enumerate() {
        if i % 2 == 1 {
            role = match part {
                "system" => Role::System,
                "model" => Role::Model,
                _ => Role::User,
            };
            continue;
        }
        let text = part.trim();
        match messages.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.role == role => {
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => messages.push(Message { role, text: text.to_owned() }),
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn front_matter_is_read_and_the_body_knows_its_line() {
        let text = "---\nmodel: m\nconfig:\n  temperature: 0\n  maxOutputTokens: 9\nx.y: 1\n---\nHello {{vars.a}}\n";
        let prompt = parse(&path("a.prompt"), text).unwrap();
        assert_eq!(prompt.model.as_deref(), Some("m"));
        assert_eq!(Value::Object(prompt.params), serde_json::json!({"temperature": 0, "max_output_tokens": 9}));
        assert_eq!((prompt.body.as_str(), prompt.lines_before), ("Hello {{vars.a}}\n", 7));
        assert_eq!(parse(&path("a.md"), text).unwrap().body, text);
        assert_eq!(parse(&path("a.prompt"), "---\nno end\n").unwrap().lines_before, 0);
    }

    #[test]
    fn mistakes_in_front_matter_have_places() {
        let found = parse(&path("p/a.prompt"), "---\nmodel: [1]\nconfig: {temp: 1}\ntools: x\n---\n").unwrap_err();
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "p/a.prompt:2:8: `model` takes a string, and this is a list",
                "p/a.prompt:3:10: unknown parameter `temp`",
                "p/a.prompt:4:1: `tools` in front matter is not supported by this version of genmake",
            ]
        );
    }

    #[test]
    fn roles_split_the_text() {
        let rendered = "\u{0}system\u{0}\nBe brief.\n\u{0}user\u{0}\n Hi \n\u{0}model\u{0}Yes?\u{0}user\u{0}";
        let said: Vec<(Role, String)> = messages(rendered).into_iter().map(|m| (m.role, m.text)).collect();
        assert_eq!(said, [(Role::System, "Be brief.".into()), (Role::User, "Hi".into()), (Role::Model, "Yes?".into())]);
        assert_eq!(messages("just text\n"), [Message { role: Role::User, text: "just text".into() }]);
        assert_eq!(messages(" \n"), []);
    }
}
