//! How git is asked: by its own program, which only reads.
//!
//! Nothing of the repository's configuration is run (hooks, pagers, monitors), and nothing is fetched, also where a repository is a
//! partial one. What a hook finds in its environment counts only where it is of this repository.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Code, Error};
use crate::path::RelPath;

/// What a hook that calls genmake has in its environment: which repository it is follows from the folder alone.
const OF_A_HOOK: [&str; 6] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR"];

/// A git that reads, and runs nothing that the repository names.
pub(super) fn git(folder: &Path) -> Command {
    let mut git = plain(folder);
    for setting in ["core.fsmonitor=false", "core.hooksPath=/dev/null", "protocol.allow=never"] {
        git.args(["-c", setting]);
    }
    git
}

/// The same, that tells what is configured.
fn plain(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["--no-pager", "--literal-pathspecs", "--no-replace-objects"]);
    for name in OF_A_HOOK {
        git.env_remove(name);
    }
    git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_ALLOW_PROTOCOL", "none");
    git.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
    git.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    git
}

/// A folder in the work tree of a repository.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
    /// The top of the work tree.
    top: PathBuf,
    /// Where the folder lies below it: empty, or ending in a slash.
    prefix: String,
    /// What git is told beside the folder: where the repository is, if that does not follow from it, and which index counts.
    env: Vec<(&'static str, OsString)>,
}

impl Repository {
    /// The repository that `folder` is in. `env` reads the environment: a commit of some files alone names its index there.
    ///
    /// # Errors
    /// [`Code::Usage`] where there is no git, or no repository.
    pub fn of(folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Repository, Error> {
        let found = Repository::found(folder, Vec::new()).or_else(|error| {
            // A repository that lies elsewhere than its work tree is told of by variables alone.
            let dir = env("GIT_DIR").filter(|dir| !dir.is_empty()).ok_or(error)?;
            let named = [("GIT_DIR", Some(dir)), ("GIT_WORK_TREE", env("GIT_WORK_TREE"))];
            let absolute =
                |path: String| std::path::absolute(&path).map_or(OsString::from(path), PathBuf::into_os_string);
            Repository::found(
                folder,
                named.into_iter().filter_map(|(name, path)| Some((name, absolute(path?)))).collect(),
            )
        });
        let (mut repository, dir) = found?;
        if let Some(index) = env("GIT_INDEX_FILE").filter(|index| !index.is_empty()) {
            // As git reads it: where it is relative, it is so to the top.
            let index = repository.top.join(index);
            if is_of(&index, &dir) {
                repository.env.push(("GIT_INDEX_FILE", index.into_os_string()));
            }
        }
        Ok(repository)
    }

    fn found(folder: &Path, env: Vec<(&'static str, OsString)>) -> Result<(Repository, PathBuf), Error> {
        let repository = Repository { folder: folder.to_owned(), top: PathBuf::new(), prefix: String::new(), env };
        let said = repository
            .ask(&["rev-parse", "--absolute-git-dir", "--show-toplevel", "--show-prefix"])
            .map_err(|e| e.hint("this is asked of git, and needs its work tree"))?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let mut lines = said.lines().map(str::to_owned);
        let dir = PathBuf::from(lines.next().unwrap_or_default());
        let top = PathBuf::from(lines.next().unwrap_or_default());
        Ok((Repository { top, prefix: lines.next().unwrap_or_default(), ..repository }, dir))
    }

    /// The top of the work tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where the folder lies below the top: empty, or ending in a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A git of this repository that stands in the folder.
    pub(super) fn git(&self) -> Command {
        let mut git = git(&self.folder);
        git.envs(self.env.iter().cloned());
        git
    }

    /// What git prints.
    fn ask(&self, args: &[&str]) -> Result<Vec<u8>, Error> {
        finished(begun(self.git().args(args))?)
    }

    /// The folder of the repository's hooks, wherever that is configured to be.
    ///
    /// # Errors
    /// [`Code::Usage`] where git does not say it.
    pub fn hooks(&self) -> Result<PathBuf, Error> {
        let mut git = plain(&self.top);
        git.envs(self.env.iter().cloned()).args(["rev-parse", "--git-path", "hooks"]);
        let said = finished(begun(&mut git)?)?;
        Ok(self.top.join(String::from_utf8_lossy(&said).trim_end_matches('\n')))
    }

    /// The folder of hooks that is configured for more than this repository, if there is one.
    pub fn shared_hooks(&self) -> Option<String> {
        let mut git = plain(&self.top);
        git.envs(self.env.iter().cloned()).args(["config", "--show-scope", "--get", "core.hooksPath"]);
        let said = String::from_utf8(finished(begun(&mut git).ok()?).ok()?).ok()?;
        let (scope, path) = said.trim_end().split_once('\t')?;
        ["global", "system"].contains(&scope).then(|| path.to_owned())
    }

    /// The files below the folder that are others than in `revision`: committed since, changed, added, deleted, or not tracked yet.
    /// What git ignores is not in it.
    ///
    /// # Errors
    /// [`Code::Usage`] where git knows no such revision.
    pub fn changed_since(&self, revision: &str) -> Result<BTreeSet<RelPath>, Error> {
        let commit = format!("{revision}^{{commit}}");
        let known = self.ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]);
        let commit = known.map_err(|_| {
            Error::new(Code::Usage, format!("git knows no revision `{revision}`"))
                .hint("a branch, a tag or a commit; in CI it may have to be fetched first")
        })?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let differ = begun(self.git().args(DIFFER).args(["--name-only", &commit, "--"]))?;
        let others = begun(self.git().args(OTHERS))?;
        Ok(paths(&finished(differ)?).chain(paths(&finished(others)?)).collect())
    }
}

