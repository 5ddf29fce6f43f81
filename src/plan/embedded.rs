//! Texts on their way to vectors: which of them are missing, what is asked for them, and the rows that are written of what came.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value};

use super::Ground;
use super::embedding::{Embedding, Row};
use crate::digest::Digest;
use crate::files::Files;
use crate::graph::{Output, TaskId};
use crate::llm::{Ask, EmbedLimits, EmbedRequest};
use crate::lock::Lock;
use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::rows;
use crate::vectors::{self, Vectors};

/// What came of the texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many items there are.
    pub total: usize,
    /// How many have a vector.
    pub success: usize,
    /// How many have an error in its place.
    pub failed: usize,
    /// How many of the vectors were there already.
    pub cached: usize,
    /// How many were asked for.
    pub new: usize,
}

/// What an item without a text has in place of a vector.
const EMPTY: &str = "its text is empty";

impl Embedding {
    /// The same for what is looked for among these, and how that is asked for: some models make other vectors for questions.
    pub fn question(&self, text: &str) -> (Digest, EmbedRequest) {
        let task = self.task.as_ref().map(|task| match task.as_str() {
            "RETRIEVAL_DOCUMENT" => "RETRIEVAL_QUERY".to_owned(),
            "document" => "query".to_owned(),
            task => task.to_owned(),
        });
        let (model, params) = (self.model.clone(), self.params.clone());
        let asked = Embedding { rows: Vec::new(), texts: Vec::new(), model, dimensions: self.dimensions, task, params };
        let mut request = asked.request(std::iter::empty());
        request.texts.push(text.to_owned());
        (asked.key(text), request)
    }

    /// The request for some of the texts.
    pub fn request(&self, texts: impl Iterator<Item = usize>) -> EmbedRequest {
        EmbedRequest {
            model: self.model.clone(),
            texts: texts.filter_map(|at| Some(self.texts.get(at)?.text.clone())).collect(),
            dimensions: self.dimensions,
            task: self.task.clone(),
            params: self.params.clone(),
        }
    }

    /// The texts that there are no vectors for: neither in the store, nor in the outputs that stand there.
    pub(super) fn missing(&self, ground: &Ground, id: TaskId) -> Vec<usize> {
        let mut missing: Vec<usize> = (0..self.texts.len()).collect();
        if !missing.is_empty() {
            let there = ground.store.vector_keys();
            missing.retain(|at| !there.contains(&self.texts[*at].key));
        }
        if !missing.is_empty() {
            let standing = standing_vectors(&ground.graph.tasks[id].outputs, ground.files, ground.lock);
            let there: HashSet<Digest> = standing.into_iter().map(|(key, _)| key).collect();
            missing.retain(|at| !there.contains(&self.texts[*at].key));
        }
        missing
    }

    /// What would be said to the provider for these, to be looked through.
    pub(super) fn said(&self, texts: &[usize]) -> Ask {
        let message = |at: &usize| Message { role: Role::User, text: self.texts[*at].text.clone() };
        Ask {
            outputs: Vec::new(),
            messages: texts.iter().map(message).collect(),
            model: self.model.clone(),
            params: Map::new(),
            schema: None,
            context: None,
            piece: None,
            carried: None,
        }
    }

    /// The rows as they are written: with their vectors, or with `false` without, where those have a file of their own. `came` has
    /// for each text its vector, or what went wrong.
    pub fn written<'a>(
        &'a self,
        came: &'a [Result<Vec<f32>, String>],
        with_vectors: bool,
    ) -> impl Iterator<Item = Value> + Clone + 'a {
        self.rows.iter().map(move |row| {
            let mut columns = row.columns.clone();
            columns.insert("model".to_owned(), self.model.as_str().into());
            if row.is_cut {
                columns.insert("cut".to_owned(), true.into());
            }
            if let Some(text) = row.text.and_then(|text| self.texts.get(text)) {
                columns.insert("digest".to_owned(), text.key.to_string().into());
            }
            match row.text.and_then(|text| came.get(text)) {
                Some(Ok(vector)) if with_vectors => drop(columns.insert("vector".to_owned(), vectors::to_json(vector))),
                Some(Ok(_)) => {}
                Some(Err(why)) => drop(columns.insert("error".to_owned(), why.as_str().into())),
                None => drop(columns.insert("error".to_owned(), EMPTY.into())),
            }
            Value::Object(columns)
        })
    }

    /// What came of the items, where `new` says which texts were asked for.
    pub fn counts(&self, came: &[Result<Vec<f32>, String>], new: &HashSet<usize>) -> Counts {
        let has_vector = |row: &&Row| row.text.is_some_and(|text| came.get(text).is_some_and(Result::is_ok));
        let success = self.rows.iter().filter(has_vector).count();
        let is_new = |row: &&Row| row.text.is_some_and(|text| new.contains(&text));
        let fresh = self.rows.iter().filter(has_vector).filter(is_new).count();
        let total = self.rows.len();
        Counts { total, success, failed: total - success, cached: success - fresh, new: fresh }
    }
}

