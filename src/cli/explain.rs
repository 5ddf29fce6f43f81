//! `explain`: why a target is or is not up to date, input by input, and upstream to the files that changed.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::args::Format;
use super::verdicts::{Row, rows};
use super::{Context, Exit, targets};
use crate::digest::Digest;
use crate::error::{Code, Error, Errors};
use crate::files::Files;
use crate::graph::{Item, ItemSource, TaskId};
use crate::path::RelPath;
use crate::plan::{Judged, Part, PartKind, Verdict};
use crate::project::{Planned, Project};
use crate::ui;
use crate::ui::columns::{self, Column};

/// How many tasks upstream are shown to people.
const MOST_UPSTREAM: usize = 20;

/// In fewer columns than these there is no room for the digests.
const NARROW: usize = 56;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if names.is_empty() {
        return Err(Error::new(Code::Usage, "`explain` takes a target")
            .hint("`genmake plan -v` lists all targets")
            .into());
    }
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = context.assume(Project::open_at(&location, &context.env)?, &location)?;
    let planned = project.plan_as(&targets, context.wish(), &context.jobs)?;
    let rows: Vec<Row> = rows(&planned);
    let selected: HashSet<TaskId> = planned.selected.iter().copied().collect();
    let mut failed = false;
    let mut all = Vec::new();
    for row in rows.iter().filter(|row| selected.contains(&row.task)) {
        match planned.plan.tasks[row.task].as_ref() {
            Some(Ok(judged)) => all.push(explained(&planned, &rows, row, judged)?),
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
        _ => all.iter().for_each(|explained| ui::out(&explained.to_text())),
    }
    Ok(Exit(if failed { 2 } else { 0 }))
}

struct Explained {
    row: Value,
    head: [String; 2],
    outputs: Vec<Named>,
    parts: Vec<Named>,
    key: Option<Digest>,
    locked: Option<Digest>,
    upstream: Vec<Cause>,
}

/// A task upstream that is not up to date either.
struct Cause {
    row: Value,
    head: String,
    /// The output for which it is made.
    made_for: String,
    /// How far upstream.
    depth: usize,
    changed: Vec<Named>,
}

/// Something with a digest, and what the digest was.
struct Named {
    kind: &'static str,
    name: String,
    now: Option<Digest>,
    before: Option<Digest>,
    /// Whether it is known what it was.
    known: bool,
    /// Of several files that it stands for, or is a part of, those that are not as the last run knew them.
    files: Vec<Named>,
    /// The generated content below an accepted edit.
    base: Option<Digest>,
}

fn explained(planned: &Planned, rows: &[Row], row: &Row, judged: &Judged) -> Result<Explained, Error> {
    let graph = planned.graph();
    let task = &graph.tasks[row.task];
    let mut outputs = Vec::new();
    for output in &task.outputs {
        let now = planned.files().digest(&output.path)?;
        let entry = planned.lock().get(&output.path, now);
        let before = entry.map(|entry| entry.content);
        outputs.push(Named {
            kind: "output",
            name: output.path.to_string(),
            now,
            before,
            known: before.is_some(),
            files: Vec::new(),
            base: entry.and_then(|entry| entry.base),
        });
    }
    let name = graph.name(row.task);
    let locked = planned.lock().get(name, planned.files().digest(name)?).map(|entry| entry.key);
    let why = if row.reasons.is_empty() { String::new() } else { format!(": {}", row.reasons.join("; ")) };
    Ok(Explained {
        row: row.to_json(),
        head: [row.name(), format!("{}{why}  (rule {})", row.status, row.rule)],
        outputs,
        parts: parts(planned, row.task, judged)?,
        key: judged.key,
        locked,
        upstream: upstream(planned, rows, row.task)?,
    })
}

