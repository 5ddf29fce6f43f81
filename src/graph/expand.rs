//! Rules into tasks: items, outputs and inputs, with all expressions in them rendered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use super::{Item, Output, Source, Task, TaskId, TaskInput};
use crate::error::{Code, Error, Place, did_you_mean};
use crate::files::Files;
use crate::lock;
use crate::manifest::{Expr, Foreach, Input, Manifest, Rule};
use crate::path::{Pattern, RelPath};
use crate::selector::{self, DataCache, Selector};

/// What expansion gives.
pub(super) struct Expanded {
    pub tasks: Vec<Task>,
    pub makers: HashMap<RelPath, TaskId>,
    pub empty_rules: BTreeSet<String>,
    pub found: Vec<Error>,
}

/// A task before its inputs are known: outputs come first, because inputs may name other tasks' outputs.
#[derive(Clone)]
struct Head {
    item: Option<Item>,
    outputs: Vec<Output>,
}

struct Expander<'a> {
    manifest: &'a Manifest,
    files: &'a dyn Files,
    locked: &'a BTreeSet<RelPath>,
    data: &'a DataCache,
    /// Each output's rule, by the rule's place.
    declared: BTreeMap<RelPath, usize>,
    /// The partials beside each rule's recipes, as they will be when everything is built.
    partials: HashMap<(usize, RelPath), Partials>,
    /// What each rule's input globs match, once all outputs are known.
    matched: RefCell<HashMap<(usize, String), Vec<RelPath>>>,
    /// The parts of files that were looked for, by rule and place of the input: ten thousand tasks may name the same.
    selectable: RefCell<HashSet<(usize, usize, RelPath, String)>>,
    /// The outputs of rules that are named without an expression, for what runs before all outputs are known.
    plain: HashMap<RelPath, usize>,
    /// The files whose content a foreach runs over, by rule.
    run_over: RefCell<Vec<(usize, RelPath, Place)>>,
    found: Vec<Error>,
}

/// Partials by name.
type Partials = Vec<(String, RelPath)>;

pub(super) fn expand(manifest: &Manifest, files: &dyn Files, locked: &BTreeSet<RelPath>, data: &DataCache) -> Expanded {
    let outputs =
        manifest.rules.iter().enumerate().flat_map(|(id, rule)| rule.outputs.iter().map(move |(_, o)| (id, o)));
    let plain = outputs.filter_map(|(id, output)| Some((RelPath::new(output.text()).ok()?, id))).collect();
    let mut expander = Expander {
        manifest,
        files,
        locked,
        data,
        declared: BTreeMap::new(),
        partials: HashMap::new(),
        matched: RefCell::default(),
        selectable: RefCell::default(),
        plain,
        run_over: RefCell::default(),
        found: Vec::new(),
    };
    let heads = expander.heads();
    expander.finish(heads)
}

impl<'a> Expander<'a> {
    /// The items and outputs of all rules. A foreach over a glob may match what other rules declare, so those rules are
    /// expanded until nothing new is declared.
    fn heads(&mut self) -> Vec<Vec<Head>> {
        let rules = &self.manifest.rules;
        let mut items: Vec<Vec<Option<Item>>> = Vec::with_capacity(rules.len());
        let mut heads: Vec<Vec<Head>> = Vec::with_capacity(rules.len());
        let mut globs: Vec<(usize, Pattern)> = Vec::new();
        for (id, rule) in rules.iter().enumerate() {
            let these = match self.items(id, rule) {
                Ok(Items::These(items)) => items,
                Ok(Items::Glob(pattern)) => {
                    globs.push((id, pattern));
                    Vec::new()
                }
                Err(error) => {
                    self.found.push(error.in_rule(&rule.name));
                    Vec::new()
                }
            };
            heads.push(self.outputs(rule, &these));
            items.push(these);
            self.declare(id, &heads[id]);
        }
        // Each round can only be needed because the one before declared something new; a cycle of globs never settles.
        for round in 0.. {
            let mut settled = true;
            for (id, pattern) in &globs {
                let paths = match self.glob(*id, pattern) {
                    Ok(paths) => paths,
                    Err(error) => {
                        self.found.push(error);
                        continue;
                    }
                };
                let before = items[*id].iter().flatten().filter_map(|item| item.file.as_ref());
                if paths.iter().eq(before) && (round > 0 || paths.is_empty()) {
                    continue;
                }
                settled = false;
                if round > globs.len() {
                    let rule = &self.manifest.rules[*id];
                    let error =
                        Error::new(Code::DynamicForeach, "its foreach matches files that depend on its own outputs")
                            .hint("narrow the glob");
                    self.found.push(error.in_rule(&rule.name).at(rule.place.clone()));
                    return heads;
                }
                items[*id] = paths.into_iter().map(|path| Some(file_item(path))).collect();
                self.declared.retain(|_, maker| maker != id);
                heads[*id] = self.outputs(&self.manifest.rules[*id], &items[*id]);
                self.declare(*id, &heads[*id]);
            }
            if settled {
                break;
            }
        }
        heads
    }

