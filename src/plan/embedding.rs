//! Embeddings: the texts of a rule's items that are to become vectors, and the rows that are written of them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde_json::{Map, Value};

use super::Ground;
use super::collection::{Item, item_values};
use super::making::{self, Recipes, Wants};
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{Graph, Output, TaskId};
use crate::llm::{Ask, EmbedLimits, EmbedRequest};
use crate::lock::Lock;
use crate::manifest::Recipe;
use crate::path::RelPath;
use crate::prompt::{Message, Role};
use crate::rows;
use crate::syntax;
use crate::tokens::{self, Counter};
use crate::vectors::{self, Vectors};

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
    params: Map<String, Value>,
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
    fn key(&self, text: &str) -> Digest {
        let framed = Framed::new("genmake-vector-1").field(&self.model);
        let framed = framed.field(self.dimensions.unwrap_or(0).to_le_bytes());
        let framed = framed.field(self.task.as_deref().unwrap_or_default());
        framed.field(Value::Object(self.params.clone()).to_string()).field(text).finish()
    }

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
