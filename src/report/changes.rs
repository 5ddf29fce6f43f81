//! What is otherwise than in the run before.

use std::collections::{BTreeMap, BTreeSet};

use super::json::Report;

/// A figure of two runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// What it is.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// In the run before; `None` where it is not known.
    pub before: Option<f64>,
    /// Now.
    pub now: Option<f64>,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Milliseconds,
    Usd,
    /// From 0 to 1.
    Share,
}

/// The figures of a whole run, side by side.
pub(super) fn totals(before: &Report, now: &Report) -> Vec<Change> {
    let figures = |report: &Report| {
        let (targets, llm) = (&report.targets, &report.llm);
        let count = |n: u64| Some(n as f64);
        [
            ("duration", Unit::Milliseconds, count(report.duration_ms)),
            ("targets", Unit::Count, count(targets.total)),
            ("targets up to date before", Unit::Count, count(targets.fresh)),
            ("targets that failed", Unit::Count, count(targets.failed)),
            ("requests", Unit::Count, count(llm.requests)),
            ("retries", Unit::Count, count(llm.retries)),
            ("fallbacks", Unit::Count, count(llm.fallbacks)),
            ("tokens in", Unit::Count, count(llm.input_tokens)),
            ("tokens out", Unit::Count, count(llm.output_tokens)),
            ("cost", Unit::Usd, llm.cost_usd),
            ("saved", Unit::Usd, llm.cost_saved_usd),
            ("store's hit rate", Unit::Share, report.caches.store.rate),
            ("prompt cache's hit rate", Unit::Share, report.caches.prompt.rate),
        ]
    };
    let both = figures(before).into_iter().zip(figures(now));
    both.map(|((name, unit, before), (.., now))| Change { name: name.to_owned(), unit, before, now }).collect()
}

/// The costs of rules that have other ones now, or other tokens; by name.
pub(super) fn rules(before: &Report, now: &Report) -> Vec<[Change; 2]> {
    let lines = |report: &Report| -> BTreeMap<String, (Option<f64>, u64)> {
        report.rules.iter().map(|l| (l.rule.clone(), (l.cost_usd, l.input_tokens + l.output_tokens))).collect()
    };
    let (before, now) = (lines(before), lines(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let none = (Some(0.0), 0);
    let of = |name: &&String| {
        let (was, is) = (before.get(*name).unwrap_or(&none), now.get(*name).unwrap_or(&none));
        let change = |unit, before, now| Change { name: (*name).clone(), unit, before, now };
        (was != is)
            .then(|| [change(Unit::Usd, was.0, is.0), change(Unit::Count, Some(was.1 as f64), Some(is.1 as f64))])
    };
    names.iter().filter_map(of).collect()
}

/// The tasks that fail now and did not, and those that failed and do not any more, by their first outputs.
pub(super) fn failures<'a>(before: &'a Report, now: &'a Report) -> (Vec<&'a str>, Vec<&'a str>) {
    let failed = |report: &'a Report| -> BTreeSet<&'a str> {
        report.tasks.iter().filter(|task| task.status == "failed").map(super::TaskLine::name).collect()
    };
    let (was, is) = (failed(before), failed(now));
    (is.difference(&was).copied().collect(), was.difference(&is).copied().collect())
}
