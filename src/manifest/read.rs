//! Holds YAML nodes against the forms of the language, and takes values off those that fit.
//!
//! Everything that does not fit is reported once, by [`Reader::fits`]; the readers of values say nothing and give `None`.
//! Knows no key of the language.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::language::{Field, Form, SECRETS};
use super::model::Expr;
use crate::error::{Code, Error, Place, Source, did_you_mean};
use crate::yaml::{Key, Kind, Node};

/// The text being read and all that was found wrong so far.
pub(super) struct Reader {
    pub source: Arc<Source>,
    pub found: Vec<Error>,
}

/// A map's entries by name.
#[derive(Clone, Copy, Default)]
pub(super) struct Fields<'n>(&'n [(Key, Node)]);

impl<'n> Fields<'n> {
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    pub fn entry(&self, name: &str) -> Option<(&'n Key, &'n Node)> {
        self.0.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }
}

/// The entries of a map; none of anything else.
pub(super) fn entries(node: &Node) -> &[(Key, Node)] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => &[],
    }
}

/// A map's entries by name; none of anything else.
pub(super) fn fields(node: &Node) -> Fields<'_> {
    Fields(entries(node))
}

/// The items of a list, or the one that stands for a list of one.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// A string that is not empty.
pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

pub(super) fn boolean(node: &Node) -> Option<bool> {
    match &node.kind {
        Kind::Scalar(Value::Bool(value)) => Some(*value),
        _ => None,
    }
}

pub(super) fn whole(node: &Node) -> Option<u64> {
    match &node.kind {
        Kind::Scalar(Value::Number(number)) => number.as_u64(),
        _ => None,
    }
}

pub(super) fn number(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Scalar(Value::Number(number)) => number.as_f64(),
        _ => None,
    }
}

pub(super) fn duration(node: &Node) -> Option<Duration> {
    match whole(node) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => humantime::parse_duration(text(node)?).ok(),
    }
}

impl Form {
    /// What a value of this form is called.
    fn name(&self) -> String {
        match self {
            Form::Any => "anything".to_owned(),
            Form::Text | Form::Expr | Form::Choice(..) => "a string".to_owned(),
            Form::Bool => "`true` or `false`".to_owned(),
            Form::Whole(..) => "a whole number".to_owned(),
            Form::Number(..) => "a number".to_owned(),
            Form::Duration => "a duration".to_owned(),
            Form::List(_) => "a list".to_owned(),
            Form::Map(_) | Form::Keys(_) => "a map".to_owned(),
            Form::OneOf(forms) => {
                let mut names: Vec<String> = forms.iter().map(Form::name).collect();
                names.dedup();
                match names.split_last() {
                    Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
                    _ => names.concat(),
                }
            }
        }
    }

