//! Vectors that models gave, kept by key. They are many and small, so those that are put at once share a file, a *pack*.
//!
//! A pack is `.genmake/store/vectors/DIGEST`, named by the sha256 of its bytes and never changed. Its numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `gmkvec01`, the form and its version |
//! | 8 | dimensions of each vector, `d` |
//! | 8 | how many there are, `n` |
//! | 32 `n` | their keys, ascending |
//! | 32 | the sha256 of all before: enough to pass over a pack of which nothing is wanted |
//! | 4 `d` `n` | the vectors in the order of their keys, as `f32` |
//!
//! Knows nothing of texts and models: a key stands for all that can change a vector.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::blobs::Store;
use super::gc::{Freed, Kept, list};
use super::unreadable;
use crate::digest::Digest;
use crate::error::Error;

const FOLDER: &str = "vectors";

const FORM: &[u8; 8] = b"gmkvec01";

/// The bytes before the keys.
const START: usize = 24;

/// What a pack begins with.
struct Head {
    dimensions: usize,
    keys: Vec<Digest>,
}

impl Store {
    /// Keeps vectors by their keys, durably: a new pack for each number of dimensions among them. What is there for a key
    /// stays, and counts no more.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn put_vectors(&self, of: &[(Digest, &[f32])]) -> Result<(), Error> {
        let mut by_dimensions: BTreeMap<usize, BTreeMap<Digest, &[f32]>> = BTreeMap::new();
        for (key, vector) in of {
            by_dimensions.entry(vector.len()).or_default().insert(*key, vector);
        }
        let packs: Vec<Vec<u8>> = by_dimensions.iter().map(|(dimensions, of)| pack(*dimensions, of)).collect();
        let files: Vec<(PathBuf, &[u8])> =
            packs.iter().map(|bytes| (self.pack_path(bytes), bytes.as_slice())).collect();
        self.write(&files)
    }

    /// The vectors of those keys that there are any for, the newest of each. A damaged pack is set aside, and what it held is a
    /// miss. Of packs that hold none of them no more than the keys is read.
    pub fn vectors(&self, wanted: &HashSet<Digest>) -> HashMap<Digest, Vec<f32>> {
        let mut found: HashMap<Digest, Vec<f32>> = HashMap::new();
        if wanted.is_empty() {
            return found;
        }
        for file in self.packs(SystemTime::UNIX_EPOCH).unwrap_or_default() {
            if found.len() == wanted.len() {
                break;
            }
            let Ok(head) = read_head(&file) else { continue };
            let is_wanted = |key: &Digest| wanted.contains(key) && !found.contains_key(key);
            if head.is_some_and(|head| !head.keys.iter().any(is_wanted)) {
                continue;
            }
            for (key, vector) in self.open_pack(&file).unwrap_or_default() {
                if wanted.contains(&key) {
                    found.entry(key).or_insert(vector);
                }
            }
        }
        found
    }

    /// The keys of all vectors that there are, for whoever only looks: no vector is read, and a damaged one is found when it
    /// is. What is seen to be damaged stays where it is.
    pub fn vector_keys(&self) -> HashSet<Digest> {
        let packs = self.packs(SystemTime::UNIX_EPOCH).unwrap_or_default();
        packs.iter().filter_map(|file| read_head(file).ok().flatten()).flat_map(|head| head.keys).collect()
    }

    /// Takes away packs from before `since` with nothing needed in them; one of which less than half is needed is written anew with
    /// that alone, as old as it was. So packs that are old take no more than twice what is needed. Of a key that stands in several
    /// the newest is needed. With `dry`, only counts.
    ///
    /// # Errors
    /// As [`Store::prune`].
    pub(super) fn prune_vectors(
        &self,
        mut needed: HashSet<Digest>,
        since: SystemTime,
        dry: bool,
        freed: &mut Freed,
    ) -> Result<(), Error> {
        for file in self.packs(since)? {
            let head = read_head(&file).map_err(|e| unreadable(&e))?;
            let keys = head.as_ref().map_or(&[][..], |head| &head.keys);
            let keep: HashSet<Digest> = keys.iter().filter(|key| needed.remove(key)).copied().collect();
            let unneeded = keys.len() - keep.len();
            if !file.is_old || (!keep.is_empty() && unneeded <= keep.len()) {
                continue;
            }
            // One that turns out to be damaged is set aside, and takes its room there.
            if !dry && !self.rewrite(&file, &keep)? {
                continue;
            }
            match head {
                Some(_) => freed.vectors += unneeded,
                None => freed.damaged += 1,
            }
            let len = head.filter(|_| !keep.is_empty()).and_then(|head| len(keep.len(), head.dimensions));
            freed.bytes += file.bytes.saturating_sub(len.unwrap_or(0));
        }
        Ok(())
    }

    /// Puts a pack with those vectors alone in the place of one, or nothing. `false` if it was damaged.
    fn rewrite(&self, file: &Kept, keep: &HashSet<Digest>) -> Result<bool, Error> {
        if !keep.is_empty() {
            let Some(held) = self.open_pack(file) else { return Ok(false) };
            let kept: BTreeMap<Digest, &[f32]> =
                held.iter().filter(|(key, _)| keep.contains(key)).map(|(key, vector)| (*key, &vector[..])).collect();
            let bytes = pack(held.first().map_or(0, |(_, vector)| vector.len()), &kept);
            let path = self.pack_path(&bytes);
            let there = std::fs::metadata(&path).and_then(|meta| meta.modified()).unwrap_or(file.modified);
            self.write(&[(path.clone(), &bytes)])?;
            // Else it would pass for newer than what was put since.
            let written = fs_err::OpenOptions::new().append(true).open(path);
            let _ = written.and_then(|written| written.file().set_modified(there.max(file.modified)));
        }
        super::forget(&file.path).map(|()| true)
    }

    fn pack_path(&self, bytes: &[u8]) -> PathBuf {
        self.folder().join(FOLDER).join(Digest::of(bytes).to_string())
    }

    /// All packs, the newest first; of two of one moment the order is always the same.
    fn packs(&self, since: SystemTime) -> Result<Vec<Kept>, Error> {
        let mut packs = list(&self.folder().join(FOLDER), since)?;
        packs.retain(|file| Digest::parse(&file.name).is_some());
        packs.sort_by(|a, b| (b.modified, &b.name).cmp(&(a.modified, &a.name)));
        Ok(packs)
    }

    /// What is in a pack; a damaged one is set aside.
    fn open_pack(&self, file: &Kept) -> Option<Vec<(Digest, Vec<f32>)>> {
        let bytes = fs_err::read(&file.path).ok()?;
        let is_whole = Digest::parse(&file.name) == Some(Digest::of(&bytes));
        let held = is_whole.then(|| unpack(&bytes)).flatten();
        if held.is_none() {
            self.set_aside(&file.path, &format!("{FOLDER}-{}", file.name));
        }
        held
    }
}

