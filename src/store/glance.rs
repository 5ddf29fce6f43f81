//! A glance at the tree: whether anything moved since everything was up to date, by stamps alone.
//!
//! A file whose stamp is another, or too young to be trusted, is hashed; a folder whose stamp is, is listed. What cannot be said
//! in this way is said by the full path. A glance writes nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::observed::identity;
use super::snapshot::{Entry, Folder, Identity, Rows, Section, Snapshot, Table, flag};
use super::state::{MemoryRow, digest_at, recall, write};
use crate::digest::Digest;
use crate::error::Error;
use crate::path::RelPath;
use crate::plan::Memory;
use crate::tree::{Stamp, in_nanos, names, now};

/// How many files one thread looks at before it takes the next.
const CHUNK: usize = 512;

/// Of how many files the stamps must have moved before it is worth a write to note them anew.
const WORTH_NOTING: usize = 256;

/// What a glance found.
pub struct Glance {
    folder: PathBuf,
    snapshot: Snapshot,
    table: Table,
    digests: Option<Vec<u8>>,
    began: i64,
    /// Whether only some files were looked at.
    is_partial: bool,
    moved: Vec<u32>,
    /// Files that are what they were under another stamp, or under one that was too young.
    again: Vec<(u32, Stamp)>,
}

/// The part of a project that what moved may concern.
pub struct Part {
    /// The tasks, by their numbers among all, ascending.
    pub tasks: Vec<usize>,
    /// Their kept forms, likewise.
    pub kept: Vec<Vec<u8>>,
    /// What kept forms share.
    pub lists: Vec<u8>,
    /// What is remembered of them.
    pub memory: Memory,
}

/// What became of a file.
enum Moved {
    Content,
    StampOnly(Stamp),
}

