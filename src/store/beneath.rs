//! The folder of an output, found from the root step by step and held by a handle, so that no symlink that somebody puts in its way
//! meanwhile can lead what is written out of the root.
//!
//! On Linux, where a handle has a path of its own, which every call takes. Elsewhere the path is looked at and then used.

use std::path::{Path, PathBuf};

use super::{outside, unwritable};
use crate::error::{Code, Error};
use crate::path::RelPath;
use crate::tree::leaves;

/// A folder below the root.
pub(super) struct Folder {
    /// The path by which it is used.
    path: PathBuf,
    /// The path by which people know it.
    name: PathBuf,
    #[cfg(target_os = "linux")]
    _handle: Option<std::os::fd::OwnedFd>,
}

impl Folder {
    /// The path of a file in it.
    pub fn file(&self, path: &RelPath) -> PathBuf {
        self.path.join(path.name())
    }

    /// An error that names the folder as people know it.
    pub fn named(&self, mut error: Error) -> Error {
        error.message = error.message.replace(&*self.path.to_string_lossy(), &self.name.to_string_lossy());
        error
    }
}

/// The folder that `path` lies in; `None` where it is not there. `make` makes it, with those above it.
///
/// # Errors
/// [`Code::BadPath`] where a symlink leads out of the root, or to where nothing is written; [`Code::Unwritable`], naming the path.
pub(super) fn folder(root: &Path, path: &RelPath, make: bool) -> Result<Option<Folder>, Error> {
    let name = root.join(path.dir());
    #[cfg(target_os = "linux")]
    if Path::new("/proc/self/fd").is_dir() {
        use std::os::fd::AsRawFd as _;
        let Some(handle) = steps::walk(root, path, make)? else { return Ok(None) };
        let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        return Ok(Some(Folder { path, name, _handle: Some(handle) }));
    }
    if leaves(root, path) {
        return Err(outside(path));
    }
    if make {
        fs_err::create_dir_all(&name).map_err(|e| unmade(root, path, &e))?;
    }
    let folder = Folder {
        path: name.clone(),
        name,
        #[cfg(target_os = "linux")]
        _handle: None,
    };
    Ok(folder.path.is_dir().then_some(folder))
}

/// The error for a folder that cannot be made or opened.
pub(super) fn unmade(root: &Path, path: &RelPath, error: &std::io::Error) -> Error {
    let is_in_the_way = |above: &&str| root.join(above).exists() && !root.join(above).is_dir();
    match path.parents().find(is_in_the_way) {
        Some(above) => Error::new(Code::Unwritable, format!("`{path}` cannot be written: `{above}` is not a folder"))
            .hint(format!("move `{above}` away, or give the output another path")),
        None => unwritable(error),
    }
}

