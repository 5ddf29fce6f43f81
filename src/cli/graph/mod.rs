//! `graph`: files, tasks and rules, as a drawing for Graphviz, Mermaid or a browser, or as data. Reads only, and judges nothing.
//!
//! What many tasks read in common (what a glob matches, the outputs of a rule, the partials beside a recipe) is a node of its own, a
//! list, so that a graph of ten thousand tasks is as large as the project and not as its square.

mod page;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use serde_json::{Value, json};

use super::args::Format;
use super::{Context, Exit, targets};
use crate::error::Errors;
use crate::graph::{Graph, ItemSource, Source, TaskId};
use crate::manifest::Recipe;
use crate::path::RelPath;
use crate::project::Project;
use crate::ui;

pub(super) fn run(context: &Context, names: &[String]) -> Result<Exit, Errors> {
    let location = context.location()?;
    let targets = targets(names, &location)?;
    let project = Project::open_at(&location, &context.env)?;
    let graph = project.graph();
    let needed = graph.needed(&graph.select(&targets).map_err(Errors)?);
    let drawn = Drawn::new(graph, &needed);
    ui::out(&ui::sanitize(&match context.options.format {
        Format::Json => format!("{:#}\n", drawn.to_json()),
        Format::Mermaid => drawn.to_mermaid(),
        Format::Html => drawn.to_html(&location.root.file_name().unwrap_or_default().to_string_lossy())?,
        _ => drawn.to_dot(),
    }));
    Ok(Exit(0))
}

/// A graph as it is drawn.
struct Drawn<'a> {
    graph: &'a Graph,
    tasks: Vec<Node<'a>>,
    /// What no task makes, in byte order.
    files: Vec<&'a str>,
    lists: Vec<List<'a>>,
}

/// A task, and what it is made from beside the members of lists.
struct Node<'a> {
    id: TaskId,
    reads: BTreeSet<&'a str>,
    lists: BTreeSet<usize>,
}

/// What several tasks may read in common.
struct List<'a> {
    label: String,
    files: Vec<&'a str>,
    /// Whether it is what lies beside a recipe.
    is_of_partials: bool,
}

/// The ends of a line.
enum End<'a> {
    File(&'a str),
    Task(TaskId),
    List(usize),
}

