//! The status of a run while it lasts: what is done and to go, for how long still, what is under way, and what it cost so far.
//!
//! Pure: events and a time in, lines out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::columns::cut;
use super::{count, names};
use crate::event::{Event, Status, ToDo};
use crate::llm::Usage;
use crate::wording::{time, usd};

/// A run that is over by then shows no status.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// From how many columns on requests have lines of their own, and how many lines these are at most.
const WIDE: (usize, usize) = (72, 4);

/// What genmake is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The Genfile and the tree are read.
    Reading,
    /// What is to be done is found out.
    Judging,
    /// It is done.
    Making,
}

/// A run, as far as it has come.
pub(super) struct Live {
    begun: Instant,
    pub phase: Phase,
    to_do: usize,
    done: usize,
    rules: BTreeMap<String, Left>,
    /// Requests under way.
    requests: BTreeMap<usize, Request>,
    /// How many tasks each request carries, or carried.
    carried: BTreeMap<usize, usize>,
    usage: Usage,
    cost: f64,
    /// Whether the signal to end was heeded.
    is_ending: bool,
}

/// What is left of a rule.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    tasks: usize,
    /// How long one takes, by earlier runs.
    each: Option<Duration>,
    /// Tasks of this run, and how long they took together.
    seen: (u32, Duration),
}

struct Request {
    since: Instant,
    what: String,
}

impl Live {
    pub fn new(now: Instant) -> Live {
        Live {
            begun: now,
            phase: Phase::Reading,
            to_do: 0,
            done: 0,
            rules: BTreeMap::new(),
            requests: BTreeMap::new(),
            carried: BTreeMap::new(),
            usage: Usage::default(),
            cost: 0.0,
            is_ending: false,
        }
    }

