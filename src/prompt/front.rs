//! A prompt file as rules see it: what its front matter says, checked, and its body.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::picoschema::{field, json_schema};
use crate::error::{Code, Error, Place, Source, did_you_mean};
use crate::params;
use crate::path::RelPath;
use crate::yaml::{self, Key, Kind, Node};

/// A prompt file, split.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptFile {
    /// The model that it names.
    pub model: Option<String>,
    /// Its sampling parameters, by our names.
    pub params: Map<String, Value>,
    /// What it wants to be given.
    pub input: Input,
    /// What the result looks like, if it is data; without, it is text.
    pub output: Option<OutputSchema>,
    /// The Handlebars text.
    pub body: String,
    /// How many lines of the file stand before the body.
    pub lines_before: usize,
}

/// What a prompt wants to be given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// Names that must be there, each with its place in the file.
    pub required: Vec<(String, Range<usize>)>,
    /// What stands in for names that are not.
    pub defaults: Map<String, Value>,
}

/// The JSON Schema of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSchema {
    /// The schema; of any value where only the format is given.
    pub schema: Value,
    /// Where it stands in the file.
    pub span: Range<usize>,
}

impl PromptFile {
    /// A file without front matter.
    pub fn of_body(body: &str) -> PromptFile {
        PromptFile {
            model: None,
            params: Map::new(),
            input: Input::default(),
            output: None,
            body: body.to_owned(),
            lines_before: 0,
        }
    }
}

const KNOWN: &[&str] = &["name", "description", "variant", "version", "metadata"];

/// Splits a prompt file and checks its front matter.
///
/// # Errors
/// All that is wrong with the front matter, with its places.
pub fn parse(path: &RelPath, text: &str) -> Result<PromptFile, Vec<Error>> {
    let mut prompt = PromptFile::of_body(text);
    let Some(parts) = split(path.ext(), text) else { return Ok(prompt) };
    prompt.lines_before = text[..text.len() - parts.body.len()].matches('\n').count();
    prompt.body = parts.body.to_owned();
    let mut reader = Reader { source: Source::new(path.as_str(), text), start: parts.start, found: Vec::new() };
    let front = reader.front(parts.front).map_err(|error| vec![error])?;
    for (key, node) in &front {
        match key.name.as_str() {
            "model" => match &node.kind {
                Kind::Scalar(Value::String(model)) => prompt.model = Some(model.clone()),
                _ => reader.wrong_type("model", node, "a string"),
            },
            "config" => {
                for (key, node) in reader.map("config", node) {
                    match params::read(&key.name, &node.to_value()) {
                        Ok((name, value)) => drop(prompt.params.insert(name, value)),
                        Err(e) => reader.found.push(e.at(reader.place(&key.span))),
                    }
                }
            }
            "input" => prompt.input = reader.input(node),
            "output" => prompt.output = reader.output(key, node),
            // Keys with a dot are extensions, which the format lets pass.
            name if KNOWN.contains(&name) || name.contains('.') => {}
            name => {
                let near = did_you_mean(name, ["model", "config", "input", "output"]);
                let hint = near.unwrap_or_else(|| "`model`, `config`, `input` and `output` are understood".to_owned());
                reader.unsupported(&format!("`{name}` in front matter"), key, &hint);
            }
        }
    }
    if reader.found.is_empty() { Ok(prompt) } else { Err(reader.found) }
}

/// The two parts of a file with front matter.
pub(super) struct Parts<'a> {
    pub front: &'a str,
    pub body: &'a str,
    /// Where the front matter starts, in bytes.
    pub start: usize,
}

/// Splits a file with front matter; `None` if it has none. Before it there may be empty lines and comments.
pub(super) fn split<'a>(ext: &str, text: &'a str) -> Option<Parts<'a>> {
    if ext != "prompt" {
        return None;
    }
    let mut lines = text.split_inclusive('\n');
    let mut start = text.len() - text.trim_start_matches('\u{feff}').len();
    for line in lines.by_ref() {
        let line_text = line.trim_start_matches('\u{feff}').trim_end();
        start += line.trim_start_matches('\u{feff}').len();
        match line_text {
            "---" => break,
            _ if line_text.is_empty() || line_text.starts_with('#') => {}
            _ => return None,
        }
    }
    let mut end = start;
    for line in lines {
        if line.trim_end() == "---" {
            return Some(Parts { front: &text[start..end], body: &text[end + line.len()..], start });
        }
        end += line.len();
    }
    None
}

/// Takes values off nodes and collects what is wrong.
pub(super) struct Reader {
    pub source: Arc<Source>,
    /// Where the front matter starts.
    pub start: usize,
    pub found: Vec<Error>,
}

