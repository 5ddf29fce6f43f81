//! Every key of the Genfile's language has an effect, and what the schema calls its default is what holds without it.
//!
//! The keys are read out of the JSON Schema, so that none can be forgotten: [`PROOFS`] says which test proves which key.
//! What rules and providers may not say stands at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde_json::Value;

use crate::project::{Project, Run};
use crate::server::{Act, Gate, Server};

/// Each key by its path in the schema, and the test that fails when the key is ignored. `*` is any name; lists do not show.
const PROOFS: &[(&str, fn())] = &[
    ("version", version),
    ("vars", vars),
    ("provider", provider),
    ("providers", providers),
    ("providers.*.api", api),
    ("providers.*.base_url", base_url),
    ("providers.*.model", model_of_a_provider),
    ("providers.*.key_env", key_env),
    ("providers.*.in_flight", in_flight),
    ("providers.*.timeout", timeout),
    ("providers.*.start", start),
    ("providers.*.start_timeout", start_timeout),
    ("providers.*.command", command),
    ("providers.*.stdin", stdin_of_a_command),
    ("providers.*.dir", dir),
    ("providers.*.prices", prices),
    ("providers.*.prices.input", prices),
    ("providers.*.prices.output", prices),
    ("providers.*.limits", limits),
    ("providers.*.limits.context", limits),
    ("providers.*.limits.max_output", limits),
    ("budget", budget),
    ("budget.max_cost_usd", budget),
    ("budget.max_tokens", budget),
    ("budget.confirm_above_tokens", budget),
    ("batching", batching),
    ("batching.enabled", batching),
    ("batching.max_batch_size", batching),
    ("batching.fallback_on_failure", batching),
    ("batching.similarity_threshold", batching),
    ("batching.weights", batching),
    ("batching.weights.file_type", batching),
    ("batching.weights.structure", batching),
    ("batching.weights.package", batching),
    ("batching.weights.dependencies", batching),
    ("batching.prefer", batching),
    ("include", include),
    ("include.from", include),
    ("include.only", include),
    ("rules", rules),
    ("rules.*.output", output),
    ("rules.*.outputs", outputs),
    ("rules.*.template", template),
    ("rules.*.prompt", prompt),
    ("rules.*.run", run),
    ("rules.*.foreach", foreach),
    ("rules.*.foreach.*.glob", foreach),
    ("rules.*.when", when),
    ("rules.*.inputs", inputs),
    ("rules.*.inputs.path", inputs),
    ("rules.*.inputs.optional", inputs),
    ("rules.*.inputs.*.path", named_inputs),
    ("rules.*.inputs.*.optional", named_inputs),
    ("rules.*.params", params),
    ("rules.*.check", check),
    ("rules.*.check.run", check),
    ("rules.*.filter", filter),
    ("rules.*.retries", retries),
    ("rules.*.on_error", on_error),
    ("rules.*.on_error.default", on_error),
    ("rules.*.on_edit", on_edit),
    ("rules.*.file_mode", file_mode),
    ("rules.*.group", group),
    ("rules.*.env", env),
    ("rules.*.allow_secrets", allow_secrets),
    ("rules.*.provider", provider_of_a_rule),
    ("rules.*.model", model_of_a_rule),
    ("rules.*.batch", batch),
    ("rules.*.batch.enabled", batch),
    ("rules.*.batch.max_batch_size", batch),
    ("rules.*.batch.fallback_on_failure", batch),
    ("rules.*.batch.similarity_threshold", batch),
    ("rules.*.batch.weights", batch),
    ("rules.*.batch.weights.file_type", batch),
    ("rules.*.batch.weights.structure", batch),
    ("rules.*.batch.weights.package", batch),
    ("rules.*.batch.weights.dependencies", batch),
    ("rules.*.batch.prefer", batch),
    ("rules.*.batching", batching_of_a_rule),
    ("rules.*.batching.enabled", batching_of_a_rule),
    ("rules.*.batching.max_batch_size", batching_of_a_rule),
    ("rules.*.batching.fallback_on_failure", batching_of_a_rule),
    ("rules.*.batching.similarity_threshold", batching_of_a_rule),
    ("rules.*.batching.weights", batching_of_a_rule),
    ("rules.*.batching.weights.file_type", batching_of_a_rule),
    ("rules.*.batching.weights.structure", batching_of_a_rule),
    ("rules.*.batching.weights.package", batching_of_a_rule),
    ("rules.*.batching.weights.dependencies", batching_of_a_rule),
    ("rules.*.batching.prefer", batching_of_a_rule),
];

/// Keys that another file of tests proves.
const ELSEWHERE: &[(&str, &str)] = &[
    ("rules.*.context", "context.rs"),
    ("rules.*.context.select", "context.rs"),
    ("rules.*.context.related_to", "context.rs"),
    ("rules.*.context.depth", "context.rs"),
    ("rules.*.context.max_share", "context.rs"),
    ("rules.*.check.schema", "checks.rs"),
    ("rules.*.items", "collections.rs"),
    ("rules.*.items.*.glob", "collections.rs"),
    ("rules.*.schema", "collections.rs"),
    ("rules.*.unique_by", "collections.rs"),
    ("rules.*.set", "collections.rs"),
    ("rules.*.window", "collections.rs"),
    ("rules.*.carry", "windows.rs"),
    ("rules.*.results", "counted.rs"),
    ("rules.*.min", "counted.rs"),
    ("rules.*.max", "counted.rs"),
    ("rules.*.embed", "embeddings.rs"),
    ("rules.*.embed.provider", "embeddings.rs"),
    ("rules.*.embed.model", "embeddings.rs"),
    ("rules.*.embed.dimensions", "embeddings.rs"),
    ("rules.*.embed.max_tokens", "embeddings.rs"),
    ("rules.*.embed.template", "embeddings.rs"),
    ("rules.*.embed.task", "embeddings.rs"),
    ("rules.*.embed.comments", "embeddings.rs"),
    ("providers.*.requests_per_minute", "limits.rs"),
    ("providers.*.tokens_per_minute", "limits.rs"),
    ("providers.*.prices.cache_read", "money.rs"),
    ("providers.*.prices.cache_write", "money.rs"),
    ("providers.*.prices.cache_write_1h", "anthropic.rs"),
    ("batching.keep_prefix", "anthropic.rs"),
    ("rules.*.batch.keep_prefix", "anthropic.rs"),
    ("rules.*.batching.keep_prefix", "anthropic.rs"),
];

/// The server's prompts have one token, and what it answers has some: this many are a USD.
const DEAR: &str = "prices: {input: 1000000, output: 1000000}";

fn cost(seen: &Seen) -> Option<f64> {
    let report = seen.project.run(["-B", "--yes", "--report", "report.json"]);
    report.exits(0);
    let report: Value = serde_json::from_str(&seen.project.read("report.json")).expect("a report");
    report["llm"]["cost_usd"].as_f64()
}

#[test]
fn prices() {
    let tell = |server: &Server| {
        server.reply(|_, _| "12345678".to_owned());
    };
    let tokens = |seen: &Seen| cost(seen).map(|cost| cost as u64);
    asking("providers.*.prices", "", "KEY", "").shows_with(
        &[
            ("{input: 1000000, output: 0}", Some(1)),
            ("{input: 0, output: 1000000}", Some(2)),
            ("{input: 1000000, output: 1000000}", Some(3)),
            (LEFT_OUT, Some(0)),
        ],
        tell,
        tokens,
    );
    for key in ["input", "output"] {
        let other = if key == "input" { "output" } else { "input" };
        let (path, keys) = (format!("providers.*.prices.{key}"), format!("prices: {{{other}: 0, KEY}}"));
        let of = if key == "input" { 1 } else { 2 };
        asking(&path, "", &keys, "").shows_with(&[("1000000", Some(of)), ("0", Some(0))], tell, tokens);
    }
}

