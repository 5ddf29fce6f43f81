//! A project out of its tree: the Genfile and the lock, and nothing of what this machine remembers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::reading::{self, Texts};
use super::{Location, Project};
use crate::digest::Digest;
use crate::engine::Env;
use crate::error::{Code, Error, Errors};
use crate::files::Files;
use crate::graph::Graph;
use crate::lock::Lock;
use crate::manifest;
use crate::path::RelPath;
use crate::plan::Memory;
use crate::store::{Origin, Store, WorkTree};

impl Project {
    /// Loads a project as it is committed: the tree and the lock count, and nothing that this machine remembers or keeps. For
    /// judging, and for rendering elsewhere; nothing is written.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_committed(location: &Location, env: &Env) -> Result<Project, Errors> {
        // Below a file there is nothing.
        let store = Arc::new(Store::new(location.root.join(&location.name)));
        let files = WorkTree::new(location.root.clone(), HashMap::new(), 0, Arc::clone(&store));
        Project::read(location, env, files, store, reading::texts(location)?)
    }

    /// What can be known from the tree: a Genfile without mistakes, its graph, and the lock.
    pub(super) fn read(
        location: &Location,
        env: &Env,
        files: WorkTree,
        store: Arc<Store>,
        texts: Texts,
    ) -> Result<Project, Errors> {
        let begun = Instant::now();
        let root = location.root.clone();
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
        let (graph, more) = Graph::new(manifest, &files, &locked, &**env);
        found.extend(more);
        let lock = lock.map_err(|e| found.push(e)).unwrap_or_default();
        Errors::unless_empty(found)?;
        files.is_loaded();
        Ok(Project {
            root,
            name: location.name.clone(),
            graph,
            files,
            store,
            memory: Memory::default(),
            lock,
            lock_text,
            guard: None,
            journal_left: false,
            origin: Origin::default(),
            part_of: None,
            assumed: BTreeSet::new(),
            narrowed: None,
            state_damaged: false,
            load_took: begun.elapsed(),
        })
    }

    /// Takes what templates make for not there yet, so that all of it is rendered, whatever stands in its place.
    #[must_use]
    pub fn unrendered(self) -> Project {
        let tasks = self.graph.tasks.iter().enumerate().filter(|(id, _)| self.graph.rule(*id).is_rendered());
        tasks.flat_map(|(_, task)| &task.outputs).for_each(|output| self.files.removed(&output.path));
        self
    }
}
