//! YAML as it was written: a tree whose every node knows its place. The only module that names the YAML library.
//!
//! Knows nothing of the Genfile's language.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_yaml::Spanned;
use serde_yaml::options::DuplicateKeyPolicy;

/// A node and its place in the text, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A scalar: null, a boolean, a number or a string.
    Scalar(Value),
    /// A sequence.
    List(Vec<Node>),
    /// A map, in the order written. Keys are scalars, as text.
    Map(Vec<(Key, Node)>),
}

/// A map's key and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Where it stands.
    pub span: Range<usize>,
    /// The key as text.
    pub name: String,
}

/// What is wrong with a YAML text.
#[derive(Debug, Clone, PartialEq)]
pub struct YamlError {
    /// The same key twice in one map: its name.
    pub duplicate: Option<String>,
    /// In words.
    pub message: String,
    /// Whether there is too much of something, and nothing wrong with the form.
    pub is_limit: bool,
    /// Where, in bytes.
    pub span: Range<usize>,
}

/// The largest text that is read as a Genfile, in bytes.
pub const MAX_GENFILE: usize = 8 << 20;

/// Parses a Genfile: no anchors beyond a few, a bounded number of nodes. A duplicate key is an error of its own, and the
/// tree is still made (the first of the two counts), so that other mistakes can be shown in the same run.
///
/// # Errors
/// The first thing the parser stumbles over.
pub fn genfile(text: &str) -> Result<(Node, Option<YamlError>), YamlError> {
    let parse = |policy| parse(text, policy, 150_000);
    match parse(DuplicateKeyPolicy::Error) {
        Ok(node) => Ok((node, None)),
        Err(e) if e.duplicate.is_some() => Ok((parse(DuplicateKeyPolicy::FirstWins)?, Some(e))),
        Err(e) => Err(e),
    }
}

/// Parses a data file; duplicate keys are errors.
///
/// # Errors
/// The first thing the parser stumbles over.
pub fn data(text: &str) -> Result<Value, YamlError> {
    Ok(parse(text, DuplicateKeyPolicy::Error, 5_000_000)?.to_value())
}

/// Writes a value as YAML, ending in a line break.
pub fn write(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

fn parse(text: &str, duplicate_keys: DuplicateKeyPolicy, max_nodes: usize) -> Result<Node, YamlError> {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let shift = text.len() - body.len();
    let options = serde_yaml::options! {
        duplicate_keys: duplicate_keys,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_events: max_nodes * 3,
            max_nodes: max_nodes,
            max_depth: 64,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_total_scalar_bytes: 64 << 20,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 50_000 },
    };
    if body.trim().is_empty() {
        return Ok(Node { span: 0..0, kind: Kind::Scalar(Value::Null) });
    }
    let places = Places { text: body, shift };
    match serde_yaml::from_str_with_options::<Written>(body, options) {
        Ok(written) => Ok(places.node(written)),
        Err(e) => Err(places.error(&e)),
    }
}

impl Node {
    /// The value without places. Keys stay in the order written.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Kind::Map(entries) => Value::Object(entries.iter().map(|(k, v)| (k.name.clone(), v.to_value())).collect()),
        }
    }

    /// What people call this kind of node.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(Value::Null) => "nothing",
            Kind::Scalar(Value::Bool(_)) => "a boolean",
            Kind::Scalar(Value::Number(_)) => "a number",
            Kind::Scalar(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

/// A node as the library hands it over.
struct Written(Spanned<Bare>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        Spanned::deserialize(deserializer).map(Written)
    }
}

