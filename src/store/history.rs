//! What a file held earlier, out of git's history: a fresh checkout, which has no store, finds there what an edit was made on.
//!
//! Nothing is fetched for that, and nothing of the repository's configuration is run.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use super::git::{blob, git};
use crate::digest::Digest;
use crate::path::RelPath;

/// How many of the commits that changed a file are looked at.
const COMMITS: &str = "200";
/// Nothing larger is read.
const LARGEST: u64 = 64 << 20;

/// The bytes with this digest that `path` held in the index or in a commit below `HEAD`. None also where there is no git, or no
/// repository.
pub(super) fn find(root: &Path, path: &RelPath, wanted: &Digest) -> Option<Vec<u8>> {
    if path.as_str().contains('\n') || !root.ancestors().any(|folder| folder.join(".git").exists()) {
        return None;
    }
    let listed = git(root).args(["rev-list", "--max-count", COMMITS, "HEAD", "--", path.as_str()]).output().ok()?;
    let commits = String::from_utf8(listed.stdout).ok()?;
    let mut child = git(root).args(["cat-file", "--batch"]).stdin(Stdio::piped()).spawn().ok()?;
    let found = match (child.stdin.take(), child.stdout.take()) {
        (Some(asks), Some(answers)) => {
            // The index first: it has no commit's name before the colon.
            let revisions = std::iter::once("").chain(commits.lines());
            seek(revisions.map(|revision| format!("{revision}:./{path}")), asks, BufReader::new(answers), wanted)
        }
        _ => Ok(None),
    };
    let _ = child.kill(); // it has ended by itself where everything was looked at
    let _ = child.wait();
    found.ok().flatten()
}

/// Asks for one object after the other, until one has the digest.
fn seek(
    names: impl Iterator<Item = String>,
    mut asks: impl Write,
    mut answers: impl BufRead,
    wanted: &Digest,
) -> io::Result<Option<Vec<u8>>> {
    for name in names {
        if let Some(bytes) = blob(&name, LARGEST, &mut asks, &mut answers)?
            && Digest::of(&bytes) == *wanted
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_the_other() {
        let answers = b":./a b missing\n1234 tree 2\nxx\n99 blob 5\nother\n98 blob 4\ntext\n97 blob 1\nz\n";
        let names = || (0..5).map(|n| format!("{n}:./a b"));
        let mut asked = Vec::new();
        let found = seek(names(), &mut asked, &answers[..], &Digest::of("text")).unwrap();
        assert_eq!(found.as_deref(), Some(&b"text"[..]));
        assert_eq!(asked, b"0:./a b\n1:./a b\n2:./a b\n3:./a b\n");
        assert_eq!(seek(names(), io::sink(), &answers[..], &Digest::of("nowhere")).unwrap(), None);
        // Cut anywhere it is none, or what it says: never anything else.
        for cut in 0..answers.len() {
            if let Ok(Some(bytes)) = seek(names(), io::sink(), &answers[..cut], &Digest::of("text")) {
                assert_eq!(bytes, b"text");
            }
        }
    }

    #[test]
    fn without_a_repository_nothing_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path(), &RelPath::new("a").unwrap(), &Digest::of("")), None);
    }
}
