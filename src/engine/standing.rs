//! How long the results are that stand in the tree: what is known of rules of which the ledger knows nothing, as in a fresh clone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Shared;
use crate::digest::Digest;
use crate::files::Files;
use crate::graph::TaskId;
use crate::path::RelPath;

/// So many results of a rule say how long the others are.
const ENOUGH: usize = 16;

/// What was looked at so far: a rule's results are read when one of its tasks is asked about, and once.
#[derive(Default)]
pub struct Standing {
    /// By rule the first of its tasks that the lock knows.
    samples: OnceLock<HashMap<usize, Vec<TaskId>>>,
    /// By rule, in tokens.
    lengths: Mutex<HashMap<usize, Arc<[u64]>>>,
}

impl Shared {
    /// How many tokens results of a task's rule have that were generated and stand there.
    pub(super) fn standing(&self, task: TaskId) -> Arc<[u64]> {
        let rule = self.graph.tasks[task].rule;
        let mut lengths = self.standing.lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let of_rule = lengths.entry(rule).or_insert_with(|| {
            let samples = self.standing.samples.get_or_init(|| self.samples());
            let of_rule = samples.get(&rule).into_iter().flatten();
            of_rule.map(|task| self.length(*task)).filter(|tokens| *tokens > 0).collect()
        });
        Arc::clone(of_rule)
    }

    fn samples(&self) -> HashMap<usize, Vec<TaskId>> {
        let mut samples: HashMap<usize, Vec<TaskId>> = HashMap::new();
        for (id, task) in self.graph.tasks.iter().enumerate() {
            if self.lock.get(self.graph.name(id), None).is_some() {
                let of_rule = samples.entry(task.rule).or_default();
                of_rule.extend((of_rule.len() < ENOUGH).then_some(id));
            }
        }
        samples
    }

    fn length(&self, task: TaskId) -> u64 {
        let texts = self.graph.tasks[task].outputs.iter().filter_map(|output| self.generated(&output.path));
        texts.map(|text| self.counter(task).count(&text)).sum()
    }

    /// What was generated at a path and stands there.
    fn generated(&self, path: &RelPath) -> Option<String> {
        let bytes = self.files.read(path).ok()??;
        self.lock.get(path, Some(Digest::of(&bytes)))?;
        String::from_utf8(bytes.to_vec()).ok()
    }
}
