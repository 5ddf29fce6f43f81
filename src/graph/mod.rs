//! From rules to tasks: which outputs there are, what each is made from, and who waits for whom.
//!
//! Reads files through [`Files`] only. The same Genfile, tree and lock give the same graph, in whatever state the outputs
//! are: a glob counts what rules declare, not what happens to lie on disk.

#[cfg(feature = "run")]
mod changed;
mod collection;
mod context;
mod expand;
mod items;
#[cfg(feature = "run")]
#[cfg(feature = "run")]
mod kept;
mod order;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::context::Specs;
use crate::digest::Digest;
use crate::error::Error;
use crate::files::Files;
use crate::manifest::{Manifest, Rule};
use crate::path::RelPath;
use crate::selector::{DataCache, Selector};

#[cfg(feature = "run")]
pub use changed::{Changed, Concerned};
pub use collection::{ItemAxis, ItemSource, TaskItems, combined};
pub use context::TaskContext;
pub(crate) use expand::{env_of, file_names};
#[cfg(feature = "run")]
#[cfg(feature = "run")]
pub use kept::{FileId, Kept, KeptTask};
pub use target::Target;

/// A task's place in [`Graph::tasks`].
pub type TaskId = usize;

/// Who asks a model: a task, or one piece of a task that makes a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit {
    /// The task.
    pub task: TaskId,
    /// Which of its pieces; none for the whole task.
    pub piece: Option<usize>,
}

impl Unit {
    /// A piece of a task.
    pub fn piece(task: TaskId, piece: usize) -> Unit {
        Unit { task, piece: Some(piece) }
    }
}

impl From<TaskId> for Unit {
    fn from(task: TaskId) -> Unit {
        Unit { task, piece: None }
    }
}

impl PartialEq<TaskId> for Unit {
    fn eq(&self, task: &TaskId) -> bool {
        *self == Unit::from(*task)
    }
}

/// All tasks of a project.
pub struct Graph {
    /// The checked Genfile.
    pub manifest: Manifest,
    /// The tasks, rule by rule, in the order of their items.
    pub tasks: Vec<Task>,
    /// The digest of the Genfile's variables, which is a part of every task.
    pub vars_digest: Digest,
    /// Who makes which output.
    pub makers: HashMap<RelPath, TaskId>,
    /// The tasks in layers: each waits only for tasks of layers before its own.
    pub layers: Vec<Vec<TaskId>>,
    /// The rules whose foreach found nothing: what they made before is deleted only with a person's yes.
    pub empty_rules: BTreeSet<String>,
    /// Outputs whose `when` is false: no task, and no orphans either.
    pub skipped: BTreeSet<RelPath>,
    /// The environment variables that rules name and that are set.
    pub env: BTreeMap<String, String>,
    /// The files that expansion has parsed, for the stages after it.
    pub data: DataCache,
    /// The specifications that contexts select from, likewise.
    pub specs: Specs,
}

/// One instance of a rule.
#[derive(Debug)]
pub struct Task {
    /// The rule's place in the manifest.
    pub rule: usize,
    /// The item of its foreach.
    pub item: Option<Item>,
    /// Its outputs, in the order declared.
    pub outputs: Vec<Output>,
    /// Its inputs, in the order declared.
    pub inputs: Vec<TaskInput>,
    /// What its prompt is shown of a specification.
    pub context: Option<TaskContext>,
    /// What it makes a result for each of, where it makes a collection.
    pub items: Option<TaskItems>,
    /// The recipe's file; a command has none.
    pub recipe: Option<RelPath>,
    /// The partials beside the recipe, by name; tasks of one recipe share them.
    pub partials: Arc<[(String, RelPath)]>,
    /// The schemas that its checks hold results against, in the order of the checks.
    pub schemas: Vec<RelPath>,
    /// The tasks it waits for.
    pub deps: Vec<TaskId>,
}

impl Task {
    /// The files that it is made from.
    pub fn reads(&self) -> impl Iterator<Item = &RelPath> {
        let inputs = self.inputs.iter().flat_map(|input| input.source.files());
        let partials = self.partials.iter().map(|(_, path)| path);
        let item = self.item.iter().flat_map(|item| item.files.iter().map(|(_, path)| path));
        let context = self.context.iter().flat_map(|context| &*context.files);
        let items = self.items.iter().flat_map(TaskItems::reads);
        inputs.chain(partials).chain(item).chain(context).chain(items).chain(&self.recipe).chain(&self.schemas)
    }
}

