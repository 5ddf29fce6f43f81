//! Tests from outside: each runs the `genmake` that was built, in a folder of its own, against a provider on this machine.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panic and shows why")]

mod batches;
mod bombs;
mod checks;
mod commands;
mod context;
mod damage;
mod docs;
mod dotprompt;
mod errors;
mod examples;
mod genfile;
mod glance;
mod keys;
#[cfg(unix)]
mod killed;
mod language;
mod modules;
mod packs;
mod project;
mod prompts;
mod providers;
#[cfg(unix)]
mod random;
mod running;
mod safety;
mod selectors;
mod server;
mod shop;
mod staleness;
mod world;
