//! The form of `.genmake/state`: sections with checksums, so that a glance at the tree reads only the first of them.
//!
//! ```text
//! genmake-state 5 VERSION\n
//! for each section: length (u64) and CRC32 (u32); then the CRC32 of all before it
//! the sections, one after the other
//! ```
//!
//! Numbers are little-endian. Files are numbered: folder by folder in byte order, in each folder in byte order of names.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state::Damaged;
use crate::digest::Digest;
use crate::path::RelPath;
use crate::tree::{Listed, Stamp};

const KIND: &str = concat!("genmake-state 5 ", env!("CARGO_PKG_VERSION"), "\n");

/// What a snapshot consists of, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// [`Meta`].
    Meta,
    /// A record a file: [`Entry`] without its name.
    Files,
    /// The files' names, without a separator.
    Names,
    /// A digest a file.
    Digests,
    /// For each file the tasks that read or make it: see [`Table`].
    Readers,
    /// What the tasks' kept forms share.
    Lists,
    /// The tasks' kept forms.
    Tasks,
    /// What is remembered of each of these tasks.
    Memory,
    /// What is remembered beside them.
    Rest,
}

const SECTIONS: usize = 9;
const HEADER: usize = KIND.len() + SECTIONS * 12 + 4;

/// What stands first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// When the snapshot was taken, in nanoseconds since 1970.
    pub taken: i64,
    /// The folders of the files, in byte order.
    pub folders: Vec<Folder>,
    /// Set if everything was up to date then.
    pub settled: Option<Settled>,
}

/// What the verdict "everything is up to date" rested on, beside files and folders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    /// The Genfile's name.
    pub genfile: String,
    /// The environment variables that rules name, and the digests of their values; `None` where one is not set.
    pub env: Vec<(String, Option<Digest>)>,
    /// Files that ship with genmake, whose numbers follow those of the files.
    pub shipped: Vec<String>,
    /// How many tasks there were.
    pub tasks: usize,
}

/// A folder of files that verdicts rest on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Folder {
    /// Relative to the root; the root is the empty path.
    pub path: String,
    /// The number of its first file.
    pub first: u32,
    /// Which folder it is.
    pub is: Identity,
    /// What was in it, if it was listed.
    pub listed: Option<Listed>,
}

/// What tells one folder from another that takes its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Identity {
    /// There is no folder.
    #[default]
    Absent,
    /// A folder with this inode.
    Folder(u64),
    /// A link with this inode and this ctime: where it leads cannot change without another.
    Link(u64, i64),
}

/// What is known of a file beside its stamp.
pub(super) mod flag {
    /// There is no file.
    pub const ABSENT: u32 = 1;
    /// There is a file, and what is in it does not matter.
    pub const EXISTS: u32 = 2;
    /// There is something that is no file.
    pub const OTHER: u32 = 4;
    /// Its content decided which tasks there are.
    pub const LOADED: u32 = 8;
    /// A task makes it.
    pub const OUTPUT: u32 = 16;
}

/// A file's record: size, mtime, ctime, inode, where its name ends, flags.
const RECORD: usize = 40;

/// A file as a snapshot has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub stamp: Stamp,
    pub flags: u32,
}

/// All sections of a snapshot that is written.
#[derive(Default)]
pub(super) struct Sections(pub [Vec<u8>; SECTIONS]);

impl Sections {
    pub fn set(&mut self, section: Section, bytes: Vec<u8>) {
        self.0[section as usize] = bytes;
    }

    /// Starts and checksums: equal if and only if, but for chance, the snapshots are.
    pub fn header(&self) -> Vec<u8> {
        let mut header = KIND.as_bytes().to_vec();
        for section in &self.0 {
            header.extend((section.len() as u64).to_le_bytes());
            header.extend(crc32fast::hash(section).to_le_bytes());
        }
        let crc = crc32fast::hash(&header);
        header.extend(crc.to_le_bytes());
        header
    }
}

/// A snapshot on disk, read section by section.
#[derive(Debug)]
pub(super) struct Snapshot {
    file: fs_err::File,
    /// As [`Sections::header`].
    pub header: Vec<u8>,
    sections: [(u64, u64, u32); SECTIONS],
}

