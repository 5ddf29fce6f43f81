//! Which tasks travel together. Pure, and never part of a key or a verdict.
//!
//! A shape is what tasks must share to be in one request; of a shape those travel together that are alike ([`similar`]), as many
//! as fit and are wanted ([`pack`]). Who travels with whom depends on what tasks are and what they are called, not on where they
//! stand in a file. What a request did not deliver comes back and is asked for again in ever smaller company.

mod pack;
mod similar;

use std::collections::{BTreeMap, VecDeque};

use crate::digest::{Digest, Framed};
use crate::graph::Unit;
use crate::llm::{Ask, Shortfall, Unkept};
use crate::manifest::{Batching, Check, KeepPrefix, Prefer};
use crate::models::Keep;

use pack::{Packed, Scores};

pub use pack::{Caching, Terms, Traveler};
pub use similar::{Traits, groups, similarity};

/// What tasks must share to travel in one request.
pub type Shape = Digest;

/// The shape of a task: provider, model, parameters, stable prefix, form and schema of the result, checks, whether it can share a
/// request at all, and what the Genfile says of how it may.
pub fn shape(provider: &str, ask: &Ask, checks: &[Check], batching: Batching) -> Shape {
    let names: Vec<&str> = ask.outputs.iter().map(|output| output.name.as_deref().unwrap_or("")).collect();
    let check = |check: &Check| match check {
        Check::Schema(expr) | Check::Run(expr) => format!("{} {}", check.name(), expr.text()),
        check => check.name().to_owned(),
    };
    let checks: Vec<String> = checks.iter().map(check).collect();
    let Batching { enabled, max_batch_size, similarity_threshold, weights, prefer, keep_prefix, fallback_on_failure } =
        batching;
    let keep = match keep_prefix {
        KeepPrefix::Auto => 0,
        KeepPrefix::Never => 1,
        KeepPrefix::For(Keep::Short) => 2,
        KeepPrefix::For(Keep::Long) => 3,
    };
    let weights = [weights.file_type, weights.structure, weights.package, weights.dependencies];
    let framed = Framed::new("genmake-shape-3")
        .field(provider)
        .field(&ask.model)
        .field(serde_json::Value::Object(ask.params.clone()).to_string())
        .field(ask.system())
        .field(names.join("\n"))
        .field(ask.schema.as_ref().map(|schema| schema.value().to_string()).unwrap_or_default())
        .field(checks.join("\n"))
        .field([ask.can_share(), enabled, fallback_on_failure, prefer == Prefer::Time].map(u8::from))
        .field([keep])
        .field((max_batch_size.unwrap_or(0) as u64).to_le_bytes());
    let numbers = weights.into_iter().chain([similarity_threshold]);
    numbers.fold(framed, |framed, number| framed.field(number.to_le_bytes())).finish()
}

/// Several tasks of one shape in one request, or one task alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What they share.
    pub shape: Shape,
    /// Who travels, in slot order.
    pub tasks: Vec<Unit>,
    /// How many requests before this one failed for the same tasks.
    pub failures: u32,
}

/// What requests share that begin alike, up to what is their tasks' own: the schema of the answer stands before the stable prefix,
/// and it differs with the number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    /// The shape of their tasks.
    pub shape: Shape,
    /// How many tasks each carries.
    pub tasks: usize,
}

/// Groups tasks into batches.
#[derive(Debug, Default)]
pub struct Batcher {
    /// Not put into requests yet.
    waiting: Vec<Traveler>,
    /// To be sent, those that take longest first.
    ready: VecDeque<Packed>,
    /// What was asked for before, ready to go again.
    again: VecDeque<Batch>,
    shapes: BTreeMap<Shape, Past>,
    forms: BTreeMap<Form, Alike>,
    scores: Scores,
}

/// What became of a shape's requests so far.
#[derive(Debug, Default)]
struct Past {
    /// Answers to several tasks that brought nothing whole.
    failures_in_a_row: u32,
    caching: Caching,
}

/// What became of requests that begin alike.
#[derive(Debug, Default)]
struct Alike {
    prefix: Prefix,
    /// Whether the prefix is in the provider's cache; none where it is on nobody's way there.
    kept: Option<Kept>,
    /// How many that were put together are still to be sent.
    to_come: usize,
    /// Those of them whose turn came while another was ahead.
    held: Vec<Packed>,
    /// Whether it was said that the prefix is not there as it should be.
    is_said: bool,
}

