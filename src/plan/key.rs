//! What goes into a task's keys. One walk feeds the hash and the explanation.
//!
//! The *input key* covers what a task names, and is cheap: nothing is rendered. It is a list of labelled parts: the recipe, which is
//! a file and the partials beside it or a command's text; the item; the inputs as selected; what the prompt is shown of a
//! specification; `vars`; the environment variables that the rule names; the parameters; the model that rule or provider name; the
//! outputs with rule, kind of recipe, filters and file mode. If they are as they were, so is the action key.
//!
//! The *action key* covers what can change the result. For an LLM task: the messages as they would be if the task travelled
//! alone, model, parameters, output paths, the result's schema where there is one. For a template: the rendered bytes and the
//! output paths. For a command: its text, item, inputs and declared environment, output paths. For all: filters, with the
//! declared environment and the inputs that they name, and file mode.
//! In none: time, mtime, absolute paths, the provider's name and address, checks, who travelled along, how many jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::context;
use super::making::Making;
use crate::digest::{Digest, Framed};
use crate::error::Error;
use crate::files::Files;
use crate::graph::{Graph, ItemSource, Source, TaskId};
use crate::llm::Ask;
use crate::manifest::Recipe;
use crate::path::RelPath;

/// Something that a task is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Part {
    /// What kind of thing.
    pub kind: PartKind,
    /// What people call it: a path, an input as written, a variable's name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// The kinds of things that a task is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "run", serde(rename_all = "snake_case"))]
pub enum PartKind {
    /// The recipe's file or a partial beside it.
    Recipe,
    /// The item of the foreach.
    Item,
    /// One input, as selected.
    Input,
    /// What the prompt is shown of a specification, or one entity of it.
    Context,
    /// The variables of the Genfile.
    Vars,
    /// An environment variable that the rule names.
    Env,
    /// The parameters of the rule.
    Params,
    /// The model that rule or provider name.
    Model,
    /// The rule's name, what kind of recipe it has, and the outputs' names and paths.
    Outputs,
}

/// The parts of a task, in a fixed order.
///
/// # Errors
/// A file that cannot be read, or a selector that finds nothing.
pub(super) fn parts(graph: &Graph, id: TaskId, files: &dyn Files, lists: &Lists) -> Result<Vec<Part>, Error> {
    let task = &graph.tasks[id];
    let rule = graph.rule(id);
    let mut parts = Vec::with_capacity(6 + task.partials.len() + task.inputs.len() + rule.env.len());
    let mut add = |kind, name: &str, digest| parts.push(Part { kind, name: name.to_owned(), digest });
    let partials = task.partials.iter().map(|(_, path)| path);
    for path in task.recipe.iter().chain(partials) {
        add(PartKind::Recipe, path.as_str(), file_digest(files, path)?);
    }
    if let Some(Recipe::Run(command)) = &rule.recipe {
        add(PartKind::Recipe, "run", Digest::of(command.text()));
    }
    if let Some(item) = &task.item {
        let mut framed = Framed::new("genmake-item-1").field(item.value.to_string());
        for (_, path) in &item.files {
            framed = framed.field(file_digest(files, path)?.bytes());
        }
        add(PartKind::Item, &item.label, framed.finish());
    }
    for input in &task.inputs {
        let name = input.name.as_deref().map_or_else(|| "[]".to_owned(), |name| format!(".{name}"));
        let digest = lists.digest(graph, &input.source, files, Line::With)?;
        let framed = Framed::new("genmake-input-2").field(name).field(digest.bytes());
        add(PartKind::Input, &input.label, framed.finish());
    }
    if let Some(items) = &task.items {
        for axis in &items.axes {
            let framed = Framed::new("genmake-items-1").field(axis.name.as_deref().unwrap_or_default());
            let framed = match &axis.over {
                ItemSource::Of(source) => framed.field(lists.digest(graph, source, files, Line::With)?.bytes()),
                ItemSource::Literal(values) => framed.field(Value::from(values.clone()).to_string()),
            };
            add(PartKind::Input, &axis.label, framed.finish());
        }
        if let Some(schema) = &items.schema {
            add(PartKind::Input, schema.as_str(), file_digest(files, schema)?);
        }
    }
    for part in context::parts(graph, id, files)? {
        add(part.kind, &part.name, part.digest);
    }
    add(PartKind::Vars, "vars", graph.vars_digest);
    for name in &rule.env {
        add(PartKind::Env, name, env_digest(graph, name));
    }
    add(PartKind::Params, "params", Digest::of(Value::Object(rule.params.clone()).to_string()));
    if rule.is_asked() {
        let model = rule.model.clone().or_else(|| graph.manifest.provider_of(rule).ok().and_then(|p| p.model.clone()));
        let model = model.unwrap_or_default();
        add(PartKind::Model, &model, Digest::of(&model));
    }
    let recipe = rule.recipe.as_ref().map_or("", Recipe::name);
    let mut outputs = Framed::new("genmake-outputs-3").field(&rule.name).field(recipe);
    for output in &task.outputs {
        outputs = outputs.field(output.name.as_deref().unwrap_or("")).field(output.path.as_str());
    }
    if let (Some(of), Some(items)) = (&rule.collection, &task.items) {
        let how = format!("{:?} {:?} {:?} {:?}", of.unique_by, of.window, of.carry, of.results);
        outputs = outputs.field(how).field(Value::Object(items.set.clone()).to_string());
    }
    if let Some(Recipe::Embed(how)) = &rule.recipe {
        let how = (how.dimensions, how.max_tokens, &how.task, how.keeps_comments);
        outputs = outputs.field(format!("{how:?}"));
    }
    let outputs = afterwards(outputs, rule.filters.iter().map(|filter| filter.text()), rule.file_mode);
    add(PartKind::Outputs, "outputs", outputs.finish());
    Ok(parts)
}

