//! Source code by tree-sitter: what a text defines, the first place where it is no code of its language, and what it is without
//! comments.
//!
//! Pure: text in, facts out. Knows no file but an extension. The grammars are behind the feature `syntax`; a build without it
//! answers every question with [`NoGrammar::Build`]. Data files (JSON, YAML, TOML) have parsers of their own elsewhere.

#[cfg(feature = "syntax")]
mod check;
#[cfg(feature = "syntax")]
mod comment;
#[cfg(feature = "syntax")]
mod definitions;
#[cfg(feature = "syntax")]
mod grammars;
#[cfg(feature = "syntax")]
mod marks;
#[cfg(feature = "syntax")]
mod roles;
#[cfg(feature = "syntax")]
mod uncomment;

#[cfg(not(feature = "syntax"))]
mod absent;

use std::fmt;
use std::ops::Range;

#[cfg(not(feature = "syntax"))]
pub use absent::{can_check, can_define, check, definitions, without_comments};
#[cfg(feature = "syntax")]
pub use check::{can_check, check};
#[cfg(feature = "syntax")]
pub use definitions::{can_define, definitions};
#[cfg(feature = "syntax")]
pub use uncomment::without_comments;

/// Something that a source text defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name, with the types and modules around it: `Type.method`. Several may have the same.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The source up to the body, whitespace collapsed, without comments, decorators and attributes.
    pub signature: String,
    /// The docstring, or the comment directly above without its marks; empty if there is none.
    pub doc: String,
    /// The bytes of the whole: comment directly above, decorators, attributes, the definition with its body.
    pub range: Range<usize>,
    /// The line where the signature starts, counted from 1.
    pub line: usize,
}

/// The kinds of definitions. Languages differ; the nearest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A function outside of types.
    Function,
    /// A function of a type.
    Method,
    /// A class or record.
    Class,
    /// A struct or union.
    Struct,
    /// An enumeration.
    Enum,
    /// A trait.
    Trait,
    /// An interface or annotation type.
    Interface,
    /// Any other named type.
    Type,
}

impl Kind {
    /// The kind's name in templates.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Function => "function",
            Kind::Method => "method",
            Kind::Class => "class",
            Kind::Struct => "struct",
            Kind::Enum => "enum",
            Kind::Trait => "trait",
            Kind::Interface => "interface",
            Kind::Type => "type",
        }
    }
}

/// The first place where a text is no code of its language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong there, in few words.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// Why nothing can be said about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoGrammar {
    /// This build has no grammars at all.
    Build,
    /// None for this extension; those that have one.
    Extension {
        /// The extension asked for, without its dot.
        ext: String,
        /// The extensions that would do.
        known: Vec<&'static str>,
    },
}

impl fmt::Display for NoGrammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoGrammar::Build => f.write_str("this build of genmake has no grammars (the feature `syntax` is off)"),
            NoGrammar::Extension { ext, known } => {
                match ext.as_str() {
                    "" => f.write_str("there is no grammar for a file without an extension")?,
                    ext => write!(f, "there is no grammar for `.{ext}`")?,
                }
                write!(f, "; there is one for .{}", known.join(", ."))
            }
        }
    }
}

impl std::error::Error for NoGrammar {}

#[cfg(all(test, feature = "syntax"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: [&str; 24] = [
        "fn f",
        "def f",
        "func f",
        "class A",
        "impl A",
        "type T",
        "export ",
        "const a = ",
        "() => ",
        "(",
        ")",
        "{",
        "}",
        "[",
        ":",
        "\n",
        "\n    ",
        "/** é */",
        "# ü\n",
        "// x\n",
        "\"\"\"",
        "@d\n",
        "\0",
        "🦀",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn any_text_has_an_answer(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40)) {
            let text = pieces.concat();
            for ext in ["go", "java", "js", "py", "rs", "ts", "tsx"] {
                for found in definitions(ext, &text).unwrap() {
                    prop_assert!(text.get(found.range).is_some_and(|source| !source.trim().is_empty()), "{ext}: {text:?}");
                    prop_assert!(found.line <= text.lines().count(), "{ext}: {text:?}");
                }
            }
            for ext in ["bash", "c", "css", "go", "html", "java", "js", "php", "py", "rb", "rs", "ts", "tsx"] {
                if let Err(e) = check(ext, &text) {
                    prop_assert!(e.line <= text.matches('\n').count() + 1 && !e.message.is_empty(), "{ext}: {e} {text:?}");
                }
            }
        }
    }
}
