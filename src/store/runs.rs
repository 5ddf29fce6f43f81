//! What the last runs did, a file each below `.genmake/runs`, named by when they began. Knows nothing of what is in them.

use std::path::Path;

use super::unwritable;
use crate::error::Error;

const NAME: &str = "runs";

/// So many runs are kept.
pub const RUNS: usize = 20;

/// So many bytes they may have together; the last two are kept whatever they have.
const BYTES: u64 = 16 << 20;

/// Keeps what a run did, and forgets the oldest. It is neither synced nor put in its place whole: what a crash or a kill leaves of it
/// is no report and passed over, and the next run may find nothing to do and clear up nothing. Only for who holds the guard.
///
/// # Errors
/// [`crate::error::Code::Unwritable`], naming the path.
pub fn keep_run(folder: &Path, began: &str, report: Vec<u8>) -> Result<(), Error> {
    let runs = folder.join(NAME);
    fs_err::create_dir_all(&runs).map_err(|e| unwritable(&e))?;
    // Colons are no part of a file's name everywhere.
    fs_err::write(runs.join(format!("{}.json", began.replace(':', "-"))), report).map_err(|e| unwritable(&e))?;
    let mut bytes = 0;
    for (at, name) in names(&runs).iter().enumerate() {
        let path = runs.join(name);
        bytes += fs_err::metadata(&path).map_or(0, |meta| meta.len());
        if at >= RUNS || (at >= 2 && bytes > BYTES) {
            super::forget(&path)?;
        }
    }
    Ok(())
}

/// What the last runs did, the latest first, each read when it is asked for.
pub fn kept_runs(folder: &Path) -> impl Iterator<Item = Vec<u8>> + use<> {
    let runs = folder.join(NAME);
    names(&runs).into_iter().filter_map(move |name| fs_err::read(runs.join(name)).ok())
}

/// The latest first.
fn names(runs: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(runs).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_and_no_more_than_there_is_room_for() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kept_runs(folder.path()).count(), 0);
        let keep = |at: usize, size: usize| {
            let began = format!("2026-01-02T03:04:{at:02}.000Z");
            keep_run(folder.path(), &began, vec![at as u8; size]).unwrap();
        };
        (0..30).for_each(|at| keep(at, 1));
        let kept = || kept_runs(folder.path()).map(|bytes| usize::from(bytes[0])).collect::<Vec<_>>();
        assert_eq!(kept(), (10..30).rev().collect::<Vec<_>>());
        keep(30, 10 << 20);
        keep(31, 10 << 20);
        assert_eq!(kept(), [31, 30]);
        keep(32, 1);
        assert_eq!(kept(), [32, 31]);
    }
}
