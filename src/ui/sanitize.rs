//! What could drive a terminal in what comes from outside, made visible: control characters, and those that turn the direction of a
//! line, so that no file name and no reply passes for another.

/// Characters that change the direction of the text behind them, or of what they enclose, and those that break lines unseen.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether a character is written from right to left: Hebrew, Arabic and their like.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// The text with every control character but line break and tab replaced, and with what turns the direction of a line, too.
pub fn sanitize(text: &str) -> String {
    let visible = |c: char| if (c.is_control() && c != '\n' && c != '\t') || is_hidden(c) { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

/// As [`sanitize`], for a terminal that writes from right to left what is so written: each word of that kind is enclosed, so that it
/// turns nothing around it.
pub(super) fn for_terminal(text: &str) -> String {
    let text = sanitize(text);
    if !text.contains(is_right_to_left) {
        return text;
    }
    let enclosed = |word: &str| match word.contains(is_right_to_left) {
        true => format!("\u{2068}{word}\u{2069}"),
        false => word.to_owned(),
    };
    text.split(' ').map(enclosed).collect::<Vec<_>>().join(" ")
}

/// As [`sanitize`], and every character keeps its length in bytes, so that places in the text stay where they are.
pub(super) fn sanitize_in_place(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if (c.is_control() && c != '\n' && c != '\t') || is_hidden(c) => {
                out.extend(std::iter::repeat_n('?', c.len_utf8()));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        let text = "a\u{1b}[31mred\u{9b}x\r\n\tb";
        assert_eq!(sanitize(text), "a\u{fffd}[31mred\u{fffd}x\u{fffd}\n\tb");
        assert_eq!(sanitize_in_place(text).len(), text.len());
        assert!(!sanitize_in_place(text).contains(['\u{1b}', '\u{9b}', '\r']));
    }

    #[test]
    fn nothing_turns_a_line_around() {
        // Shown as `exe.txt` by what heeds it.
        assert_eq!(sanitize("\u{202e}txt.exe"), "\u{fffd}txt.exe");
        assert!(!sanitize_in_place("a\u{2066}b").contains('\u{2066}'));
        // What is written from right to left is no control: it stays, and stays by itself.
        assert_eq!(sanitize("שלום.md"), "שלום.md");
        assert_eq!(for_terminal("fail  docs/שלום.md: no"), "fail  \u{2068}docs/שלום.md:\u{2069} no");
        assert_eq!(for_terminal("docs/a.md"), "docs/a.md");
    }
}
