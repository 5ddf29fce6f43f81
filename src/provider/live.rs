//! A provider: the means by which it is asked, and what is the same for all: key, limits, retries, and `start:`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::anthropic::Anthropic;
use super::command::Program;
use super::gemini::Gemini;
use super::http::{self, Http, is_loopback};
use super::limits::Limits;
use super::openai::OpenAi;
use super::openai::responses::Responses;
use super::remote::{Missed, Remote};
use super::replay::Recordings;
use super::rounds;
use super::start::{self, Server};
use super::turns::{Place, Turns};
use super::wire::{Refusal, Wire};
use super::{Failure, Heard, Notice, Recording, embeds, mask, record, retry};
use crate::cancel::Cancel;
use crate::error::{Code, Error};
use crate::llm::{Answer, EmbedRequest, Embedded, Request, Usage};
use crate::manifest::{self, Api};
use crate::shell::Shell;

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
    means: Means,
    turns: Turns,
    /// Not asked for before the first request: a run that needs no request starts nothing.
    server: Mutex<Option<Result<Server, Error>>>,
    start: Option<(String, Duration)>,
    /// The variables that `start:` does not get: other providers' keys.
    without: Vec<String>,
    root: PathBuf,
    cancel: Cancel,
}

/// By what a provider is asked.
enum Means {
    Http(Box<Remote>),
    Command(Program),
    Replay(Recordings),
}

impl Provider {
    /// A provider as the Genfile declares it. `env` reads the environment; `trusted` are hosts that a person named; `shell` runs
    /// the commands of the run.
    ///
    /// # Errors
    /// [`Code::Key`] where the key is not set, or would go to a host that only the Genfile names.
    pub fn new(
        declared: &manifest::Provider,
        root: &Path,
        env: &dyn Fn(&str) -> Option<String>,
        trusted: &[String],
        shell: &Shell,
        cancel: Cancel,
    ) -> Result<Provider, Error> {
        let key = declared.key_env.as_ref().map(|name| key(declared, name, env, trusted)).transpose()?;
        let means = match (wire(declared), &declared.api) {
            (Some(wire), _) => {
                let http = Http::new(&declared.base_url, key, declared.in_flight, declared.timeout, env)?;
                Means::Http(Box::new(Remote::new(
                    wire,
                    http,
                    rounds::of(&declared.api),
                    embeds::of(declared),
                    cancel.clone(),
                )))
            }
            (None, Api::Command(command)) => {
                let key = declared.key_env.clone().zip(key);
                Means::Command(Program::new(command, key, declared.timeout, shell))
            }
            (None, Api::Replay(dir)) => Means::Replay(Recordings::new(dir, root)),
            (None, api) => return Err(Error::new(Code::Bug, format!("nobody speaks `{}`", api.name()))),
        };
        let counts = match &means {
            Means::Http(remote) => remote.wire.counts(),
            Means::Command(_) | Means::Replay(_) => |usage: Usage| usage.input + usage.output,
        };
        let (requests, tokens) = (declared.requests_per_minute, declared.tokens_per_minute);
        let limits = Limits::new(declared.in_flight, requests, tokens, counts);
        Ok(Provider {
            name: declared.name.clone(),
            means,
            turns: Turns::new(limits, cancel.clone()),
            server: Mutex::new(None),
            start: declared.start.clone(),
            without: shell.without().iter().filter(|name| declared.key_env.as_ref() != Some(name)).cloned().collect(),
            root: root.to_path_buf(),
            cancel,
        })
    }

    /// The server, if it is one.
    pub(super) fn remote(&self) -> Option<&Remote> {
        match &self.means {
            Means::Http(remote) => Some(remote),
            Means::Command(_) | Means::Replay(_) => None,
        }
    }

    /// Learns what the server refused of requests to a model in earlier runs.
    pub fn learn(&self, model: &str, parts: impl IntoIterator<Item = String>, most_output: Option<u64>) {
        if let Some(remote) = self.remote() {
            remote.learn(model, parts, most_output);
        }
    }

    /// What the server is known to refuse, by model: parts of requests, and answers of more tokens than so many.
    pub fn refused(&self) -> Vec<(String, BTreeSet<String>, Option<u64>)> {
        self.remote().map(Remote::refused).unwrap_or_default()
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
        let said = request.messages.iter().map(|message| &message.text);
        let place = self.turns.place(&request.model, said, request.max_output_tokens);
        let mut room = None;
        let mut once = || {
            hear(Heard::Begins);
            self.once(request, &mut room, hear)
        };
        self.patiently(&place, &mut once, |answer| answer.usage, tell)
    }

    /// Has texts made into vectors, asking again where that helps.
    ///
    /// # Errors
    /// The last failure.
    pub fn embed(&self, request: &EmbedRequest, tell: &dyn Fn(Notice)) -> Result<Embedded, Failure> {
        // Nothing comes back that is counted.
        let place = self.turns.place(&request.model, request.texts.iter(), Some(0));
        let mut once = || match &self.means {
            Means::Http(remote) => remote.embed(request, &self.turns),
            Means::Command(program) => Ok(program.embed(request, &self.cancel)?),
            Means::Replay(recordings) => Ok(recordings.embed(request)?),
        };
        let embedded = self.patiently(&place, &mut once, |embedded| embedded.usage, tell)?;
        let request_id = embedded.request_id.map(|id| self.masked(&id));
        Ok(Embedded { request_id, ..embedded })
    }