/// The action key of a task, from what its recipe gives. `filters` are its commands with the values in them.
///
/// # Errors
/// An input of a command that cannot be read.
pub(super) fn action_key(
    graph: &Graph,
    id: TaskId,
    making: &Making,
    filters: &[String],
    files: &dyn Files,
    lists: &Lists,
) -> Result<Digest, Error> {
    let key = match making {
        Making::Ask(ask) => prompt_key(ask, "genmake-action-prompt-1"),
        Making::Command(command) => run_key(graph, id, command, files, lists)?,
        Making::Embedding(made) => {
            let whole = Framed::new("genmake-action-embedding-of-1").field(made.digest().bytes());
            let outputs = graph.tasks[id].outputs.iter();
            outputs.fold(whole, |whole, output| {
                whole.field(output.name.as_deref().unwrap_or_default()).field(output.path.as_str())
            })
        }
        Making::Collection(made) => {
            let window = graph.rule(id).collection.as_ref().and_then(|of| of.window);
            let whole = Framed::new("genmake-action-collection-of-1").field(made.digest(window).bytes());
            whole.field(graph.tasks[id].outputs[0].path.as_str())
        }
        Making::Bytes(bytes) | Making::Unfiltered(bytes) => {
            let mut framed = Framed::new("genmake-action-template-1");
            for (output, bytes) in graph.tasks[id].outputs.iter().zip(bytes) {
                framed = framed.field(output.path.as_str()).field(Digest::of(bytes).bytes());
            }
            framed
        }
    };
    let key = match making {
        Making::Command(_) => key,
        _ => read_by_filters(graph, id, key, filters, files)?,
    };
    Ok(afterwards(key, filters.iter().map(String::as_str), graph.rule(id).file_mode).finish())
}

/// What filters can see beside the content: the declared environment, and the inputs that they name.
fn read_by_filters(
    graph: &Graph,
    id: TaskId,
    mut framed: Framed,
    filters: &[String],
    files: &dyn Files,
) -> Result<Framed, Error> {
    if filters.is_empty() {
        return Ok(framed);
    }
    for name in &graph.rule(id).env {
        framed = framed.field("env").field(name).field(env_digest(graph, name).bytes());
    }
    let task = &graph.tasks[id];
    let inputs = task.inputs.iter().flat_map(|input| input.source.files());
    let items = task.item.iter().flat_map(|item| item.files.iter().map(|(_, path)| path));
    for path in inputs.chain(items).filter(|path| filters.iter().any(|line| line.contains(path.as_str()))) {
        framed = framed.field("read").field(path.as_str()).field(file_digest(files, path)?.bytes());
    }
    Ok(framed)
}

