//! What the answers to a collection's pieces come to: rows, in the order of the items; and what rows that stand in an output are of.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::{Value, json};

use super::collection::{Collection, value_of};
use crate::files::Files;
use crate::graph::{Graph, TaskId};
use crate::lock::{Lock, RowKey};
use crate::rows;

/// What the results of a collection's pieces come to.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    /// The results in the order of their items, as they are written.
    pub rows: Vec<Value>,
    /// For each the place of what it is of among the results that were given.
    pub of: Vec<usize>,
    /// The values for which there was a result already.
    pub dropped: Vec<String>,
}

impl Collection {
    /// What the results come to, as they are stored, in the order of their pieces.
    pub fn rows<'a>(&self, results: impl Iterator<Item = &'a str>) -> Rows {
        let mut came = Rows::default();
        let mut seen: HashSet<String> = HashSet::new();
        let results = results.enumerate().flat_map(|(at, result)| {
            let values = match self.is_free() {
                true => results_in(result),
                false => vec![value_of(result, self.schema.is_some())],
            };
            values.into_iter().map(move |value| (at, value))
        });
        for (at, mut row) in results {
            if let Value::Object(fields) = &mut row {
                fields.extend(self.set.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            let value = self.unique_by.as_ref().and_then(|field| row.get(field));
            match value {
                Some(value) if !seen.insert(value.to_string()) => {
                    came.dropped.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
                _ => {
                    came.rows.push(row);
                    came.of.push(at);
                }
            }
        }
        came
    }

    /// The results that stand in a task's output, by what they are stored by: what a clone without a store has. None where a person
    /// has changed the file, or nobody noted whose its rows are.
    pub fn standing(&self, graph: &Graph, id: TaskId, lock: &Lock, files: &dyn Files) -> HashMap<RowKey, String> {
        let path = graph.name(id);
        let there = || {
            let digest = files.digest(path).ok()??;
            let keys = lock.get(path, Some(digest)).filter(|entry| entry.content == digest)?.rows.clone()?;
            let bytes = files.read(path).ok()??;
            let rows = rows::read(path, std::str::from_utf8(&bytes).ok()?).ok()?;
            (rows.len() == keys.len()).then_some((keys, rows))
        };
        let Some((keys, rows)) = there() else { return HashMap::new() };
        let mut results: HashMap<RowKey, Vec<Value>> = HashMap::new();
        for (key, mut row) in keys.iter().zip(rows).filter(|(key, _)| **key != 0) {
            if let Value::Object(fields) = &mut row {
                fields.retain(|name, _| !self.set.contains_key(name));
            }
            results.entry(*key).or_default().push(row);
        }
        let stored = |mut results: Vec<Value>| match (self.is_free(), results.pop()) {
            (true, last) => {
                results.extend(last);
                Some(json!({"results": results}).to_string())
            }
            (false, Some(row)) if results.is_empty() => match (&self.schema, row) {
                (Some(schema), row) => schema.check(&row).ok().map(|()| row.to_string()),
                (None, Value::String(text)) => Some(text),
                (None, _) => None,
            },
            // Of several rows of one item nobody knows which is its.
            (false, _) => None,
        };
        results.into_iter().filter_map(|(key, results)| Some((key, stored(results)?))).collect()
    }

    /// How many results that of a piece is.
    pub fn count_of(&self, result: &str) -> usize {
        if self.is_free() { results_in(result).len() } else { 1 }
    }

    /// What stands for the results of a piece that has none, as it would be stored.
    pub fn default_of(&self, value: &Value, items: Range<usize>) -> String {
        match self.is_free() {
            true => json!({"results": vec![value; items.len()]}).to_string(),
            false if self.schema.is_none() && value.is_string() => value.as_str().unwrap_or_default().to_owned(),
            false => value.to_string(),
        }
    }
}

/// The results in an answer of any number of them.
pub fn results_in(text: &str) -> Vec<Value> {
    match serde_json::from_str::<HashMap<String, Value>>(text).ok().and_then(|mut map| map.remove("results")) {
        Some(Value::Array(results)) => results,
        _ => Vec::new(),
    }
}
