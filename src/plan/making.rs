//! Renders a task: the bytes of its outputs, or the messages to a model.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::collection::{self, Collection};
use super::context::{self, Shown};
use super::embedding::{self, Embedding};
use crate::digest::{Digest, Framed};
use crate::error::{Code, Error, Place, Source as Text};
use crate::expr::{MARK, Template};
use crate::files::Files;
use crate::graph::{Graph, Source, Task, TaskId, env_of, file_names};
use crate::llm::Ask;
use crate::manifest::{Expr, Recipe, known_names};
use crate::path::RelPath;
use crate::prompt::{self, Message, PromptFile};
use crate::schema::Schema;
use crate::selector::{Part, Selector, is_data, write_data};

/// What a task's recipe gives, before anybody is asked.
#[derive(Debug, Clone)]
pub enum Making {
    /// The outputs' bytes, in the order of the outputs.
    Bytes(Vec<Arc<[u8]>>),
    /// The outputs' bytes before they go through the rule's filters.
    Unfiltered(Vec<Arc<[u8]>>),
    /// A command that writes the outputs, for the shell.
    Command(String),
    /// What to ask a model.
    Ask(Box<Ask>),
    /// What to ask a model for the pieces of a collection.
    Collection(Arc<Collection>),
    /// The texts that are to become vectors.
    Embedding(Arc<Embedding>),
}

/// Compiled recipes, by their content and that of their partials.
#[derive(Default)]
pub struct Recipes {
    compiled: Mutex<HashMap<Digest, Arc<Compiled>>>,
    /// The schemas of checks, by their content.
    pub(super) schemas: Mutex<HashMap<Digest, Arc<Schema>>>,
}

/// A recipe, ready to render.
pub(super) struct Compiled {
    pub template: Template,
    /// The front matter of a prompt file.
    prompt: PromptFile,
    /// What the result must be like.
    pub schema: Option<Arc<Schema>>,
    /// For errors: the recipe's text.
    text: Arc<Text>,
    /// For errors: the partials' texts by name.
    partials: HashMap<String, Arc<Text>>,
    /// Whether anything in it could ask for a file's text, or for its data.
    pub wants: Wants,
}

#[derive(Clone, Copy)]
pub(super) struct Wants {
    text: bool,
    data: bool,
}

impl Wants {
    /// What expressions in these texts could ask for.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Wants {
        let mut wants = Wants { text: false, data: false };
        for text in texts {
            wants.text |= text.contains("text");
            wants.data |= text.contains("data");
        }
        wants
    }
}

/// Renders a task.
///
/// # Errors
/// What cannot be read or rendered, pointing into the recipe.
pub fn make(graph: &Graph, id: TaskId, files: &dyn Files, recipes: &Recipes) -> Result<Making, Error> {
    let task = &graph.tasks[id];
    let rule = graph.rule(id);
    let in_rule = |e: Error| e.in_rule(&rule.name);
    if let Some(Recipe::Run(command)) = &rule.recipe {
        let scope = scope(graph, id, files, Wants::of([command.text()])).map_err(in_rule)?;
        return command.render(&scope).map(Making::Command).map_err(in_rule);
    }
    if let Some(Recipe::Embed(_)) = &rule.recipe {
        return embedding::make(graph, id, files, recipes).map(|made| Making::Embedding(Arc::new(made)));
    }
    let Some(recipe) = &task.recipe else { return Err(super::bug("a task without a recipe")) };
    let compiled = recipes.get(task, recipe, files, rule.is_prompt()).map_err(in_rule)?;
    if task.items.is_some() {
        return collection::make(graph, id, files, recipes).map(|made| Making::Collection(Arc::new(made)));
    }
    let mut scope = scope(graph, id, files, compiled.wants).map_err(in_rule)?;
    if rule.is_prompt() {
        return prompted(graph, id, files, &compiled, scope).map(|ask| Making::Ask(Box::new(ask)));
    }
    let mut outputs: Vec<Arc<[u8]>> = Vec::with_capacity(task.outputs.len());
    for output in &task.outputs {
        scope["output"] = output.path.as_str().into();
        let text = compiled.render(&scope).map_err(in_rule)?;
        outputs.push(Arc::from(text.into_bytes()));
    }
    Ok(if rule.filters.is_empty() { Making::Bytes(outputs) } else { Making::Unfiltered(outputs) })
}

/// What stands for a task's result where none can be had, in the order of the outputs.
pub fn defaults(graph: &Graph, id: TaskId, value: &Value) -> Vec<Arc<[u8]>> {
    let text = |path: &RelPath| match value {
        Value::String(text) => text.clone(),
        value => write_data(path, value),
    };
    graph.tasks[id].outputs.iter().map(|output| text(&output.path).into_bytes().into()).collect()
}

