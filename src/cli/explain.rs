//! `explain`: why a target is or is not up to date, input by input.

use serde_json::{Value, json};

use super::args::Format;
use super::verdicts::{Row, rows};
use super::{Context, Exit, targets};
use crate::digest::Digest;
use crate::error::{Code, Error, Errors};
use crate::files::Files;
use crate::plan::{Judged, PartKind};
use crate::project::{Planned, Project};
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if names.is_empty() {
        return Err(Error::new(Code::Usage, "`explain` takes a target")
            .hint("`genmake plan -v` lists all targets")
            .into());
    }
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let planned = Project::open_at(&location, &context.env)?.plan_as(&targets, context.wish(), context.options.jobs)?;
    let rows: Vec<Row> = rows(&planned).into_iter().filter(|row| planned.selected.contains(&row.task)).collect();
    let mut failed = false;
    let mut all = Vec::new();
    for row in &rows {
        match planned.plan.tasks[row.task].as_ref() {
            Some(Ok(judged)) => all.push(explained(&planned, row, judged)?),
            Some(Err(error)) => {
                failed = true;
                ui::complain(error);
            }
            None => {}
        }
    }
    match context.options.format {
        Format::Json => {
            let targets: Vec<Value> = all.iter().map(Explained::to_json).collect();
            ui::out(&format!("{:#}\n", json!({"version": 1, "targets": targets})));
        }
        Format::Text => all.iter().for_each(|explained| ui::out(&explained.to_text())),
    }
    Ok(Exit(if failed { 2 } else { 0 }))
}

struct Explained {
    row: Value,
    head: String,
    outputs: Vec<Named>,
    parts: Vec<Named>,
    key: Option<(Digest, Option<Digest>)>,
}

/// Something with a digest, and what the digest was.
struct Named {
    kind: &'static str,
    name: String,
    now: Option<Digest>,
    before: Option<Digest>,
    /// Whether it is known what it was.
    known: bool,
    /// The generated content below an accepted edit.
    base: Option<Digest>,
}

fn explained(planned: &Planned, row: &Row, judged: &Judged) -> Result<Explained, Error> {
    let graph = planned.graph();
    let task = &graph.tasks[row.task];
    let remembered = planned.memory().tasks.get(graph.name(row.task));
    let mut outputs = Vec::new();
    for output in &task.outputs {
        let now = planned.files().digest(&output.path)?;
        let entry = planned.lock().get(&output.path, now);
        let before = entry.map(|entry| entry.content);
        let (name, known) = (output.path.to_string(), before.is_some());
        outputs.push(Named { kind: "output", name, now, before, known, base: entry.and_then(|entry| entry.base) });
    }
    let part = |part: &crate::plan::Part| {
        let old = remembered.and_then(|task| {
            task.parts
                .iter()
                .find(|old| old.kind == part.kind && (old.name == part.name || part.kind == PartKind::Model))
        });
        let name = part.name.clone();
        Named {
            kind: kind(part.kind),
            name,
            now: Some(part.digest),
            before: old.map(|old| old.digest),
            known: remembered.is_some(),
            base: None,
        }
    };
    let locked = planned.lock().get(graph.name(row.task), None).map(|entry| entry.key);
    let why = if row.reasons.is_empty() { String::new() } else { format!(": {}", row.reasons.join("; ")) };
    Ok(Explained {
        row: row.to_json(),
        head: format!("{}  {}{why}  (rule {})", row.name(), row.status, row.rule),
        outputs,
        parts: judged.parts.iter().map(part).collect(),
        key: judged.key.map(|key| (key, locked)),
    })
}

fn kind(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Recipe => "recipe",
        PartKind::Item => "item",
        PartKind::Input => "input",
        PartKind::Context => "context",
        PartKind::Vars => "vars",
        PartKind::Env => "env",
        PartKind::Params => "params",
        PartKind::Model => "model",
        PartKind::Outputs => "outputs",
    }
}

impl Named {
    fn change(&self) -> String {
        match (self.now, self.before) {
            (None, Some(_)) => "missing".to_owned(),
            (Some(now), Some(before)) if now != before => format!("changed, was {}", before.short()),
            (Some(_), Some(_)) => match self.base {
                Some(base) => format!("an accepted edit, generated was {}", base.short()),
                None => "as it was".to_owned(),
            },
            (_, None) if self.known => "new".to_owned(),
            (_, None) => "no record of what it was".to_owned(),
        }
    }

    fn to_json(&self) -> Value {
        let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string());
        let mut json = json!({
            "kind": self.kind, "name": self.name, "digest": text(self.now), "before": text(self.before),
            "changed": self.now != self.before && (self.known || self.before.is_some()),
        });
        if self.base.is_some() {
            json["base"] = text(self.base).into();
        }
        json
    }
}

impl Explained {
    fn to_json(&self) -> Value {
        let mut json = self.row.clone();
        json["inputs"] = self.parts.iter().map(Named::to_json).collect::<Vec<_>>().into();
        json["files"] = self.outputs.iter().map(Named::to_json).collect::<Vec<_>>().into();
        json["locked_key"] = self.key.and_then(|(_, locked)| locked).map(|key| key.to_string()).into();
        json
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.head);
        let shown = |named: &Named| {
            let digest = named.now.map_or_else(|| "-".to_owned(), |digest| digest.short());
            format!("  {:8} {:40} {:12}  {}\n", named.kind, named.name, digest, named.change())
        };
        text.extend(self.outputs.iter().chain(&self.parts).map(shown));
        if let Some((key, locked)) = self.key {
            let locked = match locked {
                Some(locked) if locked == key => "as in the lock".to_owned(),
                Some(locked) => format!("in the lock {}", locked.short()),
                None => "not in the lock".to_owned(),
            };
            text += &format!("  {:8} {:40} {:12}  {locked}\n", "key", "what would be made", key.short());
        }
        ui::sanitize(&text)
    }
}
