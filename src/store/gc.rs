//! Prunes the store: what nothing needs any more and is older than a person wants to keep.
//!
//! In the order in which a crash loses nothing: a result's entry goes before the blobs that it names.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::blobs::{Store, action_in};
use super::unreadable;
use crate::digest::Digest;
use crate::error::Error;

/// What stays, however old it is.
#[derive(Debug, Default)]
pub struct Needed {
    /// Contents that the lock or this machine's memory name.
    pub blobs: HashSet<Digest>,
    /// Action keys whose results stay.
    pub keys: HashSet<Digest>,
    /// Keys of vectors that stay.
    pub vectors: HashSet<Digest>,
}

/// What was taken away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Entries of results.
    pub results: usize,
    /// Contents.
    pub blobs: usize,
    /// Raw replies.
    pub replies: usize,
    /// Vectors, those left out of packs that stay for others too.
    pub vectors: usize,
    /// What was set aside because it was damaged, and packs of vectors that are.
    pub damaged: usize,
    /// What all of these took, in bytes.
    pub bytes: u64,
}

/// A file of the store.
pub(super) struct Kept {
    pub path: PathBuf,
    pub name: String,
    pub bytes: u64,
    pub modified: SystemTime,
    pub is_old: bool,
}

impl Store {
    /// Takes away what nothing needs and what was put before `since`; with `dry`, only counts it.
    ///
    /// # Errors
    /// [`Code::Unreadable`] or [`Code::Unwritable`], naming the path.
    pub fn prune(&self, mut needed: Needed, since: SystemTime, dry: bool) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        let mut free = |file: &Kept, count: fn(&mut Freed) -> &mut usize| -> Result<(), Error> {
            *count(&mut freed) += 1;
            freed.bytes += file.bytes;
            if dry { Ok(()) } else { super::forget(&file.path) }
        };
        let list = |folder: &Path| list(folder, since);
        for file in list(&self.folder().join("ac"))? {
            let Some(key) = Digest::parse(&file.name) else { continue };
            match action_in(&file.path) {
                Some(action) if needed.keys.contains(&key) || !file.is_old => needed.blobs.extend(action.outputs),
                None if !file.is_old => {}
                _ => free(&file, |freed| &mut freed.results)?,
            }
        }
        for file in list(&self.folder().join("replies"))?.into_iter().filter(|file| file.is_old) {
            let key = file.name.split('.').next().and_then(Digest::parse);
            if key.is_some_and(|key| !needed.keys.contains(&key)) {
                free(&file, |freed| &mut freed.replies)?;
            }
        }
        for folder in folders(&self.folder().join("cas"))? {
            let start = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in list(&folder)?.into_iter().filter(|file| file.is_old) {
                let digest = Digest::parse(&format!("{start}{}", file.name));
                if digest.is_some_and(|digest| !needed.blobs.contains(&digest)) {
                    free(&file, |freed| &mut freed.blobs)?;
                }
            }
            if !dry {
                // Fails where something is left in it, which is as it should be.
                let _ = std::fs::remove_dir(&folder);
            }
        }
        for file in list(&self.folder().join("damaged"))?.into_iter().filter(|file| file.is_old) {
            free(&file, |freed| &mut freed.damaged)?;
        }
        self.prune_vectors(needed.vectors, since, dry, &mut freed)?;
        Ok(freed)
    }
}

/// The files of a folder, and which of them are from before `since`; none, where it is not there.
pub(super) fn list(folder: &Path, since: SystemTime) -> Result<Vec<Kept>, Error> {
    let mut files = Vec::new();
    for entry in entries(folder)? {
        let meta = entry.metadata().map_err(|e| unreadable(&e))?;
        if meta.is_file() {
            let modified = meta.modified().map_err(|e| unreadable(&e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push(Kept { path: entry.path(), name, bytes: meta.len(), modified, is_old: modified < since });
        }
    }
    Ok(files)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let folders = entries(folder)?.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

fn entries(folder: &Path) -> Result<Vec<fs_err::DirEntry>, Error> {
    match fs_err::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(|e| unreadable(&e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(unreadable(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gave;
    use super::*;
    use crate::llm::Usage;
    use crate::plan::Stored;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn what_is_needed_or_young_stays_with_all_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        let blob = |text: &str| store.put(text.as_bytes()).unwrap();
        let (locked, made, old, lone) = (blob("locked"), blob("made"), blob("old"), blob("lone"));
        let action = |name: &str, of: &str| {
            let (key, contents) = (Digest::of(name), [Arc::from(of.as_bytes())]);
            store.put_results(&[Gave { key, contents: &contents, model: None, usage: Usage::default() }]).unwrap();
            store.put_replies(&[(key, &["text".into()])]).unwrap();
        };
        action("current", "made");
        action("past", "old");
        store.put_vectors(&[(Digest::of("current"), &[1.0]), (Digest::of("past"), &[1.0, 2.0])]).unwrap();
        let needed = || Needed {
            blobs: HashSet::from([locked]),
            keys: HashSet::from([Digest::of("current")]),
            vectors: HashSet::from([Digest::of("current")]),
        };
        let now = SystemTime::now();
        let (before, after) = (now - Duration::from_secs(600), now + Duration::from_secs(600));
        assert_eq!(store.prune(needed(), before, false).unwrap(), Freed::default());
        let would = store.prune(needed(), after, true).unwrap();
        assert_eq!((would.results, would.blobs, would.replies, would.vectors, would.damaged), (1, 2, 1, 1, 0));
        assert!(store.get(&lone).is_some() && store.get(&old).is_some());
        assert_eq!(store.prune(needed(), after, false).unwrap(), would);
        assert_eq!((store.get(&lone), store.get(&old)), (None, None));
        assert!(store.get(&locked).is_some() && store.get(&made).is_some());
        assert!(store.has_reply(&Digest::of("current")) && !store.has_reply(&Digest::of("past")));
        assert_eq!(store.vector_keys(), HashSet::from([Digest::of("current")]));
        assert_eq!(store.prune(needed(), after, false).unwrap(), Freed::default());
    }
}
