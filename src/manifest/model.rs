//! The Genfile as the later stages know it: checked, with defaults filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::api::Api;
use super::collection::{Collection, Embed};
use crate::error::{Code, Error, Place, Source, did_you_mean};
use crate::expr::{ExprError, Template, Why};
use crate::models::{self, Keep, Price};
use crate::path::RelPath;

/// A whole Genfile.
#[derive(Debug)]
pub struct Manifest {
    /// The text it came from.
    pub source: Arc<Source>,
    /// `vars`, with the expressions in them rendered.
    pub vars: Map<String, Value>,
    /// The default provider's name.
    pub provider: Option<String>,
    /// The provider that is asked in place of all others: `--provider`.
    pub instead: Option<String>,
    /// The providers by name.
    pub providers: BTreeMap<String, Provider>,
    /// What a run may spend.
    pub budget: Budget,
    /// The rules: those of included files first, each in the order written.
    pub rules: Vec<Rule>,
    /// The files that were included.
    pub included: Vec<RelPath>,
    /// The names of all rules, also of those that could not be read.
    pub names: BTreeSet<String>,
}

/// A string of the Genfile that may hold expressions.
#[derive(Clone)]
pub struct Expr {
    template: Arc<Template>,
    /// Where it stands.
    pub place: Place,
}

impl Expr {
    /// Compiles a string of the Genfile.
    ///
    /// # Errors
    /// [`Code::BadExpression`], pointing at it.
    pub fn new(text: &str, place: Place) -> Result<Expr, Error> {
        Expr::of(Template::new(text, &[]), place)
    }

    /// Compiles a command of the Genfile: the values in it are quoted for the shell.
    ///
    /// # Errors
    /// [`Code::BadExpression`], pointing at it.
    pub fn command(text: &str, place: Place) -> Result<Expr, Error> {
        Expr::of(Template::command(text), place)
    }

    fn of(compiled: Result<Template, ExprError>, place: Place) -> Result<Expr, Error> {
        match compiled {
            Ok(template) => Ok(Expr { template: Arc::new(template), place }),
            Err(e) => Err(e.to_error().at(place)),
        }
    }

    /// The string as written.
    pub fn text(&self) -> &str {
        self.template.text()
    }

    /// Whether it uses the name `root`, such as `item`.
    pub fn uses(&self, root: &str) -> bool {
        self.template.uses(root)
    }

