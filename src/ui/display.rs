//! A run as it happens: plain lines, and on a terminal a status line below them. Only listens to events.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use owo_colors::OwoColorize;

use super::closing::{closing, details};
use super::progress::Phase;
use super::sanitize::for_terminal;
use super::status;
use super::{complain, count, names, sanitize, say};
use crate::error::Error;
use crate::event::{Event, Status, TaskEnd};
use crate::report::Summary;
use crate::wording::{self, time};

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A status line on a terminal, plain lines elsewhere.
    Auto,
    /// Plain lines.
    Plain,
    /// Nothing but errors.
    None,
}

/// Shows a run.
pub struct Display {
    /// Below the lines, on a terminal.
    status: Option<status::Status>,
    is_terminal: bool,
    silent: bool,
    /// Whether lines of tasks are left out, and only errors and the end are shown.
    brief: bool,
    verbose: bool,
    /// The providers of which it was said that they may not read all.
    unread: BTreeSet<String>,
    /// What was said last: an error that ten tasks share is said once.
    last_error: Option<Error>,
}

impl Display {
    /// A display for this process's terminal, if it has one.
    pub fn new(progress: Progress, verbose: bool, is_ci: bool) -> Display {
        let is_terminal = std::io::stderr().is_terminal();
        let status = (progress == Progress::Auto && !is_ci && is_terminal).then(status::Status::new);
        let silent = progress == Progress::None;
        Display { status, is_terminal, silent, brief: false, verbose, unread: BTreeSet::new(), last_error: None }
    }

    /// Shows only errors, and one line at the end.
    #[must_use]
    pub fn brief(self) -> Display {
        Display { brief: true, status: None, ..self }
    }

    /// What genmake is at, before there are events.
    pub fn phase(&self, phase: Phase) {
        self.status.iter().for_each(|status| status.phase(phase));
    }

    /// Leaves the terminal to somebody else, such as a question, until the next phase.
    pub fn pause(&self) {
        self.status.iter().for_each(status::Status::pause);
    }

