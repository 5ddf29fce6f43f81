//! The lines below those of a run, on a terminal: drawn anew a few times a second, and out of the way of what is printed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::columns;
use super::progress::{Live, Phase};
use crate::event::Event;

/// How often it is drawn.
const TICK: Duration = Duration::from_millis(200);

/// The status of a run, at the foot of the terminal.
pub(super) struct Status {
    bar: ProgressBar,
    live: Arc<Mutex<Live>>,
}

impl Status {
    pub fn new() -> Status {
        let live = Arc::new(Mutex::new(Live::new(Instant::now())));
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let shown = Arc::clone(&live);
        let write = move |_: &ProgressState, line: &mut dyn std::fmt::Write| {
            // Beside the last column, so that no terminal breaks the line.
            let columns = columns::of_stderr().unwrap_or(80).saturating_sub(1);
            let lines = shown.lock().unwrap_or_else(PoisonError::into_inner).lines(Instant::now(), columns);
            let _ = line.write_str(&lines.join("\n"));
        };
        let style = ProgressStyle::with_template("{status}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style.with_key("status", write));
        Status { bar, live }
    }

    /// What genmake is at from now on.
    pub fn phase(&self, phase: Phase) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).phase = phase;
        self.bar.enable_steady_tick(TICK);
    }

    pub fn note(&self, event: &Event) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).note(event, Instant::now());
    }

    /// Prints above it.
    pub fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Shows nothing until the next phase.
    pub fn pause(&self) {
        self.bar.disable_steady_tick();
        self.bar.suspend(|| {});
    }

    /// What takes it off the terminal for good, from any thread.
    pub fn clearing(&self) -> impl FnOnce() + Send + 'static {
        let bar = self.bar.clone();
        move || bar.finish_and_clear()
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
