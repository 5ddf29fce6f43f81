//! A run for machines that watch: a line of JSON for each decision (`log`), figures for Prometheus (`metrics`), and spans (`trace`).
//!
//! `log` listens to events; the others are made from the report. Nobody here decides, writes or prints anything.

mod log;
mod metrics;
mod trace;

pub use log::Log;
pub use metrics::metrics;
pub use trace::trace;
