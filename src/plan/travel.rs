//! Who asks, and in which requests: what tasks and pieces of them bring along, and the requests that a plan would send.

use super::embedded;
use super::{Experience, Ground, Plan};
use crate::batch::{self, Batch, Batcher, Shape, Terms, Traits, Traveler};
use crate::digest::Framed;
use crate::graph::{TaskId, Unit};
use crate::llm::Ask;
use crate::manifest::Results;
use crate::prompt::Role;
use crate::tokens;

/// The shape of a window of a collection: its pieces share requests with nobody else.
pub fn window_shape(of_piece: Shape, task: TaskId, window: usize) -> Shape {
    let framed = Framed::new("genmake-shape-window-1").field(of_piece.bytes());
    framed.field((task as u64).to_le_bytes()).field((window as u64).to_le_bytes()).finish()
}

/// A request for vectors of some of a task's texts.
pub fn texts_batch(task: TaskId, texts: Vec<usize>) -> Batch {
    let shape = Framed::new("genmake-shape-texts-1").field((task as u64).to_le_bytes()).finish();
    Batch { shape, tasks: texts.into_iter().map(|text| Unit::piece(task, text)).collect(), failures: 0 }
}

/// What is to be known of a task that needs a model, to put it into a request.
pub fn travel(ground: &Ground, experience: &dyn Experience, unit: impl Into<Unit>, ask: &Ask) -> Traveler {
    let unit = unit.into();
    let (graph, id) = (ground.graph, unit.task);
    let rule = graph.rule(id);
    let task = &graph.tasks[id];
    let provider = graph.manifest.provider_of(rule).ok();
    let name = provider.map_or("", |provider| provider.name.as_str());
    let about = task.context.as_ref().and_then(|context| context.related_to.as_deref());
    let related = ask.context.iter().filter(|_| about.is_some()).flat_map(|note| &note.shown);
    let related = related.map(String::as_str).filter(|name| Some(*name) != about);
    let own = ask.messages.iter().filter(|message| message.role != Role::System);
    let prefix = tokens::estimate(ask.system());
    Traveler {
        task: unit,
        shape: batch::shape(name, ask, &rule.checks, rule.batching),
        traits: match unit.piece {
            // The pieces of a collection are alike by being its pieces.
            Some(_) => Traits::default(),
            None => Traits::new(
                task.outputs.iter().map(|output| output.path.ext()),
                task.item.as_ref().map(|item| &item.value),
                related,
            ),
        },
        name: match unit.piece {
            Some(piece) => format!("{}#{piece}", graph.name(id)),
            None => graph.name(id).to_string(),
        },
        own: own.map(|message| tokens::estimate(&message.text)).sum(),
        expected: experience.expected_output(id, ask),
        limit: ask.limit(),
        terms: Terms {
            provider: name.to_owned(),
            in_flight: provider.map_or(1, |provider| provider.in_flight),
            batching: rule.batching,
            most: match &rule.collection {
                _ if !ask.can_share() || !rule.batching.enabled => Some(1),
                // A window whose results the model counts is a request.
                Some(of) if of.results != Results::Each => Some(1),
                Some(of) => Some(of.window.unwrap_or(usize::MAX)),
                None => rule.batching.most(),
            },
            most_results: experience.most_results(id, ask),
            prefix,
            model: experience.model(id, &ask.model),
        },
    }
}

impl Plan {
    /// Puts what needs a model into the requests that would be sent, in their order.
    pub(super) fn batch(&mut self, ground: &Ground, experience: &dyn Experience) {
        let mut batcher = Batcher::default();
        let mut in_order = Vec::new();
        for (id, judged) in self.tasks.iter().enumerate() {
            if let Some(Ok(judged)) = judged
                && let Some(ask) = judged.ask()
            {
                let traveler = travel(ground, experience, id, ask);
                self.terms.entry(traveler.shape).or_insert_with(|| traveler.terms.clone());
                batcher.add(traveler);
            }
            if let Some((Ok(judged), made)) =
                judged.as_ref().zip(judged.as_ref().and_then(|j| j.as_ref().ok()?.embedding()))
                && let Some(limits) = experience.embed_limits(id, &made.model)
            {
                let requests = embedded::requests(made, &judged.missing, limits).into_iter();
                in_order.extend(requests.map(|texts| texts_batch(id, texts)));
            }
            let Some((Ok(judged), made)) =
                judged.as_ref().zip(judged.as_ref().and_then(|j| j.as_ref().ok()?.collection()))
            else {
                continue;
            };
            if made.windows.is_empty() {
                for piece in &judged.missing {
                    let traveler = travel(ground, experience, Unit::piece(id, *piece), &made.pieces[*piece].ask);
                    self.terms.entry(traveler.shape).or_insert_with(|| traveler.terms.clone());
                    batcher.add(traveler);
                }
            }
            for (at, window) in made.windows.iter().enumerate() {
                let units = window.clone().filter(|piece| judged.missing.binary_search(piece).is_ok());
                let units: Vec<Unit> = units.map(|piece| Unit::piece(id, piece)).collect();
                if let Some(first) = units.first().and_then(|unit| unit.piece) {
                    let traveler = travel(ground, experience, Unit::piece(id, first), &made.pieces[first].ask);
                    let shape = window_shape(traveler.shape, id, at);
                    self.terms.entry(shape).or_insert_with(|| traveler.terms.clone());
                    let parts = units.chunks(traveler.terms.together());
                    in_order.extend(parts.map(|part| Batch { shape, tasks: part.to_vec(), failures: 0 }));
                }
            }
        }
        self.batches = batcher.all();
        self.batches.extend(in_order);
        let tasks = self.batches.iter().flat_map(|batch| &batch.tasks);
        self.scores = tasks.filter_map(|task| Some((*task, batcher.score(*task)?))).collect();
    }
}