impl Snapshot {
    /// Opens the snapshot at `path`; `None` if there is none, or one of another version.
    pub fn open(path: &Path) -> Result<Option<Snapshot>, Damaged> {
        let mut file = match fs_err::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(Damaged),
        };
        let mut header = Vec::with_capacity(HEADER);
        (&mut file).take(HEADER as u64).read_to_end(&mut header).map_err(|_| Damaged)?;
        if !header.starts_with(KIND.as_bytes()) {
            // Another version's: nothing is wrong with it, and nothing in it can be relied on.
            return if header.starts_with(b"genmake-state ") { Ok(None) } else { Err(Damaged) };
        }
        let (body, crc) = header.split_at_checked(HEADER - 4).ok_or(Damaged)?;
        if crc != crc32fast::hash(body).to_le_bytes() {
            return Err(Damaged);
        }
        let mut sections = [(0, 0, 0); SECTIONS];
        let mut start = HEADER as u64;
        for (section, record) in sections.iter_mut().zip(body[KIND.len()..].chunks_exact(12)) {
            let (len, crc) = (number(&record[..8]), number(&record[8..]) as u32);
            *section = (start, len, crc);
            start = start.checked_add(len).ok_or(Damaged)?;
        }
        if file.metadata().map_err(|_| Damaged)?.len() != start {
            return Err(Damaged);
        }
        Ok(Some(Snapshot { file, header, sections }))
    }

    /// A section's bytes.
    pub fn section(&mut self, section: Section) -> Result<Vec<u8>, Damaged> {
        let (start, len, crc) = self.sections[section as usize];
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Damaged)?];
        self.file.seek(SeekFrom::Start(start)).map_err(|_| Damaged)?;
        self.file.read_exact(&mut bytes).map_err(|_| Damaged)?;
        if crc32fast::hash(&bytes) == crc { Ok(bytes) } else { Err(Damaged) }
    }

    /// The table of files.
    pub fn table(&mut self) -> Result<Table, Damaged> {
        let meta: Meta = postcard::from_bytes(&self.section(Section::Meta)?).map_err(|_| Damaged)?;
        let table = Table { meta, files: self.section(Section::Files)?, names: self.section(Section::Names)? };
        // What has the right checksum was written so; held all the same, for nothing here may panic.
        let starts = table.meta.folders.iter().map(|folder| folder.first as usize);
        let is_whole = std::str::from_utf8(&table.names).is_ok()
            && starts.clone().is_sorted()
            && starts.clone().next().is_none_or(|first| first == 0)
            && starts.max().map_or(table.len() == 0, |last| last <= table.len());
        if is_whole { Ok(table) } else { Err(Damaged) }
    }

    /// All sections as they are.
    pub fn sections(&mut self) -> Result<Sections, Damaged> {
        use Section::{Digests, Files, Lists, Memory, Names, Readers, Rest, Tasks};
        let mut sections = Sections::default();
        for section in [Section::Meta, Files, Names, Digests, Readers, Lists, Tasks, Memory, Rest] {
            sections.set(section, self.section(section)?);
        }
        Ok(sections)
    }
}

/// A number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The files of a snapshot, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub meta: Meta,
    files: Vec<u8>,
    names: Vec<u8>,
}

impl Table {
    /// The table of these files, which are ordered by folder and name, and of the folders, which hold all of theirs.
    pub fn new(mut meta: Meta, folders: impl Iterator<Item = Folder>, files: &[(RelPath, Entry)]) -> Table {
        let mut table = Table::default();
        let mut id = 0;
        meta.folders.clear();
        for folder in folders {
            let first = id as u32;
            while let Some((path, entry)) = files.get(id).filter(|(path, _)| path.dir() == folder.path) {
                table.names.extend(path.name().as_bytes());
                table.files.extend(record(entry, table.names.len()));
                id += 1;
            }
            meta.folders.push(Folder { first, ..folder });
        }
        table.meta = meta;
        table
    }

    pub fn len(&self) -> usize {
        self.files.len() / RECORD
    }

    pub fn entry(&self, id: u32) -> Option<Entry> {
        let record = self.files.get(id as usize * RECORD..(id as usize + 1) * RECORD)?;
        let field = |at: usize| number(&record[at * 8..at * 8 + 8]);
        let stamp = Stamp { size: field(0), mtime: field(1) as i64, ctime: field(2) as i64, inode: field(3) };
        Some(Entry { stamp, flags: number(&record[36..]) as u32 })
    }

