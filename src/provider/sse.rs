//! Server-sent events: bytes, in whatever pieces they come, into the data of each event. Pure.
//!
//! From the HTML standard: a line ends with LF, CR or both, the data of an event are its `data` lines joined by LF, what begins
//! with a colon is a comment, and an empty line ends an event. One thing is otherwise: the end of a stream ends an event, too,
//! because some servers leave out the last empty line. `id` and `retry` mean nothing here, where no stream is taken up again.

/// The events of one stream.
#[derive(Default)]
pub(super) struct Events {
    /// The line in progress: a piece may end within a character.
    line: Vec<u8>,
    /// The last byte was a CR, so that an LF after it ends no line of its own.
    after_cr: bool,
    is_begun: bool,
    name: String,
    data: Option<String>,
}

impl Events {
    /// Takes bytes in; `event` gets the name and the data of each event that they end.
    pub fn feed(&mut self, mut bytes: &[u8], event: &mut dyn FnMut(&str, &str)) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.line_ended(event);
        }
    }

    /// The stream is over.
    pub fn end(&mut self, event: &mut dyn FnMut(&str, &str)) {
        if !self.line.is_empty() {
            self.line_ended(event);
        }
        self.event_ended(event);
    }

    fn line_ended(&mut self, event: &mut dyn FnMut(&str, &str)) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let is_first = !std::mem::replace(&mut self.is_begun, true);
        let line = if is_first { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            return self.event_ended(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (field, &mut self.data) {
            ("data", Some(data)) => {
                data.push('\n');
                data.push_str(value);
            }
            ("data", none) => *none = Some(value.to_owned()),
            ("event", _) => value.clone_into(&mut self.name),
            _ => {}
        }
    }

    fn event_ended(&mut self, event: &mut dyn FnMut(&str, &str)) {
        let name = std::mem::take(&mut self.name);
        if let Some(data) = self.data.take() {
            event(&name, &data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut note = |name: &str, data: &str| found.push((name.to_owned(), data.to_owned()));
        let mut events = Events::default();
        for piece in pieces {
            events.feed(piece, &mut note);
        }
        events.end(&mut note);
        found
    }

    fn data(text: &str) -> Vec<String> {
        events([text.as_bytes()]).into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn lines_become_events() {
        assert_eq!(data("data: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(data("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n"), ["a", "b", "c"]);
        assert_eq!(data("data: a\ndata:\ndata:  b\n\n"), ["a\n\n b"]);
        assert_eq!(data(": still there\n\n:\ndata: a\nid: 1\nretry: 5\nother\n\n\n\n"), ["a"]);
        assert_eq!(data("\u{feff}data:a\n\n\u{feff}data: no\n\n"), ["a"]);
        assert_eq!(data("data\n\nevent: x\n\ndata: {\"a\": \"b:c\"}\n\n"), ["", "{\"a\": \"b:c\"}"]);
        assert_eq!(data("data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
        assert_eq!(data(""), [""; 0]);
        let named = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        let text = "event: error\ndata: e\n\ndata: d\n\n";
        assert_eq!(events([text.as_bytes()]), [named("error", "e"), named("", "d")]);
    }

    proptest! {
        /// However a stream is cut into pieces, within characters too, its events are the same.
        #[test]
        fn pieces_make_no_difference(
            lines in proptest::collection::vec("(data: ?|event: |:|)[é漢😀a:]{0,4}", 0..12),
            ends in proptest::collection::vec(0usize..3, 12),
            size in 1usize..9,
        ) {
            let text: String =
                lines.iter().zip(ends).map(|(line, end)| format!("{line}{}", ["\n", "\r\n", "\r"][end])).collect();
            prop_assert_eq!(events(text.as_bytes().chunks(size)), events([text.as_bytes()]));
        }
    }
}
