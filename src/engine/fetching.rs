//! Fetches what rounds brought: into the store first, then forgotten. A run after that puts it in its place.
//!
//! What is fetched twice because a run was killed in between is the same once more: it is stored under the same keys.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::answers::shares;
use super::asking::words;
use super::rounds::{Means, Retry, find, unasked};
use super::{Asking, Options};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::graph::Output;
use crate::ledger::Ledger;
use crate::llm::{self, Ask, Split, Splitting, Usage};
use crate::manifest::Manifest;
use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::provider::{Provider, Returned, Standing};
use crate::rounds::{Posted, Round};
use crate::schema::Schema;
use crate::store::{self, Store};
use crate::wording;

/// What fetching came to.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The action keys of the rounds that were fetched.
    keys: HashSet<Digest>,
    /// How many rounds have not come back.
    pub pending: usize,
}

impl Fetched {
    /// What a run after it may ask for: what these rounds brought no good result for, with `retry`, and nothing else.
    pub fn asking(self, retry: bool) -> Asking {
        Asking::Fetched(Arc::new(self.keys), if retry { Retry::Yes } else { Retry::No })
    }
}

/// What is done about rounds that have not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// They are left.
    None,
    /// They are waited for, and asked about so often.
    Every(Duration),
    /// Their providers are asked to stop them.
    Cancel,
}

/// Finds out of rounds that a run was killed over whether their providers have them: what is noted of each is brought to that.
///
/// # Errors
/// A round cannot be read, or its provider not be asked.
pub fn find_rounds(root: &Path, manifest: &Manifest, store: &Store, options: &Options) -> Result<(), Error> {
    let Options { env, trusted_hosts, cancel, .. } = options;
    find(store, &Means { manifest, root, env, trusted_hosts, cancel })
}

/// Fetches what has come back of all rounds.
///
/// # Errors
/// A round cannot be read, its provider not be asked, or a result not be stored; all that was stored before that is.
pub fn fetch(
    root: &Path,
    manifest: &Manifest,
    store: &Store,
    options: &Options,
    patience: Patience,
    emit: &mut dyn FnMut(Event),
) -> Result<Fetched, Error> {
    let Options { env, trusted_hosts, cancel, .. } = options;
    let means = Means { manifest, root, env, trusted_hosts, cancel };
    if options.offline && !store.rounds()?.is_empty() {
        let error = Error::new(Code::Offline, "what was submitted can only be fetched over the network");
        return Err(error.hint("run without `--offline`"));
    }
    let mut fetching = Fetching { root, store, fetched: Fetched::default(), ledger: None, requests: 0, emit };
    let mut said: HashMap<String, Option<u64>> = HashMap::new();
    let mut providers: HashMap<String, Provider> = HashMap::new();
    let mut is_cancelled = false;
    loop {
        find(store, &means)?;
        let rounds = store.rounds()?;
        fetching.fetched.pending = 0;
        for round in &rounds {
            let Some(id) = &round.id else { continue };
            if !providers.contains_key(&round.provider) {
                providers.insert(round.provider.clone(), means.provider(round)?);
            }
            let provider = &providers[&round.provider];
            if patience == Patience::Cancel && !is_cancelled {
                provider.cancel_round(id).map_err(|failure| unasked(round, &failure))?;
            }
            match provider.standing(id).map_err(|failure| unasked(round, &failure))? {
                Standing::Ended => fetching.fetch(provider, round, id)?,
                Standing::Gone(why) => fetching.is_gone(round, id, &why)?,
                Standing::Working(done) => {
                    fetching.fetched.pending += 1;
                    if said.insert(id.clone(), done) != Some(done) {
                        let (provider, requests) = (round.provider.clone(), round.requests.len());
                        (fetching.emit)(Event::Pending { provider, id: id.clone(), requests, done });
                    }
                }
            }
        }
        is_cancelled = true;
        // One that turned out to be another's is looked for again.
        let is_lost = store.rounds()?.iter().any(|round| round.id.is_none());
        match patience {
            _ if is_lost => {}
            Patience::Every(time) if fetching.fetched.pending > 0 && !cancel.is_cancelled() => drop(cancel.wait(time)),
            _ => return Ok(fetching.fetched),
        }
    }
}

struct Fetching<'a> {
    root: &'a Path,
    store: &'a Store,
    fetched: Fetched,
    ledger: Option<Ledger>,
    requests: usize,
    emit: &'a mut dyn FnMut(Event),
}

