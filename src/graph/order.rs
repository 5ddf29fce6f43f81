//! Who waits for whom, and that nobody waits for themselves.

use std::collections::HashMap;

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Task, TaskId};
use crate::error::{Code, Error};
use crate::manifest::Manifest;
use crate::path::RelPath;

/// Fills in each task's `deps` and returns the tasks in layers; reports each cycle as a path.
pub(super) fn connect(
    manifest: &Manifest,
    tasks: &mut [Task],
    makers: &HashMap<RelPath, TaskId>,
    found: &mut Vec<Error>,
) -> Vec<Vec<TaskId>> {
    let mut graph = DiGraph::<(), ()>::with_capacity(tasks.len(), tasks.len());
    for _ in tasks.iter() {
        graph.add_node(());
    }
    for (id, task) in tasks.iter_mut().enumerate() {
        let mut deps: Vec<TaskId> = task.reads().filter_map(|path| makers.get(path).copied()).collect();
        deps.sort_unstable();
        deps.dedup();
        for dep in &deps {
            graph.add_edge(NodeIndex::new(*dep), NodeIndex::new(id), ());
        }
        task.deps = deps;
    }
    match toposort(&graph, None) {
        Ok(order) => layers(tasks, &order),
        Err(_) => {
            found.extend(cycles(manifest, tasks, &graph));
            Vec::new()
        }
    }
}

fn layers(tasks: &[Task], order: &[NodeIndex]) -> Vec<Vec<TaskId>> {
    let mut depth = vec![0; tasks.len()];
    let mut layers: Vec<Vec<TaskId>> = Vec::new();
    for node in order {
        let id = node.index();
        depth[id] = tasks[id].deps.iter().map(|dep| depth[*dep] + 1).max().unwrap_or(0);
        if layers.len() <= depth[id] {
            layers.resize_with(depth[id] + 1, Vec::new);
        }
        layers[depth[id]].push(id);
    }
    for layer in &mut layers {
        layer.sort_unstable();
    }
    layers
}

/// One error for each knot of tasks, with a shortest way around it.
fn cycles(manifest: &Manifest, tasks: &[Task], graph: &DiGraph<(), ()>) -> Vec<Error> {
    let mut errors = Vec::new();
    for knot in tarjan_scc(graph) {
        let mut knot: Vec<TaskId> = knot.into_iter().map(NodeIndex::index).collect();
        knot.sort_unstable();
        let start = knot[0];
        if knot.len() == 1 && !tasks[start].deps.contains(&start) {
            continue;
        }
        let name = |id: TaskId| format!("`{}`", tasks[id].outputs[0].path);
        let path: Vec<String> = around(tasks, start).into_iter().map(name).collect();
        let rule = &manifest.rules[tasks[start].rule];
        let message = format!("tasks wait for each other: {}", path.join(" → "));
        errors.push(
            Error::new(Code::Cycle, message)
                .at(rule.place.clone())
                .hint("each is made from the one before it; take one of these inputs out"),
        );
    }
    errors
}

/// A shortest cycle through `start`, as what is made from what: the first is an input of the second.
fn around(tasks: &[Task], start: TaskId) -> Vec<TaskId> {
    let mut came_from: HashMap<TaskId, TaskId> = HashMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(id) = queue.pop_front() {
        for dep in &tasks[id].deps {
            if *dep == start {
                let mut path = vec![start, id];
                while let Some(next) = path.last().filter(|last| **last != start).and_then(|last| came_from.get(last)) {
                    path.push(*next);
                }
                return path;
            }
            if !came_from.contains_key(dep) {
                came_from.insert(*dep, id);
                queue.push_back(*dep);
            }
        }
    }
    vec![start]
}
