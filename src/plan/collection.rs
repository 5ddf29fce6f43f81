//! Collections: many items into one file. What is asked for them, in which windows, and what the answers come to.
//!
//! A *piece* is what is asked for and stored by itself: an item, or where the model says how many results there are a window of
//! them. Pieces of a collection that carries nothing may all go at once; else each window is rendered when what comes before it is
//! known, and its pieces' keys hold what it was shown.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::context::{self, Shown};
use super::key;
use super::making::{self, Compiled, Recipes, Wants};
use super::windows;
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{self, Graph, ItemAxis, ItemSource, Source, TaskId, TaskItems};
use crate::llm::{Ask, Carried};
use crate::manifest::{Carry, Results};
use crate::prompt::{Message, Role};
use crate::schema::Schema;

/// A collection, before anybody is asked.
pub struct Collection {
    /// What is asked for, in the order of the items; in a collection that carries as it would be if nothing came before.
    pub pieces: Vec<Piece>,
    /// The windows that go one after the other, as ranges of pieces; none where nothing is carried.
    pub windows: Vec<Range<usize>>,
    /// How much each of these is shown of what came before.
    pub carry: Option<Carry>,
    items: Vec<Item>,
    results: Results,
    pub(super) unique_by: Option<String>,
    pub(super) set: Map<String, Value>,
    /// What all items' asks have in common; without messages.
    base: Ask,
    compiled: Arc<Compiled>,
    scope: Value,
    shown: Option<Shown>,
    /// The schema of one result.
    pub(super) schema: Option<Arc<Schema>>,
}

/// What is asked for and stored by itself.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The items that it is for.
    pub items: Range<usize>,
    /// What its result is stored by.
    pub key: Digest,
    /// What is asked.
    pub ask: Arc<Ask>,
}

/// One item: what expressions see, and what people call it.
pub(super) struct Item {
    pub value: Value,
    pub label: Arc<str>,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Collection({} items, {} pieces)", self.items.len(), self.pieces.len())
    }
}

/// What is asked for the items of a task.
///
/// # Errors
/// What cannot be read or rendered, pointing into the recipe.
pub(super) fn make(graph: &Graph, id: TaskId, files: &dyn Files, recipes: &Recipes) -> Result<Collection, Error> {
    let (task, rule) = (&graph.tasks[id], graph.rule(id));
    let (Some(of), Some(items), Some(recipe)) = (&rule.collection, &task.items, &task.recipe) else {
        return Err(super::bug("a collection without items"));
    };
    let in_rule = |e: Error| e.in_rule(&rule.name);
    let compiled = recipes.get(task, recipe, files, true).map_err(in_rule)?;
    let mut scope = making::scope(graph, id, files, compiled.wants).map_err(in_rule)?;
    if let Value::Object(names) = &mut scope
        && let Some(item) = names.remove("item")
    {
        names.insert("foreach".to_owned(), item);
    }
    let shown = context::shown(graph, id, files).map_err(in_rule)?;
    let places_it = compiled.template.uses("context");
    if let Some(shown) = &shown {
        shown.bring_into(&mut scope, places_it);
        making::no_role_marks(&scope["context"]).map_err(in_rule)?;
    }
    let base = making::terms(graph, id, &compiled)?;
    let schema = match &items.schema {
        Some(path) => Some(super::checks::schema(path, files, recipes).map_err(in_rule)?),
        None => compiled.schema.clone(),
    };
    let schema = schema.map(|schema| without(&schema, &items.set)).transpose().map_err(in_rule)?;
    let note = shown.as_ref().map(|shown| shown.choice.note(shown.is_shared));
    let mut made = Collection {
        pieces: Vec::new(),
        windows: Vec::new(),
        carry: of.carry,
        items: item_values(graph, items, files, compiled.wants).map_err(in_rule)?,
        results: of.results,
        unique_by: of.unique_by.clone(),
        set: items.set.clone(),
        base: Ask { context: note, ..base },
        compiled,
        scope,
        shown: shown.filter(|_| !places_it),
        schema,
    };
    let room = windows::Room::of(graph, rule, of.window, made.is_free());
    made.cut(&room).map_err(in_rule)?;
    Ok(made)
}

