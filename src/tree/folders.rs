//! The names in folders: walked for globs, and told apart later by a digest.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::{Stamp, unreadable};
use crate::digest::{Digest, Framed};
use crate::error::Error;
use crate::path::{RelPath, is_reserved};

/// What lies below a folder.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The files, in byte order.
    pub files: Vec<RelPath>,
    /// The folders that were listed; `None` for one that is not there.
    pub folders: BTreeMap<String, Option<Listed>>,
    /// The links that were met, and whether they led to a file.
    pub links: Vec<(RelPath, bool)>,
}

/// A folder's names as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Listed {
    /// The folder's own stamp, from before its names were read.
    pub stamp: Stamp,
    /// The digest of its names and their kinds.
    pub names: Digest,
}

/// A name in a folder.
struct Named {
    name: std::ffi::OsString,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Tree {
    /// All files below `base`, so many folders deep. Links to files count as files; links to folders are not followed; `.git`
    /// and `.genmake` are left out. A name that is not Unicode cannot be written in a Genfile, so no pattern of one can mean it.
    ///
    /// # Errors
    /// [`Code::Unreadable`] for a folder that cannot be listed.
    pub fn walk(root: &Path, base: &str, depth: Option<usize>) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        if !base.split('/').any(is_reserved) {
            tree.folder(root, base, depth, true)?;
        }
        tree.files.sort();
        Ok(tree)
    }

    fn folder(&mut self, root: &Path, path: &str, depth: Option<usize>, is_base: bool) -> Result<(), Error> {
        let Some((listed, names)) = list(&root.join(path))? else {
            // Below the base a folder that has gone since its name was read is not missed.
            if is_base {
                self.folders.insert(path.to_owned(), None);
            }
            return Ok(());
        };
        self.folders.insert(path.to_owned(), Some(listed));
        for Named { name, kind } in names {
            let Some(name) = name.to_str() else { continue };
            let full = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let Ok(file) = RelPath::new(&full) else { continue };
            match kind {
                Kind::File => self.files.push(file),
                Kind::Folder => match depth {
                    Some(0) => {}
                    depth => self.folder(root, &full, depth.map(|depth| depth - 1), false)?,
                },
                Kind::Link => {
                    let is_file = root.join(&full).is_file();
                    self.links.push((file.clone(), is_file));
                    if is_file {
                        self.files.push(file);
                    }
                }
                Kind::Other => {}
            }
        }
        Ok(())
    }
}

/// The names in a folder with what tells them from others; `None` if there is no folder.
///
/// # Errors
/// [`Code::Unreadable`], naming the folder.
fn list(folder: &Path) -> Result<Option<(Listed, Vec<Named>)>, Error> {
    let stamp = match fs_err::metadata(folder) {
        Ok(meta) if meta.is_dir() => Stamp::of(&meta),
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(unreadable(&e)),
    };
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(|e| unreadable(&e))? {
        let entry = entry.map_err(|e| unreadable(&e))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(is_reserved) {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() => Kind::File,
            Ok(kind) if kind.is_dir() => Kind::Folder,
            Ok(kind) if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        names.push(Named { name, kind });
    }
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let mut framed = Framed::new("genmake-names-1");
    for Named { name, kind } in &names {
        framed = framed.field(name.as_encoded_bytes()).field([*kind as u8]);
    }
    // A folder's size and the count of its links say nothing that its times do not.
    Ok(Some((Listed { stamp, names: framed.finish() }, names)))
}

/// The digest of the names in a folder; `None` if there is none, or it cannot be listed.
pub fn names(folder: &Path) -> Option<Digest> {
    list(folder).ok().flatten().map(|(listed, _)| listed.names)
}
