//! `check` and `-q`: is everything up to date? Changes nothing, runs nothing, sends nothing.

use serde_json::json;

use super::args::Format;
use super::verdicts::{orphan_json, orphan_words, rows, table};
use super::{Context, Exit, targets};
use crate::error::Errors;
use crate::project::{Planned, Project};
use crate::store::Glance;
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if let Some(count) = fresh_at_a_glance(context, names)? {
        match context.options.format {
            Format::Json => ui::out(&format!("{:#}\n", json!({"version": 1, "up_to_date": true, "targets": []}))),
            Format::Text => say_up_to_date(context, count),
        }
        return Ok(Exit(0));
    }
    let planned = judged(context, names)?;
    let rows: Vec<_> = rows(&planned).into_iter().filter(|row| row.status != "fresh").collect();
    let orphans = &planned.plan.orphans;
    let failed = planned.plan.tasks.iter().flatten().any(Result::is_err);
    match context.options.format {
        Format::Json => {
            let targets = rows.iter().map(|row| row.to_json()).chain(orphans.iter().map(orphan_json));
            let targets: Vec<_> = targets.collect();
            let report = json!({"version": 1, "up_to_date": targets.is_empty(), "targets": targets});
            ui::out(&format!("{report:#}\n"));
        }
        Format::Text => {
            let mut lines: Vec<[String; 3]> =
                rows.iter().map(|row| [row.status.to_owned(), row.name(), row.reasons.join("; ")]).collect();
            lines.extend(
                orphans
                    .iter()
                    .map(|orphan| ["orphan".to_owned(), orphan.path.to_string(), orphan_words(orphan).to_owned()]),
            );
            ui::out(&table(&lines));
            planned.plan.tasks.iter().flatten().filter_map(|judged| judged.as_ref().err()).for_each(ui::complain);
            if lines.is_empty() {
                say_up_to_date(context, planned.needed.iter().filter(|needed| **needed).count());
            }
        }
    }
    Ok(Exit(match (failed, rows.is_empty() && orphans.is_empty()) {
        (true, _) => 2,
        (_, true) => 0,
        _ => 1,
    }))
}

/// `-q`: the answer is the exit status; only what failed is said.
pub(super) fn question(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if fresh_at_a_glance(context, names)?.is_some() {
        return Ok(Exit(0));
    }
    let planned = judged(context, names)?;
    let mut failed = false;
    for error in planned.plan.tasks.iter().flatten().filter_map(|judged| judged.as_ref().err()) {
        failed = true;
        ui::complain(error);
    }
    let fresh = rows(&planned).iter().all(|row| row.status == "fresh") && planned.plan.orphans.is_empty();
    Ok(Exit(match (failed, fresh) {
        (true, _) => 2,
        (_, true) => 0,
        _ => 1,
    }))
}

fn say_up_to_date(context: &Context, count: usize) {
    if !context.options.silent {
        ui::say(&format!("{count} {} up to date", if count == 1 { "target is" } else { "targets are" }));
    }
}

/// How many tasks there are, if a glance tells that all of them are up to date.
fn fresh_at_a_glance(context: &Context, names: &[String]) -> Result<Option<usize>, Errors> {
    let glance = context.glance(&context.location()?, names).filter(Glance::is_fresh);
    Ok(glance.map(|glance| glance.tasks()))
}

fn judged(context: &Context, names: &[String]) -> Result<Planned, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    Project::open_at(&location, &context.env)?.plan_as(&targets, context.wish(), context.options.jobs)
}
