//! A report for people, as text: what `genmake report` prints.

use std::fmt::Write;
use std::time::Duration;

use super::{Report, TaskLine};
use crate::wording::{time, usd};

/// So many tasks are named where the slowest, the dearest and those that failed are listed.
const NAMED: usize = 5;

/// In fewer columns than these there is no room for the tokens of each rule.
const WIDE: usize = 79;

impl Report {
    /// The report as text for people, in a terminal of so many `columns` if it is one. What comes from outside stands in it as it is.
    pub fn to_text(&self, columns: Option<usize>) -> String {
        let is_narrow = columns.is_some_and(|columns| columns < WIDE);
        let mut text = String::new();
        let Report { targets, llm, caches, .. } = self;
        let _ = writeln!(text, "run of {}: exit {} after {}", self.began, self.exit, seconds(self.duration_ms));
        let ended = targets.by_status().into_iter().filter(|(_, n)| *n > 0);
        let ended: Vec<String> = ended.map(|(status, n)| format!("{n} {status}")).collect();
        let _ = writeln!(text, "{}: {}", counted(targets.total, "target"), ended.join(", "));
        if llm.requests > 0 {
            let cached = match llm.cached_input_tokens {
                0 => String::new(),
                cached => format!(", {cached} from the provider's cache"),
            };
            let saved = llm.cost_saved_usd.map(|saved| format!(", {} USD saved", usd(saved))).unwrap_or_default();
            let (requests, tokens) = (counted(llm.requests, "request"), llm.tokens_in_words());
            let _ = writeln!(text, "{requests}: {tokens}{cached}; {}{saved}", cost(llm.cost_usd));
        }
        if let Some(saved) = llm.tokens_saved.words() {
            let _ = writeln!(text, "saved {saved}");
        }
        for (name, cache) in [("store", caches.store), ("prompt cache", caches.prompt)] {
            if let Some(rate) = cache.rate {
                let _ = writeln!(text, "{name}: {:.0} % of {}", rate * 100.0, cache.hits + cache.misses);
            }
        }
        if !self.rules.is_empty() {
            let row = |rule: &str, cells: [String; 5]| {
                let [tasks, requests, input, output, cost] = cells;
                if is_narrow {
                    return format!("{rule:<16} {tasks:>6} {cost:>13}\n");
                }
                format!("{rule:<24} {tasks:>8} {requests:>9} {input:>10} {output:>10} {cost:>12}\n")
            };
            text += "\n";
            text += &row("rule", ["tasks", "requests", "in", "out", "cost"].map(str::to_owned));
            for line in &self.rules {
                let numbers = [line.tasks, line.requests, line.input_tokens, line.output_tokens].map(|n| n.to_string());
                let [tasks, requests, input, output] = numbers;
                text += &row(&line.rule, [tasks, requests, input, output, cost(line.cost_usd)]);
            }
        }
        let mut list = |title: &str, lines: &[(String, &TaskLine)]| {
            if !lines.is_empty() {
                let _ = write!(text, "\n{title}\n");
                for (what, task) in lines {
                    let _ = writeln!(text, "  {what:>12}  {}", task.name());
                }
            }
        };
        list("slowest", &self.slowest(NAMED).map(|task| (seconds(task.worked_ms), task)).collect::<Vec<_>>());
        list("dearest", &self.dearest(NAMED).map(|task| (cost(task.cost_usd), task)).collect::<Vec<_>>());
        let failed = self.tasks.iter().filter_map(|task| Some((task.error.as_ref()?, task)));
        let failed: Vec<_> = failed.map(|(error, task)| (error.code.clone(), task)).collect();
        list("failed", &failed[..failed.len().min(NAMED)]);
        if !self.advice.is_empty() {
            text += "\nadvice\n";
            self.advice.iter().for_each(|advice| text += &format!("  {}\n", advice.words));
        }
        text
    }

    /// The tasks for which something was done longest, the slowest first.
    pub fn slowest(&self, most: usize) -> impl Iterator<Item = &TaskLine> {
        let mut tasks: Vec<&TaskLine> = self.tasks.iter().filter(|task| task.worked_ms > 0).collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.worked_ms));
        tasks.into_iter().take(most)
    }

    /// The tasks that cost most, the dearest first; none that cost nothing.
    pub fn dearest(&self, most: usize) -> impl Iterator<Item = &TaskLine> {
        let is_dear = |task: &&TaskLine| task.cost_usd.is_some_and(|cost| cost > 0.0);
        let mut tasks: Vec<&TaskLine> = self.tasks.iter().filter(is_dear).collect();
        tasks.sort_by(|a, b| b.cost_usd.partial_cmp(&a.cost_usd).unwrap_or(std::cmp::Ordering::Equal));
        tasks.into_iter().take(most)
    }
}

impl TaskLine {
    /// What a task is called: by its first output.
    pub fn name(&self) -> &str {
        self.outputs.first().map_or(&self.rule, String::as_str)
    }
}

/// A number with what it counts.
fn counted(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// An amount of USD in words; one that is not known is none.
pub fn cost(amount: Option<f64>) -> String {
    amount.map_or_else(|| "unpriced".to_owned(), |amount| format!("{} USD", usd(amount)))
}

/// Milliseconds as people read them.
pub fn seconds(ms: u64) -> String {
    time(Duration::from_millis(ms))
}
