//! A provider over the network: key, address, retries, and `start:`.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::anthropic::Anthropic;
use super::gemini::Gemini;
use super::http::{self, Http, Incoming, is_loopback};
use super::keep::Keep;
use super::limits::Limits;
use super::openai::OpenAi;
use super::responses::Responses;
use super::rounds::{self, Rounds};
use super::sse::Events;
use super::start::{self, Server};
use super::turns::Turns;
use super::wire::{self, Pieces, Refusal, Refused, Wire};
use super::{Failure, FailureKind, Heard, Notice, retry};
use crate::cancel::Cancel;
use crate::error::{Code, Error};
use crate::llm::{Answer, Request, Stop};
use crate::manifest::{self, Api};

/// A key. Prints as `***`, whatever asks.
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A provider, ready to be asked from several threads.
pub struct Provider {
    name: String,
    pub(super) wire: Box<dyn Wire>,
    pub(super) http: Http,
    /// Its batch API, where it has one.
    pub(super) rounds: Option<Box<dyn Rounds>>,
    turns: Turns,
    /// Not asked for before the first request: a run that needs no request starts nothing.
    server: Mutex<Option<Result<Server, Error>>>,
    start: Option<(String, Duration)>,
    /// What the server is known to refuse, by model.
    refused: Mutex<HashMap<String, Refused>>,
    keep: Keep,
    root: PathBuf,
    pub(super) cancel: Cancel,
}

/// How much of a stream is read at once.
const PIECE: usize = 16 << 10;

/// An attempt that brought no answer.
struct Missed {
    failure: Failure,
    /// Whether the server refused something that it will be asked without.
    goes_otherwise: bool,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Missed {
        Missed { failure, goes_otherwise: false }
    }
}

impl Provider {
    /// A provider as the Genfile declares it. `env` reads the environment; `trusted` are hosts that a person named.
    ///
    /// # Errors
    /// [`Code::Key`] where the key is not set, or would go to a host that only the Genfile names.
    pub fn new(
        declared: &manifest::Provider,
        root: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        trusted: &[String],
        cancel: Cancel,
    ) -> Result<Provider, Error> {
        let key = declared.key_env.as_ref().map(|name| key(declared, name, env, trusted)).transpose()?;
        let wire = wire(declared);
        let (requests, tokens) = (declared.requests_per_minute, declared.tokens_per_minute);
        let limits = Limits::new(declared.in_flight, requests, tokens, wire.counts());
        Ok(Provider {
            name: declared.name.clone(),
            wire,
            rounds: rounds::of(declared.api),
            http: Http::new(&declared.base_url, key, declared.in_flight, declared.timeout, env)?,
            turns: Turns::new(limits, cancel.clone()),
            server: Mutex::new(None),
            start: declared.start.clone(),
            refused: Mutex::default(),
            keep: Keep::default(),
            root: root.to_path_buf(),
            cancel,
        })
    }

    /// Learns what the server refused of requests to a model in earlier runs.
    pub fn learn(&self, model: &str, parts: impl IntoIterator<Item = String>, most_output: Option<u64>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = refused.entry(model.to_owned()).or_default();
        let parts = parts.into_iter().map(Refusal::Part);
        for refusal in parts.chain(most_output.map(Refusal::Output)) {
            of_model.note(refusal);
        }
    }