type Entries = Vec<(Key, Node)>;

impl Reader {
    pub fn place(&self, span: &Range<usize>) -> Place {
        Place { source: Arc::clone(&self.source), span: self.span(span) }
    }

    /// A place of the front matter as one of the file.
    fn span(&self, span: &Range<usize>) -> Range<usize> {
        span.start + self.start..span.end + self.start
    }

    /// The entries of the front matter.
    pub fn front(&mut self, front: &str) -> Result<Entries, Error> {
        let (node, duplicate) = yaml::genfile(front).map_err(|e| {
            Error::new(Code::Yaml, format!("the front matter is not YAML: {}", e.message)).at(self.place(&e.span))
        })?;
        if let Some(e) = duplicate {
            let key = e.duplicate.unwrap_or_default();
            let error = Error::new(Code::DuplicateKey, format!("`{key}` stands twice in one map"));
            self.found.push(error.at(self.place(&e.span)));
        }
        match node.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Scalar(Value::Null) => Ok(Vec::new()),
            _ => Err(Error::new(Code::WrongType, "the front matter is a map").at(self.place(&node.span))),
        }
    }

    fn wrong_type(&mut self, name: &str, node: &Node, wanted: &str) {
        let message = format!("`{name}` takes {wanted}, and this is {}", node.type_name());
        self.found.push(Error::new(Code::WrongType, message).at(self.place(&node.span)));
    }

    fn unsupported(&mut self, what: &str, key: &Key, hint: &str) {
        let message = format!("{what} is not supported by this version of genmake");
        self.found.push(Error::new(Code::Unsupported, message).at(self.place(&key.span)).hint(hint));
    }

    fn map<'a>(&mut self, name: &str, node: &'a Node) -> &'a [(Key, Node)] {
        match &node.kind {
            Kind::Map(entries) => entries,
            _ => {
                self.wrong_type(name, node, "a map");
                &[]
            }
        }
    }

    fn input(&mut self, node: &Node) -> Input {
        let mut input = Input::default();
        for (key, node) in self.map("input", node) {
            match key.name.as_str() {
                "default" => {
                    let entries = self.map("input.default", node).iter();
                    input.defaults = entries.map(|(key, node)| (key.name.clone(), node.to_value())).collect();
                }
                "schema" => {
                    let Some(schema) = self.schema(node, &Map::new()) else { continue };
                    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                    let names = required.filter_map(Value::as_str);
                    input.required = names.map(|name| (name.to_owned(), self.span(&named(node, name)))).collect();
                }
                name => {
                    let what = format!("`input.{name}` in front matter");
                    self.unsupported(&what, key, "`input` has `schema` and `default`");
                }
            }
        }
        input
    }

    fn output(&mut self, key: &Key, node: &Node) -> Option<OutputSchema> {
        let mut format = None;
        let mut schema = None;
        for (key, node) in self.map("output", node) {
            match (key.name.as_str(), &node.kind) {
                ("format", Kind::Scalar(Value::String(name))) if name == "text" || name == "json" => {
                    format = Some((name.clone(), node));
                }
                ("format", Kind::Scalar(Value::String(name))) => {
                    let error =
                        Error::new(Code::BadValue, format!("`output.format` is `text` or `json`, not `{name}`"));
                    self.found.push(error.at(self.place(&node.span)));
                }
                ("format", _) => self.wrong_type("output.format", node, "`text` or `json`"),
                ("schema", _) => {
                    let span = self.span(&key.span);
                    schema = self.schema(node, &Map::new()).map(|schema| OutputSchema { schema, span });
                }
                (name, _) => {
                    let what = format!("`output.{name}` in front matter");
                    self.unsupported(&what, key, "`output` has `format` and `schema`");
                }
            }
        }
        match (&format, &schema) {
            (Some((name, node)), Some(_)) if name == "text" => {
                let error = Error::new(Code::Conflict, "`output.format: text` has no schema");
                self.found.push(error.at(self.place(&node.span)).hint("a result with a schema is `json`"));
                None
            }
            (Some((name, _)), None) if name == "json" => {
                Some(OutputSchema { schema: Value::Object(Map::new()), span: self.span(&key.span) })
            }
            _ => schema,
        }
    }

    /// A schema of either form as JSON Schema.
    pub fn schema(&mut self, node: &Node, names: &Map<String, Value>) -> Option<Value> {
        json_schema(&node.to_value(), names)
            .map_err(|e| {
                let mut at = node;
                for key in &e.path {
                    let Kind::Map(entries) = &at.kind else { break };
                    let Some((_, next)) = entries.iter().find(|(k, _)| k.name == *key) else { break };
                    at = next;
                }
                self.found.push(Error::new(Code::BadValue, e.message).at(self.place(&at.span)));
            })
            .ok()
    }
}

