//! `--resume`: goes on with the run that was cut short last, as it was asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::args::Options;
use super::{Context, Exit, build};
use crate::error::{Code, Error, Errors};
use crate::event::Event;
use crate::graph::Target;
use crate::plan::{Judged, Verdict};
use crate::project::{Location, Planned};
use crate::store::{FOLDER, Unfinished};

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let nothing =
        || Error::new(Code::Usage, "there is nothing to resume").hint("no run that asks models was cut short here");
    let unfinished = Unfinished::read(&location.root.join(FOLDER)).ok_or_else(nothing)?;
    let options = &context.options;
    if !names.is_empty() || is_other(options) {
        let error = Error::new(Code::Usage, "`--resume` goes with the targets of the run that was cut short");
        return Err(error
            .hint("leave out the targets, `-B`, `-W`, `--frozen`, `--since` and `--files`, or `--resume`")
            .into());
    }
    let Unfinished { no_batch, force, keep_going, .. } = unfinished;
    let options = Options {
        resume: false,
        provider: options.provider.clone().or(unfinished.provider.clone()),
        no_batch: options.no_batch || no_batch,
        force: options.force || force,
        keep_going: options.keep_going || keep_going,
        ..options.clone()
    };
    let (jobs, env, cancel) = (context.jobs.clone(), context.env.clone(), context.cancel.clone());
    let context = Context { options, jobs, env, cancel };
    let target = |(text, path): &(String, Option<String>)| Target { text: text.clone(), path: path.clone() };
    let targets: Vec<Target> = unfinished.targets.iter().map(target).collect();
    build::run_targets(&context, &location, &targets, Some(&unfinished))
}

/// Whether a run is asked for otherwise than it could be gone on with: what was done already would be done again.
fn is_other(options: &Options) -> bool {
    options.always_make
        || options.frozen
        || !options.what_if.is_empty()
        || options.since.is_some()
        || !options.files.is_empty()
}

/// Notes a run that is about to ask models, perhaps as what is left of an `unfinished` one; whether it was noted.
pub(super) fn note(
    context: &Context,
    location: &Location,
    targets: &[Target],
    planned: &Planned,
    unfinished: Option<&Unfinished>,
) -> Result<bool, Error> {
    let options = &context.options;
    if planned.plan.batches.is_empty() || is_other(options) {
        return Ok(false);
    }
    let unfinished = Unfinished {
        began: unfinished.map_or_else(|| now().as_secs(), |unfinished| unfinished.began),
        tasks: open(planned).max(unfinished.map_or(0, |unfinished| unfinished.tasks)),
        targets: targets.iter().map(|target| (target.text.clone(), target.path.clone())).collect(),
        provider: options.provider.clone(),
        no_batch: options.no_batch,
        force: options.force,
        keep_going: options.keep_going,
    };
    unfinished.note(&location.root.join(FOLDER)).map(|()| true)
}

/// Forgets the run that was cut short, once one of the same targets, or of everything, has come to its end.
pub(super) fn forget(location: &Location, targets: &[Target]) -> Result<(), Error> {
    let folder = location.root.join(FOLDER);
    let is_same = |unfinished: &Unfinished| {
        unfinished.targets.len() == targets.len()
            && unfinished
                .targets
                .iter()
                .zip(targets)
                .all(|((text, path), target)| *text == target.text && *path == target.path)
    };
    match Unfinished::read(&folder) {
        Some(unfinished) if targets.is_empty() || is_same(&unfinished) => Unfinished::forget(&folder),
        _ => Ok(()),
    }
}

/// What is gone on with, as far as it has come.
pub(super) fn resumed(unfinished: &Unfinished, planned: &Planned) -> Event {
    let judged = planned.plan.tasks.iter().flatten().flatten();
    let is_kept = |judged: &&Judged| judged.is_replied || matches!(judged.verdict, Verdict::Restorable(..));
    Event::Resumed {
        targets: unfinished.targets.iter().map(|(text, _)| text.clone()).collect(),
        ago: Duration::from_secs(now().as_secs().saturating_sub(unfinished.began)),
        tasks: unfinished.tasks,
        left: open(planned),
        kept: judged.filter(is_kept).count(),
    }
}

/// How many tasks there are to do.
pub(super) fn open(planned: &Planned) -> usize {
    let is_open = |judged: &Result<Judged, Error>| !matches!(judged, Ok(judged) if judged.verdict == Verdict::Fresh);
    planned.plan.tasks.iter().flatten().filter(|judged| is_open(judged)).count()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
