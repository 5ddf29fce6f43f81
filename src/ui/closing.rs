//! The end of a run in words: what came of it, what it saved, what took longest, what could be cheaper.

use std::time::Duration;

use crate::event::{Status, TaskEnd};
use crate::report::{Saved, Summary};
use crate::wording::{self, time};

/// What is worth a word among the slowest.
const LONG: Duration = Duration::from_secs(1);

/// How many of the slowest are named.
const SLOWEST: usize = 3;

/// What stands above the last line, as verbs and texts; nothing of a run that asked once at most, restored
/// nothing of a model's, and took no second.
pub(super) fn details(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let llm = &summary.llm;
    // Of a single request the line about its answer says it all.
    let is_worth_it = llm.requests > 1 || llm.tokens_saved.store > 0;
    if llm.batched_requests > 0 && is_worth_it {
        let alone = if llm.files_individual > 0 { format!(", {} alone", llm.files_individual) } else { String::new() };
        let again = if llm.retries > 0 { format!(", {} sent or asked again", llm.retries) } else { String::new() };
        let results = count(llm.files_in_batches, "result");
        lines.push(("shared", format!("{results} in {}{alone}{again}", count(llm.batched_requests, "request"))));
    }
    // What templates save is saved in every run; by itself it is no news.
    let Saved { batching, prompt_cache, store, templates: _, context } = llm.tokens_saved;
    let is_news = is_worth_it && batching + prompt_cache + store + context > 0;
    if let Some(saved) = llm.tokens_saved.words().filter(|_| is_news) {
        let cost = llm.cost_saved_usd.filter(|cost| *cost > 0.0);
        let cost = cost.map(|cost| format!(", and {} USD", wording::usd(cost))).unwrap_or_default();
        lines.push(("saved", format!("{saved}{cost}")));
    }
    let mut slowest: Vec<&TaskEnd> = summary.tasks.iter().filter(|end| end.worked >= LONG).collect();
    slowest.sort_by_key(|end| std::cmp::Reverse(end.worked));
    let name = |end: &&TaskEnd| Some(format!("{} {}", end.outputs.first()?, time(end.worked)));
    let slowest: Vec<String> = slowest.iter().take(SLOWEST).filter_map(name).collect();
    if !slowest.is_empty() {
        lines.push(("slowest", slowest.join(", ")));
    }
    if summary.is_resumable {
        lines.push(("resume", "`genmake --resume` goes on from here".to_owned()));
    }
    lines.extend(summary.advice().iter().map(|advice| ("advice", advice.words())));
    lines
}

fn count(n: u64, thing: &str) -> String {
    super::count(usize::try_from(n).unwrap_or(usize::MAX), thing)
}

/// The last line of a run.
pub(super) fn closing(summary: &Summary) -> String {
    let ended = |status: Status| summary.count(status);
    let total = summary.total();
    let mut parts = Vec::new();
    for (status, word) in [
        (Status::Generated, "generated"),
        (Status::Embedded, "embedded"),
        (Status::Rendered, "rendered"),
        (Status::Ran, "ran"),
        (Status::Restored, "restored"),
        (Status::Defaulted, "defaulted"),
        (Status::Merged, "merged"),
        (Status::Accepted, "accepted"),
        (Status::Fresh, "fresh"),
        (Status::Edited, "edited by hand"),
        (Status::Failed, "failed"),
        (Status::Submitted, "submitted"),
        (Status::Skipped, "skipped"),
    ] {
        if ended(status) > 0 {
            parts.push(format!("{} {word}", ended(status)));
        }
    }
    let llm = &summary.llm;
    // What is free is not worth a word.
    let cost = match llm.cost_usd {
        None => ", unpriced".to_owned(),
        Some(0.0) => String::new(),
        Some(cost) => format!(", {} USD", wording::usd(cost)),
    };
    let requests = match llm.requests {
        0 => String::new(),
        n => format!(" · {}, {}{cost}", count(n, "request"), llm.tokens_in_words()),
    };
    let what = match (summary.is_success(), total) {
        _ if summary.interrupted => "interrupted",
        (false, _) => "failed",
        (true, 0) if summary.is_part => return "nothing to do: nothing is made from what changed".to_owned(),
        (true, 0) => return "nothing to do: the Genfile makes nothing".to_owned(),
        (true, n) if ended(Status::Fresh) == n && summary.written == 0 => {
            return format!(
                "nothing to do: {n} {} up to date in {}",
                if n == 1 { "target is" } else { "targets are" },
                time(summary.took)
            );
        }
        (true, _) => "done",
    };
    let counts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{what}{counts} in {}{requests}", time(summary.took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn the_slowest_are_those_that_were_worked_on_longest() {
        let mut summary = Summary::default();
        let end = |path: &str, worked: u64| TaskEnd {
            took: Duration::from_secs(60),
            worked: Duration::from_millis(worked),
            ..TaskEnd::example("r", path, Status::Ran)
        };
        assert_eq!(details(&summary), []);
        for (path, worked) in [("a", 999), ("b", 1500), ("c", 1000), ("d", 65_000), ("e", 2000)] {
            summary.note(&Event::Ended(end(path, worked)));
        }
        assert_eq!(details(&summary), [("slowest", "d 1m 5s, e 2.0s, b 1.5s".to_owned())]);
    }
}
