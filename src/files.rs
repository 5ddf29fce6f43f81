//! How the pure parts see files: by name, digest and bytes, wherever they come from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::path::{Pattern, RelPath};

/// A tree of files: a working tree, a staged tree, or a map in a test.
///
/// Within one run the answers for a path agree with each other: what [`Files::read`] returns has the digest that
/// [`Files::digest`] returned.
pub trait Files: Sync {
    /// The digest of a file, `None` if there is no file of that name.
    ///
    /// # Errors
    /// [`Code::Unreadable`] or [`Code::Moved`], naming the path.
    fn digest(&self, path: &RelPath) -> Result<Option<Digest>, Error>;

    /// The bytes of a file, `None` if there is no file of that name.
    ///
    /// # Errors
    /// As [`Files::digest`].
    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error>;

    /// The bytes of a stored blob; a tree without a store has none.
    ///
    /// # Errors
    /// [`Code::Unreadable`], naming the digest.
    fn blob(&self, digest: &Digest) -> Result<Arc<[u8]>, Error> {
        Err(Error::new(Code::Unreadable, format!("the store does not hold {}", digest.short())))
    }

    /// Whether there is a file of that name; follows symlinks.
    fn exists(&self, path: &RelPath) -> bool;

    /// The files that match, in byte order: never in `.git` or `.genmake`, whatever any ignore file says.
    ///
    /// # Errors
    /// [`Code::Unreadable`] for a folder that cannot be listed.
    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error>;

    /// Whether a file written at `path` would lie outside the root, through a symlink above it.
    fn leaves_root(&self, path: &RelPath) -> bool;

    /// The text of a file, `None` if there is no file of that name.
    ///
    /// # Errors
    /// As [`Files::digest`], and [`Code::Unreadable`] where the bytes are not UTF-8.
    fn text(&self, path: &RelPath) -> Result<Option<String>, Error> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(e) => Err(Error::new(Code::Unreadable, format!("`{path}` is not UTF-8 text"))
                .hint(format!("byte {} is where it stops being text", e.valid_up_to()))),
        }
    }
}

impl Files for HashMap<RelPath, Arc<[u8]>> {
    fn digest(&self, path: &RelPath) -> Result<Option<Digest>, Error> {
        Ok(self.get(path).map(Digest::of))
    }

    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error> {
        Ok(self.get(path).cloned())
    }

    fn exists(&self, path: &RelPath) -> bool {
        self.contains_key(path)
    }

    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        let mut found: Vec<RelPath> = self.keys().filter(|path| pattern.matches(path)).cloned().collect();
        found.sort();
        Ok(found)
    }

    fn leaves_root(&self, _: &RelPath) -> bool {
        false
    }
}
