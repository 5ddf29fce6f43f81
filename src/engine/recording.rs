//! `--record`: what providers answered, in a folder of a person's choice, as `api: replay` reads it.

use std::path::{Path, PathBuf};

use super::{Options, Shared};
use crate::error::{Code, Error};
use crate::graph::Graph;
use crate::path::{RelPath, is_reserved};
use crate::provider::Recording;
use crate::store;

/// A folder of recordings. Only the calling thread of a run writes there.
pub(super) struct Recorder {
    folder: PathBuf,
    /// Why something is not recorded: the first of it.
    failed: Option<Error>,
}

impl Recorder {
    /// The one that a run is asked to have. Makes its folder, if that is a place for recordings.
    ///
    /// # Errors
    /// [`Code::Usage`] where it is git's, genmake's or an output's; [`Code::Unwritable`].
    pub fn of(options: &Options, shared: &Shared) -> Result<Option<Recorder>, Error> {
        // With `--frozen` nobody is asked.
        let Some(folder) = options.record.as_ref().filter(|_| !options.frozen) else { return Ok(None) };
        let is_free = |folder: &Path| is_free(folder, &shared.root, &shared.graph);
        is_free(folder)?;
        let unwritable = |e: std::io::Error| Error::new(Code::Unwritable, e.to_string());
        fs_err::create_dir_all(folder).map_err(unwritable)?;
        // By now it is seen where symlinks lead.
        let folder = fs_err::canonicalize(folder).map_err(unwritable)?;
        is_free(&folder)?;
        Ok(Some(Recorder { folder, failed: None }))
    }

    /// Writes a recording, unless it stands there as it is. `false` if it cannot be written.
    pub fn keep(&mut self, recording: &Recording) -> bool {
        let path = self.folder.join(&recording.name);
        if fs_err::read(&path).is_ok_and(|there| there == recording.text.as_bytes()) {
            return true;
        }
        let put = store::put(&path, recording.text.as_bytes());
        let is_kept = put.is_ok();
        self.failed = self.failed.take().or(put.err());
        is_kept
    }

    /// The run is at its end.
    ///
    /// # Errors
    /// Why something was not recorded.
    pub fn end(self) -> Result<(), Error> {
        let hint = "what was answered is kept: `-B` asks for it again, to record it";
        self.failed.map_or(Ok(()), |error| Err(error.hint(hint)))
    }
}

fn is_free(folder: &Path, root: &Path, graph: &Graph) -> Result<(), Error> {
    let refused = |what: &str| {
        let error = Error::new(Code::Usage, format!("`--record {}` {what}", folder.display()));
        Err(error.hint("recordings go to a folder of their own"))
    };
    let inside = folder.strip_prefix(root).ok();
    let mut parts = inside.unwrap_or(folder).iter().map(|part| part.to_string_lossy());
    if parts.any(|part| is_reserved(&part)) {
        return refused("lies in `.git` or `.genmake`");
    }
    let path = inside.and_then(|path| RelPath::new(path.to_str()?).ok());
    if path.is_some_and(|path| graph.makers.contains_key(&path)) {
        return refused("is an output");
    }
    Ok(())
}
