//! Batch APIs: a round of requests is handed in, asked about, and fetched. One file for each provider's; what is the same for all
//! is here.
//!
//! A round is handed in once. Where it is not known whether that came to pass, it is looked for before it is done again.

mod anthropic;
mod gemini;
mod openai;

use std::time::Duration;

use serde_json::Value;

use super::http::{Body, Call, Reply};
use super::live::{Provider, random};
use super::remote::Remote;
use super::round::{Entry, Returned, Sought, Standing};
use super::wire::{self, Refusal, Refused, Wire};
use super::{Failure, FailureKind, retry};
use crate::llm::Request;
use crate::manifest::Api;

/// A provider's batch API. Pure but for its calls, which others make.
pub(super) trait Rounds: Send + Sync {
    /// How many requests a round may have, and how many bytes.
    fn most(&self) -> (usize, u64);

    /// A request of a round, from its name, where it would go by itself, and its body.
    fn entry(&self, id: &str, path: &str, body: Value) -> Value;

    /// Hands a round in: what the provider calls it.
    ///
    /// # Errors
    /// It was not taken, or nobody knows.
    fn submit(&self, round: &Outgoing<'_>, calls: &Calls<'_>) -> Result<String, Failure>;

    /// Looks for a round that may have been handed in.
    ///
    /// # Errors
    /// The provider cannot be asked.
    fn find(&self, sought: &Sought<'_>, calls: &Calls<'_>) -> Result<Option<String>, Failure>;

    /// Whether what is found surely is what was sought.
    fn is_sure(&self) -> bool {
        true
    }

    /// How far a round is.
    ///
    /// # Errors
    /// The provider cannot be asked.
    fn standing(&self, id: &str, calls: &Calls<'_>) -> Result<Standing, Failure>;

    /// Fetches what a round brought that has ended: by name, a reply as if the request had gone by itself, and whether a tool was to
    /// take the answer; or why there is none.
    ///
    /// # Errors
    /// The provider cannot be asked, or it says something else.
    fn fetch(&self, id: &str, calls: &Calls<'_>) -> Result<Vec<Fetched>, Failure>;

    /// Asks the provider to stop. What is done by then can be fetched, and is paid for.
    ///
    /// # Errors
    /// The provider cannot be asked.
    fn cancel(&self, id: &str, calls: &Calls<'_>) -> Result<(), Failure>;
}

/// A round on its way out.
pub(super) struct Outgoing<'a> {
    /// What genmake calls it.
    name: &'a str,
    /// Where each of its requests would go by itself.
    path: &'a str,
    /// The requests, as [`Rounds::entry`] made them.
    entries: Vec<Value>,
}

/// What came for a request of a round.
pub(super) struct Fetched {
    id: String,
    /// What had been sent, as far as it says how the reply is to be read.
    sent: Value,
    reply: Result<Reply, Failure>,
}

/// The calls that a batch API is spoken to by.
pub(super) struct Calls<'a> {
    remote: &'a Remote,
}

impl Calls<'_> {
    /// What a call brings that changes nothing when it is made again.
    fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.made(&Call { is_post: false, path: path.to_owned(), body: Body::None }, true)
    }

    /// The same as JSON.
    fn get_json(&self, path: &str) -> Result<Value, Failure> {
        let reply = self.get(path)?;
        json_of(&reply)
    }

    /// What a call brings that does something. It is made again only where it surely did nothing.
    fn post(&self, path: &str, body: Body) -> Result<Value, Failure> {
        let reply = self.made(&Call { is_post: true, path: path.to_owned(), body }, false)?;
        json_of(&reply)
    }

    /// The same for a call that may be made twice.
    fn post_again(&self, path: &str, body: Body) -> Result<Value, Failure> {
        let reply = self.made(&Call { is_post: true, path: path.to_owned(), body }, true)?;
        json_of(&reply)
    }

    fn made(&self, call: &Call, may_be_made_again: bool) -> Result<Reply, Failure> {
        let Remote { http, wire, cancel, .. } = self.remote;
        let mut attempt = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(Failure::new(FailureKind::Cancelled, "interrupted"));
            }
            let reply = http.call(&**wire, call).and_then(|incoming| http.whole(incoming));
            let failure = match reply.and_then(|reply| good(&**wire, reply)) {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let did_nothing = matches!(failure.kind, FailureKind::Unreachable | FailureKind::Limited);
            let delay = retry::delay(attempt, &failure, random()).filter(|_| may_be_made_again || did_nothing);
            let Some(delay) = delay else { return Err(failure) };
            attempt += 1;
            cancel.wait(delay);
        }
    }
}

