//! A project as a commit would record it.

use std::collections::BTreeSet;

use super::{Location, Planned, Project};
use crate::engine::Env;
use crate::error::Errors;
use crate::graph::TaskId;
use crate::path::RelPath;
use crate::store::Staged;

impl Project {
    /// Loads a project for reading, as a commit would record it. What this machine remembers of outputs does not vouch for them:
    /// whoever gets the commit has the lock alone.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_staged(location: &Location, env: &Env, staged: Staged) -> Result<Project, Errors> {
        Project::load(location, env, None, Some(staged))
    }
}

impl Planned {
    /// Of what these tasks are made of and make, and of the lock, what stands there otherwise than a commit would record it.
    pub fn unstaged(&self, tasks: &[TaskId]) -> Vec<RelPath> {
        let graph = &self.shared.graph;
        let own = RelPath::new(&self.shared.lock_name).into_iter();
        let tasks = tasks.iter().map(|task| &graph.tasks[*task]);
        let files = tasks.flat_map(|task| task.reads().chain(task.outputs.iter().map(|output| &output.path)));
        let all: BTreeSet<RelPath> = own.chain(files.cloned()).collect();
        all.into_iter().filter(|path| self.shared.files.is_staged_otherwise(path)).collect()
    }
}
