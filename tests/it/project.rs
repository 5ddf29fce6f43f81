//! A project in a temporary folder, and the runs of genmake in it.
//!
//! A run sees a clean environment: nothing of the caller's but `PATH`, and a home
//! of its own. What a run prints is compared after whatever differs from one run
//! to the next is masked: folders, ports, durations.
//!
//! Knows nothing of Genfiles, locks or stores but their names: a test writes the
//! text and reads the files.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test's tool fails by panic and shows why"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use expect_test::Expect;
use fs_err as fs;
use tempfile::TempDir;

use crate::server::Server;

/// Whether tests are to try all of what is a sample otherwise, however long it takes.
#[allow(clippy::disallowed_methods, reason = "asked of who runs the test")]
pub fn all() -> bool {
    std::env::var("GENMAKE_ALL").is_ok_and(|value| value == "1")
}

/// Whether what is published of the tests, pictures and such, is to be written anew.
#[allow(clippy::disallowed_methods, reason = "asked of who runs the test")]
pub fn updates() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// How long a run may take before it is killed and its test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What changes when a file is written, whatever is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    modified: SystemTime,
    #[cfg(unix)]
    inode: u64,
}

/// A folder to run genmake in. It is deleted when this is dropped.
pub struct Project {
    dir: TempDir,
    home: TempDir,
    env: BTreeMap<String, String>,
}

impl Project {
    /// An empty project.
    pub fn new() -> Project {
        let folder = || TempDir::with_prefix("genmake-test-").expect("a temporary folder");
        Project { dir: folder(), home: folder(), env: BTreeMap::new() }
    }

    /// Another project with the same files and permissions, those of `.genmake` too, and the same variables.
    pub fn copy(&self) -> Project {
        let copy = Project { env: self.env.clone(), ..Project::new() };
        for path in self.everything().into_keys() {
            let to = copy.path(&path);
            fs::create_dir_all(to.parent().expect("a file stands in a folder")).expect("a folder for a file");
            fs::copy(self.path(&path), to).expect("a file of the project can be copied");
        }
        copy
    }

    /// The folder.
    pub fn root(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Adds a file and the folders above it.
    pub fn file(self, path: &str, text: &str) -> Self {
        self.edit(path, text);
        self
    }

    /// Adds the Genfile, with the server's address for each `{base_url}` in it.
    pub fn genfile_for(self, server: &Server, text: &str) -> Self {
        self.file("Genfile", &text.replace("{base_url}", &server.base_url()))
    }

    /// Sets a variable for all runs to come.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Writes a file, new or not.
    #[track_caller]
    pub fn edit(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("a folder for a file");
        fs::write(path, text).expect("a file of the project can be written");
        self
    }

    /// Deletes a file, or a folder with all that is in it.
    #[track_caller]
    pub fn remove(&self, path: &str) -> &Self {
        let path = self.path(path);
        let is_folder = path.is_dir() && !path.is_symlink();
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.expect("what is removed is there");
        self
    }

    /// A file's text.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("what is read is there, in UTF-8")
    }

    /// Whether there is such a file or folder.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Where a path of the project is on this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// All files by path, but those of `.genmake`. A symlink shows where it leads.
    pub fn tree(&self) -> BTreeMap<String, String> {
        self.walk(true, |path| match fs::read_link(path) {
            Ok(target) => format!("-> {}", target.display()),
            Err(_) => String::from_utf8_lossy(&fs::read(path).expect("a file of the project")).into_owned(),
        })
    }

