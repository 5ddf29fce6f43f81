//! What could be cheaper, by what was seen in one run. Data for terminals and reports alike; `words` is its one wording.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Summary;
use crate::error::Code;
use crate::event::{Event, Status};
use crate::llm::Usage;
use crate::path::RelPath;

/// Something that would make the next runs of a rule cheaper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Advice {
    /// All results of a rule have one form, which is filled with words of their prompts: a template could make them.
    CouldBeTemplate {
        /// The rule.
        rule: String,
        /// How many results were seen.
        results: usize,
    },
    /// Checks refused many of a rule's results, each of which was then paid for again.
    FailsChecks {
        /// The rule.
        rule: String,
        /// How many results were refused.
        refused: usize,
        /// Of how many tasks.
        tasks: usize,
        /// What a check said of the last.
        why: String,
    },
    /// Requests of several tasks often did not deliver all of them, and what was missing was asked for again.
    FallsShort {
        /// The rule.
        rule: String,
        /// How many requests fell short.
        short: usize,
        /// Of how many that carried several tasks.
        requests: usize,
        /// The most tasks that one of these carried.
        tasks: usize,
    },
    /// What several requests begin with is too short for the provider's cache, and would cost less if it were longer.
    PrefixTooShort {
        /// The rule.
        rule: String,
        /// Its tokens, about.
        tokens: u64,
        /// How many it takes.
        minimum: u64,
        /// How many requests began with it.
        requests: usize,
    },
}

/// The fewest results that show a form, and the fewest requests for which a cache is worth a word.
const FEW: usize = 3;

/// What is noted of events, for advice.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By the first output of each request: what it begins with.
    begun: Vec<Begun>,
    /// Requests of several tasks that fell short.
    short: BTreeSet<usize>,
    /// The results that a check refused, and what it said.
    refused: Vec<(RelPath, String)>,
}

#[derive(Debug, Clone)]
struct Begun {
    request: usize,
    path: RelPath,
    tasks: usize,
    prefix: u64,
    /// The least that is kept, where what requests begin with is shorter, and cheaper all the same.
    wants: Option<u64>,
}

impl Seen {
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Requested { request, paths, tasks, prefix, cache_minimum, price, .. } => {
                let Some(path) = paths.first().cloned() else { return };
                let wants = cache_minimum.zip(*price).filter(|(minimum, price)| {
                    let now = price.cost(Usage { input: *prefix, ..Usage::default() });
                    let kept = price.cost(Usage { input: *minimum, cached: *minimum, ..Usage::default() });
                    prefix < minimum && kept < now
                });
                let wants = wants.map(|(minimum, _)| minimum);
                self.begun.push(Begun { request: *request, path, tasks: *tasks, prefix: *prefix, wants });
            }
            Event::FellBack { request, again: true, .. } => drop(self.short.insert(*request)),
            Event::AskedToCorrect { path, why } => self.refused.push((path.clone(), why.clone())),
            _ => {}
        }
    }
}

/// What is known of a rule.
#[derive(Default)]
struct Of {
    asked: usize,
    outlines: BTreeSet<Option<u64>>,
    written: usize,
    refused: usize,
    why: String,
    shared: usize,
    short: usize,
    most: usize,
    /// By what they begin with.
    begun: BTreeMap<(u64, u64), usize>,
}

impl Summary {
    /// What could be cheaper, by what this run saw; rules in the order of their names.
    pub fn advice(&self) -> Vec<Advice> {
        let asked = self.tasks.iter().filter(|end| end.request.is_some() || end.outline.is_some());
        let mut rules: BTreeMap<&str, Of> = BTreeMap::new();
        let mut whose: BTreeMap<&RelPath, &str> = BTreeMap::new();
        for end in asked {
            let rule = end.rule.as_str();
            whose.extend(end.outputs.iter().map(|path| (path, rule)));
            let of = rules.entry(rule).or_default();
            of.asked += 1;
            if end.status == Status::Generated {
                of.written += 1;
                of.outlines.insert(end.outline);
            }
            if let Some(error) = end.error.as_ref().filter(|error| error.code == Code::CheckFailed) {
                of.refused += 1;
                of.why.clone_from(&error.message);
            }
        }
        for (path, why) in &self.seen.refused {
            if let Some(of) = whose.get(path).and_then(|rule| rules.get_mut(rule)) {
                of.refused += 1;
                of.why.clone_from(why);
            }
        }
        for begun in &self.seen.begun {
            let Some(of) = whose.get(&begun.path).and_then(|rule| rules.get_mut(rule)) else { continue };
            if begun.tasks > 1 {
                of.shared += 1;
                of.most = of.most.max(begun.tasks);
                of.short += usize::from(self.seen.short.contains(&begun.request));
            }
            if let Some(minimum) = begun.wants {
                *of.begun.entry((begun.prefix, minimum)).or_default() += 1;
            }
        }
        rules.into_iter().flat_map(|(rule, of)| of.advice(rule)).collect()
    }
}

impl Of {
    fn advice(self, rule: &str) -> Vec<Advice> {
        let rule = || rule.to_owned();
        let mut advice = Vec::new();
        if self.written >= FEW && self.outlines.len() == 1 && !self.outlines.contains(&None) {
            advice.push(Advice::CouldBeTemplate { rule: rule(), results: self.written });
        }
        // One in five, and not by chance.
        if self.refused >= 2 && self.refused * 5 >= self.asked {
            advice.push(Advice::FailsChecks { rule: rule(), refused: self.refused, tasks: self.asked, why: self.why });
        }
        if self.short >= 2 && self.short * 3 >= self.shared {
            let (short, requests, tasks) = (self.short, self.shared, self.most);
            advice.push(Advice::FallsShort { rule: rule(), short, requests, tasks });
        }
        let most = self.begun.into_iter().max_by_key(|(_, requests)| *requests);
        if let Some(((tokens, minimum), requests)) = most.filter(|(_, requests)| *requests >= FEW) {
            advice.push(Advice::PrefixTooShort { rule: rule(), tokens, minimum, requests });
        }
        advice
    }
}

