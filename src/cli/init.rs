//! `init`: a Genfile to start from, with a template, a prompt and a spec.

use std::path::Path;

use super::Exit;
use crate::error::{Code, Error, Errors};
use crate::path::RelPath;
use crate::project::GENFILES;
use crate::store;
use crate::ui;

/// What is written, and from where in the project's own repository.
const FILES: [(&str, &str); 4] = [
    ("Genfile", include_str!("../../rules/starter.yaml")),
    ("spec.yaml", include_str!("../../templates/starter/spec.yaml")),
    ("templates/index.md.hbs", include_str!("../../templates/starter/index.md.hbs")),
    ("prompts/page.prompt", include_str!("../../templates/starter/page.prompt")),
];

pub(super) fn run(dry_run: bool) -> Result<Exit, Errors> {
    let there: Vec<&str> =
        FILES.iter().map(|(name, _)| *name).chain(GENFILES).filter(|name| Path::new(name).exists()).collect();
    if let Some(first) = there.first() {
        return Err(Error::new(Code::Usage, format!("`{first}` is there already"))
            .hint("`init` overwrites nothing; run it in a folder without a Genfile")
            .into());
    }
    for (name, text) in FILES {
        let path = RelPath::new(name).map_err(|why| Error::new(Code::Bug, why.to_string()))?;
        if !dry_run {
            store::write_output(Path::new("."), &path, text.as_bytes(), None)?;
        }
        ui::say(&format!("    write  {name}"));
    }
    if dry_run {
        ui::say("nothing was written");
        return Ok(Exit(0));
    }
    ui::say("run `genmake` to build, `genmake plan` to see first what it would do");
    Ok(Exit(0))
}
