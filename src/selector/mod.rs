//! `FILE#SELECTOR`: a part of a file as an input of its own.
//!
//! Pure: text in, parts out. Which file is read, and when, is decided elsewhere. The forms: a pointer into a data file, the
//! sections of a Markdown file, the definitions of a source file.
//!
//! A part has a key that does not depend on its neighbours, as far as its file lets it: a key of a map, a heading, a name.

mod cache;
mod data;
mod definitions;
mod pointer;
mod sections;

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::syntax;
use crate::syntax::Kind;

pub use cache::DataCache;
pub use data::{is_data, parse as parse_data, read_back as read_data_back, write as write_data};
pub use pointer::Step;

/// A parsed selector: which file or files, and which part of each.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Selector {
    /// The file's path or a glob, as written.
    pub file: String,
    /// Which part.
    pub what: What,
}

/// Which part of a file is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub enum What {
    /// Of a data file: what a pointer's steps lead to.
    Pointer(Vec<Step>),
    /// Of a Markdown file: the section with the last of these headings, within the one before it, and so on; without
    /// headings each section.
    Sections(Vec<String>),
    /// Of a source file: the definition of that name; without a name each.
    Definitions(Option<String>),
}

/// A part that a selector found.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What each `*` stood for, from the left; for a selector without `*`, the last step. A section's and a definition's own.
    pub keys: Vec<String>,
    /// The part itself: of a text its source.
    pub value: Value,
    /// What else is known of a stretch of text.
    pub passage: Option<Passage>,
}

/// A stretch of a text file that is a part of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// A heading's text, or a definition's name as its key has it.
    pub name: String,
    /// The line where it starts, counted from 1; a definition's without what stands above it.
    pub line: usize,
    /// What is known of a definition.
    pub definition: Option<About>,
}

/// What is known of a definition beside its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// Its source up to the body, on one line.
    pub signature: String,
    /// Its documentation, without marks of comments.
    pub doc: String,
}

impl Part {
    /// What the last `*` stood for.
    pub fn key(&self) -> &str {
        self.keys.last().map_or("", String::as_str)
    }

    /// What expressions see of it, but for its place among others: `key`, `value`, with several stars `keys`; of a section and a
    /// definition also `name`, `text`, `line`; of a definition also `kind`, `signature`, `doc`.
    pub fn names(&self) -> Map<String, Value> {
        let mut names = Map::new();
        names.insert("key".to_owned(), self.key().into());
        names.insert("value".to_owned(), self.value.clone());
        if self.keys.len() > 1 {
            names.insert("keys".to_owned(), self.keys.clone().into());
        }
        if let Some(passage) = &self.passage {
            names.insert("name".to_owned(), passage.name.as_str().into());
            names.insert("text".to_owned(), self.value.clone());
            names.insert("line".to_owned(), passage.line.into());
            if let Some(about) = &passage.definition {
                names.insert("kind".to_owned(), about.kind.name().into());
                names.insert("signature".to_owned(), about.signature.as_str().into());
                names.insert("doc".to_owned(), about.doc.as_str().into());
            }
        }
        names
    }
}

/// Splits `FILE#SELECTOR`; `None` if the text holds no `#`.
pub fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once('#')
}

