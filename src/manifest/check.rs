//! From YAML nodes to the model. What is of the wrong form has been reported by then; what is said here is what no form says.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::api::{Api, Command, Stdin};
use super::include::Included;
use super::language::{Form, SECRETS, TOP};
use super::model::{
    Batching, Budget, Expr, KeepPrefix, Limits, Manifest, Prefer, Prices, Provider, Weights, unknown_provider,
};
use super::read::{Fields, Reader, boolean, duration, entries, fields, number, text, whole};
use super::rule::{Around, rule};
use crate::error::{Code, Error};
use crate::models::{Keep, Price};
use crate::path::RelPath;
use crate::yaml::{Key, Kind, Node};

/// Reads a whole Genfile and what it includes; what could not be read is left out of the model and stands in the list.
pub(super) fn check(reader: &mut Reader, node: &Node, included: &[Included], manifest: &mut Manifest) {
    let start = reader.found.len();
    reader.fits(node, "the Genfile", &Form::Keys(TOP));
    if !matches!(node.kind, Kind::Map(_)) {
        let hint = "a Genfile starts with `version: 1` and `rules:`; `genmake init` writes one";
        reader.found[start..].iter_mut().for_each(|error| error.hints.push(hint.to_owned()));
        return;
    }
    let top = fields(node);
    if let Some(node) = top.get("version")
        && node.to_value() != json!(1)
    {
        let hint = "this genmake reads version 1 of the language";
        reader.found[start..]
            .iter_mut()
            .filter(|e| e.message.contains("`version`"))
            .for_each(|e| e.hints.push(hint.into()));
    }
    if let Some(node) = top.get("vars") {
        vars(reader, node, &mut manifest.vars);
    }
    let declared = providers(reader, top, manifest);
    if let Some(node) = top.get("provider") {
        known_provider(reader, node, &declared);
        manifest.provider = text(node).map(str::to_owned);
    }
    if let Some(node) = top.get("budget") {
        manifest.budget = budget(node);
    }
    let mut defaults = Batching::default();
    if let Some(node) = top.get("batching") {
        batching(node, &mut defaults);
    }
    let own = top.get("rules").map(entries).unwrap_or_default();
    let own_names: BTreeSet<&str> = own.iter().map(|(key, _)| key.name.as_str()).collect();
    for file in included {
        let around = Around { batching: defaults, providers: &declared, base: &file.base };
        reader.found.extend(taken_over(file, &own_names, &around, manifest));
    }
    let around = Around { batching: defaults, providers: &declared, base: "" };
    for (key, node) in own {
        manifest.names.insert(key.name.clone());
        manifest.rules.extend(rule(reader, key, node, &around));
    }
    without_provider(reader, manifest);
}

/// Reads `providers`; the names of all that are declared, also of those that could not be read.
fn providers(reader: &mut Reader, top: Fields, manifest: &mut Manifest) -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    for (key, node) in top.get("providers").map(entries).unwrap_or_default() {
        declared.insert(key.name.clone());
        manifest.providers.extend(provider(reader, key, node).map(|provider| (key.name.clone(), provider)));
    }
    declared
}

/// Takes over the variables and rules of an included file; what is wrong with them. `own` are the Genfile's rules, which take the
/// place of included ones.
fn taken_over(file: &Included, own: &BTreeSet<&str>, around: &Around, manifest: &mut Manifest) -> Vec<Error> {
    let mut reader = Reader { source: file.source.clone(), found: Vec::new() };
    let keys = fields(&file.node);
    if let Some(node) = keys.get("vars") {
        vars(&mut reader, node, &mut manifest.vars);
    }
    for (key, node) in keys.get("rules").map(entries).unwrap_or_default() {
        if own.contains(key.name.as_str()) || !file.takes(&key.name) {
            continue;
        }
        if !manifest.names.insert(key.name.clone()) {
            let message = format!("two included files have a rule `{}`", key.name);
            let hint = "take it from one of them with `{from: FILE, only: [RULE, …]}`, or write it in the Genfile";
            reader.report(&key.span, Error::new(Code::DuplicateKey, message).hint(hint));
            continue;
        }
        manifest.rules.extend(rule(&mut reader, key, node, around));
    }
    reader.found
}

/// A Genfile's text with keys that somebody wrote into it blotted out, so that no error shows them; places stay where they are.
pub(super) fn without_secrets(text: &str, node: &Node) -> String {
    let mut text = text.to_owned();
    for (_, provider) in fields(node).get("providers").map(entries).unwrap_or_default() {
        let keys = fields(provider);
        let key_env = keys.get("key_env").filter(|node| !is_variable(node.to_value().as_str().unwrap_or_default()));
        let base_url = keys.get("base_url").filter(|node| node.to_value().as_str().is_some_and(has_login));
        for secret in SECRETS.iter().filter_map(|name| keys.get(name)).chain(key_env).chain(base_url) {
            let blot: String = text[secret.span.clone()].chars().map(|c| "*".repeat(c.len_utf8())).collect();
            text.replace_range(secret.span.clone(), &blot);
        }
    }
    text
}

