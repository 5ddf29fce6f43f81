//! Runs genmake with every system call that writes, or talks to a provider, in a test's hand: it sees the call before it is
//! made, and may let it be, make it fail, or kill the process there.
//!
//! By ptrace, so nothing needs to be installed and nothing of genmake is changed; only on Linux on x86-64. Knows nothing of
//! Genfiles or of what genmake writes.
//!
//! One thread traces one run: ptrace obeys only the thread that began it. All threads of genmake and all processes that it
//! starts are followed.

#![allow(clippy::expect_used, clippy::panic, reason = "a test's tool fails by panic")]

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

pub use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long a traced run may take before it is killed and its test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A system call that is about to be made.
#[derive(Debug, Clone)]
pub struct Call {
    pub name: &'static str,
    /// The files that it names, by path or by descriptor.
    pub paths: Vec<PathBuf>,
    /// Whether genmake itself makes it, and not a command that it started.
    pub own: bool,
    /// Whether it can change a file: all but an `openat` that only reads, and talk.
    pub writes: bool,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// It is made once genmake was sent this signal.
    Send(Signal),
    /// It is not made, and its caller hears this error.
    Fail(Errno),
    /// It is not made, and genmake is killed. What it started runs on, as after `kill -9`.
    Kill,
    /// As `Kill`, with all that genmake started.
    KillAll,
}

/// A run that was traced to its end.
pub struct Traced {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// What was called, in its order, with what became of it.
    pub calls: Vec<(Call, Then)>,
}

/// Where a call names a file.
enum At {
    /// A path.
    Path(usize),
    /// A folder's descriptor, and a path from there.
    From(usize, usize),
    /// A descriptor.
    Fd(usize),
}

/// The calls that are followed. Those after the first list are talk: they change no file.
const WRITES: &[(libc::c_long, &str, &[At])] = &[
    (libc::SYS_openat, "openat", &[At::From(0, 1)]),
    (libc::SYS_write, "write", &[At::Fd(0)]),
    (libc::SYS_writev, "writev", &[At::Fd(0)]),
    (libc::SYS_pwrite64, "pwrite64", &[At::Fd(0)]),
    (libc::SYS_copy_file_range, "copy_file_range", &[At::Fd(0), At::Fd(2)]),
    (libc::SYS_sendfile, "sendfile", &[At::Fd(0)]),
    (libc::SYS_ftruncate, "ftruncate", &[At::Fd(0)]),
    (libc::SYS_fallocate, "fallocate", &[At::Fd(0)]),
    (libc::SYS_fsync, "fsync", &[At::Fd(0)]),
    (libc::SYS_fdatasync, "fdatasync", &[At::Fd(0)]),
    (libc::SYS_syncfs, "syncfs", &[At::Fd(0)]),
    (libc::SYS_sync, "sync", &[]),
    (libc::SYS_fchmod, "fchmod", &[At::Fd(0)]),
    (libc::SYS_chmod, "chmod", &[At::Path(0)]),
    (libc::SYS_fchmodat, "fchmodat", &[At::From(0, 1)]),
    (libc::SYS_utimensat, "utimensat", &[At::From(0, 1)]),
    (libc::SYS_rename, "rename", &[At::Path(0), At::Path(1)]),
    (libc::SYS_renameat, "renameat", &[At::From(0, 1), At::From(2, 3)]),
    (libc::SYS_renameat2, "renameat2", &[At::From(0, 1), At::From(2, 3)]),
    (libc::SYS_link, "link", &[At::Path(0), At::Path(1)]),
    (libc::SYS_linkat, "linkat", &[At::From(0, 1), At::From(2, 3)]),
    (libc::SYS_symlink, "symlink", &[At::Path(1)]),
    (libc::SYS_symlinkat, "symlinkat", &[At::From(1, 2)]),
    (libc::SYS_unlink, "unlink", &[At::Path(0)]),
    (libc::SYS_unlinkat, "unlinkat", &[At::From(0, 1)]),
    (libc::SYS_rmdir, "rmdir", &[At::Path(0)]),
    (libc::SYS_mkdir, "mkdir", &[At::Path(0)]),
    (libc::SYS_mkdirat, "mkdirat", &[At::From(0, 1)]),
];