    /// Where a file's name ends.
    fn end(&self, id: usize) -> usize {
        self.files.get(id * RECORD + 32..id * RECORD + 36).map_or(0, |bytes| number(bytes) as usize)
    }

    pub fn name(&self, id: u32) -> Option<&str> {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.end(id - 1) };
        std::str::from_utf8(self.names.get(start..self.end(id))?).ok()
    }

    /// The folders with the numbers of their files.
    pub fn folders(&self) -> impl Iterator<Item = (&Folder, std::ops::Range<u32>)> {
        let ends = self.meta.folders.iter().skip(1).map(|next| next.first).chain([self.len() as u32]);
        self.meta.folders.iter().zip(ends).map(|(folder, end)| (folder, folder.first..end))
    }

    /// The path of a file, or of one that ships with genmake.
    pub fn path(&self, id: u32) -> Option<RelPath> {
        if let Some(beyond) = (id as usize).checked_sub(self.len()) {
            let shipped = self.meta.settled.as_ref()?.shipped.get(beyond)?;
            return RelPath::new(shipped).ok();
        }
        let folder = self.meta.folders.partition_point(|folder| folder.first <= id).checked_sub(1)?;
        let (folder, name) = (&self.meta.folders[folder].path, self.name(id)?);
        if folder.is_empty() { RelPath::new(name).ok() } else { RelPath::new(&format!("{folder}/{name}")).ok() }
    }

    /// The number of a file.
    pub fn find(&self, path: &RelPath) -> Option<u32> {
        let at = self.meta.folders.binary_search_by(|folder| folder.path.as_str().cmp(path.dir())).ok()?;
        let (_, range) = self.folders().nth(at)?;
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(path.name()) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Changes what is known of a file.
    pub fn set(&mut self, id: u32, entry: Entry) {
        let end = self.end(id as usize);
        if let Some(place) = self.files.get_mut(id as usize * RECORD..(id as usize + 1) * RECORD) {
            place.copy_from_slice(&record(&entry, end));
        }
    }

    /// Puts the table's sections in their places.
    pub fn put(self, sections: &mut Sections) {
        sections.set(Section::Meta, postcard::to_stdvec(&self.meta).unwrap_or_default());
        sections.set(Section::Files, self.files);
        sections.set(Section::Names, self.names);
    }
}

fn record(entry: &Entry, end: usize) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    let stamp = entry.stamp;
    let fields = [stamp.size, stamp.mtime as u64, stamp.ctime as u64, stamp.inode];
    for (place, field) in record.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    record[32..36].copy_from_slice(&(end as u32).to_le_bytes());
    record[36..].copy_from_slice(&entry.flags.to_le_bytes());
    record
}

/// Rows of any length one after the other: where each ends, then all of them.
pub(super) struct Rows<'a> {
    ends: &'a [u8],
    rows: &'a [u8],
}

impl<'a> Rows<'a> {
    pub fn write<R: AsRef<[u8]>>(rows: impl ExactSizeIterator<Item = R> + Clone) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut end = 0;
        for row in rows.clone() {
            end += row.as_ref().len() as u64;
            bytes.extend(end.to_le_bytes());
        }
        rows.for_each(|row| bytes.extend(row.as_ref()));
        bytes
    }

    /// Reads `count` rows.
    pub fn read(bytes: &'a [u8], count: usize) -> Option<Rows<'a>> {
        let (ends, rows) = bytes.split_at_checked(count.checked_mul(8)?)?;
        Some(Rows { ends, rows })
    }

    pub fn get(&self, at: usize) -> Option<&'a [u8]> {
        let end = |at: usize| Some(number(self.ends.get(at * 8..at * 8 + 8)?) as usize);
        let start = if at == 0 { 0 } else { end(at - 1)? };
        self.rows.get(start..end(at)?)
    }

    /// The numbers in a row.
    pub fn numbers(&self, at: usize) -> Option<impl Iterator<Item = u32> + use<'a>> {
        Some(self.get(at)?.chunks_exact(4).map(|bytes| number(bytes) as u32))
    }
}
