//! From YAML nodes to the model: every key of the language is named here, with its type, bounds and default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{Api, Batching, Check, Expr, Foreach, Input, Manifest, Provider, Recipe, Rule};
use super::read::{Fields, Reader, list};
use crate::error::{Code, Error, Source, did_you_mean};
use crate::params;
use crate::yaml::{Key, Kind, Node};

const TOP: &[&str] = &["version", "vars", "provider", "providers", "batching", "rules"];
const TOP_LATER: &[&str] = &["budget", "cache", "include"];

const PROVIDER: &[&str] = &["api", "base_url", "model", "key_env", "in_flight", "timeout", "start", "start_timeout"];
const PROVIDER_LATER: &[&str] = &["requests_per_minute", "tokens_per_minute", "prices", "limits"];
/// Keys that people would put a secret under.
const SECRETS: &[&str] = &["key", "api_key", "token", "secret"];
const APIS_LATER: &[&str] = &["anthropic", "openai-responses", "gemini", "command", "replay"];

const BATCHING: &[&str] = &["enabled", "max_batch_size", "similarity_threshold", "fallback_on_failure"];
const BATCHING_LATER: &[&str] = &["weights", "prefer"];

const RULE: &[&str] = &[
    "output", "outputs", "template", "prompt", "foreach", "inputs", "params", "check", "retries", "provider", "model",
    "batch", "batching",
];
const RULE_LATER: &[&str] = &[
    "run",
    "embed",
    "items",
    "context",
    "when",
    "filter",
    "on_edit",
    "on_error",
    "file_mode",
    "group",
    "env",
    "allow_secrets",
    "schema",
    "unique_by",
    "set",
    "window",
    "carry",
    "results",
    "min",
    "max",
];

const INPUT: &[&str] = &["path", "optional"];

const CHECKS: &[(&str, Check)] = &[("json", Check::Json), ("yaml", Check::Yaml), ("toml", Check::Toml)];
const CHECKS_LATER: &[&str] = &["syntax", "schema", "run"];

/// Reads a whole Genfile; what could not be read is left out of the model and stands in the list.
pub(super) fn check(source: &Source, node: &Node) -> (Manifest, Vec<Error>) {
    let source = without_secrets(source, node);
    let mut reader = Reader { source: Arc::clone(&source), found: Vec::new() };
    let mut manifest = Manifest {
        source,
        vars: Map::new(),
        provider: None,
        providers: BTreeMap::new(),
        rules: Vec::new(),
        names: BTreeSet::new(),
    };
    let Some(top) = reader.fields(node, "the Genfile", TOP, TOP_LATER) else {
        let start = "a Genfile starts with `version: 1` and `rules:`; `genmake init` writes one";
        reader.found.iter_mut().for_each(|error| error.hints.push(start.to_owned()));
        return (manifest, reader.found);
    };
    version(&mut reader, node, &top);
    if let Some(node) = top.get("vars") {
        manifest.vars = vars(&mut reader, node);
    }
    if let Some(node) = top.get("providers") {
        for (key, node) in reader.entries(node, "providers").unwrap_or_default() {
            if let Some(provider) = provider(&mut reader, key, node) {
                manifest.providers.insert(key.name.clone(), provider);
            }
        }
    }
    let declared: BTreeSet<&str> = match top.get("providers").map(|node| &node.kind) {
        Some(Kind::Map(entries)) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
        _ => BTreeSet::new(),
    };
    if let Some(node) = top.get("provider")
        && let Some(name) = reader.text(node, "provider")
    {
        known_provider(&mut reader, node, &name, &declared);
        manifest.provider = Some(name);
    }
    let mut defaults = Batching::default();
    if let Some(node) = top.get("batching") {
        batching(&mut reader, node, &mut defaults);
    }
    match top.get("rules") {
        None => {
            let error = Error::new(Code::MissingKey, "the Genfile has no `rules`");
            reader.report(&(0..0), error.hint("declare what is made under `rules:`"));
        }
        Some(node) => {
            for (key, node) in reader.entries(node, "rules").unwrap_or_default() {
                manifest.names.insert(key.name.clone());
                if let Some(rule) = rule(&mut reader, key, node, defaults, &declared) {
                    manifest.rules.push(rule);
                }
            }
        }
    }
    without_provider(&mut reader, &manifest);
    (manifest, reader.found)
}

