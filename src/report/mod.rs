//! From events to the summary of a run; `json` is its form as a file.

mod advice;
#[cfg(feature = "cli")]
mod changes;
mod exchanges;
#[cfg(feature = "cli")]
mod html;
mod json;
mod text;
#[cfg(feature = "cli")]
mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{Event, Status, TaskEnd};
use crate::llm::{Unkept, Usage};

pub use advice::{Advice, Seen};
pub use exchanges::{Exchange, Fallback, Outcome};
pub use json::{Cache, Report, RequestLine, RuleLine, TaskLine};
pub use text::{cost, seconds};

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// When it began.
    pub begun: Option<Begin>,
    /// How long it took.
    pub took: Duration,
    /// Phases in order: name and how long.
    pub phases: Vec<(&'static str, Duration)>,
    /// How all tasks ended, in the order in which they did.
    pub tasks: Vec<TaskEnd>,
    /// When each of them ended, counted from the run's begin.
    pub ends: Vec<Duration>,
    /// Its requests, in the order in which they were sent.
    pub exchanges: Vec<Exchange>,
    /// How many more tasks are up to date, and were not looked at one by one: nothing that concerns them has moved.
    pub untouched: usize,
    /// Requests and what they took.
    pub llm: Llm,
    /// What failed beside tasks: also mistakes for which there was no run.
    pub failures: Vec<Error>,
    /// Whether a signal cut it short.
    pub interrupted: bool,
    /// Whether it was about nothing but what depends on some files.
    pub is_part: bool,
    /// Whether `--resume` goes on with it.
    pub is_resumable: bool,
    /// How many outputs were written.
    pub written: usize,
    /// What advice is made from.
    pub seen: Seen,
}

/// When a run began: by the calendar, and by a clock that nobody sets.
#[derive(Debug, Clone, Copy)]
pub struct Begin {
    /// By the calendar.
    pub date: SystemTime,
    clock: Instant,
}

impl Begin {
    /// So long ago.
    pub fn before(ago: Duration) -> Begin {
        let (date, clock) = (SystemTime::now(), Instant::now());
        Begin { date: date.checked_sub(ago).unwrap_or(date), clock: clock.checked_sub(ago).unwrap_or(clock) }
    }
}

/// Requests and what they took. Names as in the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Llm {
    /// Requests that were sent, each time that they were.
    pub requests: u64,
    /// Of these, those that carried several tasks.
    pub batched_requests: u64,
    /// Attempts to make several at once: the same without retries in transport.
    pub batch_attempts: u64,
    /// Of these, those that delivered every task's result.
    pub batch_successes: u64,
    /// Requests of several tasks after which something had to be asked again.
    pub fallbacks: u64,
    /// Results that were nearer to another task of their batch, and did not count.
    pub strays: u64,
    /// Results that came in requests of several tasks.
    pub files_in_batches: u64,
    /// Results that came alone.
    pub files_individual: u64,
    /// Requests sent again after a failure in transport, and results sent back after a failed check.
    pub retries: u64,
    /// Requests and answers, some of them cut off, whose tokens the provider did not say: they are in none of the counts.
    pub uncounted: u64,
    /// Tokens sent, as the provider counted them.
    pub input_tokens: u64,
    /// Tokens that came back.
    pub output_tokens: u64,
    /// Of the tokens sent, those that the provider had in its cache.
    pub cached_input_tokens: u64,
    /// Of the tokens sent, those that it wrote into its cache.
    pub cache_write_tokens: u64,
    /// Requests of which the provider was to keep what they begin with, and did not, or wrote it again in place of reading it.
    pub cache_misses: u64,
    /// Tokens that were not spent.
    pub tokens_saved: Saved,
    /// What it cost. A model on this machine costs nothing; `None` where a price is not known, which is never 0.
    #[serde(serialize_with = "amount")]
    pub cost_usd: Option<f64>,
    /// What was saved, likewise: by batching, less what a shared request adds, by context and store at the prices of tokens sent and
    /// those that come back, and by the provider's cache. Templates ask no model that would have a price.
    #[serde(serialize_with = "amount")]
    pub cost_saved_usd: Option<f64>,
    /// The same by provider.
    pub providers: BTreeMap<String, ByProvider>,
    /// Of each request under way, the tokens of the prefix that its tasks share.
    #[serde(skip)]
    prefixes: BTreeMap<usize, u64>,
}