    /// What leaves the terminal clean if the process is ended at once.
    pub fn clearing(&self) -> Option<impl FnOnce() + Send + 'static> {
        self.status.as_ref().map(status::Status::clearing)
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        self.status.iter().for_each(|status| status.note(event));
        match event {
            Event::WaitsForOther => self.line("wait", "another genmake runs here; this one goes on when it has ended"),
            Event::StateDamaged => self.line("notice", "`.genmake/state` was damaged and is made anew"),
            Event::Planned { .. } => self.phase(Phase::Making),
            Event::Resumed { targets, ago, tasks, left, kept } => {
                let what = if targets.is_empty() { "everything".to_owned() } else { targets.join(", ") };
                let (done, ago) = (tasks.saturating_sub(*left), humantime::format_duration(*ago));
                let kept = if *kept > 0 { format!(", {kept} of them with a result that is kept") } else { String::new() };
                let tasks = count(*tasks, "task");
                self.line("resume", &format!("{what}, begun {ago} ago: {done} of {tasks} done, {left} to go{kept}"));
            }
            Event::Ending { requests } => {
                let waits = (*requests > 0).then(|| format!("waits for {}, ", count(*requests, "request")));
                let what = format!("{}begins nothing new", waits.unwrap_or_default());
                self.line("ending", &format!("{what}; Ctrl-C again stops at once"));
            }
            Event::Starting { provider, command } => self.line("start", &format!("{provider}: {command}")),
            Event::StartSaid { provider, line } => self.line("", &format!("{provider}: {line}")),
            Event::Started { provider, took } => self.line("ready", &format!("{provider}, after {}", time(*took))),
            Event::Requested { request, provider, paths, again, .. } => {
                let what = if *again { "ask again" } else { "ask" };
                self.line(what, &format!("{provider} for {} (request {request})", names(paths)));
            }
            Event::WaitsForLimits { request, provider, wait } => {
                self.line("wait", &format!("request {request}: {}, for the limits of {provider}", time(*wait)));
            }
            Event::Retrying { request, after, why, .. } => {
                self.line("retry", &format!("request {request} in {}: {why}", time(*after)));
            }
            Event::Arrived { path } if self.verbose => self.line("arrive", path.as_str()),
            Event::Arrived { .. } => {}
            Event::Answered { request, tasks, good, usage, took, .. } => {
                let counts = match usage.input + usage.output {
                    0 => String::new(),
                    _ => format!(", {} tokens in, {} out", usage.input, usage.output),
                };
                self.line("answer", &format!("request {request}: {good} of {tasks} in {}{counts}", time(*took)));
            }
            Event::Warned { what, .. } => self.line("warning", what),
            Event::Unread { request, provider, counted, sent } if self.unread.insert(provider.clone()) => self.line(
                "warning",
                &format!(
                    "request {request}: {provider} counted {counted} tokens of about {sent}, and may not have read the rest: \
                     raise its context window, and say `limits: {{context: …}}`"
                ),
            ),
            Event::Unread { .. } => {}
            Event::Unkept { path, why, is_first: true } => self.line("warning", &wording::unkept(path.as_str(), *why)),
            Event::Unkept { .. } => {}
            Event::RequestFailed { .. } => {}
            Event::FellBack { request, missing, why, again: true } => {
                let why = wording::shortfall(why);
                self.line("fall back", &format!("request {request} lacks {}: {why}", names(missing)));
            }
            Event::FellBack { .. } => {}
            Event::Strayed { path, other, again: true } => {
                let other = if path == other { "another item" } else { other.as_str() };
                self.line("stray", &format!("{path}: what came for it is about {other}; it is asked for again alone"));
            }
            Event::Strayed { .. } => {}
            Event::AskedToCorrect { path, why } => self.line("correct", &format!("{path}: {why}")),
            Event::Excused { path, error } => {
                self.line("excuse", path.as_str());
                self.error(error);
            }
            Event::Ended(end) => self.ended(end),
            Event::Orphaned { orphan, deleted } => {
                let (verb, what) = match (deleted, orphan.edited) {
                    (true, _) => ("delete", "no rule makes it any more; its text is kept in the store"),
                    (_, Some(true)) => (
                        "keep",
                        "no rule makes it any more, and it was edited by hand; `genmake accept` makes it yours",
                    ),
                    _ => ("keep", "no rule makes it any more"),
                };
                // Also where little is said: somebody may miss the file.
                self.always(verb, &format!("{}: {what}", orphan.path));
            }
            Event::Submitted { provider, id, requests, tasks, cost } => {
                let cost = match cost {
                    None => ", unpriced".to_owned(),
                    Some(0.0) => String::new(),
                    Some(cost) => format!(", about {} USD", wording::usd(*cost)),
                };
                let (requests, results) = (count(*requests, "request"), count(*tasks, "result"));
                self.line("submit", &format!("{provider}: {requests} for {results}, as {id}{cost}"));
            }
            Event::Pending { provider, id, requests, done } => {
                let done = done.map(|done| format!(", {done} done")).unwrap_or_default();
                self.line("pending", &format!("{provider}: {}, as {id}{done}", count(*requests, "request")));
            }
            Event::Seeking { provider, wait } => {
                let what = format!("whether {provider} has what was submitted is not known yet: for {} at most", time(*wait));
                self.line("wait", &what);
            }
            Event::Unreached { error } => self.line("warning", &error.message),
            Event::Fetched { provider, id, results, missing } => {
                let missing = if *missing > 0 { format!(", {missing} missing") } else { String::new() };
                self.line("fetch", &format!("{provider}: {} of {id}{missing}", count(*results, "result")));
            }
            Event::Unasked { path } if self.verbose => self.line("leave", path.as_str()),
            Event::Unasked { .. } => {}
            Event::Failed(error) => self.error(error),
        }
    }

    fn ended(&mut self, end: &TaskEnd) {
        let names: Vec<&str> = end.outputs.iter().map(crate::path::RelPath::as_str).collect();
        let names = names.join(", ");
        let why = match (self.verbose, end.reasons.is_empty()) {
            (true, false) => format!("  ({})", end.reasons.iter().map(wording::reason).collect::<Vec<_>>().join("; ")),
            _ => String::new(),
        };
        match end.status {
            Status::Fresh if self.verbose => self.line("fresh", &names),
            Status::Fresh => {}
            Status::Rendered => self.line("render", &(names + &why)),
            Status::Generated => self.line("generate", &(names + &why)),
            Status::Embedded => self.line("embed", &(names + &why)),
            Status::Ran => self.line("run", &(names + &why)),
            Status::Defaulted => self.line("default", &names),
            Status::Accepted => self.line("accept", &names),
            Status::Merged => self.line("merge", &(names + &why)),
            Status::Restored => self.line("restore", &(names + &why)),
            Status::Submitted => self.line("submit", &names),
            Status::Skipped => self.line("skip", &names),
            Status::Failed => self.line("fail", &names),
            Status::Edited => self.line("edited", &names),
        }
        if let Some(collected) = end.collected.as_ref().filter(|_| end.status != Status::Fresh) {
            self.always("", &wording::collected(collected));
        }
        if let Some(counts) = end.embedded.as_ref().filter(|_| end.status != Status::Fresh) {
            self.always("", &wording::embedded(counts));
        }
        if let Some(error) = &end.error {
            self.error(error);
        }
    }

    fn line(&self, verb: &str, text: &str) {
        if !self.brief {
            self.always(verb, text);
        }
    }

    fn always(&self, verb: &str, text: &str) {
        if self.silent {
            return;
        }
        let verb = match verb {
            "fail" | "edited" => format!("{verb:>9}").red().bold().to_string(),
            "wait" | "retry" | "fall back" | "correct" | "keep" | "notice" | "warning" | "skip" | "default"
            | "excuse" | "advice" | "ending" => format!("{verb:>9}").yellow().bold().to_string(),
            verb => format!("{verb:>9}").green().bold().to_string(),
        };
        let text = if self.is_terminal { for_terminal(text) } else { sanitize(text) };
        let line = format!("{verb}  {text}");
        self.above(|| say(&line));
    }

    fn error(&mut self, error: &Error) {
        if self.last_error.as_ref() != Some(error) {
            self.above(|| complain(error));
            self.last_error = Some(error.clone());
        }
    }

    /// Prints above the status line.
    fn above(&self, print: impl FnOnce()) {
        match &self.status {
            Some(status) => status.above(print),
            None => print(),
        }
    }

    /// Ends the display with what the run came to.
    pub fn end(mut self, summary: &Summary) {
        self.status = None;
        if !self.brief {
            for (what, text) in details(summary) {
                self.always(what, &text);
            }
        }
        if !self.silent {
            say(&closing(summary));
        }
    }
}
