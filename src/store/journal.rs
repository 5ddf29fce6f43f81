//! What this run is about to put where: written and synced before each rename, so that after a crash a file that matches its
//! record is known as genmake's own and not taken for a hand edit.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::unwritable;
use crate::digest::Digest;
use crate::error::Error;
use crate::path::RelPath;
use crate::plan::Memory;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub path: RelPath,
    /// The digest of what is written there; `None` where a command is about to write, and nobody knows yet what.
    pub content: Option<Digest>,
    /// The action key that made it.
    pub key: Digest,
    /// What of a person's stands there and is in the store: it is merged into what is written, or put back after a command.
    pub stood: Option<Digest>,
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: fs_err::File,
}

impl Journal {
    /// Reads the records that an earlier run left; a torn or damaged tail is dropped.
    pub fn read(folder: &Path) -> Vec<Record> {
        let bytes = fs_err::read(folder.join("journal")).unwrap_or_default();
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while let Some((record, after)) = frame(rest) {
            records.push(record);
            rest = after;
        }
        records
    }

    /// Adds to `memory` what records say of outputs: whose bytes they are, and which may be half-written. Gives what of a
    /// person's a command was to be merged with, and its key.
    pub fn recall(
        records: impl IntoIterator<Item = Record>,
        memory: &mut Memory,
    ) -> BTreeMap<RelPath, (Digest, Digest)> {
        let mut taken = BTreeMap::new();
        for Record { path, content, key, stood } in records {
            match (content, stood) {
                (Some(content), None) => {
                    memory.half.remove(&path);
                    let written = memory.outputs.entry(path).or_default();
                    written.retain(|old| *old != (content, key));
                    written.push((content, key));
                }
                // Nobody but the lock says that a person's bytes are an output's content.
                (Some(_), Some(_)) => {
                    memory.half.remove(&path);
                    taken.remove(&path);
                }
                (None, stood) => {
                    taken.extend(stood.map(|stood| (path.clone(), (stood, key))));
                    memory.half.insert(path);
                }
            }
        }
        taken
    }

    /// Opens the journal for appending.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn open(folder: &Path) -> Result<Journal, Error> {
        let path = folder.join("journal");
        // A torn tail would hide what is appended after it.
        let kept: Vec<u8> = Journal::read(folder).iter().flat_map(bytes_of).collect();
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() != kept.len() as u64) {
            super::put(&path, &kept)?;
        }
        let is_new = !path.exists();
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&path).map_err(|e| unwritable(&e))?;
        if is_new {
            super::sync_folder(folder)?;
        }
        Ok(Journal { path, file })
    }

    /// Appends records, durably.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn append(&mut self, records: &[Record]) -> Result<(), Error> {
        let bytes: Vec<u8> = records.iter().flat_map(bytes_of).collect();
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(|e| unwritable(&e))
    }

    /// Ends the journal: everything in it stands in the lock and the state.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn finish(self) -> Result<(), Error> {
        drop(self.file);
        fs_err::remove_file(&self.path).map_err(|e| unwritable(&e))
    }
}

/// What stands for a content that nobody knows yet.
const UNKNOWN: &str = "-";

/// Length and checksum, then path, content, key and perhaps what stood there, with line breaks between; a path holds none.
fn bytes_of(record: &Record) -> Vec<u8> {
    let content = record.content.map_or_else(|| UNKNOWN.to_owned(), |digest| digest.to_string());
    let stood = record.stood.map_or_else(String::new, |digest| format!("\n{digest}"));
    let body = format!("{}\n{content}\n{}{stood}", record.path, record.key);
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(body.as_bytes()).to_le_bytes());
    bytes.extend(body.as_bytes());
    bytes
}

fn frame(bytes: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let body = rest.get(..length)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut lines = std::str::from_utf8(body).ok()?.split('\n');
    let path = RelPath::output(lines.next()?).ok()?;
    let content = match lines.next()? {
        UNKNOWN => None,
        text => Some(Digest::parse(text)?),
    };
    let key = Digest::parse(lines.next()?)?;
    let stood = match lines.next() {
        None => None,
        Some(text) => Some(Digest::parse(text)?),
    };
    let record = Record { path, content, key, stood };
    Some((record, &rest[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_being_cut_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let record = |name: &str| Record {
            path: RelPath::new(name).unwrap(),
            content: (name != "b").then(|| Digest::of(name)),
            key: Digest::of("key"),
            stood: (name != "a").then(|| Digest::of("stood")),
        };
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.append(&[record("a"), record("b")]).unwrap();
        journal.append(&[record("c/é x")]).unwrap();
        let whole = fs_err::read(dir.path().join("journal")).unwrap();
        let all = [record("a"), record("b"), record("c/é x")];
        for cut in 0..=whole.len() {
            fs_err::write(dir.path().join("journal"), &whole[..cut]).unwrap();
            let read = Journal::read(dir.path());
            assert_eq!(read, all[..read.len()]);
            // What is appended after a torn tail is found.
            let mut journal = Journal::open(dir.path()).unwrap();
            journal.append(&[record("d")]).unwrap();
            assert_eq!(Journal::read(dir.path()).last(), Some(&record("d")));
        }
        let mut damaged = whole.clone();
        damaged[10] ^= 1;
        fs_err::write(dir.path().join("journal"), damaged).unwrap();
        assert_eq!(Journal::read(dir.path()), []);
    }
}
