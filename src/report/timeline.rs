//! A run as bars over time: its requests, and the tasks that its length hangs on, each below the task that it waited for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::json::{Report, RequestLine, TaskLine};
use super::text::seconds;

/// So many requests are drawn, and so many tasks: the longest.
const REQUESTS: usize = 150;
const TASKS: usize = 60;

/// The drawing's width for all of the run, what stands left of it, and the height of a row, in its own units.
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 250.0;
const ROW: f64 = 20.0;

/// A drawing: rows of bars.
#[derive(Debug, Serialize)]
pub(super) struct Timeline {
    width: f64,
    height: f64,
    /// Marks of time.
    ticks: Vec<Tick>,
    /// Names at the left, with where they stand.
    labels: Vec<Label>,
    bars: Vec<Bar>,
    /// From the end of a task to the begin of one that waited for it.
    waits: Vec<Wait>,
    /// How many requests and tasks are not drawn.
    requests_left: usize,
    tasks_left: usize,
}

#[derive(Debug, Serialize)]
struct Tick {
    x: f64,
    text: String,
}

#[derive(Debug, Serialize)]
struct Label {
    y: f64,
    text: String,
    is_title: bool,
}

#[derive(Debug, Serialize)]
struct Bar {
    x: f64,
    y: f64,
    width: f64,
    kind: &'static str,
    /// What stands in it, where there is room.
    text: String,
    text_x: f64,
    text_y: f64,
    title: String,
}

#[derive(Debug, Serialize)]
struct Wait {
    path: String,
    title: String,
}

impl Timeline {
    /// `None` if nothing took time.
    pub(super) fn new(report: &Report) -> Option<Timeline> {
        let requests = report.requests.iter().map(|line| line.begin_ms + line.duration_ms);
        let tasks = report.tasks.iter().map(|line| line.begin_ms + line.duration_ms);
        let end = requests.chain(tasks).chain([report.duration_ms]).max().filter(|end| *end > 0)?;
        let mut drawing = Drawing { end, y: 2.0 * ROW, labels: Vec::new(), bars: Vec::new(), waits: Vec::new() };
        let requests_left = drawing.requests(&report.requests);
        let tasks_left = drawing.tasks(&report.tasks);
        if drawing.bars.is_empty() {
            return None;
        }
        let Drawing { y, labels, bars, waits, .. } = drawing;
        let ticks = (0..=4).map(|n| Tick { x: x(end * n / 4, end), text: seconds(end * n / 4) });
        let ticks = ticks.collect();
        Some(Timeline {
            width: LEFT + WIDTH + 40.0,
            height: y + 6.0,
            ticks,
            labels,
            bars,
            waits,
            requests_left,
            tasks_left,
        })
    }
}

