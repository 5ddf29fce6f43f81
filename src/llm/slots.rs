//! A batch's answer while it comes: each result as soon as it is whole.
//!
//! It only finds where values begin and end, in one pass and in whatever pieces the text comes; each value by itself is read by
//! the JSON library. A value counts once what follows it shows that it has ended, so that a text with a quote that is not
//! escaped is not taken for its beginning; of an answer that ends right after it, too. Nothing is repaired.

use serde_json::Value;

/// The values in `{"files": {…}}`, or in an object of slots, by slot number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    at: At,
    /// In the object of slots, and not in the one around it.
    is_inside: bool,
    /// The slot that the value in hand is for; none if nobody wants it.
    wanted: Option<usize>,
    /// The key or value in hand, as it stands there.
    part: Vec<u8>,
    backticks: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Nothing but blanks has come.
    #[default]
    Start,
    /// In words before a fence.
    Words,
    /// In the first line of a fence.
    Fence,
    /// In the fence, before the object.
    Fenced,
    /// Where a key or the end of the object belongs.
    Key,
    InKey(Text),
    Colon(Name),
    Value(Name),
    InText(Text),
    InNested {
        depth: usize,
        text: Option<Text>,
    },
    /// In a number or a word.
    InWord,
    /// Behind a value, or behind the object of slots.
    After,
    /// At the end, or where it is no such JSON.
    Done,
}

/// Where in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Plain,
    /// Behind a backslash.
    Escaped,
}

/// What a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Files,
    Other,
}

impl Slots {
    /// Takes text in; `found` gets the number and the value of each slot that is whole by then.
    pub fn feed(&mut self, text: &str, found: &mut dyn FnMut(usize, Value)) {
        for byte in text.bytes() {
            if self.at == At::Done {
                return;
            }
            self.step(byte, found);
        }
    }

    /// No more comes.
    pub fn end(&mut self, found: &mut dyn FnMut(usize, Value)) {
        if self.at == At::After {
            self.whole(found);
        }
        self.at = At::Done;
    }

    fn step(&mut self, byte: u8, found: &mut dyn FnMut(usize, Value)) {
        let is_blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at = match (self.at, byte) {
            (at @ (At::Start | At::Fenced | At::Key | At::Colon(_) | At::Value(_) | At::After), _) if is_blank => at,
            (At::Start | At::Fenced, b'{') => At::Key,
            (At::Start, b'[') => At::Done,
            (At::Start | At::Words, b'`') => {
                self.backticks += 1;
                if self.backticks == 3 { At::Fence } else { At::Words }
            }
            (At::Start | At::Words, _) => {
                self.backticks = 0;
                At::Words
            }
            (At::Fence, b'\n') => At::Fenced,
            (At::Fence, _) => At::Fence,

            (At::Key, b'"') => {
                self.part = vec![byte];
                At::InKey(Text::Plain)
            }
            (At::Key, b'}') => self.closed(),
            (At::InKey(text), _) => {
                self.part.push(byte);
                text.next(byte).map_or_else(|| At::Colon(self.key()), At::InKey)
            }
            (At::Colon(name), b':') => At::Value(name),

            (At::Value(Name::Files), b'{') => {
                self.is_inside = true;
                At::Key
            }
            (At::Value(Name::Files), _) => At::Done,
            (At::Value(Name::Other), _) => {
                self.part.clear();
                self.push(byte);
                match byte {
                    b'"' => At::InText(Text::Plain),
                    b'{' | b'[' => At::InNested { depth: 1, text: None },
                    b'}' | b']' | b',' | b':' => At::Done,
                    _ => At::InWord,
                }
            }
            (At::InText(text), _) => {
                self.push(byte);
                text.next(byte).map_or(At::After, At::InText)
            }
            (At::InNested { depth, text }, _) => {
                self.push(byte);
                match (text, byte) {
                    (Some(text), _) => At::InNested { depth, text: text.next(byte) },
                    (None, b'"') => At::InNested { depth, text: Some(Text::Plain) },
                    (None, b'{' | b'[') => At::InNested { depth: depth + 1, text },
                    (None, b'}' | b']') if depth == 1 => At::After,
                    (None, b'}' | b']') => At::InNested { depth: depth - 1, text },
                    _ => At::InNested { depth, text },
                }
            }
            (At::InWord, b',' | b'}') => {
                self.at = At::After;
                return self.step(byte, found);
            }
            (At::InWord, _) if is_blank => At::After,
            (At::InWord, _) => {
                self.push(byte);
                At::InWord
            }
            (At::After, b',') => {
                self.whole(found);
                At::Key
            }
            (At::After, b'}') => {
                self.whole(found);
                self.closed()
            }
            _ => At::Done,
        };
    }

    /// A part of a value; one that nobody wants is not kept.
    fn push(&mut self, byte: u8) {
        if self.wanted.is_some() {
            self.part.push(byte);
        }
    }

    /// What the key in hand names.
    fn key(&mut self) -> Name {
        let key: String = serde_json::from_slice(&self.part).unwrap_or_default();
        self.part.clear();
        let number = key.strip_prefix('f').filter(|number| !number.starts_with('0'));
        self.wanted = number.and_then(|number| number.parse::<usize>().ok()).map(|number| number - 1);
        if key == "files" && !self.is_inside { Name::Files } else { Name::Other }
    }

