//! The content-addressed store: blobs by sha256, results by action key, raw replies by action key and attempt.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::begun::{Begun, Over};
use super::syncing::Syncing;
use super::write::sync_folder;
use super::{history, unwritable};
use crate::digest::Digest;
use crate::error::Error;
use crate::llm::Usage;
use crate::path::RelPath;
use crate::plan::Stored;
use crate::tree::Blobs;

/// The folder of what is being written, in the store's own.
const BEGUN: &str = "begun";

/// Where a blob is, relative to the root: for people who want it back.
pub fn blob_name(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("{}/store/cas/{}/{}", super::FOLDER, &name[..2], &name[2..])
}
/// The folder of what actions gave.
const ACTIONS: &str = "ac";

/// The folder of raw replies.
const REPLIES: &str = "replies";

/// What an action gave.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Action {
    /// The outputs' digests, in the order of the outputs.
    pub outputs: Vec<Digest>,
    /// The model that wrote them.
    pub model: Option<String>,
    /// What they took, as the provider counted it or, in a batch, this task's share: in tokens.
    pub input_tokens: u64,
    /// What came back, in tokens.
    pub output_tokens: u64,
}

/// What an action gave, with the outputs themselves.
pub struct Gave<'a> {
    /// The action.
    pub key: Digest,
    /// Its outputs, in their order.
    pub contents: &'a [Arc<[u8]>],
    /// The model that wrote them.
    pub model: Option<String>,
    /// What they took, as the provider counted it or, in a batch, this task's share.
    pub usage: Usage,
}

/// The store in `.genmake/store`.
pub struct Store {
    folder: PathBuf,
    /// Where git's history is sought, too.
    root: Option<PathBuf>,
    /// What was sought there.
    sought: Mutex<HashMap<(RelPath, Digest), Sought>>,
    /// The action keys of what is under way in rounds.
    pub(super) submitted: OnceLock<Result<HashSet<Digest>, Error>>,
}

/// What git's history has of a content: `None` if nothing.
type Sought = Option<Arc<[u8]>>;

impl Store {
    /// The store below `folder`; nothing is made before something is put.
    pub fn new(folder: PathBuf) -> Store {
        Store { folder, root: None, sought: Mutex::default(), submitted: OnceLock::new() }
    }

    /// Where it lacks what an edit was made on, git's history of the tree at `root` is asked.
    #[must_use]
    pub fn with_history(self, root: PathBuf) -> Store {
        Store { root: Some(root), ..self }
    }

    /// Takes away what a killed run began to write. What cannot be is tried again by the next run.
    pub(super) fn sweep(&self) {
        let _ = std::fs::remove_dir_all(self.folder.join(BEGUN));
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join("cas").join(&name[..2]).join(&name[2..])
    }