    fn declare(&mut self, rule: usize, heads: &[Head]) {
        for output in heads.iter().flat_map(|head| &head.outputs) {
            self.declared.entry(output.path.clone()).or_insert(rule);
        }
    }

    fn items(&self, id: usize, rule: &Rule) -> Result<Items, Error> {
        let text = match &rule.foreach {
            None => return Ok(Items::These(vec![None])),
            Some(Foreach::List(values, _)) => {
                let item = |value: &Value| Some(Item { value: value.clone(), file: None, label: "item".to_owned() });
                return Ok(Items::These(values.iter().map(item).collect()));
            }
            Some(Foreach::Text(text)) => text,
        };
        let source = text.render(&self.scope(rule, None))?;
        if selector::split(&source).is_none() {
            return Ok(Items::Glob(pattern(&source, &text.place)?));
        }
        let selector = parse_selector(&source, &text.place)?;
        let mut items = Vec::new();
        let files = match Pattern::is_glob(&selector.file) {
            // Its own outputs are not known yet; those of the last run are in the lock, and so are not matched.
            true => self.glob(usize::MAX, &pattern(&selector.file, &text.place)?)?,
            false => vec![input_path(&selector.file, &text.place)?],
        };
        for path in files {
            if let Some(maker) = self.maker_of(&path) {
                return Err(dynamic(&path, maker, &text.place));
            }
            self.run_over.borrow_mut().push((id, path.clone(), text.place.clone()));
            let parts = self.data.select(self.files, &path, &selector).map_err(|e| e.at(text.place.clone()))?;
            let Some(parts) = parts else { return Err(missing(&path, "it runs over", &text.place)) };
            for part in parts {
                let mut value = part.names();
                value.insert("index".to_owned(), items.len().into());
                value.insert("path".to_owned(), path.as_str().into());
                let label = selector.label(&path, &part.keys);
                items.push(Some(Item { value: value.into(), file: None, label }));
            }
        }
        Ok(Items::These(items))
    }

