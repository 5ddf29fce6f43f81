//! `init`: a Genfile to start from, with a template, a prompt and a spec, or with rule packs.

use std::path::Path;

use super::{Exit, gitfiles, starter};
use crate::error::{Code, Error, Errors};
use crate::path::RelPath;
use crate::project::{GENFILES, Location, Project};
use crate::store;
use crate::ui;

/// What is written without a pack, and from where in the project's own repository.
const FILES: [(&str, &str); 4] = [
    ("Genfile", include_str!("../../rules/starter.yaml")),
    ("spec.yaml", include_str!("../../templates/starter/spec.yaml")),
    ("templates/index.md.hbs", include_str!("../../templates/starter/index.md.hbs")),
    ("prompts/page.prompt", include_str!("../../templates/starter/page.prompt")),
];

pub(super) fn run(packs: &[String], git: bool, dry_run: bool) -> Result<Exit, Errors> {
    if git && packs.is_empty() && GENFILES.iter().any(|name| Path::new(name).is_file()) {
        for_git(Wish::Write, dry_run)?;
        return Ok(Exit(0));
    }
    let is_there = |name: &str| Path::new(name).symlink_metadata().is_ok();
    let (files, notes) = if packs.is_empty() {
        let file = |(name, text): (&str, &str)| Ok((new_path(name)?, text.to_owned()));
        (FILES.into_iter().map(file).collect::<Result<Vec<_>, Error>>()?, Vec::new())
    } else {
        let start = starter::start(packs, &name_of_folder(), &is_there)?;
        (start.files, start.notes)
    };
    let names = files.iter().map(|(path, _)| path.as_str());
    if let Some(first) = names.chain(GENFILES).find(|name| is_there(name)) {
        return Err(Error::new(Code::Usage, format!("`{first}` is there already"))
            .hint("`init` overwrites nothing; run it in a folder without a Genfile")
            .into());
    }
    for (path, text) in files {
        if !dry_run {
            store::write_output(Path::new("."), &path, text.as_bytes(), None)?;
        }
        ui::say(&format!("    write  {path}"));
    }
    notes.iter().for_each(|note| ui::say(note));
    if dry_run {
        ui::say("nothing was written");
        return Ok(Exit(0));
    }
    for_git(if git { Wish::Write } else { Wish::Ask }, false)?;
    ui::say("run `genmake` to build, `genmake plan` to see first what it would do");
    Ok(Exit(0))
}

/// Whether git's files are to be written.
enum Wish {
    Ask,
    Write,
}

/// Writes, or offers to write, what git should know of the project that lies here.
fn for_git(wish: Wish, dry_run: bool) -> Result<(), Errors> {
    let location = Location::find(Path::new("."))?;
    let is_in_git = location.root.ancestors().any(|folder| folder.join(".git").exists());
    if matches!(wish, Wish::Ask) && !is_in_git {
        return Ok(());
    }
    let texts = gitfiles::texts(&Project::open(&location.root)?, &location.root, &location.lock_name())?;
    let names: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
    let names = names.join("` and `");
    if texts.is_empty() {
        if matches!(wish, Wish::Write) {
            ui::say("git knows what there is to know");
        }
        return Ok(());
    }
    if matches!(wish, Wish::Ask) {
        match ui::ask(&format!("add lines for git to `{names}`?")) {
            Some(true) => {}
            Some(false) => return Ok(()),
            None => {
                ui::say(&format!("`genmake init --git` adds lines for git to `{names}`"));
                return Ok(());
            }
        }
    }
    for (name, text) in texts {
        if !dry_run {
            store::put(&location.root.join(name), text.as_bytes())?;
        }
        ui::say(&format!("    write  {name}"));
    }
    if dry_run {
        ui::say("nothing was written");
    }
    Ok(())
}

fn new_path(name: &str) -> Result<RelPath, Error> {
    RelPath::new(name).map_err(|why| Error::new(Code::Bug, why.to_string()))
}

/// A project is called as the folder in which it is made.
fn name_of_folder() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    starter::project_name(&here.file_name().unwrap_or_default().to_string_lossy())
}