/// The same for a text that is no YAML, where nothing says which value is whose: whatever follows a name of a secret on its
/// line is blotted out.
pub(super) fn without_suspects(text: &str) -> String {
    let mut blotted = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let address = line.contains('@').then_some("base_url");
        let names = || SECRETS.iter().copied().chain(["key_env"]).chain(address);
        let is_name = |at: usize, name: &str| {
            let before = line[..at].chars().next_back();
            let after = line[at + name.len()..].trim_start_matches(['"', '\'', ' ']);
            after.starts_with(':') && before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        };
        let ends = names().flat_map(|name| line.match_indices(name).filter(move |(at, _)| is_name(*at, name)));
        let Some(value) = ends.map(|(at, name)| at + name.len()).min() else {
            blotted += line;
            continue;
        };
        blotted += &line[..value];
        let blot = |c: char| if c.is_whitespace() || c == ':' { c.to_string() } else { "*".repeat(c.len_utf8()) };
        blotted.extend(line[value..].chars().map(blot));
    }
    blotted
}

/// Whether an address has a user or password before its host.
fn has_login(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))
}

/// Whether a text can be the name of an environment variable, as keys have them.
fn is_variable(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.chars().all(is_name) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// A prompt is sent to somebody.
fn without_provider(reader: &mut Reader, manifest: &Manifest) {
    for rule in &manifest.rules {
        if rule.is_asked() && rule.provider.is_none() && manifest.provider.is_none() {
            let message = format!("rule `{}` has a prompt and no provider", rule.name);
            let hint = "name one with `provider: NAME`, at the top of the Genfile or in the rule";
            reader.found.push(Error::new(Code::MissingKey, message).at(rule.place.clone()).hint(hint));
        }
    }
}

/// Variables in the order written: a string may use those above it. What is there already stays.
fn vars(reader: &mut Reader, node: &Node, into: &mut Map<String, Value>) {
    for (key, node) in entries(node) {
        if !into.contains_key(&key.name) {
            let value = rendered(reader, node, into);
            into.insert(key.name.clone(), value);
        }
    }
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

pub(super) fn known_provider(reader: &mut Reader, node: &Node, declared: &BTreeSet<String>) {
    if let Some(name) = text(node)
        && !declared.contains(name)
    {
        reader.report(&node.span, unknown_provider(name, declared.iter()));
    }
}

/// Reads a provider; `None` where something that it needs is wrong.
fn provider(reader: &mut Reader, key: &Key, node: &Node) -> Option<Provider> {
    let keys = fields(node);
    let api = api(reader, &key.name, keys);
    let base_url = match keys.get("base_url") {
        None => api.as_ref().map(|api| api.base_url().to_owned()),
        Some(node) => text(node).and_then(|url| {
            let url = url.trim_end_matches('/').to_owned();
            if has_login(&url) {
                let error = Error::new(Code::BadValue, "`base_url` holds a user or password");
                let hint = "no secret stands in a Genfile: `key_env: NAME` names the variable of a key";
                reader.report(&node.span, error.hint(hint));
                return None;
            }
            if url.starts_with("http://") || url.starts_with("https://") {
                return Some(url);
            }
            let message = "`base_url` is an address that starts with `http://` or `https://`";
            reader.report(&node.span, Error::new(Code::BadValue, message));
            None
        }),
    };
    let key_env = keys.get("key_env").and_then(text);
    if let (Some(name), Some(node)) = (key_env, keys.get("key_env"))
        && !is_variable(name)
    {
        let error = Error::new(Code::BadValue, "`key_env` is the name of an environment variable, not a key");
        reader.report(&node.span, error.hint("names are of capital letters, digits and `_`, as `OPENAI_API_KEY`"));
        return None;
    }
    let seconds = |name: &str, default| keys.get(name).and_then(duration).unwrap_or(Duration::from_secs(default));
    Some(Provider {
        name: key.name.clone(),
        place: reader.place(&key.span),
        api: api?,
        base_url: base_url?,
        model: keys.get("model").and_then(text).map(str::to_owned),
        key_env: key_env.map(str::to_owned),
        in_flight: keys.get("in_flight").and_then(whole).and_then(|n| usize::try_from(n).ok()).unwrap_or(4),
        requests_per_minute: keys.get("requests_per_minute").and_then(whole),
        tokens_per_minute: keys.get("tokens_per_minute").and_then(whole),
        timeout: seconds("timeout", 120),
        start: keys.get("start").and_then(text).map(|command| (command.to_owned(), seconds("start_timeout", 300))),
        prices: keys.get("prices").map_or(Some(Prices::Known), |node| prices(reader, node))?,
        limits: keys.get("limits").map(limits).unwrap_or_default(),
    })
}

/// The keys of providers that are a server's.
const OF_A_SERVER: &[&str] = &["base_url", "start", "start_timeout"];

/// Reads `api` and what goes with it; a key that goes with another is reported. `None` where something is wrong.
fn api(reader: &mut Reader, provider: &str, keys: Fields) -> Option<Api> {
    let node = keys.get("api")?;
    let name = text(node)?;
    let (needed, unfit): (_, &[&[&str]]) = match name {
        "command" => (Some("command"), &[OF_A_SERVER, &["dir"]]),
        "replay" => (Some("dir"), &[OF_A_SERVER, &["key_env", "timeout", "command", "stdin"]]),
        _ => (None, &[&["command", "stdin", "dir"]]),
    };
    let before = reader.found.len();
    for (other, _) in unfit.iter().copied().flatten().filter_map(|unfit| keys.entry(unfit)) {
        let message = format!("`{}` does not go with `api: {name}`", other.name);
        let hint = match other.name.as_str() {
            "command" | "stdin" => "it goes with `api: command`",
            "dir" => "it goes with `api: replay`",
            _ if name == "replay" => "recordings are files: nothing is started, waited for, or sent a key",
            _ => "a command is no server: it is run for each request",
        };
        reader.report(&other.span, Error::new(Code::Conflict, message).hint(hint));
    }
    if let Some(needed) = needed.filter(|needed| keys.get(needed).is_none()) {
        let message = format!("provider `{provider}` has no `{needed}`");
        reader.report(&node.span, Error::new(Code::MissingKey, message).hint(format!("`api: {name}` needs it")));
    }
    if reader.found.len() > before {
        return None;
    }
    match name {
        "command" => {
            let stdin = if keys.get("stdin").and_then(text) == Some("text") { Stdin::Text } else { Stdin::Json };
            Some(Api::Command(Command { line: keys.get("command").and_then(text)?.to_owned(), stdin }))
        }
        "replay" => {
            let node = keys.get("dir")?;
            let wrong = |why| Error::new(Code::BadPath, format!("the folder of recordings {why}"));
            let dir = RelPath::input(text(node)?).map_err(|why| reader.report(&node.span, wrong(why)));
            dir.ok().map(Api::Replay)
        }
        name => Api::named(name),
    }
}

/// Reads `prices`; `None` where they are wrong.
fn prices(reader: &mut Reader, node: &Node) -> Option<Prices> {
    if let Some(path) = text(node) {
        let path = RelPath::new(path).map_err(|why| {
            let error = Error::new(Code::BadPath, format!("the list of prices `{path}` {why}"));
            reader.report(&node.span, error);
        });
        return path.ok().map(|path| Prices::Listed(path, reader.place(&node.span)));
    }
    let keys = fields(node);
    let price = |name: &str| keys.get(name).and_then(number);
    Some(Prices::Said(Price {
        input: price("input")?,
        output: price("output")?,
        cache_read: price("cache_read"),
        cache_write: price("cache_write"),
        cache_write_1h: price("cache_write_1h"),
        above: None,
    }))
}

fn limits(node: &Node) -> Limits {
    let keys = fields(node);
    let tokens = |name: &str| keys.get(name).and_then(whole);
    Limits { context: tokens("context"), max_output: tokens("max_output") }
}

fn budget(node: &Node) -> Budget {
    let keys = fields(node);
    Budget {
        max_cost_usd: keys.get("max_cost_usd").and_then(number),
        max_tokens: keys.get("max_tokens").and_then(whole),
        confirm_above_tokens: keys.get("confirm_above_tokens").and_then(whole),
    }
}

pub(super) fn batching(node: &Node, into: &mut Batching) {
    let keys = fields(node);
    into.enabled = keys.get("enabled").and_then(boolean).unwrap_or(into.enabled);
    if let Some(node) = keys.get("max_batch_size") {
        let number = whole(node).and_then(|n| usize::try_from(n).ok());
        into.max_batch_size = if text(node) == Some("auto") { None } else { number.or(into.max_batch_size) };
    }
    into.similarity_threshold = keys.get("similarity_threshold").and_then(number).unwrap_or(into.similarity_threshold);
    let weights = keys.get("weights").map(fields).unwrap_or_default();
    let weight = |name: &str, otherwise| weights.get(name).and_then(number).unwrap_or(otherwise);
    into.weights = Weights {
        file_type: weight("file_type", into.weights.file_type),
        structure: weight("structure", into.weights.structure),
        package: weight("package", into.weights.package),
        dependencies: weight("dependencies", into.weights.dependencies),
    };
    into.prefer = match keys.get("prefer").and_then(text) {
        Some("time") => Prefer::Time,
        Some("cost") => Prefer::Cost,
        _ => into.prefer,
    };
    into.keep_prefix = match keys.get("keep_prefix").and_then(text) {
        Some("auto") => KeepPrefix::Auto,
        Some("5m") => KeepPrefix::For(Keep::Short),
        Some("1h") => KeepPrefix::For(Keep::Long),
        Some("never") => KeepPrefix::Never,
        _ => into.keep_prefix,
    };
    into.fallback_on_failure = keys.get("fallback_on_failure").and_then(boolean).unwrap_or(into.fallback_on_failure);
}
