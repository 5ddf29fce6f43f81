//! What requests took in earlier runs, so far as it says what the next will take: how a model's maker counts tokens, how long a
//! rule's results are and how long they take, and what servers refuse. Values only; never a part of a key or a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts of earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// By model.
    models: BTreeMap<String, Counted>,
    /// By rule.
    rules: BTreeMap<String, Results>,
    /// By server, under a digest of its address, and there by model.
    servers: BTreeMap<String, BTreeMap<String, Refuses>>,
}

/// What a server refuses of requests to one of its models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refuses {
    /// Parts of a request, by the names that its format has for them.
    pub parts: BTreeSet<String>,
    /// The most tokens that an answer may have.
    pub most_output: Option<u64>,
    /// When the first of it was found out, in days since 1970.
    since: u64,
}

/// Tokens of prompts, twice counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counted {
    /// What ours are counted by; what was learnt of another counter is no good.
    by: String,
    /// By us, before they were sent.
    estimated: u64,
    /// By the provider.
    counted: u64,
}

/// What came of a rule's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Results {
    /// How many results came.
    results: u64,
    /// Their tokens sent, by their shares of what their requests took.
    input: u64,
    /// Their tokens that came back.
    output: u64,
    /// The most that one had.
    longest: u64,
    /// How many of the rule's tasks were timed.
    #[serde(default)]
    timed: u64,
    /// How long these took together, in milliseconds; tasks that share a request share its time.
    #[serde(default)]
    millis: u64,
}

/// Tokens that one result of a rule will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// As results of the rule are.
    pub usual: u64,
    /// As the longest was; of a rule without results a guess.
    pub most: u64,
}

/// The tokens of a result of which nothing is known: a page of text, or a source file.
const UNKNOWN: u64 = 500;

/// For how many days a server is not asked again for what it refused: it may be another by then.
const REMEMBERED: u64 = 7;

/// After so many timed tasks their sums are halved, for the same reason as [`ENOUGH`].
const TIMED: u64 = 200;

/// Where sums are halved, so that what was long ago counts for less.
const ENOUGH: u64 = 50_000_000;

impl Ledger {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.rules.is_empty() && self.servers.is_empty()
    }

    /// Whether it is known how a model's maker counts what `by` counts.
    pub fn knows(&self, model: &str, by: &str) -> bool {
        self.models.get(model).is_some_and(|of| of.by == by && of.estimated > 0)
    }

    /// How many tokens of a model's maker come to one of ours, counted by `by`: 1 for a model that was never asked.
    pub fn ratio(&self, model: &str, by: &str) -> f64 {
        match self.models.get(model) {
            // A server that counts nothing, or something else, is not believed.
            Some(of) if of.by == by && of.estimated > 0 => (of.counted as f64 / of.estimated as f64).clamp(0.25, 4.0),
            _ => 1.0,
        }
    }

    /// The tokens that one result of a rule will have of its own, as its results before had; none without any. No result has more
    /// than its `max_output_tokens`.
    pub fn expected_output(&self, rule: &str, max_output_tokens: Option<u64>) -> Option<Expected> {
        let of = self.rules.get(rule).filter(|of| of.results > 0)?;
        Some(Expected::bounded(of.output.div_ceil(of.results), of.longest, max_output_tokens))
    }

    /// The tokens that were sent for one result of a rule, as its results before took.
    pub fn usual_input(&self, rule: &str) -> Option<u64> {
        self.rules.get(rule).filter(|of| of.results > 0).map(|of| of.input.div_ceil(of.results))
    }

    /// How long a task of a rule takes, as those before it did.
    pub fn usual_time(&self, rule: &str) -> Option<Duration> {
        let of = self.rules.get(rule).filter(|of| of.timed > 0)?;
        Some(Duration::from_millis(of.millis / of.timed))
    }

    /// What a server refuses, by model.
    pub fn refused(&self, server: &str) -> impl Iterator<Item = (&String, &Refuses)> {
        self.servers.get(server).into_iter().flatten()
    }

    /// Notes what a server refuses of requests to a model; whether it is news.
    pub fn note_refused(&mut self, server: &str, model: &str, refuses: Refuses, today: u64) -> bool {
        let known = self.servers.get(server).and_then(|models| models.get(model));
        let since = known.map_or(today, |known| known.since);
        let refuses = Refuses { since, ..refuses };
        if known == Some(&refuses) {
            return false;
        }
        self.servers.entry(server.to_owned()).or_default().insert(model.to_owned(), refuses);
        true
    }

    /// Forgets what servers refused too long ago.
    pub fn forget(&mut self, today: u64) {
        // A day that is yet to come was written by a clock that was wrong.
        let is_known = |refuses: &Refuses| refuses.since <= today && today - refuses.since < REMEMBERED;
        self.servers.values_mut().for_each(|models| models.retain(|_, refuses| is_known(refuses)));
        self.servers.retain(|_, models| !models.is_empty());
    }

    /// Notes a request's prompt: what was estimated, without correction, and what the provider says that it was.
    pub fn note_prompt(&mut self, model: &str, by: &str, estimated: u64, counted: u64) {
        if estimated == 0 || counted == 0 {
            return;
        }
        let of = self.models.entry(model.to_owned()).or_default();
        if of.by != by {
            *of = Counted { by: by.to_owned(), ..Counted::default() };
        }
        of.estimated = of.estimated.saturating_add(estimated);
        of.counted = of.counted.saturating_add(counted);
        if of.estimated > ENOUGH {
            (of.estimated, of.counted) = (of.estimated / 2, of.counted / 2);
        }
    }

    /// Notes a result of a rule: its share of what was sent, and its own tokens.
    pub fn note_result(&mut self, rule: &str, input: u64, output: u64) {
        if output > 0 {
            self.rules.entry(rule.to_owned()).or_default().note(input, output);
        }
    }
}