/// Where a schema of either form speaks of a field: its entry, or the schema.
fn named(schema: &Node, name: &str) -> Range<usize> {
    let Kind::Map(entries) = &schema.kind else { return schema.span.clone() };
    let properties = entries.iter().find(|(key, _)| key.name == "properties").map(|(_, node)| &node.kind);
    let fields = match properties {
        Some(Kind::Map(fields)) => fields,
        _ => entries,
    };
    let entry = fields.iter().find(|(key, _)| field(&key.name).0 == name);
    entry.map_or(schema.span.clone(), |(key, _)| key.span.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn mistakes(text: &str) -> Vec<String> {
        parse(&path("p/a.prompt"), text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn front_matter_is_read_and_the_body_knows_its_line() {
        let text = "---\nmodel: m\nconfig:\n  temperature: 0\n  maxOutputTokens: 9\nx.y: 1\n---\nHello {{vars.a}}\n";
        let prompt = parse(&path("a.prompt"), text).unwrap();
        assert_eq!(prompt.model.as_deref(), Some("m"));
        assert_eq!(Value::Object(prompt.params), json!({"temperature": 0, "max_output_tokens": 9}));
        assert_eq!((prompt.body.as_str(), prompt.lines_before), ("Hello {{vars.a}}\n", 7));
        assert_eq!(parse(&path("a.md"), text).unwrap().body, text);
        assert_eq!(parse(&path("a.prompt"), "---\nno end\n").unwrap().lines_before, 0);
        let prompt = parse(&path("a.prompt"), "\u{feff}# whose\n\n---\r\nmodel: m\r\n---\r\nx").unwrap();
        assert_eq!((prompt.model.as_deref(), prompt.body.as_str(), prompt.lines_before), (Some("m"), "x", 5));
        assert_eq!(parse(&path("a.prompt"), "text\n---\na: b\n---\n").unwrap().lines_before, 0);
        assert_eq!(parse(&path("a.prompt"), "---\n---\nx").unwrap().body, "x");
    }

    #[test]
    fn inputs_and_outputs() {
        let text = "---\ninput:\n  schema:\n    tone: string\n    n?: integer\n  default: {tone: dry}\n\
                    output:\n  format: json\n  schema: {a: integer}\n---\n";
        let prompt = parse(&path("a.prompt"), text).unwrap();
        let (name, span) = &prompt.input.required[0];
        assert_eq!((name.as_str(), &text[span.clone()], prompt.input.required.len()), ("tone", "tone", 1));
        assert_eq!(prompt.input.defaults["tone"], "dry");
        let output = prompt.output.unwrap();
        assert_eq!((output.schema["required"].clone(), &text[output.span]), (json!(["a"]), "schema"));
        let output = |text: &str| parse(&path("a.prompt"), &format!("---\noutput: {text}\n---\n")).unwrap().output;
        assert_eq!(output("{format: json}").unwrap().schema, json!({}));
        assert_eq!(output("{format: text}"), None);
    }

    #[test]
    fn a_misspelt_key_is_put_right() {
        let hints = |key: &str| parse(&path("a.prompt"), &format!("---\n{key}: x\n---\n")).unwrap_err().remove(0).hints;
        assert_eq!(hints("modle"), ["did you mean `model`?"]);
        assert_eq!(hints("tools"), ["`model`, `config`, `input` and `output` are understood"]);
    }

    #[test]
    fn mistakes_in_front_matter_have_places() {
        assert_eq!(
            mistakes("---\nmodel: [1]\nconfig: {temp: 1}\ntools: x\ninput: {schema: {a: strng}, other: 1}\n---\n"),
            [
                "p/a.prompt:2:8: `model` takes a string, and this is a list",
                "p/a.prompt:3:10: unknown parameter `temp`",
                "p/a.prompt:4:1: `tools` in front matter is not supported by this version of genmake",
                "p/a.prompt:5:21: unknown type `strng`; there is `any`, `boolean`, `integer`, `null`, `number`, `string`",
                "p/a.prompt:5:29: `input.other` in front matter is not supported by this version of genmake",
            ]
        );
        assert_eq!(
            mistakes("---\noutput: {format: csv}\n---\n"),
            ["p/a.prompt:2:18: `output.format` is `text` or `json`, not `csv`"]
        );
        assert_eq!(
            mistakes("---\noutput: {format: text, schema: string}\n---\n"),
            ["p/a.prompt:2:18: `output.format: text` has no schema"]
        );
    }
}