    /// Does something once it is its turn, and again where that helps.
    fn patiently<T>(
        &self,
        place: &Place<'_>,
        once: &mut dyn FnMut() -> Result<T, Missed>,
        usage: fn(&T) -> Usage,
        tell: &dyn Fn(Notice),
    ) -> Result<T, Failure> {
        let mut attempt = 0;
        loop {
            place.wait(tell)?;
            let Missed { failure, goes_otherwise } = match once() {
                Ok(answer) => {
                    place.answered(usage(&answer));
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
        match &self.means {
            Means::Http(remote) => remote.once(request, room, &self.turns, hear),
            Means::Command(program) => Ok(self.without_key(program.ask(request, hear, &self.cancel)?)),
            Means::Replay(recordings) => {
                let answer = recordings.answer(request)?;
                hear(Heard::Text(&answer.text));
                Ok(answer)
            }
        }
    }

    /// How many tokens a request has, as the provider counts them, where it does so free of charge. What goes wrong is no failure:
    /// it is not known then.
    pub fn count(&self, request: &Request, tell: &dyn Fn(Notice)) -> Option<u64> {
        let remote = self.remote()?;
        self.bring_up(tell).ok()?;
        remote.count(request)
    }

    /// Whether what is to be kept of a request has to be marked, and the answer says what became of it.
    pub fn marks_prefix(&self) -> bool {
        self.remote().is_some_and(|remote| remote.wire.marks_prefix())
    }

    /// What is to be written of a request and the answer that came; nothing where the key stands in the request.
    pub fn recording(&self, request: &Request, answer: &Answer) -> Option<Recording> {
        let said = request.messages.iter().map(|message| &message.text);
        match said.into_iter().all(|text| self.masked(text) == *text) {
            true => record::recording(request, answer),
            false => None,
        }
    }

    /// The same of texts and their vectors.
    pub fn embed_recording(&self, request: &EmbedRequest, embedded: &Embedded) -> Option<Recording> {
        match request.texts.iter().all(|text| self.masked(text) == *text) {
            true => record::embed_recording(request, embedded),
            false => None,
        }
    }

    /// Ends what `start:` brought up, takes away what the provider keeps, and waits for commands that were interrupted.
    pub fn take_down(&self) {
        match &self.means {
            Means::Http(remote) => remote.take_down(),
            Means::Command(program) => program.wind_up(),
            Means::Replay(_) => {}
        }
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// A failure without the key, wherever a provider may quote it.
    pub(super) fn failure_without_key(&self, failure: Failure) -> Failure {
        Failure {
            message: self.masked(&failure.message),
            request_id: failure.request_id.map(|id| self.masked(&id)),
            ..failure
        }
    }

    /// A text without the key.
    fn masked(&self, text: &str) -> String {
        match &self.means {
            Means::Http(remote) => remote.http.without_key(text),
            Means::Command(program) => mask::without(program.key(), text),
            Means::Replay(_) => text.to_owned(),
        }
    }

    /// An answer without the key, wherever a provider may quote it.
    fn without_key(&self, answer: Answer) -> Answer {
        mask::answer(answer, &|text| self.masked(text))
    }

    /// Brings the provider up if it has a `start:` and does not answer. The first request does this; others wait for it.
    ///
    /// # Errors
    /// [`Code::StartFailed`], with what the command said last.
    pub fn bring_up(&self, tell: &dyn Fn(Notice)) -> Result<(), Error> {
        let (Some((command, timeout)), Means::Http(remote)) = (&self.start, &self.means) else { return Ok(()) };
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let result = server.get_or_insert_with(|| {
            let answers = || remote.http.answers();
            let server = start::bring_up(command, *timeout, &self.root, &self.without, &answers, &self.cancel, tell);
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
    wire(declared)?.most_results(model, schema)
}

/// What a server speaks; none where it is no server that is asked.
fn wire(declared: &manifest::Provider) -> Option<Box<dyn Wire>> {
    match &declared.api {
        Api::OpenAi => Some(Box::new(OpenAi::new(&declared.base_url))),
        Api::OpenAiResponses => Some(Box::new(Responses::new(&declared.base_url))),
        Api::Anthropic => Some(Box::new(Anthropic)),
        Api::Gemini => Some(Box::new(Gemini)),
        Api::Command(_) | Api::Replay(_) => None,
    }
}

/// Whether asking a provider stays on this machine and costs nothing: it listens there, or its answers were recorded. What a
/// command does nobody knows.
pub fn is_local(declared: &manifest::Provider) -> bool {
    matches!(declared.api, Api::Replay(_)) || is_loopback(&declared.base_url)
}

fn key(
    declared: &manifest::Provider,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    trusted: &[String],
) -> Result<Secret, Error> {
    let host = http::host(&declared.base_url);
    let own = host == declared.api.host() && declared.base_url.starts_with("https://");
    // A command of the Genfile gets what it names, as it runs with all that its person may do.
    let is_sent = !matches!(declared.api, Api::Command(_));
    if is_sent && !own && !is_loopback(&declared.base_url) && !trusted.contains(&host) {
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
        let shell = Shell::new(PathBuf::from("."), Vec::new(), "t".to_owned());
        let env = |name: &str| (name == "K").then(|| "sk-canary".to_owned());
        Provider::new(&provider(api, base_url), Path::new("."), &env, &trusted, &shell, Cancel::default())
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