/// Compares with the work tree; what was only touched is no difference.
pub(super) const DIFFER: [&str; 7] =
    ["diff", "-z", "--no-renames", "--relative", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all"];

/// Asks for what is not tracked and not ignored.
pub(super) const OTHERS: [&str; 4] = ["ls-files", "--others", "--exclude-standard", "-z"];

/// The paths in a list with a zero byte behind each. What cannot be written in a Genfile is left out.
pub(super) fn paths(list: &[u8]) -> impl Iterator<Item = RelPath> {
    let names = list.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    names.filter(|name| !name.is_empty()).filter_map(|name| RelPath::new(name).ok())
}

/// Whether an index is one of this repository. The hook of another, around it, names its own.
fn is_of(index: &Path, dir: &Path) -> bool {
    let Some(folder) = index.parent() else { return false };
    let real = |path: &Path| path.canonicalize().ok();
    index.exists() && (real(folder) == real(dir) || !folder.join("HEAD").exists())
}

pub(super) fn begun(git: &mut Command) -> Result<Child, Error> {
    git.stderr(Stdio::piped()).spawn().map_err(|e| {
        Error::new(Code::Usage, format!("git cannot be started: {e}")).hint("git must be on PATH for this")
    })
}

/// What a git prints; its own words where it fails.
pub(super) fn finished(git: Child) -> Result<Vec<u8>, Error> {
    let said = git.wait_with_output().map_err(|e| Error::new(Code::Usage, format!("git cannot be asked: {e}")))?;
    if said.status.success() {
        return Ok(said.stdout);
    }
    let why = String::from_utf8_lossy(&said.stderr);
    let why = why.lines().find(|line| !line.trim().is_empty()).unwrap_or("it gives no reason");
    Err(Error::new(Code::Usage, format!("git says: {why}")))
}

/// Asks a `git cat-file --batch` for an object. Bytes only of a blob of at most `most` bytes.
pub(super) fn blob(
    name: &str,
    most: u64,
    mut asks: impl Write,
    mut answers: impl BufRead,
) -> io::Result<Option<Vec<u8>>> {
    asks.write_all(format!("{name}\n").as_bytes())?;
    asks.flush()?;
    let mut head = String::new();
    if answers.read_line(&mut head)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let words: Vec<&str> = head.trim_end().rsplitn(3, ' ').collect();
    // An object that is not there is answered with its name and one word.
    let [size, kind, _] = words[..] else { return Ok(None) };
    let (Ok(size), true) = (size.parse::<u64>(), ["blob", "tree", "commit", "tag"].contains(&kind)) else {
        return Ok(None);
    };
    if kind != "blob" || size > most {
        io::copy(&mut answers.by_ref().take(size + 1), &mut io::sink())?;
        return Ok(None);
    }
    let mut bytes = Vec::new();
    answers.by_ref().take(size).read_to_end(&mut bytes)?;
    io::copy(&mut answers.by_ref().take(1), &mut io::sink())?;
    if bytes.len() as u64 == size { Ok(Some(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
