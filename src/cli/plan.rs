//! `plan` and `-n`: what would be done and why, with requests, tokens and cost. Sends nothing.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::args::Format;
use super::plan_text::to_text;
use super::savings::savings;
use super::spending::{Sum, cost_json, without_genmake};
use super::verdicts::{orphan_json, rows};
use super::{Context, Exit, targets};
use crate::batch::Batch;
use crate::error::{Error, Errors};
use crate::graph::{Graph, Unit};
use crate::llm::Ask;
use crate::models::Price;
use crate::project::Planned;
use crate::ui;
use crate::wording::{self, usd};

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    run_at(context, names, |price| price)
}

/// As [`run`], for requests that cost otherwise.
pub(super) fn run_at(context: &Context, names: &[String], priced: fn(Price) -> Price) -> Result<Exit, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = context.assume(context.open(&location, &targets)?, &location)?;
    let mut planned = project.plan_as(&targets, context.wish(), &context.jobs)?;
    if context.options.no_batch {
        let alone = |batch: &Batch| {
            batch.tasks.iter().map(|task| Batch { tasks: vec![*task], ..batch.clone() }).collect::<Vec<_>>()
        };
        planned.plan.batches = planned.plan.batches.iter().flat_map(alone).collect();
    }
    let mut warnings = without_room(&mut planned);
    warnings.extend(not_kept(&planned));
    let requests = planned.plan.batches.iter().map(|batch| estimate(&planned, batch, priced));
    let costs = Costs {
        requests: requests.collect::<Result<_, _>>()?,
        without_genmake: without_genmake(&planned, &planned.plan.batches)?,
    };
    warnings.extend(over_budget(context, &planned, &costs.sum()));
    match context.options.format {
        Format::Json => ui::out(&format!("{:#}\n", to_json(&planned, &costs, &warnings))),
        _ => to_text(context, &planned, &costs, &warnings),
    }
    let failed = planned.plan.tasks.iter().flatten().any(Result::is_err);
    Ok(Exit(if failed { 2 } else { 0 }))
}

/// Takes out of the requests what its model has no room for: that is its verdict. What there is only just room for is said.
fn without_room(planned: &mut Planned) -> Vec<String> {
    let tasks: Vec<Unit> = planned.plan.batches.iter().flat_map(|batch| batch.tasks.clone()).collect();
    let mut warnings = Vec::new();
    for task in tasks {
        match planned.ask(task).map_or(Ok(None), |ask| planned.fits(task, ask)) {
            Ok(warning) => warnings.extend(warning),
            Err(error) => planned.plan.tasks[task.task] = Some(Err(error)),
        }
    }
    let failed: Vec<bool> = planned.plan.tasks.iter().map(|judged| matches!(judged, Some(Err(_)))).collect();
    planned.plan.batches.iter_mut().for_each(|batch| batch.tasks.retain(|unit| !failed[unit.task]));
    planned.plan.batches.retain(|batch| !batch.tasks.is_empty());
    warnings
}

/// Which prefixes are to be kept and will not be, once for each shape.
fn not_kept(planned: &Planned) -> Vec<String> {
    let mut said = HashSet::new();
    let batches = planned.plan.batches.iter().filter(|batch| said.insert(batch.shape));
    let why = |batch: &Batch| Some((*batch.tasks.first()?, planned.plan.terms.get(&batch.shape)?.too_short()?));
    batches.filter_map(why).map(|(task, why)| wording::unkept(planned.graph().name(task).as_str(), why)).collect()
}

/// Why a build would not come to its end under the budget, if it would not.
fn over_budget(context: &Context, planned: &Planned, sum: &Sum) -> Option<String> {
    let said = planned.graph().manifest.budget;
    let max_tokens = context.options.max_tokens.or(said.max_tokens);
    let max_cost = context.options.max_cost.or(said.max_cost_usd);
    let tokens = sum.input + sum.output;
    match (max_tokens, max_cost, sum.cost) {
        _ if sum.requests == 0 => None,
        (Some(most), ..) if tokens > most => {
            Some(format!("the budget of {most} tokens will not do: about {tokens} are to be used"))
        }
        (_, Some(most), Some(cost)) if cost > most => {
            Some(format!("the budget of {} USD will not do: this costs about {}", usd(most), usd(cost)))
        }
        (_, Some(most), None) => {
            Some(format!("the budget of {} USD cannot be kept: what is unpriced is not asked under it", usd(most)))
        }
        _ => None,
    }
}

