//! Threads that wait for their turn to send, by the provider's [`Limits`]; woken by the clock, by one another, and by an interruption.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::{Limits, Reading, Ticket, Turn};
use super::{Failure, FailureKind, Notice};
use crate::cancel::Cancel;
use crate::llm::Usage;
use crate::tokens;

/// A wait that people wonder about.
const LONG: Duration = Duration::from_secs(5);

/// The line before one provider.
pub(super) struct Turns {
    shared: Arc<Shared>,
    cancel: Cancel,
}

struct Shared {
    limits: Mutex<Limits>,
    /// Told whenever something in them changed.
    changed: Condvar,
}

/// A request on its way through the line: its place, which it keeps when it is sent again.
pub(super) struct Place<'a> {
    turns: &'a Turns,
    ticket: Ticket,
    model: &'a str,
    /// What its prompt is thought to have.
    estimate: u64,
    /// What its answer may have.
    longest: Option<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    pub fn new(limits: Limits, cancel: Cancel) -> Turns {
        let shared = Arc::new(Shared { limits: Mutex::new(limits), changed: Condvar::new() });
        let line = Arc::downgrade(&shared);
        cancel.on_stop(move |_| {
            if let Some(shared) = line.upgrade() {
                // Whoever has looked and not yet lain down holds the lock.
                drop(shared.lock());
                shared.changed.notify_all();
            }
        });
        Turns { shared, cancel }
    }

    /// A place in the line for a request to a model that says these texts, whose answer may have `longest` tokens.
    pub fn place<'a>(
        &'a self,
        model: &'a str,
        texts: impl Iterator<Item = &'a String>,
        longest: Option<u64>,
    ) -> Place<'a> {
        let estimate = texts.map(|text| tokens::estimate(text)).sum();
        Place { turns: self, ticket: self.shared.lock().ticket(), model, estimate, longest }
    }

    /// What an answer's headers say.
    pub fn heard(&self, model: &str, readings: &[Reading]) {
        if !readings.is_empty() {
            self.shared.lock().heard(Instant::now(), model, readings);
            self.shared.changed.notify_all();
        }
    }
}

impl Place<'_> {
    /// Waits until the request may go; tells of it, once, if that is long.
    ///
    /// # Errors
    /// The run was interrupted, or no request to this provider can succeed any more: why.
    pub fn wait(&self, tell: &dyn Fn(Notice)) -> Result<(), Failure> {
        let Place { turns: Turns { shared, cancel }, model, longest, .. } = self;
        let mut limits = shared.lock();
        limits.enter(self.ticket, model, self.estimate, *longest);
        let mut is_told = false;
        let turn = loop {
            if cancel.is_cancelled() {
                break Err(Failure::new(FailureKind::Cancelled, "interrupted"));
            }
            let wait = match limits.turn(Instant::now(), self.ticket) {
                Turn::Go => break Ok(()),
                Turn::Never(failure) => break Err(failure),
                Turn::After(wait) => {
                    if wait >= LONG && !std::mem::replace(&mut is_told, true) {
                        tell(Notice::Waits(wait));
                    }
                    wait
                }
                Turn::Later => Duration::MAX,
            };
            let waited = shared.changed.wait_timeout(limits, wait);
            limits = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        limits.leave(self.ticket);
        drop(limits);
        // The next in the line may be able to go, too.
        shared.changed.notify_all();
        turn
    }

    /// The answer is there, and took so much.
    pub fn answered(&self, usage: Usage) {
        self.turns.shared.lock().answered(Instant::now(), self.ticket, usage);
        self.turns.shared.changed.notify_all();
    }

    /// No answer came; it is sent again after so long, if at all.
    pub fn failed(&self, failure: &Failure, delay: Option<Duration>) {
        self.turns.shared.lock().failed(Instant::now(), self.ticket, failure, delay);
        self.turns.shared.changed.notify_all();
    }
}

impl Drop for Place<'_> {
    /// Where its thread panicked it holds up nobody.
    fn drop(&mut self) {
        self.turns.shared.lock().abandon(self.ticket);
        self.turns.shared.changed.notify_all();
    }
}
