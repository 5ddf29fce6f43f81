//! Requests that are not waited for: put by while a run does all else that it can, then handed in to batch APIs.
//!
//! A round is noted before it is handed in, and what the provider calls it as soon as it has said so. A run that is killed in
//! between leaves a round of which nobody knows whether the provider has it: the next asks the provider before anything is handed
//! in again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::Run;
use super::asking::words;
use super::shares::Cost;
use crate::batch::Batch;
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error};
use crate::estimate;
use crate::event::{Event, Status};
use crate::graph::{TaskId, Unit};
use crate::llm::{self, Ask, Complaint, Request, Usage};
use crate::models::{Model, Price};
use crate::plan::End;
use crate::provider::{Entry, Failure, FailureKind, Provider};
use crate::rounds::{Posted, Round, Wanted};
use crate::store::Store;
use crate::tokens;

/// Which requests a run sends, and how.
#[derive(Debug, Clone, PartialEq)]
pub enum Asking {
    /// All that are needed; their answers are waited for.
    Now,
    /// All that are needed, when nothing else is left to do, through batch APIs: their answers are not waited for.
    Later,
    /// After rounds for these action keys were fetched, and what each took: none, or only what they brought no good result for.
    Fetched(Arc<HashMap<Digest, (Usage, Cost)>>, Retry),
}

impl Asking {
    /// What a fetched result took.
    pub(super) fn took(&self, key: &Digest) -> (Usage, Cost) {
        match self {
            Asking::Fetched(keys, _) => keys.get(key).copied().unwrap_or_default(),
            Asking::Now | Asking::Later => Default::default(),
        }
    }
}

/// Whether what a round brought no good result for is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is.
    Yes,
    /// It fails.
    No,
}

/// What to do about a result that a round did not bring.
const ASK_AGAIN: &str = "`genmake` asks for it at once, `genmake submit` with the next round";

/// Whether a task may ask.
pub(super) enum May {
    Ask,
    /// It is left for another round.
    Leave,
    Not(Box<Error>),
}

/// A request that is to be handed in.
pub(super) struct PutBy {
    tasks: Vec<Unit>,
    provider: String,
    entry: Entry,
    posted: Posted,
    price: Option<Price>,
    /// What it will cost, in USD.
    cost: Option<f64>,
}

