//! The content-addressed store: blobs by sha256, results by action key, raw replies by action key and attempt.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::write::{put_shared, sync_folder};
use super::{history, unwritable};
use crate::digest::Digest;
use crate::error::Error;
use crate::path::RelPath;
use crate::plan::Stored;

/// The folder of what is being written, in the store's own.
const BEGUN: &str = "begun";

/// Where a blob is, relative to the root: for people who want it back.
pub fn blob_name(digest: &Digest) -> String {
    let name = digest.to_string();
    format!("{}/store/cas/{}/{}", super::FOLDER, &name[..2], &name[2..])
}

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

/// The store in `.genmake/store`.
pub struct Store {
    folder: PathBuf,
    /// Where git's history is sought, too.
    root: Option<PathBuf>,
    /// What was sought there.
    sought: Mutex<HashMap<(RelPath, Digest), Sought>>,
}

/// What git's history has of a content: `None` if nothing.
type Sought = Option<Arc<[u8]>>;

impl Store {
    /// The store below `folder`; nothing is made before something is put.
    pub fn new(folder: PathBuf) -> Store {
        Store { folder, root: None, sought: Mutex::default() }
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
        let path = self.blob_path(&digest);
        if self.get(&digest).is_none() {
            self.write(&path, bytes)?;
        } else {
            // It is put anew, and so is young again: `gc` goes by that.
            let file = fs_err::OpenOptions::new().append(true).open(&path);
            let _ = file.and_then(|file| file.file().set_modified(SystemTime::now()));
        }
        Ok(digest)
    }

    /// A blob's bytes, verified. A damaged one is set aside and is a miss.
    pub fn get(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        let path = self.blob_path(digest);
        let bytes = fs_err::read(&path).ok()?;
        if Digest::of(&bytes) == *digest {
            return Some(bytes.into());
        }
        let aside = self.folder.join("damaged");
        let _ = fs_err::create_dir_all(&aside);
        let _ = fs_err::rename(&path, aside.join(digest.to_string()));
        None
    }

    /// Notes what an action gave; the blobs are put before.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put_action(&self, key: &Digest, action: &Action) -> Result<(), Error> {
        let text = serde_json::to_vec(action).unwrap_or_default();
        self.write(&self.folder.join("ac").join(key.to_string()), &text)
    }

    /// What an action gave; an entry that cannot be read is a miss.
    pub fn get_action(&self, key: &Digest) -> Option<Action> {
        let text = fs_err::read(self.folder.join("ac").join(key.to_string())).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Keeps a raw reply as it came, before anything else is done with it: one text for each output.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put_reply(&self, key: &Digest, texts: &[String]) -> Result<(), Error> {
        let folder = self.folder.join("replies");
        let attempt = (1..).find(|n| !folder.join(format!("{key}.{n}")).exists()).unwrap_or(1);
        let text = serde_json::to_vec(texts).unwrap_or_default();
        self.write(&folder.join(format!("{key}.{attempt}")), &text)
    }

    /// Whether there is a raw reply for a key.
    pub fn has_reply(&self, key: &Digest) -> bool {
        self.folder.join("replies").join(format!("{key}.1")).exists()
    }

    /// The newest raw reply for a key.
    pub fn last_reply(&self, key: &Digest) -> Option<Vec<String>> {
        let folder = self.folder.join("replies");
        let newest = (1..).take_while(|n| folder.join(format!("{key}.{n}")).exists()).last()?;
        let text = fs_err::read(folder.join(format!("{key}.{newest}"))).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let Some(folder) = path.parent() else { return Ok(()) };
        let begun = self.folder.join(BEGUN);
        for folder in [folder, &begun] {
            fs_err::create_dir_all(folder).map_err(|e| unwritable(&e))?;
        }
        put_shared(path, bytes, &begun)?;
        sync_folder(folder)
    }
}

impl Stored for Store {
    fn action(&self, key: &Digest) -> Option<Vec<Digest>> {
        let action = self.get_action(key)?;
        action.outputs.iter().all(|digest| self.has(digest)).then_some(action.outputs)
    }

    fn has(&self, blob: &Digest) -> bool {
        self.blob_path(blob).is_file()
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
        let action = Action { outputs: vec![Digest::of("x")], model: None, input_tokens: 1, output_tokens: 2 };
        store.put_action(&key, &action).unwrap();
        assert_eq!(store.action(&key), None);
        store.put(b"x").unwrap();
        assert_eq!(store.action(&key), Some(action.outputs));
        fs_err::write(dir.path().join("ac").join(key.to_string()), "{").unwrap();
        assert_eq!(store.action(&key), None);
        assert_eq!(store.last_reply(&key), None);
        store.put_reply(&key, &["one".into()]).unwrap();
        store.put_reply(&key, &["two".into()]).unwrap();
        assert_eq!(store.last_reply(&key), Some(vec!["two".into()]));
    }
}
