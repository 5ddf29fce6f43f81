//! Two texts held against each other, and three merged into one; the only module that names those libraries.
//!
//! Text in, text out. Knows nothing of files, outputs and who wrote what.

use std::borrow::Cow;

#[cfg(feature = "run")]
use diffy::{ConflictStyle, IncompleteHunkStyle, MergeOptions};

/// What stands at the lines that git leaves around a conflict.
const MARKERS: [&str; 3] = ["<<<<<<<", "=======", ">>>>>>>"];

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Both changes are in it.
    Clean(Vec<u8>),
    /// Both changed the same lines: they stand between git's markers.
    Conflict(Vec<u8>),
}

/// Merges the changes that lead from `base` to `edited` and from `base` to `generated`; `None` where one of them is no text.
///
/// Line ends are those of `edited` where each text is of one kind: else every line would be a conflict.
#[cfg(feature = "run")]
pub fn merge(base: &[u8], edited: &[u8], generated: &[u8]) -> Option<Merged> {
    let (base, edited, generated) = (text(base)?, text(edited)?, text(generated)?);
    let ends = line_ends(edited);
    let [base, generated] = [base, generated].map(|other| with_line_ends(other, ends));
    let mut options = MergeOptions::new();
    options.set_conflict_style(ConflictStyle::Merge).set_incomplete_hunk_style(IncompleteHunkStyle::Git);
    Some(match options.merge(&base, edited, &generated) {
        Ok(merged) => Merged::Clean(merged.into_bytes()),
        Err(conflict) => Merged::Conflict(named(&conflict, ends).into_bytes()),
    })
}

/// Merges nothing: without the feature `run` nobody can ask for it.
#[cfg(not(feature = "run"))]
pub fn merge(_: &[u8], _: &[u8], _: &[u8]) -> Option<Merged> {
    None
}

