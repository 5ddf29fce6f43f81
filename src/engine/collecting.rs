//! Collections: their pieces are looked up, asked for, kept, and put together when all are there.
//!
//! A piece that came is in the store before anything is done with it, so that a run that is killed asks for what is missing alone.
//! Where windows go in order, the next is rendered when the one before is whole.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};

use super::making::{self, Good, Ready};
use super::running::{Unfit, conclude};
use super::settle::is_of_the_recipe;
use super::{Report, Run, Shared, Underway};
use crate::batch::{self, Batch};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::{Event, Status};
use crate::graph::{TaskId, Unit};
use crate::llm::{Ask, Carried, Complaint, Demand, Shortfall};
use crate::manifest::{Carry, OnError};
use crate::plan::{self, Collected, Collection, End, Piece, bug};
use crate::rows;
use crate::schema::Schema;
use crate::store::Gave;

/// What a piece's result is, as contents of outputs are.
type Texts = Vec<Arc<[u8]>>;

/// Collections that are being made, by their tasks.
pub(super) type Collections = HashMap<TaskId, Collecting>;

/// A collection that is being made.
pub(super) struct Collecting {
    made: Arc<Collection>,
    pieces: Vec<Held>,
    /// How many are asked for, or being kept.
    in_flight: usize,
    /// The window that is being made, where they go in order.
    window: usize,
    /// Parts of that window that are to be asked for one after the other, and how often they failed.
    parts: VecDeque<(Vec<usize>, u32)>,
    /// What is shown in that window.
    carried: Option<Arc<Carried>>,
    /// Whether nothing is taken from the store.
    is_anew: bool,
    /// Whether a model was asked for any of it.
    is_asked: bool,
    /// Tokens that were not spent because the store had pieces.
    saved: u64,
    /// Why pieces have no result.
    failed: Vec<Error>,
    /// How many items have none, or a default, because the rule says so.
    excused: usize,
}

/// A piece, and what came of it.
struct Held {
    piece: Piece,
    /// As it is stored.
    result: Option<String>,
    /// The halves that it was cut into because it failed.
    halves: Option<[usize; 2]>,
    /// The piece that it is a half of.
    of: Option<usize>,
}

impl Held {
    fn new(piece: Piece) -> Held {
        Held { piece, result: None, halves: None, of: None }
    }
}

/// A piece's result in the store, and the tokens that it took.
type Stored = (usize, String, u64);

/// What the store holds for pieces.
pub(super) struct Found {
    task: TaskId,
    /// The pieces of a window as they are asked for now that it is known what they are shown, from the first on.
    window: Option<(usize, Result<Vec<Piece>, Error>)>,
    /// Which have a result there, and what they took.
    results: Vec<Stored>,
}

/// A piece's result, held against the schema of one.
pub(super) fn judged(shared: &Shared, unit: Unit, schema: Option<&Schema>, contents: Texts) -> Result<Texts, Unfit> {
    if let Some(schema) = schema {
        let text = contents.first().map(|bytes| String::from_utf8_lossy(bytes)).unwrap_or_default();
        let value = serde_json::from_str::<Value>(&text).map_err(|e| format!("it is not JSON: {e}"));
        value.and_then(|value| schema.check(&value)).map_err(|message| {
            let path = shared.graph.name(unit).clone();
            Unfit::Not(Complaint { demand: Demand::OutputSchema, path, message })
        })?;
    }
    Ok(contents)
}

/// The results that the store holds: those that passed, and replies that a killed run left, if they pass.
fn look_up(shared: &Shared, task: TaskId, pieces: &[(usize, Piece)]) -> Vec<Stored> {
    let mut replied: Vec<(usize, &Piece, Texts)> = Vec::new();
    let mut found = Vec::new();
    for (at, piece) in pieces {
        let blob = |action: &crate::store::Action| shared.store.get(action.outputs.first()?);
        let there = shared.store.get_action(&piece.key).and_then(|action| Some((blob(&action)?, action)));
        if let Some((bytes, action)) = there {
            let tokens = action.input_tokens + action.output_tokens;
            found.push((*at, String::from_utf8_lossy(&bytes).into_owned(), tokens));
            continue;
        }
        let Some(texts) = shared.store.last_reply(&piece.key).filter(|texts| texts.len() == 1) else { continue };
        let contents: Texts = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
        match judged(shared, Unit::piece(task, *at), piece.ask.schema.as_deref(), contents) {
            Ok(contents) => replied.push((*at, piece, contents)),
            Err(_) => shared.store.reject_replies(&piece.key),
        }
    }
    let gave = replied.iter().map(|(_, piece, contents)| Gave {
        key: piece.key,
        contents,
        model: Some(piece.ask.model.clone()),
        usage: crate::llm::Usage::default(),
    });
    // What cannot be kept is there all the same.
    let _ = making::store(shared, &gave.collect::<Vec<_>>());
    let text = |contents: &[Arc<[u8]>]| contents.first().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    found.extend(replied.iter().filter_map(|(at, _, contents)| Some((*at, text(contents)?, 0))));
    found
}

