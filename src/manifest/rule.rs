//! A rule from its YAML node, which has been held against the language already.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::check::{batching, known_provider};
use super::collection::{collection, embed};
use super::model::{Batching, Check, Context, Expr, Foreach, Input, OnEdit, OnError, Over, Recipe, Rule};
use super::read::{Fields, Reader, boolean, entries, fields, items, number, text, whole};
use crate::error::{Code, Error};
use crate::params;
use crate::yaml::{Key, Kind, Node};

/// What a rule takes from around it.
pub(super) struct Around<'a> {
    pub batching: Batching,
    pub providers: &'a BTreeSet<String>,
    /// The folder that its recipe's path starts from.
    pub base: &'a str,
}

/// Reads a rule; `None` if it has no outputs to go on with.
pub(super) fn rule(reader: &mut Reader, key: &Key, node: &Node, around: &Around) -> Option<Rule> {
    if key.name.is_empty() || key.name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        let message = format!("a rule's name is one word without `/`, and {:?} is not", key.name);
        reader.report(&key.span, Error::new(Code::BadValue, message));
    }
    if !matches!(node.kind, Kind::Map(_)) {
        return None;
    }
    let keys = fields(node);
    let outputs = outputs(reader, key, keys);
    let recipe = recipe(reader, key, keys);
    if let Some((context, _)) = keys.entry("context")
        && keys.get("prompt").is_none()
    {
        let error = Error::new(Code::Conflict, format!("rule `{}` has a `context` and no `prompt`", key.name));
        reader.report(&context.span, error.hint("a context is what a model is shown; templates take `inputs`"));
    }
    let mut travel = around.batching;
    for name in ["batch", "batching"] {
        if let Some(node) = keys.get(name) {
            match boolean(node) {
                Some(on) => travel.enabled = on,
                None => batching(node, &mut travel),
            }
        }
    }
    // Who asks for vectors may say beside how they are wanted of whom.
    let of_embed = keys.get("embed").map(fields);
    let asked = |name| of_embed.and_then(|embed| embed.get(name)).or_else(|| keys.get(name));
    let provider = asked("provider").and_then(|node| {
        known_provider(reader, node, around.providers);
        Some((text(node)?.to_owned(), reader.place(&node.span)))
    });
    let collection = collection(reader, key, keys, recipe.as_ref());
    let rule = Rule {
        name: key.name.clone(),
        place: reader.place(&key.span),
        base: around.base.to_owned(),
        foreach: keys.get("foreach").and_then(|node| foreach(reader, node)),
        when: keys.get("when").and_then(|node| when(reader, node)),
        outputs: Vec::new(),
        inputs: keys.get("inputs").map(|node| inputs(reader, node)).unwrap_or_default(),
        recipe,
        provider,
        model: asked("model").and_then(text).map(str::to_owned),
        params: keys.get("params").map(|node| parameters(reader, node)).unwrap_or_default(),
        context: keys.get("context").and_then(|node| context(reader, node)),
        checks: keys.get("check").map(|node| checks(reader, node)).unwrap_or_default(),
        filters: keys.get("filter").map(|node| commands(reader, node)).unwrap_or_default(),
        on_error: keys.get("on_error").map_or(OnError::Fail, on_error),
        on_edit: keys.get("on_edit").map_or(OnEdit::Stop, on_edit),
        file_mode: keys.get("file_mode").and_then(|node| file_mode(reader, node)),
        groups: keys.get("group").map(texts).unwrap_or_default(),
        env: keys.get("env").map(texts).unwrap_or_default(),
        retries: keys.get("retries").and_then(whole).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        batching: travel,
        collection,
        allow_secrets: keys.get("allow_secrets").and_then(boolean).unwrap_or(false),
    };
    outputs.map(|outputs| Rule { outputs, ..rule })
}

fn texts(node: &Node) -> Vec<String> {
    items(node).iter().filter_map(text).map(str::to_owned).collect()
}

