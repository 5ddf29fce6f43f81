//! What a task would send and should not: files that hold secrets by their names, credentials in its messages. Asked of stale
//! tasks only, before their messages are handed on; what is up to date, or in the store, sends nothing.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Ground, bug};
use crate::error::{Code, Error, Place, Source as Text};
use crate::files::Files;
use crate::graph::{Graph, ItemSource, Source, TaskId};
use crate::llm::Ask;
use crate::manifest::{Foreach, Over, Recipe};
use crate::path::RelPath;
use crate::prompt::Role;
use crate::secrets::{self, Finding};

/// The fewest bytes of a variable's value that are looked for: a shorter one stands in any text.
const MIN_VALUE: usize = 6;

/// How many further places an error names.
const MORE: usize = 5;

/// What tasks share and was looked through already, in one view of the tree.
#[derive(Default)]
pub struct Looked {
    /// By where a list of files stands in memory: the first of them that holds secrets by its name.
    lists: Mutex<HashMap<usize, Option<usize>>>,
    /// System parts without a credential: all tasks of a rule may have the same, and a long one.
    clean: Mutex<HashSet<String>>,
}

impl Looked {
    fn first_of_secrets<'a>(&self, paths: &'a Arc<[RelPath]>, files: &dyn Files) -> Option<&'a RelPath> {
        let list = Arc::as_ptr(paths).cast::<RelPath>().addr();
        let known = self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&list).copied();
        let first = known.unwrap_or_else(|| {
            let first = paths.iter().position(|path| denied(path.as_str(), files).is_some());
            self.lists.lock().unwrap_or_else(PoisonError::into_inner).insert(list, first);
            first
        });
        first.and_then(|at| paths.get(at))
    }

    fn find(&self, role: Role, text: &str) -> Result<Vec<Finding>, Error> {
        let is_clean = || self.clean.lock().unwrap_or_else(PoisonError::into_inner).contains(text);
        if role == Role::System && is_clean() {
            return Ok(Vec::new());
        }
        let found = look(text)?;
        if role == Role::System && found.is_empty() {
            self.clean.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned());
        }
        Ok(found)
    }
}

/// Stops a task that would send a secret, unless its rule allows that.
///
/// # Errors
/// [`Code::Secret`], at the file's line, or at the Genfile's where a file is not to be sent at all.
pub fn stop(ground: &Ground, id: TaskId, ask: &Ask, files: &dyn Files) -> Result<(), Error> {
    let graph = ground.graph;
    if graph.rule(id).allow_secrets {
        return Ok(());
    }
    no_file(ground, id, files)?;
    let carried = || ask.carried.iter().flat_map(|carried| carried.texts());
    for (name, value) in env_of_secrets(graph, id) {
        if ask.messages.iter().any(|message| message.text.contains(value)) || carried().any(|text| text.contains(value))
        {
            let what = format!("the value of the environment variable `{name}` would be sent to a model");
            let error = Error::new(Code::Secret, what).at(graph.rule(id).place.clone());
            return Err(error.hint(format!("leave `env.{name}` out of the prompt; {ALLOW}")));
        }
    }
    let schema = ask.schema.as_ref().map(|schema| schema.value().to_string()).unwrap_or_default();
    let parts = ask.messages.iter().map(|message| (message.role, message.role.name(), message.text.as_str()));
    let mut found: Vec<(&str, &str, Finding)> = Vec::new();
    // What all windows behind it are shown, too, is looked through once.
    let carried = carried().map(|text| (Role::System, "carried", text));
    for (role, name, text) in parts.chain(carried).chain([(Role::System, "schema", schema.as_str())]) {
        found.extend(ground.lists.looked.find(role, text)?.into_iter().map(|finding| (name, text, finding)));
    }
    let Some((part, text, first)) = found.first() else { return Ok(()) };
    let error = said(graph, id, first, text, (part, files))?;
    let mut told = vec![in_short(first, text)];
    for (_, text, other) in &found {
        let other = in_short(other, text);
        if !told.contains(&other) {
            told.push(other);
        }
    }
    let more = told.len().saturating_sub(1 + MORE);
    let error = told.iter().skip(1).take(MORE).fold(error, |error, other| error.hint(format!("and there is {other}")));
    Err(error.hint_if((more > 0).then(|| format!("and {more} more"))))
}

