//! Providers: a request in, an answer or a failure out. One file a wire format, with HTTP and `start:` around it; one for commands
//! and one for recordings, which answer in a server's place; retries around them all.
//!
//! Knows nothing of tasks, plans and the store. A key is held in a type that cannot print itself.

#[cfg(not(feature = "net"))]
mod absent;
#[cfg(feature = "net")]
mod anthropic;
#[cfg(feature = "net")]
mod command;
#[cfg(feature = "net")]
mod embeds;
#[cfg(feature = "net")]
mod exchange;
#[cfg(feature = "net")]
mod form;
#[cfg(feature = "net")]
mod gemini;
#[cfg(feature = "net")]
mod http;
#[cfg(feature = "net")]
mod keep;
#[cfg(feature = "net")]
mod limits;
#[cfg(feature = "net")]
mod live;
#[cfg(feature = "net")]
mod mask;
#[cfg(feature = "net")]
mod openai;
#[cfg(feature = "net")]
mod readings;
#[cfg(feature = "net")]
mod record;
#[cfg(feature = "net")]
mod remote;
#[cfg(feature = "net")]
mod replay;
#[cfg(feature = "net")]
mod retry;
mod round;
#[cfg(feature = "net")]
mod rounds;
#[cfg(feature = "net")]
mod sse;
#[cfg(feature = "net")]
mod start;
#[cfg(feature = "net")]
mod telling;
#[cfg(feature = "net")]
mod turns;
#[cfg(feature = "net")]
mod wire;

use std::time::Duration;

#[cfg(not(feature = "net"))]
pub use absent::{Provider, embed_limits, is_local, most_results};
#[cfg(feature = "net")]
pub use embeds::embed_limits;
#[cfg(feature = "net")]
pub use live::{Provider, is_local, most_results};
pub use round::{Entry, Returned, Sought, Standing};
#[cfg(feature = "net")]
pub use telling::tell;

/// A provider that asks for more patience than this is not waited for.
const LONGEST: Duration = Duration::from_secs(300);

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
    /// The same of the key alone, where the status does not tell.
    Key,
    /// Whoever answers cannot show that it is the one that was to be asked.
    Untrusted,
    /// This request will not do: too long, or with something the provider does not know.
    Rejected,
    /// It failed, and nothing says that it would go otherwise the next time, or with less.
    Failed,
    /// The run was interrupted.
    Cancelled,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, status: None, message: message.into(), request_id: None, retry_after: None }
    }

    /// Whether no further request to this provider can succeed in this run.
    pub fn is_final(&self) -> bool {
        matches!(self.kind, FailureKind::Refused | FailureKind::Key | FailureKind::Untrusted | FailureKind::Unreachable)
            || self.asks_for_too_much_patience().is_some()
    }

    /// How long the provider asks to be left alone, where that is not waited for.
    pub fn asks_for_too_much_patience(&self) -> Option<Duration> {
        let is_limited = self.kind == FailureKind::Limited;
        self.retry_after.filter(|asked| is_limited && *asked > LONGEST)
    }

    /// Whether the provider may have worked on the request, and take money for it, though no answer came.
    pub fn may_have_cost(&self) -> bool {
        matches!(self.kind, FailureKind::Cut | FailureKind::Timeout)
    }
}

/// What whoever sends a request hears of its answer while it comes, and says each time whether something is whole by then that it
/// keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// An answer is to come; what was heard of another before counts no more.
    Begins,
    /// The next piece of its text.
    Text(&'a str),
}

/// A request and its answer as a file, to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The name of the file.
    pub name: String,
    /// What it holds.
    pub text: String,
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
    /// The request waits for so long at least, because of the provider's limits.
    Waits(Duration),
    /// The request failed and is sent again after a while.
    Retry(Failure, Duration),
}
