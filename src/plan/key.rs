//! What goes into a task's keys. One walk feeds the hash and the explanation.
//!
//! The *input key* covers what a task names, and is cheap: nothing is rendered. It is a list of labelled parts:
//! the recipe file and the partials beside it, the item, the inputs as selected, `vars`, the parameters, provider-given model,
//! the outputs. If they are as they were, so is the action key.
//!
//! The *action key* covers what can change the result. For an LLM task: the messages as they would be if the task travelled
//! alone, model, parameters, output paths. For a template: the rendered bytes and the output paths. In neither: time, mtime,
//! absolute paths, the provider's name and address, checks, who travelled along, how many jobs.

use serde_json::Value;

use crate::digest::{Digest, Framed};
use crate::error::Error;
use crate::files::Files;
use crate::graph::{Graph, Source, TaskId};
use crate::llm::Ask;
use crate::manifest::Recipe;
use crate::path::RelPath;

/// Something that a task is made from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// What kind of thing.
    pub kind: PartKind,
    /// What people call it: a path, an input as written, a variable's name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// The kinds of things that a task is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// The recipe's file or a partial beside it.
    Recipe,
    /// The item of the foreach.
    Item,
    /// One input, as selected.
    Input,
    /// The variables of the Genfile.
    Vars,
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
pub fn parts(graph: &Graph, id: TaskId, files: &dyn Files) -> Result<Vec<Part>, Error> {
    let task = &graph.tasks[id];
    let rule = graph.rule(id);
    let mut parts = Vec::with_capacity(5 + task.partials.len() + task.inputs.len());
    let mut add = |kind, name: &str, digest| parts.push(Part { kind, name: name.to_owned(), digest });
    let partials = task.partials.iter().map(|(_, path)| path);
    for path in std::iter::once(&task.recipe).chain(partials) {
        add(PartKind::Recipe, path.as_str(), file_digest(files, path)?);
    }
    if let Some(item) = &task.item {
        let content = item.file.as_ref().map(|path| file_digest(files, path)).transpose()?;
        let mut framed = Framed::new("genmake-item-1").field(item.value.to_string());
        if let Some(content) = content {
            framed = framed.field(content.bytes());
        }
        add(PartKind::Item, &item.label, framed.finish());
    }
    for input in &task.inputs {
        let name = input.name.as_deref().map_or_else(|| "[]".to_owned(), |name| format!(".{name}"));
        let digest = source_digest(graph, &input.source, files)?;
        let framed = Framed::new("genmake-input-2").field(name).field(digest.bytes());
        add(PartKind::Input, &input.label, framed.finish());
    }
    add(PartKind::Vars, "vars", graph.vars_digest);
    add(PartKind::Params, "params", Digest::of(Value::Object(rule.params.clone()).to_string()));
    let model = rule.model.clone().or_else(|| graph.manifest.provider_of(rule).ok().and_then(|p| p.model.clone()));
    add(PartKind::Model, model.as_deref().unwrap_or(""), Digest::of(model.as_deref().unwrap_or("")));
    let recipe = if matches!(rule.recipe, Some(Recipe::Prompt(_))) { "prompt" } else { "template" };
    let mut outputs = Framed::new("genmake-outputs-2").field(&rule.name).field(recipe);
    for output in &task.outputs {
        outputs = outputs.field(output.name.as_deref().unwrap_or("")).field(output.path.as_str());
    }
    add(PartKind::Outputs, "outputs", outputs.finish());
    Ok(parts)
}

/// The action key of a task whose outputs are rendered.
pub fn template_key<'a>(outputs: impl Iterator<Item = (&'a RelPath, Digest)>) -> Digest {
    let mut framed = Framed::new("genmake-action-template-1");
    for (path, digest) in outputs {
        framed = framed.field(path.as_str()).field(digest.bytes());
    }
    framed.finish()
}

/// The action key of a task that a model answers.
pub fn prompt_key(ask: &Ask) -> Digest {
    let mut framed = Framed::new("genmake-action-prompt-1").field(&ask.model);
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
    framed.finish()
}

/// A file's digest, or one that no file has: it is not there.
fn file_digest(files: &dyn Files, path: &RelPath) -> Result<Digest, Error> {
    Ok(files.digest(path)?.unwrap_or_else(|| Framed::new("genmake-no-file-1").finish()))
}

fn source_digest(graph: &Graph, source: &Source, files: &dyn Files) -> Result<Digest, Error> {
    let mut framed = Framed::new("genmake-source-2");
    match source {
        Source::File { path, .. } => {
            framed = framed.field(path.as_str()).field(file_digest(files, path)?.bytes());
        }
        Source::Files(paths) => {
            for path in paths {
                framed = framed.field(path.as_str()).field(file_digest(files, path)?.bytes());
            }
        }
        Source::Parts { files: paths, selector, optional } => {
            for path in paths {
                framed = framed.field(path.as_str());
                for part in super::making::select(graph, files, path, selector, *optional)? {
                    // A part's line moves when a neighbour grows: then the recipe is rendered again, and the action key decides.
                    framed = framed.field(Value::Object(part.names()).to_string());
                }
            }
        }
    }
    Ok(framed.finish())
}
