//! Rules into tasks: items, outputs and inputs, with all expressions in them rendered.

mod context;
mod doubles;
mod globs;
mod heads;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use heads::dynamic;

use super::{Item, Output, Paths, Source, Task, TaskId, TaskInput};
use crate::context::Specs;
use crate::error::{Code, Error, Place, did_you_mean};
use crate::files::Files;
use crate::manifest::{Check, Expr, Foreach, Input, Manifest, Over, Rule};
use crate::packs;
use crate::path::{Pattern, RelPath};
use crate::selector::{self, DataCache, Selector, is_data};
use crate::syntax;

/// What to do about a folder that is a symlink to somewhere else.
const INSIDE: &str =
    "what is read and written lies below the Genfile's folder; copy the files there, or move the Genfile up";

/// What expansion gives.
pub(super) struct Expanded {
    pub tasks: Vec<Task>,
    pub makers: HashMap<RelPath, TaskId>,
    pub empty_rules: BTreeSet<String>,
    /// Outputs whose `when` is false.
    pub skipped: BTreeSet<RelPath>,
    pub found: Vec<Error>,
}

/// A task before its inputs are known: outputs come first, because inputs may name other tasks' outputs.
#[derive(Clone)]
struct Head {
    item: Option<Item>,
    outputs: Vec<Output>,
    /// Its `when` is false: there is no task, and its outputs are nobody's orphans.
    skipped: bool,
}

pub(super) struct Expander<'a> {
    pub(super) manifest: &'a Manifest,
    files: &'a dyn Files,
    locked: &'a BTreeSet<RelPath>,
    env: &'a BTreeMap<String, String>,
    data: &'a DataCache,
    specs: &'a Specs,
    /// Each output's rule, by the rule's place.
    declared: BTreeMap<RelPath, usize>,
    /// The partials beside each rule's recipes, as they will be when everything is built.
    partials: HashMap<(usize, RelPath), Partials>,
    /// What each rule's input globs match, once all outputs are known.
    matched: RefCell<HashMap<(usize, String), Paths>>,
    /// The parts of files that were looked for, by rule and place of the input: ten thousand tasks may name the same.
    selectable: RefCell<HashSet<(usize, usize, RelPath, String)>>,
    /// Whether what lies in a folder lies outside the root: ten thousand outputs may be in one.
    /// The outputs of rules that are named without an expression, for what runs before all outputs are known.
    plain: HashMap<RelPath, usize>,
    /// The files whose content a foreach runs over, by rule.
    run_over: RefCell<Vec<(usize, RelPath, Place)>>,
    /// The globs of such files, by rule.
    run_over_globs: RefCell<Vec<(usize, Pattern, Place)>>,
    /// Whether a symlink leads from a folder out of the root: ten thousand tasks may name files of one.
    outside: RefCell<HashMap<String, bool>>,
    found: Vec<Error>,
}

/// Partials by name.
type Partials = Arc<[(String, RelPath)]>;

pub(super) fn expand(
    manifest: &Manifest,
    files: &dyn Files,
    locked: &BTreeSet<RelPath>,
    env: &BTreeMap<String, String>,
    (data, specs): (&DataCache, &Specs),
) -> Expanded {
    let outputs =
        manifest.rules.iter().enumerate().flat_map(|(id, rule)| rule.outputs.iter().map(move |(_, o)| (id, o)));
    let plain = outputs.filter_map(|(id, output)| Some((RelPath::new(output.text()).ok()?, id))).collect();
    let mut expander = Expander {
        manifest,
        files,
        locked,
        env,
        data,
        specs,
        declared: BTreeMap::new(),
        partials: HashMap::new(),
        matched: RefCell::default(),
        selectable: RefCell::default(),
        plain,
        run_over: RefCell::default(),
        run_over_globs: RefCell::default(),
        outside: RefCell::default(),
        found: Vec::new(),
    };
    let heads = expander.heads();
    expander.finish(heads)
}

