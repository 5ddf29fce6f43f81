//! The word that a run was interrupted, for everything that waits. Knows no signal.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

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
