//! The report as JSON. Structs of its own, versioned: they change with the number only.

use std::time::Duration;

use serde::Serialize;

use super::{Llm, Summary};
use crate::event::{Status, TaskEnd};
use crate::wording;

impl Summary {
    /// The report, as published.
    pub fn to_json(&self) -> String {
        let count = |status| self.count(status) as u64;
        let tasks: Vec<TaskJson> = self.tasks.iter().map(TaskJson::of).collect();
        let report = Report {
            version: 1,
            duration_ms: millis(self.took),
            exit: self.exit(),
            targets: Targets {
                total: self.total() as u64,
                fresh: count(Status::Fresh),
                rendered: count(Status::Rendered),
                generated: count(Status::Generated),
                restored: count(Status::Restored),
                defaulted: count(Status::Defaulted),
                ran: count(Status::Ran),
                embedded: count(Status::Embedded),
                failed: count(Status::Failed),
                submitted: count(Status::Submitted),
                skipped: count(Status::Skipped),
                edited: count(Status::Edited),
                accepted: count(Status::Accepted),
                merged: count(Status::Merged),
            },
            llm: &self.llm,
            phases: self.phases.iter().map(|(name, took)| Phase { name, duration_ms: millis(*took) }).collect(),
            tasks,
        };
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    duration_ms: u64,
    exit: u8,
    targets: Targets,
    llm: &'a Llm,
    phases: Vec<Phase>,
    tasks: Vec<TaskJson>,
}

#[derive(Serialize)]
struct Targets {
    total: u64,
    fresh: u64,
    rendered: u64,
    generated: u64,
    restored: u64,
    defaulted: u64,
    ran: u64,
    embedded: u64,
    failed: u64,
    submitted: u64,
    skipped: u64,
    edited: u64,
    accepted: u64,
    merged: u64,
}

#[derive(Serialize)]
struct Phase {
    name: &'static str,
    duration_ms: u64,
}

#[derive(Serialize)]
struct TaskJson {
    rule: String,
    outputs: Vec<String>,
    status: &'static str,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    duration_ms: u64,
    input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<CollectionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<EmbeddingJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson>,
}

#[derive(Serialize)]
struct EmbeddingJson {
    total: usize,
    success: usize,
    failed: usize,
    cached: usize,
    newly_embedded: usize,
}

#[derive(Serialize)]
struct CollectionJson {
    items: usize,
    results: usize,
    dropped: Vec<String>,
    failed: usize,
}

#[derive(Serialize)]
struct ErrorJson {
    code: &'static str,
    message: String,
}

impl TaskJson {
    fn of(end: &TaskEnd) -> TaskJson {
        TaskJson {
            rule: end.rule.clone(),
            outputs: end.outputs.iter().map(ToString::to_string).collect(),
            status: end.status.name(),
            reasons: end.reasons.iter().map(wording::reason).collect(),
            batch: end.request,
            duration_ms: millis(end.took),
            input_tokens: end.usage.input,
            output_tokens: end.usage.output,
            left_out: end.left_out.clone(),
            collection: end.collected.as_ref().map(|collected| CollectionJson {
                items: collected.items,
                results: collected.results,
                dropped: collected.dropped.clone(),
                failed: collected.failed,
            }),
            embedding: end.embedded.map(|counts| EmbeddingJson {
                total: counts.total,
                success: counts.success,
                failed: counts.failed,
                cached: counts.cached,
                newly_embedded: counts.new,
            }),
            error: end.error.as_ref().map(|e| ErrorJson { code: e.code.as_str(), message: e.to_string() }),
        }
    }
}