/// The source with keys that somebody wrote into it blotted out, so that no error shows them; places stay where they are.
fn without_secrets(source: &Source, node: &Node) -> Arc<Source> {
    let get = |node: &Node, name: &str| match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node.clone()),
        _ => None,
    };
    let mut text = source.text.clone();
    let Some(Node { kind: Kind::Map(providers), .. }) = get(node, "providers") else {
        return Source::new(source.name.clone(), text);
    };
    for (_, provider) in &providers {
        let key_env =
            get(provider, "key_env").filter(|node| !is_variable(node.to_value().as_str().unwrap_or_default()));
        for secret in SECRETS.iter().filter_map(|name| get(provider, name)).chain(key_env) {
            let blot: String = text[secret.span.clone()].chars().map(|c| "*".repeat(c.len_utf8())).collect();
            text.replace_range(secret.span, &blot);
        }
    }
    Source::new(source.name.clone(), text)
}

/// Whether a text can be the name of an environment variable, as keys have them.
fn is_variable(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.chars().all(is_name) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A prompt is sent to somebody.
fn without_provider(reader: &mut Reader, manifest: &Manifest) {
    for rule in &manifest.rules {
        if matches!(rule.recipe, Some(Recipe::Prompt(_))) && rule.provider.is_none() && manifest.provider.is_none() {
            let message = format!("rule `{}` has a prompt and no provider", rule.name);
            let hint = "name one with `provider: NAME`, at the top of the Genfile or in the rule";
            reader.found.push(Error::new(Code::MissingKey, message).at(rule.place.clone()).hint(hint));
        }
    }
}

fn version(reader: &mut Reader, node: &Node, top: &Fields) {
    match top.get("version") {
        None => {
            let error = Error::new(Code::MissingKey, "the Genfile has no `version`");
            reader.report(&node.span, error.hint("write `version: 1` as its first line"));
        }
        Some(node) if node.to_value() == json!(1) => {}
        Some(node) => {
            let error = Error::new(Code::BadValue, format!("`version` is 1, not {}", node.to_value()));
            reader.report(&node.span, error.hint("this genmake reads version 1 of the language"));
        }
    }
}

/// Variables in the order written: a string may use those above it.
fn vars(reader: &mut Reader, node: &Node) -> Map<String, Value> {
    let mut vars = Map::new();
    for (key, node) in reader.entries(node, "vars").unwrap_or_default() {
        let value = rendered(reader, node, &vars);
        vars.insert(key.name.clone(), value);
    }
    vars
}

fn rendered(reader: &mut Reader, node: &Node, vars: &Map<String, Value>) -> Value {
    match &node.kind {
        Kind::Scalar(Value::String(text)) => {
            let place = reader.place(&node.span);
            let value = Expr::new(text, place).and_then(|expr| expr.render(&json!({ "vars": vars })));
            value.map_err(|e| reader.found.push(e)).unwrap_or_default().into()
        }
        Kind::Scalar(value) => value.clone(),
        Kind::List(items) => items.iter().map(|item| rendered(reader, item, vars)).collect::<Vec<_>>().into(),
        Kind::Map(entries) => {
            let entries = entries.iter().map(|(key, node)| (key.name.clone(), rendered(reader, node, vars)));
            entries.collect::<Map<_, _>>().into()
        }
    }
}

fn known_provider(reader: &mut Reader, node: &Node, name: &str, declared: &BTreeSet<&str>) {
    if !declared.contains(name) {
        let error = Error::new(Code::UnknownProvider, format!("no provider `{name}`"))
            .hint_if(did_you_mean(name, declared.iter().copied()))
            .hint("providers are declared under `providers:`");
        reader.report(&node.span, error);
    }
}

fn provider(reader: &mut Reader, key: &Key, node: &Node) -> Option<Provider> {
    let what = format!("provider `{}`", key.name);
    let mut known = PROVIDER.to_vec();
    for (field, _) in reader.entries(node, &what)? {
        if SECRETS.contains(&field.name.as_str()) {
            let message = format!("`{}` would put a secret into the Genfile", field.name);
            let hint = "put it into the environment and name the variable: `key_env: OPENAI_API_KEY`";
            reader.report(&field.span, Error::new(Code::UnknownKey, message).hint(hint));
            known.push(&field.name);
        }
    }
    let fields = reader.fields(node, &what, &known, PROVIDER_LATER)?;
    let mut sound = true;
    let api = match fields.get("api") {
        None => {
            let error = Error::new(Code::MissingKey, format!("{what} has no `api`")).hint("write `api: openai`");
            reader.report(&key.span, error);
            None
        }
        Some(node) => reader.text(node, "api").and_then(|name| api(reader, node, &name)),
    };
    let base_url = match fields.get("base_url") {
        None => Some("https://api.openai.com/v1".to_owned()),
        Some(node) => reader.text(node, "base_url").and_then(|url| {
            let url = url.trim_end_matches('/').to_owned();
            if url.starts_with("http://") || url.starts_with("https://") {
                return Some(url);
            }
            let message = "`base_url` is an address that starts with `http://` or `https://`";
            reader.report(&node.span, Error::new(Code::BadValue, message));
            None
        }),
    };
    let key_env = fields.get("key_env").and_then(|node| {
        let name = reader.text(node, "key_env")?;
        if is_variable(&name) {
            return Some(name);
        }
        sound = false;
        let error = Error::new(Code::BadValue, "`key_env` is the name of an environment variable, not a key");
        reader.report(&node.span, error.hint("names are of capital letters, digits and `_`, as `OPENAI_API_KEY`"));
        None
    });
    let in_flight = fields.get("in_flight").and_then(|node| reader.whole(node, "in_flight", 1, 1000)).unwrap_or(4);
    let timeout = fields.get("timeout").and_then(|node| reader.duration(node, "timeout"));
    let start = fields.get("start").and_then(|node| reader.text(node, "start"));
    let start_timeout = fields.get("start_timeout").and_then(|node| reader.duration(node, "start_timeout"));
    let model = fields.get("model").and_then(|node| reader.text(node, "model"));
    let (api, base_url) = (api?, base_url?);
    sound.then(|| Provider {
        name: key.name.clone(),
        place: reader.place(&key.span),
        api,
        base_url,
        model,
        key_env,
        in_flight: usize::try_from(in_flight).unwrap_or(4),
        timeout: timeout.unwrap_or(Duration::from_secs(120)),
        start: start.map(|command| (command, start_timeout.unwrap_or(Duration::from_secs(300)))),
    })
}

fn api(reader: &mut Reader, node: &Node, name: &str) -> Option<Api> {
    if name == "openai" {
        return Some(Api::OpenAi);
    }
    let error = if APIS_LATER.contains(&name) {
        Error::new(Code::Unsupported, format!("`api: {name}` is not supported by this version of genmake"))
            .hint("this version speaks `openai`")
    } else {
        let near = did_you_mean(name, ["openai"]).unwrap_or_else(|| "this version speaks `openai`".to_owned());
        Error::new(Code::BadValue, format!("`{name}` is no api")).hint(near)
    };
    reader.report(&node.span, error);
    None
}

fn batching(reader: &mut Reader, node: &Node, into: &mut Batching) {
    let Some(fields) = reader.fields(node, "batching", BATCHING, BATCHING_LATER) else { return };
    if let Some(node) = fields.get("enabled") {
        into.enabled = reader.boolean(node, "enabled").unwrap_or(true);
    }
    if let Some(node) = fields.get("max_batch_size") {
        if node.to_value() == json!("auto") {
            let message = "`max_batch_size: auto` is not supported by this version of genmake";
            reader.report(&node.span, Error::new(Code::Unsupported, message).hint("give a number, such as 5"));
        } else if let Some(n) = reader.whole(node, "max_batch_size", 1, 1000) {
            into.max_batch_size = usize::try_from(n).unwrap_or(1);
        }
    }
    if let Some(node) = fields.get("similarity_threshold") {
        into.similarity_threshold = reader.number(node, "similarity_threshold", 0.0, 1.0).unwrap_or(0.7);
    }
    if let Some(node) = fields.get("fallback_on_failure") {
        into.fallback_on_failure = reader.boolean(node, "fallback_on_failure").unwrap_or(true);
    }
}

fn rule(reader: &mut Reader, key: &Key, node: &Node, defaults: Batching, declared: &BTreeSet<&str>) -> Option<Rule> {
    let what = format!("rule `{}`", key.name);
    if key.name.is_empty() || key.name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        let message = format!("a rule's name is one word without `/`, and {:?} is not", key.name);
        reader.report(&key.span, Error::new(Code::BadValue, message));
    }
    let fields = reader.fields(node, &what, RULE, RULE_LATER)?;
    let outputs = outputs(reader, key, &fields);
    let recipe = recipe(reader, key, &fields);
    let foreach = fields.get("foreach").and_then(|node| foreach(reader, node));
    let inputs = fields.get("inputs").map(|node| inputs(reader, node)).unwrap_or_default();
    let provider = fields.get("provider").and_then(|node| {
        let name = reader.text(node, "provider")?;
        known_provider(reader, node, &name, declared);
        Some((name, reader.place(&node.span)))
    });
    let model = fields.get("model").and_then(|node| reader.text(node, "model"));
    let params = fields.get("params").map(|node| params_node(reader, node)).unwrap_or_default();
    let checks = fields.get("check").map(|node| checks(reader, node)).unwrap_or_default();
    let retries = fields.get("retries").and_then(|node| reader.whole(node, "retries", 0, 100)).unwrap_or(1);
    let mut travel = defaults;
    for name in ["batch", "batching"] {
        match fields.get(name) {
            Some(Node { kind: Kind::Scalar(Value::Bool(on)), .. }) if name == "batch" => travel.enabled = *on,
            Some(node) => batching(reader, node, &mut travel),
            None => {}
        }
    }
    let place = reader.place(&key.span);
    outputs.map(|outputs| Rule {
        name: key.name.clone(),
        place,
        foreach,
        outputs,
        inputs,
        recipe,
        provider,
        model,
        params,
        checks,
        retries: u32::try_from(retries).unwrap_or(1),
        batching: travel,
    })
}