impl Run<'_> {
    /// Whether a task may ask for what an action key stands for.
    pub(super) fn may_ask(&self, task: Unit, key: &Digest) -> May {
        let name = self.shared.graph.name(task);
        let submitted = match self.shared.store.submitted() {
            Ok(submitted) => submitted,
            Err(error) => return May::Not(Box::new(error)),
        };
        match (&self.options.asking, submitted.contains(key)) {
            (Asking::Now, true) => {
                let what = format!("the result for `{name}` was asked for by `genmake submit`, and is on its way");
                let error = Error::new(Code::Submitted, what);
                May::Not(Box::new(error.hint("`genmake collect` fetches it; with `--cancel` it is given up")))
            }
            (_, true) => May::Leave,
            (Asking::Now | Asking::Later, false) => May::Ask,
            (Asking::Fetched(keys, _), false) if !keys.contains_key(key) => May::Leave,
            (Asking::Fetched(_, Retry::Yes), false) => May::Ask,
            (Asking::Fetched(_, Retry::No), false) => {
                let error = Error::new(Code::NoResult, format!("the round brought no good result for `{name}`"));
                May::Not(Box::new(error.hint(ASK_AGAIN)))
            }
        }
    }

    /// A task whose result, if there was one, did not pass: if a round brought it and nothing is asked for again, that is said.
    pub(super) fn needs_model_after(&mut self, task: TaskId, complaint: Option<Complaint>) {
        let key = self.underway.get(&task.into()).and_then(|underway| underway.key);
        match (&self.options.asking, key, complaint) {
            (Asking::Fetched(keys, Retry::No), Some(key), Some(complaint)) if keys.contains_key(&key) => {
                let error = Error::new(Code::CheckFailed, complaint.words());
                let error = error.in_rule(&self.shared.graph.rule(task).name).hint(ASK_AGAIN);
                self.fail(task, Status::Failed, error);
            }
            _ => self.needs_model(task.into()),
        }
    }

    /// A task that waits for another round; nothing for one that ended, as with a piece before this.
    pub(super) fn leave(&mut self, task: TaskId) {
        if self.schedule.end_of(task).is_some() {
            return;
        }
        (self.emit)(Event::Unasked { path: self.shared.graph.name(task).clone() });
        self.schedule.ended(task, End::Skipped);
    }

    /// Puts a request by, for the end.
    pub(super) fn put_by(&mut self, batch: Batch) {
        let form = batch.form();
        let name = match self.provider(&batch) {
            Ok((name, _)) => name,
            Err(error) => return self.none_for(batch, &error),
        };
        if let Some((batch, asks)) = self.admitted(batch) {
            match self.posted(&batch, &asks) {
                Ok((entry, posted, model, cost)) => {
                    let price = model.price.map(Price::of_batches);
                    self.put_by.push(PutBy { tasks: batch.tasks.clone(), provider: name, entry, posted, price, cost });
                    self.schedule.returned(form);
                    self.skip_units(&batch.tasks);
                }
                Err(error) => return self.none_for(batch, &error),
            }
        }
        self.schedule.is_answering(form);
    }

    fn none_for(&mut self, batch: Batch, error: &Error) {
        self.schedule.returned(batch.form());
        for task in batch.tasks {
            let error = error.clone().in_rule(&self.shared.graph.rule(task).name);
            self.fail_unit(task, error);
        }
    }

    /// A request as it is handed in, what is noted of it, its model, and what it will cost.
    fn posted(&self, batch: &Batch, asks: &[Ask]) -> Result<(Entry, Posted, Model, Option<f64>), Error> {
        let asks: Vec<&Ask> = asks.iter().collect();
        let mut estimate = self.shared.estimate(&batch.tasks, &asks)?;
        estimate.model.price = estimate.model.price.map(Price::of_batches);
        let model = self.shared.model(batch.tasks[0], &asks[0].model)?;
        let (most_output, pays_to_keep) = (model.max_output, model.pays_to_keep());
        let request = Request { most_output, pays_to_keep, ..Request::new(&asks) };
        let key = |task: &Unit| self.underway.get(task).and_then(|underway| underway.key);
        let keys: Vec<Digest> = batch.tasks.iter().filter_map(key).collect();
        let id = match keys.as_slice() {
            [only] => only.to_string(),
            several => several
                .iter()
                .fold(Framed::new("round"), |framed, key| framed.field(key.to_string()))
                .finish()
                .to_string(),
        };
        let wanted = batch.tasks.iter().zip(&asks).zip(&keys).map(|((task, ask), key)| Wanted {
            key: *key,
            rule: self.shared.graph.rule(*task).name.clone(),
            outputs: ask.outputs.iter().map(|output| (output.name.clone(), output.path.to_string())).collect(),
            user: ask.messages.last().map(|message| message.text.clone()).unwrap_or_default(),
            schema: ask.schema.as_ref().map(|schema| schema.value().clone()),
            piece: ask.piece.as_deref().map(str::to_owned),
        });
        let counter = self.shared.counter(batch.tasks[0]);
        let prefix = tokens::estimate(asks[0].system());
        let posted = Posted {
            id: id.clone(),
            counter: counter.name().to_owned(),
            tokens: estimate::sent(&request, counter),
            prefix_saved: prefix * (asks.len() as u64).saturating_sub(1),
            context_saved: llm::context_saved(&asks),
            tasks: wanted.collect(),
        };
        Ok((Entry { id, request }, posted, model, estimate.cost()))
    }

    /// Hands in what was put by, for each provider and model what fits into a round: the tasks that this is for.
    pub(super) fn hand_in(&mut self) -> HashSet<TaskId> {
        let mut done = HashSet::new();
        let mut groups: BTreeMap<(String, String), Vec<PutBy>> = BTreeMap::new();
        for put_by in std::mem::take(&mut self.put_by) {
            let of = (put_by.provider.clone(), put_by.entry.request.model.clone());
            groups.entry(of).or_default().push(put_by);
        }
        for ((name, model), mut put_by) in groups {
            let provider = self.providers.get(&name).and_then(|pooled| pooled.provider.clone().ok());
            let Some(provider) = provider else { continue };
            let entries: Vec<Entry> = put_by.iter().map(|put_by| put_by.entry.clone()).collect();
            let begins = match provider.parcels(&entries) {
                Ok(begins) => begins,
                Err(failure) => {
                    (self.emit)(Event::Failed(not_submitted(&name, &failure)));
                    continue;
                }
            };
            for begin in begins.into_iter().rev() {
                let parcel = put_by.split_off(begin);
                if self.interrupted.is_some() || self.options.cancel.is_cancelled() {
                    return done;
                }
                let tasks: Vec<TaskId> = parcel.iter().flat_map(|put_by| &put_by.tasks).map(|unit| unit.task).collect();
                let at = self.shared.graph.manifest.providers.get(&name).map(|declared| declared.base_url.clone());
                let round = self.round(&name, at.unwrap_or_default(), &model, &parcel);
                let submitted = submit(&self.shared.store, &provider, round, parcel);
                if submitted.is_ok() {
                    done.extend(tasks);
                }
                (self.emit)(submitted.unwrap_or_else(Event::Failed));
            }
        }
        done
    }

    /// What is noted of requests that are about to be handed in.
    fn round(&self, provider: &str, at: String, model: &str, parcel: &[PutBy]) -> Round {
        let begun = SystemTime::now();
        let requests: Vec<Posted> = parcel.iter().map(|put_by| put_by.posted.clone()).collect();
        Round {
            name: round_name(&requests, begun),
            provider: provider.to_owned(),
            at,
            lock: self.shared.lock_name.clone(),
            model: model.to_owned(),
            id: None,
            is_likely: false,
            not: Vec::new(),
            begun: seconds(begun),
            price: parcel.first().and_then(|put_by| put_by.price),
            requests,
        }
    }
}