/// The vectors that outputs hold as the lock has them, by what they are kept by: what a fresh clone has in place of a store.
pub fn standing_vectors(outputs: &[Output], files: &dyn Files, lock: &Lock) -> Vec<(Digest, Vec<f32>)> {
    let rows = rows_there(outputs, files, Some(lock)).unwrap_or_default();
    let of = |(row, vector): (Value, Option<Vec<f32>>)| Some((Digest::parse(row.get("digest")?.as_str()?)?, vector?));
    rows.into_iter().filter_map(of).collect()
}

/// The rows that stand in outputs, with their vectors; with a lock only where a run wrote them.
pub fn rows_there(
    outputs: &[Output],
    files: &dyn Files,
    lock: Option<&Lock>,
) -> Option<Vec<(Value, Option<Vec<f32>>)>> {
    let content = |path: &RelPath| {
        let digest = files.digest(path).ok()??;
        let is_ours = |lock: &Lock| lock.get(path, Some(digest)).is_some_and(|entry| entry.content == digest);
        if lock.is_none_or(is_ours) { files.read(path).ok()? } else { None }
    };
    let listed = outputs.iter().find(|output| rows::is_rows(&output.path))?;
    let bytes = content(&listed.path)?;
    let rows = rows::read(&listed.path, std::str::from_utf8(&bytes).ok()?).ok()?;
    let matrix = match outputs.iter().find(|output| output.path.ext() == "npy") {
        Some(output) => Some(Vectors::read_npy(&content(&output.path)?).ok()?),
        None => None,
    };
    let of_matrix = |at: usize| matrix.as_ref().and_then(|matrix| Some(matrix.rows().nth(at)?.to_vec()));
    let row = |(at, mut row): (usize, Value)| {
        let own = row.as_object_mut().and_then(|columns| columns.remove("vector"));
        let vector = own.as_ref().and_then(vectors::from_json).or_else(|| of_matrix(at));
        let vector = vector.filter(|vector| row.get("error").is_none() && vector.iter().all(|n| n.is_finite()));
        (row, vector)
    };
    Some(rows.into_iter().enumerate().map(row).collect())
}

/// Texts in requests, one after the other, each as full as the provider takes it: by number, and by tokens with room for those who
/// count otherwise.
pub fn requests(made: &Embedding, texts: &[usize], limits: EmbedLimits) -> Vec<Vec<usize>> {
    let mut requests: Vec<Vec<usize>> = Vec::new();
    let mut taken = 0;
    for at in texts {
        let tokens = made.texts[*at].tokens;
        let fits = |request: &Vec<usize>| {
            request.len() < limits.texts && limits.tokens.is_none_or(|most| taken + tokens <= most * ROOM.0 / ROOM.1)
        };
        match requests.last_mut().filter(|request| fits(request)) {
            Some(request) => {
                request.push(*at);
                taken += tokens;
            }
            None => {
                requests.push(vec![*at]);
                taken = tokens;
            }
        }
    }
    requests
}

/// The part of a provider's limit of tokens that is used, since they are estimated.
const ROOM: (u64, u64) = (19, 20);

/// The halves of what a provider did not take together.
pub fn halves(count: usize) -> [Range<usize>; 2] {
    [0..count / 2, count / 2..count]
}
