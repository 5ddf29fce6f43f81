//! `watch`: builds on change. Holds no guard between builds, and ends by a signal.
//!
//! Which file an event is about does not matter: after each burst of events the tree is judged as by `check`, and what is not up to
//! date and was not tried before in this state is built. So what a build itself writes leads to nothing, and what fails is tried
//! again when something about it has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{CreateKind, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::listening::Listener;
use super::{Context, Exit, targets};
use crate::cancel::Cancel;
use crate::error::{Code, Error, Errors};
use crate::event::Event;
use crate::graph::{Target, TaskId};
use crate::path::is_reserved;
use crate::plan::{Judged, Orphan, Verdict};
use crate::project::{Location, Planned, Project};
use crate::provider::is_local;
use crate::ui::{self, Display, Progress};

/// A burst of events is over when none came for so long.
const QUIET: Duration = Duration::from_millis(100);
/// However many come, one does not wait longer than this.
const LONGEST: Duration = Duration::from_secs(2);

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let (wake, woken) = mpsc::channel();
    // Before anything is looked at: what changes from here on is told.
    let mut watcher = watcher(&location.root, wake.clone())?;
    let underway: Arc<Mutex<Cancel>> = Arc::default();
    let of_build = Arc::clone(&underway);
    context.cancel.on_stop(move |stop| {
        of_build.lock().unwrap_or_else(PoisonError::into_inner).stop(stop);
        let _ = wake.send(Woken::Stopped);
    });
    let mut watch = Watch { context, targets: targets(names, &location)?, location, underway, last: Told::default() };
    watch.bring_up();
    watch.say("    watch  for changes; Ctrl-C ends it");
    while !context.cancel.is_cancelled() && wait(&woken, &mut watcher) {
        watch.bring_up();
    }
    Ok(Exit(0))
}

/// What ends waiting.
enum Woken {
    /// Something changed; a folder is new.
    Changed(Option<PathBuf>),
    /// What cannot be watched any more.
    Failed(String),
    /// A signal came.
    Stopped,
}

fn watcher(root: &Path, wake: mpsc::Sender<Woken>) -> Result<RecommendedWatcher, Error> {
    let cannot = |e: notify::Error| {
        let error = Error::new(Code::Unreadable, format!("`{}` cannot be watched: {e}", root.display()));
        match e.kind {
            notify::ErrorKind::MaxFilesWatch => error.hint("raise the system's limit: `fs.inotify.max_user_watches`"),
            _ => error,
        }
    };
    let below = root.to_path_buf();
    let tell = move |event: notify::Result<notify::Event>| {
        let woken = match event {
            Err(e) => Woken::Failed(e.to_string()),
            Ok(event) if !matters(&event, &below) => return,
            Ok(event) => {
                let is_folder = matches!(event.kind, EventKind::Create(CreateKind::Folder | CreateKind::Any));
                Woken::Changed(event.paths.into_iter().next().filter(|_| is_folder))
            }
        };
        // Fails when nobody listens any more.
        let _ = wake.send(woken);
    };
    let mut watcher = notify::recommended_watcher(tell).map_err(cannot)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(cannot)?;
    Ok(watcher)
}

/// Whether an event can change a verdict: reading changes nothing, nor does what git and genmake keep for themselves.
fn matters(event: &notify::Event, root: &Path) -> bool {
    let is_own = |path: &Path| {
        let mut parts = path.components().filter_map(|part| part.as_os_str().to_str());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        parts.any(is_reserved) || (name.starts_with(".genmake-") && name.ends_with(".tmp"))
    };
    let is_read = matches!(event.kind, EventKind::Access(_));
    event.need_rescan() || (!is_read && event.paths.iter().any(|path| !path.strip_prefix(root).is_ok_and(is_own)))
}