impl<'a> Expander<'a> {
    /// The rule that makes `path`, judged by plain output paths, before all outputs are known.
    fn maker_of(&self, path: &RelPath) -> Option<&'a str> {
        let rule = self.declared.get(path).or_else(|| self.plain.get(path));
        rule.map(|rule| self.manifest.rules[*rule].name.as_str())
    }

    fn scope(&self, rule: &Rule, item: Option<&Item>) -> Value {
        let mut scope = json!({"vars": self.manifest.vars, "rule": rule.name});
        if !rule.env.is_empty() {
            scope["env"] = env_of(rule, self.env);
        }
        if let Some(item) = item {
            scope["item"] = item.value.clone();
        }
        scope
    }

    fn finish(mut self, mut heads: Vec<Vec<Head>>) -> Expanded {
        let mut tasks = Vec::new();
        let mut makers = HashMap::new();
        let mut empty_rules = BTreeSet::new();
        let mut skipped = BTreeSet::new();
        let mut by_rule: Vec<Paths> = Vec::new();
        for (id, heads) in heads.iter_mut().enumerate() {
            if heads.is_empty() {
                empty_rules.insert(self.manifest.rules[id].name.clone());
            }
            let unwanted = heads.extract_if(.., |head| head.skipped);
            skipped.extend(unwanted.flat_map(|head| head.outputs.into_iter().map(|output| output.path)));
            by_rule.push(heads.iter().flat_map(|head| head.outputs.iter().map(|o| o.path.clone())).collect());
        }
        let outputs = self.double_outputs(&heads);
        // Outputs with expressions in their paths are known only now.
        for (id, path, place) in self.run_over.take() {
            if let Some(maker) = self.maker_of(&path) {
                self.note(dynamic(&path, maker, &place).in_rule(&self.manifest.rules[id].name));
            }
        }
        for (id, pattern, place) in self.run_over_globs.take() {
            let made = self.declared.iter().find(|(path, maker)| **maker != id && pattern.matches(path));
            if let Some((path, maker)) = made.map(|(path, maker)| (path.clone(), *maker)) {
                let maker = self.manifest.rules[maker].name.as_str();
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
        self.inputs_by_another_name(&tasks, &outputs);
        Expanded { tasks, makers, empty_rules, skipped, found: self.found }
    }

    fn task(&mut self, id: usize, head: Head, by_rule: &[Paths]) -> Option<Task> {
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
        let (recipe, partials) = match file.map(|file| self.recipe(id, file, &scope)).transpose() {
            Ok(recipe) => recipe.unzip(),
            Err(error) => {
                self.note(error.in_rule(&rule.name));
                return None;
            }
        };
        let schemas = self.schemas(rule, &scope);
        let context = rule.context.as_ref().map(|context| self.context(id, context, &scope)).transpose();
        let context = context.unwrap_or_else(|error| {
            self.note(error.in_rule(&rule.name));
            None
        });
        self.can_be_checked(rule, &head.outputs);
        if !self.is_not_its_own_source(rule, &head, recipe.as_ref()) {
            return None;
        }
        let items = rule.collection.as_ref().map(|of| self.collection(id, of, &scope, by_rule)).transpose();
        let items = items.unwrap_or_else(|error| {
            self.note(error.in_rule(&rule.name));
            None
        });
        let (item, outputs, partials) = (head.item, head.outputs, partials.unwrap_or_default());
        let deps = Vec::new();
        let task = Task { rule: id, item, outputs, inputs, context, items, recipe, partials, schemas, deps };
        self.can_hold_rows(rule, &task);
        Some(task)
    }

    /// The schemas that a rule's checks name, in their order.
    fn schemas(&mut self, rule: &Rule, scope: &Value) -> Vec<RelPath> {
        let mut schemas = Vec::new();
        for check in &rule.checks {
            if let Check::Schema(file) = check {
                match self.project_file(rule, file, "its schema is", scope) {
                    Ok(path) => schemas.push(path),
                    Err(error) => self.note(error.in_rule(&rule.name)),
                }
            }
        }
        schemas
    }

    /// That there is a grammar for each output whose syntax is to be checked.
    fn can_be_checked(&mut self, rule: &Rule, outputs: &[Output]) {
        let is_checked = rule.checks.iter().any(|check| matches!(check, Check::Syntax));
        for output in outputs.iter().filter(|output| is_checked && !is_data(&output.path)) {
            if let Err(why) = syntax::can_check(output.path.ext()) {
                let message = format!("`check: syntax` cannot judge `{}`: {why}", output.path);
                self.note(Error::new(Code::BadValue, message).in_rule(&rule.name).at(rule.place.clone()));
            }
        }
    }

    /// That no output is what the task is made from: its item, its recipe, or a part of the Genfile.
    fn is_not_its_own_source(&mut self, rule: &Rule, head: &Head, recipe: Option<&RelPath>) -> bool {
        // An item of a glob or a selector stands for a file, or for a part of one.
        let is_literal = matches!(rule.foreach, Some(Foreach::Over(Over::List(_))));
        let item = head.item.as_ref().filter(|_| !is_literal);
        let is_source = |path: &RelPath| {
            recipe == Some(path)
                || item.is_some_and(|item| item.stands_for(path))
                || self.manifest.included.contains(path)
        };
        let Some(output) = head.outputs.iter().find(|output| is_source(&output.path)) else { return true };
        let message = format!("output `{}` is also what it is made from", output.path);
        self.note(Error::new(Code::BadPath, message).in_rule(&rule.name).at(rule.place.clone()));
        false
    }

    /// Keeps one error for each place: a mistake in a rule is one mistake, however many tasks the rule has.
    pub(super) fn note(&mut self, error: Error) {
        if !self.found.iter().any(|e| e.place == error.place && e.code == error.code) {
            self.found.push(error);
        }
    }

    /// A file that a rule names beside its recipe, which is there or will be.
    pub(super) fn project_file(&self, rule: &Rule, file: &Expr, what: &str, scope: &Value) -> Result<RelPath, Error> {
        let path = self.project_path(rule, file, scope)?;
        self.is_there(path, file, what)
    }

    /// A file's path as a rule names it: relative to the file in which the rule is written.
    fn project_path(&self, rule: &Rule, file: &Expr, scope: &Value) -> Result<RelPath, Error> {
        let text = file.render(scope)?;
        match rule.base.as_str() {
            base if !base.is_empty() && !packs::is_shipped(&text) => {
                self.input_path(&format!("{base}/{text}"), &file.place)
            }
            _ => self.input_path(&text, &file.place),
        }
    }

    fn is_there(&self, path: RelPath, file: &Expr, what: &str) -> Result<RelPath, Error> {
        if !self.files.exists(&path) && !self.declared.contains_key(&path) {
            return Err(self.missing(&path, what, &file.place));
        }
        Ok(path)
    }

    fn recipe(&mut self, rule: usize, file: &Expr, scope: &Value) -> Result<(RelPath, Partials), Error> {
        let path = self.project_path(&self.manifest.rules[rule], file, scope)?;
        if let Some(partials) = self.partials.get(&(rule, path.clone())) {
            return Ok((path, Arc::clone(partials)));
        }
        let path = self.is_there(path, file, "its recipe is")?;
        let mut partials = Vec::new();
        for pattern in ["*.hbs", "_*.prompt"] {
            let pattern = Pattern::in_folder(path.dir(), pattern).map_err(|e| Error::new(Code::Bug, e))?;
            for partial in self.glob(rule, &pattern)?.into_iter().filter(|partial| *partial != path) {
                partials.push((partial.stem().trim_start_matches('_').to_owned(), partial));
            }
        }
        let partials = Partials::from(partials);
        self.partials.insert((rule, path.clone()), Arc::clone(&partials));
        Ok((path, partials))
    }

    pub(super) fn input(&self, id: usize, input: &Input, scope: &Value, by_rule: &[Paths]) -> Result<TaskInput, Error> {
        let place = &input.source.place;
        let label = input.source.render(scope)?;
        let source = if let Some(name) = label.strip_prefix("rule:") {
            let Some(maker) = self.manifest.rules.iter().position(|rule| rule.name == name) else {
                if self.manifest.names.contains(name) {
                    // The rule is there and could not be read; that has been said.
                    return Ok(TaskInput { name: input.name.clone(), label, source: Source::Files(Arc::default()) });
                }
                let names = self.manifest.names.iter().map(String::as_str);
                return Err(Error::new(Code::UnknownRule, format!("no rule `{name}`"))
                    .at(place.clone())
                    .hint_if(did_you_mean(name, names)));
            };
            Source::Files(Arc::clone(&by_rule[maker]))
        } else if selector::split(&label).is_some() {
            let selector = parse_selector(&label, place)?;
            let files = self.selected(id, &selector, place)?;
            for path in files.iter() {
                let is_new = self.selectable.borrow_mut().insert((id, place.span.start, path.clone(), label.clone()));
                if is_new {
                    self.selectable(path, &selector, input.optional, place)?;
                }
            }
            let is_list = selector.is_list() || self.is_glob(&selector.file);
            Source::Parts { files, selector, is_list, optional: input.optional }
        } else if self.is_glob(&label) {
            Source::Files(self.matched(id, &label, place)?)
        } else {
            let path = self.input_path(&label, place)?;
            if !input.optional && !self.declared.contains_key(&path) && !self.files.exists(&path) {
                return Err(self.missing_input(&path, place));
            }
            Source::File { path, optional: input.optional }
        };
        Ok(TaskInput { name: input.name.clone(), label, source })
    }

    /// A path that is read: inside the root, whatever links there are, and nothing of git's.
    fn input_path(&self, text: &str, place: &Place) -> Result<RelPath, Error> {
        let bad = |why: String| Error::new(Code::BadPath, format!("`{text}` {why}")).at(place.clone());
        let path = RelPath::input(text).map_err(|why| bad(why.to_string()))?;
        if self.is_outside(path.dir()) {
            return Err(bad("leads outside the root through a symlink".to_owned()).hint(INSIDE));
        }
        Ok(path)
    }

    /// Whether a symlink in the path of a folder leads out of the root.
    fn is_outside(&self, folder: &str) -> bool {
        if folder.is_empty() || packs::is_shipped(folder) {
            return false;
        }
        if let Some(known) = self.outside.borrow().get(folder) {
            return *known;
        }
        let is = RelPath::new(&format!("{folder}/x")).is_ok_and(|path| self.files.leaves_root(&path));
        self.outside.borrow_mut().insert(folder.to_owned(), is);
        is
    }

    /// That a selector can be one of its file, and finds something where the file is there already.
    fn selectable(&self, path: &RelPath, selector: &Selector, optional: bool, place: &Place) -> Result<(), Error> {
        selector.fits(path).map_err(|e| e.at(place.clone()))?;
        if self.declared.contains_key(path) {
            return Ok(());
        }
        match self.data.select(self.files, path, selector) {
            Ok(None) if !optional => Err(self.missing_input(path, place)),
            Err(e) if !optional || e.code != Code::BadSelector => Err(e.at(place.clone())),
            _ => Ok(()),
        }
    }
}

/// The environment as a rule's expressions see it: what its `env` lists, null where it is not set.
pub(crate) fn env_of(rule: &Rule, env: &BTreeMap<String, String>) -> Value {
    let listed = rule.env.iter().map(|name| (name.clone(), env.get(name).map(|value| value.as_str()).into()));
    listed.collect::<Map<_, _>>().into()
}

/// What expressions see of a file before anybody reads it.
pub(crate) fn file_names(path: &RelPath) -> Value {
    json!({
        "path": path.as_str(), "dir": path.dir(), "name": path.name(), "stem": path.stem(), "ext": path.ext(),
    })
}

fn parse_selector(text: &str, place: &Place) -> Result<Selector, Error> {
    let bad = |e: String| Error::new(Code::BadSelector, format!("`{text}` is no selector: {e}")).at(place.clone());
    Selector::parse(text).map_err(bad)
}
