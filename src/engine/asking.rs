//! Requests, as jobs on a provider's pool: send, keep what came, split, check.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::collecting::judged;
use super::running::{Unfit, conclude};
use super::{Report, Shared};
use crate::batch::Batch;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::estimate;
use crate::event::Event;
use crate::graph::Unit;
use crate::llm::{self, Answer, Ask, Request, Shortfall, Split, Splitting, Unkept, Usage};
use crate::manifest::Api;
use crate::models::{Keep, Model, Price};
use crate::plan::bug;
use crate::provider::{Failure, FailureKind, Heard, Notice, Provider, Recording};
use crate::store::Store;
use crate::tokens;
use crate::wording;

/// A request to send.
pub(super) struct Job {
    pub shared: Arc<Shared>,
    pub batch: Batch,
    /// The action keys, slot by slot.
    pub keys: Vec<Digest>,
    pub asks: Vec<Ask>,
    pub provider: Arc<Provider>,
    pub name: String,
    /// What is known of the model.
    pub model: Model,
    /// For how long the provider is to keep what it begins with, and whether an earlier request of the run had that written.
    pub keeps_prefix: Option<(Keep, bool)>,
    /// Whether the next request goes on from all of this one.
    pub is_gone_on_from: bool,
    /// Whether its answer is recorded.
    pub is_recorded: bool,
    pub requests: Arc<AtomicUsize>,
}

/// A request that came back.
pub(super) struct Asked {
    pub batch: Batch,
    pub keeps_prefix: Option<(Keep, bool)>,
    /// What became of that otherwise than it should.
    pub unkept: Option<Unkept>,
    pub provider: String,
    /// Its number; none if it was not sent.
    pub request: Option<usize>,
    pub outcome: Result<Answered, Failed>,
    pub took: Duration,
}