#[test]
fn limits() {
    asking("providers.*.limits", "", "KEY", "")
        .shows(&[("{context: 2}", "too_long".into()), ("{context: 4000}", "made".into())], Seen::outcome);
    asking("providers.*.limits.context", "", "limits: {KEY}", "")
        .shows(&[("2", "too_long".into()), ("4000", "made".into()), (LEFT_OUT, "made".into())], Seen::outcome);
    // What an answer can have is what a budget counts on.
    asking("providers.*.limits.max_output", "budget: {max_tokens: 4000}", "limits: {KEY}", "")
        .shows(&[("100", "made".into()), ("4000", "budget".into()), (LEFT_OUT, "made".into())], Seen::outcome);
}

#[test]
fn budget() {
    let rule = "params: {max_output_tokens: 10}";
    asking("budget", "KEY", "", rule)
        .shows(&[("{max_tokens: 5}", "budget".into()), (LEFT_OUT, "made".into())], Seen::outcome);
    asking("budget.max_tokens", "budget: {KEY}", "", rule)
        .shows(&[("19", "budget".into()), ("30", "made".into()), (LEFT_OUT, "made".into())], Seen::outcome);
    asking("budget.max_cost_usd", "budget: {KEY}", DEAR, rule)
        .shows(&[("5", "budget".into()), ("30", "made".into()), (LEFT_OUT, "made".into())], Seen::outcome);
    // Models on this machine are not asked about: this one is elsewhere, and never asked.
    let far = "version: 1\nprovider: p\nbudget: {KEY}\nproviders: {p: {api: openai, model: m, base_url: \"https://llm.invalid/v1\", key_env: NOT_SET}}\nrules: {a: {output: a, prompt: p.prompt}}\n";
    key("budget.confirm_above_tokens", far)
        .shows(&[("5", "needs_yes".into()), ("4000", "key".into()), (LEFT_OUT, "key".into())], Seen::outcome);
    asking("budget.confirm_above_tokens", "budget: {KEY}", "", rule).build(
        "0",
        |_| {},
        |seen| {
            assert_eq!(seen.outcome(), "made");
        },
    );
}

/// Defaults that no test can see, and why.
const DEFAULT_UNSEEN: &[(&str, &str)] = &[
    ("providers.*.start_timeout", "the test would have to wait for minutes"),
    ("rules.*.context.depth", "context.rs"),
];

#[test]
fn every_key_of_the_schema_is_proven() {
    let known = keys();
    let proven = PROOFS.iter().map(|(path, _)| *path);
    let told = proven.chain(ELSEWHERE.iter().map(|(path, _)| *path));
    let told: Vec<&str> = told.collect();
    let unproven: Vec<&String> = known.keys().filter(|path| !told.contains(&path.as_str())).collect();
    assert!(unproven.is_empty(), "no test proves that these keys do anything: {unproven:#?}");
    let unknown: Vec<&&str> = told.iter().filter(|path| !known.contains_key(**path)).collect();
    assert!(unknown.is_empty(), "the language has no such keys: {unknown:#?}");
    let twice: BTreeSet<&str> = told.iter().copied().collect();
    assert_eq!(twice.len(), told.len(), "a key stands in two lists");
    for (path, _) in DEFAULT_UNSEEN {
        assert!(known.get(*path).is_some_and(Option::is_some), "`{path}` has no default");
    }
}

/// All keys of the schema by path, with their defaults.
fn keys() -> BTreeMap<String, Option<Value>> {
    let mut found = BTreeMap::new();
    walk(&genmake::manifest::schema(), "", &mut found);
    found
}

fn walk(schema: &Value, at: &str, found: &mut BTreeMap<String, Option<Value>>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        found.insert(path.clone(), property.get("default").cloned());
        walk(property, &format!("{path}."), found);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{at}*."), found);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], at, found);
    }
    schema["anyOf"].as_array().into_iter().flatten().for_each(|form| walk(form, at, found));
}

// ---- the helper ----

/// The value of a key that is left out.
const LEFT_OUT: &str = "";

/// A Genfile in which one key can stand: `KEY` in it is that key with a value, or nothing.
struct Key {
    path: String,
    genfile: String,
    /// The TARGET that is built; everything if there is none.
    target: Option<&'static str>,
}

/// What came of one build.
struct Seen {
    project: Project,
    server: Server,
    run: Run,
}

impl Seen {
    /// `made`, or the code of the first error.
    fn outcome(&self) -> String {
        if self.run.status.success() {
            return "made".to_owned();
        }
        let code = self.run.stderr.lines().find_map(|line| line.trim().strip_prefix("genmake::"));
        code.unwrap_or_else(|| panic!("it failed without a code\n{}", self.run)).to_owned()
    }

    /// The files that it made, with what they hold.
    fn made(&self) -> String {
        let given = GIVEN.iter().map(|(path, _)| *path).chain(["Genfile", "Genfile.lock"]);
        let given: Vec<&str> = given.collect();
        let made = self.project.tree().into_iter().filter(|(path, _)| !given.contains(&path.as_str()));
        made.map(|(path, text)| format!("{path}={}", text.trim_end())).collect::<Vec<_>>().join(" ")
    }

    /// The first request's body at a pointer, as JSON.
    fn asked(&self, pointer: &str) -> String {
        let requests = self.server.requests();
        let first = requests.first().unwrap_or_else(|| panic!("nothing was asked\n{}", self.run));
        first.body.pointer(pointer).unwrap_or(&Value::Null).to_string()
    }
}

/// The files that every project of this module has.
const GIVEN: &[(&str, &str)] = &[
    ("t.hbs", "{{json item}}\n"),
    ("inputs.hbs", "{{#each inputs}}{{this.text}};{{/each}}\n"),
    ("p.prompt", "{{role \"system\"}}S{{role \"user\"}}one\n"),
    ("q.prompt", "{{role \"system\"}}S{{role \"user\"}}two\n"),
    ("in/1.txt", "1"),
    ("in/2.txt", "2"),
    ("in/3.md", "3"),
    ("s.yaml", "e: {x: 1, y: 2}\n"),
    (
        "inc.yaml",
        "rules: {inc: {output: inc, template: t.hbs, foreach: [i]}, two: {output: two, template: t.hbs, foreach: [t]}}\n",
    ),
    ("inc2.yaml", "rules: {other: {output: other, template: t.hbs, foreach: [o]}}\n"),
];

/// A key in a Genfile without a provider.
fn key(path: &str, genfile: &str) -> Key {
    Key { path: path.to_owned(), genfile: genfile.to_owned(), target: None }
}

/// A key in a rule without a provider.
fn in_rule(path: &str, keys: &str) -> Key {
    key(path, &format!("version: 1\nrules:\n  a: {{{keys}}}\n"))
}