impl Ledger {
    /// Notes how long so many tasks of a rule took together.
    pub fn note_time(&mut self, rule: &str, tasks: u64, took: Duration) {
        let of = self.rules.entry(rule.to_owned()).or_default();
        of.timed = of.timed.saturating_add(tasks);
        of.millis = of.millis.saturating_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        if of.timed > TIMED {
            (of.timed, of.millis) = (of.timed / 2, of.millis / 2);
        }
    }
}

impl Refuses {
    /// Nothing was known of it before.
    pub fn new(parts: BTreeSet<String>, most_output: Option<u64>) -> Refuses {
        Refuses { parts, most_output, since: 0 }
    }
}

impl Expected {
    /// As these results, in tokens; none without any.
    pub fn like(results: &[u64], max_output_tokens: Option<u64>) -> Option<Expected> {
        let longest = results.iter().copied().max()?;
        let usual = results.iter().sum::<u64>().div_ceil(results.len() as u64);
        Some(Expected::bounded(usual, longest, max_output_tokens))
    }

    /// Where no result is known: a third of what `max_output_tokens` allows, since people leave room, and no more than 500.
    pub fn guessed(max_output_tokens: Option<u64>) -> Expected {
        let cap = max_output_tokens.unwrap_or(u64::MAX);
        Expected { usual: UNKNOWN.min(cap.div_ceil(3)), most: (UNKNOWN * 4).min(cap) }
    }

    /// Where no result is known, and one should have about so many tokens by its form.
    pub fn around(usual: u64, max_output_tokens: Option<u64>) -> Expected {
        Expected::bounded(usual, usual.saturating_mul(4), max_output_tokens)
    }

    fn bounded(usual: u64, longest: u64, max_output_tokens: Option<u64>) -> Expected {
        let cap = max_output_tokens.unwrap_or(u64::MAX);
        let usual = usual.min(cap);
        Expected { usual, most: longest.clamp(usual, cap) }
    }
}