impl Selector {
    /// Parses `FILE#/pointer/*`, `FILE#sections`, `FILE#sections/HEADING`, `FILE#defs` and `FILE#defs/NAME`. In pointers and
    /// headings `~1` stands for `/` and `~0` for `~`, as RFC 6901 says.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let (file, part) = split(text).ok_or("it has no `#`")?;
        if file.is_empty() {
            return Err("it names no file before `#`".to_owned());
        }
        let plain = |text: &str| text.replace("~1", "/").replace("~0", "~");
        let step = |text: &str| match text {
            "*" => Step::Each,
            text => Step::Key(plain(text)),
        };
        let each = |what: &str| format!("`#{part}` names nothing: `#{what}` is each, `#{what}/NAME` one of them");
        let what = match part.split_once('/').map_or((part, None), |(first, rest)| (first, Some(rest))) {
            ("", None) => What::Pointer(Vec::new()),
            ("", Some(pointer)) => What::Pointer(pointer.split('/').map(step).collect()),
            ("sections", None) => What::Sections(Vec::new()),
            ("sections", Some("" | "*")) => return Err(each("sections")),
            ("sections", Some(headings)) => What::Sections(headings.split('/').map(plain).collect()),
            ("defs", None) => What::Definitions(None),
            ("defs", Some("" | "*")) => return Err(each("defs")),
            ("defs", Some(name)) => What::Definitions(Some(name.to_owned())),
            _ => {
                return Err(format!(
                    "`#{part}` is neither a pointer, which starts with `/` as in `{file}#/entities/*`, nor `#sections`, nor `#defs`"
                ));
            }
        };
        Ok(Selector { file: file.to_owned(), what })
    }

    /// Whether it stands for a list of parts of a file and not for one: by a `*`, or for all sections or definitions.
    pub fn is_list(&self) -> bool {
        match &self.what {
            What::Pointer(steps) => steps.contains(&Step::Each),
            What::Sections(headings) => headings.is_empty(),
            What::Definitions(name) => name.is_none(),
        }
    }

    /// What people call one part: the selector with its file, and with what was found for what it leaves open.
    pub fn label(&self, file: &RelPath, keys: &[String]) -> String {
        let escape = |step: &str| format!("/{}", step.replace('~', "~0").replace('/', "~1"));
        let mut keys = keys.iter().map(String::as_str);
        let rest: String = match &self.what {
            What::Pointer(steps) => {
                let steps = steps.iter().map(|step| match step {
                    Step::Key(key) => key.as_str(),
                    Step::Each => keys.next().unwrap_or("*"),
                });
                steps.map(escape).collect()
            }
            What::Sections(headings) if headings.is_empty() => {
                format!("sections{}", keys.map(escape).collect::<String>())
            }
            What::Sections(headings) => format!("sections{}", headings.iter().map(|h| escape(h)).collect::<String>()),
            What::Definitions(name) => match name.as_deref().or_else(|| keys.next()) {
                Some(name) => format!("defs/{name}"),
                None => "defs".to_owned(),
            },
        };
        format!("{file}#{rest}")
    }

    /// That files of this name have such parts at all: data, Markdown, or source code with a grammar.
    ///
    /// # Errors
    /// [`Code::BadSelector`], with the extensions that would do.
    pub fn fits(&self, file: &RelPath) -> Result<(), Error> {
        let bad =
            |what: String| Error::new(Code::BadSelector, format!("`{}` cannot be: {what}", self.label(file, &[])));
        match &self.what {
            What::Pointer(_) if !is_data(file) => Err(bad(format!("`{file}` is no data file"))
                .hint(data::HINT)
                .hint_if(match sections::is_markdown(file) {
                    true => Some("parts of a Markdown file are `#sections` and `#sections/HEADING`".to_owned()),
                    false => syntax::can_define(file.ext())
                        .is_ok()
                        .then(|| "parts of a source file are `#defs` and `#defs/NAME`".to_owned()),
                })),
            What::Sections(_) if !sections::is_markdown(file) => {
                Err(bad(format!("`{file}` is no Markdown file")).hint("Markdown files end in .md or .markdown"))
            }
            What::Sections(_) if !sections::ARE_READ => {
                Err(bad("this build of genmake reads no Markdown (the feature `markdown` is off)".to_owned()))
            }
            What::Definitions(_) => syntax::can_define(file.ext()).map_err(|e| bad(e.to_string())),
            _ => Ok(()),
        }
    }
}

/// Makes names unique, in their order: the second `a` is `a-2`.
#[derive(Default)]
struct Keys(HashMap<String, usize>);

impl Keys {
    fn unique(&mut self, name: &str) -> String {
        let mut key = name.to_owned();
        while self.0.contains_key(&key) {
            let count = self.0.entry(name.to_owned()).or_insert(1);
            *count += 1;
            key = format!("{name}-{count}");
        }
        self.0.insert(key.clone(), 1);
        key
    }
}