    /// All files by path and all of their bytes, those of `.genmake` too.
    pub fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        self.walk(false, |path| fs::read(path).expect("a file of the project"))
    }

    /// What tells that a file was written, even with the same bytes: for all files but those of `.genmake`.
    pub fn stamps(&self) -> BTreeMap<String, Stamp> {
        self.walk(true, |path| {
            let meta = fs::symlink_metadata(path).expect("a file of the project");
            Stamp {
                modified: meta.modified().expect("this system keeps times of files"),
                #[cfg(unix)]
                inode: std::os::unix::fs::MetadataExt::ino(&meta),
            }
        })
    }

    /// All files and symlinks, with what `look` sees of each.
    fn walk<T>(&self, skip_own: bool, look: impl Fn(&Path) -> T) -> BTreeMap<String, T> {
        let mut files = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.path(&folder)).expect("a folder of the project") {
                let entry = entry.expect("a folder's entry");
                let name = format!("{folder}{}", entry.file_name().to_string_lossy());
                if !entry.file_type().expect("an entry's type").is_dir() {
                    files.insert(name, look(&entry.path()));
                } else if name != ".genmake" || !skip_own {
                    folders.push(format!("{name}/"));
                }
            }
        }
        files
    }

    /// Runs genmake in the project and waits for its end.
    #[track_caller]
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Run {
        let child = self.spawn(args);
        self.finish(child)
    }

    /// Starts genmake, for tests that kill it or run several at once.
    #[track_caller]
    pub fn spawn<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Child {
        let child = self.command(args).spawn();
        child.expect("the tests' own binary can be started")
    }

    /// What `run` and `spawn` start, for tests that change it first.
    #[expect(clippy::disallowed_methods, reason = "a recipe's programs are found where the caller's are")]
    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let home = self.home.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_genmake"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("LC_ALL", "C")
            .env("NO_COLOR", "1")
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a line of the shell as a reader of the docs would, with `genmake` found by its name; what it says is one text,
    /// as on a terminal.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "the line's other programs are found where the caller's are")]
    pub fn shell(&self, line: &str) -> String {
        let bin = Path::new(env!("CARGO_BIN_EXE_genmake")).parent().expect("a folder").to_owned();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&others))).expect("a PATH");
        let mut command = self.command([]);
        let mut shell = Command::new("sh");
        let env: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        shell.arg("-c").arg(format!("exec 2>&1\n{line}")).current_dir(self.dir.path()).env_clear().envs(env);
        shell.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        std::mem::swap(&mut command, &mut shell);
        let run = self.finish(command.spawn().expect("a shell"));
        mask(&run.stdout, &run.places)
    }

    /// Waits for a line of a child's stderr that holds `part`, and returns it. What it
    /// printed up to there is gone; the rest is left for [`Project::finish`].
    #[track_caller]
    pub fn wait_for_line(&self, child: &mut Child, part: &str) -> String {
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, receiver) = mpsc::channel();
        let wanted = part.to_owned();
        thread::spawn(move || drop(sender.send(read_to_line(stderr, &wanted))));
        match receiver.recv_timeout(PATIENCE) {
            Ok((stderr, Ok(line))) => {
                child.stderr = Some(stderr);
                line
            }
            Ok((_, Err(all))) => panic!("it ended and never said {part:?}:\n{all}"),
            Err(_) => {
                let _ = child.kill(); // the test fails, whether it could be killed or not
                panic!("within {PATIENCE:?} it did not say {part:?}");
            }
        }
    }

    /// Waits for the end of a child of [`Project::spawn`].
    #[track_caller]
    pub fn finish(&self, mut child: Child) -> Run {
        let deadline = Instant::now() + PATIENCE;
        let stdout = drain(child.stdout.take().expect("stdout is piped"));
        let stderr = drain(child.stderr.take().expect("stderr is piped"));
        // Both streams end with the child, and with whatever it left behind.
        let (stdout, stdout_ended) = stdout.collect(deadline);
        let (stderr, stderr_ended) = stderr.collect(deadline);
        let ended = stdout_ended && stderr_ended;
        if !ended {
            let _ = child.kill(); // fails if it has ended and only what it started runs on
        }
        let run = Run {
            status: child.wait().expect("a child can be waited for"),
            stdout,
            stderr,
            places: vec![(self.dir.path().to_owned(), "[ROOT]"), (self.home.path().to_owned(), "[HOME]")],
        };
        if !ended {
            run.fail(&format!("after {PATIENCE:?} it or a process that it started was still running"));
        }
        run
    }
}

/// Reads byte by byte, so that nothing after the line is taken. `Err` holds all there was.
fn read_to_line(mut stream: ChildStderr, part: &str) -> (ChildStderr, Result<String, String>) {
    let mut all = String::new();
    let mut line = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            let text = String::from_utf8_lossy(&line).into_owned();
            if text.contains(part) {
                return (stream, Ok(text.trim_end().to_owned()));
            }
            all += &text;
            line.clear();
        }
    }
    (stream, Err(all))
}

/// A stream that a thread of its own reads, so that no pipe fills up and every
/// wait can end in time.
struct Drain(mpsc::Receiver<Vec<u8>>);

fn drain(mut stream: impl Read + Send + 'static) -> Drain {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break; // nobody waits any more
            }
        }
    });
    Drain(receiver)
}

impl Drain {
    /// What was read, and whether the stream ended in time.
    fn collect(self, deadline: Instant) -> (String, bool) {
        let mut bytes = Vec::new();
        let ended = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(piece) => bytes.extend(piece),
                Err(mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
            }
        };
        (String::from_utf8_lossy(&bytes).into_owned(), ended)
    }
}

/// A run that has ended. Say how with [`Run::exits`], at last.
#[must_use = "a run's exit status must be checked: `.exits(0)`"]
pub struct Run {
    /// What it printed, nothing masked.
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
    /// Folders of this run and the words that stand for them.
    places: Vec<(PathBuf, &'static str)>,
}

impl Run {
    /// All of stdout, masked.
    pub fn stdout(self, expected: Expect) -> Self {
        self.compare(&self.stdout, &expected);
        self
    }

