//! How a task ends: fresh, made, failed or excused; what lock and memory are to know of it, and what is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::making::{self, Made};
use super::settle::{self, Left};
use super::{Report, Run, Underway, edits};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::{Event, Status, TaskEnd};
use crate::graph::TaskId;
use crate::manifest::{OnError, Recipe};
use crate::path::RelPath;
use crate::plan::{self, End, Fate, bug};

/// So many of what a task waited for are told: it is the last that it began after.
const WAITED_FOR: usize = 5;

/// A command that takes less is over before anybody asks how long it takes.
const WORTH_NOTING: Duration = Duration::from_secs(1);

impl Run<'_> {
    pub(super) fn fresh(&mut self, task: TaskId, key: Digest) {
        let digest = |path| self.shared.files.digest_now(path);
        let outputs = self.shared.graph.tasks[task].outputs.iter();
        match outputs.map(|output| digest(&output.path)).collect::<Option<Vec<Digest>>>() {
            Some(content) => {
                let bases = edits::bases(&self.shared, task, key, &content);
                self.end_well(task, key, Made { content, bases, ..Made::new(Status::Fresh) });
            }
            None => self.fail(task, Status::Failed, bug("a fresh output is not there")),
        }
    }

    pub(super) fn made(&mut self, task: TaskId, made: Result<Made, Error>) {
        match made {
            Ok(mut made) => {
                self.written.append(&mut made.written);
                let Some(key) = self.underway.get(&task.into()).and_then(|u| u.key) else {
                    return self.fail(task, Status::Failed, bug("a result without a key"));
                };
                let underway = self.underway.entry(task.into()).or_default();
                let passed = plan::passed(&self.shared.graph, task, &made.content, &self.shared.files);
                underway.checked = passed.unwrap_or_default().filter(|_| !underway.unjudged);
                self.end_well(task, key, made);
            }
            Err(error) => {
                let is_held = matches!(error.code, Code::Edited | Code::Unmerged);
                let status = if is_held { Status::Edited } else { Status::Failed };
                self.fail(task, status, error);
            }
        }
    }

    /// A task that left what it should; where a person is to resolve a merge, it is held all the same.
    pub(super) fn end_well(&mut self, task: TaskId, key: Digest, made: Made) {
        let is_held = made.unresolved.is_some();
        let status = if is_held { Status::Edited } else { made.status };
        let mut end = self.task_end(task, status, made.unresolved);
        (end.saved, end.saved_usd) = (made.saved, made.saved_usd);
        (end.collected, end.embedded) = (made.collected, made.embedded);
        let underway = self.underway.remove(&task.into()).unwrap_or_default();
        let model = match self.shared.graph.rule(task).recipe {
            Some(Recipe::Prompt(_) | Recipe::Embed(_)) => made.model.or(underway.ask.map(|ask| ask.model.clone())),
            _ => None,
        };
        let rule = self.shared.graph.rule(task);
        if matches!(rule.recipe, Some(Recipe::Run(_))) && underway.worked >= WORTH_NOTING {
            let ledger = self.ledger.get_or_insert_with(|| self.shared.ledger().clone());
            ledger.note_time(&rule.name, 1, underway.worked);
        }
        let (parts, checked) = (underway.parts, underway.checked);
        if status != Status::Fresh {
            self.ended.insert(task, self.ended.len());
        }
        self.left.push(Left {
            task,
            key,
            content: made.content,
            bases: made.bases,
            parts,
            checked,
            model,
            rows: made.rows,
        });
        self.schedule.ended(task, if is_held { End::Held } else { End::Done });
        (self.emit)(Event::Ended(end));
    }

    /// A task that failed; if its rule says so, something else than a failure comes of that.
    pub(super) fn fail(&mut self, task: TaskId, status: Status, mut error: Error) {
        if matches!(error.code, Code::CommandFailed | Code::NotMade | Code::CheckFailed) {
            error = error.at(self.shared.graph.rule(task).place.clone());
        }
        let key = self.underway.get(&task.into()).and_then(|underway| underway.key);
        self.collections.remove(&task);
        self.embeddings.remove(&task);
        if matches!(self.shared.graph.rule(task).recipe, Some(Recipe::Run(_))) {
            self.unmade.push(task);
        }
        let edits = self.underway.get(&task.into()).map(|underway| Arc::clone(&underway.edits)).unwrap_or_default();
        // A default is nothing to merge an edit with.
        let is_merged = edits.iter().any(|edit| edit.fate == Fate::Merged);
        // Of a collection it is for its items that the rule says so, and that was heeded.
        let is_collection = self.shared.graph.tasks[task].items.is_some();
        let is_own = status == Status::Failed && self.interrupted.is_none() && !is_merged && !is_collection;
        let is_own = is_own && settle::is_of_the_recipe(error.code);
        let on_error = if is_own { self.shared.graph.rule(task).on_error.clone() } else { OnError::Fail };
        let excused = |error| Event::Excused { path: self.shared.graph.name(task).clone(), error };
        match (on_error, key) {
            (OnError::Default(value), Some(key)) => {
                (self.emit)(excused(error));
                // What depends on it may have been judged by what a template rendered.
                self.surprises.insert(task);
                self.schedule.resumes(task);
                let shared = Arc::clone(&self.shared);
                let write = move || Report::Made(task, making::default(&shared, task, key, &value, &edits));
                return self.spawn_local(task, write);
            }
            (OnError::Skip, _) => {
                (self.emit)(excused(error));
                // What it took belongs to it, also if nothing came of it.
                let underway = self.underway.entry(task.into()).or_default();
                underway.took = underway.begun.map(|begun| begun.elapsed());
                return self.schedule.ended(task, End::Skipped);
            }
            _ => {}
        }
        let end = self.task_end(task, status, Some(error));
        self.underway.remove(&task.into());
        // An edit holds up what depends on it; it is no failure that should stop the rest.
        let end_as = if status == Status::Edited { End::Held } else { End::Failed };
        self.schedule.ended(task, end_as);
        self.shared.stopped.fetch_or(self.schedule.is_stopped(), Ordering::Release);
        (self.emit)(Event::Ended(end));
    }

    pub(super) fn task_end(&self, task: TaskId, status: Status, error: Option<Error>) -> TaskEnd {
        let graph = &self.shared.graph;
        let none = Underway::default();
        let underway = self.underway.get(&task.into()).unwrap_or(&none);
        let contexts = underway.ask.iter().filter_map(|ask| ask.context.as_ref());
        let took = underway.took.or_else(|| Some(underway.begun?.elapsed())).unwrap_or_default();
        TaskEnd {
            rule: graph.rule(task).name.clone(),
            outputs: graph.tasks[task].outputs.iter().map(|output| output.path.clone()).collect(),
            status,
            reasons: underway.reasons.clone(),
            error,
            request: underway.request,
            took,
            // Several requests at once for one collection are no more than the time that they take together.
            worked: underway.worked.min(took),
            outline: underway.outline,
            waited_for: self.waited_for(task),
            usage: underway.usage,
            cost: underway.cost.0,
            saved: 0,
            saved_usd: Some(0.0),
            left_out: contexts.flat_map(|note| note.left_out.clone()).collect(),
            collected: None,
            embedded: None,
        }
    }
    /// Of the tasks that this one waited for and that were not up to date, the last to end, the latest first.
    fn waited_for(&self, task: TaskId) -> Vec<RelPath> {
        let graph = &self.shared.graph;
        let deps = graph.tasks[task].deps.iter().filter(|_| !self.ended.is_empty());
        let mut ended: Vec<(usize, TaskId)> = deps.filter_map(|dep| Some((*self.ended.get(dep)?, *dep))).collect();
        ended.sort_unstable_by(|a, b| b.cmp(a));
        ended.iter().take(WAITED_FOR).map(|(_, dep)| graph.name(*dep).clone()).collect()
    }
}
