//! Which tasks travel together. Pure, and never part of a key or a verdict.
//!
//! A shape is what tasks must share to be in one request. Tasks of a shape are grouped in the order of the graph, up to the
//! shape's limit; what a request did not deliver comes back and is asked for again in ever smaller company.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::digest::{Digest, Framed};
use crate::graph::TaskId;
use crate::llm::{Ask, Shortfall};
use crate::manifest::{Batching, Check};

/// What tasks must share to travel in one request.
pub type Shape = Digest;

/// The shape of a task: provider, model, parameters, stable prefix, form and schema of the result, checks, how many may
/// travel together and whether what they lack is asked for again.
pub fn shape(provider: &str, ask: &Ask, checks: &[Check], batching: Batching, limit: usize) -> Shape {
    let names: Vec<&str> = ask.outputs.iter().map(|output| output.name.as_deref().unwrap_or("")).collect();
    let checks: Vec<&str> = checks.iter().map(|check| check.name()).collect();
    Framed::new("genmake-shape-1")
        .field(provider)
        .field(&ask.model)
        .field(serde_json::Value::Object(ask.params.clone()).to_string())
        .field(ask.system())
        .field(names.join("\n"))
        .field(ask.schema.as_ref().map(|schema| schema.value().to_string()).unwrap_or_default())
        .field(checks.join("\n"))
        .field((limit as u64).to_le_bytes())
        .field([u8::from(batching.fallback_on_failure)])
        .finish()
}

/// Several tasks of one shape in one request, or one task alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What they share.
    pub shape: Shape,
    /// Who travels, in slot order.
    pub tasks: Vec<TaskId>,
    /// How many requests before this one failed for the same tasks.
    pub failures: u32,
}

/// Groups tasks into batches.
#[derive(Debug, Default)]
pub struct Batcher {
    groups: BTreeMap<Shape, Group>,
    /// What was asked for before, ready to go again.
    again: VecDeque<Batch>,
}

#[derive(Debug, Default)]
struct Group {
    /// In the order of the graph, whoever came first.
    waiting: BTreeSet<TaskId>,
    limit: usize,
    /// Answers to several tasks that brought nothing whole.
    failures_in_a_row: u32,
}

/// Two failures of a shape in a row: its tasks go alone for the rest of the run.
const SINGLES_AFTER: u32 = 2;

impl Batcher {
    /// Adds a task that may share a request with `limit - 1` others.
    pub fn add(&mut self, task: TaskId, shape: Shape, limit: usize) {
        let group = self.groups.entry(shape).or_default();
        group.limit = limit.max(1);
        group.waiting.insert(task);
    }

