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
pub mod error;

pub use error::{Error, Errors};

// Without the feature `run` these are behind `build_script` alone: of what nobody can call no code is made.
#[cfg(not(feature = "run"))]
mod context;
#[cfg(not(feature = "run"))]
mod digest;
#[cfg(not(feature = "run"))]
mod expr;
#[cfg(not(feature = "run"))]
mod files;
#[cfg(not(feature = "run"))]
mod graph;
#[cfg(not(feature = "run"))]
mod llm;
#[cfg(not(feature = "run"))]
mod loaded;
#[cfg(not(feature = "run"))]
mod lock;
#[cfg(not(feature = "run"))]
mod manifest;
#[cfg(not(feature = "run"))]
mod merge;
#[cfg(not(feature = "run"))]
mod models;
#[cfg(not(feature = "run"))]
mod packs;
#[cfg(not(feature = "run"))]
mod parallel;
#[cfg(not(feature = "run"))]
mod params;
#[cfg(not(feature = "run"))]
mod path;
#[cfg(not(feature = "run"))]
mod plan;
#[cfg(not(feature = "run"))]
mod prompt;
#[cfg(not(feature = "run"))]
mod rows;
#[cfg(not(feature = "run"))]
mod schema;
#[cfg(not(feature = "run"))]
mod selector;
#[cfg(not(feature = "run"))]
mod syntax;
#[cfg(not(feature = "run"))]
mod tokens;
#[cfg(not(feature = "run"))]
mod tree;
#[cfg(not(feature = "run"))]
mod wording;
#[cfg(not(feature = "run"))]
mod yaml;

#[cfg(feature = "run")]
pub mod batch;
#[cfg(feature = "run")]
pub mod cancel;
#[cfg(feature = "run")]
pub mod context;
#[cfg(feature = "run")]
pub mod digest;
#[cfg(feature = "run")]
pub mod engine;
#[cfg(feature = "run")]
pub mod estimate;
#[cfg(feature = "run")]
pub mod event;
#[cfg(feature = "run")]
pub mod expr;
#[cfg(feature = "run")]
pub mod files;
#[cfg(feature = "run")]
pub mod graph;
#[cfg(feature = "run")]
pub mod jobs;
#[cfg(feature = "run")]
pub mod ledger;
#[cfg(feature = "run")]
pub mod llm;
#[cfg(feature = "run")]
pub mod loaded;
#[cfg(feature = "run")]
pub mod lock;
#[cfg(feature = "run")]
pub mod manifest;
#[cfg(feature = "run")]
pub mod merge;
#[cfg(feature = "run")]
pub mod models;
#[cfg(feature = "run")]
pub mod packs;
#[cfg(feature = "run")]
pub mod parallel;
#[cfg(feature = "run")]
pub mod params;
#[cfg(feature = "run")]
pub mod path;
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
pub mod rounds;
#[cfg(feature = "run")]
pub mod rows;
#[cfg(feature = "run")]
pub mod schema;
#[cfg(feature = "run")]
pub mod secrets;
#[cfg(feature = "run")]
pub mod selector;
#[cfg(feature = "run")]
pub mod shell;
#[cfg(feature = "run")]
pub mod store;
#[cfg(feature = "run")]
pub mod syntax;
#[cfg(feature = "run")]
pub mod tokens;
#[cfg(feature = "run")]
pub mod tree;
#[cfg(feature = "run")]
pub mod vectors;
#[cfg(feature = "run")]
pub mod wording;
#[cfg(feature = "run")]
pub mod yaml;

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

#[cfg(feature = "run")]
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
