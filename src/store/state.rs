//! What this machine remembers between runs: stamps of files with their digests, and what tasks were made from.
//!
//! A help for speed and for words; deleting it changes no verdict but which reason is named. A file that is damaged, or of
//! another version of genmake, counts as none.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{put, unwritable};
use crate::digest::Digest;
use crate::error::Error;
use crate::path::RelPath;
use crate::plan::{Memory, Remembered};

/// What tells that a file was not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// In bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime: i128,
    /// Last change of the inode, in nanoseconds since 1970; 0 where the system has none.
    pub ctime: i128,
    /// The inode; 0 where the system has none.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(meta: &std::fs::Metadata) -> Stamp {
        let mtime = meta.modified().map_or(0, nanos);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let ctime = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
            Stamp { size: meta.len(), mtime, ctime, inode: meta.ino() }
        }
        #[cfg(not(unix))]
        Stamp { size: meta.len(), mtime, ctime: 0, inode: 0 }
    }

    /// Whether a change after `taken` could have left this stamp as it is: as git has it of its index, an entry that is not
    /// clearly older than the snapshot is not trusted. Two seconds is the coarsest clock of a file system (FAT).
    pub fn is_racy(&self, taken: i128) -> bool {
        self.mtime.max(self.ctime) > taken - 2_000_000_000
    }
}

fn nanos(time: SystemTime) -> i128 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    }
}

/// Everything in `.genmake/state`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// When it was taken, in nanoseconds since 1970.
    pub taken: i128,
    /// Files as they were.
    pub stamps: HashMap<RelPath, (Stamp, Digest)>,
    /// What tasks left.
    pub memory: Memory,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Body {
    taken: i128,
    stamps: Vec<(String, Stamp, Digest)>,
    outputs: Vec<(String, Vec<(Digest, Digest)>)>,
    tasks: Vec<(String, Remembered)>,
    half: Vec<String>,
}

const KIND: &str = concat!("genmake-state 3 ", env!("CARGO_PKG_VERSION"));

impl State {
    /// Reads the state below `folder`. `Err` says that there is one and that it is damaged.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub fn read(folder: &Path) -> Result<State, Damaged> {
        let bytes = match fs_err::read(folder.join("state")) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
            Err(_) => return Err(Damaged),
        };
        parse(&bytes)
    }

    /// Writes the state below `folder`.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let body = Body {
            taken: self.taken,
            stamps: sorted(
                self.stamps.iter().map(|(path, (stamp, digest))| (path.to_string(), *stamp, *digest)),
                |e| &e.0,
            ),
            outputs: sorted(self.memory.outputs.iter().map(|(p, written)| (p.to_string(), written.clone())), |e| &e.0),
            tasks: sorted(self.memory.tasks.iter().map(|(p, task)| (p.to_string(), task.clone())), |e| &e.0),
            half: self.memory.half.iter().map(ToString::to_string).collect(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut bytes = format!("{KIND} {:08x}\n", crc32fast::hash(&body)).into_bytes();
        bytes.extend(body);
        let path = folder.join("state");
        if path.is_dir() {
            // Nobody can have meant that, and everything in here can be deleted at any time.
            fs_err::remove_dir_all(&path).map_err(|e| unwritable(&e))?;
        }
        put(&path, &bytes)
    }

    /// The time now, as stamps count it.
    pub fn now() -> i128 {
        nanos(SystemTime::now())
    }
}

/// The state is there and cannot be used; what it held is found out anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

fn sorted<T>(items: impl Iterator<Item = T>, name: impl Fn(&T) -> &String) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_by(|a, b| name(a).cmp(name(b)));
    items
}

fn parse(bytes: &[u8]) -> Result<State, Damaged> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Damaged)?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| Damaged)?;
    let (kind, checksum) = header.rsplit_once(' ').ok_or(Damaged)?;
    if kind != KIND {
        // Another version's: nothing is wrong with it, and nothing in it can be relied on.
        return if kind.starts_with("genmake-state ") { Ok(State::default()) } else { Err(Damaged) };
    }
    let body = &bytes[end + 1..];
    if checksum != format!("{:08x}", crc32fast::hash(body)) {
        return Err(Damaged);
    }
    let body: Body = serde_json::from_slice(body).map_err(|_| Damaged)?;
    let path = |text: &str| RelPath::new(text).map_err(|_| Damaged);
    let mut state = State { taken: body.taken, ..State::default() };
    for (name, stamp, digest) in body.stamps {
        state.stamps.insert(path(&name)?, (stamp, digest));
    }
    for (name, written) in body.outputs {
        state.memory.outputs.insert(path(&name)?, written);
    }
    for (name, task) in body.tasks {
        state.memory.tasks.insert(path(&name)?, task);
    }
    for name in body.half {
        state.memory.half.insert(path(&name)?);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let path = RelPath::new("a/b").unwrap();
        let digest = Digest::of("x");
        let stamp = Stamp { size: 1, mtime: 2, ctime: 3, inode: 4 };
        let mut state = State { taken: 5, ..State::default() };
        state.stamps.insert(path.clone(), (stamp, digest));
        state.memory.outputs.insert(path.clone(), vec![(digest, digest)]);
        state.memory.half.insert(path.clone());
        state.memory.tasks.insert(path, Remembered { parts: vec![], key: digest, checked: None });
        state
    }

    #[test]
    fn what_is_damaged_anywhere_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()), Ok(State::default()));
        state().write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()), Ok(state()));
        let whole = fs_err::read(dir.path().join("state")).unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            // In the header a flipped bit may make it another version's, which counts as none as well.
            let read = parse(&bytes);
            assert!(read.is_err() || (at < header && read == Ok(State::default())), "flipped at {at}");
        }
        fs_err::remove_file(dir.path().join("state")).unwrap();
        fs_err::create_dir(dir.path().join("state")).unwrap();
        assert_eq!(State::read(dir.path()), Err(Damaged));
        state().write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()), Ok(state()));
    }
}
