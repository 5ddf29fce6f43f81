//! What a run saw of the tree, in the order in which a snapshot has it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use super::snapshot::{Entry, Folder, Identity, flag};
use crate::digest::Digest;
use crate::packs;
use crate::path::RelPath;
use crate::tree::{Stamp, Visited, WorkTree};

/// A file with its record, and the digest of its content where that matters.
pub(super) type Known = (RelPath, Entry, Option<Digest>);

/// All files and folders that verdicts rested on, numbered.
#[derive(Debug, Default)]
pub struct Observed {
    pub(super) files: Vec<Known>,
    pub(super) folders: BTreeMap<String, Folder>,
    pub(super) shipped: Vec<String>,
    ids: HashMap<RelPath, u32>,
}

impl Observed {
    /// What verdicts of a run rested on, so that it can be asked of each whether it moved; as [`WorkTree::visited`].
    pub fn of(tree: &WorkTree, outputs: &HashSet<&RelPath>, own: &RelPath, gone: &[RelPath]) -> Option<Observed> {
        Observed::new(tree.root(), tree.visited(outputs, own, gone)?, outputs)
    }

    /// Orders what was seen of files, what was only asked of them, and the folders that were listed. `None` where an output is
    /// written through a link: where that leads is more than is looked at later.
    fn new(
        root: &Path,
        Visited { seen, asked, folders: listed, loaded }: Visited,
        outputs: &HashSet<&RelPath>,
    ) -> Option<Observed> {
        let mut files: Vec<Known> = Vec::with_capacity(seen.len() + asked.len());
        let no_stamp = Stamp { size: 0, mtime: 0, ctime: 0, inode: 0 };
        for (path, seen) in seen {
            let of = |set: bool, flag| if set { flag } else { 0 };
            let flags = of(loaded.contains(&path), flag::LOADED) | of(outputs.contains(&path), flag::OUTPUT);
            files.push(match seen {
                None => (path, Entry { stamp: no_stamp, flags: flags | flag::ABSENT }, None),
                // Without a stamp it is looked at.
                Some((stamp, digest)) => (path, Entry { stamp: stamp.unwrap_or(no_stamp), flags }, Some(digest)),
            });
        }
        for (path, is_there) in asked {
            let flags = match is_there {
                true => flag::EXISTS,
                false if root.join(&path).symlink_metadata().is_ok() => flag::OTHER,
                false => flag::ABSENT,
            };
            files.push((path, Entry { stamp: no_stamp, flags }, None));
        }
        files.sort_by(|(a, ..), (b, ..)| (a.dir(), a.name()).cmp(&(b.dir(), b.name())));
        let mut names: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
        let mut last = None;
        for (path, ..) in &files {
            if last != Some(path.dir()) {
                last = Some(path.dir());
                names.insert(path.dir());
                names.extend(path.parents());
            }
        }
        // Folders above those that were only listed.
        let above: Vec<&str> = names.iter().flat_map(|name| above(name)).collect();
        names.extend(above);
        names.insert("");
        let folders = names.into_iter().map(|name| {
            let folder = Folder { path: name.to_owned(), first: 0, is: identity(&root.join(name)), listed: None };
            let listed = listed.get(name).copied().flatten();
            (name.to_owned(), Folder { listed, ..folder })
        });
        let folders: BTreeMap<String, Folder> = folders.collect();
        let is_link = |path: &RelPath| {
            path.parents().any(|parent| folders.get(parent).is_some_and(|f| matches!(f.is, Identity::Link(..))))
        };
        if outputs.iter().any(|path| is_link(path)) {
            return None;
        }
        let shipped: Vec<String> = packs::paths().iter().map(ToString::to_string).collect();
        let all = files.iter().map(|(path, ..)| path.clone()).chain(packs::paths());
        let ids = all.zip(0..).collect();
        Some(Observed { files, folders, shipped, ids })
    }

    /// The number of a file.
    pub fn id(&self, path: &RelPath) -> Option<u32> {
        self.ids.get(path).copied()
    }
}

/// The folders above one, without the root.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

/// Which folder is at a path; links are not followed.
pub(super) fn identity(path: &Path) -> Identity {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Identity::Folder(Stamp::of(&meta).inode),
        Ok(meta) if meta.is_symlink() => {
            let stamp = Stamp::of(&meta);
            Identity::Link(stamp.inode, stamp.ctime)
        }
        _ => Identity::Absent,
    }
}
