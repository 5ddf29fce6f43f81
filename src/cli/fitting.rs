//! Which options go with which commands: a mistake of the command line is told before anything is done.

use std::path::Path;

use clap::CommandFactory;

use super::Context;
use super::args::{Cli, Command, Format, LogFormat};
use crate::error::{Code, Error, Errors, did_you_mean};

/// What is wrong with a command line as a whole.
///
/// # Errors
/// [`Code::Usage`] for options that do not go together, [`Code::Unwritable`] for a file that could not be written in the end.
pub(super) fn check(context: &Context, command: Option<&Command>) -> Result<(), Error> {
    let options = &context.options;
    let usage = |what: &str, hint: &str| Err(Error::new(Code::Usage, what).hint(hint));
    let is_check = matches!(command, Some(Command::Check(_)));
    let is_of_graph = matches!(options.format, Format::Dot | Format::Mermaid | Format::Html);
    if is_of_graph && !matches!(command, Some(Command::Graph(_))) {
        let hint = match is_check {
            true => "`--format text`, `json`, `github`, `gitlab` or `sarif`",
            false => "`--format text` or `--format json`",
        };
        return usage("only `graph` prints as `dot`, `mermaid` or `html`", hint);
    }
    if options.format.is_of_ci() && !is_check {
        return usage("only `check` prints as `github`, `gitlab` or `sarif`", "`--format text` or `--format json`");
    }
    let is_build = matches!(command, None | Some(Command::Build(_)));
    if options.resume && (!is_build || options.question || options.dry_run) {
        let what = "`--resume` goes with a build, and with no other command";
        return usage(what, "`genmake plan` says what is left to do");
    }
    if options.is_narrowed() {
        match command {
            Some(Command::Check(args)) if args.staged => {
                let what = "`--since` and `--files` do not go together with `--staged`";
                return usage(what, "`--staged` judges what a commit would record; name TARGETs where a part is meant");
            }
            None | Some(Command::Build(_) | Command::Plan(_) | Command::Check(_)) => {}
            _ => {
                return usage("`--since` and `--files` go with a build, `check` and `plan`", "name TARGETs instead");
            }
        }
    }
    let is_watch = matches!(command, Some(Command::Watch(_)));
    if is_watch && options.dry_run {
        return usage("`watch` builds, and `-n` makes nothing", "`genmake plan` says what would be done now");
    }
    let has_own_answer = command.is_some_and(Command::has_own_answer);
    if options.question && (is_watch || has_own_answer) {
        let what = "`-q` asks whether targets are up to date, and goes with no other command";
        return usage(what, "`-n` says what `clean`, `gc` and `init` would do");
    }
    // A build that make's flags turn into a question stays one.
    let is_run = is_build || matches!(command, Some(Command::Submit(_) | Command::Collect(_)));
    if options.log_format == LogFormat::Json && !is_run && !is_watch {
        let what = "`--log-format` goes with what builds: a build, `watch`, `submit` and `collect`";
        return usage(what, "`--format json` prints what `check`, `plan` and `explain` say for programs");
    }
    let (report, metrics) = (("--report", &options.report), ("--metrics", &options.metrics));
    for (flag, path) in [report, metrics, ("--trace", &options.trace), ("--depfile", &options.depfile)] {
        let Some(path) = path else { continue };
        if flag == "--depfile" && !is_build {
            return usage("`--depfile` goes with a build, and with no other command", "leave it out");
        }
        if !is_run {
            let what = format!("`{flag}` is about a run, and goes with a build, `submit` and `collect`");
            return usage(&what, "`genmake report` says what the last run did, also as a page");
        }
        can_be_written(flag, path)?;
    }
    match command {
        Some(Command::Report { html: Some(path) }) => can_be_written("--html", path),
        _ => Ok(()),
    }
}

/// Whether a file could be written there: what can be told before anything is paid for.
fn can_be_written(flag: &str, path: &Path) -> Result<(), Error> {
    let name = path.display();
    if path.is_dir() {
        let error = Error::new(Code::Unwritable, format!("`{flag} {name}`: that is a folder"));
        return Err(error.hint("name a file in it"));
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        None if is_allowed(path) => Ok(()),
        None => Err(Error::new(Code::Unwritable, format!("`{flag} {name}`: nothing can be written in that folder"))),
        Some(folder) => {
            let folder = folder.display();
            let error = Error::new(Code::Unwritable, format!("`{flag} {name}`: there is no folder `{folder}`"));
            Err(error.hint(format!("make it first: `mkdir -p {folder}`")))
        }
    }
}

/// Whether whoever this is may put a file in its place.
#[cfg(unix)]
fn is_allowed(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It is put there whole, and that is its folder's affair.
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The system says so when it is written.
#[cfg(not(unix))]
fn is_allowed(_: &Path) -> bool {
    true
}

/// Says which command may be meant by a target that is none.
pub(super) fn suggest(typed: Option<&String>, errors: &mut Errors) {
    let command = Cli::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    let Some(near) = typed.and_then(|typed| did_you_mean(typed, names)) else { return };
    let is_unknown = |error: &&mut Error| matches!(error.code, Code::UnknownTarget | Code::NoGenfile);
    if let Some(error) = errors.0.iter_mut().find(is_unknown) {
        error.hints.insert(0, near.replacen("mean `", "mean the command `", 1));
    }
}