impl Fetching<'_> {
    /// Stores what a round brought, then forgets it.
    fn fetch(&mut self, provider: &Provider, round: &Round, id: &str) -> Result<(), Error> {
        let returned = match provider.fetch(id) {
            // Results are kept for some weeks, and no later question finds them again.
            Err(failure) if matches!(failure.status, Some(404 | 410)) => {
                return self.is_gone(round, id, &failure.message);
            }
            returned => returned.map_err(|failure| unasked(round, &failure))?,
        };
        let mut by_id: HashMap<&str, &Returned> = returned.iter().map(|one| (one.id.as_str(), one)).collect();
        // Of a round that was found by its looks, its requests' names say in the end whose it is.
        if !returned.is_empty() && !round.requests.iter().any(|posted| by_id.contains_key(posted.id.as_str())) {
            let not = round.not.iter().cloned().chain([id.to_owned()]).collect();
            return self.store.put_round(&Round { id: None, not, ..round.clone() });
        }
        let (mut results, mut replies) = (0, Vec::new());
        let mut events = Vec::new();
        for posted in &round.requests {
            let came = by_id.remove(posted.id.as_str());
            self.requests += 1;
            let (mut good, mut of_request) = self.take(round, posted, came, self.requests);
            results += good.len();
            replies.append(&mut good);
            events.append(&mut of_request);
        }
        let kept: Vec<(Digest, &[String])> = replies.iter().map(|(key, texts)| (*key, texts.as_slice())).collect();
        store::make_folder(self.root)?;
        self.store.put_replies(&kept)?;
        // Only now: what is stored is not fetched again.
        self.store.forget_round(round)?;
        events.into_iter().for_each(&mut *self.emit);
        if let Some(ledger) = &self.ledger {
            // Without it estimates are rougher: no reason to fail.
            let _ = store::write_ledger(&self.root.join(store::FOLDER), ledger);
        }
        self.fetched.keys.extend(round.keys());
        let missing = round.tasks() - results;
        (self.emit)(Event::Fetched { provider: round.provider.clone(), id: id.to_owned(), results, missing });
        Ok(())
    }

    /// What one request brought: results by action key, and what is to be said of it.
    fn take(
        &mut self,
        round: &Round,
        posted: &Posted,
        came: Option<&Returned>,
        request: usize,
    ) -> (Vec<(Digest, Vec<String>)>, Vec<Event>) {
        let paths: Vec<RelPath> =
            posted.tasks.iter().filter_map(|task| RelPath::new(&task.outputs.first()?.1).ok()).collect();
        let asks: Vec<Ask> = posted.tasks.iter().map(|task| ask(round, task)).collect();
        let asks: Vec<&Ask> = asks.iter().collect();
        let tasks = asks.len();
        let provider = round.provider.clone();
        let mut events = vec![Event::Requested {
            request,
            provider: provider.clone(),
            paths: paths.clone(),
            tasks,
            prefix_saved: posted.prefix_saved,
            context_saved: posted.context_saved,
            price: round.price,
            again: false,
        }];
        let answer = match came.map(|came| &came.outcome) {
            Some(Ok(answer)) => answer,
            other => {
                let why = match other {
                    Some(Err(failure)) => words(failure),
                    _ => "the provider's results have nothing for it".to_owned(),
                };
                events.push(Event::RequestFailed { request, is_uncounted: false, took: Duration::ZERO });
                events.extend(warning(&paths, &why));
                return (Vec::new(), events);
            }
        };
        let split = match asks.as_slice() {
            [only] => match llm::single(only, answer) {
                Ok(texts) => Split { results: vec![Some(texts)], strays: Vec::new(), why: None },
                Err(why) => Split { results: vec![None], strays: Vec::new(), why: Some(why) },
            },
            _ => {
                let mut splitting = Splitting::new(&asks);
                splitting.feed(&answer.text, &mut |_, _| {});
                splitting.end(answer, &mut |_, _| {})
            }
        };
        let lengths = split.results.iter().map(|texts| texts.iter().flatten().map(|text| text.len() as u64).sum());
        let shares = shares(answer.usage, &lengths.collect::<Vec<u64>>());
        let ledger = self.ledger.get_or_insert_with(|| store::read_ledger(&self.root.join(store::FOLDER)));
        ledger.note_prompt(&round.model, &posted.counter, posted.tokens, answer.usage.input);
        let (mut good, mut missing) = (Vec::new(), Vec::new());
        let mut alone = Usage { input: answer.usage.input + posted.prefix_saved, ..Usage::default() };
        for (at, (texts, wanted)) in split.results.into_iter().zip(&posted.tasks).enumerate() {
            match texts {
                Some(texts) => {
                    let own = if tasks > 1 { llm::unframed(shares[at].output) } else { shares[at].output };
                    alone.output += own;
                    ledger.note_result(&wanted.rule, shares[at].input, own);
                    good.push((wanted.key, texts));
                }
                None => missing.extend(paths.get(at).cloned()),
            }
        }
        let (usage, price, count) = (answer.usage, round.price, good.len());
        events.push(Event::Answered {
            request,
            provider,
            tasks,
            good: count,
            usage,
            alone,
            price,
            took: Duration::ZERO,
        });
        for (at, other) in split.strays {
            let (path, other) = (paths[at].clone(), paths[other].clone());
            missing.retain(|missing| *missing != path);
            events.push(Event::Strayed { path, other, again: false });
        }
        if let (Some(why), false) = (split.why, missing.is_empty()) {
            events.extend(warning(&missing, &wording::shortfall(&why)));
        }
        (good, events)
    }

    /// A round of which nothing will come: it is forgotten, and what it was for is stale again.
    fn is_gone(&mut self, round: &Round, id: &str, why: &str) -> Result<(), Error> {
        self.store.forget_round(round)?;
        self.fetched.keys.extend(round.keys());
        let what = format!("provider `{}`: nothing came of `{id}`: {why}", round.provider);
        let error = Error::new(Code::NoResult, what);
        (self.emit)(Event::Failed(error.hint("`genmake submit` hands it in again, `genmake` asks for it at once")));
        Ok(())
    }
}

/// That a request did not bring these, and why.
fn warning(missing: &[RelPath], why: &str) -> Option<Event> {
    let names: Vec<&str> = missing.iter().map(RelPath::as_str).collect();
    let what = format!("no result for {}: {why}", names.join(", "));
    missing.first().map(|path| Event::Warned { path: path.clone(), what })
}

/// What a task asked for, as far as it takes to read its result.
fn ask(round: &Round, task: &crate::rounds::Wanted) -> Ask {
    let output =
        |(name, path): &(Option<String>, String)| Some(Output { name: name.clone(), path: RelPath::new(path).ok()? });
    Ask {
        outputs: task.outputs.iter().filter_map(output).collect(),
        messages: vec![Message { role: Role::User, text: task.user.clone() }],
        model: round.model.clone(),
        params: serde_json::Map::new(),
        schema: task.schema.clone().and_then(|schema| Schema::new(schema).ok()).map(Arc::new),
        context: None,
    }
}
