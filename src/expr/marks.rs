//! What a prompt's helpers leave in the rendered text: who speaks, where the history goes, what is no text.
//!
//! A mark stands between two NULs, a character that no text input may hold; so an input can never speak as another role.

use serde_json::{Map, Value, json};

/// The character around a mark.
pub const MARK: char = '\u{0}';

/// Something in a rendered prompt that is no text.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// From here on somebody else speaks: `{{role "user" purpose="…"}}`.
    Role {
        /// Who.
        name: String,
        /// What the prompt says of the message, by name.
        metadata: Map<String, Value>,
    },
    /// The conversation before goes here.
    History,
    /// Something that a framework fills in goes here.
    Section(String),
    /// A picture or the like.
    Media {
        /// Where it is.
        url: String,
        /// Its type, where the prompt says it.
        content_type: Option<String>,
    },
}

/// A piece of a rendered prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece<'a> {
    /// What is said.
    Text(&'a str),
    /// What is no text.
    Mark(Mark),
}

impl Mark {
    pub(super) fn write(&self) -> String {
        let fields = match self {
            Mark::Role { name, metadata } => json!(["role", name, metadata]),
            Mark::History => json!(["history"]),
            Mark::Section(name) => json!(["section", name]),
            Mark::Media { url, content_type } => json!(["media", url, content_type]),
        };
        format!("{MARK}{fields}{MARK}")
    }

    fn read(text: &str) -> Option<Mark> {
        let fields: Vec<Value> = serde_json::from_str(text).ok()?;
        let text = |at: usize| fields.get(at).and_then(Value::as_str).map(str::to_owned);
        match text(0)?.as_str() {
            "role" => {
                Some(Mark::Role { name: text(1)?, metadata: fields.get(2)?.as_object().cloned().unwrap_or_default() })
            }
            "history" => Some(Mark::History),
            "section" => Some(Mark::Section(text(1)?)),
            "media" => Some(Mark::Media { url: text(1)?, content_type: text(2) }),
            _ => None,
        }
    }
}

/// Splits a rendered prompt at its marks. Empty texts are left out.
pub fn pieces(rendered: &str) -> Vec<Piece<'_>> {
    let parts = rendered.split(MARK).enumerate();
    parts
        .filter_map(|(at, part)| match at % 2 {
            1 => Mark::read(part).map(Piece::Mark),
            _ => (!part.is_empty()).then_some(Piece::Text(part)),
        })
        .collect()
}