/// Waits for a burst of events and its end; `false` if it is time to stop.
fn wait(woken: &Receiver<Woken>, watcher: &mut RecommendedWatcher) -> bool {
    let Ok(mut next) = woken.recv() else { return false };
    let begun = Instant::now();
    loop {
        match next {
            Woken::Stopped => return false,
            // What is made in a folder before it is watched is told of by nobody: once this is done it is watched, and what
            // was made before is there to be found.
            Woken::Changed(Some(folder)) => drop(watcher.watch(&folder, RecursiveMode::Recursive)),
            Woken::Changed(None) => {}
            Woken::Failed(why) => ui::say(&ui::sanitize(&format!("   notice  not everything is watched: {why}"))),
        }
        let left = QUIET.min(LONGEST.saturating_sub(begun.elapsed()));
        next = match woken.recv_timeout(left) {
            Ok(next) => next,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
    }
}

struct Watch<'a> {
    context: &'a Context,
    location: Location,
    targets: Vec<Target>,
    /// Interrupts the build that is under way.
    underway: Arc<Mutex<Cancel>>,
    last: Told,
}

/// What is not done again while nothing about it changes.
#[derive(Default)]
struct Told {
    /// What is not up to date, as it was when a build was tried.
    tried: BTreeSet<String>,
    /// What is wrong with the Genfile.
    errors: Option<String>,
    /// What waits for a person's yes.
    waits: BTreeMap<String, Vec<String>>,
    /// Whether the last build failed in something.
    has_failed: bool,
}

/// What there is to do.
struct ToDo {
    /// What is not up to date and may be made: of each task and orphan what it is, in words that change with it.
    open: BTreeSet<String>,
    /// For each provider that a person has to allow, the targets that wait for it.
    waits: BTreeMap<String, Vec<String>>,
    /// The tasks that wait for that, and those that wait for them.
    held: Vec<bool>,
}

impl Watch<'_> {
    fn say(&self, text: &str) {
        if !self.context.options.silent {
            ui::say(&ui::sanitize(text));
        }
    }

    /// Builds until nothing is left that was not tried.
    fn bring_up(&mut self) {
        while !self.context.cancel.is_cancelled() {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return,
                Err(errors) => {
                    let text = errors.to_string();
                    if self.last.errors.as_ref() != Some(&text) {
                        self.context.complain(&errors);
                        self.last.errors = Some(text);
                    }
                    return;
                }
            }
        }
    }

    /// Builds what is not up to date; `false` if there was nothing to build.
    fn step(&mut self) -> Result<bool, Errors> {
        let (wish, jobs) = (self.context.wish(), &self.context.jobs);
        let project = Project::open_at(&self.location, &self.context.env)?;
        let planned = self.context.with_provider(project)?.plan_as(&self.targets, wish, jobs)?;
        let to_do = to_do(&planned, &self.context.options);
        if self.last.waits != to_do.waits {
            for (provider, targets) in &to_do.waits {
                let (count, first) = (ui::count(targets.len(), "target"), targets.join(", "));
                self.say(&format!(
                    "     wait  {count}: {first}: `{provider}` may cost something; `--yes` lets it be asked"
                ));
            }
            self.last.waits = to_do.waits;
        }
        self.last.tried.retain(|tried| to_do.open.contains(tried));
        if to_do.open.is_subset(&self.last.tried) {
            let is_over = to_do.open.is_empty() && std::mem::take(&mut self.last.has_failed);
            if self.last.errors.take().is_some() || is_over {
                self.say("    watch  no mistakes any more; nothing to do");
            }
            return Ok(false);
        }
        self.last.errors = None;
        let targets = match to_do.held.contains(&true) {
            false => self.targets.clone(),
            true => {
                let free = planned.selected.iter().filter(|task| !to_do.held[**task]);
                let name = |task: &TaskId| planned.graph().name(*task).to_string();
                free.map(name).map(|name| Target { text: name.clone(), path: Some(name) }).collect()
            }
        };
        self.last.tried = to_do.open;
        drop(planned);
        self.build(&targets).map(|interrupted| !interrupted)
    }

    /// One build, and the line that it ends with; whether a signal cut it short.
    fn build(&mut self, targets: &[Target]) -> Result<bool, Errors> {
        let context = self.context;
        let cancel = Cancel::default();
        *self.underway.lock().unwrap_or_else(PoisonError::into_inner) = cancel.clone();
        if context.cancel.is_cancelled() {
            return Ok(true);
        }
        let progress = if context.options.silent { Progress::None } else { Progress::Plain };
        let mut display = Listener::new(context, || {
            let display = Display::new(progress, context.options.verbose, true);
            if context.options.verbose { display } else { display.brief() }
        });
        let project = Project::open_to_run(&self.location, &context.env, || display.show(&Event::WaitsForOther))?;
        let planned = context.with_provider(project)?.plan_as(targets, context.wish(), &context.jobs)?;
        let mut options = context.run_options()?;
        (options.free_only, options.cancel) = (!context.options.yes, cancel);
        display.planned(&planned);
        let summary = planned.run(&options, &mut |event| display.show(&event))?;
        display.end(&summary);
        self.last.has_failed = !summary.is_success();
        Ok(summary.interrupted)
    }
}

