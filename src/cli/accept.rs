//! `accept`: a hand edit becomes the locked content, until its inputs change; what no rule makes any more becomes a person's.

use super::{Context, Exit, targets};
use crate::error::{Code, Error, Errors};
use crate::graph::Target;
use crate::path::RelPath;
use crate::plan::{Fate, Wish};
use crate::project::{Planned, Project};
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if names.is_empty() {
        let hint = "`genmake diff` shows what was edited";
        return Err(Error::new(Code::Usage, "`accept` takes a target").hint(hint).into());
    }
    let location = context.location()?;
    let targets = targets(names, &location)?;
    if context.options.dry_run {
        let project = context.with_provider(Project::open_at(&location, &context.env)?)?;
        let targets: Vec<Target> = targets.into_iter().filter(|target| project.orphan(target).is_none()).collect();
        return if targets.is_empty() { Ok(Exit(0)) } else { Ok(would(context, &project.plan(&targets)?)) };
    }
    let mut project =
        Project::open_to_run(&location, &context.env, || ui::say("     wait  another genmake runs here"))?;
    let (orphans, targets): (Vec<Target>, _) = targets.into_iter().partition(|target| project.orphan(target).is_some());
    let orphans: Vec<RelPath> = orphans.iter().filter_map(|target| project.orphan(target)).collect();
    project.release(&orphans)?;
    if !context.options.silent {
        orphans
            .iter()
            .for_each(|path| ui::say(&format!("   accept  {}: yours from now on", ui::sanitize(path.as_str()))));
    }
    if targets.is_empty() {
        return Ok(Exit(0));
    }
    let project = context.with_provider(project)?;
    // What `--force` and `-B` mean for a build changes nothing about who wrote what.
    let planned = project.plan_as(&targets, Wish::default(), &context.jobs)?;
    let wanted = planned.outputs();
    let known: Vec<bool> = wanted.iter().map(|(_, path)| planned.is_accepted(path)).collect();
    let accepted = planned.accept(context.options.force)?;
    if context.options.silent {
        return Ok(Exit(0));
    }
    for ((_, path), was_accepted) in wanted.iter().zip(known) {
        let name = ui::sanitize(path.as_str());
        match (accepted.contains(path), was_accepted) {
            (true, _) => ui::say(&format!("   accept  {name}")),
            (false, true) => ui::say(&format!("    fresh  {name}: accepted before")),
            // Of a rule or a glob most were not edited, and nobody said that they were.
            (false, false) if wanted.len() == 1 => ui::say(&format!("    fresh  {name}: not edited by hand")),
            (false, false) => {}
        }
    }
    ui::say(&format!("{} accepted", ui::count(accepted.len(), "edit")));
    Ok(Exit(0))
}

/// `-n`: what it would do, as far as can be said before anything is accepted.
fn would(context: &Context, planned: &Planned) -> Exit {
    let wanted = planned.outputs();
    let edits = planned.plan.tasks.iter().flatten().flatten().flat_map(|judged| &judged.edits);
    let is_meant = |path: &RelPath| wanted.iter().any(|(_, wanted)| wanted == path);
    let edits: Vec<_> = edits.filter(|edit| edit.fate != Fate::Accepted && is_meant(&edit.path)).collect();
    if !context.options.silent {
        edits.iter().for_each(|edit| ui::say(&format!("   accept  {}", ui::sanitize(edit.path.as_str()))));
        ui::say(&format!("{} would be accepted", ui::count(edits.len(), "edit")));
    }
    Exit(0)
}