fn outputs(reader: &mut Reader, rule: &Key, keys: Fields) -> Option<Vec<(Option<String>, Expr)>> {
    match (keys.get("output"), keys.entry("outputs")) {
        (None, None) => {
            let error = Error::new(Code::MissingKey, format!("rule `{}` has no output", rule.name));
            reader.report(&rule.span, error.hint("say where its result goes: `output: PATH`"));
            None
        }
        (Some(_), Some((key, _))) => {
            let error = Error::new(Code::Conflict, format!("rule `{}` has both `output` and `outputs`", rule.name));
            reader.report(&key.span, error.hint("keep one of them"));
            None
        }
        (Some(node), None) => Some(vec![(None, reader.expr(node)?)]),
        (None, Some((_, node))) => {
            let named = entries(node);
            if named.is_empty() && matches!(node.kind, Kind::Map(_)) {
                reader.report(&node.span, Error::new(Code::BadValue, "`outputs` names no output"));
            }
            let read = named.iter().map(|(key, node)| Some((Some(key.name.clone()), reader.expr(node)?)));
            read.collect::<Option<Vec<_>>>().filter(|outputs| !outputs.is_empty())
        }
    }
}

fn recipe(reader: &mut Reader, rule: &Key, keys: Fields) -> Option<Recipe> {
    let named: Vec<(&Key, &Node)> =
        ["template", "prompt", "run", "embed"].iter().filter_map(|key| keys.entry(key)).collect();
    match named[..] {
        [] => {
            let error = Error::new(Code::MissingKey, format!("rule `{}` has no recipe", rule.name));
            reader.report(&rule.span, error.hint("a rule has one of `template`, `prompt`, `run` and `embed`"));
            None
        }
        [(key, node)] => match key.name.as_str() {
            "template" => reader.expr(node).map(Recipe::Template),
            "prompt" => reader.expr(node).map(Recipe::Prompt),
            "embed" if keys.get("items").is_none() => {
                let error = Error::new(Code::MissingKey, format!("rule `{}` has `embed` and no `items`", rule.name));
                reader
                    .report(&key.span, error.hint("say what there is a vector for each of: `items: src/**/*.rs#defs`"));
                None
            }
            "embed" => Some(Recipe::Embed(embed(reader, node))),
            _ => command(reader, node).map(Recipe::Run),
        },
        [(first, _), (second, _), ..] => {
            let message = format!("rule `{}` has two recipes, `{}` and `{}`", rule.name, first.name, second.name);
            let error = Error::new(Code::Conflict, message).hint("a rule has exactly one; make two rules of it");
            reader.report(&second.span, error);
            None
        }
    }
}

/// A command: the values in it are quoted for the shell.
fn command(reader: &mut Reader, node: &Node) -> Option<Expr> {
    let text = text(node)?;
    let place = reader.place(&node.span);
    Expr::command(text, place).map_err(|e| reader.found.push(e)).ok()
}

fn commands(reader: &mut Reader, node: &Node) -> Vec<Expr> {
    items(node).iter().filter_map(|node| command(reader, node)).collect()
}

pub(super) fn foreach(reader: &mut Reader, node: &Node) -> Option<Foreach> {
    let axes = match &node.kind {
        Kind::Map(axes) if !is_globs(node) => axes,
        _ => return over(reader, node).map(Foreach::Over),
    };
    if axes.is_empty() {
        reader.report(&node.span, Error::new(Code::BadValue, "`foreach` names no axis"));
        return None;
    }
    let read: Vec<Option<(String, Over)>> =
        axes.iter().map(|(key, node)| Some((key.name.clone(), over(reader, node)?))).collect();
    read.into_iter().collect::<Option<_>>().map(Foreach::Axes)
}

/// `{glob: …}` and nothing else; with other keys it is an axis of that name.
fn is_globs(node: &Node) -> bool {
    matches!(entries(node), [(key, _)] if key.name == "glob")
}

fn over(reader: &mut Reader, node: &Node) -> Option<Over> {
    match &node.kind {
        Kind::List(_) => match node.to_value() {
            Value::Array(items) => Some(Over::List(items)),
            _ => None,
        },
        Kind::Map(_) => {
            let globs = fields(node).get("glob")?;
            items(globs).iter().map(|node| reader.expr(node)).collect::<Option<_>>().map(Over::Globs)
        }
        Kind::Scalar(_) => reader.expr(node).map(Over::Text),
    }
}