impl Results {
    fn note(&mut self, input: u64, output: u64) {
        self.results += 1;
        self.input = self.input.saturating_add(input);
        self.output = self.output.saturating_add(output);
        self.longest = self.longest.max(output);
        if self.output > ENOUGH && self.results > 1 {
            (self.results, self.input, self.output) = (self.results / 2, self.input / 2, self.output / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_corrected_by_what_was_counted() {
        let mut ledger = Ledger::default();
        let is = |ledger: &Ledger, model: &str, by: &str, ratio: f64| {
            assert!((ledger.ratio(model, by) - ratio).abs() < 1e-9, "{model}: {}", ledger.ratio(model, by));
        };
        is(&ledger, "m", "a", 1.0);
        ledger.note_prompt("m", "a", 100, 130);
        ledger.note_prompt("m", "a", 300, 390);
        is(&ledger, "m", "a", 1.3);
        is(&ledger, "other", "a", 1.0);
        // What counts nothing, or anything, is not believed.
        ledger.note_prompt("none", "a", 100, 0);
        ledger.note_prompt("mad", "a", 1, 1_000_000);
        is(&ledger, "none", "a", 1.0);
        is(&ledger, "mad", "a", 4.0);
        // What was learnt of one counter says nothing of another.
        is(&ledger, "m", "b", 1.0);
        ledger.note_prompt("m", "b", 100, 90);
        is(&ledger, "m", "b", 0.9);
        is(&ledger, "m", "a", 1.0);
    }

    #[test]
    fn results_are_expected_as_they_were() {
        let mut ledger = Ledger::default();
        let both = |expected: Expected| (expected.usual, expected.most);
        let expected = |ledger: &Ledger, cap| ledger.expected_output("r", cap).map(both);
        assert_eq!(expected(&ledger, None), None);
        [100, 300, 200].into_iter().for_each(|output| ledger.note_result("r", 40, output));
        ledger.note_result("r", 40, 0);
        assert_eq!(expected(&ledger, None), Some((200, 300)));
        assert_eq!(expected(&ledger, Some(150)), Some((150, 150)));
        assert_eq!(
            [None, Some(100), Some(8000)].map(|cap| both(Expected::guessed(cap))),
            [(500, 2000), (34, 100), (500, 2000)]
        );
        let like = |results: &[u64], cap| Expected::like(results, cap).map(both);
        assert_eq!(like(&[90, 30], None), Some((60, 90)));
        assert_eq!((like(&[90, 30], Some(70)), like(&[], None)), (Some((60, 70)), None));
        assert_eq!(ledger.usual_input("r"), Some(40));
        assert_eq!(ledger.usual_input("s"), None);
    }

    #[test]
    fn times_are_those_of_tasks_and_older_ledgers_have_none() {
        let old = r#"{"rules": {"r": {"results": 2, "input": 9, "output": 8, "longest": 5}}}"#;
        let mut ledger: Ledger = serde_json::from_str(old).unwrap();
        assert_eq!(ledger.usual_time("r"), None);
        assert_eq!(ledger.usual_input("r"), Some(5));
        ledger.note_time("r", 4, Duration::from_secs(8));
        ledger.note_time("r", 1, Duration::from_secs(7));
        ledger.note_time("s", 1, Duration::from_secs(1));
        assert_eq!(ledger.usual_time("r"), Some(Duration::from_secs(3)));
        // A rule of which times alone are known has no tokens.
        assert_eq!((ledger.usual_input("s"), ledger.expected_output("s", None)), (None, None));
        (0..1000).for_each(|_| ledger.note_time("r", 1, Duration::from_secs(9)));
        assert!(ledger.usual_time("r").unwrap() > Duration::from_secs(8));
    }

    #[test]
    fn what_a_server_refuses_is_remembered_for_a_week() {
        let mut ledger = Ledger::default();
        let refuses = |parts: &[&str], most_output| Refuses {
            parts: parts.iter().map(|part| (*part).to_owned()).collect(),
            most_output,
            since: 0,
        };
        assert!(ledger.note_refused("s", "m", refuses(&["seed"], None), 100));
        assert!(!ledger.note_refused("s", "m", refuses(&["seed"], None), 101));
        // What is found out later is forgotten with the rest.
        assert!(ledger.note_refused("s", "m", refuses(&["seed", "stop"], Some(9)), 104));
        let known: Vec<_> =
            ledger.refused("s").map(|(model, refuses)| (model.clone(), refuses.parts.len(), refuses.since)).collect();
        assert_eq!(known, [("m".to_owned(), 2, 100)]);
        assert_eq!(ledger.refused("t").count(), 0);
        let after = |today| {
            let mut later = ledger.clone();
            later.forget(today);
            later.is_empty()
        };
        assert_eq!([100, 106, 107, 99].map(after), [false, false, true, true]);
    }

    #[test]
    fn what_was_long_ago_counts_for_less() {
        let mut ledger = Ledger::default();
        (0..60).for_each(|_| ledger.note_prompt("m", "a", 1_000_000, 1_000_000));
        (0..120).for_each(|_| ledger.note_prompt("m", "a", 1_000_000, 2_000_000));
        assert!(ledger.ratio("m", "a") > 1.7);
        (0..600).for_each(|_| ledger.note_result("r", 1, 200_000));
        assert!((200_000..201_000).contains(&ledger.expected_output("r", None).unwrap().usual));
    }
}
