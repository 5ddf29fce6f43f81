//! Reads typed values off YAML nodes and collects what is wrong, so that all mistakes are shown in one run.
//!
//! Knows no key of the language.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::model::Expr;
use crate::error::{Code, Error, Place, Source, did_you_mean};
use crate::yaml::{Key, Kind, Node};

/// The text being read and all that was found wrong so far.
pub(super) struct Reader {
    pub source: Arc<Source>,
    pub found: Vec<Error>,
}

/// A map whose keys were checked.
pub(super) struct Fields<'n>(&'n [(Key, Node)]);

impl<'n> Fields<'n> {
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    pub fn entry(&self, name: &str) -> Option<(&'n Key, &'n Node)> {
        self.0.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }
}

impl Reader {
    pub fn place(&self, span: &Range<usize>) -> Place {
        Place { source: Arc::clone(&self.source), span: span.clone() }
    }

    pub fn report(&mut self, span: &Range<usize>, error: Error) {
        let place = self.place(span);
        self.found.push(error.at(place));
    }

    fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        // A key stands in backticks; "rule `x`" and "the Genfile" bring their own.
        let what = if what.contains(' ') { what.to_owned() } else { format!("`{what}`") };
        let message = format!("{what} takes {wanted}, and this is {}", node.type_name());
        self.report(&node.span, Error::new(Code::WrongType, message));
    }

    /// A map of which only `known` keys are allowed; those in `later` belong to the language and are not built yet.
    pub fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str], later: &[&str]) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for (key, _) in entries {
            if known.contains(&key.name.as_str()) {
                continue;
            }
            let error = if later.contains(&key.name.as_str()) {
                Error::new(
                    Code::Unsupported,
                    format!("`{}` of {what} is not supported by this version of genmake", key.name),
                )
                .hint("leave it out, or use a newer genmake")
            } else {
                let near = did_you_mean(&key.name, known.iter().copied());
                let all = format!("{what} has the keys {}", list(known));
                Error::new(Code::UnknownKey, format!("unknown key `{}` in {what}", key.name)).hint(near.unwrap_or(all))
            };
            self.report(&key.span, error);
        }
        Some(Fields(entries))
    }

    /// A map with any keys.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(Key, Node)]> {
        match &node.kind {
            Kind::Map(entries) => Some(entries),
            _ => {
                self.wrong_type(node, what, "a map");
                None
            }
        }
    }

    pub fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Scalar(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            Kind::Scalar(Value::String(_)) => {
                self.report(&node.span, Error::new(Code::BadValue, format!("`{what}` is empty")));
                None
            }
            _ => {
                self.wrong_type(node, what, "a string");
                None
            }
        }
    }

    pub fn expr(&mut self, node: &Node, what: &str) -> Option<Expr> {
        // A number is fine where a text is meant: `output: 404`.
        let text = match &node.kind {
            Kind::Scalar(Value::Number(number)) => number.to_string(),
            _ => self.text(node, what)?,
        };
        let place = self.place(&node.span);
        Expr::new(&text, place).map_err(|e| self.found.push(e)).ok()
    }

    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match &node.kind {
            Kind::Scalar(Value::Bool(value)) => Some(*value),
            _ => {
                self.wrong_type(node, what, "`true` or `false`");
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, node: &Node, what: &str, least: u64, most: u64) -> Option<u64> {
        match &node.kind {
            Kind::Scalar(Value::Number(number)) => match number.as_u64().filter(|n| (least..=most).contains(n)) {
                Some(n) => Some(n),
                None => {
                    let message = format!("`{what}` is a whole number from {least} to {most}, not {number}");
                    self.report(&node.span, Error::new(Code::BadValue, message));
                    None
                }
            },
            _ => {
                self.wrong_type(node, what, "a whole number");
                None
            }
        }
    }

    pub fn number(&mut self, node: &Node, what: &str, least: f64, most: f64) -> Option<f64> {
        match &node.kind {
            Kind::Scalar(Value::Number(number)) => match number.as_f64().filter(|n| (least..=most).contains(n)) {
                Some(n) => Some(n),
                None => {
                    let message = format!("`{what}` is a number from {least} to {most}, not {number}");
                    self.report(&node.span, Error::new(Code::BadValue, message));
                    None
                }
            },
            _ => {
                self.wrong_type(node, what, "a number");
                None
            }
        }
    }

    /// A duration from a millisecond to a week: longer ones overflow clocks.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let duration = self.any_duration(node, what)?;
        if (Duration::from_millis(1)..=Duration::from_secs(7 * 86_400)).contains(&duration) {
            return Some(duration);
        }
        self.report(&node.span, Error::new(Code::BadValue, format!("`{what}` is from 1ms to 7days")));
        None
    }

    fn any_duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        if let Kind::Scalar(Value::Number(number)) = &node.kind
            && let Some(seconds) = number.as_u64()
        {
            return Some(Duration::from_secs(seconds));
        }
        let text = self.text(node, what)?;
        match humantime::parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(e) => {
                let error = Error::new(Code::BadValue, format!("`{what}` is a duration, and `{text}` is not: {e}"));
                self.report(&node.span, error.hint("write it as `120s`, `2m` or `1h 30m`"));
                None
            }
        }
    }
}

/// Names in backticks, with commas.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
