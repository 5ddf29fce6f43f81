//! Errors as data: what is wrong, where, what to do next. Prints nothing.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text that errors can point into.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What people call it: a path relative to the root.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// A source that can be shared by many places.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into() })
    }

    /// As [`line_column`].
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        line_column(&self.text, offset)
    }

    /// As [`offset`].
    pub fn offset(&self, line: usize, column: usize) -> usize {
        offset(&self.text, line, column)
    }
}

/// Line and column of a byte offset, both counted from 1, the column in characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The byte offset of a line and column, both counted from 1, the column in characters.
pub fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[start.min(text.len())..];
    start + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at)
}

/// A stretch of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The text pointed into.
    pub source: Arc<Source>,
    /// The bytes pointed at.
    pub span: Range<usize>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What kind of thing went wrong: stable names, documented, one test each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }
        impl Code {
            /// All of them, in the order of a run.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The stable name, `genmake::cycle`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => concat!("genmake::", $text),)* }
            }
        }
    };
}

codes! {
    /// The command line makes no sense.
    Usage = "usage",
    /// No Genfile here or above.
    NoGenfile = "no_genfile",
    /// The text is no YAML, or too large, or nests too deep.
    Yaml = "yaml",
    /// A key that the language does not have.
    UnknownKey = "unknown_key",
    /// A key of the language that this version does not build yet.
    Unsupported = "unsupported",
    /// A key that must be there is not.
    MissingKey = "missing_key",
    /// A value of another type than the key takes.
    WrongType = "wrong_type",
    /// A value of the right type that the key does not take.
    BadValue = "bad_value",
    /// The same key twice in one map.
    DuplicateKey = "duplicate_key",
    /// Two keys that exclude each other, or a recipe too many.
    Conflict = "conflict",
    /// An expression that is not Handlebars.
    BadExpression = "bad_expression",
    /// A variable, helper or partial that is not there.
    Undefined = "undefined",
    /// `rule:NAME` names no rule.
    UnknownRule = "unknown_rule",
    /// A provider's name that `providers` does not have.
    UnknownProvider = "unknown_provider",
    /// Tasks that wait for each other.
    Cycle = "cycle",
    /// Two tasks make the same output, or one output lies in another.
    DuplicateOutput = "duplicate_output",
    /// An input that is not there and that no rule makes.
    MissingInput = "missing_input",
    /// A path that leads out of the root, or where nothing may be written.
    BadPath = "bad_path",
    /// A glob that does not compile.
    BadGlob = "bad_glob",
    /// A selector that does not parse, or that finds nothing.
    BadSelector = "bad_selector",
    /// A context that is about an entity which the specification does not have.
    UnknownEntity = "unknown_entity",
    /// A foreach over the content of a file that another rule makes.
    DynamicForeach = "dynamic_foreach",
    /// A file that cannot be read, or is no text, or is no data.
    Unreadable = "unreadable",
    /// A file that cannot be written.
    Unwritable = "unwritable",
    /// The lock is not a lock.
    BadLock = "bad_lock",
    /// A TARGET that names nothing.
    UnknownTarget = "unknown_target",
    /// A person changed an output.
    Edited = "edited",
    /// A person's edit and what is generated change the same lines.
    Unmerged = "unmerged",
    /// `--frozen`, and the result is not on disk or in the store as the lock names it.
    Frozen = "frozen",
    /// `--offline`, and a request would be needed.
    Offline = "offline",
    /// A prompt that its model has no room for.
    TooLong = "too_long",
    /// What a provider's batch API was sent is to bring the result: it is not asked for again.
    Submitted = "submitted",
    /// What a provider's batch API was sent brought no good result for a task.
    NoResult = "no_result",
    /// No run is kept that there would be a report of.
    NoReport = "no_report",
    /// What is noted of what a provider's batch API was sent is damaged, or its provider is not declared any more.
    BadRound = "bad_round",
    /// A request that what the run may spend has no room for.
    Budget = "budget",
    /// A provider refused, failed, or could not be reached.
    Provider = "provider",
    /// The provider's answer was cut at the limit of output tokens.
    Truncated = "truncated",
    /// The provider's answer was no answer: nothing, or not in the form asked for.
    Malformed = "malformed",
    /// The model declined to answer.
    Refused = "refused",
    /// A result that a check did not pass.
    CheckFailed = "check_failed",
    /// A command of the Genfile failed.
    CommandFailed = "command_failed",
    /// A command succeeded and did not make an output that its rule declares.
    NotMade = "not_made",
    /// `start:` did not bring the provider up.
    StartFailed = "start_failed",
    /// The variable that `key_env` names is not set, or the key may not go to that host.
    Key = "key",
    /// What would be sent to a model holds a secret, or is a file that does.
    Secret = "secret",
    /// Something that needs a person's yes.
    NeedsYes = "needs_yes",
    /// An input changed while it was read.
    Moved = "moved",
    /// A mistake of genmake's own.
    Bug = "bug",
}

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind of thing.
    pub code: Code,
    /// What is wrong: lower case, no final period, names in backticks.
    pub message: String,
    /// Where, if it has a place in a text.
    pub place: Option<Place>,
    /// What to do next.
    pub hints: Vec<String>,
}

