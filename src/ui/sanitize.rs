//! Control characters in what comes from outside, made visible, so that no file name and no reply can drive a terminal.

/// The text with every control character but line break and tab replaced.
pub fn sanitize(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// As [`sanitize`], and every character keeps its length in bytes, so that places in the text stay where they are.
pub(super) fn sanitize_in_place(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() && c != '\n' && c != '\t' => out.extend(std::iter::repeat_n('?', c.len_utf8())),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_drives_the_terminal() {
        let text = "a\u{1b}[31mred\u{9b}x\r\n\tb";
        assert_eq!(super::sanitize(text), "a\u{fffd}[31mred\u{fffd}x\u{fffd}\n\tb");
        assert_eq!(super::sanitize_in_place(text).len(), text.len());
        assert!(!super::sanitize_in_place(text).contains(['\u{1b}', '\u{9b}', '\r']));
    }
}
