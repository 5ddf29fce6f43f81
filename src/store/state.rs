//! What this machine remembers between runs: stamps of files with their digests, and what tasks were made from.
//!
//! A help for speed and for words; deleting it changes no verdict but which reason is named. A file that is damaged, or of
//! another version of genmake, counts as none.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::observed::Known;
use super::snapshot::{Entry, Folder, Meta, Rows, Section, Sections, Settled, Snapshot, Table, flag};
use super::{Observed, unwritable};
use crate::digest::Digest;
use crate::error::Error;
use crate::path::RelPath;
use crate::plan::{Memory, Remembered};
use crate::tree::{Stamp, put_unsynced};

/// Everything in `.genmake/state`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// When it was taken, in nanoseconds since 1970.
    pub taken: i64,
    /// Files as they were.
    pub stamps: HashMap<RelPath, (Stamp, Digest)>,
    /// What tasks left.
    pub memory: Memory,
}

/// What a verdict "everything is up to date" rests on, so that it need only be asked whether that has moved.
#[derive(Debug, Default)]
pub struct Basis {
    /// The Genfile's name.
    pub genfile: String,
    /// The environment variables that rules name, and the digests of their values; `None` where one is not set.
    pub env: Vec<(String, Option<Digest>)>,
    /// Files and folders as the run saw them.
    pub observed: Observed,
    /// The tasks.
    pub tasks: Vec<BasisTask>,
    /// What their kept forms share.
    pub lists: Vec<u8>,
}

/// A task of a [`Basis`]. Files go by their numbers in [`Observed`].
#[derive(Debug, Default)]
pub struct BasisTask {
    /// Its kept form, which only the graph can read.
    pub bytes: Vec<u8>,
    /// The files that it is made from.
    pub reads: Vec<u32>,
    /// Its outputs.
    pub outputs: Vec<u32>,
}

/// The state that was read: what tells whether another is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    taken: i64,
    header: Vec<u8>,
}

/// What is remembered of one task: of itself, and of all its outputs by their numbers.
pub(super) type MemoryRow = (Option<Remembered>, Vec<(u32, Vec<(Digest, Digest)>)>);

/// What is remembered beside the tasks: outputs, tasks, and what is half-written.
type Rest = (Vec<(String, Vec<(Digest, Digest)>)>, Vec<(String, Remembered)>, Vec<String>);

