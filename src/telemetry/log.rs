//! What is decided in a run, a JSON object each: `event` says what it is, `ms` when, counted from the run's begin. Names and keys are
//! documented, and stay.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::Error;
use crate::event::{Event, TaskEnd};
use crate::llm::Unkept;
use crate::path::RelPath;
use crate::plan::Reason;
use crate::report::Summary;
use crate::wording;

/// The log of a run.
pub struct Log {
    begun: Instant,
}

impl Default for Log {
    fn default() -> Log {
        Log { begun: Instant::now() }
    }
}

impl Log {
    /// The line for an event; `None` if nothing was decided.
    pub fn event(&self, event: &Event) -> Option<String> {
        let (name, keys) = keys(event)?;
        Some(self.line(name, keys))
    }

    /// The line for the end of a run.
    pub fn end(&self, summary: &Summary) -> String {
        let llm = &summary.llm;
        let keys = json!({
            "exit": summary.exit(), "tasks": summary.total(), "written": summary.written, "requests": llm.requests,
            "input_tokens": llm.input_tokens, "output_tokens": llm.output_tokens, "cost_usd": llm.cost_usd,
            "interrupted": summary.interrupted, "took_ms": ms(summary.took),
        });
        self.line("end", keys)
    }

    /// The line for something that failed.
    pub fn error(&self, error: &Error) -> String {
        self.line("error", failed(error))
    }

    /// A line of this name with these keys.
    pub fn line(&self, name: &str, keys: Value) -> String {
        let mut line = json!({"ms": ms(self.begun.elapsed()), "event": name});
        if let (Value::Object(line), Value::Object(keys)) = (&mut line, keys) {
            line.extend(keys);
        }
        line.to_string()
    }
}

fn keys(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::WaitsForOther => ("waits_for_other", json!({})),
        Event::StateDamaged => ("state_damaged", json!({})),
        Event::Planned { tasks, stale, requests, .. } => {
            ("planned", json!({"tasks": tasks, "stale": stale, "requests": requests}))
        }
        Event::Starting { provider, command } => ("starting", json!({"provider": provider, "command": command})),
        Event::Started { provider, took } => ("started", json!({"provider": provider, "took_ms": ms(*took)})),
        Event::Requested { request, provider, model, paths, tasks, again, .. } => {
            let mut outputs = paths.clone();
            outputs.dedup();
            let keys = json!({
                "request": request, "provider": provider, "model": model, "tasks": tasks, "outputs": names(&outputs),
                "again": again,
            });
            ("request", keys)
        }
        Event::WaitsForLimits { request, provider, wait } => {
            ("limited", json!({"request": request, "provider": provider, "wait_ms": ms(*wait)}))
        }
        Event::Retrying { request, provider, after, why, .. } => {
            ("retry", json!({"request": request, "provider": provider, "after_ms": ms(*after), "why": why}))
        }
        Event::Answered { request, provider, tasks, good, usage, price, took, .. } => {
            let keys = json!({
                "request": request, "provider": provider, "tasks": tasks, "good": good, "input_tokens": usage.input,
                "output_tokens": usage.output, "cached_input_tokens": usage.cached,
                "cost_usd": price.map(|price| price.cost(*usage)), "took_ms": ms(*took),
            });
            ("answer", keys)
        }
        Event::RequestFailed { request, took, .. } => {
            ("request_failed", json!({"request": request, "took_ms": ms(*took)}))
        }
        Event::Warned { path, what } => ("warning", json!({"task": path.as_str(), "what": what})),
        Event::Unread { request, provider, counted, sent } => {
            ("unread", json!({"request": request, "provider": provider, "counted": counted, "sent": sent}))
        }
        Event::Unkept { path, why, .. } => {
            let reason = match why {
                Unkept::TooShort(..) => "too_short",
                Unkept::Unheeded => "unheeded",
                Unkept::Again => "again",
            };
            let what = wording::unkept(path.as_str(), *why);
            ("cache_miss", json!({"task": path.as_str(), "reason": reason, "what": what}))
        }
        Event::FellBack { request, missing, why, again } => {
            let keys =
                json!({"request": request, "missing": names(missing), "why": wording::shortfall(why), "again": again});
            ("fallback", keys)
        }
        Event::Strayed { path, other, again } => {
            ("stray", json!({"task": path.as_str(), "other": other.as_str(), "again": again}))
        }
        Event::AskedToCorrect { path, why } => ("correct", json!({"task": path.as_str(), "why": why})),
        Event::Excused { path, error } => {
            let mut keys = failed(error);
            keys["task"] = path.as_str().into();
            ("excused", keys)
        }
        Event::Ended(end) => ("task", ended(end)),
        Event::Orphaned { orphan, deleted } => {
            ("orphan", json!({"task": orphan.path.as_str(), "rule": orphan.rule, "deleted": deleted}))
        }
        Event::Submitted { provider, id, requests, tasks, cost } => {
            let keys = json!({"provider": provider, "id": id, "requests": requests, "tasks": tasks, "estimated_cost_usd": cost});
            ("submitted", keys)
        }
        Event::Pending { provider, id, requests, done } => {
            ("pending", json!({"provider": provider, "id": id, "requests": requests, "done": done}))
        }
        Event::Seeking { provider, wait } => ("seeking", json!({"provider": provider, "wait_ms": ms(*wait)})),
        Event::Unreached { error } => ("unreached", failed(error)),
        Event::Fetched { provider, id, results, missing } => {
            ("fetched", json!({"provider": provider, "id": id, "results": results, "missing": missing}))
        }
        Event::Unasked { path } => ("unasked", json!({"task": path.as_str()})),
        Event::Failed(error) => ("error", failed(error)),
        // What a command says, and pieces of answers: nothing is decided.
        _ => return None,
    })
}

fn ended(end: &TaskEnd) -> Value {
    let mut keys = json!({
        "task": end.outputs.first().map(RelPath::as_str), "rule": end.rule, "status": end.status.name(),
        "reasons": reasons(&end.reasons), "took_ms": ms(end.took),
    });
    if let Some(request) = end.request {
        keys["request"] = request.into();
        keys["cost_usd"] = json!(end.cost);
    }
    if let Some(error) = &end.error {
        keys["error"] = failed(error);
    }
    keys
}

/// Why a task is not up to date, as `plan` has it.
fn reasons(reasons: &[Reason]) -> Value {
    let reason = |reason| json!({"name": wording::reason_name(reason), "about": wording::reason_subject(reason)});
    reasons.iter().map(reason).collect::<Vec<_>>().into()
}

fn failed(error: &Error) -> Value {
    json!({"code": error.code.as_str(), "message": error.to_string()})
}

fn names(paths: &[RelPath]) -> Vec<&str> {
    paths.iter().map(RelPath::as_str).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