impl Run<'_> {
    /// A collection that is to be made.
    pub(super) fn collect(&mut self, task: TaskId, made: Arc<Collection>, is_anew: bool) {
        self.schedule.waits_for_pieces(task);
        let pieces = made.pieces.iter().cloned().map(Held::new).collect();
        let collecting = Collecting {
            made,
            pieces,
            in_flight: 0,
            window: 0,
            parts: VecDeque::new(),
            carried: None,
            is_anew,
            is_asked: false,
            saved: 0,
            failed: Vec::new(),
            excused: 0,
        };
        let is_in_order = collecting.is_in_order();
        let pieces: Vec<(usize, Piece)> = collecting.pieces.iter().map(|held| held.piece.clone()).enumerate().collect();
        self.collections.insert(task, collecting);
        if is_in_order {
            return self.begin_window(task);
        }
        let shared = Arc::clone(&self.shared);
        self.look(task, move || {
            let results = if is_anew { Vec::new() } else { look_up(&shared, task, &pieces) };
            Found { task, window: None, results }
        });
    }

    /// Looks something up off this thread.
    fn look(&mut self, task: TaskId, job: impl FnOnce() -> Found + Send + 'static) {
        self.schedule.works();
        self.spawn_pieces(task, move || Report::Found(Box::new(job())));
    }

    /// Renders the window whose turn it is, and looks up what is there of it.
    fn begin_window(&mut self, task: TaskId) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        let at = collecting.window;
        let Some(range) = collecting.made.windows.get(at).cloned() else { return self.put_together(task) };
        let carried = Arc::new(collecting.made.carried(&collecting.before(range.start)));
        collecting.carried = Some(Arc::clone(&carried));
        let (made, is_anew, shared) = (Arc::clone(&collecting.made), collecting.is_anew, Arc::clone(&self.shared));
        self.look(task, move || {
            let pieces = made.window_of(at, &carried);
            let numbered: Vec<(usize, Piece)> = range.clone().zip(pieces.iter().flatten().cloned()).collect();
            let results = if is_anew { Vec::new() } else { look_up(&shared, task, &numbered) };
            Found { task, window: Some((range.start, pieces)), results }
        });
    }

    /// What the store holds is known: the rest is asked for.
    pub(super) fn found(&mut self, found: Found) {
        self.schedule.rests();
        let Found { task, window, results } = found;
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        let range = match window {
            None => 0..collecting.pieces.len(),
            Some((start, Ok(pieces))) => {
                let range = start..start + pieces.len();
                for (held, piece) in collecting.pieces[range.clone()].iter_mut().zip(pieces) {
                    held.piece = piece;
                }
                range
            }
            Some((_, Err(error))) => {
                let error = error.in_rule(&self.shared.graph.rule(task).name);
                return self.fail(task, Status::Failed, error);
            }
        };
        for (at, result, saved) in results {
            collecting.saved += saved;
            collecting.pieces[at].result = Some(result);
        }
        let missing: Vec<usize> = range.filter(|at| collecting.pieces[*at].result.is_none()).collect();
        if missing.is_empty() {
            return self.go_on(task);
        }
        self.ask_for(task, &missing, 0);
    }

    /// Asks for pieces: each finds its own company, or together and with nobody else where windows go in order.
    fn ask_for(&mut self, task: TaskId, pieces: &[usize], failures: u32) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        collecting.is_asked = true;
        collecting.in_flight += pieces.len();
        let (is_in_order, window) = (collecting.is_in_order(), collecting.window);
        let asked: Vec<(Unit, Piece)> =
            pieces.iter().map(|at| (Unit::piece(task, *at), collecting.pieces[*at].piece.clone())).collect();
        for (unit, piece) in &asked {
            let underway = self.underway.entry(*unit).or_insert_with(Underway::now);
            (underway.key, underway.ask) = (Some(piece.key), Some(Arc::clone(&piece.ask)));
        }
        let mut units = Vec::new();
        for (unit, _) in &asked {
            // One that cannot be asked for may have ended them all.
            if !self.collections.contains_key(&task) {
                return;
            }
            match is_in_order {
                false => self.needs_model(*unit),
                true => units.extend(self.may_need_model(*unit).map(|_| *unit)),
            }
        }
        if let (Some(first), Some((_, piece))) = (units.first(), asked.first()) {
            let of_piece = plan::travel(&self.shared.ground(), *first, &piece.ask).shape;
            let shape = plan::window_shape(of_piece, task, window);
            self.schedule.sends(Batch { shape, tasks: units, failures });
        }
    }

    /// Keeps the results of pieces, and goes on with them when they are kept.
    pub(super) fn keep_pieces(&mut self, pieces: Vec<(Unit, Texts)>) {
        let of = |(unit, contents): (Unit, Texts)| {
            let underway = self.underway.get(&unit)?;
            let (key, ask, usage) = (underway.key?, underway.ask.clone()?, underway.usage);
            Some((unit, key, ask, usage, contents))
        };
        let mut pieces: Vec<_> = pieces.into_iter().filter_map(of).collect();
        while let Some((first, ..)) = pieces.first() {
            let task = first.task;
            let of_task: Vec<_> = pieces.extract_if(.., |(unit, ..)| unit.task == task).collect();
            self.schedule.works();
            let shared = Arc::clone(&self.shared);
            self.spawn_pieces(task, move || {
                let gave = of_task.iter().map(|(_, key, ask, usage, contents)| Gave {
                    key: *key,
                    contents,
                    model: Some(ask.model.clone()),
                    usage: *usage,
                });
                let kept = making::store(&shared, &gave.collect::<Vec<_>>());
                let text = |contents: &[Arc<[u8]>]| {
                    contents.first().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
                };
                let results = of_task.iter().map(|(unit, .., contents)| (*unit, text(contents))).collect();
                Report::Kept(task, results, kept)
            });
        }
    }

    /// Results of pieces are kept.
    pub(super) fn kept(&mut self, task: TaskId, results: Vec<(Unit, String)>, kept: Result<(), Error>) {
        self.schedule.rests();
        if let Err(error) = kept {
            if self.collections.contains_key(&task) {
                self.fail(task, Status::Failed, error);
            }
            return;
        }
        for (unit, result) in results {
            self.underway.remove(&unit);
            let Some(collecting) = self.collections.get_mut(&task) else { return };
            collecting.in_flight -= 1;
            if let Some(at) = unit.piece {
                collecting.pieces[at].result = Some(result);
            }
        }
        self.go_on(task);
    }

    /// A task, or a piece of one, that got no result.
    pub(super) fn fail_unit(&mut self, unit: Unit, error: Error) {
        let (task, Some(at)) = (unit.task, unit.piece) else { return self.fail(unit.task, Status::Failed, error) };
        self.underway.remove(&unit);
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        collecting.in_flight -= 1;
        let is_own = is_of_the_recipe(error.code) && !self.interrupted;
        // What is about many items at once may be too much for one answer.
        if is_own && collecting.pieces[at].piece.items.len() > 1 {
            return match collecting.halve(at) {
                Ok(halves) if collecting.is_in_order() => {
                    halves.into_iter().rev().for_each(|half| collecting.parts.push_front((vec![half], 0)));
                    self.go_on(task);
                }
                Ok(halves) => self.ask_for(task, &halves, 0),
                Err(error) => self.fail(task, Status::Failed, error),
            };
        }
        let on_error = self.shared.graph.rule(task).on_error.clone();
        let label = collecting.pieces[at].piece.ask.piece.clone().unwrap_or_default();
        let error = Error { message: format!("`{label}`: {}", error.message), ..error };
        let items = collecting.pieces[at].piece.items.clone();
        match on_error {
            OnError::Default(value) if is_own => {
                collecting.pieces[at].result = Some(collecting.made.default_of(&value, items.clone()));
            }
            OnError::Skip if is_own => {}
            _ => {
                collecting.failed.push(error);
                if !self.options.keep_going {
                    return self.give_up(task);
                }
                return self.go_on(task);
            }
        }
        collecting.excused += items.len();
        (self.emit)(Event::Excused { path: self.shared.graph.name(task).clone(), error });
        self.go_on(task);
    }

    /// Pieces of a window that an answer did not bring: asked for again in smaller company, one part after the other, each shown what
    /// has come before it by then.
    pub(super) fn ask_parts(&mut self, batch: &Batch, missing: &[Unit], why: &Shortfall) {
        let Some(task) = missing.first().map(|unit| unit.task) else { return };
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        collecting.in_flight -= missing.len();
        let pieces: Vec<usize> = missing.iter().filter_map(|unit| unit.piece).collect();
        let size = batch::company(batch, missing.len(), why);
        let parts = pieces.chunks(size.max(1)).rev().map(|part| (part.to_vec(), batch.failures + 1));
        parts.for_each(|part| collecting.parts.push_front(part));
        self.go_on(task);
    }

    /// Whether these are pieces of a window that goes in its order.
    pub(super) fn is_in_order(&self, unit: Unit) -> bool {
        self.collections.get(&unit.task).is_some_and(Collecting::is_in_order)
    }

    /// Whether there is a window behind that of a batch, which is shown all of it.
    pub(super) fn is_gone_on_from(&self, unit: Unit) -> bool {
        self.collections.get(&unit.task).is_some_and(|collecting| {
            collecting.made.carry == Some(Carry::All) && collecting.window + 1 < collecting.made.windows.len()
        })
    }

    /// Goes on with what is next of a collection, when nothing of it is under way.
    fn go_on(&mut self, task: TaskId) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        if collecting.in_flight > 0 {
            return;
        }
        collecting.join_halves();
        if let Some((part, failures)) = collecting.parts.pop_front() {
            return match collecting.refresh(&part) {
                Ok(()) => self.ask_for(task, &part, failures),
                Err(error) => self.fail(task, Status::Failed, error),
            };
        }
        if !collecting.failed.is_empty() {
            return self.give_up(task);
        }
        if !collecting.is_in_order() {
            return self.put_together(task);
        }
        if let Err(error) = collecting.window_is_whole(&self.shared) {
            return self.fail(task, Status::Failed, error);
        }
        collecting.window += 1;
        self.begin_window(task);
    }

    /// A collection some of whose pieces have no result.
    fn give_up(&mut self, task: TaskId) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        let mut failed = std::mem::take(&mut collecting.failed);
        let more = failed.len().saturating_sub(1);
        let Some(error) = (!failed.is_empty()).then(|| failed.swap_remove(0)) else { return };
        let error = match more {
            0 => error,
            1 => error.hint("one more of its items failed"),
            more => error.hint(format!("{more} more of its items failed")),
        };
        self.fail(task, Status::Failed, error.hint("what has arrived is kept, and not asked for again"));
    }

    /// Writes the results of all pieces as one file.
    fn put_together(&mut self, task: TaskId) {
        let Some(collecting) = self.collections.remove(&task) else { return };
        let of = |u: &Underway| Some((u.key?, u.usage, Arc::clone(&u.edits)));
        let Some((key, usage, edits)) = self.underway.get(&task.into()).and_then(of) else {
            return self.fail(task, Status::Failed, bug("a collection without a key"));
        };
        self.schedule.resumes(task);
        let shared = Arc::clone(&self.shared);
        self.spawn_local(task, move || {
            let made = collecting.written(&shared, task).and_then(|(contents, collected)| {
                let contents =
                    conclude(&shared, task, None, contents).map_err(|unfit| unfit.into_error(&shared, task))?;
                let ready = Ready { task, key, contents, edits };
                let good = Good { ready, model: Some(collecting.made.model().to_owned()), usage };
                let made = making::finish(&shared, good)?;
                let status = if collecting.is_asked { Status::Generated } else { Status::Restored };
                let model = Some(collecting.made.model().to_owned());
                Ok(making::Made { saved: collecting.saved, model, collected: Some(collected), ..made.by(status) })
            });
            Report::Made(task, made)
        });
    }
}

