//! Paths as genmake knows them: relative to the root, `/` between parts, no `..`.
//!
//! Knows nothing of disks: whether a symlink leads out of the root is asked where files are written.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet};
use unicode_normalization::UnicodeNormalization;

/// A path relative to the project root, normalised: `/` between parts, no empty part, no `.`, no `..`.
///
/// Ordered by its bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Arc<str>);

/// Why a text is not a path inside the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// Nothing is left after `.` and empty parts are taken out.
    Empty,
    /// Starts with `/`, a drive letter or `\\`.
    Absolute,
    /// `..` leads above the root.
    Escapes,
    /// Holds a NUL or another control character.
    Control,
    /// A part is longer than the 255 bytes that file systems allow, or the whole longer than 4,096.
    TooLong,
    /// A part is `.git` or `.genmake`, in any case and in any spelling that some file system takes for them.
    Reserved,
    /// A part is the name of a device on Windows, such as `CON` or `nul.txt`.
    Device,
    /// A part ends with a dot or a space, which Windows drops.
    Trailing,
    /// It names a file of a pack that ships with genmake.
    Shipped,
    /// A backslash: on one system a separator, on another a letter.
    Backslash,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPath::Empty => "is empty",
            BadPath::Absolute => "is absolute; paths are relative to the Genfile's folder",
            BadPath::Escapes => "leads outside the root",
            BadPath::Control => "holds a control character",
            BadPath::TooLong => "is longer than file systems allow",
            BadPath::Reserved => "lies in `.git` or `.genmake`",
            BadPath::Device => "has a part that Windows takes for a device; the lock is for every system",
            BadPath::Trailing => "has a part that ends with a dot or a space, which Windows drops",
            BadPath::Shipped => "names a file of a pack; outputs are files of the project",
            BadPath::Backslash => "holds a backslash; use `/`",
        })
    }
}

/// What the path of a file starts with that ships with genmake.
pub const SHIPPED: &str = "builtin:";

/// Whether a part of a path belongs to git or to genmake: in any case, since some file systems know only one, and in the
/// spellings that git refuses too. HFS+ ignores some characters without a width; NTFS drops dots and spaces at the end, reads
/// `NAME:STREAM` as a stream of NAME, and has short names.
pub fn is_reserved(part: &str) -> bool {
    // Nearly all names are told by their first byte.
    if part.is_ascii() && !part.starts_with(['.', 'g', 'G']) {
        return false;
    }
    let seen: String = part.chars().filter(|c| !is_ignored(*c)).flat_map(char::to_lowercase).collect();
    let name = seen.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    matches!(name, ".git" | ".genmake" | "git~1" | "genmak~1")
}

/// The characters that HFS+ leaves out when it compares names.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether Windows takes a part of a path for a device, whatever its extension.
fn is_device(part: &str) -> bool {
    let stem = part.split(['.', ':']).next().unwrap_or_default().trim_end().to_ascii_lowercase();
    let numbered = |name: &str| {
        let mut rest = stem.strip_prefix(name).unwrap_or_default().chars();
        matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul" | "conin$" | "conout$") || numbered("com") || numbered("lpt")
}

/// What two names have in common that some file system takes for one: case and Unicode's ways to write a letter do not count.
pub fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    // Up and down again: `ſ` is an `s`, and `ß` are two.
    let upper: String = path.nfd().flat_map(char::to_uppercase).collect();
    upper.chars().flat_map(char::to_lowercase).filter(|c| !is_ignored(*c)).nfd().collect()
}