/// A key in a Genfile of which `top` is the head, `provider` are the provider's further keys, and `rule` those of a rule `a`.
fn asking(path: &str, top: &str, provider: &str, rule: &str) -> Key {
    key(
        path,
        &format!(
            "version: 1\n{top}\nprovider: p\nproviders:\n  p: {{api: openai, model: m, base_url: \"{{base_url}}\", {provider}}}\nrules:\n  a: {{output: a, prompt: p.prompt, {rule}}}\n"
        ),
    )
}

impl Key {
    /// Builds with each value, and sees what is promised: not the same for all. A default of the schema comes to what
    /// comes of leaving the key out.
    #[track_caller]
    fn shows<T: PartialEq + Debug>(&self, values: &[(&str, T)], look: impl Fn(&Seen) -> T) {
        self.shows_with(values, |_| {}, look);
    }

    /// The same with a server that was told how to answer.
    #[track_caller]
    fn shows_with<T: PartialEq + Debug>(
        &self,
        values: &[(&str, T)],
        tell: impl Fn(&Server),
        look: impl Fn(&Seen) -> T,
    ) {
        assert!(values.iter().any(|(_, seen)| *seen != values[0].1), "whatever `{}` is, it shows the same", self.path);
        for (value, expected) in values {
            assert_eq!(self.build(value, &tell, &look), *expected, "`{}` of {value:?}", self.path);
        }
        let unseen = DEFAULT_UNSEEN.iter().any(|(path, _)| *path == self.path);
        if let Some(default) = keys().remove(&self.path).flatten().filter(|_| !unseen) {
            let (left_out, written) =
                (self.build(LEFT_OUT, &tell, &look), self.build(&default.to_string(), &tell, &look));
            assert_eq!(left_out, written, "`{}` left out, and as its default {default}", self.path);
        }
    }

    #[track_caller]
    fn build<T>(&self, value: &str, tell: impl Fn(&Server), look: impl Fn(&Seen) -> T) -> T {
        let server = Server::start();
        tell(&server);
        let name = self.path.rsplit('.').next().unwrap_or_default();
        let genfile = match value {
            LEFT_OUT => self.genfile.replace("KEY, ", "").replace("KEY", ""),
            value => self.genfile.replace("KEY", &format!("{name}: {value}")),
        };
        let project = Project::new().genfile_for(&server, &genfile);
        for (path, text) in GIVEN {
            project.edit(path, text);
        }
        let project = project.env("ONE", "one").env("TWO", "two");
        let run = project.run(self.target);
        look(&Seen { project, server, run })
    }
}

// ---- the top ----

#[test]
fn version() {
    key("version", "KEY\nrules: {a: {output: a, template: t.hbs, foreach: [1]}}\n")
        .shows(&[("1", "made".into()), ("2", "bad_value".into()), (LEFT_OUT, "missing_key".into())], Seen::outcome);
}

#[test]
fn vars() {
    key(
        "vars",
        "version: 1\nKEY\nrules: {a: {output: \"{{default vars.x \\\"no\\\"}}\", template: t.hbs, foreach: [1]}}\n",
    )
    .shows(&[("{x: one}", "one=1".into()), ("{x: two}", "two=1".into())], Seen::made);
    key("vars", "version: 1\nKEY\nrules: {a: {output: a, template: t.hbs, foreach: [1]}}\n")
        .shows(&[("{x: 1}", "made".into()), ("[x]", "wrong_type".into())], Seen::outcome);
}

#[test]
fn rules() {
    key("rules", "version: 1\nKEY\n")
        .shows(&[("{}", "".into()), ("{a: {output: a, template: t.hbs, foreach: [1]}}", "a=1".into())], Seen::made);
    key("rules", "version: 1\nKEY\n").shows(&[("{}", "made".into()), (LEFT_OUT, "missing_key".into())], Seen::outcome);
}

#[test]
fn include() {
    let genfile = "version: 1\nKEY\nrules: {}\n";
    key("include", genfile).shows(&[("[inc.yaml]", "inc=\"i\" two=\"t\"".into()), (LEFT_OUT, "".into())], Seen::made);
    key("include.from", "version: 1\ninclude: [{KEY}]\nrules: {}\n")
        .shows(&[("inc.yaml", "inc=\"i\" two=\"t\"".into()), ("inc2.yaml", "other=\"o\"".into())], Seen::made);
    key("include.only", "version: 1\ninclude: [{from: inc.yaml, KEY}]\nrules: {}\n").shows(
        &[
            ("[inc]", "inc=\"i\"".into()),
            ("[two]", "two=\"t\"".into()),
            ("[]", "".into()),
            (LEFT_OUT, "inc=\"i\" two=\"t\"".into()),
        ],
        Seen::made,
    );
}

// ---- providers ----

const TWO: &str =
    "p: {api: openai, model: mp, base_url: \"{base_url}\"}, q: {api: openai, model: mq, base_url: \"{base_url}\"}";

#[test]
fn provider() {
    let genfile = format!("version: 1\nKEY\nproviders: {{{TWO}}}\nrules: {{a: {{output: a, prompt: p.prompt}}}}\n");
    key("provider", &genfile).shows(&[("p", "\"mp\"".into()), ("q", "\"mq\"".into())], |seen| seen.asked("/model"));
    key("provider", &genfile).shows(&[("p", "made".into()), (LEFT_OUT, "missing_key".into())], Seen::outcome);
}

#[test]
fn provider_of_a_rule() {
    let genfile =
        format!("version: 1\nprovider: p\nproviders: {{{TWO}}}\nrules: {{a: {{output: a, prompt: p.prompt, KEY}}}}\n");
    key("rules.*.provider", &genfile)
        .shows(&[("p", "\"mp\"".into()), ("q", "\"mq\"".into()), (LEFT_OUT, "\"mp\"".into())], |seen| {
            seen.asked("/model")
        });
}

#[test]
fn providers() {
    let genfile = "version: 1\nprovider: p\nKEY\nrules: {a: {output: a, prompt: p.prompt}}\n";
    key("providers", genfile)
        .shows(&[(&format!("{{{TWO}}}"), "made".into()), ("{}", "unknown_provider".into())], Seen::outcome);
}

#[test]
fn api() {
    let genfile = "version: 1\nprovider: p\nproviders: {p: {KEY, model: m, base_url: \"{base_url}\"}}\nrules: {a: {output: a, prompt: p.prompt}}\n";
    key("providers.*.api", genfile).shows(
        &[
            ("openai", "made".into()),
            ("openai-responses", "made".into()),
            ("anthropic", "made".into()),
            ("gemini", "made".into()),
            ("replay", "missing_key".into()),
        ],
        Seen::outcome,
    );
    let version = |seen: &Seen| seen.server.requests()[0].header("anthropic-version").map(str::to_owned);
    key("providers.*.api", genfile).shows(&[("openai", None), ("anthropic", Some("2023-06-01".into()))], version);
    let is_googles = |seen: &Seen| seen.server.requests()[0].path.contains("/models/m:");
    key("providers.*.api", genfile).shows(&[("openai", false), ("gemini", true)], is_googles);
}

/// A provider that is no server, with these keys.
fn not_a_server(path: &str, keys: &str) -> Key {
    key(
        path,
        &format!(
            "version: 1\nprovider: p\nproviders: {{p: {{model: m, {keys}}}}}\nrules: {{a: {{output: a, prompt: p.prompt}}}}\n"
        ),
    )
}

fn result(seen: &Seen) -> String {
    if seen.run.status.success() { seen.project.read("a") } else { seen.outcome() }
}

