//! A project out of its tree: where it is, what its Genfile and its lock say, and its tasks. Nothing of what a machine remembers, and
//! nothing is decided yet.

mod location;
mod reading;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Code, Error, Errors};
use crate::files::Files;
use crate::graph::Graph;
use crate::lock::Lock;
use crate::manifest;
use crate::path::RelPath;
use crate::tree::{NoBlobs, WorkTree};

pub use location::{GENFILES, Location};
pub use reading::{Texts, read_genfile, read_text, texts, texts_in};

/// What the tree says of a project: a Genfile without mistakes, its tasks, and the lock.
pub struct Loaded {
    /// Where it is.
    pub location: Location,
    /// The tasks.
    pub graph: Graph,
    /// The tree as it was seen.
    pub files: WorkTree,
    /// The lock; empty where there is none.
    pub lock: Lock,
    /// The lock's text.
    pub lock_text: String,
}

impl Loaded {
    /// Loads a project as it is committed: the tree and the lock count, and nothing that this machine remembers or keeps. Nothing is
    /// written. `env` reads the variables that rules name.
    ///
    /// # Errors
    /// All mistakes of the Genfile, or what cannot be read.
    pub fn committed(location: &Location, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Errors> {
        let files = WorkTree::new(location.root.clone(), HashMap::new(), 0, Arc::new(NoBlobs));
        Loaded::read(location, env, files, texts(location)?)
    }

    /// Loads a project out of a tree.
    ///
    /// # Errors
    /// As [`Loaded::committed`].
    pub fn read(
        location: &Location,
        env: &dyn Fn(&str) -> Option<String>,
        files: WorkTree,
        texts: Texts,
    ) -> Result<Loaded, Errors> {
        let (text, locked) = texts;
        let lock_name = location.lock_name();
        // What they are is a part of every verdict: if they move, the tree is looked at anew.
        for (name, text) in [(&location.name, Some(&text)), (&lock_name, locked.as_ref())] {
            if let Ok(path) = RelPath::new(name)
                && files.digest(&path)? != text.map(Digest::of)
            {
                let error = Error::new(Code::Moved, format!("`{name}` changed while genmake was reading it"));
                return Err(error.hint("run genmake again").into());
            }
        }
        let lock = locked.as_ref().map_or(Ok(Lock::default()), |text| Lock::parse(&lock_name, text));
        let lock_text = locked.unwrap_or_default();
        let (manifest, mut found) = manifest::load(&location.name, &text, &files)?;
        let locked: BTreeSet<RelPath> =
            lock.iter().flat_map(|lock| lock.iter().map(|(path, _)| path.clone())).collect();
        let (graph, more) = Graph::new(manifest, &files, &locked, env);
        found.extend(more);
        let lock = lock.map_err(|e| found.push(e)).unwrap_or_default();
        Errors::unless_empty(found)?;
        files.is_loaded();
        Ok(Loaded { location: location.clone(), graph, files, lock, lock_text })
    }

    /// Takes what templates make for not there yet, so that all of it is rendered, whatever stands in its place.
    #[must_use]
    pub fn unrendered(self) -> Loaded {
        let tasks = self.graph.tasks.iter().enumerate().filter(|(id, _)| self.graph.rule(*id).is_rendered());
        tasks.flat_map(|(_, task)| &task.outputs).for_each(|output| self.files.removed(&output.path));
        self
    }
}
