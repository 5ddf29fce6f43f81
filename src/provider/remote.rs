//! A server over HTTP, as its wire format has it: one attempt, its answer whole or in pieces, and what it is found to refuse.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::embeds::Embeds;
use super::http::{Http, Incoming};
use super::keep::Keep;
use super::rounds::Rounds;
use super::sse::Events;
use super::turns::Turns;
use super::wire::{self, Pieces, Refusal, Refused, Wire};
use super::{Failure, FailureKind, Heard, mask};
use crate::cancel::Cancel;
use crate::llm::{Answer, EmbedRequest, Embedded, Request, Stop};

/// A server.
pub(super) struct Remote {
    pub wire: Box<dyn Wire>,
    pub http: Http,
    /// Its batch API, where it has one.
    pub rounds: Option<Box<dyn Rounds>>,
    /// How it is asked for vectors, if it makes any.
    embeds: Option<Box<dyn Embeds>>,
    /// What it is known to refuse, by model.
    refused: Mutex<HashMap<String, Refused>>,
    keep: Keep,
    pub cancel: Cancel,
}

/// How much of a stream is read at once.
const PIECE: usize = 16 << 10;

/// An attempt that brought no answer.
pub(super) struct Missed {
    pub failure: Failure,
    /// Whether the server refused something that it will be asked without.
    pub goes_otherwise: bool,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Missed {
        Missed { failure, goes_otherwise: false }
    }
}

impl Remote {
    pub fn new(
        wire: Box<dyn Wire>,
        http: Http,
        rounds: Option<Box<dyn Rounds>>,
        embeds: Option<Box<dyn Embeds>>,
        cancel: Cancel,
    ) -> Remote {
        Remote { wire, http, rounds, embeds, refused: Mutex::default(), keep: Keep::default(), cancel }
    }

    /// Learns what the server refused of requests to a model in earlier runs.
    pub fn learn(&self, model: &str, parts: impl IntoIterator<Item = String>, most_output: Option<u64>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = refused.entry(model.to_owned()).or_default();
        let parts = parts.into_iter().map(Refusal::Part);
        for refusal in parts.chain(most_output.map(Refusal::Output)) {
            of_model.note(refusal);
        }
    }

