//! The disk: reads the tree, writes outputs, keeps the store, the journal, the state and the guard.
//!
//! Knows nothing of rules and verdicts. Nothing is written outside the root, and nothing half.

mod blobs;
mod guard;
mod journal;
mod read;
mod state;
mod write;

pub use blobs::{Action, Store};
pub use guard::Guard;
pub use journal::{Journal, Record};
pub use read::WorkTree;
pub use state::{Damaged, Stamp, State};
pub use write::{
    make_way, mode, no_file, prune, put, remove, set_mode, sync_folder, sync_folders, sync_output, take_away,
    write_output, write_staged,
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

fn unwritable(error: &std::io::Error) -> Error {
    Error::new(Code::Unwritable, error.to_string())
}
