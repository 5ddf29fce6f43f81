//! Errors as people read them: code, message, place with a caret, what to do next.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};

use super::excerpt::Excerpt;
use super::sanitize::sanitize;
use crate::error::Error;

/// An error as the diagnostics library wants it.
struct Shown {
    message: String,
    code: &'static str,
    help: Option<String>,
    excerpt: Option<Excerpt>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.excerpt.as_ref().map(|excerpt| excerpt as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(None, self.excerpt.as_ref()?.label.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// The text of an error, ending in a line break. Lines are broken at `width` columns; without one they are not, so that what
/// a program reads can be searched.
pub fn render(error: &Error, colors: bool, width: Option<usize>) -> String {
    let shown = Shown {
        message: short(&error.message),
        code: error.code.as_str(),
        help: (!error.hints.is_empty()).then(|| short(&error.hints.join("\n"))),
        excerpt: error.place.as_ref().map(Excerpt::new),
    };
    let theme = if colors { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width.unwrap_or(10_000)).with_context_lines(1);
    let mut text = String::new();
    if handler.render_report(&mut text, &shown).is_err() {
        text = format!("{}: {}\n", shown.code, shown.message);
    }
    text
}

/// What a message quotes may be as long as it likes; a person reads the beginning, and what is said of it at the end.
fn short(text: &str) -> String {
    if text.len() <= 5_000 {
        return sanitize(text);
    }
    let (head, tail) = (text.floor_char_boundary(2_000), text.ceil_char_boundary(text.len() - 2_000));
    format!("{} … {}", sanitize(&text[..head]), sanitize(&text[tail..]))
}
