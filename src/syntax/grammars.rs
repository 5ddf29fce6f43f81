//! The grammars by extension. The only file that names the grammar crates.

use tree_sitter::{Parser, Tree};

use super::NoGrammar;

/// The languages that have a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    Bash,
    C,
    Css,
    Go,
    Html,
    Java,
    JavaScript,
    Php,
    Python,
    Ruby,
    Rust,
    Tsx,
    TypeScript,
}

/// `.h` is not here: it may be C++, which has no grammar here because of its size.
const EXTENSIONS: [(&str, Language); 21] = [
    ("bash", Language::Bash),
    ("c", Language::C),
    ("cjs", Language::JavaScript),
    ("css", Language::Css),
    ("cts", Language::TypeScript),
    ("go", Language::Go),
    ("htm", Language::Html),
    ("html", Language::Html),
    ("java", Language::Java),
    ("js", Language::JavaScript),
    ("jsx", Language::JavaScript),
    ("mjs", Language::JavaScript),
    ("mts", Language::TypeScript),
    ("php", Language::Php),
    ("py", Language::Python),
    ("pyi", Language::Python),
    ("rb", Language::Ruby),
    ("rs", Language::Rust),
    ("sh", Language::Bash),
    ("ts", Language::TypeScript),
    ("tsx", Language::Tsx),
];

impl Language {
    /// The language of files with this extension, if `wanted` takes it.
    pub fn of(ext: &str, wanted: impl Fn(Language) -> bool) -> Result<Language, NoGrammar> {
        let known = || EXTENSIONS.iter().filter(|(_, language)| wanted(*language));
        let found = known().find(|(name, _)| *name == ext);
        found.map(|(_, language)| *language).ok_or_else(|| NoGrammar::Extension {
            ext: ext.to_owned(),
            known: known().map(|(name, _)| *name).collect(),
        })
    }

    /// Whether [`super::definitions`] knows what defines something in it.
    pub fn has_definitions(self) -> bool {
        match self {
            Language::Go
            | Language::Java
            | Language::JavaScript
            | Language::Python
            | Language::Rust
            | Language::Tsx
            | Language::TypeScript => true,
            Language::Bash | Language::C | Language::Css | Language::Html | Language::Php | Language::Ruby => false,
        }
    }

    /// Parses a text. A text that is no code of the language gives a tree as well, with errors in it. `None` if library and
    /// grammar do not fit each other.
    pub fn parse(self, text: &str) -> Option<Tree> {
        let grammar = match self {
            Language::Bash => tree_sitter_bash::LANGUAGE,
            Language::C => tree_sitter_c::LANGUAGE,
            Language::Css => tree_sitter_css::LANGUAGE,
            Language::Go => tree_sitter_go::LANGUAGE,
            Language::Html => tree_sitter_html::LANGUAGE,
            Language::Java => tree_sitter_java::LANGUAGE,
            Language::JavaScript => tree_sitter_javascript::LANGUAGE,
            Language::Php => tree_sitter_php::LANGUAGE_PHP,
            Language::Python => tree_sitter_python::LANGUAGE,
            Language::Ruby => tree_sitter_ruby::LANGUAGE,
            Language::Rust => tree_sitter_rust::LANGUAGE,
            Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX,
            Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
        };
        let mut parser = Parser::new();
        parser.set_language(&grammar.into()).ok()?;
        parser.parse(text, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grammar_fits_the_library() {
        for (ext, language) in EXTENSIONS {
            let tree = language.parse("").unwrap_or_else(|| panic!("{ext}: no tree"));
            assert!(!tree.root_node().has_error(), "{ext}");
        }
        assert!(EXTENSIONS.is_sorted());
    }

    #[test]
    fn an_unknown_extension_lists_the_known() {
        let error = Language::of("kt", Language::has_definitions).unwrap_err().to_string();
        assert!(error.starts_with("there is no grammar for `.kt`; there is one for .cjs, .cts, .go, "), "{error}");
        assert!(!error.contains(".css"), "{error}");
    }
}
