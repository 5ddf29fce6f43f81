//! `check` and `-q`: is everything up to date? Changes nothing, runs nothing, sends nothing.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Format;
use super::hook::quoted;
use super::verdicts::{Row, mistakes, orphan_json, rows, table, to_do};
use super::{Context, Exit, annotations, here, targets};
use crate::error::{Error, Errors};
use crate::graph::TaskId;
use crate::path::RelPath;
use crate::project::{Planned, Project};
use crate::store::{Glance, Repository, Staged};
use crate::tree::Index;
use crate::ui;
use crate::wording;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if context.options.question {
        return question(context, names);
    }
    let glance = context.glance(&context.location()?, names.is_empty());
    if let Some(glance) = glance.as_ref().filter(|glance| glance.is_fresh()) {
        return Ok(all_fresh(context, glance.tasks()));
    }
    let planned = judged(context, names, glance)?;
    Ok(say(context, &planned, &open(&planned)))
}

/// `--staged`: the same of what a commit would record, with what is to be done where that is not up to date.
pub(super) fn staged(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let repository = Repository::of(&location.root, &*context.env)?;
    let folder = repository.prefix().trim_end_matches('/').to_owned();
    let stands = stands(context, &location.root, &folder)?;
    let staged = Staged::of(repository)?;
    if RelPath::new(&location.name).is_ok_and(|genfile| staged.exists(&genfile) == Some(false)) {
        if !context.options.silent {
            ui::say(&format!("`{}` is not in what is staged, so nothing of that is generated", location.name));
        }
        return Ok(Exit(0));
    }
    let glance = context.glance(&location, names.is_empty()).filter(Glance::is_fresh);
    if let Some(glance) = glance.as_ref().filter(|glance| staged.is_as_seen(glance)) {
        return Ok(all_fresh(context, glance.tasks()));
    }
    // What stands there is up to date: what of it is not staged is all there is to be done.
    let missing = glance.map(|glance| staged.missing(&glance)).filter(|missing| !missing.is_empty());
    let targets = targets(names, &location)?;
    let project = context.assume(Project::open_staged(&location, &context.env, staged)?, &location)?;
    let planned = project.plan_as(&targets, context.wish(), &context.jobs)?;
    let is_missing = |row: &Row| {
        let has = |output: &String| missing.iter().flatten().any(|path| path.as_str() == output);
        row.status == "edited" && row.outputs.iter().any(has)
    };
    let rows = open(&planned).into_iter().map(|row| if is_missing(&row) { row.unstaged() } else { row });
    // Nothing is to be made, so nothing waits for it.
    let rows: Vec<Row> = rows.filter(|row| missing.is_none() || row.status != "waiting").collect();
    let exit = say(context, &planned, &rows);
    if exit != Exit(0) {
        let is_built = missing.is_some();
        let tasks: Vec<TaskId> = rows.iter().map(|row| row.task).collect();
        let files = missing.unwrap_or_else(|| planned.unstaged(&tasks));
        let add = add(files.iter().map(|file| from(&stands, &location.root.join(file.as_str()))).collect());
        let of = if folder.is_empty() { String::new() } else { format!(" in `{folder}`") };
        let what = format!("what is staged{of} is not up to date: ");
        let then = if is_built { add } else { to_do(&rows, &format!("run `genmake`, then {add}")) };
        ui::say(&ui::sanitize(&(what + &then)));
    }
    Ok(exit)
}

/// Where a person stands: a hook stands at the top, and git says from where it was called.
fn stands(context: &Context, root: &Path, folder: &str) -> Result<PathBuf, Error> {
    let Some(prefix) = (context.env)("GIT_PREFIX") else { return here() };
    let top = root.ancestors().nth(Path::new(folder).components().count()).unwrap_or(root);
    Ok(top.join(prefix))
}

/// A path as it is written where one stands.
fn from(stands: &Path, path: &Path) -> String {
    let shared = stands.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = stands.components().skip(shared).map(|_| Path::new(".."));
    let down = path.components().skip(shared).map(|part| Path::new(part.as_os_str()));
    up.chain(down).collect::<PathBuf>().to_string_lossy().into_owned()
}