/// An answer, taken apart.
pub(super) struct Answered {
    /// For each task a good result, one that fails a check, or nothing.
    pub results: Vec<Result<Checked, ()>>,
    /// Which results there are not, because what came for them is nearer to another, and to which.
    pub strays: Vec<(usize, usize)>,
    pub why: Option<Shortfall>,
    pub usage: Usage,
    /// What its tasks would have taken in a request each, as far as can be told.
    pub alone: Usage,
    /// The model that answered.
    pub model: String,
    /// What that costs, if it is known.
    pub price: Option<Price>,
    /// The tokens that were sent as they are counted here, and by what.
    pub sent: (&'static str, u64),
    /// The tokens of a prompt of which the provider counted so few that it may have read only a part of it.
    pub unread: Option<u64>,
    /// The provider's name for the request.
    pub id: Option<String>,
    /// What is to be written of it, if it is recorded.
    pub recording: Option<Recording>,
}

/// A complete result, filtered and checked; else what the model said, and what there is to say against it.
pub(super) type Checked = Result<Vec<Arc<[u8]>>, (Vec<String>, Unfit)>;

/// Why there is no answer.
pub(super) enum Failed {
    /// The run was interrupted before it was sent.
    NotSent,
    Request(Failure),
    Start(Error),
    Bug(Error),
}

/// Something that a request tells while it is under way.
pub(super) enum Told {
    Event(Box<Event>),
    /// With the first of its tasks; none before there are any.
    Notice {
        provider: String,
        request: usize,
        tasks: usize,
        first: Option<Unit>,
        notice: Notice,
    },
}

impl From<Told> for Event {
    fn from(told: Told) -> Event {
        match told {
            Told::Event(event) => *event,
            Told::Notice { provider, request, tasks, notice, .. } => match notice {
                Notice::Starting(command) => Event::Starting { provider, command },
                Notice::Said(line) => Event::StartSaid { provider, line },
                Notice::Ready(took) => Event::Started { provider, took },
                Notice::Waits(wait) => Event::WaitsForLimits { request, provider, wait },
                Notice::Retry(failure, after) => {
                    let was_sent = failure.kind != FailureKind::Unreachable;
                    let (is_uncounted, why) = (failure.may_have_cost(), words(&failure));
                    Event::Retrying { request, provider, tasks, was_sent, is_uncounted, after, why }
                }
            },
        }
    }
}

impl Job {
    pub fn run(self, send: &Sender<Report>) {
        let mut begun = Instant::now();
        let mut request = None;
        let sent = || self.ask(&mut request, &mut begun, send);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sent))
            .unwrap_or_else(|_| Err(Failed::Bug(bug("a request panicked"))));
        let marked = self.keeps_prefix.filter(|_| self.provider.marks_prefix()).zip(outcome.as_ref().ok());
        let unkept = marked.and_then(|((_, is_there), answered)| unkept(answered.usage, is_there));
        let Job { batch, name, keeps_prefix, .. } = self;
        let asked = Asked { batch, keeps_prefix, unkept, provider: name, request, outcome, took: begun.elapsed() };
        let _ = send.send(Report::Asked(Box::new(asked)));
    }

    fn ask(&self, number: &mut Option<usize>, begun: &mut Instant, send: &Sender<Report>) -> Result<Answered, Failed> {
        let tell = |told| drop(send.send(Report::Told(told)));
        let name = || self.name.clone();
        let up = |notice| tell(Told::Notice { provider: name(), request: 0, tasks: 0, first: None, notice });
        self.provider.bring_up(&up).map_err(Failed::Start)?;
        // What it took to bring the provider up is not the request's.
        *begun = Instant::now();
        let at = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        *number = Some(at);
        let asks: Vec<&Ask> = self.asks.iter().collect();
        let Job { keeps_prefix, model: Model { price, max_output: most_output, .. }, .. } = *self;
        let keep = keeps_prefix.map(|(keep, _)| keep);
        let pays_to_keep = self.model.pays_to_keep();
        let is_gone_on_from = self.is_gone_on_from;
        let request = Request { most_output, keeps_prefix: keep, is_gone_on_from, pays_to_keep, ..Request::new(&asks) };
        let paths = self.batch.tasks.iter().map(|task| self.shared.graph.name(*task).clone()).collect();
        let prefix = asks.first().map_or(0, |ask| tokens::estimate(ask.system()));
        let requested = Event::Requested {
            request: at,
            provider: name(),
            model: request.model.clone(),
            paths,
            tasks: asks.len(),
            prefix_saved: prefix * (asks.len() as u64).saturating_sub(1),
            context_saved: llm::context_saved(&asks),
            prefix,
            cache_minimum: self.model.cache.map(|cache| cache.minimum),
            price,
            again: self.batch.failures > 0,
        };
        tell(Told::Event(Box::new(requested)));
        let first = self.batch.tasks.first().copied();
        let notices = |notice| tell(Told::Notice { provider: name(), request: at, tasks: asks.len(), first, notice });
        let arrived = |task: usize| {
            let path = self.shared.graph.name(self.batch.tasks[task]).clone();
            tell(Told::Event(Box::new(Event::Arrived { path })));
        };
        let mut hearing = Hearing::new(&asks, &self.keys, &self.shared.store, &arrived);
        let mut settling = Settling::new(match keeps_prefix.is_some() && self.provider.marks_prefix() {
            true => SETTLES,
            false => Duration::ZERO,
        });
        let mut hear = |heard: Heard<'_>| {
            if matches!(heard, Heard::Text(_)) && settling.is_over(Instant::now()) {
                let _ = send.send(Report::Answering(self.batch.form(), keeps_prefix.is_some()));
            }
            hearing.hear(heard)
        };
        let sent = self.provider.send(&request, &mut hear, &notices);
        let answer = sent.map_err(|failure| match failure.kind {
            FailureKind::Cancelled => Failed::NotSent,
            _ => Failed::Request(failure),
        })?;
        let recording = self.is_recorded.then(|| self.provider.recording(&request, &answer));
        if matches!(recording, Some(None)) {
            let path = self.shared.graph.name(self.batch.tasks[0]).clone();
            let what = format!("the request for `{path}` holds the provider's key: it is not recorded");
            tell(Told::Event(Box::new(Event::Warned { path, what })));
        }
        let Split { results, strays, why } = hearing.end(&answer);
        let own = results.iter().flatten().flatten().map(String::len).sum::<usize>().min(answer.text.len());
        let results = self.batch.tasks.iter().zip(&self.asks).zip(results).map(|((task, ask), texts)| {
            let texts = texts.ok_or(())?;
            let contents = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
            let schema = ask.schema.as_deref();
            let concluded = match task.piece {
                None => conclude(&self.shared, task.task, schema, contents),
                Some(_) => judged(&self.shared, *task, schema, contents),
            };
            Ok(concluded.map_err(|unfit| (texts, unfit)))
        });
        let results = results.collect();
        let counter = self.shared.counter(self.batch.tasks[0]);
        let sent = (counter.name(), estimate::sent(&request, counter));
        let (usage, id) = (answer.usage, answer.request_id);
        let unread = estimate::unread(&request, usage.input);
        let alone = match asks.as_slice() {
            [_] => Usage { input: usage.input, output: usage.output, ..Usage::default() },
            // At the measure by which the provider counts what was sent, and by what of the answer is the tasks' own.
            _ => Usage {
                input: share(
                    usage.input,
                    asks.iter().map(|ask| estimate::sent(&Request::new(&[ask]), counter)).sum(),
                    sent.1,
                ),
                output: usage.reasoning
                    + share(usage.output.saturating_sub(usage.reasoning), own as u64, answer.text.len() as u64),
                ..Usage::default()
            },
        };
        let (model, recording) = (request.model, recording.flatten());
        Ok(Answered { results, strays, why, usage, alone, price, sent, unread, id, model, recording })
    }
}

