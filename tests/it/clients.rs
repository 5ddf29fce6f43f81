//! Programs that genmake is used with and that a machine may lack: shells, browsers, pre-commit.
//!
//! A test that needs one and does not find it is left out and says so, since `cargo test` asks for nothing to be installed.
//! With `GENMAKE_CLIENTS=1`, as in `.ci/run`, it fails.

use std::path::PathBuf;

/// Where a program is; none where the test that asks is to be left out.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "programs are found where the caller's are")]
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
pub fn client(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let must = std::env::var("GENMAKE_CLIENTS").is_ok_and(|value| value == "1");
        assert!(!must, "`{name}` is not on PATH, and GENMAKE_CLIENTS=1 says that it must be");
        eprintln!("left out: there is no `{name}` here");
    }
    found
}
