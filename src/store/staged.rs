//! What git's index has otherwise than the work tree: together they are the tree that a commit would record.
//!
//! Nothing is checked out. A blob is read when it is asked for, in the form in which git would put it into the work tree. What git
//! ignores, and what submodules hold, is no matter of the index, and counts as it lies there.

use std::collections::HashMap;
use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use super::Glance;
use super::git::{DIFFER, OTHERS, Repository, begun, blob, finished, paths};
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::tree::Index;

/// What makes git write a blob into the work tree in another form than it has.
const CONVERSIONS: [&str; 5] = ["check-attr", "--stdin", "-z", "filter", "ident"];
const MORE_CONVERSIONS: [&str; 2] = ["working-tree-encoding", "eol"];

/// Symlinks that lead on to symlinks: after so many it is taken for a loop.
const MOST_LINKS: usize = 16;

/// What a commit would record, where that is not what stands in the work tree.
#[derive(Debug)]
pub struct Staged {
    repository: Repository,
    otherwise: HashMap<RelPath, Otherwise>,
    /// The symlinks in the index.
    links: Vec<RelPath>,
    /// Folders that git does not track and does not look into: repositories of their own.
    foreign: Vec<String>,
    /// Whether blobs are written with other ends of lines, whatever attributes say.
    converts_all: bool,
    reader: Mutex<Option<Reader>>,
}

/// What the index has of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Otherwise {
    /// Nothing: it is not tracked, or only meant to be.
    Absent,
    Blob {
        id: String,
        is_link: bool,
        /// Whether git would write it in another form.
        is_converted: bool,
    },
    /// A merge left more than one.
    Unmerged,
}

impl Staged {
    /// Compares index and work tree.
    ///
    /// # Errors
    /// [`Code::Usage`] where git cannot say it.
    pub fn of(repository: Repository) -> Result<Staged, Error> {
        let listed = begun(repository.git().args(["ls-files", "--stage", "-v", "-z"]))?;
        let differ = begun(repository.git().args(DIFFER).args(["--raw", "--no-abbrev"]))?;
        let others = begun(repository.git().args(OTHERS))?;
        let eol = begun(repository.git().args(["config", "--get-regexp", "^core\\.(autocrlf|eol)$"]))?;
        let (mut otherwise, links) = index(&finished(listed)?);
        for (path, is) in differing(&finished(differ)?) {
            // What is unmerged is listed once more, as one of its sides.
            if otherwise.get(&path) != Some(&Otherwise::Unmerged) {
                otherwise.insert(path, is);
            }
        }
        let others = finished(others)?;
        otherwise.extend(paths(&others).map(|path| (path, Otherwise::Absent)));
        let folders = others.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
        let foreign = folders.filter(|name| name.ends_with('/')).map(str::to_owned).collect();
        // Nothing is configured, and it fails.
        let eol = String::from_utf8_lossy(&finished(eol).unwrap_or_default()).to_lowercase();
        let converts_all = cfg!(windows) || eol.contains("core.autocrlf true") || eol.contains("core.eol crlf");
        let mut staged = Staged { repository, otherwise, links, foreign, converts_all, reader: Mutex::new(None) };
        staged.find_conversions()?;
        Ok(staged)
    }

    /// What a verdict on the work tree rests on and a commit would record otherwise, in byte order.
    pub fn missing(&self, glance: &Glance) -> Vec<RelPath> {
        let mut missing: Vec<RelPath> = self.otherwise.keys().filter(|path| glance.knows(path)).cloned().collect();
        missing.sort();
        missing
    }

    /// Whether a commit would record all that a verdict on the work tree rests on as it stands there, and nothing more that a glob
    /// might match.
    pub fn is_as_seen(&self, glance: &Glance) -> bool {
        let is_there = |path: &RelPath| self.repository.top().join(self.repository.prefix()).join(path).is_file();
        let is_apart =
            |(path, is): (&RelPath, &Otherwise)| !glance.knows(path) && (*is == Otherwise::Absent || is_there(path));
        self.foreign.is_empty() && self.links.is_empty() && self.otherwise.iter().all(is_apart)
    }

    fn at(&self, path: &RelPath) -> Option<&Otherwise> {
        if self.foreign.iter().any(|folder| path.as_str().starts_with(folder.as_str())) {
            return Some(&Otherwise::Absent);
        }
        self.otherwise.get(path)
    }