/// As much of a number as one part is of another.
fn share(whole: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(part) / u128::from(of.max(1))).unwrap_or(whole)
}

/// How long a prefix that was marked takes from the first of its answer on until others surely find it. Of requests that
/// were sent at once two of five wrote it again, of those after two seconds none.
const SETTLES: Duration = Duration::from_secs(2);

/// Says once when an answer has gone on for so long, as pieces of it come. One that ends before is not waited for any longer.
struct Settling {
    takes: Duration,
    begun: Option<Instant>,
    is_said: bool,
}

impl Settling {
    fn new(takes: Duration) -> Settling {
        Settling { takes, begun: None, is_said: false }
    }

    /// A piece comes: whether it is the first after that time.
    fn is_over(&mut self, now: Instant) -> bool {
        let begun = *self.begun.get_or_insert(now);
        !self.is_said && now.duration_since(begun) >= self.takes && !std::mem::replace(&mut self.is_said, true)
    }
}

/// What became of a prefix that was to be kept, by what its request took, if that is not as it should be; `is_there` if it had been
/// written before.
fn unkept(usage: Usage, is_there: bool) -> Option<Unkept> {
    match (usage.cached, usage.cache_write) {
        // It was not counted.
        _ if usage.input == 0 => None,
        (0, 0) => Some(Unkept::Unheeded),
        (0, _) if is_there => Some(Unkept::Again),
        _ => None,
    }
}

/// An answer on its way. What is paid for is kept before anything else is done with it: of a batch each result as soon as it is
/// whole, so that a run that is killed and a connection that is cut lose only what was in flight. Where keeping fails, a result is
/// not given up: it may still get to its place, and if that fails, too, its task says why.
struct Hearing<'a> {
    asks: &'a [&'a Ask],
    keys: &'a [Digest],
    store: &'a Store,
    /// Told of each result that is kept before the answer is at its end.
    arrived: &'a dyn Fn(usize),
    splitting: Splitting<'a>,
    /// Whether a result has been kept.
    has_kept: bool,
}

impl<'a> Hearing<'a> {
    fn new(asks: &'a [&'a Ask], keys: &'a [Digest], store: &'a Store, arrived: &'a dyn Fn(usize)) -> Hearing<'a> {
        Hearing { asks, keys, store, arrived, splitting: Splitting::new(asks), has_kept: false }
    }