/// What happens to a result before it is written.
fn afterwards<'a>(mut framed: Framed, filters: impl Iterator<Item = &'a str>, mode: Option<u32>) -> Framed {
    for filter in filters {
        framed = framed.field("filter").field(filter);
    }
    match mode {
        Some(mode) => framed.field("mode").field(mode.to_le_bytes()),
        None => framed,
    }
}

/// The digest of an environment variable, or one that no value has: it is not set.
fn env_digest(graph: &Graph, name: &str) -> Digest {
    match graph.env.get(name) {
        Some(value) => Digest::of(value),
        None => Framed::new("genmake-no-variable-1").finish(),
    }
}

/// A command: what it says, what it is declared to read, and where its results go.
fn run_key(graph: &Graph, id: TaskId, command: &str, files: &dyn Files, lists: &Lists) -> Result<Framed, Error> {
    let task = &graph.tasks[id];
    let mut framed = Framed::new("genmake-action-run-1").field(command);
    for name in &graph.rule(id).env {
        framed = framed.field("env").field(name).field(env_digest(graph, name).bytes());
    }
    if let Some(item) = &task.item {
        // What it is, not where it stands: an item that moves within its file is the same.
        let mut value = item.value.clone();
        forget_place(&mut value);
        framed = framed.field("item").field(value.to_string());
        for (_, path) in &item.files {
            framed = framed.field(file_digest(files, path)?.bytes());
        }
    }
    for input in &task.inputs {
        framed = framed.field("input").field(lists.digest(graph, &input.source, files, Line::Without)?.bytes());
    }
    for output in &task.outputs {
        framed = framed.field("output").field(output.name.as_deref().unwrap_or("")).field(output.path.as_str());
    }
    Ok(framed)
}

/// Takes out of an item, and out of the items of axes, where in its file it stands.
pub(super) fn forget_place(item: &mut Value) {
    if let Value::Object(map) = item {
        let is_part = map.contains_key("path") && map.contains_key("index");
        if is_part {
            let index = map.remove("index").map(|index| index.to_string());
            map.remove("line");
            // In a list the key is the index.
            if map.get("key").and_then(Value::as_str) == index.as_deref() {
                map.remove("key");
            }
        } else {
            map.values_mut().for_each(forget_place);
        }
    }
}

/// What the result of a collection's piece is stored by: as a task's action key, and wherever its output goes.
pub(super) fn piece_key(ask: &Ask) -> Digest {
    prompt_key(&Ask { outputs: Vec::new(), ..ask.clone() }, "genmake-piece-1").finish()
}

/// The action key of a task that a model answers, before filters and modes.
fn prompt_key(ask: &Ask, kind: &str) -> Framed {
    let mut framed = Framed::new(kind).field(&ask.model);
    // Parameters in the order of their names: how a person ordered them changes nothing.
    let mut params: Vec<(&String, &Value)> = ask.params.iter().collect();
    params.sort_by_key(|(name, _)| *name);
    framed = framed.field((params.len() as u64).to_le_bytes());
    for (name, value) in params {
        framed = framed.field(name).field(value.to_string());
    }
    framed = framed.field((ask.messages.len() as u64).to_le_bytes());
    for message in &ask.messages {
        framed = framed.field(message.role.name()).field(&message.text);
    }
    for output in &ask.outputs {
        framed = framed.field(output.name.as_deref().unwrap_or("")).field(output.path.as_str());
    }
    // Only where there is one, so that a task without keeps the key that it has always had.
    match &ask.schema {
        None => framed,
        Some(schema) => {
            Framed::new("genmake-action-schema-1").field(framed.finish().bytes()).field(schema.value().to_string())
        }
    }
}

/// A file's digest, or one that no file has: it is not there.
fn file_digest(files: &dyn Files, path: &RelPath) -> Result<Digest, Error> {
    Ok(files.digest(path)?.unwrap_or_else(|| Framed::new("genmake-no-file-1").finish()))
}

/// Whether a part counts with the line where it stands. It moves when a neighbour grows: then a recipe is rendered again, and
/// its action key decides; a command's key has nothing to render and goes without.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Line {
    With,
    Without,
}

