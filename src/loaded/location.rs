//! Where a project is: its root, and its Genfile's name.

use std::path::{Path, PathBuf};

use crate::error::{Code, Error};
use crate::lock;

/// The names of a Genfile, in the order in which they are sought.
pub const GENFILES: [&str; 3] = ["Genfile", "Genfile.yaml", "Genfile.yml"];

/// Where a project is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The folder of the Genfile.
    pub root: PathBuf,
    /// The Genfile's file name.
    pub name: String,
}

impl Location {
    /// Seeks a Genfile in `dir` and the folders above it.
    ///
    /// # Errors
    /// [`Code::NoGenfile`].
    pub fn find(dir: &Path) -> Result<Location, Error> {
        let start = fs_err::canonicalize(dir).map_err(|e| Error::new(Code::NoGenfile, e.to_string()))?;
        for folder in start.ancestors() {
            if let Some(name) = GENFILES.iter().find(|name| folder.join(name).is_file()) {
                return Ok(Location { root: folder.to_path_buf(), name: (*name).to_owned() });
            }
        }
        Err(Error::new(Code::NoGenfile, format!("no Genfile in `{}` or above", start.display()))
            .hint("`genmake init` makes one to start from"))
    }

    /// The project whose Genfile is `file`.
    ///
    /// # Errors
    /// [`Code::NoGenfile`].
    pub fn of_file(file: &Path) -> Result<Location, Error> {
        let missing = || {
            let missing = Error::new(Code::NoGenfile, format!("`{}` is not there", file.display()));
            missing.hint("`-f` names a Genfile; `genmake init` makes one to start from")
        };
        let full = fs_err::canonicalize(file).map_err(|_| missing())?;
        match (full.parent(), full.file_name().and_then(|name| name.to_str())) {
            (Some(root), Some(name)) if full.is_file() => {
                Ok(Location { root: root.to_path_buf(), name: name.to_owned() })
            }
            _ => Err(missing()),
        }
    }

    /// The lock's file name.
    pub fn lock_name(&self) -> String {
        lock::file_name(&self.name)
    }
}