    fn hear(&mut self, heard: Heard<'_>) -> bool {
        let Hearing { asks, keys, store, arrived, splitting, has_kept } = self;
        match heard {
            Heard::Begins => *splitting = Splitting::new(asks),
            // What is a task's alone is whole at its end only.
            Heard::Text(_) if asks.len() == 1 => {}
            Heard::Text(text) => {
                let mut closed: Vec<(usize, Vec<String>)> = Vec::new();
                splitting.feed(text, &mut |task, texts| closed.push((task, texts.to_vec())));
                if !closed.is_empty() {
                    keep(store, keys, &closed);
                    *has_kept = true;
                    closed.iter().for_each(|(task, _)| arrived(*task));
                }
            }
        }
        self.has_kept
    }

    fn end(self, answer: &Answer) -> Split {
        let Hearing { asks, keys, store, splitting, .. } = self;
        let mut closed: Vec<(usize, Vec<String>)> = Vec::new();
        let split = match asks {
            [only] => {
                let (texts, why) = match llm::single(only, answer) {
                    Ok(texts) => (Some(texts), None),
                    Err(why) => (None, Some(why)),
                };
                closed.extend(texts.iter().map(|texts| (0, texts.clone())));
                Split { results: vec![texts], strays: Vec::new(), why }
            }
            _ => splitting.end(answer, &mut |task, texts| closed.push((task, texts.to_vec()))),
        };
        keep(store, keys, &closed);
        split
    }
}

/// Keeps results as they came. Where that fails they are not given up.
fn keep(store: &Store, keys: &[Digest], closed: &[(usize, Vec<String>)]) {
    let replies: Vec<(Digest, &[String])> = closed.iter().map(|(task, texts)| (keys[*task], &**texts)).collect();
    let _ = store.put_replies(&replies);
}

/// A failure in words: status, the provider's own words, the request's id.
pub(super) fn words(failure: &Failure) -> String {
    let status = failure.status.map(|status| format!("status {status}: ")).unwrap_or_default();
    let id = failure.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    format!("{status}{}{id}", failure.message)
}

/// A failed request as an error, with what to do about it.
pub(super) fn failure(shared: &Shared, task: Unit, failure: &Failure) -> Error {
    let graph = &shared.graph;
    let Ok(provider) = graph.manifest.provider_of(graph.rule(task)) else { return bug("a request without a provider") };
    let error = Error::new(Code::Provider, format!("provider `{}`: {}", provider.name, words(failure)));
    let hint = match (failure.kind, failure.status) {
        (FailureKind::Failed, _) if matches!(provider.api, Api::Replay(_)) => {
            "`--record DIR` records what a provider answers".to_owned()
        }
        (FailureKind::Refused, _) if matches!(provider.api, Api::Command(_)) => {
            format!("is it installed? `command` of provider `{}` is run by the shell, in the root", provider.name)
        }
        (FailureKind::Key, _) | (FailureKind::Refused, Some(401 | 403)) => match &provider.key_env {
            Some(name) => format!("check the key in `{name}`"),
            None => "the provider wants a key: name its variable with `key_env`".to_owned(),
        },
        (FailureKind::Refused, Some(404)) => {
            format!("check `base_url` ({}) and the model's name", provider.base_url)
        }
        (FailureKind::Refused, _) => {
            "the account cannot be charged, or has no quota left; see the provider's console".to_owned()
        }
        (FailureKind::Unreachable, _) => format!(
            "is it running at {}? `start: COMMAND` in provider `{}` would bring it up",
            provider.base_url, provider.name
        ),
        (FailureKind::Timeout, _) => {
            format!("raise `timeout` of provider `{}`, or lower `max_batch_size`", provider.name)
        }
        (FailureKind::Untrusted, _) => {
            "whose certificates are to be trusted, `SSL_CERT_FILE=FILE.pem` says, or the system's own".to_owned()
        }
        (FailureKind::Limited, _) if let Some(asked) = failure.asks_for_too_much_patience() => {
            format!("run again in {}: what has arrived is kept", humantime::format_duration(asked))
        }
        (FailureKind::Limited, _) => {
            format!("run again later, or lower `in_flight` of provider `{}`", provider.name)
        }
        (FailureKind::Cut | FailureKind::Server, _) => "run again: what has arrived is kept".to_owned(),
        (FailureKind::Rejected | FailureKind::Failed | FailureKind::Cancelled, _) => {
            "nothing was written for it".to_owned()
        }
    };
    error.hint(hint)
}

