//! The disk: reads the tree, writes outputs, keeps the store, the journal, the state and the guard.
//!
//! Knows nothing of rules and verdicts. Nothing is written outside the root, and nothing half.

mod blobs;
mod folders;
mod glance;
mod guard;
mod journal;
mod observed;
mod read;
mod snapshot;
mod state;
mod write;

pub use blobs::{Action, Store};
pub use glance::{Glance, Part};
pub use guard::Guard;
pub use journal::{Journal, Record};
pub use observed::Observed;
pub use read::WorkTree;
pub use state::{Basis, BasisTask, Damaged, Origin, Stamp, State};
pub use write::{
    make_way, mode, no_file, prune, put, put_stamped, remove, set_mode, sync_folder, sync_folders, sync_output,
    take_away, write_output, write_staged,
};

use std::path::{Path, PathBuf};

use crate::error::{Code, Error};

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
    }
    Ok(folder)
}

/// Takes away what a killed run left that is nobody's: whatever it was writing when it ended. Only for who holds the guard.
pub fn sweep(root: &Path, lock_name: &str, store: &Store, records: &[Record]) {
    let folder = root.join(FOLDER);
    store.sweep();
    for name in ["state", "journal", ".gitignore"] {
        write::sweep(&folder.join(name));
    }
    write::sweep(&root.join(lock_name));
    for record in records.iter().filter(|record| !write::leaves(root, &record.path)) {
        write::sweep(&root.join(&record.path));
    }
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

fn unwritable(error: &std::io::Error) -> Error {
    Error::new(Code::Unwritable, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::path::RelPath;

    #[test]
    fn what_a_killed_run_was_writing_is_taken_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let folder = make_folder(root).unwrap();
        let store = Store::new(folder.join("store"));
        let digest = store.put(b"text").unwrap();
        let path = RelPath::new("docs/a.md").unwrap();
        write_output(root, &path, b"a", None).unwrap();
        let record = Record { path: path.clone(), content: None, key: Digest::of("key") };
        let leftover = |name: &str| {
            root.join(name)
                .with_file_name(format!(".genmake-{}.tmp", Digest::of(name.rsplit('/').next().unwrap()).short()))
        };
        let left = ["docs/a.md", "Genfile.lock", ".genmake/state", ".genmake/journal", ".genmake/.gitignore"];
        let mut left: Vec<PathBuf> = left.into_iter().map(leftover).collect();
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
