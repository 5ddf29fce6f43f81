//! A file on its way to its place: written whole under a temporary name beside it, synced, then put there.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::replace::replace;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::tree::{Stamp, anew};

/// What a file may take the place of.
#[derive(Debug, Clone, Copy)]
pub enum Over {
    /// Whatever is there.
    Anything,
    /// A file of this content, or nothing.
    Only(Option<Digest>),
}

/// A file that stands whole under a temporary name.
pub(super) struct Begun<'a> {
    temporary: PathBuf,
    path: PathBuf,
    bytes: &'a [u8],
    stamp: Stamp,
    /// The file system that it is on; 0 where the system has no number for that.
    pub device: u64,
}

impl<'a> Begun<'a> {
    /// Writes what is to stand at `path` to `temporary`, still open in case that it is synced by itself.
    ///
    /// # Errors
    /// [`Code::Unwritable`], naming `path`.
    pub fn new(
        temporary: PathBuf,
        path: PathBuf,
        bytes: &'a [u8],
        permissions: Option<std::fs::Permissions>,
    ) -> Result<(Begun<'a>, fs_err::File), Error> {
        let mut file = anew(&temporary).map_err(|e| unwritable(&path, &e))?;
        let write = || -> std::io::Result<std::fs::Metadata> {
            file.write_all(bytes)?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions)?;
            }
            file.metadata()
        };
        match write() {
            Ok(meta) => Ok((Begun { temporary, path, bytes, stamp: Stamp::of(&meta), device: device(&meta) }, file)),
            Err(e) => {
                let _ = fs_err::remove_file(&temporary);
                Err(unwritable(&path, &e))
            }
        }
    }

    /// Makes it durable by itself.
    ///
    /// # Errors
    /// [`Code::Unwritable`], naming its place.
    pub fn synced(self, file: fs_err::File) -> Result<Begun<'a>, Error> {
        match file.sync_all() {
            Ok(()) => Ok(self),
            Err(e) => Err(self.given_up(&e)),
        }
    }

    /// Puts it in its place, and gives its stamp there: `None` if somebody touched the file at once.
    ///
    /// # Errors
    /// [`Code::Unwritable`], naming its place, or [`Code::Edited`] where there is something that it is not to replace: then that
    /// stays.
    pub fn finish(self, over: Over) -> Result<Option<Stamp>, Error> {
        let path = &self.path;
        let put = match over {
            Over::Anything => fs_err::rename(&self.temporary, path).map(|()| true),
            Over::Only(stood) => replace(&self.temporary, path, self.bytes, stood),
        };
        match put {
            Ok(true) => {}
            Ok(false) => {
                self.take_away();
                let what = format!("`{}` was edited while genmake was writing it", path.display());
                return Err(Error::new(Code::Edited, what));
            }
            Err(e) => return Err(self.given_up(&e)),
        }
        // A rename moves the ctime, and nothing else: anything else is somebody's edit.
        let there = std::fs::metadata(path).map(|meta| Stamp::of(&meta)).ok();
        Ok(there.filter(|there| Stamp { ctime: self.stamp.ctime, ..*there } == self.stamp))
    }

    /// Takes it away because of an error, and says so.
    pub fn given_up(&self, error: &std::io::Error) -> Error {
        self.take_away();
        unwritable(&self.path, error)
    }

    /// Unless it is what came out of its place and could not be put back.
    fn take_away(&self) {
        if fs_err::read(&self.temporary).is_ok_and(|held| held == self.bytes) {
            let _ = fs_err::remove_file(&self.temporary);
        }
    }
}

/// The temporary file's name alone would tell nobody anything.
fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Code::Unwritable, format!("`{}` cannot be written: {error}", path.display()))
}

#[cfg(unix)]
fn device(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::dev(meta)
}

/// File systems have numbers only on Unix.
#[cfg(not(unix))]
fn device(_: &std::fs::Metadata) -> u64 {
    0
}
