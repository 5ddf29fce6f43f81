//! Writes files: whole or not at all, and only below the root.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::begun::{Begun, Over};
use super::replace::{exchange, put_new};
use super::{beneath, outside, unwritable};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::tree::{Stamp, leaves, permissions, temporary};

/// Writes a file by way of a temporary one in the same folder: fsync, then rename.
///
/// # Errors
/// [`Code::Unwritable`], naming the path.
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    put_stamped(path, bytes).map(drop)
}

/// As [`put`], and gives the stamp of what was written: `None` if somebody touched the file at once.
///
/// # Errors
/// As [`put`].
pub fn put_stamped(path: &Path, bytes: &[u8]) -> Result<Option<Stamp>, Error> {
    put_by(path, bytes, temporary(path))
}

/// Takes away the temporary file by which a killed run was writing `path`. What cannot be is tried again by the next run.
pub(super) fn sweep(path: &Path) {
    let _ = fs_err::remove_file(temporary(path));
}

fn put_by(path: &Path, bytes: &[u8], temporary: PathBuf) -> Result<Option<Stamp>, Error> {
    let old = std::fs::metadata(path).ok().map(|meta| meta.permissions());
    let (begun, file) = Begun::new(temporary, path.to_owned(), bytes, old)?;
    begun.synced(file)?.finish(Over::Anything)
}

/// As [`put`], for a program: everybody who can read it can run it. The folder is made if it is not there.
///
/// # Errors
/// As [`put`].
pub fn put_program(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder).map_err(|e| unwritable(&e))?;
    }
    put(path, bytes)?;
    match permissions(0o755) {
        Some(wanted) => fs_err::set_permissions(path, wanted).map_err(|e| unwritable(&e)),
        None => Ok(()),
    }
}

/// Gives an output the permissions `mode`, if it has others. `true` if it had.
///
/// # Errors
/// [`Code::Unwritable`], naming the path, or [`Code::BadPath`] where it is a symlink, whose file may be anybody's.
pub fn set_mode(root: &Path, path: &RelPath, mode: u32) -> Result<bool, Error> {
    let Some(folder) = beneath::folder(root, path, false)? else {
        return Err(Error::new(Code::Unwritable, format!("`{path}` is not there any more")));
    };
    let full = folder.file(path);
    if full.is_symlink() {
        let message = format!("`{path}` is a symlink, and the file that it leads to is not given a mode");
        return Err(Error::new(Code::BadPath, message));
    }
    let Some(wanted) = permissions(mode) else { return Ok(false) };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let now = fs_err::metadata(&full).map_err(|e| folder.named(unwritable(&e)))?.permissions().mode() & 0o7777;
        if now == mode {
            return Ok(false);
        }
    }
    fs_err::set_permissions(&full, wanted).map_err(|e| folder.named(unwritable(&e)))?;
    Ok(true)
}

/// The permissions of an output, where the system has them and it is there.
pub fn mode(root: &Path, path: &RelPath) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(root.join(path)).ok().map(|meta| meta.permissions().mode() & 0o7777)
    }
    #[cfg(not(unix))]
    {
        let _ = (root, path);
        None
    }
}

/// Takes an output away, so that a command can make it or because nothing makes it any more, and makes the folders above it. A
/// file is moved to `aside`, below [`super::STAGE`], so that putting it back needs no space on the disk. `false` if it is not a
/// file of the content `stood`, or nothing for `None`: a person has saved it this very moment, and it stays.
///
/// # Errors
/// As [`super::write_output`].
pub fn make_way(root: &Path, path: &RelPath, aside: &RelPath, stood: Option<Digest>) -> Result<bool, Error> {
    let Some(folder) = beneath::folder(root, path, true)? else { return Err(folder_gone(path)) };
    make_folders(root, aside)?;
    let (full, aside) = (folder.file(path), root.join(aside));
    let unwritable = |e: std::io::Error| folder.named(unwritable(&e));
    match fs_err::rename(&full, &aside) {
        Err(e) if is_absent(&e) => return Ok(true),
        // It cannot be moved, and what is seen last has to do.
        Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
            let is_as_seen = is_nobodys(&full, stood).map_err(unwritable)?;
            return if is_as_seen { take_away(root, path).map(|()| true) } else { Ok(false) };
        }
        moved => moved.map_err(unwritable)?,
    }
    let is_as_seen = is_nobodys(&aside, stood);
    if !matches!(is_as_seen, Ok(true)) {
        // Unless they have saved once more: then the newer stays, and the older is kept with what else is left there.
        put_new(&aside, &full).map_err(unwritable)?;
    }
    is_as_seen.map_err(unwritable)
}

