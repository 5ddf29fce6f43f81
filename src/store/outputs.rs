//! Writes outputs: each whole or not at all, and many at once with as few syncs as the system allows.
//!
//! What is synced is synced before it takes its place: after a crash of the machine a file is what it was or what it is to be.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::begun::{Begun, Over};
use super::beneath::{self, Folder};
use super::syncing::Syncing;
use super::write::folder_gone;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::tree::{Stamp, permissions, temporary};

/// What is to be written where.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Where.
    pub path: &'a RelPath,
    /// What.
    pub bytes: &'a [u8],
    /// The permissions; without, it keeps those that it has.
    pub mode: Option<u32>,
    /// What may stand there.
    pub over: Over,
}

/// Writes outputs, with the folders above them. Gives for each the stamp of what was written, `None` if somebody touched it at
/// once.
///
/// # Errors
/// For each: [`Code::Unwritable`], [`Code::BadPath`] where a symlink above it leads out of the root, or to where nothing is
/// written, or [`Code::Edited`] where something stands there that it is not to replace: then that stays.
pub fn write_outputs<'a>(root: &Path, writes: &[Write<'a>]) -> Vec<Result<Option<Stamp>, Error>> {
    let most = most_folders();
    let mut written = Vec::with_capacity(writes.len());
    let mut rest = writes;
    while !rest.is_empty() {
        let mut folders = HashSet::new();
        let is_beyond = |write: &Write<'a>| {
            folders.insert(write.path.dir());
            folders.len() > most
        };
        let (group, others) = rest.split_at(rest.iter().position(is_beyond).unwrap_or(rest.len()));
        written.extend(write_group(root, group));
        rest = others;
    }
    written
}

/// How many folders one thread may hold by handles, of those that the process may have open: half of them are for all else.
fn most_folders() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map_or(1 << 20, |n| n as usize);
    #[cfg(not(unix))]
    let limit = 512;
    (limit / 2 / rayon::current_num_threads()).clamp(1, 256)
}

fn write_group<'a>(root: &Path, writes: &[Write<'a>]) -> Vec<Result<Option<Stamp>, Error>> {
    let mut folders = Folders::new();
    let mut syncing = Syncing::new(writes.len());
    let begin = |write: &Write<'a>| {
        let (folder, begun, file) = begin(root, write, &mut folders)?;
        let begun = syncing.add(begun, file).map_err(|e| folder.named(e))?;
        Ok((folder, begun))
    };
    let begun: Vec<Result<(Rc<Folder>, Begun<'a>), Error>> = writes.iter().map(begin).collect();
    let synced = syncing.sync();
    let finish = |(write, begun): (&Write<'a>, Result<(Rc<Folder>, Begun<'a>), Error>)| {
        let (folder, begun) = begun?;
        let finished = match &synced {
            Ok(()) => begun.finish(write.over),
            Err(e) => Err(begun.given_up(e)),
        };
        finished.map_err(|e| folder.named(e))
    };
    writes.iter().zip(begun).map(finish).collect()
}

/// Writes one output, whatever is there.
///
/// # Errors
/// As [`write_outputs`].
pub fn write_output(root: &Path, path: &RelPath, bytes: &[u8], mode: Option<u32>) -> Result<Option<Stamp>, Error> {
    write_one(root, &Write { path, bytes, mode, over: Over::Anything })
}

/// Writes one output, if what is there is a file of the content `stood`, or nothing for `None`.
///
/// # Errors
/// As [`write_outputs`].
pub fn replace_output(
    root: &Path,
    path: &RelPath,
    bytes: &[u8],
    mode: Option<u32>,
    stood: Option<Digest>,
) -> Result<Option<Stamp>, Error> {
    write_one(root, &Write { path, bytes, mode, over: Over::Only(stood) })
}

fn write_one(root: &Path, write: &Write) -> Result<Option<Stamp>, Error> {
    let (folder, begun, file) = begin(root, write, &mut Folders::new())?;
    begun.synced(file).and_then(|begun| begun.finish(write.over)).map_err(|e| folder.named(e))
}

/// The folders of a group of outputs, each held by one handle.
type Folders<'a> = HashMap<&'a str, Rc<Folder>>;

/// Writes an output under a temporary name, in one of `folders`.
fn begin<'a>(
    root: &Path,
    write: &Write<'a>,
    folders: &mut Folders<'a>,
) -> Result<(Rc<Folder>, Begun<'a>, fs_err::File), Error> {
    let path = write.path;
    let folder = match folders.get(path.dir()) {
        Some(folder) => Rc::clone(folder),
        None => {
            let folder = Rc::new(beneath::folder(root, path, true)?.ok_or_else(|| folder_gone(path))?);
            Rc::clone(folders.entry(path.dir()).or_insert(folder))
        }
    };
    let full = folder.file(path);
    let old = std::fs::metadata(&full).ok();
    if old.as_ref().is_some_and(|old| old.is_dir()) {
        return Err(Error::new(Code::Unwritable, format!("`{path}` is a folder, and a file was to be written there")));
    }
    let mode = write.mode.and_then(permissions).or(old.map(|old| old.permissions()));
    let begun = Begun::new(temporary(&full), full, write.bytes, mode);
    let (begun, file) = begun.map_err(|e| folder.named(e))?;
    Ok((folder, begun, file))
}

#[cfg(test)]
mod tests {
    use super::super::syncing::MANY;
    use super::*;

    #[test]
    fn many_at_once_are_written_as_one_is_and_one_that_cannot_be_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs_err::create_dir_all(root.join("d/3")).unwrap();
        fs_err::write(root.join("file"), "").unwrap();
        for count in [MANY - 1, MANY * 2] {
            let mut paths: Vec<RelPath> = (0..count).map(|i| RelPath::new(&format!("d/{i}")).unwrap()).collect();
            paths.push(RelPath::new("file/below").unwrap());
            let bytes = count.to_string().into_bytes();
            // What is not as it was seen stays.
            fs_err::write(root.join("d/5"), "saved this moment").unwrap();
            let over = |path: &RelPath| match path.as_str() {
                "d/5" => Over::Only(Some(Digest::of("seen"))),
                _ => Over::Anything,
            };
            let write = |path| Write { path, bytes: &bytes, mode: Some(0o640), over: over(path) };
            let writes: Vec<Write> = paths.iter().map(write).collect();
            let written = write_outputs(root, &writes);
            for (path, written) in paths.iter().zip(&written) {
                match path.as_str() {
                    "d/5" => {
                        assert_eq!(written.as_ref().unwrap_err().code, Code::Edited);
                        assert_eq!(fs_err::read_to_string(root.join(path)).unwrap(), "saved this moment");
                    }
                    "d/3" | "file/below" => assert_eq!(written.as_ref().unwrap_err().code, Code::Unwritable),
                    _ => {
                        assert_eq!(fs_err::read(root.join(path)).unwrap(), bytes);
                        let meta = std::fs::metadata(root.join(path)).unwrap();
                        assert_eq!(written, &Ok(Some(Stamp::of(&meta))));
                    }
                }
            }
            // Nothing temporary is left.
            assert_eq!(root.join("d").read_dir().unwrap().count(), count);
        }
    }
}