fn outputs(reader: &mut Reader, rule: &Key, fields: &Fields) -> Option<Vec<(Option<String>, Expr)>> {
    match (fields.get("output"), fields.entry("outputs")) {
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
        (Some(node), None) => Some(vec![(None, reader.expr(node, "output")?)]),
        (None, Some((_, node))) => {
            let entries = reader.entries(node, "outputs")?;
            if entries.is_empty() {
                reader.report(&node.span, Error::new(Code::BadValue, "`outputs` names no output"));
            }
            let read = entries.iter().map(|(key, node)| Some((Some(key.name.clone()), reader.expr(node, &key.name)?)));
            read.collect::<Option<Vec<_>>>().filter(|outputs| !outputs.is_empty())
        }
    }
}

fn recipe(reader: &mut Reader, rule: &Key, fields: &Fields) -> Option<Recipe> {
    match (fields.entry("template"), fields.entry("prompt")) {
        (Some((_, node)), None) => reader.expr(node, "template").map(Recipe::Template),
        (None, Some((_, node))) => reader.expr(node, "prompt").map(Recipe::Prompt),
        (Some(_), Some((key, _))) => {
            let message = format!("rule `{}` has two recipes, `template` and `prompt`", rule.name);
            let error = Error::new(Code::Conflict, message).hint("a rule has exactly one; make two rules of it");
            reader.report(&key.span, error);
            None
        }
        (None, None) => {
            if !["run", "embed"].iter().any(|key| fields.get(key).is_some()) {
                let error = Error::new(Code::MissingKey, format!("rule `{}` has no recipe", rule.name));
                reader.report(&rule.span, error.hint("a rule has one of `template` and `prompt`"));
            }
            None
        }
    }
}

