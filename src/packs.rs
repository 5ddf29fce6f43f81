//! The rule packs that ship with genmake, as files of a tree of their own: `builtin:NAME/…`. Their rules are in `rules/NAME.yaml`
//! of the repository, their templates in `templates/NAME/`.
//!
//! Knows nothing of what is in them.

use crate::path::RelPath;

/// What the name of a pack starts with.
pub const PREFIX: &str = "builtin:";

/// The file in which a pack declares its variables and rules.
const RULES: &str = "rules.yaml";

/// Pack, file, text.
const FILES: &[(&str, &str, &str)] = &[
    ("go", RULES, include_str!("../rules/go.yaml")),
    ("go", "gitignore.hbs", include_str!("../templates/go/gitignore.hbs")),
];

/// The names of all packs.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter(|(_, file, _)| *file == RULES).map(|(pack, ..)| *pack)
}

/// Where a pack's rules are; `None` if there is no such pack.
pub fn rules_of(pack: &str) -> Option<RelPath> {
    names().find(|name| *name == pack).and_then(|name| RelPath::new(&format!("{PREFIX}{name}/{RULES}")).ok())
}

/// Whether a path lies among the packs, and so on no disk.
pub fn is_shipped(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The text of a pack's file; `None` if there is none of that name.
pub fn text(path: &RelPath) -> Option<&'static str> {
    let (pack, file) = path.as_str().strip_prefix(PREFIX)?.split_once('/')?;
    FILES.iter().find(|(name, other, _)| *name == pack && *other == file).map(|(.., text)| *text)
}

/// The files of all packs, in byte order.
pub fn paths() -> Vec<RelPath> {
    let path = |(pack, file, _): &(&str, &str, &str)| RelPath::new(&format!("{PREFIX}{pack}/{file}")).ok();
    let mut paths: Vec<RelPath> = FILES.iter().filter_map(path).collect();
    paths.sort();
    paths
}