/// Stops a task that would send a credential in a text that is added to its own messages: `whose` says what that is.
///
/// # Errors
/// [`Code::Secret`], at the rule.
pub fn no_secret_in(graph: &Graph, id: TaskId, text: &str, whose: &str) -> Result<(), Error> {
    let rule = graph.rule(id);
    if rule.allow_secrets {
        return Ok(());
    }
    let Some(first) = look(text)?.into_iter().next() else { return Ok(()) };
    let what = format!(
        "{whose} holds what looks like a credential ({}), and would be sent to a model",
        in_short(&first, text)
    );
    Err(Error::new(Code::Secret, what).in_rule(&rule.name).at(rule.place.clone()).hint(ALLOW))
}

const ALLOW: &str = "`allow_secrets: true` in the rule sends it all the same";

fn look(text: &str) -> Result<Vec<Finding>, Error> {
    secrets::find(text).map_err(|why| bug(&format!("the forms of secrets: {why}")))
}

/// What kind it is, and its beginning.
fn in_short(found: &Finding, text: &str) -> String {
    format!("{}, `{}`", found.what, secrets::beginning(&text[found.span.clone()]))
}

/// The variables that a rule names, that hold secrets by their names, and their values.
fn env_of_secrets(graph: &Graph, id: TaskId) -> impl Iterator<Item = (&str, &str)> {
    let is_key =
        |name: &String| graph.manifest.providers.values().any(|provider| provider.key_env.as_ref() == Some(name));
    let named = graph.rule(id).env.iter().filter(move |name| secrets::is_secret_name(name) || is_key(name));
    let set = named.filter_map(|name| Some((name.as_str(), graph.env.get(name)?.trim())));
    set.filter(|(_, value)| value.len() >= MIN_VALUE)
}

/// The pattern that the name of a file matches, or else that of the file which a symlink leads to, with that name's last part.
fn denied(path: &str, files: &dyn Files) -> Option<(&'static str, Option<String>)> {
    if let Some(pattern) = secrets::denied(path) {
        return Some((pattern, None));
    }
    let target = files.leads_to(&RelPath::new(path).ok()?)?;
    let pattern = secrets::denied(target.trim_start_matches('/'))?;
    Some((pattern, Some(target.rsplit('/').next().unwrap_or_default().to_owned())))
}

/// Stops a task that reads a file which holds secrets by its name.
fn no_file(ground: &Ground, id: TaskId, files: &dyn Files) -> Result<(), Error> {
    let (task, rule) = (&ground.graph.tasks[id], ground.graph.rule(id));
    // Each with its place in the Genfile, and whether it is read whatever the recipe asks for.
    let mut denied: Vec<(&str, Option<&Place>, bool)> = Vec::new();
    let is_denied = |path: &&str| self::denied(path, files).is_some();
    let of_list = |paths| ground.lists.looked.first_of_secrets(paths, files).map(RelPath::as_str);
    let over = rule.foreach.as_ref().and_then(place_of);
    if let Some(item) = &task.item {
        let whole = item.files.iter().map(|(_, path)| path.as_str()).filter(is_denied);
        denied.extend(whole.map(|path| (path, over, false)));
        denied.extend(item.part_of().filter(is_denied).map(|path| (path, over, true)));
    }
    for (i, input) in task.inputs.iter().enumerate() {
        let place = rule.inputs.get(i).map(|input| &input.source.place);
        let (path, is_read) = match &input.source {
            Source::File { path, .. } => (Some(path.as_str()).filter(is_denied), false),
            Source::Files(paths) => (of_list(paths), false),
            Source::Parts { files, .. } => (of_list(files), true),
        };
        denied.extend(path.map(|path| (path, place, is_read)));
    }
    // What becomes vectors is read; what a prompt says of its items is its own affair.
    let becomes_vectors = matches!(rule.recipe, Some(Recipe::Embed(_)));
    let of_items = rule.collection.as_ref().and_then(|of| place_of(&of.items));
    for axis in task.items.iter().flat_map(|items| &items.axes) {
        let (path, is_read) = match &axis.over {
            ItemSource::Of(Source::File { path, .. }) => (Some(path.as_str()).filter(is_denied), becomes_vectors),
            ItemSource::Of(Source::Files(paths)) => (of_list(paths), becomes_vectors),
            ItemSource::Of(Source::Parts { files, .. }) => (of_list(files), true),
            ItemSource::Literal(_) => (None, false),
        };
        denied.extend(path.map(|path| (path, of_items, is_read)));
    }
    let context = rule.context.as_ref().map(|context| &context.select.place);
    denied.extend(task.context.iter().filter_map(|of_task| of_list(&of_task.files)).map(|path| (path, context, true)));
    let recipe = rule.recipe.as_ref().and_then(|recipe| recipe.file()).map(|file| &file.place);
    let recipes = task.recipe.iter().chain(task.partials.iter().map(|(_, path)| path)).map(RelPath::as_str);
    denied.extend(recipes.filter(is_denied).map(|path| (path, recipe, true)));
    // Of other files a recipe may use no more than their names.
    let uses_contents = !denied.is_empty() && ground.recipes.uses_contents(task, files)?;
    let Some((path, place, _)) = denied.into_iter().find(|(_, _, is_read)| *is_read || uses_contents) else {
        return Ok(());
    };
    let (named, leads) = match self::denied(path, files) {
        Some((pattern, Some(target))) => {
            (format!("as files named `{pattern}` do"), format!(" leads to `{target}`, which"))
        }
        Some((pattern, None)) if pattern != path => (format!("as files named `{pattern}` do"), String::new()),
        _ => ("by its name".to_owned(), String::new()),
    };
    let what = format!("`{path}`{leads} holds secrets {named}, and would be sent to a model");
    let error = Error::new(Code::Secret, what).at(place.unwrap_or(&rule.place).clone());
    Err(error.hint(format!("leave it out; {ALLOW}")))
}

