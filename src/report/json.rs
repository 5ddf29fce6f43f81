//! The report as it is published: structs of its own, which change compatibly only. What is new is a new key; what goes or means
//! something else is another version.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Advice, Exchange, Llm, Summary, add, amount};
use crate::error::Error;
use crate::event::{Status, TaskEnd};
use crate::wording;

/// What a run did. Durations are in milliseconds; `begin_ms` is counted from the run's begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Report {
    /// The version of this form: 1.
    pub version: u32,
    /// The version of genmake that wrote it.
    pub genmake: String,
    /// When the run began, in UTC, as RFC 3339 has it.
    pub began: String,
    /// How long the run took.
    pub duration_ms: u64,
    /// Its exit status: 0 done, 2 failed.
    pub exit: u8,
    /// How the tasks ended.
    pub targets: Targets,
    /// Requests and what they took.
    pub llm: Llm,
    /// What caches spared.
    pub caches: Caches,
    /// Load, plan and run.
    pub phases: Vec<Phase>,
    /// The same by rule, by name; tasks that nothing concerned are not looked at one by one, and in none of them.
    pub rules: Vec<RuleLine>,
    /// Each request, in the order in which they were sent.
    pub requests: Vec<RequestLine>,
    /// How each task ended, in the order in which they did.
    pub tasks: Vec<TaskLine>,
    /// What went wrong beside the tasks: mistakes for which there was no run, and what no task is to blame for.
    #[serde(default)]
    pub errors: Vec<ErrorLine>,
    /// What could be cheaper, by what the run saw.
    pub advice: Vec<AdviceLine>,
}

/// How many tasks ended how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Targets {
    /// All.
    pub total: u64,
    /// Up to date before.
    pub fresh: u64,
    /// Rendered by a template.
    pub rendered: u64,
    /// Written by a model.
    pub generated: u64,
    /// Taken from the store.
    pub restored: u64,
    /// Given the value that `on_error` says.
    pub defaulted: u64,
    /// Made by a command.
    pub ran: u64,
    /// Made into vectors by a model.
    pub embedded: u64,
    /// Failed.
    pub failed: u64,
    /// Handed in to a batch API.
    pub submitted: u64,
    /// Not begun.
    pub skipped: u64,
    /// Held, as a person changed an output.
    pub edited: u64,
    /// Left as a person changed them.
    pub accepted: u64,
    /// Merged with what a person changed.
    pub merged: u64,
}

impl Targets {
    /// How many ended how, by name, in the order in which people want to read it.
    pub fn by_status(&self) -> [(&'static str, u64); 13] {
        [
            ("failed", self.failed),
            ("edited", self.edited),
            ("generated", self.generated),
            ("embedded", self.embedded),
            ("rendered", self.rendered),
            ("ran", self.ran),
            ("restored", self.restored),
            ("defaulted", self.defaulted),
            ("merged", self.merged),
            ("accepted", self.accepted),
            ("submitted", self.submitted),
            ("skipped", self.skipped),
            ("fresh", self.fresh),
        ]
    }
}

/// The caches of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Caches {
    /// The store, in tasks: those that it had a result for, and those that were made.
    pub store: Cache,
    /// The providers' caches, in tokens: those sent that they had, and those that they had not.
    pub prompt: Cache,
}

/// What a cache had and had not.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Cache {
    /// What it had.
    pub hits: u64,
    /// What it had not.
    pub misses: u64,
    /// Hits of both, from 0 to 1; null if there is neither.
    pub rate: Option<f64>,
}

impl Cache {
    fn new(hits: u64, misses: u64) -> Cache {
        let all = hits + misses;
        let rate = (all > 0).then(|| (hits as f64 / all as f64 * 1e4).round() / 1e4);
        Cache { hits, misses, rate }
    }
}

/// A part of the run before or after another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub duration_ms: u64,
}

/// All tasks of a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct RuleLine {
    /// Its name.
    pub rule: String,
    /// How many of its tasks there are.
    pub tasks: u64,
    /// How many of them ended how, by status.
    pub statuses: BTreeMap<String, u64>,
    /// How many requests brought results for them.
    pub requests: u64,
    /// How long something was done for them, one after the other.
    pub worked_ms: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens that came back.
    pub output_tokens: u64,
    /// Of the tokens sent, those that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// What they cost; null where a price is not known.
    #[serde(serialize_with = "amount")]
    pub cost_usd: Option<f64>,
    /// Tokens that store and templates spared: an estimate.
    pub tokens_saved: u64,
}

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct RequestLine {
    /// Its number, from 1; `batch` of tasks names it.
    pub request: u64,
    /// The provider, as the Genfile names it.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// `answered`, `failed`, or `open` where the run ended before.
    pub outcome: String,
    /// When it was sent.
    pub begin_ms: u64,
    /// From then to its end.
    pub duration_ms: u64,
    /// For how long it waited because of its provider's limits, at least.
    pub limited_ms: u64,
    /// How many tasks, items or texts it carried.
    pub tasks: u64,
    /// How many of its results were good.
    pub good: u64,
    /// How often it was sent again after a failure in transport.
    pub retries: u64,
    /// Whether it asked again for what an earlier one had not delivered.
    pub again: bool,
    /// What it did not deliver, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackLine>,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens that came back.
    pub output_tokens: u64,
    /// Of the tokens sent, those that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Of the tokens sent, those that it wrote into its cache.
    pub cache_write_tokens: u64,
    /// What it cost; null where the price is not known.
    #[serde(serialize_with = "amount")]
    pub cost_usd: Option<f64>,
    /// The outputs that it was for.
    pub outputs: Vec<String>,
}

