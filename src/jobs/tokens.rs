//! GNU make's tokens: bytes in a pipe. Whoever reads one may run a job, and writes it back after that; for one job none is needed.
//!
//! That one is a byte in a pipe of our own, so that whoever waits waits for both. The ends that were inherited are opened anew, by the
//! names that the system has for open files: so reading can be told not to wait, which is nobody else's affair, and nothing is taken
//! for a pipe that is none.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};

/// Where tokens are.
#[derive(Debug)]
pub(super) struct Tokens {
    own: Pipe,
    make: Pipe,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The right to run a job. It has to be given back.
pub(super) struct Token {
    byte: u8,
    is_own: bool,
}

impl Tokens {
    /// Opens the pipe that make names: `fifo:PATH`, or the numbers of its ends, `3,4`.
    pub fn open(auth: &str) -> io::Result<Tokens> {
        let (from, to) = match auth.strip_prefix("fifo:") {
            Some(path) => (path.to_owned(), path.to_owned()),
            None => {
                let ends =
                    auth.split_once(',').and_then(|(r, w)| Some((r.parse::<u32>().ok()?, w.parse::<u32>().ok()?)));
                let (read, write) = ends.ok_or(io::ErrorKind::InvalidInput)?;
                (format!("/dev/fd/{read}"), format!("/dev/fd/{write}"))
            }
        };
        let end = |path: &str, flags| open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        // The reading end first: without a reader nobody can open the other.
        let make = Pipe { read: end(&from, OFlags::RDONLY)?, write: end(&to, OFlags::WRONLY)? };
        let (read, write) = (fstat(&make.read)?, fstat(&make.write)?);
        // Where make closed its ends, their numbers may be anything's by now.
        let is_pipe = FileType::from_raw_mode(read.st_mode).is_fifo()
            && (read.st_dev, read.st_ino) == (write.st_dev, write.st_ino);
        if !is_pipe {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let own = Pipe { read, write };
        own.put(b'+');
        Ok(Tokens { own, make })
    }

    /// Waits for a token.
    pub fn take(&self) -> Token {
        loop {
            if let Some(token) = self.take_free() {
                return token;
            }
            let wanted = |pipe| PollFd::new(pipe, PollFlags::IN);
            // Should this fail, it is tried again: the one of our own comes back in any case.
            let _ = poll(&mut [wanted(&self.own.read), wanted(&self.make.read)], None);
        }
    }

    /// A token that nobody has at the moment.
    pub fn take_free(&self) -> Option<Token> {
        let own = self.own.take().map(|byte| Token { byte, is_own: true });
        own.or_else(|| self.make.take().map(|byte| Token { byte, is_own: false }))
    }

    pub fn give(&self, token: Token) {
        if token.is_own { &self.own } else { &self.make }.put(token.byte);
    }
}

impl Pipe {
    fn take(&self) -> Option<u8> {
        let mut byte = [0];
        loop {
            match read(&self.read, &mut byte) {
                Ok(1) => return Some(byte[0]),
                Err(Errno::INTR) => {}
                _ => return None,
            }
        }
    }

    fn put(&self, byte: u8) {
        // There is room for it: it came out of there.
        while write(&self.write, &[byte]) == Err(Errno::INTR) {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Jobs;
    use super::*;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A pipe with so many tokens, and what make would say of it.
    fn make(tokens: usize) -> (Pipe, String) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let pipe = Pipe { read, write };
        (0..tokens).for_each(|_| pipe.put(b'+'));
        let auth = format!("{},{}", pipe.read.as_raw_fd(), pipe.write.as_raw_fd());
        (pipe, auth)
    }

    fn left(pipe: &Pipe) -> usize {
        std::iter::from_fn(|| pipe.take()).count()
    }

    #[test]
    fn one_job_more_than_there_are_tokens_and_all_are_given_back() {
        let (pipe, auth) = make(2);
        let jobs = Jobs::of_make(8, &auth).unwrap();
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _slot = jobs.slot();
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
        assert_eq!(left(&pipe), 2);
    }

    #[test]
    fn what_is_free_is_taken_at_once_and_no_more_than_is_wanted() {
        let (pipe, auth) = make(5);
        let jobs = Jobs::of_make(3, &auth).unwrap();
        let slots = jobs.slots();
        assert_eq!((slots.count, left(&pipe)), (3, 3));
        // Of others nothing is free, and there is room for one all the same.
        drop(slots);
        assert_eq!(left(&pipe), 2);
        assert_eq!(jobs.slots().count, 1);
    }

    #[test]
    fn what_is_no_pipe_of_make_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs_err::write(&file, "").unwrap();
        let (one, other) = (make(1), make(1));
        let crossed = format!("{},{}", one.0.read.as_raw_fd(), other.0.write.as_raw_fd());
        for auth in
            ["", "3", "-2,-2", "3,x", "999999,999999", &format!("fifo:{}", file.display()), "fifo:/nowhere", &crossed]
        {
            assert!(Jobs::of_make(0, auth).is_err(), "{auth}");
        }
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(Jobs::of_make(0, &format!("fifo:{}", fifo.display())).is_ok());
    }
}