/// What a task is made from, and what that was when it was made; what it is made from no more comes last.
fn parts(planned: &Planned, task: TaskId, judged: &Judged) -> Result<Vec<Named>, Error> {
    let remembered = planned.memory().tasks.get(planned.graph().name(task));
    let is_same =
        |part: &Part, old: &Part| old.kind == part.kind && (old.name == part.name || part.kind == PartKind::Model);
    let mut parts = Vec::with_capacity(judged.parts.len());
    for part in &judged.parts {
        let old = remembered.and_then(|task| task.parts.iter().find(|old| is_same(part, old)));
        let mut named = Named {
            kind: kind(part.kind),
            name: part.name.clone(),
            now: Some(part.digest),
            before: old.map(|old| old.digest),
            known: remembered.is_some(),
            files: Vec::new(),
            base: None,
        };
        if named.is_changed() {
            named.files = changed_files(planned, task, part)?;
        }
        parts.push(named);
    }
    let gone = remembered.iter().flat_map(|task| &task.parts);
    let gone = gone.filter(|old| !judged.parts.iter().any(|part| is_same(part, old)) && !judged.parts.is_empty());
    parts.extend(gone.map(|old| Named {
        kind: kind(old.kind),
        name: old.name.clone(),
        now: None,
        before: Some(old.digest),
        known: true,
        files: Vec::new(),
        base: None,
    }));
    Ok(parts)
}

/// The files of a part of a task that are not as the last run knew them, where the part is not itself a file's name.
fn changed_files(planned: &Planned, task: TaskId, part: &Part) -> Result<Vec<Named>, Error> {
    let task = &planned.graph().tasks[task];
    let path = |text: &str| RelPath::new(text).ok();
    let files: Vec<RelPath> = match part.kind {
        PartKind::Item => {
            let files = task.item.iter().flat_map(|item| item.files.iter().map(|(_, path)| path.clone()));
            files.chain(task.item.iter().flat_map(Item::part_of).filter_map(path)).collect()
        }
        PartKind::Input => {
            let of_part = task.inputs.iter().filter(|input| input.label == part.name);
            let of_inputs = of_part.flat_map(|input| input.source.files().iter().cloned());
            let axes = task.items.iter().flat_map(|items| &items.axes).filter(|axis| axis.label == part.name);
            let of_items = axes.flat_map(|axis| match &axis.over {
                ItemSource::Of(source) => source.files(),
                ItemSource::Literal(_) => &[],
            });
            of_inputs.chain(of_items.cloned()).collect()
        }
        PartKind::Context => task.context.iter().flat_map(|context| context.files.iter().cloned()).collect(),
        _ => Vec::new(),
    };
    let mut changed = Vec::new();
    for path in files.into_iter().filter(|path| path.as_str() != part.name) {
        let (now, before) = (planned.files().digest(&path)?, planned.files().digest_before(&path));
        if now != before {
            let name = path.to_string();
            changed.push(Named { kind: "file", name, now, before, known: true, files: Vec::new(), base: None });
        }
    }
    Ok(changed)
}

/// The tasks upstream that are not up to date, each once, where it is met first; a fresh task has no such cause.
fn upstream(planned: &Planned, rows: &[Row], task: TaskId) -> Result<Vec<Cause>, Error> {
    let graph = planned.graph();
    let is_fresh = |task: TaskId| match planned.plan.tasks[task].as_ref() {
        Some(Ok(judged)) => judged.verdict == Verdict::Fresh,
        _ => false,
    };
    let mut causes = Vec::new();
    let mut seen = HashSet::from([task]);
    let mut stack = if is_fresh(task) { Vec::new() } else { vec![(task, task, 0)] };
    while let Some((id, made_for, depth)) = stack.pop() {
        if depth > 0 && !seen.insert(id) {
            continue;
        }
        // The first of them is looked at first, before those after it.
        let deps = graph.tasks[id].deps.iter().rev().filter(|dep| !is_fresh(**dep));
        stack.extend(deps.map(|dep| (*dep, id, depth + 1)));
        let found = rows.binary_search_by_key(&id, |row| row.task).ok().map(|at| &rows[at]);
        let Some(row) = found.filter(|_| depth > 0) else { continue };
        let changed = match planned.plan.tasks[id].as_ref() {
            Some(Ok(judged)) => parts(planned, id, judged)?.into_iter().filter(Named::is_changed).collect(),
            _ => Vec::new(),
        };
        let why = if row.reasons.is_empty() { String::new() } else { format!(": {}", row.reasons.join("; ")) };
        causes.push(Cause {
            row: row.to_json(),
            head: format!("because {} is {}{why}  (rule {})", row.name(), row.status, row.rule),
            made_for: graph.name(made_for).to_string(),
            depth,
            changed,
        });
    }
    Ok(causes)
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
    fn is_changed(&self) -> bool {
        self.now != self.before && (self.known || self.before.is_some())
    }

    fn change(&self) -> String {
        match (self.now, self.before) {
            (None, Some(before)) if self.kind != "output" => format!("gone, was {}", before.short()),
            (None, Some(_)) => "missing".to_owned(),
            (Some(now), Some(before)) if now != before => format!("changed, was {}", before.short()),
            (Some(_), Some(_)) => match self.base {
                Some(base) if base == Digest::of("") => "an accepted edit, nothing was generated".to_owned(),
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
            "changed": self.is_changed(),
        });
        if !self.files.is_empty() {
            json["files"] = self.files.iter().map(Named::to_json).collect::<Vec<_>>().into();
        }
        if self.base.is_some() {
            json["base"] = text(self.base).into();
        }
        json
    }

    /// A row, and one for each of its files.
    fn rows(&self, indent: usize) -> Vec<Vec<String>> {
        let digest = self.now.map_or_else(|| "-".to_owned(), |digest| digest.short());
        let mut rows = vec![line(indent, self.kind, &self.name, digest, self.change())];
        rows.extend(self.files.iter().flat_map(|file| file.rows(indent + 2)));
        rows
    }
}

