//! `plan` and `-n`: what would be done and why, with requests and tokens. Sends nothing.

use serde_json::{Value, json};

use super::args::Format;
use super::savings::{savings, savings_line};
use super::verdicts::{orphan_json, orphan_words, rows, table};
use super::{Context, Exit, targets};
use crate::batch::Batch;
use crate::error::{Error, Errors};
use crate::llm::{Ask, Request};
use crate::project::{Planned, Project};
use crate::tokens;
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = context.assume(Project::open_at(&location, &context.env)?, &location)?;
    let mut planned = project.plan_as(&targets, context.wish(), context.options.jobs)?;
    if context.options.no_batch {
        let alone = |batch: &Batch| {
            batch.tasks.iter().map(|task| Batch { tasks: vec![*task], ..batch.clone() }).collect::<Vec<_>>()
        };
        planned.plan.batches = planned.plan.batches.iter().flat_map(alone).collect();
    }
    let requests: Vec<Estimate> = planned.plan.batches.iter().map(|batch| estimate(&planned, batch)).collect();
    match context.options.format {
        Format::Json => ui::out(&format!("{:#}\n", to_json(&planned, &requests))),
        _ => to_text(context, &planned, &requests),
    }
    let failed = planned.plan.tasks.iter().flatten().any(Result::is_err);
    Ok(Exit(if failed { 2 } else { 0 }))
}

/// What a request would take.
struct Estimate {
    paths: Vec<String>,
    /// How alike each is to what its group goes by.
    alike: Vec<f64>,
    provider: String,
    model: String,
    input_tokens: u64,
    /// The most that may come back; none where nothing bounds it.
    max_output_tokens: Option<u64>,
}

fn estimate(planned: &Planned, batch: &Batch) -> Estimate {
    let graph = planned.graph();
    let judged = |task: &usize| planned.plan.tasks[*task].as_ref().and_then(|judged| judged.as_ref().ok());
    let asks: Vec<&Ask> = batch.tasks.iter().filter_map(|task| judged(task)?.ask()).collect();
    let provider = batch.tasks.first().and_then(|task| graph.manifest.provider_of(graph.rule(*task)).ok());
    let mut estimate = Estimate {
        paths: batch.tasks.iter().map(|task| graph.name(*task).to_string()).collect(),
        alike: batch.tasks.iter().map(|task| planned.plan.scores.get(task).copied().unwrap_or(1.0)).collect(),
        provider: provider.map(|provider| provider.name.clone()).unwrap_or_default(),
        model: String::new(),
        input_tokens: 0,
        max_output_tokens: None,
    };
    if !asks.is_empty() {
        let request = Request::new(&asks);
        let schema = request.schema.as_ref().map(Value::to_string).unwrap_or_default();
        estimate.input_tokens = request.messages.iter().map(|message| tokens::estimate(&message.text)).sum::<u64>()
            + tokens::estimate(&schema);
        estimate.max_output_tokens = request.max_output_tokens;
        estimate.model = request.model;
    }
    estimate
}

fn to_json(planned: &Planned, requests: &[Estimate]) -> Value {
    let targets = rows(planned).iter().map(|row| row.to_json()).collect::<Vec<_>>();
    let batches = requests.iter().map(|request| {
        json!({
            "outputs": request.paths, "provider": request.provider, "model": request.model,
            "input_tokens": request.input_tokens, "max_output_tokens": request.max_output_tokens,
            "similarity": request.alike.iter().map(|score| (score * 1000.0).round() / 1000.0).collect::<Vec<_>>(),
        })
    });
    json!({
        "version": 1,
        "targets": targets,
        "orphans": planned.plan.orphans.iter().map(orphan_json).collect::<Vec<_>>(),
        "requests": requests.len(),
        "batches": batches.collect::<Vec<_>>(),
        "input_tokens": requests.iter().map(|request| request.input_tokens).sum::<u64>(),
        "max_output_tokens": requests.iter().map(|request| request.max_output_tokens).sum::<Option<u64>>(),
        "tokens_saved": savings(planned),
        "cost_usd": null,
    })
}

fn to_text(context: &Context, planned: &Planned, requests: &[Estimate]) {
    let rows = rows(planned);
    let mut lines = Vec::new();
    for row in &rows {
        if row.status == "fresh" && !context.options.verbose {
            continue;
        }
        let mut why = row.reasons.join("; ");
        if let Some(request) = row.request {
            why += &match planned.plan.scores.get(&row.task).filter(|_| context.options.verbose) {
                Some(score) => format!("  [request {request}, {score:.2} alike]"),
                None => format!("  [request {request}]"),
            };
        }
        lines.push([row.action.unwrap_or(row.status).to_owned(), row.name(), why]);
    }
    for orphan in &planned.plan.orphans {
        lines.push(["orphan".to_owned(), orphan.path.to_string(), orphan_words(orphan).to_owned()]);
    }
    ui::out(&table(&lines));
    // One mistake in a recipe is one mistake, however many tasks it fails.
    let mut shown: Vec<&Error> = Vec::new();
    for error in planned.plan.tasks.iter().flatten().filter_map(|judged| judged.as_ref().err()) {
        if !shown.iter().any(|other| other.code == error.code && other.place == error.place) {
            ui::complain(error);
            shown.push(error);
        }
    }
    for (at, request) in requests.iter().enumerate() {
        let out =
            request.max_output_tokens.map_or("no bound on what comes back".to_owned(), |n| format!("at most {n} out"));
        ui::out(&format!(
            "request {}: {}, {} ({}), about {} tokens in, {out}\n",
            at + 1,
            ui::count(request.paths.len(), "task"),
            request.provider,
            request.model,
            request.input_tokens
        ));
    }
    if let Some(line) = savings_line(planned, &savings(planned)) {
        ui::out(&line);
    }
    let count = |action: &str| rows.iter().filter(|row| row.action == Some(action)).count();
    let fresh = rows.iter().filter(|row| row.status == "fresh").count();
    let waiting = rows.iter().filter(|row| row.status == "waiting").count();
    let mut parts = vec![format!("{fresh} fresh")];
    for (n, word) in [
        (count("render"), "to render"),
        (count("run"), "to run"),
        (count("restore"), "to restore"),
        (count("accept"), "to accept"),
        (count("generate"), "to generate"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    let open = match waiting {
        0 => String::new(),
        1 => " and what 1 waiting task turns out to need".to_owned(),
        n => format!(" and what {n} waiting tasks turn out to need"),
    };
    let requests = ui::count(requests.len(), "request");
    ui::out(&format!("{}; {requests}{open}\n", parts.join(", ")));
}
