//! A plan as a person decides by it: what is made and why, then what it costs, request by request or rule by rule, and in all.

use std::collections::BTreeMap;

use super::Context;
use super::plan::{Costs, Estimate};
use super::savings::savings_line;
use super::spending::{Sum, price};
use super::verdicts::{Row, mistakes, rows, table};
use crate::project::Planned;
use crate::ui;
use crate::ui::columns::{self, Column};
use crate::wording;

/// With more targets or requests than these a person sees their rules; `-v` shows each.
const MANY: (usize, usize) = (60, 20);

/// In fewer columns than these a table of costs has no room for what a request is for.
const NARROW: usize = 80;

pub(super) fn to_text(context: &Context, planned: &Planned, costs: &Costs, warnings: &[String]) {
    let is_verbose = context.options.verbose;
    let rows = rows(planned);
    let shown: Vec<&Row> = rows.iter().filter(|row| row.status != "fresh" || is_verbose).collect();
    let mut lines = if shown.len() > MANY.0 && !is_verbose {
        by_rule(&shown)
    } else {
        shown.iter().map(|row| line(planned, row, is_verbose)).collect()
    };
    for orphan in &planned.plan.orphans {
        lines.push(["orphan".to_owned(), orphan.path.to_string(), wording::orphan(orphan).to_owned()]);
    }
    ui::out(&table(&lines));
    mistakes(planned).into_iter().for_each(ui::complain);
    if !costs.requests.is_empty() {
        ui::out(&requests(costs, is_verbose));
    }
    for warning in warnings {
        ui::out(&format!("warning: {warning}\n"));
    }
    if let Some(line) = savings_line(planned, costs) {
        ui::out(&line);
    }
    let sum = in_words(&rows, costs.requests.len());
    ui::out(&columns::table(&[Column::Rest], &[vec![sum]], columns::of_stdout()));
}

/// What becomes of one task, and why.
fn line(planned: &Planned, row: &Row, is_verbose: bool) -> [String; 3] {
    let mut why = row.reasons.join("; ");
    if let Some(request) = row.request {
        why += &match planned.plan.scores.get(&row.task.into()).filter(|_| is_verbose) {
            Some(score) => format!("  [request {request}, {score:.2} alike]"),
            None => format!("  [request {request}]"),
        };
    }
    [row.action.unwrap_or(row.status).to_owned(), row.name(), why]
}

/// What becomes of the tasks of each rule, and the reason that most of them have.
fn by_rule(rows: &[&Row]) -> Vec<[String; 3]> {
    let mut rules: Vec<(&str, &str, Vec<&Row>)> = Vec::new();
    for row in rows {
        let action = row.action.unwrap_or(row.status);
        match rules.iter_mut().find(|(of, rule, _)| *of == action && *rule == row.rule) {
            Some((.., same)) => same.push(row),
            None => rules.push((action, &row.rule, vec![row])),
        }
    }
    let line = |(action, rule, same): &(&str, &str, Vec<&Row>)| {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        same.iter().for_each(|row| *reasons.entry(row.reasons.join("; ")).or_default() += 1);
        let (why, count) =
            reasons.iter().max_by_key(|(_, count)| **count).map(|(why, n)| (why.as_str(), *n)).unwrap_or_default();
        let others = same.len() - count;
        let more = if others > 0 { format!(", and {others} for other reasons") } else { String::new() };
        let what = match same[..] {
            [only] => only.name(),
            _ => format!("{} targets of rule `{rule}`", same.len()),
        };
        [(*action).to_owned(), what, format!("{why}{more}")]
    };
    rules.iter().map(line).collect()
}

/// What the requests take: one a line, or one rule a line where they are many; then all of them, and what would be without genmake.
fn requests(costs: &Costs, is_verbose: bool) -> String {
    let is_long = costs.requests.len() > MANY.1 && !is_verbose;
    let head = if is_long { ["rule", "for", "model"] } else { ["request", "for", "model"] };
    let mut table =
        vec![head.iter().chain(&["tokens in", "out", "at most", "cost"]).map(ToString::to_string).collect()];
    if is_long {
        let mut rules: BTreeMap<String, Vec<&Estimate>> = BTreeMap::new();
        costs.requests.iter().for_each(|of| rules.entry(of.rules.join(", ")).or_default().push(of));
        for (rules, of) in rules {
            let results: usize = of.iter().map(|of| of.paths.len()).sum();
            let what = format!("{} in {}", ui::count(results, of[0].noun), ui::count(of.len(), "request"));
            table.push(row(&rules, what, &model(of[0]), sum(of.iter().copied()), most(of.iter().copied())));
        }
    } else {
        for (at, of) in costs.requests.iter().enumerate() {
            let what = ui::count(of.paths.len(), of.noun);
            table.push(row(&(at + 1).to_string(), what, &model(of), sum([of]), most([of])));
        }
    }
    let many = ui::count(costs.requests.len(), "request");
    table.push(row("in all", many, "", costs.sum(), most(&costs.requests)));
    let without = &costs.without_genmake;
    let mut last = row("without genmake", ui::count(without.requests, "request"), "", *without, None);
    last[5] = String::new();
    table.push(last);
    let (words, numbers) = (Column::Words, Column::Numbers);
    let kinds = [words, words, Column::Names, numbers, numbers, numbers, words];
    let columns = columns::of_stdout();
    if columns.is_none_or(|columns| columns >= NARROW) {
        return columns::table(&kinds, &table, columns);
    }
    // What decides is left.
    let left = |row: &Vec<String>| [0, 3, 4, 6].map(|at| row[at].clone());
    let table: Vec<Vec<String>> = table.iter().map(|row| left(row).to_vec()).collect();
    columns::table(&[0, 3, 4, 6].map(|at| kinds[at]), &table, columns)
}

fn row(name: &str, what: String, model: &str, sum: Sum, most: Option<u64>) -> Vec<String> {
    let most = most.map_or("no bound".to_owned(), |tokens| tokens.to_string());
    vec![name.to_owned(), what, model.to_owned(), sum.input.to_string(), sum.output.to_string(), most, price(sum.cost)]
}

fn model(of: &Estimate) -> String {
    format!("{} ({})", of.provider, of.model)
}

fn sum<'a>(requests: impl IntoIterator<Item = &'a Estimate>) -> Sum {
    let mut sum = Sum::nothing();
    requests.into_iter().for_each(|of| sum.add(of.input_tokens, of.output_tokens, of.cost));
    sum
}

fn most<'a>(requests: impl IntoIterator<Item = &'a Estimate>) -> Option<u64> {
    requests.into_iter().map(|of| of.max_output_tokens).sum()
}

/// How many of each there are to do.
fn in_words(rows: &[Row], requests: usize) -> String {
    let count = |action: &str| rows.iter().filter(|row| row.action == Some(action)).count();
    let fresh = rows.iter().filter(|row| row.status == "fresh").count();
    let waiting = rows.iter().filter(|row| row.status == "waiting").count();
    // What nothing is done about before a person does something.
    let held = |status: &str| rows.iter().filter(|row| row.status == status && row.action.is_none()).count();
    let (edited, failed) = (held("edited"), held("failed"));
    let mut parts = vec![format!("{fresh} fresh")];
    for (n, word) in [
        (count("render"), "to render"),
        (count("run"), "to run"),
        (count("restore"), "to restore"),
        (count("accept"), "to accept"),
        (count("generate"), "to generate"),
        (count("embed"), "to embed"),
        (edited, "edited by hand"),
        (failed, "failed"),
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
    format!("{}; {}{open}", parts.join(", "), ui::count(requests, "request"))
}
