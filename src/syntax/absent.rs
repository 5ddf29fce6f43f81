//! In place of the grammars, in a build without the feature `syntax`.

use super::{Definition, NoGrammar, SyntaxError};

/// Whether [`check`] knows the language of files with this extension.
///
/// # Errors
/// [`NoGrammar::Build`], always.
pub fn can_check(_ext: &str) -> Result<(), NoGrammar> {
    Err(NoGrammar::Build)
}

/// Whether [`definitions`] knows the language of files with this extension.
///
/// # Errors
/// [`NoGrammar::Build`], always.
pub fn can_define(_ext: &str) -> Result<(), NoGrammar> {
    Err(NoGrammar::Build)
}

/// Finds the first place where a text is no code of its language.
///
/// # Errors
/// That this build has no grammars, always: what cannot be judged has not passed.
pub fn check(_ext: &str, _text: &str) -> Result<(), SyntaxError> {
    Err(SyntaxError { line: 1, column: 1, message: NoGrammar::Build.to_string() })
}

/// What a source text defines, in the order of the text.
///
/// # Errors
/// [`NoGrammar::Build`], always.
pub fn definitions(_ext: &str, _text: &str) -> Result<Vec<Definition>, NoGrammar> {
    Err(NoGrammar::Build)
}

/// A source text without its comments.
///
/// # Errors
/// [`NoGrammar::Build`], always.
pub fn without_comments(_ext: &str, _text: &str) -> Result<String, NoGrammar> {
    Err(NoGrammar::Build)
}
