//! Tests from outside: each runs the `genmake` that was built, in a folder of its own, against a provider on this machine.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panic and shows why")]

mod batches;
mod bombs;
mod commands;
mod errors;
mod examples;
mod genfile;
mod keys;
#[cfg(unix)]
mod killed;
mod language;
mod modules;
mod project;
mod providers;
mod random;
mod running;
mod safety;
mod server;
mod shop;
mod staleness;
