//! A run's figures in Prometheus' text format, as its collectors read them from a file.

use prometheus::{CounterVec, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, Opts, Registry, TextEncoder};

use crate::error::{Code, Error};
use crate::report::Report;

/// From a tenth of a second to ten minutes.
const BUCKETS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The figures of a run. A cost that is not known is left out.
///
/// # Errors
/// [`Code::Bug`]: a metric is declared twice, or badly.
pub fn metrics(report: &Report) -> Result<String, Error> {
    let bug = |e: prometheus::Error| Error::new(Code::Bug, format!("metrics: {e}"));
    let registry = Registry::new();
    fill(&registry, report).map_err(bug)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).map_err(bug)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn fill(registry: &Registry, report: &Report) -> prometheus::Result<()> {
    let gauge = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::new(format!("genmake_{name}"), help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))
    };
    let counters = |name: &str, help: &str, labels: &[&str]| {
        let counters = CounterVec::new(Opts::new(format!("genmake_{name}_total"), help), labels)?;
        registry.register(Box::new(counters.clone()))?;
        Ok::<_, prometheus::Error>(counters)
    };
    let count = |n: u64| n as f64;
    let seconds = |ms: u64| ms as f64 / 1e3;
    let began = humantime::parse_rfc3339(&report.began).ok();
    let began = began.and_then(|began| began.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    gauge("run_begin_timestamp_seconds", "When the run began, since 1970.", began.as_secs_f64())?;
    gauge("run_duration_seconds", "How long the run took.", seconds(report.duration_ms))?;
    gauge("run_success", "Whether the run's exit status is 0.", f64::from(u8::from(report.exit == 0)))?;
    let phases = Opts::new("genmake_phase_duration_seconds", "How long each phase took.");
    let phases = GaugeVec::new(phases, &["phase"])?;
    registry.register(Box::new(phases.clone()))?;
    for phase in &report.phases {
        phases.with_label_values(&[&phase.name]).set(seconds(phase.duration_ms));
    }
    let tasks = counters("tasks", "Tasks, by how they ended.", &["status"])?;
    for (status, n) in report.targets.by_status() {
        tasks.with_label_values(&[status]).inc_by(count(n));
    }
    let llm = &report.llm;
    let requests = counters("requests", "Requests, also those sent again.", &["provider"])?;
    let tokens = counters(
        "tokens",
        "Tokens as providers counted them; cached_input is a part of input.",
        &["provider", "kind"],
    )?;
    let cost = counters("cost_usd", "What requests cost, where that is known.", &["provider"])?;
    for (name, by) in &llm.providers {
        requests.with_label_values(&[name]).inc_by(count(by.requests));
        let kinds =
            [("input", by.input_tokens), ("output", by.output_tokens), ("cached_input", by.cached_input_tokens)];
        for (kind, n) in kinds {
            tokens.with_label_values(&[name.as_str(), kind]).inc_by(count(n));
        }
        if let Some(usd) = by.cost_usd {
            cost.with_label_values(&[name]).inc_by(usd.max(0.0));
        }
    }
    for (name, help, n) in [
        ("retries", "Requests sent again, and results sent back.", llm.retries),
        ("fallbacks", "Requests of several tasks after which something was asked for again.", llm.fallbacks),
        ("uncounted", "Requests and answers whose tokens the provider did not say.", llm.uncounted),
    ] {
        counters(name, help, &[])?.with_label_values::<&str>(&[]).inc_by(count(n));
    }
    let saved = counters("tokens_saved", "Tokens that were not spent, by why.", &["by"])?;
    for (by, n) in llm.tokens_saved.by_why() {
        saved.with_label_values(&[by.replace(' ', "_")]).inc_by(count(n));
    }
    let hits = counters("cache_hits", "What caches had: the store in tasks, prompts in tokens.", &["cache"])?;
    let misses = counters("cache_misses", "What caches had not, likewise.", &["cache"])?;
    for (name, cache) in [("store", report.caches.store), ("prompt", report.caches.prompt)] {
        hits.with_label_values(&[name]).inc_by(count(cache.hits));
        misses.with_label_values(&[name]).inc_by(count(cache.misses));
    }
    let of_rules = counters("rule_tasks", "Tasks by rule and by how they ended.", &["rule", "status"])?;
    let rule_tokens = counters("rule_tokens", "Tokens by rule.", &["rule", "kind"])?;
    let rule_cost = counters("rule_cost_usd", "Costs by rule, where they are known.", &["rule"])?;
    for rule in &report.rules {
        for (status, n) in &rule.statuses {
            of_rules.with_label_values(&[&rule.rule, status]).inc_by(count(*n));
        }
        for (kind, n) in [("input", rule.input_tokens), ("output", rule.output_tokens)] {
            rule_tokens.with_label_values(&[rule.rule.as_str(), kind]).inc_by(count(n));
        }
        if let Some(usd) = rule.cost_usd {
            rule_cost.with_label_values(&[&rule.rule]).inc_by(usd.max(0.0));
        }
    }
    let took = HistogramOpts::new("genmake_request_duration_seconds", "How long requests took.");
    let took = HistogramVec::new(took.buckets(BUCKETS.to_vec()), &["provider"])?;
    registry.register(Box::new(took.clone()))?;
    for request in report.requests.iter().filter(|request| request.outcome != "open") {
        took.with_label_values(&[&request.provider]).observe(seconds(request.duration_ms));
    }
    Ok(())
}
