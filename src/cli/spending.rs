//! What is said and asked about tokens and money before anything is sent.

use super::Context;
use crate::batch::Batch;
use crate::error::{Code, Error};
use crate::llm::Ask;
use crate::project::Planned;
use crate::ui;
use crate::wording::usd;

/// Asks about a run that will probably use more tokens than `confirm_above_tokens`. Without a terminal to ask on it is refused. Models
/// on this machine are never asked about.
pub(super) fn confirm(context: &Context, planned: &Planned) -> Result<(), Error> {
    let options = &context.options;
    let Some(limit) = planned.graph().manifest.budget.confirm_above_tokens else { return Ok(()) };
    if options.yes || options.frozen || options.offline {
        return Ok(());
    }
    let (tokens, tasks) = planned.paid_tokens()?;
    if tokens <= limit {
        return Ok(());
    }
    let results = ui::count(tasks, "result");
    // What waits for others is in the tokens, and not in the price.
    let mut sum = Sum::nothing();
    for batch in &planned.plan.batches {
        let asks: Vec<&Ask> = batch.tasks.iter().filter_map(|task| planned.ask(*task)).collect();
        let estimate = planned.estimate(&batch.tasks, &asks)?;
        sum.add(estimate.input, estimate.output, estimate.cost());
    }
    let cost = match sum.cost {
        None => "unpriced".to_owned(),
        cost => format!("{} so far as can be told", price(cost)),
    };
    let what =
        format!("{results} will take about {tokens} tokens ({cost}), more than the {limit} of `confirm_above_tokens`");
    match ui::ask(&format!("{what}. Go on?")) {
        Some(true) => Ok(()),
        Some(false) => Err(Error::new(Code::NeedsYes, "nothing was asked")),
        None => Err(Error::new(Code::NeedsYes, what).hint("say `--yes` if that is meant; `genmake plan` says more")),
    }
}

/// What requests will take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    pub requests: usize,
    pub input: u64,
    pub output: u64,
    /// In USD; `None` where a price is not known.
    pub cost: Option<f64>,
}

impl Sum {
    pub fn nothing() -> Sum {
        Sum { cost: Some(0.0), ..Sum::default() }
    }

    pub fn add(&mut self, input: u64, output: u64, cost: Option<f64>) {
        self.requests += 1;
        self.input += input;
        self.output += output;
        self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
    }
}

/// A cost to a billionth of a USD, as in reports.
pub(super) fn cost_json(cost: Option<f64>) -> Option<f64> {
    cost.map(|cost| (cost * 1e9).round() / 1e9)
}

/// A cost in words.
pub(super) fn price(cost: Option<f64>) -> String {
    match cost {
        None => "unpriced".to_owned(),
        Some(0.0) => "free".to_owned(),
        Some(cost) => format!("{} USD", usd(cost)),
    }
}

/// What the results of these requests would take without genmake: one call a file or text, and each shown all that its context selects from.
pub(super) fn without_genmake(planned: &Planned, batches: &[Batch]) -> Result<Sum, Error> {
    let mut sum = Sum::nothing();
    let tasks = batches.iter().flat_map(|batch| &batch.tasks);
    for task in tasks {
        let ask = planned.ask(*task);
        let mut estimate = planned.estimate(&[*task], ask.as_slice())?;
        estimate.input += ask.and_then(|ask| ask.context.as_ref()).map_or(0, |note| note.tokens_saved());
        sum.add(estimate.input, estimate.output, estimate.cost());
    }
    Ok(sum)
}