    /// Whether a value is of this form's kind, whatever it holds.
    fn is_kind(&self, node: &Node) -> bool {
        match (self, &node.kind) {
            (Form::Any, _) | (Form::List(_), Kind::List(_)) | (Form::Map(_) | Form::Keys(_), Kind::Map(_)) => true,
            (Form::OneOf(forms), _) => forms.iter().any(|form| form.is_kind(node)),
            (Form::Text | Form::Choice(..), Kind::Scalar(Value::String(_))) => true,
            (Form::Expr | Form::Duration, Kind::Scalar(Value::String(_) | Value::Number(_))) => true,
            (Form::Bool, Kind::Scalar(Value::Bool(_))) => true,
            (Form::Whole(..) | Form::Number(..), Kind::Scalar(Value::Number(_))) => true,
            _ => false,
        }
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

    /// An expression; what is no Handlebars is reported.
    pub fn expr(&mut self, node: &Node) -> Option<Expr> {
        let text = match &node.kind {
            // A number is fine where a text is meant: `output: 404`.
            Kind::Scalar(Value::Number(number)) => number.to_string(),
            _ => text(node)?.to_owned(),
        };
        let place = self.place(&node.span);
        Expr::new(&text, place).map_err(|e| self.found.push(e)).ok()
    }

    /// Whether `node` is of `form`; everything in it that is not is reported. `what` is what people call it: a key, or "rule `x`".
    pub fn fits(&mut self, node: &Node, what: &str, form: &Form) -> bool {
        if !form.is_kind(node) {
            self.wrong_type(node, what, &form.name());
            return false;
        }
        let bad = |message: String| Error::new(Code::BadValue, message);
        match (form, &node.kind) {
            (Form::OneOf(forms), _) => match forms.iter().find(|form| form.is_kind(node)) {
                Some(form) => {
                    let before = self.found.len();
                    let fits = self.fits(node, what, form);
                    for other in forms.iter().filter(|_| matches!(form, Form::Choice(..))) {
                        if let Form::Whole(least, most) = other {
                            let hint = format!("or it is a whole number from {least} to {most}");
                            self.found[before..].iter_mut().for_each(|error| error.hints.push(hint.clone()));
                        }
                    }
                    fits
                }
                None => false,
            },
            (Form::Text | Form::Expr, Kind::Scalar(Value::String(text))) if text.is_empty() => {
                self.report(&node.span, bad(format!("`{what}` is empty")));
                false
            }
            (Form::Whole(least, most), Kind::Scalar(Value::Number(number))) => {
                let fits = number.as_u64().is_some_and(|n| (least..=most).contains(&&n));
                if !fits {
                    let range = match least == most {
                        true => least.to_string(),
                        false => format!("a whole number from {least} to {most}"),
                    };
                    self.report(&node.span, bad(format!("`{what}` is {range}, not {number}")));
                }
                fits
            }
            (Form::Number(least, most), Kind::Scalar(Value::Number(number))) => {
                let fits = number.as_f64().is_some_and(|n| (least..=most).contains(&&n));
                if !fits {
                    self.report(&node.span, bad(format!("`{what}` is a number from {least} to {most}, not {number}")));
                }
                fits
            }
            (Form::Duration, _) => self.is_duration(node, what),
            (Form::Choice(now, later), Kind::Scalar(Value::String(word))) => self.is_one(node, what, word, now, later),
            (Form::List(form), Kind::List(items)) => {
                let what = match what {
                    "inputs" => "an input",
                    what => what,
                };
                // All are looked at, so that all mistakes are found.
                let wrong = items.iter().filter(|item| !self.fits(item, what, form)).count();
                wrong == 0
            }
            (Form::Map(form), Kind::Map(entries)) => {
                let mut fits = true;
                for (key, node) in entries {
                    let what = match what {
                        "rules" => format!("rule `{}`", key.name),
                        "providers" => format!("provider `{}`", key.name),
                        "inputs" => "an input".to_owned(),
                        _ => key.name.clone(),
                    };
                    fits &= self.fits(node, &what, form);
                }
                fits
            }
            (Form::Keys(known), Kind::Map(entries)) => self.are_keys(node, entries, what, known),
            _ => true,
        }
    }

    fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str) {
        let message = format!("{} takes {wanted}, and this is {}", called(what), node.type_name());
        let hint = self.in_quotes(node).filter(|_| wanted.contains("a string"));
        self.report(&node.span, Error::new(Code::WrongType, message).hint_if(hint));
    }

    /// How what YAML takes for something else is written as a string.
    fn in_quotes(&self, node: &Node) -> Option<String> {
        match &node.kind {
            Kind::Map(_) if self.source.text[node.span.start..].starts_with("{{") => {
                Some("put it in quotes, as in `\"{{vars.x}}\"`: in YAML `{` starts a map".to_owned())
            }
            Kind::Scalar(Value::Number(_) | Value::Bool(_)) => {
                Some(format!("put it in quotes: `\"{}\"`", &self.source.text[node.span.clone()]))
            }
            _ => None,
        }
    }

