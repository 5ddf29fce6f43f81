//! Embeddings: the texts of a rule's items that are to become vectors, and the rows that are written of them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::collection::{Item, item_values};
use super::making::{self, Recipes, Wants};
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{Graph, TaskId};
use crate::manifest::Recipe;
use crate::path::RelPath;
use crate::syntax;
use crate::tokens::{self, Counter};

/// What a task that makes vectors is made of, before anybody is asked.
#[derive(Debug)]
pub struct Embedding {
    /// A row an item, in their order.
    pub rows: Vec<Row>,
    /// What is asked for: each text once.
    pub texts: Vec<Text>,
    /// The model.
    pub model: String,
    /// How many numbers a vector is to have.
    pub dimensions: Option<u32>,
    /// What they are for, in the provider's word.
    pub task: Option<String>,
    pub(super) params: Map<String, Value>,
}

/// A row of the output but for its vector.
#[derive(Debug)]
pub struct Row {
    /// Its columns: what its item is called, and where it stands.
    pub columns: Map<String, Value>,
    /// Which text it is of; none where that is empty.
    pub text: Option<usize>,
    /// Whether that was cut.
    pub is_cut: bool,
}

/// A text that is to become a vector.
#[derive(Debug)]
pub struct Text {
    /// What its vector is kept by.
    pub key: Digest,
    /// The text.
    pub text: String,
    /// About how many tokens it has.
    pub tokens: u64,
}

/// The texts of a task's items.
///
/// # Errors
/// What cannot be read or rendered, pointing into the template; a rule without a model.
pub(super) fn make(graph: &Graph, id: TaskId, files: &dyn Files, recipes: &Recipes) -> Result<Embedding, Error> {
    let (task, rule) = (&graph.tasks[id], graph.rule(id));
    let (Some(Recipe::Embed(how)), Some(items)) = (&rule.recipe, &task.items) else {
        return Err(super::bug("vectors of nothing"));
    };
    let in_rule = |e: Error| e.in_rule(&rule.name);
    let template = task.recipe.as_ref().map(|recipe| recipes.get(task, recipe, files, false)).transpose();
    let template = template.map_err(in_rule)?;
    let wants = template.as_ref().map_or_else(|| Wants::of(["text"]), |template| template.wants);
    let values = item_values(graph, items, files, wants).map_err(in_rule)?;
    let mut scope = making::scope(graph, id, files, wants).map_err(in_rule)?;
    if let Value::Object(names) = &mut scope
        && let Some(item) = names.remove("item")
    {
        names.insert("foreach".to_owned(), item);
    }
    let provider = graph.manifest.provider_of(rule)?;
    let Some(model) = rule.model.as_ref().or(provider.model.as_ref()) else {
        let error = Error::new(Code::MissingKey, format!("rule `{}` has no model", rule.name));
        return Err(error.at(rule.place.clone()).hint("name one: `embed: {model: NAME}`"));
    };
    let mut made = Embedding {
        rows: Vec::with_capacity(values.len()),
        texts: Vec::new(),
        model: model.clone(),
        dimensions: how.dimensions,
        task: how.task.clone(),
        params: rule.params.clone(),
    };
    let most = how.max_tokens.or_else(|| graph.manifest.window_of(rule));
    let mut known: HashMap<Digest, usize> = HashMap::new();
    let mut ids: HashMap<String, usize> = HashMap::new();
    for mut item in values {
        if !how.keeps_comments {
            drop_comments(&mut item.value);
        }
        let text = match &template {
            Some(template) => {
                scope["item"] = item.value.clone();
                template.render(&scope).map_err(in_rule)?
            }
            None => usual_text(&item.value),
        };
        let text = text.trim();
        let cut = most.filter(|most| text.len() as u64 > *most);
        if cut.is_some() && !cfg!(feature = "tokenizer") {
            // Another cut would be another question.
            let message =
                "`max_tokens` is counted by words, and this genmake was built without the feature `tokenizer`";
            return Err(Error::new(Code::Unsupported, message).at(rule.place.clone()));
        }
        let cut = cut.and_then(|most| tokens::cut(text, most, Counter::Words));
        let is_cut = cut.is_some();
        let text = cut.unwrap_or(text);
        let text = (!text.is_empty()).then(|| {
            let key = made.key(text);
            *known.entry(key).or_insert_with(|| {
                made.texts.push(Text { key, text: text.to_owned(), tokens: tokens::estimate(text) });
                made.texts.len() - 1
            })
        });
        made.rows.push(Row { columns: columns(&item, &mut ids), text, is_cut });
    }
    Ok(made)
}

/// Takes comments out of an item's source, where there is a grammar for it.
fn drop_comments(item: &mut Value) {
    let ext = item.get("path").and_then(Value::as_str).and_then(|path| RelPath::new(path).ok());
    let ext = ext.map(|path| path.ext().to_owned()).unwrap_or_default();
    for name in ["text", "value"] {
        let bare = item.get(name).and_then(Value::as_str).and_then(|text| syntax::without_comments(&ext, text).ok());
        if let Some(bare) = bare {
            item[name] = bare.into();
        }
    }
    if let Some(doc) = item.get_mut("doc") {
        *doc = "".into();
    }
}

/// What is said of an item without a template: of a part of a text its name and what is said of it before itself.
fn usual_text(item: &Value) -> String {
    let of = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (of("text"), item) {
        (Some(text), _) if item.get("line").is_some() => {
            let before = [of("name"), of("doc")].into_iter().flatten();
            before.chain([text]).collect::<Vec<_>>().join("\n")
        }
        (Some(text), _) => text.to_owned(),
        (None, Value::String(text)) => text.clone(),
        (None, Value::Object(map)) if map.contains_key("text") => String::new(),
        (None, value) => value.to_string(),
    }
}

/// An item's columns. Of several with one name all but the first are numbered.
fn columns(item: &Item, ids: &mut HashMap<String, usize>) -> Map<String, Value> {
    let seen = ids.entry(item.label.to_string()).and_modify(|count| *count += 1).or_insert(1);
    let mut columns = Map::new();
    let id = if *seen == 1 { item.label.to_string() } else { format!("{}~{seen}", item.label) };
    columns.insert("id".to_owned(), id.into());
    for name in ["path", "name", "kind", "line"] {
        if let Some(value) = item.value.get(name).filter(|value| value.is_string() || value.is_number()) {
            columns.insert(name.to_owned(), value.clone());
        }
    }
    columns
}

impl Embedding {
    /// What a text's vector is kept by: all that can change it, and nothing of where the text stands.
    pub(super) fn key(&self, text: &str) -> Digest {
        let framed = Framed::new("genmake-vector-1").field(&self.model);
        let framed = framed.field(self.dimensions.unwrap_or(0).to_le_bytes());
        let framed = framed.field(self.task.as_deref().unwrap_or_default());
        framed.field(Value::Object(self.params.clone()).to_string()).field(text).finish()
    }

    /// The digest of all that the output is made of.
    pub(super) fn digest(&self) -> Digest {
        let mut framed = Framed::new("genmake-action-embedding-1");
        for row in &self.rows {
            framed = framed.field(Value::Object(row.columns.clone()).to_string());
            let key = row.text.map(|text| self.texts[text].key);
            framed = framed.field(key.as_ref().map_or(&[][..], |key| key.bytes())).field([u8::from(row.is_cut)]);
        }
        framed.field(&self.model).finish()
    }
}