/// What is known of lists that tasks share, above all their digests, so that it is found once and not once a task.
///
/// Good for one view of the tree: that of a plan, or that of a run. In either a task comes up only after all that it waits for,
/// and these make whatever is made of its lists; so a list that was looked at does not change any more.
#[derive(Default)]
pub struct Lists {
    digests: Mutex<HashMap<List, Digest>>,
    /// What was looked through for secrets.
    #[cfg(feature = "run")]
    pub(super) looked: super::leaks::Looked,
}

/// What tells a shared list from others of its graph.
#[derive(PartialEq, Eq, Hash)]
enum List {
    /// Files, by where the list stands in memory.
    Files(usize),
    /// The parts of one file that a selector finds.
    Parts(RelPath, String, Line),
}

impl Lists {
    fn digest(&self, graph: &Graph, source: &Source, files: &dyn Files, line: Line) -> Result<Digest, Error> {
        let list = match source {
            Source::Files(paths) if paths.len() > 1 => List::Files(Arc::as_ptr(paths).cast::<RelPath>().addr()),
            Source::Parts { files: paths, selector, is_list: true, optional } if paths.len() == 1 => {
                List::Parts(paths[0].clone(), format!("{selector:?} {optional}"), line)
            }
            _ => return source_digest(graph, source, files, line),
        };
        let known = |lists: &Lists| lists.digests.lock().unwrap_or_else(PoisonError::into_inner).get(&list).copied();
        if let Some(digest) = known(self) {
            return Ok(digest);
        }
        let digest = source_digest(graph, source, files, line)?;
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).insert(list, digest);
        Ok(digest)
    }
}

fn source_digest(graph: &Graph, source: &Source, files: &dyn Files, line: Line) -> Result<Digest, Error> {
    let mut framed = Framed::new("genmake-source-2");
    match source {
        Source::File { path, .. } => {
            framed = framed.field(path.as_str()).field(file_digest(files, path)?.bytes());
        }
        Source::Files(paths) => {
            for path in paths.iter() {
                framed = framed.field(path.as_str()).field(file_digest(files, path)?.bytes());
            }
        }
        Source::Parts { files: paths, selector, optional, .. } => {
            for path in paths.iter() {
                framed = framed.field(path.as_str());
                for part in super::making::select(graph, files, path, selector, *optional)? {
                    let mut names = part.names();
                    if line == Line::Without {
                        names.remove("line");
                    }
                    framed = framed.field(Value::Object(names).to_string());
                }
            }
        }
    }
    Ok(framed.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Counted;
    use std::collections::BTreeSet;

    #[test]
    fn a_list_that_tasks_share_is_hashed_once() {
        let count = 300;
        let genfile = "version: 1\nrules:\n  \
             all: {foreach: \"in/*.txt\", template: t.hbs, output: \"out/{{item.name}}\", inputs: [\"in/*.txt\"]}\n  \
             after: {foreach: \"in/*.txt\", run: \"x\", output: \"a/{{item.name}}\", inputs: [\"rule:all\"]}\n";
        let path = |name: &str| RelPath::new(name).unwrap();
        let mut files: HashMap<RelPath, Arc<[u8]>> =
            (0..count).map(|i| (path(&format!("in/{i}.txt")), Arc::from(i.to_string().as_bytes()))).collect();
        files.insert(path("t.hbs"), Arc::from(&b"t"[..]));
        let (manifest, found) = crate::manifest::load("Genfile", genfile, &files).unwrap();
        assert_eq!(found, []);
        let (graph, found) = Graph::new(manifest, &files, &BTreeSet::new(), &|_| None);
        assert_eq!((graph.tasks.len(), found), (2 * count, Vec::new()));
        let files = Counted { files, ..Counted::default() };
        let lists = Lists::default();
        let all: Vec<Vec<Part>> = (0..graph.tasks.len()).map(|id| parts(&graph, id, &files, &lists).unwrap()).collect();
        let asked = files.digests.into_inner();
        assert!(asked < 10 * count, "{asked} for {count} files");
        // And as if each were hashed by itself.
        let each: Vec<Vec<Part>> =
            (0..graph.tasks.len()).map(|id| parts(&graph, id, &files.files, &Lists::default()).unwrap()).collect();
        assert_eq!(all, each);
    }
}
