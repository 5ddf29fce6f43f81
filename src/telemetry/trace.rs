//! A run as Chrome's trace events, for Perfetto and its like: requests by provider, tasks by rule, and who waited for whom.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Value, json};

use crate::report::{Report, RequestLine, TaskLine};

/// A trace event; times are in microseconds.
#[derive(Serialize)]
struct Event {
    name: String,
    cat: &'static str,
    ph: &'static str,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    pid: u32,
    tid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    args: Value,
}

/// Requests are one process of the trace, tasks the other.
const REQUESTS: u32 = 1;
const TASKS: u32 = 2;

/// The text of a trace.
pub fn trace(report: &Report) -> String {
    let mut events = Vec::new();
    for (pid, name) in [(REQUESTS, "requests"), (TASKS, "tasks")] {
        events.push(named("process_name", pid, 0, name));
    }
    let mut lanes = Lanes::default();
    for line in &report.requests {
        let tid = lanes.of(&line.provider, line.begin_ms, line.duration_ms);
        events.push(request(line, tid));
    }
    events.extend(lanes.names(REQUESTS));
    let mut tasks: Vec<&TaskLine> = report.tasks.iter().filter(|task| task.status != "fresh").collect();
    tasks.sort_by_key(|task| task.begin_ms);
    let mut lanes = Lanes::default();
    let mut ends: HashMap<&str, (u64, usize)> = HashMap::new();
    for task in tasks {
        let tid = lanes.of(&task.rule, task.begin_ms, task.duration_ms);
        events.push(self::task(task, tid));
        if let Some((other, (end, from))) = task.waited_for.first().and_then(|name| ends.get_key_value(name.as_str())) {
            // The flow begins within the task that was waited for.
            let id = events.len();
            events.push(flow("s", (*end).saturating_sub(1), *from, id, other));
            events.push(flow("f", task.begin_ms * 1000, tid, id, other));
        }
        ends.insert(task.name(), ((task.begin_ms + task.duration_ms) * 1000, tid));
    }
    events.extend(lanes.names(TASKS));
    let trace = json!({
        "traceEvents": events, "displayTimeUnit": "ms",
        "otherData": {"genmake": report.genmake, "began": report.began},
    });
    format!("{trace}\n")
}

fn request(line: &RequestLine, tid: usize) -> Event {
    Event {
        name: format!("request {}", line.request),
        cat: "request",
        ph: "X",
        ts: line.begin_ms * 1000,
        dur: Some(line.duration_ms * 1000),
        pid: REQUESTS,
        tid,
        id: None,
        bp: None,
        args: json!({
            "model": line.model, "outcome": line.outcome, "tasks": line.tasks, "good": line.good, "retries": line.retries,
            "limited_ms": line.limited_ms, "fallback": line.fallback, "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens, "cached_input_tokens": line.cached_input_tokens, "cost_usd": line.cost_usd,
            "outputs": line.outputs,
        }),
    }
}

fn task(line: &TaskLine, tid: usize) -> Event {
    Event {
        name: line.name().to_owned(),
        cat: "task",
        ph: "X",
        ts: line.begin_ms * 1000,
        dur: Some(line.duration_ms * 1000),
        pid: TASKS,
        tid,
        id: None,
        bp: None,
        args: json!({
            "rule": line.rule, "status": line.status, "reasons": line.reasons, "request": line.batch,
            "waited_for": line.waited_for, "cost_usd": line.cost_usd, "error": line.error,
        }),
    }
}

fn flow(ph: &'static str, ts: u64, tid: usize, id: usize, to: &str) -> Event {
    let bp = (ph == "f").then_some("e");
    Event {
        name: format!("after {to}"),
        cat: "wait",
        ph,
        ts,
        dur: None,
        pid: TASKS,
        tid,
        id: Some(id),
        bp,
        args: json!({}),
    }
}

fn named(what: &str, pid: u32, tid: usize, name: &str) -> Event {
    let args = json!({"name": name});
    Event { name: what.to_owned(), cat: "__metadata", ph: "M", ts: 0, dur: None, pid, tid, id: None, bp: None, args }
}

/// Rows in which nothing overlaps, as many of each name as there must be.
#[derive(Default)]
struct Lanes<'a> {
    /// Of each name its rows: their numbers, and until when they are taken.
    rows: BTreeMap<&'a str, Vec<(usize, u64)>>,
    count: usize,
}

impl<'a> Lanes<'a> {
    fn of(&mut self, name: &'a str, begin: u64, took: u64) -> usize {
        let rows = self.rows.entry(name).or_default();
        let end = begin + took.max(1);
        match rows.iter_mut().find(|(_, until)| *until <= begin) {
            Some((tid, until)) => {
                *until = end;
                *tid
            }
            None => {
                self.count += 1;
                rows.push((self.count, end));
                self.count
            }
        }
    }

    fn names(&self, pid: u32) -> Vec<Event> {
        let rows = self.rows.iter().flat_map(|(name, rows)| rows.iter().map(move |(tid, _)| (*tid, *name)));
        rows.map(|(tid, name)| named("thread_name", pid, tid, name)).collect()
    }
}
