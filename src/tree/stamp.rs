//! What tells that a file was not touched since it was looked at.

use std::time::{SystemTime, UNIX_EPOCH};

/// What tells that a file was not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Stamp {
    /// In bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime: i64,
    /// Last change of the inode, in nanoseconds since 1970; 0 where the system has none.
    pub ctime: i64,
    /// The inode; 0 where the system has none.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(meta: &std::fs::Metadata) -> Stamp {
        let mtime = meta.modified().map_or(0, nanos);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let ctime = in_nanos(meta.ctime(), meta.ctime_nsec());
            Stamp { size: meta.len(), mtime, ctime, inode: meta.ino() }
        }
        #[cfg(not(unix))]
        Stamp { size: meta.len(), mtime, ctime: 0, inode: 0 }
    }

    /// Whether a change after `taken` could have left this stamp as it is: as git has it of its index, an entry that is not
    /// clearly older than the snapshot is not trusted. Two seconds is the coarsest clock of a file system (FAT).
    pub fn is_racy(&self, taken: i64) -> bool {
        self.mtime.max(self.ctime) > taken - 2_000_000_000
    }
}

/// Seconds and nanoseconds in nanoseconds; the years 1678 to 2262, and their ends for all others.
pub fn in_nanos(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

/// The time now, as stamps count it.
pub fn now() -> i64 {
    nanos(SystemTime::now())
}
