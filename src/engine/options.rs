//! How a run goes, as whoever starts it says.

use std::path::PathBuf;
use std::sync::Arc;

use super::Asking;
use crate::cancel::Cancel;
use crate::jobs::Jobs;
use crate::plan::Wish;

/// Reads the environment.
pub type Env = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// How a run goes.
#[derive(Clone)]
pub struct Options {
    /// How many jobs of local work at once.
    pub jobs: Jobs,
    /// `-k`: go on asking after a failure.
    pub keep_going: bool,
    /// What is to be taken for stale, or overwritten.
    pub wish: Wish,
    /// `--frozen`: results as the lock names them, or a failure.
    pub frozen: bool,
    /// `--offline`: no network at all.
    pub offline: bool,
    /// Only models on this machine are asked; what needs another fails.
    pub free_only: bool,
    /// Which requests are sent, and how.
    pub asking: Asking,
    /// Whether tasks may share requests.
    pub batch: bool,
    /// `--max-cost`: what a run may cost in USD, in place of what the Genfile says.
    pub max_cost: Option<f64>,
    /// `--max-tokens`: the same in tokens.
    pub max_tokens: Option<u64>,
    /// `--yes`: what would be asked is answered with yes.
    pub yes: bool,
    /// `--keep-orphans`: targets without a rule stay.
    pub keep_orphans: bool,
    /// `--record`: the folder to which answers are written as recordings.
    pub record: Option<PathBuf>,
    /// Hosts that a person named, to which a key may go.
    pub trusted_hosts: Vec<String>,
    /// Where keys are read from.
    pub env: Env,
    /// Interrupts the run.
    pub cancel: Cancel,
}