/// Where what a rule runs over stands.
fn place_of(foreach: &Foreach) -> Option<&Place> {
    match foreach {
        Foreach::Over(over) => first(over),
        Foreach::Axes(axes) => axes.iter().find_map(|(_, over)| first(over)),
    }
}

fn first(over: &Over) -> Option<&Place> {
    match over {
        Over::Text(expr) => Some(&expr.place),
        Over::Globs(globs) => globs.first().map(|glob| &glob.place),
        Over::List(_) => None,
    }
}

/// The error for a credential in a message, at the line of the file that it comes from where one holds it.
fn said(graph: &Graph, id: TaskId, found: &Finding, text: &str, at: (&str, &dyn Files)) -> Result<Error, Error> {
    let (part, files) = at;
    let secret = &text[found.span.clone()];
    let what = format!("what looks like a credential ({}) would be sent to a model", in_short(found, text));
    let error = |place: Place, out_of: &str| {
        let error = Error::new(Code::Secret, what.clone()).at(place);
        error.hint(format!("take it out of {out_of}; {ALLOW}"))
    };
    let mut same_kind = None;
    for (name, text) in texts(graph, id, files) {
        let as_it_is = text.find(secret).map(|start| start..start + secret.len());
        if let Some(span) = as_it_is {
            return Ok(error(place(&name, &text, span)?, &format!("`{name}`")));
        }
        // In the prompt it may stand otherwise than in the file, as JSON has line breaks.
        if same_kind.is_none() {
            let same = look(&text)?.into_iter().find(|other| other.what == found.what);
            same_kind = same.map(|same| (name, text, same.span));
        }
    }
    if let Some((name, text, span)) = same_kind {
        return Ok(error(place(&name, &text, span)?, &format!("`{name}`")));
    }
    let name = format!("prompt of {}, {part}", graph.name(id));
    Ok(error(place(&name, text, found.span.clone())?, "what the prompt is made from"))
}

/// A place in a text in which all secrets are blotted out: an error shows the lines around it.
fn place(name: &str, text: &str, span: Range<usize>) -> Result<Place, Error> {
    let mut blot: Vec<Range<usize>> = look(text)?.into_iter().map(|other| other.span).collect();
    let secret = &text[span.clone()];
    blot.extend(text.match_indices(secret).map(|(start, _)| start..start + secret.len()));
    blot.sort_by_key(|span| span.start);
    Ok(Place { source: Text::new(name, secrets::blotted(text, &blot)), span })
}

/// The texts that a task's messages are made from: its files, then its recipe, then the Genfile.
fn texts<'a>(graph: &'a Graph, id: TaskId, files: &'a dyn Files) -> impl Iterator<Item = (String, String)> + 'a {
    let task = &graph.tasks[id];
    let part_of = task.item.iter().flat_map(|item| item.part_of()).filter_map(|path| RelPath::new(path).ok());
    let read = part_of.chain(task.reads().cloned());
    let text = |path: RelPath| Some((path.to_string(), files.text(&path).ok().flatten()?));
    let genfile: &Arc<Text> = &graph.rule(id).place.source;
    read.filter_map(text).chain(std::iter::once((genfile.name.clone(), genfile.text.clone())))
}