/// What a request did not deliver.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct FallbackLine {
    /// How many results.
    pub missing: u64,
    /// Why.
    pub why: String,
    /// Whether they were asked for again.
    pub again: bool,
}

/// One task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct TaskLine {
    /// Its rule.
    pub rule: String,
    /// Its outputs.
    pub outputs: Vec<String>,
    /// How it ended: one of the names in `targets`.
    pub status: String,
    /// Why it was not up to date.
    pub reasons: Vec<String>,
    /// The number of the request that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    /// When all that it waits for was done and it began.
    pub begin_ms: u64,
    /// From then to its end, requests included.
    pub duration_ms: u64,
    /// Of that, how long something was done for it: it may have waited for its turn.
    pub worked_ms: u64,
    /// Of the tasks that it waited for and that were not up to date, the last to end, by their first outputs, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waited_for: Vec<String>,
    /// Its share of the tokens that its requests sent.
    pub input_tokens: u64,
    /// Its share of the tokens that came back.
    pub output_tokens: u64,
    /// Of the tokens sent, its share of those that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Its share of what its requests cost; null where a price is not known.
    #[serde(serialize_with = "amount")]
    pub cost_usd: Option<f64>,
    /// The entities that its `context` had no room for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What came of its items, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<CollectionLine>,
    /// What came of its texts, if they were to become vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<EmbeddingLine>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorLine>,
}

/// What came of texts that were to become vectors.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct EmbeddingLine {
    /// All.
    pub total: u64,
    /// Those that have a vector.
    pub success: u64,
    /// Those that have none.
    pub failed: u64,
    /// Vectors that were there.
    pub cached: u64,
    /// Vectors that a model made in this run.
    pub newly_embedded: u64,
}

/// What came of a collection's items.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct CollectionLine {
    /// How many items there are.
    pub items: u64,
    /// How many results the output has.
    pub results: u64,
    /// What `unique_by` dropped.
    pub dropped: Vec<String>,
    /// How many items brought nothing, and are skipped or have a default.
    pub failed: u64,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ErrorLine {
    /// The error's code.
    pub code: String,
    /// What went wrong, and where.
    pub message: String,
}

impl ErrorLine {
    fn of(error: &Error) -> ErrorLine {
        ErrorLine { code: error.code.as_str().to_owned(), message: error.to_string() }
    }
}

impl Summary {
    /// The report, as published.
    pub fn report(&self) -> Report {
        let count = |status| self.count(status) as u64;
        let ends = self.ends.iter().copied().chain(std::iter::repeat(Duration::ZERO));
        let tasks: Vec<TaskLine> = self.tasks.iter().zip(ends).map(|(end, at)| TaskLine::of(end, at)).collect();
        let made = count(Status::Generated) + count(Status::Embedded) + count(Status::Ran);
        let llm = self.llm.clone();
        Report {
            version: 1,
            genmake: env!("CARGO_PKG_VERSION").to_owned(),
            began: humantime::format_rfc3339_millis(self.begun.map_or_else(SystemTime::now, |begun| begun.date))
                .to_string(),
            duration_ms: millis(self.took),
            exit: self.exit(),
            targets: Targets {
                total: self.total() as u64,
                fresh: count(Status::Fresh),
                rendered: count(Status::Rendered),
                generated: count(Status::Generated),
                restored: count(Status::Restored),
                defaulted: count(Status::Defaulted),
                ran: count(Status::Ran),
                embedded: count(Status::Embedded),
                failed: count(Status::Failed),
                submitted: count(Status::Submitted),
                skipped: count(Status::Skipped),
                edited: count(Status::Edited),
                accepted: count(Status::Accepted),
                merged: count(Status::Merged),
            },
            caches: Caches {
                store: Cache::new(count(Status::Restored), made),
                prompt: Cache::new(llm.cached_input_tokens, llm.input_tokens.saturating_sub(llm.cached_input_tokens)),
            },
            llm,
            phases: self
                .phases
                .iter()
                .map(|(name, took)| Phase { name: (*name).to_owned(), duration_ms: millis(*took) })
                .collect(),
            rules: rules(&self.tasks),
            requests: self.exchanges.iter().map(RequestLine::of).collect(),
            tasks,
            errors: self.failures.iter().map(ErrorLine::of).collect(),
            advice: self.advice().iter().map(AdviceLine::of).collect(),
        }
    }