#[test]
fn command() {
    not_a_server("providers.*.command", "api: command, KEY")
        .shows(&[("echo one", "one\n".into()), ("echo two", "two\n".into()), (LEFT_OUT, "missing_key".into())], result);
}

#[test]
fn stdin_of_a_command() {
    not_a_server("providers.*.stdin", "api: command, command: head -c 9, KEY").shows(
        &[("json", "{\"genmake".into()), ("text", "S\n\none\n".into()), (LEFT_OUT, "{\"genmake".into())],
        result,
    );
}

#[test]
fn dir() {
    // Where it is sought is said, as nothing is recorded there.
    let sought = |seen: &Seen| {
        let at = seen.run.stderr.split("recorded for `a`: `").nth(1).map(|rest| rest.split('/').next().unwrap_or(""));
        at.map_or_else(|| seen.outcome(), str::to_owned)
    };
    not_a_server("providers.*.dir", "api: replay, KEY")
        .shows(&[("one", "one".into()), ("two", "two".into()), (LEFT_OUT, "missing_key".into())], sought);
}

#[test]
fn base_url() {
    let (one, other) = (Server::start(), Server::start());
    let genfile = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, KEY}}\nrules: {a: {output: a, prompt: p.prompt}}\n";
    let key = key("providers.*.base_url", genfile);
    let (url, other_url) = (one.base_url(), other.base_url());
    key.shows(&[(&url, (1, 0)), (&other_url, (1, 1))], |seen| {
        assert_eq!(seen.outcome(), "made");
        (one.count(), other.count())
    });
}

#[test]
fn model_of_a_provider() {
    let genfile = "version: 1\nprovider: p\nproviders: {p: {api: openai, base_url: \"{base_url}\", KEY}}\nrules: {a: {output: a, prompt: p.prompt}}\n";
    let model = |seen: &Seen| seen.asked("/model");
    key("providers.*.model", genfile).shows(&[("m1", "\"m1\"".into()), ("m2", "\"m2\"".into())], model);
    key("providers.*.model", genfile).shows(&[("m1", "made".into()), (LEFT_OUT, "missing_key".into())], Seen::outcome);
}

#[test]
fn model_of_a_rule() {
    asking("rules.*.model", "", "", "KEY")
        .shows(&[("m1", "\"m1\"".into()), ("m2", "\"m2\"".into()), (LEFT_OUT, "\"m\"".into())], |seen| {
            seen.asked("/model")
        });
}

#[test]
fn key_env() {
    let sent = |seen: &Seen| seen.server.requests()[0].header("authorization").map(str::to_owned);
    asking("providers.*.key_env", "", "KEY", "")
        .shows(&[("ONE", Some("Bearer one".into())), ("TWO", Some("Bearer two".into())), (LEFT_OUT, None)], sent);
}

#[test]
fn in_flight() {
    let most = |value: &str, n: usize| {
        let gate = Gate::new();
        let server = Server::start();
        server.always(Act::Hold(gate.clone()));
        let p = Project::new()
            .genfile_for(&server, &format!("version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\", {value}}}}}\nrules: {{a: {{foreach: [1, 2, 3, 4, 5, 6], output: \"{{{{item}}}}\", prompt: p.prompt, batch: false}}}}\n"))
            .file("p.prompt", "{{item}}");
        let child = p.spawn([]);
        server.wait_for(n);
        gate.open();
        p.finish(child).exits(0);
        server.max_in_flight()
    };
    for n in [1, 2, 6] {
        assert_eq!(most(&format!("in_flight: {n}"), n), n);
    }
    let default = keys().remove("providers.*.in_flight").flatten().expect("it has a default");
    let n = usize::try_from(default.as_u64().expect("it is a number")).expect("it is a small number");
    assert_eq!(most("", n), n);
}

#[test]
fn timeout() {
    asking("providers.*.timeout", "", "KEY", "").shows_with(
        &[("50ms", "provider".into()), ("1h", "made".into())],
        |server| _ = server.latency(400),
        Seen::outcome,
    );
}

/// What is said of a provider with these keys that its `start` does not bring up.
#[track_caller]
fn not_brought_up(path: &str, keys: &str, values: &[(&str, &str)]) {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"http://127.0.0.1:9/v1\", {keys}}}}}\nrules: {{a: {{output: a, prompt: p.prompt}}}}\n"
    );
    let values: Vec<(&str, String)> = values.iter().map(|(value, said)| (*value, (*said).to_owned())).collect();
    key(path, &genfile).shows(&values, |seen| {
        assert_eq!(seen.outcome(), "start_failed");
        let line = seen.run.stderr.lines().find(|line| line.contains("was not brought up")).unwrap_or_default();
        line.rsplit("command: ").next().unwrap_or_default().trim_end_matches(" (`start_timeout`)").to_owned()
    });
}

#[test]
fn start() {
    let said = [("exit 3", "it ended with exit status: 3"), ("exit 4", "it ended with exit status: 4")];
    not_brought_up("providers.*.start", "KEY", &said);
}

#[test]
fn start_timeout() {
    let said = [("50ms", "nothing answered within 50ms"), ("80ms", "nothing answered within 80ms")];
    not_brought_up("providers.*.start_timeout", "start: sleep 1000, KEY", &said);
}

// ---- batching ----

const SEVEN: &str = "foreach: [1, 2, 3, 4, 5, 6, 7], output: \"o{{item}}\"";

/// A Genfile with seven tasks; `top` and `rule` are further keys of the Genfile and of its rule.
fn seven(path: &str, top: &str, rule: &str) -> Key {
    key(
        path,
        &format!(
            "version: 1\n{top}\nprovider: p\nproviders:\n  p: {{api: openai, model: m, base_url: \"{{base_url}}\"}}\nrules:\n  a: {{{SEVEN}, prompt: p.prompt, {rule}}}\n"
        ),
    )
}

/// An item, and of a task of it the traits that count for likeness.
const ONE: &str = "{n: 1, kind: md, fields: {x: int}, package: p, refs: [A]}";

/// A Genfile with two tasks, of this item and of another.
fn two(path: &str, top: &str, rule: &str, other: &str) -> Key {
    let other = other.replace("n: 1", "n: 2");
    let items = format!("foreach: [{ONE}, {other}], output: \"{{{{item.n}}}}.{{{{item.kind}}}}\"");
    key(
        path,
        &format!(
            "version: 1\n{top}\nprovider: p\nproviders:\n  p: {{api: openai, model: m, base_url: \"{{base_url}}\"}}\nrules:\n  a: {{{items}, prompt: p.prompt, {rule}}}\n"
        ),
    )
}