/// Which of the requests that begin alike have gone out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    #[default]
    Unsent,
    /// In the request that is ahead of the others.
    Ahead,
    Sent,
}

/// How far a prefix is on its way into a provider's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In a request that is not answered yet.
    Written,
    /// There for others to read.
    Readable,
    /// Not to be had.
    Refused,
}

/// Two failures of a shape in a row: its tasks go alone for the rest of the run.
const SINGLES_AFTER: u32 = 2;

impl Batcher {
    /// Adds a task that needs a model.
    pub fn add(&mut self, traveler: Traveler) {
        self.waiting.push(traveler);
    }

    /// The next batch: what goes again first, then what will take longest. Everything that waits is put into requests at once, so
    /// whoever could add to one should have been added. `None` also while all that is left waits for a request that went ahead.
    pub fn next_batch(&mut self) -> Option<Batch> {
        if let Some(batch) = self.again.pop_front() {
            let mut parts = self.parted(batch);
            let first = parts.pop_front();
            parts.into_iter().rev().for_each(|part| self.again.push_front(part));
            return first;
        }
        if !self.waiting.is_empty() {
            let past = &self.shapes;
            let alone = |shape| past.get(&shape).filter(|past| past.goes_alone()).map(|_| 1);
            let (packed, scores) = pack::pack(std::mem::take(&mut self.waiting), &alone);
            self.scores.extend(scores);
            for Packed { batch, caching } in &packed {
                self.shapes.entry(batch.shape).or_default().caching = *caching;
                self.forms.entry(batch.form()).or_default().to_come += 1;
            }
            self.ready.extend(packed);
        }
        loop {
            let Packed { batch, caching } = self.ready.pop_front()?;
            let alike = self.forms.entry(batch.form()).or_default();
            if alike.prefix == Prefix::Ahead {
                alike.held.push(Packed { batch, caching });
                continue;
            }
            alike.to_come -= 1;
            // What was put together before its shape's requests began to fail comes apart.
            let mut parts = self.parted(batch);
            if parts.len() > 1 {
                for batch in parts.into_iter().rev() {
                    self.forms.entry(batch.form()).or_default().to_come += 1;
                    self.ready.push_front(Packed { batch, caching });
                }
                continue;
            }
            let first = parts.pop_front()?;
            let alike = self.forms.entry(first.form()).or_default();
            alike.prefix = match alike.prefix {
                Prefix::Unsent if caching.is_first_ahead() && alike.to_come > 0 => Prefix::Ahead,
                _ => Prefix::Sent,
            };
            return Some(first);
        }
    }

    /// All that there is to send, as if every answer began at once.
    pub fn all(&mut self) -> Vec<Batch> {
        let next = || {
            let batch = self.next_batch()?;
            self.is_answering(batch.form());
            Some(batch)
        };
        std::iter::from_fn(next).collect()
    }

    /// The provider has begun to answer a request of this form, or will not: what waited for that can go.
    pub fn is_answering(&mut self, form: Form) {
        let alike = self.forms.entry(form).or_default();
        alike.prefix = Prefix::Sent;
        alike.held.drain(..).rev().for_each(|packed| self.ready.push_front(packed));
    }

    /// For how long the provider is to keep the prefix of a batch that is sent now: where that is long enough, and in its cache
    /// already (`true`), or on nobody's way there and wanted by another. `awaited` says how many beyond these begin alike; it is
    /// asked only where that matters.
    pub fn keeps_prefix(&mut self, batch: &Batch, awaited: &dyn Fn() -> usize) -> Option<(Keep, bool)> {
        let caching = self.shapes.get(&batch.shape)?.caching;
        let keep = caching.keep?;
        let form = batch.form();
        let alike = self.forms.entry(form).or_default();
        match alike.kept {
            Some(Kept::Readable) => Some((keep, true)),
            Some(Kept::Written | Kept::Refused) => None,
            None => {
                let others = alike.to_come + self.again.iter().filter(|other| other.form() == form).count();
                let is_worth_it = caching.writes(others) || caching.writes(others + awaited());
                is_worth_it.then(|| alike.kept = Some(Kept::Written)).map(|()| (keep, false))
            }
        }
    }

    /// A request of this form whose prefix was to be kept is answered, or will not be.
    pub fn prefix_is_kept(&mut self, form: Form, is_kept: bool) {
        let alike = self.forms.entry(form).or_default();
        match alike.kept {
            Some(Kept::Refused) => {}
            _ if is_kept => alike.kept = Some(Kept::Readable),
            Some(Kept::Written) => alike.kept = None,
            _ => {}
        }
    }

