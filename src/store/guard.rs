//! One run at a time in one root.

use std::path::Path;

use super::unwritable;
use crate::error::Error;

/// Held while a run may write. The operating system lets go of it when the process ends, however it ends.
pub struct Guard {
    _file: fs_err::File,
}

impl Guard {
    /// Takes the guard of `folder` if nobody holds it, and if it can be had without making anything.
    pub fn try_take(folder: &Path) -> Option<Guard> {
        let file = fs_err::OpenOptions::new().read(true).write(true).open(folder.join("guard")).ok()?;
        file.file().try_lock().ok()?;
        Some(Guard { _file: file })
    }

    /// Takes the guard of `folder` (`.genmake`), which is made if need be; calls `waits` first if another process holds it.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn take(folder: &Path, waits: impl FnOnce()) -> Result<Guard, Error> {
        fs_err::create_dir_all(folder).map_err(|e| unwritable(&e))?;
        let path = folder.join("guard");
        let mut options = fs_err::OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| unwritable(&e))?;
        if file.file().try_lock().is_err() {
            waits();
            file.file().lock().map_err(|e| {
                unwritable(&std::io::Error::new(e.kind(), format!("cannot lock `{}`: {e}", path.display())))
            })?;
        }
        Ok(Guard { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = Guard::take(dir.path(), || panic!("nobody holds it")).unwrap();
        let (says, said) = mpsc::channel();
        let path = dir.path().to_path_buf();
        let second = std::thread::spawn(move || {
            let waits = says.clone();
            let _guard = Guard::take(&path, || waits.send("waits").unwrap()).unwrap();
            says.send("has it").unwrap();
        });
        assert_eq!(said.recv().unwrap(), "waits");
        assert!(said.try_recv().is_err());
        drop(first);
        assert_eq!(said.recv().unwrap(), "has it");
        second.join().unwrap();
    }
}
