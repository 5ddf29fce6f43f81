//! The working tree: digests by stamp where that is safe, by content where it is not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ignore::WalkBuilder;

use super::blobs::Store;
use super::state::{Stamp, State};
use super::{FOLDER, write};
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
    taken: i128,
    /// When this run began: every file was looked at after that.
    begun: i128,
    store: Arc<Store>,
    seen: Mutex<HashMap<RelPath, Seen>>,
    listed: Mutex<HashMap<Listed, Arc<[RelPath]>>>,
}

/// What a run knows of a file: nothing is there, or its digest, and its stamp if that can be trusted later.
type Seen = Option<(Option<Stamp>, Digest)>;

/// A folder and how deep below it was looked.
type Listed = (String, Option<usize>);

impl WorkTree {
    /// The tree below `root`, with the stamps of an earlier run that were taken at `taken`.
    pub fn new(root: PathBuf, before: HashMap<RelPath, (Stamp, Digest)>, taken: i128, store: Arc<Store>) -> WorkTree {
        let begun = State::now();
        WorkTree { root, before, taken, begun, store, seen: Mutex::default(), listed: Mutex::default() }
    }

    /// When the snapshot of this run counts as taken. A file that was edited after it was looked at, within one tick of its
    /// clock, has the stamp of before; so what counts is when the first was looked at, and not when the last was.
    pub fn begun(&self) -> i128 {
        self.begun
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
            (Some((Some(before), _)), Some(now)) if before == now && !now.is_racy(State::now()) => Ok(false),
            (known, _) => Ok(self.content(path)?.map(|(_, digest, _)| digest) != known.map(|(_, digest)| digest)),
        }
    }

    /// The digest that this run knows a file by, without looking.
    pub fn digest_now(&self, path: &RelPath) -> Option<Digest> {
        self.lock_seen().get(path).copied().flatten().map(|(_, digest)| digest)
    }

    /// Whether an earlier run left exactly these stamps, and none that was too young then is old enough by now.
    pub fn knew(&self, stamps: &HashMap<RelPath, (Stamp, Digest)>) -> bool {
        let has_aged = |(stamp, _): &(Stamp, Digest)| stamp.is_racy(self.taken) && !stamp.is_racy(self.begun);
        *stamps == self.before && !stamps.values().any(has_aged)
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

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, HashMap<RelPath, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(Code::Unreadable, error.to_string())
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
        let seen = match (self.stamp(path)?, self.before.get(path)) {
            (None, _) => None,
            (Some(stamp), Some((before, digest))) if stamp == *before && !stamp.is_racy(self.taken) => {
                Some((Some(stamp), *digest))
            }
            _ => self.content(path)?.map(|(stamp, digest, _)| (Some(stamp), digest)),
        };
        // Two threads may have looked at once; the first one's answer stands for the run.
        let mut all = self.lock_seen();
        Ok(all.entry(path.clone()).or_insert(seen).map(|(_, digest)| digest))
    }

    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error> {
        if packs::is_shipped(path.as_str()) {
            return Ok(packs::text(path).map(|text| Arc::from(text.as_bytes())));
        }
        let content = self.content(path)?;
        let found = content.as_ref().map(|(stamp, digest, _)| (Some(*stamp), *digest));
        let mut all = self.lock_seen();
        let known = *all.entry(path.clone()).or_insert(found);
        if known.map(|(_, digest)| digest) != found.map(|(_, digest)| digest) {
            return Err(moved(path));
        }
        Ok(content.map(|(.., bytes)| bytes.into()))
    }

    fn size(&self, path: &RelPath) -> Result<Option<u64>, Error> {
        if packs::is_shipped(path.as_str()) {
            return Ok(packs::text(path).map(|text| text.len() as u64));
        }
        let seen = self.lock_seen().get(path).copied();
        match seen {
            Some(None) => Ok(None),
            Some(Some((Some(stamp), _))) => Ok(Some(stamp.size)),
            _ => Ok(self.stamp(path)?.map(|stamp| stamp.size)),
        }
    }

    fn blob(&self, digest: &Digest) -> Result<Arc<[u8]>, Error> {
        let missing = || Error::new(Code::Unreadable, format!("the store does not hold {} any more", digest.short()));
        self.store.get(digest).ok_or_else(missing)
    }

    fn exists(&self, path: &RelPath) -> bool {
        if packs::is_shipped(path.as_str()) {
            return packs::text(path).is_some();
        }
        match self.lock_seen().get(path) {
            Some(seen) => seen.is_some(),
            None => self.root.join(path).is_file(),
        }
    }

    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        if packs::is_shipped(pattern.base()) {
            return Ok(packs::paths().into_iter().filter(|path| pattern.matches(path)).collect());
        }
        let key = (pattern.base().to_owned(), pattern.depth());
        let known = self.listed.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let listed = match known {
            Some(listed) => listed,
            None => {
                let listed: Arc<[RelPath]> = walk(&self.root, &key)?.into();
                self.listed.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&listed));
                listed
            }
        };
        Ok(listed.iter().filter(|path| pattern.matches(path)).cloned().collect())
    }

    fn leaves_root(&self, path: &RelPath) -> bool {
        write::leaves(&self.root, path)
    }
}

