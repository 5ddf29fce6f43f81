//! Errors as people read them: code, message, place with a caret, what to do next.

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};

use super::sanitize::{sanitize, sanitize_in_place};
use crate::error::Error;

/// An error as the diagnostics library wants it.
struct Shown {
    message: String,
    code: &'static str,
    help: Option<String>,
    source: Option<NamedSource<String>>,
    label: Option<LabeledSpan>,
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
        self.source.as_ref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.label.clone().map(|label| Box::new(std::iter::once(label)) as _)
    }
}

/// The text of an error, ending in a line break. Lines are broken at `width` columns; without one they are not, so that what
/// a program reads can be searched.
pub fn render(error: &Error, colors: bool, width: Option<usize>) -> String {
    let place = error.place.as_ref();
    let shown = Shown {
        message: sanitize(&error.message),
        code: error.code.as_str(),
        help: (!error.hints.is_empty()).then(|| sanitize(&error.hints.join("\n"))),
        source: place
            .map(|place| NamedSource::new(sanitize(&place.source.name), sanitize_in_place(&place.source.text))),
        // An empty span has no caret of its own: point at one character.
        label: place.map(|place| {
            let start = place.span.start.min(place.source.text.len());
            LabeledSpan::new(None, start, place.span.len().max(1).min(place.source.text.len() - start))
        }),
    };
    let theme = if colors { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width.unwrap_or(10_000)).with_context_lines(1);
    let mut text = String::new();
    if handler.render_report(&mut text, &shown).is_err() {
        text = format!("{}: {}\n", shown.code, shown.message);
    }
    text
}
