//! `report`: what the last run did, as it was kept; and what a run writes about itself.

use std::path::Path;

use serde_json::json;

use super::args::{Format, LogFormat, Options};
use super::listening::say;
use super::{Context, Exit};
use crate::error::{Code, Error, Errors};
use crate::project::Location;
use crate::provider::tell;
use crate::report::{Report, Summary};
use crate::store::{FOLDER, kept_runs, put};
use crate::telemetry::{self, Log, Otlp};
use crate::ui;

pub(super) fn run(context: &Context, html: Option<&Path>) -> Result<Exit, Errors> {
    let location = context.location()?;
    let Some(report) = kept(&location).next() else {
        let error = Error::new(Code::NoReport, "no run is kept here that did something");
        return Err(error.hint("`genmake` keeps a report of each, in `.genmake/runs`").into());
    };
    match html {
        Some(path) => put(path, page(&location, &report)?.as_bytes())?,
        None if context.options.format == Format::Json => ui::out(&report.to_json()),
        None => ui::out(&ui::sanitize(&report.to_text(ui::columns::of_stdout()))),
    }
    Ok(Exit(0))
}

/// Writes what `--report`, `--metrics` and `--trace` ask for. Paths are relative to where one stands, not to the root.
pub(super) fn write(context: &Context, location: &Location, summary: &Summary) -> Result<(), Error> {
    let otlp = if context.options.offline || context.options.frozen { None } else { otlp(context) };
    let Options { report: of_report, metrics: of_metrics, trace: of_trace, .. } = &context.options;
    if of_report.is_none() && of_metrics.is_none() && of_trace.is_none() && otlp.is_none() {
        return Ok(());
    }
    let report = summary.report();
    if let Some(path) = of_report {
        let is_page = path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("html"));
        let text = if is_page { page(location, &report)? } else { report.to_json() };
        put(path, text.as_bytes())?;
    }
    if let Some(path) = of_metrics {
        put(path, telemetry::metrics(&report)?.as_bytes())?;
    }
    if let Some(path) = of_trace {
        put(path, telemetry::trace(&report).as_bytes())?;
    }
    if let Some(otlp) = otlp {
        export(context, location, &otlp, &report);
    }
    Ok(())
}

/// Where spans go; what is wrong about that is said, and fails nothing.
fn otlp(context: &Context) -> Option<Otlp> {
    Otlp::of(&*context.env).unwrap_or_else(|why| {
        warn(context, &why);
        None
    })
}

/// Sends a run's spans. Where that fails it is said, and nothing else.
fn export(context: &Context, location: &Location, otlp: &Otlp, report: &Report) {
    let seed = format!("{} {}", location.root.display(), std::process::id());
    for body in otlp.bodies(report, &seed) {
        if let Err(why) = tell(&otlp.address, &otlp.headers, &body, otlp.timeout, &*context.env) {
            return warn(context, &format!("the run's spans were not sent: {why}"));
        }
    }
}

fn warn(context: &Context, what: &str) {
    match context.options.log_format {
        LogFormat::Json => say(&Log::default().line("warning", json!({"what": what}))),
        LogFormat::Text if context.options.silent => {}
        LogFormat::Text => say(&format!("  warning  {what}")),
    }
}

/// A report as a page, held against the run before it.
fn page(location: &Location, report: &Report) -> Result<String, Error> {
    // In this order dates are as text, too.
    let before = kept(location).find(|kept| kept.began < report.began);
    let name = location.root.file_name().unwrap_or_default().to_string_lossy();
    report.to_html(&name, before.as_ref())
}

/// The reports of the last runs, the latest first.
fn kept(location: &Location) -> impl Iterator<Item = Report> + use<> {
    kept_runs(&location.root.join(FOLDER)).filter_map(|text| Report::parse(&text))
}