    /// A duration from a millisecond to a week: longer ones overflow clocks.
    fn is_duration(&mut self, node: &Node, what: &str) -> bool {
        if let Some(duration) = duration(node) {
            let fits = (Duration::from_millis(1)..=Duration::from_secs(7 * 86_400)).contains(&duration);
            if !fits {
                self.report(
                    &node.span,
                    Error::new(Code::BadValue, format!("`{what}` is a duration from 1ms to 7days")),
                );
            }
            return fits;
        }
        let given = node.to_value();
        let given = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
        let why = humantime::parse_duration(&given).err().map(|e| format!(": {e}")).unwrap_or_default();
        let error = Error::new(Code::BadValue, format!("`{what}` is a duration, and `{given}` is not{why}"));
        self.report(&node.span, error.hint("write it as `120s`, `2m` or `1h 30m`"));
        false
    }

    fn is_one(&mut self, node: &Node, what: &str, word: &str, now: &[&str], later: &[&str]) -> bool {
        if now.contains(&word) {
            return true;
        }
        let error = if later.contains(&word) {
            let known = if now.is_empty() { String::new() } else { format!("; it knows {}", list(now)) };
            Error::new(Code::Unsupported, format!("`{what}: {word}` is not supported by this version of genmake"))
                .hint(format!("leave it out, or use a newer genmake{known}"))
        } else {
            let all: Vec<&str> = now.iter().chain(later).copied().collect();
            let near = did_you_mean(word, all.iter().copied());
            Error::new(Code::BadValue, format!("`{what}` is {}, not `{word}`", one_of(&all))).hint_if(near)
        };
        self.report(&node.span, error);
        false
    }

    fn are_keys(&mut self, node: &Node, entries: &[(Key, Node)], what: &str, known: &[Field]) -> bool {
        let mut fits = true;
        for (key, node) in entries {
            match known.iter().find(|field| field.name == key.name) {
                Some(field) if !field.later => fits &= self.fits(node, field.name, &field.form),
                Some(_) => {
                    let message =
                        format!("`{}` of {} is not supported by this version of genmake", key.name, called(what));
                    let hint = "leave it out, or use a newer genmake";
                    self.report(&key.span, Error::new(Code::Unsupported, message).hint(hint));
                    fits = false;
                }
                None if what.starts_with("provider `") && SECRETS.contains(&key.name.as_str()) => {
                    let message = format!("`{}` would put a secret into the Genfile", key.name);
                    let hint = "put it into the environment and name the variable: `key_env: OPENAI_API_KEY`";
                    self.report(&key.span, Error::new(Code::UnknownKey, message).hint(hint));
                }
                None => {
                    let names: Vec<&str> = known.iter().filter(|f| !f.later).map(|f| f.name).collect();
                    let near = did_you_mean(&key.name, names.iter().copied());
                    let all = format!("{} has the keys {}", called(what), list(&names));
                    let message = format!("unknown key `{}` in {}", key.name, called(what));
                    self.report(&key.span, Error::new(Code::UnknownKey, message).hint(near.unwrap_or(all)));
                    fits = false;
                }
            }
        }
        for field in known.iter().filter(|field| field.required) {
            if !entries.iter().any(|(key, _)| key.name == field.name) {
                let message = format!("{} has no `{}`", called(what), field.name);
                self.report(&node.span, Error::new(Code::MissingKey, message).hint_if(wanted(what, field.name)));
                fits = false;
            }
        }
        fits
    }
}

/// What to write where a key is missing.
fn wanted(what: &str, key: &str) -> Option<String> {
    let hint = match (what, key) {
        (_, "version") => "write `version: 1` as its first line",
        (_, "rules") => "declare what is made under `rules:`",
        (_, "api") => "write `api: openai`",
        ("an input", "path") => "write `{path: PATH, optional: true}`",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// A key stands in backticks; "rule `x`", "an input" and "the Genfile" bring their own.
fn called(what: &str) -> String {
    if what.contains(' ') { what.to_owned() } else { format!("`{what}`") }
}

/// Names in backticks, with commas.
fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn one_of(names: &[&str]) -> String {
    match names {
        [only] => format!("`{only}`"),
        names => format!("one of {}", list(names)),
    }
}
