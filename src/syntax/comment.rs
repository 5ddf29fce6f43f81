//! Comments and docstrings as plain text.

/// The text of the comments directly above a definition. Where some of them are written as documentation (`///`, `/**`),
/// only those count.
pub(super) fn doc(comments: &[&str]) -> String {
    let written_as_doc =
        |text: &&&str| (text.starts_with("///") || text.starts_with("/**")) && !text.starts_with("////");
    let docs: Vec<&str> = comments.iter().filter(written_as_doc).copied().collect();
    let chosen = if docs.is_empty() { comments } else { &docs };
    let lines: Vec<String> = chosen.iter().flat_map(|text| plain(text)).collect();
    lines.join("\n").trim().to_owned()
}

/// One comment's lines without its marks.
fn plain(comment: &str) -> Vec<String> {
    if let Some(block) = comment.strip_prefix("/*") {
        let block = block.strip_suffix("*/").unwrap_or(block).trim_start_matches(['*', '!']);
        let line = |line: &str| {
            let line = line.trim();
            let line = line.strip_prefix('*').unwrap_or(line);
            line.strip_prefix(' ').unwrap_or(line).to_owned()
        };
        return block.lines().map(line).collect();
    }
    let text = comment.trim_start_matches(['/', '#', '!']);
    vec![text.strip_prefix(' ').unwrap_or(text).trim_end().to_owned()]
}

/// A docstring without the indentation that its lines share. The first line has none.
pub(super) fn dedent(text: &str) -> String {
    let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let shared = text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(|line| indent(&line)).min();
    let lines = text.lines().enumerate().map(|(i, line)| match i {
        0 => line.trim_start(),
        _ => line.get(shared.unwrap_or(0)..).unwrap_or(""),
    });
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_and_text_stays() {
        assert_eq!(doc(&["// Adds.", "//", "// All of them."]), "Adds.\n\nAll of them.");
        assert_eq!(doc(&["/**\n   * Adds.\n   *  - two\n   */"]), "Adds.\n - two");
        assert_eq!(doc(&["/** One. */", "// eslint-disable-next-line"]), "One.");
        assert_eq!(doc(&["// ----", "/// Doc."]), "Doc.");
        assert_eq!(doc(&["# note"]), "note");
        assert_eq!(doc(&["/**/"]), "");
        assert_eq!(doc(&[]), "");
    }

    #[test]
    fn a_docstring_loses_what_its_lines_share() {
        assert_eq!(dedent("Adds.\n\n    Args:\n        a: one\n    "), "Adds.\n\nArgs:\n    a: one");
        assert_eq!(dedent("\n  é\n ü\n"), "é\nü".replace('é', " é").trim());
        assert_eq!(dedent(""), "");
    }
}