impl RelPath {
    /// Normalises `text`: `./a//b/../c` is `a/c`.
    ///
    /// # Errors
    /// [`BadPath`] where the text does not name a place below the root.
    pub fn new(text: &str) -> Result<RelPath, BadPath> {
        let bytes = text.as_bytes();
        if text.starts_with('/') || (bytes.len() > 1 && bytes[1] == b':' && bytes[0].is_ascii_alphabetic()) {
            return Err(BadPath::Absolute);
        }
        if text.chars().any(char::is_control) {
            return Err(BadPath::Control);
        }
        if text.contains('\\') {
            return Err(BadPath::Backslash);
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    if parts.pop().is_none() {
                        return Err(BadPath::Escapes);
                    }
                }
                part if part.len() > 255 => return Err(BadPath::TooLong),
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            return Err(BadPath::Empty);
        }
        let path = parts.join("/");
        if path.len() > 4096 { Err(BadPath::TooLong) } else { Ok(RelPath(path.into())) }
    }

    /// As [`RelPath::new`], and refuses `.git` and `.genmake`, which are nothing that a rule is made from either.
    ///
    /// # Errors
    /// [`BadPath`] where the text is no place for an input.
    pub fn input(text: &str) -> Result<RelPath, BadPath> {
        let path = RelPath::new(text)?;
        if path.0.split('/').any(is_reserved) { Err(BadPath::Reserved) } else { Ok(path) }
    }

    /// As [`RelPath::input`], and refuses what is no name of a file on every system.
    ///
    /// # Errors
    /// [`BadPath`] where the text is no place for an output.
    pub fn output(text: &str) -> Result<RelPath, BadPath> {
        let path = RelPath::input(text)?;
        if path.0.starts_with(SHIPPED) {
            return Err(BadPath::Shipped);
        }
        if path.0.split('/').any(is_device) {
            return Err(BadPath::Device);
        }
        if path.0.split('/').any(|part| part.ends_with(['.', ' '])) { Err(BadPath::Trailing) } else { Ok(path) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder part, `""` for a file in the root.
    pub fn dir(&self) -> &str {
        self.0.rfind('/').map_or("", |at| &self.0[..at])
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rfind('/').map_or(&*self.0, |at| &self.0[at + 1..])
    }

    /// The name without its extension; `.gitignore` is a stem without an extension.
    pub fn stem(&self) -> &str {
        let name = self.name();
        match name.rfind('.') {
            Some(at) if at > 0 => &name[..at],
            _ => name,
        }
    }

    /// The extension without its dot, `""` if there is none.
    pub fn ext(&self) -> &str {
        let name = self.name();
        match name.rfind('.') {
            Some(at) if at > 0 => &name[at + 1..],
            _ => "",
        }
    }

    /// `name` in the same folder.
    ///
    /// # Errors
    /// As [`RelPath::new`].
    pub fn beside(&self, name: &str) -> Result<RelPath, BadPath> {
        match self.dir() {
            "" => RelPath::new(name),
            dir => RelPath::new(&format!("{dir}/{name}")),
        }
    }

    /// The folders above this path, nearest first, without the root.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let mut rest: &str = &self.0;
        std::iter::from_fn(move || {
            let at = rest.rfind('/')?;
            rest = &rest[..at];
            Some(rest)
        })
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for RelPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for RelPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&*self.0)
    }
}

/// The longest glob that is compiled: paths have 4,096 bytes at most.
const LONGEST_GLOB: usize = 100_000;