impl Collecting {
    fn is_in_order(&self) -> bool {
        self.made.carry.is_some()
    }

    /// What was asked and answered before a piece.
    fn before(&self, piece: usize) -> Vec<(Arc<Ask>, Option<String>)> {
        self.pieces[..piece].iter().map(|held| (Arc::clone(&held.piece.ask), held.result.clone())).collect()
    }

    /// Shows a part of a window what has come before it by now. What its results are stored by stays.
    fn refresh(&mut self, part: &[usize]) -> Result<(), Error> {
        let Some(first) = part.first() else { return Ok(()) };
        let at = self.pieces[*first].of.unwrap_or(*first);
        let mut before = self.before(at);
        // The first half of what was cut in two.
        if let Some([half, second]) = self.pieces[at].halves
            && second == *first
        {
            let held = &self.pieces[half];
            before.push((Arc::clone(&held.piece.ask), held.result.clone()));
        }
        let carried = Arc::new(self.made.carried(&before));
        for at in part {
            let held = &mut self.pieces[*at];
            if let Some(fresh) = self.made.pieces_of(held.piece.items.clone(), Some(&carried))?.pop() {
                held.piece.ask = fresh.ask;
            }
        }
        Ok(())
    }

    /// Cuts a piece in two.
    fn halve(&mut self, at: usize) -> Result<[usize; 2], Error> {
        let Range { start, end } = self.pieces[at].piece.items.clone();
        let middle = start + (end - start) / 2;
        let mut halves = [0; 2];
        for (half, items) in halves.iter_mut().zip([start..middle, middle..end]) {
            let Some(mut piece) = self.made.pieces_of(items, self.carried.as_ref())?.pop() else {
                return Err(bug("a half of nothing"));
            };
            if self.is_in_order() {
                // What it is shown is in the key of the whole.
                let of = crate::digest::Framed::new("genmake-half-1").field(self.pieces[at].piece.key.bytes());
                piece.key = of.field((piece.items.start as u64).to_le_bytes()).finish();
            }
            *half = self.pieces.len();
            self.pieces.push(Held { of: Some(at), ..Held::new(piece) });
        }
        self.pieces[at].halves = Some(halves);
        Ok(halves)
    }

