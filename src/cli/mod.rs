//! The command: arguments in, exit status out. One file a command.

mod accept;
mod annotations;
mod args;
mod build;
mod caller;
mod check;
mod clean;
mod completions;
mod depfile;
mod diff;
mod explain;
mod fitting;
mod gc;
mod gitfiles;
mod graph;
mod hook;
mod init;
mod listening;
mod makeflags;
mod man;
mod plan;
mod plan_text;
mod prompt;
mod prompt_file;
mod report;
mod resume;
mod savings;
mod search;
mod spending;
mod starter;
mod submit;
mod verdicts;
mod watch;

use std::collections::{BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use clap::Parser;

use crate::cancel::Cancel;
use crate::engine::Env;
use crate::error::{Code, Error, Errors, did_you_mean};
use crate::graph::{Changed, Target, Task};
use crate::jobs::Jobs;
use crate::path::RelPath;
use crate::plan::Wish;
use crate::project::{Location, Project};
use crate::report::Report;
use crate::store::{Glance, Repository};
use crate::telemetry::Log;
use crate::ui::{self, Display, Progress};

use args::{Cli, Command, Described, LogFormat, Options};

/// What a command came to, as make's: 0 done, 1 not up to date (only `check` and `-q`), 2 failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub u8);

/// How many mistakes are shown: nobody reads more before mending some.
const MOST_MISTAKES: usize = 100;

/// What every command gets.
struct Context {
    options: args::Options,
    /// As many as asked for, or as make gives.
    jobs: Jobs,
    env: Env,
    cancel: Cancel,
}

/// Runs the command that `args` asks for. `env` reads the environment, `cancel` interrupts.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>, env: Env, cancel: Cancel) -> Exit {
    let args: Vec<_> = args.into_iter().collect();
    if let Some(exit) = completions::answer(&args, &env) {
        return exit;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            // Help and version are no mistakes.
            return Exit(if e.use_stderr() { 2 } else { 0 });
        }
    };
    cli.options.color.choose();
    let keep_going = cli.options.keep_going || cli.command.as_ref().is_some_and(Command::keeps_going);
    let options = Options { keep_going, ..cli.options };
    let (options, jobs) = caller::heeded(options, cli.command.as_ref(), &*env);
    let context = Context { options, jobs, env, cancel };
    let format = Some(context.options.format).filter(|format| format.is_of_ci());
    let format = format.filter(|_| matches!(cli.command, Some(Command::Check(_))));
    let typed = cli.targets.first().filter(|_| cli.command.is_none()).cloned();
    match context.dispatch(cli.command, cli.targets) {
        Ok(exit) => exit,
        Err(mut errors) => {
            fitting::suggest(typed.as_ref(), &mut errors);
            if let Some(format) = format {
                annotations::mistakes(format, context.location().ok().as_ref(), &errors);
            }
            context.complain(&errors);
            Exit(2)
        }
    }
}

impl Context {
    /// Shows what is wrong, as much of it as anybody reads.
    fn complain(&self, errors: &Errors) {
        let (count, shown) = (errors.0.len(), errors.0.len().min(MOST_MISTAKES));
        if self.options.log_format == LogFormat::Json {
            let log = Log::default();
            return errors.0.iter().for_each(|error| listening::say(&log.error(error)));
        }
        errors.0.iter().take(shown).for_each(ui::complain);
        match count {
            0 | 1 => {}
            _ if count == shown => ui::say(&format!("{count} mistakes")),
            _ => ui::say(&format!("{count} mistakes, of which these are the first {shown}")),
        }
    }

