//! `build`: brings targets up to date.

use std::collections::HashMap;
use std::time::Instant;

use super::depfile::Depfile;
use super::listening::Listener;
use super::{Context, Exit, resume, spending, targets};
use crate::error::{Code, Error, Errors};
use crate::event::Event;
use crate::graph::Target;
use crate::plan::{Memory, Reason, Verdict};
use crate::project::{Location, Planned, Project};
use crate::provider::is_local;
use crate::report::Summary;
use crate::store::{FOLDER, Glance, Guard, Unfinished};
use crate::ui::{self, Phase};

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    if context.options.resume {
        return resume::run(context, names);
    }
    let location = context.location()?;
    let targets = targets(names, &location)?;
    run_targets(context, &location, &targets, None)
}

/// As [`run`], perhaps to go on with a run that was cut short. Where it comes to none, its report says why.
pub(super) fn run_targets(
    context: &Context,
    location: &Location,
    targets: &[Target],
    unfinished: Option<&Unfinished>,
) -> Result<Exit, Errors> {
    bring_up(context, location, targets, unfinished).inspect_err(|errors| {
        let failures = errors.0.clone();
        // What went wrong is said in any case; this is for who reads only the files.
        let _ = super::report::write(context, location, &Summary { failures, ..Summary::default() });
    })
}

fn bring_up(
    context: &Context,
    location: &Location,
    targets: &[Target],
    unfinished: Option<&Unfinished>,
) -> Result<Exit, Errors> {
    let mut display = Listener::new(context, || context.display());
    display.phase(Phase::Reading);
    let begun = Instant::now();
    let waits = |display: &mut Listener| display.show(&Event::WaitsForOther);
    let project = match context.glance(location, targets.is_empty()) {
        Some(glance) if glance.is_fresh() => {
            display.end(&Summary { untouched: glance.tasks(), took: begun.elapsed(), ..Summary::default() });
            note(glance, location)?;
            resume::forget(location, targets)?;
            return Ok(Exit(0));
        }
        Some(glance) => Project::open_moved(location, &context.env, glance, || waits(&mut display))?,
        None => context.open_to_run(location, targets, || waits(&mut display))?,
    };
    if project.state_damaged {
        display.show(&Event::StateDamaged);
    }
    display.phase(Phase::Judging);
    let planned = context.assume(project, location)?.plan_as(targets, context.wish(), &context.jobs)?;
    display.pause();
    let asks_anew = context.options.always_make || !context.options.what_if.is_empty();
    if asks_anew && !context.options.yes && !context.options.frozen {
        may_spend(&planned, if context.options.always_make { "-B" } else { "-W" })?;
    }
    spending::confirm(context, &planned)?;
    let depfile = Depfile::of(context, location, &planned)?;
    if let Some(unfinished) = unfinished {
        display.show(&resume::resumed(unfinished, &planned));
    }
    let is_noted = resume::note(context, location, targets, &planned, unfinished)?;
    display.planned(&planned);
    let to_do = resume::open(&planned);
    // The report's path is relative to where one stands, not to the root.
    let mut summary = planned.run(&context.run_options()?, &mut |event| display.show(&event))?;
    summary.is_part = context.options.is_narrowed();
    // Who ends a run that has just done all there was to do has nothing to go on with.
    let is_ended = !summary.interrupted || summary.done() >= to_do;
    summary.is_resumable = is_noted && !is_ended;
    if is_ended {
        resume::forget(location, targets)?;
    }
    display.end(&summary);
    super::report::write(context, location, &summary)?;
    if let Some(depfile) = depfile.filter(|_| summary.is_success()) {
        depfile.write()?;
    }
    Ok(Exit(summary.exit()))
}

/// Notes stamps that moved where that is worth a write, and nobody else is about to write.
fn note(glance: Glance, location: &Location) -> Result<(), Error> {
    if !glance.is_worth_noting() {
        return Ok(());
    }
    match Guard::try_take(&location.root.join(FOLDER)) {
        Some(_guard) if glance.still_holds() => glance.note(&HashMap::new(), &[], &Memory::default()).unwrap_or(Ok(())),
        _ => Ok(()),
    }
}

/// `-B` and `-W` ask before they spend; a model on this machine costs nothing.
fn may_spend(planned: &Planned, flag: &str) -> Result<(), Error> {
    let graph = planned.graph();
    // Also what waits for others: how many requests that takes is not known yet, and that it is paid for is.
    let is_paid = |task: &usize| {
        let rule = graph.rule(*task);
        let provider = graph.manifest.provider_of(rule).ok();
        rule.is_asked() && provider.is_some_and(|p| !is_local(p))
    };
    let is_asked = |task: &usize| match planned.plan.tasks[*task].as_ref() {
        Some(Ok(judged)) => match &judged.verdict {
            Verdict::Waiting(_) => true,
            // What `-W` does not concern is asked for as in any build.
            Verdict::Stale(why) if flag == "-W" => {
                judged.asks() > 0 && why.iter().any(|why| matches!(why, Reason::Assumed(_)))
            }
            _ => judged.asks() > 0,
        },
        _ => false,
    };
    let results = (0..graph.tasks.len()).filter(is_asked).filter(is_paid).count();
    if results == 0 {
        return Ok(());
    }
    let what = format!("would ask for {} anew", ui::count(results, "result"));
    let question = format!("{flag} {what}. Go on?");
    match ui::ask(&question) {
        Some(true) => Ok(()),
        Some(false) => Err(Error::new(Code::NeedsYes, "nothing was asked")),
        None => Err(Error::new(Code::NeedsYes, format!("`{flag}` {what}")).hint("say `--yes` if that is meant")),
    }
}