    /// Gives what was cut in two the results of its halves. The halves of halves stand behind them.
    fn join_halves(&mut self) {
        for at in (0..self.pieces.len()).rev() {
            let Some(halves) = self.pieces[at].halves.filter(|_| self.pieces[at].result.is_none()) else { continue };
            let results = halves.map(|half| self.pieces[half].result.as_deref().map(results_in));
            if let [Some(mut first), Some(second)] = results {
                first.extend(second);
                self.pieces[at].result = Some(json!({"results": first}).to_string());
            }
        }
    }

    /// A window whose pieces all have a result is stored as such, however it was asked for.
    fn window_is_whole(&self, shared: &Shared) -> Result<(), Error> {
        let range = self.made.windows.get(self.window).cloned().unwrap_or_default();
        let cut = self.pieces[range].iter().filter(|held| held.halves.is_some());
        let cut: Vec<(Digest, Vec<Arc<[u8]>>)> =
            cut.filter_map(|held| Some((held.piece.key, vec![Arc::from(held.result.as_ref()?.as_bytes())]))).collect();
        store_whole(shared, &cut, self.made.model())
    }

    /// The text of the output, and what is in it.
    fn written(&self, shared: &Shared, task: TaskId) -> Result<(Texts, Collected), Error> {
        let planned = &self.pieces[..self.made.pieces.len()];
        let rows = self.made.rows(planned.iter().flat_map(|held| self.results_of(held)));
        let path = shared.graph.name(task);
        let mut text = Vec::new();
        rows::write(path, &rows.rows, &mut text)
            .map_err(|e| Error::new(Code::BadValue, format!("`{path}` cannot be written: {e}")))?;
        let collected = Collected {
            items: self.made.items(),
            results: rows.rows.len(),
            dropped: rows.dropped,
            failed: self.excused,
        };
        Ok((vec![text.into()], collected))
    }