    /// All of stderr, masked.
    pub fn stderr(self, expected: Expect) -> Self {
        self.compare(&self.stderr, &expected);
        self
    }

    /// A part of stdout, masked.
    #[track_caller]
    pub fn stdout_has(self, part: &str) -> Self {
        if !self.mask(&self.stdout).contains(part) {
            self.fail(&format!("stdout lacks {part:?}"));
        }
        self
    }

    /// A part of stderr, masked. Where an error was wrapped to the width of a terminal, its
    /// lines count as one with spaces between.
    #[track_caller]
    pub fn stderr_has(self, part: &str) -> Self {
        let stderr = self.mask(&self.stderr);
        if !stderr.contains(part) && !unwrapped(&stderr).contains(part) {
            self.fail(&format!("stderr lacks {part:?}"));
        }
        self
    }

    /// That stderr holds `part` nowhere.
    #[track_caller]
    pub fn stderr_lacks(self, part: &str) -> Self {
        if self.mask(&self.stderr).contains(part) {
            self.fail(&format!("stderr has {part:?}"));
        }
        self
    }

    /// The JSON that stdout is, nothing masked.
    #[track_caller]
    pub fn stdout_json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => self.fail(&format!("stdout is no JSON: {error}")),
        }
    }

    /// How it ended.
    #[track_caller]
    pub fn exits(self, code: i32) {
        if self.status.code() != Some(code) {
            self.fail(&format!("expected exit code {code}"));
        }
    }

    /// expect-test shows the difference; what else was printed often says why.
    fn compare(&self, actual: &str, expected: &Expect) {
        let actual = self.mask(actual);
        let compare = AssertUnwindSafe(|| expected.assert_eq(&actual));
        if let Err(failure) = panic::catch_unwind(compare) {
            println!("{self}");
            panic::resume_unwind(failure);
        }
    }

    fn mask(&self, text: &str) -> String {
        mask(text, &self.places)
    }

    #[track_caller]
    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{self}");
    }
}

/// The whole run, masked as its tests see it.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stdout = self.mask(&self.stdout);
        let stderr = self.mask(&self.stderr);
        write!(f, "-- {}\n-- stdout\n{stdout}\n-- stderr\n{stderr}\n--", self.status)
    }
}

/// Errors as if no line were too long: what goes on stands behind a bar, or as deep as a hint's text.
fn unwrapped(text: &str) -> String {
    text.replace("\n  | ", " ").replace("\n        ", " ")
}

// ---- masking ----

const LOOPBACK: &str = "127.0.0.1:";

/// `text` with `[ROOT]`, `[HOME]`, `[PORT]` and `[TIME]` for what differs between runs.
fn mask(text: &str, places: &[(PathBuf, &str)]) -> String {
    let mut text = text.to_owned();
    for (place, word) in places {
        // A tool may name a folder as it was told, or without symlinks.
        for name in [place.canonicalize().as_ref().unwrap_or(place), place] {
            text = text.replace(&*name.to_string_lossy(), word);
        }
    }
    mask_durations(&mask_ports(&without_slowest(&text)))
}

/// Without the line of what took longest: what that is differs from run to run, and that it is said.
fn without_slowest(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("  slowest  ")).collect()
}

/// A port of this machine is `[PORT]`.
pub fn mask_ports(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(LOOPBACK) {
        let (before, after) = rest.split_at(at + LOOPBACK.len());
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
        masked += before;
        masked += if rest.len() < after.len() { "[PORT]" } else { "" };
    }
    masked + rest
}

/// A duration is a word such as `0.12s` or `12ms`; `f12s` and `12st` are none.
pub fn mask_durations(text: &str) -> String {
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        masked += before;
        match duration(number) {
            Some(after) if !masked.ends_with(is_inner) => {
                masked += "[TIME]";
                rest = after;
            }
            _ => {
                let end = number.find(|c: char| !is_inner(c)).unwrap_or(number.len());
                masked += &number[..end];
                rest = &number[end..];
            }
        }
    }
    masked + rest
}

/// What follows the duration that `text` starts with, if it does.
fn duration(text: &str) -> Option<&str> {
    let is_digit = |c: char| c.is_ascii_digit();
    let whole = text.trim_start_matches(is_digit);
    let fraction = whole.strip_prefix('.').filter(|f| f.starts_with(is_digit));
    let unit = fraction.map_or(whole, |f| f.trim_start_matches(is_digit));
    let after = ["ms", "µs", "us", "ns", "s"].iter().find_map(|name| unit.strip_prefix(name))?;
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    ends.then_some(after)
}
