//! A report as a page for a browser: one file, which fetches nothing and runs nothing. Each figure on it says in `data-of` where in
//! the JSON it stands.
//!
//! All text goes through Handlebars, which escapes what is markup in HTML.

use std::collections::BTreeMap;

use handlebars::Handlebars;
use serde_json::{Value, json};

use super::changes::{self, Change, Unit};
use super::json::{Cache, ErrorLine, Report, RequestLine, RuleLine, TaskLine};
use super::text::{cost, seconds};
use super::timeline::Timeline;
use crate::error::{Code, Error};

/// So many requests have a row of their own, tasks of one rule, tasks of all rules, tasks that failed, and tasks that are slow or
/// dear: a page of ten thousand tasks is still read.
const REQUESTS: usize = 200;
const OF_A_RULE: usize = 100;
const TASKS: usize = 1000;
const FAILED: usize = 100;
const NAMED: usize = 10;

/// So many outputs of a request, and characters of a message, are shown.
const OUTPUTS: usize = 3;
const MESSAGE: usize = 2000;

impl Report {
    /// The page. `project` is what it is called there, `before` the run before it.
    ///
    /// # Errors
    /// [`Code::Bug`]: the page's own template is wrong.
    pub fn to_html(&self, project: &str, before: Option<&Report>) -> Result<String, Error> {
        let bug = |what: String| Error::new(Code::Bug, format!("the template of the report's page: {what}"));
        let mut pages = Handlebars::new();
        pages.set_strict_mode(true);
        let files = [
            ("page", include_str!("page/page.hbs")),
            ("figure", "{{#if of}}<data value=\"{{value}}\" data-of=\"{{of}}\">{{text}}</data>{{else}}{{text}}{{/if}}"),
            ("style", include_str!("page/style.css")),
        ];
        for (name, text) in files {
            pages.register_template_string(name, text).map_err(|e| bug(e.to_string()))?;
        }
        let page = json!({
            "project": project,
            "began": self.began,
            "genmake": self.genmake,
            "is_good": self.exit == 0,
            "exit": count("/exit", self.exit.into()),
            "totals": self.totals(),
            "targets": self.targets.by_status().iter().filter(|(_, n)| *n > 0).map(|(status, n)| json!({
                "name": status, "n": count(&format!("/targets/{status}"), *n)
            })).collect::<Vec<_>>(),
            "phases": self.phases.iter().enumerate().map(|(at, phase)| json!({
                "name": phase.name, "took": time(&format!("/phases/{at}/duration_ms"), phase.duration_ms)
            })).collect::<Vec<_>>(),
            "before": before.map(|before| changed(before, self)),
            "rules": self.rule_rows(),
            "providers": self.provider_rows(),
            "saved": self.saved_rows(),
            "caches": [
                cache("the store: results that were there, and results that were made", "/caches/store", self.caches.store),
                cache("providers' caches: tokens that they had, and tokens that they had not", "/caches/prompt", self.caches.prompt),
            ],
            "cache_misses": count("/llm/cache_misses", self.llm.cache_misses),
            "timeline": Timeline::new(self),
            "batches": self.batch_sizes(),
            "requests": self.request_rows(),
            "requests_left": self.requests.len().saturating_sub(REQUESTS),
            "slowest": self.slowest(NAMED).map(|task| self.task_row(task)).collect::<Vec<_>>(),
            "dearest": self.dearest(NAMED).map(|task| self.task_row(task)).collect::<Vec<_>>(),
            "advice": self.advice.iter().map(|advice| &advice.words).collect::<Vec<_>>(),
            "failures": self.failure_rows(),
            "tasks": self.tasks_by_rule(),
        });
        pages.render("page", &page).map_err(|e| bug(e.to_string()))
    }

