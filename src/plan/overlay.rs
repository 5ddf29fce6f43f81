//! The tree as it will be when what can be known without asking is made, so that a plan looks through what is stale.

use std::collections::HashMap;
use std::sync::Arc;

use super::making::Making;
use super::{Fate, Ground, Judged, Verdict};
use crate::digest::Digest;
use crate::error::Error;
use crate::files::Files;
use crate::graph::TaskId;
use crate::path::{Pattern, RelPath};

/// A tree, and over it what tasks will have made.
pub(super) struct Overlay<'a> {
    under: &'a dyn Files,
    made: HashMap<RelPath, Made>,
}

enum Made {
    Bytes(Arc<[u8]>),
    /// In the store by this digest.
    Stored(Digest),
}

impl<'a> Overlay<'a> {
    pub fn new(under: &'a dyn Files) -> Overlay<'a> {
        Overlay { under, made: HashMap::new() }
    }

    /// Puts in what a task leaves, where that is known.
    pub fn add(&mut self, ground: &Ground, id: TaskId, judged: &Judged) {
        let outputs = ground.graph.tasks[id].outputs.iter().map(|output| output.path.clone());
        // What a person's bytes stay in is as it is.
        let stays = |path: &RelPath| {
            judged.edits.iter().any(|edit| edit.path == *path && matches!(edit.fate, Fate::Accepted | Fate::Kept))
        };
        match (&judged.verdict, &judged.making) {
            (Verdict::Stale(_), Some(Making::Bytes(bytes))) => {
                let made = outputs.zip(bytes.iter().cloned().map(Made::Bytes));
                self.made.extend(made.filter(|(path, _)| !stays(path)));
            }
            (Verdict::Restorable(_, digests), _) => {
                let made = outputs.zip(digests.iter().copied().map(Made::Stored));
                self.made.extend(made.filter(|(path, _)| !stays(path)));
            }
            _ => {}
        }
    }
}

impl Files for Overlay<'_> {
    fn digest(&self, path: &RelPath) -> Result<Option<Digest>, Error> {
        match self.made.get(path) {
            None => self.under.digest(path),
            Some(Made::Bytes(bytes)) => Ok(Some(Digest::of(bytes))),
            Some(Made::Stored(digest)) => Ok(Some(*digest)),
        }
    }

    fn read(&self, path: &RelPath) -> Result<Option<Arc<[u8]>>, Error> {
        match self.made.get(path) {
            None => self.under.read(path),
            Some(Made::Bytes(bytes)) => Ok(Some(Arc::clone(bytes))),
            Some(Made::Stored(digest)) if self.under.digest(path)? == Some(*digest) => self.under.read(path),
            Some(Made::Stored(digest)) => self.under.blob(digest).map(Some),
        }
    }

    fn size(&self, path: &RelPath) -> Result<Option<u64>, Error> {
        match self.made.get(path) {
            None => self.under.size(path),
            Some(_) => Ok(self.read(path)?.map(|bytes| bytes.len() as u64)),
        }
    }

    fn leads_to(&self, path: &RelPath) -> Option<String> {
        if self.made.contains_key(path) { None } else { self.under.leads_to(path) }
    }

    fn blob(&self, digest: &Digest) -> Result<Arc<[u8]>, Error> {
        self.under.blob(digest)
    }

    fn exists(&self, path: &RelPath) -> bool {
        self.made.contains_key(path) || self.under.exists(path)
    }

    fn list(&self, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        self.under.list(pattern)
    }

    fn leaves_root(&self, path: &RelPath) -> bool {
        self.under.leaves_root(path)
    }
}