    /// Puts a blob, durably.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if self.lacks(&digest) {
            self.write(&[(self.blob_path(&digest), bytes)])?;
        }
        Ok(digest)
    }

    /// Whether a blob is still to be written. One that is not is put anew, and so is young again: `gc` goes by that.
    fn lacks(&self, digest: &Digest) -> bool {
        if self.get(digest).is_none() {
            return true;
        }
        let file = fs_err::OpenOptions::new().append(true).open(self.blob_path(digest));
        let _ = file.and_then(|file| file.file().set_modified(SystemTime::now()));
        false
    }

    /// Moves what is damaged to where it is in nobody's way.
    pub(super) fn set_aside(&self, path: &Path, name: &str) {
        let aside = self.folder.join("damaged");
        let _ = fs_err::create_dir_all(&aside);
        let _ = fs_err::rename(path, aside.join(name));
    }

    /// What stands in a sealed file of `kind`; one that is damaged is set aside, and is a miss.
    fn get_sealed<T: serde::de::DeserializeOwned>(&self, kind: &str, name: &str) -> Option<T> {
        let path = self.folder.join(kind).join(name);
        let bytes = fs_err::read(&path).ok()?;
        let value = unseal(&bytes);
        if value.is_none() {
            self.set_aside(&path, &format!("{kind}-{name}"));
        }
        value
    }

    /// Notes what actions gave, with the blobs themselves, durably. Of a group in which anything fails nothing need be there.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put_results(&self, results: &[Gave]) -> Result<(), Error> {
        let mut blobs: BTreeMap<Digest, &[u8]> = BTreeMap::new();
        let mut actions = Vec::with_capacity(results.len());
        for gave in results {
            let of: Vec<(Digest, &[u8])> = gave.contents.iter().map(|bytes| (Digest::of(bytes), &**bytes)).collect();
            let outputs = of.iter().map(|(digest, _)| *digest).collect();
            let Usage { input, output, .. } = gave.usage;
            let action = Action { outputs, model: gave.model.clone(), input_tokens: input, output_tokens: output };
            // A damaged one is set aside before another takes its place.
            if self.get_action(&gave.key).as_ref() != Some(&action) {
                actions.push((self.folder.join(ACTIONS).join(gave.key.to_string()), seal(&action)));
            }
            blobs.extend(of);
        }
        let blobs = blobs.into_iter().filter(|(digest, _)| self.lacks(digest));
        let blobs = blobs.map(|(digest, bytes)| (self.blob_path(&digest), bytes));
        let files: Vec<(PathBuf, &[u8])> =
            blobs.chain(actions.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice()))).collect();
        self.write(&files)
    }

    /// A blob's bytes, verified. A damaged one is set aside and is a miss.
    pub fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let path = self.blob_path(digest);
        let bytes = fs_err::read(&path).ok()?;
        if Digest::of(&bytes) == *digest {
            return Some(bytes.into());
        }
        self.set_aside(&path, &digest.to_string());
        None
    }

    /// What an action gave. A damaged entry is set aside and is a miss.
    pub fn get_action(&self, key: &Digest) -> Option<Action> {
        self.get_sealed(ACTIONS, &key.to_string())
    }

    /// The same for whoever only looks: what is damaged stays where it is.
    pub fn peek_action(&self, key: &Digest) -> Option<Action> {
        action_in(&self.folder.join(ACTIONS).join(key.to_string()))
    }

    /// Keeps raw replies as they came, before anything else is done with them: one text for each output.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put_replies(&self, replies: &[(Digest, &[String])]) -> Result<(), Error> {
        let folder = self.folder.join(REPLIES);
        let place = |key: &Digest| {
            let attempt = (1..).find(|n| !folder.join(format!("{key}.{n}")).exists()).unwrap_or(1);
            folder.join(format!("{key}.{attempt}"))
        };
        let sealed: Vec<(PathBuf, Vec<u8>)> = replies.iter().map(|(key, texts)| (place(key), seal(*texts))).collect();
        self.write(&sealed.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect::<Vec<_>>())
    }

    /// The raw replies for a key are unfit: they stay for whoever wants to read them, and are used no more.
    pub fn reject_replies(&self, key: &Digest) {
        let folder = self.folder.join(REPLIES);
        let replies = (1..).map(|n| folder.join(format!("{key}.{n}"))).take_while(|reply| reply.exists());
        for reply in replies.collect::<Vec<_>>() {
            // Where it cannot be renamed it is found unfit once more.
            let _ = fs_err::rename(&reply, reply.with_added_extension("unfit"));
        }
    }

    /// The newest raw reply for a key. A damaged one is set aside and is a miss.
    pub fn last_reply(&self, key: &Digest) -> Option<Vec<String>> {
        let folder = self.folder.join(REPLIES);
        let newest = (1..).take_while(|n| folder.join(format!("{key}.{n}")).exists()).last()?;
        self.get_sealed(REPLIES, &format!("{key}.{newest}"))
    }

    /// Writes files into the store, and is done when they and their names are durable. Several threads may write the same one, so
    /// each goes by a temporary file of its own.
    pub(super) fn write(&self, files: &[(PathBuf, &[u8])]) -> Result<(), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if files.is_empty() {
            return Ok(());
        }
        let begun_in = self.folder.join(BEGUN);
        let folders: BTreeSet<&Path> = files.iter().filter_map(|(path, _)| path.parent()).collect();
        for folder in folders.iter().copied().chain([&*begun_in]) {
            fs_err::create_dir_all(folder).map_err(|e| unwritable(&e))?;
        }
        // A folder is a sync as a file is.
        let mut syncing = Syncing::new(files.len() + folders.len());
        let mut begun = Vec::with_capacity(files.len());
        // What is given up halfway is taken away by the next run.
        for (path, bytes) in files {
            let temporary = begun_in.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
            let (one, file) = Begun::new(temporary, path.clone(), bytes, None)?;
            begun.push(syncing.add(one, file)?);
        }
        syncing.sync().map_err(|e| unwritable(&e))?;
        for begun in begun {
            begun.finish(Over::Anything)?;
        }
        match syncing.is_whole() {
            true => syncing.sync().map_err(|e| unwritable(&e)),
            false => folders.into_iter().try_for_each(sync_folder),
        }
    }
}

