//! make for generated files.
//!
//! A `Genfile` declares outputs as rules with inputs; a content-addressed graph decides what is stale. Templates are rendered
//! without any request; prompts of one shape travel to a model in batches. A committed lock and a content store make it
//! reproducible: nothing is paid for twice, and nothing a person edited is lost.
//!
//! ```text
//! Genfile text → manifest → graph → plan (fresh | stale why | waiting) → batches → execution → outputs, lock, report
//! ```
//!
//! With the feature `run`, which is in the default ones, start at [`Project`]:
//!
//! ```no_run
//! use genmake::{Options, Project};
//!
//! let project = Project::open(std::path::Path::new("."))?;
//! let summary = project.plan(&[])?.run(&Options::default(), &mut |event| drop(event))?;
//! assert!(summary.is_success());
//! # Ok::<(), genmake::Errors>(())
//! ```
//!
//! In a build script, start at [`build_script`]; in a test, at [`assert_fresh!`].
//!
//! The map of modules, and who may name whom, is `docs/ARCHITECTURE.md`; a test enforces it.

#![cfg_attr(not(feature = "run"), allow(dead_code, unused_imports))]

pub mod build_script;
pub mod cancel;
pub mod digest;
pub mod error;
pub mod estimate;
pub mod event;
pub mod files;
pub mod jobs;
pub mod ledger;
pub mod lock;
pub mod merge;
pub mod models;
pub mod packs;
pub mod params;
pub mod path;
pub mod rounds;
pub mod rows;
pub mod schema;
pub mod shell;
pub mod tokens;
pub mod vectors;
pub mod wording;
pub mod yaml;

pub use error::{Error, Errors};

// Without the feature `run` these are behind `build_script` alone: of what nobody can call no code is made, and that is half of what it
// takes to build this.
#[cfg(not(feature = "run"))]
mod batch;
#[cfg(not(feature = "run"))]
mod context;
#[cfg(not(feature = "run"))]
mod engine;
#[cfg(not(feature = "run"))]
mod expr;
#[cfg(not(feature = "run"))]
mod graph;
#[cfg(not(feature = "run"))]
mod llm;
#[cfg(not(feature = "run"))]
mod manifest;
#[cfg(not(feature = "run"))]
mod plan;
#[cfg(not(feature = "run"))]
mod project;
#[cfg(not(feature = "run"))]
mod prompt;
#[cfg(not(feature = "run"))]
mod provider;
#[cfg(not(feature = "run"))]
mod report;
#[cfg(not(feature = "run"))]
mod secrets;
#[cfg(not(feature = "run"))]
mod selector;
#[cfg(not(feature = "run"))]
mod store;
#[cfg(not(feature = "run"))]
mod syntax;

#[cfg(feature = "run")]
pub mod batch;
#[cfg(feature = "run")]
pub mod context;
#[cfg(feature = "run")]
pub mod engine;
#[cfg(feature = "run")]
pub mod expr;
#[cfg(feature = "run")]
pub mod graph;
#[cfg(feature = "run")]
pub mod llm;
#[cfg(feature = "run")]
pub mod manifest;
#[cfg(feature = "run")]
pub mod plan;
#[cfg(feature = "run")]
pub mod project;
#[cfg(feature = "run")]
pub mod prompt;
#[cfg(feature = "run")]
pub mod provider;
#[cfg(feature = "run")]
pub mod report;
#[cfg(feature = "run")]
pub mod secrets;
#[cfg(feature = "run")]
pub mod selector;
#[cfg(feature = "run")]
pub mod store;
#[cfg(feature = "run")]
pub mod syntax;

#[cfg(feature = "run")]
pub use self::{
    engine::Options,
    event::Event,
    graph::Target,
    project::{Location, Planned, Project},
    report::Summary,
};

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod telemetry;
#[cfg(feature = "cli")]
pub mod ui;

impl Default for engine::Options {
    /// What `genmake` without options does; keys are read from the process's environment.
    fn default() -> engine::Options {
        engine::Options {
            jobs: jobs::Jobs::default(),
            keep_going: false,
            wish: plan::Wish::default(),
            frozen: false,
            offline: false,
            free_only: false,
            asking: engine::Asking::Now,
            batch: true,
            max_cost: None,
            max_tokens: None,
            yes: false,
            keep_orphans: false,
            record: None,
            trusted_hosts: Vec::new(),
            #[allow(clippy::disallowed_methods)] // An edge: the one place where the library reads the environment.
            env: std::sync::Arc::new(|name| std::env::var(name).ok()),
            cancel: cancel::Cancel::default(),
        }
    }
}
