//! The Genfile's keys as data: name, form of value, meaning, default. What a Genfile is checked against and what its JSON
//! Schema is written from are this one table.

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// Anything.
    Any,
    /// A string that is not empty.
    Text,
    /// A string that may hold expressions; a number is taken as its text.
    Expr,
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// `90s`, `2m`, or seconds as a number.
    Duration,
    /// One of these words; those of the second list are not built yet.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A list, each of whose items is of this form.
    List(&'static Form),
    /// A map with any keys, each of whose values is of this form.
    Map(&'static Form),
    /// A map with these keys.
    Keys(&'static [Field]),
    /// Any of these; what a value is (scalar, list, map) says which.
    OneOf(&'static [Form]),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub name: &'static str,
    pub form: Form,
    /// What it means.
    pub about: &'static str,
    /// What holds without it, as JSON; `""` for nothing.
    pub default: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// Whether it is of the language, and not built yet.
    pub later: bool,
}

const fn key(name: &'static str, form: Form, default: &'static str, about: &'static str) -> Field {
    Field { name, form, about, default, required: false, later: false }
}

const fn required(name: &'static str, form: Form, about: &'static str) -> Field {
    Field { name, form, about, default: "", required: true, later: false }
}

const fn later(name: &'static str) -> Field {
    Field { name, form: Form::Any, about: "", default: "", required: false, later: true }
}

/// The Genfile.
pub(super) const TOP: &[Field] = &[
    required("version", Form::Whole(1, 1), "The version of the language."),
    key("vars", Form::Map(&Form::Any), "{}", "Values that every expression can name as `vars.NAME`."),
    key("provider", Form::Text, "", "The provider of rules that name none."),
    key("providers", Form::Map(&Form::Keys(PROVIDER)), "{}", "Who answers prompts, by name."),
    key("batching", Form::Keys(BATCHING), "", "How tasks of LLM rules travel together."),
    key(
        "include",
        Form::List(&Form::OneOf(&[Form::Text, Form::Keys(INCLUDE)])),
        "[]",
        "Files and packs whose variables and rules are taken over.",
    ),
    required("rules", Form::Map(&Form::Keys(RULE)), "What is made, by name."),
    key("budget", Form::Keys(BUDGET), "", "What a run may spend."),
    later("cache"),
];

/// A file that a Genfile includes.
pub(super) const INCLUDED: &[Field] = &[
    key("version", Form::Whole(1, 1), "1", "The version of the language."),
    key("vars", Form::Map(&Form::Any), "{}", "Variables, where the including file has none of that name."),
    key(
        "include",
        Form::List(&Form::OneOf(&[Form::Text, Form::Keys(INCLUDE)])),
        "[]",
        "More files and packs, relative to the root.",
    ),
    key("rules", Form::Map(&Form::Keys(RULE)), "{}", "Rules."),
];

/// An entry of `include` as a map.
pub(super) const INCLUDE: &[Field] = &[
    required("from", Form::Text, "A file, relative to the root, or a pack: `builtin:NAME`."),
    key("only", Form::List(&Form::Text), "", "The rules to take; without, all."),
];

/// Keys of a provider that people would put a secret under.
pub(super) const SECRETS: &[&str] = &["key", "api_key", "token", "secret"];

/// One of `providers`.
pub(super) const PROVIDER: &[Field] = &[
    required(
        "api",
        Form::Choice(&["openai", "anthropic", "openai-responses", "gemini", "command", "replay"], &[]),
        "The wire format it speaks, or what answers in place of a server.",
    ),
    key("base_url", Form::Text, "", "The address below which its paths lie; without, that of whoever made the format."),
    key("model", Form::Text, "", "The model of rules and prompt files that name none."),
    key("key_env", Form::Text, "", "The NAME of the environment variable that holds the key."),
    key("in_flight", Form::Whole(1, 1000), "4", "How many requests may be under way at once."),
    key("timeout", Form::Duration, "\"120s\"", "The longest that one request may take."),
    key("start", Form::Text, "", "A command that brings it up where nothing answers at `base_url`."),
    key("start_timeout", Form::Duration, "\"300s\"", "How long that may take."),
    key("command", Form::Text, "", "With `api: command`, the command that answers, from stdin to stdout."),
    key(
        "stdin",
        Form::Choice(&["json", "text"], &[]),
        "\"json\"",
        "What that command is given: the request, or its texts.",
    ),
    key("dir", Form::Text, "", "With `api: replay`, the folder of the recordings that answer."),
    key("requests_per_minute", Form::Whole(1, 1_000_000_000), "", "How many requests may be sent in a minute."),
    key("tokens_per_minute", Form::Whole(1, 1_000_000_000), "", "How many tokens they may take in a minute."),
    key(
        "prices",
        Form::OneOf(&[Form::Text, Form::Keys(PRICES)]),
        "",
        "What its models cost, or a file with the public list of prices that LiteLLM keeps; without, what genmake knows.",
    ),
    key("limits", Form::Keys(LIMITS), "", "What its models take; without, what genmake knows."),
];

/// `prices` of a provider.
pub(super) const PRICES: &[Field] = &[
    required("input", Form::Number(0.0, 1e6), "USD for a million tokens sent."),
    required("output", Form::Number(0.0, 1e6), "USD for a million tokens that come back."),
    key(
        "cache_read",
        Form::Number(0.0, 1e6),
        "",
        "USD for a million tokens sent that were in the cache; without, `input`.",
    ),
    key(
        "cache_write",
        Form::Number(0.0, 1e6),
        "",
        "USD for a million tokens sent that went into it; without, `input`.",
    ),
    key(
        "cache_write_1h",
        Form::Number(0.0, 1e6),
        "",
        "USD for a million tokens sent that went into it for an hour; without, `cache_write`.",
    ),
];

/// `limits` of a provider.
pub(super) const LIMITS: &[Field] = &[
    key("context", Form::Whole(1, 1_000_000_000), "", "How many tokens prompt and answer may have together."),
    key("max_output", Form::Whole(1, 1_000_000_000), "", "How many tokens an answer can have."),
];

/// `budget`.
pub(super) const BUDGET: &[Field] = &[
    key("max_cost_usd", Form::Number(0.0, 1e9), "", "No request is sent that could bring the run's cost above this."),
    key(
        "max_tokens",
        Form::Whole(0, 1_000_000_000_000),
        "",
        "The same in tokens, those sent and those that come back.",
    ),
    key(
        "confirm_above_tokens",
        Form::Whole(0, 1_000_000_000_000),
        "",
        "Runs that will probably take more are asked about; without a terminal they need `--yes`.",
    ),
];

/// `batching`, at the top or in a rule.
pub(super) const BATCHING: &[Field] = &[
    key("enabled", Form::Bool, "true", "Whether tasks share requests."),
    key(
        "max_batch_size",
        Form::OneOf(&[Form::Choice(&["auto"], &[]), Form::Whole(1, 1000)]),
        "5",
        "How many tasks one request carries at most; `auto` for as many as cost least.",
    ),
    key("similarity_threshold", Form::Number(0.0, 1.0), "0.7", "How alike tasks must be to share a request."),
    key("fallback_on_failure", Form::Bool, "true", "Whether what a request did not deliver is asked for again."),
    key("weights", Form::Keys(WEIGHTS), "", "How much each part of likeness counts."),
    key("prefer", Form::Choice(&["cost", "time"], &[]), "\"cost\"", "What batches are to save first."),
    key(
        "keep_prefix",
        Form::Choice(&["auto", "5m", "1h", "never"], &[]),
        "\"auto\"",
        "For how long the provider is to keep the stable prefix; `auto`: five minutes, where another request of the run reads it.",
    ),
];

/// `weights` of `batching`.
const WEIGHTS: &[Field] = &[
    key("file_type", Form::Number(0.0, 1.0), "0.3", "The same extension of the output."),
    key("structure", Form::Number(0.0, 1.0), "0.35", "As many attributes, and of the same types."),
    key("package", Form::Number(0.0, 1.0), "0.2", "The same package."),
    key("dependencies", Form::Number(0.0, 1.0), "0.15", "References to the same."),
];

/// Something that a foreach runs over: a glob or selector, a literal list, or several globs.
const OVER: Form = Form::OneOf(&[Form::Expr, Form::List(&Form::Any), Form::Keys(GLOB)]);

/// `{glob: …}`.
pub(super) const GLOB: &[Field] = &[required(
    "glob",
    Form::OneOf(&[Form::Expr, Form::List(&Form::Expr)]),
    "Patterns; one that starts with `!` takes out what it matches.",
)];

const INPUT: Form = Form::OneOf(&[Form::Expr, Form::Keys(INPUT_KEYS)]);
const INPUT_KEYS: &[Field] = &[
    required("path", Form::Expr, "A path, a glob, a selector, or `rule:NAME`."),
    key("optional", Form::Bool, "false", "Whether it may be missing."),
];

/// `context` of a rule.
pub(super) const CONTEXT: &[Field] = &[
    required("select", Form::Expr, "A selector whose value is a map or a list of entities."),
    key("related_to", Form::Expr, "", "The key of the entity that a prompt is about; without, all are shown."),
    key("depth", Form::Whole(0, 100), "1", "How many references away an entity may be."),
    key("max_share", Form::Number(0.0, 1.0), "", "The share of the model's context window that it may take."),
];

const CHECK: Form = Form::OneOf(&[Form::Choice(&["json", "yaml", "toml", "syntax"], &[]), Form::Keys(CHECK_KEYS)]);
pub(super) const CHECK_KEYS: &[Field] = &[
    key("schema", Form::Expr, "", "A JSON Schema file that the result must follow."),
    key("run", Form::Expr, "", "A command that must succeed; `{{output}}` is a file with the result."),
];

const ON_ERROR: &[Field] = &[required("default", Form::Any, "What is written instead.")];

/// `embed` of a rule.
const EMBED: &[Field] = &[
    key("provider", Form::Text, "", "The provider to ask, as the rule's own `provider`."),
    key("model", Form::Text, "", "The model to ask, as the rule's own `model`."),
    key("dimensions", Form::Whole(1, 100_000), "", "How many numbers a vector has; without, what the model gives."),
    key("max_tokens", Form::Whole(1, 10_000_000), "", "How many tokens a text has at most: it is cut behind them."),
    key(
        "template",
        Form::Expr,
        "",
        "A Handlebars file that makes the text of an item; without, all that is known of it.",
    ),
    key("task", Form::Text, "", "What the vectors are for, in the provider's word, such as `RETRIEVAL_DOCUMENT`."),
    key(
        "comments",
        Form::Choice(&["keep", "drop"], &[]),
        "\"keep\"",
        "Whether the comments of source code stay in its text.",
    ),
];

/// One of `rules`.
pub(super) const RULE: &[Field] = &[
    key("output", Form::Expr, "", "Where the result goes."),
    key("outputs", Form::Map(&Form::Expr), "", "Where the results of one task go, by name."),
    key("template", Form::Expr, "", "A Handlebars file that is rendered: no request, ever."),
    key("prompt", Form::Expr, "", "A prompt file for a model."),
    key("run", Form::Expr, "", "A command that makes the outputs."),
    key(
        "foreach",
        Form::OneOf(&[Form::Expr, Form::List(&Form::Any), Form::Map(&OVER)]),
        "",
        "What there is one task for each of: a glob, a selector, a list, or a map of axes.",
    ),
    key("when", Form::OneOf(&[Form::Bool, Form::Expr]), "true", "Whether there is a task at all."),
    key(
        "inputs",
        Form::OneOf(&[Form::List(&INPUT), Form::Map(&INPUT)]),
        "[]",
        "What it is made from beside its recipe.",
    ),
    key("context", Form::Keys(CONTEXT), "", "The part of a specification that a prompt is shown."),
    key("params", Form::Map(&Form::Any), "{}", "Sampling parameters, such as `temperature`."),
    key("check", Form::OneOf(&[Form::List(&CHECK), CHECK]), "[]", "What a result must pass before it is written."),
    key("filter", Form::OneOf(&[Form::Expr, Form::List(&Form::Expr)]), "[]", "Commands that the content goes through."),
    key("retries", Form::Whole(0, 100), "1", "How often a result that fails a check is asked for again."),
    key(
        "on_error",
        Form::OneOf(&[Form::Choice(&["fail", "skip"], &[]), Form::Keys(ON_ERROR)]),
        "\"fail\"",
        "What a failure means: an error, no result, or a default.",
    ),
    key(
        "on_edit",
        Form::Choice(&["stop", "keep", "overwrite", "merge"], &[]),
        "\"stop\"",
        "What an edit by hand means: an error, the new content, nothing, or a merge with what is generated.",
    ),
    key("file_mode", Form::Text, "", "The permissions of the outputs, such as `\"0755\"`."),
    key("group", Form::OneOf(&[Form::Text, Form::List(&Form::Text)]), "[]", "Names that build this rule with others."),
    key("env", Form::List(&Form::Text), "[]", "Environment variables that expressions can name as `env.NAME`."),
    key("provider", Form::Text, "", "The provider to ask."),
    key("model", Form::Text, "", "The model to ask."),
    key("batch", Form::OneOf(&[Form::Bool, Form::Keys(BATCHING)]), "", "`false`: its tasks travel alone."),
    key("batching", Form::Keys(BATCHING), "", "As at the top, for this rule."),
    key("allow_secrets", Form::Bool, "false", "Whether what looks like a secret may be sent to its provider."),
    key("embed", Form::Keys(EMBED), "", "How the items become vectors."),
    key(
        "items",
        Form::OneOf(&[Form::Expr, Form::List(&Form::Any), Form::Map(&OVER)]),
        "",
        "What one file is made of: a glob, a selector, a list, or a map of axes.",
    ),
    key("schema", Form::Expr, "", "The JSON Schema file of one result; the output is a list of them."),
    key("unique_by", Form::Text, "", "A field of which no two results have the same value; the first one stays."),
    key("set", Form::Map(&Form::Any), "{}", "Fields that each result has beside what the model says."),
    key(
        "window",
        Form::OneOf(&[Form::Choice(&["auto"], &[]), Form::Whole(1, 100_000)]),
        "\"auto\"",
        "How many items one request is about at most; `auto` for as many as fit, or of an embed rule as the provider takes.",
    ),
    key(
        "carry",
        Form::OneOf(&[Form::Choice(&["all"], &[]), Form::Whole(1, 100_000)]),
        "",
        "How many results of the window before each window is shown; `all`: all before it, as a conversation.",
    ),
    key(
        "results",
        Form::Choice(&["each", "free"], &[]),
        "\"each\"",
        "Whether each item has one result, or the model says how many there are of a window.",
    ),
    key("min", Form::Whole(0, 100_000), "", "With `results: free`, the fewest results of a window."),
    key("max", Form::Whole(1, 100_000), "", "With `results: free`, the most results of a window."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is of the language and not built yet: keys and words.
    fn later_in(form: &Form, found: &mut BTreeSet<&'static str>) {
        match form {
            Form::Choice(_, later) => found.extend(later.iter()),
            Form::List(form) | Form::Map(form) => later_in(form, found),
            Form::OneOf(forms) => forms.iter().for_each(|form| later_in(form, found)),
            Form::Keys(fields) => {
                found.extend(fields.iter().filter(|field| field.later).map(|field| field.name));
                fields.iter().for_each(|field| later_in(&field.form, found));
            }
            _ => {}
        }
    }

    #[test]
    fn what_is_not_built_yet_is_listed_in_the_reference() {
        let mut later = BTreeSet::new();
        later_in(&Form::Keys(TOP), &mut later);
        let (_, list) = include_str!("../../docs/genfile.md").split_once("## Not supported yet").expect("the list");
        let rows = list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| prompt files"));
        let listed = rows
            .filter_map(|row| row.trim_matches('|').split_once('|'))
            .flat_map(|(_, keys)| keys.split('`').skip(1).step_by(2));
        assert_eq!(listed.collect::<BTreeSet<_>>(), later);
    }
}
