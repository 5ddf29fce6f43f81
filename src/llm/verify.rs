//! Checks on one result, and what to say to the model when one fails.

use crate::manifest::Check;
use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::selector::parse_data;

/// A check that a result did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The check's name.
    pub check: &'static str,
    /// The output.
    pub path: RelPath,
    /// What is wrong, with its line and column in the output.
    pub message: String,
}

impl Complaint {
    /// The rest of the conversation in which the model is asked to do better.
    pub fn to_messages(&self, reply: &str) -> [Message; 2] {
        let text = format!(
            "That does not pass the check `{}` for `{}`: {}. Answer again with the whole corrected content and nothing else.",
            self.check, self.path, self.message
        );
        [Message { role: Role::Model, text: reply.to_owned() }, Message { role: Role::User, text }]
    }
}

/// Checks one output's text.
///
/// # Errors
/// The first check that it does not pass.
pub fn verify(path: &RelPath, text: &str, checks: &[Check]) -> Result<(), Complaint> {
    for check in checks.iter().filter(|check| matches!(check, Check::Json | Check::Yaml | Check::Toml)) {
        let ext = check.name();
        // Data is parsed by extension; the check names it, whatever the output is called.
        let parsed = RelPath::new(&format!("output.{ext}")).map(|name| parse_data(&name, text));
        if let Ok(Err(error)) = parsed {
            let at = error.place.as_ref().map(|place| place.source.line_column(place.span.start));
            let what = error.message.split_once(": ").map_or(error.message.as_str(), |(_, what)| what);
            let message = match at {
                Some((line, column)) => format!("not {}, line {line}, column {column}: {what}", ext.to_uppercase()),
                None => format!("not {}: {what}", ext.to_uppercase()),
            };
            return Err(Complaint { check: ext, path: path.clone(), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_says_where() {
        let path = RelPath::new("a.txt").unwrap();
        let check = |text, check| verify(&path, text, &[check]).map_err(|c| c.message);
        assert_eq!(check("{\"a\": 1}", Check::Json), Ok(()));
        assert!(check("{\n\"a\": }", Check::Json).unwrap_err().starts_with("not JSON, line 2, column 6: "));
        assert_eq!(check("a: 1", Check::Yaml), Ok(()));
        assert!(check("a: [", Check::Yaml).unwrap_err().starts_with("not YAML, line 1, column 4: "));
        assert_eq!(check("a = 1", Check::Toml), Ok(()));
        assert!(check("a = ", Check::Toml).unwrap_err().starts_with("not TOML, line 1"));
    }
}