    /// Where a path leads that is a symlink of the index, or below one.
    fn leads_to(&self, path: &RelPath) -> Option<RelPath> {
        let is_linked = |link: &RelPath| {
            path.as_str().strip_prefix(link.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !self.links.iter().any(is_linked) {
            return None;
        }
        let root = self.repository.top().join(self.repository.prefix()).canonicalize().ok()?;
        let real = root.join(path).canonicalize().ok()?;
        let inside = real.strip_prefix(&root).ok()?.to_str()?.replace('\\', "/");
        RelPath::new(&inside).ok().filter(|real| real != path)
    }

    /// Finds which blobs git would write in another form.
    fn find_conversions(&mut self) -> Result<(), Error> {
        if self.otherwise.values().all(|otherwise| !matches!(otherwise, Otherwise::Blob { .. })) {
            return Ok(());
        }
        let mut converted: Vec<RelPath> = Vec::new();
        if !self.converts_all {
            let mut list = Vec::new();
            for (path, otherwise) in &self.otherwise {
                if matches!(otherwise, Otherwise::Blob { .. }) {
                    list.extend(path.as_str().bytes().chain([0]));
                }
            }
            let mut git = self.repository.git();
            let mut child = begun(git.args(CONVERSIONS).args(MORE_CONVERSIONS).stdin(Stdio::piped()))?;
            let stdin = child.stdin.take();
            // What it answers may fill a pipe before it has read all: somebody else asks.
            let asker = std::thread::spawn(move || {
                use std::io::Write;
                stdin.map(|mut stdin| stdin.write_all(&list))
            });
            let said = finished(child);
            let _ = asker.join();
            let said = said?;
            let mut fields = said.split(|byte| *byte == 0);
            while let (Some(path), Some(attribute), Some(value)) = (fields.next(), fields.next(), fields.next()) {
                let is_set = !matches!(value, b"unspecified" | b"unset") && (attribute, value) != (b"eol", b"lf");
                if is_set {
                    converted.extend(std::str::from_utf8(path).ok().and_then(|path| RelPath::new(path).ok()));
                }
            }
        }
        let all = self.converts_all;
        if all {
            converted.extend(self.otherwise.keys().cloned());
        }
        for path in converted {
            if let Some(Otherwise::Blob { is_converted, is_link: false, .. }) = self.otherwise.get_mut(&path) {
                *is_converted = true;
            }
        }
        Ok(())
    }

    fn blob(&self, id: &str, path: &RelPath) -> Result<Vec<u8>, Error> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = match &mut *reader {
            Some(reader) => reader,
            none => none.insert(Reader::new(&self.repository)?),
        };
        match blob(id, u64::MAX, &mut reader.asks, &mut reader.answers) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Error::new(Code::Unreadable, format!("git does not have what is staged of `{path}`"))
                .hint("`git add` it again")),
            Err(e) => Err(Error::new(Code::Unreadable, format!("git does not give what is staged of `{path}`: {e}"))),
        }
    }

    /// A blob as git would write it into the work tree.
    fn converted(&self, id: &str, path: &RelPath) -> Result<Vec<u8>, Error> {
        let place = format!("--path={}{path}", self.repository.prefix());
        finished(begun(self.repository.git().args(["cat-file", "--filters", &place, id]))?)
            .map_err(|e| Error::new(Code::Unreadable, format!("what is staged of `{path}`: {}", e.message)))
    }
}

impl Index for Staged {
    fn has_otherwise(&self, path: &RelPath) -> bool {
        self.at(path).is_some()
    }

    fn exists(&self, path: &RelPath) -> Option<bool> {
        match self.at(path)? {
            Otherwise::Absent => Some(false),
            // Where a link leads is found out by reading it.
            Otherwise::Blob { is_link: true, .. } => {
                Some(self.content(path).is_ok_and(|c| c.is_some_and(|c| c.is_some())))
            }
            _ => Some(true),
        }
    }

    fn content(&self, path: &RelPath) -> Result<Option<Option<Vec<u8>>>, Error> {
        let mut path = path.clone();
        for _ in 0..MOST_LINKS {
            let Some(otherwise) = self.at(&path) else {
                let leads = self.leads_to(&path);
                match leads {
                    Some(other) if self.at(&other).is_some() => {
                        path = other;
                        continue;
                    }
                    _ => return Ok(None),
                }
            };
            let (id, is_link, is_converted) = match otherwise {
                Otherwise::Absent => return Ok(Some(None)),
                Otherwise::Blob { id, is_link, is_converted } => (id, *is_link, *is_converted),
                Otherwise::Unmerged => {
                    let error = Error::new(Code::Unreadable, format!("`{path}` is unmerged in git's index"));
                    return Err(error.hint("resolve the conflict and `git add` the file"));
                }
            };
            let bytes = if is_converted { self.converted(id, &path)? } else { self.blob(id, &path)? };
            if !is_link {
                return Ok(Some(Some(bytes)));
            }
            // A link is to be followed in the tree that it is in.
            let target = String::from_utf8_lossy(&bytes).into_owned();
            let Ok(next) = RelPath::new(&format!("{}/{target}", if path.dir().is_empty() { "." } else { path.dir() }))
            else {
                return Ok(Some(
                    fs_err::read(self.repository.top().join(self.repository.prefix()).join(path.dir()).join(target))
                        .ok(),
                ));
            };
            if self.at(&next).is_none() {
                let full = self.repository.top().join(self.repository.prefix()).join(&next);
                return Ok(Some(fs_err::read(full).ok()));
            }
            path = next;
        }
        Ok(Some(None))
    }