/// Some of the names that there are, for an error.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let count = names.len();
    let shown: Vec<String> = names.take(SHOWN).map(|name| format!("`{name}`")).collect();
    match count {
        n if n > SHOWN => format!("{} and {} more", shown.join(", "), n - SHOWN),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_name() {
        let label = |what: &str, keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let selector = Selector::parse(&format!("f*#{what}")).unwrap();
            selector.label(&RelPath::new("f.x").unwrap(), &keys)
        };
        assert_eq!(label("", &[]), "f.x#");
        assert_eq!(label("/m/*/f/*", &["a/b", "c"]), "f.x#/m/a~1b/f/c");
        assert_eq!(label("/m/x", &["x"]), "f.x#/m/x");
        assert_eq!(label("sections", &["A/B"]), "f.x#sections/A~1B");
        assert_eq!(label("sections", &[]), "f.x#sections");
        assert_eq!(label("sections/A~1B/C", &["C-2"]), "f.x#sections/A~1B/C");
        assert_eq!(label("defs", &["A.b"]), "f.x#defs/A.b");
        assert_eq!(label("defs/A.b", &["A.b"]), "f.x#defs/A.b");
        assert_eq!(label("defs", &[]), "f.x#defs");
    }

    #[test]
    #[cfg(not(feature = "markdown"))]
    fn without_markdown_no_file_has_sections() {
        let selector = Selector::parse("a.md#sections").unwrap();
        let error = selector.fits(&RelPath::new("a.md").unwrap()).unwrap_err();
        assert_eq!(error.code, Code::BadSelector);
        let what = "`a.md#sections` cannot be: this build of genmake reads no Markdown (the feature `markdown` is off)";
        assert_eq!(error.message, what);
    }

    #[test]
    fn what_is_no_selector_is_said() {
        let bad = |text: &str| Selector::parse(text).unwrap_err();
        assert!(bad("f.yaml#entities").starts_with("`#entities` is neither a pointer, which starts with `/`"));
        assert_eq!(bad("#/x"), "it names no file before `#`");
        assert_eq!(bad("f.yaml"), "it has no `#`");
        assert_eq!(
            bad("f.md#sections/"),
            "`#sections/` names nothing: `#sections` is each, `#sections/NAME` one of them"
        );
        assert!(bad("f.go#defs/*").contains("`#defs` is each"));
    }

    #[test]
    fn a_selector_fits_its_file_or_says_why_not() {
        let fits = |text: &str| {
            let selector = Selector::parse(text).unwrap();
            selector.fits(&RelPath::new(&selector.file).unwrap())
        };
        let sections: &[&str] = if sections::ARE_READ { &["f.md#sections", "a.b.markdown#sections/X"] } else { &[] };
        for good in ["f.csv#/*", "f.yml#"].iter().chain(sections) {
            assert_eq!(fits(good), Ok(()), "{good}");
        }
        let error = |text: &str| {
            let error = fits(text).unwrap_err();
            format!("{}: {error} ({})", error.code.as_str(), error.hints.join("; "))
        };
        assert_eq!(
            error("f.txt#/x"),
            "genmake::bad_selector: `f.txt#/x` cannot be: `f.txt` is no data file (data files end in .yaml, .yml, .json, .jsonl, \
             .ndjson, .toml, .csv or .tsv)"
        );
        assert!(error("f.md#/x").contains("`#sections/HEADING`"));
        assert!(error("f.json#sections").contains("`f.json` is no Markdown file (Markdown files end in"));
        let expected = match cfg!(feature = "syntax") {
            true => "`f.md#defs` cannot be: there is no grammar for `.md`; there is one for .cjs",
            false => "`f.md#defs` cannot be: this build of genmake has no grammars",
        };
        assert!(error("f.md#defs").contains(expected), "{}", error("f.md#defs"));
    }

    #[test]
    fn keys_are_unique() {
        let mut keys = Keys::default();
        let all = ["a", "a", "a-2", "a", "b", "a-2"].map(|name| keys.unique(name));
        assert_eq!(all, ["a", "a-2", "a-2-2", "a-3", "b", "a-2-3"]);
    }
}
