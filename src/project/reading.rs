//! Reads a project's Genfile and lock, with what to do where they cannot be.

use std::path::Path;

use crate::error::{Code, Error};
use crate::files;
use crate::manifest;

pub(super) fn read_genfile(path: &Path, name: &str) -> Result<String, Error> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => no_genfile(name),
        _ => Error::new(Code::Unreadable, e.to_string()),
    };
    // Its size alone refuses it: it is not read.
    manifest::small_enough(name, fs_err::metadata(path).map_err(unreadable)?.len())?;
    read_text(path)?.ok_or_else(|| no_genfile(name))
}

/// The error for a Genfile that is not there.
pub(super) fn no_genfile(name: &str) -> Error {
    Error::new(Code::NoGenfile, format!("`{name}` is not there")).hint("`genmake init` makes one to start from")
}

pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs_err::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|e| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files::not_text(&name, e.as_bytes(), e.utf8_error())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::new(Code::Unreadable, e.to_string())),
    }
}
