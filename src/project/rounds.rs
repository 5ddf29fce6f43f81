//! What was handed in to batch APIs: looked for, and fetched.

use super::Project;
use crate::engine::{Fetched, Options, Patience, Rounds};
use crate::error::Error;
use crate::event::Event;
use crate::lock;

impl Project {
    /// Finds out of rounds that a run was killed over whether their providers have them, so that none is handed in twice, and says
    /// which are under way. For a project that was opened for a run.
    ///
    /// # Errors
    /// They cannot be read. What goes wrong with one is told.
    pub fn find_rounds(&self, options: &Options, events: &mut dyn FnMut(Event)) -> Result<(), Error> {
        self.rounds(options, |rounds| rounds.find(events))
    }

    /// Fetches what rounds brought that were handed in to batch APIs, into the store: a run after that puts it in its place. For a
    /// project that was opened for a run.
    ///
    /// # Errors
    /// They cannot be read, or there is no network. What goes wrong with one is told.
    pub fn fetch(
        &self,
        options: &Options,
        patience: Patience,
        events: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        self.rounds(options, |rounds| rounds.fetch(patience, events))
    }

    fn rounds<T>(&self, options: &Options, with: impl FnOnce(&Rounds<'_>) -> T) -> T {
        let lock = lock::file_name(&self.name);
        let (manifest, store) = (&self.graph.manifest, &*self.store);
        with(&Rounds { root: &self.root, lock: &lock, manifest, store, options })
    }
}
