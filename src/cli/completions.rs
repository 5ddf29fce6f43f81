//! `completions`: what a shell is told once, and what it is answered at every tab: commands, options, and of the project the
//! names of rules, groups and providers, and the paths of targets.
//!
//! The script only asks this program again, with the shell's name in [`ASKED_BY`]; so it never has to be made anew for a Genfile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{ArgMatches, Args, CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::args::{Cli, Format};
use super::{Exit, here};
use crate::engine::Env;
use crate::error::{Code, Error, Errors};
use crate::manifest::Recipe;
use crate::packs;
use crate::project::{Location, Project};
use crate::ui;

/// The variable in which a script says which shell asks.
const ASKED_BY: &str = "GENMAKE_COMPLETE";

/// The shells there are scripts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bourne Again Shell.
    Bash,
    /// Z shell.
    Zsh,
    /// Friendly interactive shell.
    Fish,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell that is to read them
    pub shell: Shell,
}

/// Prints the script that a shell reads when it starts.
pub(super) fn run(args: &Completions) -> Result<Exit, Errors> {
    let name = match args.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let shell = shells.completer(name).ok_or_else(|| Error::new(Code::Bug, format!("no completions for {name}")))?;
    // By its name: whichever genmake the shell finds then answers.
    shell
        .write_registration(ASKED_BY, "genmake", "genmake", "genmake", &mut script)
        .map_err(|e| Error::new(Code::Bug, e.to_string()))?;
    if let Shell::Bash = args.shell {
        // bash writes blanks and the like of file names so that they stay one word.
        script = String::from_utf8_lossy(&script).replace("complete -o ", "complete -o filenames -o ").into_bytes();
    }
    ui::out_exactly(&script);
    Ok(Exit(0))
}

/// Answers a shell, if it is one that asks. `args` are this program's name, `--`, and the words of the line.
pub(super) fn answer(args: &[OsString], env: &Env) -> Option<Exit> {
    let name = env(ASKED_BY).filter(|name| !name.is_empty())?;
    let shells = Shells::builtins();
    let shell = shells.completer(&name)?;
    let words: Vec<OsString> = args.iter().skip_while(|arg| *arg != "--").skip(1).cloned().collect();
    let words = if words.is_empty() { vec![OsString::from("genmake")] } else { words };
    let mut command = with_names(&words, env);
    command.build();
    let mut answer = Vec::new();
    // A shell shows what it is answered, so a failure says nothing.
    let done = shell.write_complete(&mut command, words, std::env::current_dir().ok().as_deref(), &mut answer);
    ui::out_exactly(&answer);
    Some(Exit(if done.is_ok() { 0 } else { 2 }))
}

/// The command line's form, with what the project that the words mean has to offer.
fn with_names(words: &[OsString], env: &Env) -> clap::Command {
    let typed = Cli::command().ignore_errors(true).try_get_matches_from(words).ok();
    let env = Arc::clone(env);
    let names = Arc::new(std::sync::OnceLock::new());
    // Read when a name is asked for, and once: a tab after an option needs no project.
    let names = move || -> Arc<Names> {
        Arc::clone(names.get_or_init(|| Arc::new(Names::of(typed.as_ref(), &env).unwrap_or_default())))
    };
    let names: Arc<dyn Fn() -> Arc<Names> + Send + Sync> = Arc::new(names);
    let among = |pick: fn(&Names, &str) -> Vec<CompletionCandidate>| {
        let names = Arc::clone(&names);
        ArgValueCompleter::new(move |typed: &OsStr| {
            typed.to_str().map(|typed| pick(&names(), typed)).unwrap_or_default()
        })
    };
    let targets = |command: clap::Command| {
        let has_targets = command.get_arguments().any(|arg| arg.get_id() == "targets");
        if has_targets { command.mut_arg("targets", |arg| arg.add(among(Names::targets))) } else { command }
    };
    let command = targets(Cli::command()).mut_subcommands(targets);
    let command = command.mut_arg("provider", |arg| arg.add(among(|names, typed| starting(&names.providers, typed))));
    let command = command.mut_subcommand("search", |search| {
        search.mut_arg("rule", |arg| arg.add(among(|names, typed| starting(&names.embeds, typed))))
    });
    let command =
        command.mut_subcommand("init", |init| init.mut_arg("pack", |arg| arg.add(among(|_, typed| packs_like(typed)))));
    // Only `graph` prints as these, and only `check` as those.
    let of_graph = |format: Format| matches!(format, Format::Dot | Format::Mermaid | Format::Html);
    let fits = |format: Format, name: &str| match name {
        "graph" => !format.is_of_ci(),
        "check" => !of_graph(format),
        _ => !of_graph(format) && !format.is_of_ci(),
    };
    let name = typed_command(words);
    let formats = Format::value_variants().iter().filter(|format| fits(**format, &name));
    let formats: Vec<PossibleValue> = formats.filter_map(ValueEnum::to_possible_value).collect();
    let command = command.mut_arg("format", |arg| arg.value_parser(PossibleValuesParser::new(formats)));
    let page =
        |command: clap::Command| command.mut_arg("command", |arg| arg.add(among(|_, typed| commands_like(typed))));
    command.mut_subcommand("man", page).mut_subcommand("help", page)
}

