//! The working tree: digests by stamp where that is safe, by content where it is not. Where the index counts, what it has
//! otherwise is taken from there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::folders::{Listed as Names, Tree};
use super::stamp::{self, Stamp};
use super::unreadable;
use super::whole::leaves;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::files::Files;
use crate::packs;
use crate::path::{Pattern, RelPath};

/// The tree below a root, as it is during one run.
pub struct WorkTree {
    root: PathBuf,
    /// What the last run saw, and when.
    before: HashMap<RelPath, (Stamp, Digest)>,
    taken: i64,
    /// When this run began: every file was looked at after that.
    begun: i64,
    blobs: Arc<dyn Blobs>,
    seen: Mutex<HashMap<RelPath, Seen>>,
    /// Of which files it was asked whether they are there, beside those that were seen.
    asked: Mutex<HashMap<RelPath, bool>>,
    listed: Mutex<HashMap<Listed, Arc<[RelPath]>>>,
    /// The folders that were listed.
    folders: Mutex<BTreeMap<String, Option<Names>>>,
    /// What was read before there were tasks: it decides which there are.
    loaded: Mutex<HashSet<RelPath>>,
    /// What git's index has otherwise, where that is what counts.
    staged: Option<Box<dyn Index>>,
}

/// What a run knows of a file: nothing is there, or its digest, and its stamp if that can be trusted later.
pub type Seen = Option<(Option<Stamp>, Digest)>;

/// Contents that are kept by their digests.
pub trait Blobs: Send + Sync {
    /// A content, if it is held.
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>>;
}

/// Where nothing is kept.
pub struct NoBlobs;

impl Blobs for NoBlobs {
    fn get(&self, _: &Digest) -> Option<Arc<[u8]>> {
        None
    }
}

/// What git's index has otherwise than the work tree.
pub trait Index: Send + Sync {
    /// Whether it has another content of a file.
    fn has_otherwise(&self, path: &RelPath) -> bool;

    /// Whether it has a file; `None` where the work tree says that.
    fn exists(&self, path: &RelPath) -> Option<bool>;

    /// A file's content, or that there is none; `None` where the work tree says that.
    ///
    /// # Errors
    /// It cannot be had.
    fn content(&self, path: &RelPath) -> Result<Option<Option<Vec<u8>>>, Error>;

    /// The files below a folder, where the work tree has `files`.
    fn listed(&self, files: Vec<RelPath>, base: &str) -> Vec<RelPath>;
}

/// What a run saw of files and folders.
pub struct Visited {
    /// Files, and where there were none.
    pub seen: HashMap<RelPath, Seen>,
    /// Of which other files it was asked whether they are there.
    pub asked: HashMap<RelPath, bool>,
    /// The folders that were listed; `None` for one that was not there.
    pub folders: BTreeMap<String, Option<Names>>,
    /// What was read before there were tasks.
    pub loaded: HashSet<RelPath>,
}

/// What a run looked at.
pub struct LookedAt {
    /// Files.
    pub there: BTreeSet<RelPath>,
    /// Where it found no file.
    pub absent: BTreeSet<RelPath>,
    /// Folders in which it looked for files, at whatever depth; `""` is the root.
    pub folders: BTreeSet<String>,
    /// The folders that it came through.
    pub listed: BTreeSet<String>,
}

/// A folder and how deep below it was looked.
type Listed = (String, Option<usize>);

impl WorkTree {
    /// The tree below `root`, with the stamps of an earlier run that were taken at `taken`.
    pub fn new(
        root: PathBuf,
        before: HashMap<RelPath, (Stamp, Digest)>,
        taken: i64,
        blobs: Arc<dyn Blobs>,
    ) -> WorkTree {
        WorkTree {
            root,
            before,
            taken,
            begun: stamp::now(),
            blobs,
            seen: Mutex::default(),
            asked: Mutex::default(),
            listed: Mutex::default(),
            folders: Mutex::default(),
            loaded: Mutex::default(),
            staged: None,
        }
    }