    /// The value in hand is whole.
    fn whole(&mut self, found: &mut dyn FnMut(usize, Value)) {
        if let Some(slot) = self.wanted.take()
            && let Ok(value) = serde_json::from_slice(&self.part)
        {
            found(slot, value);
        }
        self.part.clear();
    }

    /// An object is closed.
    fn closed(&mut self) -> At {
        if std::mem::take(&mut self.is_inside) { At::After } else { At::Done }
    }
}

impl Text {
    /// Where in the string the next byte leads; `None` at its end.
    fn next(self, byte: u8) -> Option<Text> {
        match (self, byte) {
            (Text::Escaped, _) => Some(Text::Plain),
            (Text::Plain, b'\\') => Some(Text::Escaped),
            (Text::Plain, b'"') => None,
            (Text::Plain, _) => Some(Text::Plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// What is found in a text that comes in pieces of so many characters.
    fn found(text: &str, size: usize) -> Vec<(usize, Value)> {
        let mut all = Vec::new();
        let mut note = |slot, value| all.push((slot, value));
        let mut slots = Slots::default();
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(size) {
            slots.feed(&piece.iter().collect::<String>(), &mut note);
        }
        slots.end(&mut note);
        all
    }

    #[track_caller]
    fn finds(text: &str, expected: &[(usize, Value)]) {
        for size in [1, 2, 7, usize::MAX] {
            assert_eq!(found(text, size), expected, "{text}, {size} at once");
        }
    }

    #[test]
    fn values_are_found_where_they_end() {
        let two = [(0, json!("A")), (1, json!("B"))];
        finds(r#"{"files": {"f1": "A", "f2": "B"}}"#, &two);
        finds(r#" { "f1" : "A" , "f2" : "B" } and more"#, &two);
        finds("Here:\n`x`\n```json\n{\"files\":{\"f1\":\"A\",\"f2\":\"B\"}}\n```\n", &two);
        finds(
            r#"{"note": {"f1": "no"}, "files": {"x": [1], "f1": "A", "f0": 1, "f2": "B"}, "f1": "late"}"#,
            &[(0, json!("A")), (1, json!("B")), (0, json!("late"))],
        );
        finds(
            r#"{"f1": {"a": "}\"{", "b": [1, [2]]}, "f2": 12.5 , "f3": null}"#,
            &[(0, json!({"a": "}\"{", "b": [1, [2]]})), (1, json!(12.5)), (2, json!(null))],
        );
        finds(
            r#"{"f1": "a\\", "f2": "\u00e9 漢 \"", "f\u0033": "x"}"#,
            &[(0, json!("a\\")), (1, json!("é 漢 \"")), (2, json!("x"))],
        );
        finds(r#"{"files": {}}"#, &[]);
        finds("", &[]);
    }

    #[test]
    fn what_is_not_whole_does_not_count() {
        finds(r#"{"files": {"f1": "A", "f2": "B"#, &[(0, json!("A"))]);
        finds(r#"{"files": {"f1": "A""#, &[(0, json!("A"))]);
        finds(r#"{"files": {"f1": 12"#, &[]);
        finds(r#"{"files": {"f1": "say "hi" again", "f2": "B"}}"#, &[]);
        finds("{\"files\": {\"f1\": \"raw\nline\", \"f2\": \"B\"}}", &[(1, json!("B"))]);
        finds(r#"{"files": {"f1": A, "f2": "B"}}"#, &[(1, json!("B"))]);
        finds(r#"{"files": [{"f1": "A"}]}"#, &[]);
        finds(r#"["f1", "A"]"#, &[]);
        finds(r#"{"f1": "A" "f2": "B"}"#, &[]);
        finds(r#"{"f1", "f2": "B"}"#, &[]);
    }

    proptest! {
        /// Of any object of slots, each value is found, once, and as it is, however it comes in pieces.
        #[test]
        fn what_is_written_is_found(
            texts in proptest::collection::vec("[a-z\"\\\\{}\\[\\],: \n\té漢`]{0,12}", 0..6),
            is_wrapped: bool,
            size in 1usize..9,
        ) {
            let value = |i: usize, text: &String| match i % 3 {
                0 => json!(text),
                1 => json!({"a": text, "b": [text]}),
                _ => json!([text.len(), text]),
            };
            let expected: Vec<(usize, Value)> = texts.iter().enumerate().map(|(i, text)| (i, value(i, text))).collect();
            let map: serde_json::Map<String, Value> =
                expected.iter().map(|(i, value)| (format!("f{}", i + 1), value.clone())).collect();
            let text = if is_wrapped { json!({"files": map}).to_string() } else { Value::Object(map).to_string() };
            prop_assert_eq!(found(&text, size), expected);
        }

        /// Whatever comes, in whatever pieces, the same is found.
        #[test]
        fn pieces_make_no_difference(text in "([{}\",:]|\"f1\"|\"files\"|: ?\\{|``?`?|\n|a|\\\\){0,24}", size in 1usize..5) {
            prop_assert_eq!(found(&text, size), found(&text, usize::MAX));
        }
    }
}