    /// What the server is known to refuse, by model: parts of requests, and answers of more tokens than so many.
    pub fn refused(&self) -> Vec<(String, BTreeSet<String>, Option<u64>)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = |(model, refused): (&String, &Refused)| {
            let (parts, most_output) = refused.lasting();
            (!parts.is_empty() || most_output.is_some()).then(|| (model.clone(), parts, most_output))
        };
        refused.iter().filter_map(of_model).collect()
    }

    /// Sends a request, again where that helps, and waits for the answer. `hear` gets its text as it comes; what breaks off after
    /// something in it was whole is an answer, too, so that it is not asked for twice.
    ///
    /// # Errors
    /// The last failure.
    pub fn send(
        &self,
        request: &Request,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
        tell: &dyn Fn(Notice),
    ) -> Result<Answer, Failure> {
        let place = self.turns.place(request);
        let mut attempt = 0;
        let mut room = None;
        loop {
            place.wait()?;
            hear(Heard::Begins);
            let Missed { failure, goes_otherwise } = match self.once(request, &mut room, hear) {
                Ok(answer) => {
                    place.answered(answer.usage);
                    return Ok(answer);
                }
                Err(missed) => missed,
            };
            let failure = self.failure_without_key(failure);
            if goes_otherwise {
                place.failed(&failure, Some(Duration::ZERO));
                tell(Notice::Retry(failure, Duration::ZERO));
                continue;
            }
            let delay = retry::delay(attempt, &failure, random());
            place.failed(&failure, delay);
            let Some(delay) = delay else { return Err(failure) };
            attempt += 1;
            tell(Notice::Retry(failure, delay));
            self.cancel.wait(delay);
        }
    }

    /// Sends a request once. `room` is what was found out of this one alone.
    fn once(
        &self,
        request: &Request,
        room: &mut Option<Refusal>,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
    ) -> Result<Answer, Missed> {
        let mut known = self.refused_by(&request.model);
        if let Some(room) = room {
            known.note(room.clone());
        }
        let mut body = self.wire.body(request, &known);
        let reading = self.keep.read(&*self.wire, &self.http, request, &known, &mut body).unwrap_or_else(|refusal| {
            self.note_refused(&request.model, refusal);
            None
        });
        let counted = |answer: Answer| match &reading {
            Some(reading) => Answer { usage: reading.count(answer.usage), ..answer },
            None => answer,
        };
        let incoming = self.http.post(&*self.wire, &self.wire.path(request, &known), &body)?;
        self.turns.heard(&request.model, &self.wire.limits(&incoming.head));
        if incoming.is_events() {
            return Ok(counted(self.listen(incoming, self.wire.pieces(&body), hear)?));
        }
        let reply = self.http.whole(incoming)?;
        // Another request may have found it out meanwhile: what counts is that this one was sent with it.
        let refusal = self.wire.refusal(&body, &reply).filter(|refusal| known.note(refusal.clone()));
        let lost = reading.as_ref().filter(|_| self.wire.keeper().is_some_and(|keeper| keeper.is_gone(&reply)));
        let goes_otherwise = refusal.is_some() || lost.is_some();
        if let Some(reading) = lost {
            reading.is_lost();
        }
        if let Some(refusal @ Refusal::Room(_)) = refusal {
            *room = Some(refusal);
        } else if let Some(refusal) = refusal {
            self.note_refused(&request.model, refusal);
        }
        let answer = self.wire.answer(&body, &reply).map_err(|failure| Missed { failure, goes_otherwise })?;
        let answer = counted(self.without_key(answer));
        hear(Heard::Text(&answer.text));
        Ok(answer)
    }

    /// Reads an answer that comes in pieces.
    fn listen(
        &self,
        mut incoming: Incoming,
        mut pieces: Box<dyn Pieces>,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
    ) -> Result<Answer, Failure> {
        let (mut events, mut mask) = (Events::default(), self.http.mask());
        let (mut text, mut is_worth_keeping) = (String::new(), false);
        let mut take = |piece: String| {
            if !piece.is_empty() {
                is_worth_keeping = hear(Heard::Text(&piece));
                text += &piece;
            }
        };
        let mut buffer = vec![0; PIECE];
        // To the very end, also after the last event: then the connection can be used again.
        let broken = loop {
            if self.cancel.is_cancelled() {
                return Err(Failure::new(FailureKind::Cancelled, "interrupted"));
            }
            let mut event = |name: &str, data: &str| {
                if let Some(piece) = pieces.event(name, data) {
                    take(mask.next(&piece));
                }
            };
            match self.http.read(&mut incoming, &mut buffer) {
                Ok([]) => {
                    events.end(&mut event);
                    break None;
                }
                Ok(bytes) => events.feed(bytes, &mut event),
                Err(failure) => break Some(failure),
            }
        };
        take(mask.end());
        match pieces.end(&incoming.head, &text, broken) {
            Ok(answer) => Ok(self.without_key(answer)),
            Err(failure) if is_worth_keeping => {
                let stop = Stop::Broken(self.http.without_key(&failure.message));
                Ok(Answer { text, stop, usage: pieces.usage(), request_id: failure.request_id })
            }
            Err(failure) => Err(failure),
        }
    }

    /// How many tokens a request has, as the provider counts them, where it does so free of charge. What goes wrong is no failure:
    /// it is not known then.
    pub fn count(&self, request: &Request, tell: &dyn Fn(Notice)) -> Option<u64> {
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refused().get(&request.model).cloned().unwrap_or_default();
        let (path, body) = self.wire.count(request, &known)?;
        self.bring_up(tell).ok().filter(|()| !self.cancel.is_cancelled())?;
        let reply = self.http.post(&*self.wire, &path, &body).and_then(|incoming| self.http.whole(incoming)).ok()?;
        let said: Value = serde_json::from_slice(&reply.body).ok().filter(|_| (200..300).contains(&reply.status))?;
        wire::tokens(said.get("input_tokens")).filter(|tokens| *tokens > 0)
    }

    /// Whether what is to be kept of a request has to be marked, and the answer says what became of it.
    pub fn marks_prefix(&self) -> bool {
        self.wire.marks_prefix()
    }

    /// Ends what `start:` brought up, and takes away what the provider keeps.
    pub fn take_down(&self) {
        if let Some(keeper) = self.wire.keeper() {
            // Where one is not heard the others are not tried: they go by themselves, later.
            let _all = self.keep.take().iter().all(|name| self.http.delete(&*self.wire, &keeper.place(name)));
        }
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// What the server is known to refuse of requests to a model.
    pub(super) fn refused_by(&self, model: &str) -> Refused {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned().unwrap_or_default()
    }

    fn note_refused(&self, model: &str, refusal: Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(model.to_owned()).or_default().note(refusal);
    }

    /// A failure without the key, wherever a provider may quote it.
    pub(super) fn failure_without_key(&self, failure: Failure) -> Failure {
        Failure {
            message: self.http.without_key(&failure.message),
            request_id: failure.request_id.map(|id| self.http.without_key(&id)),
            ..failure
        }
    }

    /// An answer without the key, wherever a provider may quote it.
    pub(super) fn without_key(&self, answer: Answer) -> Answer {
        let clean = |text: &String| self.http.without_key(text);
        let stop = match &answer.stop {
            Stop::Refused(what) => Stop::Refused(clean(what)),
            Stop::Garbled(what) => Stop::Garbled(clean(what)),
            Stop::Broken(what) => Stop::Broken(clean(what)),
            Stop::End | Stop::Length => answer.stop,
        };
        let request_id = answer.request_id.as_ref().map(clean);
        Answer { text: clean(&answer.text), stop, request_id, ..answer }
    }

    /// Brings the provider up if it has a `start:` and does not answer. The first request does this; others wait for it.
    ///
    /// # Errors
    /// [`Code::StartFailed`], with what the command said last.
    pub fn bring_up(&self, tell: &dyn Fn(Notice)) -> Result<(), Error> {
        let Some((command, timeout)) = &self.start else { return Ok(()) };
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let result = server.get_or_insert_with(|| {
            let server = start::bring_up(command, *timeout, &self.root, &|| self.http.answers(), &self.cancel, tell);
            server.map_err(|e| {
                let message =
                    format!("provider `{}` was not brought up by its `start:` command: {}", self.name, e.message);
                Error { message, ..e }
            })
        });
        result.as_ref().map(drop).map_err(Error::clone)
    }
}

