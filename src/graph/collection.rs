//! What a collection's task is made of: the items, the schema of one result, the fields that all results have.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::expand::Expander;
use super::items::{self, AxisItem, Globs};
use super::{Item, Paths, Source, Task, TaskInput};
use crate::error::{Code, Error};
use crate::manifest::{Collection, Expr, Fixed, Foreach, Input, Over, Recipe, Rule};
use crate::path::RelPath;
use crate::rows;

/// What a task that makes a collection is made of.
#[derive(Debug)]
pub struct TaskItems {
    /// What its items are: one axis without a name, or several whose product they are.
    pub axes: Vec<ItemAxis>,
    /// The schema of one result.
    pub schema: Option<RelPath>,
    /// The fields that each result has beside what the model says.
    pub set: Map<String, Value>,
}

/// One axis of a collection's items.
#[derive(Debug)]
pub struct ItemAxis {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// As written, with the expressions in it rendered: what people call it.
    pub label: String,
    /// What it runs over.
    pub over: ItemSource,
}

/// What an axis of a collection runs over.
#[derive(Debug)]
pub enum ItemSource {
    /// Files, or parts of files, as they are when the task is made.
    Of(Source),
    /// These.
    Literal(Vec<Value>),
}

impl TaskItems {
    /// The files that the items are in, and the schema.
    pub fn reads(&self) -> impl Iterator<Item = &RelPath> {
        let sources = self.axes.iter().filter_map(|axis| match &axis.over {
            ItemSource::Of(source) => Some(source.files()),
            ItemSource::Literal(_) => None,
        });
        sources.flatten().chain(&self.schema)
    }
}

/// Values, each with what people call it.
pub type Named = Vec<(Value, String)>;

/// The items of all combinations of axes, each with its name, its values and what people call these; the last turns fastest.
///
/// # Errors
/// [`Code::BadValue`], without a place, where there would be more than a machine can hold.
pub fn combined(axes: Vec<(Option<&str>, Named)>) -> Result<Vec<Item>, Error> {
    let of = |items: Named| items.into_iter().map(|(value, label)| AxisItem::known(value, label));
    let axes: Vec<_> = axes.into_iter().map(|(name, items)| (name, Cow::Owned(of(items).collect()))).collect();
    Ok(items::product(&axes)?.into_iter().flatten().collect())
}

impl Expander<'_> {
    /// What a collection is made of. Unlike what a foreach runs over, it may be what another rule makes.
    pub(super) fn collection(
        &mut self,
        id: usize,
        of: &Collection,
        scope: &Value,
        by_rule: &[Paths],
    ) -> Result<TaskItems, Error> {
        let rule = &self.manifest.rules[id];
        let axes = match &of.items {
            Foreach::Over(over) => vec![self.items(id, None, over, scope, by_rule)?],
            Foreach::Axes(axes) => {
                let axis = |(name, over): &(String, Over)| self.items(id, Some(name.clone()), over, scope, by_rule);
                axes.iter().map(axis).collect::<Result<_, _>>()?
            }
        };
        let schema =
            of.schema.as_ref().map(|file| self.project_file(rule, file, "its schema is", scope)).transpose()?;
        let set = of.set.iter().map(|(name, fixed)| {
            let value = match fixed {
                Fixed::Text(text) => text.render(scope)?.into(),
                Fixed::Value(value) => value.clone(),
            };
            Ok((name.clone(), value))
        });
        Ok(TaskItems { axes, schema, set: set.collect::<Result<_, Error>>()? })
    }

    fn items(
        &self,
        id: usize,
        name: Option<String>,
        over: &Over,
        scope: &Value,
        by_rule: &[Paths],
    ) -> Result<ItemAxis, Error> {
        let (label, over) = match over {
            Over::List(values) => (literal(values.len()), ItemSource::Literal(values.clone())),
            Over::Globs(globs) => {
                let files = self.globs(id, &Globs::new(globs, scope)?)?;
                let label = globs.iter().map(Expr::text).collect::<Vec<_>>().join(", ");
                (label, ItemSource::Of(Source::Files(files.into())))
            }
            Over::Text(text) => {
                let input = Input { name: None, source: text.clone(), optional: false };
                let TaskInput { label, source, .. } = self.input(id, &input, scope, by_rule)?;
                (label, ItemSource::Of(source))
            }
        };
        Ok(ItemAxis { name, label, over })
    }

    /// That what a collection or vectors go to can hold them.
    pub(super) fn can_hold_rows(&mut self, rule: &Rule, task: &Task) {
        if task.items.is_none() {
            return;
        }
        let place = rule.outputs.first().map_or(&rule.place, |(_, expr)| &expr.place).clone();
        let (rows, others): (Vec<_>, Vec<_>) = task.outputs.iter().partition(|output| rows::is_rows(&output.path));
        let is_of_vectors = matches!(rule.recipe, Some(Recipe::Embed(_)));
        let is_matrix = |path: &RelPath| is_of_vectors && path.ext() == "npy";
        let what = match (rows.len(), others.as_slice()) {
            (1, []) => return,
            (1, [matrix]) if is_matrix(&matrix.path) => return,
            (_, [output, ..]) if !is_matrix(&output.path) => format!("`{}` cannot hold a list of results", output.path),
            (0, [output, ..]) => format!("`{}` holds vectors, and nothing says of which items", output.path),
            _ => format!("rule `{}` has more outputs than its vectors and one list of their items", rule.name),
        };
        let error = Error::new(Code::BadValue, what).in_rule(&rule.name).at(place);
        self.note(match is_of_vectors {
            true => error.hint("`output: FILE.jsonl`, or `outputs: {vectors: FILE.npy, ids: FILE.jsonl}`"),
            false => error.hint(rows::HINT),
        });
    }
}

fn literal(count: usize) -> String {
    if count == 1 { "1 item".to_owned() } else { format!("{count} items") }
}