/// A reply with a good status; else what is wrong, as the provider's other replies say it.
fn good(wire: &dyn Wire, reply: Reply) -> Result<Reply, Failure> {
    if (200..300).contains(&reply.status) {
        return Ok(reply);
    }
    let failure = wire.answer(&Value::Null, &reply).err();
    Err(failure.unwrap_or_else(|| Failure::new(wire::kind(reply.status), wire::unsaid(&reply))))
}

fn json_of(reply: &Reply) -> Result<Value, Failure> {
    serde_json::from_slice(&reply.body).map_err(|_| Failure::new(FailureKind::Server, wire::garbled(reply)))
}

/// The values of a body that has one in each line. What is no value is left out: what it was of is missing then, and the rest is not.
fn lines(reply: &Reply) -> Vec<Value> {
    reply.body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn said<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// What a provider calls a round that it took.
fn id_of(value: &Value, name: &str) -> Result<String, Failure> {
    let unnamed = || Failure::new(FailureKind::Server, "the provider took the batch and did not say its name");
    said(value, name).filter(|id| is_id(id)).map(str::to_owned).ok_or_else(unnamed)
}

/// Whether it can stand in a path.
fn is_id(id: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let leads_down = |part: &str| part.chars().all(is_good) && part.chars().any(|c| c != '.');
    !id.is_empty() && id.len() <= 200 && id.split('/').all(leads_down)
}

/// A body as it would have come by itself.
fn reply(status: u16, body: &Value) -> Reply {
    Reply { status, headers: ureq::http::HeaderMap::new(), body: body.to_string().into_bytes() }
}

/// A provider that knows nothing of a round: it may be the wrong one that is asked, or with another's key.
fn unknown(failure: Failure) -> Result<Standing, Failure> {
    match failure.status {
        Some(404 | 410) => Ok(Standing::Unknown(failure.message)),
        _ => Err(failure),
    }
}

/// The batch API of a format, where it has one.
pub(super) fn of(api: &Api) -> Option<Box<dyn Rounds>> {
    match api {
        Api::OpenAi | Api::OpenAiResponses => Some(Box::new(openai::Batches)),
        Api::Anthropic => Some(Box::new(anthropic::Batches)),
        Api::Gemini => Some(Box::new(gemini::Batches)),
        Api::Command(_) | Api::Replay(_) => None,
    }
}

impl Provider {
    /// The server and its batch API.
    fn rounds(&self) -> Result<(&dyn Rounds, Calls<'_>), Failure> {
        let spoken = self.remote().and_then(|remote| Some((remote.rounds.as_deref()?, Calls { remote })));
        spoken.ok_or_else(|| Failure::new(FailureKind::Refused, "it has no batch API"))
    }

    /// Into how many rounds these requests go, for one model: the first of each.
    ///
    /// # Errors
    /// The provider has no batch API.
    pub fn parcels(&self, entries: &[Entry]) -> Result<Vec<usize>, Failure> {
        let (rounds, calls) = self.rounds()?;
        let size = |entry: &Entry| calls.remote.line(rounds, entry).to_string().len() as u64 + 1;
        Ok(begins(rounds.most(), entries.iter().map(size)))
    }

    /// Hands a round in for one model: what the provider calls it.
    ///
    /// # Errors
    /// It was not taken; or, where the failure may have cost something, nobody knows.
    pub fn submit(&self, name: &str, entries: &[Entry]) -> Result<String, Failure> {
        let (rounds, calls) = self.rounds()?;
        let Remote { wire, .. } = calls.remote;
        let path = |entry: &Entry| wire.path(&entry.request, &calls.remote.refused_in_rounds(&entry.request));
        let path = entries.first().map(path).unwrap_or_default();
        let entries = entries.iter().map(|entry| calls.remote.line(rounds, entry)).collect();
        self.clean(rounds.submit(&Outgoing { name, path: &path, entries }, &calls))
    }

    /// Looks for a round that may have been handed in, before it is done again.
    ///
    /// # Errors
    /// The provider cannot be asked.
    pub fn find_round(&self, sought: &Sought<'_>) -> Result<Option<String>, Failure> {
        let (rounds, calls) = self.rounds()?;
        self.clean(rounds.find(sought, &calls))
    }

    /// Whether a round that is found surely is the one that was sought.
    pub fn finds_surely(&self) -> bool {
        self.rounds().is_ok_and(|(rounds, _)| rounds.is_sure())
    }

    /// How far a round is.
    ///
    /// # Errors
    /// The provider cannot be asked.
    pub fn standing(&self, id: &str) -> Result<Standing, Failure> {
        let (rounds, calls) = self.rounds()?;
        self.clean(rounds.standing(id, &calls).or_else(unknown))
    }

    /// Fetches what a round brought that has ended.
    ///
    /// # Errors
    /// The provider cannot be asked.
    pub fn fetch(&self, id: &str) -> Result<Vec<Returned>, Failure> {
        let (rounds, calls) = self.rounds()?;
        let fetched = self.clean(rounds.fetch(id, &calls))?;
        let returned = |Fetched { id, sent, reply }: Fetched| {
            let answer = reply.and_then(|reply| calls.remote.wire.answer(&sent, &reply));
            let answer = answer.map(|answer| calls.remote.without_key(answer));
            // A good status says nothing where it stands among others' results.
            let said = |failure: Failure| Failure { status: failure.status.filter(|status| *status != 200), ..failure };
            Returned { id, outcome: self.clean(answer).map_err(said) }
        };
        Ok(fetched.into_iter().map(returned).collect())
    }

    /// Asks the provider to stop a round. What is done by then can be fetched, and is paid for.
    ///
    /// # Errors
    /// The provider cannot be asked.
    pub fn cancel_round(&self, id: &str) -> Result<(), Failure> {
        let (rounds, calls) = self.rounds()?;
        self.clean(rounds.cancel(id, &calls))
    }

    /// Without the key, wherever a provider may quote it.
    fn clean<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        result.map_err(|failure| self.failure_without_key(failure))
    }
}

