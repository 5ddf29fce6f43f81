//! `man`: the manual's pages, made of the same text as `--help`.

use clap::{Args, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Exit;
use super::args::Cli;
use crate::error::{Code, Error, Errors, did_you_mean};
use crate::ui;
use crate::ui::columns::{self, Column};

/// Arguments of `man` and of `help`.
#[derive(Debug, Args)]
pub struct Page {
    /// A command, such as `plan` or `hook install`; genmake itself, if there is none
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Sections that a page of options does not have.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "EXIT STATUS",
        &[
            ("0", "Done; from check and -q: everything is up to date."),
            ("1", "Only from check and -q: something is not up to date."),
            ("2", "Something failed: a task, the Genfile, the command line, a refused overwrite."),
        ],
    ),
    (
        "FILES",
        &[
            ("Genfile, Genfile.yaml, Genfile.yml", "The rules. The folder it lies in is the root."),
            ("Genfile.lock", "Which content each target has, and which key made it. To be committed."),
            (".genmake/", "The store, and what makes the next run fast. Can be deleted at any time."),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            ("NO_COLOR, CLICOLOR_FORCE", "No colors; colors also where it is no terminal."),
            ("CI", "Plain lines, also on a terminal."),
            ("MAKEFLAGS", "Options of the make that called, and its jobserver."),
            ("GENMAKE_TRUST_HOSTS", "Hosts to which a provider's key may go, with commas."),
        ],
    ),
];

/// Prints a page.
pub(super) fn run(page: &Page) -> Result<Exit, Errors> {
    let mut command = Cli::command();
    command.build();
    let is_main = page.command.is_empty();
    let name = ["genmake"].into_iter().chain(page.command.iter().map(String::as_str)).collect::<Vec<_>>().join("-");
    let command = found(command, &page.command)?.display_name(name.clone());
    let source = concat!("genmake ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).title(name.to_uppercase()).source(source).manual("genmake");
    let mut text = Vec::new();
    let mut more = Roff::new();
    if is_main {
        for (heading, rows) in SECTIONS {
            more.control("SH", [heading]);
            for (term, meaning) in rows {
                more.control("TP", []);
                more.text([bold(*term)]);
                more.text([roman(*meaning)]);
            }
        }
    }
    man.render(&mut text).map_err(|e| Error::new(Code::Bug, e.to_string()))?;
    ui::out(&(String::from_utf8_lossy(&text).into_owned() + &more.to_roff()));
    Ok(Exit(0))
}

/// The five commands of the first day.
const FIRST_DAY: [(&str, &str); 5] = [
    ("genmake init", "write a Genfile to start from, with a template and a prompt"),
    ("genmake plan", "what would be made, why and at what cost; sends nothing"),
    ("genmake", "make it: only what is not up to date"),
    ("genmake explain TARGET", "why a target is or is not up to date"),
    ("genmake check", "is everything up to date? For CI and hooks: exit 1 if not"),
];

/// What stands before these and after them.
const ABOUT: [&str; 2] = [
    "genmake is make for generated files: a Genfile says which files come from which inputs.",
    "`genmake help COMMAND` says more of one of them, `genmake --help` names all.",
];

/// The first commands, as wide as the terminal has room for.
fn first_day() -> String {
    let columns = columns::of_stdout();
    let [before, after] = ABOUT.map(|text| columns::table(&[Column::Rest], &[vec![text.to_owned()]], columns));
    let rows = FIRST_DAY.map(|(command, what)| vec![format!("  {command:22}"), what.to_owned()]);
    // Numbers are never cut, and neither is what is to be typed.
    format!("{before}\n{}\n{after}", columns::table(&[Column::Numbers, Column::Rest], &rows, columns))
}

/// `help`: the first commands, or what there is to say of one.
pub(super) fn help(page: &Page) -> Result<Exit, Errors> {
    if page.command.is_empty() {
        ui::out(&first_day());
        return Ok(Exit(0));
    }
    let mut command = Cli::command();
    command.build();
    ui::out(&found(command, &page.command)?.render_long_help().ansi().to_string());
    Ok(Exit(0))
}

/// The command below `command` that is called so.
fn found(command: clap::Command, names: &[String]) -> Result<clap::Command, Error> {
    names.iter().try_fold(command, |command, name| {
        let below = command.find_subcommand(name).cloned();
        below.ok_or_else(|| unknown(name, command.get_subcommands().map(clap::Command::get_name)))
    })
}

fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::new(Code::Usage, format!("there is no command `{name}`"));
    match did_you_mean(name, names) {
        Some(near) => error.hint(near),
        None => error.hint("`genmake --help` names them all"),
    }
}
