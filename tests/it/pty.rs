//! genmake on a terminal: a pseudo-terminal of some width, and what is really on its screen.
//!
//! A model of a terminal takes in what genmake prints; tests look at its screen, and wait for it to show something.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::project::Project;

/// How long a screen may take to show what it should.
const PATIENCE: Duration = Duration::from_secs(60);

const ROWS: u16 = 24;

struct Shown {
    parser: vt100::Parser,
    raw: Vec<u8>,
    ended: bool,
}

/// A run of genmake on a terminal of its own.
pub struct Terminal {
    pub child: Child,
    /// Held open: without it there is no terminal.
    keyboard: File,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts genmake on a terminal of so many columns.
    #[track_caller]
    pub fn start<'a>(project: &Project, columns: u16, args: impl IntoIterator<Item = &'a str>) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let path = name.to_str().expect("a path").to_owned();
        let slave = File::options().read(true).write(true).open(path).expect("its other end");
        let end = || Stdio::from(slave.try_clone().expect("a copy"));
        let mut command = project.command(args);
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the tests' own binary can be started");
        drop((slave, command));
        let master = File::from(master);
        let parser =
            vt100::Parser::new(NonZero::new(ROWS).expect("rows"), NonZero::new(columns).expect("columns"), 1000);
        let shown = Arc::new((Mutex::new(Shown { parser, raw: Vec::new(), ended: false }), Condvar::new()));
        let (screen, mut output) = (Arc::clone(&shown), master.try_clone().expect("a copy"));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                // It ends with an error where nobody holds the other end any more.
                let n = output.read(&mut bytes).unwrap_or(0);
                let mut shown = screen.0.lock().expect("no test panics with it");
                shown.parser.process(&bytes[..n]);
                shown.raw.extend(&bytes[..n]);
                shown.ended = n == 0;
                screen.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        Terminal { child, keyboard: master, shown, reader: Some(reader) }
    }

    /// Waits until the screen is as wanted, and gives what is on it.
    #[track_caller]
    pub fn wait_for(&self, is_so: impl Fn(&str) -> bool) -> String {
        let shown = self.shown.0.lock().expect("no test panics with it");
        let is_not_yet = |shown: &mut Shown| !is_so(&rows(shown.parser.screen())) && !shown.ended;
        let (shown, _) = self.shown.1.wait_timeout_while(shown, PATIENCE, is_not_yet).expect("no test panics with it");
        let contents = rows(shown.parser.screen());
        drop(shown);
        assert!(is_so(&contents), "the screen shows\n{contents}");
        contents
    }

    /// What a person's Ctrl-C does: the terminal writes `^C` where the cursor stands, and sends the signal.
    #[track_caller]
    pub fn ctrl_c(&self) {
        (&self.keyboard).write_all(b"\x03").expect("a keyboard");
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::INT).expect("a process that runs");
    }

    /// The screen as it is, with its colors.
    pub fn screen(&self) -> vt100::Screen {
        self.shown.0.lock().expect("no test panics with it").parser.screen().clone()
    }

    /// Waits for its end: what was printed, and how it ended. The terminal is as it should be left: a visible cursor at the
    /// beginning of a line with nothing on it.
    #[track_caller]
    pub fn ends(mut self) -> Ended {
        let status = self.child.wait().expect("a child can be waited for");
        self.reader.take().map(JoinHandle::join);
        let shown = self.shown.0.lock().expect("no test panics with it");
        let screen = shown.parser.screen();
        let contents = rows(screen);
        assert!(!screen.hide_cursor(), "the cursor is hidden after\n{contents}");
        let (row, column) = screen.cursor_position();
        assert_eq!(column, 0, "the cursor stands in a line of\n{contents}");
        let below: String = screen.rows(0, screen.size().1.get()).skip(usize::from(row)).collect();
        assert_eq!(below, "", "something is left below\n{contents}");
        assert!(!screen.alternate_screen());
        let parsed = screen.clone();
        Ended { status, screen: contents, parsed, raw: String::from_utf8_lossy(&shown.raw).into_owned() }
    }
}

/// What is on a screen, row by row.
fn rows(screen: &vt100::Screen) -> String {
    screen.rows(0, screen.size().1.get()).map(|row| row.trim_end().to_owned() + "\n").collect()
}

/// How a run on a terminal ended.
pub struct Ended {
    pub status: ExitStatus,
    /// What is on the screen.
    pub screen: String,
    /// The same with its colors.
    pub parsed: vt100::Screen,
    /// All that was printed.
    pub raw: String,
}

impl Ended {
    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}