/// A result that did not come, as an error. `from` is the provider and, where it gave one, its name for the request.
pub(super) fn fell_short(shared: &Shared, task: Unit, why: &Shortfall, from: &Origin, alone: bool) -> Error {
    let rule = shared.graph.rule(task);
    let path = shared.graph.name(task);
    let usage = from.usage;
    let from = match &from.id {
        Some(id) => format!("provider `{}` (request {id})", from.provider),
        None => format!("provider `{}`", from.provider),
    };
    let cap = rule.params.get("max_output_tokens").map(|cap| format!(" ({cap})")).unwrap_or_default();
    let error = match why {
        Shortfall::Truncated => {
            let what = format!("the answer of {from} for `{path}` was cut at the limit of output tokens{cap}");
            match usage.reasoning > usage.output / 2 {
                true => {
                    let thought = format!("{} of {} tokens went into thinking", usage.reasoning, usage.output);
                    let hint = "raise `params: {max_output_tokens: …}`, or lower `reasoning_effort`";
                    Error::new(Code::Truncated, format!("{what}: {thought}")).hint(hint)
                }
                false => {
                    Error::new(Code::Truncated, what).hint("raise `params: {max_output_tokens: …}`, or ask for less")
                }
            }
        }
        Shortfall::Malformed(what) => {
            let what = format!("no usable answer of {from} for `{path}`: {what}");
            Error::new(Code::Malformed, what).hint("run again, or try another model")
        }
        Shortfall::Refused(_) => {
            let what = format!("no answer of {from} for `{path}`: {}", wording::shortfall(why));
            Error::new(Code::Refused, what).hint("look at what the prompt asks for")
        }
        Shortfall::Broken(what) => {
            let what = format!("the answer of {from} broke off before it came to `{path}`: {what}");
            Error::new(Code::Provider, what).hint("run again: what has arrived is kept")
        }
    };
    let error = error.in_rule(&rule.name);
    if alone { error } else { error.hint(NOT_AGAIN) }
}

/// Why what a request did not bring is not asked for again.
pub(super) const NOT_AGAIN: &str = "`fallback_on_failure: false` says not to ask again";

/// Where an answer came from.
pub(super) struct Origin {
    pub provider: String,
    pub id: Option<String>,
    /// What it took.
    pub usage: Usage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_after_a_while_and_said_once() {
        let begun = Instant::now();
        let after = |settling: &mut Settling, seconds: &[u64]| {
            let at = |seconds: &u64| settling.is_over(begun + Duration::from_secs(*seconds));
            seconds.iter().map(at).collect::<Vec<_>>()
        };
        assert_eq!(after(&mut Settling::new(SETTLES), &[5, 6, 7, 8]), [false, false, true, false]);
        assert_eq!(after(&mut Settling::new(Duration::ZERO), &[5, 5, 6]), [true, false, false]);
    }

    #[test]
    fn what_became_of_a_prefix_is_told_by_what_it_took() {
        let of = |input, cached, cache_write, is_there| {
            unkept(Usage { input, cached, cache_write, ..Usage::default() }, is_there)
        };
        assert_eq!([of(0, 0, 0, true), of(9, 0, 5, false), of(9, 5, 0, true), of(9, 5, 2, true)], [None; 4]);
        assert_eq!([of(9, 0, 0, false), of(9, 0, 0, true)], [Some(Unkept::Unheeded); 2]);
        assert_eq!(of(9, 0, 5, true), Some(Unkept::Again));
    }
}
