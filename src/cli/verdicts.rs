//! Verdicts as text and as JSON: one form for `plan`, `check` and `explain`.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::error::Error;
use crate::graph::TaskId;
use crate::manifest::Recipe;
use crate::plan::{Edit, Fate, Orphan, Verdict};
use crate::project::Planned;
use crate::ui::columns::{self, Column};
use crate::wording;

/// One task's verdict, ready to be shown.
pub(super) struct Row {
    pub task: TaskId,
    pub rule: String,
    pub outputs: Vec<String>,
    /// `fresh`, `stale`, `restorable`, `edited`, `waiting` or `failed`.
    pub status: &'static str,
    /// What a build would do: `render`, `generate`, `run`, `restore`, `accept`.
    pub action: Option<&'static str>,
    pub reasons: Vec<String>,
    /// The request that would carry it, from 1.
    pub request: Option<usize>,
    json: Value,
}

/// The verdicts of all tasks that were asked for and what they wait for.
pub(super) fn rows(planned: &Planned) -> Vec<Row> {
    let batches = planned.plan.batches.iter().enumerate();
    let requests: HashMap<TaskId, usize> =
        batches.flat_map(|(at, batch)| batch.tasks.iter().map(move |unit| (unit.task, at + 1))).collect();
    let tasks = planned.plan.tasks.iter().enumerate();
    tasks
        .filter_map(|(task, judged)| Some(row(planned, task, judged.as_ref()?, requests.get(&task).copied())))
        .collect()
}

fn row(
    planned: &Planned,
    task: TaskId,
    judged: &Result<crate::plan::Judged, crate::Error>,
    request: Option<usize>,
) -> Row {
    let graph = planned.graph();
    let rule = graph.rule(task);
    let would = match rule.recipe {
        Some(Recipe::Prompt(_)) => "generate",
        Some(Recipe::Embed(_)) => "embed",
        Some(Recipe::Run(_)) => "run",
        _ => "render",
    };
    let (status, action, reasons) = match judged {
        Err(_) => ("failed", None, &[][..]),
        Ok(judged) => {
            let (action, reasons) = match &judged.verdict {
                Verdict::Fresh => (None, &[][..]),
                Verdict::Edited(reasons, _) => (None, &reasons[..]),
                Verdict::Stale(reasons) if judged.is_replied => (Some("restore"), &reasons[..]),
                Verdict::Stale(reasons) if judged.is_submitted => (Some("collect"), &reasons[..]),
                Verdict::Stale(reasons) => (Some(would), &reasons[..]),
                Verdict::Restorable(reasons, _) => (Some("restore"), &reasons[..]),
                Verdict::Kept(_) => (Some("accept"), &[][..]),
                Verdict::Waiting(_) => (Some(would), &[][..]),
            };
            (wording::status(judged), action, reasons)
        }
    };
    let outputs: Vec<String> = graph.tasks[task].outputs.iter().map(|output| output.path.to_string()).collect();
    let words = match judged {
        Err(error) => vec![error.to_string()],
        Ok(judged) => wording::why(judged, &|task| graph.name(task).to_string()),
    };
    let mut json = json!({"rule": rule.name, "outputs": outputs, "status": status});
    if let Some(action) = action {
        json["action"] = action.into();
    }
    let reason = |reason| json!({"name": wording::reason_name(reason), "about": wording::reason_subject(reason)});
    json["reasons"] = reasons.iter().map(reason).collect::<Vec<_>>().into();
    match judged {
        Err(error) => {
            json["error"] = json!({"code": error.code.as_str(), "message": error.to_string()});
        }
        Ok(judged) => {
            if let Verdict::Waiting(on) = &judged.verdict {
                let on: Vec<&str> = on.iter().map(|task| graph.name(*task).as_str()).collect();
                json["waits_for"] = on.into();
            }
            for (name, accepted) in [("edited", false), ("accepted", true)] {
                let is_meant = |edit: &&Edit| (edit.fate == Fate::Accepted) == accepted;
                let paths = judged.edits.iter().filter(is_meant).map(|edit| edit.path.to_string());
                let paths: Vec<String> = paths.collect();
                if !paths.is_empty() {
                    json[name] = paths.into();
                }
            }
            if let Some(key) = judged.key {
                json["key"] = key.to_string().into();
            }
        }
    }
    if let Some(request) = request {
        json["batch"] = request.into();
    }
    Row { task, rule: rule.name.clone(), outputs, status, action, reasons: words, request, json }
}

impl Row {
    pub fn to_json(&self) -> Value {
        self.json.clone()
    }

    /// The same of what stands there up to date, and is not staged so: nobody edited what was staged before.
    pub fn unstaged(mut self) -> Row {
        self.status = "stale";
        self.json["status"] = self.status.into();
        if let Some(json) = self.json.as_object_mut() {
            json.remove("edited");
        }
        self.reasons = vec!["not staged as it stands there".to_owned()];
        self
    }

    /// The outputs, for people.
    pub fn name(&self) -> String {
        self.outputs.join(", ")
    }
}

/// What failed the tasks, each mistake once: one in a recipe is one, however many tasks it fails.
pub(super) fn mistakes(planned: &Planned) -> Vec<&Error> {
    let mut seen = HashSet::new();
    let errors = planned.plan.tasks.iter().flatten().filter_map(|judged| judged.as_ref().err());
    errors.filter(|error| identity(error).is_none_or(|identity| seen.insert(identity))).collect()
}

/// What tells a mistake from others, where it has a place.
fn identity(error: &Error) -> Option<(&str, &str, usize)> {
    let place = error.place.as_ref()?;
    Some((error.code.as_str(), &place.source.name, place.span.start))
}

/// An orphan in JSON.
pub(super) fn orphan_json(orphan: &Orphan) -> Value {
    json!({
        "rule": orphan.rule, "outputs": [orphan.path.as_str()], "status": "orphan", "reasons": [],
        "edited": orphan.edited == Some(true),
    })
}

/// What a person is to do about what is not up to date, in words: `run` is for what a build makes.
pub(super) fn to_do(rows: &[Row], run: &str) -> String {
    let of = |status: &str| rows.iter().find(|row| row.status == status).map(Row::name);
    let mut steps = Vec::new();
    if of("failed").is_some() {
        steps.push("mend what is said to be wrong".to_owned());
    }
    if let Some(edited) = of("edited") {
        steps.push(format!("`genmake accept {edited}` keeps an edit, `genmake --force` overwrites it"));
    }
    if steps.is_empty() || rows.iter().any(|row| !matches!(row.status, "failed" | "edited")) {
        steps.push(run.to_owned());
    }
    steps.join("; ")
}

/// Verbs, names and reasons below each other, as wide as the terminal has room for.
pub(super) fn table(rows: &[[String; 3]]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.to_vec()).collect();
    columns::table(&[Column::Words, Column::Names, Column::Rest], &rows, columns::of_stdout())
}
