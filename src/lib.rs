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
//! Start at [`Project`]:
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

pub mod batch;
pub mod build_script;
pub mod cancel;
pub mod context;
pub mod digest;
pub mod engine;
pub mod error;
pub mod estimate;
pub mod event;
pub mod expr;
pub mod files;
pub mod graph;
pub mod jobs;
pub mod ledger;
pub mod llm;
pub mod lock;
pub mod manifest;
pub mod merge;
pub mod models;
pub mod packs;
pub mod params;
pub mod path;
pub mod plan;
pub mod project;
pub mod prompt;
pub mod provider;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod schema;
pub mod secrets;
pub mod selector;
pub mod shell;
pub mod store;
pub mod syntax;
pub mod tokens;
pub mod vectors;
pub mod wording;
pub mod yaml;

pub use engine::Options;
pub use error::{Error, Errors};
pub use event::Event;
pub use graph::Target;
pub use project::{Location, Planned, Project};
pub use report::Summary;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod telemetry;
#[cfg(feature = "cli")]
pub mod ui;

impl Default for Options {
    /// What `genmake` without options does; keys are read from the process's environment.
    fn default() -> Options {
        Options {
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
