//! `clean`: deletes outputs that genmake made and nobody edited. What they held is kept in the store: it may have been paid for.

use super::{Context, Exit};
use crate::digest::Digest;
use crate::error::Errors;
use crate::path::RelPath;
use crate::plan::{Edit, orphans};
use crate::project::Project;
use crate::store;
use crate::ui;

pub(super) fn run(context: &Context, orphans_only: bool) -> Result<Exit, Errors> {
    let location = context.location()?;
    let project = match context.options.dry_run {
        true => Project::open_at(&location, &context.env)?,
        false => Project::open_to_run(&location, &context.env, || ui::say("     wait  another genmake runs here"))?,
    };
    let planned = project.plan_as(&[], context.wish(), &context.jobs)?;
    let tree = planned.files();
    let found = orphans(planned.graph(), tree, planned.lock())?;
    let is_orphan = |path: &RelPath| found.iter().any(|orphan| orphan.path == *path);
    let mut deleted = 0;
    for (path, entry) in planned.lock().iter() {
        if orphans_only && !is_orphan(path) {
            continue;
        }
        let Some(bytes) = tree.look(path)? else { continue };
        let digest = Digest::of(&bytes);
        // Of the sides of a conflict, what is on disk is of one.
        if !planned.lock().get(path, Some(digest)).unwrap_or(entry).is_generated(digest) {
            ui::say(&format!("     keep  {}: edited by hand", ui::sanitize(path.as_str())));
            continue;
        }
        if !context.options.silent {
            ui::say(&format!("   delete  {}", ui::sanitize(path.as_str())));
        }
        deleted += 1;
        if !context.options.dry_run {
            planned.store().put(&bytes)?;
            store::remove(&location.root, path)?;
        }
    }
    for judged in planned.plan.tasks.iter().flatten().flatten() {
        let unknown = |edit: &&Edit| !orphans_only && planned.lock().get(&edit.path, None).is_none();
        for edit in judged.edits.iter().filter(unknown) {
            ui::say(&format!("     keep  {}: not made by genmake", ui::sanitize(edit.path.as_str())));
        }
    }
    if !context.options.silent {
        ui::say(&format!(
            "{} {}",
            ui::count(deleted, "output"),
            if context.options.dry_run { "would be deleted" } else { "deleted" }
        ));
    }
    Ok(Exit(0))
}