/// JSON below the sha256 of itself: no name says what its bytes should be.
pub(super) fn seal<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut bytes = format!("{}\n", Digest::of(&text)).into_bytes();
    bytes.extend(text);
    bytes
}

/// What was sealed; `None` if it is not as it was.
pub(super) fn unseal<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let at = bytes.iter().position(|byte| *byte == b'\n')?;
    let (seal, text) = (std::str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 1..]);
    if Digest::parse(seal)? != Digest::of(text) {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// What the entry of an action says; `None` if it is damaged or not there. It stays where it is.
pub(super) fn action_in(path: &Path) -> Option<Action> {
    unseal(&fs_err::read(path).ok()?)
}

impl Blobs for Store {
    fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        Store::get(self, digest)
    }
}

impl Stored for Store {
    fn action(&self, key: &Digest) -> Option<Vec<Digest>> {
        let action = self.peek_action(key)?;
        action.outputs.iter().all(|digest| self.has(digest)).then_some(action.outputs)
    }

    fn has(&self, blob: &Digest) -> bool {
        self.blob_path(blob).is_file()
    }

    fn has_reply(&self, key: &Digest) -> bool {
        self.folder.join(REPLIES).join(format!("{key}.1")).exists()
    }

    fn vector_keys(&self) -> HashSet<Digest> {
        Store::vector_keys(self)
    }

    /// Where that cannot be read it is said by who would ask.
    fn is_submitted(&self, key: &Digest) -> bool {
        self.submitted().is_ok_and(|submitted| submitted.contains(key))
    }