/// What a build would do, and what it would have to pay for.
fn to_do(planned: &Planned, options: &super::args::Options) -> ToDo {
    let graph = planned.graph();
    let mut to_do = ToDo { open: BTreeSet::new(), waits: BTreeMap::new(), held: vec![false; graph.tasks.len()] };
    for task in graph.layers.iter().flatten().copied().filter(|task| planned.needed[*task]) {
        let judged = planned.plan.tasks[task].as_ref();
        let provider = graph.manifest.provider_of(graph.rule(task)).ok();
        let paid = provider.filter(|provider| graph.rule(task).is_asked() && !is_local(provider));
        let may_ask = |judged: &Judged| judged.ask().is_some() || matches!(judged.verdict, Verdict::Waiting(_));
        let needs_yes = !options.yes && matches!(judged, Some(Ok(judged)) if may_ask(judged));
        if let (Some(provider), true) = (paid, needs_yes) {
            to_do.held[task] = true;
            to_do.waits.entry(provider.name.clone()).or_default().push(graph.name(task).to_string());
        }
        to_do.held[task] |= graph.tasks[task].deps.iter().any(|dep| to_do.held[*dep]);
        if !to_do.held[task] {
            to_do.open.extend(judged.and_then(state).map(|state| format!("{} {state}", graph.name(task))));
        }
    }
    // A build of some targets deals with no orphans.
    if !to_do.held.contains(&true) {
        to_do.open.extend(
            planned
                .plan
                .orphans
                .iter()
                .filter(|orphan| is_deleted(orphan, options))
                .map(|o| format!("{} {:?}", o.path, o.edited)),
        );
    }
    to_do
}

/// What a task is that is not up to date, in words that change when another try may end otherwise.
fn state(judged: &Result<Judged, Error>) -> Option<String> {
    let judged = match judged {
        Ok(judged) => judged,
        Err(error) => return Some(format!("failed {error}")),
    };
    let key = judged.key.map(|key| key.to_string()).unwrap_or_default();
    match &judged.verdict {
        Verdict::Fresh if judged.unchecked => Some(format!("unchecked {key}")),
        Verdict::Fresh => None,
        Verdict::Stale(_) | Verdict::Kept(_) => Some(format!("stale {key}")),
        Verdict::Restorable(..) => Some(format!("restorable {key}")),
        Verdict::Edited(_, paths) => Some(format!("edited {key} {paths:?}")),
        Verdict::Waiting(_) => Some("waiting".to_owned()),
    }
}

/// Whether a build takes an orphan away, or out of the lock.
fn is_deleted(orphan: &Orphan, options: &super::args::Options) -> bool {
    match orphan.edited {
        None => true,
        // Of a rule that lost all its items it is told once that this needs a yes.
        Some(edited) => !edited && !options.keep_orphans,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, DataChange, ModifyKind};

    #[test]
    fn events_that_change_nothing() {
        let matters = |kind: EventKind, path: &str| {
            matters(&notify::Event::new(kind).add_path(Path::new("/root").join(path)), Path::new("/root"))
        };
        let write = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for path in ["a.md", "docs/new", "Genfile.lock", ".github/x", "docs/.genmake-notes"] {
            assert!(matters(write, path), "{path}");
            assert!(!matters(EventKind::Access(AccessKind::Any), path), "{path}");
        }
        for path in [".genmake/state", ".genmake", ".git/index", "sub/.git/HEAD", "docs/.genmake-0123.tmp"] {
            assert!(!matters(write, path), "{path}");
        }
        assert!(matters(EventKind::Remove(notify::event::RemoveKind::Any), "a.md"));
    }
}