    /// Renders with the names of `scope`.
    ///
    /// # Errors
    /// [`Code::Undefined`] or [`Code::BadExpression`], pointing at the name.
    pub fn render(&self, scope: &Value) -> Result<String, Error> {
        self.template.render(scope).map_err(|e| {
            let mut place = self.place.clone();
            if let Why::Variable(name) | Why::Helper(name) | Why::Partial(name) = &e.why
                && let Some(at) = place.source.text[place.span.clone()].find(name.as_str())
            {
                place.span = place.span.start + at..place.span.start + at + name.len();
            }
            e.to_error().hint_if(known_names(&e.why, scope)).at(place)
        })
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// What a missing variable may have been meant to be, or what there is.
pub fn known_names(why: &Why, scope: &Value) -> Option<String> {
    let Why::Variable(name) = why else { return None };
    let path = name.trim_start_matches("@root.");
    if let Some(name) = path.strip_prefix("env.") {
        let asked = format!("`{{{{default env.{name} \"other\"}}}}` does without");
        return Some(format!("`{name}` must be set, and stand in the rule's `env: [{name}]`; {asked}"));
    }
    let mut here = scope;
    let mut before = String::new();
    let parts: Vec<&str> = path.split('.').collect();
    for part in &parts {
        let Value::Object(map) = here else { return None };
        if let Some(next) = map.get(*part) {
            here = next;
            before.push_str(part);
            before.push('.');
            continue;
        }
        if *part == "text" && map.contains_key("path") {
            return Some("the file is not UTF-8 text, so it has no `text`".to_owned());
        }
        if *part == "data" && map.contains_key("path") {
            return Some(
                "only data files have `data`: .yaml, .yml, .json, .toml, .jsonl, .ndjson, .csv and .tsv".to_owned(),
            );
        }
        // A file's text is read where a template names it, so it is not among what is there.
        let text = map.contains_key("ext").then_some("text").filter(|text| !map.contains_key(*text));
        let there = || map.keys().map(String::as_str).chain(text);
        if let Some(hint) = did_you_mean(part, there()) {
            return Some(hint.replacen('`', &format!("`{before}"), 1));
        }
        let names: Vec<String> = there().take(12).map(|key| format!("`{before}{key}`")).collect();
        return Some(match names.is_empty() {
            true => format!("`{}` has no names here", before.trim_end_matches('.')),
            false => format!("there is {}", names.join(", ")),
        });
    }
    if here.is_null() {
        return Some("it is there and empty; `{{#each}}` and `{{#with}}` take a list or a map".to_owned());
    }
    Some(format!("inside a block such as `{{{{#each}}}}`, names of the outside are written `@root.{name}`"))
}

/// One provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its name under `providers`.
    pub name: String,
    /// Where its name stands.
    pub place: Place,
    /// The wire format it speaks, or what answers in its place.
    pub api: Api,
    /// The address below which its paths lie, without a final `/`; empty where it has none.
    pub base_url: String,
    /// The model that rules get if they name none.
    pub model: Option<String>,
    /// The name of the environment variable that holds the key.
    pub key_env: Option<String>,
    /// How many requests may be under way at once.
    pub in_flight: usize,
    /// How many requests may be sent in a minute, where the Genfile says so.
    pub requests_per_minute: Option<u64>,
    /// How many tokens they may take in a minute, where the Genfile says so.
    pub tokens_per_minute: Option<u64>,
    /// The longest that one request may take.
    pub timeout: Duration,
    /// The command that brings the provider up, and how long that may take.
    pub start: Option<(String, Duration)>,
    /// What its models cost.
    pub prices: Prices,
    /// What its models take, where the Genfile says so.
    pub limits: Limits,
}

/// What the models of a provider cost.
#[derive(Debug, Clone, PartialEq)]
pub enum Prices {
    /// What genmake knows.
    Known,
    /// What the Genfile says: the same for all.
    Said(Price),
    /// What a public list says, and where the Genfile names it.
    Listed(RelPath, Place),
}

/// What the models of a provider take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many tokens prompt and answer may have together.
    pub context: Option<u64>,
    /// How many tokens an answer can have.
    pub max_output: Option<u64>,
}

/// What a run may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// No request is sent that could bring the run's cost above this.
    pub max_cost_usd: Option<f64>,
    /// The same in tokens.
    pub max_tokens: Option<u64>,
    /// A run that will probably take more is asked about.
    pub confirm_above_tokens: Option<u64>,
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where its name stands.
    pub place: Place,
    /// The folder that its template, prompt and schema paths start from: `""` for the root, `builtin:NAME` for a pack.
    pub base: String,
    /// What it runs over; without, it is one task.
    pub foreach: Option<Foreach>,
    /// Whether there is a task at all; without, there is.
    pub when: Option<Expr>,
    /// Its outputs: one without a name, or several with.
    pub outputs: Vec<(Option<String>, Expr)>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// How its outputs come about; `None` where that could not be read.
    pub recipe: Option<Recipe>,
    /// The provider it names.
    pub provider: Option<(String, Place)>,
    /// The model it names.
    pub model: Option<String>,
    /// Sampling parameters, by our names.
    pub params: Map<String, Value>,
    /// The part of a specification that its prompt is shown.
    pub context: Option<Context>,
    /// What each result must pass.
    pub checks: Vec<Check>,
    /// The commands that its content goes through, from stdin to stdout.
    pub filters: Vec<Expr>,
    /// What a failure of one of its tasks means.
    pub on_error: OnError,
    /// What an edit of its outputs by hand means.
    pub on_edit: OnEdit,
    /// The permissions of its outputs.
    pub file_mode: Option<u32>,
    /// The names that build it together with other rules.
    pub groups: Vec<String>,
    /// The environment variables that its expressions can name.
    pub env: Vec<String>,
    /// How often a result that fails a check is asked for again.
    pub retries: u32,
    /// How its tasks travel together.
    pub batching: Batching,
    /// What it makes of many items, if that is what it does.
    pub collection: Option<Collection>,
    /// Whether it may send what looks like a secret; in no key.
    pub allow_secrets: bool,
}

impl Rule {
    /// Whether a TARGET of this name means it: its own name, or that of one of its groups.
    pub fn goes_by(&self, name: &str) -> bool {
        self.name == name || self.groups.iter().any(|group| group == name)
    }

    /// Whether a model writes its results.
    pub fn is_prompt(&self) -> bool {
        matches!(self.recipe, Some(Recipe::Prompt(_)))
    }