impl State {
    /// Reads the state below `folder`. `Err` says that there is one and that it is damaged.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub fn read(folder: &Path) -> Result<(State, Origin), Damaged> {
        let Some(mut snapshot) = Snapshot::open(&folder.join("state"))? else { return Ok(Default::default()) };
        let table = snapshot.table()?;
        let digests = snapshot.section(Section::Digests)?;
        let mut state = State { taken: table.meta.taken, ..State::default() };
        for id in 0..table.len() as u32 {
            let (entry, path) = (table.entry(id).ok_or(Damaged)?, table.path(id).ok_or(Damaged)?);
            if entry.flags & (flag::ABSENT | flag::EXISTS | flag::OTHER) == 0 {
                state.stamps.insert(path, (entry.stamp, digest_at(&digests, id).ok_or(Damaged)?));
            }
        }
        let memory = snapshot.section(Section::Memory)?;
        let tasks = table.meta.settled.as_ref().map_or(0, |settled| settled.tasks);
        let rows = Rows::read(&memory, tasks).ok_or(Damaged)?;
        for at in 0..tasks {
            let row: MemoryRow = postcard::from_bytes(rows.get(at).ok_or(Damaged)?).map_err(|_| Damaged)?;
            recall(&mut state.memory, row, &table).ok_or(Damaged)?;
        }
        let rest: Rest = postcard::from_bytes(&snapshot.section(Section::Rest)?).map_err(|_| Damaged)?;
        let path = |text: &str| RelPath::new(text).map_err(|_| Damaged);
        for (name, written) in rest.0 {
            state.memory.outputs.insert(path(&name)?, written);
        }
        for (name, task) in rest.1 {
            state.memory.tasks.insert(path(&name)?, task);
        }
        for name in rest.2 {
            state.memory.half.insert(path(&name)?);
        }
        let origin = Origin { taken: state.taken, header: snapshot.header };
        Ok((state, origin))
    }

    /// Writes the state below `folder`, with the `basis` of a verdict if there is one; does nothing where all but the time is as
    /// it was in `origin`.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn write(mut self, folder: &Path, basis: Option<&Basis>, origin: &Origin) -> Result<(), Error> {
        let now = std::mem::replace(&mut self.taken, origin.taken);
        let mut sections = self.sections(basis);
        if sections.header() == origin.header {
            return Ok(());
        }
        self.taken = now;
        sections.set(Section::Meta, self.sections(basis).0[Section::Meta as usize].clone());
        write(folder, &sections)
    }

    fn sections(&self, basis: Option<&Basis>) -> Sections {
        let none = Observed::default();
        let mut sections = Sections::default();
        let mut memory = self.memory.clone();
        let rows = match basis {
            None => Vec::new(),
            Some(basis) => basis.tasks.iter().map(|task| row(&mut memory, task, &basis.observed)).collect::<Vec<_>>(),
        };
        let (files, folders): (Vec<_>, Vec<Folder>) = match basis {
            Some(basis) => (basis.observed.files.clone(), basis.observed.folders.values().cloned().collect()),
            None => self.plain_files(),
        };
        let observed = basis.map_or(&none, |basis| &basis.observed);
        let settled = basis.map(|basis| Settled {
            genfile: basis.genfile.clone(),
            env: basis.env.clone(),
            shipped: observed.shipped.clone(),
            tasks: basis.tasks.len(),
        });
        let meta = Meta { taken: self.taken, folders: Vec::new(), settled };
        let entries: Vec<(RelPath, Entry)> = files.iter().map(|(path, entry, _)| (path.clone(), *entry)).collect();
        Table::new(meta, folders.into_iter(), &entries).put(&mut sections);
        let none = [0; 32];
        let digests = files.iter().flat_map(|(.., digest)| digest.as_ref().map_or(none, |digest| *digest.bytes()));
        sections.set(Section::Digests, digests.collect());
        if let Some(basis) = basis {
            sections.set(Section::Readers, readers(&basis.tasks, files.len()));
            sections.set(Section::Lists, basis.lists.clone());
            sections.set(Section::Tasks, Rows::write(basis.tasks.iter().map(|task| &task.bytes)));
        }
        sections.set(Section::Memory, Rows::write(rows.iter()));
        let rest: Rest = (
            sorted(memory.outputs.iter().map(|(path, written)| (path.to_string(), written.clone()))),
            sorted(memory.tasks.iter().map(|(path, task)| (path.to_string(), task.clone()))),
            memory.half.iter().map(ToString::to_string).collect(),
        );
        sections.set(Section::Rest, postcard::to_stdvec(&rest).unwrap_or_default());
        sections
    }

    /// Files and folders where there is no basis: those with a stamp.
    fn plain_files(&self) -> (Vec<Known>, Vec<Folder>) {
        let entry = |(path, (stamp, digest)): (&RelPath, &(Stamp, Digest))| {
            (path.clone(), Entry { stamp: *stamp, flags: 0 }, Some(*digest))
        };
        let mut files: Vec<_> = self.stamps.iter().map(entry).collect();
        files.sort_by(|(a, ..), (b, ..)| (a.dir(), a.name()).cmp(&(b.dir(), b.name())));
        let mut folders: Vec<Folder> = Vec::new();
        for (path, ..) in &files {
            if folders.last().is_none_or(|folder| folder.path != path.dir()) {
                folders.push(Folder { path: path.dir().to_owned(), ..Folder::default() });
            }
        }
        (files, folders)
    }
}

/// Replaces the state below `folder`. It is not synced: what a crash of the machine leaves of it has the wrong checksum.
///
/// # Errors
/// [`crate::error::Code::Unwritable`], naming the path.
pub(super) fn write(folder: &Path, sections: &Sections) -> Result<(), Error> {
    let path = folder.join("state");
    if path.is_dir() {
        // Nobody can have meant that, and everything in here can be deleted at any time.
        fs_err::remove_dir_all(&path).map_err(|e| unwritable(&e))?;
    }
    let header = sections.header();
    put_unsynced(&path, std::iter::once(&header).chain(&sections.0))
}