/// Commands of a task's rule, with the values in them; `output` is the path that they are told.
///
/// # Errors
/// A variable that is not there, or an input that cannot be read.
pub fn commands<'a>(
    graph: &Graph,
    id: TaskId,
    commands: impl Iterator<Item = &'a Expr> + Clone,
    output: &str,
    files: &dyn Files,
) -> Result<Vec<String>, Error> {
    if commands.clone().next().is_none() {
        return Ok(Vec::new());
    }
    let in_rule = |e: Error| e.in_rule(&graph.rule(id).name);
    let mut scope = scope(graph, id, files, Wants::of(commands.clone().map(Expr::text))).map_err(in_rule)?;
    scope["output"] = output.into();
    commands.map(|command| command.render(&scope).map_err(in_rule)).collect()
}

/// A rendered prompt, with its context where its body says, or else where contexts stand.
fn prompted(graph: &Graph, id: TaskId, files: &dyn Files, compiled: &Compiled, mut scope: Value) -> Result<Ask, Error> {
    let in_rule = |e: Error| e.in_rule(&graph.rule(id).name);
    let shown = context::shown(graph, id, files).map_err(in_rule)?;
    let places_it = compiled.template.uses("context");
    if let Some(shown) = &shown {
        shown.bring_into(&mut scope, places_it);
        no_role_marks(&scope["context"]).map_err(in_rule)?;
    }
    compiled.fill_in(&mut scope).map_err(in_rule)?;
    let messages = compiled.messages(&scope, shown.as_ref().filter(|_| !places_it)).map_err(in_rule)?;
    let mut ask = ask(graph, id, compiled, messages)?;
    ask.context = shown.map(|shown| shown.choice.note(shown.is_shared));
    Ok(ask)
}

/// What a task asks a model with these messages.
fn ask(graph: &Graph, id: TaskId, compiled: &Compiled, messages: Vec<Message>) -> Result<Ask, Error> {
    if messages.is_empty() {
        let rule = graph.rule(id);
        let error = Error::new(
            Code::BadValue,
            format!("the prompt `{}` is empty for `{}`", compiled.text.name, graph.name(id)),
        );
        return Err(error.in_rule(&rule.name).at(rule.place.clone()));
    }
    Ok(Ask { messages, ..terms(graph, id, compiled)? })
}

/// What a task asks for, of whom and how, before it is said what.
pub(super) fn terms(graph: &Graph, id: TaskId, compiled: &Compiled) -> Result<Ask, Error> {
    let (task, rule) = (&graph.tasks[id], graph.rule(id));
    let provider = graph.manifest.provider_of(rule)?;
    let model = rule.model.as_ref().or(compiled.prompt.model.as_ref()).or(provider.model.as_ref());
    let Some(model) = model else {
        return Err(Error::new(Code::MissingKey, format!("rule `{}` has no model", rule.name))
            .at(rule.place.clone())
            .hint(format!(
                "name one with `model: NAME`, in the rule, the prompt file or provider `{}`",
                provider.name
            )));
    };
    let mut params = compiled.prompt.params.clone();
    params.extend(rule.params.clone());
    if let (Some(output), 2..) = (&compiled.prompt.output, task.outputs.len()) {
        let place = Place { source: Arc::clone(&compiled.text), span: output.span.clone() };
        let message = format!("rule `{}`: a result with a schema goes to one output", rule.name);
        return Err(Error::new(Code::Conflict, message).at(place).hint("`output: PATH` in the rule"));
    }
    let (outputs, schema) = (task.outputs.clone(), compiled.schema.clone());
    let model = model.clone();
    let messages = Vec::new();
    Ok(Ask { outputs, messages, model, params, schema, context: None, piece: None, carried: None })
}

/// The largest template, prompt or partial, in bytes.
const MAX_RECIPE: u64 = 4 << 20;

/// Refuses a recipe by its size alone.
fn small_enough(path: &RelPath, bytes: u64) -> Result<(), Error> {
    if bytes <= MAX_RECIPE {
        return Ok(());
    }
    let (size, most) = (bytes.div_ceil(1 << 20), MAX_RECIPE >> 20);
    Err(Error::new(
        Code::Unreadable,
        format!("`{path}` is {size} MB large; a template or prompt has at most {most} MB"),
    )
    .hint("move data into files of its own and name them in `inputs`"))
}

impl Recipes {
    pub(super) fn get(
        &self,
        task: &Task,
        recipe: &RelPath,
        files: &dyn Files,
        is_prompt: bool,
    ) -> Result<Arc<Compiled>, Error> {
        let mut framed = Framed::new("recipe").field(recipe.as_str()).field([u8::from(is_prompt)]);
        for path in std::iter::once(recipe).chain(task.partials.iter().map(|(_, path)| path)) {
            small_enough(path, files.size(path)?.unwrap_or(0))?;
            framed = framed.field(files.digest(path)?.as_ref().map_or(&[][..], |digest| digest.bytes()));
        }
        let key = framed.finish();
        if let Some(compiled) = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(Compiled::new(task, recipe, files, is_prompt)?);
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&compiled));
        Ok(compiled)
    }
}

