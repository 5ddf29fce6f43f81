//! Commands of the Genfile: run by the shell, in the root, in process groups of their own that end with the run.
//!
//! Knows nothing of tasks. What a command is given on stdin, and what becomes of what it says, is the caller's.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an interrupted command gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what a failed command said is kept, in bytes.
const TAIL: usize = 4096;

/// Runs commands in one root.
pub struct Shell {
    root: PathBuf,
    /// Environment variables that no command gets.
    without: Vec<String>,
    state: Arc<Mutex<State>>,
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
    /// A shell in `root`. Commands get the environment but for the variables `without`, which hold secrets that are not theirs.
    pub fn new(root: PathBuf, without: Vec<String>) -> Shell {
        Shell { root, without, state: Arc::default() }
    }

    /// Ends what runs, and lets nothing more begin. What does not end when asked to is killed after a while.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.running.iter().for_each(|id| signal(*id, false));
        if state.running.is_empty() {
            return;
        }
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            let (never, time) = mpsc::channel::<()>();
            let _ = time.recv_timeout(GRACE);
            drop(never);
            state.lock().unwrap_or_else(PoisonError::into_inner).running.iter().for_each(|id| signal(*id, true));
        });
    }

    /// Runs a command to its end and gives what it wrote to stdout. What it leaves running in its group ends with it.
    ///
    /// # Errors
    /// It could not be run, or did not succeed.
    pub fn run(&self, line: &str, stdin: Option<&[u8]>) -> Result<Vec<u8>, Failed> {
        let mut process = command(line, &self.root);
        for name in &self.without {
            process.env_remove(name);
        }
        process.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        process.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = {
            let mut state = self.state();
            if state.stopped {
                return Err(Failed::Interrupted);
            }
            // Under the lock, so that nothing begins that a stop does not know of.
            let child = process.spawn().map_err(|e| Failed::NotRun(e.to_string()))?;
            state.running.insert(child.id());
            child
        };
        let id = child.id();
        let ended = follow(child, stdin);
        let stopped = {
            let mut state = self.state();
            state.running.remove(&id);
            state.stopped
        };
        let (status, stdout, stderr) = ended.map_err(|e| Failed::NotRun(e.to_string()))?;
        if status.success() {
            return Ok(stdout);
        }
        if stopped {
            return Err(Failed::Interrupted);
        }
        let said = [stdout, stderr].concat();
        let tail = &said[said.len().saturating_sub(TAIL)..];
        Err(Failed::Ended { status: status.to_string(), said: String::from_utf8_lossy(tail).trim().to_owned() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Ended = (std::process::ExitStatus, Vec<u8>, Vec<u8>);

/// Feeds a process and listens to it until it has ended.
fn follow(mut child: Child, stdin: Option<&[u8]>) -> std::io::Result<Ended> {
    let id = child.id();
    let (pipe, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // A command that does not read to the end of its input closes the pipe; that is not for us to judge.
        scope.spawn(move || pipe.map(|mut pipe| pipe.write_all(stdin.unwrap_or_default())));
        let out = scope.spawn(move || all(stdout));
        let err = scope.spawn(move || all(stderr));
        let status = child.wait();
        signal(id, true);
        let text = |reader: std::thread::ScopedJoinHandle<'_, Vec<u8>>| reader.join().unwrap_or_default();
        Ok((status?, text(out), text(err)))
    })
}

fn all(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    bytes
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
        let shell = Shell::new(dir.path().to_path_buf(), vec!["HOME".to_owned()]);
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

    #[test]
    fn an_interrupted_command_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Shell::new(dir.path().to_path_buf(), Vec::new());
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