    fn dispatch(&self, command: Option<Command>, targets: Vec<String>) -> Result<Exit, Errors> {
        if let Some(directory) = &self.options.directory {
            std::env::set_current_dir(directory)
                .map_err(|e| Error::new(Code::Usage, format!("cannot stand in `{}`: {e}", directory.display())))?;
        }
        let targets = match &command {
            Some(
                Command::Build(t)
                | Command::Check(args::Check { targets: t, .. })
                | Command::Plan(t)
                | Command::Explain(t)
                | Command::Graph(t)
                | Command::Watch(t),
            ) => t.targets.clone(),
            _ => targets,
        };
        fitting::check(self, command.as_ref())?;
        match command {
            Some(Command::Check(args)) if args.staged => check::staged(self, &targets),
            Some(Command::Check(_)) => check::run(self, &targets),
            Some(Command::Plan(_)) => plan::run(self, &targets),
            Some(Command::Explain(_)) => explain::run(self, &targets),
            Some(Command::Graph(_)) => graph::run(self, &targets),
            Some(Command::Diff(args)) => diff::run(self, &args.targets),
            Some(Command::Accept(args)) => accept::run(self, &args.targets),
            Some(Command::Prompt(args)) => prompt::run(self, &args),
            Some(Command::Clean { orphans }) => clean::run(self, orphans),
            Some(Command::Gc { keep }) => gc::run(self, keep),
            Some(Command::Watch(_)) => watch::run(self, &targets),
            Some(Command::Search(args)) => search::run(self, &args),
            Some(Command::Submit(args)) if self.options.dry_run => {
                plan::run_at(self, &args.targets, crate::models::Price::of_batches)
            }
            Some(Command::Submit(args)) => submit::run(self, &args),
            Some(Command::Collect(_)) if self.options.dry_run => {
                let error = Error::new(Code::Usage, "`-n` sends nothing, and what was submitted is at its provider");
                Err(error.hint("`genmake plan` says what waits for `collect`").into())
            }
            Some(Command::Collect(args)) => submit::collect(self, &args),
            Some(Command::Report { html }) => report::run(self, html.as_deref()),
            Some(Command::Schema { of }) => {
                let schema = match of {
                    Described::Genfile => crate::manifest::schema(),
                    Described::Report => Report::schema(),
                };
                ui::out(&format!("{schema:#}\n"));
                Ok(Exit(0))
            }
            Some(Command::Completions(args)) => completions::run(&args),
            Some(Command::Man(page)) => man::run(&page),
            Some(Command::Help(page)) => man::help(&page),
            Some(Command::Hook { action }) => hook::run(self, action),
            Some(Command::Init { pack, git }) => init::run(&pack, git, self.options.dry_run),
            None | Some(Command::Build(_)) if self.options.question => check::question(self, &targets),
            None | Some(Command::Build(_)) if self.options.dry_run => plan::run(self, &targets),
            None | Some(Command::Build(_)) => build::run(self, &targets),
        }
    }

    fn location(&self) -> Result<Location, Error> {
        match &self.options.file {
            Some(file) => Location::of_file(file),
            None => Location::find(Path::new(".")),
        }
    }

    /// The project for reading: what `--since` or `--files` narrow it to, if one of them is there.
    fn open(&self, location: &Location, targets: &[Target]) -> Result<Project, Errors> {
        match self.changed(location)? {
            None => Project::open_at(location, &self.env),
            // Targets are known by the whole of it.
            Some(changed) if self.is_whole_needed(targets) => {
                Ok(Project::open_at(location, &self.env)?.narrowed_to(changed))
            }
            Some(changed) => Project::open_changed(location, &self.env, changed),
        }
    }

    /// The same, for a run.
    fn open_to_run(&self, location: &Location, targets: &[Target], waits: impl FnOnce()) -> Result<Project, Errors> {
        match self.changed(location)? {
            None => Project::open_to_run(location, &self.env, waits),
            Some(changed) if self.is_whole_needed(targets) => {
                Ok(Project::open_to_run(location, &self.env, waits)?.narrowed_to(changed))
            }
            Some(changed) => Project::open_changed_to_run(location, &self.env, changed, waits),
        }
    }

    /// Whether what is asked for can be told by the whole project only.
    fn is_whole_needed(&self, targets: &[Target]) -> bool {
        let options = &self.options;
        !targets.is_empty() || options.always_make || options.frozen || !options.what_if.is_empty()
    }

    /// The files that `--since` or `--files` name; none without them.
    fn changed(&self, location: &Location) -> Result<Option<Changed>, Error> {
        if let Some(revision) = &self.options.since {
            let files = Repository::of(&location.root, &*self.env)?.changed_since(revision)?;
            return Ok(Some(Changed::new(files, [])));
        }
        if self.options.files.is_empty() {
            return Ok(None);
        }
        let here = here()?;
        let (mut files, mut folders) = (BTreeSet::new(), Vec::new());
        for file in &self.options.files {
            let full = here.join(file);
            // What lies outside of the root is nobody's here.
            let Some(path) = relative(&full, &location.root) else { continue };
            match full.is_dir() {
                true => folders.push(path),
                false => files.extend(RelPath::new(&path).ok()),
            }
        }
        Ok(Some(Changed::new(files, folders)))
    }

    /// A glance at the tree, where that can answer: what is asked for is the whole project as it is, and no list of it.
    fn glance(&self, location: &Location, is_everything: bool) -> Option<Glance> {
        let options = &self.options;
        let is_plain = is_everything && !options.always_make && !options.frozen && options.what_if.is_empty();
        let is_plain = is_plain && options.provider.is_none() && options.since.is_none() && options.files.is_empty();
        let is_short = !options.verbose
            && options.report.is_none()
            && options.metrics.is_none()
            && options.trace.is_none()
            && options.depfile.is_none();
        if is_plain && is_short { Project::glance(location, &self.env) } else { None }
    }

    fn wish(&self) -> Wish {
        // With `--frozen` nothing is asked for anew, and templates are rendered anew as it is.
        Wish { rebuild: self.options.always_make && !self.options.frozen, force: self.options.force }
    }

    /// The project with the provider that `--provider` names.
    fn with_provider(&self, project: Project) -> Result<Project, Error> {
        match &self.options.provider {
            Some(name) => project.ask_instead(name),
            None => Ok(project),
        }
    }

