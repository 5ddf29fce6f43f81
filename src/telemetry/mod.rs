//! A run for machines that watch: a line of JSON for each decision (`log`), figures for Prometheus (`metrics`), and
//! spans for Perfetto (`trace`) and OpenTelemetry (`otlp`).
//!
//! `log` listens to events; the others are made from the report. Nobody here decides, writes or prints anything.

mod log;
mod metrics;
mod otlp;
mod trace;

pub use log::Log;
pub use metrics::metrics;
pub use otlp::Otlp;
pub use trace::trace;
