//! `submit` and `collect`: requests through providers' batch APIs, a round for each level of the graph.

use std::time::Duration;

use super::args::{Collect, Submit};
use super::{Context, Exit, spending, targets};
use crate::engine::{Asking, Options, Patience};
use crate::error::{Code, Error, Errors};
use crate::event::{Event, Status};
use crate::project::{Location, Project};
use crate::report::Summary;
use crate::ui::{Display, Progress};

/// Hands in what is needed; with `--wait`, goes on until nothing is.
pub(super) fn run(context: &Context, args: &Submit) -> Result<Exit, Errors> {
    let location = context.location()?;
    let Some(time) = args.wait else { return Ok(submit(context, &location, &args.targets)?.1) };
    loop {
        // What was handed in before comes first.
        let collect = Collect { targets: args.targets.clone(), wait: Some(time), retry: false, cancel: false };
        let (summary, exit) = submit(context, &location, &args.targets)?;
        let is_under_way = summary.count(Status::Submitted) + summary.count(Status::Skipped) > 0;
        if exit.0 != 0 || !is_under_way {
            return Ok(exit);
        }
        let exit = collect_as(context, &location, &collect)?;
        if exit.0 != 0 || context.cancel.is_cancelled() {
            return Ok(exit);
        }
    }
}

fn submit(context: &Context, location: &Location, names: &[String]) -> Result<(Summary, Exit), Errors> {
    if context.options.frozen {
        let error = Error::new(Code::Usage, "`--frozen` asks nobody, and `submit` does");
        return Err(error.hint("without `submit`, it takes the results that the lock names").into());
    }
    let targets = targets(names, location)?;
    let mut display = display(context);
    let project = open(context, location, &mut display)?;
    let options = Options { asking: Asking::Later, ..context.run_options()? };
    project.find_rounds(&options)?;
    let planned = context.assume(project, location)?.plan_as(&targets, context.wish(), context.options.jobs)?;
    spending::confirm(context, &planned)?;
    let summary = planned.run(&options, &mut |event| display.show(&event))?;
    end(context, display, &summary)?;
    let exit = Exit(summary.exit());
    Ok((summary, exit))
}

/// Fetches what was submitted, and puts it in its place.
pub(super) fn collect(context: &Context, args: &Collect) -> Result<Exit, Errors> {
    collect_as(context, &context.location()?, args)
}

fn collect_as(context: &Context, location: &Location, args: &Collect) -> Result<Exit, Errors> {
    let targets = targets(&args.targets, location)?;
    let mut display = display(context);
    let project = open(context, location, &mut display)?;
    let mut summary = Summary::default();
    let patience = match args.wait {
        _ if args.cancel => Patience::Cancel,
        Some(time) => Patience::Every(time.max(Duration::from_millis(1))),
        None => Patience::None,
    };
    let verbose = context.options.verbose;
    let mut tell = |event: Event| {
        summary.note(&event);
        // What each request of a round came to is nothing that happens now.
        if verbose || !matches!(event, Event::Requested { .. } | Event::Answered { .. } | Event::RequestFailed { .. }) {
            display.show(&event);
        }
    };
    let fetched = project.fetch(&context.run_options()?, patience, &mut tell)?;
    let pending = fetched.pending;
    let options = Options { asking: fetched.asking(args.retry), ..context.run_options()? };
    let planned = context.with_provider(project)?.plan_as(&targets, context.wish(), context.options.jobs)?;
    let summary = planned.run_after(summary, &options, &mut |event| display.show(&event))?;
    end(context, display, &summary)?;
    if pending > 0 && !args.cancel {
        let error = Error::new(Code::Submitted, "what was submitted has not all come back");
        return Err(error.hint("run `genmake collect` again later, or with `--wait`").into());
    }
    Ok(Exit(summary.exit()))
}

fn display(context: &Context) -> Display {
    let progress = if context.options.silent { Progress::None } else { context.options.progress };
    let is_ci = (context.env)("CI").is_some() || (context.env)("TERM").as_deref() == Some("dumb");
    Display::new(progress, context.options.verbose, is_ci)
}

fn open(context: &Context, location: &Location, display: &mut Display) -> Result<Project, Errors> {
    let project = Project::open_to_run(location, &context.env, || display.show(&Event::WaitsForOther))?;
    if project.state_damaged {
        display.show(&Event::StateDamaged);
    }
    Ok(project)
}

fn end(context: &Context, display: Display, summary: &Summary) -> Result<(), Error> {
    display.end(summary);
    match &context.options.report {
        Some(path) => crate::store::put(path, summary.to_json().as_bytes()),
        None => Ok(()),
    }
}