    /// What the server is known to refuse, by model: parts of requests, and answers of more tokens than so many.
    pub fn refused(&self) -> Vec<(String, BTreeSet<String>, Option<u64>)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = |(model, refused): (&String, &Refused)| {
            let (parts, most_output) = refused.lasting();
            (!parts.is_empty() || most_output.is_some()).then(|| (model.clone(), parts, most_output))
        };
        refused.iter().filter_map(of_model).collect()
    }

    /// Sends a request once. `room` is what was found out of this one alone; `turns` hears what the server says of its limits.
    pub fn once(
        &self,
        request: &Request,
        room: &mut Option<Refusal>,
        turns: &Turns,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
    ) -> Result<Answer, Missed> {
        let mut known = self.refused_by(&request.model);
        if let Some(room) = room {
            known.note(room.clone());
        }
        let mut body = self.wire.body(request, &known);
        let reading = self.keep.read(&*self.wire, &self.http, request, &known, &mut body).unwrap_or_else(|refusal| {
            self.note_refused(&request.model, refusal);
            None
        });
        let counted = |answer: Answer| match &reading {
            Some(reading) => Answer { usage: reading.count(answer.usage), ..answer },
            None => answer,
        };
        let incoming = self.http.post(&*self.wire, &self.wire.path(request, &known), &body)?;
        turns.heard(&request.model, &self.wire.limits(&incoming.head));
        if incoming.is_events() {
            return Ok(counted(self.listen(incoming, self.wire.pieces(&body), hear)?));
        }
        let reply = self.http.whole(incoming)?;
        // Another request may have found it out meanwhile: what counts is that this one was sent with it.
        let refusal = self.wire.refusal(&body, &reply).filter(|refusal| known.note(refusal.clone()));
        let lost = reading.as_ref().filter(|_| self.wire.keeper().is_some_and(|keeper| keeper.is_gone(&reply)));
        let goes_otherwise = refusal.is_some() || lost.is_some();
        if let Some(reading) = lost {
            reading.is_lost();
        }
        if let Some(refusal @ Refusal::Room(_)) = refusal {
            *room = Some(refusal);
        } else if let Some(refusal) = refusal {
            self.note_refused(&request.model, refusal);
        }
        let answer = self.wire.answer(&body, &reply).map_err(|failure| Missed { failure, goes_otherwise })?;
        let answer = counted(self.without_key(answer));
        hear(Heard::Text(&answer.text));
        Ok(answer)
    }

    /// Asks for vectors once.
    pub fn embed(&self, request: &EmbedRequest, turns: &Turns) -> Result<Embedded, Missed> {
        let Some(embeds) = &self.embeds else {
            return Err(Failure::new(FailureKind::Failed, "the provider's API makes no embeddings").into());
        };
        let mut known = self.refused_by(&request.model);
        let body = embeds.body(request, &known);
        let incoming = self.http.post(&*self.wire, &embeds.path(request), &body)?;
        turns.heard(&request.model, &self.wire.limits(&incoming.head));
        let reply = self.http.whole(incoming)?;
        // As of other requests.
        let refusal = embeds.refusal(&body, &reply).filter(|refusal| known.note(refusal.clone()));
        let goes_otherwise = refusal.is_some();
        if let Some(refusal) = refusal {
            self.note_refused(&request.model, refusal);
        }
        embeds.answer(request, &reply).map_err(|failure| Missed { failure, goes_otherwise })
    }

    /// Reads an answer that comes in pieces.
    fn listen(
        &self,
        mut incoming: Incoming,
        mut pieces: Box<dyn Pieces>,
        hear: &mut dyn FnMut(Heard<'_>) -> bool,
    ) -> Result<Answer, Failure> {
        let (mut events, mut mask) = (Events::default(), self.http.mask());
        let (mut text, mut is_worth_keeping) = (String::new(), false);
        let mut take = |piece: String| {
            if !piece.is_empty() {
                is_worth_keeping = hear(Heard::Text(&piece));
                text += &piece;
            }
        };
        let mut buffer = vec![0; PIECE];
        // To the very end, also after the last event: then the connection can be used again.
        let broken = loop {
            if self.cancel.is_now() {
                return Err(Failure::new(FailureKind::Cancelled, "interrupted"));
            }
            let mut event = |name: &str, data: &str| {
                if let Some(piece) = pieces.event(name, data) {
                    take(mask.next(&piece));
                }
            };
            match self.http.read(&mut incoming, &mut buffer) {
                Ok([]) => {
                    events.end(&mut event);
                    break None;
                }
                Ok(bytes) => events.feed(bytes, &mut event),
                Err(failure) => break Some(failure),
            }
        };
        take(mask.end());
        match pieces.end(&incoming.head, &text, broken) {
            Ok(answer) => Ok(self.without_key(answer)),
            Err(failure) if is_worth_keeping => {
                let stop = Stop::Broken(self.http.without_key(&failure.message));
                Ok(Answer { text, stop, usage: pieces.usage(), request_id: failure.request_id })
            }
            Err(failure) => Err(failure),
        }
    }

    /// How many tokens a request has, as the server counts them, where it does so free of charge.
    pub fn count(&self, request: &Request) -> Option<u64> {
        let (path, body) = self.wire.count(request, &self.refused_by(&request.model))?;
        if self.cancel.is_cancelled() {
            return None;
        }
        let reply = self.http.post(&*self.wire, &path, &body).and_then(|incoming| self.http.whole(incoming)).ok()?;
        let said: Value = serde_json::from_slice(&reply.body).ok().filter(|_| (200..300).contains(&reply.status))?;
        wire::tokens(said.get("input_tokens")).filter(|tokens| *tokens > 0)
    }

    /// Takes away what the server keeps.
    pub fn take_down(&self) {
        if let Some(keeper) = self.wire.keeper() {
            // Where one is not heard the others are not tried: they go by themselves, later.
            let _all = self.keep.take().iter().all(|name| self.http.delete(&*self.wire, &keeper.place(name)));
        }
    }

    /// What the server is known to refuse of requests to a model.
    pub fn refused_by(&self, model: &str) -> Refused {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned().unwrap_or_default()
    }

    fn note_refused(&self, model: &str, refusal: Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(model.to_owned()).or_default().note(refusal);
    }

    /// An answer without the key.
    pub fn without_key(&self, answer: Answer) -> Answer {
        mask::answer(answer, &|text| self.http.without_key(text))
    }
}
