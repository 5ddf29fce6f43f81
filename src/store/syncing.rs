//! Makes files that stand under temporary names durable, many at once with as few syncs as the system allows.

use std::collections::BTreeMap;

use super::begun::Begun;
use crate::error::Error;

/// From how many files on it is cheaper to sync all of a file system, with whatever else is being written there.
pub(super) const MANY: usize = 8;

/// The files of a group, some synced and some still to be.
pub(super) struct Syncing {
    together: bool,
    /// A file of each file system that is to be synced whole.
    systems: BTreeMap<u64, fs_err::File>,
}

impl Syncing {
    /// For a group of so many files.
    pub fn new(count: usize) -> Syncing {
        Syncing { together: cfg!(target_os = "linux") && count >= MANY, systems: BTreeMap::new() }
    }

    /// Syncs a file by itself, or takes it up to be synced with the others.
    ///
    /// # Errors
    /// As [`Begun::synced`].
    pub fn add<'a>(&mut self, begun: Begun<'a>, file: fs_err::File) -> Result<Begun<'a>, Error> {
        if !self.together {
            return begun.synced(file);
        }
        self.systems.entry(begun.device).or_insert(file);
        Ok(begun)
    }

    /// Syncs what was taken up. May be done again, for the names of the files when they have taken their places.
    ///
    /// # Errors
    /// Those of the system.
    pub fn sync(&self) -> std::io::Result<()> {
        self.systems.values().try_for_each(sync_file_system)
    }

    /// Whether [`Syncing::sync`] also makes names durable.
    pub fn is_whole(&self) -> bool {
        self.together
    }
}

#[cfg(target_os = "linux")]
fn sync_file_system(file: &fs_err::File) -> std::io::Result<()> {
    let path = file.path().display();
    rustix::fs::syncfs(file.file())
        .map_err(|e| std::io::Error::new(e.kind(), format!("failed to sync the file system of `{path}`: {e}")))
}

/// Where all of a file system cannot be synced, each file is.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(file: &fs_err::File) -> std::io::Result<()> {
    file.sync_all()
}