/// What the requests would take.
pub(super) struct Costs {
    pub requests: Vec<Estimate>,
    pub without_genmake: Sum,
}

impl Costs {
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::nothing();
        for request in &self.requests {
            sum.add(request.input_tokens, request.output_tokens, request.cost);
        }
        sum
    }
}

/// What a request would take.
pub(super) struct Estimate {
    pub paths: Vec<String>,
    /// The rules of these.
    pub rules: Vec<String>,
    /// What it is of: tasks, or texts that are to become vectors.
    pub noun: &'static str,
    /// How alike each is to what its group goes by.
    pub alike: Vec<f64>,
    pub provider: String,
    pub model: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The most that may come back; none where the request does not bound it.
    pub max_output_tokens: Option<u64>,
    /// In USD; none where the price is not known.
    pub cost: Option<f64>,
}

fn estimate(planned: &Planned, batch: &Batch, priced: fn(Price) -> Price) -> Result<Estimate, Error> {
    let graph = planned.graph();
    let asks: Vec<&Ask> = batch.tasks.iter().filter_map(|task| planned.ask(*task)).collect();
    let provider = batch.tasks.first().and_then(|task| graph.manifest.provider_of(graph.rule(*task)).ok());
    let mut estimate = planned.estimate(&batch.tasks, &asks)?;
    estimate.model.price = estimate.model.price.map(priced);
    Ok(Estimate {
        paths: batch.tasks.iter().map(|task| graph.name(*task).to_string()).collect(),
        rules: rules(graph, batch),
        noun: if asks.is_empty() { "text" } else { "task" },
        alike: batch.tasks.iter().map(|task| planned.plan.scores.get(task).copied().unwrap_or(1.0)).collect(),
        provider: provider.map(|provider| provider.name.clone()).unwrap_or_default(),
        model: planned.model(&batch.tasks).unwrap_or_default().to_owned(),
        input_tokens: estimate.input,
        output_tokens: estimate.output,
        max_output_tokens: estimate.is_bounded.then_some(estimate.most_output),
        cost: estimate.cost(),
    })
}

/// The rules of what a request carries, each once.
fn rules(graph: &Graph, batch: &Batch) -> Vec<String> {
    let mut rules: Vec<String> = batch.tasks.iter().map(|task| graph.rule(*task).name.clone()).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn to_json(planned: &Planned, costs: &Costs, warnings: &[String]) -> Value {
    let targets = rows(planned).iter().map(|row| row.to_json()).collect::<Vec<_>>();
    let batches = costs.requests.iter().map(|request| {
        json!({
            "outputs": request.paths, "provider": request.provider, "model": request.model,
            "input_tokens": request.input_tokens, "output_tokens": request.output_tokens,
            "max_output_tokens": request.max_output_tokens, "cost_usd": cost_json(request.cost),
            "similarity": request.alike.iter().map(|score| (score * 1000.0).round() / 1000.0).collect::<Vec<_>>(),
        })
    });
    let (sum, without) = (costs.sum(), &costs.without_genmake);
    json!({
        "version": 1,
        "targets": targets,
        "orphans": planned.plan.orphans.iter().map(orphan_json).collect::<Vec<_>>(),
        "requests": sum.requests,
        "batches": batches.collect::<Vec<_>>(),
        "input_tokens": sum.input,
        "output_tokens": sum.output,
        "max_output_tokens": costs.requests.iter().map(|request| request.max_output_tokens).sum::<Option<u64>>(),
        "tokens_saved": savings(planned),
        "cost_usd": cost_json(sum.cost),
        "without_genmake": {
            "requests": without.requests, "input_tokens": without.input, "output_tokens": without.output,
            "cost_usd": cost_json(without.cost),
        },
        "warnings": warnings,
    })
}