#[cfg(target_os = "linux")]
mod steps {
    use std::ffi::OsString;
    use std::os::fd::OwnedFd;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::{Component, Path};

    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, readlinkat};
    use rustix::io::Errno;

    use super::super::outside;
    use super::unmade;
    use crate::error::Error;
    use crate::path::{RelPath, is_reserved};

    /// How many symlinks a path may go through, as the system has it.
    const MOST_LINKS: usize = 40;

    /// Opens one folder after the other, each in the one before. A symlink is read and followed here, within the root.
    pub fn walk(root: &Path, path: &RelPath, make: bool) -> Result<Option<OwnedFd>, Error> {
        let failed = |what: &str, part: &Path, errno: Errno| {
            let error = std::io::Error::from(errno);
            unmade(
                root,
                path,
                &std::io::Error::new(error.kind(), format!("failed to {what} `{}`: {error}", part.display())),
            )
        };
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut above = vec![openat(CWD, root, folder, Mode::empty()).map_err(|e| failed("open directory", root, e))?];
        let mut rest: Vec<OsString> = path.dir().split('/').rev().map(OsString::from).collect();
        let mut links = 0;
        while let (Some(part), Some(here)) = (rest.pop(), above.last()) {
            match part.to_str() {
                Some("" | ".") => continue,
                Some("..") => {
                    above.pop();
                    if above.is_empty() {
                        return Err(outside(path));
                    }
                    continue;
                }
                Some(name) if links > 0 && is_reserved(name) => return Err(outside(path)),
                _ => {}
            }
            match openat(here, &part, folder | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(next) => above.push(next),
                Err(Errno::NOENT) if make && links > 0 => return Err(outside(path)),
                Err(Errno::NOENT) if make => match mkdirat(here, &part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => rest.push(part),
                    Err(e) => return Err(failed("create directory", &root.join(path.dir()), e)),
                },
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let Ok(target) = readlinkat(here, &part, Vec::new()) else {
                        return if make {
                            Err(failed("create directory", &root.join(path.dir()), Errno::NOTDIR))
                        } else {
                            Ok(None)
                        };
                    };
                    links += 1;
                    let target = OsString::from_vec(target.into_bytes());
                    let mut target = Path::new(&target);
                    if target.is_absolute() {
                        let Some(inside) = root.canonicalize().ok().and_then(|root| target.strip_prefix(root).ok())
                        else {
                            return Err(outside(path));
                        };
                        target = inside;
                        above.truncate(1);
                    }
                    if links > MOST_LINKS {
                        return Err(outside(path));
                    }
                    let parts = target.components().filter(|part| *part != Component::CurDir);
                    rest.extend(parts.rev().map(|part| part.as_os_str().to_owned()));
                }
                Err(e) => return Err(failed("open directory", &root.join(path.dir()), e)),
            }
        }
        Ok(above.pop())
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::super::{remove, take_away, write_output};
    use super::*;
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    /// A folder that is now itself and now a link to elsewhere, as fast as it can be swapped.
    fn race(rounds: usize) {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::create_dir_all(elsewhere.path().join("b")).unwrap();
        fs_err::write(root.join("a/b/stays"), "").unwrap();
        symlink(elsewhere.path(), root.join("link")).unwrap();
        fs_err::write(elsewhere.path().join("b/theirs"), "theirs").unwrap();
        fs_err::write(elsewhere.path().join("b/x"), "theirs").unwrap();
        let done = AtomicBool::new(false);
        let (mut written, mut refused) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, link) = (root.join("a"), root.join("link"));
                while !done.load(Ordering::Relaxed) {
                    renameat_with(CWD, &a, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                }
            });
            // On a busy machine one side may run for long before the other does.
            for n in 0..1_000_000 {
                if n >= rounds && written * refused > 0 {
                    break;
                }
                let output = path("a/b/x");
                let outcome = match n % 4 {
                    0 => remove(&root, &output),
                    1 => take_away(&root, &output),
                    _ => write_output(&root, &output, b"ours", None).map(drop),
                };
                match outcome {
                    Ok(()) => written += 1,
                    Err(_) => refused += 1,
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let read = |name: &str| fs_err::read_to_string(elsewhere.path().join("b").join(name)).unwrap();
        assert_eq!((read("theirs").as_str(), read("x").as_str()), ("theirs", "theirs"));
        assert_eq!(elsewhere.path().join("b").read_dir().unwrap().count(), 2, "a file was made outside the root");
        assert_eq!(elsewhere.path().read_dir().unwrap().count(), 1);
        assert!(written > 0 && refused > 0, "it never came to a race: {written} written, {refused} refused");
    }

    #[test]
    fn a_folder_stays_the_same_when_a_link_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("a/b")).unwrap();
        fs_err::create_dir_all(elsewhere.path().join("b")).unwrap();
        let output = path("a/b/x");
        let found = folder(&root, &output, true).unwrap().unwrap();
        fs_err::rename(root.join("a"), root.join("moved")).unwrap();
        symlink(elsewhere.path(), root.join("a")).unwrap();
        super::super::write::put(&found.file(&output), b"ours").unwrap();
        assert_eq!(elsewhere.path().join("b").read_dir().unwrap().count(), 0);
        assert_eq!(fs_err::read_to_string(root.join("moved/b/x")).unwrap(), "ours");
        let error = super::super::write::put(&found.file(&path("a/b/no/x")).join("y"), b"").unwrap_err();
        assert!(found.named(error).message.contains("root/a/b/x"), "an error names the folder as people know it");
    }

    #[test]
    fn a_link_that_is_put_in_the_way_leads_nothing_out() {
        race(200);
    }

    #[test]
    #[ignore = "a thousand rounds"]
    fn a_link_that_is_put_in_the_way_a_thousand_times_leads_nothing_out() {
        race(1_000);
    }

    #[test]
    fn links_within_the_root_are_followed_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("docs/sub")).unwrap();
        fs_err::create_dir_all(root.join(".git")).unwrap();
        for (target, at) in [
            ("docs", "in"),
            ("../docs/./sub", "docs/up"),
            ("../root/docs", "around"),
            ("..", "out"),
            ("in/../../x", "out2"),
            (".git", "git"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(at)).unwrap();
        }
        symlink(root.canonicalize().unwrap().join("docs"), root.join("absolute")).unwrap();
        symlink(dir.path(), root.join("away")).unwrap();
        for inside in ["in/sub/a", "docs/up/b", "absolute/c", "docs/new/d/e"] {
            write_output(&root, &path(inside), b"x", None).unwrap();
        }
        for outside in ["out/x", "out2/y", "git/hooks/x", "loop/x", "away/x", "around/x"] {
            let error = write_output(&root, &path(outside), b"x", None).unwrap_err();
            assert_eq!(error.code, Code::BadPath, "{outside}: {error}");
        }
        let made = |name: &str| root.join(name).is_file();
        assert!(made("docs/sub/a") && made("docs/sub/b") && made("docs/c") && made("docs/new/d/e"));
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
        assert_eq!(root.join(".git").read_dir().unwrap().count(), 0);
    }
}
