//! A rendered body into the messages of a rule's request.

use super::{Message, Role};
use crate::expr::{Mark, Piece, pieces};

/// Something that is no text, in a rule's prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// Where it is.
    pub url: String,
}

/// Splits a rendered body by who speaks. What stands before the first role is the user's; empty messages are left out, and
/// neighbours of one role are joined. A rule has no history and no framework that fills in sections: they are nothing.
///
/// # Errors
/// The first thing that is no text.
pub fn messages(rendered: &str) -> Result<Vec<Message>, Media> {
    let mut messages: Vec<Message> = Vec::new();
    let mut role = Role::User;
    for piece in pieces(rendered) {
        let text = match piece {
            Piece::Text(text) => text.trim(),
            Piece::Mark(Mark::Role { name, .. }) => {
                role = match name.as_str() {
                    "system" => Role::System,
                    "model" => Role::Model,
                    _ => Role::User,
                };
                continue;
            }
            Piece::Mark(Mark::History | Mark::Section(_)) => continue,
            Piece::Mark(Mark::Media { url, .. }) => return Err(Media { url }),
        };
        match messages.last_mut() {
            _ if text.is_empty() => {}
            Some(last) if last.role == role => {
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => messages.push(Message { role, text: text.to_owned() }),
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Template;
    use serde_json::json;

    fn said(body: &str) -> Vec<(Role, String)> {
        let rendered = Template::prompt(body, &[]).unwrap().render(&json!({"u": "http://x"})).unwrap();
        messages(&rendered).unwrap().into_iter().map(|m| (m.role, m.text)).collect()
    }

    #[test]
    fn roles_split_the_text() {
        let body = "{{role \"system\"}}\nBe brief.\n{{role \"user\" purpose=\"task\"}}\n Hi \n{{role \"model\"}}Yes?{{role \"user\"}}";
        assert_eq!(
            said(body),
            [(Role::System, "Be brief.".into()), (Role::User, "Hi".into()), (Role::Model, "Yes?".into())]
        );
        assert_eq!(said("just text\n"), [(Role::User, "just text".into())]);
        assert_eq!(said(" \n"), []);
    }

    #[test]
    fn history_and_sections_are_nothing_and_media_is_refused() {
        assert_eq!(said("a {{history}} b\n{{section \"s\"}} c"), [(Role::User, "a\nb\nc".into())]);
        let rendered = Template::prompt("{{media url=u}}", &[]).unwrap().render(&json!({"u": "http://x"})).unwrap();
        assert_eq!(messages(&rendered), Err(Media { url: "http://x".into() }));
    }
}