const TALK: &[(libc::c_long, &str, &[At])] = &[
    (libc::SYS_flock, "flock", &[At::Fd(0)]),
    (libc::SYS_connect, "connect", &[At::Fd(0)]),
    (libc::SYS_sendto, "sendto", &[At::Fd(0)]),
    (libc::SYS_recvfrom, "recvfrom", &[At::Fd(0)]),
];

/// Whether this system lets a process trace its child. Where it does not, says so past the tests' capture of output: the test
/// that asks shows nothing there.
pub fn is_allowed() -> bool {
    let mut child = Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().expect("a shell");
    let seized = ptrace::seize(pid_of(&child), ptrace::Options::empty());
    let _ = child.kill(); // it may have ended by itself
    let _ = child.wait(); // as above
    if let Err(why) = seized {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let line =
            format!("\nSKIPPED: {test}: this system lets no process trace another ({why}), so nothing was shown\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr");
    }
    seized.is_ok()
}

/// Runs a command to its end. `each` is asked at each call, and meanwhile the thread that makes it stands still.
#[track_caller]
pub fn trace(command: &Command, each: impl FnMut(&Call) -> Then + Send) -> Traced {
    // A thread of its own: the tracer waits for whatever child it has. With its end, what still runs is let go.
    let traced = thread::scope(|scope| scope.spawn(|| Tracer::start(command, each).run()).join());
    let Ended { status, stdout, stderr, calls } = traced.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let text = |stream: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&stream.join().expect("a thread that only reads")).into_owned()
    };
    Traced { status, stdout: text(stdout), stderr: text(stderr), calls }
}

/// The end of genmake; what it said is still being read.
struct Ended {
    status: ExitStatus,
    stdout: thread::JoinHandle<Vec<u8>>,
    stderr: thread::JoinHandle<Vec<u8>>,
    calls: Vec<(Call, Then)>,
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process's id"))
}

struct Tracer<F> {
    child: Child,
    root: Pid,
    each: F,
    /// The process of each thread.
    processes: HashMap<Pid, Pid>,
    /// What is to be heard at the end of a call that is not made.
    failing: HashMap<Pid, Errno>,
    /// Whether the program is there yet, and not the shell that starts it.
    begun: bool,
    calls: Vec<(Call, Then)>,
}

