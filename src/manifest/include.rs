//! What a Genfile includes: files of the project and packs that ship with genmake, each once, in the order in which they are
//! named, what a file includes before the file itself.

use std::sync::Arc;

use super::language::{Form, INCLUDED};
use super::read::{Reader, entries, fields, items, text};
use crate::error::{Code, Error, Place, Source, did_you_mean};
use crate::files::Files;
use crate::packs;
use crate::path::RelPath;
use crate::yaml::Node;

/// How many files may stand between the Genfile and one that it includes.
const MAX_DEPTH: usize = 32;

/// An included file.
pub(super) struct Included {
    pub path: RelPath,
    pub source: Arc<Source>,
    pub node: Node,
    /// The folder that paths of recipes start from.
    pub base: String,
    /// The rules that are taken; all without.
    only: Option<Vec<String>>,
}

impl Included {
    pub fn takes(&self, rule: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == rule))
    }
}

/// Reads all that `node`, a Genfile or an included file, includes. `above` are the files on the way to it.
pub(super) fn include(
    reader: &mut Reader,
    node: &Node,
    files: &dyn Files,
    above: &mut Vec<RelPath>,
    into: &mut Vec<Included>,
) {
    let Some(node) = fields(node).get("include") else { return };
    for entry in items(node) {
        let keys = fields(entry);
        let Some(from) = keys.get("from").or(Some(entry)).filter(|node| text(node).is_some()) else { continue };
        let only = keys.get("only").map(|node| items(node).iter().filter_map(text).map(str::to_owned).collect());
        let place = reader.place(&from.span);
        match read(text(from).unwrap_or_default(), only, files, above, &place, into) {
            Ok(found) => reader.found.extend(found),
            Err(error) => reader.found.push(error.at(place)),
        }
    }
}

fn read(
    from: &str,
    only: Option<Vec<String>>,
    files: &dyn Files,
    above: &mut Vec<RelPath>,
    place: &Place,
    into: &mut Vec<Included>,
) -> Result<Vec<Error>, Error> {
    let (path, base) = match from.strip_prefix(packs::PREFIX) {
        Some(name) => (packs::rules_of(name), from.to_owned()),
        None => {
            let bad = |why: &str| Error::new(Code::BadPath, format!("`{from}` {why}"));
            let path = RelPath::input(from).map_err(|why| bad(&why.to_string()))?;
            if files.leaves_root(&path) {
                return Err(bad("leads outside the root through a symlink"));
            }
            let base = path.dir().to_owned();
            (Some(path), base)
        }
    };
    let missing = || match from.strip_prefix(packs::PREFIX) {
        Some(name) => Error::new(Code::MissingInput, format!("genmake ships no pack `{name}`"))
            .hint_if(did_you_mean(name, packs::names()))
            .hint(format!("there is `{}`", packs::names().collect::<Vec<_>>().join("`, `"))),
        None => Error::new(Code::MissingInput, format!("it includes `{from}`, which is not there"))
            .hint("paths are relative to the Genfile's folder; a pack is written `builtin:NAME`"),
    };
    let path = path.ok_or_else(missing)?;
    if let Some(at) = above.iter().position(|other| *other == path) {
        let around: Vec<String> = above[at..].iter().chain([&path]).map(|path| format!("`{path}`")).collect();
        let message = format!("files include each other: {}", around.join(" → "));
        return Err(Error::new(Code::Cycle, message).hint("take one of these `include` entries out"));
    }
    if into.iter().any(|file| file.path == path) {
        return Ok(Vec::new());
    }
    if above.len() > MAX_DEPTH {
        let message = format!("it includes `{from}`, and is included by {} files, each by another", above.len());
        return Err(Error::new(Code::BadValue, message).hint("include it from the Genfile"));
    }
    super::small_enough(path.as_str(), files.size(&path)?.unwrap_or(0))?;
    let text = files.text(&path)?.ok_or_else(missing)?;
    let (source, node, found) = super::parse(path.as_str(), &text)?;
    let mut reader = Reader { source: Arc::clone(&source), found };
    if reader.fits(&node, &format!("the included file `{path}`"), &Form::Keys(INCLUDED)) || !entries(&node).is_empty() {
        let rules = fields(&node).get("rules").map(entries).unwrap_or_default();
        for name in only.iter().flatten().filter(|name| !rules.iter().any(|(key, _)| key.name == **name)) {
            let names = rules.iter().map(|(key, _)| key.name.as_str());
            let error = Error::new(Code::UnknownRule, format!("`{from}` has no rule `{name}`"));
            reader.found.push(error.hint_if(did_you_mean(name, names)).at(place.clone()));
        }
        above.push(path.clone());
        include(&mut reader, &node, files, above, into);
        above.pop();
        into.push(Included { path, source, node, base, only });
    }
    Ok(reader.found)
}
