//! How the pure parts see files: by name, digest and bytes, wherever they come from.

use std::collections::HashMap;
use std::str::Utf8Error;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::digest::Digest;
use crate::error::{Code, Error, Place, Source};
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

    /// How many bytes a file has, `None` if there is no file of that name. Where it can, it does not read them.
    ///
    /// # Errors
    /// As [`Files::digest`].
    fn size(&self, path: &RelPath) -> Result<Option<u64>, Error> {
        Ok(self.read(path)?.map(|bytes| bytes.len() as u64))
    }

    /// Whether there is a file of that name; follows symlinks.
    fn exists(&self, path: &RelPath) -> bool;

    /// The files that match, in byte order: never in `.git` or `.genmake`, whatever any ignore file says.
    ///
    /// # Errors
    /// [`Code::Unreadable`] for a folder that cannot be listed.
    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error>;

    /// The name of the file that is read for a path, with all symlinks followed; none where that is the path's own, or there is no
    /// file.
    fn leads_to(&self, _: &RelPath) -> Option<String> {
        None
    }

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
            Err(e) => Err(not_text(path.as_str(), &bytes, e)),
        }
    }
}

/// The error for bytes that are no text, pointing at the first of them.
pub fn not_text(name: &str, bytes: &[u8], error: Utf8Error) -> Error {
    // What is no text is one replacement character; all before it keeps its place.
    let at = error.valid_up_to();
    let source = Source::new(name, String::from_utf8_lossy(bytes));
    let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
    Error::new(Code::Unreadable, format!("`{name}` is not UTF-8 text")).at(Place { source, span })
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

/// A map of files that counts how often it is asked.
#[cfg(test)]
#[derive(Default)]
pub struct Counted {
    /// What there is.
    pub files: HashMap<RelPath, Arc<[u8]>>,
    /// How often it was asked for a digest.
    pub digests: AtomicUsize,
    /// How often it was asked for bytes.
    pub reads: AtomicUsize,
}

#[cfg(test)]
impl Files for Counted {
    fn digest(&self, path: &RelPath) -> Result<Option<Digest>, Error> {
        self.digests.fetch_add(1, Ordering::Relaxed);
        self.files.digest(path)
    }

    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.files.read(path)
    }

    fn exists(&self, path: &RelPath) -> bool {
        self.files.exists(path)
    }

    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        self.files.list(pattern)
    }

    fn leaves_root(&self, path: &RelPath) -> bool {
        self.files.leaves_root(path)
    }
}