/// How many results of this schema a model of a provider can be held to in one answer; none where nothing bounds them, or it is not
/// held to such a schema in any case.
pub fn most_results(declared: &manifest::Provider, model: &str, schema: &Value) -> Option<usize> {
    wire(declared).most_results(model, schema)
}

/// What a provider speaks.
fn wire(declared: &manifest::Provider) -> Box<dyn Wire> {
    match declared.api {
        Api::OpenAi => Box::new(OpenAi::new(&declared.base_url)),
        Api::OpenAiResponses => Box::new(Responses::new(&declared.base_url)),
        Api::Anthropic => Box::new(Anthropic),
        Api::Gemini => Box::new(Gemini),
    }
}

fn key(
    declared: &manifest::Provider,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    trusted: &[String],
) -> Result<Secret, Error> {
    let host = http::host(&declared.base_url);
    let own = host == declared.api.host() && declared.base_url.starts_with("https://");
    if !own && !is_loopback(&declared.base_url) && !trusted.contains(&host) {
        let message = format!("the key in `{name}` would go to `{host}`, which only the Genfile names");
        return Err(Error::new(Code::Key, message).at(declared.place.clone()).hint(format!(
            "if you trust that host with your key: `--trust-host {host}`, or set GENMAKE_TRUST_HOSTS={host}"
        )));
    }
    match env(name).filter(|key| !key.trim().is_empty()) {
        Some(key) => Ok(Secret(key.trim().to_owned())),
        None => Err(Error::new(Code::Key, format!("the environment variable `{name}` is not set"))
            .at(declared.place.clone())
            .hint(format!("provider `{}` takes its key from it: `export {name}=…`", declared.name))),
    }
}

