//! The requests of a run, each from when it was sent to what came of it.

use std::time::Duration;

use crate::event::Event;
use crate::llm::{Shortfall, Usage};
use crate::path::RelPath;

/// One request.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its number in its run, from 1.
    pub request: usize,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The outputs that it was for, each once.
    pub outputs: Vec<RelPath>,
    /// How many tasks, items or texts it carried.
    pub tasks: usize,
    /// Whether it asked again for what an earlier one had not delivered.
    pub again: bool,
    /// When it began, counted from the run's begin.
    pub begin: Duration,
    /// How long it took, as far as it came.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// How many of its results were good.
    pub good: usize,
    /// How often it was sent again after a failure in transport.
    pub retries: usize,
    /// For how long it waited because of its provider's limits, at least.
    pub limited: Duration,
    /// What of it did not come, and why.
    pub fallback: Option<Fallback>,
    /// What it took.
    pub usage: Usage,
    /// What that costs, in USD; `None` where the price is not known.
    pub cost: Option<f64>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The run ended before it came back.
    Open,
    /// An answer came.
    Answered,
    /// No answer came.
    Failed,
}

impl Outcome {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Open => "open",
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
        }
    }
}

/// What a request did not deliver.
#[derive(Debug, Clone)]
pub struct Fallback {
    /// How many results.
    pub missing: usize,
    /// Why.
    pub why: Shortfall,
    /// Whether they were asked for again.
    pub again: bool,
}

/// Takes an event in that came so long after the run's begin.
pub(super) fn note(all: &mut Vec<Exchange>, event: &Event, at: Duration) {
    match event {
        Event::Requested { request, provider, model, paths, tasks, price, again, .. } => {
            let mut outputs = paths.clone();
            outputs.dedup();
            all.push(Exchange {
                request: *request,
                provider: provider.clone(),
                model: model.clone(),
                outputs,
                tasks: *tasks,
                again: *again,
                begin: at,
                took: Duration::ZERO,
                outcome: Outcome::Open,
                good: 0,
                retries: 0,
                limited: Duration::ZERO,
                fallback: None,
                usage: Usage::default(),
                cost: price.map(|_| 0.0),
            });
        }
        Event::Retrying { request, .. } => of(all, *request, |it| it.retries += 1),
        Event::WaitsForLimits { request, wait, .. } => of(all, *request, |it| it.limited += *wait),
        Event::Answered { request, good, usage, price, took, .. } => of(all, *request, |it| {
            (it.outcome, it.good, it.usage) = (Outcome::Answered, *good, *usage);
            it.cost = price.map(|price| price.cost(*usage));
            it.ended(at, *took);
        }),
        Event::RequestFailed { request, took, .. } => of(all, *request, |it| {
            it.outcome = Outcome::Failed;
            it.ended(at, *took);
        }),
        Event::FellBack { request, missing, why, again } => of(all, *request, |it| {
            it.fallback = Some(Fallback { missing: missing.len(), why: why.clone(), again: *again });
        }),
        _ => {}
    }
}

impl Exchange {
    fn ended(&mut self, at: Duration, took: Duration) {
        self.took = took;
        // That it was sent is heard of a little later.
        self.begin = self.begin.min(at.saturating_sub(took));
    }
}

/// The latest of this number: of several rounds in one run each counts from 1.
fn of(all: &mut [Exchange], number: usize, with: impl FnOnce(&mut Exchange)) {
    all.iter_mut().rev().find(|it| it.request == number).map(with);
}
