//! A graph to be kept between runs, task by task, so that a run which few tasks concern need not expand all of them.
//!
//! What is kept names files by number: whoever keeps it has the table of them. It is genmake's own form, for the same version of
//! genmake; what cannot be read is expanded anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Graph, Item, ItemAxis, ItemSource, Output, Source, Task, TaskContext, TaskId, TaskInput, TaskItems, order,
};
use crate::context::Specs;
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::path::RelPath;
use crate::selector::{DataCache, Selector};

/// A file's number in a table that is kept beside the graph.
pub type FileId = u32;

/// A graph in its kept form.
#[derive(Debug, Default, PartialEq)]
pub struct Kept {
    /// The tasks, in their order.
    pub tasks: Vec<KeptTask>,
    /// The lists of files that tasks share.
    pub lists: Vec<u8>,
}

/// One task in its kept form.
#[derive(Debug, Default, PartialEq)]
pub struct KeptTask {
    /// The task.
    pub bytes: Vec<u8>,
    /// The files that it is made from, ascending.
    pub reads: Vec<FileId>,
    /// Its outputs, in their order.
    pub outputs: Vec<FileId>,
}

#[derive(Default, Serialize, Deserialize)]
struct Lists {
    files: Vec<Vec<FileId>>,
    partials: Vec<Vec<(String, FileId)>>,
}

#[derive(Serialize, Deserialize)]
struct TaskForm {
    rule: usize,
    item: Option<ItemForm>,
    outputs: Vec<(Option<String>, FileId)>,
    inputs: Vec<(Option<String>, String, SourceForm)>,
    context: Option<ContextForm>,
    items: Option<ItemsForm>,
    recipe: Option<FileId>,
    partials: usize,
    schemas: Vec<FileId>,
}

#[derive(Serialize, Deserialize)]
struct ItemForm {
    /// JSON.
    value: String,
    files: Vec<(Option<String>, FileId)>,
    label: String,
}

#[derive(Serialize, Deserialize)]
enum SourceForm {
    File { path: FileId, optional: bool },
    Files(usize),
    Parts { files: usize, selector: Selector, is_list: bool, optional: bool },
}

#[derive(Serialize, Deserialize)]
struct ItemsForm {
    axes: Vec<(Option<String>, String, ItemSourceForm)>,
    schema: Option<FileId>,
    /// JSON.
    set: String,
}

#[derive(Serialize, Deserialize)]
enum ItemSourceForm {
    Of(SourceForm),
    /// JSON.
    Literal(String),
}

#[derive(Serialize, Deserialize)]
struct ContextForm {
    label: String,
    files: usize,
    related_to: Option<String>,
    is_shared: bool,
    selector: Selector,
}

/// Gives files and shared lists their numbers.
struct Keeper<'a> {
    id: &'a dyn Fn(&RelPath) -> Option<FileId>,
    lists: Lists,
    /// Where the lists that tasks share stand, by their address.
    files: HashMap<usize, usize>,
    partials: HashMap<usize, usize>,
}

impl Graph {
    /// The kept form; `id` gives the number of a file. `None` where a file has none.
    pub fn keep(&self, id: &dyn Fn(&RelPath) -> Option<FileId>) -> Option<Kept> {
        let mut keeper = Keeper { id, lists: Lists::default(), files: HashMap::new(), partials: HashMap::new() };
        let tasks: Option<Vec<KeptTask>> = self.tasks.iter().map(|task| keeper.task(task)).collect();
        Some(Kept { tasks: tasks?, lists: postcard::to_stdvec(&keeper.lists).ok()? })
    }

    /// A graph of some kept tasks: they wait for each other as they did, and for nothing else. `path` gives a file's path back.
    /// `None` where it cannot be read.
    pub fn restore<'a>(
        manifest: Manifest,
        env: BTreeMap<String, String>,
        tasks: impl Iterator<Item = &'a [u8]>,
        lists: &[u8],
        path: &dyn Fn(FileId) -> Option<RelPath>,
    ) -> Option<Graph> {
        let lists: Lists = postcard::from_bytes(lists).ok()?;
        let mut restorer = Restorer { path, lists, files: HashMap::new(), partials: HashMap::new() };
        let tasks: Option<Vec<Task>> = tasks.map(|bytes| restorer.task(bytes, manifest.rules.len())).collect();
        let mut tasks = tasks?;
        let mut makers: HashMap<RelPath, TaskId> = HashMap::new();
        for (id, task) in tasks.iter().enumerate() {
            makers.extend(task.outputs.iter().map(|output| (output.path.clone(), id)));
        }
        let mut found = Vec::new();
        let layers = order::connect(&manifest, &mut tasks, &makers, &mut found);
        found.is_empty().then(|| Graph {
            vars_digest: Digest::of(Value::Object(manifest.vars.clone()).to_string()),
            manifest,
            tasks,
            makers,
            layers,
            empty_rules: BTreeSet::new(),
            skipped: BTreeSet::new(),
            env,
            data: DataCache::default(),
            specs: Specs::default(),
        })
    }
}