    /// The same tree as a commit would record it: what the index has otherwise counts as it is there. Only for reading.
    #[must_use]
    pub fn as_staged(self, staged: impl Index + 'static) -> WorkTree {
        WorkTree { staged: Some(Box::new(staged)), ..self }
    }

    /// Whether a commit would record another content of a file than stands there, where the index counts.
    pub fn is_staged_otherwise(&self, path: &RelPath) -> bool {
        self.staged.as_ref().is_some_and(|staged| staged.has_otherwise(path))
    }

    /// What the index has otherwise of a file; `None` where that is what stands there.
    fn staged(&self, path: &RelPath) -> Result<Option<Option<Vec<u8>>>, Error> {
        self.staged.as_ref().map_or(Ok(None), |staged| staged.content(path))
    }

    /// When the snapshot of this run counts as taken. A file that was edited after it was looked at, within one tick of its
    /// clock, has the stamp of before; so what counts is when the first was looked at, and not when the last was.
    pub fn begun(&self) -> i64 {
        self.begun
    }

    /// Says that there are tasks now: whatever was read until here decided which.
    pub fn is_loaded(&self) {
        *locked(&self.loaded) = self.lock_seen().keys().cloned().collect();
    }

    /// What verdicts of this run rested on. `outputs` are those of all tasks; beside them only `own` and what is `gone` may have come or
    /// gone in folders since they were listed. `None` where something else has, or where it cannot be told.
    pub fn visited(&self, outputs: &HashSet<&RelPath>, own: &RelPath, gone: &[RelPath]) -> Option<Visited> {
        let mut folders = locked(&self.folders).clone();
        for ((base, depth), before) in locked(&self.listed).iter() {
            let tree = Tree::walk(&self.root, base, *depth).ok()?;
            if tree.folders.iter().all(|(path, names)| folders.get(path) == Some(names)) {
                continue;
            }
            let (was, is): (HashSet<&RelPath>, HashSet<&RelPath>) =
                (before.iter().collect(), tree.files.iter().collect());
            let is_explained = is.difference(&was).all(|path| outputs.contains(*path) || *path == own)
                && was.difference(&is).all(|path| gone.contains(path));
            if !is_explained {
                return None;
            }
            locked(&self.asked).extend(tree.links);
            folders.extend(tree.folders);
        }
        let (seen, mut asked) = (self.lock_seen().clone(), locked(&self.asked).clone());
        asked.retain(|path, _| !seen.contains_key(path));
        Some(Visited { seen, asked, folders, loaded: locked(&self.loaded).clone() })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Notes that genmake wrote a file. Without a stamp the next run looks at it.
    pub fn wrote(&self, path: &RelPath, content: Digest, stamp: Option<Stamp>) {
        self.lock_seen().insert(path.clone(), Some((stamp, content)));
    }

    /// Notes that genmake took a file away.
    pub fn removed(&self, path: &RelPath) {
        self.lock_seen().insert(path.clone(), None);
    }

    /// A file's bytes as they are this moment, whatever was seen before.
    ///
    /// # Errors
    /// [`Code::Unreadable`] or [`Code::Moved`], naming the path.
    pub fn look(&self, path: &RelPath) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.content(path)?.map(|(.., bytes)| bytes))
    }

    /// Whether a file is another by now than this run knows it to be.
    ///
    /// # Errors
    /// As [`WorkTree::look`].
    pub fn has_moved(&self, path: &RelPath) -> Result<bool, Error> {
        let Some(known) = self.lock_seen().get(path).copied() else { return Ok(false) };
        let now = self.stamp(path)?;
        match (known, now) {
            (Some((Some(before), _)), Some(now)) if before == now && !now.is_racy(stamp::now()) => Ok(false),
            (known, _) => Ok(self.content(path)?.map(|(_, digest, _)| digest) != known.map(|(_, digest)| digest)),
        }
    }

    /// The digest that this run knows a file by, without looking.
    pub fn digest_now(&self, path: &RelPath) -> Option<Digest> {
        self.lock_seen().get(path).copied().flatten().map(|(_, digest)| digest)
    }

    /// The files that were seen, as they are by now.
    pub fn seen(&self) -> HashMap<RelPath, (Option<Stamp>, Digest)> {
        self.lock_seen().iter().filter_map(|(path, seen)| Some((path.clone(), (*seen)?))).collect()
    }

    /// What this run looked at so far: whatever it found out rests on that.
    pub fn looked_at(&self) -> LookedAt {
        let (mut there, mut absent) = (BTreeSet::new(), BTreeSet::new());
        for (path, seen) in self.lock_seen().iter() {
            if seen.is_some() { &mut there } else { &mut absent }.insert(path.clone());
        }
        for (path, is_there) in locked(&self.asked).iter() {
            if *is_there { &mut there } else { &mut absent }.insert(path.clone());
        }
        let folders = locked(&self.listed).keys().map(|(base, _)| base.clone()).collect();
        let all = locked(&self.folders);
        let listed = all.iter().filter(|(_, names)| names.is_some()).map(|(path, _)| path.clone()).collect();
        LookedAt { there, absent, folders, listed }
    }

    /// The digest that the last run knew a file by.
    pub fn digest_before(&self, path: &RelPath) -> Option<Digest> {
        self.before.get(path).map(|(_, digest)| *digest)
    }

    /// The stamps for the next run: what was seen in this one, and of an earlier one what is still to be trusted. An entry
    /// that was too young to be trusted then does not become older by being written again.
    pub fn stamps(&self) -> HashMap<RelPath, (Stamp, Digest)> {
        let mut stamps = self.before.clone();
        let seen = self.lock_seen();
        stamps.retain(|path, (stamp, _)| !stamp.is_racy(self.taken) || seen.contains_key(path));
        for (path, seen) in seen.iter() {
            match seen {
                Some((Some(stamp), digest)) => drop(stamps.insert(path.clone(), (*stamp, *digest))),
                Some((None, _)) | None => drop(stamps.remove(path)),
            }
        }
        stamps
    }

    fn lock_seen(&self) -> MutexGuard<'_, HashMap<RelPath, Seen>> {
        locked(&self.seen)
    }

    /// A file's stamp, `None` if there is no file.
    fn stamp(&self, path: &RelPath) -> Result<Option<Stamp>, Error> {
        match fs_err::metadata(self.root.join(path)) {
            Ok(meta) if meta.is_file() => Ok(Some(Stamp::of(&meta))),
            Ok(_) => Err(Error::new(Code::Unreadable, format!("`{path}` is not a file but a folder or a device"))
                .hint("move it away, or name another path")),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(unreadable(&e)),
        }
    }

    /// Reads a file and its digest; what changes while it is read is read again.
    fn content(&self, path: &RelPath) -> Result<Option<(Stamp, Digest, Vec<u8>)>, Error> {
        for _ in 0..3 {
            let Some(before) = self.stamp(path)? else { return Ok(None) };
            let bytes = match fs_err::read(self.root.join(path)) {
                Ok(bytes) => bytes,
                Err(e) if is_absent(&e) => return Ok(None),
                Err(e) => return Err(unreadable(&e)),
            };
            if self.stamp(path)? == Some(before) {
                return Ok(Some((before, Digest::of(&bytes), bytes)));
            }
        }
        Err(moved(path))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn moved(path: &RelPath) -> Error {
    Error::new(Code::Moved, format!("`{path}` changed while genmake was reading it")).hint("run genmake again")
}

impl Files for WorkTree {
    fn digest(&self, path: &RelPath) -> Result<Option<Digest>, Error> {
        if packs::is_shipped(path.as_str()) {
            return Ok(packs::text(path).map(Digest::of));
        }
        if let Some(seen) = self.lock_seen().get(path) {
            return Ok(seen.map(|(_, digest)| digest));
        }
        let seen = match self.staged(path)? {
            Some(bytes) => bytes.map(|bytes| (None, Digest::of(&bytes))),
            None => match (self.stamp(path)?, self.before.get(path)) {
                (None, _) => None,
                (Some(stamp), Some((before, digest))) if stamp == *before && !stamp.is_racy(self.taken) => {
                    Some((Some(stamp), *digest))
                }
                _ => self.content(path)?.map(|(stamp, digest, _)| (Some(stamp), digest)),
            },
        };
        // Two threads may have looked at once; the first one's answer stands for the run.
        let mut all = self.lock_seen();
        Ok(all.entry(path.clone()).or_insert(seen).map(|(_, digest)| digest))
    }

    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error> {
        if packs::is_shipped(path.as_str()) {
            return Ok(packs::text(path).map(|text| Arc::from(text.as_bytes())));
        }
        let (found, bytes) = match self.staged(path)? {
            Some(bytes) => (bytes.as_ref().map(|bytes| (None, Digest::of(bytes))), bytes),
            None => match self.content(path)? {
                Some((stamp, digest, bytes)) => (Some((Some(stamp), digest)), Some(bytes)),
                None => (None, None),
            },
        };
        let mut all = self.lock_seen();
        let known = *all.entry(path.clone()).or_insert(found);
        if known.map(|(_, digest)| digest) != found.map(|(_, digest)| digest) {
            return Err(moved(path));
        }
        Ok(bytes.map(Into::into))
    }

    fn size(&self, path: &RelPath) -> Result<Option<u64>, Error> {
        if packs::is_shipped(path.as_str()) {
            return Ok(packs::text(path).map(|text| text.len() as u64));
        }
        let seen = self.lock_seen().get(path).copied();
        match seen {
            Some(None) => Ok(None),
            Some(Some((Some(stamp), _))) => Ok(Some(stamp.size)),
            _ => match self.staged(path)? {
                Some(bytes) => Ok(bytes.map(|bytes| bytes.len() as u64)),
                None => Ok(self.stamp(path)?.map(|stamp| stamp.size)),
            },
        }
    }

    fn leads_to(&self, path: &RelPath) -> Option<String> {
        let real = self.root.join(path).canonicalize().ok()?;
        let own = self.root.canonicalize().ok()?.join(path);
        (real != own).then(|| real.to_string_lossy().replace('\\', "/"))
    }

    fn blob(&self, digest: &Digest) -> Result<Arc<[u8]>, Error> {
        let missing = || Error::new(Code::Unreadable, format!("the store does not hold {} any more", digest.short()));
        self.blobs.get(digest).ok_or_else(missing)
    }

    fn exists(&self, path: &RelPath) -> bool {
        if packs::is_shipped(path.as_str()) {
            return packs::text(path).is_some();
        }
        if let Some(is_there) = self.staged.as_ref().and_then(|staged| staged.exists(path)) {
            return is_there;
        }
        match self.lock_seen().get(path) {
            Some(seen) => seen.is_some(),
            None => *locked(&self.asked).entry(path.clone()).or_insert_with(|| self.root.join(path).is_file()),
        }
    }

    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        if packs::is_shipped(pattern.base()) {
            return Ok(packs::paths().into_iter().filter(|path| pattern.matches(path)).collect());
        }
        let key = (pattern.base().to_owned(), pattern.depth());
        let known = locked(&self.listed).get(&key).cloned();
        let listed = match known {
            Some(listed) => listed,
            None => {
                let tree = Tree::walk(&self.root, &key.0, key.1)?;
                locked(&self.folders).extend(tree.folders);
                locked(&self.asked).extend(tree.links);
                let files = match &self.staged {
                    Some(staged) => staged.listed(tree.files, &key.0),
                    None => tree.files,
                };
                let listed: Arc<[RelPath]> = files.into();
                locked(&self.listed).insert(key, Arc::clone(&listed));
                listed
            }
        };
        Ok(listed.iter().filter(|path| pattern.matches(path)).cloned().collect())
    }

    fn leaves_root(&self, path: &RelPath) -> bool {
        leaves(&self.root, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &Path, before: HashMap<RelPath, (Stamp, Digest)>, taken: i64) -> WorkTree {
        WorkTree::new(root.to_path_buf(), before, taken, Arc::new(NoBlobs))
    }

    #[test]
    fn an_edit_in_the_same_tick_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = RelPath::new("a").unwrap();
        fs_err::write(dir.path().join("a"), "one").unwrap();
        let first = tree(dir.path(), HashMap::new(), 0);
        first.digest(&path).unwrap();
        let mut stamps = first.stamps();
        // The worst case: other content of the same size, and a clock that shows no difference at all.
        fs_err::write(dir.path().join("a"), "two").unwrap();
        let meta = std::fs::metadata(dir.path().join("a")).unwrap();
        stamps.get_mut(&path).unwrap().0 = Stamp::of(&meta);
        let second = tree(dir.path(), stamps.clone(), stamp::now());
        assert_eq!(second.digest(&path).unwrap(), Some(Digest::of("two")));
        // Clearly older than the snapshot, the stamp is believed.
        let later = tree(dir.path(), stamps.clone(), stamp::now() + 10_000_000_000);
        assert_eq!(later.digest(&path).unwrap(), Some(Digest::of("one")));
        // A run that did not look at it does not hand it on as trusted.
        assert!(tree(dir.path(), stamps, stamp::now()).stamps().is_empty());
    }

    #[test]
    fn an_edit_in_the_tick_in_which_a_long_run_looked_is_seen_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = RelPath::new("a").unwrap();
        fs_err::write(dir.path().join("a"), "one").unwrap();
        let run = tree(dir.path(), HashMap::new(), 0);
        run.digest(&path).unwrap();
        let mut stamps = run.stamps();
        // Edited at once, with a clock that shows no difference; the run goes on for as long as it likes.
        fs_err::write(dir.path().join("a"), "two").unwrap();
        stamps.get_mut(&path).unwrap().0 = Stamp::of(&std::fs::metadata(dir.path().join("a")).unwrap());
        assert_eq!(tree(dir.path(), stamps, run.begun()).digest(&path).unwrap(), Some(Digest::of("two")));
    }

    #[test]
    fn one_answer_for_a_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = RelPath::new("a").unwrap();
        fs_err::write(dir.path().join("a"), "one").unwrap();
        let tree = tree(dir.path(), HashMap::new(), 0);
        tree.digest(&path).unwrap();
        fs_err::write(dir.path().join("a"), "changed").unwrap();
        assert_eq!(tree.read(&path).unwrap_err().code, Code::Moved);
        assert_eq!(tree.digest(&path).unwrap(), Some(Digest::of("one")));
        tree.wrote(&path, Digest::of("changed"), None);
        assert!(tree.stamps().is_empty());
        assert_eq!(tree.read(&path).unwrap().as_deref(), Some(&b"changed"[..]));
    }

    #[test]
    fn lists_what_patterns_can_mean() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.md", "d/b.md", "d/e/c.md", ".git/x.md", "d/.genmake/y.md", ".hidden/z.md"] {
            super::super::put_apart(dir.path(), &RelPath::new(name).unwrap(), b"", None).unwrap();
        }
        let tree = tree(dir.path(), HashMap::new(), 0);
        let list = |pattern: &str| -> Vec<String> {
            tree.list(&Pattern::new(pattern).unwrap()).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(list("**/*.md"), ["a.md", "d/b.md", "d/e/c.md"]);
        assert_eq!(list("d/*.md"), ["d/b.md"]);
        assert_eq!(list("*/*.md"), ["d/b.md"]);
        assert_eq!(list(".hidden/*"), [".hidden/z.md"]);
        assert_eq!(list(".git/*"), Vec::<String>::new());
        assert_eq!(list("nowhere/*"), Vec::<String>::new());
    }
}
