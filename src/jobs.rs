//! How many jobs run on this machine at once: as many as a person says, or as GNU make has to give.
//!
//! A job is a thread that judges, renders or writes, or a command that it waits for. Under make each of them but one has a token of
//! make's, and gives it back: all that make started share them. Knows nothing of tasks; what waits for a network is no job.

#[cfg(all(unix, feature = "cli"))]
mod tokens;
#[cfg(not(all(unix, feature = "cli")))]
#[path = "jobs/absent.rs"]
mod tokens;

use std::sync::Arc;

use tokens::{Token, Tokens};

/// How many jobs there may be. Clones share what make gives.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    /// 0 for as many as there are cores.
    most: usize,
    make: Option<Arc<Tokens>>,
}

/// The room for one job. When this is dropped, it is another's.
#[must_use]
pub struct Slot(Option<(Arc<Tokens>, Token)>);

/// Room for several jobs.
pub struct Slots {
    /// For how many; 0 for as many as there are cores.
    pub count: usize,
    _held: Vec<Slot>,
}

impl From<usize> for Jobs {
    /// So many at once; 0 for as many as there are cores.
    fn from(most: usize) -> Jobs {
        Jobs { most, make: None }
    }
}

impl Jobs {
    /// As many as make has tokens for, at most `most` of them; `auth` is what make says of where they are: `fifo:PATH`, or two
    /// numbers of open files.
    ///
    /// # Errors
    /// They are not open to this process.
    pub fn of_make(most: usize, auth: &str) -> std::io::Result<Jobs> {
        Ok(Jobs { most, make: Some(Arc::new(Tokens::open(auth)?)) })
    }

    /// How many threads there is work for; 0 for as many as there are cores.
    pub fn threads(&self) -> usize {
        self.most
    }

    /// Waits until there is room for one more job. Whoever has room does not ask for more before it is done: with one token for all,
    /// it would wait for itself.
    pub fn slot(&self) -> Slot {
        Slot(self.make.as_ref().map(|make| (Arc::clone(make), make.take())))
    }

    /// Room for as many jobs as there may be by now: for one at least.
    pub fn slots(&self) -> Slots {
        let Some(make) = &self.make else { return Slots { count: self.most, _held: Vec::new() } };
        let most = match self.most {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            most => most,
        };
        let mut held = vec![self.slot()];
        let more = || make.take_free().map(|token| Slot(Some((Arc::clone(make), token))));
        held.extend(std::iter::from_fn(more).take(most - 1));
        Slots { count: held.len(), _held: held }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((make, token)) = self.0.take() {
            make.give(token);
        }
    }
}