/// One glob: `*` and `?` stay within a folder, `**` crosses folders, and no wildcard matches a leading dot.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: GlobSet,
    /// The pattern's parts that begin with a dot: only these may match a hidden part of a path. Of alternatives in braces,
    /// which may go across parts, the dot and what is written after it.
    dotted: Vec<GlobSet>,
}

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// What is wrong with the glob, in words.
    pub fn new(text: &str) -> Result<Pattern, String> {
        // A set of one: a matcher alone panics where the glob is too large or nests too deep for a regex.
        let compile = |text: &str| -> Result<GlobSet, globset::Error> {
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build()?;
            GlobSet::builder().add(glob).build()
        };
        if text.len() > LONGEST_GLOB {
            return Err(format!("it is longer than {LONGEST_GLOB} bytes"));
        }
        if text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err("a glob is relative to the root and cannot hold `..`".to_owned());
        }
        // As paths are: `./a//*` is `a/*`. What ends in `/` stays so, and matches no file.
        let last = text.matches('/').count();
        let parts = text.split('/').enumerate().filter(|(at, part)| *part != "." && (!part.is_empty() || *at == last));
        let text = parts.map(|(_, part)| part).collect::<Vec<_>>().join("/");
        let matcher = compile(&text).map_err(|e| match e.kind() {
            globset::ErrorKind::Regex(_) => "it is too large, or nests too deep".to_owned(),
            kind => kind.to_string(),
        })?;
        let dotted = match text.contains('{') {
            false => text.split('/').filter(|part| part.starts_with('.')).map(str::to_owned).collect(),
            true => {
                let pieces = text.split(['/', '{', ',', '}']).filter(|piece| piece.starts_with('.'));
                pieces.map(|piece| format!("{piece}*")).collect::<Vec<_>>()
            }
        };
        let dotted = dotted.iter().filter_map(|part| compile(part).ok()).collect();
        Ok(Pattern { text, matcher, dotted })
    }

    /// The files directly in `folder` whose names match `name`.
    ///
    /// # Errors
    /// As [`Pattern::new`], for `name`.
    pub fn in_folder(folder: &str, name: &str) -> Result<Pattern, String> {
        if folder.is_empty() {
            Pattern::new(name)
        } else {
            Pattern::new(&format!("{}/{name}", globset::escape(folder)))
        }
    }

    /// Whether the text holds a wildcard, so that it is a glob and not a path.
    pub fn is_glob(text: &str) -> bool {
        text.contains(['*', '?', '[', '{'])
    }

    /// The folder below which everything that can match lies, `""` for the root.
    pub fn base(&self) -> &str {
        let wild = self.text.find(['*', '?', '[', '{']).unwrap_or(self.text.len());
        self.text[..wild].rfind('/').map_or("", |at| &self.text[..at])
    }

    /// How many folders below [`Pattern::base`] can matter; `None` without bound.
    pub fn depth(&self) -> Option<usize> {
        let below = if self.base().is_empty() { &self.text[..] } else { &self.text[self.base().len() + 1..] };
        if below.contains("**") { None } else { Some(below.matches('/').count()) }
    }

    /// Whether `path` matches.
    pub fn matches(&self, path: &RelPath) -> bool {
        if !self.matcher.is_match(path.as_str()) {
            return false;
        }
        let mut dotted = self.dotted.iter();
        path.as_str().split('/').filter(|part| part.starts_with('.')).all(|part| dotted.any(|p| p.is_match(part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn paths_are_normalised_and_kept_inside() {
        assert_eq!(path("./a//b/../c.txt").as_str(), "a/c.txt");
        for (text, why) in [
            ("", BadPath::Empty),
            ("a/..", BadPath::Empty),
            ("/etc/passwd", BadPath::Absolute),
            ("C:/x", BadPath::Absolute),
            ("../x", BadPath::Escapes),
            ("a/../../x", BadPath::Escapes),
            ("a\0b", BadPath::Control),
            ("a\\b", BadPath::Backslash),
        ] {
            assert_eq!(RelPath::new(text), Err(why), "{text:?}");
        }
        assert_eq!(RelPath::new(&"a".repeat(256)), Err(BadPath::TooLong));
        assert_eq!(RelPath::output("a/.GIT/config"), Err(BadPath::Reserved));
        assert_eq!(RelPath::output(".genmake/state"), Err(BadPath::Reserved));
        for name in [".gitignore", "console.md", "com.txt", "COM10", "a.b/c d", "nul-a", "auxiliary"] {
            assert!(RelPath::output(name).is_ok(), "{name}");
        }
        let git =
            [".git", ".Git.", ".git ", ".git::$INDEX_ALLOCATION", "GIT~1", ".g\u{200c}it", ".gi\u{feff}T", "genmak~1"];
        for name in git {
            assert_eq!(RelPath::output(&format!("{name}/x")), Err(BadPath::Reserved), "{name:?}");
            assert_eq!(RelPath::input(name), Err(BadPath::Reserved), "{name:?}");
        }
        for name in ["CON", "con.txt", "a/Nul", "aux.tar.gz", "COM1.txt", "lpt9", "com¹", "nul .x", "conin$"] {
            assert_eq!(RelPath::output(name), Err(BadPath::Device), "{name:?}");
            assert!(RelPath::input(name).is_ok(), "{name:?}");
        }
        for name in ["a.", "a ", "a./b", "x. /y", "..."] {
            assert_eq!(RelPath::output(name), Err(BadPath::Trailing), "{name:?}");
        }
        assert_eq!(RelPath::new("//server/share"), Err(BadPath::Absolute));
        assert_eq!(RelPath::new("\\\\server\\share"), Err(BadPath::Backslash));
    }

    #[test]
    fn names_that_some_system_takes_for_one() {
        for (one, other) in [
            ("A.md", "a.md"),
            ("Stra\u{df}e", "STRASSE"),
            ("\u{e9}", "e\u{301}"),
            ("\u{212a}", "k"),
            ("a\u{200d}", "A"),
        ] {
            assert_eq!(folded(one), folded(other), "{one:?} {other:?}");
        }
        assert_ne!(folded("a/b"), folded("ab"));
        assert_ne!(folded("\u{e9}"), folded("e"));
    }

    #[test]
    fn parts_of_a_path() {
        let p = path("docs/guide.tar.gz");
        assert_eq!((p.dir(), p.name(), p.stem(), p.ext()), ("docs", "guide.tar.gz", "guide.tar", "gz"));
        let p = path(".gitignore");
        assert_eq!((p.dir(), p.stem(), p.ext()), ("", ".gitignore", ""));
        assert_eq!(path("a/b/c").parents().collect::<Vec<_>>(), ["a/b", "a"]);
    }

    #[test]
    fn globs_stay_in_folders_and_skip_dots() {
        let select = |glob: &str| -> Vec<&str> {
            let pattern = Pattern::new(glob).unwrap();
            let all = ["a.md", "docs/a.md", "docs/.x.md", "docs/de/a.md", ".github/ci.yml"];
            all.into_iter().filter(|text| pattern.matches(&path(text))).collect()
        };
        assert_eq!(select("*.md"), ["a.md"]);
        assert_eq!(select("docs/*.md"), ["docs/a.md"]);
        assert_eq!(select("**/*.md"), ["a.md", "docs/a.md", "docs/de/a.md"]);
        assert_eq!(select("docs/.*.md"), ["docs/.x.md"]);
        assert_eq!(select(".github/*"), [".github/ci.yml"]);
        assert_eq!(select("{docs,other}/*.md"), ["docs/a.md"]);
        assert_eq!(select("{.github,docs}/*"), ["docs/a.md", ".github/ci.yml"]);
        assert_eq!(select("{docs,.g{it,x}hub}/*"), ["docs/a.md", ".github/ci.yml"]);
        assert_eq!(select("{docs/.x,a}.md"), ["a.md", "docs/.x.md"]);
        assert_eq!(select("{docs,a}/*"), ["docs/a.md"]);
        assert_eq!(select("././docs//./*.md"), ["docs/a.md"]);
        assert_eq!(select("docs/*/"), [] as [&str; 0]);
        assert!(Pattern::new("a[").is_err());
        assert!(Pattern::new("../*").is_err());
        assert_eq!(Pattern::new("docs/*.md").unwrap().depth(), Some(0));
        assert_eq!(Pattern::new("docs/*/x/*.md").unwrap().depth(), Some(2));
        assert_eq!(Pattern::new("docs/**/*.md").unwrap().depth(), None);
    }
}