/// The first of the words that is a command.
fn typed_command(words: &[OsString]) -> String {
    let command = Cli::command();
    let mut names = words.iter().filter_map(|word| word.to_str());
    names.find(|word| command.find_subcommand(word).is_some()).unwrap_or_default().to_owned()
}

fn commands_like(typed: &str) -> Vec<CompletionCandidate> {
    let command = Cli::command();
    let like = command.get_subcommands().filter(|command| command.get_name().starts_with(typed));
    like.map(|command| CompletionCandidate::new(command.get_name()).help(command.get_about().cloned())).collect()
}

/// What a project's names are.
#[derive(Default)]
struct Names {
    /// Rules and groups, with what each is.
    rules: BTreeMap<String, &'static str>,
    embeds: BTreeMap<String, &'static str>,
    providers: BTreeMap<String, &'static str>,
    /// Outputs, relative to where one stands.
    outputs: BTreeSet<String>,
}

impl Names {
    fn of(typed: Option<&ArgMatches>, env: &Env) -> Option<Names> {
        let path = |name: &str| typed.and_then(|typed| typed.try_get_one::<PathBuf>(name).ok().flatten());
        let stand = here().ok()?.join(path("directory").map_or(Path::new("."), PathBuf::as_path));
        let stand = fs_err::canonicalize(stand).ok()?;
        let location = match path("file") {
            Some(file) => Location::of_file(&stand.join(file)),
            None => Location::find(&stand),
        };
        let location = location.ok()?;
        // Of a Genfile with mistakes there are no names; `genmake` says what they are.
        let project = Project::open_at(&location, env).ok()?;
        let graph = project.graph();
        let mut names = Names::default();
        for rule in &graph.manifest.rules {
            names.rules.insert(rule.name.clone(), "rule");
            if matches!(rule.recipe, Some(Recipe::Embed(_))) {
                names.embeds.insert(rule.name.clone(), "rule");
            }
        }
        let groups = graph.manifest.rules.iter().flat_map(|rule| &rule.groups);
        for group in groups {
            names.rules.entry(group.clone()).or_insert("group");
        }
        names.providers = graph.manifest.providers.keys().map(|name| (name.clone(), "provider")).collect();
        names.outputs = graph.makers.keys().filter_map(|path| seen_from(&stand, &location.root.join(path))).collect();
        Some(names)
    }

    /// Rules and groups, and paths folder by folder, as shells offer files.
    fn targets(&self, typed: &str) -> Vec<CompletionCandidate> {
        let mut found = starting(&self.rules, typed);
        let mut paths = BTreeMap::<String, usize>::new();
        for path in self.outputs.iter().filter(|path| path.starts_with(typed)) {
            let folder = path[typed.len()..].find('/').map(|at| path[..=typed.len() + at].to_owned());
            *paths.entry(folder.unwrap_or_else(|| path.clone())).or_default() += 1;
        }
        let only = |folder: &str| self.outputs.iter().find(|path| path.starts_with(folder)).cloned();
        // A folder with one output is no choice.
        let paths = paths.into_iter().filter_map(|(path, count)| if count == 1 { only(&path) } else { Some(path) });
        found.extend(paths.map(|path| CompletionCandidate::new(path).help(Some("target".into()))));
        found
    }
}

/// A path as one types it who stands in `stand`.
fn seen_from(stand: &Path, path: &Path) -> Option<String> {
    let above = stand.ancestors().enumerate().find_map(|(up, folder)| Some((up, path.strip_prefix(folder).ok()?)));
    let (up, rest) = above?;
    Some("../".repeat(up) + rest.to_str()?)
}

fn starting(names: &BTreeMap<String, &'static str>, typed: &str) -> Vec<CompletionCandidate> {
    let like = names.iter().filter(|(name, _)| name.starts_with(typed));
    like.map(|(name, what)| CompletionCandidate::new(name).help(Some((*what).into()))).collect()
}

fn packs_like(typed: &str) -> Vec<CompletionCandidate> {
    packs::names().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
}