    fn totals(&self) -> Vec<Value> {
        let llm = &self.llm;
        let named = |name: &str, figure: Value| json!({"name": name, "figure": figure});
        let uncounted = named("not counted", count("/llm/uncounted", llm.uncounted));
        let mut totals = vec![
            named("took", time("/duration_ms", self.duration_ms)),
            named("targets", count("/targets/total", self.targets.total)),
            named("cost", money("/llm/cost_usd", llm.cost_usd)),
            named("saved", money("/llm/cost_saved_usd", llm.cost_saved_usd)),
            named("requests", count("/llm/requests", llm.requests)),
            named("tokens in", count("/llm/input_tokens", llm.input_tokens)),
            named("tokens out", count("/llm/output_tokens", llm.output_tokens)),
            named("of those in, cached", count("/llm/cached_input_tokens", llm.cached_input_tokens)),
            named("retries", count("/llm/retries", llm.retries)),
            named("fallbacks", count("/llm/fallbacks", llm.fallbacks)),
        ];
        totals.extend((llm.uncounted > 0).then_some(uncounted));
        totals
    }

    /// The dearest first; where nothing has a cost, those of most tokens.
    fn rule_rows(&self) -> Vec<Value> {
        let mut rules: Vec<(usize, &RuleLine)> = self.rules.iter().enumerate().collect();
        let weight = |rule: &RuleLine| {
            (rule.cost_usd.unwrap_or_default(), rule.input_tokens + rule.output_tokens, rule.worked_ms)
        };
        rules.sort_by(|(_, a), (_, b)| weight(b).partial_cmp(&weight(a)).unwrap_or(std::cmp::Ordering::Equal));
        let parts = parts(rules.iter().map(|(_, rule)| (rule.cost_usd, rule.input_tokens + rule.output_tokens)));
        let row = |((at, rule), part): (&(usize, &RuleLine), f64)| {
            let of = |key: &str| format!("/rules/{at}/{key}");
            json!({
                "name": rule.rule, "part": part,
                "tasks": count(&of("tasks"), rule.tasks),
                "statuses": rule.statuses.iter().map(|(status, n)| format!("{n} {status}")).collect::<Vec<_>>().join(", "),
                "requests": count(&of("requests"), rule.requests),
                "input": count(&of("input_tokens"), rule.input_tokens),
                "cached": count(&of("cached_input_tokens"), rule.cached_input_tokens),
                "output": count(&of("output_tokens"), rule.output_tokens),
                "cost": money(&of("cost_usd"), rule.cost_usd),
                "took": time(&of("worked_ms"), rule.worked_ms),
            })
        };
        rules.iter().zip(parts).map(row).collect()
    }

    fn provider_rows(&self) -> Vec<Value> {
        let providers = &self.llm.providers;
        let parts = parts(providers.values().map(|by| (by.cost_usd, by.input_tokens + by.output_tokens)));
        let row = |((name, by), part): ((&String, &super::ByProvider), f64)| {
            // As a JSON pointer has them.
            let name_of = name.replace('~', "~0").replace('/', "~1");
            let of = |key: &str| format!("/llm/providers/{name_of}/{key}");
            json!({
                "name": name, "part": part,
                "requests": count(&of("requests"), by.requests),
                "input": count(&of("input_tokens"), by.input_tokens),
                "cached": count(&of("cached_input_tokens"), by.cached_input_tokens),
                "output": count(&of("output_tokens"), by.output_tokens),
                "cost": money(&of("cost_usd"), by.cost_usd),
            })
        };
        providers.iter().zip(parts).map(row).collect()
    }