/// The folder of `path` is gone.
pub(super) fn folder_gone(path: &RelPath) -> Error {
    Error::new(Code::Unwritable, format!("`{path}` cannot be written: its folder is gone"))
}

/// Whether what lies there is a file of that content, or no text at all: a link, or a device.
fn is_nobodys(path: &Path, stood: Option<Digest>) -> std::io::Result<bool> {
    let kind = fs_err::symlink_metadata(path)?.file_type();
    if kind.is_file() { Ok(Some(Digest::of(fs_err::read(path)?)) == stood) } else { Ok(!kind.is_dir()) }
}

/// Moves what [`make_way`] set aside back to its place, and what stands there instead to `aside`: neither needs space on the
/// disk. `false` where nothing was set aside.
///
/// # Errors
/// As [`super::write_output`].
pub fn move_back(root: &Path, path: &RelPath, aside: &RelPath) -> Result<bool, Error> {
    let Some(folder) = beneath::folder(root, path, true)? else { return Err(folder_gone(path)) };
    let (full, aside) = (folder.file(path), root.join(aside));
    // One of them may not be there, or the system may have no such operation.
    if exchange(&aside, &full).is_ok() {
        return Ok(true);
    }
    match fs_err::rename(aside, full) {
        Err(e) if is_absent(&e) => Ok(false),
        moved => moved.map(|()| true).map_err(|e| folder.named(unwritable(&e))),
    }
}

/// Moves what stands at an output's place to `aside`.
///
/// # Errors
/// As [`super::write_output`].
pub fn move_aside(root: &Path, path: &RelPath, aside: &RelPath) -> Result<(), Error> {
    let Some(folder) = beneath::folder(root, path, false)? else { return Ok(()) };
    match fs_err::rename(folder.file(path), root.join(aside)) {
        Err(e) if is_absent(&e) => Ok(()),
        moved => moved.map_err(|e| folder.named(unwritable(&e))),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// What stands in an output's place, where that is something else than a file.
pub fn no_file(root: &Path, path: &RelPath) -> Option<&'static str> {
    let kind = std::fs::symlink_metadata(root.join(path)).ok()?.file_type();
    match (kind.is_file(), kind.is_dir(), kind.is_symlink()) {
        (true, ..) => None,
        (_, true, _) => Some("a folder"),
        (.., true) => Some("a symlink"),
        _ => Some("a device"),
    }
}

/// Deletes an output, or an empty folder in its place, and leaves the folders above it: others may be about to write there.
///
/// # Errors
/// As [`super::write_output`].
pub fn take_away(root: &Path, path: &RelPath) -> Result<(), Error> {
    let Some(folder) = beneath::folder(root, path, false)? else { return Ok(()) };
    let full = folder.file(path);
    let removed =
        if full.is_dir() && !full.is_symlink() { fs_err::remove_dir(full) } else { fs_err::remove_file(full) };
    match removed {
        Err(e) if !is_absent(&e) => Err(folder.named(unwritable(&e))),
        _ => Ok(()),
    }
}

/// Makes durable what a command wrote, and gives its stamp.
///
/// # Errors
/// As [`super::write_output`].
pub fn sync_output(root: &Path, path: &RelPath) -> Result<Option<Stamp>, Error> {
    inside(root, path)?;
    let file = fs_err::File::open(root.join(path)).map_err(|e| unwritable(&e))?;
    file.sync_all().and_then(|()| file.metadata()).map(|meta| Some(Stamp::of(&meta))).map_err(|e| unwritable(&e))
}

/// Makes the folders above an output.
pub(super) fn make_folders(root: &Path, path: &RelPath) -> Result<(), Error> {
    let full = root.join(path);
    let Some(folder) = full.parent() else { return Ok(()) };
    fs_err::create_dir_all(folder).map_err(|e| beneath::unmade(root, path, &e))
}

/// Writes a result that is not accepted yet, below [`super::STAGE`]. It need not survive a crash.
///
/// # Errors
/// [`Code::Unwritable`], naming the path.
pub fn write_staged(root: &Path, path: &RelPath, bytes: &[u8]) -> Result<(), Error> {
    let full = root.join(path);
    make_folders(root, path)?;
    let mut file = fs_err::File::create(full).map_err(|e| unwritable(&e))?;
    file.write_all(bytes).map_err(|e| unwritable(&e))
}

/// Deletes an output, and the folders above it that this leaves empty.
///
/// # Errors
/// As [`super::write_output`].
pub fn remove(root: &Path, path: &RelPath) -> Result<(), Error> {
    take_away(root, path)?;
    prune(root, path);
    Ok(())
}

/// Deletes the folders above a path that are empty.
pub fn prune(root: &Path, path: &RelPath) {
    for parent in path.parents().filter_map(|parent| RelPath::new(parent).ok()) {
        let Ok(Some(folder)) = beneath::folder(root, &parent, false) else { return };
        // Fails where something else lies in it, which is as it should be.
        if std::fs::remove_dir(folder.file(&parent)).is_err() {
            break;
        }
    }
}

pub(super) fn inside(root: &Path, path: &RelPath) -> Result<(), Error> {
    if leaves(root, path) {
        return Err(outside(path));
    }
    Ok(())
}

/// Makes the entries of the folders above `paths` durable, up to the root: some of them may be new. A folder that is gone is
/// an entry of the one above it.
///
/// # Errors
/// [`Code::Unwritable`], naming the folder.
pub fn sync_folders<'a>(root: &Path, paths: impl Iterator<Item = &'a RelPath>) -> Result<(), Error> {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for path in paths {
        // Whoever was here before has gone all the way up.
        path.parents().chain([""]).take_while(|folder| folders.insert(folder)).for_each(drop);
    }
    for folder in folders.into_iter().map(|folder| root.join(folder)).filter(|folder| folder.is_dir()) {
        sync_folder(&folder)?;
    }
    Ok(())
}