    /// Whether a provider is asked for its results: for texts, or for vectors.
    pub fn is_asked(&self) -> bool {
        matches!(self.recipe, Some(Recipe::Prompt(_) | Recipe::Embed(_)))
    }

    /// The commands among its checks.
    pub fn check_commands(&self) -> impl Iterator<Item = &Expr> + Clone {
        self.checks.iter().filter_map(|check| match check {
            Check::Run(command) => Some(command),
            _ => None,
        })
    }

    /// Whether a command is a part of it: as its recipe, a filter or a check.
    pub fn has_commands(&self) -> bool {
        let is_run = |check: &Check| matches!(check, Check::Run(_));
        matches!(self.recipe, Some(Recipe::Run(_))) || !self.filters.is_empty() || self.checks.iter().any(is_run)
    }

    /// Whether its results are known by rendering alone: no model, no command.
    pub fn is_rendered(&self) -> bool {
        matches!(self.recipe, Some(Recipe::Template(_))) && self.filters.is_empty()
    }
}

/// What a rule runs over.
#[derive(Debug)]
pub enum Foreach {
    /// One thing after the other.
    Over(Over),
    /// Every combination, by axis; the last axis turns fastest.
    Axes(Vec<(String, Over)>),
}

/// Something with items.
#[derive(Debug)]
pub enum Over {
    /// A glob, or a selector where the text holds `#`.
    Text(Expr),
    /// Several globs; one that starts with `!` takes out what it matches.
    Globs(Vec<Expr>),
    /// A literal list.
    List(Vec<Value>),
}

/// The part of a specification that a prompt is shown.
#[derive(Debug)]
pub struct Context {
    /// A selector: the entities.
    pub select: Expr,
    /// The key of the entity that the prompt is about; without, all are shown.
    pub related_to: Option<Expr>,
    /// How many references away from it an entity may be.
    pub depth: u32,
    /// The share of the model's context window that it may take, 0 to 1.
    pub max_share: Option<f64>,
}

/// What a failure means.
#[derive(Debug, Clone, PartialEq)]
pub enum OnError {
    /// The run fails.
    Fail,
    /// The task has no result this time; its output stays as it is.
    Skip,
    /// This is written instead.
    Default(Value),
}

/// What an edit by hand means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnEdit {
    /// The task is held up, and nothing is written.
    #[default]
    Stop,
    /// It is accepted: the output's content, until what it is made from changes, and after that again.
    Keep,
    /// It is overwritten; its bytes are kept in the store.
    Overwrite,
    /// It is merged with what is generated.
    Merge,
}

/// One input.
#[derive(Debug)]
pub struct Input {
    /// Its name in templates; `None` in a list.
    pub name: Option<String>,
    /// A path, a glob, a selector, or `rule:NAME`.
    pub source: Expr,
    /// Whether it may be missing.
    pub optional: bool,
}

/// How outputs come about.
#[derive(Debug)]
pub enum Recipe {
    /// A Handlebars file; no request, ever.
    Template(Expr),
    /// A prompt file for a model.
    Prompt(Expr),
    /// A command that writes the outputs.
    Run(Expr),
    /// Vectors of a model for texts.
    Embed(Embed),
}

impl Recipe {
    /// The expression that names the recipe's file; a command has none.
    pub fn file(&self) -> Option<&Expr> {
        match self {
            Recipe::Template(file) | Recipe::Prompt(file) => Some(file),
            Recipe::Embed(embed) => embed.template.as_ref(),
            Recipe::Run(_) => None,
        }
    }

    /// The key that it stands under.
    pub fn name(&self) -> &'static str {
        match self {
            Recipe::Template(_) => "template",
            Recipe::Prompt(_) => "prompt",
            Recipe::Run(_) => "run",
            Recipe::Embed(_) => "embed",
        }
    }
}

/// What a result must pass.
#[derive(Debug, Clone)]
pub enum Check {
    /// Parses as JSON.
    Json,
    /// Parses as YAML.
    Yaml,
    /// Parses as TOML.
    Toml,
    /// Parses as what the output's extension says.
    Syntax,
    /// Follows the JSON Schema in this file.
    Schema(Expr),
    /// Makes this command succeed.
    Run(Expr),
}