fn foreach(reader: &mut Reader, node: &Node) -> Option<Foreach> {
    match &node.kind {
        Kind::List(_) => match node.to_value() {
            Value::Array(items) => Some(Foreach::List(items, reader.place(&node.span))),
            _ => None,
        },
        Kind::Map(_) => {
            let message = "a map in `foreach` is not supported by this version of genmake";
            let hint = "use a glob, a selector `FILE#/pointer/*`, or a list of values";
            reader.report(&node.span, Error::new(Code::Unsupported, message).hint(hint));
            None
        }
        Kind::Scalar(_) => reader.expr(node, "foreach").map(Foreach::Text),
    }
}

fn inputs(reader: &mut Reader, node: &Node) -> Vec<Input> {
    let named: Vec<(Option<String>, &Node)> = match &node.kind {
        Kind::List(items) => items.iter().map(|item| (None, item)).collect(),
        Kind::Map(entries) => entries.iter().map(|(key, node)| (Some(key.name.clone()), node)).collect(),
        Kind::Scalar(_) => {
            let message = format!("`inputs` takes a list or a map, and this is {}", node.type_name());
            let hint = "write `inputs: [PATH]`, or `inputs: {name: PATH}` to use it as `inputs.name` in a template";
            reader.report(&node.span, Error::new(Code::WrongType, message).hint(hint));
            return Vec::new();
        }
    };
    named.into_iter().filter_map(|(name, node)| input(reader, name, node)).collect()
}

