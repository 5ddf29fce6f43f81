//! `--depfile FILE`: what a build rested on, as rules that make includes and ninja reads.
//!
//! One rule: FILE and the outputs, made from all files that were looked at. FILE is a target of its own, and stays newer than what it
//! names, so that make can go by it alone. Each file has a rule without a recipe, too, so that make does not stumble over one that is
//! gone. The lock is in none of them: it is written by the builds.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::Context;
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::project::{Location, Planned};
use crate::store;
use crate::tree::LookedAt;

/// What is to stand in the file.
pub(super) struct Depfile {
    path: PathBuf,
    text: String,
    /// The files and folders that it names.
    sources: Vec<PathBuf>,
}

impl Depfile {
    /// What a plan rests on, if that is to be written down.
    ///
    /// # Errors
    /// Only a part was looked at, or it cannot be told where one stands.
    pub fn of(context: &Context, location: &Location, planned: &Planned) -> Result<Option<Depfile>, Error> {
        let Some(path) = &context.options.depfile else { return Ok(None) };
        if context.options.is_narrowed() {
            let error = Error::new(
                Code::Usage,
                "`--since` and `--files` look at a part, and `--depfile` says what all rests on",
            );
            return Err(error.hint("name targets where a part is meant"));
        }
        let here = super::here()?;
        let name = |path: &str| relative(&location.root.join(path), &here);
        let graph = planned.graph();
        let LookedAt { there, listed, .. } = planned.files().looked_at();
        // What waits for others was not read yet.
        let read =
            planned.needed.iter().zip(&graph.tasks).filter(|(needed, _)| **needed).flat_map(|(_, task)| task.reads());
        let lock = location.lock_name();
        let is_source = |path: &&RelPath| !graph.makers.contains_key(*path) && path.as_str() != lock;
        let is_there = |path: &&RelPath| there.contains(*path) || location.root.join(path).is_file();
        let sources: BTreeSet<&RelPath> = there.iter().chain(read).filter(is_source).filter(is_there).collect();
        // A folder in which builds write is younger than what they wrote.
        let own = relative(&here.join(path), &location.root);
        let outputs = planned.outputs();
        let written: BTreeSet<&str> =
            graph.makers.keys().map(RelPath::as_str).chain([lock.as_str(), own.as_str()]).map(folder).collect();
        let folders = listed.iter().map(String::as_str).filter(|path| !path.is_empty() && !written.contains(path));
        let sources: Vec<String> = sources.into_iter().map(RelPath::as_str).chain(folders).map(name).collect();

        let mut text = escaped(&path.to_string_lossy(), true);
        for (_, output) in &outputs {
            text += &format!(" \\\n {}", escaped(&name(output.as_str()), true));
        }
        text += ":";
        sources.iter().for_each(|source| text += &format!(" \\\n {}", escaped(source, false)));
        text += "\n";
        sources.iter().for_each(|source| text += &format!("\n{}:\n", escaped(source, true)));
        Ok(Some(Depfile {
            path: path.clone(),
            text,
            sources: sources.iter().map(|source| here.join(source)).collect(),
        }))
    }

    /// Writes it, unless it says the same already and is newer than what it names.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn write(self) -> Result<(), Error> {
        let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let newest: Option<SystemTime> = self.sources.iter().filter_map(|path| modified(path)).max();
        let is_as_it_is = fs_err::read(&self.path).is_ok_and(|now| now == self.text.as_bytes());
        if is_as_it_is && modified(&self.path) >= newest {
            return Ok(());
        }
        store::put(&self.path, self.text.as_bytes())
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path as seen from a folder; both are absolute.
fn relative(path: &Path, from: &Path) -> String {
    let common = path.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    let is_apart = path.components().take(common).all(|part| matches!(part, Component::Prefix(_) | Component::RootDir));
    if is_apart {
        return path.to_string_lossy().into_owned();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect::<PathBuf>().to_string_lossy().into_owned()
}

/// A path as make and ninja read it. In a target `%` would make a pattern of it for make; ninja does not look at targets.
fn escaped(path: &str, is_target: bool) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '$' => text.push('$'),
            ' ' | '#' | ':' => text.push('\\'),
            '%' if is_target => text.push('\\'),
            _ => {}
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_where_one_stands() {
        let from = |path: &str, from: &str| relative(Path::new(path), Path::new(from));
        assert_eq!(from("/a/b/c", "/a/b"), "c");
        assert_eq!(from("/a/b/c", "/a/d/e"), "../../b/c");
        assert_eq!(from("/a/b", "/c/d"), "/a/b");
    }

    #[test]
    fn what_means_something_to_make_is_escaped() {
        assert_eq!(escaped("a b#c$d:e%f", false), "a\\ b\\#c$$d\\:e%f");
        assert_eq!(escaped("%", true), "\\%");
    }
}