/// What git is to be told of these files.
fn add(files: Vec<String>) -> String {
    let shown: Vec<String> = files.iter().map(|file| quoted(file)).take(MOST_FILES).collect();
    match (shown.is_empty(), files.len() > shown.len()) {
        (true, _) => "`git add` what it writes".to_owned(),
        (false, is_more) => format!("`git add {}{}`", shown.join(" "), if is_more { " …" } else { "" }),
    }
}

/// How many files a hint names.
const MOST_FILES: usize = 8;

fn all_fresh(context: &Context, count: usize) -> Exit {
    match context.options.format {
        Format::Json => ui::out(&format!("{:#}\n", json!({"version": 1, "up_to_date": true, "targets": []}))),
        format if format.is_of_ci() => {
            annotations::none(format);
            say_up_to_date(context, count);
        }
        _ => say_up_to_date(context, count),
    }
    Exit(0)
}

/// What is not up to date.
fn open(planned: &Planned) -> Vec<Row> {
    rows(planned).into_iter().filter(|row| row.status != "fresh").collect()
}

/// Prints what is not up to date.
fn say(context: &Context, planned: &Planned, rows: &[Row]) -> Exit {
    let orphans = &planned.plan.orphans;
    let failed = planned.plan.tasks.iter().flatten().any(Result::is_err);
    match context.options.format {
        Format::Json => {
            let targets = rows.iter().map(|row| row.to_json()).chain(orphans.iter().map(orphan_json));
            let targets: Vec<_> = targets.collect();
            let report = json!({"version": 1, "up_to_date": targets.is_empty(), "targets": targets});
            ui::out(&format!("{report:#}\n"));
        }
        format => {
            let mut lines: Vec<[String; 3]> =
                rows.iter().map(|row| [row.status.to_owned(), row.name(), row.reasons.join("; ")]).collect();
            lines.extend(
                orphans
                    .iter()
                    .map(|orphan| ["orphan".to_owned(), orphan.path.to_string(), wording::orphan(orphan).to_owned()]),
            );
            match format.is_of_ci() {
                true => annotations::verdicts(format, planned, rows, &table(&lines)),
                false => ui::out(&table(&lines)),
            }
            mistakes(planned).into_iter().for_each(ui::complain);
            if lines.is_empty() {
                let judged = planned.needed.iter().filter(|needed| **needed).count();
                let others = if context.options.is_narrowed() { 0 } else { planned.untouched() };
                say_up_to_date(context, judged + others);
            }
        }
    }
    Exit(match (failed, rows.is_empty() && orphans.is_empty()) {
        (true, _) => 2,
        (_, true) => 0,
        _ => 1,
    })
}

/// `-q`: the answer is the exit status; only what failed is said.
pub(super) fn question(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let glance = context.glance(&context.location()?, names.is_empty());
    if glance.as_ref().is_some_and(Glance::is_fresh) {
        return Ok(Exit(0));
    }
    let planned = judged(context, names, glance)?;
    let mistakes = mistakes(&planned);
    let failed = !mistakes.is_empty();
    mistakes.into_iter().for_each(ui::complain);
    let fresh = rows(&planned).iter().all(|row| row.status == "fresh") && planned.plan.orphans.is_empty();
    Ok(Exit(match (failed, fresh) {
        (true, _) => 2,
        (_, true) => 0,
        _ => 1,
    }))
}

fn say_up_to_date(context: &Context, count: usize) {
    if count == 0 && context.options.is_narrowed() && !context.options.silent {
        ui::say("nothing is made from what changed");
    } else if !context.options.silent {
        ui::say(&format!("{count} {} up to date", if count == 1 { "target is" } else { "targets are" }));
    }
}

/// The verdicts on targets; after a glance only on what that may have moved.
fn judged(context: &Context, names: &[String], glance: Option<Glance>) -> Result<Planned, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = match glance {
        Some(glance) => Project::open_seen(&location, &context.env, glance)?,
        None => context.open(&location, &targets)?,
    };
    context.assume(project, &location)?.plan_as(&targets, context.wish(), &context.jobs)
}