impl<'a> Drawn<'a> {
    fn new(graph: &'a Graph, needed: &[bool]) -> Drawn<'a> {
        let mut drawn = Drawn { graph, tasks: Vec::new(), files: Vec::new(), lists: Vec::new() };
        // Lists that tasks share are told by where they are.
        let mut known: HashMap<usize, usize> = HashMap::new();
        for (id, task) in graph.tasks.iter().enumerate().filter(|(id, _)| needed[*id]) {
            let mut node = Node { id, reads: BTreeSet::new(), lists: BTreeSet::new() };
            node.reads.extend(task.recipe.iter().chain(&task.schemas).map(RelPath::as_str));
            if let Some(item) = &task.item {
                node.reads.extend(item.files.iter().map(|(_, path)| path.as_str()).chain(item.part_of()));
            }
            let mut add = |node: &mut Node<'a>, at: usize, label: &dyn Fn() -> String, files: Vec<&'a str>| {
                if files.len() < 2 {
                    node.reads.extend(files);
                    return;
                }
                let lists = &mut drawn.lists;
                node.lists.insert(*known.entry(at).or_insert_with(|| {
                    lists.push(List { label: label(), files, is_of_partials: false });
                    lists.len() - 1
                }));
            };
            let paths = |files: &'a [RelPath]| files.iter().map(RelPath::as_str).collect();
            for input in &task.inputs {
                match &input.source {
                    Source::File { path, .. } => drop(node.reads.insert(path.as_str())),
                    Source::Files(files) | Source::Parts { files, .. } => {
                        add(&mut node, files.as_ptr().addr(), &|| input.label.clone(), paths(files));
                    }
                }
            }
            for axis in task.items.iter().flat_map(|items| &items.axes) {
                if let ItemSource::Of(source) = &axis.over {
                    let files = source.files();
                    add(&mut node, files.as_ptr().addr(), &|| axis.label.clone(), paths(files));
                }
            }
            if let Some(schema) = task.items.as_ref().and_then(|items| items.schema.as_ref()) {
                node.reads.insert(schema.as_str());
            }
            if let Some(context) = &task.context {
                add(&mut node, context.files.as_ptr().addr(), &|| context.label.clone(), paths(&context.files));
            }
            let partials = task.partials.iter().map(|(_, path)| path.as_str()).collect();
            let beside = || format!("beside {}", task.recipe.as_ref().map_or("", RelPath::as_str));
            let at = task.partials.as_ptr().addr();
            add(&mut node, at, &beside, partials);
            if let Some(list) = known.get(&at) {
                drawn.lists[*list].is_of_partials = true;
            }
            drawn.tasks.push(node);
        }
        let read =
            drawn.tasks.iter().flat_map(|node| &node.reads).chain(drawn.lists.iter().flat_map(|list| &list.files));
        let files: BTreeSet<&str> = read.copied().filter(|path| !graph.makers.contains_key(*path)).collect();
        drawn.files = files.into_iter().collect();
        drawn
    }

    /// What a path stands for.
    fn end(&self, path: &'a str) -> End<'a> {
        self.graph.makers.get(path).map_or(End::File(path), |task| End::Task(*task))
    }

    /// All lines, in the order of where they lead.
    fn lines(&self) -> Vec<(End<'a>, End<'a>)> {
        let mut lines = Vec::new();
        for (at, list) in self.lists.iter().enumerate() {
            // A task of several outputs may be in a list more than once.
            let mut seen = BTreeSet::new();
            for path in &list.files {
                if let End::Task(task) = self.end(path)
                    && !seen.insert(task)
                {
                    continue;
                }
                lines.push((self.end(path), End::List(at)));
            }
        }
        for node in &self.tasks {
            let mut seen = BTreeSet::new();
            for path in &node.reads {
                if let End::Task(task) = self.end(path)
                    && !seen.insert(task)
                {
                    continue;
                }
                lines.push((self.end(path), End::Task(node.id)));
            }
            lines.extend(node.lists.iter().map(|list| (End::List(*list), End::Task(node.id))));
        }
        lines
    }

    /// Names for the ends of lines that hold nothing of what a path may hold.
    fn names(&self) -> impl Fn(&End<'a>) -> String {
        let files: HashMap<&str, usize> = self.files.iter().enumerate().map(|(at, path)| (*path, at)).collect();
        move |end| match end {
            End::File(path) => format!("f{}", files.get(path).copied().unwrap_or_default()),
            End::Task(task) => format!("t{task}"),
            End::List(list) => format!("l{list}"),
        }
    }

    /// The tasks of each rule that has some, with what kind of rule it is.
    fn rules(&self) -> BTreeMap<usize, (&'static str, Vec<&Node<'a>>)> {
        let mut rules = BTreeMap::new();
        for node in &self.tasks {
            let kind = self.graph.rule(node.id).recipe.as_ref().map_or("", Recipe::name);
            rules.entry(self.graph.tasks[node.id].rule).or_insert_with(|| (kind, Vec::new())).1.push(node);
        }
        rules
    }

    fn outputs(&self, node: &Node) -> impl Iterator<Item = &str> {
        self.graph.tasks[node.id].outputs.iter().map(|output| output.path.as_str())
    }

    fn to_dot(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let name = self.names();
        let mut text = "digraph genmake {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
        for path in &self.files {
            let _ = writeln!(text, "  {} [shape=note, label={}];", name(&End::File(path)), quoted(path));
        }
        for (at, list) in self.lists.iter().enumerate() {
            let _ = writeln!(text, "  {} [shape=folder, label={}];", name(&End::List(at)), quoted(&list.label));
        }
        for (rule, (kind, nodes)) in self.rules() {
            let label = quoted(&format!("{} ({kind})", self.graph.manifest.rules[rule].name));
            let _ = writeln!(text, "  subgraph cluster_{rule} {{\n    label={label};");
            for node in nodes {
                // Of a label in quotes `\n` is a line break, and the paths' own backslashes are doubled.
                let outputs: Vec<String> = self.outputs(node).map(quoted).collect();
                let label = outputs.join("\\n").replace("\"\\n\"", "\\n");
                let _ = writeln!(text, "    {} [label={label}];", name(&End::Task(node.id)));
            }
            text += "  }\n";
        }
        for (from, to) in self.lines() {
            let _ = writeln!(text, "  {} -> {};", name(&from), name(&to));
        }
        text + "}\n"
    }

    fn to_mermaid(&self) -> String {
        // Mermaid's own way of writing a character that would end a text, or mean something in it.
        let escaped = |text: &str| -> String {
            let code = |c: char| match c {
                '"' | '#' | '&' | '<' | '>' | '`' | '\\' => format!("#{};", u32::from(c)),
                c => c.to_string(),
            };
            text.chars().map(code).collect()
        };
        let name = self.names();
        let mut text = "flowchart LR\n".to_owned();
        for path in &self.files {
            let _ = writeln!(text, "  {}([\"{}\"])", name(&End::File(path)), escaped(path));
        }
        for (at, list) in self.lists.iter().enumerate() {
            let _ = writeln!(text, "  {}{{{{\"{}\"}}}}", name(&End::List(at)), escaped(&list.label));
        }
        for (rule, (kind, nodes)) in self.rules() {
            let label = escaped(&format!("{} ({kind})", self.graph.manifest.rules[rule].name));
            let _ = writeln!(text, "  subgraph r{rule}[\"{label}\"]");
            for node in nodes {
                let outputs: Vec<String> = self.outputs(node).map(escaped).collect();
                let _ = writeln!(text, "    {}[\"{}\"]", name(&End::Task(node.id)), outputs.join("<br>"));
            }
            text += "  end\n";
        }
        for (from, to) in self.lines() {
            let _ = writeln!(text, "  {} --> {}", name(&from), name(&to));
        }
        text
    }

    fn to_json(&self) -> Value {
        let rules = self.rules().into_iter().map(|(rule, (kind, nodes))| {
            json!({"name": self.graph.manifest.rules[rule].name, "recipe": kind, "tasks": nodes.len()})
        });
        let tasks = self.tasks.iter().map(|node| {
            let made = node.reads.iter().filter_map(|path| self.graph.makers.get(*path));
            let deps: BTreeSet<TaskId> = made.copied().collect();
            json!({
                "rule": self.graph.rule(node.id).name, "outputs": self.outputs(node).collect::<Vec<_>>(),
                "inputs": node.reads, "lists": node.lists,
                "deps": deps.iter().map(|task| self.graph.name(*task).as_str()).collect::<Vec<_>>(),
            })
        });
        json!({
            "version": 1, "rules": rules.collect::<Vec<_>>(), "files": self.files,
            "lists": self.lists.iter().map(|list| json!({"label": list.label, "files": list.files})).collect::<Vec<_>>(),
            "tasks": tasks.collect::<Vec<_>>(),
        })
    }
}