    /// The same, and with what `-W` names taken as changed; says which of that no task is made from.
    fn assume(&self, project: Project, location: &Location) -> Result<Project, Error> {
        let project = self.with_provider(project)?;
        self.tell_missing(&project, location)?;
        if self.options.what_if.is_empty() {
            return Ok(project);
        }
        let here = here()?;
        let sources: HashSet<&str> = project.graph().tasks.iter().flat_map(Task::sources).collect();
        let mut files = Vec::new();
        for file in &self.options.what_if {
            let path = relative(&here.join(file), &location.root).and_then(|path| RelPath::new(&path).ok());
            match path.filter(|path| sources.contains(path.as_str())) {
                Some(path) => files.push(path),
                None => {
                    let near = did_you_mean(&file.to_string_lossy(), sources.iter().copied());
                    let near = near.map(|near| format!("; {near}")).unwrap_or_default();
                    let name = file.display();
                    ui::say(&ui::sanitize(&format!("   notice  -W {name}: nothing is made from that file{near}")));
                }
            }
        }
        Ok(project.assume_changed(files))
    }

    /// Says which of what `--files` names is not there, and is nothing that is made: a slip of the finger, or deleted.
    fn tell_missing(&self, project: &Project, location: &Location) -> Result<(), Error> {
        if self.options.silent || self.options.question || self.options.files.is_empty() {
            return Ok(());
        }
        let here = here()?;
        for file in self.options.files.iter().filter(|file| file.symlink_metadata().is_err()) {
            let path = relative(&here.join(file), &location.root);
            let target = Target { text: file.to_string_lossy().into_owned(), path };
            let of_graph = target.path.as_deref().and_then(|path| RelPath::new(path).ok());
            if of_graph.is_some_and(|path| project.graph().makers.contains_key(&path))
                || project.orphan(&target).is_some()
            {
                continue;
            }
            let folder = file.parent().unwrap_or(Path::new(""));
            let there = fs_err::read_dir(here.join(folder)).into_iter().flatten().flatten();
            let there: Vec<String> =
                there.map(|entry| folder.join(entry.file_name()).to_string_lossy().into_owned()).collect();
            let near = did_you_mean(&target.text, there.iter().map(String::as_str));
            let near = near.map(|near| format!("; {near}")).unwrap_or_default();
            listening::notice(&self.options, &format!("--files {}: there is no such file{near}", target.text));
        }
        Ok(())
    }

    /// How a run is shown, as the options and the environment want it; a signal that ends it leaves the terminal clean.
    fn display(&self) -> Display {
        let progress = if self.options.silent { Progress::None } else { self.options.progress };
        let is_ci = (self.env)("CI").is_some() || (self.env)("TERM").as_deref() == Some("dumb");
        let display = Display::new(progress, self.options.verbose, is_ci);
        if let Some(clear) = display.clearing() {
            self.cancel.on_the_end(clear);
        }
        display
    }

    fn trusted_hosts(&self) -> Vec<String> {
        let more = (self.env)("GENMAKE_TRUST_HOSTS").unwrap_or_default();
        let more = more.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_lowercase);
        self.options.trust_host.iter().map(|host| host.to_lowercase()).chain(more).collect()
    }

    fn run_options(&self) -> Result<crate::engine::Options, Error> {
        // Relative to where one stands, as a report's path.
        let record = self.options.record.as_ref().map(|folder| Ok(here()?.join(folder))).transpose()?;
        Ok(crate::engine::Options {
            jobs: self.jobs.clone(),
            keep_going: self.options.keep_going,
            wish: self.wish(),
            frozen: self.options.frozen,
            offline: self.options.offline,
            free_only: false,
            asking: crate::engine::Asking::Now,
            batch: !self.options.no_batch,
            max_cost: self.options.max_cost,
            max_tokens: self.options.max_tokens,
            yes: self.options.yes,
            keep_orphans: self.options.keep_orphans,
            record,
            trusted_hosts: self.trusted_hosts(),
            env: Arc::clone(&self.env),
            cancel: self.cancel.clone(),
        })
    }
}

/// Targets as typed, relative to where one stands, as paths relative to the root.
fn targets(texts: &[String], location: &Location) -> Result<Vec<Target>, Error> {
    let here = here()?;
    let target = |text: &String| Target { text: text.clone(), path: relative(&here.join(text), &location.root) };
    Ok(texts.iter().map(target).collect())
}

/// Where one stands.
fn here() -> Result<PathBuf, Error> {
    let here = std::env::current_dir().and_then(fs_err::canonicalize);
    here.map_err(|e| Error::new(Code::Usage, format!("cannot tell where this is: {e}")))
}

/// A path without `.` and `..`, relative to the root; `None` if it lies outside.
fn relative(path: &Path, root: &Path) -> Option<String> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    let inside = normal.strip_prefix(root).ok()?;
    let parts: Option<Vec<&str>> = inside.components().map(|part| part.as_os_str().to_str()).collect();
    parts.map(|parts| parts.join("/"))
}
