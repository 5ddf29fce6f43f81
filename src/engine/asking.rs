//! Requests, as jobs on a provider's pool: send, keep what came, split, check.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::running::{Unfit, conclude};
use super::{Report, Shared};
use crate::batch::Batch;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::estimate;
use crate::event::Event;
use crate::graph::TaskId;
use crate::llm::{self, Ask, Request, Shortfall, Usage};
use crate::models::Price;
use crate::plan::bug;
use crate::provider::{Failure, FailureKind, Notice, Provider};
use crate::tokens::{self, Counter};
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
    /// What it costs, if that is known.
    pub price: Option<Price>,
    pub requests: Arc<AtomicUsize>,
}

/// A request that came back.
pub(super) struct Asked {
    pub batch: Batch,
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
    pub why: Option<Shortfall>,
    pub usage: Usage,
    /// The model that answered.
    pub model: String,
    /// What that costs, if it is known.
    pub price: Option<Price>,
    /// The tokens that were sent as they are counted here, and by what.
    pub sent: (&'static str, u64),
    /// The provider's name for the request.
    pub id: Option<String>,
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
    Notice { provider: String, request: usize, notice: Notice },
}

impl From<Told> for Event {
    fn from(told: Told) -> Event {
        match told {
            Told::Event(event) => *event,
            Told::Notice { provider, request, notice } => match notice {
                Notice::Starting(command) => Event::Starting { provider, command },
                Notice::Said(line) => Event::StartSaid { provider, line },
                Notice::Ready(took) => Event::Started { provider, took },
                Notice::Retry(failure, after) => Event::Retrying { request, after, why: words(&failure) },
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
        let Job { batch, name, .. } = self;
        let asked = Asked { batch, provider: name, request, outcome, took: begun.elapsed() };
        let _ = send.send(Report::Asked(Box::new(asked)));
    }

    fn ask(&self, number: &mut Option<usize>, begun: &mut Instant, send: &Sender<Report>) -> Result<Answered, Failed> {
        let tell = |told| drop(send.send(Report::Told(told)));
        let name = || self.name.clone();
        let up = |notice| tell(Told::Notice { provider: name(), request: 0, notice });
        self.provider.bring_up(&up).map_err(Failed::Start)?;
        // What it took to bring the provider up is not the request's.
        *begun = Instant::now();
        let at = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        *number = Some(at);
        let asks: Vec<&Ask> = self.asks.iter().collect();
        let request = Request::new(&asks);
        let paths = self.batch.tasks.iter().map(|task| self.shared.graph.name(*task).clone()).collect();
        let prefix = asks.first().map_or(0, |ask| tokens::estimate(ask.system()));
        let requested = Event::Requested {
            request: at,
            provider: name(),
            paths,
            tasks: asks.len(),
            prefix_saved: prefix * (asks.len() as u64).saturating_sub(1),
            context_saved: llm::context_saved(&asks),
            price: self.price,
            again: self.batch.failures > 0,
        };
        tell(Told::Event(Box::new(requested)));
        let notices = |notice| tell(Told::Notice { provider: name(), request: at, notice });
        let answer = self.provider.send(&request, &notices).map_err(|failure| match failure.kind {
            FailureKind::Cancelled => Failed::NotSent,
            _ => Failed::Request(failure),
        })?;
        let (results, why) = match asks[..] {
            [only] => match llm::single(only, &answer) {
                Ok(texts) => (vec![Some(texts)], None),
                Err(why) => (vec![None], Some(why)),
            },
            _ => {
                let split = llm::split(&asks, &answer);
                (split.results, split.why)
            }
        };
        // What is paid for is kept before anything else is done with it. Where that fails it is not given up: it may still get
        // to its place, and if that fails, too, its task says why.
        for (key, texts) in self.keys.iter().zip(&results) {
            if let Some(texts) = texts {
                let _ = self.shared.store.put_reply(key, texts);
            }
        }
        let results = self.batch.tasks.iter().zip(&self.asks).zip(results).map(|((task, ask), texts)| {
            let texts = texts.ok_or(())?;
            let contents = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
            let schema = ask.schema.as_deref();
            Ok(conclude(&self.shared, *task, schema, contents).map_err(|unfit| (texts, unfit)))
        });
        let results = results.collect();
        let counter = if self.provider.is_local() { Counter::Length } else { Counter::Words };
        let sent = (counter.name(), estimate::sent(&request, counter));
        let (usage, price, id) = (answer.usage, self.price, answer.request_id);
        Ok(Answered { results, why, usage, price, sent, id, model: request.model })
    }
}

/// A failure in words: status, the provider's own words, the request's id.
fn words(failure: &Failure) -> String {
    let status = failure.status.map(|status| format!("status {status}: ")).unwrap_or_default();
    let id = failure.request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
    format!("{status}{}{id}", failure.message)
}

/// A failed request as an error, with what to do about it.
pub(super) fn failure(shared: &Shared, task: TaskId, failure: &Failure) -> Error {
    let graph = &shared.graph;
    let Ok(provider) = graph.manifest.provider_of(graph.rule(task)) else { return bug("a request without a provider") };
    let error = Error::new(Code::Provider, format!("provider `{}`: {}", provider.name, words(failure)));
    let hint = match (failure.kind, failure.status) {
        (FailureKind::Refused, Some(401 | 403)) => match &provider.key_env {
            Some(name) => format!("check the key in `{name}`"),
            None => "the provider wants a key: name its variable with `key_env`".to_owned(),
        },
        (FailureKind::Refused, Some(404)) => {
            format!("check `base_url` ({}) and the model's name", provider.base_url)
        }
        (FailureKind::Refused, _) => "the account cannot be charged; see the provider's console".to_owned(),
        (FailureKind::Unreachable, _) => format!(
            "is it running at {}? `start: COMMAND` in provider `{}` would bring it up",
            provider.base_url, provider.name
        ),
        (FailureKind::Timeout, _) => {
            format!("raise `timeout` of provider `{}`, or lower `max_batch_size`", provider.name)
        }
        (FailureKind::Limited, _) => {
            format!("run again later, or lower `in_flight` of provider `{}`", provider.name)
        }
        (FailureKind::Cut | FailureKind::Server, _) => "run again: what has arrived is kept".to_owned(),
        (FailureKind::Rejected | FailureKind::Cancelled, _) => "nothing was written for it".to_owned(),
    };
    error.hint(hint)
}

/// A result that did not come, as an error. `from` is the provider and, where it gave one, its name for the request.
pub(super) fn fell_short(shared: &Shared, task: TaskId, why: &Shortfall, from: &Origin, alone: bool) -> Error {
    let rule = shared.graph.rule(task);
    let path = shared.graph.name(task);
    let from = match &from.id {
        Some(id) => format!("provider `{}` (request {id})", from.provider),
        None => format!("provider `{}`", from.provider),
    };
    let cap = rule.params.get("max_output_tokens").map(|cap| format!(" ({cap})")).unwrap_or_default();
    let error = match why {
        Shortfall::Truncated => {
            let what = format!("the answer of {from} for `{path}` was cut at the limit of output tokens{cap}");
            Error::new(Code::Truncated, what).hint("raise `params: {max_output_tokens: …}`, or ask for less")
        }
        Shortfall::Malformed(what) => {
            let what = format!("no usable answer of {from} for `{path}`: {what}");
            Error::new(Code::Malformed, what).hint("run again, or try another model")
        }
        Shortfall::Refused(_) => {
            let what = format!("no answer of {from} for `{path}`: {}", wording::shortfall(why));
            Error::new(Code::Refused, what).hint("look at what the prompt asks for")
        }
    };
    let error = error.in_rule(&rule.name);
    if alone { error } else { error.hint("`fallback_on_failure: false` says not to ask again") }
}

/// Where an answer came from.
pub(super) struct Origin {
    pub provider: String,
    pub id: Option<String>,
}