impl Task {
    /// The files that it is made from, and those of which its items are parts.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.reads().map(RelPath::as_str).chain(self.item.iter().flat_map(Item::part_of))
    }
}

/// An item of a foreach.
#[derive(Debug, Clone)]
pub struct Item {
    /// What expressions see as `item`; without `text` and `data`, which are read when they are needed.
    pub value: Value,
    /// The files that it stands for, by axis where there are several.
    pub files: Vec<(Option<String>, RelPath)>,
    /// What people call it: a path, a selector with its stars filled in, a value.
    pub label: String,
}

impl Item {
    /// The files of which it is a part, as an item of a selector is.
    pub fn part_of(&self) -> impl Iterator<Item = &str> {
        let axes = self.value.as_object().into_iter().flat_map(|map| map.values());
        let parts = std::iter::once(&self.value).chain(axes).filter(|item| item.get("index").is_some());
        parts.filter_map(|item| item.get("path")?.as_str())
    }

    /// Whether it stands for this file or for a part of it.
    fn stands_for(&self, path: &RelPath) -> bool {
        let is = |value: &Value| value.get("path").and_then(Value::as_str) == Some(path.as_str());
        is(&self.value) || self.value.as_object().is_some_and(|axes| axes.values().any(is))
    }
}

/// One output of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its name under `outputs`.
    pub name: Option<String>,
    /// Where it goes.
    pub path: RelPath,
}

/// Files that many tasks may name.
type Paths = Arc<[RelPath]>;

/// One input of a task.
#[derive(Debug)]
pub struct TaskInput {
    /// Its name in templates; `None` in a list.
    pub name: Option<String>,
    /// As written, with the expressions in it rendered: what people call it.
    pub label: String,
    /// What it names.
    pub source: Source,
}

/// What an input names.
#[derive(Debug)]
pub enum Source {
    /// One file.
    File {
        /// Where.
        path: RelPath,
        /// Whether it may be missing.
        optional: bool,
    },
    /// Any number of files; tasks that name the same share the list.
    Files(Arc<[RelPath]>),
    /// Parts of files.
    Parts {
        /// The files, in byte order; shared likewise.
        files: Arc<[RelPath]>,
        /// Which part of each.
        selector: Selector,
        /// Whether they are a list, also if there is one.
        is_list: bool,
        /// Whether the file may be missing.
        optional: bool,
    },
}

impl Source {
    /// The files it names.
    pub fn files(&self) -> &[RelPath] {
        match self {
            Source::File { path, .. } => std::slice::from_ref(path),
            Source::Files(files) | Source::Parts { files, .. } => files,
        }
    }
}