/// What something is, its name, its digest, and what of that is otherwise.
fn line(indent: usize, kind: &str, name: &str, digest: String, change: String) -> Vec<String> {
    vec![format!("{:indent$}{kind}", ""), name.to_owned(), digest, change]
}

/// A head with its rows, as wide as the terminal has room for.
fn section(head: [String; 2], rows: &[Vec<String>]) -> String {
    let columns = columns::of_stdout();
    let head = columns::table(&[Column::Names, Column::Rest], &[head.to_vec()], columns);
    let kinds = [Column::Words, Column::Names, Column::Words, Column::Rest];
    if columns.is_none_or(|columns| columns >= NARROW) {
        return head + &columns::table(&kinds, rows, columns);
    }
    // What is otherwise says more than a digest.
    let short = |change: &str| match change.split_once(", was ") {
        Some((changed, _)) => changed.to_owned(),
        None if change.starts_with("in the lock ") => "another in the lock".to_owned(),
        None => change.to_owned(),
    };
    let left: Vec<Vec<String>> = rows.iter().map(|row| vec![row[0].clone(), row[1].clone(), short(&row[3])]).collect();
    head + &columns::table(&[0, 1, 3].map(|at| kinds[at]), &left, columns)
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut json = self.row.clone();
        json["for"] = self.made_for.as_str().into();
        json["depth"] = self.depth.into();
        json["inputs"] = self.changed.iter().map(Named::to_json).collect::<Vec<_>>().into();
        json
    }
}

impl Explained {
    fn to_json(&self) -> Value {
        let mut json = self.row.clone();
        json["inputs"] = self.parts.iter().map(Named::to_json).collect::<Vec<_>>().into();
        json["files"] = self.outputs.iter().map(Named::to_json).collect::<Vec<_>>().into();
        json["because"] = self.upstream.iter().map(Cause::to_json).collect::<Vec<_>>().into();
        json["locked_key"] = self.locked.map(|key| key.to_string()).into();
        json
    }

    fn to_text(&self) -> String {
        let mut rows: Vec<_> = self.outputs.iter().chain(&self.parts).flat_map(|named| named.rows(2)).collect();
        if let Some(key) = self.key {
            let locked = match self.locked {
                Some(locked) if locked == key => "as in the lock".to_owned(),
                Some(locked) => format!("in the lock {}", locked.short()),
                None => "not in the lock".to_owned(),
            };
            rows.push(line(2, "key", "what would be made", key.short(), locked));
        }
        let mut text = section(self.head.clone(), &rows);
        for cause in self.upstream.iter().take(MOST_UPSTREAM) {
            let indent = 2 * cause.depth.min(MOST_UPSTREAM);
            let rows: Vec<_> = cause.changed.iter().flat_map(|named| named.rows(indent + 2)).collect();
            text += &section([" ".repeat(indent - 2), cause.head.clone()], &rows);
        }
        if let Some(more) = self.upstream.len().checked_sub(MOST_UPSTREAM).filter(|more| *more > 0) {
            text += &format!("  and {} more upstream\n", ui::count(more, "task"));
        }
        text
    }
}
