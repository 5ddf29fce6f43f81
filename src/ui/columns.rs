//! Text in columns of a terminal: how wide it is there, cut to a width, and as a table. Wide characters take two columns.

use terminal_size::{Width, terminal_size_of};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::sanitize;

/// What stands for what was cut off.
const MORE: &str = "…";

/// How many columns a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// How many columns standard output has; none where it is no terminal.
pub fn of_stdout() -> Option<usize> {
    terminal_size_of(std::io::stdout()).map(|(Width(columns), _)| usize::from(columns))
}

/// How many columns standard error has; none where it is no terminal.
pub fn of_stderr() -> Option<usize> {
    terminal_size_of(std::io::stderr()).map(|(Width(columns), _)| usize::from(columns))
}

/// The text, or as much of its beginning as there is room for.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let end = fits(text.char_indices(), columns.saturating_sub(1));
    let end = end.map_or(0, |(at, c)| at + c.len_utf8());
    format!("{}{MORE}", &text[..end])
}

/// The text, or as much of its end as there is room for: of a path that is what tells it from others.
pub fn cut_front(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let begin = fits(text.char_indices().rev(), columns.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    format!("{MORE}{}", &text[begin..])
}

/// The last of these characters for which there is room.
fn fits(chars: impl Iterator<Item = (usize, char)>, columns: usize) -> Option<(usize, char)> {
    let mut taken = 0;
    let has_room = |(_, c): &(usize, char)| {
        taken += c.width().unwrap_or(0);
        taken <= columns
    };
    chars.take_while(has_room).last()
}

/// The text with space behind it, up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The text with space before it, up to so many columns.
fn pad_front(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// What a column of a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Words, cut at their end where there is no room.
    Words,
    /// Paths and names, cut at their front.
    Names,
    /// Numbers, which stand at the right.
    Numbers,
    /// Words at the end of the line that go on below where there is no room.
    Rest,
}

/// The most that names are padded to where nothing is cut.
const LONG: usize = 60;

/// The least that a column is cut to.
const LEAST: usize = 10;

/// Rows as lines with columns below each other, each as wide as its widest. Where the lines would be wider than `columns`, the widest
/// that hold names or words give way. What is in the rows is made harmless for a terminal.
pub fn table(kinds: &[Column], rows: &[Vec<String>], columns: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| sanitize(cell)).collect()).collect();
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0);
    let mut widths: Vec<usize> = (0..kinds.len()).map(widest).collect();
    if columns.is_none() {
        // A few long names are no reason to push all else far to the right.
        widths.iter_mut().zip(kinds).filter(|(_, kind)| **kind == Column::Names).for_each(|(w, _)| *w = (*w).min(LONG));
    }
    let is_rest = |at: usize| kinds[at] == Column::Rest;
    if let Some(columns) = columns {
        loop {
            // A word at the end needs room to be read.
            let taken: usize =
                widths.iter().enumerate().map(|(at, w)| if is_rest(at) { (*w).min(2 * LEAST) } else { *w } + 2).sum();
            let over = (taken.saturating_sub(2)).saturating_sub(columns);
            let can = |at: &usize| !is_rest(*at) && kinds[*at] != Column::Numbers && widths[*at] > LEAST;
            let Some(at) = (0..kinds.len()).filter(can).max_by_key(|at| widths[*at]).filter(|_| over > 0) else {
                break;
            };
            widths[at] = widths[at].saturating_sub(over).max(LEAST);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, kind)) in row.iter().zip(kinds).enumerate() {
            let before = width(&line);
            line += &match kind {
                Column::Names if columns.is_none() => pad(cell, widths[at]),
                Column::Words => pad(&cut(cell, widths[at]), widths[at]),
                Column::Names => pad(&cut_front(cell, widths[at]), widths[at]),
                Column::Numbers => pad_front(cell, widths[at]),
                Column::Rest => wrapped(cell, before, columns),
            };
            line += if at + 1 == row.len() { "" } else { "  " };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Words in lines, each of which begins in the same column but the first, which is there already.
fn wrapped(text: &str, from: usize, columns: Option<usize>) -> String {
    let Some(room) = columns.map(|columns| columns.saturating_sub(from).max(LEAST)) else { return text.to_owned() };
    let (mut lines, mut taken) = (String::new(), 0);
    for word in text.split(' ') {
        // A path that is wider than the room would be broken at the edge of the screen.
        let word = cut_front(word, room);
        let wide = width(&word);
        if taken > 0 && taken + 1 + wide > room {
            lines += &format!("\n{}", " ".repeat(from));
            taken = 0;
        } else if taken > 0 {
            lines.push(' ');
            taken += 1;
        }
        lines += &word;
        taken += wide;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_has_the_width_and_wide_characters_count_twice() {
        assert_eq!((cut("abcdef", 4), cut_front("abcdef", 4)), ("abc…".to_owned(), "…def".to_owned()));
        assert_eq!((cut("日本語", 6), cut("日本語", 5)), ("日本語".to_owned(), "日本…".to_owned()));
        assert_eq!((cut("日本語", 4), cut_front("日本語", 4)), ("日…".to_owned(), "…語".to_owned()));
        assert_eq!((cut("abc", 0), cut("", 0)), ("…".to_owned(), String::new()));
    }

    #[test]
    fn columns_stand_below_each_other_and_fit() {
        let rows = [["日本", "docs/very/long/path.md", "12", "why it is so"], ["a", "b", "3456", "new"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        let kinds = [Column::Words, Column::Names, Column::Numbers, Column::Rest];
        assert_eq!(
            table(&kinds, &rows, None),
            "日本  docs/very/long/path.md    12  why it is so\na     b                       3456  new\n"
        );
        assert_eq!(
            table(&kinds, &rows, Some(34)),
            "日本  …g/path.md    12  why it is\n                        so\na     b           3456  new\n"
        );
    }
}
