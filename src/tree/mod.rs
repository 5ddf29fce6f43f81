//! The tree on the disk, as judging sees it, and how a file comes into it whole.
//!
//! Knows no store, no index of git's and nothing of earlier runs: what of these counts is handed in.

mod folders;
mod read;
mod stamp;
mod whole;

pub use folders::{Listed, names};
pub use read::{Blobs, Index, LookedAt, NoBlobs, Seen, Visited, WorkTree};
pub use stamp::{Stamp, in_nanos, now};
pub use whole::{anew, leaves, permissions, put_apart, put_unsynced, remove_apart, temporary};

use crate::error::{Code, Error};
use crate::path::RelPath;

pub(crate) fn outside(path: &RelPath) -> Error {
    Error::new(Code::BadPath, format!("`{path}` leads outside the root through a symlink"))
}

pub(crate) fn unreadable(error: &std::io::Error) -> Error {
    Error::new(Code::Unreadable, error.to_string())
}

pub(crate) fn unwritable(error: &std::io::Error) -> Error {
    Error::new(Code::Unwritable, error.to_string())
}
