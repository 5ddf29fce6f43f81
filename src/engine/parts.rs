//! How a collection that is being made comes apart and together: halves of what failed, parts of a window that are asked for one
//! after the other, and what each of them is shown.

use std::sync::Arc;

use serde_json::{Value, json};

use super::collecting::{Collecting, Held, Texts};
use super::{Run, Shared};
use crate::batch::{self, Batch};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::graph::{TaskId, Unit};
use crate::llm::{self, Ask, Shortfall};
use crate::lock::{self, RowKey};
use crate::manifest::{Carry, KeepPrefix};
use crate::models::{Keep, Model};
use crate::plan::{Collected, Piece, Said, results_in};
use crate::rows;
use crate::tokens;

impl Collecting {
    pub(super) fn is_in_order(&self) -> bool {
        self.made.carry.is_some()
    }

    /// Whether another window of this run begins as the one that is being made: the schema of its answer stands before all.
    fn begins_as_another(&self) -> bool {
        let windows = &self.made.windows;
        let size = windows.get(self.window).map(ExactSizeIterator::len);
        let is_another = |at: usize| at != self.window && windows.get(at).map(ExactSizeIterator::len) == size;
        (self.first_asked.unwrap_or(self.window)..windows.len()).any(is_another)
    }

    /// What was asked and answered before an item, in the order of the items.
    pub(super) fn before(&self, item: usize) -> impl DoubleEndedIterator<Item = Said<'_>> {
        let planned = &self.pieces[..self.made.pieces.len()];
        let upto = planned.partition_point(|held| held.piece.items.start < item);
        (0..upto).flat_map(|at| self.leaves(at)).filter(move |leaf| self.start(*leaf) < item).map(|leaf| {
            let held = &self.pieces[leaf];
            Said { item: held.piece.items.start, ask: &held.piece.ask, result: held.result.as_deref() }
        })
    }

    fn start(&self, at: usize) -> usize {
        self.pieces[at].piece.items.start
    }

    /// A piece, or what it was cut into if that is not together.
    fn leaves(&self, at: usize) -> Vec<usize> {
        match &self.pieces[at] {
            Held { result: None, halves: Some(halves), .. } => {
                halves.iter().flat_map(|half| self.leaves(*half)).collect()
            }
            _ => vec![at],
        }
    }

    /// What of these pieces has no result.
    pub(super) fn open(&self, pieces: impl Iterator<Item = usize>) -> Vec<usize> {
        pieces.flat_map(|at| self.leaves(at)).filter(|at| self.pieces[*at].result.is_none()).collect()
    }

    /// Parts of the window that are to be asked for, each when its turn comes: what is shown of those before it is known then.
    pub(super) fn queue(&mut self, part: Vec<usize>, failures: u32) {
        let Some(item) = part.first().map(|first| self.start(*first)) else { return };
        let before = |(other, _): &(Vec<usize>, u32)| other.first().is_some_and(|first| self.start(*first) < item);
        let at = self.parts.iter().take_while(|part| before(part)).count();
        self.parts.insert(at, (part, failures));
    }

    /// Shows a part of a window what has come before it by now. What its results are stored by stays.
    pub(super) fn refresh(&mut self, part: &[usize]) -> Result<(), Error> {
        let Some(first) = part.first() else { return Ok(()) };
        let carried = Arc::new(self.made.carried(self.before(self.start(*first))));
        for at in part {
            let held = &mut self.pieces[*at];
            if let Some(fresh) = self.made.pieces_of(held.piece.items.clone(), Some(&carried))?.pop() {
                held.piece.ask = fresh.ask;
            }
        }
        Ok(())
    }

    /// Puts two pieces in the place of one.
    pub(super) fn cut(&mut self, at: usize, halves: [Piece; 2]) -> [usize; 2] {
        let places = [self.pieces.len(), self.pieces.len() + 1];
        self.pieces.extend(halves.map(Held::new));
        self.pieces[at].halves = Some(places);
        self.cut.push(at);
        places
    }

    /// Gives what was cut in two the results of its halves, and says what is to be stored so: not what has a default in it. The
    /// halves of halves were cut after them.
    pub(super) fn join_halves(&mut self) -> Vec<(Digest, Texts)> {
        let mut whole = Vec::new();
        let mut open = Vec::new();
        for at in std::mem::take(&mut self.cut).into_iter().rev() {
            let Some([first, second]) = self.pieces[at].halves.map(|halves| halves.map(|half| &self.pieces[half]))
            else {
                continue;
            };
            let (Some(front), Some(back)) = (&first.result, &second.result) else {
                open.push(at);
                continue;
            };
            let results: Vec<Value> = [front, back].into_iter().flat_map(|result| results_in(result)).collect();
            let is_default = first.is_default || second.is_default;
            let held = &mut self.pieces[at];
            let result = json!({"results": results}).to_string();
            if !is_default {
                whole.push((held.piece.key, vec![Arc::from(result.as_bytes())]));
            }
            (held.result, held.is_default) = (Some(result), is_default);
        }
        open.reverse();
        self.cut = open;
        whole
    }

    /// The text of the output, and what is in it.
    pub(super) fn written(&self, shared: &Shared, task: TaskId) -> Result<Written, Error> {
        let leaves = (0..self.made.pieces.len()).flat_map(|at| self.leaves(at));
        let results = leaves.filter_map(|leaf| Some((&self.pieces[leaf], self.pieces[leaf].result.as_deref()?)));
        let results: Vec<(&Held, &str)> = results.collect();
        let rows = self.made.rows(results.iter().map(|(_, result)| *result));
        let path = shared.graph.name(task);
        let keys = self.row_keys(&results, &rows.of);
        let is_read_back = rows::is_exact(path) && shared.graph.rule(task).filters.is_empty();
        let mut text = Vec::new();
        rows::write(path, &rows.rows, &mut text)
            .map_err(|e| Error::new(Code::BadValue, format!("`{path}` cannot be written: {e}")))?;
        let collected = Collected {
            items: self.made.items(),
            results: rows.rows.len(),
            dropped: rows.dropped,
            failed: self.excused,
        };
        Ok(Written { contents: vec![text.into()], collected, rows: keys.filter(|_| is_read_back) })
    }

    /// For each row what its result is stored by; none where that is not all of the result, or a default. None at all where there
    /// are more than a line of the lock should have.
    fn row_keys(&self, results: &[(&Held, &str)], of: &[usize]) -> Option<Arc<[RowKey]>> {
        let mut counts = vec![0; results.len()];
        of.iter().for_each(|at| counts[*at] += 1);
        let key = |at: &usize| {
            let (held, result) = results[*at];
            let is_whole = counts[*at] == self.made.count_of(result) && !held.is_default;
            if is_whole { lock::row_key(&held.piece.key) } else { 0 }
        };
        (of.len() <= MOST_ROWS).then(|| of.iter().map(key).collect())
    }
}

