//! What people see: diagnostics and the display of a run. The only module that prints.

mod closing;
pub mod columns;
mod diagnostics;
mod display;
mod excerpt;
mod progress;
mod sanitize;
mod status;

use std::io::{IsTerminal, Write};

use crate::path::RelPath;

pub use diagnostics::render;
pub use display::{Display, Progress};
pub use progress::Phase;
pub use sanitize::sanitize;

/// Whether colors go to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// Where the stream is a terminal and nothing in the environment speaks against it.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Makes the choice that every stream of this process follows.
    pub fn choose(self) {
        match self {
            Color::Auto => {}
            Color::Always => anstream::ColorChoice::Always.write_global(),
            Color::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}

/// Prints data to standard output. A closed pipe is no error: the reader has seen enough.
pub fn out(text: &str) {
    let _ = anstream::stdout().write_all(text.as_bytes());
}

/// Prints what another program reads, byte by byte.
pub fn out_exactly(bytes: &[u8]) {
    let _ = std::io::stdout().write_all(bytes);
}

/// Prints a difference to standard output, with colors on a terminal. Elsewhere it is what `patch` takes, byte by byte.
pub fn difference(text: &str) {
    use owo_colors::OwoColorize;
    let colors = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    if !colors && !std::io::stdout().is_terminal() {
        return out_exactly(text.as_bytes());
    }
    let colored = |line: &str| match line.as_bytes().first() {
        _ if line.starts_with("--- ") || line.starts_with("+++ ") => line.bold().to_string(),
        Some(b'+') => line.green().to_string(),
        Some(b'-') => line.red().to_string(),
        Some(b'@') => line.cyan().to_string(),
        _ => line.to_owned(),
    };
    out(&sanitize(text).lines().map(|line| colored(line) + "\n").collect::<String>());
}

/// Prints a line for people to standard error.
pub fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints an error.
pub fn complain(error: &crate::error::Error) {
    let colors = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let width = std::io::stderr().is_terminal().then_some(100);
    let _ = anstream::stderr().write_all(render(error, colors, width).as_bytes());
}

/// A number of things in words: `1 request`, `2 requests`.
pub fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// Asks a person; `None` if there is nobody to ask.
pub fn ask(question: &str) -> Option<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let _ = write!(anstream::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Outputs by name; the items of a collection are counted.
fn names(paths: &[RelPath]) -> String {
    let name = |same: &[RelPath]| match same {
        [only] => only.to_string(),
        _ => format!("{} items of {}", same.len(), same[0]),
    };
    paths.chunk_by(|a, b| a == b).map(name).collect::<Vec<_>>().join(", ")
}