fn input(reader: &mut Reader, name: Option<String>, node: &Node) -> Option<Input> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(Input { name, source: reader.expr(node, "an input")?, optional: false });
    }
    let fields = reader.fields(node, "an input", INPUT, &[])?;
    let optional = fields.get("optional").and_then(|node| reader.boolean(node, "optional")).unwrap_or(false);
    let Some(path) = fields.get("path") else {
        let error = Error::new(Code::MissingKey, "an input has no `path`");
        reader.report(&node.span, error.hint("write `{path: PATH, optional: true}`"));
        return None;
    };
    Some(Input { name, source: reader.expr(path, "path")?, optional })
}

fn checks(reader: &mut Reader, node: &Node) -> Vec<Check> {
    let nodes = match &node.kind {
        Kind::List(items) => items.iter().collect(),
        _ => vec![node],
    };
    let mut checks = Vec::new();
    for node in nodes {
        let name = match &node.kind {
            Kind::Map(entries) => entries.first().map(|(key, _)| key.name.clone()).unwrap_or_default(),
            _ => reader.text(node, "check").unwrap_or_default(),
        };
        let known: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
        let hint = format!("this version knows {}", list(&known));
        match CHECKS.iter().find(|(known, _)| *known == name) {
            Some((_, check)) => checks.push(*check),
            None if name.is_empty() => {}
            None if CHECKS_LATER.contains(&name.as_str()) => {
                let message = format!("the check `{name}` is not supported by this version of genmake");
                reader.report(&node.span, Error::new(Code::Unsupported, message).hint(hint));
            }
            None => {
                let hint = did_you_mean(&name, known).unwrap_or(hint);
                reader.report(&node.span, Error::new(Code::BadValue, format!("`{name}` is no check")).hint(hint));
            }
        }
    }
    checks
}

fn params_node(reader: &mut Reader, node: &Node) -> Map<String, Value> {
    let entries = reader.entries(node, "params").unwrap_or_default();
    let mut map = Map::new();
    for (key, node) in entries {
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