/// The items as prompts see them.
pub(super) fn item_values(
    graph: &Graph,
    items: &TaskItems,
    files: &dyn Files,
    wants: Wants,
) -> Result<Vec<Item>, Error> {
    let mut axes = Vec::with_capacity(items.axes.len());
    for ItemAxis { name, label: as_written, over } in &items.axes {
        let mut values = Vec::new();
        match over {
            ItemSource::Literal(literal) => {
                let label = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                values.extend(literal.iter().map(|value| (value.clone(), label(value))));
            }
            ItemSource::Of(Source::Parts { files: paths, selector, optional, .. }) => {
                for path in paths.iter() {
                    for part in making::select(graph, files, path, selector, *optional)? {
                        let label = selector.label(path, &part.keys);
                        values.push((making::part_value(path, &part, values.len()), label));
                    }
                }
            }
            ItemSource::Of(source) => {
                for path in source.files() {
                    let value = making::file_value(graph, files, path, wants)?;
                    let missing = || Error::new(Code::MissingInput, format!("`{path}` of `{as_written}` is not there"));
                    values.push((value.ok_or_else(missing)?, path.to_string()));
                }
            }
        }
        values.iter().try_for_each(|(value, _)| making::no_role_marks(value))?;
        axes.push((name.as_deref(), values));
    }
    let items = graph::combined(axes)?;
    Ok(items.into_iter().map(|item| Item { value: item.value, label: item.label.into() }).collect())
}

/// A result as it is stored: JSON where there is a schema, else a text.
pub(super) fn value_of(result: &str, is_json: bool) -> Value {
    let parsed = if is_json { serde_json::from_str(result).ok() } else { None };
    parsed.unwrap_or_else(|| Value::String(result.to_owned()))
}

/// A schema without the fields that each result has anyway.
fn without(schema: &Arc<Schema>, set: &Map<String, Value>) -> Result<Arc<Schema>, Error> {
    if set.is_empty() {
        return Ok(Arc::clone(schema));
    }
    let mut value = schema.value().clone();
    if let Some(Value::Object(properties)) = value.get_mut("properties") {
        properties.retain(|name, _| !set.contains_key(name));
    }
    if let Some(Value::Array(required)) = value.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !set.contains_key(name)));
    }
    let schema = Schema::new(value);
    schema.map(Arc::new).map_err(|why| Error::new(Code::BadValue, format!("the schema cannot be used: {why}")))
}

impl Collection {
    /// Whether the model says how many results there are.
    pub fn is_free(&self) -> bool {
        matches!(self.results, Results::Free { .. })
    }