/// Hands one round in.
fn submit(store: &Store, provider: &Provider, mut round: Round, parcel: Vec<PutBy>) -> Result<Event, Error> {
    let cost = parcel.iter().map(|put_by| put_by.cost).sum::<Option<f64>>();
    let entries: Vec<Entry> = parcel.into_iter().map(|put_by| put_by.entry).collect();
    store.put_round(&round)?;
    match provider.submit(&round.name, &entries) {
        Ok(id) => round.id = Some(id),
        Err(failure) => {
            // What was surely not taken is forgotten; of what may have been the next run asks.
            if !may_be_there(&failure) {
                store.forget_round(&round)?;
            }
            return Err(not_submitted(&round.provider, &failure));
        }
    }
    store.put_round(&round)?;
    let (requests, tasks) = (round.requests.len(), round.tasks());
    Ok(Event::Submitted { provider: round.provider, id: round.id.unwrap_or_default(), requests, tasks, cost })
}

/// A name that no other round has.
fn round_name(requests: &[Posted], begun: SystemTime) -> String {
    let since = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let framed = Framed::new("round").field(format!("{since:?} {}", std::process::id()));
    requests.iter().fold(framed, |framed, posted| framed.field(&posted.id)).finish().to_string()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether the provider may have taken a round although it did not say so.
fn may_be_there(failure: &Failure) -> bool {
    failure.may_have_cost() || matches!(failure.kind, FailureKind::Server | FailureKind::Cancelled)
}

fn not_submitted(provider: &str, failure: &Failure) -> Error {
    let error = Error::new(Code::Provider, format!("provider `{provider}`: nothing was submitted: {}", words(failure)));
    error.hint(match (failure.kind, failure.status) {
        _ if may_be_there(failure) => {
            "whether it came to the provider is not known: run `genmake submit` again, which asks first"
        }
        (FailureKind::Refused, None) => "`genmake` asks it without; OpenAI, Anthropic and Gemini have one",
        (FailureKind::Refused, Some(404)) => "does it have a batch API? `genmake` asks it without",
        (FailureKind::Key, _) | (FailureKind::Refused, Some(401 | 403)) => "check the key",
        (FailureKind::Refused, _) => "the account cannot be charged, or has no quota left; see the provider's console",
        _ => "run `genmake submit` again; `genmake` asks at once",
    })
}