/// Where a time stands.
fn x(ms: u64, end: u64) -> f64 {
    rounded(LEFT + WIDTH * ms as f64 / end as f64)
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

struct Drawing {
    end: u64,
    y: f64,
    labels: Vec<Label>,
    bars: Vec<Bar>,
    waits: Vec<Wait>,
}

impl Drawing {
    fn title(&mut self, text: &str) {
        self.labels.push(Label { y: self.y + 14.0, text: text.to_owned(), is_title: true });
        self.y += ROW;
    }

    fn bar(&mut self, (begin, took): (u64, u64), kind: &'static str, text: &str, title: String) {
        let (from, to) = (x(begin, self.end), x(begin + took, self.end));
        // Never so narrow that nobody sees it.
        let width = rounded((to - from).max(2.0));
        let fits = text.chars().count() as f64 * 7.0 + 6.0 < width;
        let text = if fits { text.to_owned() } else { String::new() };
        let (text_x, text_y) = (rounded(from + 4.0), self.y + 14.0);
        self.bars.push(Bar { x: from, y: self.y + 2.0, width, kind, text, text_x, text_y, title });
    }

    /// Requests by provider, as many rows as were under way at once. How many are left out.
    fn requests(&mut self, all: &[RequestLine]) -> usize {
        let mut drawn: Vec<&RequestLine> = all.iter().collect();
        drawn.sort_by_key(|line| std::cmp::Reverse(line.duration_ms));
        drawn.truncate(REQUESTS);
        drawn.sort_by_key(|line| (line.begin_ms, line.request));
        let mut by_provider: BTreeMap<&str, Vec<&RequestLine>> = BTreeMap::new();
        drawn.iter().for_each(|line| by_provider.entry(&line.provider).or_default().push(line));
        for (provider, lines) in by_provider {
            self.title(&format!("requests to {}", shortened(provider, 24)));
            let (top, mut free): (f64, Vec<u64>) = (self.y, Vec::new());
            for line in lines {
                let row = free.iter().position(|until| *until <= line.begin_ms).unwrap_or(free.len());
                if row == free.len() {
                    free.push(0);
                }
                free[row] = line.begin_ms + line.duration_ms;
                self.y = top + ROW * row as f64;
                let kind = match (line.outcome.as_str(), &line.fallback) {
                    ("answered", None) => "request",
                    ("answered", Some(_)) => "fallback",
                    _ => "failed",
                };
                let title = format!(
                    "request {} to {}: {} of {} in {}, from {}",
                    line.request,
                    line.provider,
                    line.good,
                    line.tasks,
                    seconds(line.duration_ms),
                    seconds(line.begin_ms),
                );
                self.bar((line.begin_ms, line.duration_ms), kind, &format!("{} × {}", line.request, line.tasks), title);
            }
            self.y = top + ROW * free.len() as f64;
        }
        all.len().saturating_sub(REQUESTS)
    }

    /// The tasks on which the run's length hangs, then the longest. How many are left out.
    fn tasks(&mut self, all: &[TaskLine]) -> usize {
        let took: Vec<&TaskLine> = all.iter().filter(|task| task.status != "fresh" && task.duration_ms > 0).collect();
        if took.is_empty() {
            return 0;
        }
        let by_name: HashMap<&str, &TaskLine> = took.iter().map(|task| (task.name(), *task)).collect();
        let path = longest(&took, &by_name);
        let mut order = took.clone();
        order.sort_by_key(|task| (!path.contains(task.name()), std::cmp::Reverse(task.duration_ms)));
        order.truncate(TASKS);
        order.sort_by_key(|task| (task.begin_ms, task.begin_ms + task.duration_ms));
        self.title("tasks");
        let mut rows: HashMap<&str, (f64, f64)> = HashMap::new();
        for task in order {
            let name = task.name();
            self.labels.push(Label { y: self.y + 14.0, text: shortened(name, 34), is_title: false });
            let kind = match (task.status.as_str(), path.contains(name)) {
                ("failed" | "edited", _) => "failed",
                (_, true) => "critical",
                _ => "task",
            };
            let waited = task.waited_for.first().map(|other| format!(", after {other}")).unwrap_or_default();
            let from = format!("from {}{waited}", seconds(task.begin_ms));
            let title = format!("{name}: {} in {}, {from}", task.status, seconds(task.duration_ms));
            self.bar((task.begin_ms, task.duration_ms), kind, "", title);
            let (begin, end) = (x(task.begin_ms, self.end), x(task.begin_ms + task.duration_ms, self.end));
            let middle = self.y + ROW / 2.0;
            for other in &task.waited_for {
                if let Some((y, ended)) = rows.get(other.as_str()) {
                    let path = format!("M{ended} {y}V{middle}H{}", begin.max(*ended));
                    self.waits.push(Wait { path, title: format!("{name} waited for {other}") });
                }
            }
            rows.insert(name, (middle, end));
            self.y += ROW;
        }
        took.len().saturating_sub(TASKS)
    }
}

/// The task that ended last, the last that it waited for, and so on: what the run's length hangs on.
fn longest<'a>(all: &[&'a TaskLine], by_name: &HashMap<&str, &'a TaskLine>) -> BTreeSet<&'a str> {
    let mut path = BTreeSet::new();
    let mut next = all.iter().max_by_key(|task| task.begin_ms + task.duration_ms).copied();
    while let Some(task) = next.filter(|task| path.insert(task.name())) {
        next = task.waited_for.first().and_then(|name| by_name.get(name.as_str())).copied();
    }
    path
}

/// A name of so many characters at most: of a longer one its end, which tells more.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let length = name.chars().count();
    if length <= most {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(length + 1 - most)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_their_begin() {
        assert_eq!(shortened("docs/a.md", 9), "docs/a.md");
        assert_eq!(shortened("docs/äb.md", 9), "…cs/äb.md");
    }
}
