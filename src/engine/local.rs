//! Hands local jobs to their pool. What templates rendered goes in groups, and so does what one answer brought: its records share a
//! sync of the journal, and its files one of the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::making::{self, Good, Ready};
use super::{Report, Run};
use crate::error::{Code, Error};
use crate::graph::TaskId;
use crate::parallel;
use crate::plan::{self, bug};

/// The least that is worth a group of its own, and the most that is written between two syncs.
const GROUP: (usize, usize) = (16, 256);

/// A pool of `threads`, or of as many as there are cores for 0.
///
/// # Errors
/// The system has no threads left.
pub fn pool(name: &'static str, threads: usize) -> Result<ThreadPool, Error> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |i| format!("{name}-{i}"))
        .stack_size(parallel::STACK)
        .build()
        .map_err(|e| Error::new(Code::Bug, format!("cannot start threads: {e}")))
}

impl Run<'_> {
    /// Judges a task by the files as they are now.
    pub(super) fn judge(&mut self, task: TaskId) {
        let shared = Arc::clone(&self.shared);
        self.spawn_local(task, move || {
            let judged = plan::judge_to_send(&shared.ground(), task, &shared.files);
            Report::Judged(task, Box::new(judged))
        });
    }

    /// Writes what a template rendered, together with others unless its rule has commands, which nothing is to wait for.
    pub(super) fn render(&mut self, ready: Ready) {
        if !self.shared.graph.rule(ready.task).has_commands() {
            return self.rendered.push(ready);
        }
        let (shared, frozen) = (Arc::clone(&self.shared), self.options.frozen);
        let task = ready.task;
        self.spawn_local(task, move || Report::Made(task, making::render(&shared, ready, frozen)));
    }

    /// Hands out what is rendered by now, shared between the threads.
    pub(super) fn write_rendered(&mut self) {
        let share = self.rendered.len().div_ceil(self.cpu.current_num_threads()).clamp(GROUP.0, GROUP.1);
        let mut rest = std::mem::take(&mut self.rendered).into_iter().peekable();
        while rest.peek().is_some() {
            let group: Vec<Ready> = rest.by_ref().take(share).collect();
            let tasks: Vec<TaskId> = group.iter().map(|ready| ready.task).collect();
            let (shared, frozen) = (Arc::clone(&self.shared), self.options.frozen);
            self.spawn(tasks.clone(), move || {
                let made = making::render_all(&shared, group, frozen);
                tasks.into_iter().zip(made).map(|(task, made)| Report::Made(task, made)).collect()
            });
        }
    }

    /// Stores and writes the good results of an answer.
    pub(super) fn finish(&mut self, group: Vec<Good>) {
        if group.is_empty() {
            return;
        }
        // Jobs begin in the order of the graph.
        self.write_rendered();
        let tasks: Vec<TaskId> = group.iter().map(|good| good.ready.task).collect();
        let shared = Arc::clone(&self.shared);
        self.spawn(tasks.clone(), move || {
            let made = making::finish_all(&shared, &group);
            tasks.into_iter().zip(made).map(|(task, made)| Report::Made(task, made)).collect()
        });
    }

    /// Runs a local job.
    pub(super) fn spawn_local(&mut self, task: TaskId, job: impl FnOnce() -> Report + Send + 'static) {
        // Jobs begin in the order of the graph.
        self.write_rendered();
        self.spawn(vec![task], move || vec![job()]);
    }

    /// Does what is to be done for pieces of a task.
    pub(super) fn spawn_pieces(&mut self, task: TaskId, job: impl FnOnce() -> Report + Send + 'static) {
        self.write_rendered();
        let (send, jobs) = (self.send.clone(), self.options.jobs.clone());
        self.cpu.spawn(move || {
            let slot = jobs.slot();
            let report = catch_unwind(AssertUnwindSafe(job));
            // Before the report: it may be the last, and then the process ends.
            drop(slot);
            let panicked = |_| Report::Kept(task, Vec::new(), Err(bug("a job panicked")));
            let _ = send.send(report.unwrap_or_else(panicked));
        });
    }

    /// A panic in a job is the failure of its tasks.
    fn spawn(&self, tasks: Vec<TaskId>, job: impl FnOnce() -> Vec<Report> + Send + 'static) {
        let (send, jobs) = (self.send.clone(), self.options.jobs.clone());
        self.cpu.spawn(move || {
            let slot = jobs.slot();
            let begun = Instant::now();
            let panicked = |task: &TaskId| Report::Made(*task, Err(bug("a job panicked")));
            let reports = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_| tasks.iter().map(panicked).collect());
            drop(slot);
            let each = begun.elapsed() / u32::try_from(tasks.len().max(1)).unwrap_or(u32::MAX);
            let _ = send.send(Report::Worked(tasks, each));
            for report in reports {
                let _ = send.send(report);
            }
        });
    }
}
