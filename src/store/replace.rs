//! Puts a file where another stands, and looks at what came out: a person may have saved there at the last moment, after all
//! looks at what stands there. Then that file goes back to its place.
//!
//! By an exchange of the two names, where the system and the file system have one; elsewhere there is a last look, and a
//! moment after it in which a save would be lost.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use crate::digest::Digest;

/// Puts `temporary`, whose content is `ours`, at `path`, if what is there is a file with the content `stood`, or nothing for
/// `None`. `false` if it is not: then it stays, and so does the temporary file.
pub(super) fn replace(temporary: &Path, path: &Path, ours: &[u8], stood: Option<Digest>) -> Result<bool> {
    let Some(stood) = stood else { return put_new(temporary, path) };
    match exchange(temporary, path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return put_new(temporary, path),
        Err(e) if has_none(&e) && content(path)? == stood => {
            return fs_err::rename(temporary, path).map(|()| true);
        }
        Err(e) if has_none(&e) => return Ok(false),
        Err(e) => return Err(e),
    }
    // The temporary file's name must not stay. If it cannot be looked at or taken away, nothing has happened.
    let as_seen = content(temporary).map(|out| out == stood);
    let done =
        as_seen.and_then(|as_seen| if as_seen { fs_err::remove_file(temporary).map(|()| true) } else { Ok(false) });
    if !matches!(done, Ok(true)) {
        exchange(temporary, path)?;
        // They may have saved once more in between, into what was ours: the newer save is the one to keep.
        if fs_err::read(temporary).is_ok_and(|out| out != ours) {
            exchange(temporary, path)?;
        }
    }
    done
}

/// As [`replace`], where nothing is to stand.
pub(super) fn put_new(temporary: &Path, path: &Path) -> Result<bool> {
    match put_beside(temporary, path) {
        Err(e) if has_none(&e) || e.kind() == ErrorKind::AlreadyExists => {
            // A link that leads nowhere is nobody's text.
            let is_free = matches!(std::fs::metadata(path), Err(e) if e.kind() == ErrorKind::NotFound);
            if is_free {
                fs_err::rename(temporary, path)?;
            }
            Ok(is_free)
        }
        put => put.map(|()| true),
    }
}

fn content(path: &Path) -> Result<Digest> {
    fs_err::read(path).map(Digest::of)
}

/// Whether it says that there is no such operation here.
fn has_none(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename(from: &Path, to: &Path, flags: rustix::fs::RenameFlags) -> Result<()> {
    use rustix::fs::{CWD, renameat_with};
    renameat_with(CWD, from, CWD, to, flags).map_err(|e| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("failed to rename `{}` to `{}`: {e}", from.display(), to.display()))
    })
}

/// Each gets the other's name.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn exchange(from: &Path, to: &Path) -> Result<()> {
    rename(from, to, rustix::fs::RenameFlags::EXCHANGE)
}

/// A rename that replaces nothing.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn put_beside(from: &Path, to: &Path) -> Result<()> {
    rename(from, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn exchange(_: &Path, to: &Path) -> Result<()> {
    // What is not there is put there, as by an exchange that says so.
    std::fs::metadata(to)?;
    Err(ErrorKind::Unsupported.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn put_beside(_: &Path, _: &Path) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_seen_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, path) = (dir.path().join("t"), dir.path().join("p"));
        let ours = Digest::of("ours");
        for (there, stood, is_replaced) in [
            (None, None, true),
            (Some("seen"), Some("seen"), true),
            // They have taken it away: then it is made anew.
            (None, Some("seen"), true),
            (Some("mine"), Some("seen"), false),
            (Some("mine"), None, false),
        ] {
            let _ = fs_err::remove_file(&path);
            fs_err::write(&temporary, "ours").unwrap();
            if let Some(there) = there {
                fs_err::write(&path, there).unwrap();
            }
            let case = format!("{there:?} where {stood:?} was seen");
            assert_eq!(replace(&temporary, &path, b"ours", stood.map(Digest::of)).unwrap(), is_replaced, "{case}");
            assert_eq!(content(&path).ok(), Some(if is_replaced { ours } else { Digest::of("mine") }), "{case}");
            assert_eq!(content(&temporary).ok(), (!is_replaced).then_some(ours), "{case}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_replaced_and_a_folder_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (temporary, path) = (dir.path().join("t"), dir.path().join("p"));
        fs_err::write(&temporary, "ours").unwrap();
        fs_err::create_dir(&path).unwrap();
        assert!(replace(&temporary, &path, b"ours", Some(Digest::of("seen"))).is_err());
        assert!(path.is_dir() && temporary.is_file());
        fs_err::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(replace(&temporary, &path, b"ours", None).unwrap());
        assert!(!path.is_symlink() && !temporary.exists());
    }
}
