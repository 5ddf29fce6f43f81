//! Providers: a request in, an answer or a failure out. One file a wire format; HTTP, retries and `start:` around it.
//!
//! Knows nothing of tasks, plans and the store. A key is held in a type that cannot print itself.

mod http;
mod openai;
mod retry;
mod start;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Code, Error};
use crate::llm::{Answer, Request};
use crate::manifest::{self, Api};

pub use http::is_loopback;
use http::Http;
pub use retry::MAX_RETRIES;
use start::Server;

/// A key. Prints as `***`, whatever asks.
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The provider's own words, or the network's.
    pub message: String,
    /// The provider's name for the request.
    pub request_id: Option<String>,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
}

/// The kinds of failures, by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nobody answers at the address.
    Unreachable,
    /// The connection broke.
    Cut,
    /// Nothing came in time.
    Timeout,
    /// Too many requests; waiting helps.
    Limited,
    /// The provider has trouble of its own.
    Server,
    /// The key, the address, the model or the account will not do: no request can succeed.
    Refused,
    /// This request will not do: too long, or with something the provider does not know.
    Rejected,
    /// The run was interrupted.
    Cancelled,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, status: None, message: message.into(), request_id: None, retry_after: None }
    }

    /// Whether no further request to this provider can succeed in this run.
    pub fn is_final(&self) -> bool {
        matches!(self.kind, FailureKind::Refused | FailureKind::Unreachable)
    }
}

/// Something to tell while a request is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The provider's `start:` command is run.
    Starting(String),
    /// What that command says.
    Said(String),
    /// The provider answers, after this long.
    Ready(Duration),
    /// The request failed and is sent again after a while.
    Retry(Failure, Duration),
}

/// Tells waiting threads that the run was interrupted.
#[derive(Clone, Default)]
pub struct Cancel(Arc<(Mutex<Cancelled>, Condvar)>);

#[derive(Default)]
struct Cancelled {
    is: bool,
    then: Vec<Box<dyn FnOnce() + Send>>,
}

impl Cancel {
    /// Interrupts everything that waits.
    pub fn cancel(&self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is = true;
        let then = std::mem::take(&mut state.then);
        drop(state);
        self.0.1.notify_all();
        then.into_iter().for_each(|then| then());
    }

    /// Calls `then` when it is interrupted; at once, if it was already.
    pub fn on_cancel(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is {
            drop(state);
            then();
        } else {
            state.then.push(Box::new(then));
        }
    }

    /// Whether it was interrupted.
    pub fn is_cancelled(&self) -> bool {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).is
    }

    /// Waits; `true` if it was interrupted meanwhile.
    pub fn wait(&self, time: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(guard, time, |state| !state.is);
        waited.unwrap_or_else(PoisonError::into_inner).0.is
    }
}

/// A provider, ready to be asked from several threads.
pub struct Provider {
    name: String,
    api: Api,
    http: Http,
    /// Not asked for before the first request: a run that needs no request starts nothing.
    server: Mutex<Option<Result<Server, Error>>>,
    start: Option<(String, Duration)>,
    root: std::path::PathBuf,
    cancel: Cancel,
}

impl Provider {
    /// A provider as the Genfile declares it. `env` reads the environment; `trusted` are hosts that a person named.
    ///
    /// # Errors
    /// [`Code::Key`] where the key is not set, or would go to a host that only the Genfile names.
    pub fn new(
        declared: &manifest::Provider,
        root: &std::path::Path,
        env: &dyn Fn(&str) -> Option<String>,
        trusted: &[String],
        cancel: Cancel,
    ) -> Result<Provider, Error> {
        let key = declared.key_env.as_ref().map(|name| key(declared, name, env, trusted)).transpose()?;
        Ok(Provider {
            name: declared.name.clone(),
            api: declared.api,
            http: Http::new(&declared.base_url, key, declared.in_flight, declared.timeout),
            server: Mutex::new(None),
            start: declared.start.clone(),
            root: root.to_path_buf(),
            cancel,
        })
    }

