//! Commands of the Genfile: run by the shell, in the root, in process groups of their own that end with the run.
//!
//! Knows nothing of tasks. What a command is given on stdin, and what becomes of what it says, is the caller's.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::jobs::{Jobs, Slot};

/// How long an interrupted command gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long the pipes of a command that has ended are listened to.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what a failed command said is kept, in bytes.
const TAIL: usize = 4096;

/// The environment variable that holds a run's token.
const TOKEN: &str = "GENMAKE_RUN";

/// Runs commands in one root. A clone runs them for the same run.
#[derive(Clone)]
pub struct Shell {
    root: PathBuf,
    /// Environment variables that no command gets.
    without: Vec<String>,
    /// What tells this run's commands from any other's.
    token: String,
    jobs: Jobs,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told of each command that ended.
    ended: Condvar,
}

/// A command that runs. When this is dropped, what is left of its group ends.
pub struct Running {
    id: u32,
    /// Its number may be another's by now.
    is_killed: bool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct State {
    running: BTreeSet<u32>,
    stopped: bool,
}

/// Why a command brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It could not be run: what the system said.
    NotRun(String),
    /// It ended otherwise than with success.
    Ended {
        /// How, in words: `exit status: 2`.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// The run was interrupted.
    Interrupted,
}

impl Shell {
    /// A shell in `root`. Commands get the environment but for the variables `without`, which hold secrets that are not theirs,
    /// and `token` as `GENMAKE_RUN`, by which [`end_left`] knows them.
    pub fn new(root: PathBuf, without: Vec<String>, token: String) -> Shell {
        Shell { root, without, token, jobs: Jobs::default(), shared: Arc::default() }
    }

    /// A shell beside these jobs. It runs any number of commands at once: whoever has one run that is no part of a job asks for room.
    #[must_use]
    pub fn beside(self, jobs: &Jobs) -> Shell {
        Shell { jobs: jobs.clone(), ..self }
    }

    /// Waits until there is room for one more job beside those that run.
    pub fn slot(&self) -> Slot {
        self.jobs.slot()
    }

    /// The variables that commands do not get.
    pub fn without(&self) -> &[String] {
        &self.without
    }

    /// What tells this run's commands from any other's.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ends what runs, and lets nothing more begin. What does not end when asked to is killed after a while.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.running.iter().for_each(|id| signal(*id, false));
        if state.running.is_empty() {
            return;
        }
        let shell = self.clone();
        std::thread::spawn(move || shell.wind_up());
    }

    /// Waits until what was stopped has ended; what does not end when asked to is killed after a while.
    pub fn wind_up(&self) {
        let is_running = |state: &mut State| !state.running.is_empty();
        let waited = self.shared.ended.wait_timeout_while(self.state(), GRACE, is_running);
        waited.unwrap_or_else(PoisonError::into_inner).0.running.iter().for_each(|id| signal(*id, true));
    }

    /// Begins a command for whoever follows it, with these variables beside those that all have. Its streams are piped.
    ///
    /// # Errors
    /// It could not be run.
    pub fn begin(&self, line: &str, stdin: Stdio, with: &[(&str, &str)]) -> Result<(Child, Running), Failed> {
        let mut process = command(line, &self.root);
        for name in &self.without {
            process.env_remove(name);
        }
        process.env(TOKEN, &self.token).envs(with.iter().copied());
        process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut state = self.state();
        if state.stopped {
            return Err(Failed::Interrupted);
        }
        // Under the lock, so that nothing begins that a stop does not know of.
        let child = process.spawn().map_err(|e| Failed::NotRun(e.to_string()))?;
        state.running.insert(child.id());
        let running = Running { id: child.id(), is_killed: false, shared: Arc::clone(&self.shared) };
        Ok((child, running))
    }

