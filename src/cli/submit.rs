//! `submit` and `collect`: requests through providers' batch APIs, a round for each level of the graph.

use std::collections::HashMap;
use std::time::Duration;

use super::args::{Collect, Going, Submit};
use super::listening::Listener;
use super::{Context, Exit, spending, targets};
use crate::engine::{Asking, Fetched, Options, Patience};
use crate::error::{Code, Error, Errors};
use crate::event::Event;
use crate::project::{Location, Project};
use crate::report::Summary;
use crate::store::{FOLDER, Store};

/// Hands in what is needed; with `--wait`, goes on until nothing is.
pub(super) fn run(context: &Context, args: &Submit) -> Result<Exit, Errors> {
    let location = start(context, "submit")?;
    let mut summary = Summary::default();
    let Some(time) = args.wait else { return submit(context, &location, &args.targets, &mut summary) };
    let collect = Collect {
        targets: args.targets.clone(),
        wait: Some(time),
        retry: false,
        cancel: false,
        going: Going { keep_going: false },
    };
    loop {
        let exit = submit(context, &location, &args.targets, &mut summary)?;
        let rounds = Store::new(location.root.join(FOLDER).join("store")).rounds()?;
        let is_under_way = rounds.iter().any(|round| round.lock == location.lock_name());
        if exit.0 != 0 || !is_under_way {
            return Ok(exit);
        }
        let exit = collect_as(context, &location, &collect, &mut summary)?;
        if exit.0 != 0 || context.cancel.is_cancelled() {
            return Ok(exit);
        }
    }
}

fn start(context: &Context, command: &str) -> Result<Location, Error> {
    let options = &context.options;
    let wrong = |what: String, hint: &str| Err(Error::new(Code::Usage, what).hint(hint));
    if options.always_make || !options.what_if.is_empty() {
        let flag = if options.always_make { "-B" } else { "-W" };
        let what = format!("`{flag}` does not go with `{command}`, which is about what is not up to date");
        return wrong(what, &format!("`genmake {flag}` asks anew at once"));
    }
    if options.frozen {
        let what = format!("`--frozen` asks nobody, and `{command}` does");
        return wrong(what, "by itself it takes the results that the lock names");
    }
    context.location()
}

/// Hands in what is needed now, in a summary that goes on with the requests of the one before.
fn submit(context: &Context, location: &Location, names: &[String], summary: &mut Summary) -> Result<Exit, Errors> {
    let targets = targets(names, location)?;
    let mut display = Listener::new(context, || context.display());
    let project = open(context, location, &mut display)?;
    let options = Options { asking: Asking::Later, ..context.run_options()? };
    let before = take(summary, &mut |summary| {
        project.find_rounds(&options, &mut |event| {
            summary.note(&event);
            display.show(&event);
        })
    })?;
    let planned = context.with_provider(project)?.plan_as(&targets, context.wish(), &context.jobs)?;
    spending::confirm(context, &planned)?;
    display.planned(&planned);
    *summary = planned.run_after(before, &options, &mut |event| display.show(&event))?;
    end(context, location, display, summary)
}

/// What a summary says of requests, with what is noted now; the tasks are another run's.
fn take(summary: &mut Summary, note: &mut dyn FnMut(&mut Summary) -> Result<(), Error>) -> Result<Summary, Error> {
    let Summary { begun, llm, exchanges, failures, .. } = std::mem::take(summary);
    let mut next = Summary { begun, llm, exchanges, failures, ..Summary::default() };
    note(&mut next)?;
    Ok(next)
}

/// Fetches what was submitted, and puts it in its place.
pub(super) fn collect(context: &Context, args: &Collect) -> Result<Exit, Errors> {
    let location = start(context, "collect")?;
    collect_as(context, &location, args, &mut Summary::default())
}

fn collect_as(context: &Context, location: &Location, args: &Collect, summary: &mut Summary) -> Result<Exit, Errors> {
    let targets = targets(&args.targets, location)?;
    let mut display = Listener::new(context, || context.display());
    let options = context.run_options()?;
    let patience = match args.wait {
        _ if args.cancel => Patience::Cancel,
        Some(_) => Patience::More,
        None => Patience::None,
    };
    let (mut fetched, mut said) = (Fetched::default(), HashMap::new());
    let (project, before) = loop {
        let project = open(context, location, &mut display)?;
        let mut turn = Fetched::default();
        let before = take(summary, &mut |summary| {
            let mut tell = |event: Event| {
                summary.note(&event);
                if is_worth_saying(&event, &mut said, context.options.verbose) {
                    display.show(&event);
                }
            };
            turn = project.fetch(&options, patience, &mut tell)?;
            Ok(())
        })?;
        fetched = fetched.and(turn);
        match args.wait {
            Some(time) if fetched.pending > 0 && !context.cancel.is_cancelled() => {
                // Others may run meanwhile.
                drop(project);
                *summary = before;
                context.cancel.wait(time.max(Duration::from_millis(1)));
            }
            _ => break (project, before),
        }
    };
    let pending = fetched.pending;
    let options = Options { asking: fetched.asking(args.retry), ..options };
    let planned = context.with_provider(project)?.plan_as(&targets, context.wish(), &context.jobs)?;
    if args.retry {
        spending::confirm(context, &planned)?;
    }
    display.planned(&planned);
    *summary = planned.run_after(before, &options, &mut |event| display.show(&event))?;
    let exit = end(context, location, display, summary)?;
    if pending > 0 && !context.cancel.is_cancelled() {
        let error = Error::new(Code::Submitted, "what was submitted has not all come back");
        return Err(error.hint("run `genmake collect` again later, or with `--wait`").into());
    }
    Ok(exit)
}

/// Whether an event is news. What each request of a round came to is nothing that happens now.
fn is_worth_saying(event: &Event, said: &mut HashMap<String, String>, verbose: bool) -> bool {
    match event {
        Event::Requested { .. } | Event::Answered { .. } | Event::RequestFailed { .. } => verbose,
        Event::Pending { id, done, .. } => {
            let done = format!("{done:?}");
            said.insert(id.clone(), done.clone()) != Some(done)
        }
        Event::Unreached { error } => said.insert(error.message.clone(), String::new()).is_none(),
        _ => true,
    }
}

fn open(context: &Context, location: &Location, display: &mut Listener) -> Result<Project, Errors> {
    let project = Project::open_to_run(location, &context.env, || display.show(&Event::WaitsForOther))?;
    if project.state_damaged {
        display.show(&Event::StateDamaged);
    }
    Ok(project)
}

fn end(context: &Context, location: &Location, display: Listener, summary: &Summary) -> Result<Exit, Errors> {
    display.end(summary);
    super::report::write(context, location, summary)?;
    Ok(Exit(summary.exit()))
}