    pub fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Planned { stale, to_do, .. } => {
                self.phase = Phase::Making;
                self.to_do = *stale;
                let left = |of: &ToDo| Left { tasks: of.tasks, each: of.each, ..Left::default() };
                self.rules = to_do.iter().map(|of| (of.rule.clone(), left(of))).collect();
            }
            Event::Requested { request, provider, paths, tasks, .. } => {
                self.carried.insert(*request, *tasks);
                let what = format!("{provider} for {}", names(paths));
                self.requests.insert(*request, Request { since: now, what });
            }
            Event::Ending { .. } => self.is_ending = true,
            Event::RequestFailed { request, .. } => drop(self.requests.remove(request)),
            Event::Answered { request, usage, price, .. } => {
                self.requests.remove(request);
                self.usage.input += usage.input;
                self.usage.output += usage.output;
                self.usage.cached += usage.cached;
                self.cost += price.map_or(0.0, |price| price.cost(*usage));
            }
            Event::Ended(end) if end.status != Status::Fresh => {
                self.done += 1;
                let Some(left) = self.rules.get_mut(&end.rule) else { return };
                left.tasks = left.tasks.saturating_sub(1);
                let together = end.request.and_then(|request| self.carried.get(&request)).copied().unwrap_or(1);
                if matches!(end.status, Status::Generated | Status::Ran | Status::Embedded) {
                    let share = end.worked / u32::try_from(together.max(1)).unwrap_or(u32::MAX);
                    left.seen = (left.seen.0 + 1, left.seen.1 + share);
                }
            }
            _ => {}
        }
    }

    /// How long the rest will take, if the tasks that are left take as long as others of their rules did.
    fn to_go(&self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for left in self.rules.values().filter(|left| left.tasks > 0) {
            let seen = left.seen.1.checked_div(left.seen.0);
            sum += seen.or(left.each)? * u32::try_from(left.tasks).ok()?;
        }
        let lanes = u32::try_from(self.requests.len().max(1)).unwrap_or(1);
        Some(sum / lanes).filter(|left| left.as_secs() > 0)
    }

    /// The status in lines of so many columns; none while it is not worth a word.
    pub fn lines(&self, now: Instant, columns: usize) -> Vec<String> {
        let elapsed = now.duration_since(self.begun);
        if elapsed < SHOWN_AFTER || columns < 10 {
            return Vec::new();
        }
        let is_wide = columns >= WIDE.0;
        let mut parts = match self.phase {
            Phase::Reading => vec!["reading the project".to_owned()],
            Phase::Judging => vec!["finding out what is to be done".to_owned()],
            Phase::Making if self.is_ending => vec!["ending".to_owned()],
            Phase::Making if self.done == self.to_do => vec!["saving".to_owned()],
            Phase::Making => vec![format!("{} of {}", self.done, self.to_do)],
        };
        // What is not made any more takes no time.
        let to_go = self.to_go().filter(|_| !self.is_ending).map(|left| format!("about {} to go", rough(left)));
        let oldest = self.requests.values().map(|request| request.since).min();
        let since = |since: Instant| rough(now.duration_since(since));
        let requests = oldest.map(|oldest| format!("{}, {}", count(self.requests.len(), "request"), since(oldest)));
        let usage = self.usage;
        let cost = (self.cost > 0.0).then(|| format!("{} USD", usd(self.cost)));
        let tokens = (usage.input + usage.output > 0)
            .then(|| format!("{} tokens in, {} out", short(usage.input), short(usage.output)));
        let cached = (usage.cached > 0).then(|| format!("{}% from cache", usage.cached * 100 / usage.input.max(1)));
        let begun = Some(format!("{} so far", rough(elapsed)));
        // In the order in which people miss them; what has no room is left out.
        parts.extend([to_go, requests.filter(|_| !is_wide), cost, begun, tokens, cached].into_iter().flatten());
        let mut line = String::new();
        for part in parts {
            let longer = if line.is_empty() { part.clone() } else { format!("{line} · {part}") };
            if line.is_empty() || super::columns::width(&longer) <= columns {
                line = longer;
            }
        }
        let mut lines = vec![cut(&line, columns)];
        if is_wide {
            let mut requests: Vec<_> = self.requests.iter().collect();
            requests.sort_by_key(|(_, request)| request.since);
            let shown = if requests.len() > WIDE.1 { WIDE.1 - 1 } else { requests.len() };
            let row = |(number, request): &(&usize, &Request)| {
                let line = format!("  request {number}, {}: {}", since(request.since), request.what);
                cut(&super::sanitize::for_terminal(&line), columns)
            };
            lines.extend(requests.iter().take(shown).map(row));
            if requests.len() > shown {
                lines.push(format!("  and {}", count(requests.len() - shown, "more request")));
            }
        }
        lines
    }
}

/// A duration by its largest units: a status changes often enough.
fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..600 => time(Duration::from_secs(seconds)),
        seconds @ 600..3600 => format!("{}m", seconds / 60),
        seconds => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of tokens.