    fn base(&self, path: &RelPath, content: &Digest) -> Option<Arc<[u8]>> {
        if let Some(bytes) = self.get(content) {
            return Some(bytes);
        }
        let root = self.root.as_ref()?;
        let sought = (path.clone(), *content);
        if let Some(known) = self.sought.lock().unwrap_or_else(PoisonError::into_inner).get(&sought) {
            return known.clone();
        }
        let found: Sought = history::find(root, path, content).map(Arc::from);
        self.sought.lock().unwrap_or_else(PoisonError::into_inner).insert(sought, found.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_blob_is_a_miss_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        let digest = store.put(b"text").unwrap();
        assert_eq!(store.get(&digest).as_deref(), Some(&b"text"[..]));
        for byte in 0..4 {
            let mut bytes = b"text".to_vec();
            bytes[byte] ^= 1;
            fs_err::write(store.blob_path(&digest), bytes).unwrap();
            assert!(store.has(&digest));
            assert_eq!(store.get(&digest), None);
            assert!(!store.has(&digest));
            assert_eq!(store.put(b"text").unwrap(), digest);
        }
    }

    #[test]
    fn any_flipped_bit_of_an_entry_is_a_miss_and_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        let key = Digest::of("key");
        let contents = [Arc::from(&b"text"[..])];
        let usage = Usage { input: 1, output: 2, ..Usage::default() };
        store.put_results(&[Gave { key, contents: &contents, model: Some("m".into()), usage }]).unwrap();
        let outputs = vec![Digest::of("text")];
        let action = Action { outputs, model: Some("m".into()), input_tokens: 1, output_tokens: 2 };
        store.put_replies(&[(key, &["text".into()])]).unwrap();
        for (path, is_aside) in
            [(format!("ac/{key}"), format!("ac-{key}")), (format!("replies/{key}.1"), format!("replies-{key}.1"))]
        {
            let (path, is_aside) = (dir.path().join(path), dir.path().join("damaged").join(is_aside));
            let whole = fs_err::read(&path).unwrap();
            for at in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[at / 8] ^= 1 << (at % 8);
                fs_err::write(&path, &bytes).unwrap();
                if path.starts_with(dir.path().join("ac")) {
                    assert_eq!(store.action(&key), None, "bit {at}");
                    assert!(path.exists(), "a verdict changes nothing");
                    assert_eq!(store.get_action(&key), None, "bit {at}");
                } else {
                    assert_eq!(store.last_reply(&key), None, "bit {at}");
                }
                assert_eq!((path.exists(), fs_err::read(&is_aside).unwrap()), (false, bytes));
            }
            fs_err::write(&path, &whole).unwrap();
        }
        assert_eq!((store.get_action(&key), store.last_reply(&key)), (Some(action), Some(vec!["text".into()])));
    }

    #[test]
    fn many_results_are_put_as_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        let key = |n: usize| Digest::of(n.to_string());
        // Every third has the content of another, and one was there before.
        let contents: Vec<[Arc<[u8]>; 2]> =
            (0..20).map(|n| [(n - n % 3), n + 100].map(|n| Arc::from(n.to_string().as_bytes()))).collect();
        store.put(b"3").unwrap();
        let gave = |n: usize| Gave { key: key(n), contents: &contents[n], model: None, usage: Usage::default() };
        store.put_results(&(0..20).map(gave).collect::<Vec<_>>()).unwrap();
        for (n, contents) in contents.iter().enumerate() {
            let digests = store.action(&key(n)).unwrap();
            assert_eq!(digests, contents.iter().map(Digest::of).collect::<Vec<_>>());
            assert!(digests.iter().zip(contents).all(|(digest, bytes)| store.get(digest).as_ref() == Some(bytes)));
        }
        assert_eq!(fs_err::read_dir(dir.path().join(BEGUN)).unwrap().count(), 0);
        store.put_results(&[]).unwrap();
    }

    #[test]
    fn threads_may_put_the_same_blob_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|n| assert!(store.put(format!("text {n}").as_bytes()).is_ok())));
            }
        });
        assert!((0..20).all(|n| store.get(&Digest::of(format!("text {n}"))).is_some()));
    }

    #[test]
    fn actions_need_their_blobs_and_replies_count_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        let key = Digest::of("key");
        let contents = [Arc::from(&b"x"[..])];
        let put = || store.put_results(&[Gave { key, contents: &contents, model: None, usage: Usage::default() }]);
        put().unwrap();
        assert_eq!(store.action(&key), Some(vec![Digest::of("x")]));
        fs_err::remove_file(store.blob_path(&Digest::of("x"))).unwrap();
        assert_eq!(store.action(&key), None);
        put().unwrap();
        assert_eq!(store.action(&key), Some(vec![Digest::of("x")]));
        fs_err::write(dir.path().join("ac").join(key.to_string()), "{").unwrap();
        assert_eq!(store.action(&key), None);
        assert_eq!(store.last_reply(&key), None);
        store.put_replies(&[(key, &["one".into()])]).unwrap();
        store.put_replies(&[(key, &["two".into()])]).unwrap();
        assert_eq!(store.last_reply(&key), Some(vec!["two".into()]));
        assert!(store.has_reply(&key));
        store.reject_replies(&key);
        assert_eq!((store.has_reply(&key), store.last_reply(&key)), (false, None));
        store.put_replies(&[(key, &["three".into()])]).unwrap();
        assert_eq!(store.last_reply(&key), Some(vec!["three".into()]));
        assert_eq!(fs_err::read_dir(dir.path().join(REPLIES)).unwrap().count(), 3);
    }
}