/// Whether git's markers of a conflict stand in a text, in their order.
pub fn is_conflicted(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let mut wanted = MARKERS.iter().peekable();
    for line in text.lines() {
        let is_next =
            |marker: &&&str| line.strip_prefix(**marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        if wanted.next_if(is_next).is_some() && wanted.peek().is_none() {
            return true;
        }
    }
    false
}

/// Whether bytes are a text, as a merge takes it: UTF-8 without NUL.
pub fn is_text(bytes: &[u8]) -> bool {
    text(bytes).is_some()
}

/// What leads from one text to another, as `diff -u` and git have it, without the lines that name files; `None` where one of them
/// is no text. Empty if they are the same.
#[cfg(feature = "cli")]
pub fn unified(before: &[u8], after: &[u8]) -> Option<String> {
    let (before, after) = (text(before)?, text(after)?);
    Some(similar::TextDiff::from_lines(before, after).unified_diff().to_string())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// How all lines of a text end; `None` where they end differently, or there is one line only.
fn line_ends(text: &str) -> Option<&'static str> {
    let all = text.matches('\n').count();
    match text.matches("\r\n").count() {
        _ if all == 0 => None,
        0 => Some("\n"),
        both if both == all => Some("\r\n"),
        _ => None,
    }
}

fn with_line_ends<'a>(text: &'a str, ends: Option<&'static str>) -> Cow<'a, str> {
    match (line_ends(text), ends) {
        (Some("\n"), Some("\r\n")) => text.replace('\n', "\r\n").into(),
        (Some("\r\n"), Some("\n")) => text.replace("\r\n", "\n").into(),
        _ => text.into(),
    }
}

/// The markers with the names of the sides, and with the text's own line ends.
fn named(conflict: &str, ends: Option<&'static str>) -> String {
    let named = |line: &str| match line.strip_suffix('\n') {
        Some("<<<<<<< ours") => Some("<<<<<<< edited"),
        Some("=======") => Some("======="),
        Some(">>>>>>> theirs") => Some(">>>>>>> generated"),
        _ => None,
    };
    let line =
        |line: &str| named(line).map_or_else(|| line.to_owned(), |name| format!("{name}{}", ends.unwrap_or("\n")));
    conflict.split_inclusive('\n').map(line).collect()
}

#[cfg(feature = "cli")]
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: &str = "one\ntwo\nthree\nfour\nfive\n";

    fn merged(base: &str, edited: &str, generated: &str) -> Result<String, String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match merge(base.as_bytes(), edited.as_bytes(), generated.as_bytes()).unwrap() {
            Merged::Clean(bytes) => Ok(text(bytes)),
            Merged::Conflict(bytes) => Err(text(bytes)),
        }
    }

    #[test]
    fn changes_that_do_not_touch_are_both_there() {
        let edited = BASE.replace("one", "ONE");
        let generated = BASE.replace("five", "FIVE");
        assert_eq!(merged(BASE, &edited, &generated), Ok("ONE\ntwo\nthree\nfour\nFIVE\n".to_owned()));
        // Once more with what came of it: nothing is left to do.
        let once = merged(BASE, &edited, &generated).unwrap();
        assert_eq!(merged(BASE, &once, &generated), Ok(once));
    }

    #[test]
    fn the_same_lines_stand_between_markers() {
        let conflict = merged(BASE, &BASE.replace("three", "mine"), &BASE.replace("three", "theirs")).unwrap_err();
        let expected = "one\ntwo\n<<<<<<< edited\nmine\n=======\ntheirs\n>>>>>>> generated\nfour\nfive\n";
        assert_eq!(conflict, expected);
        assert!(is_conflicted(conflict.as_bytes()));
    }

    #[test]
    fn markers_stand_on_lines_of_their_own_where_the_last_line_has_no_end() {
        assert_eq!(
            merged("a\nb", "a\nmine", "a\ntheirs"),
            Err("a\n<<<<<<< edited\nmine\n=======\ntheirs\n>>>>>>> generated\n".into())
        );
    }

    #[test]
    fn an_editor_that_writes_other_line_ends_makes_no_conflict() {
        let windows = |text: &str| text.replace('\n', "\r\n");
        let (edited, generated) = (BASE.replace("one", "ONE"), BASE.replace("five", "FIVE"));
        let both = "ONE\ntwo\nthree\nfour\nFIVE\n";
        assert_eq!(merged(BASE, &windows(&edited), &generated), Ok(windows(both)));
        assert_eq!(merged(&windows(BASE), &edited, &windows(&generated)), Ok(both.to_owned()));
        let conflict = merged(BASE, &windows(&BASE.replace("one", "x")), &BASE.replace("one", "y")).unwrap_err();
        assert!(
            conflict.starts_with("<<<<<<< edited\r\nx\r\n=======\r\ny\r\n>>>>>>> generated\r\ntwo\r\n"),
            "{conflict:?}"
        );
    }

    #[test]
    fn what_is_no_text_is_not_merged_and_not_compared() {
        assert_eq!(merge(b"a\0", b"b", b"c"), None);
        assert_eq!(merge(b"a", b"\xff", b"c"), None);
        assert_eq!(unified(b"a", b"b\0"), None);
    }

    #[test]
    fn only_markers_in_their_order_are_a_conflict() {
        assert!(!is_conflicted(b"Heading\n=======\n\ntext\n"));
        assert!(!is_conflicted(b">>>>>>> \n=======\n<<<<<<< \n"));
        assert!(!is_conflicted(b"<<<<<<<< a\n=======\n>>>>>>> b\n"));
        assert!(is_conflicted(b"x\r\n<<<<<<< a\r\n||||||| b\r\n=======\r\n>>>>>>> b\r\n"));
    }

    #[test]
    fn a_difference_is_as_git_shows_it() {
        let diff =
            unified(BASE.as_bytes(), BASE.replace("three\n", "3\n").replace("five\n", "five").as_bytes()).unwrap();
        let expected = "@@ -1,5 +1,5 @@\n one\n two\n-three\n+3\n four\n-five\n+five\n\\ No newline at end of file\n";
        assert_eq!(diff, expected);
        assert_eq!(unified(b"same\n", b"same\n"), Some(String::new()));
    }

    proptest! {
        /// Where one side changed nothing, the other's text is the result; and what both did is done once.
        #[test]
        fn one_sided_changes_are_taken(base in "([a-d]\n){0,8}", other in "([a-d]\n){0,8}") {
            prop_assert_eq!(merged(&base, &other, &base), Ok(other.clone()));
            prop_assert_eq!(merged(&base, &base, &other), Ok(other.clone()));
            prop_assert_eq!(merged(&base, &other, &other), Ok(other));
        }

        /// No line that a person added is lost, whatever is generated.
        #[test]
        fn nothing_of_a_person_is_lost(
            base in proptest::collection::vec("[a-d]", 0..8), at in 0usize..8, generated in "([a-d]\n){0,8}",
        ) {
            let mut edited = base.clone();
            edited.insert(at.min(base.len()), "MINE".to_owned());
            let [base, edited] = [base, edited].map(|lines| lines.iter().map(|line| format!("{line}\n")).collect::<String>());
            let all = match merged(&base, &edited, &generated) { Ok(text) | Err(text) => text };
            prop_assert!(all.lines().any(|line| line == "MINE"));
        }
    }
}
