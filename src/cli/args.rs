//! The command line, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::completions::Completions;
use super::man::Page;
use crate::ui::{Color, Progress};

/// make for generated files: templates, and batched requests to language models, with a lock and a store.
#[derive(Debug, Parser)]
#[command(name = "genmake", version, max_term_width = 100, args_conflicts_with_subcommands = false)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; without a command, builds
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to build: a path, a glob, a rule's name or a group's; everything if there is none
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Options
    #[command(flatten)]
    pub options: Options,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring targets up to date
    Build(Targets),
    /// Say what is not up to date; exit 1 if anything is not. Changes nothing, runs nothing, sends nothing
    Check(Check),
    /// Say what would be done and why, with requests and tokens. Sends nothing
    Plan(Targets),
    /// Say why a target is or is not up to date, input by input
    Explain(Targets),
    /// Print the graph of files, tasks and rules, of everything or of what targets need; as dot, without `--format`
    Graph(Targets),
    /// Show what would be sent for a target, whether it is up to date or not; with `--file F` and no target, render a prompt file
    Prompt(Prompt),
    /// Show hand edits against what was generated; without a target, those that are not accepted
    Diff(Targets),
    /// Take hand edits for the outputs' content, until what they are made from changes
    Accept(Accept),
    /// Delete the outputs that genmake made and nobody edited; their texts are kept in the store
    Clean {
        /// Only those that no rule makes any more
        #[arg(long)]
        orphans: bool,
    },
    /// Build on every change, until a signal ends it; models that are not on this machine are asked with `--yes` only
    Watch(Targets),
    /// Prune the store of what neither the lock nor a target needs and is older than DURATION
    Gc {
        /// How long what nothing needs is kept: 30d, 12h, 0s
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30d")]
        keep: Duration,
    },
    /// Find the items of an embed rule that are nearest to a text
    Search(Search),
    /// Hand requests in to providers' batch APIs, at half their price, to be answered within a day
    Submit(Submit),
    /// Fetch what was submitted, and put it in its place
    Collect(Collect),
    /// Print what a shell reads to complete commands, options, rules and targets at a tab
    Completions(Completions),
    /// Print the manual's page of genmake, or of one command
    Man(Page),
    /// Say with which commands to begin, or what there is to say of one
    Help(Page),
    /// Say what the last run did that did something; all of it with `--format json`
    Report {
        /// Write it as a page for a browser
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Print the JSON Schema of a Genfile, for editors, or of a run's report
    Schema {
        /// Of what
        #[arg(value_enum, default_value_t = Described::Genfile)]
        of: Described,
    },
    /// Have git refuse commits in which something is not up to date, by a pre-commit hook; or take that away again
    Hook {
        /// What to do
        #[command(subcommand)]
        action: HookAction,
    },
    /// Write a Genfile to start from, with a template, a prompt and a spec, or with rule packs
    Init {
        /// Include a pack that ships with genmake, and write sources to start from: go, node, project, python, rust
        #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
        pack: Vec<String>,
        /// Tell git what is generated and how it is merged, in `.gitattributes` and `.gitignore`; also where there is a Genfile
        #[arg(long)]
        git: bool,
    },
}

/// Targets of a command.
#[derive(Debug, Args)]
pub struct Targets {
    /// A path, a glob, a rule's name or a group's; everything if there is none
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    #[command(flatten)]
    pub going: Going,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub targets: Targets,
    /// Judge what is staged, as `git commit` would record it, and not what stands in the work tree
    #[arg(long)]
    pub staged: bool,
}

/// What `hook` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum HookAction {
    /// Write the hook, or add this project to the one that is there
    Install,
    /// Take this project out of the hook, and the hook away with the last
    Remove,
}

/// What a command does after a failure.
#[derive(Debug, Args)]
pub struct Going {
    /// After a failure, go on asking for what does not depend on it
    #[arg(short = 'k', long = "keep-going", id = "keep_going_with")]
    pub keep_going: bool,
}

impl Command {
    /// Whether it answers another question than whether targets are up to date.
    pub fn has_own_answer(&self) -> bool {
        matches!(
            self,
            Command::Clean { .. }
                | Command::Init { .. }
                | Command::Hook { .. }
                | Command::Gc { .. }
                | Command::Diff(_)
                | Command::Accept(_)
                | Command::Search(_)
                | Command::Submit(_)
                | Command::Collect(_)
                | Command::Report { .. }
        )
    }