    /// A piece's result, or those that parts of it have.
    fn results_of<'a>(&'a self, held: &'a Held) -> Vec<&'a str> {
        match (&held.result, held.halves) {
            (Some(result), _) => vec![result],
            (None, Some(halves)) => halves.iter().flat_map(|half| self.results_of(&self.pieces[*half])).collect(),
            (None, None) => Vec::new(),
        }
    }
}

/// Enters what came in parts under the key of the whole.
fn store_whole(shared: &Shared, whole: &[(Digest, Texts)], model: &str) -> Result<(), Error> {
    let gave = whole.iter().map(|(key, contents)| Gave {
        key: *key,
        contents,
        model: Some(model.to_owned()),
        usage: crate::llm::Usage::default(),
    });
    let gave: Vec<Gave> = gave.collect();
    if gave.is_empty() { Ok(()) } else { making::store(shared, &gave) }
}

/// The results in an answer of any number of them.
fn results_in(text: &str) -> Vec<Value> {
    match serde_json::from_str::<Value>(text).ok().and_then(|mut value| value.get_mut("results").map(Value::take)) {
        Some(Value::Array(results)) => results,
        _ => Vec::new(),
    }
}

impl Run<'_> {
    /// Ends what is skipped because nothing is sent any more.
    pub(super) fn skip_units(&mut self, units: &[Unit]) {
        units.iter().for_each(|unit| self.schedule.ended(unit.task, End::Skipped));
    }
}
