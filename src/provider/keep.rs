//! Prefixes that a provider keeps under a name: made by a request of its own, read by those that begin with them, taken away at
//! the end of the run. Where that is not to be had, everything is sent whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::http::{Http, Reply};
use super::wire::{Refusal, Refused, Wire};
use crate::llm::{Request, Usage};

/// How often what was kept may be gone before it is not made any more.
const MOST_LOSSES: u32 = 2;

/// How a wire format has prefixes kept.
pub(super) trait Keeper {
    /// The request that has the prefix of a request kept: where it goes, and its body, which is the same for the same prefix. None
    /// where there is nothing to keep.
    fn make(&self, request: &Request, refused: &Refused) -> Option<(String, Value)>;

    /// What came of it.
    fn made(&self, reply: &Reply) -> Made;

    /// A body that reads what is kept under this name, and does not repeat it.
    fn read(&self, body: &mut Value, name: &str);

    /// Whether a reply says that what the body would have read is gone.
    fn is_gone(&self, reply: &Reply) -> bool;

    /// Where what is kept under a name can be taken away.
    fn place(&self, name: &str) -> String;
}

/// What came of a request to keep something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// It is kept: its name, and how many tokens it has.
    Kept(String, u64),
    /// This is not kept; another may be.
    Not,
    /// The server refuses to keep anything for this model.
    Refused(Refusal),
}

/// What a provider keeps, by what was asked to be kept.
#[derive(Default)]
pub(super) struct Keep(Mutex<HashMap<String, Arc<Mutex<Prefix>>>>);

#[derive(Default)]
struct Prefix {
    name: Option<String>,
    /// Tokens that went into it, and stand in no answer yet.
    uncounted: u64,
    losses: u32,
}

/// A prefix that a body reads.
pub(super) struct Reading {
    prefix: Arc<Mutex<Prefix>>,
    name: String,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keep {
    /// Lets a body read the prefix of its request, where that is kept, or is kept from now on because the request asks for it. A
    /// refusal is what another request need not try.
    pub fn read(
        &self,
        wire: &dyn Wire,
        http: &Http,
        request: &Request,
        refused: &Refused,
        body: &mut Value,
    ) -> Result<Option<Reading>, Refusal> {
        let Some(keeper) = wire.keeper() else { return Ok(None) };
        let Some((path, asked)) = keeper.make(request, refused) else { return Ok(None) };
        let key = asked.to_string();
        let prefix = match request.keeps_prefix.is_some() {
            true => Some(Arc::clone(lock(&self.0).entry(key).or_default())),
            false => lock(&self.0).get(&key).cloned(),
        };
        let Some(prefix) = prefix else { return Ok(None) };
        let name = {
            let held = match request.keeps_prefix.is_some() {
                true => Some(lock(&prefix)),
                // What is being made by another is not waited for.
                false => prefix.try_lock().ok(),
            };
            let Some(mut held) = held else { return Ok(None) };
            if held.name.is_none() && request.keeps_prefix.is_some() && held.losses < MOST_LOSSES {
                match http.post(wire, &path, &asked).and_then(|incoming| http.whole(incoming)).map(|r| keeper.made(&r))
                {
                    Ok(Made::Kept(name, tokens)) => {
                        held.name = Some(name);
                        held.uncounted += tokens;
                    }
                    Ok(Made::Refused(refusal)) => return Err(refusal),
                    Ok(Made::Not) | Err(_) => held.losses = MOST_LOSSES,
                }
            }
            held.name.clone()
        };
        let Some(name) = name else { return Ok(None) };
        keeper.read(body, &name);
        Ok(Some(Reading { prefix, name }))
    }

    /// The names of all that is kept, which is then nobody's any more.
    pub fn take(&self) -> Vec<String> {
        lock(&self.0).drain().filter_map(|(_, prefix)| prefix.try_lock().ok()?.name.take()).collect()
    }
}

impl Reading {
    /// Notes that it was gone.
    pub fn is_lost(&self) {
        let mut prefix = lock(&self.prefix);
        // Another may have had it made anew.
        if prefix.name.as_ref() == Some(&self.name) {
            prefix.name = None;
            prefix.losses += 1;
        }
    }

    /// What an answer took, with what went into what it read, if nobody counted that before.
    pub fn count(&self, usage: Usage) -> Usage {
        if usage == Usage::default() {
            return usage;
        }
        let tokens = std::mem::take(&mut lock(&self.prefix).uncounted);
        Usage { input: usage.input + tokens, cache_write: usage.cache_write + tokens, ..usage }
    }
}
