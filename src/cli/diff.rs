//! `diff`: hand edits against what was generated. Reads only, and runs nothing of the Genfile.

use std::sync::Arc;

use serde_json::{Value, json};

use super::args::Format;
use super::{Context, Exit, targets};
use crate::digest::Digest;
use crate::error::{Error, Errors};
use crate::files::Files;
use crate::graph::TaskId;
use crate::merge;
use crate::path::RelPath;
use crate::plan::{Edit, Fate, Judged, Making, Stored, Wish, no_base};
use crate::project::{Planned, Project};
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = context.with_provider(Project::open_at(&location, &context.env)?)?;
    let planned = project.plan_as(&targets, Wish::default(), &context.jobs)?;
    let mut found = Vec::new();
    let mut failed = false;
    let mut last = None;
    for (task, path) in planned.outputs() {
        match &planned.plan.tasks[task] {
            Some(Ok(judged)) => {
                // As git's: what is accepted is settled, and shown where it is asked for.
                let is_shown = |edit: &&Edit| edit.path == path && (edit.fate != Fate::Accepted || !names.is_empty());
                if let Some(edit) = judged.edits.iter().find(is_shown) {
                    found.push(difference(&planned, task, judged, edit)?);
                }
            }
            Some(Err(error)) if last != Some(task) => {
                failed = true;
                last = Some(task);
                ui::complain(error);
            }
            _ => {}
        }
    }
    match context.options.format {
        Format::Json => {
            let edits: Vec<Value> = found.iter().map(Difference::to_json).collect();
            ui::out(&format!("{:#}\n", json!({"version": 1, "edits": edits})));
        }
        _ => {
            found.iter().for_each(Difference::show);
            if found.is_empty() && !context.options.silent {
                ui::say(if names.is_empty() { "no edits by hand that are not accepted" } else { "no edits by hand" });
            }
        }
    }
    Ok(Exit(if failed { 2 } else { 0 }))
}

/// One edit.
struct Difference {
    rule: String,
    path: RelPath,
    accepted: bool,
    /// What it is held against.
    generated: Option<Digest>,
    digest: Digest,
    text: Text,
}

/// What leads from the generated text to what stands there.
enum Text {
    Hunks(String),
    /// The same, from what a template renders now: what it rendered when it was edited can no longer be had.
    HunksOfNow(String),
    /// One of them is no text.
    Binary,
    /// Nothing is known to have been generated there.
    NoBase,
    /// What was generated can no longer be had.
    BaseLost,
}

fn difference(planned: &Planned, task: TaskId, judged: &Judged, edit: &Edit) -> Result<Difference, Error> {
    let now = planned.files().read(&edit.path)?.unwrap_or_default();
    let rendered = rendered(planned, task, judged, &edit.path);
    let base = edit.base.filter(|base| *base != no_base());
    let is_base = |bytes: &Arc<[u8]>| base == Some(Digest::of(bytes));
    let before =
        base.and_then(|base| rendered.clone().filter(is_base).or_else(|| planned.store().base(&edit.path, &base)));
    let (before, hunks): (_, fn(String) -> Text) = match before {
        Some(before) => (Some(before), Text::Hunks),
        None => (rendered, Text::HunksOfNow),
    };
    let text = match (&before, base) {
        (Some(before), _) => merge::unified(before, &now).map_or(Text::Binary, hunks),
        (None, Some(_)) => Text::BaseLost,
        (None, None) => Text::NoBase,
    };
    Ok(Difference {
        rule: planned.graph().rule(task).name.clone(),
        path: edit.path.clone(),
        accepted: edit.fate == Fate::Accepted,
        generated: before.map(Digest::of).or(base),
        digest: edit.content,
        text,
    })
}

/// What a template renders for an output now; none where anything else makes it, or it waits for that.
fn rendered(planned: &Planned, task: TaskId, judged: &Judged, path: &RelPath) -> Option<Arc<[u8]>> {
    let rule = planned.graph().rule(task);
    let at = planned.graph().tasks[task].outputs.iter().position(|output| output.path == *path)?;
    if !rule.is_rendered() || judged.key.is_none() {
        return None;
    }
    // What is fresh was not rendered.
    match judged.making.clone().or_else(|| planned.making(task).ok())? {
        Making::Bytes(contents) => contents.get(at).cloned(),
        _ => None,
    }
}

impl Difference {
    fn show(&self) {
        let path = &self.path;
        let what = if self.accepted { "edited by hand, and accepted" } else { "edited by hand" };
        let heads = |from: &str| format!("--- a/{path}\t{from}\n+++ b/{path}\t{what}\n");
        match &self.text {
            Text::Hunks(hunks) => ui::difference(&(heads("generated") + hunks)),
            Text::HunksOfNow(hunks) => ui::difference(&(heads("generated now") + hunks)),
            Text::Binary => ui::difference(&format!("binary files a/{path} and b/{path} differ\n")),
            Text::NoBase => {
                ui::say(&format!("{}: was there before genmake made anything", ui::sanitize(path.as_str())))
            }
            Text::BaseLost => ui::say(&format!(
                "{}: {what}; what was generated is neither in the store nor in git's history",
                ui::sanitize(path.as_str())
            )),
        }
    }

    fn to_json(&self) -> Value {
        let hunks = match &self.text {
            Text::Hunks(hunks) | Text::HunksOfNow(hunks) => Some(hunks),
            _ => None,
        };
        json!({
            "rule": self.rule, "path": self.path.as_str(), "accepted": self.accepted,
            "generated": self.generated.map(|digest| digest.to_string()), "digest": self.digest.to_string(),
            "binary": matches!(self.text, Text::Binary), "diff": hunks,
        })
    }
}
