//! What there is a task for: the items of each rule, whether they are wanted, and where their outputs go.

use std::borrow::Cow;

use serde_json::Value;

use super::{Expander, Head, INSIDE, file_names, parse_selector};
use crate::error::{Code, Error, Place};
use crate::graph::items::{Axis, AxisItem, AxisItems, Globs, pattern, product};
use crate::graph::{Item, Output};
use crate::lock;
use crate::manifest::{Expr, Foreach, Over, Recipe, Rule};
use crate::path::{Pattern, RelPath, folded};
use crate::selector::{self, is_data};

impl Expander<'_> {
    /// The items and outputs of all rules. A foreach over a glob may match what other rules declare, so those rules are
    /// expanded until nothing new is declared.
    pub(super) fn heads(&mut self) -> Vec<Vec<Head>> {
        let rules = &self.manifest.rules;
        let mut heads: Vec<Vec<Head>> = Vec::with_capacity(rules.len());
        let mut globs: Vec<(usize, Vec<Axis>, Vec<Vec<RelPath>>)> = Vec::new();
        for (id, rule) in rules.iter().enumerate() {
            let axes = self.axes(id, rule).map_err(|error| self.found.push(error.in_rule(&rule.name)));
            heads.push(match axes {
                Ok(axes) if axes.iter().any(|axis| matches!(axis.over, AxisItems::Globs(_))) => {
                    globs.push((id, axes, Vec::new()));
                    Vec::new()
                }
                Ok(axes) => self.combined(id, &axes, &[]),
                Err(()) => Vec::new(),
            });
            self.declare(id, &heads[id]);
        }
        // Each round can only be needed because the one before declared something new; a cycle of globs never settles.
        let rounds = globs.len();
        for round in 0.. {
            let mut settled = true;
            for (id, axes, before) in &mut globs {
                let matched = axes.iter().map(|axis| match &axis.over {
                    AxisItems::Globs(globs) => self.globs(*id, globs),
                    AxisItems::Known(_) => Ok(Vec::new()),
                });
                let matched = match matched.collect::<Result<Vec<_>, Error>>() {
                    Ok(matched) => matched,
                    Err(error) => {
                        self.note(error.in_rule(&rules[*id].name).at(rules[*id].place.clone()));
                        continue;
                    }
                };
                if matched == *before {
                    continue;
                }
                settled = false;
                let rule = &self.manifest.rules[*id];
                if round > rounds {
                    let error =
                        Error::new(Code::DynamicForeach, "its foreach matches files that depend on its own outputs")
                            .hint("narrow the glob");
                    self.found.push(error.in_rule(&rule.name).at(rule.place.clone()));
                    return heads;
                }
                self.declared.retain(|_, maker| maker != id);
                heads[*id] = self.combined(*id, axes, &matched);
                self.declare(*id, &heads[*id]);
                *before = matched;
            }
            if settled {
                break;
            }
        }
        for (id, axes, matched) in &globs {
            for (axis, matched) in axes.iter().zip(matched) {
                if let (AxisItems::Globs(Globs { plain: Some((path, place)), .. }), true) =
                    (&axis.over, matched.is_empty())
                    && !self.declared.contains_key(path)
                {
                    self.note(self.missing(path, "it runs over", place).in_rule(&rules[*id].name));
                }
            }
        }
        heads
    }

    /// The heads of a rule, with what its globs match, axis by axis.
    fn combined(&mut self, id: usize, axes: &[Axis], matched: &[Vec<RelPath>]) -> Vec<Head> {
        let rule = &self.manifest.rules[id];
        let with_content = names_content(rule);
        let mut items = Vec::with_capacity(axes.len());
        for (at, axis) in axes.iter().enumerate() {
            let of_axis = match &axis.over {
                AxisItems::Known(items) => Cow::Borrowed(&items[..]),
                AxisItems::Globs(_) => {
                    let paths = matched.get(at).into_iter().flatten();
                    let items = paths.map(|path| self.file_item(id, path, with_content)).collect::<Result<_, Error>>();
                    match items {
                        Ok(items) => Cow::Owned(items),
                        Err(error) => {
                            self.note(error.in_rule(&rule.name).at(rule.place.clone()));
                            return Vec::new();
                        }
                    }
                }
            };
            items.push((axis.name.as_deref(), of_axis));
        }
        let items = product(&items).map_err(|error| self.note(error.in_rule(&rule.name).at(rule.place.clone())));
        items.map_or_else(|()| Vec::new(), |items| self.outputs(rule, items))
    }

    /// A file as an item; with its content where an expression of the Genfile asks for that.
    fn file_item(&self, id: usize, path: &RelPath, with_content: bool) -> Result<AxisItem, Error> {
        let mut value = file_names(path);
        if with_content {
            if let Some(maker) = self.maker_of(path) {
                return Err(dynamic(path, maker, &self.manifest.rules[id].place));
            }
            if let Ok(Some(text)) = self.files.text(path) {
                value["text"] = text.into();
            }
            if is_data(path)
                && let Some(data) = self.data.get(self.files, path)?
            {
                value["data"] = Value::clone(&data);
            }
        }
        Ok(AxisItem::file(path.clone(), value))
    }

    fn declare(&mut self, rule: usize, heads: &[Head]) {
        for output in heads.iter().filter(|head| !head.skipped).flat_map(|head| &head.outputs) {
            self.declared.entry(output.path.clone()).or_insert(rule);
        }
    }

    fn axes(&self, id: usize, rule: &Rule) -> Result<Vec<Axis>, Error> {
        match &rule.foreach {
            None => Ok(Vec::new()),
            Some(Foreach::Over(over)) => Ok(vec![Axis { name: None, over: self.axis(id, rule, over)? }]),
            Some(Foreach::Axes(axes)) => {
                let axis = |(name, over): &(String, Over)| {
                    Ok(Axis { name: Some(name.clone()), over: self.axis(id, rule, over)? })
                };
                axes.iter().map(axis).collect()
            }
        }
    }

    fn axis(&self, id: usize, rule: &Rule, over: &Over) -> Result<AxisItems, Error> {
        let scope = self.scope(rule, None);
        let text = match over {
            Over::List(values) => {
                return Ok(AxisItems::Known(values.iter().cloned().map(AxisItem::literal).collect()));
            }
            Over::Globs(globs) => return Globs::new(globs, &scope).map(AxisItems::Globs),
            Over::Text(text) => text,
        };
        let source = text.render(&scope)?;
        if selector::split(&source).is_none() {
            // One file by its name is no pattern that may find nothing.
            let plain = match Pattern::is_glob(&source) {
                true => None,
                false => Some((self.input_path(&source, &text.place)?, text.place.clone())),
            };
            let wanted = vec![pattern(&source, &text.place)?];
            return Ok(AxisItems::Globs(Globs { wanted, unwanted: Vec::new(), plain }));
        }
        let selector = parse_selector(&source, &text.place)?;
        let mut items = Vec::new();
        let files = match self.is_glob(&selector.file) {
            // Its own outputs are not known yet; those of the last run are in the lock, and so are not matched.
            true => {
                let pattern = pattern(&selector.file, &text.place)?;
                let files = self.glob(usize::MAX, &pattern).map_err(|e| e.at(text.place.clone()))?;
                self.run_over_globs.borrow_mut().push((id, pattern, text.place.clone()));
                files
            }
            false => vec![self.input_path(&selector.file, &text.place)?],
        };
        for path in files {
            if let Some(maker) = self.maker_of(&path) {
                return Err(dynamic(&path, maker, &text.place));
            }
            self.run_over.borrow_mut().push((id, path.clone(), text.place.clone()));
            let parts = self.data.select(self.files, &path, &selector).map_err(|e| e.at(text.place.clone()))?;
            let Some(parts) = parts else { return Err(self.missing(&path, "it runs over", &text.place)) };
            for part in parts {
                items.push(AxisItem::part(&path, &selector, &part, items.len()));
            }
        }
        Ok(AxisItems::Known(items))
    }

    fn outputs(&mut self, rule: &Rule, items: Vec<Option<Item>>) -> Vec<Head> {
        let mut heads = Vec::with_capacity(items.len());
        let mut scope = self.scope(rule, None);
        for item in items {
            if let Some(item) = &item {
                scope["item"] = item.value.clone();
            }
            let wanted = match rule.when.as_ref().map(|when| is_wanted(when, &scope)) {
                None => true,
                Some(Ok(wanted)) => wanted,
                Some(Err(error)) => {
                    self.note(error.in_rule(&rule.name));
                    continue;
                }
            };
            let mut outputs = Vec::with_capacity(rule.outputs.len());
            for (name, expr) in &rule.outputs {
                match self.output(expr, &scope) {
                    Ok(path) => outputs.push(Output { name: name.clone(), path }),
                    // What is not made may lack what its path is made of.
                    Err(_) if !wanted => {}
                    Err(error) => self.note(error.in_rule(&rule.name)),
                }
            }
            if outputs.len() == rule.outputs.len() || !wanted {
                heads.push(Head { item, outputs, skipped: !wanted });
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
        let name = folded(path.as_str());
        if name == folded(genfile) || name == folded(&lock::file_name(genfile)) {
            return Err(bad(format!("output `{path}` is genmake's own")));
        }
        if self.is_outside(path.dir()) {
            return Err(bad(format!("output `{path}` leads outside the root through a symlink")).hint(INSIDE));
        }
        Ok(path)
    }
}

pub(super) fn dynamic(path: &RelPath, maker: &str, place: &Place) -> Error {
    Error::new(Code::DynamicForeach, format!("it runs over the content of `{path}`, which rule `{maker}` makes"))
        .at(place.clone())
        .hint("what a foreach runs over must exist before the run: commit it, or run over its source")
}

/// Whether a rule's paths are made of what stands in a file, and not only of its name.
fn names_content(rule: &Rule) -> bool {
    let outputs = rule.outputs.iter().map(|(_, expr)| expr);
    let inputs = rule.inputs.iter().map(|input| &input.source);
    let of_context =
        rule.context.iter().flat_map(|context| [Some(&context.select), context.related_to.as_ref()]).flatten();
    let file = rule.recipe.iter().filter_map(Recipe::file);
    let mut all = outputs.chain(inputs).chain(of_context).chain(file).chain(&rule.when);
    all.any(|expr| expr.text().contains("item") && [".text", ".data"].iter().any(|name| expr.text().contains(name)))
}

/// What a `when` renders to: nothing, `false`, `0` and `null` are false.
fn is_wanted(when: &Expr, scope: &Value) -> Result<bool, Error> {
    Ok(!matches!(when.render(scope)?.trim(), "" | "false" | "0" | "null"))
}