fn short(tokens: u64) -> String {
    match tokens {
        0..10_000 => tokens.to_string(),
        10_000..1_000_000 => format!("{}k", tokens / 1000),
        _ => format!("{:.1}M", tokens as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TaskEnd;
    use crate::models::Price;
    use crate::path::RelPath;
    use expect_test::{Expect, expect};

    fn requested(request: usize, paths: &[&str]) -> Event {
        Event::Requested {
            request,
            provider: "claude".to_owned(),
            model: "m".to_owned(),
            paths: paths.iter().map(|path| RelPath::new(path).unwrap()).collect(),
            tasks: paths.len(),
            prefix_saved: 0,
            context_saved: 0,
            prefix: 0,
            cache_minimum: None,
            price: Some(Price { input: 3.0, output: 15.0, ..Price::FREE }),
            again: false,
        }
    }

    fn answered(request: usize) -> Event {
        Event::Answered {
            request,
            provider: "claude".to_owned(),
            tasks: 2,
            good: 2,
            usage: Usage { input: 12_000, cached: 3000, output: 900, ..Usage::default() },
            is_uncounted: false,
            alone: Usage::default(),
            price: Some(Price { input: 3.0, output: 15.0, ..Price::FREE }),
            took: Duration::from_secs(8),
        }
    }

    fn ended(path: &str, request: usize) -> Event {
        let worked = Duration::from_secs(8);
        Event::Ended(TaskEnd { request: Some(request), worked, ..TaskEnd::example("pages", path, Status::Generated) })
    }

    /// Events, each with the second at which it happens.
    fn live(events: Vec<(u64, Event)>) -> (Live, Instant) {
        let begun = Instant::now();
        let mut live = Live::new(begun);
        events.iter().for_each(|(at, event)| live.note(event, begun + Duration::from_secs(*at)));
        (live, begun)
    }

    fn planned(each: Option<u64>) -> Event {
        let to_do = vec![ToDo { rule: "pages".to_owned(), tasks: 10, each: each.map(Duration::from_secs) }];
        Event::Planned { tasks: 14, stale: 12, requests: 5, to_do }
    }

    #[track_caller]
    fn check((live, begun): &(Live, Instant), at: u64, columns: usize, expected: Expect) {
        let lines = live.lines(*begun + Duration::from_secs(at), columns);
        assert!(lines.iter().all(|line| super::super::columns::width(line) <= columns), "{lines:?}");
        expected.assert_eq(&lines.join("\n"));
    }

    fn underway() -> (Live, Instant) {
        let mut events = vec![(0, planned(Some(20))), (1, requested(1, &["docs/order.md", "docs/item.md"]))];
        events.extend(
            (2..=5).map(|n| (n as u64, requested(n, &["docs/with/a/rather/long/path/of/a/page.md", "docs/b.md"]))),
        );
        events.extend([(9, answered(1)), (9, ended("docs/order.md", 1)), (9, ended("docs/item.md", 1))]);
        live(events)
    }

    #[test]
    fn nothing_is_shown_in_the_first_second() {
        check(&live(vec![(0, planned(None))]), 0, 80, expect![""]);
        check(&live(vec![]), 2, 80, expect!["reading the project · 2s so far"]);
    }

    #[test]
    fn one_line_in_a_narrow_terminal_and_requests_below_it_in_a_wide_one() {
        check(&underway(), 12, 40, expect!["2 of 12 · about 8s to go · 0.0495 USD"]);
        check(&underway(), 12, 60, expect!["2 of 12 · about 8s to go · 4 requests, 10s · 0.0495 USD"]);
        check(
            &underway(),
            12,
            80,
            expect![[r#"
                2 of 12 · about 8s to go · 0.0495 USD · 12s so far · 12k tokens in, 900 out
                  request 2, 10s: claude for docs/with/a/rather/long/path/of/a/page.md, docs/b.…
                  request 3, 9s: claude for docs/with/a/rather/long/path/of/a/page.md, docs/b.md
                  request 4, 8s: claude for docs/with/a/rather/long/path/of/a/page.md, docs/b.md
                  request 5, 7s: claude for docs/with/a/rather/long/path/of/a/page.md, docs/b.md"#]],
        );
        check(&underway(), 12, 10, expect!["2 of 12"]);
    }

    #[test]
    fn what_is_to_go_is_known_from_earlier_runs_and_then_from_this_one() {
        check(&live(vec![(0, planned(None))]), 3, 80, expect!["0 of 12 · 3s so far"]);
        check(&live(vec![(0, planned(Some(90)))]), 3, 80, expect!["0 of 12 · about 15m to go · 3s so far"]);
        let events = vec![(0, planned(Some(90))), (0, requested(1, &["a"])), (8, answered(1)), (8, ended("a", 1))];
        check(&live(events), 9, 40, expect!["1 of 12 · about 1m 12s to go · 9s so far"]);
    }
}