impl Advice {
    /// What to do, and why.
    pub fn words(&self) -> String {
        match self {
            Advice::CouldBeTemplate { rule, results } => format!(
                "rule `{rule}`: its {results} results are one form filled with words of their prompts; a `template` makes that for nothing"
            ),
            Advice::FailsChecks { rule, refused, tasks, why } => {
                let why = why.lines().next().unwrap_or_default();
                let tasks = if *tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
                format!(
                    "rule `{rule}`: checks refused {refused} results of {tasks}, which were paid for again; say in the prompt what is \
                     checked ({why})"
                )
            }
            Advice::FallsShort { rule, short, requests, tasks } => {
                let mend = match tasks {
                    0..=2 => "`batch: false` asks for each by itself".to_owned(),
                    _ => format!("a `max_batch_size` below {tasks} loses less"),
                };
                format!("rule `{rule}`: {short} of {requests} shared requests did not bring all results; {mend}")
            }
            Advice::PrefixTooShort { rule, tokens, minimum, requests } => format!(
                "rule `{rule}`: {requests} requests begin with the same {tokens} tokens, and its provider keeps no fewer than {minimum}; \
                 with {} more that all share they would cost less",
                minimum - tokens
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::event::TaskEnd;
    use crate::llm::Shortfall;
    use crate::models::Price;

    fn path(n: usize) -> RelPath {
        RelPath::new(&format!("out/{n}")).unwrap()
    }

    fn end(n: usize, outline: Option<u64>, error: Option<Error>) -> Event {
        let status = if error.is_some() { Status::Failed } else { Status::Generated };
        let of = TaskEnd::example("r", path(n).as_str(), status);
        Event::Ended(TaskEnd { error, request: Some(n), outline, ..of })
    }

    fn requested(request: usize, tasks: usize, prefix: u64) -> Event {
        Event::Requested {
            request,
            provider: "p".to_owned(),
            model: "m".to_owned(),
            paths: (request..request + tasks).map(path).collect(),
            tasks,
            prefix_saved: 0,
            context_saved: 0,
            prefix,
            cache_minimum: Some(1024),
            price: Some(Price { input: 1.0, output: 1.0, cache_read: Some(0.1), ..Price::FREE }),
            again: false,
        }
    }

    #[track_caller]
    fn check(events: impl IntoIterator<Item = Event>, expected: &[Advice]) {
        let mut summary = Summary::default();
        events.into_iter().for_each(|event| summary.note(&event));
        assert_eq!(summary.advice(), expected);
        assert!(expected.iter().all(|advice| advice.words().starts_with("rule `r`: ")));
    }

    #[test]
    fn three_results_of_one_form_could_be_a_template() {
        let rule = || "r".to_owned();
        check((1..4).map(|n| end(n, Some(7), None)), &[Advice::CouldBeTemplate { rule: rule(), results: 3 }]);
        check((1..3).map(|n| end(n, Some(7), None)), &[]);
        check((1..4).map(|n| end(n, Some(n as u64), None)), &[]);
        check((1..4).map(|n| end(n, None, None)), &[]);
    }

    #[test]
    fn a_check_that_refuses_much_is_said_with_its_words() {
        let refused = |n| Event::AskedToCorrect { path: path(n), why: "no title".to_owned() };
        let events = |refusals: usize, tasks: usize| {
            (1..=refusals).map(refused).chain((1..=tasks).map(|n| end(n, None, None))).collect::<Vec<_>>()
        };
        let advice =
            |refused| Advice::FailsChecks { rule: "r".to_owned(), refused, tasks: 10, why: "no title".to_owned() };
        check(events(2, 10), &[advice(2)]);
        check(events(2, 11), &[]);
        check(events(1, 1), &[]);
        let failed = end(10, None, Some(Error::new(Code::CheckFailed, "no title")));
        check(events(1, 9).into_iter().chain([failed]), &[advice(2)]);
    }

    #[test]
    fn shared_requests_that_fall_short_are_too_large() {
        let short = |request| {
            let why = Shortfall::Truncated;
            Event::FellBack { request, missing: vec![path(request)], why, again: true }
        };
        let events = |shorts: usize| {
            let requests = (1..=6).map(|n| requested(n, 8, 0)).chain((1..=shorts).map(short));
            requests.chain((1..14).map(|n| end(n, None, None))).collect::<Vec<_>>()
        };
        check(events(1), &[]);
        check(events(2), &[Advice::FallsShort { rule: "r".to_owned(), short: 2, requests: 6, tasks: 8 }]);
    }

    #[test]
    fn a_start_that_would_cost_less_if_it_were_longer_is_said() {
        let events =
            |prefix: u64| (1..4).map(move |n| requested(n, 1, prefix)).chain((1..4).map(|n| end(n, None, None)));
        let advice = Advice::PrefixTooShort { rule: "r".to_owned(), tokens: 700, minimum: 1024, requests: 3 };
        check(events(700), &[advice]);
        // 1024 tokens at a tenth of the price are dearer than these.
        check(events(100), &[]);
        check(events(1024), &[]);
    }
}