    /// The next batch: what goes again first, then full ones, then what is left.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.again.pop_front() {
            let mut parts = self.parted(batch);
            let first = parts.pop_front();
            parts.into_iter().rev().for_each(|part| self.again.push_front(part));
            return first;
        }
        let is_full = |group: &Group| group.waiting.len() >= group.size();
        let (shape, group) = self
            .groups
            .iter_mut()
            .filter(|(_, group)| !group.waiting.is_empty())
            .min_by_key(|(_, group)| (!is_full(group), group.waiting.first().copied()))?;
        Some(group.take(*shape))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.again.is_empty() && self.groups.values().all(|group| group.waiting.is_empty())
    }

    /// Takes out everything that waits.
    pub fn drain(&mut self) -> Vec<TaskId> {
        let again = self.again.drain(..).flat_map(|batch| batch.tasks);
        let waiting = self.groups.values_mut().flat_map(|group| std::mem::take(&mut group.waiting));
        again.chain(waiting).collect()
    }

    /// A batch as it is to be sent now: one by one, if its shape goes alone by now.
    pub fn parted(&self, batch: Batch) -> VecDeque<Batch> {
        if batch.tasks.len() == 1 || self.groups.get(&batch.shape).is_none_or(|group| !group.goes_alone()) {
            return VecDeque::from([batch]);
        }
        let Batch { shape, tasks, failures } = batch;
        tasks.into_iter().map(|task| Batch { shape, tasks: vec![task], failures }).collect()
    }

    /// Notes that a batch of several delivered something.
    pub fn succeeded(&mut self, shape: Shape) {
        self.groups.entry(shape).or_default().failures_in_a_row = 0;
    }

    /// Queues what `batch` did not deliver. Truncated: smaller company, since the same limit would cut it again. Malformed: once
    /// more together, then in halves. Refused: in halves, then alone, since one may be to blame. Broken off: together, since nobody is. When two
    /// answers in a row brought nothing whole although they came to their end, the shape goes alone.
    pub fn missing(&mut self, batch: &Batch, tasks: Vec<TaskId>, why: &Shortfall) {
        let group = self.groups.entry(batch.shape).or_default();
        let together = batch.tasks.len() > 1;
        let is_of_the_shape = matches!(why, Shortfall::Truncated | Shortfall::Malformed(_));
        group.failures_in_a_row += u32::from(together && is_of_the_shape && tasks.len() == batch.tasks.len());
        let size = match why {
            _ if group.goes_alone() || !together => 1,
            Shortfall::Refused(_) if batch.failures > 0 => 1,
            Shortfall::Refused(_) => tasks.len().div_ceil(2),
            Shortfall::Broken(_) => tasks.len(),
            Shortfall::Truncated => (batch.tasks.len() / 2).min(tasks.len()),
            Shortfall::Malformed(_) if batch.failures == 0 => tasks.len(),
            Shortfall::Malformed(_) => tasks.len().div_ceil(2),
        };
        for tasks in tasks.chunks(size.max(1)) {
            self.again.push_back(Batch { shape: batch.shape, tasks: tasks.to_vec(), failures: batch.failures + 1 });
        }
    }

    /// Queues one task to go alone.
    pub fn alone(&mut self, shape: Shape, task: TaskId) {
        self.again.push_back(Batch { shape, tasks: vec![task], failures: 0 });
    }
}

impl Group {
    fn size(&self) -> usize {
        if self.goes_alone() { 1 } else { self.limit.max(1) }
    }

    fn goes_alone(&self) -> bool {
        self.failures_in_a_row >= SINGLES_AFTER
    }

