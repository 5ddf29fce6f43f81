//! The word that a run is to end, for everything that waits. Knows no signal.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How a run is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Nothing new is begun; what is under way is waited for, and kept.
    Gently,
    /// What is under way is given up; what is finished is saved.
    Now,
}

/// Tells waiting threads that the run is to end.
#[derive(Clone, Default)]
pub struct Cancel(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    stop: Option<Stop>,
    then: Vec<Box<dyn Fn(Stop) + Send>>,
    /// What the process does last, if it is ended at once.
    last: Vec<Box<dyn FnOnce() + Send>>,
}

impl Cancel {
    /// Ends everything that waits. `false` if nobody asked to be told: there is nothing to end in an orderly way.
    pub fn stop(&self, stop: Stop) -> bool {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stop >= Some(stop) {
            return true;
        }
        state.stop = Some(stop);
        self.0.1.notify_all();
        let then = std::mem::take(&mut state.then);
        drop(state);
        then.iter().for_each(|then| then(stop));
        let is_told = !then.is_empty();
        // Whoever was told to end gently may still be told to end now.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).then.extend(then);
        is_told
    }

    /// As [`Cancel::stop`], now.
    pub fn cancel(&self) -> bool {
        self.stop(Stop::Now)
    }

    /// Calls `then` whenever it is to end, or to end sooner; at once, if it was told to already.
    pub fn on_stop(&self, then: impl Fn(Stop) + Send + 'static) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stop) = state.stop {
            drop(state);
            then(stop);
            state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have become more urgent meanwhile.
            if let Some(later) = state.stop.filter(|later| *later != stop) {
                drop(state);
                return then(later);
            }
        }
        state.then.push(Box::new(then));
    }

    /// Calls `last` if the process is ended at once, by [`Cancel::last_words`].
    pub fn on_the_end(&self, last: impl FnOnce() + Send + 'static) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).last.push(Box::new(last));
    }

    /// Does what is to be done before the process is ended at once.
    pub fn last_words(&self) {
        let last = std::mem::take(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner).last);
        last.into_iter().for_each(|last| last());
    }

    /// Whether it is to end: nothing new is begun.
    pub fn is_cancelled(&self) -> bool {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).stop.is_some()
    }

    /// Whether what is under way is given up.
    pub fn is_now(&self) -> bool {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).stop == Some(Stop::Now)
    }

    /// Waits; `true` if it was told to end meanwhile.
    pub fn wait(&self, time: Duration) -> bool {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(guard, time, |state| state.stop.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.stop.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn waiting_ends_when_it_is_interrupted() {
        let cancel = Cancel::default();
        assert!(!cancel.wait(Duration::from_millis(1)));
        let other = cancel.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(600)));
        assert!(!cancel.cancel());
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn who_is_to_end_gently_can_be_told_to_end_now() {
        let (cancel, (send, told)) = (Cancel::default(), mpsc::channel());
        let tell = |send: mpsc::Sender<Stop>| move |stop| send.send(stop).unwrap();
        cancel.on_stop(tell(send.clone()));
        assert!(cancel.stop(Stop::Gently) && cancel.is_cancelled() && !cancel.is_now());
        // The same again says nothing, and who comes late is told what holds.
        assert!(cancel.stop(Stop::Gently));
        cancel.on_stop(tell(send.clone()));
        assert!(cancel.stop(Stop::Now) && cancel.is_now());
        assert!(cancel.stop(Stop::Gently) && cancel.is_now());
        cancel.on_stop(tell(send));
        let told: Vec<Stop> = told.try_iter().collect();
        assert_eq!(told, [Stop::Gently, Stop::Gently, Stop::Now, Stop::Now, Stop::Now]);
    }
}
