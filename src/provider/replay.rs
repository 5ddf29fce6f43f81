//! `api: replay`: answers out of a folder of recordings. Nothing is sent, and what was not recorded is a failure.

use std::path::{Path, PathBuf};

use super::{Failure, FailureKind, record};
use crate::llm::{Answer, Request};
use crate::path::RelPath;

/// The largest recording that is read, in bytes: an answer has 64 MB, and a request as many.
const LARGEST: u64 = 128 << 20;

/// A folder of recordings.
pub(super) struct Recordings {
    /// As the Genfile names it.
    dir: RelPath,
    at: PathBuf,
}

impl Recordings {
    pub fn new(dir: &RelPath, root: &Path) -> Recordings {
        Recordings { dir: dir.clone(), at: root.join(dir.as_str()) }
    }

    /// The answer that was recorded for a request.
    pub fn answer(&self, request: &Request) -> Result<Answer, Failure> {
        let name = record::name(request);
        let failed = |what: String| Failure::new(FailureKind::Failed, what);
        let shown = format!("{}/{name}", self.dir);
        let path = self.at.join(&name);
        let read = fs_err::metadata(&path).and_then(|meta| match meta.len() > LARGEST {
            true => Err(std::io::Error::other(format!("it is larger than {} MB", LARGEST >> 20))),
            false => fs_err::read(&path),
        });
        let bytes = read.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                let paths: Vec<String> = request.paths.iter().map(|path| format!("`{path}`")).collect();
                failed(format!("nothing is recorded for {}: `{shown}` is not there", paths.join(", ")))
            }
            _ => failed(format!("the recording `{shown}` cannot be read: {e}")),
        })?;
        record::answer(&name, &bytes).map_err(|why| failed(format!("`{shown}` is no recording: {why}")))
    }
}