    /// How many items it has.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.base.model
    }

    /// Cuts the items into pieces and windows.
    fn cut(&mut self, room: &windows::Room) -> Result<(), Error> {
        let weights: Vec<u64> = self.items.iter().map(|item| room.weight(&item.value)).collect();
        let ranges = match (self.is_free(), self.carry) {
            (true, _) => windows::by_content(&self.hashes(), &weights, room.most()),
            (false, Some(_)) => windows::in_order(&weights, room.most()),
            (false, None) => Vec::new(),
        };
        if self.is_free() {
            for range in &ranges {
                self.pieces.extend(self.pieces_of(range.clone(), None)?);
            }
            let windows = 0..self.pieces.len();
            self.windows = self.carry.iter().flat_map(|_| windows.clone().map(|at| at..at + 1)).collect();
        } else {
            self.pieces = self.pieces_of(0..self.items.len(), None)?;
            self.windows = ranges;
        }
        Ok(())
    }

    /// What tells the items apart, wherever they stand: by this windows are cut.
    fn hashes(&self) -> Vec<u64> {
        let hash = |item: &Item| {
            let mut value = item.value.clone();
            key::forget_place(&mut value);
            let digest = Framed::new("genmake-window-cut-1").field(value.to_string()).finish();
            digest.bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        self.items.iter().map(hash).collect()
    }

    /// What is asked for some items that stand together: one piece each, or one for all of them.
    ///
    /// # Errors
    /// What cannot be rendered.
    pub fn pieces_of(&self, items: Range<usize>, carried: Option<&Arc<Carried>>) -> Result<Vec<Piece>, Error> {
        let mut scope = self.scope.clone();
        let is_placed = self.compiled.template.uses("carried");
        let shown: &[String] = match carried.map(|carried| &**carried) {
            Some(Carried::Results(results)) => results,
            _ => &[],
        };
        if is_placed {
            scope["carried"] = shown.iter().map(|result| value_of(result, self.schema.is_some())).collect();
        }
        // What the prompt places itself is not shown once more.
        let carried = carried.filter(|carried| !is_placed || matches!(***carried, Carried::Turns(_))).cloned();
        let piece = |items: Range<usize>, messages: Vec<Message>, schema: Option<Arc<Schema>>, label: Arc<str>| {
            let ask = Ask { messages, schema, piece: Some(label), carried: carried.clone(), ..self.base.clone() };
            Piece { items, key: key::piece_key(&ask), ask: Arc::new(ask) }
        };
        if !self.is_free() {
            let one = |at: usize| {
                let item = &self.items[at];
                let messages = self.rendered(&mut scope, item)?;
                Ok(piece(at..at + 1, messages, self.schema.clone(), Arc::clone(&item.label)))
            };
            return items.map(one).collect();
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let messages = self.window(&mut scope, &self.items[items.clone()])?;
        let schema = self.schema_of_all(&items)?;
        let label = match (&self.items[items.start].label, &self.items[items.end - 1].label) {
            (first, last) if first == last => Arc::clone(first),
            (first, last) => format!("{first} to {last}").into(),
        };
        Ok(vec![piece(items, messages, Some(schema), label)])
    }

    /// The messages for one item.
    fn rendered(&self, scope: &mut Value, item: &Item) -> Result<Vec<Message>, Error> {
        scope["items"] = json!([item.value]);
        scope["item"] = item.value.clone();
        self.compiled.fill_in(scope)?;
        let messages = self.compiled.messages(scope, self.shown.as_ref())?;
        if messages.is_empty() {
            return Err(Error::new(Code::BadValue, format!("the prompt is empty for `{}`", item.label)));
        }
        Ok(messages)
    }

    /// The messages for a window whose results the model counts: rendered once where the prompt names `items`, else for each item,
    /// and put together.
    fn window(&self, scope: &mut Value, items: &[Item]) -> Result<Vec<Message>, Error> {
        if self.compiled.template.uses("items") || !self.compiled.template.uses("item") {
            scope["items"] = items.iter().map(|item| item.value.clone()).collect();
            self.compiled.fill_in(scope)?;
            let messages = self.compiled.messages(scope, self.shown.as_ref())?;
            return match messages.is_empty() {
                true => Err(Error::new(Code::BadValue, "the prompt is empty")),
                false => Ok(messages),
            };
        }
        let mut together: Vec<Message> = Vec::new();
        for item in items {
            let of_one = self.rendered(scope, item)?;
            if together.is_empty() {
                together = of_one;
                continue;
            }
            for (into, message) in together.iter_mut().zip(of_one) {
                if into.role == Role::User {
                    into.text = format!("{}\n\n{}", into.text.trim_end(), message.text);
                } else if into.text != message.text {
                    let what = "with `results: free` only the user's part of a prompt can name `item`";
                    return Err(
                        Error::new(Code::BadValue, what).hint("`items` is the list of all that are in a window")
                    );
                }
            }
        }
        Ok(together)
    }

    /// The schema of an answer with any number of results; of a part of a window the bounds are in proportion.
    fn schema_of_all(&self, items: &Range<usize>) -> Result<Arc<Schema>, Error> {
        let Results::Free { min, max } = self.results else { return Err(super::bug("results that nobody counts")) };
        let at = self.pieces.partition_point(|piece| piece.items.end <= items.start);
        let (part, whole) = match self.pieces.get(at) {
            Some(whole) => (items.len(), whole.items.len()),
            // It is one.
            None => (1, 1),
        };
        let min = min.map(|min| min * part / whole);
        let max = max.map(|max| (max * part).div_ceil(whole));
        let schema = crate::llm::any_number_of(self.schema.as_ref().map(|schema| schema.value()), min, max);
        let schema = Schema::new(schema);
        schema.map(Arc::new).map_err(|why| Error::new(Code::BadValue, format!("the schema cannot be used: {why}")))
    }

    /// The digest of what the collection is: of its items' questions and of how they are asked, whatever windows come out, and of
    /// what is made of the answers.
    pub(super) fn digest(&self, window: Option<usize>) -> Digest {
        let mut framed = Framed::new("genmake-action-collection-1");
        match self.carry {
            None => {}
            Some(Carry::Last(count)) => framed = framed.field("carry").field((count as u64).to_le_bytes()),
            Some(Carry::All) => framed = framed.field("carry").field("all"),
        }
        if let Results::Free { min, max } = self.results {
            framed = framed.field("free").field(format!("{min:?} {max:?}"));
        }
        if self.is_free() || self.carry.is_some() {
            framed = framed.field("window").field((window.unwrap_or(0) as u64).to_le_bytes());
        }
        if let Some(field) = &self.unique_by {
            framed = framed.field("unique_by").field(field);
        }
        framed = framed.field("set").field(Value::Object(self.set.clone()).to_string());
        framed = framed.field((self.pieces.len() as u64).to_le_bytes());
        self.pieces.iter().fold(framed, |framed, piece| framed.field(piece.key.bytes())).finish()
    }
}
