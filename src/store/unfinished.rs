//! What a run was asked for, kept while it lasts: who goes on with it need not say it again.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::write::put;
use crate::error::Error;

const NAME: &str = "unfinished";

/// A run that asks models, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// How many tasks there were to do.
    pub tasks: usize,
    /// Its targets, as typed and as paths below the root; none for everything.
    pub targets: Vec<(String, Option<String>)>,
    /// `--provider`.
    pub provider: Option<String>,
    /// `--no-batch`.
    pub no_batch: bool,
    /// `--force`.
    pub force: bool,
    /// `-k`.
    pub keep_going: bool,
}

impl Unfinished {
    /// What was noted in a `.genmake` folder; what cannot be read was not.
    pub fn read(folder: &Path) -> Option<Unfinished> {
        serde_json::from_slice(&fs_err::read(folder.join(NAME)).ok()?).ok()
    }

    /// Notes it in a `.genmake` folder, in place of what was noted before.
    ///
    /// # Errors
    /// [`crate::error::Code::Unwritable`], naming the path.
    pub fn note(&self, folder: &Path) -> Result<(), Error> {
        put(&folder.join(NAME), serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Forgets what was noted.
    ///
    /// # Errors
    /// As [`Unfinished::note`].
    pub fn forget(folder: &Path) -> Result<(), Error> {
        super::forget(&folder.join(NAME))
    }
}
