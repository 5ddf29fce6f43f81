//! Reads a project's Genfile and lock, with what to do where they cannot be.

use std::path::Path;

use super::Location;
use crate::error::{Code, Error};
use crate::files::{self, Files};
use crate::lock;
use crate::manifest;
use crate::path::RelPath;

/// A Genfile, and its lock if there is one.
pub type Texts = (String, Option<String>);

/// Those on the disk.
///
/// # Errors
/// [`Code::NoGenfile`], or one cannot be read.
pub fn texts(location: &Location) -> Result<Texts, Error> {
    let lock_name = location.lock_name();
    let genfile = read_genfile(&location.root.join(&location.name), &location.name)?;
    let locked = read_text(&location.root.join(&lock_name)).map_err(|e| e.hint(lock::way_out(&lock_name)))?;
    Ok((genfile, locked))
}

/// Those in a tree.
///
/// # Errors
/// As [`texts`].
pub fn texts_in(location: &Location, files: &dyn Files) -> Result<Texts, Error> {
    let text = |name: &str| RelPath::new(name).map_or(Ok(None), |path| files.text(&path));
    let lock_name = location.lock_name();
    let genfile = text(&location.name)?.ok_or_else(|| no_genfile(&location.name))?;
    Ok((genfile, text(&lock_name).map_err(|e| e.hint(lock::way_out(&lock_name)))?))
}

/// A Genfile's text.
///
/// # Errors
/// It is not there, too large, or cannot be read.
pub fn read_genfile(path: &Path, name: &str) -> Result<String, Error> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => no_genfile(name),
        _ => Error::new(Code::Unreadable, e.to_string()),
    };
    // Its size alone refuses it: it is not read.
    manifest::small_enough(name, fs_err::metadata(path).map_err(unreadable)?.len())?;
    read_text(path)?.ok_or_else(|| no_genfile(name))
}

/// The error for a Genfile that is not there.
fn no_genfile(name: &str) -> Error {
    Error::new(Code::NoGenfile, format!("`{name}` is not there")).hint("`genmake init` makes one to start from")
}

/// A file's text; `None` where it is not there.
///
/// # Errors
/// It is no text, or cannot be read.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs_err::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|e| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files::not_text(&name, e.as_bytes(), e.utf8_error())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::new(Code::Unreadable, e.to_string())),
    }
}
