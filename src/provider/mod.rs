//! Providers: a request in, an answer or a failure out. One file a wire format; HTTP, retries and `start:` around it.
//!
//! Knows nothing of tasks, plans and the store. A key is held in a type that cannot print itself.

#[cfg(not(feature = "net"))]
mod absent;
#[cfg(feature = "net")]
mod http;
#[cfg(feature = "net")]
mod live;
#[cfg(feature = "net")]
mod openai;
#[cfg(feature = "net")]
mod retry;
#[cfg(feature = "net")]
mod start;
#[cfg(feature = "net")]
mod strict;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[cfg(not(feature = "net"))]
pub use absent::Provider;
#[cfg(feature = "net")]
pub use http::is_loopback;
#[cfg(feature = "net")]
pub use live::Provider;

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
    /// Interrupts everything that waits. `false` if nobody asked to be told: there is nothing to end in an orderly way.
    pub fn cancel(&self) -> bool {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is = true;
        let then = std::mem::take(&mut state.then);
        drop(state);
        self.0.1.notify_all();
        let is_told = !then.is_empty();
        then.into_iter().for_each(|then| then());
        is_told
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_when_it_is_interrupted() {
        let cancel = Cancel::default();
        assert!(!cancel.wait(Duration::from_millis(1)));
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(600)));
        assert!(!cancel.cancel());
        assert!(waiter.join().unwrap());
    }
}
