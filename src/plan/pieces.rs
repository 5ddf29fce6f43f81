//! A collection's pieces on their way: which of them are missing, what each window is shown of those before it, and what they are cut into.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::collection::{Collection, Piece};
use super::results::results_in;
use super::{Ground, Stored};
use crate::digest::{Digest, Framed};
use crate::error::Error;
use crate::files::Files;
use crate::graph::TaskId;
use crate::llm::{Ask, Carried, turns};
use crate::lock;
use crate::manifest::Carry;

/// What was asked for some items, and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// The first of the items.
    pub item: usize,
    /// What was asked.
    pub ask: &'a Ask,
    /// The result, if there is one.
    pub result: Option<&'a str>,
}

/// How far windows in order have results.
struct Walked {
    /// The pieces of those that are whole, and their results.
    done: Vec<(Piece, String)>,
    /// How many these are.
    windows: usize,
    /// The pieces of the first that is not.
    next: Vec<Piece>,
}

/// What came of a collection's items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many items there are.
    pub items: usize,
    /// How many results are in the output.
    pub results: usize,
    /// What `unique_by` dropped: the value of each that was there already.
    pub dropped: Vec<String>,
    /// How many items failed, and are skipped or have a default.
    pub failed: usize,
}

impl Collection {
    /// The pieces of a window in order, with what it is shown in their keys.
    ///
    /// # Errors
    /// What cannot be rendered.
    pub fn window_of(&self, window: usize, carried: &Arc<Carried>) -> Result<Vec<Piece>, Error> {
        let pieces = &self.pieces[self.windows[window].clone()];
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(Vec::new()) };
        let mut pieces = self.pieces_of(first.items.start..last.items.end, Some(carried))?;
        let mut whole = Framed::new("genmake-window-1");
        match &**carried {
            Carried::Results(results) => whole = results.iter().fold(whole, |whole, result| whole.field(result)),
            Carried::Turns(turns) => {
                whole = turns.iter().fold(whole, |whole, turn| whole.field(turn.role.name()).field(&turn.text));
            }
        }
        let whole = pieces.iter().fold(whole, |whole, piece| whole.field(piece.key.bytes())).finish();
        for (at, piece) in pieces.iter_mut().enumerate() {
            let framed = Framed::new("genmake-window-piece-1").field(whole.bytes());
            piece.key = framed.field((at as u64).to_le_bytes()).finish();
        }
        Ok(pieces)
    }

    /// A piece in two, if it is of several items.
    ///
    /// # Errors
    /// What cannot be rendered.
    pub fn halves_of(&self, piece: &Piece, carried: Option<&Arc<Carried>>) -> Result<Option<[Piece; 2]>, Error> {
        let Range { start, end } = piece.items;
        if end - start < 2 {
            return Ok(None);
        }
        let middle = start + (end - start) / 2;
        let half = |items: Range<usize>| {
            let mut half = self.pieces_of(items, carried)?.pop();
            let half = half.as_mut().ok_or_else(|| super::bug("a half of nothing"))?;
            // What it is shown is in the key of the whole, and what is a window elsewhere is no half of this one.
            let framed = Framed::new("genmake-half-1").field(piece.key.bytes());
            half.key = framed.field(((half.items.start - start) as u64).to_le_bytes()).finish();
            Ok(half.clone())
        };
        Ok(Some([half(start..middle)?, half(middle..end)?]))
    }

    /// What is shown of all that was said before, in the order of the items; what has no result is passed over.
    pub fn carried<'a>(&self, before: impl DoubleEndedIterator<Item = Said<'a>>) -> Carried {
        let results = before.filter_map(|said| Some((said.item, said.ask, said.result?)));
        match self.carry {
            Some(Carry::All) => {
                let mut windows: Vec<(usize, Vec<&Ask>, Vec<&str>)> = Vec::new();
                for (item, ask, result) in results {
                    let window = self.windows.partition_point(|window| self.pieces[window.start].items.start <= item);
                    match windows.last_mut() {
                        // Where a piece is a window, its halves are turns of their own.
                        Some((at, asks, said)) if *at == window && !self.is_free() => {
                            asks.push(ask);
                            said.push(result);
                        }
                        _ => windows.push((window, vec![ask], vec![result])),
                    }
                }
                Carried::Turns(windows.iter().flat_map(|(_, asks, results)| turns(asks, results)).collect())
            }
            last => {
                let most = if let Some(Carry::Last(most)) = last { most } else { 0 };
                let mut shown: Vec<String> =
                    results.rev().flat_map(|(.., result)| self.one_by_one(result)).take(most).collect();
                shown.reverse();
                Carried::Results(shown)
            }
        }
    }

    /// The single results in that of a piece, the last one first.
    fn one_by_one(&self, result: &str) -> Vec<String> {
        if !self.is_free() {
            return vec![result.to_owned()];
        }
        let results = results_in(result).into_iter().rev();
        results.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
    }

    /// The pieces that are asked for if all is; what is wanted twice is asked for once.
    pub fn all(&self) -> Vec<usize> {
        let mut seen = HashSet::new();
        let is_asked = |at: &usize| self.carry.is_some() || seen.insert(self.pieces[*at].key);
        (0..self.pieces.len()).filter(is_asked).collect()
    }

    /// The pieces that the store has no result for. In a collection that carries, one that is missing changes what comes after it,
    /// as far as anybody can know.
    pub(super) fn missing(&self, ground: &Ground, id: TaskId, files: &dyn Files) -> Vec<usize> {
        let store = ground.store;
        let standing = self.standing(ground.graph, id, ground.lock, files);
        let stands = |key: &Digest| standing.get(&lock::row_key(key));
        let is_there = |key: &Digest| {
            store.action(key).is_some() || stands(key).is_some() || store.has_reply(key) || store.is_submitted(key)
        };
        if self.carry.is_none() {
            return self.all().into_iter().filter(|at| !is_there(&self.pieces[*at].key)).collect();
        }
        let result = |key: &Digest| -> Option<String> {
            match store.action(key) {
                Some(digests) => String::from_utf8(files.blob(digests.first()?).ok()?.to_vec()).ok(),
                None => stands(key).cloned(),
            }
        };
        let Walked { windows, next, .. } = self.walk(&result);
        let Some(window) = self.windows.get(windows) else { return Vec::new() };
        // A reply that a killed run left is used, if it is good; what comes behind it nobody knows.
        let is_missing = |at: &usize| next.get(at - window.start).is_none_or(|piece| !is_there(&piece.key));
        window.clone().filter(is_missing).chain(window.end..self.pieces.len()).collect()
    }

    /// What its pieces are stored by as far as the store has their results: of windows in order until one that it lacks.
    pub fn keys(&self, store: &dyn Stored, content: &dyn Fn(&Digest) -> Option<Arc<[u8]>>) -> Vec<Digest> {
        if self.carry.is_none() {
            return self.pieces.iter().map(|piece| piece.key).collect();
        }
        let result =
            |key: &Digest| -> Option<String> { String::from_utf8(content(store.action(key)?.first()?)?.to_vec()).ok() };
        let Walked { done, next, .. } = self.walk(&result);
        done.iter().map(|(piece, _)| piece).chain(&next).map(|piece| piece.key).collect()
    }

    /// Goes along the windows as long as there are results.
    fn walk(&self, result: &dyn Fn(&Digest) -> Option<String>) -> Walked {
        let mut before: Vec<(Piece, String)> = Vec::new();
        for (at, window) in self.windows.iter().enumerate() {
            let said = before.iter().map(|(piece, result)| Said {
                item: piece.items.start,
                ask: &piece.ask,
                result: Some(result),
            });
            let carried = Arc::new(self.carried(said));
            let pieces = self.window_of(at, &carried).unwrap_or_default();
            let results: Option<Vec<String>> = pieces.iter().map(|piece| result(&piece.key)).collect();
            match results.filter(|results| results.len() == window.len()) {
                Some(results) => before.extend(pieces.into_iter().zip(results)),
                None => return Walked { done: before, windows: at, next: pieces },
            }
        }
        Walked { done: before, windows: self.windows.len(), next: Vec::new() }
    }
}