impl Recipes {
    /// Whether a prompt could ask for what files hold, and not for their names alone.
    ///
    /// # Errors
    /// A recipe that cannot be read or compiled.
    pub(super) fn uses_contents(&self, task: &Task, files: &dyn Files) -> Result<bool, Error> {
        let Some(recipe) = &task.recipe else { return Ok(false) };
        let wants = self.get(task, recipe, files, true)?.wants;
        Ok(wants.text || wants.data)
    }
}

impl Compiled {
    fn new(task: &Task, recipe: &RelPath, files: &dyn Files, is_prompt: bool) -> Result<Compiled, Error> {
        let read = |path: &RelPath| -> Result<String, Error> {
            files.text(path)?.ok_or_else(|| Error::new(Code::MissingInput, format!("`{path}` is not there")))
        };
        let text = read(recipe)?;
        let mut partials = Vec::with_capacity(task.partials.len());
        let mut texts = HashMap::new();
        for (name, path) in task.partials.iter() {
            let text = read(path)?;
            texts.insert(name.clone(), Text::new(path.as_str(), text.clone()));
            partials.push((name.clone(), text));
        }
        let prompt = if is_prompt {
            prompt::parse(recipe, &text).map_err(|mut found| {
                let first = found.remove(0);
                found.iter().fold(first, |first, other| first.hint(format!("and {other}")))
            })?
        } else {
            PromptFile::of_body(&text)
        };
        let wants = Wants::of(partials.iter().map(|(_, text)| text.as_str()).chain([prompt.body.as_str()]));
        let source = Text::new(recipe.as_str(), text);
        let compile = if is_prompt { Template::prompt } else { Template::new };
        let template = compile(&prompt.body, &partials).map_err(|e| e.located(&source, prompt.lines_before, &texts))?;
        let schema = prompt.output.as_ref().map(|output| {
            Schema::new(output.schema.clone()).map(Arc::new).map_err(|why| {
                let place = Place { source: Arc::clone(&source), span: output.span.clone() };
                Error::new(Code::BadValue, format!("the output schema cannot be used: {why}")).at(place)
            })
        });
        Ok(Compiled { template, schema: schema.transpose()?, prompt, text: source, partials: texts, wants })
    }

    /// Puts in what the prompt gives for names that are not there. genmake's own names are never stood in for.
    pub fn fill_in(&self, scope: &mut Value) -> Result<(), Error> {
        const OWN: [&str; 12] = [
            "vars",
            "rule",
            "output",
            "outputs",
            "item",
            "items",
            "foreach",
            "carried",
            "inputs",
            "context",
            "context_left_out",
            "env",
        ];
        let input = &self.prompt.input;
        let defaults = input.defaults.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
        for (name, value) in defaults {
            no_role_marks(value)?;
            if scope.get(name).is_none() {
                scope[name] = value.clone();
            }
        }
        match input.required.iter().find(|(name, _)| scope.get(name).is_none()) {
            None => Ok(()),
            Some((name, span)) => {
                let place = Place { source: Arc::clone(&self.text), span: span.clone() };
                let error = Error::new(Code::Undefined, format!("the prompt wants `{name}`, and nothing gives it"));
                Err(error.at(place).hint("a rule gives `item`, `inputs` and `vars`; `input.default` gives other names"))
            }
        }
    }

    /// The messages of a prompt, with a context where contexts stand. A prompt that says nothing has none, whatever it would be
    /// shown.
    pub fn messages(&self, scope: &Value, shown: Option<&Shown>) -> Result<Vec<Message>, Error> {
        let rendered = self.render(scope)?;
        let mut messages = prompt::messages(&rendered).map_err(|media| {
            let at = self.text.text.find("{{media").unwrap_or_default();
            let place = Place { source: Arc::clone(&self.text), span: at..at };
            let what = format!("`{{{{media}}}}` cannot be sent: `{}`", media.url);
            let error = Error::new(Code::Unsupported, what).at(place);
            error.hint("providers of this version are sent text only; `genmake prompt --file` renders media")
        })?;
        if let Some(shown) = shown.filter(|_| !messages.is_empty()) {
            shown.append_to(&mut messages);
        }
        Ok(messages)
    }

    pub fn render(&self, scope: &Value) -> Result<String, Error> {
        self.template.render(scope).map_err(|e| {
            e.located(&self.text, self.prompt.lines_before, &self.partials).hint_if(known_names(&e.why, scope))
        })
    }
}

