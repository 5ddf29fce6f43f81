//! Tests from outside: each runs the `genmake` that was built, in a folder of its own, against a provider on this machine.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panic and shows why")]

mod annotations;
mod anthropic;
mod batches;
mod bombs;
#[cfg(unix)]
mod browser;
mod build_script;
mod checks;
mod clients;
mod collections;
#[cfg(unix)]
mod command;
mod commands;
mod compatible;
#[cfg(unix)]
mod completions;
mod context;
#[cfg(unix)]
mod counted;
mod damage;
mod docs;
mod dotprompt;
mod edits;
mod embeddings;
mod ending;
mod errors;
mod examples;
mod faults;
mod front;
mod gc;
mod gemini;
mod genfile;
mod glance;
mod graph;
mod hooks;
mod http;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod injected;
mod keys;
#[cfg(unix)]
mod killed;
mod language;
mod limits;
mod locks;
#[cfg(unix)]
mod make;
mod metrics;
mod modules;
mod money;
mod narrowed;
mod packs;
mod paths;
#[cfg(unix)]
mod pictures;
mod precommit;
mod project;
mod prompts;
mod providers;
#[cfg(unix)]
mod pty;
#[cfg(unix)]
mod random;
mod replay;
mod reports;
mod responses;
#[cfg(unix)]
mod resume;
#[cfg(unix)]
mod rounds;
mod running;
mod safety;
mod secrets;
mod selectors;
mod server;
mod shop;
mod staleness;
#[cfg(unix)]
mod streams;
mod telemetry;
#[cfg(unix)]
mod terminal;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracer;
mod trust;
#[cfg(unix)]
mod watch;
mod why;
mod windows;
mod workflows;
mod world;
