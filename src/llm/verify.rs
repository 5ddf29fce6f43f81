//! What a result must be like, and what to say to the model when it is not.

use std::sync::Arc;

use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::schema::Schema;
use crate::selector::{is_data, parse_data, read_data_back};
use crate::syntax;

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
    let checked = read_data_back(path, text).and_then(|value| schema.check(&value));
    checked.map_err(|message| Complaint { demand: Demand::OutputSchema, path: path.clone(), message })
}

/// A result as the model said it: data as JSON, whatever its output is written in.
pub fn as_said(path: &RelPath, text: &str) -> String {
    read_data_back(path, text).map_or_else(|_| text.to_owned(), |value| format!("{value:#}"))
}

/// A check that only reads the result.
pub enum Test {
    /// It parses as the data format of this extension, whatever the output is called.
    Data(&'static str),
    /// It parses as what the output's extension says.
    Syntax,
    /// It follows this schema.
    Schema(Arc<Schema>),
}

/// Checks one output's text.
///
/// # Errors
/// The first check that it does not pass.
pub fn verify(path: &RelPath, text: &str, tests: &[Test]) -> Result<(), Complaint> {
    for test in tests {
        let (name, passed) = match test {
            Test::Data(ext) => (*ext, is_data_of(ext, text)),
            Test::Syntax => ("syntax", is_code(path, text)),
            Test::Schema(schema) => ("schema", read_data_back(path, text).and_then(|value| schema.check(&value))),
        };
        passed.map_err(|message| Complaint { demand: Demand::Check(name), path: path.clone(), message })?;
    }
    Ok(())
}

fn is_data_of(ext: &str, text: &str) -> Result<(), String> {
    let Ok(name) = RelPath::new(&format!("output.{ext}")) else { return Ok(()) };
    parse_data(&name, text).map(drop).map_err(|error| {
        let at = error.place.as_ref().map(|place| place.source.line_column(place.span.start));
        let what = error.message.split_once(": ").map_or(error.message.as_str(), |(_, what)| what);
        match at {
            Some((line, column)) => format!("not {}, line {line}, column {column}: {what}", ext.to_uppercase()),
            None => format!("not {}: {what}", ext.to_uppercase()),
        }
    })
}

/// Data by its own parser, code by its grammar.
fn is_code(path: &RelPath, text: &str) -> Result<(), String> {
    match path.ext() {
        ext if is_data(path) => is_data_of(ext, text),
        ext => syntax::check(ext, text).map_err(|error| error.to_string()),
    }
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
        let check = |text, check| verify(&path, text, &[Test::Data(check)]).map_err(|c| c.message);
        assert_eq!(check("{\"a\": 1}", "json"), Ok(()));
        assert!(check("{\n\"a\": }", "json").unwrap_err().starts_with("not JSON, line 2, column 6: "));
        assert_eq!(check("a: 1", "yaml"), Ok(()));
        assert!(check("a: [", "yaml").unwrap_err().starts_with("not YAML, line 1, column 4: "));
        assert_eq!(check("a = 1", "toml"), Ok(()));
        assert!(check("a = ", "toml").unwrap_err().starts_with("not TOML, line 1"));
    }
}