    fn saved_rows(&self) -> Vec<Value> {
        let saved = &self.llm.tokens_saved;
        let rows = [
            (
                "batching",
                "batching",
                saved.batching,
                "system parts that were sent once for several tasks (an estimate)",
            ),
            ("prompt cache", "prompt_cache", saved.prompt_cache, "tokens sent that the provider had in its cache"),
            ("store", "store", saved.store, "what restored results took when they were made"),
            ("templates", "templates", saved.templates, "the size of what templates rendered (an estimate)"),
            ("context", "context", saved.context, "what related contexts left out (an estimate)"),
        ];
        let parts = parts(rows.iter().map(|(_, _, tokens, _)| (None, *tokens)));
        let row = |((name, key, tokens, why), part): (&(&str, &str, u64, &str), f64)| json!({"name": name, "why": why, "part": part, "tokens": count(&format!("/llm/tokens_saved/{key}"), *tokens)});
        rows.iter().zip(parts).map(row).collect()
    }

    /// How many requests of each size there were, and what came of them.
    fn batch_sizes(&self) -> Vec<Value> {
        let mut sizes: BTreeMap<u64, [u64; 4]> = BTreeMap::new();
        for line in &self.requests {
            let sums = sizes.entry(line.tasks).or_default();
            let fell_back = u64::from(line.fallback.is_some());
            for (sum, n) in sums.iter_mut().zip([1, line.tasks, line.good, fell_back]) {
                *sum += n;
            }
        }
        let row = |(size, [requests, tasks, good, fallbacks]): (&u64, &[u64; 4])| {
            json!({
                "size": grouped(*size), "requests": grouped(*requests), "tasks": grouped(*tasks), "good": grouped(*good),
                "fallbacks": grouped(*fallbacks), "part": part(*good as f64, *tasks as f64),
            })
        };
        sizes.iter().map(row).collect()
    }

    /// Those that went otherwise than they should, then the longest; as they were sent.
    fn request_rows(&self) -> Vec<Value> {
        let mut shown: Vec<(usize, &RequestLine)> = self.requests.iter().enumerate().collect();
        let is_plain = |line: &RequestLine| line.outcome == "answered" && line.fallback.is_none() && line.retries == 0;
        shown.sort_by_key(|(_, line)| (is_plain(line), std::cmp::Reverse(line.duration_ms)));
        shown.truncate(REQUESTS);
        shown.sort_by_key(|(at, _)| *at);
        let row = |(at, line): &(usize, &RequestLine)| {
            let of = |key: &str| format!("/requests/{at}/{key}");
            let fallback = line.fallback.as_ref().map(|fallback| {
                let then = if fallback.again { "asked for again" } else { "given up" };
                format!("{} missing, {then}: {}", fallback.missing, cut(&fallback.why, 200))
            });
            let what = match line.outcome.as_str() {
                "answered" => fallback.unwrap_or_default(),
                other => other.to_owned(),
            };
            json!({
                "request": line.request, "provider": line.provider, "model": line.model, "what": what,
                "is_wrong": !what.is_empty(),
                "begin": time(&of("begin_ms"), line.begin_ms), "took": time(&of("duration_ms"), line.duration_ms),
                "limited": if line.limited_ms > 0 { time(&of("limited_ms"), line.limited_ms) } else { json!(null) },
                "good": count(&of("good"), line.good), "tasks": count(&of("tasks"), line.tasks),
                "retries": count(&of("retries"), line.retries),
                "input": count(&of("input_tokens"), line.input_tokens),
                "cached": count(&of("cached_input_tokens"), line.cached_input_tokens),
                "output": count(&of("output_tokens"), line.output_tokens),
                "cost": money(&of("cost_usd"), line.cost_usd),
                "outputs": line.outputs.iter().take(OUTPUTS).collect::<Vec<_>>(),
                "outputs_left": line.outputs.len().saturating_sub(OUTPUTS),
            })
        };
        shown.iter().map(row).collect()
    }

    /// Where a task stands in the list of all.
    fn place(&self, task: &TaskLine) -> usize {
        self.tasks.iter().position(|other| std::ptr::eq(other, task)).unwrap_or_default()
    }