/// All files below a folder, in byte order. Links to files count as files; links to folders are not followed.
fn walk(root: &Path, (base, depth): &Listed) -> Result<Vec<RelPath>, Error> {
    let top = root.join(base);
    let is_reserved = base.split('/').any(|part| part == ".git" || part == FOLDER);
    if is_reserved || !top.is_dir() {
        return Ok(Vec::new());
    }
    let mut builder = WalkBuilder::new(&top);
    builder.standard_filters(false).max_depth(depth.map(|depth| depth + 1));
    builder.filter_entry(|entry| !matches!(entry.file_name().to_str(), Some(".git" | FOLDER)));
    let mut found = Vec::new();
    for entry in builder.build() {
        let entry = entry.map_err(|e| Error::new(Code::Unreadable, e.to_string()))?;
        let is_file = match entry.file_type() {
            Some(kind) if kind.is_symlink() => entry.path().is_file(),
            Some(kind) => kind.is_file(),
            None => false,
        };
        // A name that is not Unicode cannot be written in a Genfile, so no pattern of one can mean it.
        let relative = entry.path().strip_prefix(root).ok().and_then(Path::to_str);
        if let (true, Some(path)) = (is_file, relative.and_then(|text| RelPath::new(text).ok())) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(root: &Path, before: HashMap<RelPath, (Stamp, Digest)>, taken: i128) -> WorkTree {
        WorkTree::new(root.to_path_buf(), before, taken, Arc::new(Store::new(root.join(".genmake/store"))))
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
        let second = tree(dir.path(), stamps.clone(), State::now());
        assert_eq!(second.digest(&path).unwrap(), Some(Digest::of("two")));
        // Clearly older than the snapshot, the stamp is believed.
        let later = tree(dir.path(), stamps.clone(), State::now() + 10_000_000_000);
        assert_eq!(later.digest(&path).unwrap(), Some(Digest::of("one")));
        // A run that did not look at it does not hand it on as trusted.
        assert!(tree(dir.path(), stamps, State::now()).stamps().is_empty());
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
    fn a_stamp_that_has_aged_is_worth_writing_down() {
        let dir = tempfile::tempdir().unwrap();
        let path = RelPath::new("a").unwrap();
        let stamp = |at| Stamp { size: 1, mtime: at, ctime: at, inode: 1 };
        let of = |stamp| HashMap::from([(path.clone(), (stamp, Digest::of("x")))]);
        let (now, second) = (State::now(), 1_000_000_000);
        let before = of(stamp(now - 10 * second));
        // It was young then, and is old by now.
        assert!(!tree(dir.path(), before.clone(), now - 9 * second).knew(&before));
        // It was old then; and it is young even now.
        assert!(tree(dir.path(), before.clone(), now - 5 * second).knew(&before));
        let young = of(stamp(now + second));
        assert!(tree(dir.path(), young.clone(), now).knew(&young));
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
            write::write_output(dir.path(), &RelPath::new(name).unwrap(), b"", None).unwrap();
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