impl Keeper<'_> {
    fn task(&mut self, task: &Task) -> Option<KeptTask> {
        let id = self.id;
        let item = match &task.item {
            None => None,
            Some(item) => Some(ItemForm {
                value: item.value.to_string(),
                files: item.files.iter().map(|(axis, path)| Some((axis.clone(), id(path)?))).collect::<Option<_>>()?,
                label: item.label.clone(),
            }),
        };
        let context = match &task.context {
            None => None,
            Some(context) => Some(ContextForm {
                label: context.label.clone(),
                files: self.files(&context.files)?,
                related_to: context.related_to.clone(),
                is_shared: context.is_shared,
                selector: context.selector.clone(),
            }),
        };
        let items = match &task.items {
            None => None,
            Some(items) => Some(self.items(items)?),
        };
        let outputs: Option<Vec<FileId>> = task.outputs.iter().map(|output| id(&output.path)).collect();
        let outputs = outputs?;
        let names = task.outputs.iter().map(|output| output.name.clone());
        let mut inputs = Vec::with_capacity(task.inputs.len());
        for input in &task.inputs {
            inputs.push((input.name.clone(), input.label.clone(), self.source(&input.source)?));
        }
        let form = TaskForm {
            rule: task.rule,
            item,
            outputs: names.zip(outputs.iter().copied()).collect(),
            inputs,
            context,
            items,
            recipe: match &task.recipe {
                None => None,
                Some(path) => Some(id(path)?),
            },
            partials: self.partials(&task.partials)?,
            schemas: task.schemas.iter().map(id).collect::<Option<_>>()?,
        };
        let mut reads: Vec<FileId> = task.reads().map(id).collect::<Option<_>>()?;
        reads.sort_unstable();
        reads.dedup();
        Some(KeptTask { bytes: postcard::to_stdvec(&form).ok()?, reads, outputs })
    }

    fn items(&mut self, items: &TaskItems) -> Option<ItemsForm> {
        let mut axes = Vec::with_capacity(items.axes.len());
        for ItemAxis { name, label, over } in &items.axes {
            let over = match over {
                ItemSource::Of(source) => ItemSourceForm::Of(self.source(source)?),
                ItemSource::Literal(values) => ItemSourceForm::Literal(Value::from(values.clone()).to_string()),
            };
            axes.push((name.clone(), label.clone(), over));
        }
        let schema = match &items.schema {
            None => None,
            Some(path) => Some((self.id)(path)?),
        };
        Some(ItemsForm { axes, schema, set: Value::from(items.set.clone()).to_string() })
    }

    fn source(&mut self, source: &Source) -> Option<SourceForm> {
        Some(match source {
            Source::File { path, optional } => SourceForm::File { path: (self.id)(path)?, optional: *optional },
            Source::Files(files) => SourceForm::Files(self.files(files)?),
            Source::Parts { files, selector, is_list, optional } => SourceForm::Parts {
                files: self.files(files)?,
                selector: selector.clone(),
                is_list: *is_list,
                optional: *optional,
            },
        })
    }

    fn files(&mut self, list: &Arc<[RelPath]>) -> Option<usize> {
        let at = Arc::as_ptr(list).cast::<RelPath>() as usize;
        // Empty lists may share an address with anything.
        if let Some(known) = self.files.get(&at).filter(|_| !list.is_empty()) {
            return Some(*known);
        }
        let ids: Option<Vec<FileId>> = list.iter().map(self.id).collect();
        self.lists.files.push(ids?);
        self.files.insert(at, self.lists.files.len() - 1);
        Some(self.lists.files.len() - 1)
    }

    fn partials(&mut self, list: &Arc<[(String, RelPath)]>) -> Option<usize> {
        let at = Arc::as_ptr(list).cast::<RelPath>() as usize;
        if let Some(known) = self.partials.get(&at).filter(|_| !list.is_empty()) {
            return Some(*known);
        }
        let ids: Option<Vec<(String, FileId)>> =
            list.iter().map(|(name, path)| Some((name.clone(), (self.id)(path)?))).collect();
        self.lists.partials.push(ids?);
        self.partials.insert(at, self.lists.partials.len() - 1);
        Some(self.lists.partials.len() - 1)
    }
}