impl Check {
    /// The name it goes by in a Genfile.
    pub fn name(&self) -> &'static str {
        match self {
            Check::Json => "json",
            Check::Yaml => "yaml",
            Check::Toml => "toml",
            Check::Syntax => "syntax",
            Check::Schema(_) => "schema",
            Check::Run(_) => "run",
        }
    }
}

/// How tasks travel together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batching {
    /// Whether they do.
    pub enabled: bool,
    /// How many at most; `None` for as many as cost least.
    pub max_batch_size: Option<usize>,
    /// How alike tasks of a shape must be, 0 to 1.
    pub similarity_threshold: f64,
    /// What likeness is made of.
    pub weights: Weights,
    /// What a choice is made for.
    pub prefer: Prefer,
    /// Whether their provider is to keep what their requests begin with.
    pub keep_prefix: KeepPrefix,
    /// Whether what a batch did not deliver is asked for again.
    pub fallback_on_failure: bool,
}

/// How much each part of likeness counts; what matters is their share of the sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The extensions of the outputs.
    pub file_type: f64,
    /// How many attributes, and of which types.
    pub structure: f64,
    /// The package that an item is of.
    pub package: f64,
    /// What an item refers to.
    pub dependencies: f64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { file_type: 0.30, structure: 0.35, package: 0.20, dependencies: 0.15 }
    }
}

/// What batches are to save first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Money.
    #[default]
    Cost,
    /// Time.
    Time,
}

/// Whether a provider is to keep what requests begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepPrefix {
    /// Where another request of the run reads it.
    #[default]
    Auto,
    /// In any case, for so long.
    For(Keep),
    /// Not.
    Never,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching {
            enabled: true,
            max_batch_size: Some(5),
            similarity_threshold: 0.7,
            weights: Weights::default(),
            prefer: Prefer::Cost,
            keep_prefix: KeepPrefix::Auto,
            fallback_on_failure: true,
        }
    }
}

impl Batching {
    /// The most tasks that one request may carry; `None` for as many as cost least.
    pub fn most(&self) -> Option<usize> {
        if self.enabled { self.max_batch_size } else { Some(1) }
    }
}

impl Manifest {
    /// The provider that a rule's prompts are sent to: the one that is asked in place of all, its own, or else the Genfile's.
    ///
    /// # Errors
    /// [`Code::UnknownProvider`] or [`Code::MissingKey`], pointing at the rule; a loaded Genfile has neither.
    pub fn provider_of(&self, rule: &Rule) -> Result<&Provider, Error> {
        let own = || rule.provider.as_ref().map(|(name, _)| name);
        let name = self.instead.as_ref().or_else(own).or(self.provider.as_ref());
        let Some(name) = name else {
            return Err(Error::new(Code::MissingKey, "it has no provider").in_rule(&rule.name).at(rule.place.clone()));
        };
        self.providers.get(name).ok_or_else(|| {
            let place = rule.provider.as_ref().map_or(&rule.place, |(_, place)| place);
            unknown_provider(name, self.providers.keys()).at(place.clone())
        })
    }

    /// Asks this provider in place of all others.
    ///
    /// # Errors
    /// [`Code::UnknownProvider`].
    pub fn ask_instead(&mut self, name: &str) -> Result<(), Error> {
        if !self.providers.contains_key(name) {
            return Err(unknown_provider(name, self.providers.keys()));
        }
        self.instead = Some(name.to_owned());
        Ok(())
    }

    /// Whether a rule's prompts are answered by a command.
    pub fn is_by_command(&self, rule: &Rule) -> bool {
        rule.is_prompt() && self.provider_of(rule).is_ok_and(|provider| matches!(provider.api, Api::Command(_)))
    }

    /// How many tokens the model of a rule's prompts may have together, so far as the Genfile alone says: the `limits` of its
    /// provider, or else what is known of the model that rule or provider name.
    pub fn window_of(&self, rule: &Rule) -> Option<u64> {
        let provider = self.provider_of(rule).ok()?;
        let of_model = || models::find(rule.model.as_ref().or(provider.model.as_ref())?)?.context;
        provider.limits.context.or_else(of_model)
    }
}

/// The error for a provider's name that is none of those declared.
pub(super) fn unknown_provider<'a>(name: &str, declared: impl Iterator<Item = &'a String>) -> Error {
    Error::new(Code::UnknownProvider, format!("no provider `{name}`"))
        .hint_if(did_you_mean(name, declared.map(String::as_str)))
        .hint("providers are declared under `providers:`")
}