impl Glance {
    /// Looks at the tree below `root`, whose Genfile is called `genfile`. `None` where only the full path can say what is up to
    /// date: nothing was noted when everything was, or something moved that decides which tasks there are.
    pub fn take(root: &Path, folder: &Path, genfile: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Glance> {
        let mut glance = Glance::begin(root, folder, genfile, env)?;
        let suspects = suspects(root, &glance.table)?;
        glance.look_closer(root, &suspects)?;
        Some(glance)
    }

    /// Takes these files as moved and looks at nothing else but what decides which tasks there are. `None` as [`Glance::take`].
    pub fn of_files(
        root: &Path,
        folder: &Path,
        genfile: &str,
        env: &dyn Fn(&str) -> Option<String>,
        files: &BTreeSet<RelPath>,
    ) -> Option<Glance> {
        let mut glance = Glance { is_partial: true, ..Glance::begin(root, folder, genfile, env)? };
        let table = &glance.table;
        let mut suspects = Vec::new();
        for id in 0..table.len() as u32 {
            let entry = table.entry(id)?;
            if entry.flags & flag::LOADED == 0 {
                continue;
            }
            let now = root.join(table.path(id)?).metadata().ok().filter(Metadata::is_file);
            match now.map(|meta| Stamp::of(&meta)) {
                None if entry.flags & flag::ABSENT != 0 => {}
                Some(now) if entry.flags & flag::ABSENT == 0 => {
                    if now != entry.stamp || now.is_racy(table.meta.taken) {
                        suspects.push(id);
                    }
                }
                _ => return None,
            }
        }
        // What moved of these decides which tasks there are: then this is none.
        glance.look_closer(root, &suspects)?;
        let mut moved = Vec::new();
        for path in files {
            // What no verdict rested on was not there or matched nothing, and its folder is as it was.
            let Some(id) = glance.table.find(path) else { continue };
            let entry = glance.table.entry(id)?;
            let is_known = entry.flags & (flag::ABSENT | flag::EXISTS | flag::OTHER | flag::LOADED) == 0;
            if !is_known || (entry.flags & flag::OUTPUT == 0 && !root.join(path).is_file()) {
                return None;
            }
            moved.push(id);
        }
        moved.sort_unstable();
        glance.moved = moved;
        Some(glance)
    }

    /// Opens the state, and sees whether the same folders have the same names.
    fn begin(root: &Path, folder: &Path, genfile: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Glance> {
        // A run that is under way, or was killed.
        if folder.join("journal").exists() || folder.join("running").exists() {
            return None;
        }
        let began = now();
        let mut snapshot = Snapshot::open(&folder.join("state")).ok()??;
        let table = snapshot.table().ok()?;
        let settled = table.meta.settled.as_ref().filter(|settled| settled.genfile == genfile)?;
        if settled.env.iter().any(|(name, digest)| env(name).map(Digest::of) != *digest) {
            return None;
        }
        if !table.meta.folders.iter().all(|at| is_same_folder(root, at, table.meta.taken)) {
            return None;
        }
        let (folder, digests, moved, again) = (folder.to_path_buf(), None, Vec::new(), Vec::new());
        Some(Glance { folder, snapshot, table, digests, began, is_partial: false, moved, again })
    }

    /// Whether everything is as it was when it was up to date.
    pub fn is_fresh(&self) -> bool {
        self.moved.is_empty()
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        self.table.meta.settled.as_ref().map_or(0, |settled| settled.tasks)
    }

    /// Whether so many stamps moved, and can be trusted by now, that noting them saves more than it costs.
    pub fn is_worth_noting(&self) -> bool {
        let count = self.again.iter().filter(|(_, stamp)| !stamp.is_racy(self.began)).count();
        count >= WORTH_NOTING && count >= self.table.len() / 64
    }

    /// Whether the state is still the one that was looked at: the guard was not held meanwhile.
    pub fn still_holds(&self) -> bool {
        let now = Snapshot::open(&self.folder.join("state"));
        matches!(now, Ok(Some(now)) if now.header == self.snapshot.header) && !self.folder.join("journal").exists()
    }

    /// The tasks that what moved may concern, directly or through what they make. `None` where that is most of them, or cannot be
    /// told.
    pub fn part(&mut self) -> Option<Part> {
        let all = self.tasks();
        let most = (all / 4).max(64);
        let readers = self.snapshot.section(Section::Readers).ok()?;
        let readers = Rows::read(&readers, self.table.len())?;
        let remembered = self.snapshot.section(Section::Memory).ok()?;
        let remembered = Rows::read(&remembered, all)?;
        let mut part = BTreeSet::new();
        let mut memory = Memory::default();
        let mut queue = self.moved.clone();
        while let Some(file) = queue.pop() {
            for task in readers.numbers(file as usize)?.map(|task| task as usize) {
                if !part.insert(task) {
                    continue;
                }
                if part.len() > most {
                    return None;
                }
                let row: MemoryRow = postcard::from_bytes(remembered.get(task)?).ok()?;
                queue.extend(row.1.iter().map(|(output, _)| *output));
                recall(&mut memory, row, &self.table)?;
            }
        }
        let kept = self.snapshot.section(Section::Tasks).ok()?;
        let rows = Rows::read(&kept, all)?;
        let kept: Option<Vec<Vec<u8>>> = part.iter().map(|task| rows.get(*task).map(<[u8]>::to_vec)).collect();
        let lists = self.snapshot.section(Section::Lists).ok()?;
        let tasks = part.into_iter().collect();
        Some(Part { tasks, kept: kept?, lists, memory })
    }

    /// When it was taken, as stamps count time.
    pub fn began(&self) -> i64 {
        self.began
    }

    /// Whether only some files were looked at, so that nothing is known of the tasks that those do not concern.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Since when stamps that were not looked at can be trusted.
    pub fn trusted(&self) -> i64 {
        if self.is_partial { self.table.meta.taken } else { self.began }
    }

    /// The digest of a file, as it was when everything was up to date.
    pub fn digest(&mut self, path: &RelPath) -> Option<Digest> {
        let id = self.table.find(path)?;
        digest_at(self.digests()?, id)
    }

    /// Whether any verdict rested on a file.
    pub fn knows(&self, path: &RelPath) -> bool {
        self.table.find(path).is_some()
    }

    /// A file's path by its number.
    pub fn path(&self, id: u32) -> Option<RelPath> {
        self.table.path(id)
    }

    /// What is known of these files that did not move.
    pub fn stamps<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a RelPath>,
    ) -> Option<HashMap<RelPath, (Stamp, Digest)>> {
        let digests = self.digests()?.to_vec();
        let moved: BTreeSet<u32> = self.moved.iter().copied().collect();
        let again: HashMap<u32, Stamp> = self.again.iter().copied().collect();
        let mut stamps = HashMap::new();
        for path in paths {
            let known = |id: &u32| !moved.contains(id);
            let Some(id) = self.table.find(path).filter(known) else { continue };
            let entry = self.table.entry(id)?;
            if entry.flags & (flag::ABSENT | flag::EXISTS | flag::OTHER) == 0 {
                let stamp = again.get(&id).copied().unwrap_or(entry.stamp);
                stamps.insert(path.clone(), (stamp, digest_at(&digests, id)?));
            }
        }
        Some(stamps)
    }

    /// Notes what is known by now: everything is up to date again, with these files as they are, and `memory` of these tasks.
    /// `None` where that does not fit into what there is.
    pub fn note(
        mut self,
        files: &HashMap<RelPath, (Option<Stamp>, Digest)>,
        tasks: &[usize],
        memory: &Memory,
    ) -> Option<Result<(), Error>> {
        if self.is_partial && !self.explains(files, tasks)? {
            return None;
        }
        let mut sections = self.snapshot.sections().ok()?;
        let mut digests = std::mem::take(&mut sections.0[Section::Digests as usize]);
        let mut note = |table: &mut Table, id: u32, stamp: Option<Stamp>, digest: Option<Digest>| -> Option<()> {
            let entry = table.entry(id)?;
            // Without a stamp the file is looked at again.
            let none = Stamp { size: 0, mtime: 0, ctime: 0, inode: 0 };
            // What was asked for no more than its being there counts by its content from now on.
            let unread = flag::ABSENT | flag::EXISTS | flag::OTHER;
            let flags = if digest.is_some() { entry.flags & !unread } else { entry.flags };
            table.set(id, Entry { stamp: stamp.unwrap_or(none), flags });
            if let Some(digest) = digest {
                digests.get_mut(id as usize * 32..)?.first_chunk_mut::<32>()?.copy_from_slice(digest.bytes());
            }
            Some(())
        };
        for (id, stamp) in &self.again {
            note(&mut self.table, *id, Some(*stamp), None)?;
        }
        for (path, (stamp, digest)) in files {
            let id = self.table.find(path)?;
            note(&mut self.table, id, *stamp, Some(*digest))?;
        }
        if !tasks.is_empty() {
            let old = std::mem::take(&mut sections.0[Section::Memory as usize]);
            let rows = Rows::read(&old, self.tasks())?;
            let mut new = HashMap::new();
            for task in tasks {
                let row: MemoryRow = postcard::from_bytes(rows.get(*task)?).ok()?;
                let paths: Option<Vec<(u32, RelPath)>> =
                    row.1.iter().map(|(id, _)| Some((*id, self.table.path(*id)?))).collect();
                let paths = paths?;
                let written =
                    |(id, path): &(u32, RelPath)| (*id, memory.outputs.get(path).cloned().unwrap_or_default());
                let remembered = paths.first().and_then(|(_, path)| memory.tasks.get(path).cloned());
                let row: MemoryRow = (remembered, paths.iter().map(written).collect());
                new.insert(*task, postcard::to_stdvec(&row).ok()?);
            }
            let row = |task| new.get(&task).map(Vec::as_slice).or_else(|| rows.get(task)).unwrap_or_default();
            sections.set(Section::Memory, Rows::write((0..self.tasks()).map(row)));
        }
        sections.set(Section::Digests, digests);
        // Of what was not looked at a younger time would say more than is known.
        self.table.meta.taken = self.trusted();
        self.table.put(&mut sections);
        Some(write(&self.folder, &sections))
    }

    /// Whether all that is otherwise by now was named, or made by these tasks. Others may read what was not, and were not looked at.
    fn explains(&mut self, files: &HashMap<RelPath, (Option<Stamp>, Digest)>, tasks: &[usize]) -> Option<bool> {
        let digests = self.digests()?.to_vec();
        let memory = self.snapshot.section(Section::Memory).ok()?;
        let rows = Rows::read(&memory, self.tasks())?;
        let mut known: BTreeSet<u32> = self.moved.iter().copied().collect();
        for task in tasks {
            let row: MemoryRow = postcard::from_bytes(rows.get(*task)?).ok()?;
            known.extend(row.1.iter().map(|(id, _)| *id));
        }
        let is_explained = |(path, (_, digest)): (&RelPath, &(Option<Stamp>, Digest))| {
            self.table.find(path).is_some_and(|id| known.contains(&id) || digest_at(&digests, id) == Some(*digest))
        };
        Some(files.iter().all(is_explained))
    }

    fn digests(&mut self) -> Option<&[u8]> {
        if self.digests.is_none() {
            self.digests = Some(self.snapshot.section(Section::Digests).ok()?);
        }
        self.digests.as_deref()
    }

    /// Sorts out what became of files whose stamps say nothing.
    fn look_closer(&mut self, root: &Path, suspects: &[u32]) -> Option<()> {
        if suspects.is_empty() {
            return Some(());
        }
        self.digests()?;
        let digests = self.digests.as_deref().unwrap_or_default();
        let table = &self.table;
        let found: Mutex<Vec<(u32, Moved)>> = Mutex::default();
        let is_said = in_parallel(suspects.len(), &|at| {
            let id = suspects[at];
            let moved = compare(root, table, id, digests)?;
            found.lock().unwrap_or_else(PoisonError::into_inner).push((id, moved));
            Some(())
        });
        is_said?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by_key(|(id, _)| *id);
        for (id, moved) in found {
            match moved {
                Moved::Content => self.moved.push(id),
                Moved::StampOnly(stamp) => self.again.push((id, stamp)),
            }
        }
        Some(())
    }
}

/// What became of a file, by its content. `None` where that decides which tasks there are.
fn compare(root: &Path, table: &Table, id: u32, digests: &[u8]) -> Option<Moved> {
    let entry = table.entry(id)?;
    let path = root.join(table.path(id)?);
    let is_output = entry.flags & flag::OUTPUT != 0 && entry.flags & flag::LOADED == 0;
    let stamp = |meta: Metadata| Some(Stamp::of(&meta)).filter(|_| meta.is_file());
    let Some(before) = path.metadata().ok().and_then(stamp) else {
        // Where an output should be, whatever is there or not, its task is concerned and no other fact.
        return is_output.then_some(Moved::Content);
    };
    let digest = fs_err::read(&path).ok().map(Digest::of);
    let after = path.metadata().ok().and_then(stamp);
    if digest.is_some() && digest == digest_at(digests, id) && after == Some(before) {
        return Some(Moved::StampOnly(before));
    }
    (entry.flags & flag::LOADED == 0).then_some(Moved::Content)
}

/// Whether a folder is the one it was, with the names that it had.
fn is_same_folder(root: &Path, folder: &Folder, taken: i64) -> bool {
    let full = root.join(&folder.path);
    if !folder.path.is_empty() && identity(&full) != folder.is {
        return false;
    }
    let Some(listed) = &folder.listed else { return true };
    let Ok(meta) = full.metadata() else { return false };
    let stamp = Stamp::of(&meta);
    meta.is_dir() && ((stamp == listed.stamp && !stamp.is_racy(taken)) || names(&full) == Some(listed.names))
}

/// The files whose stamps are others than they were, or too young; `None` where a file came or went that matters to which tasks
/// there are.
fn suspects(root: &Path, table: &Table) -> Option<Vec<u32>> {
    let mut chunks = Vec::new();
    for (folder, range) in table.folders() {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + CHUNK as u32);
            chunks.push((folder, start..end));
            start = end;
        }
    }
    let found: Mutex<Vec<u32>> = Mutex::default();
    in_parallel(chunks.len(), &|at| {
        let (folder, range) = chunks[at].clone();
        let handle =
            (folder.is != Identity::Absent || folder.path.is_empty()).then(|| Handle::open(&root.join(&folder.path)));
        let mut suspects = Vec::new();
        for id in range {
            let (entry, name) = (table.entry(id)?, table.name(id)?);
            let there = match &handle {
                Some(handle) => handle.as_ref()?.look(name).ok()?,
                None => There::Nothing,
            };
            let is_known = entry.flags & (flag::ABSENT | flag::EXISTS | flag::OTHER) == 0;
            match there {
                There::Nothing if entry.flags & flag::ABSENT != 0 => {}
                There::Other if entry.flags & flag::OTHER != 0 => {}
                There::File(_) if entry.flags & flag::EXISTS != 0 => {}
                There::File(stamp) if is_known => {
                    if stamp != entry.stamp || stamp.is_racy(table.meta.taken) {
                        suspects.push(id);
                    }
                }
                _ if is_known && entry.flags & flag::OUTPUT != 0 => suspects.push(id),
                _ => return None,
            }
        }
        if !suspects.is_empty() {
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(suspects);
        }
        Some(())
    })?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable();
    Some(found)
}

