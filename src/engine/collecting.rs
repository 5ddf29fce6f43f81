//! Collections: their pieces are looked up, asked for, kept, and put together when all are there.
//!
//! A piece that came is in the store before anything is done with it, so that a run that is killed asks for what is missing alone.
//! Where windows go in order, the next is rendered when the one before is whole.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::making::{self, Good, Ready};
use super::rounds::Asking;
use super::running::{Unfit, conclude};
use super::settle::is_of_the_recipe;
use super::{Report, Run, Shared, Underway};
use crate::batch::Batch;
use crate::digest::Digest;
use crate::error::Error;
use crate::event::{Event, Status};
use crate::graph::{TaskId, Unit};
use crate::llm::{Carried, Complaint, Demand};
use crate::lock::{self, RowKey};
use crate::manifest::OnError;
use crate::plan::{self, Collection, End, Piece, bug};
use crate::schema::Schema;
use crate::store::Gave;

/// What a piece's result is, as contents of outputs are.
pub(super) type Texts = Vec<Arc<[u8]>>;

/// Collections that are being made, by their tasks.
pub(super) type Collections = HashMap<TaskId, Collecting>;

/// A collection that is being made.
pub(super) struct Collecting {
    pub made: Arc<Collection>,
    pub pieces: Vec<Held>,
    /// How many are asked for, or being kept.
    pub in_flight: usize,
    /// The window that is being made, where they go in order.
    pub window: usize,
    /// The first window that a model was asked for.
    pub first_asked: Option<usize>,
    /// Parts of that window that are to be asked for one after the other, and how often they failed.
    pub parts: VecDeque<(Vec<usize>, u32)>,
    /// What is shown in that window.
    carried: Option<Arc<Carried>>,
    /// The pieces that were cut in two and are not together yet, in that order.
    pub cut: Vec<usize>,
    /// Pieces that ask what another does, by that.
    twins: HashMap<usize, Vec<usize>>,
    /// What stands in the output.
    standing: Arc<Standing>,
    /// Whether nothing is taken from the store.
    is_anew: bool,
    /// Whether a model was asked for any of it.
    is_asked: bool,
    /// Tokens that were not spent because the store had pieces.
    saved: u64,
    /// Why pieces have no result.
    failed: Vec<Error>,
    /// How many items have none, or a default, because the rule says so.
    pub excused: usize,
}

/// A piece, and what came of it.
pub(super) struct Held {
    pub piece: Piece,
    /// As it is stored.
    pub result: Option<String>,
    /// Whether a default is in that.
    pub is_default: bool,
    /// The halves that it was cut into because it failed.
    pub halves: Option<[usize; 2]>,
}

impl Held {
    pub fn new(piece: Piece) -> Held {
        Held { piece, result: None, is_default: false, halves: None }
    }
}

/// A piece's result in the store, and the tokens that it took.
type Stored = (usize, String, u64);

/// What the store holds for pieces.
pub(super) struct Found {
    task: TaskId,
    /// The pieces of a window as they are asked for now that it is known what they are shown, from the first on.
    window: Option<(usize, Vec<Piece>)>,
    /// What it holds, or why that is not to be known, or not to be asked for.
    there: Result<There, Error>,
}