    /// The rule that makes `path`, judged by plain output paths, before all outputs are known.
    fn maker_of(&self, path: &RelPath) -> Option<&'a str> {
        let rule = self.declared.get(path).or_else(|| self.plain.get(path));
        rule.map(|rule| self.manifest.rules[*rule].name.as_str())
    }

    fn scope(&self, rule: &Rule, item: Option<&Item>) -> Value {
        let mut scope = json!({"vars": self.manifest.vars, "rule": rule.name});
        if let Some(item) = item {
            scope["item"] = item.value.clone();
        }
        scope
    }

    fn outputs(&mut self, rule: &Rule, items: &[Option<Item>]) -> Vec<Head> {
        let mut heads = Vec::with_capacity(items.len());
        let mut scope = self.scope(rule, None);
        for item in items {
            if let Some(item) = item {
                scope["item"] = item.value.clone();
            }
            let mut outputs = Vec::with_capacity(rule.outputs.len());
            for (name, expr) in &rule.outputs {
                match self.output(expr, &scope) {
                    Ok(path) => outputs.push(Output { name: name.clone(), path }),
                    Err(error) => {
                        let error = error.in_rule(&rule.name);
                        // One wrong name in an expression is one mistake, however many items there are.
                        if !self.found.iter().any(|e| e.place == error.place && e.code == error.code) {
                            self.found.push(error);
                        }
                    }
                }
            }
            if outputs.len() == rule.outputs.len() {
                heads.push(Head { item: item.clone(), outputs });
            }
        }
        heads
    }

    fn output(&self, expr: &Expr, scope: &Value) -> Result<RelPath, Error> {
        let text = expr.render(scope)?;
        let bad = |what: String| Error::new(Code::BadPath, what).at(expr.place.clone());
        let path = RelPath::output(&text).map_err(|why| bad(format!("output `{text}` {why}")))?;
        if text.ends_with('/') {
            return Err(bad(format!("output `{text}` is a folder")).hint("an output is a file"));
        }
        let genfile = &self.manifest.source.name;
        if path.as_str() == genfile || path.as_str() == lock::file_name(genfile) {
            return Err(bad(format!("output `{path}` is genmake's own")));
        }
        if self.files.leaves_root(&path) {
            let error = bad(format!("output `{path}` leads outside the root through a symlink"));
            return Err(error.hint("outputs are written below the Genfile's folder only"));
        }
        Ok(path)
    }

    /// The files that match, as they will be when everything is built: what is on disk and no rule's, and what other rules
    /// declare.
    fn glob(&self, rule: usize, pattern: &Pattern) -> Result<Vec<RelPath>, Error> {
        let lock = lock::file_name(&self.manifest.source.name);
        let mut found: BTreeSet<RelPath> = self.files.list(pattern)?.into_iter().collect();
        found.retain(|path| !self.locked.contains(path) && !self.declared.contains_key(path) && path.as_str() != lock);
        let others = self.declared.iter().filter(|(path, maker)| **maker != rule && pattern.matches(path));
        found.extend(others.map(|(path, _)| path.clone()));
        Ok(found.into_iter().collect())
    }

    /// The files that an input's glob matches, once all outputs are known.
    fn matched(&self, rule: usize, glob: &str, place: &Place) -> Result<Vec<RelPath>, Error> {
        let key = (rule, glob.to_owned());
        if let Some(files) = self.matched.borrow().get(&key) {
            return Ok(files.clone());
        }
        let files = self.glob(rule, &pattern(glob, place)?)?;
        self.matched.borrow_mut().insert(key, files.clone());
        Ok(files)
    }

    fn finish(mut self, heads: Vec<Vec<Head>>) -> Expanded {
        let mut tasks = Vec::new();
        let mut makers = HashMap::new();
        let mut empty_rules = BTreeSet::new();
        let mut by_rule: Vec<Vec<RelPath>> = Vec::new();
        for (id, heads) in heads.iter().enumerate() {
            if heads.is_empty() {
                empty_rules.insert(self.manifest.rules[id].name.clone());
            }
            by_rule.push(heads.iter().flat_map(|head| head.outputs.iter().map(|o| o.path.clone())).collect());
        }
        self.double_outputs(&heads);
        // Outputs with expressions in their paths are known only now.
        for (id, path, place) in self.run_over.take() {
            if let Some(maker) = self.maker_of(&path) {
                self.note(dynamic(&path, maker, &place).in_rule(&self.manifest.rules[id].name));
            }
        }
        for (id, heads) in heads.into_iter().enumerate() {
            for head in heads {
                if let Some(task) = self.task(id, head, &by_rule) {
                    makers.extend(task.outputs.iter().map(|output| (output.path.clone(), tasks.len())));
                    tasks.push(task);
                }
            }
        }
        Expanded { tasks, makers, empty_rules, found: self.found }
    }

    fn double_outputs(&mut self, heads: &[Vec<Head>]) {
        let mut seen: HashMap<&RelPath, usize> = HashMap::new();
        let mut found = Vec::new();
        for (id, head) in heads.iter().enumerate().flat_map(|(id, heads)| heads.iter().map(move |head| (id, head))) {
            let rule = &self.manifest.rules[id];
            for (at, output) in head.outputs.iter().enumerate() {
                let place = rule.outputs[at].1.place.clone();
                let path = &output.path;
                if let Some(other) = seen.insert(path, id) {
                    let other = &self.manifest.rules[other].name;
                    let (message, hint) = if *other == rule.name {
                        let message = format!("rule `{other}` makes `{path}` more than once");
                        (message, "use something of the item in the path, as in `{{item.key}}`")
                    } else {
                        let message = format!("`{path}` is made by rule `{other}` and by rule `{}`", rule.name);
                        (message, "each output has one rule; give one of them another path")
                    };
                    let error = Error::new(Code::DuplicateOutput, message).at(place.clone()).hint(hint);
                    if !found.iter().any(|e: &Error| e.place == error.place) {
                        found.push(error);
                    }
                }
                if let Some((parent, other)) = path.parents().find_map(|parent| self.declared.get_key_value(parent)) {
                    let other = &self.manifest.rules[*other].name;
                    let message = format!("`{path}` would lie in `{parent}`, which rule `{other}` makes as a file");
                    found.push(Error::new(Code::DuplicateOutput, message).at(place));
                }
            }
        }
        self.found.extend(found);
    }

    fn task(&mut self, id: usize, head: Head, by_rule: &[Vec<RelPath>]) -> Option<Task> {
        let rule = &self.manifest.rules[id];
        let scope = self.scope(rule, head.item.as_ref());
        let mut inputs = Vec::with_capacity(rule.inputs.len());
        for input in &rule.inputs {
            match self.input(id, input, &scope, by_rule) {
                Ok(input) => inputs.push(input),
                Err(error) => self.note(error.in_rule(&rule.name)),
            }
        }
        // Without a recipe the manifest has already said what is wrong.
        let file = rule.recipe.as_ref()?.file();
        let (recipe, partials) = match self.recipe(id, file, &scope) {
            Ok(recipe) => recipe,
            Err(error) => {
                self.note(error.in_rule(&rule.name));
                return None;
            }
        };
        for output in &head.outputs {
            // An item of a glob or a selector stands for a file, or for a part of one.
            let stands_for = |item: &Item| item.value.get("path").and_then(Value::as_str) == Some(output.path.as_str());
            let is_item = matches!(rule.foreach, Some(Foreach::Text(_))) && head.item.as_ref().is_some_and(stands_for);
            let reads_it = recipe == output.path || is_item;
            if reads_it {
                let message = format!("output `{}` is also what it is made from", output.path);
                self.note(Error::new(Code::BadPath, message).in_rule(&rule.name).at(rule.place.clone()));
                return None;
            }
        }
        Some(Task { rule: id, item: head.item, outputs: head.outputs, inputs, recipe, partials, deps: Vec::new() })
    }

    /// Keeps one error for each place: a mistake in a rule is one mistake, however many tasks the rule has.
    fn note(&mut self, error: Error) {
        if !self.found.iter().any(|e| e.place == error.place && e.code == error.code) {
            self.found.push(error);
        }
    }

    fn recipe(&mut self, rule: usize, file: &Expr, scope: &Value) -> Result<(RelPath, Partials), Error> {
        let path = input_path(&file.render(scope)?, &file.place)?;
        if let Some(partials) = self.partials.get(&(rule, path.clone())) {
            return Ok((path, partials.clone()));
        }
        if !self.files.exists(&path) && !self.declared.contains_key(&path) {
            return Err(missing(&path, "its recipe is", &file.place));
        }
        let mut partials = Partials::new();
        for pattern in ["*.hbs", "_*.prompt"] {
            let pattern = Pattern::in_folder(path.dir(), pattern).map_err(|e| Error::new(Code::Bug, e))?;
            for partial in self.glob(rule, &pattern)?.into_iter().filter(|partial| *partial != path) {
                partials.push((partial.stem().trim_start_matches('_').to_owned(), partial));
            }
        }
        self.partials.insert((rule, path.clone()), partials.clone());
        Ok((path, partials))
    }

    fn input(&self, id: usize, input: &Input, scope: &Value, by_rule: &[Vec<RelPath>]) -> Result<TaskInput, Error> {
        let place = &input.source.place;
        let label = input.source.render(scope)?;
        let source = if let Some(name) = label.strip_prefix("rule:") {
            let Some(maker) = self.manifest.rules.iter().position(|rule| rule.name == name) else {
                if self.manifest.names.contains(name) {
                    // The rule is there and could not be read; that has been said.
                    return Ok(TaskInput { name: input.name.clone(), label, source: Source::Files(Vec::new()) });
                }
                let names = self.manifest.names.iter().map(String::as_str);
                return Err(Error::new(Code::UnknownRule, format!("no rule `{name}`"))
                    .at(place.clone())
                    .hint_if(did_you_mean(name, names)));
            };
            Source::Files(by_rule[maker].clone())
        } else if selector::split(&label).is_some() {
            let selector = parse_selector(&label, place)?;
            let files = match Pattern::is_glob(&selector.file) {
                true => self.matched(id, &selector.file, place)?,
                false => vec![input_path(&selector.file, place)?],
            };
            for path in &files {
                let is_new = self.selectable.borrow_mut().insert((id, place.span.start, path.clone(), label.clone()));
                if is_new {
                    self.selectable(path, &selector, input.optional, place)?;
                }
            }
            Source::Parts { files, selector, optional: input.optional }
        } else if Pattern::is_glob(&label) {
            Source::Files(self.matched(id, &label, place)?)
        } else {
            let path = input_path(&label, place)?;
            if !input.optional && !self.declared.contains_key(&path) && !self.files.exists(&path) {
                return Err(missing(&path, "its input is", place));
            }
            Source::File { path, optional: input.optional }
        };
        Ok(TaskInput { name: input.name.clone(), label, source })
    }

    /// That a selector can be one of its file, and finds something where the file is there already.
    fn selectable(&self, path: &RelPath, selector: &Selector, optional: bool, place: &Place) -> Result<(), Error> {
        selector.fits(path).map_err(|e| e.at(place.clone()))?;
        if self.declared.contains_key(path) {
            return Ok(());
        }
        match self.data.select(self.files, path, selector) {
            Ok(None) if !optional => Err(missing(path, "its input is", place)),
            Err(e) if !optional || e.code != Code::BadSelector => Err(e.at(place.clone())),
            _ => Ok(()),
        }
    }
}