/// Everything that expressions of a recipe can name.
pub(super) fn scope(graph: &Graph, id: TaskId, files: &dyn Files, wants: Wants) -> Result<Value, Error> {
    let task = &graph.tasks[id];
    let rule = graph.rule(id);
    let mut scope = json!({"vars": graph.manifest.vars, "rule": rule.name});
    if !rule.env.is_empty() {
        scope["env"] = env_of(rule, &graph.env);
    }
    scope["output"] = task.outputs[0].path.as_str().into();
    let named =
        task.outputs.iter().map(|o| (o.name.clone().unwrap_or_else(|| "output".to_owned()), o.path.as_str().into()));
    scope["outputs"] = named.collect::<Map<_, _>>().into();
    if let Some(item) = &task.item {
        scope["item"] = item.value.clone();
        for (axis, path) in &item.files {
            let value = file_value(graph, files, path, wants)?.unwrap_or(Value::Null);
            match axis {
                Some(axis) => scope["item"][axis] = value,
                None => scope["item"] = value,
            }
        }
    }
    let mut named = Map::new();
    let mut listed = Vec::new();
    for input in &task.inputs {
        let value = source_value(graph, &input.source, files, wants)?;
        match &input.name {
            Some(name) => drop(named.insert(name.clone(), value)),
            None => listed.push(value),
        }
    }
    scope["inputs"] = if listed.is_empty() { named.into() } else { listed.into() };
    no_role_marks(&scope)?;
    Ok(scope)
}

/// No input may hold the character that marks who speaks, or a file could speak as the system.
pub(super) fn no_role_marks(value: &Value) -> Result<(), Error> {
    match value {
        Value::String(text) if text.contains(MARK) => {
            Err(Error::new(Code::Unreadable, "an input holds a NUL byte, so it is no text")
                .hint("leave binary files out of `inputs`, or use only their `path`"))
        }
        Value::Array(items) => items.iter().try_for_each(no_role_marks),
        Value::Object(map) => map.values().try_for_each(no_role_marks),
        _ => Ok(()),
    }
}

fn source_value(graph: &Graph, source: &Source, files: &dyn Files, wants: Wants) -> Result<Value, Error> {
    match source {
        Source::File { path, .. } => Ok(file_value(graph, files, path, wants)?.unwrap_or(Value::Null)),
        Source::Files(paths) => {
            let mut values = Vec::with_capacity(paths.len());
            for path in paths.iter() {
                values.extend(file_value(graph, files, path, wants)?);
            }
            Ok(values.into())
        }
        Source::Parts { files: paths, selector, is_list, optional } => {
            let mut values = Vec::new();
            for path in paths.iter() {
                for part in select(graph, files, path, selector, *optional)? {
                    values.push(part_value(path, &part, values.len()));
                }
            }
            Ok(if *is_list { values.into() } else { values.pop().unwrap_or(Value::Null) })
        }
    }
}

/// The parts of a file that a selector finds; nothing for an optional one that finds nothing.
pub(super) fn select(
    graph: &Graph,
    files: &dyn Files,
    path: &RelPath,
    selector: &Selector,
    optional: bool,
) -> Result<Vec<Part>, Error> {
    match graph.data.select(files, path, selector) {
        Ok(Some(parts)) => Ok(parts),
        Ok(None) if optional => Ok(Vec::new()),
        Ok(None) => Err(Error::new(Code::MissingInput, format!("`{path}` is not there"))),
        Err(e) if optional && e.code == Code::BadSelector => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// A part as templates see it: with `text` and `data` as files have them, so that a template may take either.
pub(super) fn part_value(path: &RelPath, part: &Part, index: usize) -> Value {
    let mut value = part.names();
    let text = part.value.as_str().map_or_else(|| part.value.to_string(), str::to_owned);
    value.entry("text").or_insert(text.into());
    value.insert("data".to_owned(), part.value.clone());
    value.insert("index".to_owned(), index.into());
    value.insert("path".to_owned(), path.as_str().into());
    value.into()
}

/// A file as templates see it; its bytes are looked at only if the recipe could ask for them. `None` if it is not there.
pub(super) fn file_value(
    graph: &Graph,
    files: &dyn Files,
    path: &RelPath,
    wants: Wants,
) -> Result<Option<Value>, Error> {
    let mut value = file_names(path);
    let wanted = wants.text || (wants.data && is_data(path));
    if !wanted {
        return Ok(files.exists(path).then_some(value));
    }
    let Some(bytes) = files.read(path)? else { return Ok(None) };
    // What is no text has no `text`: a recipe that does ask for it gets an error that names it.
    if let Ok(text) = std::str::from_utf8(&bytes) {
        if wants.data
            && is_data(path)
            && let Some(data) = graph.data.get(files, path)?
        {
            value["data"] = data.as_ref().clone();
        }
        if wants.text {
            value["text"] = text.into();
        }
    }
    Ok(Some(value))
}