    /// Runs a command to its end and gives what it wrote to stdout. What it leaves running in its group ends with it.
    ///
    /// # Errors
    /// It could not be run, or did not succeed.
    pub fn run(&self, line: &str, stdin: Option<&[u8]>) -> Result<Vec<u8>, Failed> {
        let (child, mut running) =
            self.begin(line, if stdin.is_some() { Stdio::piped() } else { Stdio::null() }, &[])?;
        let ended = follow(child, &mut running, stdin);
        drop(running);
        let stopped = self.state().stopped;
        let (status, stdout, stderr) = ended.map_err(|e| Failed::NotRun(e.to_string()))?;
        if stopped {
            // Also where it says that all is well: many a program that is asked to end does, and has done half its work.
            return Err(Failed::Interrupted);
        }
        if status.success() {
            return match stdout {
                Heard { bytes, to_its_end: true } => Ok(bytes),
                // Without stdin nobody wants what it said.
                Heard { bytes, .. } if stdin.is_none() => Ok(bytes),
                _ => Err(Failed::NotRun("it left a process behind that keeps its output open".to_owned())),
            };
        }
        let said = [stdout.bytes, stderr.bytes].concat();
        let tail = &said[said.len().saturating_sub(TAIL)..];
        let said = String::from_utf8_lossy(tail).trim().to_owned();
        match status.code() {
            // By these a POSIX shell says that a program is not there, or cannot be run.
            Some(126 | 127) if cfg!(unix) && !said.is_empty() => Err(Failed::NotRun(said)),
            _ => Err(Failed::Ended { status: status.to_string(), said }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Kills what is left of its group.
    pub fn kill(&mut self) {
        if !std::mem::replace(&mut self.is_killed, true) {
            signal(self.id, true);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.id);
        self.shared.ended.notify_all();
    }
}

/// What a process wrote to a pipe.
struct Heard {
    bytes: Vec<u8>,
    to_its_end: bool,
}

type Ended = (std::process::ExitStatus, Heard, Heard);

/// Feeds a process and listens to it until it has ended.
fn follow(mut child: Child, running: &mut Running, stdin: Option<&[u8]>) -> std::io::Result<Ended> {
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin.map(<[u8]>::to_vec)) {
        // A command that does not read to the end of its input closes the pipe; that is not for us to judge.
        std::thread::spawn(move || pipe.write_all(&bytes));
    }
    let (stdout, stderr) = (Listener::new(child.stdout.take()), Listener::new(child.stderr.take()));
    let status = child.wait();
    running.kill();
    let until = Instant::now() + LINGER;
    Ok((status?, stdout.heard(until), stderr.heard(until)))
}

/// Listens to a pipe in a thread of its own, which is left to itself if the pipe does not end.
struct Listener {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

impl Listener {
    fn new(mut stream: Option<impl Read + Send + 'static>) -> Listener {
        let (end, ended) = mpsc::channel();
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Some(n) = stream_piece(&mut stream, &mut piece) {
                all.lock().unwrap_or_else(PoisonError::into_inner).extend(&piece[..n]);
            }
            let _ = end.send(());
        });
        Listener { bytes, ended }
    }

    /// What was heard, once the process has ended and its group is killed. What left the group may hold the pipe open for as
    /// long as it likes: it is not waited for.
    fn heard(self, until: Instant) -> Heard {
        let to_its_end = self.ended.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok();
        Heard { bytes: std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner)), to_its_end }
    }
}

/// The next bytes of a stream; `None` at its end.
fn stream_piece(stream: &mut Option<impl Read>, piece: &mut [u8]) -> Option<usize> {
    loop {
        match stream.as_mut()?.read(piece) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read.ok().filter(|n| *n > 0),
        }
    }
}

/// A command line for the shell, in `root`, as the leader of a process group: Ctrl-C on the terminal does not reach it, and
/// all of it can be ended at once.
pub fn command(line: &str, root: &Path) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut process = Command::new(shell);
    process.args([flag, line]).current_dir(root).env("GENMAKE_PID", std::process::id().to_string());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut process, 0);
    process
}