    fn task_row(&self, task: &TaskLine) -> Value {
        let of = |key: &str| format!("/tasks/{}/{key}", self.place(task));
        json!({
            "name": task.name(), "more": task.outputs.len().saturating_sub(1), "rule": task.rule, "status": task.status,
            "is_wrong": task.error.is_some(), "reasons": task.reasons.join("; "),
            "begin": time(&of("begin_ms"), task.begin_ms), "took": time(&of("duration_ms"), task.duration_ms),
            "worked": time(&of("worked_ms"), task.worked_ms),
            "input": count(&of("input_tokens"), task.input_tokens), "output": count(&of("output_tokens"), task.output_tokens),
            "cost": money(&of("cost_usd"), task.cost_usd), "request": task.batch, "after": task.waited_for.first(),
        })
    }

    fn failure_rows(&self) -> Value {
        let tasks = self.tasks.iter().filter_map(|task| Some((Some(task), task.error.as_ref()?)));
        let failed = self.errors.iter().map(|error| (None, error)).chain(tasks);
        let row = |(task, error): (Option<&TaskLine>, &ErrorLine)| {
            let (name, rule) = task.map(|task| (task.name(), task.rule.as_str())).unzip();
            json!({"name": name, "rule": rule, "code": error.code, "message": cut(&error.message, MESSAGE)})
        };
        let rows: Vec<Value> = failed.clone().take(FAILED).map(row).collect();
        json!({"left": failed.count().saturating_sub(rows.len()), "rows": rows})
    }

    /// Tasks by rule, the longest of each; those that nothing was to do for are counted.
    fn tasks_by_rule(&self) -> Vec<Value> {
        let mut room = TASKS;
        let of_rule = |rule: &RuleLine| {
            let mut tasks: Vec<&TaskLine> =
                self.tasks.iter().filter(|task| task.rule == rule.rule && task.status != "fresh").collect();
            tasks.sort_by_key(|task| (task.error.is_none(), std::cmp::Reverse(task.duration_ms)));
            let shown = tasks.len().min(OF_A_RULE).min(room);
            room -= shown;
            let rows: Vec<Value> = tasks[..shown].iter().map(|task| self.task_row(task)).collect();
            json!({"name": rule.rule, "tasks": grouped(tasks.len() as u64), "rows": rows, "left": tasks.len() - shown})
        };
        self.rules
            .iter()
            .filter(|rule| rule.tasks > rule.statuses.get("fresh").copied().unwrap_or(0))
            .map(of_rule)
            .collect()
    }
}

fn cache(name: &str, of: &str, cache: Cache) -> Value {
    json!({
        "name": name, "hits": count(&format!("{of}/hits"), cache.hits), "misses": count(&format!("{of}/misses"), cache.misses),
        "rate": share(&format!("{of}/rate"), cache.rate), "part": cache.rate.map(|rate| (rate * 100.0).round()).unwrap_or_default(),
    })
}

fn changed(before: &Report, now: &Report) -> Value {
    let row = |change: &Change| {
        let words = |figure: Option<f64>| match (change.unit, figure) {
            (Unit::Usd, amount) => cost(amount),
            (_, None) => "–".to_owned(),
            (Unit::Count, Some(n)) => grouped(n as u64),
            (Unit::Milliseconds, Some(ms)) => seconds(ms as u64),
            (Unit::Share, Some(rate)) => format!("{:.0} %", rate * 100.0),
        };
        let difference = change.now.zip(change.before).map(|(now, before)| now - before);
        let difference = match difference.filter(|difference| *difference != 0.0) {
            None => String::new(),
            Some(d) if d < 0.0 => format!("−{}", words(Some(-d))),
            Some(d) => format!("+{}", words(Some(d))),
        };
        json!({"name": change.name, "before": words(change.before), "now": words(change.now), "difference": difference})
    };
    let (broken, mended) = changes::failures(before, now);
    json!({
        "began": before.began,
        "totals": changes::totals(before, now).iter().map(row).collect::<Vec<_>>(),
        "rules": changes::rules(before, now).iter().take(REQUESTS).map(|[cost, tokens]| json!({"cost": row(cost), "tokens": row(tokens)})).collect::<Vec<_>>(),
        "broken": broken.iter().take(FAILED).collect::<Vec<_>>(), "broken_left": broken.len().saturating_sub(FAILED),
        "mended": mended.iter().take(FAILED).collect::<Vec<_>>(), "mended_left": mended.len().saturating_sub(FAILED),
    })
}

