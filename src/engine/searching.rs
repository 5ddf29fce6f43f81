//! What of a rule's vectors is nearest to a text.

use std::collections::HashSet;

use serde_json::Value;

use super::{Options, Shared};
use crate::error::{Code, Error};
use crate::graph::TaskId;
use crate::plan::{self, Making};
use crate::provider::{Notice, Provider};
use crate::store;
use crate::vectors::nearest;

/// An item that is near to what was looked for.
#[derive(Debug)]
pub struct Near {
    /// How near: the cosine of the angle between the two, -1 to 1.
    pub score: f32,
    /// Its columns.
    pub columns: Value,
}

/// The items of some tasks whose vectors are nearest to that of a text, the nearest first. The text's vector is asked for, if it is
/// not in the store, and kept there.
///
/// # Errors
/// There are no vectors; or the provider may not be asked, or made none.
pub fn search(
    shared: &Shared,
    tasks: &[TaskId],
    text: &str,
    most: usize,
    options: &Options,
    tell: &dyn Fn(Notice),
) -> Result<Vec<Near>, Error> {
    let Some(first) = tasks.first().copied() else { return Ok(Vec::new()) };
    let rule = shared.graph.rule(first);
    let mut rows: Vec<(Value, Vec<f32>)> = Vec::new();
    for task in tasks {
        let Some(there) = plan::rows_there(&shared.graph.tasks[*task].outputs, &shared.files, None) else {
            let path = shared.graph.name(*task);
            let error = Error::new(Code::MissingInput, format!("`{path}` holds no vectors that could be read"));
            return Err(error.in_rule(&rule.name).hint(format!("`genmake {}` makes it", rule.name)));
        };
        rows.extend(there.into_iter().filter_map(|(row, vector)| Some((row, vector?))));
    }
    let Making::Embedding(made) = plan::make(&shared.graph, first, &shared.files, &shared.recipes)? else {
        return Err(plan::bug("vectors of no texts"));
    };
    let (key, request) = made.question(text);
    let known = shared.store.vectors(&HashSet::from([key])).remove(&key);
    let vector = match known {
        Some(vector) => vector,
        None => {
            if options.offline {
                let error = Error::new(Code::Offline, "the text's vector is not known, and `--offline` asks nobody");
                return Err(error.hint("run without `--offline`"));
            }
            let declared = shared.graph.manifest.provider_of(rule)?;
            let (root, trusted, cancel) = (&shared.root, &options.trusted_hosts, options.cancel.clone());
            let provider = Provider::new(declared, root, &*options.env, trusted, &shared.shell, cancel)?;
            provider.bring_up(tell)?;
            let embedded = provider.embed(&request, tell);
            provider.take_down();
            let embedded = embedded.map_err(|failure| super::asking::failure(shared, first.into(), &failure))?;
            let Some(vector) = embedded.vectors.into_iter().next().flatten() else {
                return Err(Error::new(Code::Malformed, "the provider gave no vector for the text"));
            };
            // Without it the next search asks again: no reason to fail.
            let _ = store::make_folder(&shared.root).and_then(|_| shared.store.put_vectors(&[(key, &vector)]));
            vector
        }
    };
    let vectors = rows.iter().map(|(_, vector)| vector.as_slice());
    let near = nearest(&vector, vectors, most);
    Ok(near.into_iter().map(|(at, score)| Near { score, columns: rows[at].0.clone() }).collect())
}
