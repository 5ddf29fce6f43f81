//! Who listens to a run: the display for people, or in its place the log for machines.

use serde_json::{Value, json};

use super::Context;
use super::args::{LogFormat, Options};
use super::verdicts::rows;
use crate::event::Event;
use crate::project::Planned;
use crate::report::Summary;
use crate::telemetry::Log;
use crate::ui::{self, Display, Phase};

/// A listener.
pub(super) enum Listener {
    Display(Box<Display>),
    Log(Log),
}

impl Listener {
    pub fn new(context: &Context, display: impl FnOnce() -> Display) -> Listener {
        match context.options.log_format {
            LogFormat::Text => Listener::Display(Box::new(display())),
            LogFormat::Json => Listener::Log(Log::default()),
        }
    }

    /// What there is to do is known: the log says of each task that is not up to date why.
    pub fn planned(&self, planned: &Planned) {
        let Listener::Log(log) = self else { return };
        for row in rows(planned).iter().filter(|row| row.status != "fresh") {
            let task = json!({"task": row.outputs.first()});
            let own = row.to_json();
            let own = own.as_object().into_iter().flatten().filter(|(key, _)| *key != "outputs" && *key != "key");
            let all = task.as_object().into_iter().flatten().chain(own);
            let keys = Value::Object(all.map(|(key, value)| (key.clone(), value.clone())).collect());
            say(&log.line("verdict", keys));
        }
    }

    /// As of a display: what the run is at before there is something to tell.
    pub fn phase(&self, phase: Phase) {
        if let Listener::Display(display) = self {
            display.phase(phase);
        }
    }

    /// As of a display: something else is about to be said.
    pub fn pause(&self) {
        if let Listener::Display(display) = self {
            display.pause();
        }
    }

    pub fn show(&mut self, event: &Event) {
        match self {
            Listener::Display(display) => display.show(event),
            Listener::Log(log) => log.event(event).iter().for_each(|line| say(line)),
        }
    }

    pub fn end(self, summary: &Summary) {
        match self {
            Listener::Display(display) => display.end(summary),
            Listener::Log(log) => say(&log.end(summary)),
        }
    }
}

/// Something that a person should know of, and that changes nothing.
pub(super) fn notice(options: &Options, what: &str) {
    match options.log_format {
        LogFormat::Text => say(&format!("   notice  {what}")),
        LogFormat::Json => say(&Log::default().line("notice", json!({"message": what}))),
    }
}

/// What control characters JSON leaves as they are drive no terminal either.
pub(super) fn say(line: &str) {
    ui::say(&ui::sanitize(line));
}