/// Makes a folder's entries durable; a no-op where folders cannot be opened.
///
/// # Errors
/// [`Code::Unwritable`], naming the folder.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        fs_err::File::open(folder).and_then(|file| file.sync_all()).map_err(|e| unwritable(&e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::write_output;
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    #[test]
    fn writes_whole_files_and_cleans_up_after_itself() {
        let dir = tempfile::tempdir().unwrap();
        write_output(dir.path(), &path("a/b/c.txt"), b"one", None).unwrap();
        // What a killed run left.
        let left = dir.path().join(format!("a/b/.genmake-{}.tmp", Digest::of("c.txt").short()));
        fs_err::write(&left, "half").unwrap();
        write_output(dir.path(), &path("a/b/c.txt"), b"two", None).unwrap();
        assert_eq!(fs_err::read_to_string(dir.path().join("a/b/c.txt")).unwrap(), "two");
        assert!(!left.exists());
        remove(dir.path(), &path("a/b/c.txt")).unwrap();
        assert!(!dir.path().join("a").exists());
    }

    #[cfg(unix)]
    #[test]
    fn gives_the_mode_that_is_asked_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mode = || std::fs::metadata(dir.path().join("run.sh")).unwrap().permissions().mode() & 0o777;
        write_output(dir.path(), &path("run.sh"), b"1", Some(0o755)).unwrap();
        assert_eq!(mode(), 0o755);
        assert!(!set_mode(dir.path(), &path("run.sh"), 0o755).unwrap());
        assert!(set_mode(dir.path(), &path("run.sh"), 0o644).unwrap());
        assert_eq!(mode(), 0o644);
    }

    #[test]
    fn keeps_the_mode_and_follows_no_link_out() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = dir.path();
        write_output(root, &path("run.sh"), b"1", None).unwrap();
        fs_err::set_permissions(root.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        write_output(root, &path("run.sh"), b"2", None).unwrap();
        assert_eq!(root.join("run.sh").metadata().unwrap().permissions().mode() & 0o777, 0o755);

        symlink(outside.path(), root.join("out")).unwrap();
        symlink(".", root.join("here")).unwrap();
        fs_err::create_dir(root.join(".git")).unwrap();
        symlink(".git", root.join("git")).unwrap();
        assert_eq!(write_output(root, &path("git/hooks/x"), b"", None).unwrap_err().code, Code::BadPath);
        assert_eq!(write_output(root, &path("out/x"), b"", None).unwrap_err().code, Code::BadPath);
        write_output(root, &path("here/x"), b"", None).unwrap();
        // An output that is itself a link is replaced, and what it pointed to stays as it is.
        fs_err::write(outside.path().join("theirs"), "theirs").unwrap();
        symlink(outside.path().join("theirs"), root.join("link")).unwrap();
        write_output(root, &path("link"), b"ours", None).unwrap();
        assert_eq!(fs_err::read_to_string(outside.path().join("theirs")).unwrap(), "theirs");
        assert_eq!(outside.path().read_dir().unwrap().count(), 1);
    }
}