/// `wrap` is how the keys of batching are written at some place, around `KEY`.
fn batching_keys(at: &str, key: impl Fn(&str, &str) -> (String, String)) {
    let requests = |seen: &Seen| seen.server.count();
    let with = |name: &str| {
        let path = format!("{at}.{name}");
        let (top, rule) = key(at, "KEY");
        (path, top, rule)
    };
    let (path, top, rule) = with("enabled");
    seven(&path, &top, &rule).shows(&[("true", 2), ("false", 7)], requests);
    let (path, top, rule) = with("max_batch_size");
    // What is asked is short, so that what a batch adds to it is not worth it.
    seven(&path, &top, &rule).shows(&[("2", 4), ("7", 1), ("auto", 7), (LEFT_OUT, 2)], requests);
    let (path, top, rule) = with("prefer");
    seven(&path, &top, &rule).shows(&[("cost", 2), ("time", 4), (LEFT_OUT, 2)], requests);
    // Two tasks that are alike but for one part; apart they are 0.65 to 0.85 alike.
    let parts = [
        ("structure", ONE.replace("fields: {x: int}, ", ""), ("0", 1), 2),
        ("file_type", ONE.replace("kind: md", "kind: go"), ("1", 2), 1),
        ("package", ONE.replace("package: p", "package: q"), ("1", 2), 1),
        ("dependencies", ONE.replace("[A]", "[B]"), ("1", 2), 1),
    ];
    for (name, other, (weight, weighted), requests_of_two) in &parts {
        let path = format!("{at}.weights.{name}");
        let (top, rule) = key(at, "weights: {KEY}");
        two(&path, &top, &rule, other).shows(&[(*weight, *weighted), (LEFT_OUT, *requests_of_two)], requests);
    }
    let (path, top, rule) = with("weights");
    two(&path, &top, &rule, &parts[0].1).shows(&[("{structure: 0}", 1), (LEFT_OUT, 2)], requests);
    let (path, top, rule) = with("similarity_threshold");
    two(&path, &top, &rule, &parts[0].1).shows(&[("0.6", 1), ("0.7", 2), (LEFT_OUT, 2)], requests);
    let (path, top, rule) = with("fallback_on_failure");
    let lose_one = |server: &Server| _ = server.script([Act::MissingSlot("f2")]);
    seven(&path, &top, &rule).shows_with(
        &[("true", (3, "made".into())), ("false", (2, "malformed".into()))],
        lose_one,
        |seen| (seen.server.count(), seen.outcome()),
    );
}

#[test]
fn batching() {
    batching_keys("batching", |at, key| (format!("{at}: {{{key}}}"), String::new()));
    seven("batching", "KEY", "").shows(&[("{enabled: false}", 7), (LEFT_OUT, 2)], |seen| seen.server.count());
}

#[test]
fn batch() {
    batching_keys("rules.*.batch", |_, key| (String::new(), format!("batch: {{{key}}}")));
    seven("rules.*.batch", "", "KEY")
        .shows(&[("false", 7), ("true", 2), ("{enabled: false}", 7), (LEFT_OUT, 2)], |seen| seen.server.count());
    // The rule's word goes before that of the top.
    seven("rules.*.batch", "batching: {enabled: false}", "KEY")
        .shows(&[("true", 2), (LEFT_OUT, 7)], |seen| seen.server.count());
}

#[test]
fn batching_of_a_rule() {
    batching_keys("rules.*.batching", |_, key| (String::new(), format!("batching: {{{key}}}")));
    seven("rules.*.batching", "batching: {max_batch_size: 2}", "KEY")
        .shows(&[("{max_batch_size: 7}", 1), (LEFT_OUT, 4)], |seen| seen.server.count());
}

// ---- rules: what is made, and from what ----

#[test]
fn output() {
    in_rule("rules.*.output", "KEY, template: t.hbs, foreach: [x]")
        .shows(&[("b", "b=\"x\"".into()), ("\"{{item}}/c\"", "x/c=\"x\"".into())], Seen::made);
}

#[test]
fn outputs() {
    in_rule("rules.*.outputs", "KEY, template: t.hbs, foreach: [x]")
        .shows(&[("{one: b, two: c}", "b=\"x\" c=\"x\"".into()), ("{one: d}", "d=\"x\"".into())], Seen::made);
}

#[test]
fn template() {
    in_rule("rules.*.template", "KEY, output: a, foreach: [x], inputs: [in/1.txt]")
        .shows(&[("t.hbs", "a=\"x\"".into()), ("inputs.hbs", "a=1;".into())], Seen::made);
}

#[test]
fn prompt() {
    key("rules.*.prompt", "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules: {a: {output: a, KEY}}\n")
        .shows(&[("p.prompt", "\"one\"".into()), ("q.prompt", "\"two\"".into())], |seen| seen.asked("/messages/1/content"));
}

#[test]
fn run() {
    in_rule("rules.*.run", "KEY, output: a")
        .shows(&[("\"echo 1 > a\"", "a=1".into()), ("\"echo 2 > {{output}}\"", "a=2".into())], Seen::made);
}

#[test]
fn foreach() {
    let files = |seen: &Seen| seen.made();
    in_rule("rules.*.foreach", "KEY, output: \"o/{{item}}\", template: t.hbs")
        .shows(&[("[a]", "o/a=\"a\"".into()), ("[b, 1]", "o/1=1 o/b=\"b\"".into()), ("[]", "".into())], files);
    in_rule("rules.*.foreach", "KEY, output: \"o/{{item.name}}\", run: \"echo > {{output}}\"").shows(
        &[
            ("in/*.txt", "o/1.txt= o/2.txt=".into()),
            ("in/*.md", "o/3.md=".into()),
            ("{glob: [\"in/*\", \"!in/1*\"]}", "o/2.txt= o/3.md=".into()),
        ],
        files,
    );
    in_rule("rules.*.foreach", "KEY, output: \"o/{{item.key}}\", run: \"echo {{item.value}} > {{output}}\"")
        .shows(&[("s.yaml#/e/*", "o/x=1 o/y=2".into()), ("s.yaml#/e/y", "o/y=2".into())], files);
    in_rule("rules.*.foreach", "KEY, output: \"o/{{item.l}}\", run: \"echo > {{output}}\"")
        .shows(&[("{l: [a]}", "o/a=".into()), ("{l: [a, b]}", "o/a= o/b=".into())], files);
    in_rule("rules.*.foreach.*.glob", "foreach: {f: {KEY}}, output: \"o/{{item.f.name}}\", run: \"echo > {{output}}\"")
        .shows(&[("in/*.md", "o/3.md=".into()), ("[\"in/*\", \"!**/3*\"]", "o/1.txt= o/2.txt=".into())], files);
}

#[test]
fn when() {
    in_rule("rules.*.when", "KEY, foreach: [x, y], output: \"{{item}}\", template: t.hbs").shows(
        &[
            ("true", "x=\"x\" y=\"y\"".into()),
            ("false", "".into()),
            ("\"{{eq item \\\"x\\\"}}\"", "x=\"x\"".into()),
            (LEFT_OUT, "x=\"x\" y=\"y\"".into()),
        ],
        Seen::made,
    );
}

#[test]
fn inputs() {
    in_rule("rules.*.inputs", "KEY, output: a, template: inputs.hbs").shows(
        &[
            ("[in/1.txt]", "a=1;".into()),
            ("[in/2.txt, in/1.txt]", "a=2;1;".into()),
            ("{x: in/2.txt}", "a=2;".into()),
            (LEFT_OUT, "a=".into()),
        ],
        Seen::made,
    );
    in_rule("rules.*.inputs.path", "inputs: [{KEY}], output: a, template: inputs.hbs")
        .shows(&[("in/1.txt", "a=1;".into()), ("in/2.txt", "a=2;".into())], Seen::made);
    in_rule("rules.*.inputs.optional", "inputs: [{path: nope, KEY}], output: a, template: t.hbs, foreach: [x]")
        .shows(&[("true", "made".into()), ("false", "missing_input".into())], Seen::outcome);
}