impl<F: FnMut(&Call) -> Then> Tracer<F> {
    /// Starts a shell that waits for a line, so that nothing of the program has run when it is seized, and becomes the program.
    fn start(command: &Command, each: F) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "read line; exec \"$@\" </dev/null", "sh"]).arg(command.get_program());
        shell.args(command.get_args()).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let mut child = shell.spawn().expect("a shell");
        let root = pid_of(&child);
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_TRACEFORK
            | ptrace::Options::PTRACE_O_TRACEVFORK
            | ptrace::Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(root, options).expect("a child can be traced: see `is_allowed`");
        child.stdin.take().expect("stdin is piped").write_all(b"\n").expect("the shell reads");
        let (processes, failing) = (HashMap::new(), HashMap::new());
        Tracer { child, root, each, processes, failing, begun: false, calls: Vec::new() }
    }

    fn run(mut self) -> Ended {
        let stdout = drain(self.child.stdout.take().expect("stdout is piped"));
        let stderr = drain(self.child.stderr.take().expect("stderr is piped"));
        let (ended, wait) = mpsc::channel::<()>();
        let root = self.root;
        thread::spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                send_kill(root);
            }
        });
        let status = loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == root => break ExitStatus::from_raw(code << 8),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == root => break ExitStatus::from_raw(signal as i32),
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    self.begun |= pid == root && event == libc::PTRACE_EVENT_EXEC;
                    resume(pid, None);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(why) => panic!("the traced run is lost: {why}"),
            }
        };
        drop(ended);
        Ended { status, stdout, stderr, calls: self.calls }
    }

    /// A thread stands before a call, or after it.
    fn at_call(&mut self, pid: Pid) {
        // Killed meanwhile, and its end comes next.
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let (Some(errno), Ok(mut registers)) = (self.failing.remove(&pid), ptrace::getregs(pid)) {
                registers.rax = (-i64::from(errno as i32)) as u64;
                let _ = ptrace::setregs(pid, registers); // as above
            }
        } else if self.begun
            && let Some(call) = self.call(pid)
        {
            let then = (self.each)(&call);
            self.calls.push((call, then));
            match then {
                Then::GoOn => {}
                Then::Fail(errno) => {
                    if let Ok(mut registers) = ptrace::getregs(pid) {
                        // No such call: the kernel does nothing.
                        registers.orig_rax = u64::MAX;
                        let _ = ptrace::setregs(pid, registers); // as above
                        self.failing.insert(pid, errno);
                    }
                }
                Then::Send(signal) => {
                    let _ = kill(self.root, signal); // it may have ended this moment
                }
                Then::Kill => send_kill(self.root),
                Then::KillAll => {
                    let all: BTreeSet<Pid> = self.processes.values().copied().collect();
                    all.into_iter().for_each(send_kill);
                }
            }
        }
        resume(pid, None);
    }

    /// The call before which a thread stands, if it is one that is followed.
    fn call(&mut self, pid: Pid) -> Option<Call> {
        let registers = ptrace::getregs(pid).ok()?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let process = *self.processes.entry(pid).or_insert_with(|| process_of(pid).unwrap_or(pid));
        let number = i64::try_from(registers.orig_rax).ok()?;
        let found = |list: &'static [(libc::c_long, &'static str, &'static [At])]| list.iter().find(|c| c.0 == number);
        let (may_write, (_, name, at)) = match found(WRITES) {
            Some(call) => (true, call),
            None => (false, found(TALK)?),
        };
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let paths = at.iter().filter_map(|at| match at {
            At::Fd(fd) => fs_err::read_link(proc.join(format!("fd/{}", arguments[*fd]))).ok(),
            At::Path(path) => Some(fs_err::read_link(proc.join("cwd")).ok()?.join(text(pid, arguments[*path])?)),
            At::From(folder, path) => {
                let from = match arguments[*folder] as i32 {
                    libc::AT_FDCWD => "cwd".to_owned(),
                    fd => format!("fd/{fd}"),
                };
                Some(fs_err::read_link(proc.join(from)).ok()?.join(text(pid, arguments[*path])?))
            }
        });
        // A path through a folder's handle.
        let known = |path: PathBuf| {
            let rest = path.strip_prefix("/proc/self").ok().map(Path::to_owned);
            let Some(rest) = rest.filter(|rest| rest.starts_with("fd")) else { return path };
            let mut parts = rest.iter().skip(1);
            let folder = parts.next().and_then(|fd| fs_err::read_link(proc.join("fd").join(fd)).ok());
            folder.map_or(path, |folder| parts.fold(folder, |folder, part| folder.join(part)))
        };
        let paths = paths.map(known);
        let only_reads = *name == "openat" && arguments[2] as i32 & (libc::O_ACCMODE | libc::O_CREAT) == libc::O_RDONLY;
        Some(Call { name, paths: paths.collect(), own: process == self.root, writes: may_write && !only_reads })
    }
}

impl Call {
    /// Whether it is about something below `folder`.
    pub fn is_in(&self, folder: &Path) -> bool {
        self.paths.iter().any(|path| path.starts_with(folder))
    }
}

fn send_kill(process: Pid) {
    let _ = kill(process, Signal::SIGKILL); // it may have ended this moment
}

fn resume(pid: Pid, signal: Option<Signal>) {
    // Fails where it was killed meanwhile.
    let _ = ptrace::syscall(pid, signal);
}

fn process_of(thread: Pid) -> Option<Pid> {
    let status = fs_err::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let id = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    Some(Pid::from_raw(id.trim().parse().ok()?))
}

/// A path in a traced process's memory.
fn text(pid: Pid, address: u64) -> Option<PathBuf> {
    let memory = fs_err::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; libc::PATH_MAX as usize];
    // Up to the end of what is mapped.
    let mut read = 0;
    while let Ok(n @ 1..) = memory.file().read_at(&mut bytes[read..], address + read as u64) {
        read += n;
        if bytes[..read].contains(&0) {
            break;
        }
    }
    bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
    Some(std::ffi::OsString::from_vec(bytes).into())
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes); // what was read up to there
        bytes
    })
}
