//! The disk of a run: writes outputs, keeps the store, the journal, the state and the guard.
//!
//! Knows nothing of rules and verdicts. Nothing is written outside the root, and nothing half.

mod begun;
mod beneath;
mod blobs;
mod gc;
mod git;
mod glance;
mod guard;
mod history;
mod journal;
mod ledger;
mod observed;
mod outputs;
mod replace;
mod rounds;
mod runs;
mod snapshot;
mod staged;
mod state;
mod syncing;
mod unfinished;
mod vectors;
mod write;

pub use begun::Over;
pub use blobs::{Action, Gave, Store, blob_name};
pub use gc::{Freed, Needed};
pub use git::Repository;
pub use glance::{Glance, Part};
pub use guard::Guard;
pub use journal::{Journal, Record};
pub use ledger::{read_ledger, today, write_ledger};
pub use observed::Observed;
pub use outputs::{Write, replace_output, write_output, write_outputs};
pub use runs::{RUNS, keep_run, kept_runs};
pub use staged::Staged;
pub use state::{Basis, BasisTask, Damaged, Origin, State};
pub use unfinished::Unfinished;
pub use write::{
    make_way, mode, move_aside, move_back, no_file, prune, put, put_program, put_stamped, remove, set_mode,
    sync_folder, sync_folders, sync_output, take_away, write_staged,
};

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::tree::{leaves, outside, temporary, unreadable, unwritable};

/// The folder of everything that can be deleted at any time.
pub const FOLDER: &str = ".genmake";

/// The folder in which results stand before they are accepted. What is left in it is nobody's.
pub const STAGE: &str = ".genmake/stage";

/// Makes `.genmake/`, which ignores itself in git.
///
/// # Errors
/// [`Code::Unwritable`], naming the path.
pub fn make_folder(root: &Path) -> Result<PathBuf, Error> {
    let folder = root.join(FOLDER);
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        fs_err::create_dir_all(&folder).map_err(|e| unwritable(&e))?;
        put(&ignore, b"*\n")?;
        write::sync_folder(root)?;
    }
    Ok(folder)
}

/// Takes away what a killed run left that is nobody's: whatever it was writing when it ended. Only for who holds the guard.
pub fn sweep(root: &Path, lock_name: &str, store: &Store, records: &[Record]) {
    let folder = root.join(FOLDER);
    store.sweep();
    clear_stage(root, store);
    for name in ["state", "journal", "ledger", ".gitignore"] {
        write::sweep(&folder.join(name));
    }
    write::sweep(&root.join(lock_name));
    records.iter().for_each(|record| clear_temporary(root, store, &record.path));
}

/// Takes away the temporary file of an output. It may hold what came out when the output was put in its place, and that may be
/// a person's: its bytes are kept.
pub fn clear_temporary(root: &Path, store: &Store, path: &RelPath) {
    if !leaves(root, path) {
        keep_and_remove(store, &temporary(&root.join(path)));
    }
}

/// Takes away what is left in [`STAGE`]. It may hold what could not be put back, so its bytes are kept.
pub fn clear_stage(root: &Path, store: &Store) {
    clear_folder(store, &root.join(STAGE));
}

fn clear_folder(store: &Store, folder: &Path) {
    for entry in fs_err::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => clear_folder(store, &entry.path()),
            _ => keep_and_remove(store, &entry.path()),
        }
    }
    // Fails where something in it could not be kept, which is for the next run.
    let _ = std::fs::remove_dir(folder);
}

/// What cannot be kept stays.
fn keep_and_remove(store: &Store, file: &Path) {
    let is_file = std::fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file());
    if !is_file || fs_err::read(file).is_ok_and(|bytes| store.put(&bytes).is_ok()) {
        let _ = fs_err::remove_file(file);
    }
}

/// Puts back what of a person's a killed run's command was to be merged with, and keeps what stands there instead. `false` where
/// the store has lost it. Only for who holds the guard.
///
/// # Errors
/// [`Code::Unwritable`] or [`Code::Unreadable`], naming the path.
pub fn put_back(root: &Path, store: &Store, path: &RelPath, stood: Digest, key: Digest) -> Result<bool, Error> {
    let Some(bytes) = store.get(&stood) else { return Ok(false) };
    match fs_err::read(root.join(path)) {
        Ok(now) if now == *bytes => {}
        Ok(now) => {
            store.put(&now)?;
            write_output(root, path, &bytes, None)?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => drop(write_output(root, path, &bytes, None)?),
        Err(e) => return Err(Error::new(Code::Unreadable, e.to_string())),
    }
    // Said, so that it is done once: what a person does there from now on is another edit.
    let record = Record { path: path.clone(), content: Some(stood), key, stood: Some(stood) };
    Journal::open(&root.join(FOLDER))?.append(&[record])?;
    Ok(true)
}

/// Deletes one of genmake's own files, if it is there.
///
/// # Errors
/// [`Code::Unwritable`], naming the path.
pub fn forget(path: &Path) -> Result<(), Error> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unwritable(&e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_was_writing_is_taken_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let folder = make_folder(root).unwrap();
        let store = Store::new(folder.join("store"));
        let digest = store.put(b"text").unwrap();
        let path = RelPath::new("docs/a.md").unwrap();
        write_output(root, &path, b"a", None).unwrap();
        let record = Record { path: path.clone(), content: None, key: Digest::of("key"), stood: None };
        let leftover = |name: &str| {
            root.join(name)
                .with_file_name(format!(".genmake-{}.tmp", Digest::of(name.rsplit('/').next().unwrap()).short()))
        };
        let own = ["state", "journal", "ledger", ".gitignore"].map(|name| format!(".genmake/{name}"));
        let left = ["docs/a.md", "Genfile.lock"].into_iter().chain(own.iter().map(String::as_str));
        let mut left: Vec<PathBuf> = left.map(leftover).collect();
        left.push(folder.join("store/begun/7"));
        let theirs = leftover("docs/b.md");
        for file in left.iter().chain([&theirs]) {
            fs_err::write(file, "half").unwrap();
        }
        sweep(root, "Genfile.lock", &store, &[record]);
        left.retain(|file| file.exists());
        assert_eq!(left, Vec::<PathBuf>::new());
        assert!(theirs.exists() && root.join("docs/a.md").exists());
        assert_eq!(store.get(&digest).as_deref(), Some(&b"text"[..]));
    }
}