impl Graph {
    /// Expands a checked Genfile into tasks. `locked` are the paths in the lock: a file that is there and that no rule
    /// declares is an orphan, which no glob counts. `env` reads the variables that rules name.
    ///
    /// Returns what could be understood and all that is wrong; nothing may be built unless nothing is.
    pub fn new(
        manifest: Manifest,
        files: &dyn Files,
        locked: &BTreeSet<RelPath>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> (Graph, Vec<Error>) {
        let data = DataCache::default();
        let specs = Specs::default();
        let named = manifest.rules.iter().flat_map(|rule| &rule.env);
        let env: BTreeMap<String, String> = named.filter_map(|name| Some((name.clone(), env(name)?))).collect();
        let expanded = expand::expand(&manifest, files, locked, &env, (&data, &specs));
        let mut found = expanded.found;
        let mut tasks = expanded.tasks;
        let layers = order::connect(&manifest, &mut tasks, &expanded.makers, &mut found);
        let vars_digest = Digest::of(Value::Object(manifest.vars.clone()).to_string());
        let graph = Graph {
            vars_digest,
            manifest,
            tasks,
            makers: expanded.makers,
            layers,
            empty_rules: expanded.empty_rules,
            skipped: expanded.skipped,
            env,
            data,
            specs,
        };
        (graph, found)
    }

    /// The rule of a task, or of one whose piece this is.
    pub fn rule(&self, of: impl Into<Unit>) -> &Rule {
        &self.manifest.rules[self.tasks[of.into().task].rule]
    }

    /// Every file that a task is made from.
    pub fn read_files(&self) -> HashSet<&RelPath> {
        self.tasks.iter().flat_map(Task::reads).collect()
    }

    /// What people call a task, or one whose piece this is: its first output.
    pub fn name(&self, of: impl Into<Unit>) -> &RelPath {
        &self.tasks[of.into().task].outputs[0].path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errors;
    use expect_test::{Expect, expect};
    use std::sync::Arc;

    fn graph(genfile: &str, files: &[(&str, &str)], locked: &[&str]) -> (Graph, Vec<Error>) {
        let path = |text: &str| RelPath::new(text).unwrap();
        let files: HashMap<RelPath, Arc<[u8]>> =
            files.iter().map(|(name, text)| (path(name), Arc::from(text.as_bytes()))).collect();
        let (manifest, mut found) =
            crate::manifest::load("Genfile", &format!("version: 1\nrules:\n{genfile}"), &files).unwrap();
        let locked = locked.iter().map(|text| path(text)).collect();
        let (graph, more) = Graph::new(manifest, &files, &locked, &|name| (name == "SET").then(|| "on".to_owned()));
        found.extend(more);
        (graph, found)
    }

    fn tasks(genfile: &str, files: &[(&str, &str)], locked: &[&str], expect: Expect) {
        let (graph, found) = graph(genfile, files, locked);
        assert_eq!(found, [], "{}", Errors(found.clone()));
        let mut text = String::new();
        for (id, task) in graph.tasks.iter().enumerate() {
            let deps: Vec<_> = task.deps.iter().map(|dep| graph.name(*dep).as_str()).collect();
            text += &format!("{}: {} <- {deps:?}\n", graph.rule(id).name, graph.name(id));
        }
        text += &format!("layers {:?}\n", graph.layers);
        expect.assert_eq(&text);
    }

    fn errors(genfile: &str, files: &[(&str, &str)], expect: Expect) {
        let (_, found) = graph(genfile, files, &[]);
        let Err(errors) = Errors::unless_empty(found) else { panic!("nothing was found wrong") };
        expect.assert_eq(&errors.lines());
    }

    const SPEC: (&str, &str) = ("spec.yaml", "entities: {Order: {a: 1}, Line: {b: 2}}\n");
    const T: (&str, &str) = ("t.hbs", "x");

    #[test]
    fn items_become_tasks_and_outputs_edges() {
        tasks(
            r#"
  one: {template: t.hbs, output: one.txt}
  each: {foreach: "spec.yaml#/entities/*", template: t.hbs, output: "{{snake_case item.key}}.{{item.index}}"}
  words: {foreach: [de, fr], template: t.hbs, output: "{{item}}.txt", inputs: {all: "rule:each"}}
  pages: {foreach: "docs/*.md", template: t.hbs, output: "out/{{item.stem}}.html", inputs: ["{{item.dir}}/{{item.name}}"]}
  index: {template: t.hbs, output: index.txt, inputs: ["out/*.html", "one.txt", "spec.yaml#/entities/Order"]}
"#,
            &[SPEC, T, ("docs/b.md", ""), ("docs/a.md", ""), ("docs/.c.md", "")],
            &[],
            expect![[r#"
                one: one.txt <- []
                each: order.0 <- []
                each: line.1 <- []
                words: de.txt <- ["order.0", "line.1"]
                words: fr.txt <- ["order.0", "line.1"]
                pages: out/a.html <- []
                pages: out/b.html <- []
                index: index.txt <- ["one.txt", "out/a.html", "out/b.html"]
                layers [[0, 1, 2, 5, 6], [3, 4, 7]]
            "#]],
        );
    }

    #[test]
    fn a_foreach_over_files_that_rules_make_is_the_same_on_a_clean_checkout() {
        let genfile = r#"
  b: {foreach: "gen/*.txt", template: t.hbs, output: "out/{{item.stem}}"}
  a: {foreach: [x, y], template: t.hbs, output: "gen/{{item}}.txt"}
"#;
        let expected = || {
            expect![[r#"
            b: out/x <- ["gen/x.txt"]
            b: out/y <- ["gen/y.txt"]
            a: gen/x.txt <- []
            a: gen/y.txt <- []
            layers [[2, 3], [0, 1]]
        "#]]
        };
        tasks(genfile, &[T], &[], expected());
        let built = [T, ("gen/x.txt", ""), ("gen/y.txt", ""), ("gen/old.txt", ""), ("out/x", ""), ("out/y", "")];
        tasks(genfile, &built, &["gen/x.txt", "gen/y.txt", "gen/old.txt", "out/x", "out/y"], expected());
    }

    #[test]
    fn a_glob_never_matches_its_own_outputs() {
        tasks(
            "  a: {foreach: \"*.md\", template: t.hbs, output: \"{{item.stem}}.out.md\", inputs: [\"*.md\"]}\n",
            &[T, ("x.md", ""), ("x.out.md", "")],
            &[],
            expect![[r#"
                a: x.out.md <- []
                layers [[0]]
            "#]],
        );
    }

    #[test]
    #[cfg(feature = "markdown")]
    fn a_file_of_parts_is_read_once_however_many_tasks_there_are() {
        let genfile = "version: 1\nrules:\n  r: {foreach: \"d.jsonl#/*\", template: t.hbs, output: \"{{item.value}}\", \
                       inputs: [\"d.md#sections/{{item.value}}\", \"d.md#sections\", \"d.jsonl#/{{item.index}}\"]}\n";
        let (manifest, found) = crate::manifest::load("Genfile", genfile, &HashMap::new()).unwrap();
        assert_eq!(found, []);
        let count = 200;
        let texts = [
            ("t.hbs", String::new()),
            ("d.jsonl", (0..count).map(|i| format!("{i}\n")).collect()),
            ("d.md", (0..count).map(|i| format!("# {i}\n")).collect()),
        ];
        let path = |name: &str| RelPath::new(name).unwrap();
        let files: HashMap<RelPath, Arc<[u8]>> =
            texts.iter().map(|(name, text)| (path(name), Arc::from(text.as_bytes()))).collect();
        let files = crate::files::Counted { files, ..Default::default() };
        let (graph, found) = Graph::new(manifest, &files, &BTreeSet::new(), &|_| None);
        assert_eq!((graph.tasks.len(), found), (count, Vec::new()));
        assert_eq!(files.reads.into_inner(), 2, "one read of each file");
    }

    #[test]
    fn mistakes_are_found_all_at_once() {
        errors(
            r#"
  up: {template: t.hbs, output: ../x}
  var: {template: t.hbs, output: "{{itm.key}}.txt"}
  item: {foreach: "spec.yaml#/entities/*", template: t.hbs, output: "{{item.kye}}.txt"}
  none: {template: missing.hbs, output: n.txt, inputs: [nope.txt, {path: may.txt, optional: true}]}
  glob: {foreach: "a[", template: t.hbs, output: "g{{item.stem}}"}
  sel: {foreach: "spec.yaml#/entites/*", template: t.hbs, output: "s{{item.key}}"}
  sel2: {foreach: "spec.yaml#entities", template: t.hbs, output: "t{{item.key}}"}
  bad: {foreach: "bad.yaml#/x/*", template: t.hbs, output: "u{{item.key}}"}
  twice: {template: t.hbs, output: w.txt}
  again: {template: t.hbs, output: w.txt}
  same: {foreach: [1, 2], template: t.hbs, output: same.txt}
  below: {template: t.hbs, output: w.txt/x}
  who: {template: t.hbs, output: who.txt, inputs: ["rule:nobody", "rule:twise"]}
  self: {template: t.hbs, output: self.txt, inputs: [self.txt]}
  c1: {template: t.hbs, output: c1, inputs: [c3]}
  c2: {template: t.hbs, output: c2, inputs: ["rule:c1"]}
  c3: {template: t.hbs, output: c3, inputs: [c2]}
  git: {template: t.hbs, output: .git/hooks/x}
  lock: {template: t.hbs, output: Genfile.lock}
  over: {foreach: "spec.yaml#/entities/Order", template: t.hbs, output: "{{item.path}}"}
  dyn: {foreach: "made.yaml#/x/*", template: t.hbs, output: "d{{item.key}}"}
  made: {template: t.hbs, output: made.yaml}
  plain: {foreach: nope.md, template: t.hbs, output: "p{{item.stem}}"}
  ours: {foreach: made.yaml, template: t.hbs, output: "q{{item.stem}}"}
"#,
            &[SPEC, T, ("bad.yaml", "x: [")],
            expect![[r#"
                genmake::bad_path: Genfile:4:33: rule `up`: output `../x` leads outside the root
                genmake::undefined: Genfile:5:37: rule `var`: unknown variable `itm.key` (there is `vars`, `rule`)
                genmake::dynamic_foreach: Genfile:6:19: rule `item`: it runs over the content of `spec.yaml`, which rule `over` makes (what a foreach runs over must exist before the run: commit it, or run over its source)
                genmake::undefined: Genfile:6:72: rule `item`: unknown variable `item.kye` (did you mean `item.key`?)
                genmake::missing_input: Genfile:7:20: rule `none`: its recipe is `missing.hbs`, which is not there and which no rule makes (paths are relative to the Genfile's folder)
                genmake::missing_input: Genfile:7:57: rule `none`: its input is `nope.txt`, which is not there and which no rule makes (paths are relative to the Genfile's folder) (an input that may be missing is written `{path: PATH, optional: true}`)
                genmake::bad_glob: Genfile:8:19: rule `glob`: `a[` is no glob: unclosed character class; missing ']'
                genmake::bad_selector: Genfile:9:18: rule `sel`: `spec.yaml#/entites/*` finds nothing: `/` has no `entites`; it has `entities`
                genmake::dynamic_foreach: Genfile:9:18: rule `sel`: it runs over the content of `spec.yaml`, which rule `over` makes (what a foreach runs over must exist before the run: commit it, or run over its source)
                genmake::bad_selector: Genfile:10:19: rule `sel2`: `spec.yaml#entities` is no selector: `#entities` is neither a pointer, which starts with `/` as in `spec.yaml#/entities/*`, nor `#sections`, nor `#defs`
                genmake::duplicate_output: Genfile:13:36: `w.txt` is made by rule `twice` and by rule `again` (each output has one rule; give one of them another path)
                genmake::duplicate_output: Genfile:14:52: rule `same` makes `same.txt` more than once (use something of the item in the path, as in `{{item.key}}`)
                genmake::duplicate_output: Genfile:15:36: `w.txt/x` would lie in `w.txt`, which rule `twice` makes as a file
                genmake::unknown_rule: Genfile:16:52: rule `who`: no rule `nobody`
                genmake::unknown_rule: Genfile:16:67: rule `who`: no rule `twise` (did you mean `twice`?)
                genmake::cycle: Genfile:17:3: tasks wait for each other: `self.txt` → `self.txt` (each is made from the one before it; take one of these inputs out)
                genmake::cycle: Genfile:18:3: tasks wait for each other: `c1` → `c2` → `c3` → `c1` (each is made from the one before it; take one of these inputs out)
                genmake::bad_path: Genfile:21:34: rule `git`: output `.git/hooks/x` lies in `.git` or `.genmake`
                genmake::bad_path: Genfile:22:35: rule `lock`: output `Genfile.lock` is genmake's own
                genmake::bad_path: Genfile:23:3: rule `over`: output `spec.yaml` is also what it is made from
                genmake::dynamic_foreach: Genfile:23:19: rule `over`: it runs over the content of `spec.yaml`, which rule `over` makes (what a foreach runs over must exist before the run: commit it, or run over its source)
                genmake::dynamic_foreach: Genfile:24:18: rule `dyn`: it runs over the content of `made.yaml`, which rule `made` makes (what a foreach runs over must exist before the run: commit it, or run over its source)
                genmake::missing_input: Genfile:26:20: rule `plain`: it runs over `nope.md`, which is not there and which no rule makes (paths are relative to the Genfile's folder)
                genmake::unreadable: bad.yaml:1:4: rule `bad`: `bad.yaml` is not YAML: unclosed bracket '['
            "#]],
        );
    }
}