/// What there is of pieces.
#[derive(Default)]
struct There {
    /// Which have a result, and what they took.
    results: Vec<Stored>,
    /// Which were cut in two, and the pieces that are added for that.
    cut: Vec<(usize, [Piece; 2])>,
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

/// The results that stand in an output, by what they are stored by.
type Standing = HashMap<RowKey, String>;

/// The results that the store holds, and the output that stands there: those that passed, and replies that a killed run left, if they pass.
fn look_up(shared: &Shared, task: TaskId, pieces: &[(usize, Piece)], standing: &Standing) -> Vec<Stored> {
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
        let stands = || standing.get(&lock::row_key(&piece.key)).map(|text| vec![text.clone()]);
        let replied_with = shared.store.last_reply(&piece.key).filter(|texts| texts.len() == 1);
        let Some(texts) = replied_with.or_else(stands) else { continue };
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

/// What there is of pieces of which a window is made, or all; what is added to them stands behind all others, at `end`. What will be
/// asked for is looked through for what nobody should be sent.
fn there(
    shared: &Shared,
    task: TaskId,
    made: &Collection,
    carried: Option<&Arc<Carried>>,
    (pieces, mut end): (&[(usize, Piece)], usize),
    standing: &Standing,
) -> Result<There, Error> {
    let mut there = There { results: look_up(shared, task, pieces, standing), ..There::default() };
    let is_there: HashSet<usize> = there.results.iter().map(|(at, ..)| *at).collect();
    let mut open: Vec<(usize, Piece)> = pieces.iter().filter(|(at, _)| !is_there.contains(at)).cloned().collect();
    let mut asked = Vec::new();
    while let Some((at, piece)) = open.pop() {
        // What was asked for in halves by a run before this one is no window any more.
        let halves = if made.is_free() { made.halves_of(&piece, carried)? } else { None };
        let halves = halves.map(|[first, second]| [(end, first), (end + 1, second)]);
        let found = halves.as_ref().map(|halves| look_up(shared, task, halves, standing)).unwrap_or_default();
        match halves {
            Some(halves) if !found.is_empty() => {
                there.cut.push((at, halves.clone().map(|(_, half)| half)));
                open.extend(halves.into_iter().filter(|(half, _)| found.iter().all(|(at, ..)| at != half)));
                there.results.extend(found);
                end += 2;
            }
            _ => asked.push(piece),
        }
    }
    no_secret(shared, task, asked.iter())?;
    Ok(there)
}

/// That nothing is asked for with what nobody should be sent.
fn no_secret<'a>(shared: &Shared, task: TaskId, mut pieces: impl Iterator<Item = &'a Piece>) -> Result<(), Error> {
    let rule = shared.graph.rule(task);
    let look = |piece: &Piece| plan::no_secret(&shared.ground(), task, &piece.ask, &shared.files);
    pieces.try_for_each(look).map_err(|e| e.in_rule(&rule.name).at(rule.place.clone()))
}

impl Run<'_> {
    /// A collection that is to be made.
    pub(super) fn collect(&mut self, task: TaskId, made: Arc<Collection>, is_anew: bool) {
        self.schedule.waits_for_pieces(task);
        let pieces = made.pieces.iter().cloned().map(Held::new).collect();
        let shared = &self.shared;
        let standing = Arc::new(made.standing(&shared.graph, task, &shared.lock, &shared.files));
        let collecting = Collecting {
            made: Arc::clone(&made),
            pieces,
            in_flight: 0,
            window: 0,
            first_asked: None,
            parts: VecDeque::new(),
            carried: None,
            cut: Vec::new(),
            twins: HashMap::new(),
            standing: Arc::clone(&standing),
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
        let (shared, made) = (Arc::clone(&self.shared), Arc::clone(&made));
        let standing = Arc::clone(&standing);
        self.look(task, move || {
            let none = || Ok(There::default());
            let there =
                if is_anew { none() } else { there(&shared, task, &made, None, (&pieces, pieces.len()), &standing) };
            Found { task, window: None, there }
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
        let first = collecting.made.pieces[range.start].items.start;
        let carried = Arc::new(collecting.made.carried(collecting.before(first)));
        collecting.carried = Some(Arc::clone(&carried));
        let (made, is_anew, shared) = (Arc::clone(&collecting.made), collecting.is_anew, Arc::clone(&self.shared));
        let (end, standing) = (collecting.pieces.len(), Arc::clone(&collecting.standing));
        self.look(task, move || {
            let looked = made.window_of(at, &carried).and_then(|pieces| {
                let numbered: Vec<(usize, Piece)> = range.clone().zip(pieces.iter().cloned()).collect();
                let there = match is_anew {
                    true => no_secret(&shared, task, pieces.iter()).map(|()| There::default()),
                    false => there(&shared, task, &made, Some(&carried), (&numbered, end), &standing),
                };
                there.map(|there| (pieces, there))
            });
            let (pieces, there) = looked.map_or_else(|error| (Vec::new(), Err(error)), |(p, there)| (p, Ok(there)));
            Found { task, window: Some((range.start, pieces)), there }
        });
    }

    /// What the store holds is known: the rest is asked for.
    pub(super) fn found(&mut self, found: Found) {
        self.schedule.rests();
        let Found { task, window, there } = found;
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        let There { results, cut } = match there {
            Ok(there) => there,
            Err(error) => {
                let error = error.in_rule(&self.shared.graph.rule(task).name);
                return self.fail(task, Status::Failed, error);
            }
        };
        let range = match window {
            None => 0..collecting.pieces.len(),
            Some((start, pieces)) => {
                let range = start..start + pieces.len();
                for (held, piece) in collecting.pieces[range.clone()].iter_mut().zip(pieces) {
                    held.piece = piece;
                }
                range
            }
        };
        for (at, halves) in cut {
            collecting.cut(at, halves);
        }
        for (at, result, saved) in results {
            collecting.saved += saved;
            collecting.pieces[at].result = Some(result);
        }
        let all = range.len();
        let mut missing = collecting.open(range);
        if missing.is_empty() {
            return self.go_on(task);
        }
        if !collecting.is_in_order() {
            collecting.find_twins(&mut missing);
            return self.ask_for(task, &missing, 0);
        }
        if self.options.asking != Asking::Now {
            return self.leave_in_order(task);
        }
        let ask = &collecting.pieces[missing[0]].piece.ask;
        let terms = plan::travel(&self.shared.ground(), &*self.shared, Unit::piece(task, missing[0]), ask).terms;
        let together = if self.options.batch { terms.together() } else { 1 };
        if missing.len() == all && all <= together {
            return self.ask_for(task, &missing, 0);
        }
        missing.chunks(together).for_each(|part| collecting.queue(part.to_vec(), 0));
        self.go_on(task);
    }

    /// Windows in order do not go into a round: each waits for the one before.
    fn leave_in_order(&mut self, task: TaskId) {
        if self.options.asking == Asking::Later {
            let path = self.shared.graph.name(task).clone();
            let what = format!(
                "`{path}` is not submitted: each of its windows waits for the one before; `genmake` asks for them at once"
            );
            (self.emit)(Event::Warned { path, what });
        }
        self.leave(task);
    }

    /// Asks for pieces: each finds its own company, or together and with nobody else where windows go in order.
    fn ask_for(&mut self, task: TaskId, pieces: &[usize], failures: u32) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        collecting.is_asked = true;
        collecting.first_asked.get_or_insert(collecting.window);
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
            let of_piece = plan::travel(&self.shared.ground(), &*self.shared, *first, &piece.ask).shape;
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
            let all = unit.piece.map(|at| collecting.and_twins(at)).unwrap_or_default();
            for at in all {
                collecting.pieces[at].result = Some(result.clone());
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
        let is_own = is_of_the_recipe(error.code) && self.interrupted.is_none();
        let rule = self.shared.graph.rule(task);
        // What is about many items at once may be too much for one answer.
        if is_own && rule.batching.fallback_on_failure {
            match collecting.halves_of(at) {
                Ok(Some(halves)) if collecting.is_in_order() => {
                    collecting.cut(at, halves).into_iter().for_each(|half| collecting.queue(vec![half], 0));
                    return self.go_on(task);
                }
                Ok(Some(halves)) => {
                    if let Err(error) = no_secret(&self.shared, task, halves.iter()) {
                        return self.fail(task, Status::Failed, error);
                    }
                    let halves = collecting.cut(at, halves);
                    return self.ask_for(task, &halves, 0);
                }
                Ok(None) => {}
                Err(error) => return self.fail(task, Status::Failed, error),
            }
        }
        let on_error = rule.on_error.clone();
        let label = collecting.pieces[at].piece.ask.piece.clone().unwrap_or_default();
        let error = Error { message: format!("`{label}`: {}", error.message), ..error };
        let all = collecting.and_twins(at);
        match on_error {
            OnError::Default(value) if is_own => {
                for at in &all {
                    let held = &mut collecting.pieces[*at];
                    held.result = Some(collecting.made.default_of(&value, held.piece.items.clone()));
                    held.is_default = true;
                }
            }
            OnError::Skip if is_own => {}
            _ => {
                collecting.failed.extend(all.iter().map(|_| error.clone()));
                if !self.options.keep_going {
                    return self.give_up(task);
                }
                return self.go_on(task);
            }
        }
        collecting.excused += all.iter().map(|at| collecting.pieces[*at].piece.items.len()).sum::<usize>();
        (self.emit)(Event::Excused { path: self.shared.graph.name(task).clone(), error });
        self.go_on(task);
    }

    /// Goes on with what is next of a collection, when nothing of it is under way.
    pub(super) fn go_on(&mut self, task: TaskId) {
        let Some(collecting) = self.collections.get_mut(&task) else { return };
        if collecting.in_flight > 0 {
            return;
        }
        let whole = collecting.join_halves();
        if let Err(error) = store_whole(&self.shared, &whole, collecting.made.model()) {
            return self.fail(task, Status::Failed, error);
        }
        // What comes behind a failure would be shown less than it should.
        if collecting.is_in_order() && !collecting.failed.is_empty() {
            return self.give_up(task);
        }
        if let Some((part, failures)) = collecting.parts.pop_front() {
            let shown = collecting.refresh(&part);
            let pieces = part.iter().map(|at| &collecting.pieces[*at].piece);
            return match shown.and_then(|()| no_secret(&self.shared, task, pieces)) {
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
            let made = collecting.written(&shared, task).and_then(|written| {
                let contents =
                    conclude(&shared, task, None, written.contents).map_err(|unfit| unfit.into_error(&shared, task))?;
                let ready = Ready { task, key, contents, edits };
                let good = Good { ready, model: Some(collecting.made.model().to_owned()), usage };
                let made = making::finish(&shared, good)?;
                let status = if collecting.is_asked { Status::Generated } else { Status::Restored };
                let model = Some(collecting.made.model().to_owned());
                let (collected, rows) = (Some(written.collected), written.rows);
                Ok(making::Made { saved: collecting.saved, model, collected, rows, ..made.by(status) })
            });
            Report::Made(task, made)
        });
    }
}

impl Collecting {
    /// Leaves one of those that ask the same.
    fn find_twins(&mut self, missing: &mut Vec<usize>) {
        let mut first: HashMap<Digest, usize> = HashMap::new();
        missing.retain(|at| {
            let of = *first.entry(self.pieces[*at].piece.key).or_insert(*at);
            if of != *at {
                self.twins.entry(of).or_default().push(*at);
            }
            of == *at
        });
    }

    /// A piece, and those that ask the same.
    fn and_twins(&mut self, at: usize) -> Vec<usize> {
        std::iter::once(at).chain(self.twins.remove(&at).into_iter().flatten()).collect()
    }

    fn halves_of(&self, at: usize) -> Result<Option<[Piece; 2]>, Error> {
        self.made.halves_of(&self.pieces[at].piece, self.carried.as_ref())
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

impl Run<'_> {
    /// Ends what is skipped because nothing is sent any more.
    pub(super) fn skip_units(&mut self, units: &[Unit]) {
        units.iter().for_each(|unit| self.schedule.ended(unit.task, End::Skipped));
    }
}