/// The digest of a file, by its number.
pub(super) fn digest_at(digests: &[u8], id: u32) -> Option<Digest> {
    let bytes = digests.get(id as usize * 32..)?.first_chunk::<32>()?;
    Some(Digest::from_bytes(*bytes))
}

/// Takes what is remembered of a task out of `memory`, as a row.
fn row(memory: &mut Memory, task: &BasisTask, observed: &Observed) -> Vec<u8> {
    let paths: Vec<(u32, &RelPath)> =
        task.outputs.iter().filter_map(|id| Some((*id, &observed.files.get(*id as usize)?.0))).collect();
    let remembered = paths.first().and_then(|(_, path)| memory.tasks.remove(*path));
    let written = paths.iter().map(|(id, path)| (*id, memory.outputs.remove(*path).unwrap_or_default())).collect();
    let row: MemoryRow = (remembered, written);
    postcard::to_stdvec(&row).unwrap_or_default()
}

/// Puts what a row remembers into `memory`.
pub(super) fn recall(memory: &mut Memory, (remembered, written): MemoryRow, table: &Table) -> Option<()> {
    if let (Some(remembered), Some((first, _))) = (remembered, written.first()) {
        memory.tasks.insert(table.path(*first)?, remembered);
    }
    for (id, written) in written.into_iter().filter(|(_, written)| !written.is_empty()) {
        memory.outputs.insert(table.path(id)?, written);
    }
    Some(())
}

/// For each file the tasks that read or make it.
fn readers(tasks: &[BasisTask], files: usize) -> Vec<u8> {
    let mut rows: Vec<Vec<u8>> = vec![Vec::new(); files];
    for (at, task) in tasks.iter().enumerate() {
        for id in task.reads.iter().chain(&task.outputs) {
            // Files that ship with genmake do not move.
            if let Some(row) = rows.get_mut(*id as usize) {
                row.extend((at as u32).to_le_bytes());
            }
        }
    }
    Rows::write(rows.iter())
}

/// The state is there and cannot be used; what it held is found out anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

fn sorted<T>(items: impl Iterator<Item = (String, T)>) -> Vec<(String, T)> {
    items.collect::<BTreeMap<_, _>>().into_iter().collect()
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

    fn read(folder: &Path) -> Result<State, Damaged> {
        State::read(folder).map(|(state, _)| state)
    }

    #[test]
    fn what_is_damaged_anywhere_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), Ok(State::default()));
        state().write(dir.path(), None, &Origin::default()).unwrap();
        assert_eq!(read(dir.path()), Ok(state()));
        let file = dir.path().join("state");
        let whole = fs_err::read(&file).unwrap();
        for cut in 0..whole.len() {
            fs_err::write(&file, &whole[..cut]).unwrap();
            // A header that is cut within its version is one of another version, which counts as none as well.
            let read = read(dir.path());
            assert!(read.is_err() || (cut < 40 && read == Ok(State::default())), "cut at {cut}");
        }
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            fs_err::write(&file, &bytes).unwrap();
            let read = read(dir.path());
            assert!(read.is_err() || (at / 8 < 40 && read == Ok(State::default())), "flipped at {at}");
        }
        fs_err::remove_file(&file).unwrap();
        fs_err::create_dir(&file).unwrap();
        assert_eq!(read(dir.path()), Err(Damaged));
        state().write(dir.path(), None, &Origin::default()).unwrap();
        assert_eq!(read(dir.path()), Ok(state()));
    }

    #[test]
    fn what_is_as_it_was_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        state().write(dir.path(), None, &Origin::default()).unwrap();
        let (_, origin) = State::read(dir.path()).unwrap();
        fs_err::remove_file(dir.path().join("state")).unwrap();
        State { taken: 9, ..state() }.write(dir.path(), None, &origin).unwrap();
        assert!(!dir.path().join("state").exists());
        State { taken: 9, memory: Memory::default(), ..state() }.write(dir.path(), None, &origin).unwrap();
        assert_eq!(read(dir.path()).unwrap().taken, 9);
    }
}
