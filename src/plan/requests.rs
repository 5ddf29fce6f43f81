//! A plan: all selected tasks, judged, and the requests that would be sent for them.

use std::collections::HashMap;

use super::overlay::Overlay;
use super::{
    Collection, Embedding, Ground, Judged, Making, Orphan, Reason, Verdict, Verdicts, judge, leaks, make, verdicts,
};
use crate::batch::{Batch, Shape, Terms};
use crate::error::Error;
use crate::files::Files;
use crate::graph::{TaskId, Unit};
use crate::llm::{Ask, EmbedLimits};
use crate::models::Model;

/// What is known of models, and of results before. It says who travels with whom, and is never part of a key or a verdict.
pub trait Experience: Sync {
    /// What a model takes and costs at a task's provider, so far as that is known.
    fn model(&self, id: TaskId, name: &str) -> Model;

    /// How many results like a task's its provider takes into the schema of one answer; `None` where nothing bounds them.
    fn most_results(&self, id: TaskId, ask: &Ask) -> Option<usize>;

    /// How many texts its provider takes in a request for vectors; `None` where it makes none.
    fn embed_limits(&self, id: TaskId, model: &str) -> Option<EmbedLimits>;

    /// The tokens that a task's result is expected to have.
    fn expected_output(&self, id: TaskId, ask: &Ask) -> u64;
}

/// All selected tasks, judged, and the requests that would be sent.
#[derive(Default)]
pub struct Plan {
    /// By task.
    pub tasks: Verdicts,
    /// Targets in the lock without a rule; empty where only some targets were asked for.
    pub orphans: Vec<Orphan>,
    /// The requests that would be sent now. What waits for them is not in them.
    pub batches: Vec<Batch>,
    /// Of the tasks in them how alike each is to what its group goes by, 0 to 1.
    pub scores: HashMap<Unit, f64>,
    /// What holds for the tasks of each shape.
    pub terms: HashMap<Shape, Terms>,
}

/// Judges the tasks that `needed` marks, on so many threads; on as many as there are cores for 0.
pub fn plan(ground: &Ground, experience: &dyn Experience, needed: &[bool], threads: usize) -> Plan {
    let mut plan = Plan { tasks: verdicts(ground, needed, threads, judge_to_send), ..Plan::default() };
    plan.batch(ground, experience);
    plan
}

/// Judges one task as [`judge`] does, finds out what of it would be sent, and stops what should not be.
///
/// # Errors
/// As [`judge`], and where something secret would be sent.
pub fn judge_to_send(ground: &Ground, id: TaskId, files: &dyn Files) -> Result<Judged, Error> {
    let mut judged = judge(ground, id, files)?;
    let Verdict::Stale(why) = &judged.verdict else { return Ok(judged) };
    let is_anew = ground.wish.rebuild
        || !ground.assumed(id).is_empty()
        || why.iter().any(|why| matches!(why, Reason::CheckFailed(_)));
    let stop = |ask: &Ask| {
        let rule = ground.graph.rule(id);
        leaks::stop(ground, id, ask, files).map_err(|e| e.in_rule(&rule.name).at(rule.place.clone()))
    };
    match &judged.making {
        Some(Making::Ask(ask)) => stop(ask)?,
        Some(Making::Collection(made)) => {
            judged.is_submitted = made.pieces.iter().any(|piece| ground.store.is_submitted(&piece.key));
            judged.missing = if is_anew { made.all() } else { made.missing(ground, id, files) };
            judged.missing.iter().try_for_each(|piece| stop(&made.pieces[*piece].ask))?;
        }
        Some(Making::Embedding(made)) => {
            judged.missing = if is_anew { (0..made.texts.len()).collect() } else { made.missing(ground, id) };
            stop(&made.said(&judged.missing))?;
        }
        _ => {}
    }
    Ok(judged)
}

/// What a task's recipe gives, whatever it was judged to be. What it depends on is taken as it will be, so far as that is known.
///
/// # Errors
/// What cannot be read or rendered.
pub fn making(ground: &Ground, plan: &Plan, id: TaskId) -> Result<Making, Error> {
    if let Some(Some(Ok(Judged { making: Some(making), .. }))) = plan.tasks.get(id) {
        return Ok(making.clone());
    }
    let mut overlay = Overlay::new(ground.files);
    for dep in &ground.graph.tasks[id].deps {
        if let Some(Some(Ok(judged))) = plan.tasks.get(*dep) {
            overlay.add(ground, *dep, judged);
        }
    }
    make(ground.graph, id, &overlay, ground.recipes).map_err(|e| e.at(ground.graph.rule(id).place.clone()))
}

impl Judged {
    /// The request that it would take, if it takes one.
    pub fn ask(&self) -> Option<&Ask> {
        match (&self.verdict, &self.making) {
            (Verdict::Stale(_), Some(Making::Ask(ask))) if !self.is_replied && !self.is_submitted => Some(ask),
            _ => None,
        }
    }

    /// The collection that it makes anew.
    pub fn collection(&self) -> Option<&Collection> {
        match (&self.verdict, &self.making) {
            (Verdict::Stale(_), Some(Making::Collection(made))) => Some(made),
            _ => None,
        }
    }

    /// The vectors that it makes anew.
    pub fn embedding(&self) -> Option<&Embedding> {
        match (&self.verdict, &self.making) {
            (Verdict::Stale(_), Some(Making::Embedding(made))) => Some(made),
            _ => None,
        }
    }

    /// How many results it would ask for.
    pub fn asks(&self) -> usize {
        usize::from(self.ask().is_some()) + self.missing.len()
    }
}