    fn listed(&self, mut files: Vec<RelPath>, base: &str) -> Vec<RelPath> {
        files.retain(|path| self.at(path) != Some(&Otherwise::Absent));
        let is_below = |path: &RelPath| {
            base.is_empty() || path.as_str().strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
        };
        let is_there = |otherwise: &Otherwise| *otherwise != Otherwise::Absent;
        let more = self.otherwise.iter().filter(|(path, otherwise)| is_there(otherwise) && is_below(path));
        files.extend(more.map(|(path, _)| path.clone()));
        files.sort();
        files.dedup();
        files
    }
}

/// A `git cat-file --batch`.
#[derive(Debug)]
struct Reader {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn new(repository: &Repository) -> Result<Reader, Error> {
        let mut git = repository.git();
        let mut child = begun(git.args(["cat-file", "--batch"]).stdin(Stdio::piped()))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(asks), Some(answers)) => Ok(Reader { child, asks, answers: BufReader::new(answers) }),
            _ => Err(Error::new(Code::Usage, "git cannot be asked")),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of `ls-files --stage -v -z` what git was told not to compare with the work tree, what is unmerged, and the symlinks.
fn index(list: &[u8]) -> (HashMap<RelPath, Otherwise>, Vec<RelPath>) {
    let (mut otherwise, mut links) = (HashMap::new(), Vec::new());
    for line in list.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok()) {
        let Some((head, path)) = line.split_once('\t') else { continue };
        let words: Vec<&str> = head.split(' ').collect();
        let ([tag, mode, id, stage], Ok(path)) = (&words[..], RelPath::new(path)) else { continue };
        let is_link = *mode == "120000";
        if *stage != "0" {
            otherwise.insert(path, Otherwise::Unmerged);
            continue;
        }
        if is_link {
            links.push(path.clone());
        }
        // `assume unchanged` is a lower-case letter, `skip worktree` an S. Submodules are no blobs.
        let is_compared = *tag != "S" && !tag.chars().all(char::is_lowercase);
        if !is_compared && *mode != "160000" {
            otherwise.insert(path, Otherwise::Blob { id: (*id).to_owned(), is_link, is_converted: false });
        }
    }
    (otherwise, links)
}

/// Of `diff --raw -z` what the index has.
fn differing(list: &[u8]) -> Vec<(RelPath, Otherwise)> {
    let mut fields = list.split(|byte| *byte == 0).map(|field| std::str::from_utf8(field).unwrap_or_default());
    let mut found = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let words: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let ([mode, _, id, _, status], Ok(path)) = (&words[..], RelPath::new(path)) else { continue };
        found.push((
            path,
            match *status {
                // Only meant to be added.
                "A" => Otherwise::Absent,
                "U" => Otherwise::Unmerged,
                _ if *mode == "160000" => continue,
                _ => Otherwise::Blob { id: (*id).to_owned(), is_link: *mode == "120000", is_converted: false },
            },
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn blob(id: &str, is_link: bool) -> Otherwise {
        Otherwise::Blob { id: id.to_owned(), is_link, is_converted: false }
    }

    #[test]
    fn what_the_index_has_is_read_as_git_lists_it() {
        let list = b"H 100644 11 0\ta\0S 100644 22 0\tb c\0h 100755 33 0\td\0H 120000 44 0\tl\0M 100644 55 1\tm\0\
                     M 100644 66 2\tm\0S 160000 77 0\tsub\0H 100644 88 0\t\xff\0";
        let (otherwise, links) = index(list);
        let expected = [("b c", blob("22", false)), ("d", blob("33", false)), ("m", Otherwise::Unmerged)];
        assert_eq!(otherwise, expected.map(|(name, is)| (path(name), is)).into());
        assert_eq!(links, [path("l")]);
        let list = b":100644 100644 11 00 M\0a\0:100644 000000 22 00 D\0b c\0:000000 100644 00 00 A\0new\0\
                     :120000 100644 33 00 T\0l\0:160000 160000 44 00 M\0sub\0:000000 100644 00 00 U\0m\0";
        let expected = [
            ("a", blob("11", false)),
            ("b c", blob("22", false)),
            ("new", Otherwise::Absent),
            ("l", blob("33", true)),
            ("m", Otherwise::Unmerged),
        ];
        assert_eq!(differing(list), expected.map(|(name, is)| (path(name), is)));
        // Cut anywhere it is less, and nothing else.
        (0..list.len()).for_each(|cut| drop(differing(&list[..cut])));
    }
}
