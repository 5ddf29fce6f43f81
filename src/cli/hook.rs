//! `hook`: a pre-commit hook of git's, which judges what is staged by `check --staged`.
//!
//! A hook that genmake did not write is never changed. One that it wrote has a line for each project of the repository.

use std::path::Path;

use super::args::HookAction;
use super::{Context, Exit, here};
use crate::error::{Code, Error, Errors};
use crate::project::{GENFILES, Location};
use crate::store::{self, Repository};
use crate::ui;

/// What tells a hook of genmake's, as its second line.
const MARK: &str = "# Written by `genmake hook install`; `genmake hook remove` takes it away.";

pub(super) fn run(context: &Context, action: HookAction) -> Result<Exit, Errors> {
    let location = match (action, context.location()) {
        // What is not there any more has a line all the same.
        (HookAction::Remove, Err(error)) if error.code == Code::NoGenfile => gone(context)?,
        (_, location) => location?,
    };
    let repository = Repository::of(&location.root, &*context.env)?;
    let file = repository.hooks()?.join("pre-commit");
    let line = project_line(repository.prefix(), &location.name);
    let there = read(&file)?;
    let is_ours = there.as_ref().is_some_and(|text| text.lines().nth(1) == Some(MARK));
    let (shown, dry_run) = (file.display().to_string(), context.options.dry_run);
    match (action, there) {
        (HookAction::Install, Some(_)) if !is_ours => return Err(taken(&shown, &line).into()),
        (HookAction::Install, there) => {
            if let Some(folder) = repository.shared_hooks() {
                return Err(shared(&folder, &line).into());
            }
            let text = installed(there.as_deref(), &line);
            if there.as_ref() == Some(&text) {
                ui::say(&format!("`{shown}` is there already"));
                return Ok(Exit(0));
            }
            if !dry_run {
                store::put_program(&file, text.as_bytes())?;
            }
            ui::say(&format!("    write  {shown}"));
            ui::say("from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody");
        }
        (HookAction::Remove, Some(there)) if is_ours => match removed(&there, &line) {
            None => {
                if !dry_run {
                    store::forget(&file)?;
                }
                ui::say(&format!("   delete  {shown}"));
            }
            Some(text) if text == there => ui::say(&format!("`{shown}` has nothing of this project")),
            Some(text) => {
                if !dry_run {
                    store::put_program(&file, text.as_bytes())?;
                }
                ui::say(&format!("    write  {shown}, which has more than this project in it"));
            }
        },
        (HookAction::Remove, Some(_)) => ui::say(&format!("`{shown}` is not of genmake's making: it stays")),
        (HookAction::Remove, None) => ui::say(&format!("there is no `{shown}`")),
    }
    if dry_run {
        ui::say("nothing was written");
    }
    Ok(Exit(0))
}

/// Where the project was whose Genfile is gone: here, or where `-f` says.
fn gone(context: &Context) -> Result<Location, Error> {
    let file = context.options.file.clone().unwrap_or_else(|| GENFILES[0].into());
    let root = here()?.join(file.parent().unwrap_or(Path::new("")));
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Location { root, name })
}

/// The text of a hook; none if there is none.
fn read(file: &Path) -> Result<Option<String>, Error> {
    match fs_err::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        // A link that leads nowhere is somebody's, too.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.symlink_metadata().is_err() => Ok(None),
        Err(e) => Err(Error::new(Code::Unreadable, e.to_string())),
    }
}

/// What every hook of genmake's begins with. A program that starts git may know another PATH than a terminal does.
fn head() -> String {
    let own = std::env::current_exe().ok().and_then(|path| path.to_str().map(quoted)).unwrap_or_default();
    format!(
        "#!/bin/sh\n{MARK}\n\
         genmake=$(command -v genmake) || genmake={own}\n\
         [ -x \"$genmake\" ] || {{ echo 'genmake is not on PATH, and this hook needs it' >&2; exit 1; }}\n"
    )
}

/// The line of a project that lies so far below the top, with its Genfile's name where that is none of those that are sought. A branch
/// may be without it.
fn project_line(prefix: &str, name: &str) -> String {
    let is_sought = GENFILES.contains(&name);
    let names = if is_sought { GENFILES.to_vec() } else { vec![name] };
    let (below, stands) = match prefix.trim_end_matches('/') {
        "" => (String::new(), String::new()),
        folder => (format!("{}/", quoted(folder)), format!(" -C {}", quoted(folder))),
    };
    let named = if is_sought { String::new() } else { format!(" -f {}", quoted(name)) };
    let is_absent: String = names.iter().map(|name| format!("[ ! -f {below}{} ] && ", quoted(name))).collect();
    format!("{{ {}; }} || \"$genmake\"{stands}{named} -s check --staged || exit 1", is_absent.trim_end_matches(" && "))
}

/// A word of the shell.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The hook with a project in it.
fn installed(there: Option<&str>, line: &str) -> String {
    let head = head();
    // An older version may have begun it otherwise.
    let own = |text: &str| text.lines().skip(head.lines().count()).map(|line| format!("{line}\n")).collect::<String>();
    let rest = there.map(own).unwrap_or_default();
    match rest.lines().any(|known| known == line) {
        true => format!("{head}{rest}"),
        false => format!("{head}{rest}{line}\n"),
    }
}

/// The hook without this line; none if nothing is left.
fn removed(there: &str, line: &str) -> Option<String> {
    let rest: Vec<&str> = there.lines().filter(|known| *known != line).collect();
    let is_empty = rest.len() <= head().lines().count();
    (!is_empty).then(|| rest.join("\n") + "\n")
}

fn taken(file: &str, line: &str) -> Error {
    let error = Error::new(Code::Usage, format!("`{file}` is there already, and genmake did not write it"));
    error
        .hint(format!("add this line to it: {}", by_hand(line)))
        .hint("if it is pre-commit's: add the hook `genmake-check` to `.pre-commit-config.yaml`, see docs/hooks.md")
}

fn shared(folder: &str, line: &str) -> Error {
    let message = format!("`core.hooksPath` is `{folder}` for all your repositories: a hook there would run in each");
    Error::new(Code::Usage, message)
        .hint("`git config core.hooksPath .git/hooks` gives this repository hooks of its own")
        .hint(format!("or add this line to your own hook: {}", by_hand(line)))
}

/// A project's line for a hook that does not say where genmake is.
fn by_hand(line: &str) -> String {
    line.replace("\"$genmake\"", "genmake").replace(" -s ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_has_a_line_for_each_project() {
        let (first, second) = (project_line("", "Genfile.yml"), project_line("it's here/", "other.yaml"));
        let expected = r#"{ [ ! -f 'it'\''s here'/other.yaml ]; } || "$genmake" -C 'it'\''s here' -f other.yaml -s check --staged || exit 1"#;
        assert_eq!(second, expected);
        // By whichever of its names it goes.
        assert_eq!(first, project_line("", "Genfile"));
        let expected = r#"{ [ ! -f Genfile ] && [ ! -f Genfile.yaml ] && [ ! -f Genfile.yml ]; } || "$genmake" -s check --staged || exit 1"#;
        assert_eq!(first, expected);
        let one = installed(None, &first);
        assert_eq!(installed(Some(&one), &first), one);
        let both = installed(Some(&one), &second);
        assert_eq!(both, format!("{}{first}\n{second}\n", head()));
        assert_eq!(removed(&both, &second).unwrap(), one);
        assert_eq!(removed(&one, &first), None);
        assert_eq!(removed(&one, &second).unwrap(), one);
    }
}