/// The most rows of which the lock notes what they are of.
const MOST_ROWS: usize = 4096;

/// A collection's output.
pub(super) struct Written {
    pub contents: Texts,
    /// What is in it.
    pub collected: Collected,
    /// What its rows are stored by.
    pub rows: Option<Arc<[RowKey]>>,
}

impl Run<'_> {
    /// Asks again for what a request did not bring, one part after the other where that is the order.
    pub(super) fn ask_again(&mut self, batch: &Batch, missing: Vec<Unit>, why: &Shortfall) {
        match missing.first().is_some_and(|first| self.is_in_order(*first)) {
            true => self.ask_parts(batch, &missing, why),
            false => self.schedule.ask_again(batch, missing, why),
        }
    }

    /// Pieces of a window that an answer did not bring: asked for again in smaller company, one part after the other, each shown what
    /// has come before it by then.
    fn ask_parts(&mut self, batch: &Batch, missing: &[Unit], why: &Shortfall) {
        let Some(task) = missing.first().map(|unit| unit.task) else { return };
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        collecting.in_flight -= missing.len();
        let pieces: Vec<usize> = missing.iter().filter_map(|unit| unit.piece).collect();
        let size = batch::company(batch, missing.len(), why);
        pieces.chunks(size.max(1)).for_each(|part| collecting.queue(part.to_vec(), batch.failures + 1));
        self.go_on(task);
    }

    /// One that is asked for again by itself: in its turn, where windows go in order.
    pub(super) fn ask_alone(&mut self, batch: &Batch, unit: Unit) {
        match (self.collections.get_mut(&unit.task), unit.piece) {
            (Some(collecting), Some(at)) if collecting.is_in_order() && batch.tasks.len() > 1 => {
                collecting.in_flight -= 1;
                collecting.queue(vec![at], 0);
                self.go_on(unit.task);
            }
            _ => self.schedule.ask_alone(batch, unit),
        }
    }

    /// Whether it is a piece of a collection that has failed: nothing more is asked for it.
    pub(super) fn is_given_up(&self, unit: Unit) -> bool {
        unit.piece.is_some() && !self.collections.contains_key(&unit.task)
    }

    /// Whether these are pieces of a window that goes in its order.
    fn is_in_order(&self, unit: Unit) -> bool {
        self.collections.get(&unit.task).is_some_and(Collecting::is_in_order)
    }

    /// For how long the provider is to keep what a window in order begins with, because others do: all of it (`true`), where they go
    /// on from that, or the system's part.
    pub(super) fn kept_of_window(&self, batch: &Batch, asks: &[Ask], model: Option<Model>) -> Option<(Keep, bool)> {
        let (unit, ask) = (batch.tasks.first()?, asks.first()?);
        let collecting = self.collections.get(&unit.task)?;
        let is_all = collecting.made.carry? == Carry::All;
        let keep = match self.shared.graph.rule(*unit).batching.keep_prefix {
            KeepPrefix::Never => return None,
            KeepPrefix::For(keep) if !is_all => keep,
            KeepPrefix::Auto | KeepPrefix::For(_) => Keep::Short,
        };
        let size = collecting.made.windows.get(collecting.window)?.len();
        let length = || match is_all {
            // What is there already is found by a mark behind it.
            true => llm::length(&asks.iter().collect::<Vec<_>>()),
            false => tokens::estimate(ask.system()),
        };
        let is_worth_it = batch.tasks.len() == size && collecting.begins_as_another();
        (is_worth_it && length() >= model?.cache?.minimum).then_some((keep, is_all))
    }
}