/// Kills what the commands of a killed run left running, so that it writes nothing any more. On systems that do not show the
/// environment of processes nothing is found.
#[cfg(target_os = "linux")]
pub fn end_left(token: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    const ROUNDS: usize = 1000;
    let variable = format!("{TOKEN}={token}");
    let is_left = |process: &Path| {
        let environ = fs_err::read(process.join("environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    // What is killed is gone in a moment, and may have begun something in that moment.
    for _ in 0..ROUNDS {
        let all = fs_err::read_dir("/proc").into_iter().flatten().flatten();
        let left: Vec<Pid> = all
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
            .filter(|(_, path)| is_left(path))
            .filter_map(|(id, _)| Pid::from_raw(id))
            .collect();
        if left.is_empty() {
            return;
        }
        for id in left {
            let _ = kill_process(id, Signal::KILL);
        }
        std::thread::yield_now();
    }
}

/// Without a way to find them nothing is ended.
#[cfg(not(target_os = "linux"))]
pub fn end_left(_: &str) {}

/// Ends a process group: asks it to, or kills it.
#[cfg(unix)]
pub fn signal(id: u32, kill: bool) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let signal = if kill { Signal::KILL } else { Signal::TERM };
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

/// Ends a process and its children.
#[cfg(not(unix))]
pub fn signal(id: u32, _: bool) {
    let _ = Command::new("taskkill").args(["/T", "/F", "/PID", &id.to_string()]).status();
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, stdin: Option<&[u8]>) -> Result<String, Failed> {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new(dir.path().to_path_buf(), vec!["HOME".to_owned()], "t".to_owned());
        shell.run(line, stdin).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_goes_in_and_what_comes_out() {
        assert_eq!(run("tr a-z A-Z", Some(b"abc")).unwrap(), "ABC");
        assert_eq!(run("echo ${HOME-unset} ${GENMAKE_PID:+set}", None).unwrap(), "unset set\n");
        let much = "line\n".repeat(100_000);
        assert_eq!(run("cat", Some(much.as_bytes())).unwrap(), much);
        // One that does not read its input is not stuck.
        assert_eq!(run("true", Some(much.as_bytes())).unwrap(), "");
    }

    #[test]
    fn a_failure_shows_the_end_of_what_was_said() {
        let failed = run("echo out; echo err >&2; exit 3", None).unwrap_err();
        assert_eq!(failed, Failed::Ended { status: "exit status: 3".into(), said: "out\nerr".into() });
        let Failed::Ended { said, .. } = run("seq 1 9999; false", None).unwrap_err() else { panic!("it ended") };
        assert!(said.ends_with("9998\n9999") && said.len() <= TAIL);
    }

    #[test]
    fn what_a_command_leaves_running_ends_with_it() {
        // The background process holds the pipe open; without its end this would wait for it.
        assert_eq!(run("sleep 1000 & echo done", None).unwrap(), "done\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_leaves_the_group_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new(dir.path().to_path_buf(), Vec::new(), "t".to_owned());
        let left = "rm -f up; setsid sh -c 'echo $$ > up; exec sleep 1000' & while ! test -s up; do :; done; echo done";
        let end =
            || assert!(Command::new("sh").args(["-c", "kill $(cat up)"]).current_dir(&dir).status().unwrap().success());
        assert_eq!(shell.run(left, None).unwrap(), b"done\n");
        end();
        // What a filter said may not be all of it.
        let Err(Failed::NotRun(why)) = shell.run(left, Some(b"")) else { panic!("it was taken for run") };
        assert!(why.contains("keeps its output open"));
        end();
    }

    #[test]
    fn one_that_ends_well_when_interrupted_has_done_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new(dir.path().to_path_buf(), Vec::new(), "t".to_owned());
        let fifo = dir.path().join("up");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| shell.run("trap 'exit 0' TERM; echo > up; sleep 1000 & wait", None));
            fs_err::read(&fifo).unwrap();
            shell.stop();
            assert_eq!(job.join().unwrap(), Err(Failed::Interrupted));
        });
    }

    #[test]
    fn an_interrupted_command_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new(dir.path().to_path_buf(), Vec::new(), "t".to_owned());
        let fifo = dir.path().join("up");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        std::thread::scope(|scope| {
            let job = scope.spawn(|| shell.run("echo > up; sleep 1000", None));
            // Opens when the command does, so that it is known to run.
            fs_err::read(&fifo).unwrap();
            shell.stop();
            assert_eq!(job.join().unwrap(), Err(Failed::Interrupted));
        });
        assert_eq!(shell.run("true", None), Err(Failed::Interrupted));
    }
}