    /// The prefix of a request of this form is not in the provider's cache as it should be: whether that is news. What it was asked
    /// to keep and did not it is not asked to keep again.
    pub fn not_kept(&mut self, form: Form, why: Unkept) -> bool {
        let alike = self.forms.entry(form).or_default();
        if why == Unkept::Unheeded {
            alike.kept = Some(Kept::Refused);
        }
        !std::mem::replace(&mut alike.is_said, true)
    }

    /// How alike a task is to what its group goes by, 0 to 1; none before it was put into a batch.
    pub fn score(&self, task: Unit) -> Option<f64> {
        self.scores.get(&task).copied()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let is_held = self.forms.values().any(|alike| !alike.held.is_empty());
        self.again.is_empty() && self.ready.is_empty() && self.waiting.is_empty() && !is_held
    }

    /// Takes out everything that waits.
    pub fn drain(&mut self) -> Vec<Unit> {
        let again = self.again.drain(..).flat_map(|batch| batch.tasks);
        let held = self.forms.values_mut().flat_map(|alike| {
            alike.to_come = 0;
            alike.held.drain(..)
        });
        let ready = self.ready.drain(..).chain(held).flat_map(|packed| packed.batch.tasks);
        again.chain(ready).chain(self.waiting.drain(..).map(|traveler| traveler.task)).collect()
    }

    /// A batch as it is to be sent now: one by one, if its shape goes alone by now.
    pub fn parted(&self, batch: Batch) -> VecDeque<Batch> {
        if batch.tasks.len() == 1 || self.shapes.get(&batch.shape).is_none_or(|past| !past.goes_alone()) {
            return VecDeque::from([batch]);
        }
        let Batch { shape, tasks, failures } = batch;
        tasks.into_iter().map(|task| Batch { shape, tasks: vec![task], failures }).collect()
    }

    /// Notes that a batch of several delivered something.
    pub fn succeeded(&mut self, shape: Shape) {
        self.shapes.entry(shape).or_default().failures_in_a_row = 0;
    }

    /// Queues what `batch` did not deliver. Truncated: smaller company, since the same limit would cut it again. Malformed: once
    /// more together, then in halves. Refused: in halves, then alone, since one may be to blame. Broken off: together, since nobody
    /// is. When two answers in a row brought nothing whole although they came to their end, the shape goes alone.
    pub fn missing(&mut self, batch: &Batch, tasks: Vec<Unit>, why: &Shortfall) {
        let past = self.shapes.entry(batch.shape).or_default();
        let together = batch.tasks.len() > 1;
        let is_of_the_shape = matches!(why, Shortfall::Truncated | Shortfall::Malformed(_));
        past.failures_in_a_row += u32::from(together && is_of_the_shape && tasks.len() == batch.tasks.len());
        let size = if past.goes_alone() { 1 } else { company(batch, tasks.len(), why) };
        for tasks in tasks.chunks(size.max(1)) {
            self.again.push_back(Batch { shape: batch.shape, tasks: tasks.to_vec(), failures: batch.failures + 1 });
        }
    }

    /// Queues a request as it is.
    pub fn queue(&mut self, batch: Batch) {
        self.again.push_back(batch);
    }

    /// Queues one task to go alone.
    pub fn alone(&mut self, shape: Shape, task: Unit) {
        self.again.push_back(Batch { shape, tasks: vec![task], failures: 0 });
    }
}

/// In what company those go again that a batch did not deliver, as [`Batcher::missing`] says.
pub fn company(batch: &Batch, missing: usize, why: &Shortfall) -> usize {
    match why {
        _ if batch.tasks.len() < 2 => 1,
        Shortfall::Refused(_) if batch.failures > 0 => 1,
        Shortfall::Refused(_) => missing.div_ceil(2),
        Shortfall::Broken(_) => missing,
        Shortfall::Truncated => (batch.tasks.len() / 2).min(missing),
        Shortfall::Malformed(_) if batch.failures == 0 => missing,
        Shortfall::Malformed(_) => missing.div_ceil(2),
    }
}

impl Batch {
    /// What its request shares with those that begin alike.
    pub fn form(&self) -> Form {
        Form { shape: self.shape, tasks: self.tasks.len() }
    }
}

impl Past {
    fn goes_alone(&self) -> bool {
        self.failures_in_a_row >= SINGLES_AFTER
    }
}

#[cfg(test)]
mod tests;