    /// Sends a request, again where that helps, and waits for the answer.
    ///
    /// # Errors
    /// The last failure, or that `start:` did not work.
    pub fn send(&self, request: &Request, tell: &dyn Fn(Notice)) -> Result<Answer, SendError> {
        self.ready(tell).map_err(SendError::Start)?;
        let (path, body) = match self.api {
            Api::OpenAi => ("/chat/completions", openai::body(request, self.http.is_openai())),
        };
        let mut attempt = 0;
        loop {
            if self.cancel.is_cancelled() {
                return Err(SendError::Failed(Failure::new(FailureKind::Cancelled, "interrupted")));
            }
            let failure = match self.http.post(path, &body).and_then(|reply| match self.api {
                Api::OpenAi => openai::answer(&reply),
            }) {
                Ok(answer) => return Ok(answer),
                Err(failure) => Failure { message: self.http.without_key(&failure.message), ..failure },
            };
            let Some(delay) = retry::delay(attempt, &failure, random()) else {
                return Err(SendError::Failed(failure));
            };
            attempt += 1;
            tell(Notice::Retry(failure, delay));
            self.cancel.wait(delay);
        }
    }

    /// Ends what `start:` brought up.
    pub fn take_down(&self) {
        drop(self.server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Brings the provider up if it has a `start:` and does not answer. The first request does this; others wait for it.
    fn ready(&self, tell: &dyn Fn(Notice)) -> Result<(), Error> {
        let Some((command, timeout)) = &self.start else { return Ok(()) };
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let result = server.get_or_insert_with(|| {
            let server = start::bring_up(command, *timeout, &self.root, &|| self.http.answers(), &self.cancel, tell);
            server.map_err(|e| {
                let message = format!("provider `{}` was not brought up by its `start:` command: {}", self.name, e.message);
                Error { message, ..e }
            })
        });
        result.as_ref().map(drop).map_err(Error::clone)
    }
}

/// Why [`Provider::send`] has no answer.
#[derive(Debug)]
pub enum SendError {
    /// `start:` did not work.
    Start(Error),
    /// The request failed.
    Failed(Failure),
}

fn key(
    declared: &manifest::Provider,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    trusted: &[String],
) -> Result<Secret, Error> {
    let host = http::host(&declared.base_url);
    let own = host == "api.openai.com" && declared.base_url.starts_with("https://");
    if !own && !is_loopback(&declared.base_url) && !trusted.contains(&host) {
        let message = format!("the key in `{name}` would go to `{host}`, which only the Genfile names");
        return Err(Error::new(Code::Key, message)
            .at(declared.place.clone())
            .hint(format!("if you trust that host with your key: `--trust-host {host}`, or set GENMAKE_TRUST_HOSTS={host}")));
    }
    match env(name).filter(|key| !key.trim().is_empty()) {
        Some(key) => Ok(Secret(key.trim().to_owned())),
        None => Err(Error::new(Code::Key, format!("the environment variable `{name}` is not set"))
            .at(declared.place.clone())
            .hint(format!("provider `{}` takes its key from it: `export {name}=…`", declared.name))),
    }
}

/// A number from 0 to 1 that differs from process to process and from call to call.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::hash::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(base_url: &str) -> manifest::Provider {
        let text = format!("version: 1\nproviders: {{p: {{api: openai, base_url: '{base_url}', key_env: K}}}}\nrules: {{}}\n");
        let (manifest, found) = manifest::load("Genfile", &text).unwrap();
        assert_eq!(found, []);
        manifest.providers["p"].clone()
    }

    fn open(base_url: &str, trusted: &[&str]) -> Result<Provider, Error> {
        let trusted: Vec<String> = trusted.iter().map(|host| (*host).to_owned()).collect();
        let env = |name: &str| (name == "K").then(|| "sk-canary".to_owned());
        Provider::new(&provider(base_url), std::path::Path::new("."), &env, &trusted, Cancel::default())
    }

    #[test]
    fn a_key_goes_to_no_host_that_the_genfile_alone_names() {
        assert!(open("https://api.openai.com/v1", &[]).is_ok());
        assert!(open("http://127.0.0.1:8080/v1", &[]).is_ok());
        assert!(open("http://localhost:8080/v1", &[]).is_ok());
        assert!(open("http://[::1]:8080/v1", &[]).is_ok());
        assert!(open("https://llm.acme.dev/v1", &["llm.acme.dev"]).is_ok());
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

    #[test]
    fn waiting_ends_when_it_is_interrupted() {
        let cancel = Cancel::default();
        assert!(!cancel.wait(Duration::from_millis(1)));
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(600)));
        cancel.cancel();
        assert!(waiter.join().unwrap());
    }
}