impl Default for Llm {
    fn default() -> Llm {
        Llm {
            requests: 0,
            batched_requests: 0,
            batch_attempts: 0,
            batch_successes: 0,
            fallbacks: 0,
            strays: 0,
            files_in_batches: 0,
            files_individual: 0,
            retries: 0,
            uncounted: 0,
            input_tokens: 0,
            output_tokens: 0,
            cached_input_tokens: 0,
            cache_write_tokens: 0,
            cache_misses: 0,
            tokens_saved: Saved::default(),
            cost_usd: Some(0.0),
            cost_saved_usd: Some(0.0),
            providers: BTreeMap::new(),
            prefixes: BTreeMap::new(),
        }
    }
}

/// Tokens that were not spent, by why.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Saved {
    /// Stable prefixes that were sent once for several tasks: an estimate.
    pub batching: u64,
    /// Tokens that the provider had in its cache.
    pub prompt_cache: u64,
    /// What results out of the store took when they were made.
    pub store: u64,
    /// What rendered outputs would have been as a model's: an estimate of their size alone.
    pub templates: u64,
    /// What related contexts left out of the requests that were sent: an estimate.
    pub context: u64,
}

impl Llm {
    /// How many tokens there were, as people read it; a program that answers need not count them.
    pub fn tokens_in_words(&self) -> String {
        match (self.input_tokens + self.output_tokens, self.uncounted) {
            (0, 1..) => "tokens not counted".to_owned(),
            (_, 0) => format!("{} tokens in, {} out", self.input_tokens, self.output_tokens),
            (_, n) => format!("{} tokens in, {} out, {n} not counted", self.input_tokens, self.output_tokens),
        }
    }
}

impl Saved {
    /// Tokens by why, as people read it.
    pub fn by_why(&self) -> [(&'static str, u64); 5] {
        [
            ("batching", self.batching),
            ("prompt cache", self.prompt_cache),
            ("store", self.store),
            ("templates", self.templates),
            ("context", self.context),
        ]
    }

    /// All of it in one line: how many tokens, and of these what each kind saved; none where nothing was.
    pub fn words(&self) -> Option<String> {
        let parts = self.by_why();
        let whole: u64 = parts.iter().map(|(_, tokens)| tokens).sum();
        let parts: Vec<String> =
            parts.iter().filter(|(_, tokens)| *tokens > 0).map(|(name, tokens)| format!("{name} {tokens}")).collect();
        (whole > 0).then(|| format!("about {whole} tokens: {}", parts.join(", ")))
    }
}

/// One provider's part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct ByProvider {
    /// Requests.
    pub requests: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens that came back.
    pub output_tokens: u64,
    /// Of the tokens sent, those in the provider's cache.
    pub cached_input_tokens: u64,
    /// What it cost; `None` where a price is not known.
    #[serde(serialize_with = "amount")]
    pub cost_usd: Option<f64>,
}

impl Default for ByProvider {
    fn default() -> ByProvider {
        ByProvider { requests: 0, input_tokens: 0, output_tokens: 0, cached_input_tokens: 0, cost_usd: Some(0.0) }
    }
}

/// An amount of USD to a billionth: sums of prices have more digits than they mean.
#[allow(clippy::ref_option, reason = "as serde hands it over")]
fn amount<S: serde::Serializer>(amount: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    amount.map(|amount| (amount * 1e9).round() / 1e9).serialize(serializer)
}

/// What one of so many tasks takes of what they do.
fn each(all: Usage, tasks: usize) -> Usage {
    let part = |tokens: u64| tokens / (tasks as u64).max(1);
    Usage { input: part(all.input), output: part(all.output), ..Usage::default() }
}

/// A sum that is unknown as soon as one part of it is.
fn add(to: &mut Option<f64>, amount: Option<f64>) {
    *to = to.zip(amount).map(|(sum, amount)| sum + amount);
}

