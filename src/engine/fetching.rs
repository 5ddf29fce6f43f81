//! Fetches what rounds brought: into the store first, then forgotten. A run after that puts it in its place.
//!
//! What is fetched twice because a run was killed in between is the same once more: it is stored under the same keys.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::asking::words;
use super::rounds::Retry;
use super::shares::{Cost, costs, shares};
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
use crate::provider::{Failure, FailureKind, Provider, Returned, Sought, Standing};
use crate::rounds::{Posted, Round};
use crate::schema::Schema;
use crate::shell::Shell;
use crate::store::{self, Store};
use crate::wording;

/// What fetching came to.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The action keys of the rounds that were fetched, and what each took of them.
    keys: HashMap<Digest, (Usage, Cost)>,
    /// How many rounds have not come back.
    pub pending: usize,
}

impl Fetched {
    /// Both, one after the other.
    #[must_use]
    pub fn and(mut self, later: Fetched) -> Fetched {
        self.keys.extend(later.keys);
        Fetched { keys: self.keys, pending: later.pending }
    }

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
    /// They will be asked about again: what passes by itself is no failure.
    More,
    /// Their providers are asked to stop them; what nobody can be asked about is given up.
    Cancel,
}

/// Rounds, and how they are spoken of with their providers.
pub struct Rounds<'a> {
    /// The folder of the Genfile.
    pub root: &'a Path,
    /// The lock's file name: rounds of other Genfiles are left alone.
    pub lock: &'a str,
    /// The Genfile.
    pub manifest: &'a Manifest,
    /// Where they are noted.
    pub store: &'a Store,
    /// Keys, and who may have them.
    pub options: &'a Options,
}

impl Rounds<'_> {
    fn noted(&self) -> Result<Vec<Round>, Error> {
        let mut rounds = self.store.rounds()?;
        rounds.retain(|round| round.lock == self.lock);
        Ok(rounds)
    }

    /// Finds out of rounds that a run was killed over whether their providers have them, and says which are under way.
    ///
    /// # Errors
    /// They cannot be read. What goes wrong with one is told, and stops nothing: it is asked for by nobody else.
    pub fn find(&self, emit: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let mut fetching = Fetching::new(self, emit);
        for round in self.noted()? {
            match fetching.found(&round) {
                Ok(Some((_, round))) => fetching.is_pending(&round, None),
                Ok(None) => {}
                Err(error) => (fetching.emit)(Event::Failed(error)),
            }
        }
        Ok(())
    }

    /// Fetches what has come back, into the store.
    ///
    /// # Errors
    /// Rounds cannot be read, or there is no network. What goes wrong with one is told, and stops nothing.
    pub fn fetch(&self, patience: Patience, emit: &mut dyn FnMut(Event)) -> Result<Fetched, Error> {
        let rounds = self.noted()?;
        if self.options.offline && !rounds.is_empty() {
            let error = Error::new(Code::Offline, "what was submitted can only be fetched over the network");
            return Err(error.hint("run without `--offline`"));
        }
        let mut fetching = Fetching::new(self, emit);
        for round in &rounds {
            if self.options.cancel.is_cancelled() {
                fetching.fetched.pending += 1;
                continue;
            }
            match fetching.attend(round, patience) {
                Ok(()) => {}
                Err(Trouble { is_passing, error }) => {
                    fetching.fetched.pending += usize::from(is_passing);
                    (fetching.emit)(match is_passing && patience == Patience::More {
                        true => Event::Unreached { error },
                        false => Event::Failed(error),
                    });
                }
            }
        }
        Ok(fetching.fetched)
    }
}

/// Why a round could not be attended to.
struct Trouble {
    error: Error,
    /// Whether it may be otherwise the next time.
    is_passing: bool,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble { error, is_passing: false }
    }
}

impl Trouble {
    /// A provider that could not be asked about a round.
    fn of(round: &Round, failure: &Failure) -> Trouble {
        use FailureKind::{Cancelled, Cut, Limited, Server, Timeout, Unreachable};
        let (provider, words) = (&round.provider, words(failure));
        let what = format!("provider `{provider}` cannot be asked about what was submitted to it: {words}");
        let error = Error::new(Code::Provider, what);
        let is_passing = matches!(failure.kind, Unreachable | Cut | Timeout | Limited | Server | Cancelled);
        Trouble { is_passing, error: error.hint("nothing is lost: run `genmake collect` again later") }
    }
}

struct Fetching<'a> {
    rounds: &'a Rounds<'a>,
    providers: HashMap<String, Arc<Provider>>,
    fetched: Fetched,
    ledger: Option<Ledger>,
    requests: usize,
    emit: &'a mut dyn FnMut(Event),
}

/// How often a provider is asked whether it has a round that it does not show.
const LOOKS: Duration = Duration::from_millis(500);

/// The longest that it is asked so.
const LONGEST_LOOK: u64 = 60;