/// What each is of the greatest of them, in percent: by cost, or where nothing has one, by tokens.
fn parts(all: impl Iterator<Item = (Option<f64>, u64)>) -> Vec<f64> {
    let all: Vec<(Option<f64>, u64)> = all.collect();
    let costs = all.iter().any(|(cost, _)| cost.is_some_and(|cost| cost > 0.0));
    let weights = all.iter().map(|(cost, tokens)| if costs { cost.unwrap_or_default() } else { *tokens as f64 });
    let most = weights.clone().fold(0.0, f64::max);
    weights.map(|weight| part(weight, most)).collect()
}

fn part(of: f64, whole: f64) -> f64 {
    if whole > 0.0 { (of / whole * 1000.0).round() / 10.0 } else { 0.0 }
}

/// A figure: what the JSON has at `of`, and how people read it.
fn figure(of: &str, value: impl Into<Value>, text: String) -> Value {
    json!({"of": of, "value": value.into(), "text": text})
}

fn count(of: &str, n: u64) -> Value {
    figure(of, n, grouped(n))
}

fn time(of: &str, ms: u64) -> Value {
    figure(of, ms, seconds(ms))
}

fn money(of: &str, amount: Option<f64>) -> Value {
    // As the JSON has it.
    let value = amount.map_or(json!(""), |amount| json!((amount * 1e9).round() / 1e9));
    figure(of, value, cost(amount))
}

fn share(of: &str, rate: Option<f64>) -> Value {
    let text = rate.map_or_else(|| "–".to_owned(), |rate| format!("{:.1} %", rate * 100.0));
    figure(of, rate.map_or(json!(""), |rate| json!(rate)), text)
}

/// A number with its digits in threes.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The begin of a text.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::{Event, Status, TaskEnd};
    use crate::path::RelPath;
    use crate::report::Summary;

    #[test]
    fn numbers_are_read_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((cut("äöü", 3), cut("äöü", 2)), ("äöü".to_owned(), "äö…".to_owned()));
    }

    /// However large a run was, its page is small enough to be read.
    #[test]
    fn a_page_of_ten_thousand_tasks_is_no_larger_than_people_read() {
        let mut summary = Summary::default();
        for n in 0..10_000 {
            let path = |n: usize| RelPath::new(&format!("docs/a/rather/long/folder/page-{n}.md")).unwrap();
            let request = n / 4;
            if n % 4 == 0 {
                summary.note(&Event::Requested {
                    request,
                    provider: "p".into(),
                    model: "m".into(),
                    paths: (n..n + 4).map(path).collect(),
                    tasks: 4,
                    prefix_saved: 0,
                    context_saved: 0,
                    prefix: 0,
                    cache_minimum: None,
                    price: None,
                    again: false,
                });
            }
            let status = if n % 7 == 0 { Status::Failed } else { Status::Generated };
            summary.note(&Event::Ended(TaskEnd {
                reasons: vec![crate::plan::Reason::New],
                error: (n % 7 == 0).then(|| Error::new(Code::Malformed, "x".repeat(5000))),
                request: Some(request),
                took: Duration::from_millis(n as u64),
                worked: Duration::from_millis(n as u64),
                waited_for: vec![path(n / 2)],
                ..TaskEnd::example(&format!("rule-{}", n % 50), path(n).as_str(), status)
            }));
        }
        let report = summary.report();
        let page = report.to_html("large", Some(&report)).unwrap();
        assert!(page.len() < 1 << 20, "{} bytes", page.len());
        assert!(page.contains("rule-49"));
    }
}
