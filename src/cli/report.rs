//! `report`: what the last run did, as it was kept; and `--report` of a run.

use super::args::Format;
use super::{Context, Exit};
use crate::error::{Code, Error, Errors};
use crate::project::Location;
use crate::report::{Report, Summary};
use crate::store::{FOLDER, kept_runs, put};
use crate::ui;

pub(super) fn run(context: &Context) -> Result<Exit, Errors> {
    let location = context.location()?;
    let Some(report) = kept(&location).next() else {
        let error = Error::new(Code::NoReport, "no run is kept here that did something");
        return Err(error.hint("`genmake` keeps a report of each, in `.genmake/runs`").into());
    };
    match context.options.format {
        Format::Json => ui::out(&report.to_json()),
        _ => ui::out(&ui::sanitize(&report.to_text())),
    }
    Ok(Exit(0))
}

/// Writes what `--report` asks for.
pub(super) fn write(context: &Context, summary: &Summary) -> Result<(), Error> {
    let Some(path) = &context.options.report else { return Ok(()) };
    put(path, summary.to_json().as_bytes())
}

/// The reports of the last runs, the latest first.
fn kept(location: &Location) -> impl Iterator<Item = Report> + use<> {
    kept_runs(&location.root.join(FOLDER)).filter_map(|text| Report::parse(&text))
}
