//! Comments and attributes that stand before a definition, and whether they belong to it.

use std::ops::Range;

/// Comments and attributes that stand before what comes next.
#[derive(Default)]
pub(super) struct Marks {
    /// Where each is, and whether it is a comment.
    list: Vec<(Range<usize>, bool)>,
    /// The end of the code before them, once there was some.
    pub code_end: Option<usize>,
}

impl Marks {
    /// Notes one; `comment` says whether it is a comment.
    pub fn add(&mut self, text: &str, range: Range<usize>, comment: bool) {
        // A comment behind code on the same line is that code's.
        if comment && self.list.is_empty() && self.code_end.is_some_and(|end| breaks(text, end, range.start) == 0) {
            return;
        }
        if self.is_detached(text, range.start) {
            self.list.clear();
        }
        self.list.push((range, comment));
    }

    /// Goes on without those that there are: they belong to nothing.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// The marks of what starts at `start`: none if a blank line is between.
    pub fn take(&mut self, text: &str, start: usize) -> Vec<(Range<usize>, bool)> {
        if self.is_detached(text, start) {
            self.list.clear();
        }
        std::mem::take(&mut self.list)
    }

    fn is_detached(&self, text: &str, start: usize) -> bool {
        self.list.last().is_some_and(|(range, comment)| *comment && breaks(text, range.end, start) > 1)
    }
}

/// The line breaks between two places, with those that a comment's own bytes end in.
fn breaks(text: &str, end: usize, start: usize) -> usize {
    let end = text[..end].trim_end().len();
    text.get(end..start).map_or(0, |between| between.matches('\n').count())
}
