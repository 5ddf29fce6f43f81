//! What a file held earlier, out of git's history: a fresh checkout, which has no store, finds there what an edit was made on.
//!
//! Asks the `git` program, which only reads: nothing of the repository's configuration is run (hooks, pagers, monitors), and
//! nothing is fetched, also where a repository is a partial one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::digest::Digest;
use crate::path::RelPath;

/// How many of the commits that changed a file are looked at.
const COMMITS: &str = "200";
/// Nothing larger is read.
const LARGEST: u64 = 64 << 20;
/// What a hook that calls genmake has in its environment: which repository it is follows from the folder alone.
const OF_A_HOOK: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_ALTERNATE_OBJECT_DIRECTORIES"];

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

/// A git that reads, and runs nothing that the repository names.
fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(root).args(["--no-pager", "--literal-pathspecs", "--no-replace-objects"]);
    for setting in ["core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never"] {
        git.args(["-c", setting]);
    }
    for name in OF_A_HOOK {
        git.env_remove(name);
    }
    git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none");
    git.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
    git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    git
}

/// Asks for one object after the other, until one has the digest.
fn seek(
    names: impl Iterator<Item = String>,
    mut asks: impl Write,
    mut answers: impl BufRead,
    wanted: &Digest,
) -> io::Result<Option<Vec<u8>>> {
    for name in names {
        asks.write_all(format!("{name}\n").as_bytes())?;
        asks.flush()?;
        let mut head = String::new();
        if answers.read_line(&mut head)? == 0 {
            return Ok(None);
        }
        let words: Vec<&str> = head.trim_end().rsplitn(3, ' ').collect();
        // An object that is not there is answered with its name and one word.
        let [size, kind, _] = words[..] else { continue };
        let (Ok(size), true) = (size.parse::<u64>(), ["blob", "tree", "commit", "tag"].contains(&kind)) else {
            continue;
        };
        if kind != "blob" || size > LARGEST {
            io::copy(&mut answers.by_ref().take(size + 1), &mut io::sink())?;
            continue;
        }
        let mut bytes = Vec::new();
        answers.by_ref().take(size).read_to_end(&mut bytes)?;
        io::copy(&mut answers.by_ref().take(1), &mut io::sink())?;
        if Digest::of(&bytes) == *wanted {
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