#[test]
fn named_inputs() {
    in_rule("rules.*.inputs.*.path", "inputs: {x: {KEY}}, output: a, template: inputs.hbs")
        .shows(&[("in/1.txt", "a=1;".into()), ("in/2.txt", "a=2;".into())], Seen::made);
    in_rule("rules.*.inputs.*.optional", "inputs: {x: {path: nope, KEY}}, output: a, template: t.hbs, foreach: [x]")
        .shows(&[("true", "made".into()), ("false", "missing_input".into())], Seen::outcome);
}

#[test]
fn env() {
    key("rules.*.env", "version: 1\nrules: {a: {KEY, output: a, run: \"echo {{env.ONE}} > a\"}}\n").shows(
        &[("[ONE]", "made".into()), ("[TWO]", "undefined".into()), (LEFT_OUT, "undefined".into())],
        Seen::outcome,
    );
}

// ---- rules: what becomes of a result ----

#[test]
fn params() {
    asking("rules.*.params", "", "", "KEY").shows(
        &[("{temperature: 0.5}", "0.5".into()), ("{temperature: 1}", "1".into()), (LEFT_OUT, "null".into())],
        |seen| seen.asked("/temperature"),
    );
}

#[test]
fn check() {
    in_rule("rules.*.check", "KEY, output: a, run: \"echo ] > a\"").shows(
        &[
            ("json", "check_failed".into()),
            ("yaml", "check_failed".into()),
            ("toml", "check_failed".into()),
            ("[json]", "check_failed".into()),
            (LEFT_OUT, "made".into()),
        ],
        Seen::outcome,
    );
    for wrap in ["check: {KEY}", "check: [{KEY}]"] {
        in_rule("rules.*.check.run", &format!("{wrap}, output: a, template: t.hbs, foreach: [x]"))
            .shows(&[("\"true\"", "made".into()), ("\"false\"", "check_failed".into())], Seen::outcome);
    }
}

#[test]
fn filter() {
    in_rule("rules.*.filter", "KEY, output: a, template: t.hbs, foreach: [x]").shows(
        &[("tr x y", "a=\"y\"".into()), ("[tr x y, tr y z]", "a=\"z\"".into()), ("[]", "a=\"x\"".into())],
        Seen::made,
    );
}

#[test]
fn retries() {
    asking("rules.*.retries", "", "", "check: json, KEY").shows_with(
        &[("0", 1), ("1", 2), ("3", 4)],
        |server| _ = server.reply(|_, _| "no JSON".to_owned()),
        |seen| seen.server.count(),
    );
}

#[test]
fn on_error() {
    let look = |seen: &Seen| (seen.outcome(), seen.made());
    in_rule("rules.*.on_error", "KEY, output: a, run: \"false\"").shows(
        &[
            ("fail", ("command_failed".into(), "".into())),
            ("skip", ("made".into(), "".into())),
            ("{default: x}", ("made".into(), "a=x".into())),
        ],
        look,
    );
    in_rule("rules.*.on_error.default", "on_error: {KEY}, output: a, run: \"false\"")
        .shows(&[("x", ("made".into(), "a=x".into())), ("[1]", ("made".into(), "a=[\n  1\n]".into()))], look);
}

#[test]
fn on_edit() {
    // An edit, and at once another template.
    let look = |seen: &Seen| {
        let p = &seen.project;
        p.edit("t.hbs", "one\n2\n3\nlast\n").run([]).exits(0);
        let run = p.edit("a", "one\n2\n3\nmine\n").edit("t.hbs", "two\n2\n3\nlast\n").run([]);
        (run.status.code(), p.read("a").replace('\n', " "))
    };
    in_rule("rules.*.on_edit", "KEY, output: a, template: t.hbs, foreach: [x]").shows(
        &[
            ("stop", (Some(2), "one 2 3 mine ".into())),
            ("keep", (Some(0), "one 2 3 mine ".into())),
            ("overwrite", (Some(0), "two 2 3 last ".into())),
            ("merge", (Some(0), "two 2 3 mine ".into())),
        ],
        look,
    );
}

