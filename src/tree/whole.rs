//! A file is written under a temporary name beside it and then renamed, so that it is there whole or not at all; and where it may lie.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{outside, unwritable};
use crate::digest::Digest;
use crate::error::Error;
use crate::path::{RelPath, is_reserved};

/// The temporary file by which a file is written. Its name is a function of the file's, so that what a killed run left behind is
/// overwritten by the next.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".genmake-{}.tmp", Digest::of(name).short()))
}

/// Makes a temporary file. What a killed run left is not followed if it is a symlink: it is taken away and made anew.
///
/// # Errors
/// Those of the file system.
pub fn anew(temporary: &Path) -> std::io::Result<fs_err::File> {
    let open = || fs_err::OpenOptions::new().write(true).create_new(true).open(temporary);
    match open() {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            fs_err::remove_file(temporary)?;
            open()
        }
        opened => opened,
    }
}

/// Writes a file that may be lost in a crash of the machine: nothing waits until it is on the disk.
///
/// # Errors
/// [`Code::Unwritable`](crate::error::Code::Unwritable), naming the path.
pub fn put_unsynced(path: &Path, parts: impl Iterator<Item = impl AsRef<[u8]>>) -> Result<(), Error> {
    let temporary = temporary(path);
    let written = || -> std::io::Result<()> {
        let mut file = anew(&temporary)?;
        for part in parts {
            file.write_all(part.as_ref())?;
        }
        drop(file);
        fs_err::rename(&temporary, path)
    };
    written().map_err(|e| {
        let _ = fs_err::remove_file(&temporary);
        unwritable(&e)
    })
}

/// Writes a file below a folder where nobody but its writer has anything, as a build script's `OUT_DIR` is, and makes the folders above
/// it. Like what cargo writes there it may be lost in a crash of the machine.
///
/// # Errors
/// [`Code::Unwritable`](crate::error::Code::Unwritable) or [`Code::BadPath`](crate::error::Code::BadPath), naming the path.
pub fn put_apart(folder: &Path, path: &RelPath, bytes: &[u8], mode: Option<u32>) -> Result<(), Error> {
    if leaves(folder, path) {
        return Err(outside(path));
    }
    let full = folder.join(path);
    if let Some(above) = full.parent() {
        fs_err::create_dir_all(above).map_err(|e| unwritable(&e))?;
    }
    put_unsynced(&full, std::iter::once(bytes))?;
    match mode.and_then(permissions) {
        Some(wanted) => fs_err::set_permissions(&full, wanted).map_err(|e| unwritable(&e)),
        None => Ok(()),
    }
}

/// Takes away what [`put_apart`] wrote, and the folders above it that this leaves empty.
///
/// # Errors
/// As [`put_apart`].
pub fn remove_apart(folder: &Path, path: &RelPath) -> Result<(), Error> {
    if leaves(folder, path) {
        return Err(outside(path));
    }
    match fs_err::remove_file(folder.join(path)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(unwritable(&e)),
        _ => {}
    }
    // The first that something else lies in stays, and so do all above it.
    path.parents().take_while(|above| std::fs::remove_dir(folder.join(above)).is_ok()).for_each(drop);
    Ok(())
}

/// The permissions of a mode, where the system has such.
#[cfg(unix)]
pub fn permissions(mode: u32) -> Option<std::fs::Permissions> {
    Some(std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Permissions of that kind are only known to Unix.
#[cfg(not(unix))]
pub fn permissions(_: u32) -> Option<std::fs::Permissions> {
    None
}

/// Whether a symlink above `path` leads out of the root, or to where nothing of the Genfile's may be written.
pub fn leaves(root: &Path, path: &RelPath) -> bool {
    let is_link = |parent: &&str| root.join(parent).symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    // The nearest link decides: what it resolves to includes all above it.
    let Some(link) = path.parents().find(is_link) else { return false };
    match (root.canonicalize(), root.join(link).canonicalize()) {
        (Ok(root), Ok(target)) => match target.strip_prefix(&root) {
            Ok(inside) => inside.iter().any(|part| part.to_str().is_some_and(is_reserved)),
            Err(_) => true,
        },
        _ => true,
    }
}