fn dynamic(path: &RelPath, maker: &str, place: &Place) -> Error {
    Error::new(Code::DynamicForeach, format!("it runs over the content of `{path}`, which rule `{maker}` makes"))
        .at(place.clone())
        .hint("what a foreach runs over must exist before the run: commit it, or run over its source")
}

enum Items {
    These(Vec<Option<Item>>),
    Glob(Pattern),
}

fn file_item(path: RelPath) -> Item {
    Item { value: file_names(&path), label: path.to_string(), file: Some(path) }
}

/// What expressions see of a file before anybody reads it.
pub(crate) fn file_names(path: &RelPath) -> Value {
    json!({
        "path": path.as_str(), "dir": path.dir(), "name": path.name(), "stem": path.stem(), "ext": path.ext(),
    })
}

fn input_path(text: &str, place: &Place) -> Result<RelPath, Error> {
    RelPath::new(text).map_err(|why| Error::new(Code::BadPath, format!("`{text}` {why}")).at(place.clone()))
}

fn pattern(text: &str, place: &Place) -> Result<Pattern, Error> {
    Pattern::new(text).map_err(|e| Error::new(Code::BadGlob, format!("`{text}` is no glob: {e}")).at(place.clone()))
}

fn parse_selector(text: &str, place: &Place) -> Result<Selector, Error> {
    let bad = |e: String| Error::new(Code::BadSelector, format!("`{text}` is no selector: {e}")).at(place.clone());
    Selector::parse(text).map_err(bad)
}

fn missing(path: &RelPath, what: &str, place: &Place) -> Error {
    Error::new(Code::MissingInput, format!("{what} `{path}`, which is not there and which no rule makes"))
        .at(place.clone())
        .hint("paths are relative to the Genfile's folder; an input that may be missing is written `{path: PATH, optional: true}`")
}
