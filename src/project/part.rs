//! The part of a project that what moved, or what a person names, may concern.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Location, Project};
use crate::digest::Digest;
use crate::engine::{Env, PartOf};
use crate::error::Errors;
use crate::files::Files;
use crate::graph::{Changed, Graph, Task, TaskId};
use crate::loaded::{read_genfile, read_text};
use crate::lock::{self, Lock};
use crate::manifest;
use crate::path::RelPath;
use crate::plan::Orphan;
use crate::store::{self, Glance, Origin, Store};
use crate::tree::WorkTree;

impl Project {
    /// Loads a project for a run, as [`Project::open_to_run`], after a glance: only the tasks that what moved may concern, where
    /// that can be told.
    ///
    /// # Errors
    /// As [`Project::open_to_run`].
    pub fn open_moved(location: &Location, env: &Env, glance: Glance, waits: impl FnOnce()) -> Result<Project, Errors> {
        Project::open_part(location, env, Some(glance), &|| Project::glance(location, env), waits)
    }

    /// The same for reading, as [`Project::open_at`].
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_seen(location: &Location, env: &Env, glance: Glance) -> Result<Project, Errors> {
        match Project::load_part(location, env, glance) {
            Some(project) if project.has_all() => Ok(project),
            _ => Project::open_at(location, env),
        }
    }

    /// Loads what `changed` concerns, for reading: in time that grows with that, where everything was up to date before; else the
    /// whole project, narrowed to it when it is planned.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_changed(location: &Location, env: &Env, changed: Changed) -> Result<Project, Errors> {
        let glance = Project::glance_at(location, env, &changed);
        match glance.and_then(|glance| Project::load_part(location, env, glance)) {
            Some(project) if project.has_all() => Ok(project),
            _ => Ok(Project { narrowed: Some(changed), ..Project::open_at(location, env)? }),
        }
    }

    /// As [`Project::open_changed`], for a run.
    ///
    /// # Errors
    /// As [`Project::open_to_run`].
    pub fn open_changed_to_run(
        location: &Location,
        env: &Env,
        changed: Changed,
        waits: impl FnOnce(),
    ) -> Result<Project, Errors> {
        let glance = Project::glance_at(location, env, &changed);
        let project =
            Project::open_part(location, env, glance, &|| Project::glance_at(location, env, &changed), waits)?;
        let narrowed = project.part_of.is_none().then_some(changed);
        Ok(Project { narrowed, ..project })
    }

    /// The whole project, of which `changed` is to be planned.
    #[must_use]
    pub fn narrowed_to(self, changed: Changed) -> Project {
        Project { narrowed: Some(changed), ..self }
    }

    /// Leaves of tasks and orphans what the files concern that a person narrowed it to, and marks what is to be judged for that. All
    /// else is taken as it stands there, unless it does not.
    pub(super) fn narrow(&mut self, tasks: &mut Vec<TaskId>, orphans: Vec<Orphan>) -> (Vec<Orphan>, Vec<bool>) {
        let Some(changed) = &self.narrowed else { return (orphans, self.graph.needed(tasks)) };
        let lock = lock::file_name(&self.name);
        let concerned = self.graph.concerned(changed, &lock, orphans.iter().map(|o| (&o.path, o.rule.as_str())));
        tasks.retain(|task| concerned.tasks[*task]);
        let files = &self.files;
        let is_there = |task: &Task| task.outputs.iter().all(|output| files.exists(&output.path));
        let needed = self.graph.needed_but(tasks, |id, task| !concerned.tasks[id] && is_there(task));
        self.graph.tasks.iter_mut().for_each(|task| task.deps.retain(|dep| needed[*dep]));
        (orphans.into_iter().filter(|orphan| concerned.has_lost(&orphan.path, &orphan.rule)).collect(), needed)
    }

    /// Whether all that the tasks of a part are made from is there, or they make it.
    fn has_all(&self) -> bool {
        let is_there = |path: &RelPath| self.graph.makers.contains_key(path) || self.files.exists(path);
        self.graph.tasks.iter().flat_map(Task::reads).all(is_there)
    }

    fn glance_at(location: &Location, env: &Env, changed: &Changed) -> Option<Glance> {
        let folder = location.root.join(store::FOLDER);
        Glance::of_files(&location.root, &folder, &location.name, &**env, changed.files()?)
    }

    fn open_part(
        location: &Location,
        env: &Env,
        glance: Option<Glance>,
        again: &dyn Fn() -> Option<Glance>,
        waits: impl FnOnce(),
    ) -> Result<Project, Errors> {
        let begun = Instant::now();
        let mut has_waited = false;
        let (guard, is_left) = Project::begin(location, || {
            has_waited = true;
            waits();
        })?;
        let glance = match has_waited {
            // However long that was: whatever anybody did meanwhile is to be seen.
            true => again(),
            false => glance.filter(|glance| !is_left && glance.still_holds()),
        };
        let part = glance.and_then(|glance| Project::load_part(location, env, glance));
        match part {
            Some(project) if project.has_all() => {
                store::sweep(&project.root, &location.lock_name(), &project.store, &[]);
                Ok(Project { guard: Some(guard), load_took: begun.elapsed(), ..project })
            }
            _ => Project::load(location, env, Some(guard), None),
        }
    }

    /// The part of a project that what moved may concern; `None` where it is to be loaded whole. What a glance found as it was is
    /// not looked at again.
    fn load_part(location: &Location, env: &Env, mut glance: Glance) -> Option<Project> {
        let root = location.root.clone();
        let store = Arc::new(Store::new(root.join(store::FOLDER).join("store")).with_history(root.clone()));
        let part = glance.part()?;
        let text = read_genfile(&root.join(&location.name), &location.name).ok()?;
        let included = WorkTree::new(root.clone(), HashMap::new(), 0, store.clone());
        let (manifest, found) = manifest::load(&location.name, &text, &included).ok()?;
        let names = manifest.rules.iter().flat_map(|rule| &rule.env);
        let env: BTreeMap<String, String> = names.filter_map(|name| Some((name.clone(), env(name)?))).collect();
        let kept = part.kept.iter().map(Vec::as_slice);
        let graph =
            Graph::restore(manifest, env, kept, &part.lists, &|id| glance.path(id)).filter(|_| found.is_empty())?;
        let lock_text = read_text(&root.join(location.lock_name())).ok()??;
        let lock = Lock::of_targets(&lock_text, graph.makers.keys())?;
        // What is read here is what was glanced at, and that is what the kept tasks are of.
        let mut read: HashMap<RelPath, Digest> =
            included.seen().into_iter().map(|(path, (_, digest))| (path, digest)).collect();
        read.insert(RelPath::new(&location.name).ok()?, Digest::of(&text));
        read.insert(RelPath::new(&location.lock_name()).ok()?, Digest::of(&lock_text));
        if !read.iter().all(|(path, digest)| glance.digest(path) == Some(*digest)) {
            return None;
        }
        let reads = graph.tasks.iter().flat_map(|task| task.reads());
        let stamps = glance.stamps(reads.chain(graph.makers.keys()))?;
        let files = WorkTree::new(root.clone(), stamps, glance.trusted(), store.clone());
        Some(Project {
            root,
            name: location.name.clone(),
            graph,
            files,
            store,
            memory: part.memory,
            lock,
            lock_text,
            guard: None,
            journal_left: false,
            origin: Origin::default(),
            part_of: Some(PartOf { tasks: part.tasks, glance }),
            assumed: BTreeSet::new(),
            narrowed: None,
            state_damaged: false,
            load_took: Duration::ZERO,
        })
    }
}
