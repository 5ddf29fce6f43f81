//! The make that called: what it was told holds here, too, and its jobs are shared.

use super::args::{Command, Options};
use super::listening;
use super::makeflags::MakeFlags;
use crate::jobs::Jobs;

/// The options, and how many jobs there may be. What stands on the command line goes before what make was told.
pub(super) fn heeded(
    options: Options,
    command: Option<&Command>,
    env: &dyn Fn(&str) -> Option<String>,
) -> (Options, Jobs) {
    let make = MakeFlags::read(env);
    let is_build = matches!(command, None | Some(Command::Build(_)));
    let has_own_answer = command.is_some_and(Command::has_own_answer);
    let options = Options {
        // Whatever is not asked whether it is up to date is not to be done either.
        dry_run: options.dry_run || make.dry_run || (make.question && has_own_answer),
        question: options.question || (make.question && is_build),
        keep_going: options.keep_going || make.keep_going,
        silent: options.silent || make.silent,
        always_make: options.always_make || (make.always_make && is_build),
        ..options
    };
    let notice = |what: &str| {
        if is_build && !options.silent {
            listening::notice(&options, what);
        }
    };
    let jobs = match (options.jobs, &make.auth) {
        (Some(own), None) => own.into(),
        (Some(own), Some(_)) => {
            notice(&format!("`-j {own}` is said here: what make has to give is left aside"));
            own.into()
        }
        (None, None) => make.jobs.unwrap_or(0).into(),
        (None, Some(auth)) => Jobs::of_make(make.jobs.unwrap_or(0), auth).unwrap_or_else(|_| {
            notice("make's job server is not open to genmake, so there is one job at a time; a `+` before the command opens it");
            1.into()
        }),
    };
    (options, jobs)
}