/// The bytes of a pack; `None` where no machine has as many.
fn len(count: usize, dimensions: usize) -> Option<u64> {
    let vectors = (count as u64).checked_mul(dimensions as u64)?.checked_mul(4)?;
    vectors.checked_add(keys_len(count as u64)?)?.checked_add(START as u64)
}

/// The bytes of the keys and of what seals them.
fn keys_len(count: u64) -> Option<u64> {
    count.checked_add(1)?.checked_mul(32)
}

fn pack(dimensions: usize, of: &BTreeMap<Digest, &[f32]>) -> Vec<u8> {
    let mut bytes =
        Vec::with_capacity(len(of.len(), dimensions).and_then(|len| usize::try_from(len).ok()).unwrap_or(0));
    bytes.extend(FORM);
    bytes.extend((dimensions as u64).to_le_bytes());
    bytes.extend((of.len() as u64).to_le_bytes());
    of.keys().for_each(|key| bytes.extend(key.bytes()));
    bytes.extend(Digest::of(&bytes).bytes());
    for value in of.values().flat_map(|vector| vector.iter()) {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

/// Reads a pack whose bytes are those that its name stands for; `None` where they are no pack all the same.
fn unpack(bytes: &[u8]) -> Option<Vec<(Digest, Vec<f32>)>> {
    let Head { dimensions, keys } = head(&mut { bytes }, bytes.len() as u64).ok()??;
    let start = START + 32 * (keys.len() + 1);
    let mut values =
        bytes[start..].chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    Some(keys.into_iter().map(|key| (key, values.by_ref().take(dimensions).collect())).collect())
}

fn read_head(file: &Kept) -> std::io::Result<Option<Head>> {
    let path: &Path = &file.path;
    head(&mut fs_err::File::open(path)?, file.bytes)
}

/// What a pack of so many bytes begins with; `None` if it is damaged.
///
/// # Errors
/// Those of `from`.
fn head(from: &mut dyn Read, bytes: u64) -> std::io::Result<Option<Head>> {
    let mut start = Vec::new();
    from.take(START as u64).read_to_end(&mut start)?;
    let number = |at: usize| Some(u64::from_le_bytes(start.get(at..at + 8)?.try_into().ok()?));
    let (Some(dimensions), Some(count)) = (number(8), number(16)) else { return Ok(None) };
    let (Ok(dimensions), Ok(number)) = (usize::try_from(dimensions), usize::try_from(count)) else { return Ok(None) };
    let keys_len = keys_len(count).unwrap_or(u64::MAX);
    if !start.starts_with(FORM) || len(number, dimensions) != Some(bytes) {
        return Ok(None);
    }
    from.take(keys_len).read_to_end(&mut start)?;
    let Some((sealed, seal)) = start.split_last_chunk::<32>() else { return Ok(None) };
    if start.len() as u64 != keys_len + START as u64 || Digest::of(sealed) != Digest::from_bytes(*seal) {
        return Ok(None);
    }
    let keys = sealed[START..].as_chunks::<32>().0.iter().map(|key| Digest::from_bytes(*key)).collect();
    Ok(Some(Head { dimensions, keys }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(n: usize) -> Digest {
        Digest::of(n.to_string())
    }

    fn keys(of: impl IntoIterator<Item = usize>) -> HashSet<Digest> {
        of.into_iter().map(key).collect()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_path_buf());
        (dir, store)
    }

    fn put(store: &Store, of: impl IntoIterator<Item = usize>, vector: impl Fn(usize) -> Vec<f32>) {
        let vectors: Vec<(Digest, Vec<f32>)> = of.into_iter().map(|n| (key(n), vector(n))).collect();
        let vectors: Vec<(Digest, &[f32])> = vectors.iter().map(|(key, vector)| (*key, &vector[..])).collect();
        store.put_vectors(&vectors).unwrap();
    }

    fn vector(n: usize) -> Vec<f32> {
        vec![n as f32, 0.1, -0.0]
    }

    fn packs(store: &Store) -> Vec<PathBuf> {
        store.packs(SystemTime::UNIX_EPOCH).unwrap().into_iter().map(|file| file.path).collect()
    }

    fn aged(path: &Path, seconds: u64) {
        let file = fs_err::OpenOptions::new().append(true).open(path).unwrap();
        file.file().set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_was_put_is_there_and_nothing_else() {
        let (dir, store) = store();
        assert!(store.vectors(&keys([1])).is_empty() && store.vector_keys().is_empty());
        store.put_vectors(&[]).unwrap();
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "nothing is made for nothing");
        put(&store, 0..10, vector);
        // Of other dimensions, of none, and what is no number.
        put(&store, 10..13, |n| vec![f32::INFINITY; n - 10]);
        assert_eq!(packs(&store).len(), 4);
        assert_eq!(store.vector_keys(), keys(0..13));
        let found = store.vectors(&keys(5..20));
        assert_eq!(found.keys().copied().collect::<HashSet<_>>(), keys(5..13));
        assert_eq!(
            found[&key(7)].iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            [7.0, 0.1, -0.0].map(f32::to_bits)
        );
        assert_eq!((&found[&key(10)], &found[&key(12)]), (&vec![], &vec![f32::INFINITY; 2]));
        assert!(store.vectors(&HashSet::new()).is_empty());
        // A file of another's is no pack.
        fs_err::write(dir.path().join(FOLDER).join("notes"), "x").unwrap();
        assert_eq!(store.vectors(&keys(0..20)).len(), 13);
        assert!(!dir.path().join("damaged").exists());
    }

    #[test]
    fn the_same_vectors_are_the_same_pack_and_the_newest_counts() {
        let (_dir, store) = store();
        put(&store, 0..4, vector);
        let old = packs(&store);
        put(&store, (0..4).rev(), vector);
        assert_eq!(packs(&store), old);
        aged(&old[0], 60);
        put(&store, 2..6, |n| vec![n as f32 + 100.0]);
        let found = store.vectors(&keys(0..6));
        assert_eq!((&found[&key(1)], &found[&key(2)], &found[&key(5)]), (&vector(1), &vec![102.0], &vec![105.0]));
        // Put again, it is the newest.
        aged(&packs(&store)[0], 30);
        put(&store, 0..4, vector);
        assert_eq!(store.vectors(&keys([2]))[&key(2)], vector(2));
    }

    #[test]
    fn a_pack_that_is_cut_anywhere_is_a_miss_and_set_aside() {
        let (dir, store) = store();
        put(&store, 0..2, vector);
        let path = packs(&store).remove(0);
        let aside = dir.path().join("damaged").join(format!("vectors-{}", path.file_name().unwrap().display()));
        let whole = fs_err::read(&path).unwrap();
        for len in 0..whole.len() {
            fs_err::write(&path, &whole[..len]).unwrap();
            assert!(store.vector_keys().is_empty(), "{len}");
            assert!(path.exists(), "a look changes nothing");
            assert!(store.vectors(&keys([9])).is_empty(), "{len}");
            assert_eq!((path.exists(), fs_err::read(&aside).unwrap().len()), (false, len));
        }
        fs_err::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(store.vectors(&keys([0])).is_empty() && aside.exists() && !path.exists());
        fs_err::write(&path, &whole).unwrap();
        assert_eq!(store.vectors(&keys([0])).len(), 1);
    }

    #[test]
    fn any_flipped_bit_of_a_pack_is_a_miss_and_set_aside() {
        let (dir, store) = store();
        put(&store, 0..2, vector);
        let path = packs(&store).remove(0);
        let aside = dir.path().join("damaged").join(format!("vectors-{}", path.file_name().unwrap().display()));
        let whole = fs_err::read(&path).unwrap();
        for at in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[at / 8] ^= 1 << (at % 8);
            fs_err::write(&path, &bytes).unwrap();
            assert!(store.vectors(&keys([0, 1])).is_empty(), "bit {at}");
            assert_eq!((path.exists(), fs_err::read(&aside).unwrap()), (false, bytes));
        }
        // What is whole by its name and no pack by its form: no allocation for the many it speaks of.
        for bytes in
            [b"".to_vec(), b"gmkvec01".to_vec(), [&FORM[..], &[0xff; 16]].concat(), [&FORM[..], &[0; 48]].concat()]
        {
            let path = store.pack_path(&bytes);
            fs_err::write(&path, &bytes).unwrap();
            assert!(store.vectors(&keys([0])).is_empty() && !path.exists());
        }
        put(&store, 0..2, vector);
        assert_eq!(store.vectors(&keys([0, 1])).len(), 2);
    }

    #[test]
    fn many_may_put_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let store = Store::new(dir.path().to_path_buf());
                scope
                    .spawn(move || (0..10).for_each(|n| put(&store, (thread % 4) * 10..(thread % 4) * 10 + n, vector)));
            }
        });
        let store = Store::new(dir.path().to_path_buf());
        assert_eq!(store.vectors(&keys(0..40)).len(), 36);
        assert!(!dir.path().join("damaged").exists());
    }

    fn pruned(store: &Store, needed: &HashSet<Digest>) -> Freed {
        let since = SystemTime::now() - Duration::from_secs(10);
        let prune = |dry| {
            let mut freed = Freed::default();
            store.prune_vectors(needed.clone(), since, dry, &mut freed).unwrap();
            freed
        };
        let (before, would) = (packs(store), prune(true));
        assert_eq!(packs(store), before, "a look freed something");
        let size = || packs(store).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
        let all = size();
        let freed = prune(false);
        assert_eq!((&freed, all - size()), (&would, freed.bytes));
        freed
    }

    #[test]
    fn what_is_needed_or_young_stays() {
        let (_dir, store) = store();
        put(&store, 0..10, vector);
        assert_eq!(pruned(&store, &keys([])), Freed::default());
        aged(&packs(&store)[0], 60);
        // Half of it is needed: then it stays as it is.
        assert_eq!(pruned(&store, &keys(5..20)), Freed::default());
        let freed = pruned(&store, &keys([6, 7, 8, 30]));
        assert_eq!((freed.vectors, freed.bytes), (7, 7 * (32 + 3 * 4)));
        assert_eq!(store.vector_keys(), keys(6..9));
        assert_eq!(store.vectors(&keys([7]))[&key(7)], vector(7));
        // It is as old as it was.
        let freed = pruned(&store, &keys([]));
        assert_eq!((freed.vectors, packs(&store).len()), (3, 0));
    }

    #[test]
    fn what_was_put_again_is_needed_once() {
        let (_dir, store) = store();
        put(&store, 0..4, vector);
        aged(&packs(&store)[0], 60);
        put(&store, 0..3, |n| vec![n as f32]);
        assert_eq!(pruned(&store, &keys(0..4)).vectors, 3);
        let found = store.vectors(&keys(0..4));
        assert_eq!((found.len(), &found[&key(0)], &found[&key(3)]), (4, &vec![0.0], &vector(3)));
    }

    #[test]
    fn a_damaged_pack_goes_when_it_is_old() {
        let (dir, store) = store();
        put(&store, 0..4, vector);
        let path = packs(&store).remove(0);
        let whole = fs_err::read(&path).unwrap();
        fs_err::write(&path, &whole[..70]).unwrap();
        assert_eq!(pruned(&store, &keys(0..4)), Freed::default());
        aged(&path, 60);
        assert_eq!(pruned(&store, &keys(0..4)), Freed { damaged: 1, bytes: 70, ..Freed::default() });
        // One whose damage shows when it is to be written anew is set aside.
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs_err::write(&path, bytes).unwrap();
        aged(&path, 60);
        let mut freed = Freed::default();
        store.prune_vectors(keys([0]), SystemTime::now(), false, &mut freed).unwrap();
        assert_eq!(freed, Freed::default());
        assert!(!path.exists() && store.vectors(&keys([0])).is_empty());
        assert_eq!(dir.path().join("damaged").read_dir().unwrap().count(), 1);
    }
}
