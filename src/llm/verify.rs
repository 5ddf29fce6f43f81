//! What a result must be like, and what to say to the model when it is not.

use super::written;
use crate::manifest::Check;
use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::schema::Schema;
use crate::selector::parse_data;

/// What a result must satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// The check of the rule that has this name.
    Check(&'static str),
    /// The rule's filters.
    Filter,
    /// The prompt's schema of the result.
    OutputSchema,
}

/// A demand that a result did not satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Which demand.
    pub demand: Demand,
    /// The output.
    pub path: RelPath,
    /// What is wrong, with its place in the output.
    pub message: String,
}

impl Demand {
    /// As the end of a sentence whose subject is the result.
    fn is_not_met(&self) -> String {
        match self {
            Demand::Check(name) => format!("does not pass the check `{name}`"),
            Demand::Filter => "does not pass the filter".to_owned(),
            Demand::OutputSchema => "does not fit the output schema".to_owned(),
        }
    }
}

impl Complaint {
    /// The complaint in words, for people.
    pub fn words(&self) -> String {
        format!("`{}` {}: {}", self.path, self.demand.is_not_met(), self.message)
    }

    /// The rest of the conversation in which the model is asked to do better.
    pub fn to_messages(&self, reply: &str) -> [Message; 2] {
        let text = format!(
            "That {} for `{}`: {}. Answer again with the whole corrected content and nothing else.",
            self.demand.is_not_met(),
            self.path,
            self.message
        );
        [Message { role: Role::Model, text: reply.to_owned() }, Message { role: Role::User, text }]
    }
}

/// Judges one output's text by the schema of the result.
///
/// # Errors
/// All that the schema has against it.
pub fn fits(path: &RelPath, text: &str, schema: &Schema) -> Result<(), Complaint> {
    let checked = written::read(path, text).and_then(|value| schema.check(&value));
    checked.map_err(|message| Complaint { demand: Demand::OutputSchema, path: path.clone(), message })
}

/// A result as the model said it: data as JSON, whatever its output is written in.
pub fn as_said(path: &RelPath, text: &str) -> String {
    written::read(path, text).map_or_else(|_| text.to_owned(), |value| format!("{value:#}"))
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
            return Err(Complaint { demand: Demand::Check(ext), path: path.clone(), message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_told_what_is_wrong() {
        let complaint = |demand| Complaint { demand, path: RelPath::new("a.json").unwrap(), message: "why".into() };
        let [said, told] = complaint(Demand::OutputSchema).to_messages("{}");
        assert_eq!((said.role, said.text.as_str()), (Role::Model, "{}"));
        assert!(told.text.starts_with("That does not fit the output schema for `a.json`: why. Answer again"));
        assert_eq!(complaint(Demand::Check("json")).words(), "`a.json` does not pass the check `json`: why");
    }

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