impl Summary {
    /// Takes an event in.
    pub fn note(&mut self, event: &Event) {
        self.seen.note(event);
        let at = self.begun.get_or_insert_with(|| Begin::before(Duration::ZERO)).clock.elapsed();
        exchanges::note(&mut self.exchanges, event, at);
        let llm = &mut self.llm;
        match event {
            Event::Requested { request, provider, tasks, prefix_saved, context_saved, price, .. } => {
                let spared = Usage { input: *context_saved, ..Usage::default() };
                add(&mut llm.cost_usd, price.map(|_| 0.0));
                add(&mut llm.cost_saved_usd, price.map(|price| price.cost(spared)));
                llm.requests += 1;
                let by = llm.providers.entry(provider.clone()).or_default();
                by.requests += 1;
                add(&mut by.cost_usd, price.map(|_| 0.0));
                if *tasks > 1 {
                    llm.batched_requests += 1;
                    llm.batch_attempts += 1;
                }
                llm.prefixes.insert(*request, prefix_saved / (*tasks as u64).saturating_sub(1).max(1));
                llm.tokens_saved.context += context_saved;
            }
            Event::Answered { request, provider, tasks, good, usage, is_uncounted, alone, price, .. } => {
                // What did not come is asked for again, with its prefix.
                let prefix = llm.prefixes.remove(request).unwrap_or(0) * (*good as u64).saturating_sub(1);
                llm.tokens_saved.batching += prefix;
                let cost = price.map(|price| price.cost(*usage));
                let uncached =
                    price.map(|price| price.cost(Usage { cached: 0, cache_write: 0, kept_long: 0, ..*usage }));
                add(&mut llm.cost_usd, cost);
                // Against a request each: what a shared one says around its tasks, and has around its results, is taken off.
                let tasks_cost = price.map(|price| *tasks as f64 * price.cost(each(*alone, *tasks)));
                let delivered = (*good as f64 - 1.0).max(0.0) / (*tasks as f64 - 1.0).max(1.0);
                let together = tasks_cost.zip(uncached).map(|(each, together)| (each - together) * delivered);
                add(&mut llm.cost_saved_usd, together);
                add(&mut llm.cost_saved_usd, uncached.zip(cost).map(|(without, with)| without - with));
                let by = llm.providers.entry(provider.clone()).or_default();
                add(&mut by.cost_usd, cost);
                by.input_tokens += usage.input;
                by.output_tokens += usage.output;
                by.cached_input_tokens += usage.cached;
                llm.input_tokens += usage.input;
                llm.output_tokens += usage.output;
                llm.cached_input_tokens += usage.cached;
                llm.cache_write_tokens += usage.cache_write;
                llm.uncounted += u64::from(*is_uncounted);
                llm.tokens_saved.prompt_cache += usage.cached;
                if *tasks > 1 {
                    llm.batch_successes += u64::from(good == tasks);
                    llm.files_in_batches += *good as u64;
                } else {
                    llm.files_individual += *good as u64;
                }
            }
            Event::FellBack { again: true, .. } => llm.fallbacks += 1,
            Event::Strayed { .. } => llm.strays += 1,
            Event::Unkept { why: Unkept::Unheeded | Unkept::Again, .. } => llm.cache_misses += 1,
            Event::RequestFailed { is_uncounted, .. } => llm.uncounted += u64::from(*is_uncounted),
            Event::Retrying { provider, tasks, was_sent, is_uncounted, .. } => {
                llm.retries += 1;
                llm.uncounted += u64::from(*is_uncounted);
                let sent = u64::from(*was_sent);
                llm.requests += sent;
                llm.batched_requests += if *tasks > 1 { sent } else { 0 };
                llm.providers.entry(provider.clone()).or_default().requests += sent;
            }
            Event::AskedToCorrect { .. } => llm.retries += 1,
            Event::Ended(end) => {
                match end.status {
                    Status::Restored => {
                        llm.tokens_saved.store += end.saved;
                        add(&mut llm.cost_saved_usd, end.saved_usd);
                    }
                    Status::Rendered => llm.tokens_saved.templates += end.saved,
                    _ => {}
                }
                self.tasks.push(end.clone());
                self.ends.push(at);
            }
            Event::Failed(error) => self.failures.push(error.clone()),
            _ => {}
        }
    }

    /// How many tasks ended so.
    pub fn count(&self, status: Status) -> usize {
        let untouched = if status == Status::Fresh { self.untouched } else { 0 };
        self.tasks.iter().filter(|end| end.status == status).count() + untouched
    }

    /// How many tasks came to what they were to come to in this run.
    pub fn done(&self) -> usize {
        let is_open = |status: Status| {
            matches!(status, Status::Fresh | Status::Skipped | Status::Failed | Status::Edited | Status::Submitted)
        };
        self.tasks.iter().filter(|end| !is_open(end.status)).count()
    }

    /// How many tasks were asked for.
    pub fn total(&self) -> usize {
        self.tasks.len() + self.untouched
    }

    /// Whether everything asked for is as it should be.
    pub fn is_success(&self) -> bool {
        // What was skipped waits for something that failed, unless its rule lets that pass.
        let bad = self.count(Status::Failed) + self.count(Status::Edited);
        bad == 0 && self.failures.is_empty() && !self.interrupted
    }

    /// The exit status that this makes.
    pub fn exit(&self) -> u8 {
        if self.is_success() { 0 } else { 2 }
    }
}