impl Error {
    /// An error without a place.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), place: None, hints: Vec::new() }
    }

    /// Points at a place, unless it already points at a nearer one.
    #[must_use]
    pub fn at(mut self, place: Place) -> Error {
        self.place.get_or_insert(place);
        self
    }

    /// Names the rule that is concerned, unless the message begins with one.
    #[must_use]
    pub fn in_rule(mut self, rule: &str) -> Error {
        if !self.message.starts_with("rule `") {
            self.message = format!("rule `{rule}`: {}", self.message);
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hints.push(hint.into());
        self
    }

    /// As [`Error::hint`], for a hint that may not apply.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<String>) -> Error {
        self.hints.extend(hint);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            let (line, column) = place.source.line_column(place.span.start);
            write!(f, "{}:{line}:{column}: ", place.source.name)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(feature = "cli")]
impl miette::Diagnostic for Error {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.as_str()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        if self.hints.is_empty() { None } else { Some(Box::new(self.hints.join("\n"))) }
    }
}

/// Everything that is wrong with a Genfile, or that went wrong in a run. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// `Ok` if nothing was found, else all of it in the order of the places.
    ///
    /// # Errors
    /// All that was found.
    pub fn unless_empty(mut found: Vec<Error>) -> Result<(), Errors> {
        if found.is_empty() {
            return Ok(());
        }
        found.sort_by_key(|e| e.place.as_ref().map(|p| (p.source.name.clone(), p.span.start)));
        found.dedup();
        Err(Errors(found))
    }
}

#[cfg(test)]
impl Errors {
    /// All of them as lines with code and hints, for snapshots.
    pub(crate) fn lines(&self) -> String {
        let hints = |e: &Error| e.hints.iter().map(|hint| format!(" ({hint})")).collect::<String>();
        self.0.iter().map(|e| format!("{}: {e}{}\n", e.code.as_str(), hints(e))).collect()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Errors {
        Errors(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The likeliest of `known` for a name that is none of them, for a hint.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // What is so long is no slip of the finger, and to compare it costs its length squared.
    if name.len() > 64 {
        return None;
    }
    let best = known.into_iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min()?;
    // Of a single letter no other is near.
    let most = (name.len() / 3).max(1).min(name.chars().count().saturating_sub(1));
    (best.0 <= most).then(|| format!("did you mean `{}`?", best.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = Source::new("Genfile", "a: é\nbé: x\n");
        let at = source.text.find('x').unwrap();
        assert_eq!(source.line_column(at), (2, 5));
        assert_eq!(source.offset(2, 5), at);
        assert_eq!(source.offset(99, 1), source.text.len());
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(did_you_mean("tempalte", ["template", "prompt"]).unwrap(), "did you mean `template`?");
        assert_eq!(did_you_mean("zebra", ["template", "prompt"]), None);
        assert_eq!(did_you_mean("0", ["X", "template"]), None);
        assert_eq!(did_you_mean("vs", ["vars", "v"]).unwrap(), "did you mean `v`?");
    }
}