/// Takes numbers for files and shared lists again; each list once.
struct Restorer<'a> {
    path: &'a dyn Fn(FileId) -> Option<RelPath>,
    lists: Lists,
    files: HashMap<usize, Arc<[RelPath]>>,
    partials: HashMap<usize, Arc<[(String, RelPath)]>>,
}

impl Restorer<'_> {
    fn task(&mut self, bytes: &[u8], rules: usize) -> Option<Task> {
        let form: TaskForm = postcard::from_bytes(bytes).ok()?;
        let path = self.path;
        let item = match form.item {
            None => None,
            Some(item) => Some(Item {
                value: serde_json::from_str(&item.value).ok()?,
                files: item.files.into_iter().map(|(axis, id)| Some((axis, path(id)?))).collect::<Option<_>>()?,
                label: item.label,
            }),
        };
        let context = match form.context {
            None => None,
            Some(context) => Some(TaskContext {
                label: context.label,
                files: self.files(context.files)?,
                related_to: context.related_to,
                is_shared: context.is_shared,
                selector: context.selector,
            }),
        };
        let mut inputs = Vec::with_capacity(form.inputs.len());
        for (name, label, source) in form.inputs {
            inputs.push(TaskInput { name, label, source: self.source(source)? });
        }
        let items = match form.items {
            None => None,
            Some(items) => Some(self.items(items)?),
        };
        let outputs: Option<Vec<Output>> =
            form.outputs.into_iter().map(|(name, id)| Some(Output { name, path: path(id)? })).collect();
        Some(Task {
            rule: Some(form.rule).filter(|rule| *rule < rules)?,
            item,
            outputs: outputs.filter(|outputs| !outputs.is_empty())?,
            inputs,
            context,
            items,
            recipe: match form.recipe {
                None => None,
                Some(id) => Some(path(id)?),
            },
            partials: self.partials(form.partials)?,
            schemas: form.schemas.into_iter().map(path).collect::<Option<_>>()?,
            deps: Vec::new(),
        })
    }

    fn items(&mut self, form: ItemsForm) -> Option<TaskItems> {
        let mut axes = Vec::with_capacity(form.axes.len());
        for (name, label, over) in form.axes {
            let over = match over {
                ItemSourceForm::Of(source) => ItemSource::Of(self.source(source)?),
                ItemSourceForm::Literal(values) => ItemSource::Literal(serde_json::from_str(&values).ok()?),
            };
            axes.push(ItemAxis { name, label, over });
        }
        let schema = match form.schema {
            None => None,
            Some(id) => Some((self.path)(id)?),
        };
        Some(TaskItems { axes, schema, set: serde_json::from_str(&form.set).ok()? })
    }

    fn source(&mut self, source: SourceForm) -> Option<Source> {
        Some(match source {
            SourceForm::File { path, optional } => Source::File { path: (self.path)(path)?, optional },
            SourceForm::Files(files) => Source::Files(self.files(files)?),
            SourceForm::Parts { files, selector, is_list, optional } => {
                Source::Parts { files: self.files(files)?, selector, is_list, optional }
            }
        })
    }

    fn files(&mut self, at: usize) -> Option<Arc<[RelPath]>> {
        if let Some(known) = self.files.get(&at) {
            return Some(Arc::clone(known));
        }
        let list: Option<Vec<RelPath>> = self.lists.files.get(at)?.iter().map(|id| (self.path)(*id)).collect();
        let list: Arc<[RelPath]> = list?.into();
        self.files.insert(at, Arc::clone(&list));
        Some(list)
    }

    fn partials(&mut self, at: usize) -> Option<Arc<[(String, RelPath)]>> {
        if let Some(known) = self.partials.get(&at) {
            return Some(Arc::clone(known));
        }
        let list = self.lists.partials.get(at)?.iter();
        let list: Option<Vec<(String, RelPath)>> =
            list.map(|(name, id)| Some((name.clone(), (self.path)(*id)?))).collect();
        let list: Arc<[(String, RelPath)]> = list?.into();
        self.partials.insert(at, Arc::clone(&list));
        Some(list)
    }
}
