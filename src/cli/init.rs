//! `init`: a Genfile to start from, with a template, a prompt and a spec, or with rule packs.

use std::path::Path;

use super::{Exit, starter};
use crate::error::{Code, Error, Errors};
use crate::path::RelPath;
use crate::project::GENFILES;
use crate::store;
use crate::ui;

/// What is written without a pack, and from where in the project's own repository.
const FILES: [(&str, &str); 4] = [
    ("Genfile", include_str!("../../rules/starter.yaml")),
    ("spec.yaml", include_str!("../../templates/starter/spec.yaml")),
    ("templates/index.md.hbs", include_str!("../../templates/starter/index.md.hbs")),
    ("prompts/page.prompt", include_str!("../../templates/starter/page.prompt")),
];

pub(super) fn run(packs: &[String], dry_run: bool) -> Result<Exit, Errors> {
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
    ui::say("run `genmake` to build, `genmake plan` to see first what it would do");
    Ok(Exit(0))
}

fn new_path(name: &str) -> Result<RelPath, Error> {
    RelPath::new(name).map_err(|why| Error::new(Code::Bug, why.to_string()))
}

/// A project is called as the folder in which it is made.
fn name_of_folder() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    starter::project_name(&here.file_name().unwrap_or_default().to_string_lossy())
}