    /// The report as the text of a JSON file.
    pub fn to_json(&self) -> String {
        self.report().to_json()
    }

    /// Whether nothing was done, so that there is nothing to report.
    pub fn is_empty(&self) -> bool {
        let is_fresh = self.tasks.iter().all(|end| end.status == Status::Fresh);
        is_fresh && self.exchanges.is_empty() && self.written == 0 && self.is_success()
    }
}

impl Report {
    /// The text of a JSON file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The same in one line, as runs are kept.
    pub fn to_line(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A report from the text of a JSON file; `None` if it is none, or of a genmake that says less.
    pub fn parse(text: &[u8]) -> Option<Report> {
        serde_json::from_slice(text).ok().filter(|report: &Report| report.version == 1)
    }

    /// The JSON Schema that all reports hold to.
    #[cfg(feature = "cli")]
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Report);
        schema.insert("title".to_owned(), "A run of genmake, as `--report FILE.json` writes it".into());
        schema.into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn rules(tasks: &[TaskEnd]) -> Vec<RuleLine> {
    let mut rules: BTreeMap<&str, (RuleLine, BTreeSet<usize>)> = BTreeMap::new();
    for end in tasks {
        let new = || {
            let line = RuleLine {
                rule: end.rule.clone(),
                tasks: 0,
                statuses: BTreeMap::new(),
                requests: 0,
                worked_ms: 0,
                input_tokens: 0,
                output_tokens: 0,
                cached_input_tokens: 0,
                cost_usd: Some(0.0),
                tokens_saved: 0,
            };
            (line, BTreeSet::new())
        };
        let (line, requests) = rules.entry(&end.rule).or_insert_with(new);
        line.tasks += 1;
        *line.statuses.entry(end.status.name().to_owned()).or_default() += 1;
        requests.extend(end.request);
        line.worked_ms += millis(end.worked);
        line.input_tokens += end.usage.input;
        line.output_tokens += end.usage.output;
        line.cached_input_tokens += end.usage.cached;
        add(&mut line.cost_usd, end.cost);
        line.tokens_saved += end.saved;
    }
    rules.into_values().map(|(line, requests)| RuleLine { requests: requests.len() as u64, ..line }).collect()
}

impl RequestLine {
    fn of(it: &Exchange) -> RequestLine {
        RequestLine {
            request: it.request as u64,
            provider: it.provider.clone(),
            model: it.model.clone(),
            outcome: it.outcome.name().to_owned(),
            begin_ms: millis(it.begin),
            duration_ms: millis(it.took),
            limited_ms: millis(it.limited),
            tasks: it.tasks as u64,
            good: it.good as u64,
            retries: it.retries as u64,
            again: it.again,
            fallback: it.fallback.as_ref().map(|fallback| FallbackLine {
                missing: fallback.missing as u64,
                why: wording::shortfall(&fallback.why),
                again: fallback.again,
            }),
            input_tokens: it.usage.input,
            output_tokens: it.usage.output,
            cached_input_tokens: it.usage.cached,
            cache_write_tokens: it.usage.cache_write,
            cost_usd: it.cost,
            outputs: it.outputs.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Something that would make the next runs of a rule cheaper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct AdviceLine {
    /// `could_be_template`, `fails_checks`, `falls_short` or `prefix_too_short`.
    pub kind: String,
    /// The rule.
    pub rule: String,
    /// The advice, as people read it.
    pub words: String,
}

impl AdviceLine {
    fn of(advice: &Advice) -> AdviceLine {
        let value = serde_json::to_value(advice).unwrap_or_default();
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        AdviceLine { kind: text("kind"), rule: text("rule"), words: advice.words() }
    }
}

impl TaskLine {
    fn of(end: &TaskEnd, at: Duration) -> TaskLine {
        TaskLine {
            rule: end.rule.clone(),
            outputs: end.outputs.iter().map(ToString::to_string).collect(),
            status: end.status.name().to_owned(),
            reasons: end.reasons.iter().map(wording::reason).collect(),
            batch: end.request.map(|request| request as u64),
            begin_ms: millis(at.saturating_sub(end.took)),
            duration_ms: millis(end.took),
            worked_ms: millis(end.worked),
            waited_for: end.waited_for.iter().map(ToString::to_string).collect(),
            input_tokens: end.usage.input,
            output_tokens: end.usage.output,
            cached_input_tokens: end.usage.cached,
            cost_usd: end.cost,
            left_out: end.left_out.clone(),
            collection: end.collected.as_ref().map(|collected| CollectionLine {
                items: collected.items as u64,
                results: collected.results as u64,
                dropped: collected.dropped.clone(),
                failed: collected.failed as u64,
            }),
            embedding: end.embedded.map(|counts| EmbeddingLine {
                total: counts.total as u64,
                success: counts.success as u64,
                failed: counts.failed as u64,
                cached: counts.cached as u64,
                newly_embedded: counts.new as u64,
            }),
            error: end.error.as_ref().map(ErrorLine::of),
        }
    }
}