    fn take(&mut self, shape: Shape) -> Batch {
        let size = self.size();
        let tasks = std::iter::from_fn(|| self.waiting.pop_first()).take(size).collect();
        Batch { shape, tasks, failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape_of(name: &str) -> Shape {
        Digest::of(name)
    }

    fn all(batcher: &mut Batcher) -> Vec<Vec<TaskId>> {
        std::iter::from_fn(|| batcher.next_batch()).map(|batch| batch.tasks).collect()
    }

    fn malformed() -> Shortfall {
        Shortfall::Malformed(String::new())
    }

    #[test]
    fn full_batches_come_first_and_in_the_order_of_the_graph() {
        let mut batcher = Batcher::default();
        batcher.add(0, shape_of("other"), 5);
        for task in (1..13).rev() {
            batcher.add(task, shape_of("s"), 5);
        }
        assert_eq!(all(&mut batcher), [vec![1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10], vec![0], vec![11, 12]]);
        assert!(batcher.is_empty());
    }

    #[test]
    fn shapes_do_not_mix() {
        let mut batcher = Batcher::default();
        for task in 0..6 {
            batcher.add(task, shape_of(if task % 2 == 0 { "a" } else { "b" }), 5);
        }
        let mut batches = all(&mut batcher);
        batches.sort();
        assert_eq!(batches, [[0, 2, 4], [1, 3, 5]]);
    }

    #[test]
    fn truncated_goes_again_in_smaller_company() {
        let mut batcher = Batcher::default();
        let batch = Batch { shape: shape_of("s"), tasks: vec![1, 2, 3, 4, 5], failures: 0 };
        batcher.missing(&batch, vec![1, 2, 3, 4, 5], &Shortfall::Truncated);
        assert_eq!(all(&mut batcher), [vec![1, 2], vec![3, 4], vec![5]]);
    }

    #[test]
    fn malformed_goes_together_then_halved_then_alone() {
        let mut batcher = Batcher::default();
        let batch = Batch { shape: shape_of("s"), tasks: vec![1, 2, 3, 4], failures: 0 };
        batcher.missing(&batch, vec![2, 3, 4], &malformed());
        let again = batcher.next_batch().unwrap();
        assert_eq!((again.tasks.clone(), again.failures), (vec![2, 3, 4], 1));
        // Another batch of the shape went well in between: halves.
        batcher.succeeded(shape_of("s"));
        batcher.missing(&again, vec![2, 3, 4], &malformed());
        assert_eq!(all(&mut batcher), [vec![2, 3], vec![4]]);
        // The second answer in a row with nothing in it: alone, and so is everything of the shape from then on.
        let queued = Batch { shape: shape_of("s"), tasks: vec![5, 6], failures: 1 };
        batcher.again.push_back(queued.clone());
        batcher.missing(&again, vec![2, 3, 4], &malformed());
        assert_eq!(all(&mut batcher), [[5], [6], [2], [3], [4]]);
        assert_eq!(batcher.parted(queued).len(), 2);
        batcher.add(7, shape_of("s"), 5);
        batcher.add(8, shape_of("s"), 5);
        assert_eq!(all(&mut batcher), [[7], [8]]);
    }

    #[test]
    fn what_brings_something_is_no_failure_of_the_shape() {
        let mut batcher = Batcher::default();
        let batch = Batch { shape: shape_of("s"), tasks: vec![1, 2, 3, 4], failures: 0 };
        for _ in 0..9 {
            batcher.missing(&batch, vec![3, 4], &malformed());
            batcher.missing(&batch, vec![4], &Shortfall::Truncated);
            batcher.missing(&batch, vec![2, 3, 4], &Shortfall::Broken(String::new()));
        }
        assert_eq!(all(&mut batcher)[..3], [vec![3, 4], vec![4], vec![2, 3, 4]]);
        batcher.add(7, shape_of("s"), 5);
        batcher.add(8, shape_of("s"), 5);
        assert_eq!(all(&mut batcher), [[7, 8]]);
    }

    #[test]
    fn a_refused_batch_goes_in_halves_then_one_by_one() {
        let mut batcher = Batcher::default();
        let batch = Batch { shape: shape_of("s"), tasks: vec![1, 2, 3, 4, 5], failures: 0 };
        let refused = Shortfall::Refused("no".into());
        batcher.missing(&batch, batch.tasks.clone(), &refused);
        let half = batcher.next_batch().unwrap();
        assert_eq!(half.tasks, [1, 2, 3]);
        batcher.missing(&half, half.tasks.clone(), &refused);
        assert_eq!(all(&mut batcher), [vec![4, 5], vec![1], vec![2], vec![3]]);
    }

    proptest! {
        /// Nobody is lost, nobody travels twice, no batch is over its limit, and there are no more batches than needed.
        #[test]
        fn every_task_travels_once(tasks in proptest::collection::vec(0usize..3, 0..60), limit in 1usize..9) {
            let mut batcher = Batcher::default();
            for (task, shape) in tasks.iter().enumerate() {
                batcher.add(task, shape_of(&shape.to_string()), limit);
            }
            let batches = all(&mut batcher);
            prop_assert!(batches.iter().all(|batch| batch.len() <= limit));
            let least: usize = (0..3).map(|s| tasks.iter().filter(|shape| **shape == s).count().div_ceil(limit)).sum();
            prop_assert_eq!(batches.len(), least);
            let mut seen: Vec<TaskId> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..tasks.len()).collect::<Vec<_>>());
        }

        /// However often a request fails, each retry is for fewer tasks or has failed more often: it ends.
        #[test]
        fn falling_back_ends(size in 1usize..12, kinds in proptest::collection::vec(0u8..3, 40)) {
            let mut batcher = Batcher::default();
            for task in 0..size {
                batcher.add(task, shape_of("s"), size);
            }
            let mut requests = 0;
            let mut singles = 0;
            while let Some(batch) = batcher.next_batch() {
                requests += 1;
                if batch.tasks.len() == 1 {
                    singles += 1;
                    continue;
                }
                let why = match kinds[requests % kinds.len()] {
                    0 => Shortfall::Truncated,
                    1 => malformed(),
                    _ => Shortfall::Refused(String::new()),
                };
                let tasks = batch.tasks.clone();
                batcher.missing(&batch, tasks, &why);
            }
            prop_assert_eq!(singles, size);
            prop_assert!(requests <= size + 5);
        }
    }
}