impl Remote {
    /// A request as it stands in a round: whole answers, not pieces.
    fn line(&self, rounds: &dyn Rounds, entry: &Entry) -> Value {
        let refused = self.refused_in_rounds(&entry.request);
        let (path, body) = (self.wire.path(&entry.request, &refused), self.wire.body(&entry.request, &refused));
        rounds.entry(&entry.id, &path, body)
    }

    /// What is left out of a request in a round.
    fn refused_in_rounds(&self, request: &Request) -> Refused {
        let mut refused = self.refused_by(&request.model);
        refused.note(Refusal::Part("stream".to_owned()));
        refused
    }
}

/// The first of each round, where a round takes so many requests and bytes, and these are the requests' bytes.
fn begins((most, most_bytes): (usize, u64), sizes: impl Iterator<Item = u64>) -> Vec<usize> {
    let mut begins = Vec::new();
    let (mut count, mut bytes) = (usize::MAX, 0);
    for (at, size) in sizes.enumerate() {
        if count >= most || bytes + size > most_bytes {
            begins.push(at);
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + 1, bytes + size);
    }
    begins
}

/// How far this machine's clock may be from a provider's.
const CLOCKS_DIFFER: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_round_takes_so_many_requests_and_bytes() {
        let of = |most, sizes: &[u64]| begins(most, sizes.iter().copied());
        assert_eq!(of((2, 100), &[1; 5]), [0, 2, 4]);
        assert_eq!(of((9, 100), &[50, 50, 1, 99, 1]), [0, 2, 4]);
        // What is too large by itself the provider may refuse: it goes alone.
        assert_eq!(of((9, 100), &[1, 500, 1]), [0, 1, 2]);
        assert_eq!(of((9, 100), &[]), [0; 0]);
        // Below what each provider takes, with room for what stands around the requests.
        const MB: u64 = 1_000_000;
        for (api, requests, bytes) in
            [(Api::Anthropic, 100_000, 256 * MB), (Api::OpenAi, 50_000, 200 * MB), (Api::Gemini, usize::MAX, 20 * MB)]
        {
            let (most, most_bytes) = super::of(&api).unwrap().most();
            assert!(most <= requests && most_bytes < bytes && most_bytes > bytes / 10 * 9, "{}", api.name());
        }
        assert!(super::of(&Api::Replay(crate::path::RelPath::new("r").unwrap())).is_none());
    }

    #[test]
    fn what_a_provider_has_forgotten_is_gone() {
        let of = |status| unknown(Failure { status: Some(status), ..Failure::new(wire::kind(status), "no") });
        for status in [404, 410] {
            assert_eq!(of(status), Ok(Standing::Unknown("no".into())), "{status}");
        }
        assert!([401, 429, 500].iter().all(|status| of(*status).is_err()));
    }

    #[test]
    fn results_are_a_value_in_each_line() {
        let of = |text: &str| lines(&Reply { body: text.into(), ..reply(200, &Value::Null) });
        assert_eq!(of("{\"a\": 1}\n\r\n {\"a\": 2}"), [json!({"a": 1}), json!({"a": 2})]);
        // A line that is none is missing, and no other.
        assert_eq!(of("{\"a\": 1}\n<html>\n{\"a\": 2}"), [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(of(""), [Value::Null; 0]);
    }

    #[test]
    fn a_name_of_a_round_leads_nowhere_else() {
        for good in ["msgbatch_1", "batches/gemini-1", "batch_0a.b"] {
            assert!(is_id(good), "{good}");
        }
        for bad in
            ["", "a//b", "a/", "a?b", "a b", "a%2fb", "..", "../files", "batches/../files", "a/.", &"a".repeat(201)]
        {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