/// A number from 0 to 1 that differs from process to process and from call to call.
pub(super) fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(api: &str, base_url: &str) -> manifest::Provider {
        let text = format!("version: 1\nproviders: {{p: {{api: {api}, key_env: K}}}}\nrules: {{}}\n");
        let (manifest, found) = manifest::load("Genfile", &text, &std::collections::HashMap::new()).unwrap();
        assert_eq!(found, []);
        // Some of these a Genfile may not even name.
        manifest::Provider { base_url: base_url.to_owned(), ..manifest.providers["p"].clone() }
    }

    fn open(base_url: &str, trusted: &[&str]) -> Result<Provider, Error> {
        open_for("openai", base_url, trusted)
    }

    fn open_for(api: &str, base_url: &str, trusted: &[&str]) -> Result<Provider, Error> {
        let trusted: Vec<String> = trusted.iter().map(|host| (*host).to_owned()).collect();
        let env = |name: &str| (name == "K").then(|| "sk-canary".to_owned());
        Provider::new(&provider(api, base_url), Path::new("."), &env, &trusted, Cancel::default())
    }

    #[test]
    fn a_key_goes_to_no_host_that_the_genfile_alone_names() {
        assert!(open("https://api.openai.com/v1", &[]).is_ok());
        assert!(open("http://127.0.0.1:8080/v1", &[]).is_ok());
        assert!(open("http://localhost:8080/v1", &[]).is_ok());
        assert!(open("http://[::1]:8080/v1", &[]).is_ok());
        assert!(open("https://llm.acme.dev/v1", &["llm.acme.dev"]).is_ok());
        // Each format's maker is trusted with its own keys, and no other's.
        assert!(open_for("anthropic", "https://api.anthropic.com/v1", &[]).is_ok());
        assert!(open_for("gemini", "https://generativelanguage.googleapis.com/v1beta", &[]).is_ok());
        for (api, base_url) in [
            ("anthropic", "https://api.openai.com/v1"),
            ("openai", "https://api.anthropic.com/v1"),
            ("gemini", "https://api.openai.com/v1"),
            ("openai", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ] {
            assert_eq!(open_for(api, base_url, &[]).err().map(|error| error.code), Some(Code::Key), "{api} {base_url}");
        }
        for base_url in [
            "https://llm.acme.dev/v1",
            "http://api.openai.com/v1",
            "https://api.openai.com.evil.dev/v1",
            "https://api.openai.com@evil.dev/v1",
            "http://127.0.0.1.evil.dev/v1",
            "http://127.0.0.1@evil.dev/v1",
            "http://localhost@evil.dev:80/v1",
        ] {
            let error = open(base_url, &[]).err().unwrap_or_else(|| panic!("{base_url} was let pass"));
            assert_eq!(error.code, Code::Key, "{base_url}");
            assert!(!format!("{error:?}").contains("sk-canary"));
        }
    }
}