/// `when: false` is an expression, too.
fn when(reader: &mut Reader, node: &Node) -> Option<Expr> {
    match boolean(node) {
        Some(value) => Expr::new(&value.to_string(), reader.place(&node.span)).ok(),
        None => {
            let names_something = |text: &str| ["vars.", "item.", "env."].iter().any(|name| text.contains(name));
            if let Some(text) = text(node).filter(|text| !text.contains("{{") && names_something(text)) {
                let error = Error::new(Code::BadValue, format!("`when` holds no expression: `{text}` is always true"));
                reader.report(&node.span, error.hint("an expression is written `\"{{vars.x}}\"`"));
            }
            reader.expr(node)
        }
    }
}

fn inputs(reader: &mut Reader, node: &Node) -> Vec<Input> {
    let named: Vec<(Option<String>, &Node)> = match &node.kind {
        Kind::List(items) => items.iter().map(|item| (None, item)).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, node)| (Some(key.name.clone()), node)).collect(),
        Kind::Scalar(_) => Vec::new(),
    };
    let mut inputs = Vec::with_capacity(named.len());
    for (name, node) in named {
        let keys = fields(node);
        let (source, optional) = match keys.get("path") {
            Some(path) => (path, keys.get("optional").and_then(boolean).unwrap_or(false)),
            None => (node, false),
        };
        inputs.extend(reader.expr(source).map(|source| Input { name, source, optional }));
    }
    inputs
}

fn context(reader: &mut Reader, node: &Node) -> Option<Context> {
    let keys = fields(node);
    Some(Context {
        select: reader.expr(keys.get("select")?)?,
        related_to: keys.get("related_to").and_then(|node| reader.expr(node)),
        depth: keys.get("depth").and_then(whole).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        max_share: keys.get("max_share").and_then(number),
    })
}

fn checks(reader: &mut Reader, node: &Node) -> Vec<Check> {
    let mut checks = Vec::new();
    for node in items(node) {
        match (&node.kind, text(node)) {
            (_, Some("json")) => checks.push(Check::Json),
            (_, Some("yaml")) => checks.push(Check::Yaml),
            (_, Some("toml")) => checks.push(Check::Toml),
            (_, Some("syntax")) => checks.push(Check::Syntax),
            (Kind::Map(named), _) if named.is_empty() => {
                let error = Error::new(Code::BadValue, "this `check` names nothing to check");
                reader.report(&node.span, error.hint("write `{schema: FILE}` or `{run: COMMAND}`"));
            }
            (Kind::Map(named), _) => {
                for (key, node) in named {
                    match key.name.as_str() {
                        "schema" => checks.extend(reader.expr(node).map(Check::Schema)),
                        "run" => checks.extend(command(reader, node).map(Check::Run)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    checks
}

fn on_error(node: &Node) -> OnError {
    match (text(node), fields(node).get("default")) {
        (Some("skip"), _) => OnError::Skip,
        (_, Some(value)) => OnError::Default(value.to_value()),
        _ => OnError::Fail,
    }
}

fn on_edit(node: &Node) -> OnEdit {
    match text(node) {
        Some("keep") => OnEdit::Keep,
        Some("overwrite") => OnEdit::Overwrite,
        Some("merge") => OnEdit::Merge,
        _ => OnEdit::Stop,
    }
}

fn file_mode(reader: &mut Reader, node: &Node) -> Option<u32> {
    let text = text(node)?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    // The permissions of owner, group and others; who may write must be able to read.
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600);
    if mode.is_none() {
        let message =
            format!("`file_mode` is a number such as `\"0755\"` that lets the owner read and write, not `{text}`");
        reader.report(&node.span, Error::new(Code::BadValue, message));
    }
    mode
}

fn parameters(reader: &mut Reader, node: &Node) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, node) in entries(node) {
        match params::read(&key.name, &node.to_value()) {
            Ok((name, value)) => {
                map.insert(name, value);
            }
            Err(error) => {
                let span = if error.code == Code::UnknownKey { &key.span } else { &node.span };
                reader.report(span, error);
            }
        }
    }
    map
}
