//! The lines below those of a run, on a terminal: drawn anew a few times a second, and out of the way of what is printed.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use super::columns;
use super::progress::{Live, Phase};
use crate::event::Event;

/// How often it is drawn.
const TICK: Duration = Duration::from_millis(200);

/// What a terminal writes at the cursor when somebody presses Ctrl-C: `^C`. Beside that the last column stays free, so that no terminal
/// breaks the line.
const ECHO: usize = 3;

/// The status of a run, at the foot of the terminal.
pub(super) struct Status {
    bar: ProgressBar,
    live: Arc<Mutex<Live>>,
}

impl Status {
    pub fn new() -> Status {
        let live = Arc::new(Mutex::new(Live::new(Instant::now())));
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term_like(Box::new(Terminal::default())));
        let shown = Arc::clone(&live);
        let write = move |_: &ProgressState, line: &mut dyn std::fmt::Write| {
            let columns = usize::from(width()).saturating_sub(ECHO);
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

/// Standard error, with the cursor left where a line ends. indicatif fills the last line up with blanks, and what the terminal writes
/// when somebody presses Ctrl-C would then stand in the next one, which nobody clears.
#[derive(Debug, Default)]
struct Terminal {
    text: Mutex<Text>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Text {
    text: String,
    /// Whether what comes next stands in another line.
    is_full: bool,
}

impl Terminal {
    fn add(&self, text: &str) -> io::Result<()> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).text += text;
        Ok(())
    }

    fn go(&self, lines: usize, direction: char) -> io::Result<()> {
        if lines == 0 { Ok(()) } else { self.add(&format!("\x1b[{lines}{direction}")) }
    }
}

fn width() -> u16 {
    columns::of_stderr().and_then(|columns| u16::try_from(columns).ok()).unwrap_or(80)
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        width()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.add(&format!("{line}\r\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut to_write = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let is_filler = !text.is_empty() && text.bytes().all(|byte| byte == b' ');
        if is_filler {
            // It would wipe out what stood there before.
            to_write.text += "\x1b[K";
        } else {
            if to_write.is_full {
                to_write.text += "\r\n";
            }
            to_write.text += text;
        }
        to_write.is_full = is_filler;
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let Text { text, .. } = std::mem::take(&mut *self.text.lock().unwrap_or_else(PoisonError::into_inner));
        let mut stderr = io::stderr().lock();
        stderr.write_all(text.as_bytes())?;
        stderr.flush()
    }
}
