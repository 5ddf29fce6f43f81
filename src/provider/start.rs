//! `start:`: brings a provider up when nothing answers at its address, and takes it down at the end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Notice;
use crate::cancel::Cancel;
use crate::error::{Code, Error};
use crate::shell;

/// How long the process group gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How often the address is tried while the command comes up.
const TICK: Duration = Duration::from_millis(100);

/// A provider that answers; one that genmake brought up ends when this is dropped.
pub(super) struct Server {
    running: Option<Running>,
}

struct Running {
    /// The process, which leads a group of its own.
    id: u32,
    ended: Receiver<Option<ExitStatus>>,
}

enum Said {
    Line(String),
    Ended(Option<ExitStatus>),
}

/// Runs `command` unless the address answers already, and waits until it does. It gets the environment but for the variables
/// `without`. `answers` gives the status of an answer; while the command comes up, 503 (as of a server that still loads its model)
/// is not one.
pub(super) fn bring_up(
    command: &str,
    timeout: Duration,
    root: &Path,
    without: &[String],
    answers: &dyn Fn() -> Option<u16>,
    cancel: &Cancel,
    tell: &dyn Fn(Notice),
) -> Result<Server, Error> {
    if answers().is_some() {
        return Ok(Server { running: None });
    }
    let is_ready = || answers().is_some_and(|status| status != 503);
    if cancel.is_cancelled() {
        return Err(failed("interrupted".to_owned(), &VecDeque::new()));
    }
    tell(Notice::Starting(command.to_owned()));
    let begun = Instant::now();
    let mut looked = begun;
    let child =
        spawn(command, root, without).map_err(|e| failed(format!("it cannot be run: {e}"), &VecDeque::new()))?;
    let id = child.id();
    let (said, ended) = listen(child);
    // From here on the group is taken down whatever happens.
    let server = Server { running: Some(Running { id, ended }) };
    let mut last = VecDeque::new();
    loop {
        match said.recv_timeout(TICK) {
            Ok(Said::Line(line)) => {
                tell(Notice::Said(line.clone()));
                last.push_back(line);
                if last.len() > 20 {
                    last.pop_front();
                }
            }
            // Another process may have brought it up meanwhile, so that this command found its port taken.
            Ok(Said::Ended(_)) if is_ready() => return Ok(Server { running: None }),
            Ok(Said::Ended(status)) => {
                let status = status.map_or_else(|| "it ended".to_owned(), |status| format!("it ended with {status}"));
                return Err(failed(status, &last));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Both of its streams are closed and it still runs: only the address can tell.
            Err(RecvTimeoutError::Disconnected) => drop(cancel.wait(TICK)),
        }
        if cancel.is_cancelled() {
            return Err(failed("interrupted".to_owned(), &last));
        }
        // However much it says, the address is tried at every tick.
        if looked.elapsed() < TICK {
            continue;
        }
        looked = Instant::now();
        if is_ready() {
            tell(Notice::Ready(begun.elapsed()));
            // Nobody reads what it says from here on, but it must not block on a full pipe.
            std::thread::spawn(move || said.into_iter().for_each(drop));
            return Ok(server);
        }
        if begun.elapsed() > timeout {
            let waited = humantime::format_duration(timeout);
            return Err(failed(format!("nothing answered within {waited} (`start_timeout`)"), &last));
        }
    }
}

fn failed(what: String, last: &VecDeque<String>) -> Error {
    let error = Error::new(Code::StartFailed, what);
    if last.is_empty() {
        error
    } else {
        error.hint(format!("it said:\n{}", last.iter().cloned().collect::<Vec<_>>().join("\n")))
    }
}

fn spawn(command: &str, root: &Path, without: &[String]) -> std::io::Result<Child> {
    let mut process = shell::command(command, root);
    for name in without {
        process.env_remove(name);
    }
    process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Follows what the process says and when it ends.
fn listen(mut child: Child) -> (Receiver<Said>, Receiver<Option<ExitStatus>>) {
    // Bounded: a command that says more than is read waits.
    let (send, said) = mpsc::sync_channel(1000);
    let (send_end, ended) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
    let mut readers = Vec::new();
    for stream in streams.into_iter().flatten() {
        let send = send.clone();
        readers.push(std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if !text.is_empty() && send.send(Said::Line(text)).is_err() {
                    // Nobody listens any more; keep the pipe empty all the same.
                    continue;
                }
            }
        }));
    }
    std::thread::spawn(move || {
        let status = child.wait().ok();
        // What it said last comes before that it ended; a grandchild that holds the pipe open is not waited for.
        let (done, all_read) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            readers.into_iter().for_each(|reader| drop(reader.join()));
            drop(done);
        });
        let _ = all_read.recv_timeout(Duration::from_millis(500));
        let _ = send.send(Said::Ended(status));
        let _ = send_end.send(status);
    });
    (said, ended)
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(Running { id, ended }) = &self.running else { return };
        shell::signal(*id, false);
        if ended.recv_timeout(GRACE).is_err() {
            let _ = ended.try_recv();
        }
        // Also after the leader has ended: others of its group may not have.
        shell::signal(*id, true);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::process::Command;

    fn up(
        command: &str,
        dir: &Path,
        answers: &dyn Fn() -> Option<u16>,
        timeout: Duration,
    ) -> (Result<Server, Error>, Vec<Notice>) {
        let told = RefCell::new(Vec::new());
        let tell = |notice| told.borrow_mut().push(notice);
        let server = bring_up(command, timeout, dir, &[], answers, &Cancel::default(), &tell);
        (server, told.into_inner())
    }

    #[test]
    fn is_not_run_when_something_answers() {
        let dir = tempfile::tempdir().unwrap();
        let (server, told) = up("touch ran", dir.path(), &|| Some(404), Duration::from_secs(1));
        assert!(server.is_ok() && told.is_empty() && !dir.path().join("ran").exists());
    }

    #[test]
    fn is_waited_for_and_taken_down_with_all_its_group() {
        let dir = tempfile::tempdir().unwrap();
        // The command leaves a child behind that ignores SIGTERM, and holds a fifo open as long as it lives.
        let command = "mkfifo alive; (trap '' TERM; exec 9<>alive; echo $GENMAKE_PID > up; while :; do sleep 0.05; done) & echo hello; wait";
        let path = dir.path().to_path_buf();
        let (server, told) =
            up(command, dir.path(), &|| path.join("up").exists().then_some(200), Duration::from_secs(30));
        assert!(told.contains(&Notice::Said("hello".into())), "{told:?}");
        assert!(matches!(told.last(), Some(Notice::Ready(_))));
        assert_eq!(fs_err::read_to_string(dir.path().join("up")).unwrap().trim(), std::process::id().to_string());
        // Reads until nobody has the fifo open for writing any more.
        let mut reader = Command::new("cat").arg("alive").current_dir(dir.path()).spawn().unwrap();
        drop(server.unwrap());
        let (ends, ended) = mpsc::channel();
        std::thread::spawn(move || ends.send(reader.wait().unwrap()));
        assert!(ended.recv_timeout(Duration::from_secs(30)).is_ok_and(|status| status.success()));
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = up("echo 'install python' >&2; exit 69", dir.path(), &|| None, Duration::from_secs(30));
        let error = server.err().unwrap();
        assert_eq!(error.message, "it ended with exit status: 69");
        assert_eq!(error.hints, ["it said:\ninstall python"]);
    }

    #[test]
    fn a_server_that_still_loads_is_waited_for_and_one_that_another_brought_up_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let statuses = RefCell::new(vec![Some(200), Some(503), Some(503), None]);
        let next = || statuses.borrow_mut().pop().unwrap_or(Some(200));
        assert!(up("exec sleep 60", dir.path(), &next, Duration::from_secs(30)).0.is_ok());
        let path = dir.path().to_path_buf();
        let other = || path.join("taken").exists().then_some(200);
        assert!(up("touch taken; exit 69", dir.path(), &other, Duration::from_secs(30)).0.is_ok());
    }

    #[test]
    fn one_that_talks_without_end_is_given_up_too() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = up("while :; do echo x; done", dir.path(), &|| None, Duration::from_millis(300));
        assert!(server.err().unwrap().message.contains("start_timeout"));
    }

    #[test]
    fn one_that_never_answers_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (server, _) = up("exec sleep 60", dir.path(), &|| None, Duration::from_millis(1));
        assert!(server.err().unwrap().message.contains("start_timeout"));
    }
}