/// What came of a round.
enum Came {
    /// It is stored, and forgotten.
    Stored,
    /// It is somebody else's.
    Strange,
}

impl<'a> Fetching<'a> {
    fn new(rounds: &'a Rounds<'a>, emit: &'a mut dyn FnMut(Event)) -> Fetching<'a> {
        Fetching { rounds, providers: HashMap::new(), fetched: Fetched::default(), ledger: None, requests: 0, emit }
    }

    /// The provider of a round, if it is still the one that it was handed in to.
    fn provider(&mut self, round: &Round) -> Result<Arc<Provider>, Error> {
        if let Some(provider) = self.providers.get(&round.provider) {
            return Ok(Arc::clone(provider));
        }
        let Rounds { manifest, root, options, .. } = self.rounds;
        let (count, name) = (round.requests.len(), &round.provider);
        let requests = if count == 1 { "1 request was".to_owned() } else { format!("{count} requests were") };
        let bad = |what: String, hint: &str| {
            let error =
                Error::new(Code::BadRound, format!("{requests} submitted to provider `{name}`{what}")).hint(hint);
            error.hint("`genmake collect --cancel` gives it up")
        };
        let Some(declared) = manifest.providers.get(name) else {
            let hint = "declare it again, so that what was paid for can be fetched";
            return Err(bad(", which is not declared any more".to_owned(), hint));
        };
        if declared.base_url != round.at {
            let what = format!(" at {}, which is at {} now", round.at, declared.base_url);
            return Err(bad(what, "put the address back, so that what was paid for can be fetched"));
        }
        // A round is at a server: nothing is run.
        let shell = Shell::new(root.to_path_buf(), Vec::new(), String::new());
        let cancel = options.cancel.clone();
        let provider = Provider::new(declared, root, &*options.env, &options.trusted_hosts, &shell, cancel)?;
        let provider = Arc::new(provider);
        self.providers.insert(name.clone(), Arc::clone(&provider));
        Ok(provider)
    }

    /// A round with what its provider calls it. Where nobody noted that, the provider is asked for as long as it may still be taking
    /// the round in; what it does not show then was never there, and is forgotten.
    fn found(&mut self, round: &Round) -> Result<Option<(Arc<Provider>, Round)>, Error> {
        let provider = self.provider(round)?;
        if round.id.is_some() {
            return Ok(Some((provider, round.clone())));
        }
        let Rounds { manifest, store, options, .. } = self.rounds;
        let others = store.rounds()?;
        let known = others.iter().filter(|other| other.provider == round.provider).filter_map(|other| other.id.clone());
        let not: Vec<String> = known.chain(round.not.iter().cloned()).collect();
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(round.begun);
        let sought = Sought { name: &round.name, entries: round.requests.len() as u64, since: begun, not: &not };
        let timeout = manifest.providers.get(&round.provider).map_or(0, |declared| declared.timeout.as_secs());
        let patience = Duration::from_secs(timeout.saturating_mul(4).min(LONGEST_LOOK));
        let mut is_said = false;
        loop {
            if let Some(id) = provider.find_round(&sought).map_err(|failure| Trouble::of(round, &failure).error)? {
                let is_likely = !provider.finds_surely();
                let round = Round { id: Some(id), is_likely, ..round.clone() };
                store.put_round(&round)?;
                return Ok(Some((provider, round)));
            }
            // A clock that went back shows no time: then it is not waited for.
            let since = begun.elapsed().unwrap_or(patience);
            if since >= patience || options.cancel.is_cancelled() {
                store.forget_round(round)?;
                return Ok(None);
            }
            if !std::mem::replace(&mut is_said, true) {
                (self.emit)(Event::Seeking { provider: round.provider.clone(), wait: patience - since });
            }
            options.cancel.wait(LOOKS);
        }
    }

    /// Does for a round what can be done now.
    fn attend(&mut self, round: &Round, patience: Patience) -> Result<(), Trouble> {
        let mut round = round.clone();
        loop {
            let found = match self.found(&round) {
                Err(error) if patience == Patience::Cancel => return Ok(self.give_up(&round, &error.message)?),
                found => found?,
            };
            let Some((provider, known)) = found else { return Ok(()) };
            round = known;
            let id = round.id.clone().unwrap_or_default();
            // Another's is not cancelled; what cannot be any more says so when it is asked about.
            if patience == Patience::Cancel && !round.is_likely {
                let _ = provider.cancel_round(&id);
            }
            let standing = match provider.standing(&id) {
                Err(failure) if patience == Patience::Cancel && failure.status.is_some() => {
                    return Ok(self.give_up(&round, &words(&failure))?);
                }
                standing => standing.map_err(|failure| Trouble::of(&round, &failure))?,
            };
            match standing {
                Standing::Ended => match self.fetch(&provider, &round, &id, patience)? {
                    Came::Stored => return Ok(()),
                    Came::Strange => {
                        let not = round.not.iter().cloned().chain([id]).collect();
                        round = Round { id: None, not, is_likely: false, ..round };
                        self.rounds.store.put_round(&round)?;
                    }
                },
                Standing::Gone(why) => return Ok(self.give_up(&round, &why)?),
                Standing::Unknown(why) if patience == Patience::Cancel => return Ok(self.give_up(&round, &why)?),
                Standing::Unknown(why) => {
                    let what = format!("provider `{}` knows nothing of `{id}`: {why}", round.provider);
                    let error = Error::new(Code::Provider, what).hint("is it asked with the key of the same account?");
                    return Err(error.hint("`genmake collect --cancel` gives it up").into());
                }
                Standing::Working(done) => {
                    self.fetched.pending += 1;
                    self.is_pending(&round, done);
                    return Ok(());
                }
            }
        }
    }

    fn is_pending(&mut self, round: &Round, done: Option<u64>) {
        let (provider, id) = (round.provider.clone(), round.id.clone().unwrap_or_default());
        (self.emit)(Event::Pending { provider, id, requests: round.requests.len(), done });
    }

    /// Stores what a round brought, then forgets it.
    fn fetch(&mut self, provider: &Provider, round: &Round, id: &str, patience: Patience) -> Result<Came, Trouble> {
        let returned = match provider.fetch(id) {
            // Results are kept for some weeks, and no later question finds them again.
            Err(failure) if patience == Patience::Cancel || matches!(failure.status, Some(404 | 410)) => {
                self.give_up(round, &failure.message)?;
                return Ok(Came::Stored);
            }
            returned => returned.map_err(|failure| Trouble::of(round, &failure))?,
        };
        let mut by_id: HashMap<&str, &Returned> = HashMap::new();
        for one in &returned {
            // Of several that came for one request the good one was paid for.
            let known = by_id.entry(&one.id).or_insert(one);
            if known.outcome.is_err() {
                *known = one;
            }
        }
        // Its requests' names say in the end whose it is.
        let is_ours = round.requests.iter().any(|posted| by_id.contains_key(posted.id.as_str()));
        if !returned.is_empty() && !is_ours && round.is_likely {
            return Ok(Came::Strange);
        }
        if !returned.is_empty() && !is_ours {
            self.give_up(round, "its results are of other requests")?;
            return Ok(Came::Stored);
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
        store::make_folder(self.rounds.root)?;
        self.rounds.store.put_replies(&kept)?;
        // Only now: what is stored is not fetched again.
        self.rounds.store.forget_round(round)?;
        events.into_iter().for_each(&mut *self.emit);
        if let Some(ledger) = &self.ledger {
            // Without it estimates are rougher: no reason to fail.
            let _ = store::write_ledger(&self.rounds.root.join(store::FOLDER), ledger);
        }
        for key in round.keys() {
            self.fetched.keys.entry(key).or_default();
        }
        let missing = round.tasks() - results;
        (self.emit)(Event::Fetched { provider: round.provider.clone(), id: id.to_owned(), results, missing });
        Ok(Came::Stored)
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
            model: round.model.clone(),
            paths: paths.clone(),
            tasks,
            prefix_saved: posted.prefix_saved,
            context_saved: posted.context_saved,
            prefix: 0,
            cache_minimum: None,
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
        let costs = costs(round.price, answer.usage, &shares);
        let ledger = self.ledger.get_or_insert_with(|| store::read_ledger(&self.rounds.root.join(store::FOLDER)));
        ledger.note_prompt(&round.model, &posted.counter, posted.tokens, answer.usage.input);
        let (mut good, mut missing) = (Vec::new(), Vec::new());
        let mut alone = Usage { input: answer.usage.input + posted.prefix_saved, ..Usage::default() };
        for (at, (texts, wanted)) in split.results.into_iter().zip(&posted.tasks).enumerate() {
            match texts {
                Some(texts) => {
                    let own = if tasks > 1 { llm::unframed(shares[at].output) } else { shares[at].output };
                    alone.output += own;
                    ledger.note_result(&wanted.rule, shares[at].input, own);
                    self.fetched.keys.insert(wanted.key, (shares[at], costs[at]));
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
            is_uncounted: usage.is_silent_on(count),
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
    fn give_up(&mut self, round: &Round, why: &str) -> Result<(), Error> {
        self.rounds.store.forget_round(round)?;
        for key in round.keys() {
            self.fetched.keys.entry(key).or_default();
        }
        let id = round.id.as_ref().map_or("what was submitted".to_owned(), |id| format!("`{id}`"));
        let error = Error::new(Code::NoResult, format!("provider `{}`: nothing came of {id}: {why}", round.provider));
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
        piece: task.piece.as_deref().map(Arc::from),
        carried: None,
    }
}