    /// Whether `-k` stands behind the command.
    pub fn keeps_going(&self) -> bool {
        match self {
            Command::Build(args)
            | Command::Plan(args)
            | Command::Explain(args)
            | Command::Graph(args)
            | Command::Diff(args)
            | Command::Watch(args) => args.going.keep_going,
            Command::Check(args) => args.targets.going.keep_going,
            Command::Submit(args) => args.going.keep_going,
            Command::Collect(args) => args.going.keep_going,
            _ => false,
        }
    }
}

/// Arguments of `search`.
#[derive(Debug, Args)]
pub struct Search {
    /// What is looked for
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// The name of an embed rule
    #[arg(value_name = "RULE")]
    pub rule: String,
    /// How many items are shown
    #[arg(short = 'k', value_name = "N", default_value_t = 10)]
    pub most: usize,
}

/// Arguments of `accept`.
#[derive(Debug, Args)]
pub struct Accept {
    /// A path, a glob, a rule's name or a group's
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// Arguments of `prompt`.
#[derive(Debug, Args)]
pub struct Prompt {
    /// A path, a glob, or a rule's name
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Show the whole request that would carry it, with what travels along
    #[arg(long)]
    pub batch: bool,
    /// What the prompt file is rendered with: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
}

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub struct Submit {
    /// A path, a glob, a rule's name or a group's; everything if there is none
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Wait until it has come back, and go on round after round; ask about it every DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub going: Going,
}

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct Collect {
    /// A path, a glob, a rule's name or a group's; everything if there is none
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Wait until it has come back; ask about it every DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    pub wait: Option<Duration>,
    /// Ask at once, and at the full price, for what brought no good result
    #[arg(long)]
    pub retry: bool,
    /// Have the providers stop; what they have done by then is paid for, and fetched
    #[arg(long, conflicts_with = "wait")]
    pub cancel: bool,
    #[command(flatten)]
    pub going: Going,
}

// Under which words the options stand that all commands have, so that a command's own stand by themselves.
const MAKE: &str = "As of make";
const CHANGED: &str = "What changed";
const ALLOWED: &str = "What may be done";
const REQUESTS: &str = "Requests";
const REPORTS: &str = "Reports";
const OUTPUT: &str = "Output";

/// What holds for every command.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The Genfile; without, it is sought here and above. Of `prompt` without a target: the prompt file
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true, help_heading = MAKE)]
    pub file: Option<PathBuf>,
    /// Stand in DIR
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true, help_heading = MAKE)]
    pub directory: Option<PathBuf>,
    /// Local jobs at once; 0, or no N, for as many as there are cores. Without, as many as the make gives that called
    #[arg(short = 'j', long, value_name = "N", num_args = 0..=1, default_missing_value = "0", global = true, help_heading = MAKE)]
    pub jobs: Option<usize>,
    /// After a failure, go on asking for what does not depend on it
    // Not global: of `search` it is a number.
    #[arg(short = 'k', long, help_heading = MAKE)]
    pub keep_going: bool,
    /// Only say what would be done: the same as `plan`
    #[arg(short = 'n', long, global = true, help_heading = MAKE)]
    pub dry_run: bool,
    /// Take every target for stale, and ask for it anew
    #[arg(short = 'B', long, global = true, help_heading = MAKE)]
    pub always_make: bool,
    /// Take FILE as changed; with `-n`, what an edit of it would cost
    #[arg(short = 'W', long = "what-if", value_name = "FILE", global = true, help_heading = MAKE)]
    pub what_if: Vec<PathBuf>,
    /// Say nothing and do nothing; exit 1 if anything is not up to date
    #[arg(short = 'q', long, global = true, help_heading = MAKE)]
    pub question: bool,
    /// Say nothing but errors, and what is asked for
    #[arg(short = 's', long, global = true, help_heading = MAKE)]
    pub silent: bool,
    /// Say more: reasons, and what is fresh
    #[arg(short = 'v', long, global = true, help_heading = MAKE)]
    pub verbose: bool,
    /// Only what depends on files that are others than in REV, committed or not, and what makes them
    #[arg(long, value_name = "REV", global = true, conflicts_with = "files", help_heading = CHANGED)]
    pub since: Option<String>,
    /// Only what depends on these files, and what makes them
    #[arg(long, value_name = "PATH", num_args = 1.., global = true, help_heading = CHANGED)]
    pub files: Vec<PathBuf>,
    /// Accept only the results that the lock names; ask nobody, never write the lock
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub frozen: bool,
    /// No network at all
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub offline: bool,
    /// Overwrite outputs that were edited by hand; the edited text is kept in the store
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub force: bool,
    /// Answer questions with yes
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub yes: bool,
    /// Go on with the run that was cut short last, with its targets and options
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub resume: bool,
    /// Keep outputs that no rule makes any more
    #[arg(long, global = true, help_heading = ALLOWED)]
    pub keep_orphans: bool,
    /// One request for each task
    #[arg(long, global = true, help_heading = REQUESTS)]
    pub no_batch: bool,
    /// Ask this provider in place of all that the Genfile names for prompts
    #[arg(long, value_name = "NAME", global = true, help_heading = REQUESTS)]
    pub provider: Option<String>,
    /// Write what providers answer to DIR, for a provider with `api: replay`
    #[arg(long, value_name = "DIR", global = true, help_heading = REQUESTS)]
    pub record: Option<PathBuf>,
    /// Send no request that could bring the run's cost above USD
    #[arg(long, value_name = "USD", value_parser = amount, allow_negative_numbers = true, global = true, help_heading = REQUESTS)]
    pub max_cost: Option<f64>,
    /// Send no request that could bring the run's tokens above N
    #[arg(long, value_name = "N", global = true, help_heading = REQUESTS)]
    pub max_tokens: Option<u64>,
    /// A host to which a provider's key may go; more in GENMAKE_TRUST_HOSTS, with commas
    #[arg(long, value_name = "HOST", global = true, help_heading = REQUESTS)]
    pub trust_host: Vec<String>,
    /// Write a report of the run, as JSON, or as a page for a browser if FILE ends in .html
    #[arg(long, value_name = "FILE", global = true, help_heading = REPORTS)]
    pub report: Option<PathBuf>,
    /// Write the run's figures in Prometheus' text format
    #[arg(long, value_name = "FILE", global = true, help_heading = REPORTS)]
    pub metrics: Option<PathBuf>,
    /// Write the run's requests and tasks as Chrome's trace events, for Perfetto
    #[arg(long, value_name = "FILE", global = true, help_heading = REPORTS)]
    pub trace: Option<PathBuf>,
    /// How a run says what it does: for people, or a line of JSON for each decision
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true, help_heading = REPORTS)]
    pub log_format: LogFormat,
    /// Write what the build rests on to FILE, as rules for make and ninja
    #[arg(long, value_name = "FILE", global = true, help_heading = REPORTS)]
    pub depfile: Option<PathBuf>,
    /// How data is printed
    #[arg(long, value_enum, default_value_t = Format::Text, global = true, help_heading = OUTPUT)]
    pub format: Format,
    /// Colors
    #[arg(long, value_enum, default_value_t = Color::Auto, global = true, help_heading = OUTPUT)]
    pub color: Color,
    /// How a run is shown
    #[arg(long, value_enum, default_value_t = Progress::Auto, global = true, help_heading = OUTPUT)]
    pub progress: Progress,
}

impl Options {
    /// Whether only what depends on some files is meant.
    pub fn is_narrowed(&self) -> bool {
        self.since.is_some() || !self.files.is_empty()
    }
}

/// How a run says what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What a JSON Schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// A Genfile
    Genfile,
    /// What `--report FILE.json` writes
    Report,
}

/// An amount of money.
fn amount(text: &str) -> Result<f64, String> {
    let amount = text.parse::<f64>().ok().filter(|amount| amount.is_finite() && *amount >= 0.0);
    amount.ok_or_else(|| "an amount of USD, such as 2.50".to_owned())
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For Graphviz: `graph` only.
    Dot,
    /// For Mermaid: `graph` only.
    Mermaid,
    /// A page for a browser: `graph` only.
    Html,
    /// For GitHub's workflows, as annotations: `check` only.
    Github,
    /// For GitLab, as a report on code quality: `check` only.
    Gitlab,
    /// For whatever shows what static analysis found: `check` only.
    Sarif,
}

/// A duration as people write it.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "a duration is a number with its unit, such as 30d, 12h or 0s".to_owned())
}
