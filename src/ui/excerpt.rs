//! The lines around a place, cut to what a person reads: a text may be megabytes on one line.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

use super::sanitize::{sanitize, sanitize_in_place};
use crate::error::Place;
use crate::secrets;

/// The most characters of a line that are shown.
const WIDTH: usize = 160;
/// How many of them stand before the place, where the line is cut there.
const BEFORE: usize = 60;

/// Lines with what looks like a credential in them blotted out: an error about something else may stand beside one. All else stays
/// where it is.
fn without_secrets(lines: &str) -> String {
    let found = secrets::find(lines).unwrap_or_default();
    let spans: Vec<Range<usize>> = found.into_iter().map(|found| found.span).collect();
    if spans.is_empty() { lines.to_owned() } else { secrets::blotted(lines, &spans) }
}

/// The line of a place with the lines above and below it.
pub(super) struct Excerpt {
    name: String,
    lines: String,
    /// The number of its first line, from 0.
    first: usize,
    /// Line and column of the place, from 0.
    at: (usize, usize),
    /// The place, as bytes of `lines`.
    pub label: Range<usize>,
}

impl Excerpt {
    pub fn new(place: &Place) -> Excerpt {
        let text = &place.source.text;
        let at = text.floor_char_boundary(place.span.start);
        let (line, column) = place.source.line_column(at);
        let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        let mut lines = String::new();
        if begin > 0 {
            let above = &text[..begin - 1];
            push(&mut lines, &above[above.rfind('\n').map_or(0, |end| end + 1)..]);
        }
        let first = line - 1 - usize::from(begin > 0);
        let from = match column - 1 > WIDTH - BEFORE && text[begin..end].chars().nth(WIDTH).is_some() {
            true => text[begin..at].char_indices().rev().nth(BEFORE - 1).map_or(begin, |(back, _)| begin + back),
            false => begin,
        };
        if from > begin {
            lines.push('…');
        }
        let start = lines.len() + (at - from);
        push(&mut lines, &text[from..end]);
        // What a place spans beyond the part that is shown is not pointed at; an empty one has a caret, too.
        let length = place.span.end.min(end).saturating_sub(at).min((lines.len() - 1).saturating_sub(start));
        let length = length.max(1).min(lines.len() - start);
        if end < text.len() {
            let below = &text[end + 1..];
            if !below.is_empty() {
                push(&mut lines, &below[..below.find('\n').unwrap_or(below.len())]);
            }
        }
        if text.is_empty() {
            lines.clear();
        }
        let label = start.min(lines.len())..(start + length).min(lines.len());
        Excerpt {
            name: sanitize(&place.source.name),
            lines: sanitize_in_place(&without_secrets(&lines)),
            first,
            at: (line - 1, column - 1),
            label,
        }
    }
}

/// Adds a line, cut where it is too long.
fn push(lines: &mut String, line: &str) {
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.char_indices().nth(WIDTH) {
        Some((cut, _)) => {
            lines.push_str(&line[..cut]);
            lines.push('…');
        }
        None => lines.push_str(line),
    }
    lines.push('\n');
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        _: &SourceSpan,
        before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Without lines of context, what is asked for is where the place is.
        let (line, column) = if before == 0 { self.at } else { (self.first, 0) };
        let span = SourceSpan::from((0, self.lines.len()));
        let contents = MietteSpanContents::new_named(
            self.name.clone(),
            self.lines.as_bytes(),
            span,
            line,
            column,
            self.lines.len(),
        );
        Ok(Box::new(contents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Source;

    fn excerpt(text: &str, span: Range<usize>) -> (String, String) {
        let excerpt = Excerpt::new(&Place { source: Source::new("f", text), span });
        let label = excerpt.lines[excerpt.label.clone()].to_owned();
        (excerpt.lines, label)
    }

    #[test]
    fn three_lines_and_what_is_pointed_at() {
        let text = "one\r\ntwo\r\nthree\r\nfour";
        assert_eq!(excerpt(text, 5..8), ("one\ntwo\nthree\n".into(), "two".into()));
        assert_eq!(excerpt(text, 17..21), ("three\nfour\n".into(), "four".into()));
        assert_eq!(excerpt("one\n", 0..9), ("one\n".into(), "one".into()));
        assert_eq!(excerpt("", 0..0), (String::new(), String::new()));
        assert_eq!(excerpt("a: [\n", 5..5).1, "\n");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}\n{}é!{}\n{}", "a".repeat(999), "b".repeat(5000), "c".repeat(5000), "d".repeat(999));
        let at = text.find('é').unwrap();
        let (lines, label) = excerpt(&text, at..at + 2);
        assert_eq!(label, "é");
        let widths: Vec<usize> = lines.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [WIDTH + 1, WIDTH + 2, WIDTH + 1]);
        assert_eq!(excerpt(&text, at..text.len()).1.chars().count(), WIDTH - BEFORE + 1);
    }
}
