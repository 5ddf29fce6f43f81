//! What was handed in to batch APIs: looked for, and fetched.

use super::Project;
use crate::engine::{self, Fetched, Options, Patience};
use crate::error::Error;
use crate::event::Event;

impl Project {
    /// Finds out of rounds that a run was killed over whether their providers have them, so that none is handed in twice. For a
    /// project that was opened for a run.
    ///
    /// # Errors
    /// A round cannot be read, or its provider not be asked.
    pub fn find_rounds(&self, options: &Options) -> Result<(), Error> {
        engine::find_rounds(&self.root, &self.graph.manifest, &self.store, options)
    }

    /// Fetches what rounds brought that were handed in to batch APIs, into the store: a run after that puts it in its place. For a
    /// project that was opened for a run.
    ///
    /// # Errors
    /// A round cannot be read, its provider not be asked, or a result not be stored; all that was stored before that is.
    pub fn fetch(
        &self,
        options: &Options,
        patience: Patience,
        events: &mut dyn FnMut(Event),
    ) -> Result<Fetched, Error> {
        engine::fetch(&self.root, &self.graph.manifest, &self.store, options, patience, events)
    }
}