#[test]
fn allow_secrets() {
    let sent = |seen: &Seen| seen.server.count();
    let genfile = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules: {a: {output: a, prompt: t.hbs, foreach: [\"postgres://shop:tr0ub4dor3x@db.acme.dev/shop\"], KEY}}\n";
    key("rules.*.allow_secrets", genfile).shows(&[("true", 1), ("false", 0)], sent);
}

#[cfg(unix)]
#[test]
fn file_mode() {
    use std::os::unix::fs::PermissionsExt;
    in_rule("rules.*.file_mode", "KEY, output: a, template: t.hbs, foreach: [x]")
        .shows(&[("\"0755\"", 0o755), ("\"0600\"", 0o600), ("\"0o640\"", 0o640)], |seen| {
            fs_err::metadata(seen.project.path("a")).expect("it was made").permissions().mode() & 0o777
        });
}

#[cfg(not(unix))]
fn file_mode() {}

#[test]
fn group() {
    let key = in_rule("rules.*.group", "KEY, output: a, template: t.hbs, foreach: [x]");
    Key { target: Some("docs"), ..key }.shows(
        &[
            ("docs", "made".into()),
            ("[all, docs]", "made".into()),
            ("other", "unknown_target".into()),
            (LEFT_OUT, "unknown_target".into()),
        ],
        Seen::outcome,
    );
}

// ---- what is refused ----

/// Each Genfile has one mistake: its code, and a part of its message.
#[track_caller]
fn refused(cases: &[(&str, &str, &str)], genfile: impl Fn(&str) -> String) {
    for (text, code, message) in cases {
        let server = Server::start();
        let p = Project::new().genfile_for(&server, &genfile(text));
        for (path, text) in GIVEN {
            p.edit(path, text);
        }
        let run = p.run([]);
        let codes: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("genmake::")).collect();
        assert_eq!(codes, [format!("genmake::{code}")], "{text}\n{run}");
        assert!(run.stderr.contains(":1:") || run.stderr.contains("[Genfile:"), "{text}: it has a place\n{run}");
        run.stderr_has(message).exits(2);
        assert_eq!(server.count(), 0);
    }
}

#[test]
fn what_a_rule_may_not_say() {
    let cases = [
        ("a b: {output: o, template: t.hbs}", "bad_value", "a rule's name is one word without `/`"),
        ("a/b: {output: o, template: t.hbs}", "bad_value", "a rule's name is one word"),
        ("\"a\\tb\": {output: o, template: t.hbs}", "bad_value", "a rule's name is one word"),
        ("\"\": {output: o, template: t.hbs}", "bad_value", "a rule's name is one word"),
        ("a: 3", "wrong_type", "rule `a` takes a map, and this is a number"),
        ("a: {template: t.hbs}", "missing_key", "rule `a` has no output"),
        ("a: {output: o, outputs: {x: p}, template: t.hbs}", "conflict", "both `output` and `outputs`"),
        ("a: {outputs: {}, template: t.hbs}", "bad_value", "`outputs` names no output"),
        ("a: {output: \"\", template: t.hbs}", "bad_value", "`output` is empty"),
        ("a: {output: o}", "missing_key", "rule `a` has no recipe"),
        ("a: {output: o, template: t.hbs, prompt: p.prompt}", "conflict", "two recipes, `template` and `prompt`"),
        ("a: {output: o, template: t.hbs, run: \"true\"}", "conflict", "two recipes, `template` and `run`"),
        ("a: {output: o, run: \"true\", prompt: p.prompt}", "conflict", "two recipes, `prompt` and `run`"),
        ("a: {output: o, embed: {}}", "missing_key", "`embed` and no `items`"),
        ("a: {output: o, embed: {}, template: t.hbs, items: [1]}", "conflict", "two recipes, `template` and `embed`"),
        ("a: {output: o.json, template: t.hbs, items: [1]}", "conflict", "`items` and a `template`"),
        ("a: {outputs: {x: o.json}, prompt: p.prompt, items: [1]}", "conflict", "`items` and several outputs"),
        ("a: {output: o, prompt: p.prompt, carry: 1}", "conflict", "`carry` and no `items`"),
        ("a: {output: o.json, prompt: p.prompt, items: [1], min: 1}", "conflict", "`min` without `results: free`"),
        (
            "a: {output: o.json, prompt: p.prompt, items: [1], results: free, min: 3, max: 2}",
            "bad_value",
            "`min` is 3, and `max` is 2",
        ),
        ("a: {output: o, template: t.hbs, context: {select: s.yaml#/e}}", "conflict", "a `context` and no `prompt`"),
        ("a: {output: o, prompt: p.prompt, context: {}}", "missing_key", "`context` has no `select`"),
        (
            "a: {output: o, prompt: p.prompt, context: {select: s.yaml#/e, depth: 101}}",
            "bad_value",
            "`depth` is a whole number from 0 to 100, not 101",
        ),
        (
            "a: {output: o, prompt: p.prompt, context: {select: s.yaml#/e, max_share: 1.5}}",
            "bad_value",
            "`max_share` is a number from 0 to 1, not 1.5",
        ),
        ("a: {output: o, template: t.hbs, foreach: {}}", "bad_value", "`foreach` names no axis"),
        ("a: {output: o, template: t.hbs, foreach: {x: {}}}", "missing_key", "`x` has no `glob`"),
        ("a: {output: o, template: t.hbs, foreach: true}", "wrong_type", "`foreach` takes"),
        ("a: {output: o, template: t.hbs, inputs: in/1.txt}", "wrong_type", "`inputs` takes a list or a map"),
        ("a: {output: o, template: t.hbs, inputs: [{optional: true}]}", "missing_key", "an input has no `path`"),
        ("a: {output: o, template: t.hbs, inputs: [[x]]}", "wrong_type", "an input takes"),
        ("a: {output: o, template: t.hbs, when: [x]}", "wrong_type", "`when` takes"),
        ("a: {output: o, template: t.hbs, when: \"\"}", "bad_value", "`when` is empty"),
        ("a: {output: o, template: t.hbs, check: jsn}", "bad_value", "`check` is one of"),
        ("a: {output: o, template: t.hbs, check: {rnu: x}}", "unknown_key", "unknown key `rnu` in `check`"),
        ("a: {output: o, template: t.hbs, filter: {}}", "wrong_type", "`filter` takes"),
        ("a: {output: o, template: t.hbs, retries: 101}", "bad_value", "`retries` is a whole number from 0 to 100"),
        ("a: {output: o, template: t.hbs, retries: -1}", "bad_value", "`retries` is a whole number from 0 to 100"),
        ("a: {output: o, template: t.hbs, retries: 1.5}", "bad_value", "`retries` is a whole number from 0 to 100"),
        ("a: {output: o, template: t.hbs, on_error: stop}", "bad_value", "`on_error` is one of `fail`, `skip`"),
        ("a: {output: o, template: t.hbs, on_error: {}}", "missing_key", "`on_error` has no `default`"),
        ("a: {output: o, template: t.hbs, on_edit: ask}", "bad_value", "`on_edit` is one of `stop`, `keep`"),
        ("a: {output: o, template: t.hbs, file_mode: \"0444\"}", "bad_value", "lets the owner read and write"),
        ("a: {output: o, template: t.hbs, file_mode: \"4755\"}", "bad_value", "`file_mode` is a number such as"),
        ("a: {output: o, template: t.hbs, file_mode: \"0899\"}", "bad_value", "not `0899`"),
        ("a: {output: o, template: t.hbs, file_mode: rwx}", "bad_value", "not `rwx`"),
        ("a: {output: o, template: t.hbs, file_mode: 755}", "wrong_type", "`file_mode` takes a string"),
        ("a: {output: o, template: t.hbs, group: 1}", "wrong_type", "`group` takes"),
        ("a: {output: o, template: t.hbs, group: [\"\"]}", "bad_value", "`group` is empty"),
        ("a: {output: o, template: t.hbs, env: ONE}", "wrong_type", "`env` takes a list"),
        ("a: {output: o, prompt: p.prompt, provider: q}", "unknown_provider", "no provider `q`"),
        ("a: {output: o, prompt: p.prompt, model: 1}", "wrong_type", "`model` takes a string"),
        ("a: {output: o, prompt: p.prompt, batch: 1}", "wrong_type", "`batch` takes"),
        ("a: {output: o, prompt: p.prompt, batch: {enabled: 1}}", "wrong_type", "`enabled` takes `true` or `false`"),
        ("a: {output: o, prompt: p.prompt, batching: true}", "wrong_type", "`batching` takes a map"),
        ("a: {output: o, prompt: p.prompt, batching: {weights: 1}}", "wrong_type", "`weights` takes a map"),
        ("a: {output: o, prompt: p.prompt, batching: {weights: {size: 1}}}", "unknown_key", "`size`"),
        ("a: {output: o, prompt: p.prompt, batching: {prefer: speed}}", "bad_value", "`prefer`"),
        ("a: {output: o, prompt: p.prompt, batching: {keep_prefix: 2h}}", "bad_value", "`keep_prefix`"),
        ("a: {output: o, prompt: p.prompt, params: {temp: 1}}", "unknown_key", "unknown parameter `temp`"),
        ("a: {output: o, prompt: p.prompt, params: {temperature: hot}}", "bad_value", "`temperature` is a number"),
        ("a: {output: o, prompt: p.prompt, params: {max_output_tokens: 0}}", "bad_value", "at least 1"),
        ("a: {output: o, prompt: p.prompt, params: {seed: 1.5}}", "bad_value", "`seed` is a whole number"),
        ("a: {output: o, prompt: p.prompt, params: {top_k: -1}}", "bad_value", "`top_k` is a whole number"),
        ("a: {output: o, prompt: p.prompt, params: {stop: 1}}", "bad_value", "`stop` is a string or a list of strings"),
        (
            "a: {output: o, prompt: p.prompt, params: {stop: [1]}}",
            "bad_value",
            "`stop` is a string or a list of strings",
        ),
        (
            "a: {output: o, prompt: p.prompt, params: {reasoning_effort: 1}}",
            "bad_value",
            "`reasoning_effort` is a string",
        ),
        ("a: {output: \"{{x\", template: t.hbs}", "bad_expression", "not a Handlebars expression"),
        ("a: {outputs: {x: \"{{x\"}, template: t.hbs}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, template: \"{{x\"}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, run: \"{{x\"}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, template: t.hbs, foreach: \"{{x\"}", "bad_expression", "not a Handlebars expression"),
        (
            "a: {output: o, template: t.hbs, foreach: {x: {glob: \"{{x\"}}}",
            "bad_expression",
            "not a Handlebars expression",
        ),
        ("a: {output: o, template: t.hbs, when: \"{{x\"}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, template: t.hbs, inputs: [\"{{x\"]}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, template: t.hbs, filter: \"{{x\"}", "bad_expression", "not a Handlebars expression"),
        ("a: {output: o, template: t.hbs, check: {run: \"{{x\"}}", "bad_expression", "not a Handlebars expression"),
    ];
    refused(&cases, |rule| {
        format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\"}}}}\nrules:\n  {rule}\n"
        )
    });
}

#[test]
fn what_the_top_may_not_say() {
    let rules = "rules: {a: {output: o, template: t.hbs, foreach: [x]}}";
    let cases = [
        ("version: \"1\"", "wrong_type", "`version` takes a whole number"),
        ("version: 2", "bad_value", "`version` is 1, not 2"),
        ("version: 1\nvars: [x]", "wrong_type", "`vars` takes a map"),
        ("version: 1\nvars: {x: \"{{y\"}", "bad_expression", "not a Handlebars expression"),
        ("version: 1\nvars: {x: \"{{vars.y}}\"}", "undefined", "unknown variable `vars.y`"),
        ("version: 1\nvars: {x: [{z: \"{{vars.y}}\"}]}", "undefined", "unknown variable `vars.y`"),
        ("version: 1\nprovider: q", "unknown_provider", "no provider `q`"),
        ("version: 1\nprovider: 1", "wrong_type", "`provider` takes a string"),
        ("version: 1\nbudget: {max_tokens: -1}", "bad_value", "`max_tokens` is a whole number from 0 to"),
        ("version: 1\nbudget: {max_cost_usd: lots}", "wrong_type", "`max_cost_usd` takes a number"),
        ("version: 1\ncache: {}", "unsupported", "`cache` of the Genfile"),
        ("version: 1\nrule: {}", "unknown_key", "unknown key `rule` in the Genfile"),
        ("version: 1\nversion: 1", "duplicate_key", "`version` stands twice"),
        ("version: 1\ninclude: inc.yaml", "wrong_type", "`include` takes a list"),
        ("version: 1\ninclude: [{only: [a]}]", "missing_key", "has no `from`"),
        ("version: 1\ninclude: [nope.yaml]", "missing_input", "`nope.yaml`, which is not there"),
        ("version: 1\ninclude: [{from: inc.yaml, only: [nope]}]", "unknown_rule", "has no rule `nope`"),
        ("version: 1\nbatching: {max_batch_size: 0}", "bad_value", "`max_batch_size` is a whole number from 1 to 1000"),
        ("version: 1\nbatching: {max_batch_size: 1001}", "bad_value", "from 1 to 1000, not 1001"),
        ("version: 1\nbatching: {max_batch_size: many}", "bad_value", "or it is a whole number from 1 to 1000"),
        ("version: 1\nbatching: {similarity_threshold: 1.1}", "bad_value", "is a number from 0 to 1, not 1.1"),
        (
            "version: 1\nbatching: {fallback_on_failure: 1}",
            "wrong_type",
            "`fallback_on_failure` takes `true` or `false`",
        ),
    ];
    refused(&cases, |top| format!("{top}\n{rules}\n"));
    let prompt = [("a: {output: o, prompt: p.prompt}", "missing_key", "rule `a` has a prompt and no provider")];
    refused(&prompt, |rule| format!("version: 1\nrules:\n  {rule}\n"));
}

#[test]
fn what_a_provider_may_not_say() {
    let cases = [
        ("api: opnai", "bad_value", "`api` is one of"),
        ("model: m", "missing_key", "provider `p` has no `api`"),
        ("api: command", "missing_key", "provider `p` has no `command`"),
        ("api: command, command: \"\"", "bad_value", "`command` is empty"),
        ("api: command, command: x, stdin: yaml", "bad_value", "`stdin` is one of"),
        ("api: command, command: x, base_url: http://x", "conflict", "`base_url` does not go with `api: command`"),
        ("api: command, command: x, start: x", "conflict", "`start` does not go with `api: command`"),
        ("api: command, command: x, start_timeout: 1", "conflict", "`start_timeout` does not go with `api: command`"),
        ("api: command, command: x, dir: rec", "conflict", "`dir` does not go with `api: command`"),
        ("api: replay", "missing_key", "provider `p` has no `dir`"),
        ("api: replay, dir: ../rec", "bad_path", "the folder of recordings leads outside the root"),
        ("api: replay, dir: .git/rec", "bad_path", "the folder of recordings lies in `.git` or `.genmake`"),
        ("api: replay, dir: rec, key_env: K", "conflict", "`key_env` does not go with `api: replay`"),
        ("api: replay, dir: rec, timeout: 1", "conflict", "`timeout` does not go with `api: replay`"),
        ("api: replay, dir: rec, base_url: http://x", "conflict", "`base_url` does not go with `api: replay`"),
        ("api: replay, dir: rec, command: x", "conflict", "`command` does not go with `api: replay`"),
        ("api: openai, command: x", "conflict", "`command` does not go with `api: openai`"),
        ("api: anthropic, stdin: text", "conflict", "`stdin` does not go with `api: anthropic`"),
        ("api: openai, dir: rec", "conflict", "`dir` does not go with `api: openai`"),
        ("api: openai, base_url: \"ftp://x\"", "bad_value", "starts with `http://` or `https://`"),
        ("api: openai, base_url: \"\"", "bad_value", "`base_url` is empty"),
        ("api: openai, base_url: \"https://me:sk-1@x/v1\"", "bad_value", "`base_url` holds a user or password"),
        ("api: openai, key_env: sk-1234", "bad_value", "the name of an environment variable, not a key"),
        ("api: openai, key_env: 1KEY", "bad_value", "the name of an environment variable, not a key"),
        ("api: openai, api_key: sk-1234", "unknown_key", "would put a secret into the Genfile"),
        ("api: openai, in_flight: 0", "bad_value", "`in_flight` is a whole number from 1 to 1000"),
        ("api: openai, in_flight: 1001", "bad_value", "`in_flight` is a whole number from 1 to 1000"),
        ("api: openai, timeout: soon", "bad_value", "`timeout` is a duration"),
        ("api: openai, timeout: 0", "bad_value", "`timeout` is a duration from"),
        ("api: openai, timeout: 8days", "bad_value", "`timeout` is a duration from"),
        ("api: openai, timeout: 1.5", "bad_value", "`timeout` is a duration"),
        ("api: openai, timeout: true", "wrong_type", "`timeout` takes a duration"),
        ("api: openai, start: x, start_timeout: -1", "bad_value", "`start_timeout` is a duration"),
        ("api: openai, start: []", "wrong_type", "`start` takes a string"),
        ("api: openai, prices: {input: 1}", "missing_key", "has no `output`"),
        ("api: openai, prices: {input: -1, output: 1}", "bad_value", "`input` is a number from 0 to"),
        ("api: openai, prices: ../list.json", "bad_path", "the list of prices `../list.json` leads"),
        ("api: openai, limits: {context: 0}", "bad_value", "`context` is a whole number from 1 to"),
        ("api: openai, requests_per_minute: 0", "bad_value", "`requests_per_minute` is a whole number from 1 to"),
        ("api: openai, tokens_per_minute: many", "wrong_type", "`tokens_per_minute` takes a whole number"),
        ("api: openai, models: m", "unknown_key", "unknown key `models` in provider `p`"),
    ];
    refused(&cases, |keys| format!("version: 1\nproviders:\n  p: {{{keys}}}\nrules: {{}}\n"));
}