/// Does `count` jobs on as many threads as there are cores; `None` as soon as one of them gives `None`.
fn in_parallel(count: usize, job: &(dyn Fn(usize) -> Option<()> + Sync)) -> Option<()> {
    let (next, is_off) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while !is_off.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            if job(at).is_none() {
                is_off.store(true, Ordering::Relaxed);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        // Where the system gives no thread, one works alone.
        (1..cores.min(count)).for_each(|_| drop(std::thread::Builder::new().spawn_scoped(scope, work)));
        work();
    });
    (!is_off.into_inner()).then_some(())
}

/// What is at a path.
enum There {
    Nothing,
    File(Stamp),
    Other,
}

#[cfg(unix)]
struct Handle(rustix::fd::OwnedFd);

#[cfg(unix)]
impl Handle {
    fn open(folder: &Path) -> Option<Handle> {
        use rustix::fs::{Mode, OFlags, open};
        open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok().map(Handle)
    }

    /// What a name in the folder leads to; links are followed.
    #[allow(clippy::unnecessary_cast, reason = "systems differ in the types of these fields")]
    fn look(&self, name: &str) -> rustix::io::Result<There> {
        use rustix::fs::{AtFlags, FileType, statat};
        match statat(&self.0, name, AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(There::File(Stamp {
                size: stat.st_size as u64,
                mtime: in_nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
                ctime: in_nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
                inode: stat.st_ino as u64,
            })),
            Ok(_) => Ok(There::Other),
            Err(rustix::io::Errno::NOENT) => match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                // A link that leads nowhere.
                Ok(_) => Ok(There::Other),
                Err(_) => Ok(There::Nothing),
            },
            Err(e) => Err(e),
        }
    }
}

#[cfg(not(unix))]
struct Handle(PathBuf);

#[cfg(not(unix))]
impl Handle {
    fn open(folder: &Path) -> Option<Handle> {
        Some(Handle(folder.to_path_buf()))
    }

    fn look(&self, name: &str) -> std::io::Result<There> {
        match self.0.join(name).metadata() {
            Ok(meta) if meta.is_file() => Ok(There::File(Stamp::of(&meta))),
            Ok(_) => Ok(There::Other),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match self.0.join(name).symlink_metadata() {
                Ok(_) => Ok(There::Other),
                Err(_) => Ok(There::Nothing),
            },
            Err(e) => Err(e),
        }
    }
}