enum Bare {
    Scalar(Value),
    List(Vec<Written>),
    Map(Vec<(Written, Written)>),
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bare, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Bare;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("any YAML value")
            }
            fn visit_unit<E>(self) -> Result<Bare, E> {
                Ok(Bare::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Bare, E> {
                Ok(Bare::Scalar(Value::Null))
            }
            fn visit_some<D: serde::Deserializer<'de>>(self, d: D) -> Result<Bare, D::Error> {
                Bare::deserialize(d)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Bare, E> {
                Ok(Bare::Scalar(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Bare, E> {
                Ok(Bare::Scalar(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Bare, E> {
                Ok(Bare::Scalar(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Bare, E> {
                Ok(Bare::Scalar(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Bare, E> {
                Ok(Bare::Scalar(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bare, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Bare::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bare, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Bare::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Turns the library's locations into byte ranges of the text as it was read.
struct Places<'a> {
    text: &'a str,
    shift: usize,
}

impl Places<'_> {
    fn span(&self, location: serde_yaml::Location) -> Range<usize> {
        let start = location.span().byte_offset().unwrap_or(0) as usize;
        let len = location.span().byte_len().unwrap_or(0) as usize;
        // A block collection reaches over many lines: point at its first line only.
        let start = self.text.floor_char_boundary(start.min(self.text.len()));
        let end = self.text.floor_char_boundary((start + len).min(self.text.len()));
        let line_end = self.text[start..end].find('\n').map_or(end, |at| start + at);
        start + self.shift..line_end.max(start) + self.shift
    }

    fn node(&self, Written(spanned): Written) -> Node {
        let span = self.span(spanned.referenced);
        let kind = match spanned.value {
            Bare::Scalar(value) => Kind::Scalar(self.whole(&self.span(spanned.defined), value)),
            Bare::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            Bare::Map(entries) => {
                Kind::Map(entries.into_iter().map(|(key, value)| (self.key(key), self.node(value))).collect())
            }
        };
        Node { span, kind }
    }

    /// A whole number with zeros before it, which the library takes for one with a fraction: `0017` is 17, as the core schema
    /// of YAML 1.2 says (10.3.2).
    fn whole(&self, span: &Range<usize>, value: Value) -> Value {
        let written = &self.text[span.start - self.shift..span.end - self.shift];
        let digits = written.trim_start_matches(['+', '-']);
        let is_whole = digits.len() > 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
        match written.parse::<i64>() {
            Ok(number) if value.is_f64() && is_whole => number.into(),
            _ => value,
        }
    }

    fn key(&self, written: Written) -> Key {
        let node = self.node(written);
        let name = match node.to_value() {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Key { span: node.span, name }
    }

    fn error(&self, error: &serde_yaml::Error) -> YamlError {
        let error = error.without_snippet();
        let duplicate = match error {
            serde_yaml::Error::DuplicateMappingKey { key, .. } => Some(key.clone().unwrap_or_default()),
            _ => None,
        };
        let span = error.location().map_or(0..0, |location| {
            let span = self.span(location);
            if !span.is_empty() || location.line() == 0 {
                return span;
            }
            // Errors of the scanner carry a line and column only.
            let start: usize =
                self.text.split_inclusive('\n').take(location.line() as usize - 1).map(str::len).sum::<usize>();
            let line = self.text[start.min(self.text.len())..].lines().next().unwrap_or("");
            let column = (location.column() as usize).saturating_sub(1);
            let at = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
            self.shift + start + at..self.shift + start + at
        });
        let message = words(error);
        let is_limit = [TOO_DEEP, TOO_MANY_ALIASED, TOO_MANY_VALUES].contains(&message.as_str());
        YamlError { duplicate, message, is_limit, span }
    }
}

/// What is wrong, in the words of people who write YAML and not of those who read it with a library.
fn words(error: &serde_yaml::Error) -> String {
    use serde_yaml::Error as E;
    use serde_yaml::budget::BudgetBreach as Breach;
    let said = match error {
        E::DuplicateMappingKey { key, .. } => {
            return format!("`{}` stands twice in one map", key.as_deref().unwrap_or_default());
        }
        E::MultipleDocuments { .. } => "a second document starts here, and one is read",
        E::AliasReplayCounterOverflow { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => TOO_MANY_ALIASED,
        E::RecursiveReferencesRequireWeakTypes { .. } => "an anchor holds itself",
        E::NonFiniteFloat { .. } => "no number, or one too large; a text stands in quotes",
        E::Budget { breach, .. } => match breach {
            Breach::Depth { .. } => TOO_DEEP,
            Breach::Aliases { .. } => "more than 1000 aliases",
            Breach::Anchors { .. } => "more than 1000 anchors",
            Breach::MergeKeys { .. } => "more than 1000 merge keys",
            _ => TOO_MANY_VALUES,
        },
        _ => "",
    };
    if !said.is_empty() {
        return said.to_owned();
    }
    let mut message = error.to_string();
    // The library puts the place at the end of its words; ours is shown by the diagnostic.
    if let Some(at) = message.find(" at line ") {
        message.truncate(at);
    }
    // Two limits come without a name of their own.
    match &message {
        message if message == "recursion limit exceeded" => TOO_DEEP.to_owned(),
        message if message.starts_with("alias replay limit exceeded") => TOO_MANY_ALIASED.to_owned(),
        _ => message,
    }
}

const TOO_MANY_ALIASED: &str = "aliases stand for more than 50000 values";
const TOO_MANY_VALUES: &str = "more values than are read in one file";
const TOO_DEEP: &str = "nested deeper than 64 levels";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_know_their_places() {
        let text = "a: 1\nb:\n  - x\n  - {c: true}\n";
        let (node, duplicate) = genfile(text).unwrap();
        assert_eq!(duplicate, None);
        assert_eq!(node.to_value(), json!({"a": 1, "b": ["x", {"c": true}]}));
        let Kind::Map(entries) = &node.kind else { panic!("a map") };
        assert_eq!(&text[entries[0].0.span.clone()], "a");
        assert_eq!(&text[entries[0].1.span.clone()], "1");
        let Kind::List(items) = &entries[1].1.kind else { panic!("a list") };
        assert_eq!(&text[items[0].span.clone()], "x");
    }

    #[test]
    fn a_duplicate_key_is_found_and_the_rest_is_still_read() {
        let text = "rules:\n  a: 1\n  a: 2\n";
        let (node, duplicate) = genfile(text).unwrap();
        let duplicate = duplicate.unwrap();
        assert_eq!(duplicate.duplicate.as_deref(), Some("a"));
        assert_eq!(duplicate.span.start, text.rfind('a').unwrap());
        assert_eq!(node.to_value(), json!({"rules": {"a": 1}}));
    }

    #[test]
    fn keys_are_text_and_yes_is_a_word() {
        assert_eq!(data("1: yes\ntrue: on\n").unwrap(), json!({"1": "yes", "true": "on"}));
    }

    #[test]
    fn zeros_before_a_whole_number_do_not_make_it_a_fraction() {
        let value = data("a: 017\nb: [-0042, 0.50, 00, 09]\n0012: x\nc: \"017\"\nd: &z 08\ne: *z\n").unwrap();
        assert_eq!(value, json!({"a": 17, "b": [-42, 0.5, 0, 9], "12": "x", "c": "017", "d": 8, "e": 8}));
    }

    #[test]
    fn mistakes_are_said_in_words_of_yaml() {
        let message = |text: &str| data(text).unwrap_err().message;
        assert_eq!(message("a: 1\na: 2\n"), "`a` stands twice in one map");
        assert_eq!(message("a: 1\n---\nb: 2\n"), "a second document starts here, and one is read");
        assert_eq!(message("a: &x\n  - *x\n"), "an anchor holds itself");
    }

    #[test]
    fn places_survive_a_byte_order_mark_and_wide_letters() {
        let text = "\u{feff}é: ü\nb: [\n";
        assert!(genfile(text).is_err());
        let text = "\u{feff}é: ü\nb: x\n";
        let (node, _) = genfile(text).unwrap();
        let Kind::Map(entries) = &node.kind else { panic!("a map") };
        assert_eq!(&text[entries[1].1.span.clone()], "x");
    }

    #[test]
    fn bombs_are_refused() {
        let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(genfile(laughs).is_err());
        assert!(genfile(&"[".repeat(200_000)).is_err());
        assert!(genfile(&"{a: ".repeat(3_000)).is_err());
        assert!(genfile("a: 1\n---\nb: 2\n").is_err());
    }
}
